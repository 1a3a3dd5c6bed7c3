"""Syncs in one event loop, several at once, that die at any request; what happens depends on the seed alone.

What ``test_kills.py`` does to real processes, a thousand times as often, and again by its seed. The source is a model
of a SQL database with transactions that commit late; each sync is a process of its own over one destination, whose
requests and answers take as long as the seed says. Who dies does nothing more; what it had sent arrives later or never.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from random import Random
from typing import Any, TypeVar

from commandstore import AsyncCommandStore, SyncError
from commandstore.audit import verify_async_ledger
from commandstore.codec import Record
from commandstore.contract import Outcome
from commandstore.ledger.signing import Ed25519Signer
from commandstore.replication.engine import Sync
from commandstore.replication.walk import Settings
from reliability.scale import scaled
from reliability.wavering import Wavering
from replication.sequence_model import Kill, SequenceModel, record

SEED = 20261125
SIGNER = Ed25519Signer(bytes(32))
NEVER = float("inf")
T = TypeVar("T")
logger = logging.getLogger(__name__)


class Process(Wavering):
    """One process's way to a destination that others use too.

    Args:
        destination: what lies there.
        dies_after: after so many steps it dies, and does nothing more.
        told_after: after so many steps it is told to end, as by Ctrl-C, and ends in order.
        on_the_way: requests that were sent.
    """

    def __init__(
        self, destination: Wavering, dies_after: float, told_after: float, on_the_way: set[asyncio.Task[Any]]
    ) -> None:
        super().__init__("")
        self.random = destination.random
        self._records, self._registers = destination._records, destination._registers
        self.main: asyncio.Task[Any] | None = None
        self._left, self._untold = dies_after, told_after
        self._on_the_way = on_the_way
        self._own: list[asyncio.Task[Any]] = []

    async def pause(self) -> None:
        self._step()
        await super().pause()
        self._step()

    async def insert(self, records: Sequence[Record], write_id: str) -> list[Outcome]:
        return await self._sent(lambda: self._beyond().insert(records, write_id))

    async def register_swap(self, name: str, value: bytes | None, *, expected: str | None, token: str) -> bool:
        return await self._sent(lambda: self._beyond().register_swap(name, value, expected=expected, token=token))

    def _beyond(self) -> Wavering:
        """The destination, for a request that no longer needs its sender."""
        beyond = Wavering(self.random.random())
        beyond._lock, beyond._records, beyond._registers = self._lock, self._records, self._registers
        return beyond

    async def _sent(self, request: Callable[[], Coroutine[Any, Any, T]]) -> T:
        self._step()
        task = asyncio.ensure_future(request())
        self._own.append(task)
        self._on_the_way.add(task)
        task.add_done_callback(self._on_the_way.discard)
        await self.pause()
        answer = await asyncio.shield(task)
        await self.pause()
        return answer

    def _step(self) -> None:
        self._left -= 1
        self._untold -= 1
        if self._left < 0:
            for task in self._own:
                if self.random.random() < 0.5:
                    task.cancel()  # it never arrives, unless it has
            self._own.clear()
            raise Kill
        if self._untold == 0 and self.main is not None:
            self.main.cancel()


class World:
    """A source, a destination, and what is done to them."""

    def __init__(self, seed: str, *, signed: bool) -> None:
        self.random = Random(seed)  # noqa: S311 - the same every time
        self.source = SequenceModel(reuse=False)
        self.source.during = self._meanwhile
        self.destination = Wavering(seed)
        self.signer = SIGNER if signed else None
        self.happened: Counter[str] = Counter()
        self.calm = False
        # A run that compares everything puts right what others left out: most worlds never see one.
        self._resumes = self.random.choice([1, 1, 1, 0.9])
        self._names = (f"c{number}" for number in itertools.count())
        self._on_the_way: set[asyncio.Task[Any]] = set()

    def process(self, dies_after: float = NEVER, told_after: float = NEVER) -> Process:
        return Process(self.destination, dies_after, told_after, self._on_the_way)

    def _meanwhile(self) -> None:
        if self.random.random() < 0.3:
            self.live()

    def live(self) -> None:
        """What an application does in a moment."""
        for _ in range(self.random.choice([3, 25])):
            row = record(next(self._names), self.random.choice([1, 1, 2, self.random.randrange(10**6)]))
            if self.random.random() < 0.3:
                self.source.begin(row)
            else:
                self.source.add(row)
        for transaction in list(self.source.flying):
            if self.random.random() < 0.3:
                self.source.commit(transaction)
            elif self.random.random() < 0.05:
                del self.source.flying[transaction]

    async def one_run(self, dies_after: float = NEVER, told_after: float = NEVER) -> str:
        """A process from its start to its end; how that was."""
        settings = Settings(
            batch_size=self.random.choice([1, 2, 3, 7]),
            concurrency=self.random.choice([1, 3, 3]),
            resume_from_dest=self.calm or self.random.random() < self._resumes,
        )
        process = self.process(dies_after, told_after)
        source, copy = AsyncCommandStore(self.source), AsyncCommandStore(process)
        # On its clock a batch takes up to ten seconds, so that the checkpoint is saved often.
        clock = itertools.accumulate(iter(lambda: self.random.uniform(0, 10), None)).__next__
        try:
            await source.init(read_only=True)
            await copy.init(signer=self.signer)
            process.main = asyncio.ensure_future(Sync(source.core, copy.core, settings, monotonic=clock).run())
            report = await process.main
        except Kill:
            return "killed"
        except asyncio.CancelledError:
            return "told to end"
        except SyncError as error:
            assert "another run" in str(error), error  # noqa: PT017
            return "overtaken"
        assert report.complete
        assert report.read == report.copied + report.duplicates
        return "whole"

    async def round(self) -> None:
        """Some time passes, and some processes run."""
        self.live()
        at_once = self.random.choice([1, 1, 2, 2, 3, 4])
        runs = []
        for _ in range(at_once):
            life = self.random.choice([self.random.randrange(60), self.random.randrange(400)])
            runs.append(self.one_run(life) if self.random.random() < 0.7 else self.one_run(told_after=life))
        self.happened.update(await asyncio.gather(*runs))

    async def judge(self) -> None:
        """All is quiet; one run more, and all is right."""
        await asyncio.gather(*self._on_the_way, return_exceptions=True)
        self.source.during, self.calm = None, True
        for transaction in list(self.source.flying):
            self.source.commit(transaction)
        while await self.one_run() != "whole":
            pass
        wanted = {row.command_uuid: row for row in self.source.rows.values()}
        assert {uuid: stored for uuid, (stored, _) in self.destination._records.items()} == wanted
        async with AsyncCommandStore(self.process()) as copy:
            await copy.init(read_only=True)
            if self.signer is not None and wanted:
                report = await verify_async_ledger(copy, [self.signer.public_key()], patience=0)
                assert report.clean, report.findings[:5]
                assert report.intact == len(wanted)


def of_the_dead(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Nobody asks how the other tasks of one who died ended."""
    if not isinstance(context.get("exception"), Kill):
        loop.default_exception_handler(context)


async def a_life(seed: str, *, signed: bool) -> Counter[str]:
    asyncio.get_running_loop().set_exception_handler(of_the_dead)
    world = World(seed, signed=signed)
    for _ in range(8):
        await world.round()
    await world.judge()
    return world.happened


def test_whatever_dies_at_whatever_request_the_next_run_puts_it_right() -> None:
    happened: Counter[str] = Counter()
    for number in range(scaled(12, 1500)):
        seed = f"{SEED} {number}"
        try:
            happened += asyncio.run(a_life(seed, signed=number % 3 > 0))
        except BaseException as error:
            error.add_note(f"seed {seed!r}")
            raise
    logger.info("simulated: %s", dict(happened))
    assert happened["killed"] > happened["whole"] / 4
