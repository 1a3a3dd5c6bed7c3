"""What docs/backends.md shows runs as it stands there, against a backend as its reader may write one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from commandstore.aws.retry import Retry, Tries
from commandstore.codec import Record
from commandstore.command import CommandQuery
from commandstore.contract import Key, Outcome, Register, Slice
from commandstore.drive import run
from commandstore.errors import StoreUnavailable
from commandstore.memory import MemoryBackend
from commandstore.testing.faults import LawBroken

PAGE = (Path(__file__).parents[2] / "docs" / "backends.md").read_text("utf-8")
BLOCKS = [dedent(block) for _, block in re.findall(r"^( *)```python\n(.*?)^\1```$", PAGE, re.MULTILINE | re.DOTALL)]


class MyEngineError(Exception):
    """The engine refused, and did nothing."""


class MyTimeout(MyEngineError):
    """Nobody knows what it did."""


engine = cache(MemoryBackend)
"""By its name: what all clients talk to."""


class MyClient:
    def __init__(self, name: str) -> None:
        self._engine = engine(name)

    def send(self, operation: str, request: tuple[Any, ...]) -> Any:
        return run(getattr(self._engine, operation)(*request[:-1], **dict(request[-1])))


class MyBackend(MemoryBackend):
    """Tries again what can have done nothing, and says of the rest that nobody knows."""

    def __init__(self, name: str, client: Any = None, retry: Retry | None = None) -> None:
        super().__init__(name)
        self._client = client or MyClient(name)
        self._retry = retry or Retry()

    async def _send(self, operation: str, *arguments: Any, writes: bool = False, **named: Any) -> Any:
        tries, request = Tries(self._retry, self.drive), (*arguments, tuple(named.items()))
        while True:
            try:
                return await self.drive.call(self._client.send, operation, request)
            except MyEngineError as error:
                failure = StoreUnavailable(f"no answer to {operation}")
                failure.__cause__ = error
            if writes and isinstance(failure.__cause__, MyTimeout):
                raise failure
            await self.between(tries, failure)

    async def between(self, tries: Tries, failure: StoreUnavailable) -> None:
        await tries.again(failure)

    async def insert(self, records: Sequence[Record], write_id: str) -> list[Outcome]:
        outcomes: list[Outcome] = await self._send("insert", records, write_id, writes=True)
        return outcomes

    async def fetch(self, uuids: Sequence[str]) -> dict[str, Record]:
        found: dict[str, Record] = await self._send("fetch", uuids)
        return found

    async def page(self, query: CommandQuery, after: Key | None, limit: int, *, payload: bool = True) -> Slice:
        found: Slice = await self._send("page", query, after, limit, payload=payload)
        return found

    async def count(self, query: CommandQuery) -> int:
        found: int = await self._send("count", query)
        return found

    async def replace(self, record: Record, write_id: str) -> bool:
        return bool(await self._send("replace", record, write_id, writes=True))

    async def remove(self, command_uuid: str) -> bool:
        return bool(await self._send("remove", command_uuid, writes=True))

    async def register_get(self, name: str) -> Register | None:
        found: Register | None = await self._send("register_get", name)
        return found

    async def register_swap(self, name: str, value: bytes | None, *, expected: str | None, token: str) -> bool:
        return bool(await self._send("register_swap", name, value, writes=True, expected=expected, token=token))


def shown(*, with_a: str, backend: type[MyBackend] = MyBackend) -> dict[str, Any]:
    """What the block with this word defines, for whoever has a backend and its client."""
    [block] = [block for block in BLOCKS if with_a in block]
    names = {"MyBackend": backend, "MyClient": MyClient, "MyEngineError": MyEngineError, "MyTimeout": MyTimeout}
    exec(compile(block, "docs/backends.md", "exec"), names)  # noqa: S102 - our own page
    return names


@pytest.fixture(autouse=True)
def _new_engines() -> Iterator[None]:
    engine.cache_clear()
    yield
    engine.cache_clear()


def test_every_example_can_be_read() -> None:
    assert len(BLOCKS) == 3
    assert {"MyPlace", "TestMyBackend"} <= shown(with_a="class MyPlace").keys()


@pytest.mark.parametrize("drive", ["blocking", "async"])
def test_the_storm_finds_nothing_in_a_right_backend(drive: str) -> None:
    shown(with_a="run_storm")["test_my_backend_in_a_storm"](drive)


class IsHasty(MyBackend):
    async def between(self, tries: Tries, failure: StoreUnavailable) -> None:
        del tries, failure


class RetriesItsWrites(MyBackend):
    async def _send(self, operation: str, *arguments: Any, writes: bool = False, **named: Any) -> Any:
        del writes
        return await super()._send(operation, *arguments, **named)


class LetsItThrough(MyBackend):
    async def count(self, query: CommandQuery) -> int:
        request: Any = (query, ())
        found: int = await self.drive.call(self._client.send, "count", request)
        return found


@pytest.mark.parametrize(
    ("backend", "law"),
    [
        (IsHasty, "was tried again without a pause"),
        (RetriesItsWrites, "no effect|no order explains|lost"),
        (LetsItThrough, "an error was not translated: My"),
    ],
)
def test_the_storm_finds_what_is_wrong_in_another(backend: type[MyBackend], law: str) -> None:
    test: Callable[[str], None] = shown(with_a="run_storm", backend=backend)["test_my_backend_in_a_storm"]
    with pytest.raises(LawBroken, match=law):
        test("blocking")


@pytest.mark.parametrize("drive", ["blocking", "async"])
def test_the_histories_run(drive: str) -> None:
    shown(with_a="run_clients")["test_clients_of_my_backend_agree"](drive, seed=1)
