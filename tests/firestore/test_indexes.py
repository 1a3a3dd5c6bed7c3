"""The shipped indexes serve every query that a store asks, so that none is missing on the day that it is asked."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from commandstore.codec import plain_record
from commandstore.command import CommandQuery
from commandstore.firestore.layout import FILTERS, head_values, part_values, wanted

SHIPPED = json.loads((Path(__file__).parents[2] / "infra" / "firestore.indexes.json").read_text())
INDEXES: list[list[tuple[str, str]]] = [
    [(field["fieldPath"], field["order"]) for field in index["fields"]] for index in SHIPPED["indexes"]
]


def queries() -> list[CommandQuery]:
    """Every set of filters, both directions, with and without bounds."""
    found = []
    for size in range(len(FILTERS) + 1):
        for names in itertools.combinations(FILTERS, size):
            for ascending, bounds in itertools.product((True, False), ({}, {"after": 1}, {"after": 1, "before": 9})):
                found.append(CommandQuery(**dict.fromkeys(names, "x"), **bounds, ascending=ascending))
    return found


def serves(index: list[tuple[str, str]], equal: set[str], order: list[tuple[str, str]]) -> set[str]:
    """The equalities that an index covers in a merge of indexes: its fields are some of them, and then the order."""
    head, tail = index[: -len(order)], index[-len(order) :]
    fields = {field for field, _ in head}
    return fields if tail == order and fields <= equal else set()


@pytest.mark.parametrize("query", queries(), ids=str)
def test_every_query_is_served_by_a_merge_of_the_shipped_indexes(query: CommandQuery) -> None:
    planned = wanted(query, None, 8)
    assert planned is not None
    equal = {one.field for one in planned.where if one.comparison in {"==", "in"}}
    order = [(field, "ASCENDING" if up else "DESCENDING") for field, up in planned.order]
    assert {one.field for one in planned.where} - equal <= {"created_at"}
    covered = [serves(index, equal, order) for index in INDEXES]
    assert set().union(*covered) == equal


def test_every_index_begins_with_the_shard() -> None:
    assert all(index[0][0] == "shard" for index in INDEXES)


def test_no_field_has_an_index_of_its_own() -> None:
    exempt = {(field["collectionGroup"], field["fieldPath"]) for field in SHIPPED["fieldOverrides"]}
    short, long = (plain_record("u", 1, 1, "", "", "", "", b"x" * size, "") for size in (1, 1_100_000))
    fields: dict[str, Any] = {**head_values(short, "w", 1), **head_values(long, "w", 1)}
    assert {("commands", field) for field in (*fields, "value", "token")} <= exempt
    assert {("parts", field) for part in part_values(long) for field in part} <= exempt
