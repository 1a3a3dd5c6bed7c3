"""How one algorithm runs with and without an event loop.

Backends write their algorithms once, as coroutines. An ``AsyncCommandStore`` runs them on asyncio, over an
asynchronous client. A ``CommandStore`` runs them with :func:`run`: the client underneath is a blocking one whose
methods are wrapped as coroutines that never suspend, so one ``send(None)`` takes a coroutine to its end. No event loop,
no thread to carry one, no generated copy of the code.

What differs between the two worlds is in a :class:`Drive`: doing several things at once, sleeping, calling something
that blocks. asyncio is imported in this module alone.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, ClassVar, ParamSpec, TypeVar

from commandstore.errors import CommandStoreError, StoreClosed, SuspendedError

__all__ = ["AsyncDrive", "BlockingClient", "BlockingDrive", "Drive", "OperationStopped", "run"]

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
Job = Callable[[], Coroutine[Any, Any, T]]


class OperationStopped(CommandStoreError, RuntimeError):
    """Work in another thread was told to stop, because the call that it belongs to is ending."""


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends to its end.

    Raises:
        SuspendedError: it did suspend; named, since it is a fault of the backend that the coroutine belongs to.
    """
    try:
        coroutine.send(None)
    except StopIteration as end:
        value: T = end.value
        return value
    finally:
        coroutine.close()
    name = getattr(coroutine, "__qualname__", repr(coroutine))
    raise SuspendedError(f"{name} suspended in a blocking store; it awaits something that needs an event loop")


class Drive(ABC):
    """The three things that differ with and without an event loop, and a way to stop."""

    is_async: ClassVar[bool]

    @abstractmethod
    async def gather(self, jobs: Sequence[Job[T]], limit: int) -> list[T]:
        """Run jobs, at most ``limit`` at once; results in order.

        After the first failure no further job starts, those in flight are waited for, and that first error is raised
        as it is. Not to be nested: a gather inside a job of a gather runs its jobs one after the other.
        """

    @abstractmethod
    async def pipeline(
        self,
        produce: Callable[[], Awaitable[T | None]],
        work: Callable[[T], Coroutine[Any, Any, R]],
        done: Callable[[T, R], Awaitable[None]],
        limit: int,
    ) -> None:
        """Produce items one after the other until None, work on at most ``limit`` of them at once.

        ``done`` is called for each item in the order of production, once it and all before it are worked. After the
        first failure nothing more is produced or started; what is in flight is waited for, ``done`` is called for
        what comes before the failed item, and that error is raised.
        """

    @abstractmethod
    async def sleep(self, seconds: float) -> None:
        """Pause. Ends early, with :class:`OperationStopped`, when this call is being stopped."""

    @abstractmethod
    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call something that blocks: here and now, or (async) on a thread of this drive's own, one call at a time."""

    @abstractmethod
    def check(self) -> None:
        """Raise where nothing more should be started: a stopped call, or another event loop than the opening one."""

    @abstractmethod
    def close(self) -> None:
        """Join the threads, if there are any. The drive starts new ones when it is used again."""


# Set in the threads that work for one gather or pipeline: tells them to stop before their next request.
_stop: contextvars.ContextVar[threading.Event | None] = contextvars.ContextVar("commandstore_stop", default=None)
# True inside a job of a gather, whose pool must not be waited for from within.
_gathered: contextvars.ContextVar[bool] = contextvars.ContextVar("commandstore_gathered", default=False)


