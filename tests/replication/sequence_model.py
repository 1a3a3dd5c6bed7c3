"""A source with a sequence, reduced to what matters: ids, visibility, and rows that go away.

Everything that a SQL source can do to a sync is an operation here: transactions that take their id early and commit
late, rows deleted at the top whose ids are used again, an older backup put back. ``during`` runs operations in the
middle of a walk.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from commandstore import Command, codec
from commandstore.codec import Record
from commandstore.contract import Anchor, Capability, Key, Row, SequenceState, Slice, Window
from commandstore.memory import MemoryBackend


def record(uuid: str, created_at: int, tenant: str = "a") -> Record:
    return codec.encode(Command(uuid, created_at, tenant_uuid=tenant, data_bytes=uuid.encode()))


class SequenceModel(MemoryBackend):
    """The source. ``reuse``: ids as SQLite without AUTOINCREMENT hands them out; else as Postgres does."""

    store_type = "model"
    capabilities = frozenset({Capability.SEQUENCE})

    def __init__(self, *, reuse: bool) -> None:
        super().__init__()
        self.reuse = reuse
        self.rows: dict[int, Record] = {}
        self.flying: dict[int, tuple[int, Record]] = {}  # transaction -> id, row
        self.next_transaction = 1
        self.last_id = 0
        self.during: Callable[[], None] | None = None

    # What an application does

    def take_id(self) -> int:
        self.last_id = (max(self.rows, default=0) if self.reuse else self.last_id) + 1
        return self.last_id

    def begin(self, row: Record) -> int:
        transaction = self.next_transaction
        self.next_transaction += 1
        self.flying[transaction] = (self.take_id(), row)
        return transaction

    def commit(self, transaction: int) -> None:
        row_id, row = self.flying.pop(transaction)
        self.rows[row_id] = row

    def add(self, row: Record) -> int:
        row_id = self.take_id()
        self.rows[row_id] = row
        return row_id

    def delete_top(self, count: int) -> None:
        for row_id in sorted(self.rows)[-count:]:
            del self.rows[row_id]

    # What a sync sees

    async def sequence_state(self, anchors: Sequence[Anchor], marks: Sequence[str]) -> SequenceState:
        judged = tuple(not (set(json.loads(mark)) & set(self.flying)) for mark in marks)
        horizon = max(self.rows, default=0)
        fresh: list[Anchor] = []
        gap = 0
        while horizon - gap > 0:
            below = [row_id for row_id in self.rows if row_id <= horizon - gap]
            if below:
                fresh.append(self._anchor(max(below)))
            gap = gap * 2 + 1
        mark = json.dumps(sorted(self.flying)) if self.flying else None
        fits = frozenset(a for a in anchors if a.id in self.rows and self._anchor(a.id) == a)
        return SequenceState(fits, judged, horizon, tuple(dict.fromkeys(fresh)), mark, None)

    def _anchor(self, row_id: int) -> Anchor:
        row = self.rows[row_id]
        return Anchor(row_id, row.command_uuid, row.digest.hex()[:16])

    async def feed(self, query: object, window: Window, after: Key | None, limit: int) -> Slice:
        if self.during is not None:
            self.during()
        tenant = getattr(query, "tenant_uuid", None)
        found = sorted(
            (row.created_at, row_id)
            for row_id, row in self.rows.items()
            if window.low < row_id <= window.high and tenant in {None, row.tenant_uuid}
        )
        later = [key for key in found if after is None or key > after]  # type: ignore[operator]
        rows = [Row(key, self.rows[key[1]]) for key in later[:limit]]
        return Slice(rows, rows[-1].key if len(later) > limit else None)

    async def sequence_cut(self, window: Window, count: int) -> int | None:
        ids = sorted(row_id for row_id in self.rows if window.low < row_id <= window.high)
        return ids[count - 1] if len(ids) >= count else None

    async def feed_again(self, keys: Sequence[Key]) -> list[Row | None]:
        return [Row(key, self.rows[key[-1]]) if key[-1] in self.rows else None for key in keys]  # type: ignore[index]


class Kill(BaseException):
    """The process dies here."""


class Mortal(MemoryBackend):
    """A destination whose process dies at the n-th request, before it has an effect or after."""

    def __init__(self) -> None:
        super().__init__("mortal")
        self.requests_left: int | None = None
        self.after_effect = False

    def _step(self) -> bool:
        """Whether to die after this request; dies here when it is to be before."""
        if self.requests_left is None:
            return False
        self.requests_left -= 1
        if self.requests_left >= 0:
            return False
        # A dead process stays dead: whatever it still tries (saving what it knows) fails as well.
        if self.requests_left < -1 or not self.after_effect:
            raise Kill
        return True

    async def insert(self, records, write_id):
        dies = self._step()
        outcomes = await super().insert(records, write_id)
        if dies:
            raise Kill
        return outcomes

    async def register_swap(self, name, value, *, expected, token):
        dies = self._step()
        swapped = await super().register_swap(name, value, expected=expected, token=token)
        if dies:
            raise Kill
        return swapped
