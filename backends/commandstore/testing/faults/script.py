"""Faults in an order that a test writes down: the next such request fails so, and the one after it passes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["Passage", "Script"]


class Passage(NamedTuple):
    """How one request goes through.

    Attributes:
        request: what is sent.
        copies: how often; the last answer is the one that comes. 0: it is not sent, and ``came`` gets None.
        came: makes of the answer what the caller gets; what it raises comes instead.
        hides: whether an error of the engine is hidden from the caller, too: ``came`` gets None then.
    """

    request: Any
    copies: int = 1
    came: Callable[[Any], Any] | None = None
    hides: bool = False


class Script:
    """What is to go wrong next, by the SDK's name of the method; each fault is used once.

    Attributes:
        calls: how many requests there were, by method.
        requests: method and request of each, in order.
    """

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.requests: list[tuple[str, Any]] = []
        self._before: list[tuple[str, Callable[[], object]]] = []
        self._after: list[tuple[str, Callable[[Any], Any]]] = []

    # What is to happen

    def before(self, method: str, action: Callable[[], object]) -> None:
        """Do this before the next such request; what it raises, the request raises."""
        self._before.append((method, action))

    def answer(self, method: str, change: Callable[[Any], Any]) -> None:
        """Change the next such answer; what this raises comes instead of it."""
        self._after.append((method, change))

    def fail(self, method: str, error: Exception, times: int = 1) -> None:
        """The next such requests fail, without effect."""

        def refused() -> None:
            raise error

        for _ in range(times):
            self.before(method, refused)

    def lose(self, method: str, error: Exception, times: int = 1) -> None:
        """The next such requests have their effect, and fail all the same."""

        def lost(_: Any) -> Any:
            raise error

        for _ in range(times):
            self.answer(method, lost)

    # As a wrapped client calls it

    def sent(self, method: str, request: Any) -> Passage | None:
        """A request is about to be sent."""
        self.calls[method] += 1
        self.requests.append((method, self.copied(request)))
        for index, (name, action) in enumerate(self._before):
            if name == method:
                del self._before[index]
                action()
                break
        return None

    def came(self, method: str, answer: Any) -> Any:
        """Its answer came."""
        for index, (name, change) in enumerate(self._after):
            if name == method:
                del self._after[index]
                return self.changed(answer, change)
        return answer

    # What is particular to a client

    def copied(self, request: Any) -> Any:
        """A request as it is kept in ``requests``."""
        return request

    def changed(self, answer: Any, change: Callable[[Any], Any]) -> Any:
        """An answer, changed; for clients whose answers are wrapped in something."""
        return change(answer)
