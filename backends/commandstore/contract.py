"""What a store author writes: a :class:`Backend`, some ten primitives, and the laws that each keeps.

Everything else (options, validation, read-only, encryption, create_many, lists with an offset, cursors, scan, info) is
written once, in ``core.py``, over these. ``commandstore.testing`` says when a backend is right.

All primitives are coroutines. Under a blocking store they must never really suspend: what they await is the client
that the backend made to fit its drive (``drive/`` has the rules). They return plain values: no iterator, body or
cursor of an SDK leaves a backend, and no error of an SDK leaves it untranslated.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, NamedTuple

from commandstore.codec import Record
from commandstore.command import CommandQuery, is_int64
from commandstore.drive import Drive
from commandstore.errors import CommandStoreError, CorruptRecord, Unsupported

__all__ = [
    "Anchor",
    "Backend",
    "Capability",
    "Created",
    "Exists",
    "Key",
    "Outcome",
    "Register",
    "Rejected",
    "Row",
    "SequenceState",
    "Slice",
    "Window",
    "is_position",
]

# Where a page ends: the sort key of a row, of JSON's scalars. Made and read by the backend alone.
Key = tuple[int | str | None, ...]


def is_position(key: Key) -> bool:
    """Whether it is a key of ``(created_at, command_uuid)``, as many backends have it."""
    return len(key) == 2 and is_int64(key[0]) and isinstance(key[1], str)  # noqa: PLR2004 - see above


class Capability(Enum):
    """What a backend offers beyond the primitives."""

    SEQUENCE = "sequence"
    """Its commands have ids in order of arrival: ``sequence_state``, ``feed`` and ``feed_again`` find what is new."""
    DIGESTS = "digests"
    """It keeps a digest beside each command, so that ``probe`` doesn't read payloads."""
    MAINTENANCE = "maintenance"
    """It has upkeep of its own (``compact``, ``gc``)."""


@dataclass(frozen=True, slots=True)
class Created:
    """The record was written by this insert."""


@dataclass(frozen=True, slots=True)
class Exists:
    """A record with this uuid was there; nothing was changed.

    Attributes:
        digest: of the stored record.
        write_id: of the insert or replace that wrote it; None where the engine does not keep it.
    """

    digest: bytes
    write_id: str | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """This record can never be written here; nothing was changed."""

    error: CommandStoreError


Outcome = Created | Exists | Rejected
CREATED = Created()


class Row(NamedTuple):
    """One row of a page: its key, and its record or what is wrong with it (one of the two is None)."""

    key: Key
    record: Record | None
    error: CommandStoreError | None = None


class Slice(NamedTuple):
    """What ``page`` read: rows in order, and the key to go on after, None only at the end.

    ``next_key`` may lie beyond the last row, where entries that no longer hold a command were passed over.
    """

    rows: list[Row]
    next_key: Key | None


class Register(NamedTuple):
    """A small value that is swapped atomically, and the token of the swap that wrote it."""

    value: bytes
    token: str


class Anchor(NamedTuple):
    """A row that was there: its id, its uuid (None: unreadable or long) and the first bytes of its digest, in hex."""

    id: int
    command_uuid: str | None
    digest: str


