"""The two facades: that they agree, and what they make of a backend that fails."""

import asyncio
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from commandstore import (
    AsyncCommandStore,
    Backend,
    Command,
    CommandExists,
    CommandStore,
    CommandStoreError,
    CorruptRecord,
    InvalidCommand,
    InvalidQuery,
    StoreUnavailable,
    SuspendedError,
    Throttled,
)
from commandstore.codec import Record, encode
from commandstore.contract import Created, Key, Outcome, Rejected, Row, Slice
from commandstore.core import Fate
from commandstore.drive import BlockingDrive, run
from commandstore.memory import MemoryBackend
from commandstore.testing.conformance import OverAsync

METHODS = [name for name, value in vars(CommandStore).items() if not name.startswith("_") and inspect.isfunction(value)]


class TestFacades:
    def test_both_have_the_same_methods(self) -> None:
        public = {name for name in vars(AsyncCommandStore) if not name.startswith("_")}
        assert public == {name for name in vars(CommandStore) if not name.startswith("_")}
        assert {"create", "create_many", "list", "scan", "info", "close"} <= public

    @pytest.mark.parametrize("name", METHODS)
    def test_a_method_takes_the_same_in_both(self, name: str) -> None:
        blocking, on_asyncio = (inspect.signature(getattr(cls, name)) for cls in (CommandStore, AsyncCommandStore))
        assert blocking.parameters == on_asyncio.parameters
        if name != "scan":
            assert blocking.return_annotation == on_asyncio.return_annotation
            assert inspect.iscoroutinefunction(getattr(AsyncCommandStore, name))

    @pytest.mark.parametrize("name", METHODS)
    def test_the_adapter_of_the_conformance_suite_takes_the_same_too(self, name: str) -> None:
        assert name in vars(OverAsync)
        assert inspect.signature(getattr(OverAsync, name)) == inspect.signature(getattr(CommandStore, name))

    @pytest.mark.parametrize("name", METHODS)
    def test_every_method_says_what_it_does(self, name: str) -> None:
        assert getattr(CommandStore, name).__doc__
        assert f"See :meth:`CommandStore.{name}`" in getattr(AsyncCommandStore, name).__doc__

    def test_a_store_shows_its_location(self) -> None:
        assert repr(CommandStore(MemoryBackend("here"))) == "CommandStore(memory://here)"
        assert repr(AsyncCommandStore(MemoryBackend("here"))) == "AsyncCommandStore(memory://here)"

    def test_an_unknown_filter_is_refused_with_those_there_are(self) -> None:
        with pytest.raises(InvalidQuery, match=r"unknown filter 'tenant'; there are: tenant_uuid, .*after"):
            opened(MemoryBackend()).total(tenant="x")  # type: ignore[call-arg]

    def test_a_backend_that_suspends_in_a_blocking_store_is_named(self) -> None:
        class Suspending(MemoryBackend):
            async def count(self, query: Any) -> int:  # noqa: ARG002
                await asyncio.sleep(0)
                return 0

        with pytest.raises(SuspendedError, match="total"):
            opened(Suspending()).total()


class TestOpening:
    def test_a_store_whose_backend_cant_be_opened_stays_closed(self) -> None:
        class Unreachable(MemoryBackend):
            tries = 0

            async def open(self, drive: Any, *, create: bool) -> None:
                self.tries += 1
                if self.tries == 1:
                    raise StoreUnavailable("no answer")
                await super().open(drive, create=create)

        store = CommandStore(Unreachable())
        with pytest.raises(StoreUnavailable):
            store.init()
        with pytest.raises(CommandStoreError, match="not open"):
            store.total()
        store.init()
        assert store.total() == 0

    def test_the_drive_is_closed_though_the_backend_fails_to_close(self) -> None:
        class Clinging(MemoryBackend):
            async def close(self) -> None:
                raise StoreUnavailable("can't let go")

        store = opened(Clinging())
        closed: list[bool] = []
        store.core.drive.close = lambda: closed.append(True)  # type: ignore[method-assign]
        with pytest.raises(StoreUnavailable):
            store.close()
        store.close()
        assert closed == [True]

    def test_read_only_never_asks_the_backend_to_create(self) -> None:
        asked: list[bool] = []

        class Asking(MemoryBackend):
            async def open(self, drive: Any, *, create: bool) -> None:
                asked.append(create)
                await super().open(drive, create=create)

        for read_only, create in ((True, True), (True, False), (False, True), (False, False)):
            CommandStore(Asking()).init(read_only=read_only, create=create)
        assert asked == [False, False, True, False]


class Scripted(MemoryBackend):
    """Answers inserts by a function of the records instead of storing them."""

    insert_count = 3

    def __init__(self, answer: Callable[[Sequence[Record]], list[Outcome]]) -> None:
        super().__init__()
        self.answer = answer
        self.batches: list[list[str]] = []
        self.write_ids: set[str] = set()

    async def insert(self, records: Sequence[Record], write_id: str) -> list[Outcome]:
        self.batches.append([record.command_uuid for record in records])
        self.write_ids.add(write_id)
        return self.answer(records)


