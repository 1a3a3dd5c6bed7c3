"""How a SQLite database may be opened: never in a way that changes it, or keeps the application from it.

A source is opened with ``mode=ro``. That is not enough for a database in WAL mode that was closed cleanly: the first
reader makes the ``-wal`` and ``-shm`` files anew, they belong to who makes them, and **the application's next write
fails if it runs as another user**. So opening is refused then, and the message names the user to run as. In a place
where nothing can be written, ``immutable=1`` reads without those files; it takes no locks, so whether the file changed
is looked at before and after each read.
"""

from __future__ import annotations

import os
import pwd
import sqlite3
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from commandstore.errors import (
    AccessDenied,
    CommandStoreError,
    ConfigurationError,
    StoreNotFound,
    StoreUnavailable,
    Unsupported,
)

__all__ = ["Access", "access_of", "connect", "translate"]

BUSY_SECONDS = 10.0
"""How long a read or write waits for the application's lock."""

_MAGIC = b"SQLite format 3\0"
_WAL = 2


@dataclass(frozen=True, slots=True)
class Access:
    """How a database is to be read at this moment.

    Attributes:
        mode: ``ro``, or ``immutable`` where nothing can be written beside it.
        state: of an immutable one: size, time of change and SQLite's change counter.
    """

    mode: Literal["ro", "immutable"]
    state: tuple[int, int, int] | None = None


def access_of(path: Path, *, uid: int | None = None) -> Access:
    """Find out how to read a database without leaving anything that the application could stumble over.

    Args:
        path: the database file.
        uid: whose eyes to look with; this process's user by default.

    Raises:
        StoreNotFound: there is no such file.
        AccessDenied: it can't be read, or reading it as this user would lock the application out.
        ConfigurationError: it is no SQLite database.
        StoreUnavailable: it needs a recovery that a reader can't do.
    """
    uid = os.geteuid() if uid is None else uid
    header, state, owner = _look(path)
    wal, shm, journal = (path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "-journal"))
    closed_place = not os.access(path.parent, os.W_OK, effective_ids=os.access in os.supports_effective_ids)
    pending = _size(wal) > 0
    if header[18:20] == bytes((_WAL, _WAL)):
        if shm.exists() and wal.exists():
            return Access("ro")
        if closed_place and not pending:
            return Access("immutable", state)
        if closed_place:
            raise StoreUnavailable(
                f"{path} has changes in {wal.name} that can't be read without {shm.name}, and nothing can be written "
                "here to make one; open it once where the application runs, or copy both files elsewhere"
            )
        if uid not in {0, owner}:
            raise AccessDenied(
                f"{path} is closed at the moment, and opening it would make {wal.name} and {shm.name} belong to "
                f"{_user(uid)}: the application's next write would fail. Run this as {_user(owner)}, the file's owner, "
                "or while the application has it open"
            )
        return Access("ro")
    if closed_place and _size(journal) > 0:
        raise StoreUnavailable(
            f"{path} has a {journal.name} that must be rolled back first, and nothing can be written here; "
            "open it once with the application"
        )
    return Access("ro")


def _look(path: Path) -> tuple[bytes, tuple[int, int, int], int]:
    try:
        with path.open("rb") as file:
            header = file.read(100)
            found = os.fstat(file.fileno())
    except FileNotFoundError:
        raise StoreNotFound(
            f"there is no file {path}; to make a new store there: commandstore init sqlite:///{path}"
        ) from None
    except IsADirectoryError:
        raise ConfigurationError(f"{path} is a directory, not a SQLite database") from None
    except OSError as error:
        raise AccessDenied(f"{path} can't be read: {error.strerror}") from error
    if header and not header.startswith(_MAGIC):
        raise ConfigurationError(f"{path} is not a SQLite database")
    counter = struct.unpack(">I", header[24:28])[0] if len(header) >= 28 else 0  # noqa: PLR2004 - the file format
    return header, (found.st_size, found.st_mtime_ns, counter), found.st_uid


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _user(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user id {uid}"


def connect(path: Path, mode: Literal["ro", "immutable", "rw", "rwc"]) -> sqlite3.Connection:
    """A connection in autocommit: a read lasts as long as its statement, a transaction begins where the SQL says so."""
    how = "mode=ro&immutable=1" if mode == "immutable" else f"mode={mode}"
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?{how}", uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    # All text as bytes: decoding is the row's business, and SQLite itself turns UTF-16 into UTF-8 here.
    connection.text_factory = bytes
    connection.create_function("utf8", 1, _utf8, deterministic=True)
    return connection


def _utf8(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else b"" if value is None else bytes(value)


_NAMES: dict[str, tuple[type[CommandStoreError], str]] = {
    "SQLITE_BUSY": (StoreUnavailable, "is locked by another process; try again"),
    "SQLITE_LOCKED": (StoreUnavailable, "is locked by another connection; try again"),
    "SQLITE_READONLY_ROLLBACK": (
        StoreUnavailable,
        "was left in the middle of a transaction, which a reader can't roll back; open it once with the application",
    ),
    "SQLITE_READONLY": (AccessDenied, "can't be written by this user"),
    "SQLITE_CANTOPEN": (AccessDenied, "can't be opened by this user"),
    "SQLITE_PERM": (AccessDenied, "can't be accessed by this user"),
    "SQLITE_AUTH": (AccessDenied, "can't be accessed by this user"),
    "SQLITE_NOTADB": (ConfigurationError, "is not a SQLite database"),
    "SQLITE_CORRUPT": (
        StoreUnavailable,
        (
            "is damaged (SQLite calls it malformed). If only writes fail: comby's v1.2 made workspace_index before its "
            "column; REINDEX workspace_index rebuilds it"
        ),
    ),
    "SQLITE_FULL": (StoreUnavailable, "has no room left on its disk"),
    "SQLITE_IOERR": (StoreUnavailable, "had an error of its disk"),
    "SQLITE_TOOBIG": (Unsupported, "can't hold a value of this size"),
}


def translate(error: BaseException, path: Path) -> CommandStoreError:
    """What an error of SQLite means here: by its extended name, then by its primary one."""
    name = getattr(error, "sqlite_errorname", None) or "SQLITE_ERROR"
    primary = "_".join(name.split("_")[:2])
    kind, what = _NAMES.get(name) or _NAMES.get(primary) or (StoreUnavailable, f"answered {name}")
    if "no such table" in str(error):
        kind, what = StoreNotFound, "has no table commands any more"
    return kind(f"{path} {what}")
