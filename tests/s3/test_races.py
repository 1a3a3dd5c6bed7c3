"""Threads with stores of their own on one bucket, all at once: who wins is open, that one does isn't."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import cache, partial
from random import Random

import pytest
from botocore.loaders import JSONFileLoader

from commandstore.aws.retry import Retry
from commandstore.command import Command
from commandstore.errors import CommandExists
from commandstore.store import CommandStore
from commandstore.testing.conformance.data import a_command, some_commands
from commandstore.testing.engines import Engine
from s3.stores import Stores, everything, referred

PATIENT = Retry(attempts=200, base=0.002, longest=0.05)
WRITERS = 8
NOBODY = a_command("what was in the way, and can't be read")


@pytest.fixture(scope="module", autouse=True)
def service_models() -> Iterator[None]:
    """Each client reads the SDK's description of the service anew, which takes longer than most tests: once will do."""
    with pytest.MonkeyPatch.context() as patch:
        load = cache(JSONFileLoader().load_file)
        patch.setattr(JSONFileLoader, "load_file", lambda _, path: load(path))
        yield


@pytest.fixture(scope="module")
def stores(ministack: Engine) -> Iterator[Stores]:
    stores = Stores(ministack)
    yield stores
    stores.close()


class Field:
    """Several stores at one place."""

    def __init__(self, stores: Stores, stack: ExitStack) -> None:
        self.place = stores.place()
        self._stores, self._stack = stores, stack

    def open(self, count: int) -> list[CommandStore]:
        return [
            self._stack.enter_context(self._stores.open(self.place, retry=PATIENT, concurrency=4)) for _ in range(count)
        ]

    def objects(self) -> dict[str, bytes]:
        return self._stores.objects(self.place)


@pytest.fixture
def field(stores: Stores) -> Iterator[Field]:
    with ExitStack() as stack:
        yield Field(stores, stack)


def together(jobs: Sequence[Callable[[], object]]) -> list[object]:
    """Run jobs, which begin at once; what they returned, or raised."""
    ready = threading.Barrier(len(jobs))

    def run(job: Callable[[], object]) -> object:
        ready.wait()
        return job()

    with ThreadPoolExecutor(len(jobs)) as pool:
        return [future.result() for future in [pool.submit(run, job) for job in jobs]]


def attempt(store: CommandStore, command: Command) -> Command | None:
    """The command that was in the way of this one; None where none was."""
    try:
        store.create(command)
    except CommandExists as error:
        return error.existing or NOBODY
    return None


@pytest.mark.parametrize("compacting", [False, True], ids=["alone", "beside a compaction"])
def test_of_eight_that_create_one_uuid_at_once_one_does_and_the_others_are_told_what_stands(
    field: Field, *, compacting: bool
) -> None:
    *writers, compactor, reader = field.open(WRITERS + 2)
    for number in range(40):
        commands = [a_command(f"c{number}", number, data_bytes=b"%d" % which) for which in range(WRITERS)]
        jobs: list[Callable[[], object]] = [
            partial(attempt, store, command) for store, command in zip(writers, commands, strict=True)
        ]
        met = together([*jobs, compactor.compact] if compacting else jobs)[:WRITERS]
        [winner] = [command for command, other in zip(commands, met, strict=True) if other is None]
        assert [other for other in met if other is not None] == [winner] * (WRITERS - 1)
        for store in (*writers, reader):
            assert store.get(f"c{number}") == winner
    assert len(everything(reader)) == 40


class Owner:
    """Somebody who works on commands that nobody else touches, and looks after each step whether it was done."""

    def __init__(self, store: CommandStore, name: str) -> None:
        self.store = store
        self.name = name
        self.model: dict[str, Command] = {}
        self._random = Random(name)  # noqa: S311 - the same every time
        self._steps = 0

    def make(self) -> Command:
        self._steps += 1
        return a_command(
            f"{self.name}-{self._random.randrange(12)}",
            self._random.randrange(100),
            tenant_uuid=self.name,
            data_bytes=b"%d" % self._steps,
            req_ctx=f'{{"senderSessionUuid":"{self.name}"}}',
        )

    def step(self) -> None:
        command = self.make()
        uuid = command.command_uuid
        before = self.model.get(uuid)
        match self._random.randrange(5):
            case 0 | 1:
                assert attempt(self.store, command) == before
                self.model.setdefault(uuid, command)
            case 2:
                batch = {c.command_uuid: c for c in (command, *(self.make() for _ in range(4)))}
                result = self.store.create_many(batch.values())
                assert set(result.created) == batch.keys() - self.model.keys()
                assert set(result.conflicting) == batch.keys() & self.model.keys()
                self.model = batch | self.model
            case 3:
                assert self.store.update(command) == (before is not None)
                self.model |= {uuid: command} if before is not None else {}
            case 4:
                assert self.store.delete(uuid) == (before is not None)
                self.model.pop(uuid, None)
        assert self.store.get(uuid) == self.model.get(uuid)
        for found, total in (
            self.store.list(tenant_uuid=self.name, limit=-1),
            self.store.list(session_uuid=self.name, limit=-1),
        ):
            assert {c.command_uuid: c for c in found} == self.model
            assert len(found) == total == len(self.model)

    def work(self, steps: int) -> None:
        for _ in range(steps):
            self.step()


def test_everybody_reads_what_they_wrote_while_others_write_compact_and_collect(field: Field) -> None:
    *opened, compactor, collector, reader = field.open(4 + 3)
    owners = [Owner(store, f"owner-{number}") for number, store in enumerate(opened)]
    over = threading.Event()

    def until_over(act: Callable[[], object]) -> None:
        while not over.is_set():
            act()

    def work() -> None:
        try:
            together([partial(owner.work, 40) for owner in owners])
        finally:
            over.set()

    together([work, lambda: until_over(compactor.compact), lambda: until_over(lambda: collector.gc(0))])
    every = {uuid: command for owner in owners for uuid, command in owner.model.items()}
    assert everything(reader, every) == every
    reader.compact()
    reader.gc(0)
    assert everything(opened[0], every) == every
    objects = field.objects()
    assert set(objects) == referred(objects)


def test_commands_that_two_create_in_bulk_at_once_are_created_once(field: Field) -> None:
    first, second, reader = field.open(3)
    for number in range(4):
        commands = some_commands(300, prefix=f"round-{number}-")
        one, two = together([partial(store.create_many, commands) for store in (first, second)])
        assert sorted((*one.created, *two.created)) == [command.command_uuid for command in commands]
        assert sorted((*one.duplicate, *two.duplicate)) == sorted((*one.created, *two.created))
        assert one.conflicting + two.conflicting + one.failed + two.failed == ()
    assert len(everything(reader)) == 1200
