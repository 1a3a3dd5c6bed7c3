"""Places in the file system, looked at before the work that would be lost with them. Whatever is wrong is one line."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from commandstore.errors import ConfigurationError

__all__ = ["check_free", "check_replaceable", "read", "regular_file", "start_of"]


def read(path: Path) -> bytes:
    """All of a file.

    Raises:
        ConfigurationError: it can't be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"can't read {str(path)!a}: {error.strerror}") from error


def start_of(path: Path, size: int) -> bytes:
    """The first bytes of a file that can be read again; of a pipe, or where there is none, nothing."""
    if regular_file(path) is None:
        return b""
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError:  # whoever reads the whole says so
        return b""


def check_free(path: Path) -> None:
    """That nothing is there, not even a link to nowhere.

    Raises:
        ConfigurationError: something is, or it can't be found out.
    """
    # Not by Path.exists(), which raises what is neither "there" nor "not there": a name that is too long, a folder
    # that is closed to this user.
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise ConfigurationError(f"can't write {str(path)!a}: {error.strerror}") from error
    raise ConfigurationError(f"{str(path)!a} is there already; nothing was changed")


def check_replaceable(path: Path, what: str) -> None:
    """That a file can be put there, by way of another name beside it: one is made, and removed again.

    By trying, because permissions alone don't tell of a full disk, or of one that is mounted read-only.

    Raises:
        ConfigurationError: it can't; says what for.
    """
    beside = Path(os.path.realpath(path)).with_name(f".commandstore-{secrets.token_hex(8)}.part")
    try:
        try:
            beside.touch(exist_ok=False)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"can't write the {what} {str(path)!a}: {error.strerror}; nothing else was done"
        ) from error


def regular_file(path: Path) -> os.stat_result | None:
    """What the system knows of a file that can be read twice; None where there is none, or a pipe, or no access."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found if stat.S_ISREG(found.st_mode) else None
