"""A storm: many operations at once on a store whose engine fails by a plan, held against what may be the case.

::

    plan = FaultPlan(seed=7, rates=0.2, outages=0.02)

    def make():
        return MyBackend(..., session=faulty_session(MyFaults(plan)), retry=Retry(attempts=4, clock=plan.time.clock))

    report = run_storm(make, plan, "blocking", operations=10_000)

Nothing that was acknowledged may be lost, nothing be there that nobody wrote, nothing half written or doubled, no error
of another library come through, nothing be tried again without a pause, no thread or task be left behind. And all that
was answered of one uuid, or of one register, must be as if it had been done one after the other.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

from commandstore.command import Command, CommandQuery
from commandstore.contract import Backend, Capability
from commandstore.core import Filters, StoreCore, StoreOptions
from commandstore.drive import AsyncDrive, BlockingDrive, Drive, run
from commandstore.errors import AccessDenied, CommandStoreError, StoreUnavailable
from commandstore.memory import MemoryBackend
from commandstore.testing.conformance.lab import DriveName
from commandstore.testing.faults.commands import TENANTS, Commands
from commandstore.testing.faults.operations import Operations
from commandstore.testing.faults.plan import Fault, FaultPlan
from commandstore.testing.linearizability import command_model, register_model

__all__ = ["LawBroken", "StormReport", "run_storm"]

T = TypeVar("T")

_PAGE = 37
_JOIN_SECONDS = 10.0
_ATTEMPTS = 3


class LawBroken(AssertionError):
    """What a storm found: the laws, and the seed and the last faults of the run."""


@dataclass(frozen=True)
class StormReport:
    """What a storm did.

    Attributes:
        seed: of the plan.
        operations: how many of each.
        errors: how many of them ended in which error.
        requests: how many requests (or primitives) there were.
        faults: how many of them met which fault.
        pauses: how many there were before something was tried again.
        longest_pause: in seconds of the plan's own time.
        paused: all of them, in the same.
        commands: how many the store held at the end.
    """

    seed: int
    operations: Mapping[str, int]
    errors: Mapping[str, int]
    requests: int
    faults: Mapping[Fault, int]
    pauses: int
    longest_pause: float
    paused: float
    commands: int = field(default=0)

    def __str__(self) -> str:
        faults = ", ".join(f"{fault} {count:,}" for fault, count in sorted(self.faults.items()))
        errors = ", ".join(f"{name} {count:,}" for name, count in sorted(self.errors.items())) or "none"
        return (
            f"seed {self.seed}: {sum(self.operations.values()):,} operations, {self.requests:,} requests, "
            f"{sum(self.faults.values()):,} faults ({faults}); {errors}; {self.pauses:,} pauses, the longest "
            f"{self.longest_pause:.2f} s, {self.paused:,.0f} s in all; {self.commands:,} commands"
        )


def run_storm(
    make_backend: Callable[[], Backend],
    plan: FaultPlan,
    drive: DriveName = "blocking",
    *,
    operations: int = 300,
    workers: int = 8,
    keys: int | None = None,
    batch: int = 12,
    long_bytes: int = 0,
    raw_uuids: Callable[[], set[str]] | None = None,
    apart: bool = False,
    recreates: bool = False,
) -> StormReport:
    """Let a storm go over an empty store, and look at what it left.

    Args:
        make_backend: another process, as it were, that opens the same store each time; over faults of the plan.
        plan: what goes wrong. Its time is the clock of the backend's retries, if they are to be virtual as well.
        drive: with threads or with tasks.
        operations: how many, in all.
        workers: how many at once.
        keys: how many uuids they are about; None: a fifth of the operations, at most 500.
        batch: the largest ``create_many``.
        long_bytes: of one payload in fifty, for engines that split them; 0: all are short.
        raw_uuids: what is really stored, read past the store; looked at once garbage is removed.
        apart: whether a uuid is only created by ``create``, or only by ``create_many``: for engines where one of each
            may be acknowledged at one moment.
        recreates: whether a creation whose answer was lost, and that another one undid before it was sent again, may be
            done once more: for engines that keep no trace of what was removed.

    Raises:
        LawBroken: says which, and by which seed.
    """
    storm = _Storm(make_backend, plan, drive, workers=workers, batch=batch, raw_uuids=raw_uuids, recreates=recreates)
    storm.commands = Commands(keys or max(20, min(500, operations // 5)), long_bytes, apart=apart)
    before = set(threading.enumerate())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        report = storm.run(operations)
        gc.collect()
    storm.broken += [f"left open: {one.message}" for one in caught if issubclass(one.category, ResourceWarning)]
    storm.broken += [f"a thread was left behind: {name}" for name in _left(before)]
    storm.broken += [f"{what} was tried again without a pause" for what in sorted(set(plan.time.hasty))]
    if storm.broken:
        raise LawBroken("\n".join([*storm.broken, plan.describe(), str(report)]))
    return report


def _left(before: set[threading.Thread]) -> list[str]:
    after = [thread for thread in threading.enumerate() if thread not in before and not _is_grpcs(thread)]
    for thread in after:
        thread.join(_JOIN_SECONDS)
    return [thread.name for thread in after if thread.is_alive()]


def _is_grpcs(thread: threading.Thread) -> bool:
    # One for all channels of the process, for as long as it lives.
    return "poller" in thread.name.lower()


class _Storm:
    """One storm."""

    commands: Commands

    def __init__(
        self,
        make_backend: Callable[[], Backend],
        plan: FaultPlan,
        drive: DriveName,
        *,
        workers: int,
        batch: int,
        raw_uuids: Callable[[], set[str]] | None,
        recreates: bool,
    ) -> None:
        self.broken: list[str] = []
        self._make_backend = make_backend
        self._plan = plan
        self._is_async = drive == "async"
        self._workers = workers
        self._batch = batch
        self._raw_uuids = raw_uuids
        self._recreates = recreates

    def run(self, operations: int) -> StormReport:
        if self._is_async:
            with asyncio.Runner() as runner:
                return runner.run(self._whole(operations))
        return run(self._whole(operations))

    async def _whole(self, operations: int) -> StormReport:
        # An engine may fail while the store is made, too: then whoever makes it tries again.
        with self._plan:
            for _ in range(_ATTEMPTS):
                await self._try_to_open()
        store, source = await self._another(), await self._open(MemoryBackend())
        try:
            todo = Operations(store, source, self._plan, self.commands, self._batch, self._another)
            with self._plan:
                await self._at_once(todo, operations)
            found: dict[str, Command] = {}
            if not self.broken and not todo.broken:
                found = await self._look(todo)
            self.broken += todo.broken
        finally:
            await store.close()
            await source.close()
        if self._is_async:
            self.broken += [
                f"a task was left behind: {task.get_coro()}"
                for task in asyncio.all_tasks()
                if task is not asyncio.current_task()
            ]
        time = self._plan.time
        return StormReport(
            seed=self._plan.seed,
            operations=todo.done,
            errors=todo.errors,
            requests=self._plan.requests.total(),
            faults=self._plan.faults,
            pauses=time.pauses,
            longest_pause=time.longest,
            paused=time.total,
            commands=len(found),
        )

    async def _try_to_open(self) -> None:
        try:
            store = await self._another()
        except (StoreUnavailable, AccessDenied):
            return
        except CommandStoreError as error:
            self.broken.append(f"open: a fault became {type(error).__name__}: {error}")
            return
        await store.close()

    async def _another(self) -> StoreCore:
        self._plan.time.begin()
        return await self._open(self._make_backend())

    async def _open(self, backend: Backend) -> StoreCore:
        drive: Drive = AsyncDrive() if self._is_async else BlockingDrive()
        self._plan.time.hold(drive)
        store = StoreCore(backend, drive)
        await store.init(StoreOptions(), create=True)
        return store

    async def _at_once(self, todo: Operations, operations: int) -> None:
        shares = [operations // self._workers + (n < operations % self._workers) for n in range(self._workers)]

        def worker(number: int) -> Coroutine[Any, Any, None]:
            random = Random(f"{self._plan.seed} worker {number}")  # noqa: S311 - to be the same again
            return todo.worker(random, shares[number])

        if self._is_async:
            await asyncio.gather(*(worker(number) for number in range(self._workers)))
            return
        with ThreadPoolExecutor(self._workers, "storm") as pool:
            for ended in [pool.submit(lambda number: run(worker(number)), n) for n in range(self._workers)]:
                ended.result()

    # What the storm left

    async def _look(self, todo: Operations) -> dict[str, Command]:
        # Nothing goes wrong any more, so an error is nobody's but the store's.
        await todo.sync(Random(0), 0)  # noqa: S311 - as above
        found = await self._read(todo)
        self._judge(todo, found)
        await self._registers(todo)
        for history, model in ((todo.history, command_model), (todo.swaps, register_model)):
            self.broken += [str(one) for one in history.unexplained(model, recreates=self._recreates)]
        if Capability.MAINTENANCE in todo.store.backend.capabilities:
            await todo.upkeep("compact")
            await todo.upkeep("gc", grace=0.0)
            if await self._read(todo) != found:
                self.broken.append("compact or gc: what is read afterwards is not what was read before")
        if self._raw_uuids is not None and (raw := self._raw_uuids()) != found.keys():
            self.broken.append(f"what is stored is not what is read: {sorted(raw ^ found.keys())[:5]}")
        return found

    async def _read(self, todo: Operations) -> dict[str, Command]:
        """All that is there, by every way of reading, as another process finds it."""
        store = await self._another()
        try:
            found: list[Command] = []
            cursor: str | None = None
            while True:
                page = await store.list(CommandQuery(), offset=0, limit=_PAGE, cursor=cursor, with_total=False)
                found += page.commands
                self.broken += [f"at the end: {error}" for error in page.corrupt]
                if (cursor := page.cursor) is None:
                    break
            by_uuid = {command.command_uuid: command for command in found}
            if found != sorted(by_uuid.values(), key=lambda c: (c.created_at, c.command_uuid.encode())):
                self.broken.append("at the end: a uuid is listed twice, or out of its order")
            backwards = await store.list(
                CommandQuery(ascending=False), offset=0, limit=-1, cursor=None, with_total=True
            )
            if list(backwards.commands) != found[::-1]:
                self.broken.append("at the end: the list is not the reverse of the list backwards")
            for tenant in (None, *TENANTS):
                own = sum(tenant in {None, command.tenant_uuid} for command in found)
                total = await store.total(store.query(Filters(tenant_uuid=tenant)))
                if total != own:
                    self.broken.append(f"at the end: the total of {tenant!r} is {total}, and {own} are listed")
            if await store.get_many({*todo.history.keys, *by_uuid}) != by_uuid:
                self.broken.append("at the end: what is got is not what is listed")
            return by_uuid
        finally:
            await store.close()

    def _judge(self, todo: Operations, found: dict[str, Command]) -> None:
        start = todo.history.now()
        for uuid in todo.history.keys:
            todo.read("at the end", uuid, found.get(uuid), start)
        if unknown := found.keys() - set(todo.history.keys):
            self.broken.append(f"at the end: nobody ever wrote {sorted(unknown)[:5]}")

    async def _registers(self, todo: Operations) -> None:
        for name in todo.swaps.keys:
            start = todo.swaps.now()
            register = await todo.store.backend.register_get(name)
            todo.register(name, register.token if register else None, start)
            least, most = todo.swapped(name)
            count = int(register.value) if register else 0
            if not least <= count <= most:
                self.broken.append(f"at the end: register {name!r} is {count}; swapped from {least} to {most} times")
