"""How many requests each thing takes, counted by the SDK's own events. docs/s3.md has the figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import boto3
import pytest

from commandstore import open_store
from commandstore.command import Command
from commandstore.replication import sync_command_store
from commandstore.s3 import compaction, directory, finder
from commandstore.s3.backend import S3Backend
from commandstore.store import CommandStore
from commandstore.testing.comby import create_sqlite, insert_sqlite, sample_commands
from commandstore.testing.engines import Engine

# A twentieth of everything: 50,000 commands are to these sizes what a million is to the real ones.
SCALE = 20
COUNT = 1_000_000 // SCALE


class Counted:
    """Stores over one prefix, and what they sent."""

    def __init__(self, engine: Engine, prefix: str) -> None:
        self.sent: Counter[str] = Counter()
        self.written: Counter[str] = Counter()
        self._engine, self._prefix = engine, prefix
        arguments = engine.client_arguments
        self._session = boto3.Session(
            arguments["aws_access_key_id"], arguments["aws_secret_access_key"], region_name=arguments["region_name"]
        )
        self._session.events.register("before-send.s3", self._count)
        self._stores: list[CommandStore] = []

    def _count(self, request: object, **_: object) -> None:
        self.sent[request.method] += 1  # type: ignore[attr-defined]

    def backend(self) -> S3Backend:
        return S3Backend("requests", self._prefix, endpoint_url=self._engine.endpoint, session=self._session)

    def open(self) -> CommandStore:
        """A store that has read nothing yet but its manifest; that request counts."""
        store = CommandStore(self.backend())
        self._stores.append(store)
        store.init()
        return store

    def since(self) -> int:
        """How many requests there were since this was asked last."""
        count = self.sent.total()
        self.sent.clear()
        return count

    def close(self) -> None:
        for store in self._stores:
            store.close()


@pytest.fixture(scope="module")
def filled(ministack: Engine) -> Iterator[Counted]:
    """A million commands, scaled down, in the order of their time; and what writing them took."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(directory, "FULL", directory.FULL // SCALE)
        patch.setattr(finder, "FULL", finder.FULL // SCALE)
        patch.setattr(compaction, "FULL_ROWS", compaction.FULL_ROWS // SCALE)
        patch.setattr(S3Backend, "insert_count", S3Backend.insert_count // SCALE)
        stores = Counted(ministack, "million")
        created = stores.open().create_many(a_command(number) for number in range(COUNT)).created
        assert len(created) == COUNT
        stores.written = stores.sent.copy()
        yield stores
        stores.close()


def a_command(number: int) -> Command:
    return Command(f"c{number:06}", 1000 + number, 1, f"tenant-{number % 3}", "", "account", "Register", b"data")


@pytest.fixture
def empty(ministack: Engine, request: pytest.FixtureRequest) -> Iterator[Counted]:
    stores = Counted(ministack, request.node.name)
    yield stores
    stores.close()


def test_a_million_commands_are_written_by_at_most_1500_puts(filled: Counted) -> None:
    assert filled.written["PUT"] <= 1500
    assert filled.written["DELETE"] <= 1  # of the probe


def test_a_create_is_one_put_and_a_look_at_the_manifest(empty: Counted) -> None:
    store = empty.open()
    empty.since()
    for number in range(3):
        store.create(a_command(number))
        assert empty.sent == {"PUT": 1, "GET": 1}
        empty.since()


def test_a_get_takes_three_requests_at_most_when_warm_and_six_when_cold(filled: Counted) -> None:
    for number in (0, COUNT // 2, COUNT - 1):
        filled.since()
        store = filled.open()
        assert store.get(f"c{number:06}") == a_command(number)
        assert filled.since() <= 6
        assert store.get(f"c{number:06}") == a_command(number)
        assert filled.since() <= 3


def test_a_get_of_what_came_alone_takes_no_more(filled: Counted) -> None:
    filled.open().create(a_command(COUNT))
    filled.since()
    store = filled.open()
    assert store.get(f"c{COUNT:06}") == a_command(COUNT)
    assert filled.since() <= 6
    assert store.get(f"c{COUNT:06}") == a_command(COUNT)
    assert filled.since() <= 3
    assert store.delete(f"c{COUNT:06}")


@pytest.mark.parametrize("ascending", [True, False])
def test_a_list_of_a_hundred_takes_six_requests_at_most_when_cold(filled: Counted, ascending: bool) -> None:
    store = filled.open()
    filled.since()
    page = store.list(limit=100, ascending=ascending)
    assert (len(page.commands), page.total) == (100, COUNT)
    assert filled.since() <= 6


def test_a_total_takes_two_requests_and_one_of_a_tenant_no_more(filled: Counted) -> None:
    store = filled.open()
    filled.since()
    assert store.total() == COUNT
    assert filled.since() == 2
    assert store.total(tenant_uuid="tenant-0") == (COUNT + 2) // 3
    assert filled.since() == 2


def test_a_sync_with_nothing_new_takes_six_requests_at_most(empty: Counted, tmp_path) -> None:
    create_sqlite(tmp_path / "app.db", "C")
    insert_sqlite(tmp_path / "app.db", sample_commands(50))
    with open_store(f"sqlite:///{tmp_path / 'app.db'}", read_only=True) as source:
        assert sync_command_store(source, empty.open()).copied == 50
        empty.since()
        assert sync_command_store(source, empty.open()).read == 0
    assert empty.since() <= 6
