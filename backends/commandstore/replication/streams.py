"""What a verification reads: one store's commands in order, reduced to where they stand and what their digests are.

A page is kept as columns, so that two stores' lists are compared by ranges: a thousand places and digests at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from operator import add, lt
from typing import NamedTuple, cast

from commandstore import codec
from commandstore.codec import Record
from commandstore.command import INT64_MAX, CommandQuery, Position
from commandstore.contract import Key, Row
from commandstore.core import PAGE, StoreCore, askable
from commandstore.errors import CommandStoreError, CorruptRecord, DecryptionError, InvalidCommand
from commandstore.replication.findings import Finding, FindingKind
from commandstore.replication.judgement import Answer, Candidate, Misfit
from commandstore.sealing import Sealing

__all__ = ["BAD_COMMAND", "WHOLE_AT_ONCE", "Met", "Side", "Stream", "alike", "is_uuid"]

WHOLE_AT_ONCE = 20
"""How many commands of unknown size are read whole in one go."""

BAD_COMMAND = (InvalidCommand, CorruptRecord, DecryptionError)
"""What is wrong with the command itself. Everything else is wrong with a store, and stops a run."""

_MOST_PER_PAGE = 10_000
_FIRST_RANGE = 16
_WIDER = 8
_OVERHEAD = 400
_UUID, _TIME, _TENANT, _DATA, _CONTEXT = (
    Record._fields.index(name) for name in ("command_uuid", "created_at", "tenant_uuid", "data", "req_ctx")
)
_NAMES = [
    Record._fields.index(name)
    for name in ("command_uuid", "tenant_uuid", "workspace_uuid", "domain", "data_type", "session_uuid")
]
# A character has four bytes at most: what has no more characters than this is within its limit, and need not be looked
# at by itself.
_SURELY_SHORT = min(codec.MAX_UUID_BYTES, codec.MAX_TENANT_BYTES, codec.MAX_NAME_BYTES) // 4
_SURELY_SHORT_PAYLOAD = codec.MAX_PAYLOAD_BYTES // 4

Place = tuple[int, str]
"""As :class:`Position`, made faster."""
_Digests = bytes | frozenset[bytes]


class Met(NamedTuple):
    """A candidate, and about what its payloads weigh, as far as that is known.

    Attributes:
        tenant_uuid: whose it is, where it was met: what keyed digests depend on.
    """

    candidate: Candidate
    size: int
    tenant_uuid: str


class Side:
    """One of the two stores.

    Args:
        core: its core.
        name: ``"source"`` or ``"destination"``.
        payload: whether its digests can be compared only once payloads were read and opened.
        keyed: makes plain digests comparable with the other side's, which are keyed; None leaves them.
        believed: whether the digests beside its commands are taken at their word; if not, each is computed anew from
            what is stored.

    Attributes:
        met: its lists have had a command, or one that can't be read.
        doubtful: one of these has no uuid that can be read, or doesn't fit its digest, which covers the uuid. So what
            it seems not to have it may have had.
    """

    def __init__(
        self, core: StoreCore, name: str, *, payload: bool, keyed: Sealing | None = None, believed: bool = True
    ) -> None:
        self.core = core
        self.name = name
        self.payload = payload
        self.met = False
        self.doubtful = False
        self._keyed = keyed
        self._believed = believed
        self._misfit = name.encode()  # no digest, and another one than that of the other side

    async def comparable(self, records: Sequence[Record]) -> list[bytes | CommandStoreError]:
        """The digests of plain records, comparable with the other side's."""
        if not self._believed:
            return [record.digest if self._fits(record) else self._misfit for record in records]
        if self._keyed is None:
            return [record.digest for record in records]
        return [self._misfit if digest == b"" else digest for digest in await self._keyed.keyed(records)]

    async def digests(self, tenants: Mapping[str, str]) -> dict[str, bytes]:
        """The digests of some uuids, comparable, and read consistently; ``b""`` for what can't be read or believed.

        Args:
            tenants: the uuids, and the tenant of each.
        """
        found: dict[str, bytes] = {}
        if not self.payload:
            found = await self.core.backend.probe(list(tenants))
            if self._keyed is None:
                return found
            records = [_stub(uuid, tenants[uuid], digest) for uuid, digest in found.items() if digest]
            for record, digest in zip(records, await self._keyed.keyed(records), strict=True):
                found[record.command_uuid] = digest if isinstance(digest, bytes) else b""
            return found
        uuids = list(tenants)
        for start in range(0, len(uuids), WHOLE_AT_ONCE):
            answers = await self.fetch(uuids[start : start + WHOLE_AT_ONCE])
            found |= dict.fromkeys(answers, b"")
            records = [answer for answer in answers.values() if isinstance(answer, Record)]
            for record, known in zip(records, await self.comparable(records), strict=True):
                found[record.command_uuid] = known if isinstance(known, bytes) else b""
        return found

    async def fetch(self, uuids: Sequence[str], *, believed: bool | None = None) -> dict[str, Answer]:
        """The commands of some uuids, whole and plain, read consistently.

        Args:
            uuids: the uuids.
            believed: as the side's; None leaves it.
        """
        found = await self.core.fetch(uuids)
        if self._believed if believed is None else believed:
            return dict(found)
        return {
            uuid: Misfit("the payload does not fit the digest that is kept beside it")
            if isinstance(record, Record) and not self._fits(record)
            else record
            for uuid, record in found.items()
        }

    def _fits(self, record: Record) -> bool:
        """Whether a plain record is what its digest says."""
        try:
            digest = codec.digest_of(codec.canonical(*record[:7], record.data, record.req_ctx))
        except UnicodeEncodeError:
            digest = b""
        self.doubtful |= digest != record.digest
        return digest == record.digest


