"""The ledger in a store: entries by their number, each in a register that is made once and never swapped.

That is the lock. Whoever makes the register of the next number has appended; whoever finds it made was overtaken, reads
what came, and tries the number after it. So there is one entry of each number, whoever writes, and whoever is killed.
Bodies come first, under the root of their leaves: an entry never speaks of something that is not there.
"""

from __future__ import annotations

import secrets
import time
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from operator import itemgetter
from types import MappingProxyType

import orjson

from commandstore.command import Position
from commandstore.contract import Backend
from commandstore.drive import Drive
from commandstore.errors import CommandStoreError, ConfigurationError, LedgerError
from commandstore.ledger.entry import Entry, Kind, sign, state
from commandstore.ledger.leaves import Leaf, Op, pack, unpack
from commandstore.ledger.signing import Signer

__all__ = ["MAX_LEAVES", "Ledger"]

MAX_LEAVES = 10_000
"""How many leaves an entry has at most: about 700 KB of bodies."""

_HEAD = "ledger/head"
_AT_ONCE = 16
_POSITION = itemgetter(Leaf._fields.index("created_at"), Leaf._fields.index("command_uuid"))
_BODIES_KEPT = 4
# How many commands more there are after each.
_EFFECT = {int(Op.CREATE): 1, int(Op.UPDATE): 0, int(Op.DELETE): -1}


