"""The checkpoint of a sync: what is known to be done, kept in a register of the destination.

Pure; ``checkpoint_register.py`` reads and writes it, by compare-and-swap.

A checkpoint holds facts. Two runs of one generation may save side by side: their facts add up (:func:`merge`). A new
generation says that facts from before no longer hold, because the source is not what it was; a run that still belongs
to the old one must not save any more.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import orjson

from commandstore.codec import MAX_UUID_BYTES
from commandstore.command import CommandQuery, is_int64
from commandstore.contract import Anchor, Key
from commandstore.errors import ConfigurationError

__all__ = [
    "MAX_PARKED",
    "MAX_PENDING",
    "Checkpoint",
    "OpenWindow",
    "Parked",
    "Pending",
    "TimeWalk",
    "anchors_of",
    "backfill_name",
    "fits_in_a_checkpoint",
    "lease_name",
    "merge",
    "new_generation",
    "parked_as",
    "register_name",
]

VERSION = 1
MAX_PARKED = 1000
MAX_PENDING = 8
# A register holds 256 KiB: most of it for what is parked, the rest for two lists of anchors and the pending marks.
_MAX_PARKED_BYTES = 192 * 1024
_MAX_REASON = 200


@dataclass(frozen=True, slots=True)
class Pending:
    """A horizon that was walked while rows below it may have been on their way; ``mark`` tells when they are not."""

    horizon: int
    mark: str


@dataclass(frozen=True, slots=True)
class Parked:
    """A command that could not be copied; tried again first in every run.

    Attributes:
        key: of its row in the source.
        command_uuid: its uuid, None where it can't be read.
        reason: why, in one line.
    """

    key: Key
    command_uuid: str | None
    reason: str


def parked_as(key: Key, command_uuid: str | None, reason: str) -> Parked:
    """The entry of a command, as short as it must be: its key finds it again, the rest is for people."""
    short = command_uuid if command_uuid is not None and len(command_uuid.encode()) <= MAX_UUID_BYTES else None
    return Parked(key, short, reason if len(reason) <= _MAX_REASON else f"{reason[:_MAX_REASON]}...")


def fits_in_a_checkpoint(parked: Iterable[Parked]) -> bool:
    """Whether these may all be parked: a checkpoint is one register, and registers are small."""
    entries = [[list(p.key), p.command_uuid, p.reason] for p in parked]
    return len(entries) <= MAX_PARKED and len(orjson.dumps(entries)) <= _MAX_PARKED_BYTES


@dataclass(frozen=True, slots=True)
class OpenWindow:
    """A walk that has begun: rows up to ``horizon``, of which all up to ``position`` are done.

    Attributes:
        horizon: the greatest id that was visible when the walk began.
        settles: what ``settled`` becomes when it ends. Judged when it began: rows that became visible only during
            the walk may have been missed by it.
        mark: tells when the horizon itself has settled; None where ``settles`` says so already.
        anchors: rows up to the horizon, read together with it.
        position: the key up to which all rows are durable in the destination; None before the first.
        done: how many rows that were, for the estimate of what is left.
    """

    horizon: int
    settles: int
    mark: str | None
    anchors: tuple[Anchor, ...]
    position: Key | None = None
    done: int = 0


@dataclass(frozen=True, slots=True)
class TimeWalk:
    """Without a sequence: a walk whose time was up. The runs that go on with it are one walk, as if none had stopped.

    What is committed behind its position after it began, late by less than the lag, has a time of at least ``started``
    less the lag. The mark stays below that, so the walk from the mark that follows finds it.

    Attributes:
        position: the key up to which all is durable.
        started: the clock when it began, which bounds the mark.
    """

    position: Key
    started: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What is known to be done.

    Attributes:
        generation: random; facts of one generation add up.
        by_sequence: the source's ids lead the way (settled, window, pending, anchors); else ``mark`` does.
        settled: every row with an id up to this is done, and no further one can appear.
        window: a walk that has begun and not ended.
        pending: horizons that were walked and have not settled.
        anchors: rows that were there when the last walk began, newest first: they tell whether the source still is
            what it was.
        parked: commands that could not be copied.
        identity: what the source said it is.
        mark: without a sequence: everything with ``created_at`` below this is done.
        walk: without a sequence: a walk that goes on in the next run.
        sealed: whether what was copied was encrypted.
    """

    generation: str
    by_sequence: bool
    settled: int = 0
    window: OpenWindow | None = None
    pending: tuple[Pending, ...] = ()
    anchors: tuple[Anchor, ...] = ()
    parked: tuple[Parked, ...] = ()
    identity: str | None = None
    mark: int | None = None
    walk: TimeWalk | None = None
    sealed: bool = False

    def to_json(self, *, source: str, query: CommandQuery) -> bytes:
        """The register's value; source and filter stand in it for people."""
        value: dict[str, Any] = {
            "version": VERSION,
            "source": source,
            "filter": query.canonical(),
            "generation": self.generation,
            "by_sequence": self.by_sequence,
            "settled": self.settled,
            "window": None,
            "pending": [[p.horizon, p.mark] for p in self.pending],
            "anchors": [list(anchor) for anchor in self.anchors],
            "parked": [[list(p.key), p.command_uuid, p.reason] for p in self.parked],
            "identity": self.identity,
            "mark": self.mark,
            "walk": self.walk and [list(self.walk.position), self.walk.started],
            "sealed": self.sealed,
        }
        if self.window is not None:
            window = self.window
            anchors = [list(anchor) for anchor in window.anchors]
            position = None if window.position is None else list(window.position)
            value["window"] = [window.horizon, window.settles, window.mark, anchors, position, window.done]
        return orjson.dumps(value)

    @classmethod
    def from_json(cls, text: bytes) -> Checkpoint:
        """Read what :meth:`to_json` wrote.

        Raises:
            ConfigurationError: a newer version wrote it, or it isn't a checkpoint.
        """
        try:
            value = orjson.loads(text)
            version = value["version"]
            if version != VERSION:
                raise ConfigurationError(
                    f"the checkpoint was written by a newer release (format {version}, this one reads {VERSION}); "
                    "upgrade commandstore"
                )
            window = value["window"]
            found = cls(
                generation=value["generation"],
                by_sequence=value["by_sequence"],
                settled=value["settled"],
                window=None if window is None else _window(*window),
                pending=tuple(Pending(*item) for item in value["pending"]),
                anchors=anchors_of(value["anchors"]),
                parked=tuple(Parked(tuple(key), uuid, reason) for key, uuid, reason in value["parked"]),
                identity=value["identity"],
                mark=value["mark"],
                # The first releases had neither.
                walk=None if not value.get("walk") else TimeWalk(tuple(value["walk"][0]), value["walk"][1]),
                sealed=value.get("sealed", False),
            )
            found.check()
        except (ValueError, TypeError, KeyError, IndexError) as error:
            if isinstance(error, ConfigurationError):
                raise
            raise ConfigurationError(
                "the checkpoint in the destination can't be read; --no-resume-from-dest starts a new one"
            ) from error
        return found

    def check(self) -> None:
        """Raise TypeError unless every field is of its type: a register can be altered by hand."""
        parked, pending, walk = self.parked, self.pending, self.walk
        windows = [] if self.window is None else [self.window]
        numbers = [self.settled, *(p.horizon for p in pending)]
        numbers += [number for w in windows for number in (w.horizon, w.settles, w.done)]
        numbers += [] if self.mark is None else [self.mark]
        numbers += [] if walk is None else [walk.started]
        texts = [self.generation, *(p.mark for p in pending), *(p.reason for p in parked)]
        maybe_texts = [self.identity, *(w.mark for w in windows), *(p.command_uuid for p in parked)]
        texts += [text for text in maybe_texts if text is not None]
        keys = [p.key for p in parked] + [w.position for w in windows if w.position is not None]
        keys += [] if walk is None else [walk.position]
        if not (
            all(is_int64(number) for number in numbers)
            and all(isinstance(text, str) for text in texts)
            and all(part is None or isinstance(part, str) or is_int64(part) for key in keys for part in key)
            and isinstance(self.by_sequence, bool)
            and isinstance(self.sealed, bool)
        ):
            raise TypeError("a field of another type")

    def summary(self) -> dict[str, Any]:
        """What a report shows of it."""
        if not self.by_sequence:
            return {"generation": self.generation, "mark": self.mark, "parked": len(self.parked)}
        return {
            "generation": self.generation,
            "settled": self.settled,
            "window": self.window.horizon if self.window else None,
            "pending": [p.horizon for p in self.pending],
            "parked": len(self.parked),
        }


