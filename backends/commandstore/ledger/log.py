"""The ledger in a store: entries by their number, each in a register that is made once and never swapped.

That is the lock. Whoever makes the register of the next number has appended; whoever finds it made was overtaken, reads
what came, and tries the number after it. So there is one entry of each number, whoever writes, and whoever is killed.
Bodies come first, under the root of their leaves: an entry never speaks of something that is not there.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from operator import itemgetter
from types import MappingProxyType

import orjson

from commandstore.codec import Record
from commandstore.command import Position
from commandstore.contract import Backend
from commandstore.drive import Drive
from commandstore.errors import CommandStoreError, ConfigurationError, CorruptRecord, LedgerError
from commandstore.ledger.entry import Entry, Kind, sign, state
from commandstore.ledger.leaves import MAX_LEAVES, Leaf, Op, leaf_of, pack
from commandstore.ledger.lookup import Lookup
from commandstore.ledger.reading import AT_ONCE, HEAD, LedgerReader, body_name, entry_name, unreadable
from commandstore.ledger.signing import Signer, Verifier

__all__ = ["MAX_LEAVES", "Ledger"]

_POSITION = itemgetter(Leaf._fields.index("created_at"), Leaf._fields.index("command_uuid"))
_WHOLE = 20
_IN_FLIGHT = 60 * 10**9
"""For so long, in nanoseconds, a deletion that was recorded may still be about to be done."""
_MOST_BACK = 64
"""How many entries are looked at for such deletions: a writer that records each command makes many a minute."""
_CHANGES: frozenset[str] = frozenset({"update", "delete", "repair"})
# How many commands more there are after each.
_EFFECT = {int(Op.CREATE): 1, int(Op.UPDATE): 0, int(Op.DELETE): -1}


class Ledger(LedgerReader):
    """The ledger of one store.

    Args:
        backend: the store's.
        drive: the store's.
        signer: signs what is appended; None only looks commands up.
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
        super().__init__(backend, drive)
        self._signer = signer
        self._now = now
        self._lock = drive.lock()
        self._tip: Entry | None = None
        self._begun = self._vouched = False
        # The entries of late that may speak of deletions, by number, and when they were made.
        self._changes: dict[int, int] = {}
        self._lookup = Lookup(self)

    @property
    def newest(self) -> int:
        """The number of the newest entry that is known, once :meth:`begin` was called; 0 for none."""
        return self._tip.sequence if self._tip is not None else 0

    async def begin(self) -> None:
        """Know the newest entry from here on. To be called before anything is written that is to be recorded.

        Another writer may find it unrecorded, and record it. Who knows where the ledger ended before it wrote meets
        that entry when it appends, and leaves out what is in it.
        """
        async with self._lock:
            if self._begun:
                await self._follow()
            else:
                self._tip = await self.head()
                await self._look_back()
                self._begun = True
            oldest = self._now() - _IN_FLIGHT
            self._changes = {number: time for number, time in self._changes.items() if time >= oldest}

    async def live(self, positions: Iterable[Position]) -> dict[str, bytes]:
        """Of these commands, those that the ledger knows and has not seen deleted: uuid to digest, as last recorded."""
        await self.begin()
        async with self._lock:
            told = await self._lookup.last_words(positions, self.newest)
        return {uuid: leaf.digest for uuid, leaf in told.items() if leaf.op != Op.DELETE}

    async def words(
        self, command_uuids: Collection[str], since: int, *, without: Collection[int] = ()
    ) -> list[tuple[int, Leaf]]:
        """What entries after a number say of these commands, in order: the entry's number and the leaf.

        As far as :attr:`newest`. An entry that can't be read says nothing; those of ``without`` are not read.
        """
        found: list[tuple[int, Leaf]] = []
        for number in range(since + 1, self.newest + 1):
            leaves = [] if number in without else await self.readable_leaves(number)
            found += [(number, leaf) for leaf in leaves if leaf.command_uuid in command_uuids]
        return found

    async def as_stored(self, command_uuids: Sequence[str]) -> list[Leaf]:
        """Leaves of these commands as the store holds them now; none of one that is not there, or can't be read."""
        leaves: list[Leaf] = []
        for start in range(0, len(command_uuids), _WHOLE):
            found = await self.backend.fetch(command_uuids[start : start + _WHOLE])
            leaves += [leaf_of(Op.CREATE, record) for record in found.values() if isinstance(record, Record)]
        return leaves

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
            leaves: of commands that are durable. Of those created, what another writer recorded since is left out;
                where its last word is that it was deleted, what the store holds now is recorded.
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
        since = self.newest if since is None else since
        async with self._lock:
            waiting = sorted(await self._new(leaves, since, own), key=_POSITION)
            if waiting:
                await self._vouch()
            contested = await self._contested(waiting)
            watched = dict(contested)
            while waiting:
                appended = await self._append(kind, _with(contested, waiting[:MAX_LEAVES]))
                if appended is None:  # another writer was quicker
                    known = self.newest
                    await self._follow()
                    waiting = sorted(await self._new(waiting, known, {}), key=_POSITION)
                    contested = await self._contested(waiting)
                    watched |= contested
                    continue
                made.append(appended)
                waiting = waiting[MAX_LEAVES:]
            if made:
                with suppress(CommandStoreError):  # only a hint, and what it is for is done
                    await self._point_to(made[-1].sequence)
        for leaf in watched.values():
            await self.look_after(kind, leaf, since, done=False)
        return made

    async def _contested(self, leaves: Sequence[Leaf]) -> dict[str, Leaf]:
        """Those created that an entry of late says were deleted, as they are to be recorded.

        A deletion is recorded before it is done, so it may be done only now, and to what was created since. Where the
        last word is another one than the deletion, what was created is recorded as an update, in place.
        """
        created = {leaf.command_uuid: leaf for leaf in leaves if leaf.op == Op.CREATE} if self._changes else {}
        deleted: dict[str, int] = {}
        for number in self._changes if created else ():
            for uuid, leaf in (await self._lookup.leaves(number)).items():
                if leaf.op == Op.DELETE and uuid in created:
                    deleted[uuid] = min(number, deleted.get(uuid, number))
        if not deleted:
            return {}
        last = {leaf.command_uuid: leaf.op for _, leaf in await self.words(deleted, min(deleted.values()) - 1)}
        return {
            uuid: created[uuid] if last.get(uuid) == Op.DELETE else created[uuid]._replace(op=Op.UPDATE)
            for uuid in deleted
        }

    async def _new(self, leaves: Sequence[Leaf], since: int, own: Mapping[int, Collection[str]]) -> list[Leaf]:
        """What is to be recorded of these, after what entries since then say of them."""
        created = {leaf.command_uuid for leaf in leaves if leaf.op == Op.CREATE}
        said = {uuid: Op.CREATE for number, uuids in own.items() if number > since for uuid in uuids}
        if created:
            words = await self.words(created, since, without=own.keys())
            said |= {leaf.command_uuid: Op(leaf.op) for _, leaf in words}
        # Deleted before this writer created it, or after it did and another found and recorded it: the store tells.
        doubtful = [uuid for uuid in created if said.get(uuid) == Op.DELETE]
        new = [leaf for leaf in leaves if leaf.op != Op.CREATE or leaf.command_uuid not in said]
        return [*new, *await self.as_stored(doubtful)] if doubtful else new

    async def _vouch(self) -> None:
        """Look whether the newest entry is what it was, before one is chained to it.

        Raises:
            LedgerError: it isn't, or it bears this signer's name and not its signature.
        """
        tip = self._tip
        if tip is None:
            return
        there = await self._entry(tip.sequence)
        if there is None or there.hash != tip.hash:
            raise LedgerError(
                f"entry {tip.sequence} of the ledger is not what it was a moment ago: the store was reset, or somebody "
                "cut or rewrote its ledger. Nothing was recorded; open the store again, and audit it",
                sequence=tip.sequence,
            )
        if not self._vouched and self._signer is not None and tip.key_id == self._signer.key_id:
            wrong = Verifier([self._signer.public_key()]).check(tip)
            if wrong is not None:
                raise LedgerError(
                    f"entry {tip.sequence} of the ledger does not fit the key that signs: {wrong}. Nothing was "
                    "recorded; audit the store",
                    sequence=tip.sequence,
                )
        self._vouched = True

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
        jobs = [partial(self._put, body_name(signed.root, part), body) for part, body in enumerate(bodies)]
        await self._drive.gather(jobs, AT_ONCE)
        if not await self._put(entry_name(signed.sequence), orjson.dumps(signed.to_json())):
            return None
        self._met(signed)
        return signed

    async def _point_to(self, sequence: int) -> None:
        """Make the head name at least this number, or let another writer do so."""
        found = await self.backend.register_get(HEAD)
        try:
            if found is not None and await self.hint() >= sequence:
                return
        except LedgerError:
            pass
        value = orjson.dumps({"version": 1, "sequence": sequence})
        token = secrets.token_hex(8)
        await self.backend.register_swap(HEAD, value, expected=found.token if found else None, token=token)

    async def _put(self, name: str, value: bytes) -> bool:
        try:
            return await self.backend.register_swap(name, value, expected=None, token=secrets.token_hex(8))
        except CorruptRecord as error:
            raise LedgerError(f"the ledger can't be appended to: {unreadable(error)}") from error

    # Updates and deletions

    async def announce(self, kind: Kind, stored: Record | CommandStoreError, leaf: Leaf) -> int:
        """Record what is about to be done to a command.

        Args:
            kind: of the entry.
            stored: the command as it is stored now. Where no entry knows it, as of a batch that is not recorded yet, it
                is recorded first: or its creation would come behind this.
            leaf: what is about to be done.

        Returns:
            The number of the entry.
        """
        since = self.newest
        if isinstance(stored, Record) and stored.command_uuid not in await self.live([stored.position]):
            await self.append(kind, [leaf_of(Op.CREATE, stored)], since=since)
        [entry] = await self.append(kind, [leaf])
        return entry.sequence

    async def look_after(self, kind: Kind, announced: Leaf, since: int, *, done: bool) -> None:
        """See that the last word of a command is what the store holds, after it was changed.

        Several may change one command at once, and the order of their entries need not be that of what they did. So
        each looks afterwards whether another entry speaks of its command; then what the store holds is recorded.
        Whoever comes last sees all others.

        Args:
            kind: of what is recorded here.
            announced: what was to be done.
            since: the number of the entry that says so, or of one before it.
            done: whether it was, and nobody else can have undone it unseen: then the store is only asked where another
                entry speaks of the command.
        """
        uuid = announced.command_uuid
        said, own = announced, {since}
        while True:
            await self.begin()
            newest = self.newest
            words = await self.words({uuid}, since)
            if done and all(number in own for number, _ in words):
                return
            if words:
                said = words[-1][1]
            stored = (await self.backend.fetch([uuid])).get(uuid)
            if isinstance(stored, CommandStoreError):
                return  # what can't be read can't be recorded; an audit names it
            if stored is None:
                said_so, now = said.op == Op.DELETE, announced._replace(op=Op.DELETE)
            else:
                now = leaf_of(Op.UPDATE, stored)
                said_so = said.op != Op.DELETE and said.digest == now.digest
            if said_so:
                return
            [entry] = await self.append(kind, [now])
            # Once more: what was about to be done may have been done between the look and the entry.
            said, since, done = now, newest, False
            own.add(entry.sequence)

    # Where it ends

    async def _follow(self) -> None:
        """Read what came after the newest entry that is known."""
        while (after := await self._entry(self.newest + 1)) is not None:
            self._met(after)

    def _met(self, entry: Entry) -> None:
        self._tip = entry
        if entry.kind in _CHANGES:
            self._changes[entry.sequence] = entry.time

    async def _look_back(self) -> None:
        """Find the changes of late."""
        oldest, low = self._now() - _IN_FLIGHT, self.newest + 1
        last = max(1, low - _MOST_BACK)
        while low > last and self._tip is not None and self._tip.time >= oldest:
            numbers = range(max(last, low - AT_ONCE), low)
            entries = await self.readable_entries(numbers)
            self._changes |= {entry.sequence: entry.time for entry in entries if entry.kind in _CHANGES}
            low = numbers[0]
            if entries and entries[0].time < oldest:
                return


def _with(contested: Mapping[str, Leaf], leaves: Sequence[Leaf]) -> Sequence[Leaf]:
    if not contested:
        return leaves
    return [contested.get(leaf.command_uuid, leaf) if leaf.op == Op.CREATE else leaf for leaf in leaves]