class Ledger:
    """The ledger of one store.

    Args:
        backend: the store's.
        drive: the store's.
        signer: signs what is appended; None only reads.
        now: the clock, in nanoseconds since 1970.
    """

    def __init__(
        self,
        backend: Backend,
        drive: Drive,
        signer: Signer | None = None,
        *,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self.backend = backend
        self._drive = drive
        self._signer = signer
        self._now = now
        self._lock = drive.lock()
        self._tip: Entry | None = None
        self._begun = False
        self._ranges: list[tuple[Position, Position, Entry]] = []  # of all entries up to the tip, once asked for
        self._known_to = 0  # how far these go
        self._bodies: OrderedDict[int, dict[str, Leaf]] = OrderedDict()

    # Reading

    @property
    def newest(self) -> int:
        """The number of the newest entry that is known, once :meth:`begin` was called; 0 for none."""
        return self._tip.sequence if self._tip is not None else 0

    async def begun(self) -> bool:
        """Whether there is one."""
        return await self.backend.register_get(_HEAD) is not None or await self._entry(1) is not None

    async def begin(self) -> None:
        """Know the newest entry from here on. To be called before anything is written that is to be recorded.

        Another writer may find it unrecorded, and record it. Who knows where the ledger ended before it wrote meets
        that entry when it appends, and leaves out what is in it.
        """
        async with self._lock:
            if not self._begun:
                self._tip, self._begun = await self.head(), True

    async def hint(self) -> int:
        """The number that the head names: of an entry that was there once. 0 without one."""
        found = await self.backend.register_get(_HEAD)
        if found is None:
            return 0
        try:
            sequence = orjson.loads(found.value)["sequence"]
        except (ValueError, TypeError, KeyError) as error:
            raise LedgerError("the head of the ledger can't be read") from error
        if not isinstance(sequence, int) or sequence < 0:
            raise LedgerError("the head of the ledger names no entry")
        return sequence

    async def head(self) -> Entry | None:
        """The newest entry; None where there is none. Linearizable."""
        try:
            newest = await self.hint()
        except LedgerError:
            newest = 0  # only a hint: the entries are what counts
        found = await self._entry(newest) if newest else None
        if found is None:
            newest, found = await self._search()
        while (after := await self._entry(newest + 1)) is not None:
            newest, found = newest + 1, after
        return found

    async def read(self, after: int, limit: int) -> list[Entry]:
        """The entries after a number, in order, as they are stored; fewer than ``limit`` only at the end.

        Raises:
            LedgerError: one can't be read; ``sequence`` says which.
        """
        found: list[Entry] = []
        while len(found) < limit:
            first = after + len(found) + 1
            numbers = range(first, first + min(_AT_ONCE, limit - len(found)))
            jobs = [partial(self._entry, number) for number in numbers]
            some = await self._drive.gather(jobs, _AT_ONCE)
            there = some.index(None) if None in some else len(some)
            found += [entry for entry in some[:there] if entry is not None]
            if there < len(some):
                break
        return found

    async def leaves(self, entry: Entry) -> list[Leaf]:
        """What an entry speaks of.

        Raises:
            LedgerError: some of it is missing or damaged. Whether it is what the entry's root says is not looked at.
        """
        jobs = [partial(self.backend.register_get, _body(entry.root, part)) for part in range(entry.parts)]
        parts: list[bytes] = []
        for part, found in enumerate(await self._drive.gather(jobs, _AT_ONCE)):
            if found is None:
                raise LedgerError(
                    f"entry {entry.sequence} of the ledger: part {part} of its leaves is gone", sequence=entry.sequence
                )
            parts.append(found.value)
        try:
            return unpack(parts)
        except LedgerError as error:
            raise LedgerError(f"entry {entry.sequence} of the ledger: {error}", sequence=entry.sequence) from error

    async def live(self, positions: Iterable[Position]) -> dict[str, bytes]:
        """Of these commands, those that the ledger knows and has not seen deleted: uuid to digest, as last recorded.

        Reads the entries once, and then the leaves of those within whose range one of the positions lies.
        """
        wanted = sorted(set(positions))
        newest: dict[str, Leaf] = {}
        await self.begin()
        async with self._lock:
            await self._follow()
            await self._index()
            for first, last, entry in self._ranges:
                inside = wanted[bisect_left(wanted, first) : bisect_right(wanted, last)]
                if inside:
                    told = await self._told(entry)
                    newest |= {p.command_uuid: told[p.command_uuid] for p in inside if p.command_uuid in told}
        return {uuid: leaf.digest for uuid, leaf in newest.items() if leaf.op != Op.DELETE}

    # Appending

    async def append(
        self,
        kind: Kind,
        leaves: Sequence[Leaf],
        *,
        since: int | None = None,
        own: Mapping[int, Collection[str]] = MappingProxyType({}),
    ) -> list[Entry]:
        """Append entries that speak of these, in the total order.

        Args:
            kind: what was done, for people.
            leaves: of commands that are durable. Those that another writer recorded as created are left out.
            since: the newest entry that was known (:attr:`newest`) before the first of them was written, which is when
                others can begin to find them; None where nobody else can have recorded them.
            own: entries since then that the caller made, whose leaves are others than these but for the uuids given.

        Returns:
            The entries, oldest first.

        Raises:
            ConfigurationError: there is no signer.
            LedgerError: the newest entry can't be read, so that none can be chained to it.
            CommandStoreError: the store or the signer failed; what was appended until then stays.
        """
        if self._signer is None:
            raise ConfigurationError("a ledger is appended to with a signer; open the store with one")
        made: list[Entry] = []
        await self.begin()
        async with self._lock:
            waiting = sorted(await self._new(leaves, self.newest if since is None else since, own), key=_POSITION)
            while waiting:
                appended = await self._append(kind, waiting[:MAX_LEAVES])
                if appended is None:  # another writer was quicker
                    known = self.newest
                    await self._follow()
                    waiting = await self._new(waiting, known, {})
                    continue
                made.append(appended)
                waiting = waiting[MAX_LEAVES:]
            if made:
                with suppress(CommandStoreError):  # only a hint, and what it is for is done
                    await self._point_to(made[-1].sequence)
        return made

    async def _new(self, leaves: Sequence[Leaf], since: int, own: Mapping[int, Collection[str]]) -> list[Leaf]:
        """Those that no entry after this one says were created: two may find the same ones unrecorded."""
        known: set[str] = set()
        for number in range(since + 1, self.newest + 1):
            if number in own:
                known.update(own[number])
            elif (entry := await self._entry(number)) is not None:
                known |= {leaf.command_uuid for leaf in await self.leaves(entry) if leaf.op == Op.CREATE}
        return [leaf for leaf in leaves if leaf.op != Op.CREATE or leaf.command_uuid not in known]

    async def _append(self, kind: Kind, leaves: Sequence[Leaf]) -> Entry | None:
        assert self._signer is not None  # noqa: S101 - looked at by the caller
        tip, bodies = self._tip, pack(leaves)
        more = sum(_EFFECT[leaf.op] for leaf in leaves)
        stated = state(
            leaves,
            previous=tip,
            kind=kind,
            commands=max(0, (tip.commands if tip else 0) + more),
            time=self._now(),
            parts=len(bodies),
            signer=self._signer,
        )
        signed = await self._drive.call(sign, stated, self._signer)
        jobs = [partial(self._put, _body(signed.root, part), body) for part, body in enumerate(bodies)]
        await self._drive.gather(jobs, _AT_ONCE)
        if not await self._put(_name(signed.sequence), orjson.dumps(signed.to_json())):
            return None
        self._tip = signed
        return signed

    async def _point_to(self, sequence: int) -> None:
        """Make the head name at least this number, or let another writer do so."""
        found = await self.backend.register_get(_HEAD)
        try:
            if found is not None and await self.hint() >= sequence:
                return
        except LedgerError:
            pass
        value = orjson.dumps({"version": 1, "sequence": sequence})
        token = secrets.token_hex(8)
        await self.backend.register_swap(_HEAD, value, expected=found.token if found else None, token=token)

    async def _put(self, name: str, value: bytes) -> bool:
        return await self.backend.register_swap(name, value, expected=None, token=secrets.token_hex(8))

    # Where it ends

    async def _follow(self) -> None:
        """Read what came after the newest entry that is known."""
        while (after := await self._entry(self.newest + 1)) is not None:
            self._tip = after

    async def _search(self) -> tuple[int, Entry | None]:
        """The newest entry where the head names none that is there. Their numbers have no gaps."""
        low, high, found = 0, 1, None
        while (there := await self._entry(high)) is not None:
            low, high, found = high, high * 2, there
        while high - low > 1:
            middle = (low + high) // 2
            there = await self._entry(middle)
            low, high, found = (low, middle, found) if there is None else (middle, high, there)
        return low, found

    async def _index(self) -> None:
        while self._known_to < self.newest:
            for entry in await self.read(self._known_to, min(1000, self.newest - self._known_to)):
                self._ranges.append((entry.first, entry.last, entry))
                self._known_to = entry.sequence

    async def _told(self, entry: Entry) -> dict[str, Leaf]:
        kept = self._bodies.get(entry.sequence)
        if kept is None:
            kept = {leaf.command_uuid: leaf for leaf in await self.leaves(entry)}
            self._bodies[entry.sequence] = kept
            while len(self._bodies) > _BODIES_KEPT:
                self._bodies.popitem(last=False)
        return kept

    async def _entry(self, sequence: int) -> Entry | None:
        found = await self.backend.register_get(_name(sequence))
        if found is None:
            return None
        try:
            entry = Entry.from_json(found.value)
        except LedgerError as error:
            raise LedgerError(f"entry {sequence} of the ledger: {error}", sequence=sequence) from error
        if entry.sequence != sequence:
            raise LedgerError(
                f"entry {sequence} of the ledger says that it is entry {entry.sequence}", sequence=sequence
            )
        return entry


def _name(sequence: int) -> str:
    return f"ledger/entry/{sequence:012}"


def _body(root: str, part: int) -> str:
    return f"ledger/leaves/{root}/{part}"
