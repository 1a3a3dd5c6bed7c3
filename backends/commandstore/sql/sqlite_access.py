"""How a SQLite database may be opened: never in a way that changes it, or keeps the application from it.

A source is opened with ``mode=ro``. That is not enough for a database in WAL mode that was closed cleanly: the first
reader makes the ``-wal`` and ``-shm`` files anew, they belong to who makes them, and **the application's next write
fails if it runs as another user**. So reading is refused then, and the message names the user to run as. In a place
where nothing can be written, ``immutable=1`` reads without those files; it takes no locks, so whether the file changed
is looked at before and after each read.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal
from urllib.parse import quote

from commandstore.errors import (
    AccessDenied,
    CommandStoreError,
    ConfigurationError,
    StoreNotFound,
    StoreUnavailable,
    Unsupported,
)

__all__ = ["Access", "DatabaseFile", "connect", "translate"]

BUSY_SECONDS = 10.0
"""How long a read or write waits for the application's lock."""

_MAGIC = b"SQLite format 3\0"
_HEADER = 100
_WAL = bytes((2, 2))


@dataclass(frozen=True, slots=True)
class Access:
    """How a database is to be read at this moment.

    Attributes:
        mode: ``ro``, or ``immutable`` where nothing can be written beside it.
        file: which file it is: device and inode.
        state: of an immutable one: size, time of change and SQLite's change counter.
        shm: whose the ``-shm`` beside it is.
    """

    mode: Literal["ro", "immutable"]
    file: tuple[int, int]
    state: tuple[int, int, int] | None = None
    shm: int | None = None


class DatabaseFile:
    """The database file, held open to look at its header.

    When a process closes a file, the system drops all locks that the process has on it, also those that SQLite took for
    another connection in another thread. So the file is not opened and closed for each look. It is held once in a
    process, whoever looks, and closed when nobody does any more: after the connections.

    Args:
        path: the file, links resolved: SQLite keeps its journals beside what they lead to.

    Raises:
        StoreNotFound, AccessDenied, ConfigurationError: as :meth:`access`.
    """

    _held: ClassVar[dict[tuple[int, int], tuple[list[int], int]]] = {}
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: tuple[int, int] | None = None
        self._descriptor = -1
        self._hold()

    def access(self) -> Access:
        """Find out how to read the database now, without leaving anything that the application could stumble over.

        Raises:
            StoreNotFound: there is no such file.
            AccessDenied: it can't be read, or reading it as this user would lock the application out.
            ConfigurationError: it is no SQLite database.
            StoreUnavailable: it needs a recovery that a reader can't do.
        """
        found = _stat(self._path)
        if (found.st_dev, found.st_ino) != self._file:  # replaced by another, as when a backup is restored
            self._hold()
        header = os.pread(self._descriptor, _HEADER, 0)
        if header and not header.startswith(_MAGIC):
            raise ConfigurationError(f"{self._path} is not a SQLite database")
        assert self._file is not None  # noqa: S101 - held just above
        return _access(self._path, self._file, header, os.fstat(self._descriptor))

    def is_as(self, access: Access) -> bool:
        """Whether the file is still what it was, byte for byte."""
        found = _stat(self._path)
        header = os.pread(self._descriptor, _HEADER, 0)
        return access.file == (found.st_dev, found.st_ino) and access.state == _state(header, found)

    def check_left(self, access: Access) -> None:
        """Look at what the first read of a connection left beside the database.

        The application may have closed it between our look and that read, which then made the files anew. They are not
        removed here: whether it has opened them since can't be told without a race, and then commits would be lost.

        Raises:
            AccessDenied: they are of our making, and in its way; names what to do.
        """
        us, owner = os.geteuid(), os.fstat(self._descriptor).st_uid
        shm = _beside(self._path, "-shm")
        with suppress(FileNotFoundError):
            found = shm.stat()
            if us != owner and found.st_uid == us != access.shm:
                raise AccessDenied(
                    f"{self._path} was closed by its application at the moment it was opened here, so that {shm.name} "
                    f"and {self._path.name}-wal now belong to {_user(us)}: give them to {_user(owner)} (chown), or its "
                    f"next write fails. Run this as {_user(owner)} instead"
                )

    def close(self) -> None:
        """Let go of it. A second call does nothing."""
        with self._lock:
            self._release()

    def _hold(self) -> None:
        found = _stat(self._path)
        if not stat.S_ISREG(found.st_mode):
            what = "a directory" if stat.S_ISDIR(found.st_mode) else "not a file"
            raise ConfigurationError(f"{self._path} is {what}, so not a SQLite database")
        with self._lock:
            file = (found.st_dev, found.st_ino)
            descriptors, users = self._held.get(file, ([], 0))
            if not descriptors:
                try:
                    descriptors = [os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)]
                except OSError as error:
                    raise _unreadable(self._path, error) from error
                opened = os.fstat(descriptors[0])
                file = (opened.st_dev, opened.st_ino)  # it may have been replaced between the two
                others, users = self._held.get(file, ([], 0))
                descriptors += others
            self._held[file] = (descriptors, users + 1)
            self._release()
            self._file, self._descriptor = file, descriptors[0]

    def _release(self) -> None:
        if self._file is None:
            return
        descriptors, users = self._held.pop(self._file)
        if users > 1:
            self._held[self._file] = (descriptors, users - 1)
        else:
            for descriptor in descriptors:
                os.close(descriptor)
        self._file = None


