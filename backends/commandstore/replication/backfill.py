"""The first copy of a large source, by many workers.

A plan cuts it into ranges, each is copied on its own, and a last step hands over to the scheduled sync. The order of
the steps is what makes it lose nothing. The horizon is recorded first, and no range is handed out before it is
certain that no row up to it can appear any more; so when all ranges are copied, everything up to the horizon is, and
the last step may say so in the checkpoint. The scheduled sync goes on after it.

Ranges go by id where the source has one, else by time. A range is stateless: whoever copies it gets the place to go on
from with it and hands back the next, so that it may be done twice, by two workers, or begun again.
"""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import orjson

from commandstore.command import INT64_MIN, CommandQuery, is_int64
from commandstore.contract import Anchor, Key, SequenceState, Slice, Window
from commandstore.core import StoreCore, is_int
from commandstore.errors import CommandStoreError, ConfigurationError, StoreUnavailable, SyncError
from commandstore.replication import plan
from commandstore.replication.checkpoint import Checkpoint, anchors_of, backfill_name, merge
from commandstore.replication.report import SyncReport
from commandstore.replication.walk import Batch, Settings, Walk

__all__ = ["MAX_RANGES", "BackfillPlan", "Finish", "Planner", "Range", "RangeCopy"]

VERSION = 1
MAX_RANGES = 2000
"""More than these don't fit into what a state machine hands from step to step (256 KiB)."""

PATIENCE = 720.0
"""Seconds that a plan waits for transactions that were open when it read the horizon.

More than a standby of Postgres needs, which settles by time alone: it can't see its primary's transactions.
"""

_PAUSES = (0.25, 5.0)
"""Seconds between two questions, at first and at most."""


@dataclass(frozen=True, slots=True)
class Range:
    """A piece of a source: ids ``low < id <= high``, or times ``low < created_at <= high``.

    Attributes:
        plan: the plan that it belongs to.
        low: exclusive.
        high: inclusive.
        after: where to go on; None at its start. A key of the source.
    """

    plan: str
    low: int
    high: int
    after: Key | None = None


@dataclass(frozen=True, slots=True)
class BackfillPlan:
    """What is to be copied.

    Attributes:
        plan: its id; a further plan for the same source (and tenant) replaces it.
        ranges: cover everything between what is done already and the horizon.
    """

    plan: str
    ranges: tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class _Recorded:
    """What the register of a plan holds."""

    plan: str
    generation: str
    by_sequence: bool
    horizon: int
    anchors: tuple[Anchor, ...]
    version: int = VERSION

    def to_json(self) -> bytes:
        """The register's value."""
        return orjson.dumps({**asdict(self), "anchors": [list(anchor) for anchor in self.anchors]})

    @classmethod
    def from_json(cls, text: bytes) -> _Recorded:
        """Read what :meth:`to_json` wrote.

        Raises:
            ConfigurationError: another release wrote it, or it is no plan.
        """
        try:
            value = orjson.loads(text)
            if value["version"] != VERSION:
                raise ConfigurationError("the backfill plan was made by another release; plan again")
            value["anchors"] = anchors_of(value["anchors"])
            found = cls(**value)
            texts, numbers = (found.plan, found.generation), (found.horizon, found.version)
            right = all(isinstance(one, str) for one in texts) and all(is_int64(one) for one in numbers)
            if not right or not isinstance(found.by_sequence, bool):
                raise TypeError("a field of another type")  # noqa: TRY301 - told below
        except (ValueError, TypeError, KeyError) as error:
            if isinstance(error, ConfigurationError):
                raise
            raise ConfigurationError("the backfill plan in the destination can't be read; plan again") from error
        return found


class _Step(Walk):
    """What the three steps have in common: the plan's register."""

    @property
    def _plan_name(self) -> str:
        return backfill_name(self._name, self._query)

    async def _recorded(self, wanted: str) -> _Recorded:
        found = await self._destination.backend.register_get(self._plan_name)
        if found is None:
            raise ConfigurationError(f"there is no backfill plan {wanted} for this source in the destination")
        recorded = _Recorded.from_json(found.value)
        if recorded.plan != wanted:
            raise ConfigurationError(f"the backfill plan {wanted} was replaced by {recorded.plan}; go on with that one")
        return recorded

    async def _load(self, recorded: _Recorded) -> Checkpoint:
        """The checkpoint, if it still is the one that the plan began with."""
        stored = await self._register.load()
        if stored is None or stored.generation != recorded.generation:
            raise SyncError(
                "the checkpoint is not the one that this backfill began with: the destination was reset, or a sync "
                "found that the source is not what it was; plan again (what was copied stays)"
            )
        self._refuse_plain_text()
        return stored

    async def _save(self) -> None:
        """Between its steps a backfill saves nothing: a range hands back how far it came."""


