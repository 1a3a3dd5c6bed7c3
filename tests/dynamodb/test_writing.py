"""Inserts, replacements and removals when answers are lost, engines are slow, and others write too."""

from __future__ import annotations

import pytest

from commandstore import codec
from commandstore.aws.retry import Retry
from commandstore.command import Command
from commandstore.contract import Created, Exists, Rejected
from commandstore.drive import run
from commandstore.dynamodb import layout
from commandstore.dynamodb.backend import DynamoDBBackend
from commandstore.errors import AccessDenied, StoreNotFound, StoreUnavailable, Throttled, Unsupported
from commandstore.store import CommandStore
from commandstore.testing.faults import VirtualTime
from commandstore.testing.faults.client import client_error
from dynamodb.rig import Rig

INSERT = "batch_execute_statement"
LONG = b"long payload " * 40_000  # 520,000 bytes


def a_record(uuid: str = "c", data: bytes = b"data", created_at: int = 1, tenant: str = "t") -> codec.Record:
    return codec.encode(Command(uuid, created_at, tenant_uuid=tenant, data_bytes=data))


def some(count: int, data: bytes = b"data") -> list[codec.Record]:
    return [a_record(f"c{number:03}", data, number) for number in range(count)]


# One command


def test_a_created_whose_answer_was_lost_is_created(rig: Rig) -> None:
    backend = rig.open()
    before = rig.faults.calls["put_item"]
    rig.faults.lose("put_item")
    assert rig.do(backend.insert([a_record()], "w1")) == [Created()]
    assert rig.faults.calls["put_item"] == before + 2  # the second meets what the first one wrote


def test_a_standing_command_is_told_with_its_digest_and_write_id(rig: Rig) -> None:
    backend = rig.open()
    first, other = a_record(), a_record(data=b"other")
    rig.do(backend.insert([first], "w1"))
    assert rig.do(backend.insert([other], "w2")) == [Exists(first.digest, "w1")]
    assert rig.head("c")["data"]["B"] == b"data"


def test_a_throttled_insert_is_tried_again_until_patience_ends(rig: Rig) -> None:
    backend = rig.open()
    rig.faults.fail("put_item", "ThrottlingException", times=9)
    assert rig.do(backend.insert([a_record("a")], "w1")) == [Created()]
    rig.faults.fail("put_item", "ThrottlingException", times=10)
    with pytest.raises(Throttled):
        rig.do(backend.insert([a_record("b")], "w1"))


def test_access_denied_is_not_tried_again(rig: Rig) -> None:
    backend = rig.open()
    rig.faults.fail("put_item", "AccessDeniedException")
    before = rig.faults.calls["put_item"]
    with pytest.raises(AccessDenied, match="PutItem") as caught:
        rig.do(backend.insert([a_record()], "w1"))
    assert rig.faults.calls["put_item"] == before + 1
    assert caught.value.__cause__ is not None


def test_an_item_that_the_engine_refuses_is_rejected(rig: Rig) -> None:
    backend = rig.open()
    rig.faults.fail("put_item", "ValidationException")
    [outcome] = rig.do(backend.insert([a_record(data=LONG)], "w1"))
    assert isinstance(outcome, Rejected)
    assert rig.items() == []  # its parts are gone as well


# Many


def test_many_are_inserted_twenty_five_a_request(rig: Rig) -> None:
    backend = rig.open()
    assert rig.do(backend.insert(some(60), "w1")) == [Created()] * 60
    assert rig.faults.calls[INSERT] == 3
    assert sorted(len(body["Statements"]) for name, body in rig.faults.bodies if name == INSERT) == [10, 25, 25]


def test_requests_stay_below_four_megabytes(rig: Rig) -> None:
    backend = rig.open()
    assert rig.do(backend.insert(some(26, b"x" * 380_000), "w1")) == [Created()] * 26
    assert rig.faults.calls[INSERT] == 4


