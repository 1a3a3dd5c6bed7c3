"""What may be the case after operations of which some failed: the model that a storm is held against. Pure.

Every write has a time from its start to its end, and was done for certain, perhaps, or not. Whatever a write did, it
did between the two: so what is read may be the value of any write that had begun, as long as no other one was done for
certain after that write and before the reading.

That is quick, and says at once what it finds. It does not see everything: a removal may lie on either side of a
creation beside it, each time that one looks. So all answers are kept as well, and in the end one order has to explain
them together (:mod:`commandstore.testing.linearizability`).
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from enum import Enum, auto
from math import inf
from typing import Generic, TypeVar

from commandstore.testing.linearizability import Model, Operation, Violation, check, with_recreations

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
        self._answers: list[Operation] = []
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

    def answered(
        self, kind: str, key: str, argument: Hashable, result: Hashable, start: float, end: float | None = None
    ) -> None:
        """An answer to what was asked at ``start``: as :class:`~commandstore.testing.linearizability.Operation`."""
        operation = Operation(kind, argument, result, int(start), int(self.now() if end is None else end), key)
        self._answers.append(operation)

    def unexplained(self, model: Model, *, recreates: bool) -> list[Violation]:
        """The keys whose answers no order of them explains."""
        return check(with_recreations(self._answers) if recreates else self._answers, model)

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
            last = _last(writes, start, lambda other: other.value != value)
            if all(write.end < last for write in done):
                return "what was acknowledged after it is lost"
            return None

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


def _may_hold(writes: Iterable[Write[V]], start: float, end: float) -> bool:
    removed = _last(writes, start, lambda write: write.value is None)
    return any(
        write.value is not None and write.done is not Done.NO and write.start < end and write.end >= removed
        for write in writes
    )


def _last(writes: Iterable[Write[V]], start: float, those: Callable[[Write[V]], bool]) -> float:
    """When the last of those began that were done for certain by then: what ended before it is not there any more."""
    return max((w.start for w in writes if w.done is Done.YES and w.end < start and those(w)), default=0)
