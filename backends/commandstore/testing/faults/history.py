"""What may be the case after operations of which some failed: the model that a storm is held against. Pure.

Every write has a time from its start to its end, and was done for certain, perhaps, or not. Whatever a write did, it
did between the two: so what is read may be the value of any write that had begun, as long as no other one was done for
certain after that write and before the reading.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from math import inf
from typing import Generic, TypeVar

__all__ = ["Done", "History", "Write"]

V = TypeVar("V")


class Done(Enum):
    """Whether a write had its effect."""

    YES = auto()
    PERHAPS = auto()
    NO = auto()


@dataclass(eq=False)
class Write(Generic[V]):
    """One write of one key.

    Attributes:
        value: what it writes; None removes.
        start: when it began.
        end: when it ended; before that it may have its effect at any moment.
        done: whether it had it.
    """

    value: V | None
    start: float
    end: float = inf
    done: Done = Done.PERHAPS


class History(Generic[V]):
    """All writes of all keys. Safe for threads."""

    def __init__(self) -> None:
        self._ticks = itertools.count(1)
        self._keys: dict[str, list[Write[V]]] = {}
        self._lock = threading.Lock()

    def now(self) -> float:
        """A moment, later than all before."""
        with self._lock:
            return next(self._ticks)

    def begin(self, key: str, value: V | None) -> Write[V]:
        """A write is about to begin."""
        with self._lock:
            write = Write(value, next(self._ticks))
            self._keys.setdefault(key, [Write(None, 0, 0, Done.YES)]).append(write)
            return write

    def end(self, write: Write[V], done: Done) -> None:
        """It has ended."""
        with self._lock:
            write.end, write.done = next(self._ticks), done

    @property
    def keys(self) -> list[str]:
        """Every key that somebody wrote, or tried to."""
        with self._lock:
            return list(self._keys)

    def fates(self, key: str) -> Counter[Done]:
        """How many of the values that were to be written there were written, perhaps, or not."""
        with self._lock:
            return Counter(write.done for write in self._writes(key) if write.value is not None)

    def _writes(self, key: str) -> list[Write[V]]:
        return self._keys.get(key) or [Write(None, 0, 0, Done.YES)]

    def wrong(self, key: str, value: V | None, start: float, end: float) -> str | None:
        """What is wrong with having read this value in that time; None where it may be."""
        with self._lock:
            writes = self._writes(key)
            of_value = [write for write in writes if write.value == value]
            if not of_value:
                return "nobody wrote this"
            before = [write for write in of_value if write.start < end]
            if not before:
                return "it was read before it was written"
            done = [write for write in before if write.done is not Done.NO]
            if not done:
                return "its write was said to have had no effect"
            if all(self._superseded(write, writes, start) for write in done):
                return "what was acknowledged after it is lost"
            return None

    @staticmethod
    def _superseded(write: Write[V], writes: Iterable[Write[V]], start: float) -> bool:
        return any(
            other.done is Done.YES and other.value != write.value and write.end < other.start and other.end < start
            for other in writes
        )

    def surely(self, start: float, end: float, those: Callable[[str], bool] = lambda _: True) -> set[str]:
        """The keys that held something all through that time, whatever became of what is uncertain."""
        with self._lock:
            return {key for key, found in self._keys.items() if those(key) and _held(found, start, end)}

    def perhaps(self, start: float, end: float, those: Callable[[str], bool] = lambda _: True) -> set[str]:
        """The keys that may have held something at a moment of that time."""
        with self._lock:
            return {key for key, found in self._keys.items() if those(key) and _may_hold(found, start, end)}

    def could_create(self, key: str, write: Write[V]) -> bool:
        """Whether a write that needs an empty place may have had its effect until now."""
        with self._lock:
            return not _held(self._writes(key), write.start, next(self._ticks))

    def could_replace(self, key: str, write: Write[V]) -> bool:
        """Whether a write that needs something to replace may have had its effect until now."""
        with self._lock:
            others = [other for other in self._writes(key) if other is not write]
            return _may_hold(others, write.start, next(self._ticks))


def _held(writes: Iterable[Write[V]], start: float, end: float) -> bool:
    removed = max((w.end for w in writes if w.value is None and w.done is not Done.NO and w.start < end), default=0)
    return any(w.value is not None and w.done is Done.YES and w.start > removed and w.end < start for w in writes)


def _may_hold(writes: Sequence[Write[V]], start: float, end: float) -> bool:
    return any(
        write.value is not None
        and write.done is not Done.NO
        and write.start < end
        and not any(
            other.done is Done.YES and other.value is None and write.end < other.start and other.end < start
            for other in writes
        )
        for write in writes
    )
