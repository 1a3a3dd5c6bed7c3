"""Time that passes only when somebody pauses, and the law that whoever tries again has paused.

Each thread and task has its own hours: two that pause side by side do not wait for each other.
"""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar
from typing import Any, NamedTuple

from commandstore.drive import Drive

__all__ = ["VirtualTime"]


# In seconds; no operation may pause for longer in all.
_LONGEST = 3_600


class _Debt(NamedTuple):
    """A request that failed so that it may be sent again, after a pause; which one, or any of its name."""

    operation: str
    request: object


_elapsed: ContextVar[float] = ContextVar("commandstore_faults_elapsed", default=0.0)
_began: ContextVar[float] = ContextVar("commandstore_faults_began", default=0.0)
_debt: ContextVar[_Debt | None] = ContextVar("commandstore_faults_debt", default=None)

ANY: Any = object()
"""In place of a request: whichever of its operation."""


class VirtualTime:
    """A clock for ``Retry(clock=plan.time.clock)``, and pauses that take no time.

    Attributes:
        pauses: how many there were.
        longest: of them, in seconds.
        total: all of them, in seconds.
        hasty: what was tried again without one.
    """

    def __init__(self) -> None:
        self.pauses = 0
        self.longest = 0.0
        self.total = 0.0
        self.hasty: list[str] = []
        self._lock = threading.Lock()

    def clock(self) -> float:
        """Seconds, as this thread or task has lived them."""
        return _elapsed.get()

    def advance(self, seconds: float) -> None:
        """Let time pass, as it does while an answer is slow."""
        _elapsed.set(_elapsed.get() + seconds)

    def hold(self, drive: Drive) -> None:
        """From now on the pauses of this drive are virtual, and noted."""

        async def sleep(seconds: float) -> None:
            if seconds > 0:
                self.advance(seconds)
                if _elapsed.get() - _began.get() > _LONGEST:
                    raise AssertionError(f"it is tried again without end: for {_LONGEST:,} s by now")
                _debt.set(None)
                with self._lock:
                    self.pauses += 1
                    self.total += seconds
                    self.longest = max(self.longest, seconds)
            if drive.is_async:
                await asyncio.sleep(0)
            drive.check()

        drive.sleep = sleep  # type: ignore[method-assign]

    # Whoever tries again has paused

    def begin(self) -> None:
        """Something new begins, which owes nothing."""
        _began.set(_elapsed.get())
        _debt.set(None)

    def owe(self, operation: str, request: object = ANY) -> None:
        """This request failed; if it is sent again, then after a pause."""
        _debt.set(_Debt(operation, request))

    def sent(self, operation: str, request: object) -> None:
        """A request is sent; note it where it should have been paused for."""
        debt = _debt.get()
        if debt is None or debt.operation != operation or (debt.request is not ANY and debt.request != request):
            return
        _debt.set(None)
        with self._lock:
            self.hasty.append(operation)

    def owes(self, operation: str) -> bool:
        """Whether such a request would have to be paused for."""
        debt = _debt.get()
        return debt is not None and debt.operation == operation
