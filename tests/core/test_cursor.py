"""Cursors: intact they say where to go on, altered they say nothing."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commandstore import CommandQuery, InvalidQuery
from commandstore.cursor import read_cursor, write_cursor

KEYS = st.lists(
    st.none() | st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(exclude_categories=["Cs"])), max_size=4
).map(tuple)
NAMES = st.none() | st.sampled_from(["", "x"])
QUERIES = st.builds(
    CommandQuery,
    tenant_uuid=NAMES,
    domain=NAMES,
    session_uuid=NAMES,
    before=st.none() | st.integers(-1, 1),
    after=st.none() | st.integers(-1, 1),
    ascending=st.booleans(),
)
WHERE = "memory://here"


@given(KEYS, QUERIES)
def test_a_cursor_gives_its_key_back(key: Any, query: CommandQuery) -> None:
    cursor = write_cursor(key, WHERE, query)
    assert read_cursor(cursor, WHERE, query) == key
    assert cursor.isascii()
    assert cursor.replace("-", "").replace("_", "").isalnum()


@given(KEYS, st.data())
def test_an_altered_cursor_is_refused_or_is_the_same(key: Any, data: st.DataObject) -> None:
    cursor = write_cursor(key, WHERE, CommandQuery())
    start = data.draw(st.integers(0, len(cursor)))
    end = data.draw(st.integers(start, len(cursor)))
    altered = cursor[:start] + data.draw(st.text(max_size=3)) + cursor[end:]
    try:
        found = read_cursor(altered, WHERE, CommandQuery())
    except InvalidQuery:
        return
    assert found == key


@given(st.text() | st.binary() | st.integers() | st.none())
def test_anything_else_is_an_invalid_query(cursor: Any) -> None:
    with pytest.raises(InvalidQuery, match="cursor is damaged"):
        read_cursor(cursor, WHERE, CommandQuery())


@given(QUERIES, QUERIES)
def test_a_cursor_is_good_for_its_own_query_only(one: CommandQuery, other: CommandQuery) -> None:
    cursor = write_cursor((1, "a"), WHERE, one)
    if one == other:
        assert read_cursor(cursor, WHERE, other) == (1, "a")
    else:
        with pytest.raises(InvalidQuery, match="other filters"):
            read_cursor(cursor, WHERE, other)


def test_a_cursor_is_good_for_its_own_store_only() -> None:
    with pytest.raises(InvalidQuery, match="another store"):
        read_cursor(write_cursor((1, "a"), WHERE, CommandQuery()), "memory://there", CommandQuery())
