"""A store on the emulator: how many requests and documents each thing takes, lost answers, and half commands."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from google.api_core.exceptions import ServiceUnavailable
from google.auth.credentials import AnonymousCredentials
from google.cloud.firestore import Client

from commandstore.codec import plain_record
from commandstore.command import Command
from commandstore.errors import CommandStoreError, ConfigurationError, CorruptRecord, InvalidCommand, StoreUnavailable
from commandstore.firestore.backend import FirestoreBackend
from commandstore.firestore.layout import Layout, head_values, part_names
from commandstore.firestore.requests import delete, put, query
from commandstore.store import CommandStore
from commandstore.testing.conformance import OverAsync
from commandstore.testing.conformance.data import a_command, some_commands
from commandstore.testing.firestore import FirestoreEmulator
from firestore.rig import NO_PAUSE, Faults, FaultyCalls

LONG = b"\x00\xff" * 600_000
_numbers = itertools.count(1)


class Opened:
    """Stores over one collection, and what they sent and got."""

    def __init__(self, drive: str, name: str) -> None:
        self.faults = Faults()
        self._name = name
        self._runner = asyncio.Runner() if drive == "async" else None
        self._stores: list[CommandStore] = []
        self.store = self.open()
        self.faults.calls.clear()

    def open(self) -> CommandStore:
        backend = FirestoreBackend(
            "stores", self._name, retry=NO_PAUSE, around=lambda calls: FaultyCalls(calls, self.faults), shards=4
        )
        store = OverAsync(backend, self._runner) if self._runner else CommandStore(backend)
        self._stores.append(store)
        store.init()
        return store

    @property
    def layout(self) -> Layout:
        found: Layout = self.store.core.backend._layout
        return found

    def do(self, coroutine: Any) -> Any:
        if self._runner:
            return self._runner.run(coroutine)
        with pytest.raises(StopIteration) as ended:
            coroutine.send(None)
        return ended.value.value

    def parts(self, uuid: str) -> list[str]:
        """The names of all parts of a command, whoever wrote them."""
        wire, head = self.store.core.backend._wire, self.layout.name(uuid)
        found = self.do(wire.run_query(head, query("parts", limit=50, fields=())))
        return [document.name for document in found.documents]

    def close(self) -> None:
        for store in self._stores:
            store.close()
        if self._runner:
            self._runner.close()


@pytest.fixture
def opened(
    firestore_emulator: FirestoreEmulator, drive: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Opened]:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_emulator.host)
    # A collection for each case, of which a name may have several.
    opened = Opened(drive, f"{request.node.originalname[-50:]}-{drive}-{next(_numbers)}")
    yield opened
    opened.close()


def lost() -> ServiceUnavailable:
    return ServiceUnavailable("connection reset by peer")


# What things cost


def test_a_get_and_a_create_are_one_request_each(opened: Opened) -> None:
    opened.store.create(a_command("one"))
    assert opened.store.get("one") == a_command("one")
    assert opened.faults.calls == {"batch_write": 1, "batch_get_documents": 1}


def test_a_bulk_insert_is_one_request_for_each_500_commands(opened: Opened) -> None:
    assert len(opened.store.create_many(some_commands(1000)).created) == 1000
    assert opened.faults.calls == {"batch_write": 2}


def test_a_list_is_one_query_and_reads_no_document_that_it_does_not_return(opened: Opened) -> None:
    commands = some_commands(300)
    opened.store.create_many(commands)
    read: list[int] = []

    def counted(answers: list[Any]) -> list[Any]:
        read.append(sum(one.HasField("document") for one in answers))
        return answers

    opened.faults.calls.clear()
    opened.faults.answer("run_query", counted)
    opened.faults.answer("run_query", counted)
    page = opened.store.list(limit=100)
    assert list(page.commands) == sorted(commands, key=lambda command: command.position)[:100]
    assert opened.faults.calls == {"run_query": 2, "run_aggregation_query": 1}  # some, and by their size the rest
    opened.faults.answer("run_query", counted)
    opened.store.list(limit=7, cursor=page.cursor, ascending=True, with_total=False)
    assert read == [16, 84, 7]


def test_no_query_has_an_offset(opened: Opened) -> None:
    opened.store.create_many(some_commands(50))
    opened.store.list(offset=20, limit=5)
    queries = [request.structured_query for method, request in opened.faults.requests if method == "run_query"]
    assert queries
    assert all(query.offset == 0 for query in queries)
    skipped = queries[-2]
    assert {field.field_path for field in skipped.select.fields}.isdisjoint({"data", "req_ctx"})


def test_a_list_is_of_one_moment_whatever_is_moved_or_removed_meanwhile(opened: Opened) -> None:
    opened.store.create_many([*some_commands(40), a_command("long", created_at=2**62, data_bytes=LONG)])
    before = opened.store.list(limit=-1)
    first, last = before.commands[0], before.commands[-2]
    with closing(CommandStore(FirestoreBackend("stores", opened._name, shards=4))) as rival:
        rival.init()

        def meanwhile(answers: list[Any]) -> list[Any]:
            # From before what was read to behind it.
            rival.update(first.model_copy(update={"created_at": 2**61}))
            assert rival.delete(last.command_uuid)
            assert rival.delete("long")
            return answers

        opened.faults.answer("run_query", meanwhile)
        assert opened.store.list(limit=-1) == before
    assert opened.store.total() == 39


def test_a_page_of_large_commands_is_short_and_goes_on(opened: Opened) -> None:
    commands = [a_command(f"c{number:02}", number, data_bytes=b"x" * 900_000) for number in range(24)]
    assert len(opened.store.create_many(commands).created) == 24
    assert list(opened.store.scan()) == commands


# Lost answers


def test_an_insert_whose_answer_was_lost_is_created(opened: Opened) -> None:
    opened.faults.lose("batch_write", lost())
    opened.store.create(a_command("one"))
    opened.faults.lose("batch_write", lost())
    assert len(opened.store.create_many(some_commands(20)).created) == 20


def test_an_update_whose_answer_was_lost_is_done(opened: Opened) -> None:
    opened.store.create(a_command("one"))
    changed = a_command("one", data_bytes=b"changed")
    opened.faults.lose("commit", lost())
    assert opened.store.update(changed)
    assert opened.store.get("one") == changed


def test_a_delete_whose_answer_was_lost_is_done_and_not_said_to_be_our_own(opened: Opened) -> None:
    opened.store.create(a_command("one"))
    opened.faults.lose("commit", lost())
    # By us, or by another who was told so: docs/contract.md.
    with pytest.raises(StoreUnavailable, match="is gone, but one answer was lost"):
        opened.store.delete("one")
    assert opened.store.get("one") is None
    assert opened.store.delete("one") is False


def test_a_delete_that_did_not_arrive_is_sent_again(opened: Opened) -> None:
    opened.store.create(a_command("one"))
    opened.faults.fail("commit", lost(), times=3)
    assert opened.store.delete("one")
    assert opened.store.get("one") is None


def test_an_update_that_somebody_came_before_is_done_on_what_is_there_then(opened: Opened) -> None:
    opened.store.create(a_command("one"))
    other, mine = a_command("one", data_bytes=b"other"), a_command("one", data_bytes=b"mine")
    rival = opened.open()
    if opened._runner is None:
        opened.faults.before("commit", lambda: rival.update(other))
        assert opened.store.update(mine)
    else:

        async def race() -> None:
            await asyncio.gather(rival.core.update(other), opened.store.core.update(mine))

        opened.do(race())
    assert opened.store.get("one") in ((mine,) if opened._runner is None else (mine, other))


def test_what_no_answer_comes_for_is_unavailable_with_what_is_known(opened: Opened) -> None:
    opened.faults.fail("batch_write", lost(), times=50)
    with pytest.raises(StoreUnavailable):
        opened.store.create_many(some_commands(20))


# Long payloads


def test_a_long_command_is_seen_whole_or_not_at_all(opened: Opened) -> None:
    long = a_command("long", data_bytes=LONG)
    opened.faults.fail("commit", lost(), times=50)  # the head
    with pytest.raises(StoreUnavailable):
        opened.store.create(long)
    opened.faults._before.clear()
    reader = opened.open()
    assert reader.get("long") is None
    assert reader.list().commands == ()
    left = len(opened.parts("long"))
    assert left >= 2
    # What is left behind is collected, and is in nobody's way.
    opened.store.create(long)
    assert len(opened.parts("long")) == left + 2
    assert opened.store.gc(0) == {"parts_removed": left}
    assert opened.store.get("long") == long


def test_parts_go_with_their_command(opened: Opened) -> None:
    opened.store.create(a_command("long", data_bytes=LONG))
    assert len(opened.parts("long")) == 2
    assert opened.store.update(a_command("long", data_bytes=LONG[:-2]))
    assert len(opened.parts("long")) == 2
    assert opened.store.update(a_command("long"))
    assert opened.parts("long") == []
    assert opened.store.update(a_command("long", data_bytes=LONG))
    assert opened.store.delete("long")
    assert opened.parts("long") == []


def test_parts_of_a_loser_are_removed(opened: Opened) -> None:
    opened.store.create(a_command("long", data_bytes=LONG))
    result = opened.store.create_many([a_command("long", data_bytes=LONG[:-2]), a_command("new")])
    assert (result.created, result.conflicting) == (("new",), ("long",))
    assert len(opened.parts("long")) == 2


def test_a_part_that_is_missing_makes_its_command_corrupt_and_no_other(opened: Opened) -> None:
    opened.store.create_many([a_command("a"), a_command("long", data_bytes=LONG), a_command("z")])
    name = opened.layout.name("long")
    write_id = opened.parts("long")[0].rpartition("/")[2].partition(".")[0]
    opened.do(opened.store.core.backend._wire.batch_write([delete(part_names(name, write_id, 2)[1])]))
    with pytest.raises(CorruptRecord, match="parts of its payload are missing"):
        opened.store.get("long")
    page = opened.store.list()
    assert [command.command_uuid for command in page.commands] == ["a", "z"]
    assert len(page.corrupt) == 1


def test_a_grace_keeps_what_a_writer_is_about_to_name(opened: Opened) -> None:
    opened.faults.fail("commit", lost(), times=50)
    with pytest.raises(StoreUnavailable):
        opened.store.create(a_command("long", data_bytes=LONG))
    opened.faults._before.clear()
    left = len(opened.parts("long"))
    assert opened.store.gc(3600) == {"parts_removed": 0}
    assert len(opened.parts("long")) == left >= 2


def test_a_long_insert_whose_answer_was_lost_is_whole_whatever_others_did_meanwhile(opened: Opened) -> None:
    long, rival = a_command("long", data_bytes=LONG), opened.open()
    opened.faults.lose("commit", lost())
    opened.store.create(long)
    assert opened.store.get("long") == long
    assert len(opened.parts("long")) == 2
    assert opened.store.delete("long")
    if opened._runner is None:  # removed between the lost answer and the look at what became of it
        opened.faults.lose("commit", lost())
        opened.faults.before("batch_get_documents", lambda: rival.delete("long"))
        opened.store.create(long)
        assert opened.store.get("long") == long


def test_what_can_not_be_tidied_up_is_no_error_of_the_write(opened: Opened) -> None:
    opened.store.create(a_command("long", data_bytes=LONG))
    opened.faults.fail("batch_write", lost(), times=50)
    assert opened.store.delete("long")
    assert opened.store.get("long") is None


def test_a_part_that_is_refused_stops_its_command(opened: Opened) -> None:
    def refused(answer: Any) -> Any:
        answer.status[0].code = 3
        return answer

    opened.faults.answer("batch_write", refused)
    with pytest.raises(CommandStoreError):
        opened.store.create(a_command("long", data_bytes=LONG))
    assert opened.store.get("long") is None


@pytest.mark.parametrize("created_at", [None, "text", b"bytes", True])
def test_what_has_no_time_is_in_no_list_and_stops_none(opened: Opened, created_at: Any) -> None:
    opened.store.create_many([a_command("a", -3), a_command("b", 5)])
    values = head_values(plain_record("bad", 1, 1, "", "", "", "", b"", ""), "w", 1)
    name = opened.layout.name("bad")
    opened.do(opened.store.core.backend._wire.batch_write([put(name, {**values, "created_at": created_at})]))
    first = opened.store.list(limit=1)
    second = opened.store.list(limit=5, cursor=first.cursor)
    assert [command.command_uuid for command in (*first.commands, *second.commands)] == ["a", "b"]
    assert opened.store.total() == 2
    with pytest.raises(CorruptRecord):
        opened.store.get("bad")


@pytest.mark.parametrize("options", [{"shards": 0}, {"shards": 31}, {"database": "é"}, {"database": "A"}])
def test_what_no_store_can_have_is_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        FirestoreBackend("project", "commands", **options)


def test_a_lone_surrogate_is_invalid_and_not_sent(opened: Opened) -> None:
    with pytest.raises(InvalidCommand):
        opened.store.create(Command("\ud800", 1))
    assert opened.faults.calls == {}


def test_a_swap_that_was_lost_behind_another_one_is_not_said_to_be_undone(opened: Opened) -> None:
    backend = opened.store.core.backend
    assert opened.do(backend.register_swap("r", b"1", expected=None, token="t1"))
    path = opened.layout.register("r").partition("/documents/")[2]

    def swapped_by_another(_: Any) -> Any:
        with closing(Client(project="stores", credentials=AnonymousCredentials())) as rival:
            rival.document(path).set({"value": b"3", "token": "t3"})
        raise lost()

    opened.faults.answer("commit", swapped_by_another)
    with pytest.raises(StoreUnavailable, match="unknown"):
        opened.do(backend.register_swap("r", b"2", expected="t1", token="t2"))