class Planner(_Step):
    """Cuts a source into ranges.

    Args:
        source: the source's core.
        destination: the destination's core; plan and checkpoint are written there.
        settings: tenant, source name.
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
        super().__init__(source, destination, settings, monotonic=monotonic)
        self._now = now

    async def run(self, commands_per_range: int) -> BackfillPlan:
        """Plan; see :func:`~commandstore.plan_backfill`."""
        if not is_int(commands_per_range) or commands_per_range < 1:
            raise ConfigurationError("commands_per_range must be a whole number of at least 1")
        self._source.ready()
        self._destination.writable()
        await self._destination.ready_to_record()
        checkpoint, _, state = await self._start()
        if state is not None:
            await self._settle(state)
            horizon, anchors = state.horizon, state.anchors
            cuts = await self._by_id(checkpoint.settled, horizon, commands_per_range)
        else:
            horizon, anchors = await self._edge(before=self._now()), ()
            # What has the time of the mark itself is not done for good.
            low = INT64_MIN if checkpoint.mark in {None, INT64_MIN} else (checkpoint.mark or 0) - 1
            cuts = await self._by_time(low, horizon, commands_per_range)
        made = secrets.token_hex(8)
        await self._record(_Recorded(made, checkpoint.generation, state is not None, horizon, anchors))
        ranges = tuple(Range(made, low, high) for low, high in itertools.pairwise(cuts))
        return BackfillPlan(made, ranges)

    async def _settle(self, state: SequenceState) -> None:
        """Wait until no row up to the horizon can appear any more: only what is copied after that is complete."""
        if state.mark is None:
            return
        end = self._monotonic() + PATIENCE
        pause, longest = _PAUSES
        while True:
            now = await self._source.backend.sequence_state((), (state.mark,))
            if now is not None and now.settled_marks == (True,):
                return
            if self._monotonic() >= end:
                raise StoreUnavailable(
                    f"after {PATIENCE:.0f} seconds it is still not certain that no command can appear below the plan's "
                    "horizon: a transaction has been open all the time (pg_stat_activity shows it); end it, plan again"
                )
            await self._drive.sleep(pause)
            pause = min(longest, pause * 2)

    async def _by_id(self, low: int, high: int, size: int) -> list[int]:
        cuts = [low]
        while cuts[-1] < high:
            cut = await self._source.backend.sequence_cut(Window(cuts[-1], high), size)
            cuts.append(high if cut is None else cut)
            if len(cuts) > MAX_RANGES + 1:
                return await self._by_id(low, high, size * 2)
        return cuts

    async def _edge(self, *, before: int | None = None) -> int:
        """The oldest time that there is, or the newest one before another; INT64_MIN where there is none."""
        query = self._query if before is None else replace(self._query, before=before, ascending=False)
        key: Key | None = None
        while True:
            found = await self._source.backend.page(query, key, 1, payload=False)
            times = [row.record.created_at for row in found.rows if row.record is not None]
            if times or found.next_key is None:
                return times[0] if times else INT64_MIN
            key = found.next_key

    async def _by_time(self, low: int, high: int, size: int) -> list[int]:
        """Halve what is too large, by exact counts; a single instant is never cut."""
        if high <= low:
            return []
        # The first piece reaches down to `low`, the cutting begins where there is something.
        pieces, cuts = [(max(low, await self._edge() - 1), high)], [low]
        while pieces:
            start, end = pieces.pop()
            if end - start > 1 and await self._source.backend.count(_between(self._query, start, end)) > size:
                middle = start + (end - start) // 2
                pieces += [(middle, end), (start, middle)]
                continue
            cuts.append(end)
            if len(cuts) > MAX_RANGES + 1:
                return await self._by_time(low, high, size * 2)
        return cuts

    async def _record(self, recorded: _Recorded) -> None:
        value = recorded.to_json()
        backend = self._destination.backend
        while True:
            found = await backend.register_get(self._plan_name)
            expected = found.token if found else None
            if await backend.register_swap(self._plan_name, value, expected=expected, token=secrets.token_hex(8)):
                return


class RangeCopy(_Step):
    """Copies one range, or as much of it as there is time for."""

    async def run(self, piece: Range) -> tuple[SyncReport, Range]:
        """Copy; see :func:`~commandstore.copy_range`."""
        self._source.ready()
        self._destination.writable()
        await self._destination.ready_to_record()
        recorded = await self._recorded(piece.plan)
        self._checkpoint = known = await self._load(recorded)
        reached = piece.after

        async def read(after: Key | None) -> Slice:
            if recorded.by_sequence:
                return await self._source.feed(self._query, Window(piece.low, piece.high), after, self._batch_size)
            return await self._source.pages(_between(self._query, piece.low, piece.high), after, self._batch_size)

        def advance(batch: Batch) -> None:
            nonlocal reached
            reached = batch.end

        async def work() -> None:
            try:
                await self._walk(read, advance, piece.after)
            finally:
                await self._record_written()
            if self._now_known().parked != known.parked:
                await self._register.save(self._now_known())

        try:
            await self._reported(work)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            if piece.after is None or isinstance(error, CommandStoreError):
                raise
            raise ConfigurationError("the range goes on after something that is no key of this source") from error
        return self._report, replace(piece, after=None if self._report.complete else reached)


class Finish(_Step):
    """Writes the horizon as the checkpoint, once all ranges are copied."""

    async def run(self, wanted: str) -> int:
        """Finish; see :func:`~commandstore.finish_backfill`."""
        self._source.ready()
        self._destination.writable()
        recorded = await self._recorded(wanted)
        stored = await self._load(recorded)
        if recorded.by_sequence:
            done = replace(stored, settled=recorded.horizon, anchors=recorded.anchors, window=None, pending=())
            state = await self._state(done)
            if state is None or plan.begin(done, state) is not done:
                raise SyncError("the source is not what it was when the backfill was planned; plan again")
        else:
            done = replace(stored, mark=plan.lagging_mark(recorded.horizon, recorded.horizon, self._settings.lag))
        await self._register.save(merge(done, stored))
        return recorded.horizon


def _between(query: CommandQuery, low: int, high: int) -> CommandQuery:
    """The commands of a range of times. The lowest takes all that is below, rows without a time included."""
    return replace(query, after=None if low == INT64_MIN else low, before=high + 1)
