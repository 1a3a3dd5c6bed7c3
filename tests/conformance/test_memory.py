"""The conformance suite over commands in memory."""

import pytest

from commandstore.command import CommandQuery
from commandstore.contract import Key, Slice
from commandstore.memory import MemoryBackend
from commandstore.testing.conformance import Conformance
from commandstore.testing.stateful import AgainstMemory
from conformance.places import MemoryPlace


class TestMemory(Conformance, AgainstMemory):
    machine_examples = 100
    machine_steps = 50

    @pytest.fixture
    def place(self) -> MemoryPlace:
        return MemoryPlace()


class LaggingBackend(MemoryBackend):
    """Lists show what there was when it was last told to catch up: an index that is updated later."""

    list_is_consistent = False

    def __init__(self) -> None:
        super().__init__()
        self.index = MemoryBackend()

    async def page(self, query: CommandQuery, after: Key | None, limit: int, *, payload: bool = True) -> Slice:
        return await self.index.page(query, after, limit, payload=payload)

    async def count(self, query: CommandQuery) -> int:
        return await self.index.count(query)


class LaggingPlace(MemoryPlace):
    def __init__(self) -> None:
        self.lagging = LaggingBackend()
        super().__init__(self.lagging)

    def settle(self) -> None:
        self.lagging.index._records = dict(self.lagging._records)
        self.lagging.index._order = None


class TestListsThatLag(Conformance, AgainstMemory):
    """No law relies on a list that shows at once what was written, without saying so by ``settle``."""

    drives = ("blocking",)

    @pytest.fixture
    def place(self) -> LaggingPlace:
        return LaggingPlace()
