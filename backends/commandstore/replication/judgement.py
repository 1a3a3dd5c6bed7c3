"""What a command is that a walk met in one store alone, once both were asked for it by its uuid. Pure.

A walk compares two lists, and a list may lag, or be overtaken by a write. So what it finds is a candidate, and is
judged by what both stores answer for its uuid, which is never stale.

Several rows of the source may have one uuid (comby's oldest tables). By uuid a store answers with one of them, and the
others are *repeats*: where they are met they are left to the row that speaks for the uuid, so that a command is counted
once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from commandstore.codec import Record
from commandstore.command import Position
from commandstore.errors import CommandStoreError
from commandstore.replication.findings import FindingKind

__all__ = ["Answer", "Candidate", "Misfit", "Verdict", "of_destination", "of_source", "quick", "unreadable"]


class Misfit(CommandStoreError):
    """A command can be read, but is not what the digest beside it says: one of the two was altered."""


Answer = Record | CommandStoreError | None
"""What a store has of a uuid: plain, unreadable (or a :class:`Misfit`), or nothing."""

_FIELDS = {
    "created_at": "created_at",
    "instance_id": "instance_id",
    "tenant_uuid": "tenant_uuid",
    "workspace_uuid": "workspace_uuid",
    "domain": "domain",
    "data_type": "data_type",
    "data": "data_bytes",
    "req_ctx": "req_ctx",
}
"""What a digest covers, by the name that a record has for it and the name that a command has."""


class Candidate(NamedTuple):
    """Rows of one place in the order, met in one store alone.

    Attributes:
        position: where.
        digests: theirs; several only where a uuid stands twice at one time.
        in_source: in which of the two.
        unordered: nothing can be said from where it was met, as the source's order is another one there.
    """

    position: Position
    digests: frozenset[bytes]
    in_source: bool
    unordered: bool = False


class Verdict(NamedTuple):
    """What it is: equal where there is no kind."""

    kind: FindingKind | None
    reason: str = ""


_EQUAL = Verdict(None)
_NOT_THERE = Verdict(FindingKind.MISSING, "not in the destination")
_NOT_HERE = Verdict(FindingKind.EXTRA, "not in the source")


def quick(candidate: Candidate, here: bytes | None, there: bytes | None) -> Verdict | bool:
    """The verdict by digests alone; False where they don't suffice, True where the command isn't to be counted here.

    Args:
        candidate: the rows.
        here: the digest that the source answers with; None: it has no such command; ``b""``: it can't be read.
        there: likewise the destination's.
    """
    if candidate.in_source:
        return _quick_missing(candidate, here, there)
    if there is None:
        return True
    if there not in candidate.digests or here not in {None, there}:
        return False
    if here is None:
        return _NOT_HERE
    # Where the source's order is no guide, its own row is the one that counts.
    return True if candidate.unordered else _EQUAL


def _quick_missing(candidate: Candidate, here: bytes | None, there: bytes | None) -> Verdict | bool:
    if there in candidate.digests:
        return _EQUAL
    if here is None:
        return True  # gone since; if the destination still has it, it is met there
    return _NOT_THERE if there is None and here in candidate.digests else False


def of_source(candidate: Candidate, here: Answer, there: Answer, in_scope: Callable[[Record], bool]) -> Verdict | None:
    """The verdict on what was met in the source; None where it isn't to be counted here.

    ``ALTERED`` still has to be checked where the times differ: the destination may have a repeat.
    """
    if here is None:
        return None
    for found, where in ((here, "source"), (there, "destination")):
        if isinstance(found, CommandStoreError):
            return unreadable(found, where)
    assert isinstance(here, Record)  # noqa: S101 - what else there is was dealt with
    if here.position != candidate.position and in_scope(here):
        return None  # a repeat, or moved since
    if there is None:
        return _NOT_THERE
    assert isinstance(there, Record)  # noqa: S101 - as above
    if here.digest == there.digest:
        return _EQUAL if here.position == candidate.position and in_scope(here) else None
    return Verdict(FindingKind.ALTERED, _difference(here, there))


def of_destination(  # noqa: PLR0911 - one for each thing that may be the matter
    candidate: Candidate, here: Answer, there: Answer, in_scope: Callable[[Record], bool]
) -> Verdict | None:
    """The verdict on what was met in the destination; None where it isn't to be counted here."""
    if there is None:
        return None
    if here is None and isinstance(there, Misfit):
        return _NOT_HERE
    for found, where in ((there, "destination"), (here, "source")):
        if isinstance(found, CommandStoreError):
            return unreadable(found, where)
    assert isinstance(there, Record)  # noqa: S101 - what else there is was dealt with
    if here is None:
        return None if there.position != candidate.position and in_scope(there) else _NOT_HERE
    assert isinstance(here, Record)  # noqa: S101 - as above
    passed = here.position == candidate.position and not candidate.unordered
    if in_scope(here) and not passed:
        return None  # the source's own row is judged, where it stands
    if here.digest == there.digest:
        return _EQUAL if passed and in_scope(here) else None
    return Verdict(FindingKind.ALTERED, _difference(here, there))


def unreadable(error: CommandStoreError, where: str) -> Verdict:
    """A record that can't be read, or can't be believed."""
    kind = FindingKind.ALTERED if isinstance(error, Misfit) else FindingKind.FAILED
    return Verdict(kind, f"in the {where}: {error}")


def _difference(here: Record, there: Record) -> str:
    names = [shown for name, shown in _FIELDS.items() if getattr(here, name) != getattr(there, name)]
    return f"differs in {', '.join(names) or 'its digest'}"
