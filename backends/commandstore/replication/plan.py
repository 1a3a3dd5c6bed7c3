"""Where a run starts and what it has done when it ends. Pure: facts in, facts out.

How a source with a sequence is followed:

* Ids come in order of arrival, timestamps don't. So what is new is found by id, and within what is new commands go in
  the total order.
* ``settled``: all rows up to this id are done, and no further one can appear there. A *window* is
  ``settled < id <= horizon``; one run walks it from its start to its end.
* In Postgres a row may become visible after a row with a greater id. A horizon has settled when the source says so
  (its *mark*), and what is settled at the moment a walk begins, that walk has seen.
* Ids can be used again (rows deleted at the top in SQLite, a restored backup, another database under the same name).
  *Anchors* are rows that were there; the newest that still fits says how far back the source is what it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from commandstore.command import INT64_MIN
from commandstore.contract import Anchor, SequenceState
from commandstore.replication.checkpoint import Checkpoint, OpenWindow, Pending, bounded, new_generation

__all__ = ["asked_of", "begin", "close_window", "fresh", "lagging_mark", "open_window"]


def fresh(*, by_sequence: bool, identity: str | None = None) -> Checkpoint:
    """A checkpoint that knows nothing: everything is compared by key."""
    return Checkpoint(generation=new_generation(), by_sequence=by_sequence, identity=identity)


def asked_of(checkpoint: Checkpoint | None) -> tuple[tuple[Anchor, ...], tuple[str, ...]]:
    """The anchors and marks that the source is asked about."""
    if checkpoint is None:
        return (), ()
    anchors = dict.fromkeys(checkpoint.anchors)
    if checkpoint.window is not None:
        anchors.update(dict.fromkeys(checkpoint.window.anchors))
    return tuple(anchors), tuple(p.mark for p in checkpoint.pending)


def begin(stored: Checkpoint | None, state: SequenceState) -> Checkpoint:
    """What still holds of the stored checkpoint, now that the source was asked.

    Returns:
        The stored one, or one of a new generation: it starts after the newest anchor that fits, or at 0.
    """
    if stored is None or not stored.by_sequence:
        return fresh(by_sequence=True, identity=state.identity)
    other = None not in (stored.identity, state.identity) and stored.identity != state.identity
    newest = stored.window.anchors if stored.window is not None else stored.anchors
    altered = any(anchors and anchors[0] not in state.fits for anchors in (stored.anchors, newest))
    if not altered and not other:
        return stored
    # The marks of another server mean nothing here, nor does the position in a window whose rows are others now.
    fitting = tuple(anchor for anchor in stored.anchors if anchor in state.fits and anchor.id <= stored.settled)
    settled = fitting[0].id if fitting else 0
    return Checkpoint(
        generation=new_generation(),
        by_sequence=True,
        settled=settled,
        anchors=fitting,
        parked=stored.parked,
        identity=state.identity,
    )


def open_window(checkpoint: Checkpoint, state: SequenceState, marks: Sequence[Pending]) -> Checkpoint:
    """Begin a walk up to the horizon of this state.

    Args:
        checkpoint: what holds; its own window, if there was one, has been walked.
        state: the answer of the source.
        marks: the pending horizons whose marks the source was asked about, in that order.
    """
    known = {p.horizon for p in checkpoint.pending}
    settled = [p.horizon for p, done in zip(marks, state.settled_marks, strict=True) if done and p.horizon in known]
    settles = max(checkpoint.settled, *settled, 0)
    if state.mark is None:
        settles = max(settles, state.horizon)
    window = OpenWindow(state.horizon, min(settles, state.horizon), state.mark, state.anchors)
    return replace(checkpoint, window=window)


def close_window(checkpoint: Checkpoint) -> Checkpoint:
    """End the walk of the checkpoint's window: all its rows are durable in the destination."""
    window = checkpoint.window
    if window is None:
        return checkpoint
    if window.horizon < checkpoint.settled:
        # Another run has come further meanwhile; its anchors vouch for what is settled, and these don't reach it.
        return replace(checkpoint, window=None)
    settled = max(checkpoint.settled, window.settles)
    pending = {p.horizon: p for p in checkpoint.pending}
    if window.mark is not None:
        # A horizon seen again gets the newer mark only if it has none: the older one settles sooner.
        pending.setdefault(window.horizon, Pending(window.horizon, window.mark))
    return replace(
        checkpoint,
        settled=settled,
        window=None,
        pending=bounded(tuple(pending[h] for h in sorted(pending) if h > settled)),
        anchors=window.anchors,
    )


def lagging_mark(reached: int, started: int, lag: int) -> int:
    """Without a sequence: up to where everything is done, for good.

    The mark stays ``lag`` behind both the last command and the clock at the run's start: a command that is committed
    late, by less than that, is still read, and a command from the future hides nothing.

    Args:
        reached: ``created_at`` of the last command that is done.
        started: the clock when the run started, in nanoseconds since 1970.
        lag: in the unit of ``created_at``.
    """
    return max(min(reached, started) - lag, INT64_MIN)