def is_uuid(command_uuid: str) -> bool:
    """Whether a store can be asked for it: nothing longer was ever stored, and an engine may refuse it."""
    return 0 < len(command_uuid.encode(errors="replace")) <= codec.MAX_UUID_BYTES


def _stub(command_uuid: str, tenant_uuid: str, digest: bytes) -> Record:
    """A record of which nothing but its digest and whose it is is known."""
    return Record(command_uuid, 0, 0, tenant_uuid, "", "", "", "", b"", "", digest)


class Stream:
    """One side's list of a stretch, in order, read page by page.

    What was read and not yet taken is in columns, a place in each row: rows of one uuid and time are one.
    """

    def __init__(self, side: Side, query: CommandQuery, page_size: int | None) -> None:
        self._side = side
        self._query = query
        self._limit = page_size or min(max(PAGE, side.core.backend.insert_count), _MOST_PER_PAGE)
        self._places: list[Place] = []
        self._digests: list[_Digests] = []
        self._sizes: list[int] = []
        self._tenants: list[str] = []
        self._at = 0
        self._bad: deque[tuple[int, Finding]] = deque()  # each with how many places come before it
        self._key: Key | None = None
        self._ended = not askable(query)

    async def fill(self) -> None:
        """Read one page."""
        found = await self._side.core.pages(self._query, self._key, self._limit, payload=self._side.payload)
        records = [row.record for row in found.rows if row.record is not None]
        digests = await self._side.comparable(records)
        self._side.met |= bool(found.rows)
        for column in (self._places, self._digests, self._sizes, self._tenants):
            del column[: self._at]
        self._bad = deque((before - self._at, finding) for before, finding in self._bad)
        self._at = 0
        if len(records) < len(found.rows) or not self._add(records, digests):
            self._add_each(found.rows, digests)
        self._key, self._ended = found.next_key, found.next_key is None

    def _add(self, records: Sequence[Record], digests: Sequence[bytes | CommandStoreError]) -> bool:
        """Add a page by columns, if nothing in it has to be looked at by itself, as is nearly always so."""
        if not records:
            return True
        columns = list(zip(*records, strict=True))
        uuids, data, contexts = columns[_UUID], list(map(len, columns[_DATA])), list(map(len, columns[_CONTEXT]))
        if (
            any(max(map(len, columns[name])) > _SURELY_SHORT for name in _NAMES)
            or max(data) > _SURELY_SHORT_PAYLOAD
            or max(contexts) > _SURELY_SHORT_PAYLOAD
            or not all(uuids)
            or set(map(type, digests)) != {bytes}
        ):
            return False
        places = list(zip(columns[_TIME], uuids, strict=True))
        begin = self._places[-1:] + places[:-1]
        if not all(map(lt, begin, places[len(places) - len(begin) :])):
            return False  # rows of one place, or of one without a time
        self._places += places
        self._digests += cast("Sequence[bytes]", digests)
        self._sizes += map(add, data, contexts)
        self._tenants += columns[_TENANT]
        return True

    def _add_each(self, rows: Sequence[Row], digests: Sequence[bytes | CommandStoreError]) -> None:
        """Add a page row by row: what can't be read or stored is set apart, and rows of one place are put together."""
        known = iter(digests)
        for row in rows:
            record = row.record
            if record is None:
                self._side.doubtful |= not getattr(row.error, "command_uuid", None)
                self._bad.append((len(self._places), _unreadable(row.error)))
                continue
            digest = next(known)
            try:
                codec.check(record)
            except InvalidCommand as error:
                self._side.doubtful |= not is_uuid(record.command_uuid)
                self._add_failed(record, str(error))
                continue
            if not isinstance(digest, bytes):
                self._add_failed(record, f"in the destination: {digest}")
                continue
            place = (record.created_at, record.command_uuid)
            size = len(record.data) + len(record.req_ctx)
            if self._places and self._places[-1] == place:
                before = self._digests[-1]
                self._digests[-1] = frozenset({digest}) | (before if isinstance(before, frozenset) else {before})
                self._sizes[-1] += size
                continue
            self._places.append(place)
            self._digests.append(digest)
            self._sizes.append(size)
            self._tenants.append(record.tenant_uuid)

    def _add_failed(self, record: Record, reason: str) -> None:
        finding = Finding(FindingKind.FAILED, record.command_uuid, record.created_at, reason)
        self._bad.append((len(self._places), finding))

    def unreadable(self) -> Iterator[Finding]:
        """Take what comes next as far as it can't be compared."""
        while self._bad and self._bad[0][0] <= self._at:
            yield self._bad.popleft()[1]

    @property
    def certain(self) -> int:
        """How many places are known with all their rows: the last one's may go on in the next page."""
        return max(len(self._places) - self._at - (not self._ended), 0)

    @property
    def ready(self) -> bool:
        """Whether the next place is known with all its rows, or the end."""
        return self._ended or self.certain > 0

    @property
    def head(self) -> Place | None:
        """The next place; None at the end."""
        return self._places[self._at] if self._at < len(self._places) else None

    @property
    def end(self) -> int | None:
        """All before this time was taken; None where nothing is known."""
        head = self.head
        if head is not None:
            return head[0]
        return INT64_MAX if self._ended else None

    def range(self, start: int, count: int) -> tuple[list[Place], list[_Digests]]:
        """The next places and their digests, from the ``start``-th on."""
        first = self._at + start
        return self._places[first : first + count], self._digests[first : first + count]

    def pass_over(self, count: int) -> None:
        """Take so many places of which nothing more is needed."""
        self._at += count

    def taken(self, *, in_source: bool) -> Met:
        """Take the rows of the next place."""
        at = self._at
        self.pass_over(1)
        digest = self._digests[at]
        place = Position(*self._places[at])
        # NULL reads as time 0, and comes before all times: there the order of SQL's rows is not that of their places.
        digests = digest if isinstance(digest, frozenset) else frozenset({digest})
        candidate = Candidate(place, digests, in_source, unordered=place.created_at == 0)
        return Met(candidate, self._sizes[at] + _OVERHEAD, self._tenants[at])


def alike(here: Stream, there: Stream) -> int:
    """Take what both lists have alike from their next places on; how many commands that is.

    Ranges are compared whole, each wider than the one before, and halved where they differ. What has time 0 is left:
    its order is not that of places (see ``Stream.taken``), and there alone a uuid may come again.
    """
    most = min(here.certain, there.certain)
    if not most or here.head != there.head or cast("Place", here.head)[0] == 0:
        return 0
    taken, width, widening = 0, _FIRST_RANGE, True
    while taken < most:
        width = min(width, most - taken)
        if here.range(taken, width) == there.range(taken, width):
            taken += width
            width *= _WIDER if widening else 1
        elif width == 1:
            break
        else:
            width, widening = width // 2, False
    here.pass_over(taken)
    there.pass_over(taken)
    return taken


def _unreadable(error: CommandStoreError | None) -> Finding:
    if error is not None and not isinstance(error, BAD_COMMAND):
        raise error
    name = getattr(error, "command_uuid", None) or getattr(error, "location", None) or "(a record without a name)"
    return Finding(FindingKind.FAILED, name, None, str(error or "a record that can't be read"))
