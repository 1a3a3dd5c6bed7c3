"""Answers that are lost while another client writes the same uuid: what can't be known is not said to be known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from commandstore.command import Command
from commandstore.errors import StoreUnavailable
from commandstore.firestore.backend import FirestoreBackend
from commandstore.firestore.faults import Code
from commandstore.store import CommandStore
from commandstore.testing.conformance.data import a_command
from commandstore.testing.firestore import FirestoreEmulator
from firestore.test_store import LONG, Opened, lost, opened

__all__ = ["opened"]  # the fixture

OURS, THEIRS = a_command("c", data_bytes=b"ours"), a_command("c", data_bytes=b"theirs")


@pytest.fixture
def another(opened: Opened, firestore_emulator: FirestoreEmulator) -> Iterator[CommandStore]:
    """Another process: by the blocking drive, as our own loop is busy."""
    del firestore_emulator
    with closing(CommandStore(FirestoreBackend("stores", opened._name, shards=4))) as store:
        store.init()
        yield store


def lost_before(opened: Opened, method: str, meanwhile: Callable[[], object]) -> None:
    """The next such request never arrives, and before it is sent again, something else happens."""

    def silent() -> None:
        meanwhile()
        raise lost()

    opened.faults.before(method, silent)


def lost_after(opened: Opened, method: str, meanwhile: Callable[[], object]) -> None:
    """The next such request has its effect, and before it is sent again, something else happens."""

    def silent(_: Any) -> Any:
        meanwhile()
        raise lost()

    opened.faults.answer(method, silent)


# Delete


def test_a_delete_does_not_remove_what_another_created_after_it(opened: Opened, another: CommandStore) -> None:
    opened.store.create(OURS)
    lost_after(opened, "commit", lambda: another.create(THEIRS))
    with pytest.raises(StoreUnavailable, match="whether it was deleted is unknown"):
        opened.store.delete("c")
    assert opened.store.get("c") == THEIRS


def test_a_delete_that_never_arrived_comes_after_anothers_update(opened: Opened, another: CommandStore) -> None:
    opened.store.create(OURS)
    lost_before(opened, "commit", lambda: another.update(THEIRS))
    assert opened.store.delete("c") is True
    assert opened.store.get("c") is None


@pytest.mark.parametrize("lose", [lost_before, lost_after])
def test_of_two_deletes_at_once_two_are_not_said_to_be_done(opened: Opened, another: CommandStore, lose: Any) -> None:
    opened.store.create(a_command("c", data_bytes=LONG))
    lose(opened, "commit", lambda: another.delete("c"))
    with pytest.raises(StoreUnavailable, match="is gone"):
        opened.store.delete("c")
    assert opened.parts("c") == []


# Create


@pytest.mark.parametrize("data", [b"ours", LONG])
def test_a_create_that_another_updated_is_not_said_to_have_met_it(
    opened: Opened, another: CommandStore, data: bytes
) -> None:
    lost_after(opened, "commit" if data == LONG else "batch_write", lambda: another.update(THEIRS))
    with pytest.raises(StoreUnavailable, match="whether it was created is unknown"):
        opened.store.create(a_command("c", data_bytes=data))
    assert opened.store.get("c") == THEIRS


def some() -> list[Command]:
    return [a_command(f"c{number}") for number in range(3)]


def test_of_many_those_that_another_wrote_are_unknown_and_the_others_are_told(
    opened: Opened, another: CommandStore
) -> None:
    lost_after(opened, "batch_write", lambda: another.update(a_command("c1", data_bytes=b"theirs")))
    with pytest.raises(StoreUnavailable, match=r"'c1'.*unknown") as caught:
        opened.store.create_many(some())
    assert caught.value.result is not None
    assert (caught.value.result.created, caught.value.result.conflicting) == (("c0", "c2"), ())
    # The same again is safe, as it is after any error.
    again = opened.store.create_many(some())
    assert (again.duplicate, again.conflicting) == (("c0", "c2"), ("c1",))


def test_of_many_what_another_wrote_alike_is_there(opened: Opened, another: CommandStore) -> None:
    lost_before(opened, "batch_write", lambda: another.create(some()[1]))
    result = opened.store.create_many(some())
    assert (result.created, result.duplicate) == (("c0", "c2"), ("c1",))


def test_of_many_what_stood_in_the_way_after_a_lost_answer_and_is_gone_is_not_created_again(
    opened: Opened, another: CommandStore
) -> None:
    opened.faults.lose("batch_write", lost())
    opened.faults.before("batch_get_documents", lambda: another.delete("c1"))
    with pytest.raises(StoreUnavailable, match=r"'c1'.*unknown"):
        opened.store.create_many(some())
    assert opened.store.get("c1") is None


@pytest.mark.parametrize(("code", "known"), [(Code.ABORTED, True), (Code.UNAVAILABLE, False)])
def test_a_write_of_a_batch_that_may_have_been_done_is_one_whose_answer_was_lost(
    opened: Opened, another: CommandStore, code: Code, known: bool
) -> None:
    another.create(a_command("c1", data_bytes=b"theirs"))

    def fails(answer: Any) -> Any:
        answer.status[1].code = code
        return answer

    opened.faults.answer("batch_write", fails)
    if known:
        assert opened.store.create_many(some()).conflicting == ("c1",)
    else:
        with pytest.raises(StoreUnavailable, match=r"'c1'.*unknown"):
            opened.store.create_many(some())
