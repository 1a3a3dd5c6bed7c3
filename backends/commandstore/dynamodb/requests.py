"""Statements, conditions and bodies of requests, and how bodies are cut to their limits. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import orjson

from commandstore.dynamodb.layout import STATEMENT_LIMIT, Item

__all__ = [
    "ABSENT",
    "cut",
    "delete_request",
    "insert_statement",
    "put_request",
    "statement",
    "statements_body",
    "unchanged",
    "writes_body",
]

ABSENT: dict[str, Any] = {
    "ConditionExpression": "attribute_not_exists(#uuid)",
    "ExpressionAttributeNames": {"#uuid": "uuid"},
    "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
}
"""The condition of a write that never overwrites, with the item that stands in the way."""


def unchanged(name: str, value: str) -> dict[str, Any]:
    """The condition that the item still has this string: a write id, a token."""
    return {
        "ConditionExpression": "#name = :value",
        "ExpressionAttributeNames": {"#name": name},
        "ExpressionAttributeValues": {":value": {"S": value}},
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


@lru_cache(maxsize=64)
def statement(table: str, names: tuple[str, ...]) -> str:
    """The INSERT of an item with these attributes; its parameters are the values, in order."""
    places = ", ".join(f"'{name}': ?" for name in names)
    text = f'INSERT INTO "{table}" VALUE {{{places}}}'
    assert len(text) <= STATEMENT_LIMIT  # noqa: S101 - a table's name has 255 characters, and ours are short
    return text


@lru_cache(maxsize=64)
def _opening(table: str, names: tuple[str, ...]) -> bytes:
    return b'{"Statement":' + orjson.dumps(statement(table, names)) + b',"Parameters":'


def insert_statement(table: str, item: Item) -> bytes:
    """One statement with its parameters, ready for the body: its text is the same for nearly all, and made once."""
    return _opening(table, tuple(item)) + orjson.dumps(list(item.values())) + b"}"


def statements_body(statements: Iterable[bytes]) -> bytes:
    """The body of a BatchExecuteStatement."""
    return b'{"Statements":[' + b",".join(statements) + b"]}"


def put_request(item: Item) -> bytes:
    """One write of a BatchWriteItem."""
    return b'{"PutRequest":{"Item":' + orjson.dumps(item) + b"}}"


def delete_request(key: Item) -> bytes:
    """One removal of a BatchWriteItem."""
    return b'{"DeleteRequest":{"Key":' + orjson.dumps(key) + b"}}"


def writes_body(table: str, requests: Iterable[bytes]) -> bytes:
    """The body of a BatchWriteItem."""
    return b'{"RequestItems":{"' + table.encode() + b'":[' + b",".join(requests) + b"]}}"


def cut(pieces: Sequence[bytes], count: int, size: int) -> Iterator[list[int]]:
    """Cut pieces of a body into requests, each of at most ``count`` pieces and ``size`` bytes; yields their indexes."""
    chosen: list[int] = []
    weight = 0
    for index, piece in enumerate(pieces):
        # The comma too; the braces around are covered by the margin that each limit has.
        if chosen and (len(chosen) == count or weight + len(piece) + 1 > size):
            yield chosen
            chosen, weight = [], 0
        chosen.append(index)
        weight += len(piece) + 1
    if chosen:
        yield chosen
