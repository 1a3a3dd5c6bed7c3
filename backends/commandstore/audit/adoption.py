"""Taking up into the ledger what is in the store and in no entry.

There is such where a store is older than its ledger, where a writer was killed between writing and recording, and where
the entry that knew it can't be read any more, or is not signed by a key that counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

from commandstore.audit.book import Book, Case, judge
from commandstore.audit.chain import Chain
from commandstore.audit.report import AuditFinding, AuditProgress, AuditReport, Tally
from commandstore.audit.seen import Pace, fetch, walk
from commandstore.core import PAGE, StoreCore
from commandstore.drive import run
from commandstore.errors import ConfigurationError, LedgerError
from commandstore.ledger.entry import Entry
from commandstore.ledger.leaves import Leaf, Op
from commandstore.ledger.log import MAX_LEAVES
from commandstore.ledger.signing import Verifier
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
        bad_entries: how many entries, or their places, do not fit; they say nothing.
        first_bad_entry: the first of these.
        findings: these, up to 1,000.
    """

    commands: int = 0
    adopted: int = 0
    known: int = 0
    left: int = 0
    entries: int = 0
    bad_entries: int = 0
    first_bad_entry: int | None = None
    findings: list[AuditFinding] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain values under these names, for JSON."""
        plain = asdict(self)
        for finding in plain["findings"]:
            finding["kind"] = finding["kind"].value
        return plain


def adopt(
    store: CommandStore,
    public_keys: Sequence[bytes | str] = (),
    *,
    progress: Callable[[AuditProgress], None] | None = None,
) -> AdoptReport:
    """Record commands of a store that no entry of its ledger knows. A second run adopts nothing.

    An adopted command is recorded as it is now: nothing is said of what it was before. A command whose deletion the
    ledger records is not adopted as long as it is what was to be deleted.

    An entry that does not fit is reported, and stays; commands that only such an entry knows are adopted. So audit the
    store first: what was altered under a damaged entry is recorded as it is now.

    Args:
        store: open with a signer.
        public_keys: PEM texts: all keys that the ledger was ever signed with; the signer's own counts anyway. What is
            signed by any other key says nothing. Without them, an entry of another key is an error: if it was an
            earlier one, its commands are known.
        progress: called after each page and entry.

    Raises:
        ConfigurationError: the store has no signer; a public key that is none.
        LedgerError: an entry is signed with a key that is not known, and no public keys were given; or the newest entry
            is damaged, so that none can be chained to it.
        ReadOnlyStore: the store is read-only.
        CommandStoreError: the store or the signer failed; what was adopted until then is.
    """
    if not isinstance(store, CommandStore):
        raise ConfigurationError("adopt takes a CommandStore; for asyncio, adopt_async")
    return run(_adopt(store.core, public_keys, progress))


async def adopt_async(
    store: AsyncCommandStore,
    public_keys: Sequence[bytes | str] = (),
    *,
    progress: Callable[[AuditProgress], None] | None = None,
) -> AdoptReport:
    """Record commands of a store that no entry of its ledger knows; as :func:`adopt`, for asyncio."""
    if not isinstance(store, AsyncCommandStore):
        raise ConfigurationError("adopt_async takes an AsyncCommandStore")
    return await _adopt(store.core, public_keys, progress)


class _Keys(Verifier):
    """Whoever has a new key here, and not the earlier ones, must not take what these signed for forged."""

    def __init__(self, own: bytes, others: Sequence[bytes | str]) -> None:
        super().__init__([own, *others])
        self._all = bool(others)

    def check(self, entry: Entry) -> str | None:
        if not self._all and entry.key_id not in self.key_ids:
            raise LedgerError(
                f"entry {entry.sequence} of the ledger is signed with key {entry.key_id}, and the signer's is "
                f"{', '.join(self.key_ids)}. Nothing more was adopted. Give all public keys that the ledger was signed "
                "with (--public-key): what others signed is taken for forged then",
                sequence=entry.sequence,
            )
        return super().check(entry)


async def _adopt(
    core: StoreCore, public_keys: Sequence[bytes | str], progress: Callable[[AuditProgress], None] | None
) -> AdoptReport:
    core.writable()
    if core.ledger is None:
        raise ConfigurationError("adopting appends to the ledger, so open the store with a signer (--signing-key)")
    signer = core.options.signer
    assert signer is not None  # noqa: S101 - there is a ledger to append to
    keys = _Keys(await core.drive.call(signer.public_key), public_keys)
    tally, book, report = Tally(AuditReport(), progress), Book(), AdoptReport()
    try:
        # Before the chain is read: what others record after this is compared with what is adopted.
        await core.ledger.begin()
        since = core.ledger.newest
        chain = Chain(core, keys, book, tally)
        await chain.advance()
        await walk(core, book, lambda _name, _reason: None, tally.met)
        await chain.advance()
        await _sort_out(core, book, report)
        await _record(core, chain, book, report, since)
    finally:
        book.close()
    report.bad_entries, report.first_bad_entry = tally.report.bad_entries, tally.report.first_bad_entry
    report.findings = tally.report.findings
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


async def _record(core: StoreCore, chain: Chain, book: Book, report: AdoptReport, since: int) -> None:
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
            await _append(core, leaves, report, since)
            # The chain is read on to there before anything else is collected.
            leaves, since = [], core.ledger.newest
        await chain.advance()  # what other writers record is theirs
    if leaves:
        await _append(core, leaves, report, since)


async def _append(core: StoreCore, leaves: list[Leaf], report: AdoptReport, since: int) -> None:
    assert core.ledger is not None  # noqa: S101 - looked at by the caller
    made = await core.ledger.append("adopt", leaves, since=since)
    recorded = sum(entry.count for entry in made)
    report.entries += len(made)
    report.adopted += recorded
    report.known += len(leaves) - recorded  # another writer was quicker, or deleted it
