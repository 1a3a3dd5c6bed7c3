"""What a verification reads: one store's commands in order, reduced to where they stand and what their digests are."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from commandstore import codec
from commandstore.codec import Record
from commandstore.command import INT64_MAX, CommandQuery, Position
from commandstore.contract import Key, Row
from commandstore.core import PAGE, StoreCore, askable
from commandstore.errors import CommandStoreError, CorruptRecord, DecryptionError, InvalidCommand
from commandstore.replication.findings import Finding, FindingKind
from commandstore.replication.judgement import Candidate

__all__ = ["WHOLE_AT_ONCE", "Met", "Side", "Stream"]

WHOLE_AT_ONCE = 20
"""How many commands of unknown size are read whole in one go."""

_MOST_PER_PAGE = 10_000
_BadCommand = InvalidCommand | CorruptRecord | DecryptionError


class Met(NamedTuple):
    """A candidate, and about what its payloads weigh, as far as that is known."""

    candidate: Candidate
    size: int


class _Entry(NamedTuple):
    """What is kept of a row: no payload. One that can't be read has no position, but a finding."""

    position: Position | None
    digest: bytes
    size: int
    bad: Finding | None = None


class Side:
    """One of the two stores.

    Args:
        core: its core.
        payload: whether its digests can be compared only once payloads were read and opened.
        form: makes the digests that it gives comparable with the other side's; None leaves them.
    """

    def __init__(self, core: StoreCore, *, payload: bool, form: Callable[[bytes], bytes] | None = None) -> None:
        self.core = core
        self.payload = payload
        self._form = form

    def form(self, digest: bytes) -> bytes:
        """A digest, comparable with the other side's."""
        return digest if self._form is None else self._form(digest)

    async def digests(self, uuids: Sequence[str]) -> dict[str, bytes]:
        """The digests of these uuids, comparable, and read consistently; ``b""`` for what can't be read."""
        if not self.payload:
            found = await self.core.backend.probe(uuids)
            return {uuid: digest and self.form(digest) for uuid, digest in found.items()}
        digests: dict[str, bytes] = {}
        for start in range(0, len(uuids), WHOLE_AT_ONCE):
            for uuid, record in (await self.core.fetch(uuids[start : start + WHOLE_AT_ONCE])).items():
                digests[uuid] = self.form(record.digest) if isinstance(record, Record) else b""
        return digests


class Stream:
    """One side's list of a stretch, in order, read page by page."""

    def __init__(self, side: Side, query: CommandQuery, page_size: int | None) -> None:
        self._side = side
        self._query = query
        self._limit = page_size or min(max(PAGE, side.core.backend.insert_count), _MOST_PER_PAGE)
        self._entries: deque[_Entry] = deque()
        self._key: Key | None = None
        self._ended = not askable(query)
        self._last: int | None = None

    async def fill(self) -> None:
        """Read one page."""
        found = await self._side.core.pages(self._query, self._key, self._limit, payload=self._side.payload)
        self._entries.extend(self._entry(row) for row in found.rows)
        self._key, self._ended = found.next_key, found.next_key is None

    def _entry(self, row: Row) -> _Entry:
        record = row.record
        if record is None:
            return _Entry(None, b"", 0, _unreadable(row.error))
        try:
            codec.check(record)
        except InvalidCommand as error:
            return _Entry(None, b"", 0, Finding(FindingKind.FAILED, record.command_uuid, record.created_at, str(error)))
        return _Entry(record.position, self._side.form(record.digest), record.size)

    def unreadable(self) -> Iterator[Finding]:
        """Take what comes next as far as it can't be read."""
        while self._entries and (bad := self._entries[0].bad) is not None:
            self._entries.popleft()
            yield bad

    @property
    def ready(self) -> bool:
        """Whether all rows of the next place are there: several only where a uuid stands twice at one time."""
        return self._ended or (bool(self._entries) and self._entries[0].position != self._entries[-1].position)

    @property
    def head(self) -> Position | None:
        """The next place; None at the end."""
        return self._entries[0].position if self._entries else None

    @property
    def end(self) -> int | None:
        """All before this time was taken; None where nothing is known."""
        head = self.head
        if head is not None:
            return head.created_at
        return INT64_MAX if self._ended else self._last

    def taken(self, *, in_source: bool) -> Met:
        """Take the rows of the next place."""
        first = self._entries.popleft()
        assert first.position is not None  # noqa: S101 - what can't be read was taken before
        digests, size = {first.digest}, first.size
        while self._entries and self._entries[0].position == first.position:
            again = self._entries.popleft()
            digests.add(again.digest)
            size += again.size
        self._last = first.position.created_at
        # NULL reads as time 0, and comes before all times: there the order of SQL's rows is not that of their places.
        candidate = Candidate(first.position, frozenset(digests), in_source, unordered=self._last == 0)
        return Met(candidate, size)


def _unreadable(error: CommandStoreError | None) -> Finding:
    if error is not None and not isinstance(error, _BadCommand):
        raise error
    name = getattr(error, "command_uuid", None) or getattr(error, "location", None) or "(a record without a name)"
    return Finding(FindingKind.FAILED, name, None, str(error or "a record that can't be read"))