def test_inserts_whose_answer_was_lost_are_created(rig: Rig) -> None:
    backend = rig.open()
    rig.faults.lose(INSERT, times=3)
    assert rig.do(backend.insert(some(60), "w1")) == [Created()] * 60


def test_duplicates_among_new_ones_are_told_apart_from_our_own_lost_ones(rig: Rig) -> None:
    backend = rig.open()
    old = some(10)[::3]
    rig.do(backend.insert(old, "w1"))
    rig.faults.lose(INSERT)
    outcomes = rig.do(backend.insert(some(10), "w2"))
    assert outcomes[::3] == [Exists(record.digest, "w1") for record in old]
    assert all(outcome == Created() for index, outcome in enumerate(outcomes) if index % 3)


@pytest.mark.parametrize(
    "code",
    [
        "ProvisionedThroughputExceeded",
        "ThrottlingError",
        "RequestLimitExceeded",
        "InternalServerError",
        "TransactionConflict",
    ],
)
def test_a_statement_that_failed_for_now_is_tried_again_alone(rig: Rig, code: str) -> None:
    backend = rig.open()

    # The engine did it, and says it didn't: the worst that it can say. The second attempt finds its own write id.
    def one_fails(answer: dict) -> dict:
        answer["Responses"][3] = {"Error": {"Code": code, "Message": "later"}}
        return answer

    rig.faults.answer(INSERT, one_fails)
    assert rig.do(backend.insert(some(9), "w1")) == [Created()] * 9
    assert [len(body["Statements"]) for name, body in rig.faults.bodies if name == INSERT] == [9, 1]


def test_a_statement_that_is_throttled_for_ever_leaves_the_others_known(rig: Rig) -> None:
    backend = rig.open()

    def all_slow(answer: dict) -> dict:
        return {"Responses": [{"Error": {"Code": "ThrottlingError", "Message": ""}} for _ in answer["Responses"]]}

    def last_slow(answer: dict) -> dict:
        answer["Responses"][-1] = {"Error": {"Code": "ThrottlingError", "Message": ""}}
        return answer

    rig.faults.answer(INSERT, last_slow)
    for _ in range(20):
        rig.faults.answer(INSERT, all_slow)
    with pytest.raises(Throttled) as caught:
        rig.do(backend.insert(some(5), "w1"))
    assert caught.value.outcomes == [Created()] * 4 + [None]


def test_a_statement_that_the_engine_finds_fault_with_rejects_its_command_alone(rig: Rig) -> None:
    backend = rig.open()

    def one_bad(answer: dict) -> dict:
        answer["Responses"][2] = {"Error": {"Code": "ValidationError", "Message": "too long"}}
        return answer

    rig.faults.answer(INSERT, one_bad)
    outcomes = rig.do(backend.insert(some(5), "w1"))
    assert [type(outcome) for outcome in outcomes] == [Created, Created, Rejected, Created, Created]
    assert "c002" in str(outcomes[2].error)


def test_a_batch_that_is_refused_as_a_whole_goes_one_by_one(rig: Rig) -> None:
    backend = rig.open()
    rig.faults.fail(INSERT, "ValidationException")
    rig.faults.fail("put_item", "ValidationException")
    outcomes = rig.do(backend.insert(some(4), "w1"))
    assert [type(outcome) for outcome in outcomes] == [Rejected, Created, Created, Created]


@pytest.mark.parametrize(("code", "kind"), [("AccessDenied", AccessDenied), ("ResourceNotFound", StoreNotFound)])
def test_a_statement_without_permission_or_table_raises(rig: Rig, code: str, kind: type[Exception]) -> None:
    backend = rig.open()
    rig.faults.answer(INSERT, lambda _: {"Responses": [{"Error": {"Code": code, "Message": ""}}] * 3})
    with pytest.raises(kind):
        rig.do(backend.insert(some(3), "w1"))


