"""The values of the contract."""

import copy
import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commandstore import BatchResult, Command, CommandQuery, CommandStoreError, Failure, InvalidCommand, Page, Position
from commandstore.command import session_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_a_command_needs_only_uuid_and_time() -> None:
    command = Command("c1", 5)
    assert command.model_dump() == {
        "command_uuid": "c1",
        "created_at": 5,
        "instance_id": 0,
        "tenant_uuid": "",
        "workspace_uuid": "",
        "domain": "",
        "data_type": "",
        "data_bytes": b"",
        "req_ctx": "",
    }


def test_a_command_cant_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Command("c1", 5).created_at = 6


def test_commands_are_equal_by_their_fields_and_can_be_hashed() -> None:
    assert Command("c1", 5, data_bytes=b"x") == Command("c1", 5, data_bytes=b"x")
    assert Command("c1", 5) != Command("c1", 6)
    assert len({Command("c1", 5), Command("c1", 5), Command("c2", 5)}) == 2


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))])  # noqa: S301 - ours
def test_a_command_survives_being_copied(again: Any) -> None:
    command = Command("c1", 5, data_bytes=b"\x00\xff", req_ctx='{"a":1}')
    assert again(command) == command


@pytest.mark.parametrize(
    "fields",
    [
        {"command_uuid": 5},
        {"command_uuid": None},
        {"created_at": "5"},
        {"created_at": 5.0},
        {"created_at": True},
        {"instance_id": "1"},
        {"tenant_uuid": b"x"},
        {"data_bytes": "text"},
        {"req_ctx": {"a": 1}},
    ],
    ids=ascii,
)
def test_a_field_of_the_wrong_type_is_an_invalid_command(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidCommand, match="is not valid"):
        Command(**{"command_uuid": "c1", "created_at": 5, **fields})


def test_an_invalid_command_names_the_uuid_and_the_field_and_never_the_payload() -> None:
    with pytest.raises(InvalidCommand) as caught:
        Command("c1", 5, data_bytes="a secret")  # type: ignore[arg-type]
    assert "'c1'" in str(caught.value)
    assert "data_bytes" in str(caught.value)
    assert "a secret" not in str(caught.value) + str(caught.value.__cause__)


def test_payload_and_context_are_not_in_the_repr() -> None:
    shown = repr(Command("c1", 5, data_bytes=b"a secret", req_ctx="another secret"))
    assert "secret" not in shown
    assert "'c1'" in shown


def test_a_command_in_json_has_its_payload_in_base64() -> None:
    assert json.loads(Command("c1", 5, data_bytes=b"\xff\x00").model_dump_json())["data_bytes"] == "/wA="


@given(st.text(max_size=8), st.text(max_size=8))
def test_positions_of_one_time_are_in_the_order_of_the_bytes_of_the_uuid(one: str, other: str) -> None:
    try:
        expected = one.encode() < other.encode()
    except UnicodeEncodeError:
        return
    assert (Position(1, one) < Position(1, other)) == expected


def test_positions_are_in_the_order_of_time_first() -> None:
    assert Position(-(2**63), "z") < Position(-1, "b") < Position(0, "a") < Position(2**63 - 1, "")
    assert Command("c1", 5).position == (5, "c1")


# The request context


CONTEXT = {
    "senderTenantUuid": "t1",
    "senderIdentityUuid": "i1",
    "senderAccountUuid": "a1",
    "senderSessionUuid": "s1",
    "targetTenantUuid": "t2",
    "targetWorkspaceUuid": "w2",
    "targetAggregateUuid": "g2",
    "targetAggregateVersion": 7,
    "executeTimeout": 30_000_000_000,
    "executeWaitToFinish": True,
    "traceId": "trace",
    "attributes": {"ratio": 3.14159, "list": [1, [2]]},
    "metaData": ["x"],
    "targetIdentityUuid": "i2",
}


