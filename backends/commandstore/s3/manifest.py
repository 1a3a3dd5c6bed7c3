"""The root of a store: which objects are part of it, and which of their rows count. Pure.

A manifest is a value; every change makes another. What is large is written once, in objects of its own: segments,
their indexes, directories of uuids, and *parts* that hold the references to older segments. What changes stays here:
the rows of segments that no longer count (*dead*), and the commands that were deleted since the last compaction.

At any time a uuid is named by at most one row that counts, or by one entry among the deleted.
"""

from __future__ import annotations

import binascii
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import orjson

from commandstore.errors import ConfigurationError
from commandstore.s3.directory import WIDTH
from commandstore.s3.kinds import count_by_name, counts, number, numbers, position, text
from commandstore.s3.layout import is_whole, with_check

__all__ = [
    "FORMAT",
    "KEPT",
    "SMALL",
    "Dead",
    "Grave",
    "Manifest",
    "Part",
    "Partition",
    "Recent",
    "Segment",
    "decode",
    "encode",
]

FORMAT = 1
KEPT = 256
"""How many swaps a manifest names. No writer goes on trying for longer than these take."""
SMALL = 16
"""Segments of at most so many rows keep their entries of the directory here."""
_TENANTS = 16
"""So many tenants of a segment stand in its reference: by them, lists pass over segments."""
MOST_TENANTS = 2000
"""So many tenants of the whole store are counted in the manifest."""


class Segment(NamedTuple):
    """An immutable object of rows, and its index.

    Attributes:
        number: what directories call it; never used again.
        id: what the objects are called.
        rows: how many, dead and deleted ones included.
        size: of the segment in bytes.
        check: CRC-32 of the index.
        first: the position of its first row.
        last: the position of its last row.
        tenants: how many commands each had when it was written; None where those are too many to be told here.
        commands: how many commands there were in all.
        entries: of the directory, for a small segment; empty for those that a directory object knows.
    """

    number: int
    id: str
    rows: int
    size: int
    check: int
    first: tuple[int, str]
    last: tuple[int, str]
    tenants: Mapping[str, int] | None
    commands: int
    entries: bytes = b""


class Part(NamedTuple):
    """An object with references to segments, its CRC-32, and their sums."""

    id: str
    check: int
    numbers: tuple[int, ...]
    first: tuple[int, str]
    last: tuple[int, str]
    tenants: Mapping[str, int] | None
    commands: int


class Dead(NamedTuple):
    """Rows of a segment that count no more.

    Attributes:
        rows: their numbers.
        tenants: how many commands (not deleted ones) of each tenant are among them.
    """

    rows: frozenset[int]
    tenants: Mapping[str, int]


class Grave(NamedTuple):
    """A command that was deleted since the last compaction.

    Attributes:
        created_at: where it stood.
        put_id: of the inbox object that counted for it.
    """

    created_at: int
    put_id: str | None


class Recent(NamedTuple):
    """The directory of what came last: a run of entries for each segment, in one object, and its CRC-32."""

    id: str
    check: int
    runs: tuple[tuple[int, int], ...]  # segment number, entries


