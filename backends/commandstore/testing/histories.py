"""Random concurrent histories on a real store, each client with a store of its own as another process would have.

What clients do is drawn from a seed (:mod:`commandstore.testing.scripts`). :func:`run_clients` does it, on threads over
blocking stores or as tasks over async ones, and notes who was answered what, and when.
:mod:`commandstore.testing.linearizability` judges it::

    history = run_clients(make_backend, "blocking", random_scripts(seed=1))
    assert not check(history.operations, command_model)

Some operations are cut off in the middle, as by a kill: a blocking one before one of its requests, an async one by a
cancellation, which may also leave a request on its way. What they did is unknown, and may still be happening.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any, Literal, ParamSpec, TypeVar

from commandstore.command import BatchResult, Command
from commandstore.contract import Backend
from commandstore.core import StoreCore, StoreOptions
from commandstore.drive import AsyncDrive, BlockingDrive, run
from commandstore.errors import CommandExists, StoreUnavailable, Unsupported
from commandstore.testing.linearizability import UNKNOWN, Operation
from commandstore.testing.scripts import Step, content

__all__ = ["History", "run_clients"]

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(slots=True)
class History:
    """What happened.

    Attributes:
        operations: as the checker takes them.
        cut: how many operations were cut off on purpose.
        unavailable: how many ended because the store did not answer, or asked for a slower pace, after all retries.
        kinds: how often each kind and answer came.
    """

    operations: list[Operation] = field(default_factory=list)
    cut: int = 0
    unavailable: int = 0
    kinds: Counter[str] = field(default_factory=Counter)


def run_clients(
    make_backend: Callable[[], Backend],
    drive: Literal["blocking", "async"],
    scripts: Sequence[Sequence[Step]],
    *,
    options: StoreOptions | None = None,
    during: AbstractContextManager[Any] | None = None,
) -> History:
    """Let each client do what it shall, all at once; in the end, another one reads all there is. What happened.

    Args:
        make_backend: a new backend for the same place, each time.
        drive: threads over blocking stores, or tasks over async ones.
        scripts: what each client does.
        options: of the stores.
        during: entered while the clients do what they shall: a ``FaultPlan``, which then spares whoever opens and
            closes stores, and reads in the end. Of a plan it is known that nothing is on its way any more when an error
            comes: so what ended in ``StoreUnavailable`` was done by then, or never is.

    Raises:
        Exception: whatever else than an unknown fate an operation ended with; once all clients are done.
    """
    notes = _Notes(scripts, settles=during is not None)
    work = [_Client(number, script, notes) for number, script in enumerate(scripts)]
    registers = any(step.kind == "swap" for script in scripts for step in script)
    reads = [Step("register" if registers else "get", name, 0) for name in notes.names]
    last = _Client(len(scripts), reads, notes)
    if drive == "async":
        asyncio.run(_as_tasks(make_backend, work, last, options or StoreOptions(), during or nullcontext()))
    else:
        _on_threads(make_backend, work, last, options or StoreOptions(), during or nullcontext())
    return notes.history


class _CutOff(BaseException):
    """Ends an operation where a kill would have."""


_requests_left: contextvars.ContextVar[list[int] | None] = contextvars.ContextVar("requests_left", default=None)


class _MortalDrive(BlockingDrive):
    """Cuts an operation off before one of its requests, and lets nothing that it began make another."""

    def check(self) -> None:
        super().check()
        left = _requests_left.get()
        if left is not None:
            left[0] -= 1  # one list for all threads of the operation
            if left[0] < 0:
                raise _CutOff

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        self.check()
        return await super().call(function, *args, **kwargs)


class _Notes:
    """What all clients write down."""

    def __init__(self, scripts: Sequence[Sequence[Step]], *, settles: bool) -> None:
        self.settles = settles
        self.history = History()
        self.tick = itertools.count(1).__next__  # one call of C: never the same twice, in whatever thread
        self.names = sorted({step.name for script in scripts for step in script})
        self.written = {
            content(name, step): step.number for script in scripts for step in script for name in self.names
        }

    def seen(self, found: Command | None) -> str | int | None:
        """What a command that was read is: a number, or something that nobody wrote."""
        return None if found is None else self.written.get(found, f"nobody's: {found!r:.300}")


class _Client:
    """Does its script, one step after the other."""

    def __init__(self, number: int, script: Sequence[Step], notes: _Notes) -> None:
        self._number = number
        self._script = script
        self._notes = notes
        self._tokens: dict[str, str | None] = {}

    async def work(self, core: StoreCore, guard: Callable[[Coroutine[Any, Any, Any], int | None], Any]) -> None:
        notes = self._notes
        for step in self._script:
            start = notes.tick()
            try:
                found = await guard(self._do(core, step), step.cut)
            except CommandExists as exists:
                # What is there was read after the create had failed, so it is a get of its own.
                self._note(step, "create", step.number, "exists", start, step.name)
                self._note(step, "get", None, notes.seen(exists.existing), start, step.name)
            except (_CutOff, asyncio.CancelledError):
                notes.history.cut += 1
                self._lost(step, start)
            except StoreUnavailable:
                notes.history.unavailable += 1
                self._lost(step, start, settled=notes.settles)
            else:
                self._answered(step, found, start)

    async def _do(self, core: StoreCore, step: Step) -> Any:
        job: Coroutine[Any, Any, Any]
        match step.kind:
            case "create":
                job = core.create(content(step.name, step))
            case "create_many":
                job = core.create_many([content(name, step) for name in self._notes.names])
            case "get":
                job = core.get(step.name)
            case "update":
                job = core.update(content(step.name, step))
            case "delete":
                job = core.delete(step.name)
            case "list":
                job = core.list(core.query({}), offset=0, limit=-1, cursor=None, with_total=False)
            case "compact":
                job = _compact(core)
            case "register":
                job = core.backend.register_get(step.name)
            case "swap":
                expected, token, value = self._swap(step)
                job = core.backend.register_swap(step.name, value, expected=expected, token=token)
        return await job

    def _swap(self, step: Step) -> tuple[str | None, str, bytes | None]:
        return self._tokens.get(step.name), f"token-{step.number}", None if step.size % 2 else b"%d" % step.number

    def _answered(self, step: Step, found: Any, start: int) -> None:
        notes = self._notes
        match step.kind:
            case "create":
                self._note(step, "create", step.number, "created", start, step.name)
            case "create_many":
                for name, result in _results(found):
                    self._note(step, "create", step.number, result, start, name)
            case "get":
                self._note(step, "get", None, notes.seen(found), start, step.name)
            case "list":
                listed = {command.command_uuid: command for command in found.commands}
                assert len(listed) == len(found.commands), f"listed twice: {found!r:.2000}"
                for name in notes.names:
                    self._note(step, "get", None, notes.seen(listed.get(name)), start, name)
            case "update" | "delete":
                argument = step.number if step.kind == "update" else None
                self._note(step, step.kind, argument, found, start, step.name)
            case "register":
                assert found is None or found.value == found.token.removeprefix("token-").encode(), found
                self._tokens[step.name] = found and found.token
                self._note(step, "get", None, found and found.token, start, step.name)
            case "swap":
                expected, token, value = self._swap(step)
                new = None if value is None else token
                self._note(step, "swap", (expected, new), found, start, step.name)
                if found:
                    self._tokens[step.name] = new

    def _lost(self, step: Step, start: int, *, settled: bool = False) -> None:
        match step.kind:
            case "create" | "create_many":
                for name in self._notes.names if step.kind == "create_many" else [step.name]:
                    self._note(step, "create", step.number, UNKNOWN, start, name, lost=not settled)
            case "update" | "delete":
                argument = step.number if step.kind == "update" else None
                self._note(step, step.kind, argument, UNKNOWN, start, step.name, lost=not settled)
            case "swap":
                expected, token, value = self._swap(step)
                new = None if value is None else token
                self._note(step, "swap", (expected, new), UNKNOWN, start, step.name, lost=not settled)

    def _note(
        self, step: Step, kind: str, argument: Any, result: Any, start: int, name: str, *, lost: bool = False
    ) -> None:
        history = self._notes.history
        end = None if lost else self._notes.tick()
        history.operations.append(Operation(kind, argument, result, start, end, name, self._number))
        shown = "something" if kind == "get" and result is not None else result
        history.kinds[f"{step.kind}: {shown}"] += 1


async def _compact(core: StoreCore) -> None:
    with suppress(Unsupported):
        await core.compact()


def _results(found: BatchResult) -> Iterable[tuple[str, str]]:
    assert not found.failed, found.failed
    for result in ("created", "duplicate", "conflicting"):
        for name in getattr(found, result):
            yield name, result


def _on_threads(
    make_backend: Callable[[], Backend],
    work: Sequence[_Client],
    last: _Client,
    options: StoreOptions,
    during: AbstractContextManager[Any],
) -> None:
    cores = [StoreCore(make_backend(), _MortalDrive()) for _ in (*work, last)]
    begin = threading.Barrier(len(work))

    async def guard(job: Coroutine[Any, Any, T], cut: int | None) -> T:
        token = _requests_left.set(None if cut is None else [cut])
        try:
            return await job
        finally:
            _requests_left.reset(token)

    def client(at: int) -> None:
        begin.wait()
        run(work[at].work(cores[at], guard))

    try:
        for core in cores:
            run(core.init(options, create=True))
        with during, ThreadPoolExecutor(len(work)) as pool:
            list(pool.map(client, range(len(work))))
        run(last.work(cores[-1], guard))
    finally:
        for core in cores:
            run(core.close())


async def _as_tasks(
    make_backend: Callable[[], Backend],
    work: Sequence[_Client],
    last: _Client,
    options: StoreOptions,
    during: AbstractContextManager[Any],
) -> None:
    cores = [StoreCore(make_backend(), AsyncDrive()) for _ in (*work, last)]

    async def guard(job: Coroutine[Any, Any, T], cut: int | None) -> T:
        if cut is None:
            return await job
        task = asyncio.ensure_future(job)
        for _ in range(cut):
            await asyncio.sleep(0)
        task.cancel()
        return await task

    try:
        for core in cores:
            await core.init(options, create=True)
        with during:
            results = await asyncio.gather(
                *(client.work(core, guard) for client, core in zip(work, cores, strict=False)), return_exceptions=True
            )
        for result in results:
            if isinstance(result, BaseException):
                raise result
        await last.work(cores[-1], guard)
    finally:
        for core in cores:
            await core.close()