def test_an_unreachable_engine_leaves_every_fate_unknown(rig: Rig) -> None:
    backend = rig.open()
    rig.faults.lose(INSERT, times=10)
    with pytest.raises(StoreUnavailable) as caught:
        rig.do(backend.insert(some(3), "w1"))
    assert caught.value.outcomes == [None, None, None]


def test_the_facade_accounts_for_what_is_known_when_the_engine_goes_away(rig: Rig) -> None:
    store = rig.store(concurrency=1)
    commands = [Command(f"c{number:03}", number) for number in range(30)]
    rig.faults.answer(INSERT, lambda answer: answer)  # the first request passes
    rig.faults.lose(INSERT, times=10)
    with pytest.raises(StoreUnavailable) as caught:
        store.create_many(commands)
    assert caught.value.result is not None
    assert len(caught.value.result.created) == 25
    assert len(store.create_many(commands).duplicate) == 30


def test_a_duplicate_that_is_removed_before_it_is_looked_at_is_inserted(rig: Rig) -> None:
    backend = rig.open()
    records = some(4)
    rig.do(backend.insert(records[:1], "w1"))
    key = {"uuid": {"S": "c000"}, "part": {"S": "head"}}
    rig.faults.before("batch_get_item", lambda: rig.raw.delete_item(TableName=rig.table, Key=key))
    assert rig.do(backend.insert(records, "w2")) == [Created()] * 4


def test_most_duplicates_are_looked_up_first_until_most_are_new(rig: Rig) -> None:
    backend = rig.open()
    rig.do(backend.insert(some(20), "w1"))
    rig.do(backend.insert(some(20), "w2"))
    calls = rig.faults.calls[INSERT]
    assert [type(o) for o in rig.do(backend.insert(some(20), "w3"))] == [Exists] * 20
    assert rig.faults.calls[INSERT] == calls  # a failed insert would be billed
    rig.do(backend.insert(some(60), "w4"))  # most are new: back to inserting at once
    gets = rig.faults.calls["batch_get_item"]
    rig.do(backend.insert([a_record(f"d{n}") for n in range(5)], "w5"))
    assert rig.faults.calls["batch_get_item"] == gets


def test_keys_left_unprocessed_are_asked_for_again(rig: Rig) -> None:
    backend = rig.open()
    rig.do(backend.insert(some(30), "w1"))

    def half(answer: dict) -> dict:
        [(table, items)] = answer["Responses"].items()
        keys = [{"uuid": item["uuid"], "part": item["part"]} for item in items[10:]]
        return {"Responses": {table: items[:10]}, "UnprocessedKeys": {table: {"Keys": keys, "ConsistentRead": True}}}

    def none(answer: dict) -> dict:
        [(table, items)] = answer["Responses"].items()
        keys = [{"uuid": item["uuid"], "part": item["part"]} for item in items]
        return {"Responses": {}, "UnprocessedKeys": {table: {"Keys": keys, "ConsistentRead": True}}}

    for change in (half, none, none):
        rig.faults.answer("batch_get_item", change)
    assert len(rig.do(backend.fetch([f"c{number:03}" for number in range(30)]))) == 30
    for _ in range(10):
        rig.faults.answer("batch_get_item", none)
    with pytest.raises(Throttled):
        rig.do(backend.fetch(["c000"]))


def test_keys_left_unprocessed_are_asked_for_after_a_pause(rig: Rig) -> None:
    backend = rig.open()
    rig.do(backend.insert(some(30), "w1"))
    time = VirtualTime()
    time.hold(backend.drive)

    def half(answer: dict) -> dict:
        [(table, items)] = answer["Responses"].items()
        keys = [{"uuid": item["uuid"], "part": item["part"]} for item in items[10:]]
        return {"Responses": {table: items[:10]}, "UnprocessedKeys": {table: {"Keys": keys, "ConsistentRead": True}}}

    rig.faults.answer("batch_get_item", half)
    backend._wire.retry = Retry()
    assert len(rig.do(backend.fetch([f"c{number:03}" for number in range(30)]))) == 30
    assert time.pauses == 1