class BlockingDrive(Drive):
    """Runs coroutines that never suspend; several at once on threads.

    A KeyboardInterrupt can't cancel a thread: it sets a stop flag, which is looked at before each request and in
    every sleep, waits for the requests in flight (clients have time-outs), and goes on up.
    """

    is_async = False

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._pool_size = 0

    def _submit(self, limit: int, job: Callable[[], T]) -> Future[T]:
        with self._lock:
            if self._pool is None or self._pool_size < limit:
                if self._pool is not None:
                    self._pool.shutdown(wait=False)
                self._pool, self._pool_size = ThreadPoolExecutor(limit, "commandstore"), limit
            return self._pool.submit(contextvars.copy_context().run, job)

    async def gather(self, jobs: Sequence[Job[T]], limit: int) -> list[T]:
        if len(jobs) <= 1 or limit <= 1 or _gathered.get():
            return [run(job()) for job in jobs]
        stop, flight = _Stop(), _Flight()
        results: list[Any] = [None] * len(jobs)

        def at(index: int) -> Callable[[], None]:
            def work() -> None:
                with flight:
                    _gathered.set(True)
                    self.check()
                    results[index] = run(jobs[index]())

            return work

        with stop:
            waiting = deque(range(len(jobs)))
            running: set[Future[None]] = set()
            error: Exception | None = None
            try:
                while running or (waiting and error is None):
                    while waiting and error is None and len(running) < limit:
                        running.add(self._submit(limit, at(waiting.popleft())))
                    finished, running = wait(running, return_when=FIRST_COMPLETED)
                    error = error or _first_error(finished)
            except BaseException:
                stop.set()
                flight.join()
                raise
            if error is not None:
                raise error
        return results

    async def pipeline(
        self,
        produce: Callable[[], Awaitable[T | None]],
        work: Callable[[T], Coroutine[Any, Any, R]],
        done: Callable[[T, R], Awaitable[None]],
        limit: int,
    ) -> None:
        if limit <= 1:
            while (item := await produce()) is not None:
                await done(item, run(work(item)))
            return
        stop, flight = _Stop(), _Flight()
        flying: deque[tuple[T, Future[R]]] = deque()
        # Threads of its own: a job here may gather, and must not wait for the pool that it occupies.
        with stop, ThreadPoolExecutor(limit, "commandstore-pipeline") as pool:

            def worked(item: T) -> R:
                with flight:
                    self.check()
                    return run(work(item))

            def start(item: T) -> None:
                context = contextvars.copy_context()
                flying.append((item, pool.submit(context.run, worked, item)))

            landing = False

            async def land() -> None:
                nonlocal landing
                item, future = flying[0]
                result = future.result()  # where it fails, the item stays the first, and nothing behind it lands
                landing = True
                await done(item, result)
                landing = False
                flying.popleft()

            try:
                while (item := await produce()) is not None:
                    start(item)
                    while flying and (len(flying) >= limit or flying[0][1].done() or _any_failed(flying)):
                        await land()
                while flying:
                    await land()
            except BaseException as failure:
                if not isinstance(failure, Exception):
                    stop.set()
                    flight.join()
                wait([future for _, future in flying])
                # What comes before a failure of produce or an interrupt; nothing once done itself has failed.
                while not landing and flying and flying[0][1].exception() is None:
                    await land()
                raise

    async def sleep(self, seconds: float) -> None:
        (_stop.get() or threading.Event()).wait(seconds)
        self.check()

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return function(*args, **kwargs)

    def check(self) -> None:
        stop = _stop.get()
        if stop is not None and stop.is_set():
            raise OperationStopped("stopped before the next request, because the call that it belongs to is ending")

    def close(self) -> None:
        with self._lock:
            pool, self._pool, self._pool_size = self._pool, None, 0
        if pool is not None:
            pool.shutdown()


class _Stop(threading.Event):
    """A stop flag that is this context's while it is entered; an outer flag that is set already stays in force."""

    def __enter__(self) -> None:
        outer = _stop.get()
        if outer is not None and outer.is_set():
            self.set()
        self._token = _stop.set(self)

    def __exit__(self, *_: object) -> None:
        _stop.reset(self._token)


