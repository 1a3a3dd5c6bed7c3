"""Running a part of a test as another user of the system, as an application and a sync run side by side."""

import os
import pickle
import pwd  # noqa: F401 - imported now, since another user may not be allowed to read where Python's modules are
import shutil
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from commandstore.testing.engine_base import engines_required

_PATIENCE = 60
APP, READER = 61001, 61002  # numbers that no user has


def needs_root() -> None:
    """Skip, or fail where every kind of test must run, unless this process may become another user."""
    if os.geteuid() == 0:
        return
    reason = "another user's files and rights need root to be tried"
    if engines_required():
        pytest.fail(f"COMMANDSTORE_REQUIRE_ENGINES is set, but {reason}", pytrace=False)
    pytest.skip(reason)


@contextmanager
def folder_of(uid: int, mode: int = 0o755) -> Iterator[Path]:
    """A directory of this user that others can enter: pytest's own are closed to them."""
    path = Path(tempfile.mkdtemp(prefix="commandstore-users-", dir="/tmp"))
    path.chmod(mode)
    os.chown(path, uid, uid)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def as_user(uid: int, work: Callable[[], Any], *, meanwhile: Callable[[], None] | None = None) -> Any:
    """What ``work`` returns, or raises, in a child process of this user.

    Args:
        uid: the user; 0 stays root.
        work: picklable result or exception.
        meanwhile: runs here while the child waits in ``wait_for_parent``.
    """
    (out, into), (other_in, other_out) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            global _parent  # noqa: PLW0603 - this process ends in a moment
            _parent = (into, other_in)
            signal.alarm(_PATIENCE)  # a test that waits for itself ends
            try:
                answer = (True, work())
            except Exception as error:  # noqa: BLE001 - it is raised again by the parent
                error.add_note(traceback.format_exc())
                answer = (False, error)
            os.write(into, b"." + pickle.dumps(answer))
        finally:
            os._exit(0)
    os.close(into)
    os.close(other_in)
    try:
        with os.fdopen(out, "rb") as answers:
            if answers.read(1) == b"?" and meanwhile is not None:
                meanwhile()
                os.write(other_out, b"!")
                answers.read(1)
            fine, value = pickle.loads(answers.read())  # noqa: S301 - written just above
    finally:
        os.close(other_out)
        os.waitpid(child, 0)
    if not fine:
        raise value
    return value


_parent: tuple[int, int] = (-1, -1)
_waited = False


def wait_for_parent() -> None:
    """In a child of ``as_user``: let the parent do its ``meanwhile``, once."""
    global _waited  # noqa: PLW0603 - of this process, which ends in a moment
    if not _waited:
        _waited = True
        os.write(_parent[0], b"?")
        os.read(_parent[1], 1)
