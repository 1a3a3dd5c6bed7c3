"""When to try again, and when to give up."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from commandstore.drive import Drive
from commandstore.errors import StoreUnavailable

__all__ = ["Retry", "Tries"]


@dataclass(frozen=True, slots=True)
class Retry:
    """How long to try again: exponential backoff with full jitter, bounded in attempts and in time.

    The SDK's own retries are off: they don't know write ids, and two layers of them multiply.

    Attributes:
        attempts: how often a request is sent at most, progress aside.
        base: seconds; the first pause is at most this, and each next one at most twice the last.
        longest: seconds; no pause is longer.
        patience: seconds after which nothing is tried again.
        draw: a random number from 0 to 1.
        clock: seconds, monotonic.
    """

    attempts: int = 10
    base: float = 0.05
    longest: float = 5.0
    patience: float = 90.0
    draw: Callable[[], float] = random.random
    clock: Callable[[], float] = time.monotonic

    def pause(self, tried: int) -> float:
        """How long to wait after so many attempts."""
        return self.draw() * min(self.longest, self.base * 2.0 ** (tried - 1))


class Tries:
    """The attempts of one call."""

    def __init__(self, retry: Retry, drive: Drive) -> None:
        self._retry = retry
        self._drive = drive
        self.progress()

    def progress(self) -> None:
        """Something was done: patience starts anew."""
        self._tried = 0
        self._end = self._retry.clock() + self._retry.patience

    async def again(self, error: StoreUnavailable) -> None:
        """Pause before the next attempt; when there is none left, raise the error."""
        self._tried += 1
        if self._tried >= self._retry.attempts:
            raise error
        pause = self._retry.pause(self._tried)
        if self._retry.clock() + pause > self._end:
            raise error
        await self._drive.sleep(pause)
