"""Putting a destination right, one command after the other, each by what both stores say of it just before.

A finding tells only where to look: the source may have changed since. So both are asked again, consistently, and what
is done follows from that. A repair that was stopped is repeated: what is right by then is no finding any more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import Enum
from typing import NamedTuple

from commandstore import codec
from commandstore.codec import Record
from commandstore.errors import CommandStoreError, InvalidCommand
from commandstore.records import Fate
from commandstore.replication.findings import REMOVED, REPLACED, WRITTEN, Finding, FindingKind
from commandstore.replication.judgement import Answer, Misfit
from commandstore.replication.keyfit import key_fits
from commandstore.replication.streams import BAD_COMMAND, Side, is_uuid

__all__ = ["NOT_ASKED_FOR", "Done", "Repair", "Step", "step"]

NOT_ASKED_FOR = "left: extra commands are deleted only with delete_extra"
_AGAIN = "verify again"


class Done(Enum):
    """What became of a finding besides being repaired or left."""

    EQUAL = "equal"
    """It is in both alike by now."""
    GONE = "gone"
    """It is in neither by now."""


class Step(NamedTuple):
    """What to do with a command: an action, or nothing for a reason."""

    action: str | None
    reason: str = ""


Said = Callable[[Finding, Finding | Done], None]
"""Told of each finding what became of it: the finding with what was done, or how it needs none any more."""


def step(  # noqa: PLR0911 - one for each thing that may be the matter
    kind: FindingKind,
    here: Answer,
    there: Answer,
    *,
    in_scope: Callable[[Record], bool],
    delete_extra: bool,
    opens: bool,
) -> Step | Done:
    """What to do with a command. Pure.

    Args:
        kind: what it was found to be.
        here: what the source has of it now.
        there: what the destination has of it now.
        in_scope: whether a command is one of those that are verified.
        delete_extra: whether what only the destination has is to go.
        opens: whether the destination was opened with the key that its commands were sealed with, or without one where
            none is sealed. Otherwise nothing could be opened, and would all be replaced; and what is missing would be
            written in plain, or under a key that no reader has.
    """
    if isinstance(here, CommandStoreError):
        what = "does not fit its digest" if isinstance(here, Misfit) else "can't be read"
        return Step(None, f"not repaired: it {what} in the source")
    if here is None:
        if there is None:
            return Done.GONE
        if kind is not FindingKind.EXTRA:
            return Step(None, f"not repaired: it is not in the source (any more); {_AGAIN}")
        return Step(REMOVED) if delete_extra else Step(None, NOT_ASKED_FOR)
    if kind is FindingKind.FAILED and not in_scope(here):
        return Step(None, "not repaired: in the source it is outside of what is verified")
    if isinstance(there, Record) and there.digest == here.digest:
        return Done.EQUAL
    if not opens and not isinstance(there, Record):
        return Step(None, "not repaired: what the destination holds does not open with the key given, or none was")
    return Step(WRITTEN if there is None else REPLACED)


class Repair:
    """Repairs what a verification finds.

    Args:
        source: what is right.
        destination: what is changed.
        in_scope: whether a command is one of those that are verified.
        delete_extra: whether to remove what only the destination has.
    """

    def __init__(
        self, source: Side, destination: Side, *, in_scope: Callable[[Record], bool], delete_extra: bool
    ) -> None:
        self._source = source
        self._destination = destination
        self._in_scope = in_scope
        self._delete_extra = delete_extra
        self._opens = False

    async def run(self, findings: Sequence[Finding], said: Said, *, any_equal: bool) -> None:
        """Repair these, of distinct uuids.

        Args:
            findings: so few that they fit into memory whole.
            said: told of each as soon as it is done.
            any_equal: a command was found in both stores alike, by the destination's key if it is sealed.

        Raises:
            CommandStoreError: a store failed; of what is known to be done, ``said`` was told.
        """
        uuids = [finding.command_uuid for finding in findings if is_uuid(finding.command_uuid)]
        # The source last: what is written is as it was a moment before.
        there = await self._destination.fetch(uuids)
        here = await self._source.fetch(uuids, believed=False)
        core = self._destination.core
        if not self._opens:
            # That it was found alike, by its keyed digest, is proof enough.
            alike = any_equal and core.options.crypto is not None
            self._opens = alike or await key_fits(core, there.values())
        to_write: list[tuple[Finding, Record]] = []
        for finding in findings:
            uuid = finding.command_uuid
            if not is_uuid(uuid) or (finding.created_at is None and uuid not in here and uuid not in there):
                said(finding, _left(finding, "not repaired: it has no uuid by which it could be asked for"))
                continue
            one = here.get(uuid)
            next_step = step(
                finding.kind,
                one,
                there.get(uuid),
                in_scope=self._in_scope,
                delete_extra=self._delete_extra,
                opens=self._opens,
            )
            if isinstance(next_step, Done):
                said(finding, next_step)
            elif next_step.action is None:
                said(finding, _left(finding, next_step.reason))
            elif next_step.action == REMOVED:
                said(finding, await self._remove(finding))
            else:
                assert isinstance(one, Record)  # noqa: S101 - only such a one is written
                try:
                    codec.check(one)
                except InvalidCommand as error:
                    said(finding, _left(finding, f"not repaired: {error}"))
                    continue
                if next_step.action == WRITTEN:
                    to_write.append((finding, one))
                else:
                    said(finding, await self._replace(finding, one))
        if to_write:
            await self._write(to_write, said)

    async def _remove(self, finding: Finding) -> Finding | Done:
        try:
            there = await self._destination.core.remove_recorded(finding.command_uuid, kind="repair")
        except BAD_COMMAND as error:
            return _left(finding, f"not repaired: {error}")
        return _right(finding, REMOVED) if there else Done.GONE

    async def _replace(self, finding: Finding, record: Record) -> Finding:
        try:
            there = await self._destination.core.replace_recorded(record, kind="repair")
        except BAD_COMMAND as error:
            return _left(finding, f"not repaired: {error}")
        return _right(finding, REPLACED) if there else _left(finding, f"not repaired: it went meanwhile; {_AGAIN}")

    async def _write(self, to_write: Sequence[tuple[Finding, Record]], said: Said) -> None:
        fates: Sequence[Fate | CommandStoreError | None] = ()
        try:
            fates = await self._destination.core.write([record for _, record in to_write], kind="repair")
        except CommandStoreError as error:
            fates = error.fates
            raise
        finally:
            for (finding, _), fate in zip(to_write, fates, strict=False):
                if fate is Fate.CREATED:
                    said(finding, _right(finding, WRITTEN))
                elif fate is Fate.DUPLICATE:
                    said(finding, Done.EQUAL)
                elif fate is Fate.CONFLICTING:
                    said(finding, _left(finding, f"not repaired: it came with other content meanwhile; {_AGAIN}"))
                elif fate is not None:
                    said(finding, _left(finding, f"not repaired: {fate}"))


def _right(finding: Finding, action: str) -> Finding:
    return replace(finding, repaired=True, action=action)


def _left(finding: Finding, action: str) -> Finding:
    return replace(finding, action=action)