# Replace and remove


def test_a_replacement_whose_answer_was_lost_is_done_once(rig: Rig) -> None:
    backend = rig.open()
    rig.do(backend.insert([a_record(data=LONG)], "w1"))
    rig.faults.lose("put_item")
    assert rig.do(backend.replace(a_record(data=LONG + b"new"), "w2")) is True
    assert {part for _, part in rig.parts()} == {"w2.0000", "w2.0001"}
    assert rig.do(backend.fetch(["c"]))["c"].data == LONG + b"new"


def test_a_replacement_meets_another_and_comes_after_it(rig: Rig) -> None:
    backend = rig.open()
    rig.do(backend.insert([a_record()], "w1"))
    rig.faults.before("put_item", lambda: _replaced_by_another(rig, a_record(data=LONG), "w2"))
    assert rig.do(backend.replace(a_record(data=b"third"), "w3")) is True
    assert rig.do(backend.fetch(["c"]))["c"].data == b"third"
    assert rig.parts() == set()


def _replaced_by_another(rig: Rig, record: codec.Record, write_id: str) -> None:
    """Another process replaces, in the middle of a call of ours: by the blocking drive, as our own loop is busy."""
    with CommandStore(DynamoDBBackend(rig.table, endpoint_url=rig.endpoint)) as store:
        store.init(create=False)
        assert run(store.core.backend.replace(record, write_id)) is True


def test_a_lost_replacement_that_another_replaced_is_done_and_does_not_come_back(rig: Rig) -> None:
    backend = rig.open()
    rig.do(backend.insert([a_record()], "w1"))

    def lost_and_replaced(_: object) -> object:
        _replaced_by_another(rig, a_record(data=b"theirs"), "w3")
        raise client_error("InternalServerError", 500)

    rig.faults.answer("put_item", lost_and_replaced)
    assert rig.do(backend.replace(a_record(data=LONG), "w2")) is True
    assert rig.do(backend.fetch(["c"]))["c"].data == b"theirs"
    assert rig.parts() == set()


def test_replace_of_what_is_removed_meanwhile_is_false_and_leaves_nothing(rig: Rig) -> None:
    backend = rig.open()
    rig.do(backend.insert([a_record()], "w1"))
    key = {"uuid": {"S": "c"}, "part": {"S": "head"}}
    rig.faults.before("put_item", lambda: rig.raw.delete_item(TableName=rig.table, Key=key))
    assert rig.do(backend.replace(a_record(data=LONG), "w2")) is False
    assert rig.items() == []


def test_a_removal_whose_answer_was_lost_is_done_once_and_leaves_nothing(rig: Rig) -> None:
    backend = rig.open()
    rig.do(backend.insert([a_record(data=LONG)], "w1"))
    rig.faults.lose("delete_item")
    # By us, or by another who was told so: docs/contract.md.
    with pytest.raises(StoreUnavailable, match="is gone, but one answer was lost"):
        rig.do(backend.remove("c"))
    assert rig.items() == []
    assert rig.do(backend.remove("c")) is False


def test_a_removal_that_did_not_arrive_is_sent_again(rig: Rig) -> None:
    backend = rig.open()
    rig.do(backend.insert([a_record(data=LONG)], "w1"))
    rig.faults.fail("delete_item", "InternalServerError", 500, times=3)
    assert rig.do(backend.remove("c")) is True
    assert rig.items() == []


# Registers


def test_a_swap_whose_answer_was_lost_is_done(rig: Rig) -> None:
    backend = rig.open()
    rig.faults.lose("put_item", times=2)
    assert rig.do(backend.register_swap("r", b"1", expected=None, token="t1")) is True
    assert rig.do(backend.register_swap("r", b"2", expected="t1", token="t2")) is True
    assert rig.do(backend.register_get("r")).value == b"2"
    rig.faults.lose("delete_item")
    assert rig.do(backend.register_swap("r", None, expected="t2", token="t3")) is True
    assert rig.do(backend.register_get("r")) is None


