"""The order of a window, kept outside of the source: a private temporary file that is gone when it is closed.

A source without an index on time can't be walked in the total order page by page: every page would sort the whole
table, and one long read would lock the application out. So the ids and times of a window are read once, by primary key
in short reads, and sorted here; pages then fetch rows by id.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from commandstore.contract import Key

__all__ = ["Spool"]


class Spool:
    """Ids in the order (created_at, id); NULL before all."""

    def __init__(self) -> None:
        # The empty name is SQLite's for a temporary file without a name, which it removes when it is closed.
        self._file = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "temp_store=FILE", "cache_size=-16384"):
            self._file.execute(f"PRAGMA {pragma}")
        self._file.execute("CREATE TABLE spool (created_at, id INTEGER)")

    def add(self, rows: Iterable[tuple[object, int]]) -> None:
        """Add times and ids. What isn't an integer sorts with NULL, as in the keys that ``layout.row_of`` makes."""
        self._file.execute("BEGIN")
        self._file.executemany(
            "INSERT INTO spool VALUES (?, ?)",
            ((time if isinstance(time, int) else None, row_id) for time, row_id in rows),
        )
        self._file.execute("COMMIT")

    def sort(self) -> None:
        """Called once, when all are added."""
        self._file.execute("CREATE INDEX spool_order ON spool (created_at, id)")

    def after(self, key: Key | None, limit: int) -> list[tuple[int | None, int]]:
        """The next times and ids after a key."""
        found: list[tuple[int | None, int]] = []
        if key is None or key[0] is None:
            found = self._file.execute(
                "SELECT created_at, id FROM spool WHERE created_at IS NULL AND id > ? ORDER BY id LIMIT ?",
                (-(2**63) if key is None else key[1], limit),
            ).fetchall()
        if len(found) < limit:
            # A row-value comparison walks the index from the very place; no row before it is looked at.
            start = (-(2**63), -(2**63)) if key is None or key[0] is None else (key[0], key[1])
            found += self._file.execute(
                "SELECT created_at, id FROM spool WHERE (created_at, id) > (?, ?) ORDER BY created_at, id LIMIT ?",
                (*start, limit - len(found)),
            ).fetchall()
        return found

    def close(self) -> None:
        """Remove it."""
        self._file.close()
