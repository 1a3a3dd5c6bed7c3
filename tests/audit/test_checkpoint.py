"""An audit from a checkpoint costs what is new, names what is wrong with it, and finds what fits in itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from audit.attacks import ATTACKS, Attack
from audit.scene import CHECKPOINT, HISTORY, SIGNER, Scene, a_command, forged, named, opened
from commandstore import ConfigurationError
from commandstore.audit import AuditCheckpoint, read_checkpoint, write_checkpoint
from commandstore.memory import MemoryBackend


@pytest.fixture
def older() -> AuditCheckpoint:
    """Of when the store had two of its five entries."""
    scene = Scene(opened())
    scene.put_back(HISTORY[2])
    checkpoint = scene.audit().checkpoint
    assert (checkpoint.sequence, checkpoint.commands) == (2, 10)
    return checkpoint


def test_only_new_entries_and_their_commands_are_read(it: Scene, older: AuditCheckpoint) -> None:
    report = it.audit(checkpoint=older)
    assert (report.clean, report.full, report.since, report.head) == (True, False, 2, 5)
    # a5 was updated, a4 deleted, d0 and d1 created.
    assert (report.entries, report.commands, report.counted, report.expected) == (3, 3, 11, 11)
    assert (report.checkpoint.sequence, report.checkpoint.commands) == (5, 11)


def test_the_cost_is_that_of_what_is_new() -> None:
    class Counting(MemoryBackend):
        asked = 0

        async def register_get(self, name):
            self.asked += 1
            return await super().register_get(name)

        async def fetch(self, uuids):
            self.asked += len(uuids)
            return await super().fetch(uuids)

        async def page(self, query, after, limit, *, payload=True):
            self.asked += limit
            return await super().page(query, after, limit, payload=payload)

    def cost(history: int) -> int:
        it = Scene(opened(Counting(), signer=SIGNER))
        for number in range(history):
            it.store.create(a_command(f"c{number}", number))
        checkpoint = it.audit().checkpoint
        it.store.create(a_command("new", 1))
        it.backend.asked = 0
        assert it.audit(checkpoint=checkpoint).commands == 1
        return it.backend.asked

    assert cost(100) == cost(2) < 20


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda it: it.replace(forged(it.record("d0"), data=b"x")), {("altered", "d0")}),
        (lambda it: it.remove("d0"), {("dropped", "d0")}),
        (lambda it: it.insert(next(r for r in HISTORY[1].records if r.command_uuid == "a4")), {("unfinished", "a4")}),
        (lambda it: it.replace(next(r for r in HISTORY[1].records if r.command_uuid == "a5")), {("altered", "a5")}),
        (lambda it: it.set_entry(4, it.raw(4).replace(b"delete", b"update")), {("entry", 4)}),
    ],
)
def test_what_is_wrong_with_what_is_new_is_named(it: Scene, older: AuditCheckpoint, change: Any, expected: set) -> None:
    change(it)
    # Of an entry that can't be believed, the store's count tells as well.
    assert named(it.audit(checkpoint=older)) - {("count", 5)} == expected
    assert named(it.audit(checkpoint=older, count=False)) == expected


def test_an_older_addition_shows_in_the_count_alone(it: Scene) -> None:
    it.remove("a1")
    report = it.audit(checkpoint=CHECKPOINT)
    assert named(report) == {("count", 5)}
    assert (report.counted, report.expected) == (10, 11)
    assert it.audit(checkpoint=CHECKPOINT, count=False).clean


def test_an_old_alteration_is_left_to_a_full_audit(it: Scene) -> None:
    it.replace(forged(it.record("a1"), data=b"x"))
    assert it.audit(checkpoint=CHECKPOINT).clean
    assert named(it.audit(checkpoint=CHECKPOINT, full=True)) == {("altered", "a1")}


def test_a_ledger_that_does_not_have_the_checkpoint_is_read_as_a_whole(it: Scene) -> None:
    it.put_back(HISTORY[4])
    report = it.audit(checkpoint=CHECKPOINT)
    assert (report.full, report.since, report.entries) == (True, 5, 4)
    assert named(report) == {("entry", 5)}
    assert "older copy" in report.findings[0].reason


# What is known, and accepted


# Nothing to go on after; and a head that can't be read, a last entry that can't, or one that the head knows, is named
# until it is there.
NOT_BEHIND = {"remove_the_ledger", "add_a_copy_of_an_entry", "truncate", "damage_the_head"}
ACCEPTED = [one for one in ATTACKS if one.full and one.name not in NOT_BEHIND]


@pytest.mark.parametrize("attack", ACCEPTED, ids=lambda attack: attack.name)
def test_what_was_accepted_is_not_found_again_but_by_a_full_audit(it: Scene, attack: Attack) -> None:
    attack.do(it)
    assert it.audit().checkpoint is None
    report = it.audit(accept=True)
    assert (named(report), report.clean) == (attack.full, False)
    after = it.audit(checkpoint=report.checkpoint)
    assert (named(after), after.full, after.commands) == (set(), False, 0)
    it.store.init(signer=SIGNER)
    it.store.create(a_command("later", 60))
    assert it.audit(checkpoint=report.checkpoint).clean
    assert named(it.audit(checkpoint=report.checkpoint, full=True)) == attack.full


def test_what_is_new_is_found_after_something_was_accepted(it: Scene) -> None:
    it.remove("a1")
    checkpoint = it.audit(accept=True).checkpoint
    it.remove("a2")
    assert named(it.audit(checkpoint=checkpoint)) == {("count", 5)}
    assert named(it.audit(checkpoint=checkpoint, full=True)) == {("dropped", "a1"), ("dropped", "a2")}


def test_what_is_found_from_a_checkpoint_can_be_accepted_too(it: Scene, older: AuditCheckpoint) -> None:
    it.remove("d0")
    report = it.audit(checkpoint=older, accept=True)
    assert named(report) == {("dropped", "d0")}
    assert (report.checkpoint.sequence, report.checkpoint.commands) == (5, 10)
    assert it.audit(checkpoint=report.checkpoint).clean


def test_there_must_be_an_entry_to_go_on_after(it: Scene) -> None:
    it.set_entry(6, it.raw(3))
    assert it.audit(accept=True).checkpoint.sequence == 5
    it.put_back()
    for name in HISTORY[-1].registers:
        it.register(name, None)
    report = it.audit(accept=True)
    assert (report.checkpoint, report.accepted) == (None, False)


def test_a_count_that_names_nothing_is_not_accepted(it: Scene) -> None:
    it.remove("a1")
    report = it.audit(checkpoint=CHECKPOINT, accept=True)
    assert (named(report), report.checkpoint) == ({("count", 5)}, None)


def test_a_clean_audit_accepts_nothing(it: Scene) -> None:
    report = it.audit(accept=True)
    assert (report.clean, report.accepted, report.checkpoint.sequence) == (True, False, 5)


def test_what_comes_during_an_audit_is_left_to_the_next() -> None:
    class Busy(MemoryBackend):
        next: Any = None

        async def fetch(self, uuids):
            action, self.next = self.next, None
            if action:
                action()
            return await super().fetch(uuids)

    busy = Scene(opened(Busy(), signer=SIGNER))
    busy.put_back()
    busy.store.create(a_command("e", 40))
    busy.backend.next = lambda: busy.store.create(a_command("f", 41))
    report = busy.audit(checkpoint=CHECKPOINT)
    # The entry was read, and its command was not looked at.
    assert (report.clean, report.head, report.checkpoint.sequence, report.checkpoint.commands) == (True, 7, 6, 12)
    assert busy.audit(checkpoint=report.checkpoint).commands == 1
    # One that was just looked at is held against what was recorded since.
    busy.backend.next = lambda: busy.store.update(a_command("e", 40, b"other"))
    assert busy.audit(checkpoint=CHECKPOINT).clean


# The file


def test_a_checkpoint_comes_back_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    assert read_checkpoint(path) is None
    write_checkpoint(path, CHECKPOINT)
    assert read_checkpoint(path) == CHECKPOINT
    assert [one.name for one in tmp_path.iterdir()] == ["checkpoint"]
    assert path.read_bytes().count(b"\n") == 1


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "checkpoint")
    write_checkpoint(tmp_path / "link", CHECKPOINT)
    assert (tmp_path / "link").is_symlink()
    assert read_checkpoint(tmp_path / "checkpoint") == CHECKPOINT


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"[1]",
        b"\xff",
        CHECKPOINT.to_json().replace(b'"version":1', b'"version":2'),
        json.dumps({**json.loads(CHECKPOINT.to_json()), "sequence": "5"}).encode(),
        json.dumps({**json.loads(CHECKPOINT.to_json()), "sequence": 0}).encode(),
        json.dumps({**json.loads(CHECKPOINT.to_json()), "hash": "ab"}).encode(),
        json.dumps({**json.loads(CHECKPOINT.to_json()), "store": None}).encode(),
    ],
)
def test_a_damaged_file_is_never_taken_for_a_missing_one(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "checkpoint").write_bytes(text)
    with pytest.raises(ConfigurationError, match="checkpoint"):
        read_checkpoint(tmp_path / "checkpoint")


def test_a_place_that_can_not_be_read_or_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="can't read"):
        read_checkpoint(tmp_path)
    with pytest.raises(ConfigurationError, match="can't write"):
        write_checkpoint(tmp_path / "nowhere" / "checkpoint", CHECKPOINT)
    with pytest.raises(ConfigurationError, match="can't write"):
        write_checkpoint(tmp_path, CHECKPOINT)
    assert list(tmp_path.iterdir()) == []
