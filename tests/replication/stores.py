"""Stores for the laws of the sync: quickly made, filled, and some that don't do all that they are asked."""

from __future__ import annotations

from commandstore import (
    Command,
    CommandStore,
    InvalidCommand,
    StoreUnavailable,
)
from commandstore.contract import Rejected
from commandstore.memory import MemoryBackend
from replication.sequence_model import SequenceModel, record


def opened(backend=None, **options) -> CommandStore:
    store = CommandStore(backend or MemoryBackend())
    store.init(**options)
    return store


def command(number: int, created_at: int | None = None, **fields) -> Command:
    return Command(f"c{number:04}", number if created_at is None else created_at, data_bytes=b"%d" % number, **fields)


def filled(count: int = 10, **options) -> CommandStore:
    store = opened(**options)
    store.create_many([command(n) for n in range(count)])
    return store


def model(count: int = 0) -> SequenceModel:
    source = SequenceModel(reuse=True)
    for number in range(count):
        source.add(record(f"c{number:04}", number))
    return source


def counts(report) -> tuple[int, int, int, int, int]:
    assert report.read == report.copied + report.duplicates + report.conflicts + report.failed
    return report.read, report.copied, report.duplicates, report.conflicts, report.failed


class Picky(MemoryBackend):
    """A destination that can't hold some commands."""

    def __init__(self, refused: set[str]) -> None:
        super().__init__()
        self.refused = refused
        self.order: list[str] = []

    async def insert(self, records, write_id):
        good = [r for r in records if r.command_uuid not in self.refused]
        self.order += [r.command_uuid for r in good]
        found = dict(zip((r.command_uuid for r in good), await super().insert(good, write_id), strict=True))
        bad = InvalidCommand("the column can't hold it")
        return [found.get(r.command_uuid) or Rejected(bad) for r in records]


class Failing(MemoryBackend):
    """A destination that stops answering after some inserts."""

    def __init__(self, inserts: int) -> None:
        super().__init__()
        self.inserts_left = inserts
        self.error: BaseException = StoreUnavailable("no answer")

    async def insert(self, records, write_id):
        self.inserts_left -= 1
        if self.inserts_left < 0:
            raise self.error
        return await super().insert(records, write_id)