def opened(backend: Backend) -> CommandStore:
    store = CommandStore(backend)
    store.init()
    return store


def commands(*uuids: str) -> list[Command]:
    return [Command(uuid, 1) for uuid in uuids]


def created(records: Sequence[Record]) -> list[Outcome]:
    return [Created() for _ in records]


class TestCreateMany:
    def test_records_are_cut_by_the_count_that_the_backend_takes(self) -> None:
        backend = Scripted(created)
        opened(backend).create_many(commands(*"abcdefg"))
        assert backend.batches == [["a", "b", "c"], ["d", "e", "f"], ["g"]]
        assert len(backend.write_ids) == 3

    def test_records_are_cut_by_the_bytes_that_the_backend_takes(self) -> None:
        backend = Scripted(created)
        backend.insert_bytes = 3_000
        sizes = {"a": 1_000, "b": 1_000, "c": 1_000, "d": 50_000, "e": 10}
        opened(backend).create_many([Command(uuid, 1, data_bytes=bytes(size)) for uuid, size in sizes.items()])
        assert backend.batches == [["a", "b"], ["c"], ["d"], ["e"]]

    def test_a_batch_never_has_a_uuid_twice(self) -> None:
        backend = Scripted(created)
        opened(backend).create_many(commands("a", "a", "b", "a", "b"))
        assert all(len(set(batch)) == len(batch) for batch in backend.batches)
        assert sorted(uuid for batch in backend.batches for uuid in batch) == ["a", "a", "a", "b", "b"]

    def test_what_the_backend_rejects_fails_alone(self) -> None:
        def answer(records: Sequence[Record]) -> list[Outcome]:
            return [
                Rejected(InvalidCommand("too odd", command_uuid=r.command_uuid)) if r.command_uuid == "b" else Created()
                for r in records
            ]

        result = opened(Scripted(answer)).create_many(commands("a", "b", "c"))
        assert result.created == ("a", "c")
        assert [(failure.command_uuid, str(failure.error)) for failure in result.failed] == [("b", "too odd")]

    def test_create_raises_what_the_backend_rejects(self) -> None:
        error = InvalidCommand("too odd")
        with pytest.raises(InvalidCommand) as caught:
            opened(Scripted(lambda _: [Rejected(error)])).create(Command("a", 1))
        assert caught.value is error

    def test_when_fates_are_unknown_the_error_accounts_for_the_others(self) -> None:
        def answer(records: Sequence[Record]) -> list[Outcome]:
            if records[0].command_uuid == "a":
                return created(records)
            raise Throttled("slower", outcomes=[Created(), None, Rejected(InvalidCommand("too odd"))])

        with pytest.raises(Throttled) as caught:
            opened(Scripted(answer)).create_many(commands(*"abcdefgh"))
        result = caught.value.result
        assert result is not None
        assert result.created == ("a", "b", "c", "d")
        assert [failure.command_uuid for failure in result.failed] == ["f"]
        assert len(result) == 5

    def test_an_error_without_outcomes_accounts_for_what_was_written_before(self) -> None:
        def answer(records: Sequence[Record]) -> list[Outcome]:
            if records[0].command_uuid == "a":
                return created(records)
            raise StoreUnavailable("no answer")

        with pytest.raises(StoreUnavailable) as caught:
            opened(Scripted(answer)).create_many(commands(*"abcde"))
        assert caught.value.result is not None
        assert caught.value.result.created == ("a", "b", "c")
        assert len(caught.value.result) == 3

    def test_commands_are_read_as_they_are_needed(self) -> None:
        backend = Scripted(created)
        seen: list[int] = []

        def endless() -> Any:
            for number in range(7):
                seen.append(len(backend.batches))
                yield Command(f"c{number}", 1)

        opened(backend).create_many(endless())
        assert seen == [0, 0, 0, 1, 1, 1, 2]


class TestRecords:
    """What replication uses: plain records in, what became of each out."""

    def test_compare_answers_what_write_would_and_writes_nothing(self) -> None:
        there, other = encode(Command("a", 1)), encode(Command("a", 2))
        new, changed = encode(Command("b", 1)), encode(Command("b", 2))
        given = [there, other, new, new, changed, there]
        expected = [Fate.DUPLICATE, Fate.CONFLICTING, Fate.CREATED, Fate.DUPLICATE, Fate.CONFLICTING, Fate.DUPLICATE]
        store = opened(MemoryBackend())
        store.create(Command("a", 1))
        assert run(store.core.compare(given)) == expected
        assert store.total() == 1
        assert run(store.core.write(given)) == expected
        assert store.total() == 2
        assert store.get("b") == Command("b", 1)

    def test_the_fates_in_an_error_are_aligned_with_the_records(self) -> None:
        def answer(records: Sequence[Record]) -> list[Outcome]:
            raise Throttled("slower", outcomes=[Created(), *[None] * (len(records) - 1)])

        with pytest.raises(Throttled) as caught:
            run(opened(Scripted(answer)).core.write([encode(command) for command in commands("a", "a", "b", "c", "d")]))
        assert list(caught.value.fates) == [Fate.CREATED, None, None, None, None]


