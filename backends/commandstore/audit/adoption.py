"""Taking up into the ledger what is in the store and in no entry.

There is such where a store is older than its ledger, or where a writer was killed between writing and recording.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from commandstore.audit.book import Book, Case, judge
from commandstore.audit.chain import Chain
from commandstore.audit.report import AuditProgress, AuditReport, Tally
from commandstore.audit.seen import Pace, fetch, walk
from commandstore.core import PAGE, StoreCore
from commandstore.drive import run
from commandstore.errors import ConfigurationError, LedgerError
from commandstore.ledger.leaves import Leaf, Op
from commandstore.ledger.log import MAX_LEAVES
from commandstore.store import AsyncCommandStore, CommandStore

__all__ = ["AdoptReport", "adopt", "adopt_async"]

_ASKED_AT_ONCE = 20


@dataclass(slots=True)
class AdoptReport:
    """What was adopted.

    Attributes:
        commands: commands that were looked at.
        adopted: of these, those that no entry knew, and that the ledger knows now.
        known: those that were in the ledger, as they are.
        left: those that are not as the ledger says, or can't be read: they stay as they are; an audit names them.
        entries: how many entries were appended.
    """

    commands: int = 0
    adopted: int = 0
    known: int = 0
    left: int = 0
    entries: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values under these names, for JSON."""
        return asdict(self)


def adopt(store: CommandStore, *, progress: Callable[[AuditProgress], None] | None = None) -> AdoptReport:
    """Record commands of a store that no entry of its ledger knows. A second run adopts nothing.

    An adopted command is recorded as it is now: nothing is said of what it was before. A command whose deletion the
    ledger records is not adopted as long as it is what was to be deleted.

    Args:
        store: open with a signer.
        progress: called after each page and entry.

    Raises:
        ConfigurationError: the store has no signer.
        LedgerError: the ledger is damaged, and nothing should be built on it before that is looked into.
        ReadOnlyStore: the store is read-only.
        CommandStoreError: the store or the signer failed; what was adopted until then is.
    """
    if not isinstance(store, CommandStore):
        raise ConfigurationError("adopt takes a CommandStore; for asyncio, adopt_async")
    return run(_adopt(store.core, progress))


async def adopt_async(
    store: AsyncCommandStore, *, progress: Callable[[AuditProgress], None] | None = None
) -> AdoptReport:
    """Record commands of a store that no entry of its ledger knows; as :func:`adopt`, for asyncio."""
    if not isinstance(store, AsyncCommandStore):
        raise ConfigurationError("adopt_async takes an AsyncCommandStore")
    return await _adopt(store.core, progress)


async def _adopt(core: StoreCore, progress: Callable[[AuditProgress], None] | None) -> AdoptReport:
    core.writable()
    if core.ledger is None:
        raise ConfigurationError("adopting appends to the ledger, so open the store with a signer (--signing-key)")
    tally, book, report = Tally(AuditReport(), progress), Book(), AdoptReport()
    try:
        # Signatures are not looked at: an older part may be signed with keys that the operator doesn't have here.
        chain = Chain(core, None, book, tally)
        await chain.advance()
        await walk(core, book, lambda _name, _reason: None, tally.met)
        await chain.advance()
        if tally.report.findings:
            first = tally.report.findings[0]
            raise LedgerError(
                f"entry {first.sequence} of the ledger does not fit: {first.reason}. Nothing was adopted",
                sequence=first.sequence,
            )
        await _sort_out(core, book, report)
        await _record(core, chain, book, report)
    finally:
        book.close()
    return report


async def _sort_out(core: StoreCore, book: Book, report: AdoptReport) -> None:
    cases = book.cases()
    while some := await core.drive.call(lambda: list(islice(cases, PAGE))):
        aside: list[Case] = []
        for case in some:
            if case.seen is None:
                continue
            report.commands += 1
            if _unknown(case):
                aside.append(case)
            elif judge(case.state, case.seen) is None:
                report.known += 1
            else:
                report.left += 1
        await core.drive.call(book.put_aside, aside)
    await core.drive.call(book.sort_aside)


def _unknown(case: Case) -> bool:
    """Whether it is there, whole, and no entry knows it."""
    state, seen = case.state, case.seen
    if seen is None or seen.digest is None or seen.problem is not None or (state is not None and state.live):
        return False
    return state is None or not state.op or seen.digest != state.digest


async def _record(core: StoreCore, chain: Chain, book: Book, report: AdoptReport) -> None:
    assert core.ledger is not None  # noqa: S101 - looked at by the caller
    after, pace = 0, Pace(_ASKED_AT_ONCE)
    leaves: list[Leaf] = []
    while some := await core.drive.call(book.aside, after, pace.size):
        after = some[-1][0]
        found = await fetch(core, [case.command_uuid for _, case in some], pace)
        for _, (uuid, state, _seen) in some:
            seen = found.get(uuid)
            if seen is None:  # deleted since
                report.commands -= 1
            elif _unknown(Case(uuid, state, seen)) and seen.digest is not None and seen.created_at is not None:
                leaves.append(Leaf(Op.CREATE, uuid, seen.digest, seen.created_at))
            elif judge(state, seen) is None:  # recorded since, by its writer
                report.known += 1
            else:
                report.left += 1
        if len(leaves) >= MAX_LEAVES:
            await _append(core, leaves, report)
            leaves = []
        await chain.advance()  # what other writers record is theirs
    if leaves:
        await _append(core, leaves, report)


async def _append(core: StoreCore, leaves: list[Leaf], report: AdoptReport) -> None:
    assert core.ledger is not None  # noqa: S101 - looked at by the caller
    made = await core.ledger.append("adopt", leaves)
    recorded = sum(entry.count for entry in made)
    report.entries += len(made)
    report.adopted += recorded
    report.known += len(leaves) - recorded  # another writer was quicker
