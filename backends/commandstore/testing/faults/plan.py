"""What goes wrong, and when: decided by a seed, kept in a log. Pure: nothing here knows an SDK.

A request is known by the name of its operation and by how many of that name came before it. So threads and tasks, whose
order nobody can repeat, change which command meets a fault, and never which faults there are.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from random import Random
from typing import NamedTuple, Self

from commandstore.testing.faults.virtual import VirtualTime

__all__ = ["Decision", "Entry", "Fault", "FaultPlan"]

_SHOWN = 40


class Fault(StrEnum):
    """What can go wrong with a request. *Before*: it had no effect; *after*: it had, and its answer is lost."""

    THROTTLED = "throttled"
    """The engine asks for a slower pace: ``ThrottlingException``, ``SlowDown``, ``RESOURCE_EXHAUSTED``."""
    UNAVAILABLE_BEFORE = "unavailable before"
    """500 or 503, ``UNAVAILABLE``."""
    UNAVAILABLE_AFTER = "unavailable after"
    TIMEOUT_BEFORE = "time-out before"
    TIMEOUT_AFTER = "time-out after"
    NOT_CONNECTED = "not connected"
    """Nobody listens: nothing was sent."""
    RESET_BEFORE = "reset before"
    """The connection was closed before there was an answer."""
    RESET_AFTER = "reset after"
    CONFLICT = "conflict"
    """Something else is just being done there: 409, ``ABORTED``, ``TransactionConflictException``."""
    SENT_TWICE = "sent twice"
    """Something in between sent it again by itself, and the second answer came: a 412 after one's own success."""
    PARTIAL = "partial"
    """Some of a batch is left undone: ``UnprocessedItems``, ``UnprocessedKeys``, errors of single writes."""
    CUT_SHORT = "cut short"
    """The answer ends too early, and one can see it."""
    ENDS_EARLY = "ends early"
    """A stream of answers ends too early, without an error."""
    EXPIRED = "expired"
    """The credentials are not accepted any more."""
    SKEWED = "skewed"
    """This machine's clock is wrong, and so no signature is accepted."""
    SLOW = "slow"
    """The answer is right, and comes late, by the plan's own clock."""


class Entry(NamedTuple):
    """One fault of a run.

    Attributes:
        number: of the request, counted over all operations.
        operation: its name.
        ordinal: how many of that name came before it.
        fault: what went wrong.
    """

    number: int
    operation: str
    ordinal: int
    fault: Fault


class Decision(NamedTuple):
    """What is to happen to a request: a fault or None, and a generator for its details."""

    fault: Fault | None
    random: Random


class FaultPlan:
    """Which requests fail, and how; the same for the same seed.

    Args:
        seed: another one gives other faults.
        rates: how likely each fault is for a request that can have it; one number is shared evenly by all faults that
            a request can have.
        outages: how likely a stretch of ``outage_length`` requests of one operation is to fail as a whole, so that
            every retry comes to its end now and then.
        outage_length: how many requests of that operation.

    Safe for threads. Without faults until it is entered (``with plan:``), so that a store can be opened first, and
    looked at afterwards.

    Attributes:
        log: the faults of the run, in the order in which they came.
        requests: how many there were of each operation, faulty or not.
        time: the plan's own, for pauses and slow answers.
    """

    def __init__(
        self,
        seed: int,
        rates: float | Mapping[Fault, float] = 0.2,
        *,
        outages: float = 0.0,
        outage_length: int = 40,
    ) -> None:
        self.seed = seed
        self.log: list[Entry] = []
        self.requests: Counter[str] = Counter()
        self.time = VirtualTime()
        self._rates = rates
        self._outages = outages
        self._outage_length = outage_length
        self._lock = threading.Lock()
        self._next: dict[str, deque[Fault]] = {}
        self._on = 0

    def __enter__(self) -> Self:
        with self._lock:
            self._on += 1
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._on -= 1

    @property
    def is_on(self) -> bool:
        """Whether it is entered, and so has faults."""
        return self._on > 0

    @contextmanager
    def calm(self) -> Iterator[None]:
        """No faults within, and no request is counted."""
        with self._lock:
            on, self._on = self._on, 0
        try:
            yield
        finally:
            with self._lock:
                self._on = on

    def next(self, operation: str, fault: Fault, times: int = 1) -> None:
        """The next such requests meet this fault, whatever the seed says, whether the plan is entered or not."""
        with self._lock:
            self._next.setdefault(operation, deque()).extend([fault] * times)

    def decide(self, operation: str, possible: Collection[Fault]) -> Decision:
        """What is to happen to the next request of this name.

        Args:
            operation: its name.
            possible: the faults that it can have, in an order that is always the same.
        """
        with self._lock:
            scripted = self._next.get(operation)
            if not self._on and not scripted:
                return Decision(None, Random(0))  # noqa: S311 - the same faults every time are what this is for
            ordinal = self.requests[operation]
            self.requests[operation] += 1
            number = self.requests.total()
            random = Random(f"{self.seed} {operation} {ordinal}")  # noqa: S311 - as above
            fault = scripted.popleft() if scripted else self._draw(operation, ordinal, list(possible), random)
            if fault is not None:
                self.log.append(Entry(number, operation, ordinal, fault))
            return Decision(fault, random)

    def _draw(self, operation: str, ordinal: int, possible: list[Fault], random: Random) -> Fault | None:
        if not possible:
            return None
        if self._outages:
            stretch = Random(f"{self.seed} {operation} outage {ordinal // self._outage_length}")  # noqa: S311 - as above
            # Of what a retry may get over, so that it is tried to the end.
            passing = [fault for fault in possible if fault not in _FINAL and fault not in _HARMLESS]
            if stretch.random() < self._outages and passing:
                return passing[stretch.randrange(len(passing))]
        if isinstance(self._rates, Mapping):
            at = random.random()
            for fault in possible:
                at -= self._rates.get(fault, 0.0)
                if at < 0:
                    return fault
            return None
        return possible[random.randrange(len(possible))] if random.random() < self._rates else None

    @property
    def faults(self) -> Counter[Fault]:
        """How many there were of each."""
        return Counter(entry.fault for entry in self.log)

    def describe(self) -> str:
        """The seed, and the last faults: what is to be known when a law is broken."""
        lines = [f"  {entry.number}: {entry.operation} #{entry.ordinal}: {entry.fault}" for entry in self.log[-_SHOWN:]]
        head = f"seed {self.seed}, {self.requests.total()} requests, {len(self.log)} faults; the last ones:"
        return "\n".join([head, *lines])


_FINAL = {Fault.EXPIRED, Fault.SKEWED}
_HARMLESS = {Fault.SLOW, Fault.SENT_TWICE, Fault.PARTIAL}
