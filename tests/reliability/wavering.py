"""Backends in memory that hand over to others in the middle: every order of things that a seed can draw, and no clock.

For the async drive. What happens depends on the seed alone, so that a history that went wrong goes wrong again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from commandstore.codec import Record
from commandstore.contract import CREATED, Exists, Outcome, Register
from commandstore.drive import Drive
from commandstore.memory import MemoryBackend

__all__ = ["BROKEN", "Wavering"]


class Wavering(MemoryBackend):
    """Right, however long each request and each answer is on its way."""

    def __init__(self, seed: int | str) -> None:
        super().__init__("wavering")
        self.random = Random(seed)  # noqa: S311 - the same every time

    async def open(self, drive: Drive, *, create: bool) -> None:
        async def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            await self.pause()
            return function(*args, **kwargs)

        # What would be done on a thread (a signature) would end when the machine likes.
        drive.call = call  # type: ignore[method-assign]
        await super().open(drive, create=create)

    async def pause(self) -> None:
        for _ in range(self.random.choice([0, 1, 1, 2, 3, 5, 8])):
            await asyncio.sleep(0)

    async def insert(self, records: Sequence[Record], write_id: str) -> list[Outcome]:
        # One after the other, as an engine does that takes a batch apart.
        outcomes: list[Outcome] = []
        for record in records:
            await self.pause()
            outcomes += await super().insert([record], write_id)
        await self.pause()
        return outcomes

    async def fetch(self, uuids: Sequence[str]) -> dict[str, Record]:
        await self.pause()
        found = await super().fetch(uuids)
        await self.pause()
        return found

    async def replace(self, record: Record, write_id: str) -> bool:
        await self.pause()
        done = await super().replace(record, write_id)
        await self.pause()
        return done

    async def remove(self, command_uuid: str) -> bool:
        await self.pause()
        done = await super().remove(command_uuid)
        await self.pause()
        return done

    async def register_get(self, name: str) -> Register | None:
        await self.pause()
        found = await super().register_get(name)
        await self.pause()
        return found

    async def register_swap(self, name: str, value: bytes | None, *, expected: str | None, token: str) -> bool:
        await self.pause()
        done = await super().register_swap(name, value, expected=expected, token=token)
        await self.pause()
        return done


class LooksBeforeItCreates(Wavering):
    async def insert(self, records: Sequence[Record], write_id: str) -> list[Outcome]:
        there = await self.fetch([record.command_uuid for record in records])
        for record in records:
            if record.command_uuid not in there:
                self._records[record.command_uuid] = (record, write_id)
        return [
            Exists(there[record.command_uuid].digest) if record.command_uuid in there else CREATED for record in records
        ]


class RemembersWhatItRead(Wavering):
    """One cache for each store would do; one for all that is emptied at times does too."""

    def __init__(self, seed: int | str) -> None:
        super().__init__(seed)
        self._cache: dict[str, Record] = {}

    async def fetch(self, uuids: Sequence[str]) -> dict[str, Record]:
        if self.random.random() < 0.3:
            self._cache.clear()
        missing = [uuid for uuid in uuids if uuid not in self._cache]
        self._cache |= await super().fetch(missing)
        return {uuid: self._cache[uuid] for uuid in uuids if uuid in self._cache}


class WritesWhatWasDeleted(Wavering):
    async def replace(self, record: Record, write_id: str) -> bool:
        there = await self.fetch([record.command_uuid])
        if there:
            self._records[record.command_uuid] = (record, write_id)
        return bool(there)


class DeletesTwice(Wavering):
    async def remove(self, command_uuid: str) -> bool:
        there = await self.fetch([command_uuid])
        self._records.pop(command_uuid, None)
        return bool(there)


class LosesAnUpdateInTwenty(Wavering):
    async def replace(self, record: Record, write_id: str) -> bool:
        if self.random.random() < 0.05:
            return bool(await self.fetch([record.command_uuid]))
        return await super().replace(record, write_id)


class MixesTwo(Wavering):
    """Writes the payload and the rest one after the other."""

    async def replace(self, record: Record, write_id: str) -> bool:
        before = self._records.get(record.command_uuid)
        if before is None:
            return False
        self._records[record.command_uuid] = (record._replace(data=before[0].data), write_id)
        await self.pause()
        return await super().replace(record, write_id)


class SwapsInTwoSteps(Wavering):
    async def register_swap(self, name: str, value: bytes | None, *, expected: str | None, token: str) -> bool:
        found = await self.register_get(name)
        if (found.token if found else None) != expected:
            return found.token == token if found else value is None
        if value is None:
            self._registers.pop(name, None)
        else:
            self._registers[name] = Register(value, token)
        return True


BROKEN = [
    LooksBeforeItCreates,
    RemembersWhatItRead,
    WritesWhatWasDeleted,
    DeletesTwice,
    LosesAnUpdateInTwenty,
    MixesTwo,
    SwapsInTwoSteps,
]
