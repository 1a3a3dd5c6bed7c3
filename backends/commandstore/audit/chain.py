"""Reading the ledger as an auditor does: nothing in it is believed before it is checked, and nothing stops at damage.

Entries are read from their registers one by one, and not by ``Ledger.read``, which is for those who may trust it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

import orjson

from commandstore.audit.book import Book
from commandstore.audit.checkpoint import AuditCheckpoint
from commandstore.audit.report import Change, Tally
from commandstore.core import StoreCore
from commandstore.errors import CorruptRecord, LedgerError
from commandstore.ledger.entry import FIRST_PREVIOUS, Entry
from commandstore.ledger.leaves import Leaf, Op, hashes_of
from commandstore.ledger.log import Ledger
from commandstore.ledger.merkle import root_of
from commandstore.ledger.reading import entry_name, unreadable
from commandstore.ledger.signing import Verifier

__all__ = ["Chain"]

_AT_ONCE = 16
# How far beyond a missing entry others are looked for: whoever writes a huge number into the head must not keep an
# audit busy for ever.
_GAP = 1000
_COUNTED = {int(Op.CREATE): 1, int(Op.UPDATE): 0, int(Op.DELETE): -1}
_NAMES = {int(Op.UPDATE): "update", int(Op.DELETE): "delete"}


@dataclass(slots=True)
class _Reached:
    """How far the chain was followed; ``hash`` and ``commands`` are None behind what can't be believed."""

    sequence: int = 0
    hash: str | None = FIRST_PREVIOUS
    commands: int | None = 0


