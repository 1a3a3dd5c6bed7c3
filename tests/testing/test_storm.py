"""A storm finds what is broken on purpose, and nothing in what is right."""

# ruff: noqa: ARG002 - as Backend declares them

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import pytest

from commandstore.codec import Record
from commandstore.command import Command, CommandQuery
from commandstore.contract import CREATED, Capability, Exists, Key, Outcome, Register, Slice
from commandstore.errors import (
    AccessDenied,
    CommandStoreError,
    ConfigurationError,
    StoreUnavailable,
    SyncError,
    Throttled,
)
from commandstore.memory import MemoryBackend
from commandstore.testing.faults import FaultPlan, FaultyBackend, LawBroken, StormReport, run_storm
from commandstore.testing.faults.commands import Commands
from commandstore.testing.faults.errors import wrong_error
from commandstore.testing.faults.history import Done, History


def storm(
    backend: MemoryBackend, drive: Any = "blocking", rate: float = 0.1, operations: int = 600, seed: int = 3
) -> StormReport:
    plan = FaultPlan(seed, rate, outages=0.02 if rate else 0.0)
    return run_storm(lambda: FaultyBackend(backend, plan), plan, drive, operations=operations)


class Sometimes(MemoryBackend):
    """Something that goes wrong once in so many times."""

    every = 20

    def __init__(self) -> None:
        super().__init__()
        self._times = 0

    def now(self) -> bool:
        self._times += 1
        return self._times % self.every == 0


class LosesCreates(Sometimes):
    async def insert(self, records: Sequence[Record], write_id: str) -> list[Outcome]:
        return [CREATED] * len(records) if self.now() else await super().insert(records, write_id)


class LosesUpdates(Sometimes):
    every = 4

    async def replace(self, record: Record, write_id: str) -> bool:
        return record.command_uuid in self._records if self.now() else await super().replace(record, write_id)


class KeepsWhatIsDeleted(Sometimes):
    every = 4

    async def remove(self, command_uuid: str) -> bool:
        return command_uuid in self._records if self.now() else await super().remove(command_uuid)