def _access(path: Path, file: tuple[int, int], header: bytes, found: os.stat_result) -> Access:
    if header[18:20] != _WAL:
        # Locks do all that is needed. A journal that was left by a crash, SQLite tells from one that is in use.
        return Access("ro", file)
    wal, shm = _beside(path, "-wal"), _beside(path, "-shm")
    with suppress(FileNotFoundError):
        wal.stat()
        return Access("ro", file, shm=shm.stat().st_uid)
    uid = os.geteuid()
    if not os.access(path.parent, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        if _size(wal) > 0:
            raise StoreUnavailable(
                f"{path} has changes in {wal.name} that can't be read without {shm.name}, and nothing can be written "
                "here to make one; open it once where the application runs, or copy both files elsewhere"
            )
        return Access("immutable", file, _state(header, found))
    if uid not in {0, found.st_uid}:
        raise AccessDenied(
            f"{path} is closed at the moment, and opening it would make {wal.name} and {shm.name} belong to "
            f"{_user(uid)}: the application's next write would fail. Run this as {_user(found.st_uid)}, the file's "
            "owner, or while the application has it open"
        )
    return Access("ro", file)


def _state(header: bytes, found: os.stat_result) -> tuple[int, int, int]:
    return found.st_size, found.st_mtime_ns, struct.unpack(">I", header[24:28])[0]


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> CommandStoreError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return StoreNotFound(f"there is no file {path}; to make a new store there: commandstore init sqlite:///{path}")
    return AccessDenied(f"{path} can't be read: {error.strerror}")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _user(uid: int) -> str:
    try:
        import pwd  # noqa: PLC0415 - not everywhere

        return f"user {pwd.getpwuid(uid).pw_name}"
    except (ImportError, KeyError):
        return f"user id {uid}"


def connect(path: Path, mode: Literal["ro", "immutable", "rw", "rwc"]) -> sqlite3.Connection:
    """A connection in autocommit: a read lasts as long as its statement, a transaction begins where the SQL says so."""
    how = "mode=ro&immutable=1" if mode == "immutable" else f"mode={mode}"
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?{how}", uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    # All text as bytes: decoding is the row's business, and SQLite itself turns UTF-16 into UTF-8 here.
    connection.text_factory = bytes
    connection.create_function("utf8", 3, _utf8, deterministic=True)
    return connection


def _utf8(kind: str, stored: bytes, encoding: str) -> bytes:
    """A text that is kept in UTF-16, in UTF-8: what the total order compares. Invalid text has some place in it."""
    return stored if kind == "blob" else stored.decode(encoding, "replace").encode("utf-8", "replace")


_NAMES: dict[str, tuple[type[CommandStoreError], str]] = {
    "SQLITE_BUSY": (StoreUnavailable, "is locked by another process; try again"),
    "SQLITE_LOCKED": (StoreUnavailable, "is locked by another connection; try again"),
    "SQLITE_READONLY_ROLLBACK": (
        StoreUnavailable,
        "was left in the middle of a transaction, which a reader can't roll back; open it once with the application",
    ),
    "SQLITE_READONLY_RECOVERY": (
        StoreUnavailable,
        "was left in the middle of its work, and a reader can't recover it; open it once with the application",
    ),
    "SQLITE_READONLY_CANTINIT": (
        StoreUnavailable,
        "was left in the middle of its work, and a reader can't recover it; open it once with the application",
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