class Window(NamedTuple):
    """The rows with ``low < id <= high``."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class SequenceState:
    """What a source with a sequence says at one moment.

    Attributes:
        fits: those of the given anchors whose rows are still what they were.
        settled_marks: for each given mark, whether it has settled: no row with an id up to its horizon can still
            appear. Judged before the horizon is read.
        horizon: the greatest id that is visible, 0 for none.
        anchors: rows up to the horizon, newest first, the gaps doubling; read together with the horizon.
        mark: what to hand back later to learn whether this horizon has settled; None: it has already.
        identity: tells one database from another of the same name; None where the engine can't tell.
    """

    fits: frozenset[Anchor]
    settled_marks: tuple[bool, ...]
    horizon: int
    anchors: tuple[Anchor, ...]
    mark: str | None
    identity: str | None


class Backend(ABC):
    """A store's primitives. See the module's docstring; ``memory.py`` is the smallest right one.

    A backend is made from values only and touches nothing until ``open``.
    """

    store_type: ClassVar[str]
    """The kind of store, as ``StoreInfo.store_type`` shows it."""

    capabilities: frozenset[Capability] = frozenset()
    order_by: frozenset[str] = frozenset({"created_at"})
    """Names that ``CommandQuery.order_by`` may take."""

    list_is_consistent: bool = True
    """False where ``page`` and ``count`` may lag behind a write (``fetch`` never does)."""

    sealed_as_hex: bool = False
    """True where sealed payloads are kept as lower-case hex and no cipher name is kept (comby's SQL tables)."""

    insert_count: int = 1000
    """How many records the facade hands to one ``insert``; the backend cuts them further by its engine's limits."""

    insert_concurrency: int = 4
    """How many inserts at once make a sync faster; 1 where they would only get into each other's way."""

    insert_bytes: int = 32 * 1024 * 1024
    """How many bytes of records the facade hands to one ``insert`` (a single larger record goes alone)."""

    drive: Drive

    @property
    @abstractmethod
    def location(self) -> str:
        """Where the store is, as a URL without secrets. Two stores of one location hold the same commands."""

    @abstractmethod
    async def open(self, drive: Drive, *, create: bool) -> None:
        """Connect, and keep ``drive`` for all that follows.

        Args:
            drive: runs this backend's coroutines; ``drive.is_async`` tells which client fits.
            create: make the table (bucket, file) where there is none; with False nothing is written.

        Raises:
            StoreNotFound: there is no such store, and ``create`` is False.
            ConfigurationError: there is something, but it isn't a command store.
        """

    @abstractmethod
    async def close(self) -> None:
        """Let go of connections. A second call does nothing."""

    @abstractmethod
    async def insert(self, records: Sequence[Record], write_id: str) -> list[Outcome]:
        """Write records whose uuid isn't there yet; never overwrite.

        Args:
            records: of distinct uuids; at most ``insert_count``.
            write_id: random, kept beside each record. A record found with this write id was written by an earlier
                try of this very call, and is ``Created``.

        Returns:
            What became of each record, aligned with the input. Each is atomic: a reader never sees half of one.
            Retries happen inside.

        Raises:
            CommandStoreError: a fate is unknown (``StoreUnavailable`` after all retries, ``AccessDenied``...);
                ``outcomes`` has what is known.
        """

    @abstractmethod
    async def fetch(self, uuids: Sequence[str]) -> dict[str, Record | CorruptRecord]:
        """The records of these uuids, whole, whatever was acknowledged before included. Missing ones are left out."""

    async def probe(self, uuids: Sequence[str]) -> dict[str, bytes]:
        """The digests of these uuids, in the cheapest way that reads one's own writes. Missing ones are left out.

        A record too corrupt to have a digest has ``b""``.
        """
        return {
            uuid: b"" if isinstance(found, CorruptRecord) else found.digest
            for uuid, found in (await self.fetch(uuids)).items()
        }

    @abstractmethod
    async def page(self, query: CommandQuery, after: Key | None, limit: int, *, payload: bool = True) -> Slice:
        """Rows that match, in the total order (or its exact reverse), after a key.

        Args:
            query: filters and order; ``order_by`` is one of this backend's.
            after: the key of a row, or the ``next_key`` of a slice; None starts at the beginning.
            limit: at most so many rows, at least 1. Fewer may come, even none, before the end.
            payload: False leaves ``data`` and ``req_ctx`` empty where that is cheaper; digests stay right.

        Returns:
            A bad row is a row with an error, never an exception.
        """

    def is_key(self, key: Key) -> bool:  # noqa: ARG002 - for those that look
        """Whether a row here can have this key. ``page`` is only given those that can.

        A cursor comes from outside, and its check sum is no signature: what is in it may be anything of JSON's scalars.
        """
        return True

    @abstractmethod
    async def count(self, query: CommandQuery) -> int:
        """How many commands match, exactly; raises on failure, never answers 0 for it."""

    @abstractmethod
    async def replace(self, record: Record, write_id: str) -> bool:
        """Put the record in the place of the one with its uuid; False when there is none. Readers see old or new."""

    @abstractmethod
    async def remove(self, command_uuid: str) -> bool:
        """Remove the record; False when there is none."""

    @abstractmethod
    async def clear(self) -> None:
        """Remove every command and every register. The store stays usable."""

    @abstractmethod
    async def register_get(self, name: str) -> Register | None:
        """The register of this name, linearizable; None when there is none."""

    @abstractmethod
    async def register_swap(self, name: str, value: bytes | None, *, expected: str | None, token: str) -> bool:
        """Set the register when its token is still the expected one.

        Args:
            name: at most 512 bytes.
            value: at most 256 KiB; None removes the register.
            expected: the token that was read; None when there was no register.
            token: random; identifies this swap. Found in place after a lost answer, it means that the swap was done.

        Returns:
            False when the register has another token (or is there, or is gone): nothing was changed.
        """

    # Capability.SEQUENCE

    async def sequence_state(self, anchors: Sequence[Anchor], marks: Sequence[str]) -> SequenceState | None:
        """How far the sequence has come, and which of the given anchors and marks still hold.

        Returns:
            None where this source's ids are no guide (no sequence, or one that hands out ids in blocks): the caller
            goes by position and lag.
        """
        raise Unsupported(f"{self.store_type} has no sequence ({len(anchors)} anchors, {len(marks)} marks given)")

    async def feed(self, query: CommandQuery, window: Window, after: Key | None, limit: int) -> Slice:
        """Rows of a window that match, ascending in the total order; as ``page`` in everything else.

        Must cost the same at the end of a window as at its start. ``feed_end`` tells that a walk is over.
        """
        raise Unsupported(f"{self.store_type} has no sequence ({query}, {window}, {after}, {limit})")

    async def sequence_cut(self, window: Window, count: int) -> int | None:
        """The id of the ``count``-th row of a window, counted from its low end; None where it holds fewer rows.

        Cheap in memory, and of time no more than reading so many ids.
        """
        raise Unsupported(f"{self.store_type} has no sequence ({window}, {count})")

    async def feed_end(self) -> None:  # noqa: B027 - a source that keeps nothing has nothing to let go of
        """Let go of what ``feed`` keeps for a walk. Called at the end of every run; harmless without one."""

    async def feed_again(self, keys: Sequence[Key]) -> list[Row | None]:
        """The rows of these keys as they are now, aligned; None where the row is gone."""
        raise Unsupported(f"{self.store_type} has no sequence ({len(keys)} keys given)")

    # Capability.MAINTENANCE

    async def compact(self) -> Mapping[str, int]:
        """Rewrite what is stored so that reads cost less. Returns counts of what was done."""
        raise Unsupported(f"{self.store_type} needs no compaction")

    async def gc(self, *, grace: float) -> Mapping[str, int]:
        """Remove what no command refers to and that is older than ``grace`` seconds. Returns counts."""
        raise Unsupported(f"{self.store_type} leaves no garbage (grace {grace})")
