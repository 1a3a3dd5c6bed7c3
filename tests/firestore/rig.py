"""A database of its own on the emulator, and calls that fail on demand: after the effect, before it, or changed."""

from __future__ import annotations

import asyncio
import itertools
import os
from contextlib import AsyncExitStack
from typing import Any

from commandstore.aws.retry import Retry
from commandstore.drive import AsyncDrive, BlockingDrive, Drive, run
from commandstore.firestore.client import connect
from commandstore.firestore.faults import Place
from commandstore.firestore.wire import Wire
from commandstore.testing.faults import Script
from commandstore.testing.faults.firestore import FaultyCalls

NO_PAUSE = Retry(base=0.0, longest=0.0)
_numbers = itertools.count(1)


class Faults(Script):
    """What is to go wrong next, by the SDK's name of the method; a stream's answer is the list of its messages."""

    def copied(self, request: Any) -> Any:
        copy = type(request)()
        copy.CopyFrom(request)
        return copy

    def sizes(self) -> list[int]:
        """How many writes each batch had."""
        return [len(request.writes) for method, request in self.requests if method == "batch_write"]


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
