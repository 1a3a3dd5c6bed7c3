"""Proofs for the rows of an export: where the ledger speaks of each command, and the path to the entry's root."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from hashlib import sha256
from itertools import islice
from typing import NamedTuple, Self

from commandstore.audit.book import Book, State
from commandstore.audit.chain import Chain
from commandstore.audit.report import AuditReport, Tally
from commandstore.codec import Record
from commandstore.core import StoreCore
from commandstore.errors import LedgerError
from commandstore.ledger.entry import Entry
from commandstore.ledger.leaves import Op, hashes_of, stored_digest
from commandstore.ledger.log import Ledger

__all__ = ["RowProof", "RowProver", "Tree"]

_AT_ONCE = 8
# Of entries with 10,000 leaves, 1.5 MB each.
_TREES_KEPT = 32


class RowProof(NamedTuple):
    """What the ledger says of a row.

    Attributes:
        sequence: of the entry.
        op: ``create`` or ``update``.
        leaf: its number in the entry's tree, from 0.
        path: the nodes beside its way to the root, the lowest first.
        digest: of the command as it was stored.
    """

    sequence: int
    op: str
    leaf: int
    path: tuple[bytes, ...]
    digest: bytes


class Tree:
    """All nodes of a Merkle tree, so that the path of each of its leaves is a few look-ups.

    Args:
        hashes: of its leaves.
    """

    def __init__(self, hashes: Sequence[bytes]) -> None:
        self._levels = [list(hashes)]
        while len(below := self._levels[-1]) > 1:
            pairs = zip(below[::2], below[1::2], strict=False)
            above = [sha256(b"\x01" + left + right).digest() for left, right in pairs]
            self._levels.append(above + below[len(above) * 2 :])

    @property
    def root(self) -> bytes:
        """Its root."""
        return self._levels[-1][0]

    def path(self, index: int) -> tuple[bytes, ...]:
        """The inclusion path of a leaf, as :func:`commandstore.ledger.merkle.path_to` has it."""
        path = []
        for level in self._levels[:-1]:
            if index ^ 1 < len(level):
                path.append(level[index ^ 1])
            index >>= 1
        return tuple(path)


class RowProver:
    """Proves rows of one store, in constant memory. Closed at the end; a context manager.

    Args:
        core: the store's.
    """

    def __init__(self, core: StoreCore) -> None:
        self._core = core
        self._ledger = Ledger(core.backend, core.drive)
        self._book = Book()
        self._tally = Tally(AuditReport(), None)
        # Signatures are looked at by whoever checks the export.
        self._chain = Chain(core, None, self._book, self._tally)
        self._trees: OrderedDict[int, Tree] = OrderedDict()
        self._used: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._book.close()

    async def start(self) -> None:
        """Read the ledger.

        Raises:
            LedgerError: there is none, or it is damaged.
        """
        await self._advance()
        if self._chain.head is None:
            raise LedgerError(f"{self._core.backend.location} has no ledger, so there are no proofs to export")

    async def _advance(self) -> int:
        came = await self._chain.advance()
        if self._tally.report.findings:
            first = self._tally.report.findings[0]
            raise LedgerError(
                f"entry {first.sequence} of the ledger does not fit: {first.reason} (see commandstore audit verify)",
                sequence=first.sequence,
            )
        return came

    async def prove(self, records: Sequence[Record]) -> list[RowProof | None]:
        """The proofs of plain records, aligned; None where the ledger doesn't know a command as it is."""
        states = await self._look_up([record.command_uuid for record in records])
        if any(record.command_uuid not in states for record in records) and await self._advance():
            states = await self._look_up([record.command_uuid for record in records])
        if self._core.options.crypto is None:  # else the ledger speaks of ciphers, which are not exported
            states = {r.command_uuid: s for r in records if (s := states.get(r.command_uuid)) and _is_of(s, r)}
        proofs = await self._proofs(states)
        return [proofs.get(record.command_uuid) for record in records]

    async def _proofs(self, states: Mapping[str, State]) -> dict[str, RowProof]:
        by_entry: dict[int, list[tuple[str, State]]] = {}
        for uuid, state in states.items():
            by_entry.setdefault(state.sequence, []).append((uuid, state))
        self._used |= by_entry.keys()
        proofs = {}
        # A few entries at a time: one may be large, and a page may touch many.
        sequences = iter(sorted(by_entry, key=self._trees.__contains__, reverse=True))
        while some := list(islice(sequences, _AT_ONCE)):
            await self._load(some)
            for sequence in some:
                tree = self._trees[sequence]
                for uuid, (op, digest, _, _, leaf, *_rest) in by_entry[sequence]:
                    proofs[uuid] = RowProof(sequence, Op(op).name.lower(), leaf, tree.path(leaf), digest)
        return proofs

    async def _look_up(self, uuids: Sequence[str]) -> dict[str, State]:
        found = await self._core.drive.call(self._book.look_up, uuids)
        return {uuid: state for uuid, state in found.items() if state.live}

    async def _load(self, sequences: Sequence[int]) -> None:
        missing = [sequence for sequence in sequences if sequence not in self._trees]
        trees = await self._core.drive.gather([partial(self._tree, sequence) for sequence in missing], _AT_ONCE)
        self._trees.update(zip(missing, trees, strict=True))
        for sequence in sequences:
            self._trees.move_to_end(sequence)
        while len(self._trees) > _TREES_KEPT:
            self._trees.popitem(last=False)

    async def _tree(self, sequence: int) -> Tree:
        return Tree(hashes_of(await self._ledger.leaves(await self._entry(sequence))))

    async def _entry(self, sequence: int) -> Entry:
        found = await self._ledger.read(sequence - 1, 1)
        if not found:
            raise LedgerError(f"entry {sequence} of the ledger is gone", sequence=sequence)
        return found[0]

    def used(self) -> Iterator[int]:
        """The entries that the proofs speak of, by number."""
        yield from sorted(self._used)

    async def entries(self, sequences: Sequence[int]) -> list[Entry]:
        """These entries."""
        return await self._core.drive.gather([partial(self._entry, sequence) for sequence in sequences], _AT_ONCE)


def _is_of(state: State, record: Record) -> bool:
    return state.digest == stored_digest(record)
