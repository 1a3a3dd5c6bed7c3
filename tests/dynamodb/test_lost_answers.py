"""Answers that are lost while another client writes the same uuid: what can't be known is not said to be known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from commandstore import codec
from commandstore.command import Command, CommandQuery
from commandstore.contract import Created, Exists
from commandstore.dynamodb import layout
from commandstore.errors import StoreUnavailable
from dynamodb.rig import Rig

INSERT = "batch_execute_statement"
LONG = b"long payload " * 40_000  # 520,000 bytes, two parts


def a_command(uuid: str = "c", data: bytes = b"ours") -> Command:
    return Command(uuid, 1, data_bytes=data)


def a_record(uuid: str = "c", data: bytes = b"ours") -> codec.Record:
    return codec.encode(a_command(uuid, data))


THEIRS = a_record(data=b"theirs")


def put(rig: Rig, record: codec.Record) -> None:
    """Another process creates or updates it."""
    item = layout.head_item(record, "w9", layout.Shards(2, 3))
    sent = {n: {k: layout.from_base64(v) if k == "B" else v for k, v in value.items()} for n, value in item.items()}
    rig.raw.put_item(TableName=rig.table, Item=sent)


def remove(rig: Rig, uuid: str) -> None:
    """Another process removes it: the head, then its parts."""
    for item in rig.items():
        if item["uuid"]["S"] == uuid:
            rig.raw.delete_item(TableName=rig.table, Key={"uuid": item["uuid"], "part": item["part"]})


def lost_before(rig: Rig, method: str, meanwhile: Callable[[], object]) -> None:
    """The next such request never arrives, and before it is sent again, something else happens."""

    def silent() -> None:
        meanwhile()
        raise ReadTimeoutError(endpoint_url=rig.endpoint)

    rig.faults.before(method, silent)


def lost_after(rig: Rig, method: str, meanwhile: Callable[[], object]) -> None:
    """The next such request has its effect, and before it is sent again, something else happens."""

    def silent(_: Any) -> Any:
        meanwhile()
        raise ReadTimeoutError(endpoint_url=rig.endpoint)

    rig.faults.answer(method, silent)


# Delete


@pytest.mark.parametrize("lost", [lost_before, lost_after])
def test_a_delete_that_another_wrote_behind_or_before_is_unknown_and_leaves_theirs(rig: Rig, lost: Any) -> None:
    backend = rig.open()
    rig.do(backend.insert([a_record()], "w1"))
    lost(rig, "delete_item", lambda: put(rig, THEIRS))  # an update, or a create after our own delete
    with pytest.raises(StoreUnavailable, match="whether it was deleted is unknown"):
        rig.do(backend.remove("c"))
    assert rig.do(backend.fetch(["c"])) == {"c": THEIRS}
    assert rig.do(backend.remove("c")) is True


@pytest.mark.parametrize("lost", [lost_before, lost_after])
def test_of_two_deletes_at_once_two_are_not_said_to_be_done(rig: Rig, lost: Any) -> None:
    backend = rig.open()
    rig.do(backend.insert([a_record(data=LONG)], "w1"))
    lost(rig, "delete_item", lambda: remove(rig, "c"))
    with pytest.raises(StoreUnavailable, match="is gone"):
        rig.do(backend.remove("c"))
    assert rig.items() == []


# Create


@pytest.mark.parametrize("data", [b"ours", LONG])
def test_a_create_that_another_updated_is_not_said_to_have_met_it(rig: Rig, data: bytes) -> None:
    backend = rig.open()
    lost_after(rig, "put_item", lambda: put(rig, THEIRS))
    with pytest.raises(StoreUnavailable, match="whether it was created is unknown"):
        rig.do(backend.insert([a_record(data=data)], "w1"))
    assert rig.do(backend.fetch(["c"])) == {"c": THEIRS}


def test_a_create_that_another_came_before_is_unknown_unless_it_is_the_same(rig: Rig) -> None:
    backend = rig.open()
    lost_before(rig, "put_item", lambda: put(rig, THEIRS))
    with pytest.raises(StoreUnavailable, match="unknown"):
        rig.do(backend.insert([a_record()], "w1"))
    lost_before(rig, "put_item", lambda: put(rig, a_record("d")))
    assert rig.do(backend.insert([a_record("d")], "w2")) == [Exists(a_record("d").digest, "w9")]


def test_a_create_that_was_throttled_was_not_lost(rig: Rig) -> None:
    backend = rig.open()
    put(rig, THEIRS)
    rig.faults.fail("put_item", "ThrottlingException")
    assert rig.do(backend.insert([a_record()], "w1")) == [Exists(THEIRS.digest, "w9")]


@pytest.mark.parametrize("count", [1, 3])
def test_a_long_create_that_another_removed_is_whole_or_not_there(rig: Rig, count: int) -> None:
    backend = rig.open()
    records = [a_record("c", LONG), *(a_record(f"d{n}") for n in range(count - 1))]
    # Its parts are gone with it: a head that is just sent again would name what is not there.
    lost_after(rig, "put_item" if count == 1 else INSERT, lambda: remove(rig, "c"))
    assert rig.do(backend.insert(records, "w1")) == [Created()] * count
    assert rig.do(backend.fetch(["c"])) == {"c": records[0]}
    # Those of the first may still be on their way out.
    assert rig.head("c")["write_id"]["S"] != "w1"


def test_a_long_create_whose_answer_was_lost_is_not_written_again(rig: Rig) -> None:
    backend = rig.open()
    rig.faults.lose("put_item")
    assert rig.do(backend.insert([a_record("c", LONG)], "w1")) == [Created()]
    rig.faults.lose(INSERT)
    assert rig.do(backend.insert([a_record("d", LONG), a_record("e")], "w2")) == [Created()] * 2
    assert {name.partition(".")[0] for _, name in rig.parts()} == {"w1", "w2"}
    assert rig.faults.calls["batch_write_item"] == 2


# Many


def test_of_many_those_that_another_updated_are_unknown_and_the_others_are_told(rig: Rig) -> None:
    store = rig.store()
    commands = [a_command(f"c{number}") for number in range(3)]
    lost_after(rig, INSERT, lambda: put(rig, a_record("c1", b"theirs")))
    with pytest.raises(StoreUnavailable, match=r"'c1'.*unknown") as caught:
        store.create_many(commands)
    assert caught.value.result is not None
    assert caught.value.result.created == ("c0", "c2")
    assert not caught.value.result.conflicting
    # The same again is safe, as it is after any error.
    again = store.create_many(commands)
    assert (again.duplicate, again.conflicting) == (("c0", "c2"), ("c1",))


def test_of_many_what_another_wrote_alike_is_there(rig: Rig) -> None:
    backend = rig.open()
    records = [a_record(f"c{number}") for number in range(3)]
    lost_before(rig, INSERT, lambda: put(rig, records[1]))
    assert rig.do(backend.insert(records, "w1")) == [Created(), Exists(records[1].digest, "w9"), Created()]


def test_of_many_what_stood_in_the_way_after_a_lost_answer_and_is_gone_is_not_created_again(rig: Rig) -> None:
    backend = rig.open()
    rig.faults.lose(INSERT)
    rig.faults.before("batch_get_item", lambda: remove(rig, "c1"))
    with pytest.raises(StoreUnavailable, match=r"'c1'.*unknown") as caught:
        rig.do(backend.insert([a_record(f"c{number}") for number in range(3)], "w1"))
    assert caught.value.outcomes == [Created(), None, Created()]
    assert rig.head("c1") == {}


@pytest.mark.parametrize(("code", "known"), [("ThrottlingError", True), ("InternalServerError", False)])
def test_a_statement_that_may_have_been_done_is_one_whose_answer_was_lost(rig: Rig, code: str, known: bool) -> None:
    backend = rig.open()
    theirs = a_record("c1", b"theirs")
    put(rig, theirs)

    def fails(answer: dict) -> dict:
        answer["Responses"][1] = {"Error": {"Code": code, "Message": "later"}}
        return answer

    rig.faults.answer(INSERT, fails)
    records = [a_record(f"c{number}") for number in range(3)]
    if known:
        assert rig.do(backend.insert(records, "w1")) == [Created(), Exists(theirs.digest, "w9"), Created()]
    else:
        with pytest.raises(StoreUnavailable) as caught:
            rig.do(backend.insert(records, "w1"))
        assert caught.value.outcomes == [Created(), None, Created()]


# Answers that are none; test_answers.py has more of them


@pytest.mark.parametrize("change", [lambda _: {}, lambda a: {**a, "Responses": a["Responses"][:-1]}])
def test_an_answer_for_other_statements_is_a_lost_one(rig: Rig, change: Any) -> None:
    backend = rig.open()
    records = [a_record(f"c{number}") for number in range(3)]
    rig.faults.answer(INSERT, change)
    assert rig.do(backend.insert(records, "w1")) == [Created()] * 3
    for _ in range(10):
        rig.faults.answer(INSERT, change)
    with pytest.raises(StoreUnavailable, match="does not answer as DynamoDB does") as caught:
        rig.do(backend.insert([a_record(f"d{number}") for number in range(3)], "w2"))
    assert caught.value.outcomes == [None] * 3


def test_an_answer_without_its_parts_is_asked_for_again(rig: Rig) -> None:
    backend = rig.open()
    rig.do(backend.insert([a_record()], "w1"))
    rig.faults.answer("batch_get_item", lambda _: {})
    assert rig.do(backend.fetch(["c"])) == {"c": a_record()}
    rig.faults.answer("query", lambda _: {})
    assert [row.record for row in rig.do(backend.page(CommandQuery(), None, 5)).rows] == [a_record()]
    rig.faults.answer("query", lambda _: {})
    assert rig.do(backend.count(CommandQuery())) == 1
    rig.faults.answer("scan", lambda _: {})
    rig.faults.answer("batch_write_item", lambda _: {})
    rig.do(backend.clear())
    assert rig.items() == []
    assert rig.faults.calls["batch_write_item"] == 2
