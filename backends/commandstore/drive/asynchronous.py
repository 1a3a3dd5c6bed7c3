"""On asyncio. No other module of the drives imports it."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from typing import Any, ParamSpec, TypeVar

from commandstore.drive.base import Drive, Job, any_failed, failed
from commandstore.errors import StoreClosed

__all__ = ["AsyncDrive"]

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")


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
        errors: list[Exception] = []

        async def worker() -> None:
            while waiting and not errors:
                index = waiting.popleft()
                try:
                    results[index] = await jobs[index]()
                except Exception as error:  # noqa: BLE001 - the first one is raised below, as it is
                    errors.append(error)

        tasks = [asyncio.ensure_future(worker()) for _ in range(max(1, min(limit, len(jobs))))]
        cancelled = await _ended(tasks)
        if cancelled is not None:
            raise cancelled
        for task in tasks:
            task.result()
        if errors:
            raise errors[0]
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
            if not task.done():
                await asyncio.wait([task])  # `await task` would hand on each of our cancellations to it
            result = task.result()  # where it fails, the item stays the first, and nothing behind it lands
            landing = True
            await done(item, result)
            landing = False
            flying.popleft()

        try:
            while (item := await produce()) is not None:
                flying.append((item, asyncio.ensure_future(work(item))))
                await asyncio.sleep(0)  # let it send its request before the next item is produced
                while flying and (len(flying) >= limit or flying[0][1].done() or any_failed(flying)):
                    await land()
            while flying:
                await land()
        except BaseException as failure:
            tasks = [task for _, task in flying]
            if not isinstance(failure, Exception):
                for task in tasks:
                    task.cancel()
            cancelled = await _ended(tasks, cancel=isinstance(failure, Exception))
            for task in tasks:
                failed(task)  # looked at, so that asyncio doesn't report an error as never retrieved
            # What comes before a failure of produce or a cancellation; nothing once done itself has failed.
            while not landing and flying and not failed(flying[0][1]):
                await land()
            if cancelled is not None:
                raise cancelled from failure
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
                await _ended([running], cancel=False)
                failed(running)  # looked at: nobody will ask for it any more
            raise

    def lock(self) -> AbstractAsyncContextManager[Any]:
        return asyncio.Lock()

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


async def _ended(futures: Sequence[asyncio.Future[Any]], *, cancel: bool = True) -> asyncio.CancelledError | None:
    """Wait until all have ended, however often we are cancelled meanwhile: nothing runs on behind who called.

    Args:
        futures: any number.
        cancel: cancel them too, when we are. Once, as the second cancellation would hit their cleaning up.

    Returns:
        The first cancellation that came, for the caller to raise.
    """
    cancelled = None
    while any(not future.done() for future in futures):
        try:
            await asyncio.wait(futures)
        except asyncio.CancelledError as error:
            if cancelled is None and cancel:
                for future in futures:
                    future.cancel()
            cancelled = cancelled or error
    return cancelled
