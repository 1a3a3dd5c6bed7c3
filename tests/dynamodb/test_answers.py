"""Which answers are DynamoDB's, and which are read of no account."""

from __future__ import annotations

from typing import Any

import pytest

from commandstore.dynamodb.answers import is_whole

KEY = {"uuid": {"S": "c"}, "part": {"S": "head"}}
ENTRY = {"uuid": {"S": "c"}, "position": {"S": "8000000000000001c"}}


@pytest.mark.parametrize(
    ("operation", "answer"),
    [
        ("BatchExecuteStatement", {"Responses": [{}, {"Error": {"Code": "DuplicateItem"}}, {"TableName": "t"}]}),
        ("BatchGetItem", {"Responses": {}, "UnprocessedKeys": {"t": {"Keys": [KEY]}}}),
        ("BatchGetItem", {"Responses": {"t": [KEY]}, "UnprocessedKeys": {}}),
        ("BatchWriteItem", {"UnprocessedItems": {}}),
        ("BatchWriteItem", {"UnprocessedItems": {"t": [{"PutRequest": {}}]}}),
        ("DeleteItem", {}),
        ("DescribeTable", {"Table": {}}),
        ("GetItem", {}),
        ("GetItem", {"Item": {}}),
        ("PutItem", {}),
        ("Query", {"Count": 0, "Items": []}),
        ("Query", {"Items": [ENTRY], "LastEvaluatedKey": ENTRY}),
        ("Scan", {"Items": [KEY], "LastEvaluatedKey": KEY}),
    ],
)
def test_what_dynamodb_says_is_whole(operation: str, answer: Any) -> None:
    assert is_whole(operation, {}, answer)
    assert is_whole(operation, b"{}", answer)


@pytest.mark.parametrize(
    ("operation", "answers"),
    [
        ("BatchExecuteStatement", [{}, {"Responses": None}, {"Responses": [None]}, {"Responses": [{"Error": "x"}]}]),
        ("BatchGetItem", [{}, {"Responses": {}}, {"Responses": None, "UnprocessedKeys": {}}]),
        (
            "BatchGetItem",
            [{"Responses": {"t": [one]}, "UnprocessedKeys": {}} for one in ({}, "c", None, {"uuid": "c"})],
        ),
        ("BatchGetItem", [{"Responses": {"t": []}, "UnprocessedKeys": left} for left in (None, [], {"t": [KEY]})]),
        ("BatchGetItem", [{"Responses": {"t": None}, "UnprocessedKeys": {}}]),
        ("BatchWriteItem", [{}, {"UnprocessedItems": None}, {"UnprocessedItems": {"t": {}}}]),
        ("DeleteItem", [None, [], "proxy"]),
        ("DescribeTable", [{}, {"Table": None}]),
        ("GetItem", [{"Item": None}, {"Item": []}]),
        ("Query", [{}, {"Count": 1}, {"Items": None}, {"Items": [KEY]}, {"Items": [{}]}]),
        ("Query", [{"Items": [], "LastEvaluatedKey": last} for last in (None, {}, KEY)]),
        ("Scan", [{}, {"Items": None}, {"Items": [ENTRY]}, {"Items": [], "LastEvaluatedKey": ENTRY}]),
    ],
)
def test_what_lacks_a_part_is_not(operation: str, answers: list[Any]) -> None:
    for answer in answers:
        assert not is_whole(operation, {}, answer), answer


def test_a_count_is_a_query_whose_answer_has_no_items() -> None:
    counting = {"Select": "COUNT"}
    assert is_whole("Query", counting, {"Count": 3})
    assert is_whole("Query", counting, {"Count": 3, "LastEvaluatedKey": ENTRY})
    assert not is_whole("Query", counting, {})
    assert not is_whole("Query", counting, {"Count": None})
