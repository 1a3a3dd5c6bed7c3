"""A process that has imported all there is, and forks one for each command line that it is told to run.

It makes no connection and starts no thread, so that forking it is safe; the SDKs start theirs in the forked one. On its
stdin comes a line of JSON for each order, on its stdout goes a line for each answer.

| order                                                | answer                                      |
|------------------------------------------------------|---------------------------------------------|
| ``{"run": argv, "environment": {...}, "output": file, "calls": n}`` | the process's id             |
| ``{"wait": pid}``                                    | how it ended, as ``Popen.returncode`` says  |

The output goes to a FIFO that the caller reads. With ``calls``, the process kills itself by SIGKILL at its n-th call of
a Python function, counted over all its threads from when the sync begins: with one thread that is the same place each
time. When it ends before, it prints ``calls: N``, how many it made.

It is their parent and leaves what has ended unreaped until it is asked, so that no id is given to another meanwhile.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any


def main() -> None:
    from commandstore.cli import main as command_line  # noqa: PLC0415 - not in the tests' own process

    for module in sys.argv[1:]:
        __import__(module)
    with contextlib.redirect_stdout(None), contextlib.redirect_stderr(None):
        command_line(["sync", "--help"])  # imports the rest
    assert threading.active_count() == 1, threading.enumerate()
    assert len(os.listdir("/proc/self/task")) == 1, "a thread that Python doesn't know of"  # noqa: PTH208
    for line in sys.stdin:
        order = json.loads(line)
        answer = _wait(order["wait"]) if "wait" in order else _start(order)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


def _wait(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _start(order: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        code = _command(order)
    finally:
        # Nothing of this process may end in the forked one: its buffers, its exit handlers.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _command(order: dict[str, Any]) -> int:
    from commandstore.cli import main as command_line  # noqa: PLC0415 - not in the tests' own process

    os.environ.update(order["environment"])
    null = os.open(os.devnull, os.O_RDONLY)
    output = os.open(order["output"], os.O_WRONLY | os.O_NONBLOCK)  # an error where the caller is gone
    os.set_blocking(output, True)
    for at, file in enumerate((null, output, output)):
        os.dup2(file, at)
    os.setpgid(0, 0)
    if order["calls"] is None:
        return command_line(order["run"])
    count = itertools.count(1)
    _die_at(order["calls"], count.__next__)
    code = command_line(order["run"])
    sys.stderr.write(f"calls: {next(count)}\n")
    return code


def _die_at(calls: int, count: Callable[[], int]) -> None:
    from commandstore.replication.engine import Sync  # noqa: PLC0415 - not in the tests' own process

    def called(frame: object, event: str, argument: object) -> None:
        del frame, argument
        if event == "call" and count() >= calls:
            os.kill(os.getpid(), signal.SIGKILL)

    whole_run = Sync.run

    async def counted(self: Sync) -> Any:
        threading.setprofile(called)
        sys.setprofile(called)
        try:
            return await whole_run(self)
        finally:
            sys.setprofile(None)

    Sync.run = counted  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
