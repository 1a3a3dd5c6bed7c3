"""What a storm does to a store, one operation at a time, and what each answer says of the others."""

from __future__ import annotations

import secrets
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable
from random import Random
from typing import Any

from commandstore.command import BatchResult, Command
from commandstore.contract import Capability, Register
from commandstore.core import Filters, StoreCore
from commandstore.errors import CommandExists, CommandStoreError
from commandstore.replication.engine import Sync
from commandstore.replication.walk import Settings
from commandstore.testing.faults.commands import TENANTS, Commands, tenant_of
from commandstore.testing.faults.errors import wrong_error
from commandstore.testing.faults.history import Done, History, Write
from commandstore.testing.faults.plan import FaultPlan
from commandstore.testing.linearizability import UNKNOWN

__all__ = ["Operations"]

_WEIGHTS = {
    "create": 24,
    "create_many": 8,
    "get": 14,
    "get_many": 6,
    "list": 7,
    "total": 4,
    "update": 13,
    "delete": 9,
    "swap": 9,
    "register": 3,
    "open": 1,
    "sync": 1,
    "upkeep": 1,
}


class Operations:
    """Operations on one store, side by side, and the laws that their answers break.

    Attributes:
        done: how many of each.
        errors: how many ended in which error.
        broken: the laws that were broken, in words.
    """

    def __init__(
        self,
        store: StoreCore,
        source: StoreCore,
        plan: FaultPlan,
        commands: Commands,
        batch: int,
        another: Callable[[], Awaitable[StoreCore]],
    ) -> None:
        self.store = store
        self.source = source
        self.history: History[int] = History()
        self.swaps: History[str] = History()
        self.done: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.broken: list[str] = []
        self.commands = commands
        self._plan = plan
        self._batch = batch
        self._another = another
        self._expected: dict[tuple[str, str | None], str] = {}
        self._syncing = threading.Lock()
        self._lock = threading.Lock()
        self._made = 0
        self._unsettled: dict[str, int] = {}
        self._consistent = store.backend.list_is_consistent

    async def worker(self, random: Random, count: int) -> None:
        """So many operations, one after the other."""
        names, weights = list(_WEIGHTS), list(_WEIGHTS.values())
        for _ in range(count):
            [name] = random.choices(names, weights)
            if len(self.broken) < _ENOUGH:
                await self.operate(name, random)

    async def operate(self, name: str, random: Random) -> None:
        """One operation, whose error must be one of those that a store may end in."""
        self._plan.time.begin()
        work: Callable[[Random], Awaitable[None]] = getattr(self, f"_{name}")
        try:
            await work(random)
            outcome = None
        except Exception as error:  # noqa: BLE001 - that it is not one of ours is what is looked for
            outcome = type(error).__name__
            self._judge(name, error)
        with self._lock:
            self.done[name] += 1
            if outcome:
                self.errors[outcome] += 1

    def _break(self, law: str) -> None:
        self.broken.append(law)

    def _judge(self, name: str, error: Exception) -> None:
        if wrong := wrong_error(error):
            self._break(f"{name}: {wrong}")

    # Reading

    def read(self, what: str, uuid: str, command: Command | None, start: float) -> None:
        """Look at what was read in the time since ``start``."""
        version = None if command is None else self.commands.version(command)
        if command is not None and version is None:
            self._break(f"{what}: {uuid} came back as nobody wrote it: {_short(command)}")
            return
        end = self.history.now()
        self.history.answered("get", uuid, None, version, start, end)
        if wrong := self.history.wrong(uuid, version, start, end):
            self._break(f"{what}: {uuid} was read as {'none' if version is None else f'version {version}'}: {wrong}")

    async def _get(self, random: Random) -> None:
        uuid, start = self.commands.uuid(random), self.history.now()
        self.read("get", uuid, await self.store.get(uuid), start)

    async def _get_many(self, random: Random) -> None:
        uuids = [self.commands.uuid(random) for _ in range(random.randrange(2, 12))]
        start = self.history.now()
        found = await self.store.get_many(uuids)
        for uuid in uuids:
            self.read("get_many", uuid, found.get(uuid), start)

    async def _list(self, random: Random) -> None:
        filters = Filters(tenant_uuid=random.choice(TENANTS)) if random.random() < 0.5 else Filters()
        query = self.store.query(filters, ascending=random.random() < 0.5)
        # A page or some of them, or all there is.
        pages, limit = random.choice([(1, 60), (3, 7), (1_000, 500)])
        start = self.history.now()
        found: list[Command] = []
        cursor = None
        while pages > 0:
            page = await self.store.list(query, offset=0, limit=limit, cursor=cursor, with_total=False)
            found += page.commands
            if page.corrupt:
                self._break(f"list: {page.corrupt[0]}")
            if (cursor := page.cursor) is None:
                break
            pages -= 1
        positions = [(command.created_at, command.command_uuid.encode()) for command in found]
        if positions != sorted(set(positions), reverse=not query.ascending):
            self._break("list: a uuid came twice, or out of its order")
        tenant = filters.get("tenant_uuid")
        for command in found:
            if tenant is not None and command.tenant_uuid != tenant:
                self._break(f"list: {command.command_uuid} is of another tenant")
            elif self._consistent:
                self.read("list", command.command_uuid, command, start)
        if self._consistent and cursor is None:
            sure = self.history.surely(start, self.history.now(), lambda uuid: tenant in {None, tenant_of(uuid)})
            if missing := sure - {command.command_uuid for command in found}:
                self._break(f"list: lacks {sorted(missing)[:3]} of what was acknowledged")

    async def _total(self, random: Random) -> None:
        tenant = random.choice([None, *TENANTS])
        start = self.history.now()
        total = await self.store.total(self.store.query(Filters(tenant_uuid=tenant)))
        end = self.history.now()
        those: Callable[[str], bool] = lambda uuid: tenant in {None, tenant_of(uuid)}  # noqa: E731 - short
        least, most = self.history.surely(start, end, those), self.history.perhaps(start, end, those)
        if self._consistent and not len(least) <= total <= len(most):
            self._break(f"total: {total}, which can only be from {len(least)} to {len(most)}")

    # Writing

    def _end(self, kind: str, uuid: str, write: Write[int], done: Done, result: Hashable) -> None:
        self.history.end(write, done)
        self.history.answered(kind, uuid, write.value, result, write.start, write.end)

    async def _create(self, random: Random) -> None:
        uuid = self.commands.uuid(random, "create")
        version = self.commands.make(uuid, random)
        write = self.history.begin(uuid, version)
        try:
            await self.store.create(self.commands.of(version))
        except CommandExists as error:
            self._refused("create", uuid, write, error.existing, "exists")
            return
        except BaseException:
            self._unknown("create", uuid, write)
            raise
        self._created("create", uuid, write)

    def _created(self, what: str, uuid: str, write: Write[int]) -> None:
        if not self.history.could_create(uuid, write):
            self._break(f"{what}: {uuid} was created although it was there")
        self._end("create", uuid, write, Done.YES, "created")

    def _refused(self, what: str, uuid: str, write: Write[int], existing: Command | None, result: str) -> None:
        self._end("create", uuid, write, Done.NO, result)
        if existing is not None:
            self.read(f"{what}, refused", uuid, existing, write.start)
        elif not self.history.could_replace(uuid, write):
            self._break(f"{what}: {uuid} is said to exist, and nobody wrote it")

    def _unknown(self, kind: str, uuid: str, write: Write[int]) -> None:
        could = self.history.could_create if kind == "create" else self.history.could_replace
        self._end(kind, uuid, write, Done.PERHAPS if could(uuid, write) else Done.NO, UNKNOWN)

    async def _create_many(self, random: Random) -> None:
        count = random.randrange(2, self._batch + 1)
        uuids = list(dict.fromkeys(self.commands.uuid(random, "create_many") for _ in range(count)))
        versions = {uuid: self.commands.make(uuid, random) for uuid in uuids}
        writes = {uuid: self.history.begin(uuid, version) for uuid, version in versions.items()}
        try:
            result = await self.store.create_many([self.commands.of(version) for version in versions.values()])
        except CommandStoreError as error:
            self._account(writes, error.result, whole=False)
            if random.random() < 0.5:  # as the contract says, trying the same again is safe
                await self._once_more(versions, writes)
            raise
        except BaseException:
            self._account(writes, None, whole=False)
            raise
        self._account(writes, result, whole=True)

    def _account(self, writes: dict[str, Write[int]], result: BatchResult | None, *, whole: bool) -> None:
        result = result or BatchResult()
        for uuid in result.created:
            self._created("create_many", uuid, writes[uuid])
        for uuid in result.conflicting:
            self._refused("create_many", uuid, writes[uuid], None, "conflicting")
        for uuid in result.duplicate:
            self._break(f"create_many: {uuid} is called a duplicate of what was never written before")
        if result.failed:
            self._break(f"create_many: {result.failed[0].command_uuid} failed: {result.failed[0].error}")
        known = [*result.created, *result.conflicting, *result.duplicate, *(one.command_uuid for one in result.failed)]
        if len(set(known)) != len(known) or not set(known) <= writes.keys():
            self._break("create_many: a command was accounted for twice, or was never given")
        for uuid in writes.keys() - set(known):
            if whole:
                self._break(f"create_many: nothing was said of {uuid}")
            self._unknown("create", uuid, writes[uuid])

    async def _once_more(self, versions: dict[str, int], before: dict[str, Write[int]]) -> None:
        self._plan.time.begin()
        writes = {uuid: self.history.begin(uuid, version) for uuid, version in versions.items()}
        known: BatchResult | None = None
        try:
            known = await self.store.create_many([self.commands.of(version) for version in versions.values()])
        except CommandStoreError as error:
            known = error.result
            self._judge("create_many again", error)
        finally:
            said = known or BatchResult()
            for uuid, write in writes.items():
                if uuid in said.created:
                    self._created("create_many again", uuid, write)
                elif uuid in said.conflicting:
                    self._refused("create_many again", uuid, write, None, "conflicting")
                elif uuid in said.duplicate:
                    self._end("create", uuid, write, Done.NO, "duplicate")
                    if before[uuid].done is Done.NO:
                        self._break(f"create_many again: {uuid} is a duplicate of what was said not to be written")
                    before[uuid].done = Done.YES
                else:
                    self._unknown("create", uuid, write)

    async def _update(self, random: Random) -> None:
        uuid = self.commands.uuid(random)
        version = self.commands.make(uuid, random)
        write = self.history.begin(uuid, version)
        try:
            done = await self.store.update(self.commands.of(version))
        except BaseException:
            self._unknown("update", uuid, write)
            raise
        if done and not self.history.could_replace(uuid, write):
            self._break(f"update: {uuid} was replaced although it was not there")
        self._end("update", uuid, write, Done.YES if done else Done.NO, done)
        if not done:
            self.read("update, without effect", uuid, None, write.start)

    async def _delete(self, random: Random) -> None:
        uuid = self.commands.uuid(random)
        write = self.history.begin(uuid, None)
        try:
            done = await self.store.delete(uuid)
        except BaseException:
            self._unknown("delete", uuid, write)
            raise
        if done and not self.history.could_replace(uuid, write):
            self._break(f"delete: {uuid} was removed although it was not there")
        self._end("delete", uuid, write, Done.YES if done else Done.NO, done)
        if not done:
            self.read("delete, without effect", uuid, None, write.start)

    # Registers: counters, each swap of which adds one

    async def _swap(self, random: Random) -> None:
        name = f"storm {random.randrange(3)}"
        found = await self._register(random, name)
        expected = found.token if found else None
        token = secrets.token_hex(8)
        count = int(found.value) + 1 if found else 1
        write = self.swaps.begin(name, token)
        try:
            done = await self.store.backend.register_swap(name, b"%d" % count, expected=expected, token=token)
        except BaseException:
            self.swaps.end(write, Done.PERHAPS)
            self.swaps.answered("swap", name, (expected, token), UNKNOWN, write.start, write.end)
            raise
        self.swaps.end(write, Done.YES if done else Done.NO)
        self.swaps.answered("swap", name, (expected, token), done, write.start, write.end)
        if done:
            with self._lock:
                if (name, expected) in self._expected:
                    self._break(f"register_swap: two were done in the place of one token of {name!r}")
                self._expected[name, expected] = token

    async def _register(self, random: Random, name: str | None = None) -> Register | None:
        name, start = name or f"storm {random.randrange(3)}", self.swaps.now()
        found = await self.store.backend.register_get(name)
        self.register(name, found.token if found else None, start)
        return found

    def register(self, name: str, token: str | None, start: float) -> None:
        """Look at what was read from a register."""
        end = self.swaps.now()
        self.swaps.answered("get", name, None, token, start, end)
        if wrong := self.swaps.wrong(name, token, start, end):
            self._break(f"register_get: {name!r}: {wrong}")

    def swapped(self, name: str) -> tuple[int, int]:
        """How often a register was swapped, at least and at most."""
        fates = self.swaps.fates(name)
        return fates[Done.YES], fates[Done.YES] + fates[Done.PERHAPS]

    # The rest

    async def _open(self, random: Random) -> None:
        store = await self._another()
        try:
            await store.get(self.commands.uuid(random))
        finally:
            await store.close()

    async def _sync(self, random: Random) -> None:
        if not self._syncing.acquire(blocking=False):
            return
        try:
            await self.sync(random)
        finally:
            self._syncing.release()

    async def sync(self, random: Random, more: int = 15) -> None:
        """New commands in the source, and a sync of it into the store."""
        for _ in range(more):
            self._made += 1
            uuid = f"sync-{self._made}"
            self._unsettled[uuid] = version = self.commands.make(uuid, random, at=1_000 + self._made)
            await self.source.create(self.commands.of(version))
        writes = {uuid: self.history.begin(uuid, version) for uuid, version in self._unsettled.items()}
        done = Done.PERHAPS
        try:
            report = await Sync(self.source, self.store, Settings(batch_size=20)).run()
            if not report.complete or report.failed or report.conflicts:
                self._break(f"sync: {report}")
            done = Done.YES
            self._unsettled.clear()
        finally:
            for uuid, write in writes.items():
                self._end("create", uuid, write, done, UNKNOWN)

    async def _upkeep(self, random: Random) -> None:
        if Capability.MAINTENANCE not in self.store.backend.capabilities:
            return
        if random.random() < 0.5:
            await self.upkeep("compact")
        else:
            await self.upkeep("gc", grace=86_400.0)

    async def upkeep(self, what: str, **options: Any) -> None:
        """Compact, or remove garbage; a backend may have only one of the two."""
        try:
            await getattr(self.store, what)(**options)
        except NotImplementedError:
            return


_ENOUGH = 10


def _short(command: Command) -> str:
    text = repr(command)
    return text if len(text) < 300 else f"{text[:300]}..."
