"""The audit: the chain is replayed, and what it says of each command is compared with what the store holds.

A full audit walks the store, payloads included and nothing opened, and compares at the end. It only finds candidates:
each is asked for by its uuid, consistently, and held against the ledger as it is by then, before anything is said of
it. What is being written right now is recorded a moment later (created) or was a moment before (updated, deleted), so
where candidates are left, the audit waits a little and looks again.

An audit from a checkpoint asks for the commands of the new entries by their uuids, and for the store's count.

Since it looks at commands one batch after the other while others write, nothing is named before the ledger was read on
after the command was: what it says then must still be what the command was held against.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from commandstore.audit.book import Book, Case, Seen, State, Verdict, judge
from commandstore.audit.chain import Chain
from commandstore.audit.checkpoint import AuditCheckpoint
from commandstore.audit.earlier import uncounted
from commandstore.audit.report import AuditFinding, AuditKind, AuditProgress, AuditReport, Tally
from commandstore.audit.seen import Pace, fetch, walk
from commandstore.audit.tenants import compare_tenants
from commandstore.command import INT64_MAX, INT64_MIN, CommandQuery
from commandstore.core import PAGE, StoreCore
from commandstore.drive import run
from commandstore.errors import ConfigurationError
from commandstore.ledger.entry import Entry
from commandstore.ledger.leaves import Op
from commandstore.ledger.signing import Verifier
from commandstore.store import AsyncCommandStore, CommandStore

__all__ = ["Audit", "Settings", "verify_async_ledger", "verify_ledger"]

_ASKED_AT_ONCE = 20
_TIES_PAGES = 10
# Before the second look; twice as long before each one after it, since a look may cost much.
_PAUSE = 1.0
# How often a command is held against the ledger that somebody writes to at that moment, again and again.
_TRIES = 3


def verify_ledger(
    store: CommandStore,
    public_keys: Sequence[bytes | str],
    *,
    checkpoint: AuditCheckpoint | None = None,
    full: bool = False,
    count: bool = True,
    lists: bool = False,
    accept: bool = False,
    patience: float = 10.0,
    progress: Callable[[AuditProgress], None] | None = None,
) -> AuditReport:
    """Whether the ledger is whole, and the store holds what it says. Writes nothing, and needs no key of payloads.

    May run while the store is written to.

    Args:
        store: open, read-only if you like.
        public_keys: PEM texts: all keys that the ledger was ever signed with.
        checkpoint: of an earlier audit. Without one, all is looked at, and nothing can be found that fits in itself:
            store and ledger put back together to an older copy, or another history by whoever has the signing key.
        full: look at all, and hold it against the checkpoint too.
        count: from a checkpoint, compare how many commands there are; costs the store's count.
        lists: walk the lists of every tenant in a full audit, and not only of those whose number of commands differs
            from what the store counts.
        accept: whoever audits knows what is found. The report says it all the same, and has a checkpoint, so that the
            next audit from it does not find it again; a full one does. Not where the store's count alone differs, as
            that names nothing.
        patience: how many seconds to wait, once in all, for what is just being written; only where something differs.
            Longer than a writer of the store takes for 10,000 commands, which may be written before they are recorded.
        progress: called after each page and entry.

    Returns:
        The account; ``checkpoint`` in it is for the next audit, where all fits, or was accepted.

    Raises:
        ConfigurationError: an argument that can't be right; no public key.
        CommandStoreError: the store failed.
    """
    if not isinstance(store, CommandStore):
        raise ConfigurationError("verify_ledger takes a CommandStore; for asyncio, verify_async_ledger")
    settings = Settings(checkpoint, full, count, lists, accept, patience, progress)
    return run(Audit(store.core, Verifier(public_keys), settings).run())


async def verify_async_ledger(
    store: AsyncCommandStore,
    public_keys: Sequence[bytes | str],
    *,
    checkpoint: AuditCheckpoint | None = None,
    full: bool = False,
    count: bool = True,
    lists: bool = False,
    accept: bool = False,
    patience: float = 10.0,
    progress: Callable[[AuditProgress], None] | None = None,
) -> AuditReport:
    """Whether the ledger is whole, and the store holds what it says; as :func:`verify_ledger`, for asyncio."""
    if not isinstance(store, AsyncCommandStore):
        raise ConfigurationError("verify_async_ledger takes an AsyncCommandStore")
    settings = Settings(checkpoint, full, count, lists, accept, patience, progress)
    return await Audit(store.core, Verifier(public_keys), settings).run()


@dataclass(frozen=True, slots=True)
class Settings:
    """How an audit runs; see :func:`verify_ledger`."""

    checkpoint: AuditCheckpoint | None = None
    full: bool = False
    count: bool = True
    lists: bool = False
    accept: bool = False
    patience: float = 10.0
    progress: Callable[[AuditProgress], None] | None = None

    def __post_init__(self) -> None:
        # NaN would pass every comparison but this one, and an audit would never end.
        if isinstance(self.patience, bool) or not 0 <= self.patience < math.inf:
            raise ConfigurationError(f"patience is a number of seconds, at least 0, not {self.patience!r}")


class _Judged(NamedTuple):
    """A command, what the store held of it, and what is wrong with it."""

    case: Case
    seen: Seen | None
    verdict: Verdict | None


def _is_doubtful(case: Case) -> bool:
    """Whether a command has to be looked at once more."""
    seen = case.seen
    return judge(case.state, seen) is not None or (seen is not None and (seen.other is not None or seen.hidden))


class Audit:
    """One audit.

    Args:
        core: the store's.
        verifier: of the ledger's signatures.
        settings: see :func:`verify_ledger`.
        now: the clock, in nanoseconds since 1970.
        monotonic: a clock in seconds that never goes back.
    """

    def __init__(
        self,
        core: StoreCore,
        verifier: Verifier,
        settings: Settings,
        *,
        now: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._core = core
        self._verifier = verifier
        self._settings = settings
        self._now = now
        self._monotonic = monotonic
        self._report = AuditReport(store=core.backend.location)
        self._tally = Tally(self._report, settings.progress)
        self._deadline: float | None = None  # of the patience; begins with the first thing that doesn't fit
        self._unnamed = False  # the store's count differs, and nothing tells by which commands
        self._surplus = 0  # how many commands more there are than the ledger knows, by what was named

    async def run(self) -> AuditReport:
        """Run; see :func:`verify_ledger`."""
        began = self._monotonic()
        self._core.ready()
        book = Book()
        try:
            await self._run(book)
        finally:
            book.close()
        self._report.complete = True
        self._report.seconds = self._monotonic() - began
        return self._report

    async def _run(self, book: Book) -> None:
        report, known = self._report, self._settings.checkpoint
        chain = Chain(self._core, self._verifier, book, self._tally, known)
        report.since = known.sequence if known is not None else None
        from_checkpoint = known if not self._settings.full and await chain.start_after_checkpoint() else None
        report.full = from_checkpoint is None
        await chain.advance()
        if not report.head and not report.bad_entries:
            self._tally.entry(1, "there is no ledger: it was never begun, or it was removed")
        if from_checkpoint is None:
            await walk(self._core, book, self._nameless, self._tally.met)
            await chain.advance()
        # What is appended from here on is taken into account, and compared only by the next audit.
        head, last, net = chain.head, chain.last, report.created - report.deleted
        if report.full:
            report.tenants_compared = await compare_tenants(self._core, book, every=self._settings.lists)
        live, idle = await self._compare(book)
        report.expected = live if from_checkpoint is None else from_checkpoint.commands + net + idle
        expected = report.expected
        await chain.advance()
        await self._settle(book, chain)
        if from_checkpoint is not None and self._settings.count:
            expected += await self._compare_counts(book, chain, from_checkpoint, from_checkpoint.commands + idle)
        if not report.findings:
            report.checkpoint = self._checkpoint(head, expected)
        elif self._settings.accept and not self._unnamed:
            # What was named is there, or is missing, in the next audit's count too.
            report.checkpoint = self._checkpoint(last, expected + self._surplus)
            report.accepted = report.checkpoint is not None

    def _checkpoint(self, at: Entry | None, commands: int) -> AuditCheckpoint | None:
        if at is None:
            return None
        return AuditCheckpoint(at.sequence, at.hash.hex(), commands, self._now(), self._report.store)

    def _nameless(self, name: str, reason: str) -> None:
        # The ledger can't be asked about it.
        self._surplus += 1
        self._tally.command(AuditFinding(AuditKind.UNREADABLE, name, None, None, reason))

    # Both held together

    async def _compare(self, book: Book) -> tuple[int, int]:
        """Judge what is plain to see, and put the rest aside.

        Returns:
            How many commands the ledger knows, and what is to be added where its creations and deletions are counted.
        """
        live = idle = 0
        cases, pace, call = book.cases(), Pace(_ASKED_AT_ONCE, PAGE), self._core.drive.call
        while some := await call(list, islice(cases, PAGE if self._report.full else pace.size)):
            if not self._report.full:
                seen = await fetch(self._core, [case.command_uuid for case in some], pace)
                some = [case._replace(seen=seen.get(case.command_uuid)) for case in some]
                self._tally.read += len(some)
            aside = []
            for case in some:
                if case.state is not None:
                    live += case.state.live
                    idle += case.state.idle
                if _is_doubtful(case):
                    aside.append(case)
                elif case.seen is not None:
                    self._tally.intact()
            await call(book.put_aside, aside)
            self._tally.tell()
        return live, idle

    async def _settle(self, book: Book, chain: Chain) -> None:
        """Look once more at what was put aside, until it fits or patience ends; what is left then is named."""
        left, pause = await self._look_again(book, chain, name=self._settings.patience <= 0), _PAUSE
        while left:
            seconds = self._patience()
            if seconds > 0:
                await self._core.drive.sleep(min(seconds, pause))
                pause *= 2
            await chain.advance()
            left = await self._look_again(book, chain, name=seconds <= 0)

    def _patience(self) -> float:
        """How many seconds there are still to wait."""
        now = self._monotonic()
        if self._deadline is None:
            self._deadline = now + self._settings.patience
        return self._deadline - now

    async def _look_again(self, book: Book, chain: Chain, *, name: bool) -> int:
        """Judge what was put aside by what the store answers for its uuids.

        Returns:
            How many are left that do not fit, and were not named.
        """
        left, after, pace, call = 0, 0, Pace(_ASKED_AT_ONCE, PAGE), self._core.drive.call
        while some := await call(book.aside, after, pace.size):
            before, after, settled = after, some[-1][0], []
            judged = await self._judged(some, pace)
            for _ in range(_TRIES):
                moving = await self._moving(book, chain, judged, before) if name else []
                if not moving:
                    break
                judged |= await self._judged(moving, pace)
            for number, (case, seen, verdict) in judged.items():
                if verdict is not None and not name:
                    left += 1
                    continue
                settled.append(number)
                if verdict is not None:
                    self._surplus += (seen is not None) - (case.state is not None and case.state.live)
                    self._tally.command(self._finding(case.command_uuid, case.state, seen, verdict))
                elif seen is not None:
                    self._tally.intact()
            await call(book.settle, settled)
            self._tally.tell()
        return left

    async def _judged(self, some: Sequence[tuple[int, Case]], pace: Pace) -> dict[int, _Judged]:
        found = await fetch(self._core, [case.command_uuid for _, case in some], pace)
        judged = {}
        for number, case in some:
            seen = found.get(case.command_uuid)
            judged[number] = _Judged(case, seen, judge(case.state, seen) or await self._listed(case, seen))
        return judged

    async def _moving(
        self, book: Book, chain: Chain, judged: Mapping[int, _Judged], after: int
    ) -> list[tuple[int, Case]]:
        """Of what does not fit, that of which the ledger says something else by now."""
        bad = {number: one for number, one in judged.items() if one.verdict is not None}
        if not bad or not await chain.advance():
            return []
        by_now = await self._core.drive.call(book.aside, after, len(judged))
        return [(number, case) for number, case in by_now if number in bad and case.state != bad[number].case.state]

    def _finding(self, uuid: str, state: State | None, seen: Seen | None, verdict: Verdict) -> AuditFinding:
        created_at = seen.created_at if seen is not None else None
        if created_at is None and state is not None:
            created_at = state.created_at
        reason = verdict.reason
        if verdict.kind is AuditKind.ALTERED and state is not None and state.op == Op.UPDATE and not state.before:
            reason += "; it may be as it was before that update (a full audit tells)"
        return AuditFinding(verdict.kind, uuid, state.sequence if state is not None else None, created_at, reason)

    async def _listed(self, case: Case, seen: Seen | None) -> Verdict | None:
        """Whether lists show a command that is as it should be, and show it once."""
        if seen is None or not self._report.full:
            return None
        met = case.seen
        # Nearly always the walk has met it, once, and at this time: there may be thousands of these.
        if met is None or met.other is not None or met.created_at != seen.created_at:
            rows = await self._rows(case, seen)
            if rows is not None and rows > 1:
                return Verdict(AuditKind.ADDED, "there is a second record of this uuid")
            if rows == 0:
                return Verdict(AuditKind.UNLISTED, "it is there, and lists do not show it")
        if met is None or not met.hidden or seen.created_at is None:
            return None
        if await self._rows_at(seen.created_at, case.command_uuid, seen.tenant):
            return None
        return Verdict(AuditKind.UNLISTED, "it is there, and not in the lists of its tenant")

    async def _rows(self, case: Case, seen: Seen) -> int | None:
        """How many rows of a command lists show wherever it is, or was met; None: more than are worth reading."""
        times = {seen.created_at, *((case.seen.created_at, case.seen.other) if case.seen else ())}
        rows = 0
        for at in times - {None}:
            found = await self._rows_at(at, case.command_uuid)
            if found is None:
                return None
            rows += found
        return rows

    async def _rows_at(self, at: int, uuid: str, tenant: str | None = None) -> int | None:
        """How many rows of a command lists show at a time; None where more commands share it than are worth reading."""
        after, before = at - 1 if at > INT64_MIN else None, at + 1 if at < INT64_MAX else None
        query = CommandQuery(tenant_uuid=tenant, after=after, before=before)
        rows, key = 0, None
        for _ in range(_TIES_PAGES):
            found = await self._core.backend.page(query, key, PAGE, payload=False)
            rows += sum(row.record is not None and row.record.command_uuid == uuid for row in found.rows)
            if (key := found.next_key) is None:
                return rows
        return None

    async def _compare_counts(self, book: Book, chain: Chain, known: AuditCheckpoint, base: int) -> int:
        """Whether the store holds as many commands as the ledger knows.

        Returns:
            How many more there are than the entries after the checkpoint say by themselves.
        """
        report, more = self._report, 0
        while True:
            report.counted = await self._core.backend.count(CommandQuery())
            await chain.advance()
            report.expected = base + report.created - report.deleted
            if report.counted != report.expected + self._surplus and not more:
                more = await uncounted(
                    self._core, self._verifier, known.sequence, await self._core.drive.call(book.first)
                )
                base, report.expected = base + more, report.expected + more
            if report.counted == report.expected + self._surplus:
                return more
            if (seconds := self._patience()) <= 0:
                break
            await self._core.drive.sleep(min(seconds, _PAUSE))
            await chain.advance()
        self._unnamed = True
        self._tally.count(
            f"the store holds {report.counted:,} commands, and the ledger knows {report.expected:,}; "
            "a full audit names those that were added or dropped"
        )
        return more