class Chain:
    """Follows the ledger from entry to entry.

    Args:
        core: the store's.
        verifier: of the signatures; None: they are not looked at.
        book: gets what the entries say.
        tally: gets what does not fit.
        checkpoint: what must be found again.
    """

    def __init__(
        self,
        core: StoreCore,
        verifier: Verifier | None,
        book: Book,
        tally: Tally,
        checkpoint: AuditCheckpoint | None = None,
    ) -> None:
        self._core = core
        self._ledger = Ledger(core.backend, core.drive)
        self._verifier = verifier
        self._book = book
        self._tally = tally
        self._checkpoint = checkpoint
        self._at = _Reached()
        self._ended: int | None = None  # where entries are missing at the end; said once
        self._head_said = False
        self.head: Entry | None = None
        """The last entry that fits."""
        self.last: Entry | None = None
        """The last entry in its place, whether it fits or not."""

    async def start_after_checkpoint(self) -> bool:
        """Go on after the checkpoint, where the store has its very entry; else from the beginning (False)."""
        known = self._checkpoint
        if known is None:
            return False
        found = await self._read(known.sequence)
        if not isinstance(found, Entry) or found.sequence != known.sequence or found.hash.hex() != known.hash:
            return False
        self._at = _Reached(known.sequence, known.hash, found.commands)
        self._tally.report.head = known.sequence
        self.head = self.last = found
        return True

    async def advance(self) -> int:
        """Read on to the end of the ledger.

        Returns:
            How many entries came.
        """
        upper = max(await self._hint(), self._checkpoint.sequence if self._checkpoint else 0)
        came = 0
        while True:
            first = self._at.sequence + 1
            # Many at once up to where the ledger should reach, and then one by one: there is hardly ever one more.
            numbers = range(first, max(first, min(first + _AT_ONCE - 1, upper)) + 1)
            for number, found in zip(numbers, await self._read_some(numbers), strict=True):
                if found is None:
                    if number > upper or not await self._jump(number, upper):
                        return came
                    break
                await self._look_at(number, found)
                came += 1
                self._tally.tell()

    async def _hint(self) -> int:
        try:
            return await self._ledger.hint()
        except LedgerError as error:
            if not self._head_said:
                self._head_said = True
                self._tally.entry(self._at.sequence + 1, f"{error}; where the ledger ended is not known")
            return 0

    async def _read_some(self, numbers: Sequence[int]) -> list[Entry | LedgerError | None]:
        return await self._core.drive.gather([partial(self._read, number) for number in numbers], _AT_ONCE)

    async def _read(self, number: int) -> Entry | LedgerError | None:
        try:
            found = await self._core.backend.register_get(entry_name(number))
        except CorruptRecord as error:
            return LedgerError(unreadable(error), sequence=number)
        if found is None:
            return None
        try:
            entry = Entry.from_json(found.value)
        except LedgerError as error:
            return error
        # One signature has several spellings in base64, and a field may stand twice.
        if found.value != orjson.dumps(entry.to_json()):
            return LedgerError("it is not spelled as a writer does", sequence=number)
        return entry

    async def _jump(self, missing: int, upper: int) -> bool:
        """Name what is missing, and go on behind it; False where there is nothing behind it."""
        if self._ended == missing:
            return False
        last = min(upper, missing + _GAP)
        numbers = iter(range(missing + 1, last + 1))
        while some := list(islice(numbers, _AT_ONCE)):
            for number, found in zip(some, await self._read_some(some), strict=True):
                if found is not None:
                    gone = f"entries {missing} to {number - 1} are" if number - missing > 1 else f"entry {missing} is"
                    self._tally.entry(missing, f"{gone} missing: removed, or moved elsewhere")
                    self._at = _Reached(number - 1, None, None)
                    return True
        self._ended = missing
        known = self._checkpoint
        if known is not None and missing <= known.sequence:
            reason = (
                f"the ledger ends before this entry, and the checkpoint knows entry {known.sequence}: it was "
                "truncated, or replaced by an older copy"
            )
        else:
            reason = f"the ledger ends before this entry, and its head names entry {upper}: it was truncated"
        self._tally.entry(missing, reason)
        return False

    # One entry

    async def _look_at(self, number: int, found: Entry | LedgerError) -> None:
        report = self._tally.report
        report.entries += 1
        report.head = number
        if isinstance(found, LedgerError):
            self._tally.entry(number, str(found))
            self._at = _Reached(number, None, None)
            return
        if found.sequence == number:
            self.last = found
        forged = self._verifier.check(found) if self._verifier is not None else None
        leaves, broken = await self._leaves(found)
        # Its leaves are what the signer stated also where it lies in a wrong place, or where another is missing.
        believed = forged is None and broken is None
        await self._core.drive.call(self._book.record, found.sequence, leaves, believed=believed)
        reason = self._misfit(number, found, forged) or broken
        if reason is None:
            reason = self._miscounted(found, leaves)
        if reason is not None:
            self._tally.entry(number, reason)
        else:
            self.head = found
        fits_here = forged is None and found.sequence == number
        self._at = _Reached(number, found.hash.hex() if fits_here else None, found.commands if fits_here else None)
        if believed:
            self._count(found, leaves)

    def _misfit(self, number: int, entry: Entry, forged: str | None) -> str | None:
        known = self._checkpoint
        if entry.sequence != number:
            return f"in its place is entry {entry.sequence}"
        if forged is not None:
            return forged
        if self._at.hash is not None and entry.previous != self._at.hash:
            return f"it does not follow entry {number - 1} that is there: the ledger was forked, or that one replaced"
        if known is not None and number == known.sequence and entry.hash.hex() != known.hash:
            return "it is not the entry that the checkpoint knows: the ledger was replaced from here or from earlier on"
        return None

    async def _leaves(self, entry: Entry) -> tuple[list[Leaf], str | None]:
        """The leaves, and what is wrong with them."""
        try:
            leaves = await self._ledger.leaves(entry)
            hashes = await self._core.drive.call(hashes_of, leaves)
        except LedgerError as error:
            return [], str(error)
        if len(leaves) != entry.count or root_of(hashes).hex() != entry.root:
            return leaves, "its leaves are not those under its root"
        positions = [(leaf.created_at, leaf.command_uuid) for leaf in leaves]
        if (min(positions), max(positions)) != (entry.first, entry.last):
            return leaves, "its first and last command are not those of its leaves"
        return leaves, None

    def _miscounted(self, entry: Entry, leaves: Sequence[Leaf]) -> str | None:
        if self._at.commands is None:
            return None
        expected = max(0, self._at.commands + sum(_COUNTED[leaf.op] for leaf in leaves))
        if entry.commands == expected:
            return None
        return f"it counts {entry.commands:,} commands after it; by its leaves and the entry before, it is {expected:,}"

    def _count(self, entry: Entry, leaves: Sequence[Leaf]) -> None:
        report = self._tally.report
        for leaf in leaves:
            if leaf.op == Op.CREATE:
                report.created += 1
                continue
            if leaf.op == Op.UPDATE:
                report.updated += 1
            else:
                report.deleted += 1
            self._tally.change(Change(_NAMES[leaf.op], leaf.command_uuid, entry.sequence, entry.time))