def _window(
    horizon: int,
    settles: int,
    mark: str | None,
    anchors: list[list[Any]],
    position: list[Any] | None,
    done: int = 0,  # the first releases did not count
) -> OpenWindow:
    return OpenWindow(horizon, settles, mark, anchors_of(anchors), _key(position), done)


def anchors_of(value: list[list[Any]]) -> tuple[Anchor, ...]:
    """The anchors of JSON's values.

    Raises:
        TypeError: they are none.
    """
    found = tuple(Anchor(*item) for item in value)
    for anchor in found:
        uuid = anchor.command_uuid
        if not is_int64(anchor.id) or not isinstance(anchor.digest, str) or not (uuid is None or isinstance(uuid, str)):
            raise TypeError("anchors that are none")
    return found


def _key(value: list[Any] | None) -> Key | None:
    return None if value is None else tuple(value)


def new_generation() -> str:
    """A generation that no other run has."""
    return secrets.token_hex(8)


def register_name(source: str, query: CommandQuery) -> str:
    """The register of a source and a filter: runs with another filter have a checkpoint of their own."""
    return f"checkpoint/{_of(source, query)}"


def lease_name(source: str, query: CommandQuery) -> str:
    """The register of the lease that goes with that checkpoint."""
    return f"lease/{_of(source, query)}"


