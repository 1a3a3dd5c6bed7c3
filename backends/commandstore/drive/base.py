"""What a drive is, and how a coroutine that never suspends is run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar, ParamSpec, Protocol, TypeVar

from commandstore.errors import CommandStoreError, SuspendedError

__all__ = ["Drive", "Job", "OperationStopped", "Pending", "any_failed", "failed", "run"]

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
    """What differs with and without an event loop, and a way to stop."""

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
    def lock(self) -> AbstractAsyncContextManager[Any]:
        """A new lock, for ``async with``: one at a time inside, of all threads or tasks that use this drive."""

    @abstractmethod
    def check(self) -> None:
        """Raise where nothing more should be started: a stopped call, or another event loop than the opening one."""

    @abstractmethod
    def close(self) -> None:
        """Join the threads, if there are any. The drive starts new ones when it is used again."""


class Pending(Protocol):
    """What the futures of threads and those of asyncio have in common."""

    def done(self) -> bool:
        """Whether it has ended."""

    def cancelled(self) -> bool:
        """Whether it ended by being cancelled."""

    def exception(self) -> BaseException | None:
        """What it failed with."""


def failed(future: Pending) -> bool:
    """Whether it has ended otherwise than with a result."""
    return future.done() and (future.cancelled() or future.exception() is not None)


def any_failed(flying: Iterable[tuple[Any, Pending]]) -> bool:
    """Whether one of them has, of items and their futures."""
    return any(failed(future) for _, future in flying)