class Spotty(MemoryBackend):
    """Rows whose uuid starts with ``bad`` can't be read."""

    async def page(self, query: Any, after: Key | None, limit: int, *, payload: bool = True) -> Slice:
        found = await super().page(query, after, limit, payload=payload)
        rows = [
            Row(row.key, None, CorruptRecord(f"can't read {row.key[1]}")) if str(row.key[1]).startswith("bad") else row
            for row in found.rows
        ]
        return Slice(rows, found.next_key)


class ShortPages(MemoryBackend):
    """Pages are short, and every second one is empty."""

    async def page(self, query: Any, after: Key | None, limit: int, *, payload: bool = True) -> Slice:
        if after is None or len(after) == 2:
            key = after or (-(2**63) - 1, "")
            return Slice([], (*key, "again"))
        return await super().page(query, after[:2], min(limit, 2), payload=payload)


class TestLists:
    def test_corrupt_rows_count_against_the_limit_and_stop_nothing(self) -> None:
        store = opened(Spotty())
        store.create_many([Command("a", 1), Command("bad", 2), Command("c", 3), Command("d", 4)])
        page = store.list(limit=3)
        assert [command.command_uuid for command in page.commands] == ["a", "c"]
        assert [str(error) for error in page.corrupt] == ["can't read bad"]
        assert [command.command_uuid for command in store.list(cursor=page.cursor).commands] == ["d"]

    def test_an_offset_counts_corrupt_rows(self) -> None:
        store = opened(Spotty())
        store.create_many([Command("bad1", 1), Command("bad2", 2), Command("c", 3)])
        assert [command.command_uuid for command in store.list(offset=2).commands] == ["c"]

    def test_info_passes_over_corrupt_rows(self) -> None:
        store = opened(Spotty())
        store.create_many([Command("a", 1), Command("b", 2), Command("bad1", 3), Command("bad2", 4)])
        assert (store.info().last_item_created_at, store.info().num_items) == (2, 4)

    def test_short_and_empty_pages_are_gone_through(self) -> None:
        store = opened(ShortPages())
        store.create_many(commands(*"abcdefg"))
        assert len(store.list(limit=5).commands) == 5
        assert len(store.list(limit=-1).commands) == 7
        assert [command.command_uuid for command in store.list(offset=5).commands] == ["f", "g"]
        assert len(list(store.scan(page_size=3))) == 7

    def test_a_get_of_a_command_that_went_between_insert_and_fetch_has_no_existing(self) -> None:
        class Vanishing(MemoryBackend):
            async def fetch(self, uuids: Sequence[str]) -> dict[str, Record]:  # noqa: ARG002
                return {}

        store = opened(Vanishing())
        store.create(Command("a", 1))
        with pytest.raises(CommandExists) as caught:
            store.create(Command("a", 1))
        assert caught.value.existing is None


class TestBackendDefaults:
    def test_a_probe_is_made_of_fetch_where_there_is_no_cheaper_way(self) -> None:
        class Plain(MemoryBackend):
            probe = Backend.probe

            async def fetch(self, uuids: Sequence[str]) -> dict[str, Any]:
                found: dict[str, Any] = {**await super().fetch(uuids)}
                return {**found, "bad": CorruptRecord("bad")} if "bad" in uuids else found

        store = opened(Plain())
        store.create(Command("a", 1))
        found = run(store.core.backend.probe(["a", "bad", "none"]))
        assert found == {"a": encode(Command("a", 1)).digest, "bad": b""}

    @pytest.mark.parametrize(
        "call",
        [
            lambda backend: backend.sequence_state([], []),
            lambda backend: backend.feed_again([]),
            lambda backend: backend.compact(),
            lambda backend: backend.gc(grace=1.0),
        ],
    )
    def test_what_a_backend_doesnt_declare_is_unsupported_and_says_so(self, call: Any) -> None:
        with pytest.raises(NotImplementedError, match="memory"):
            run(call(MemoryBackend()))

    def test_feed_end_is_harmless(self) -> None:
        run(MemoryBackend().feed_end())

    def test_a_backend_must_supply_every_primitive(self) -> None:
        assert Backend.__abstractmethods__ == {
            "location",
            "open",
            "close",
            "insert",
            "fetch",
            "page",
            "count",
            "replace",
            "remove",
            "clear",
            "register_get",
            "register_swap",
        }

    def test_a_drive_is_made_for_each_store(self) -> None:
        backend = MemoryBackend()
        assert isinstance(opened(backend).core.drive, BlockingDrive)
        assert opened(backend).core.drive is not opened(backend).core.drive
