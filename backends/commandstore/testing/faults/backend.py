"""Any backend, whose primitives fail as a backend's do once all its own retries are used up.

For what stands above the backends, and for backends whose client nobody can get in between.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from commandstore.codec import Record
from commandstore.command import CommandQuery
from commandstore.contract import Anchor, Backend, Capability, Key, Outcome, Register, Row, SequenceState, Slice, Window
from commandstore.drive import Drive
from commandstore.errors import AccessDenied, CommandStoreError, CorruptRecord, StoreUnavailable, Throttled
from commandstore.testing.faults.plan import Fault, FaultPlan

__all__ = ["FaultyBackend"]

T = TypeVar("T")

_BEFORE: Mapping[Fault, Callable[[str], CommandStoreError]] = {
    Fault.THROTTLED: lambda what: Throttled(f"by plan: {what} was asked to be slower until patience ended"),
    Fault.UNAVAILABLE_BEFORE: lambda what: StoreUnavailable(f"by plan: {what} had no effect, and no answer"),
    Fault.EXPIRED: lambda what: AccessDenied(f"by plan: the credentials expired before {what}"),
}
_EVERY = (*_BEFORE, Fault.UNAVAILABLE_AFTER, Fault.SLOW)
_SLOW = 15.0


class FaultyBackend(Backend):
    """A backend around another one, with the faults of a plan.

    Args:
        backend: the other one.
        plan: decides; the names of its operations are those of the primitives.
    """

    def __init__(self, backend: Backend, plan: FaultPlan) -> None:
        self.backend = backend
        self.plan = plan
        # The class's own are attributes of each instance here: they are the other one's.
        self.store_type = backend.store_type  # type: ignore[misc]
        self.capabilities: frozenset[Capability] = backend.capabilities
        self.order_by = backend.order_by
        self.list_is_consistent = backend.list_is_consistent
        self.sealed_as_hex = backend.sealed_as_hex
        self.insert_count = backend.insert_count
        self.insert_concurrency = backend.insert_concurrency
        self.insert_bytes = backend.insert_bytes

    @property
    def location(self) -> str:
        """The other one's."""
        return self.backend.location

    async def open(self, drive: Drive, *, create: bool) -> None:
        """Never fails by plan: a store that isn't open is of no use to anybody."""
        self.drive = drive
        await self.backend.open(drive, create=create)

    async def close(self) -> None:
        """Never fails by plan."""
        await self.backend.close()

    async def insert(self, records: Sequence[Record], write_id: str) -> list[Outcome]:
        """As ``Backend.insert``; may write some of the records, and know that of some of them."""
        fault, random = self.plan.decide("insert", (*_EVERY, Fault.PARTIAL))
        if fault is Fault.PARTIAL and len(records) > 1:
            written = random.randrange(1, len(records))
            outcomes = await self.backend.insert(records[:written], write_id)
            known = [outcome if random.random() < 0.5 else None for outcome in outcomes]
            error = StoreUnavailable("by plan: what became of some records is unknown")
            error.outcomes = [*known, *[None] * (len(records) - written)]
            raise error
        return await self._meets("insert", fault, random.random(), lambda: self.backend.insert(records, write_id))

    async def _do(self, what: str, primitive: Callable[[], Awaitable[T]]) -> T:
        fault, random = self.plan.decide(what, _EVERY)
        return await self._meets(what, fault, random.random(), primitive)

    async def _meets(self, what: str, fault: Fault | None, draw: float, primitive: Callable[[], Awaitable[T]]) -> T:
        await self.drive.sleep(0)  # others may come first, as they do where there is a network
        if fault is not None and fault in _BEFORE:
            raise _BEFORE[fault](what)
        if fault is Fault.SLOW:
            self.plan.time.advance(draw * _SLOW)
        result = await primitive()
        if fault is Fault.UNAVAILABLE_AFTER:
            raise StoreUnavailable(f"by plan: the answer to {what} was lost")
        return result

    # The other primitives, each as it is declared in Backend

    async def fetch(self, uuids: Sequence[str]) -> dict[str, Record | CorruptRecord]:
        """See ``Backend.fetch``."""
        return await self._do("fetch", lambda: self.backend.fetch(uuids))

    async def probe(self, uuids: Sequence[str]) -> dict[str, bytes]:
        """See ``Backend.probe``."""
        return await self._do("probe", lambda: self.backend.probe(uuids))

    async def page(self, query: CommandQuery, after: Key | None, limit: int, *, payload: bool = True) -> Slice:
        """See ``Backend.page``."""
        return await self._do("page", lambda: self.backend.page(query, after, limit, payload=payload))

    def is_key(self, key: Key) -> bool:
        """See ``Backend.is_key``."""
        return self.backend.is_key(key)

    async def count(self, query: CommandQuery) -> int:
        """See ``Backend.count``."""
        return await self._do("count", lambda: self.backend.count(query))

    async def replace(self, record: Record, write_id: str) -> bool:
        """See ``Backend.replace``."""
        return await self._do("replace", lambda: self.backend.replace(record, write_id))

    async def remove(self, command_uuid: str) -> bool:
        """See ``Backend.remove``."""
        return await self._do("remove", lambda: self.backend.remove(command_uuid))

    async def clear(self) -> None:
        """See ``Backend.clear``."""
        await self._do("clear", self.backend.clear)

    async def register_get(self, name: str) -> Register | None:
        """See ``Backend.register_get``."""
        return await self._do("register_get", lambda: self.backend.register_get(name))

    async def register_swap(self, name: str, value: bytes | None, *, expected: str | None, token: str) -> bool:
        """See ``Backend.register_swap``."""
        return await self._do(
            "register_swap", lambda: self.backend.register_swap(name, value, expected=expected, token=token)
        )

    async def sequence_state(self, anchors: Sequence[Anchor], marks: Sequence[str]) -> SequenceState | None:
        """See ``Backend.sequence_state``."""
        return await self._do("sequence_state", lambda: self.backend.sequence_state(anchors, marks))

    async def feed(self, query: CommandQuery, window: Window, after: Key | None, limit: int) -> Slice:
        """See ``Backend.feed``."""
        return await self._do("feed", lambda: self.backend.feed(query, window, after, limit))

    async def sequence_cut(self, window: Window, count: int) -> int | None:
        """See ``Backend.sequence_cut``."""
        return await self._do("sequence_cut", lambda: self.backend.sequence_cut(window, count))

    async def feed_end(self) -> None:
        """Never fails by plan: it lets go of things."""
        await self.backend.feed_end()

    async def feed_again(self, keys: Sequence[Key]) -> list[Row | None]:
        """See ``Backend.feed_again``."""
        return await self._do("feed_again", lambda: self.backend.feed_again(keys))

    async def compact(self) -> Mapping[str, int]:
        """See ``Backend.compact``."""
        return await self._do("compact", self.backend.compact)

    async def gc(self, *, grace: float) -> Mapping[str, int]:
        """See ``Backend.gc``."""
        return await self._do("gc", lambda: self.backend.gc(grace=grace))
