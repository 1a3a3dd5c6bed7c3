"""An audit from a checkpoint counts rightly where writers met on both sides of it."""

from __future__ import annotations

from typing import Any

import pytest

from audit.scene import HISTORY, KEYS, MALLORY, SIGNER, Scene, a_command, leaf_of, named, opened
from commandstore import verify_ledger
from commandstore.drive import BlockingDrive, run
from commandstore.ledger.log import Ledger
from commandstore.memory import MemoryBackend


class Meeting(MemoryBackend):
    """Calls what somebody else does at the moment when a command was fetched."""

    then: Any = None

    async def fetch(self, uuids):
        found = await super().fetch(uuids)
        if self.then is not None:
            then, self.then = self.then, None
            then()
        return found


@pytest.mark.parametrize("change", ["delete", "update"])
def test_a_change_of_what_another_writer_deleted_on_the_other_side_of_a_checkpoint(change: str) -> None:
    backend = Meeting()
    one, other = opened(backend, signer=SIGNER), opened(backend, signer=SIGNER)
    one.create_many(a_command(f"c{n}", n) for n in range(4))
    checkpoints = []

    def meanwhile() -> None:
        one.delete("c1")
        checkpoints.append(verify_ledger(opened(backend), KEYS, patience=0).checkpoint)

    backend.then = meanwhile
    assert not (other.delete("c1") if change == "delete" else other.update(a_command("c1", 1, b"other")))
    it = Scene(opened(backend))
    since = it.audit(checkpoint=checkpoints[0])
    assert (since.clean, since.expected, since.checkpoint.commands) == (True, 3, 3)
    # And from then on.
    one.create(a_command("e", 9))
    assert it.audit(checkpoint=since.checkpoint).clean
    assert it.audit(checkpoint=checkpoints[0]).clean
    assert it.audit().clean


def test_what_was_dropped_is_not_explained_by_an_older_entry_that_is_not_signed() -> None:
    it = Scene(opened(signer=SIGNER))
    it.put_back(HISTORY[3])
    checkpoint = it.audit().checkpoint
    it.store.create(a_command("e", 50))
    it.remove("a0")
    # As if the new one had been there before: then one command fewer would be right.
    it.rewrite(1, [*it.leaves(1), leaf_of(it.record("e"))], MALLORY)
    report = it.audit(checkpoint=checkpoint)
    assert (report.counted, report.expected) == (10, 11)
    assert {kind for kind, _ in named(report)} == {"count"}


def test_what_was_created_anew_is_right_once_a_signed_entry_says_what_it_is() -> None:
    it = Scene(opened(signer=SIGNER))
    it.put_back()
    run(Ledger(it.backend, BlockingDrive(), SIGNER).append("create", [it.leaves(1)[0]._replace(digest=bytes(32))]))
    assert named(it.audit()) == {("altered", "a0")}
    it.store.update(a_command("a0", 10, b"by its owner"))
    assert it.audit().clean
