"""What the ledger said of commands before a checkpoint, as far as it can be believed without the chain up to there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from commandstore.command import Position
from commandstore.core import StoreCore
from commandstore.ledger.entry import Entry
from commandstore.ledger.leaves import Leaf, Op, hashes_of
from commandstore.ledger.lookup import Lookup
from commandstore.ledger.merkle import root_of
from commandstore.ledger.reading import LedgerReader
from commandstore.ledger.signing import Verifier

__all__ = ["uncounted"]


class _Signed(LedgerReader):
    """Reads entries that are signed, and leaves that are theirs; the rest says nothing."""

    def __init__(self, core: StoreCore, verifier: Verifier) -> None:
        super().__init__(core.backend, core.drive)
        self._verifier = verifier

    async def readable_entries(self, numbers: Sequence[int]) -> list[Entry]:
        found = await super().readable_entries(numbers)
        return [entry for entry in found if self._verifier.check(entry) is None]

    async def readable_leaves(self, number: int) -> list[Leaf]:
        leaves = await super().readable_leaves(number)
        roots = [entry.root for entry in await self.readable_entries([number])]
        return leaves if roots == [root_of(hashes_of(leaves)).hex()] else []


async def uncounted(core: StoreCore, verifier: Verifier, sequence: int, first: Mapping[str, Leaf]) -> int:
    """How many commands more there are than the entries after a checkpoint seem to say.

    Read by themselves, they take what is created for new, and what is updated or deleted for there. Of several writers
    at once, one may have recorded a deletion of what another had deleted, on the other side of the checkpoint.

    Args:
        core: the store's.
        verifier: of signatures.
        sequence: of the checkpoint.
        first: what is first said of each command after it, by uuid.
    """
    positions = [Position(leaf.created_at, uuid) for uuid, leaf in first.items()]
    before = await Lookup(_Signed(core, verifier)).last_words(positions, sequence)
    more = 0
    for uuid, leaf in before.items():
        was_there, new = leaf.op != Op.DELETE, first[uuid]
        if new.op != Op.CREATE:
            more += not was_there
        elif new.digest == leaf.digest:  # another one was not created while it was there; that stays unexplained
            more -= was_there
    return more
