"""A child process that never outlives its parent, however the parent ends.

Between the two stands a supervisor: this file, run as a script. It holds the reading end of a pipe whose writing end
only the parent has. The end of that pipe, which also comes when the parent is killed, is the order to stop. Unlike
``PR_SET_PDEATHSIG`` this reaches grandchildren (uv and npx start the engine as one), needs no code between fork and
exec, and works wherever there are process groups. Only the standard library is used, as the script runs isolated.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["SupervisedProcess", "free_port"]

_GRACE_SECONDS = 10.0
_NOT_STARTED = 127
_PR_SET_CHILD_SUBREAPER = 36


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago. Another process may take it first: be ready to try again."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class SupervisedProcess:
    """A running command with its output in a file, in a process group of its own.

    Args:
        command: the program and its arguments.
        environment: the whole environment of the program.
        directory: where it runs; removed with all that is in it once the program has ended, also after a crash.
        stop_signal: what asks it to end. Whatever of its group is left after ten seconds is killed.
        user: the name of the account to run it as; only root can ask for another one.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        directory: Path,
        stop_signal: signal.Signals = signal.SIGKILL,
        user: str | None = None,
    ) -> None:
        order = {"command": list(command), "directory": str(directory), "signal": int(stop_signal), "user": user}
        # It has no name, so that a crash leaves no log behind.
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop()
        self._supervisor = subprocess.Popen(  # noqa: S603 - the command is the caller's, and no shell reads it
            [sys.executable, "-I", "-S", __file__, json.dumps(order)],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=dict(environment),
            # A Ctrl-C at the terminal is for the parent, which then stops its engines in order.
            start_new_session=True,
        )

    @property
    def alive(self) -> bool:
        """Whether the program still runs."""
        return self._supervisor.poll() is None

    def output(self, characters: int = 2_000) -> str:
        """The end of what the program has printed so far."""
        if self._log.closed:
            return ""
        # pread leaves the offset alone, which the program shares.
        size = os.fstat(self._log.fileno()).st_size
        start = max(0, size - characters)
        return os.pread(self._log.fileno(), size - start, start).decode("utf-8", "replace").strip()

    def stop(self) -> None:
        """End the program and wait for it. Stopping twice is fine."""
        if self._supervisor.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._supervisor.stdin.close()
        try:
            self._supervisor.wait(timeout=2 * _GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._supervisor.kill()
            self._supervisor.wait()
        self._log.close()


def _identity(user: str | None) -> dict[str, Any]:
    if user is None:
        return {}
    import pwd  # noqa: PLC0415 - not on every system, and needed only by root

    account = pwd.getpwnam(user)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _stop_with_parent(child: subprocess.Popen[bytes], stop_signal: int) -> None:
    while os.read(0, 1024):
        pass  # nobody writes; only the end of the pipe has a meaning
    with contextlib.suppress(ProcessLookupError):
        child.send_signal(stop_signal)
    try:
        child.wait(timeout=_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()


def _adopt_orphans() -> None:
    # Linux: what the child leaves behind becomes ours, so that we can wait until it is really gone.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _reap_orphans() -> None:
    deadline = time.monotonic() + _GRACE_SECONDS
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < deadline:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.005)


def _supervise(order: Mapping[str, Any]) -> int:
    _adopt_orphans()
    try:
        return _run(order)
    except OSError as error:  # there is no such program
        sys.stderr.write(f"{error}\n")
        return _NOT_STARTED
    finally:
        shutil.rmtree(order["directory"], ignore_errors=True)


def _run(order: Mapping[str, Any]) -> int:
    child = subprocess.Popen(  # noqa: S603 - see SupervisedProcess
        order["command"], stdin=subprocess.DEVNULL, start_new_session=True, **_identity(order["user"])
    )
    threading.Thread(target=_stop_with_parent, args=(child, order["signal"]), daemon=True).start()
    code = child.wait()
    # uv and npx may be gone while what they started lives on: it is in their group.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    _reap_orphans()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    raise SystemExit(_supervise(json.loads(sys.argv[1])))