def test_a_swap_that_was_lost_behind_another_one_is_not_said_to_be_undone(rig: Rig) -> None:
    backend = rig.open()
    rig.do(backend.register_swap("r", b"1", expected=None, token="t1"))

    def swapped_by_another(_: dict) -> dict:
        key = {"uuid": {"S": "r"}, "part": {"S": layout.REGISTER}}
        rig.raw.put_item(TableName=rig.table, Item={**key, "value": {"B": b"3"}, "token": {"S": "t3"}})
        raise client_error("InternalServerError", 500)

    rig.faults.answer("put_item", swapped_by_another)
    with pytest.raises(StoreUnavailable, match="unknown"):
        rig.do(backend.register_swap("r", b"2", expected="t1", token="t2"))
    assert rig.do(backend.register_swap("r", b"2", expected="t1", token="t2")) is False


def test_a_register_and_a_command_of_one_name_do_not_meet(rig: Rig) -> None:
    backend = rig.open()
    for name in ("head", "register", "settings", "commandstore"):
        rig.do(backend.register_swap(name, b"value", expected=None, token="t"))
        rig.do(backend.insert([a_record(name)], "w1"))
        assert rig.do(backend.register_get(name)).value == b"value"
        assert rig.do(backend.fetch([name]))[name] == a_record(name)
        assert rig.do(backend.remove(name)) is True
        assert rig.do(backend.register_get(name)).value == b"value"


# Without PartiQL


def test_an_engine_without_partiql_says_which_option_to_use(put_rig: Rig) -> None:
    backend = put_rig.open(bulk="auto")
    with pytest.raises(Unsupported, match="bulk=put"):
        put_rig.do(backend.insert(some(3), "w1"))
    assert put_rig.faults.calls[INSERT] == 1  # at once, not after all retries


def test_bulk_put_never_overwrites_what_is_there(put_rig: Rig) -> None:
    backend = put_rig.open()
    assert put_rig.do(backend.insert(some(30), "w1")) == [Created()] * 30
    outcomes = put_rig.do(backend.insert([*some(10, b"other"), a_record("new")], "w2"))
    assert outcomes == [*(Exists(record.digest, "w1") for record in some(10)), Created()]
    assert put_rig.do(backend.fetch(["c003"]))["c003"].data == b"data"


def test_bulk_put_writes_unprocessed_items_again(put_rig: Rig) -> None:
    backend = put_rig.open()

    def undone(answer: dict) -> dict:
        items = put_rig.items()
        for item in items[5:]:
            put_rig.raw.delete_item(TableName=put_rig.table, Key={"uuid": item["uuid"], "part": item["part"]})
        body = next(body for name, body in reversed(put_rig.faults.bodies) if name == "batch_write_item")
        kept = {item["uuid"]["S"] for item in items[:5]}
        left = [r for r in body["RequestItems"][put_rig.table] if r["PutRequest"]["Item"]["uuid"]["S"] not in kept]
        return {**answer, "UnprocessedItems": {put_rig.table: left}}

    put_rig.faults.answer("batch_write_item", undone)
    put_rig.faults.lose("batch_write_item")
    assert put_rig.do(backend.insert(some(20), "w1")) == [Created()] * 20
    assert len(put_rig.items()) == 20


def test_bulk_put_rejects_the_one_item_that_is_refused(put_rig: Rig) -> None:
    backend = put_rig.open()
    put_rig.faults.fail("batch_write_item", "ValidationException")
    put_rig.faults.fail("put_item", "ValidationException")
    outcomes = put_rig.do(backend.insert(some(3), "w1"))
    assert [type(outcome) for outcome in outcomes] == [Rejected, Created, Created]
