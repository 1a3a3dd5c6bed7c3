"""Deleting what only the destination has: last of all, and only where the source can be believed.

A deletion can't be undone, and what is extra is so by the source's word alone. A row of the source whose uuid was
damaged makes its good copy extra, and an empty source, which may be the wrong one, all there is. Such things are known
only after the whole walk, so extra commands are held until then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from commandstore.replication.findings import Finding, Tally
from commandstore.replication.streams import WHOLE_AT_ONCE, Side

__all__ = ["AT_MOST", "DOUBTFUL", "EMPTY", "INCOMPLETE", "STOPPED", "TIME_IS_UP", "TOO_MANY", "Deletions", "why_not"]

AT_MOST = 100_000
"""How many commands a run deletes: so many are held in memory."""

DOUBTFUL = (
    "left: the source has a command whose uuid can't be read or can't be believed, and this may be its last good copy; "
    "put the source right first"
)
INCOMPLETE = "left: not the whole range was compared, and extra commands are deleted only after that; run again"
EMPTY = "left: the source has no command at all in this range, and an empty source deletes nothing"
STOPPED = "left: the run was stopped; run again"
TIME_IS_UP = "left: the time was up; run again"
TOO_MANY = f"left: a run deletes {AT_MOST:,} extra commands at most; run again"


def why_not(source: Side, *, complete: bool) -> str | None:
    """What stands against every deletion of this run; None where nothing does.

    Args:
        source: the source, after the walk.
        complete: the whole range was compared.
    """
    if source.doubtful:
        return DOUBTFUL
    if not complete:
        return INCOMPLETE
    return None if source.met else EMPTY


class Deletions:
    """Extra commands that are held until the end, each counted once by what becomes of it.

    Args:
        tally: where those are counted that are left.
    """

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._held: dict[str, Finding] = {}

    def __contains__(self, command_uuid: str) -> bool:
        return command_uuid in self._held

    def hold(self, finding: Finding) -> None:
        """Hold one; what is beyond the limit is left."""
        if self._tally.knows(finding.command_uuid):
            return  # met before as something else, and counted as that
        if len(self._held) < AT_MOST:
            self._held[finding.command_uuid] = finding
        else:
            self._tally.found(replace(finding, action=TOO_MANY))

    def done(self, finding: Finding) -> None:
        """It was deleted, or was found to be something else by now, and is counted elsewhere."""
        self._held.pop(finding.command_uuid, None)

    def portions(self, time_is_up: Callable[[], bool]) -> Iterator[list[Finding]]:
        """Those that are held, so many at a time as fit into memory whole; no more once the time is up."""
        held = list(self._held.values())
        for start in range(0, len(held), WHOLE_AT_ONCE):
            if time_is_up():
                return
            yield held[start : start + WHOLE_AT_ONCE]

    def leave(self, why: str) -> None:
        """Count those that are held still, and say why they were left."""
        if not self._held:
            return
        for finding in self._held.values():
            self._tally.found(replace(finding, action=why))
        self._held.clear()
        self._tally.tell()