class WritesHalf(Sometimes):
    async def insert(self, records: Sequence[Record], write_id: str) -> list[Outcome]:
        if self.now():
            records = [record._replace(data=record.data[: len(record.data) // 2]) for record in records]
        return await super().insert(records, write_id)


class Overwrites(Sometimes):
    async def insert(self, records: Sequence[Record], write_id: str) -> list[Outcome]:
        if self.now():
            for record in records:
                self._records.pop(record.command_uuid, None)
        return await super().insert(records, write_id)


class SaysThatItsOwnExist(Sometimes):
    """As a retry does that knows nothing of write ids, after its answer was lost."""

    async def insert(self, records: Sequence[Record], write_id: str) -> list[Outcome]:
        outcomes = await super().insert(records, write_id)
        return [Exists(r.digest, write_id) for r in records] if self.now() else outcomes


class ListsTwice(Sometimes):
    async def page(self, query: CommandQuery, after: Key | None, limit: int, *, payload: bool = True) -> Slice:
        found = await super().page(query, after, limit, payload=payload)
        return Slice([*found.rows[:1], *found.rows][:limit], found.next_key) if self.now() else found


class EndsListsEarly(Sometimes):
    every = 10

    async def page(self, query: CommandQuery, after: Key | None, limit: int, *, payload: bool = True) -> Slice:
        found = await super().page(query, after, limit, payload=payload)
        return Slice(found.rows[: len(found.rows) // 2], None) if self.now() else found


class CountsZeroForAFailure(Sometimes):
    every = 5

    async def count(self, query: CommandQuery) -> int:
        return 0 if self.now() else await super().count(query)


class SwapsWithoutSayingSo(Sometimes):
    async def register_swap(self, name: str, value: bytes | None, *, expected: str | None, token: str) -> bool:
        done = await super().register_swap(name, value, expected=expected, token=token)
        return done and not self.now()


class SwapsWithoutLooking(Sometimes):
    """Whoever reads at the same time as another one overwrites what that one wrote."""

    async def register_get(self, name: str) -> Register | None:
        found = await super().register_get(name)
        await self.drive.sleep(0)
        return found

    async def register_swap(self, name: str, value: bytes | None, *, expected: str | None, token: str) -> bool:
        with self._lock:
            self._registers[name] = Register(value or b"", token)
        return True


class LetsErrorsThrough(Sometimes):
    async def fetch(self, uuids: Sequence[str]) -> Any:
        if self.now():
            raise KeyError("of an SDK")
        return await super().fetch(uuids)


class CallsAFaultSomethingElse(Sometimes):
    async def fetch(self, uuids: Sequence[str]) -> Any:
        if self.now():
            raise ConfigurationError("check your settings")
        return await super().fetch(uuids)


class CarriesAForeignCause(Sometimes):
    async def fetch(self, uuids: Sequence[str]) -> Any:
        if self.now():
            raise StoreUnavailable("no answer") from ZeroDivisionError()
        return await super().fetch(uuids)


class CollectsTooMuch(Sometimes):
    capabilities = frozenset({Capability.MAINTENANCE})

    async def compact(self) -> Mapping[str, int]:
        return {}

    async def gc(self, *, grace: float) -> Mapping[str, int]:
        if not grace:
            self._records.popitem()
            self._order = None
        return {}


class NeverGivesUp(Sometimes):
    async def count(self, query: CommandQuery) -> int:
        while True:
            await self.drive.sleep(5.0)


BROKEN: dict[type[MemoryBackend], str] = {
    LosesCreates: "lost|lacks|total",
    LosesUpdates: "lost",
    KeepsWhatIsDeleted: "lost|although it was there",
    WritesHalf: "as nobody wrote it",
    Overwrites: "although it was there",
    SaysThatItsOwnExist: "no effect|duplicate|nobody wrote",
    ListsTwice: "came twice|listed twice",
    EndsListsEarly: "lacks",
    CountsZeroForAFailure: "total: 0",
    SwapsWithoutSayingSo: "no effect",
    SwapsWithoutLooking: "in the place of one token",
    LetsErrorsThrough: "not translated: KeyError",
    CallsAFaultSomethingElse: "a fault became ConfigurationError",
    CarriesAForeignCause: "was caused by ZeroDivisionError",
    CollectsTooMuch: "compact or gc",
    NeverGivesUp: "without end",
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_storm_finds(broken: type[MemoryBackend]) -> None:
    # The last of them only shows where another one comes between, which tasks do at every pause.
    with pytest.raises(LawBroken, match=BROKEN[broken]) as caught:
        storm(broken(), "async")
    assert "seed 3" in str(caught.value)


@pytest.mark.parametrize("drive", ["blocking", "async"])
@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_a_storm_finds_nothing_in_a_right_backend(drive: str, rate: float) -> None:
    report = storm(MemoryBackend(), drive, rate)
    assert sum(report.operations.values()) == 600
    assert report.commands > 50
    assert bool(report.errors) == bool(report.faults) == bool(rate)


class RemovesWhatCameSince(MemoryBackend):
    """As a removal does that is tried again after a lost answer, whoever created anew meanwhile."""

    async def remove(self, command_uuid: str) -> bool:
        done = await super().remove(command_uuid)
        if done:
            await self.drive.sleep(0)
            await super().remove(command_uuid)
        return done


class TakesAnUpdateForItsOwnRemoval(MemoryBackend):
    """Finds that another one wrote after it had looked, and says that it removed that."""

    async def remove(self, command_uuid: str) -> bool:
        seen = self._records.get(command_uuid)
        await self.drive.sleep(0)
        there = self._records.get(command_uuid)
        if seen and there and there[1] != seen[1]:
            return True
        return await super().remove(command_uuid)


class CreatesAgain(MemoryBackend):
    """As a creation does that is tried again after a lost answer, whoever removed it meanwhile."""

    async def insert(self, records: Sequence[Record], write_id: str) -> list[Outcome]:
        outcomes = await super().insert(records, write_id)
        for _ in range(3):
            await self.drive.sleep(0)
        for record, outcome in zip(records, outcomes, strict=True):
            if outcome is CREATED and record.command_uuid not in self._records:
                await super().insert([record], write_id)
        return outcomes


@pytest.mark.parametrize("seed", [3, 4])
@pytest.mark.parametrize(
    "broken", [RemovesWhatCameSince, TakesAnUpdateForItsOwnRemoval, CreatesAgain], ids=lambda broken: broken.__name__
)
def test_a_storm_finds_what_only_all_answers_of_a_uuid_together_show(broken: type[MemoryBackend], seed: int) -> None:
    with pytest.raises(LawBroken, match=r"no order explains these operations on '(storm|stürm)"):
        storm(broken(), "async", operations=1_500, seed=seed)


def test_a_storm_allows_a_second_creation_where_it_is_told_to() -> None:
    memory, plan = CreatesAgain(), FaultPlan(3, 0.1, outages=0.02)
    run_storm(lambda: FaultyBackend(memory, plan), plan, "async", operations=1_500, recreates=True)


def test_a_storm_finds_what_is_only_wrong_once_it_is_over() -> None:
    gone: list[Any] = []

    class Forgets(FaultyBackend):
        async def page(self, query: CommandQuery, after: Key | None, limit: int, *, payload: bool = True) -> Slice:
            if not self.plan.is_on and not gone:
                gone.append(memory._records.popitem())
                memory._order = None
            return await super().page(query, after, limit, payload=payload)

    memory, plan = MemoryBackend(), FaultPlan(3, 0.0)
    with pytest.raises(LawBroken, match=r"at the end: .* was read as none: what was acknowledged after it is lost"):
        run_storm(lambda: Forgets(memory, plan), plan, operations=300)


def test_where_one_of_each_way_may_be_acknowledged_a_uuid_is_created_in_one_way() -> None:
    many: set[str] = set()

    class Notes(MemoryBackend):
        async def insert(self, records: Sequence[Record], write_id: str) -> list[Outcome]:
            many.update(record.command_uuid for record in records if len(records) > 1)
            return await super().insert(records, write_id)

    memory = Notes()
    run_storm(lambda: memory, FaultPlan(3, 0.0), operations=300)
    assert "storm/1" in many
    memory = Notes()
    many.clear()
    run_storm(lambda: memory, FaultPlan(3, 0.0), operations=300, apart=True)
    assert {uuid[:5] for uuid in many} == {"stürm", "sync-"}
    commands, random = Commands(60, 0, apart=True), Random(1)  # noqa: S311 - to be the same again
    assert {commands.uuid(random, "create")[:6] for _ in range(100)} == {"storm/"}


# Which errors an operation may end in


class OfAClient(KeyError):
    """An error of the author's own, whatever it inherits from."""


@pytest.mark.parametrize(
    "cause", [None, OfAClient("x"), ConnectionResetError(), TimeoutError(), EOFError(), ValueError("no JSON")]
)
@pytest.mark.parametrize("error", [StoreUnavailable("x"), Throttled("x"), AccessDenied("x")])
def test_whatever_an_engine_and_its_client_raise_may_stand_behind_an_error(
    error: CommandStoreError, cause: Exception | None
) -> None:
    error.__cause__ = cause
    assert wrong_error(error) is None
    stopped = SyncError("stopped")
    stopped.__cause__ = error
    assert wrong_error(stopped) is None


@pytest.mark.parametrize("mistake", [KeyError("x"), TypeError("x"), AttributeError("x"), ZeroDivisionError()])
def test_a_mistake_is_no_fault_however_it_is_called(mistake: Exception) -> None:
    hidden, stopped = StoreUnavailable("x"), SyncError("stopped")
    hidden.__cause__ = stopped.__cause__ = mistake
    assert "which is a mistake of a program" in (wrong_error(hidden) or "")
    assert "a sync stopped for" in (wrong_error(stopped) or "")
    assert "was not translated" in (wrong_error(mistake) or "")


def test_a_storm_finds_a_thread_that_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("commandstore.testing.faults.storm._JOIN_SECONDS", 0.0)
    over = threading.Event()

    class Leaves(MemoryBackend):
        async def open(self, drive: Any, *, create: bool) -> None:
            await super().open(drive, create=create)
            threading.Thread(target=over.wait, name="forgotten").start()

    try:
        with pytest.raises(LawBroken, match="a thread was left behind: forgotten"):
            storm(Leaves(), operations=10)
    finally:
        over.set()


def test_a_storm_finds_a_task_that_is_left_behind() -> None:
    class Leaves(MemoryBackend):
        async def close(self) -> None:
            self.task = asyncio.ensure_future(asyncio.Event().wait())

    with pytest.raises(LawBroken, match="a task was left behind"):
        storm(Leaves(), "async", operations=10)


def test_a_storm_finds_what_is_tried_again_without_a_pause() -> None:
    plan = FaultPlan(3, 0.1)

    class Hasty(FaultyBackend):
        async def count(self, query: CommandQuery) -> int:
            try:
                return await super().count(query)
            except StoreUnavailable:
                self.plan.time.owe("count")
                self.plan.time.sent("count", query)
                return await super().count(query)

    memory = MemoryBackend()
    with pytest.raises(LawBroken, match="count was tried again without a pause"):
        run_storm(lambda: Hasty(memory, plan), plan, operations=600)


# What may be the case


def test_a_write_of_unknown_fate_may_be_read_and_need_not() -> None:
    history: History[int] = History()
    history.end(history.begin("k", 1), Done.YES)
    history.end(history.begin("k", 2), Done.PERHAPS)
    for value in (1, 2):
        assert history.wrong("k", value, history.now(), history.now()) is None
    assert history.wrong("k", None, history.now(), history.now()) == "what was acknowledged after it is lost"
    assert history.wrong("k", 3, history.now(), history.now()) == "nobody wrote this"


def test_what_was_said_to_have_no_effect_is_never_read() -> None:
    history: History[int] = History()
    history.end(history.begin("k", 1), Done.NO)
    assert history.wrong("k", 1, history.now(), history.now()) == "its write was said to have had no effect"
    assert history.wrong("k", None, history.now(), history.now()) is None


def test_of_two_at_once_either_may_have_come_last() -> None:
    history: History[int] = History()
    one, two = history.begin("k", 1), history.begin("k", 2)
    history.end(two, Done.YES)
    history.end(one, Done.YES)
    three = history.begin("k", 3)
    for value in (1, 2, 3):
        assert history.wrong("k", value, history.now(), history.now()) is None
    history.end(three, Done.YES)
    assert history.wrong("k", 1, history.now(), history.now()) == "what was acknowledged after it is lost"


def test_what_is_surely_there_and_what_may_be() -> None:
    history: History[int] = History()
    history.end(history.begin("sure", 1), Done.YES)
    history.end(history.begin("perhaps", 1), Done.PERHAPS)
    history.end(history.begin("never", 1), Done.NO)
    for done, key in ((Done.YES, "removed"), (Done.PERHAPS, "perhaps removed")):
        history.end(history.begin(key, 1), Done.YES)
        history.end(history.begin(key, None), done)
    now = history.now()
    assert history.surely(now, history.now()) == {"sure"}
    assert history.perhaps(now, history.now()) == {"sure", "perhaps", "perhaps removed"}
    history.begin("sure", None)
    assert history.surely(history.now(), history.now()) == set()


def test_only_an_empty_place_can_be_created_in_and_only_another_one_be_replaced() -> None:
    history: History[int] = History()
    write = history.begin("k", 1)
    assert history.could_create("k", write)
    assert not history.could_replace("k", write)
    history.end(write, Done.YES)
    write = history.begin("k", 2)
    assert not history.could_create("k", write)
    assert history.could_replace("k", write)


def test_a_command_knows_whether_it_is_whole() -> None:
    commands = Commands(10, 0)
    version = commands.make("storm/1", Random(1))  # noqa: S311 - to be the same again
    command = commands.of(version)
    assert commands.version(command) == version
    half: Command = command.model_copy(update={"data_bytes": command.data_bytes[:-1]})
    assert commands.version(half) is None
    assert commands.version(command.model_copy(update={"data_bytes": b"x"})) is None
