"""Comparing two stores: a walk over both in the total order, and a second look at all that differs.

The walk reads no payload where a store keeps digests. It compares both lists by ranges (``streams.py``), and finds
only candidates: what it met in one store alone is asked for by its uuid, consistently and in both, before anything is
said of it (``judgement.py``). So a list that lags behind, or a sync that is under way, makes no findings. What is found
may be put right (``repair.py``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from commandstore.codec import Record
from commandstore.command import INT64_MAX, INT64_MIN, CommandQuery
from commandstore.contract import Key
from commandstore.core import PAGE, StoreCore, is_int
from commandstore.drive import run
from commandstore.errors import ConfigurationError
from commandstore.replication import deletions, judgement
from commandstore.replication.findings import Finding, FindingKind, Tally, VerifyProgress, VerifyReport
from commandstore.replication.judgement import Answer, Candidate, Verdict
from commandstore.replication.repair import Done, Repair
from commandstore.replication.streams import WHOLE_AT_ONCE, Met, Side, Stream, alike
from commandstore.store import AsyncCommandStore, CommandStore

__all__ = ["Settings", "Verify", "verify_async_command_stores", "verify_command_stores"]

SETTLED_AT_ONCE = 500
"""How many candidates are asked for by their uuids in one go."""

_BYTES_AT_ONCE = 32 * 1024 * 1024
_TIES_PAGES = 10


def verify_command_stores(
    source: CommandStore,
    destination: CommandStore,
    *,
    repair: bool = False,
    delete_extra: bool = False,
    payloads: bool = False,
    tenant_uuid: str | None = None,
    after: int | None = None,
    before: int | None = None,
    page_size: int | None = None,
    progress: Callable[[VerifyProgress], None] | None = None,
    time_left: Callable[[], float] | None = None,
) -> VerifyReport:
    """Compare two stores over a range of time, name what is not in both alike, and put it right if asked to.

    Commands are compared by their digests. A store that keeps digests beside its commands (all but SQL) is taken at
    its word: its payloads are read only where something differs. May run while both stores are written to.

    Args:
        source: what is right. Never written.
        destination: what is compared with it.
        repair: write to the destination what is missing there, and replace what is altered (or can't be read there) by
            what the source has. Each command is looked at once more before it is changed.
        delete_extra: with ``repair``, remove from the destination what the source doesn't have, after all else: at most
            100,000 commands, and none unless the whole range was compared, the source has a command in it, and every
            uuid there can be read. For a destination that several sources are copied to, give ``tenant_uuid`` as well:
            what is another source's is extra to this one.
        payloads: read all payloads on both sides, and compute each digest anew, so that an alteration that left the
            digest beside it untouched is found too.
        tenant_uuid: only this tenant's.
        after: only ``created_at`` greater than this, in its unit.
        before: only ``created_at`` less than this; None takes the start of the verification, in nanoseconds since 1970,
            as what is newer may still be on its way.
        page_size: how many commands are read at once; None takes what suits each store.
        progress: called after each page.
        time_left: asked before each page for the seconds that are left; at 0 or less, the verification ends with
            ``complete=False``, after one more look at what it has found. So hold back some seconds for that.

    Returns:
        The account: ``compared == equal + missing + extra + altered + failed``. Where both are one store, there is
        nothing to compare (``same_store``), unless ``payloads`` has it compared with its own digests.

    Raises:
        ConfigurationError, InvalidQuery: an argument that can't be right.
        ReadOnlyStore: a repair of a destination that was opened read-only; nothing was touched.
        CommandStoreError: a store failed. What was repaired until then is durable, and the next run goes on.
    """
    if not isinstance(source, CommandStore) or not isinstance(destination, CommandStore):
        raise ConfigurationError(
            "verify_command_stores takes two CommandStores; for asyncio, verify_async_command_stores"
        )
    settings = Settings(repair, delete_extra, payloads, tenant_uuid, after, before, page_size, progress, time_left)
    return run(Verify(source.core, destination.core, settings).run())


async def verify_async_command_stores(
    source: AsyncCommandStore,
    destination: AsyncCommandStore,
    *,
    repair: bool = False,
    delete_extra: bool = False,
    payloads: bool = False,
    tenant_uuid: str | None = None,
    after: int | None = None,
    before: int | None = None,
    page_size: int | None = None,
    progress: Callable[[VerifyProgress], None] | None = None,
    time_left: Callable[[], float] | None = None,
) -> VerifyReport:
    """Compare two stores over a range of time; as :func:`verify_command_stores`, for asyncio."""
    if not isinstance(source, AsyncCommandStore) or not isinstance(destination, AsyncCommandStore):
        raise ConfigurationError("verify_async_command_stores takes two AsyncCommandStores")
    settings = Settings(repair, delete_extra, payloads, tenant_uuid, after, before, page_size, progress, time_left)
    return await Verify(source.core, destination.core, settings).run()


@dataclass(frozen=True, slots=True)
class Settings:
    """How a verification runs; see :func:`verify_command_stores`."""

    repair: bool = False
    delete_extra: bool = False
    payloads: bool = False
    tenant_uuid: str | None = None
    after: int | None = None
    before: int | None = None
    page_size: int | None = None
    progress: Callable[[VerifyProgress], None] | None = None
    time_left: Callable[[], float] | None = None

    def __post_init__(self) -> None:
        if self.page_size is not None and (not is_int(self.page_size) or self.page_size < 1):
            raise ConfigurationError("page_size must be a whole number of at least 1")
        if self.delete_extra and not self.repair:
            raise ConfigurationError("delete_extra goes with repair: without it nothing is changed")


class Verify:
    """One verification.

    Args:
        source: the source's core.
        destination: the destination's core.
        settings: see :func:`verify_command_stores`.
        now: the clock, in nanoseconds since 1970.
        monotonic: a clock in seconds that never goes back.
    """

    def __init__(
        self,
        source: StoreCore,
        destination: StoreCore,
        settings: Settings,
        *,
        now: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._monotonic = monotonic
        before = now() if settings.before is None else settings.before
        self._query = source.query({"tenant_uuid": settings.tenant_uuid, "after": settings.after, "before": before})
        # Both sides' digests in one form: plain, or keyed as the destination keeps them.
        sealed = destination.options.crypto is not None
        hexed = destination.sealing.digests_are_of_ciphers
        keyed = destination.sealing if sealed and not hexed and not settings.payloads else None
        believed = not settings.payloads
        self._source = Side(
            source,
            "source",
            payload=settings.payloads or source.options.crypto is not None,
            keyed=keyed,
            believed=believed,
        )
        self._destination = Side(destination, "destination", payload=settings.payloads or hexed, believed=believed)
        self._report = VerifyReport()
        self._tally = Tally(self._report, settings.progress)
        self._candidates: list[Met] = []
        self._to_repair: dict[str, Finding] = {}
        self._deletions = deletions.Deletions(self._tally)
        self._repair = Repair(
            self._source, self._destination, in_scope=self._query.matches, delete_extra=settings.delete_extra
        )

    async def run(self) -> VerifyReport:
        """Run; see :func:`verify_command_stores`."""
        began = self._monotonic()
        source, destination = self._source.core, self._destination.core
        source.ready()
        destination.ready()
        if self._settings.repair:
            destination.writable()
            await destination.ready_to_record()
        self._report.reached = self._query.after
        same = source.backend.location == destination.backend.location
        if same and not self._settings.payloads:
            self._report.same_store = self._report.complete = True
            return self._report
        left = deletions.STOPPED
        try:
            for query in _stretches(self._query):
                if not await self._walk(query):
                    break
            else:
                self._report.complete = True
            left = await self._delete()
        finally:
            self._deletions.leave(left)
        self._report.seconds = self._monotonic() - began
        return self._report

    async def _walk(self, query: CommandQuery) -> bool:
        """Merge both sides' lists of one stretch; False where time ran out."""
        source = Stream(self._source, query, self._settings.page_size)
        destination = Stream(self._destination, query, self._settings.page_size)
        while await self._ready(source) and await self._ready(destination):
            if same := alike(source, destination):
                self._tally.alike(same)
                continue
            here, there = source.head, destination.head
            if here is None and there is None:
                await self._settle()
                self._reached(None if query.before is None else query.before - 1)
                return True
            if there is None or (here is not None and here < there):
                self._candidates.append(source.taken(in_source=True))
            elif here is None or there < here:
                self._candidates.append(destination.taken(in_source=False))
            else:
                self._meet(source.taken(in_source=True), destination.taken(in_source=False))
            if len(self._candidates) >= SETTLED_AT_ONCE:
                await self._settle()
        await self._settle()
        ends = [stream.end for stream in (source, destination)]
        known = [end for end in ends if end is not None]
        self._reached(min(known) - 1 if len(known) == len(ends) else None)
        return False

    def _reached(self, created_at: int | None) -> None:
        if created_at is not None and created_at >= INT64_MIN:
            reached = self._report.reached
            self._report.reached = created_at if reached is None else max(reached, created_at)

    def _meet(self, here: Met, there: Met) -> None:
        """Rows of both sides at one place."""
        if here.candidate.unordered:
            self._candidates += [here, there]
        elif here.candidate.digests & there.candidate.digests:
            self._tally.equal()
        else:
            self._candidates.append(here)

    async def _ready(self, stream: Stream) -> bool:
        """Read on until the next rows of one place are there, or the end; False where time ran out."""
        while True:
            for bad in stream.unreadable():
                await self._found(bad)
            if stream.ready:
                return True
            if self._time_is_up():
                return False
            await stream.fill()
            self._tally.tell()

    def _time_is_up(self) -> bool:
        return self._settings.time_left is not None and self._settings.time_left() <= 0

    # The second look

    async def _settle(self) -> None:
        """Judge all candidates, by what both stores answer for their uuids; and repair what was found."""
        met, self._candidates = self._candidates, []
        hard: list[Met] = []
        for some in _cut(met, SETTLED_AT_ONCE):
            tenants = {one.candidate.position.command_uuid: one.tenant_uuid for one in some}
            here, there = await self._source.digests(tenants), await self._destination.digests(tenants)
            for one in some:
                uuid = one.candidate.position.command_uuid
                verdict = judgement.quick(one.candidate, here.get(uuid), there.get(uuid))
                if isinstance(verdict, Verdict):
                    await self._count(one.candidate, verdict)
                elif not verdict:
                    hard.append(one)
        for some in _cut(hard, WHOLE_AT_ONCE):
            await self._judge(some)
        await self._put_right()
        if met:
            self._tally.tell()

    async def _judge(self, met: Sequence[Met]) -> None:
        uuids = list(dict.fromkeys(one.candidate.position.command_uuid for one in met))
        here, there = await self._source.fetch(uuids), await self._destination.fetch(uuids)
        for candidate in (one.candidate for one in met):
            uuid = candidate.position.command_uuid
            judge = judgement.of_source if candidate.in_source else judgement.of_destination
            verdict = judge(candidate, here.get(uuid), there.get(uuid), self._query.matches)
            altered = verdict is not None and verdict.kind is FindingKind.ALTERED
            if altered and candidate.in_source and await self._is_repeat(candidate, there.get(uuid)):
                continue
            if verdict is not None:
                await self._count(candidate, verdict)

    async def _is_repeat(self, candidate: Candidate, there: Answer) -> bool:
        """Whether the destination has what another row of this uuid has in the source."""
        if not isinstance(there, Record):
            return False
        if there.position == candidate.position and not candidate.unordered and self._query.matches(there):
            return False  # it would have been met in the same place
        at = there.created_at
        query = CommandQuery(
            after=at - 1 if at > INT64_MIN else None,
            before=at + 1 if at < INT64_MAX else None,
        )
        key: Key | None = None
        # A few pages: a time that so many commands share that more are needed is not worth reading for each of them.
        for _ in range(_TIES_PAGES):
            found = await self._source.core.pages(query, key, PAGE, payload=self._source.payload)
            if any(row.record is not None and row.record.digest == there.digest for row in found.rows):
                return True
            if (key := found.next_key) is None:
                break
        return False

    async def _count(self, candidate: Candidate, verdict: Verdict) -> None:
        created_at, uuid = candidate.position
        if verdict.kind is None:
            self._tally.equal(uuid if candidate.unordered else None)
            return
        await self._found(Finding(verdict.kind, uuid, created_at, verdict.reason))

    # The repair

    async def _found(self, finding: Finding) -> None:
        uuid = finding.command_uuid
        if not self._settings.repair:
            self._tally.found(finding)
        elif uuid in self._to_repair or uuid in self._deletions:
            pass  # what it was met as first counts
        elif self._settings.delete_extra and finding.kind is FindingKind.EXTRA:
            self._deletions.hold(finding)
        else:
            self._to_repair[uuid] = finding
            if len(self._to_repair) >= WHOLE_AT_ONCE:
                await self._put_right()

    async def _put_right(self) -> None:
        """Repair what was found, and count it by what became of it."""
        if not self._to_repair:
            return
        findings, self._to_repair = list(self._to_repair.values()), {}
        try:
            await self._repair.run(findings, self._repaired, any_equal=self._report.equal > 0)
        finally:
            self._tally.tell()

    async def _delete(self) -> str:
        """Delete what is extra, if nothing stands against it. Returns why those that are left were."""
        if why := deletions.why_not(self._source, complete=self._report.complete):
            return why
        for some in self._deletions.portions(self._time_is_up):
            await self._repair.run(some, self._repaired, any_equal=self._report.equal > 0)
            self._tally.tell()
        return deletions.TIME_IS_UP

    def _repaired(self, finding: Finding, done: Finding | Done) -> None:
        self._deletions.done(finding)
        if isinstance(done, Finding):
            self._tally.found(done)
        elif done is Done.EQUAL:
            self._tally.equal(finding.command_uuid)


def _stretches(query: CommandQuery) -> list[CommandQuery]:
    """The range in parts within each of which both sides come in one order.

    A SQL row without a time reads as of time 0 and comes before all others. So negative times are a walk of their own,
    and what has time 0 comes first in the other.
    """
    if (query.after is not None and query.after >= -1) or (query.before is not None and query.before <= 0):
        return [query]
    return [replace(query, before=0), replace(query, after=-1)]


def _cut(met: Sequence[Met], count: int) -> Iterator[list[Met]]:
    """Portions of at most so many, and of payloads that fit into memory as far as their sizes are known."""
    portion: list[Met] = []
    size = 0
    for one in met:
        if portion and (len(portion) >= count or size + one.size > _BYTES_AT_ONCE):
            yield portion
            portion, size = [], 0
        portion.append(one)
        size += one.size
    if portion:
        yield portion