class _Flight:
    """How many jobs are running, as they say themselves.

    An interrupt may fall between the start of a thread and the moment when anybody (the pool included) knows of it.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0

    def __enter__(self) -> None:
        with self._changed:
            self._running += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._running -= 1
            self._changed.notify_all()

    def join(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._running)


def _first_error(finished: set[Future[None]]) -> Exception | None:
    for future in finished:
        error = future.exception()
        if isinstance(error, Exception):
            return error
        if error is not None:
            raise error
    return None


class AsyncDrive(Drive):
    """Runs coroutines on asyncio. Bound to the event loop that it is first used in."""

    is_async = True

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: ThreadPoolExecutor | None = None

    def bind(self) -> None:
        """Bind to the running event loop; called when a store is opened."""
        self._loop = asyncio.get_running_loop()

    async def gather(self, jobs: Sequence[Job[T]], limit: int) -> list[T]:
        results: list[Any] = [None] * len(jobs)
        waiting = deque(range(len(jobs)))
        failed: list[Exception] = []

        async def worker() -> None:
            while waiting and not failed:
                index = waiting.popleft()
                try:
                    results[index] = await jobs[index]()
                except Exception as error:  # noqa: BLE001 - the first one is raised below, as it is
                    failed.append(error)

        await _join([asyncio.ensure_future(worker()) for _ in range(max(1, min(limit, len(jobs))))])
        if failed:
            raise failed[0]
        return results

    async def pipeline(
        self,
        produce: Callable[[], Awaitable[T | None]],
        work: Callable[[T], Coroutine[Any, Any, R]],
        done: Callable[[T, R], Awaitable[None]],
        limit: int,
    ) -> None:
        flying: deque[tuple[T, asyncio.Task[R]]] = deque()

        landing = False

        async def land() -> None:
            nonlocal landing
            item, task = flying[0]
            result = await task  # where it fails, the item stays the first, and nothing behind it lands
            landing = True
            await done(item, result)
            landing = False
            flying.popleft()

        try:
            while (item := await produce()) is not None:
                flying.append((item, asyncio.ensure_future(work(item))))
                await asyncio.sleep(0)  # let it send its request before the next item is produced
                while flying and (len(flying) >= limit or flying[0][1].done() or _any_failed(flying)):
                    await land()
            while flying:
                await land()
        except BaseException as failure:
            tasks = [task for _, task in flying]
            if not isinstance(failure, Exception):
                for task in tasks:
                    task.cancel()
            if tasks:
                await asyncio.wait(tasks)
            # What comes before a failure of produce or a cancellation; nothing once done itself has failed.
            while not landing and flying and not _failed(flying[0][1]):
                await land()
            for task in tasks:
                _failed(task)  # looked at, so that asyncio doesn't report an error as never retrieved
            raise

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        self._thread = self._thread or ThreadPoolExecutor(1, "commandstore-blocking")
        context = contextvars.copy_context()
        future = self._thread.submit(context.run, lambda: function(*args, **kwargs))
        running = asyncio.wrap_future(future)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            # The thread can't be cancelled; wait for it, so that nothing runs on behind a caller that has gone.
            if not future.cancel():
                await asyncio.wait([running])
                _failed(running)  # looked at: nobody will ask for it any more
            raise

    def check(self) -> None:
        if self._loop is not None and self._loop is not asyncio.get_running_loop():
            raise StoreClosed(
                "this store was opened in another event loop, and its connections belong to that one; "
                "open a store in each loop (one asyncio.run, one store)"
            )

    def close(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.shutdown()
        self._loop = None


def _failed(future: Future[Any] | asyncio.Future[Any]) -> bool:
    return future.done() and (future.cancelled() or future.exception() is not None)


def _any_failed(flying: Iterable[tuple[Any, Future[Any] | asyncio.Future[Any]]]) -> bool:
    return any(_failed(future) for _, future in flying)


async def _join(tasks: list[asyncio.Future[None]]) -> None:
    """Wait for all; when we are cancelled, cancel them, wait, and go on up."""
    try:
        await asyncio.wait(tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        raise
    for task in tasks:
        task.result()


class BlockingClient:
    """A blocking SDK client whose methods are coroutines that never suspend.

    Args:
        client: the SDK's client, or any object whose methods block.
        drive: asked before each call whether it may still start.
    """

    def __init__(self, client: Any, drive: Drive) -> None:
        self._client = client
        self._drive = drive
        self._methods: dict[str, Callable[..., Coroutine[Any, Any, Any]]] = {}

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        try:
            return self._methods[name]
        except KeyError:
            method = getattr(self._client, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            self._drive.check()
            return method(*args, **kwargs)

        call.__qualname__ = name
        self._methods[name] = call
        return call
