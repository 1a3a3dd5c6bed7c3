"""What a ledger says of some commands: found from the newest entry back, with little read and less kept."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Mapping

from commandstore.command import Position
from commandstore.ledger.leaves import Leaf
from commandstore.ledger.reading import LedgerReader

__all__ = ["Lookup"]

_BODIES_KEPT = 4
_HEADS_AT_ONCE = 256
_Range = tuple[Position, Position, int]
"""The smallest and the largest position of an entry, and its number."""


class Lookup:
    """Looks commands up. One caller at a time.

    Args:
        reader: of the ledger.
    """

    def __init__(self, reader: LedgerReader) -> None:
        self._reader = reader
        # The ranges of entries, as far as somebody asked: of those that came since, and, newest first, of those before.
        self._newer: list[_Range] = []
        self._older: list[_Range] = []
        self._low = self._high = 0
        self._bodies: OrderedDict[int, Mapping[str, Leaf]] = OrderedDict()

    async def last_words(self, positions: Iterable[Position], newest: int) -> dict[str, Leaf]:
        """The newest leaf of each of these commands that has one, up to an entry's number.

        Reads the leaves of those entries within whose range one of the positions lies, until all are met. An entry that
        can't be read says nothing.
        """
        wanted = sorted(set(positions))
        told: dict[str, Leaf] = {}
        await self._load_newer(newest)
        at = 0
        while len(told) < len(wanted) and (at < len(self._newer) + len(self._older) or await self._load_older()):
            newer = len(self._newer)
            first, last, number = self._newer[-1 - at] if at < newer else self._older[at - newer]
            at += 1
            inside = wanted[bisect_left(wanted, first) : bisect_right(wanted, last)]
            if any(p.command_uuid not in told for p in inside):
                leaves = await self.leaves(number)
                told = {p.command_uuid: leaves[p.command_uuid] for p in inside if p.command_uuid in leaves} | told
        return told

    async def _load_newer(self, newest: int) -> None:
        if not self._high:
            self._low, self._high = newest + 1, newest
        self._newer += await self._ranges(range(self._high + 1, newest + 1))
        self._high = newest

    async def _load_older(self) -> bool:
        """Load the ranges of more entries before; False where there are none."""
        while self._low > 1:
            low = max(1, self._low - _HEADS_AT_ONCE)
            ranges = await self._ranges(range(low, self._low))
            self._low = low
            if ranges:
                self._older += ranges[::-1]
                return True
        return False

    async def _ranges(self, numbers: range) -> list[_Range]:
        found = await self._reader.readable_entries(numbers)
        return [(entry.first, entry.last, entry.sequence) for entry in found]

    async def leaves(self, number: int) -> Mapping[str, Leaf]:
        """The last leaf of each command that an entry speaks of, by uuid."""
        kept = self._bodies.get(number)
        if kept is None:
            kept = {leaf.command_uuid: leaf for leaf in await self._reader.readable_leaves(number)}
            self._bodies[number] = kept
            while len(self._bodies) > _BODIES_KEPT:
                self._bodies.popitem(last=False)
        else:
            self._bodies.move_to_end(number)
        return kept
