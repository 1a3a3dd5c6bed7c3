"""Commands in memory: the smallest right backend, oracle of the tests and tutorial for authors of further ones.

Every primitive is a few lines over a dictionary. What a real backend adds is an engine, its limits and its errors.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING

from commandstore.codec import Record
from commandstore.command import CommandQuery
from commandstore.contract import CREATED, Backend, Capability, Exists, Key, Outcome, Register, Row, Slice, is_position
from commandstore.drive import Drive
from commandstore.errors import ConfigurationError

if TYPE_CHECKING:
    from commandstore.url import StoreUrl

__all__ = ["MemoryBackend", "from_url"]


class MemoryBackend(Backend):
    """Commands in this process, gone with it. Safe for threads; what is closed can be opened again."""

    store_type = "memory"
    capabilities = frozenset({Capability.DIGESTS})

    def __init__(self, name: str = "") -> None:
        self._name = name
        self._lock = threading.Lock()
        self._records: dict[str, tuple[Record, str]] = {}
        self._order: list[tuple[int, str]] | None = None  # sorted positions, made when they are needed
        self._registers: dict[str, Register] = {}

    @property
    def location(self) -> str:
        return f"memory://{self._name or f'{id(self):x}'}"

    async def open(self, drive: Drive, *, create: bool) -> None:  # noqa: ARG002 - there is nothing to make
        self.drive = drive

    async def close(self) -> None:
        pass

    async def insert(self, records: Sequence[Record], write_id: str) -> list[Outcome]:
        outcomes: list[Outcome] = []
        with self._lock:
            for record in records:
                found = self._records.setdefault(record.command_uuid, (record, write_id))
                # The very tuple that was given, or the same write tried again: ours.
                if found[1] == write_id:
                    self._order = None
                    outcomes.append(CREATED)
                else:
                    outcomes.append(Exists(found[0].digest, found[1]))
        return outcomes

    async def fetch(self, uuids: Sequence[str]) -> dict[str, Record]:  # type: ignore[override]  # never corrupt
        with self._lock:
            return {uuid: self._records[uuid][0] for uuid in uuids if uuid in self._records}

    async def page(self, query: CommandQuery, after: Key | None, limit: int, *, payload: bool = True) -> Slice:  # noqa: ARG002
        with self._lock:
            order = self._positions()
            start, step, end = _walk(order, after, ascending=query.ascending)
            rows: list[Row] = []
            for index in range(start, end, step):
                record = self._records[order[index][1]][0]
                if query.matches(record):
                    if len(rows) == limit:
                        return Slice(rows, rows[-1].key)
                    rows.append(Row(order[index], record))
            return Slice(rows, None)

    def is_key(self, key: Key) -> bool:
        return is_position(key)

    async def count(self, query: CommandQuery) -> int:
        with self._lock:
            if not query.canonical():
                return len(self._records)
            return sum(query.matches(record) for record, _ in self._records.values())

    async def replace(self, record: Record, write_id: str) -> bool:
        with self._lock:
            if record.command_uuid not in self._records:
                return False
            self._records[record.command_uuid] = (record, write_id)
            self._order = None
            return True

    async def remove(self, command_uuid: str) -> bool:
        with self._lock:
            self._order = None
            return self._records.pop(command_uuid, None) is not None

    async def clear(self) -> None:
        with self._lock:
            self._records.clear()
            self._registers.clear()
            self._order = None

    async def register_get(self, name: str) -> Register | None:
        with self._lock:
            return self._registers.get(name)

    async def register_swap(self, name: str, value: bytes | None, *, expected: str | None, token: str) -> bool:
        with self._lock:
            found = self._registers.get(name)
            if (found.token if found else None) != expected:
                # A lost answer: the swap (or the removal) that is asked for is in place already.
                return found.token == token if found else value is None
            if value is None:
                self._registers.pop(name, None)
            else:
                self._registers[name] = Register(value, token)
            return True

    def _positions(self) -> list[tuple[int, str]]:
        if self._order is None:
            self._order = sorted((record.created_at, uuid) for uuid, (record, _) in self._records.items())
        return self._order


def _walk(order: list[tuple[int, str]], after: Key | None, *, ascending: bool) -> tuple[int, int, int]:
    """Where to start, which way, and where to stop."""
    if ascending:
        return (0 if after is None else bisect_right(order, after)), 1, len(order)
    return (len(order) if after is None else bisect_left(order, after)) - 1, -1, -1


_named: dict[str, MemoryBackend] = {}


def from_url(url: StoreUrl) -> MemoryBackend:
    """``memory://`` is a store of its own; ``memory://NAME`` is one store for all who name it in this process."""
    if url.path or url.options:
        raise ConfigurationError("a memory store is memory:// or memory://NAME, without a path or options")
    if "@" in url.host:  # a name is shown, and this looks like a password
        raise ConfigurationError("a memory store is memory:// or memory://NAME, and its name has no '@'")
    if not url.host:
        return MemoryBackend()
    return _named.setdefault(url.host, MemoryBackend(url.host))