class Partition(NamedTuple):
    """The directory of all else, from hash ``low`` to the next one's: sorted runs in one object, and its CRC-32."""

    low: int
    id: str
    check: int
    runs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """See the module's docstring.

    Attributes:
        store: of this life of the store; another one after every reset.
        sequence: how many swaps there were.
        epoch: of garbage collection.
        operations: the last swaps, the newest first.
        next_number: the first number that no segment ever had.
        tenants: how many commands each has; None where there were too many tenants to be counted here.
    """

    store: str
    sequence: int = 0
    epoch: int = 0
    operations: tuple[str, ...] = ()
    next_number: int = 0
    segments: tuple[Segment, ...] = ()
    parts: tuple[Part, ...] = ()
    dead: Mapping[int, Dead] = field(default_factory=dict)
    graves: Mapping[str, Grave] = field(default_factory=dict)
    recent: Recent | None = None
    partitions: tuple[Partition, ...] = ()
    tenants: Mapping[str, int] | None = field(default_factory=dict)

    # What is there

    @property
    def commands(self) -> int:
        """How many commands count."""
        there = sum(segment.commands for segment in self.segments) + sum(part.commands for part in self.parts)
        return there - sum(sum(dead.tenants.values()) for dead in self.dead.values())

    @property
    def numbers(self) -> set[int]:
        """Of all segments."""
        return {s.number for s in self.segments}.union(*(part.numbers for part in self.parts))

    def is_dead(self, number: int, row: int) -> bool:
        """Whether a row counts no more."""
        dead = self.dead.get(number)
        return dead is not None and row in dead.rows

    def small(self) -> Iterator[Segment]:
        """Segments that no directory object knows."""
        return (segment for segment in self.segments if segment.entries)

    def ids(self, listed: Iterable[Segment]) -> set[str]:
        """Of everything that this manifest refers to, given the segments of its parts."""
        own = {segment.id for segment in (*self.segments, *listed)}
        own |= {part.id for part in self.parts} | {partition.id for partition in self.partitions}
        return own | ({self.recent.id} if self.recent else set())

    # Changes

    def add(self, segment: Segment) -> Manifest:
        """With a further segment."""
        return replace(self, segments=(*self.segments, segment), next_number=max(self.next_number, segment.number + 1))

    def bury(self, number: int, rows: Collection[int], tenants: Mapping[str, int]) -> Manifest:
        """With rows that count no more. Rows that are dead already must not be among them."""
        if not rows:
            return self
        old = self.dead.get(number, Dead(frozenset(), {}))
        lowered = Counter(old.tenants)
        lowered.update(tenants)
        return replace(self, dead={**self.dead, number: Dead(old.rows | frozenset(rows), dict(lowered))})

    def counted(self, more: Mapping[str, int]) -> Manifest:
        """With so many more commands of each tenant; negative numbers are fewer."""
        if self.tenants is None or not more:
            return self
        total = dict(self.tenants)
        for tenant, count in more.items():
            total[tenant] = total.get(tenant, 0) + count
        total = {tenant: count for tenant, count in total.items() if count}
        return replace(self, tenants=total if len(total) <= MOST_TENANTS else None)

    def without(self, numbers: Collection[int]) -> Manifest:
        """Without segments, which must stand in no part, and without what was said of them."""
        if not numbers:
            return self
        return replace(
            self,
            segments=tuple(segment for segment in self.segments if segment.number not in numbers),
            dead={number: dead for number, dead in self.dead.items() if number not in numbers},
        )

    def swapped(self, operation: str) -> Manifest:
        """As it is written by a swap."""
        return replace(self, sequence=self.sequence + 1, operations=(operation, *self.operations)[:KEPT])


def few(tenants: Mapping[str, int]) -> Mapping[str, int] | None:
    """The counts, where they are few enough to be kept in a reference."""
    return dict(tenants) if len(tenants) <= _TENANTS else None


def sums(segments: Sequence[Segment]) -> Mapping[str, int] | None:
    """The counts of several segments."""
    total: Counter[str] = Counter()
    for segment in segments:
        if segment.tenants is None:
            return None
        total.update(segment.tenants)
    return few(total)


# As an object


def encode(manifest: Manifest) -> bytes:
    """The object's body."""
    recent = manifest.recent
    return with_check(
        orjson.dumps(
            {
                "format": FORMAT,
                "store": manifest.store,
                "sequence": manifest.sequence,
                "epoch": manifest.epoch,
                "operations": manifest.operations,
                "next_number": manifest.next_number,
                "segments": [encode_segment(segment) for segment in manifest.segments],
                "parts": [part._asdict() for part in manifest.parts],
                "dead": [
                    {"segment": number, "rows": sorted(dead.rows), "tenants": dead.tenants}
                    for number, dead in manifest.dead.items()
                ],
                "deleted": [[uuid, *grave] for uuid, grave in manifest.graves.items()],
                "recent": recent and recent._asdict(),
                "tenants": manifest.tenants,
                "partitions": [[f"{p.low:016x}", *p[1:]] for p in manifest.partitions],
            }
        )
    )


