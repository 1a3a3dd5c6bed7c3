"""What a writer has written and not yet recorded: collects leaves, and appends them to the ledger in large entries."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Mapping
from functools import partial

from commandstore.codec import Record
from commandstore.command import INT64_MAX, Position
from commandstore.ledger.entry import Kind
from commandstore.ledger.leaves import Leaf, Op, stored_digest
from commandstore.ledger.log import MAX_LEAVES, Ledger

__all__ = ["Journal"]


class Journal:
    """The leaves of one writer, which may write from several threads.

    Args:
        ledger: what they are recorded in.
        fresh: the digests of plain records are of the very fields that are stored.
        careful: what was created is looked up in the ledger too. Needed where it may know a command that the store
            lost: that is the same one again, and not a second.
    """

    def __init__(self, ledger: Ledger, *, fresh: bool = True, careful: bool = False) -> None:
        self._ledger = ledger
        self._fresh = fresh
        self._careful = careful
        self._lock = threading.Lock()
        # Batches of what was created, each with the newest entry that was known before it was.
        self._created: deque[tuple[list[Leaf], int]] = deque()
        # What is there, or may be: with its digest where it counts only as that.
        self._found: deque[tuple[Position, bytes | None]] = deque()
        self._count = 0
        # The entries made here, and what they say was found.
        self._own: dict[int, set[str]] = {}

    @property
    def since(self) -> int:
        """To be asked for before records are written, and handed to :meth:`created`."""
        return self._ledger.newest

    def created(self, stored: Iterable[Record], since: int) -> None:
        """Note records that were written, as they are stored."""
        leaves = [
            Leaf(Op.CREATE, record.command_uuid, stored_digest(record, fresh=self._fresh), record.created_at)
            for record in stored
        ]
        if leaves:
            with self._lock:
                self._created.append((leaves, since))
                self._count += len(leaves)

    def found(self, there: Iterable[Record]) -> None:
        """Note records that were there already: written by a run that was killed before it recorded them, perhaps."""
        positions = [(record.position, None) for record in there]
        with self._lock:
            self._found.extend(positions)

    def perhaps(self, stored: Iterable[Record]) -> None:
        """Note records that may have been written, as nobody knows; what is there and is another one stays unsaid."""
        positions = [(record.position, stored_digest(record, fresh=self._fresh)) for record in stored]
        with self._lock:
            self._found.extend(positions)

    def take_over(self, other: Journal) -> None:
        """Note what another journal of this ledger did not come to record."""
        leaves, since, positions = other._taken(INT64_MAX)
        with self._lock:
            if leaves:
                self._created.appendleft((leaves, since))
                self._count += len(leaves)
            self._found.extend(positions)

    @property
    def waiting(self) -> bool:
        """Whether anything is noted that is not recorded."""
        return bool(self._count or self._found)

    @property
    def full(self) -> bool:
        """Whether there is enough for an entry."""
        return self._count >= MAX_LEAVES or len(self._found) >= MAX_LEAVES

    async def record(self, kind: Kind, at_most: int = INT64_MAX) -> None:
        """Append entries for all that was noted.

        Args:
            kind: of the entries.
            at_most: only for so many of those created, and of those found; so that entries are full ones while more
                is to come.

        Raises:
            CommandStoreError: it can't be recorded; it is still noted.
        """
        leaves, since, positions = self._taken(at_most)
        try:
            await self._record(kind, leaves, since, positions)
        except BaseException:
            # Whatever stops it. What was recorded of it all the same is left out the next time.
            with self._lock:
                if leaves:
                    self._created.appendleft((leaves, since))
                    self._count += len(leaves)
                self._found.extendleft(reversed(positions))
            raise

    async def _record(
        self, kind: Kind, leaves: list[Leaf], since: int, positions: list[tuple[Position, bytes | None]]
    ) -> None:
        # A uuid may come twice: what was just created needs no finding.
        created = {leaf.command_uuid for leaf in leaves} if positions else set()
        positions = [item for item in positions if item[0].command_uuid not in created]
        # That it is there counts more than that it may be.
        wanted = dict(sorted(positions, key=lambda item: item[1] is None))
        asked = [*wanted, *(Position(leaf.created_at, leaf.command_uuid) for leaf in leaves if self._careful)]
        found: list[Leaf] = []
        if asked:
            live = await self._ledger.live(asked)
            if self._careful:
                leaves = [leaf for leaf in map(partial(_again, live), leaves) if leaf is not None]
            there = await self._ledger.as_stored([p.command_uuid for p in wanted if p.command_uuid not in live])
            digests = {position.command_uuid: digest for position, digest in wanted.items()}
            found = [leaf for leaf in there if digests[leaf.command_uuid] in {None, leaf.digest}]
        if leaves or found:
            since = min(since, self._ledger.newest)
            self._own = {number: uuids for number, uuids in self._own.items() if number > since}
            made = await self._ledger.append(kind, [*leaves, *found], since=since, own=self._own)
            self._own |= {entry.sequence: {leaf.command_uuid for leaf in found} for entry in made}

    def _taken(self, at_most: int) -> tuple[list[Leaf], int, list[tuple[Position, bytes | None]]]:
        leaves: list[Leaf] = []
        since = INT64_MAX
        with self._lock:
            while self._created and (room := at_most - len(leaves)) > 0:
                batch, known = self._created.popleft()
                if len(batch) > room:
                    self._created.appendleft((batch[room:], known))
                leaves += batch[:room]
                since = min(since, known)
            self._count -= len(leaves)
            positions = [self._found.popleft() for _ in range(min(len(self._found), at_most))]
        return leaves, since, positions


def _again(live: Mapping[str, bytes], leaf: Leaf) -> Leaf | None:
    """What to record of a command that was created: nothing where the ledger says just that of it already."""
    known = live.get(leaf.command_uuid)
    if known is None:
        return leaf
    return None if known == leaf.digest else leaf._replace(op=Op.UPDATE)
