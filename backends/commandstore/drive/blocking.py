"""Without an event loop: on this thread, several at once on others, over a client whose methods block."""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractAsyncContextManager
from typing import Any, ParamSpec, TypeVar

from commandstore.drive.base import Drive, Job, OperationStopped, any_failed, run

__all__ = ["BlockingClient", "BlockingDrive"]

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")

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
        waiting = deque(range(len(jobs)))
        failed: list[BaseException] = []

        def worker() -> None:
            # As many workers as jobs may run at once, not a task for each job: handing over costs more than most jobs.
            with flight:
                _gathered.set(True)
                while not failed:
                    try:
                        index = waiting.popleft()
                    except IndexError:
                        return
                    try:
                        self.check()
                        results[index] = contextvars.copy_context().run(lambda job: run(job()), jobs[index])
                    except BaseException as error:  # noqa: BLE001 - the first one is raised below, as it is
                        failed.append(error)

        with stop:
            try:
                wait([self._submit(limit, worker) for _ in range(min(limit, len(jobs)))])
            except BaseException:
                stop.set()
                flight.join()
                raise
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
                    while flying and (len(flying) >= limit or flying[0][1].done() or any_failed(flying)):
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

    def lock(self) -> AbstractAsyncContextManager[Any]:
        return _Lock()

    def check(self) -> None:
        stop = _stop.get()
        if stop is not None and stop.is_set():
            raise OperationStopped("stopped before the next request, because the call that it belongs to is ending")

    def close(self) -> None:
        with self._lock:
            pool, self._pool, self._pool_size = self._pool, None, 0
        if pool is not None:
            pool.shutdown()


class _Lock(AbstractAsyncContextManager[None]):
    """A lock of threads. Who waits for it needs no stop flag: who holds it has one, and lets go."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    async def __aenter__(self) -> None:
        self._lock.acquire()

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()


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
