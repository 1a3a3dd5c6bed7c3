"""Firestore's calls, failing on demand: by a script, or by a plan.

``FirestoreBackend(..., around=lambda calls: FaultyCalls(calls, faults))``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from random import Random
from typing import Any

from google.api_core import exceptions as google
from google.cloud.firestore_v1.types import firestore as messages

from commandstore.firestore.client import Calls
from commandstore.firestore.faults import Code
from commandstore.testing.faults.plan import Fault, FaultPlan
from commandstore.testing.faults.script import Passage

__all__ = ["FaultyCalls", "FirestoreFaults"]

# In seconds; a call has at least this much until its deadline.
_SLOW = 15.0
_EVERY = (
    Fault.THROTTLED,
    Fault.UNAVAILABLE_BEFORE,
    Fault.UNAVAILABLE_AFTER,
    Fault.TIMEOUT_BEFORE,
    Fault.TIMEOUT_AFTER,
    Fault.NOT_CONNECTED,
    Fault.RESET_BEFORE,
    Fault.RESET_AFTER,
    Fault.CONFLICT,
    Fault.EXPIRED,
    Fault.SLOW,
)
_MORE: Mapping[str, tuple[Fault, ...]] = {
    "batch_get_documents": (Fault.ENDS_EARLY,),
    "batch_write": (Fault.PARTIAL,),
    "run_aggregation_query": (Fault.ENDS_EARLY,),
    "run_query": (Fault.ENDS_EARLY,),
}
_ERRORS: Mapping[Fault, tuple[Any, str]] = {
    Fault.THROTTLED: (google.ResourceExhausted, "Quota exceeded."),
    Fault.UNAVAILABLE_BEFORE: (google.ServiceUnavailable, "The service is currently unavailable."),
    Fault.TIMEOUT_BEFORE: (google.DeadlineExceeded, "Deadline Exceeded"),
    Fault.NOT_CONNECTED: (google.ServiceUnavailable, "failed to connect to all addresses; last error: by plan"),
    Fault.RESET_BEFORE: (google.ServiceUnavailable, "Connection reset by peer"),
    Fault.CONFLICT: (google.Aborted, "Too much contention on these documents. Please try again."),
    Fault.EXPIRED: (google.Unauthenticated, "Request had invalid authentication credentials."),
}
_LOST = {
    Fault.UNAVAILABLE_AFTER: Fault.UNAVAILABLE_BEFORE,
    Fault.TIMEOUT_AFTER: Fault.TIMEOUT_BEFORE,
    Fault.RESET_AFTER: Fault.RESET_BEFORE,
}
_ONE_WRITE = (Code.ABORTED, Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED)
# Tried again in smaller pieces, where the first was too much, or without what came of it.
_OTHERWISE = {"batch_write", "batch_get_documents"}


class FaultyCalls(Calls):
    """Calls of a client, with faults.

    Args:
        calls: the client's.
        faults: with ``sent`` and ``came``: a :class:`FirestoreFaults`, or a script.
    """

    def __init__(self, calls: Calls, faults: Any) -> None:
        self._calls = calls
        self._faults = faults

    async def unary(self, method: str, request: Any, seconds: float) -> Any:
        """See :class:`Calls`."""
        return await self._pass(self._calls.unary, method, request, seconds)

    async def stream(self, method: str, request: Any, seconds: float) -> list[Any]:
        """See :class:`Calls`."""
        answers: list[Any] = await self._pass(self._calls.stream, method, request, seconds)
        return answers

    async def _pass(self, call: Callable[..., Awaitable[Any]], method: str, request: Any, seconds: float) -> Any:
        passage = self._faults.sent(method, request) or Passage(request)
        answer = None
        for _ in range(passage.copies):
            try:
                answer = await call(method, passage.request, seconds)
            except Exception:
                if not passage.hides:
                    raise
        return self._faults.came(method, passage.came(answer) if passage.came else answer)


class FirestoreFaults:
    """A plan's faults, for :class:`FaultyCalls`."""

    def __init__(self, plan: FaultPlan) -> None:
        self.plan = plan

    def sent(self, method: str, request: Any) -> Passage | None:
        """A request is about to be sent."""
        time = self.plan.time
        if time.owes(method):
            time.sent(method, _print(request))
        fault, random = self.plan.decide(method, _EVERY + _MORE.get(method, ()))
        if fault is None:
            return None
        if fault is Fault.SLOW:
            time.advance(random.random() * _SLOW)
            return None
        if fault is Fault.PARTIAL:
            passage = _partial(request, random)
            if passage is not None:
                time.owe(method)  # what is left of it is another request
            return passage
        owe = partial(time.owe, method, _print(request))
        if method in _OTHERWISE and fault in {Fault.THROTTLED, Fault.TIMEOUT_BEFORE, Fault.ENDS_EARLY}:
            owe = partial(time.owe, method)
        if fault is Fault.ENDS_EARLY:
            return Passage(request, came=lambda answers: _early(answers, random, owe))
        if fault in _LOST:
            return Passage(request, came=_instead(_error(_LOST[fault]), owe), hides=True)
        if fault is not Fault.EXPIRED:
            owe()
        raise _error(fault)

    def came(self, method: str, answer: Any) -> Any:
        """Its answer came."""
        del method
        return answer


def _error(fault: Fault) -> Exception:
    kind, message = _ERRORS[fault]
    error: Exception = kind(message)
    return error


def _partial(request: Any, random: Random) -> Passage | None:
    """Some writes of a batch fail; of those that UNAVAILABLE names, some have had their effect."""
    kept = type(request)(database=request.database)
    sent: list[bool] = []
    said: list[int | None] = []
    for write in request.writes:
        fails = random.random() < 0.5
        code = _ONE_WRITE[random.randrange(len(_ONE_WRITE))]
        sent.append(not fails or (code is Code.UNAVAILABLE and random.random() < 0.5))
        said.append(code if fails else None)
        if sent[-1]:
            kept.writes.append(write)
    if not any(said):
        return None

    def came(answer: Any) -> Any:
        found = iter(answer.status if answer is not None else ())
        real = [next(found) if was else None for was in sent]
        changed = messages.BatchWriteResponse.pb()()
        for mine, theirs in zip(said, real, strict=True):
            status = changed.status.add()
            if mine is not None:
                status.code = mine
                status.message = "by plan"
            elif theirs is not None:
                status.CopyFrom(theirs)
        return changed

    return Passage(kept, 1 if len(kept.writes) else 0, came)


def _early(answers: list[Any], random: Random, owe: Callable[[], None]) -> list[Any]:
    if answers:
        owe()
    return answers[: random.randrange(len(answers))] if answers else []


def _instead(error: Exception, owe: Callable[[], None]) -> Callable[[Any], Any]:
    def lost(_: Any) -> Any:
        owe()
        raise error

    return lost


def _print(request: Any) -> bytes:
    """Equal for two attempts of one request."""
    found: bytes = request.SerializeToString(deterministic=True)
    return found