def backfill_name(source: str, query: CommandQuery) -> str:
    """The register of the backfill plan that goes with that checkpoint."""
    return f"backfill/{_of(source, query)}"


def _of(source: str, query: CommandQuery) -> str:
    what = orjson.dumps([source, query.canonical()], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(what).hexdigest()[:32]


def merge(ours: Checkpoint, theirs: Checkpoint, resolved: frozenset[Key] = frozenset()) -> Checkpoint:
    """The facts of two checkpoints of one generation together.

    Args:
        ours: what this run knows.
        theirs: what another run saved meanwhile.
        resolved: keys of commands that were parked and that this run copied, or found gone.
    """
    newer = ours if ours.settled >= theirs.settled else theirs
    settled = newer.settled
    window = next((w for w in (ours.window, theirs.window) if w is not None and w.horizon > settled), None)
    pending = {p.horizon: p for p in (*theirs.pending, *ours.pending) if p.horizon > settled}
    parked = {p.key: p for p in (*theirs.parked, *ours.parked) if p.key not in resolved}
    marks = [mark for mark in (ours.mark, theirs.mark) if mark is not None]
    return replace(
        ours,
        settled=settled,
        window=window,
        pending=bounded(tuple(pending[horizon] for horizon in sorted(pending))),
        # The anchors vouch for what is settled, so they come from where that comes from.
        anchors=newer.anchors,
        parked=tuple(parked.values()),
        mark=max(marks, default=None),
        sealed=ours.sealed or theirs.sealed,
    )


def bounded(pending: tuple[Pending, ...]) -> tuple[Pending, ...]:
    """At most eight: the oldest settle first, the newest settles the most, so what goes is in the middle."""
    if len(pending) <= MAX_PENDING:
        return pending
    return (*pending[: MAX_PENDING - 1], pending[-1])