def decode(body: bytes, where: str) -> Manifest:
    """Read a body.

    Args:
        body: of the object.
        where: the object and its store, for errors.

    Raises:
        ConfigurationError: it is no manifest, or one of a newer format.
    """
    try:
        found = orjson.loads(body)
        form = found["format"]
        if not isinstance(form, int):
            raise TypeError("no format")  # noqa: TRY301 - told below
        if form <= FORMAT:
            if not is_whole(body):
                raise ValueError("another check sum")  # noqa: TRY301 - told below
            return _manifest(found)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise ConfigurationError(
            f"{where} is no manifest of a command store, or was altered; take another prefix, or restore the object"
        ) from error
    raise ConfigurationError(
        f"{where} has format {form}, and this release reads up to {FORMAT}: a newer commandstore wrote it; update"
    )


def _manifest(found: dict[str, Any]) -> Manifest:
    return Manifest(
        text(found["store"]),
        number(found["sequence"]),
        number(found["epoch"]),
        tuple(text(operation) for operation in found["operations"]),
        number(found["next_number"]),
        tuple(decode_segment(segment) for segment in found["segments"]),
        tuple(_part(part) for part in found["parts"]),
        {number(d["segment"]): Dead(frozenset(numbers(d["rows"])), count_by_name(d["tenants"])) for d in found["dead"]},
        dict(_grave(*grave) for grave in found["deleted"]),
        None if found["recent"] is None else _recent(found["recent"]),
        tuple(
            Partition(int(low, 16), text(name), number(c), numbers(runs)) for low, name, c, runs in found["partitions"]
        ),
        counts(found["tenants"]),
    )


def _grave(uuid: Any, created_at: Any, put_id: Any) -> tuple[str, Grave]:
    time, uuid = position((created_at, uuid))
    return uuid, Grave(time, None if put_id is None else text(put_id))


def _recent(found: Mapping[str, Any]) -> Recent:
    runs = tuple((number(segment), number(entries)) for segment, entries in found["runs"])
    return Recent(text(found["id"]), number(found["check"]), runs)


def encode_segment(segment: Segment) -> dict[str, Any]:
    """A reference as JSON's values."""
    return {**segment._asdict(), "entries": segment.entries.hex()}


def decode_segment(found: Mapping[str, Any]) -> Segment:
    """A reference of JSON's values.

    Raises:
        ValueError: it is none.
    """
    entries = binascii.unhexlify(found["entries"])
    if len(entries) not in {0, found["rows"] * WIDTH}:
        raise ValueError("entries of another number")
    return Segment(
        number(found["number"]),
        text(found["id"]),
        number(found["rows"]),
        number(found["size"]),
        number(found["check"]),
        position(found["first"]),
        position(found["last"]),
        counts(found["tenants"]),
        number(found["commands"]),
        entries,
    )


def encode_part(segments: Sequence[Segment]) -> bytes:
    """The body of a part."""
    return orjson.dumps({"format": FORMAT, "segments": [encode_segment(segment) for segment in segments]})


def decode_part(body: bytes) -> list[Segment]:
    """The references in a part.

    Raises:
        ValueError: it is none.
    """
    try:
        found = orjson.loads(body)
        if found["format"] > FORMAT:
            raise ValueError("a newer format, or another check sum")
        return [decode_segment(segment) for segment in found["segments"]]
    except (TypeError, KeyError, AttributeError, IndexError) as error:
        raise ValueError("no part") from error


def part_of(part_id: str, check: int, segments: Sequence[Segment]) -> Part:
    """The reference to a part."""
    return Part(
        part_id,
        check,
        tuple(segment.number for segment in segments),
        min(segment.first for segment in segments),
        max(segment.last for segment in segments),
        sums(segments),
        sum(segment.commands for segment in segments),
    )


def _part(found: Mapping[str, Any]) -> Part:
    return Part(
        text(found["id"]),
        number(found["check"]),
        numbers(found["numbers"]),
        position(found["first"]),
        position(found["last"]),
        counts(found["tenants"]),
        number(found["commands"]),
    )
