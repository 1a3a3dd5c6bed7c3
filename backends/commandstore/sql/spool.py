"""An order of rows, kept outside of the source: a private temporary file that is gone when it is closed.

A source without an index on time can't be walked in the total order page by page: every page would sort the whole
table, and one long read would lock the application out. So ids and times are read once, by primary key in short reads,
and sorted here; pages then fetch rows by id.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from commandstore.contract import Key
from commandstore.errors import StoreUnavailable

__all__ = ["Place", "Spool", "key_of", "place_of"]

# SQLite sorts NULL before numbers, numbers before text, text before blobs. A spool keeps that rank in a column of its
# own, so that nothing in it is NULL and one comparison of rows finds the next ones.
_RANKS = {"real": 1, "text": 2, "blob": 3}
_KINDS = {2: "text", 3: "blob"}


class Place(NamedTuple):
    """Where a row stands: rank and time, the uuid's bytes where the order needs them, and the id."""

    rank: int
    time: int | float | bytes
    name: bytes
    id: int


def place_of(key: Key) -> Place:
    """The place of a key: (time, id) of a feed, or (time, uuid in hex, id) of a page."""
    time, row_id = key[0], key[-1]
    name = bytes.fromhex(str(key[1])) if len(key) > 2 else b""  # noqa: PLR2004 - see above
    if time is None or isinstance(time, int):
        return Place(0 if time is None else 1, time or 0, name, row_id)  # type: ignore[arg-type]
    kind, _, rest = time.partition(":")
    return Place(_RANKS[kind], float(rest) if kind == "real" else bytes.fromhex(rest), name, row_id)  # type: ignore[arg-type]


def key_of(place: Place) -> Key:
    """The key of a page at a place."""
    rank, time, name, row_id = place
    if rank <= 1 and not isinstance(time, float):
        return (time if rank else None, name.hex(), row_id)  # type: ignore[return-value]
    tagged = f"real:{time!r}" if isinstance(time, float) else f"{_KINDS[rank]}:{time.hex()}"  # type: ignore[union-attr]
    return (tagged, name.hex(), row_id)


class Spool:
    """Places of rows, in order and in its reverse."""

    def __init__(self) -> None:
        # The empty name is SQLite's for a temporary file without a name, which it removes when it is closed.
        self._file = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "temp_store=FILE", "cache_size=-8192"):
            self._file.execute(f"PRAGMA {pragma}")
        self._file.execute("CREATE TABLE spool (rank INTEGER, time, name BLOB, id INTEGER)")

    def add(self, places: Iterable[tuple[int, int | float | bytes, bytes, int]]) -> None:
        """Add rows."""
        with _room():
            self._file.execute("BEGIN")
            self._file.executemany("INSERT INTO spool VALUES (?, ?, ?, ?)", places)
            self._file.execute("COMMIT")

    def sort(self) -> None:
        """Called once, when all are added."""
        with _room():
            self._file.execute("CREATE INDEX spool_order ON spool (rank, time, name, id)")

    def after(self, place: Place | None, limit: int, *, ascending: bool = True) -> list[Place]:
        """The next places after one, or from the start."""
        way, beyond = ("ASC", ">") if ascending else ("DESC", "<")
        # A row-value comparison walks the index from the very place; no row before it is looked at.
        where = f"WHERE (rank, time, name, id) {beyond} (?, ?, ?, ?)" if place else ""
        order = ", ".join(f"{column} {way}" for column in Place._fields)
        sql = f"SELECT rank, time, name, id FROM spool {where} ORDER BY {order} LIMIT ?"  # noqa: S608 - names from above
        with _room():
            return [Place(*found) for found in self._file.execute(sql, (*(place or ()), limit))]

    def close(self) -> None:
        """Remove it."""
        self._file.close()


@contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreUnavailable(
            f"the temporary file that sorts commands failed ({getattr(error, 'sqlite_errorname', 'unknown')}); "
            "is there room in the directory for temporary files (SQLITE_TMPDIR, TMPDIR)?"
        ) from error
