"""A verification: each kind of finding, over the stores that there are, and what it promises beside them."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing

import pytest

from commandstore import (
    AsyncCommandStore,
    Command,
    CommandStore,
    ConfigurationError,
    CorruptRecord,
    CryptoService,
    InvalidQuery,
    StoreUnavailable,
    open_async_store,
    open_store,
    sync_command_store,
)
from commandstore.codec import encode
from commandstore.contract import Row, Slice
from commandstore.memory import MemoryBackend
from commandstore.replication.verify import verify_async_command_stores, verify_command_stores
from commandstore.testing.comby import create_sqlite, raw_insert_sqlite
from replication.verified import FINDINGS, NOW, REASONS, SOURCE, command, holding, new_url, spoil, told


def break_row(path, command_uuid: str) -> None:
    with closing(sqlite3.connect(path)) as application:
        application.execute("UPDATE commands SET domain = CAST(x'ff' AS TEXT) WHERE uuid = ?", [command_uuid])
        application.commit()


@pytest.fixture
def url_of(request, tmp_path, monkeypatch):
    """A URL for a new store of a kind; engines start when they are asked for."""
    return lambda kind: new_url(kind, request, tmp_path, monkeypatch)


@pytest.mark.parametrize("drive", ["blocking", "async"])
@pytest.mark.parametrize("kind", ["memory", "sqlite", "dynamodb", "s3"])
def test_each_kind_is_found_once_and_named(kind, drive, url_of, tmp_path) -> None:
    here, there = f"sqlite:///{tmp_path}/app.db", url_of(kind)
    with open_store(here, create=True) as source, open_store(there, create=True) as destination:
        source.create_many(SOURCE)
        sync_command_store(source, destination)
        assert verify_command_stores(source, destination).clean
        spoil(destination)
        break_row(tmp_path / "app.db", "c0017")
        if drive == "blocking":
            report = verify_command_stores(source, destination, page_size=7)
        else:

            async def main():
                async with await open_async_store(here) as source, await open_async_store(there) as destination:
                    return await verify_async_command_stores(source, destination, page_size=7)

            report = asyncio.run(main())
        assert told(report) == FINDINGS
        reasons = {finding.command_uuid: finding.reason for finding in report.findings}
        assert reasons.pop("c0017").startswith("row 18")
        assert reasons == REASONS
        assert (report.compared, report.equal, report.complete, report.clean) == (42, 35, True, False)
        destination.reset()


def test_a_report_goes_into_json_by_its_names() -> None:
    report = verify_command_stores(holding([Command("a", 5)]), holding([]), before=NOW)
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain.pop("seconds") >= 0
    assert plain == {
        "compared": 1, "equal": 0, "missing": 1, "extra": 0, "altered": 0, "failed": 0,
        "findings": [
            {"kind": "missing", "command_uuid": "a", "created_at": 5, "reason": "not in the destination",
             "repaired": False, "action": ""}
        ],
        "repaired": 0, "deleted": 0, "complete": True, "same_store": False, "reached": NOW - 1,
    }  # fmt: skip


def test_a_thousand_findings_are_listed_and_all_are_counted() -> None:
    report = verify_command_stores(holding([command(n) for n in range(1200)]), holding([]), before=NOW)
    assert (report.missing, len(report.findings)) == (1200, 1000)


def test_only_the_tenant_that_is_asked_for_is_compared() -> None:
    here = holding([command(1, tenant_uuid="a"), command(2, tenant_uuid="b"), command(3, tenant_uuid="a")])
    there = holding([command(3, tenant_uuid="b")])
    assert told(verify_command_stores(here, there, tenant_uuid="a")) == {"c0001": "missing", "c0003": "altered"}
    assert told(verify_command_stores(here, there, tenant_uuid="b")) == {"c0002": "missing", "c0003": "altered"}


def test_a_tenant_longer_than_any_store_holds_has_nothing() -> None:
    report = verify_command_stores(holding([command(1)]), holding([]), tenant_uuid="t" * 600)
    assert (report.compared, report.complete) == (0, True)


@pytest.mark.parametrize("settings", [{"page_size": 0}, {"page_size": True}, {"page_size": 1.5}])
def test_a_page_size_that_is_none_is_refused(settings) -> None:
    with pytest.raises(ConfigurationError, match="page_size"):
        verify_command_stores(holding([]), holding([]), **settings)


def test_a_bound_that_is_no_time_is_refused() -> None:
    with pytest.raises(InvalidQuery, match="before"):
        verify_command_stores(holding([]), holding([]), before=2**63)


def test_stores_of_the_other_world_are_refused() -> None:
    other = AsyncCommandStore(MemoryBackend())
    with pytest.raises(ConfigurationError, match="verify_async_command_stores"):
        verify_command_stores(other, holding([]))  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="takes two AsyncCommandStores"):
        asyncio.run(verify_async_command_stores(holding([]), other))  # type: ignore[arg-type]


def test_a_store_that_fails_stops_it() -> None:
    class Failing(MemoryBackend):
        async def page(self, *_, **__):
            raise StoreUnavailable("no answer")

    with pytest.raises(StoreUnavailable, match="no answer"):
        verify_command_stores(holding([]), holding([], Failing()))


def test_a_row_whose_page_failed_for_another_reason_is_not_taken_for_a_bad_one() -> None:
    class Odd(MemoryBackend):
        async def page(self, *_, **__):
            return Slice([Row((1,), None, StoreUnavailable("no answer"))], None)

    with pytest.raises(StoreUnavailable):
        verify_command_stores(holding([], Odd()), holding([]))


def test_a_command_that_no_store_can_hold_is_failed_and_named() -> None:
    source = MemoryBackend()
    store = holding([], source)
    long = encode(Command("c", 1))._replace(domain="d" * 2000)
    source._records["c"] = (long, "")
    report = verify_command_stores(store, holding([]))
    assert told(report) == {"c": "failed"}
    assert "domain is longer" in report.findings[0].reason


def test_what_can_t_be_read_in_the_destination_is_failed_once() -> None:
    class Torn(MemoryBackend):
        bad = CorruptRecord("cut off", command_uuid="c0002", location="object 7")

        async def fetch(self, uuids):
            found = await super().fetch(uuids)
            return {name: self.bad if name == "c0002" else record for name, record in found.items()}

        async def page(self, query, after, limit, *, payload=True):
            found = await super().page(query, after, limit, payload=payload)
            rows = [Row(r.key, None, self.bad) if r.record.command_uuid == "c0002" else r for r in found.rows]
            return Slice(rows, found.next_key)

        async def probe(self, uuids):
            found = await super().probe(uuids)
            return {name: b"" if name == "c0002" else digest for name, digest in found.items()}

    commands = [command(n) for n in range(5)]
    report = verify_command_stores(holding(commands), holding(commands, Torn()))
    assert told(report) == {"c0002": "failed"}
    assert report.equal == 4
    assert told(verify_command_stores(holding(commands, Torn()), holding(commands))) == {"c0002": "failed"}


def test_what_can_t_be_read_at_the_end_of_a_page_is_named_though_an_empty_one_comes_behind_it() -> None:
    class Scripted(MemoryBackend):
        async def page(self, query, after, limit, *, payload=True):
            if after is not None:
                return Slice([], None)
            found = await super().page(query, after, limit, payload=payload)
            return Slice([*found.rows, Row((3,), None, CorruptRecord("cut off", command_uuid="c0003"))], (3,))

    commands = [command(n) for n in range(3)]
    report = verify_command_stores(holding(commands, Scripted()), holding(commands), after=0)
    assert (told(report), report.equal) == ({"c0003": "failed"}, 3)


def test_without_the_key_a_sealed_command_is_failed() -> None:
    backend = MemoryBackend()
    sealed = CommandStore(backend)
    sealed.init(crypto=CryptoService(b"k" * 32))
    sealed.create(command(1))
    plain = CommandStore(backend)
    plain.init()
    report = verify_command_stores(holding([command(1)]), plain)
    assert told(report) == {"c0001": "failed"}
    assert "is encrypted" in report.findings[0].reason


def test_sealed_payloads_in_sql_are_compared_by_what_they_hold(tmp_path) -> None:
    crypto = CryptoService(b"k" * 32)
    with open_store(f"sqlite:///{tmp_path}/app.db", create=True) as store:
        store.init(crypto=crypto)
        store.create_many([command(n) for n in range(5)])
        plain = holding([command(n) for n in range(4)])
        assert told(verify_command_stores(store, plain)) == {"c0004": "missing"}
        assert told(verify_command_stores(plain, store)) == {"c0004": "extra"}


def test_a_uuid_that_stands_twice_in_the_oldest_tables_is_one_command(tmp_path) -> None:
    path = tmp_path / "app.db"
    create_sqlite(path, "A")
    with closing(sqlite3.connect(path)) as application:
        for name, time, data in [("a", 9, b"1"), ("a", 5, b"2"), ("b", None, b"1"), ("b", 6, b"1"), ("c", 7, b"1")]:
            raw_insert_sqlite(application, uuid=name, created_at=time, data_bytes=data)
    with open_store(f"sqlite:///{path}", read_only=True) as source:
        destination = holding([])
        report = sync_command_store(source, destination)
        assert (report.copied, report.conflicts) == (3, 2)
        report = verify_command_stores(source, destination, page_size=1)
        assert (report.compared, report.equal, report.clean) == (3, 3, True)
        destination.update(Command("a", 6, data_bytes=b"1"))
        destination.delete("b")
        report = verify_command_stores(source, destination, page_size=1)
        assert told(report) == {"a": "altered", "b": "missing"}
        assert report.equal == 1


def test_rows_without_a_time_are_compared_though_they_come_before_all_others(tmp_path) -> None:
    path = tmp_path / "app.db"
    create_sqlite(path, "C")
    times = {"n1": None, "z": 0, "m": -3, "n2": None, "a": 0, "p": 3}
    with closing(sqlite3.connect(path)) as application:
        for name, time in times.items():
            raw_insert_sqlite(application, uuid=name, created_at=time)
    with open_store(f"sqlite:///{path}", read_only=True) as source:
        destination = holding([Command(name, time or 0) for name, time in times.items() if name != "z"])
        destination.update(Command("n2", 0, domain="other"))
        destination.create(Command("o", 0))
        report = verify_command_stores(source, destination, page_size=2)
        assert told(report) == {"z": "missing", "n2": "altered", "o": "extra"}
        assert report.equal == 4


class Busy(MemoryBackend):
    """Something happens after each of its pages."""

    def __init__(self, *happening) -> None:
        super().__init__()
        self.happening = list(happening)
        self.probed: list[str] = []

    async def page(self, query, after, limit, *, payload=True):
        found = await super().page(query, after, limit, payload=payload)
        if found.rows and self.happening:
            self.happening.pop(0)()
        return found

    async def probe(self, uuids):
        self.probed += uuids
        return await super().probe(uuids)


def test_what_is_written_to_both_during_the_walk_makes_no_findings() -> None:
    commands = [command(n) for n in range(9)]
    source = holding(commands[:4] + commands[5:8], Busy())
    destination = holding(commands[:3] + commands[5:8])

    def sync() -> None:  # copies 3, which the source showed already; 4 came late; 6 is erased in both; 8 is new
        for late in (commands[4], commands[8]):
            source.create(late)
            destination.create(late)
        destination.create(commands[3])
        for store in (source, destination):
            store.delete(commands[6].command_uuid)

    source.core.backend.happening.append(sync)
    report = verify_command_stores(source, destination)
    assert told(report) == {}
    assert report.clean


def test_what_differs_alone_is_asked_for_by_its_uuid() -> None:
    commands = [command(n) for n in range(50)]
    backend = Busy()
    verify_command_stores(holding(commands), holding(commands[:20] + commands[21:], backend), page_size=3)
    assert backend.probed == ["c0020"]


def test_it_ends_in_time_and_says_how_far_it_came() -> None:
    commands = [Command(f"c{n:04}", 100 + n) for n in range(50)]
    left = iter([9.0] * 8)
    here, there = holding(commands), holding(commands[:3] + commands[4:])
    report = verify_command_stores(here, there, before=NOW, page_size=5, time_left=lambda: next(left, 0.0))
    assert (report.complete, report.clean) == (False, False)
    assert told(report) == {"c0003": "missing"}
    assert report.reached is not None
    assert report.compared == sum(one.created_at <= report.reached for one in commands)
    rest = verify_command_stores(here, there, after=report.reached, before=NOW)
    assert rest.clean
    assert report.compared + rest.compared == 50


@pytest.mark.parametrize("after", [None, 120])
def test_without_any_time_nothing_is_reached(after) -> None:
    report = verify_command_stores(holding([command(1)]), holding([]), after=after, time_left=lambda: 0.0)
    assert (report.compared, report.complete, report.reached) == (0, False, after)


def test_progress_is_told_after_each_page() -> None:
    told_of = []
    verify_command_stores(
        holding([command(n) for n in range(10)]), holding([command(n) for n in range(9)]), page_size=4,
        progress=told_of.append,
    )  # fmt: skip
    assert len(told_of) > 4
    assert (told_of[-1].compared, told_of[-1].differing) == (10, 1)