def test_every_field_of_a_request_context_comes_back() -> None:
    found = Command("c1", 5, req_ctx=json.dumps(CONTEXT)).request_context
    assert found is not None
    assert found.model_dump() == {
        "sender_tenant_uuid": "t1",
        "sender_identity_uuid": "i1",
        "sender_account_uuid": "a1",
        "sender_session_uuid": "s1",
        "target_tenant_uuid": "t2",
        "target_workspace_uuid": "w2",
        "target_aggregate_uuid": "g2",
        "target_aggregate_version": 7,
        "execute_timeout": 30_000_000_000,
        "execute_wait_to_finish": True,
        "trace_id": "trace",
        "attributes": {"ratio": 3.14159, "list": [1, [2]]},
        "meta_data": ["x"],
        "target_identity_uuid": "i2",
        "extra": {},
    }


@pytest.mark.parametrize("spell", [str.lower, str.upper, lambda key: f"_{key}"])
def test_keys_of_a_context_are_looked_up_without_regard_to_case(spell: Any) -> None:
    text = json.dumps({spell(key): value for key, value in CONTEXT.items()})
    assert (
        Command("c1", 5, req_ctx=text).request_context == Command("c1", 5, req_ctx=json.dumps(CONTEXT)).request_context
    )


def test_keys_of_a_context_may_be_in_snake_case() -> None:
    found = Command("c1", 5, req_ctx='{"sender_session_uuid":"s","target_aggregate_version":3}').request_context
    assert found is not None
    assert (found.sender_session_uuid, found.target_aggregate_version) == ("s", 3)


def test_unknown_keys_and_unexpected_types_are_kept_as_extra() -> None:
    text = '{"new":[1],"targetAggregateVersion":"seven","executeWaitToFinish":1,"traceId":null}'
    found = Command("c1", 5, req_ctx=text).request_context
    assert found is not None
    assert found.extra == {"new": [1], "targetAggregateVersion": "seven", "executeWaitToFinish": 1}
    assert (found.target_aggregate_version, found.execute_wait_to_finish, found.trace_id) == (0, False, "")


@pytest.mark.parametrize("text", ["", "null", "[]", "5", "{", '{"a":', "\x00", "[" * 100_000])
def test_a_context_that_is_no_object_is_none(text: str) -> None:
    command = Command("c1", 5, req_ctx=text)
    assert command.request_context is None
    assert command.session_uuid == ""
    assert command.req_ctx == text


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_any_json_object_is_a_context(value: dict[str, Any]) -> None:
    assert Command("c1", 5, req_ctx=json.dumps(value)).request_context is not None


@given(JSON)
def test_the_session_is_text_that_utf8_can_hold(value: Any) -> None:
    assert isinstance(session_of(json.dumps({"senderSessionUuid": value})).encode(), bytes)


@pytest.mark.parametrize(
    ("text", "session"),
    [
        ('{"senderSessionUuid":"s"}', "s"),
        ('{"SENDERSESSIONUUID":"s"}', "s"),
        ('{"_senderSessionUuid":"s"}', "s"),
        ('{"senderSessionUuid":"first","sendersessionuuid":"last"}', "last"),
        ('{"senderSessionUuid":"\\ud83d\\ude00"}', "😀"),
        ('{"senderSessionUuid":"a\\ud800b"}', "a\ufffdb"),
        ('{"senderSessionUuid":7}', ""),
        ('{"senderSessionUuid":null}', ""),
        ('{"a":{"senderSessionUuid":"s"}}', ""),
        ('"senderSessionUuid"', ""),
        ('{"sender\\u0053essionUuid":"s"}', "s"),
    ],
)
def test_the_session_is_read_as_go_reads_it(text: str, session: str) -> None:
    assert session_of(text) == session
    assert Command("c1", 5, req_ctx=text).session_uuid == session


# Queries, pages, results


def test_a_query_tells_its_filters() -> None:
    query = CommandQuery(tenant_uuid="", domain="d", before=0, ascending=False)
    assert query.equal_to == {"tenant_uuid": "", "domain": "d"}
    assert query.canonical() == {"tenant_uuid": "", "domain": "d", "before": 0}


def test_a_page_unpacks_into_commands_and_total() -> None:
    commands, total = Page((Command("c1", 5),), total=9)
    assert (commands, total) == ([Command("c1", 5)], 9)


def test_the_length_of_a_batch_result_is_how_many_commands_it_accounts_for() -> None:
    failure = Failure("f", CommandStoreError("no"))
    assert len(BatchResult(("a", "b"), ("c",), ("d", "e", "f"), (failure,))) == 7
    assert len(BatchResult()) == 0
