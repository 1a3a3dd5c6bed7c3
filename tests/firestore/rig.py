"""A database of its own on the emulator, and calls that fail on demand: after the effect, before it, or changed."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from commandstore.aws.retry import Retry
from commandstore.drive import AsyncDrive, BlockingDrive, Drive, run
from commandstore.firestore.client import Calls, connect
from commandstore.firestore.faults import Place
from commandstore.firestore.wire import Wire

NO_PAUSE = Retry(base=0.0, longest=0.0)
_numbers = itertools.count(1)


class Faults:
    """What is to go wrong next, by the SDK's name of the method; each fault is used once."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.requests: list[tuple[str, Any]] = []
        self._before: list[tuple[str, Callable[[], object]]] = []
        self._after: list[tuple[str, Callable[[Any], Any]]] = []

    def before(self, method: str, action: Callable[[], object]) -> None:
        """Do this before the next such request; what it raises, the request raises."""
        self._before.append((method, action))

    def fail(self, method: str, error: Exception, times: int = 1) -> None:
        """The next such requests fail, without effect."""

        def refuse() -> None:
            raise error

        for _ in range(times):
            self.before(method, refuse)

    def lose(self, method: str, error: Exception, times: int = 1) -> None:
        """The next such requests have their effect, and fail all the same."""

        def lost(_: Any) -> Any:
            raise error

        for _ in range(times):
            self.answer(method, lost)

    def answer(self, method: str, change: Callable[[Any], Any]) -> None:
        """Change the next such answer: a message, or the list of a stream's messages."""
        self._after.append((method, change))

    def sent(self, method: str, request: Any) -> None:
        self.calls[method] += 1
        copy = type(request)()
        copy.CopyFrom(request)
        self.requests.append((method, copy))
        for index, (name, action) in enumerate(self._before):
            if name == method:
                del self._before[index]
                action()
                return

    def came(self, method: str, answer: Any) -> Any:
        for index, (name, change) in enumerate(self._after):
            if name == method:
                del self._after[index]
                return change(answer)
        return answer

    def sizes(self) -> list[int]:
        """How many writes each batch had."""
        return [len(request.writes) for method, request in self.requests if method == "batch_write"]


class FaultyCalls(Calls):
    """Calls of a client, with faults."""

    def __init__(self, calls: Calls, faults: Faults) -> None:
        self._calls, self._faults = calls, faults

    async def unary(self, method: str, request: Any, seconds: float) -> Any:
        self._faults.sent(method, request)
        return self._faults.came(method, await self._calls.unary(method, request, seconds))

    async def stream(self, method: str, request: Any, seconds: float) -> list[Any]:
        self._faults.sent(method, request)
        answers: list[Any] = self._faults.came(method, await self._calls.stream(method, request, seconds))
        return answers


class Rig:
    """One database under one drive."""

    def __init__(self, host: str, drive: str) -> None:
        # An emulator that was running before has what earlier runs left.
        self.place = Place(f"rig-{os.getpid()}-{next(_numbers)}", "commands", emulator=host)
        self.faults = Faults()
        self.is_async = drive == "async"
        self.drive: Drive = AsyncDrive() if self.is_async else BlockingDrive()
        self._runner = asyncio.Runner() if self.is_async else None
        self._stacks: list[AsyncExitStack] = []
        self.wire = self.connected()

    def connected(self, place: Place | None = None, *, retry: Retry = NO_PAUSE) -> Wire:
        """A further wire, over a client of its own; ``faults`` hold for every one of this rig."""
        place = place or self.place
        stack = AsyncExitStack()
        self._stacks.append(stack)
        calls = self.do(connect(self.drive, stack, place, around=lambda calls: FaultyCalls(calls, self.faults)))
        return Wire(calls, self.drive, place, retry=retry, concurrency=4)

    def name(self, document_id: str) -> str:
        return f"{self.place.root}/commands/{document_id}"

    def do(self, coroutine: Any) -> Any:
        return self._runner.run(coroutine) if self._runner else run(coroutine)

    def close(self) -> None:
        for stack in self._stacks:
            self.do(stack.aclose())
        self.drive.close()
        if self._runner:
            self._runner.close()
