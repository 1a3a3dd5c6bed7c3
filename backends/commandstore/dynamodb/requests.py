"""Statements, conditions and bodies of requests, and how bodies are cut to their limits. Pure."""

from __future__ import annotations

import binascii
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any
from zlib import crc32

import orjson

from commandstore.codec import Record
from commandstore.dynamodb import layout
from commandstore.dynamodb.layout import STATEMENT_LIMIT, Item, Shards

__all__ = [
    "ABSENT",
    "cut",
    "delete_request",
    "insert_statement",
    "insert_statements",
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


def insert_statements(table: str, records: Iterable[Record], write_id: str, shards: Shards) -> Iterator[bytes]:
    """The statement of each record's head, as :func:`insert_statement` makes it of the item.

    An item is a dictionary for each of its values. Of thousands of records at once those would cost more than all
    else, so the JSON of the usual ones, whose payload lies in the head, is put together here.
    """
    dumps, encode64 = orjson.dumps, binascii.b2a_base64
    # Few combinations of these stand in a batch.
    openings: dict[tuple[bool, bool], bytes] = {}
    middles: dict[tuple[str, ...], tuple[bytes, bytes]] = {}
    writes, ends = dumps({"S": write_id}), [b'{"S":"%d"}' % shard for shard in range(shards.time)]
    for record in records:
        if layout.is_long(record):
            yield insert_statement(table, layout.head_item(record, write_id, shards, inline=False))
            continue
        uuid, created, instance, tenant, workspace, domain, kind, session, data, context, digest, cipher, form = record
        opening = openings.get((bool(tenant), bool(cipher)))
        if opening is None:
            names = tuple(layout.head_item(record, write_id, shards))
            opening = openings[bool(tenant), bool(cipher)] = _opening(table, names)
        about = (tenant, workspace, domain, kind, session)
        found = middles.get(about)
        if found is None:
            found = middles[about] = dumps([{"S": value} for value in about])[1:-1], dumps(tenant)[1:-1]
        middle, owner = found
        name, shard = dumps(uuid)[1:-1], crc32(uuid.encode())
        yield (
            b'%b[{"S":"%b"},{"S":"head"},{"N":"%d"},{"N":"%d"},%b,{"B":"%b"},%b,{"N":"%d"},{"S":"%016x%b"},%b,'
            b'{"B":"%b"},{"S":%b},{"N":"%d"}%b%b]}'
            % (
                opening,
                name,
                created,
                instance,
                middle,
                encode64(digest, newline=False),
                writes,
                form,
                created + layout.BIAS,
                name,
                ends[shard % shards.time],
                encode64(data, newline=False),
                dumps(context),
                len(data) + (len(context) if context.isascii() else len(context.encode())),
                b',{"S":"%b#%d"}' % (owner, shard % shards.tenant) if tenant else b"",
                b',{"S":%b}' % dumps(cipher) if cipher else b"",
            )
        )


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
