"""Which bounds a page asks for, and how shards become one order again: pure, against a model."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commandstore.command import INT64_MAX, INT64_MIN, CommandQuery
from commandstore.dynamodb import layout
from commandstore.dynamodb.layout import Shards
from commandstore.dynamodb.lists import Entry, Merge, Plan, plan

INT64 = st.integers(INT64_MIN, INT64_MAX) | st.integers(-2, 2)
BOUND = st.none() | INT64
UUID = st.text(st.characters(codec="utf-8"), min_size=1, max_size=3)


@given(st.lists(st.tuples(INT64, UUID), unique=True), BOUND, BOUND, st.none() | st.tuples(INT64, UUID), st.booleans())
def test_the_bounds_of_a_plan_hold_exactly_what_matches(
    keys: list[tuple[int, str]],
    after: int | None,
    before: int | None,
    last: tuple[int, str] | None,
    ascending: bool,
) -> None:
    planned = plan(CommandQuery(after=after, before=before, ascending=ascending), last, Shards())
    found = {
        key
        for key in keys
        if planned is not None
        and planned.low <= layout.position(*key) <= planned.high
        and layout.position(*key) != planned.skip
    }
    assert found == {
        key
        for key in keys
        if (after is None or key[0] > after)
        and (before is None or key[0] < before)
        and (last is None or (key > last if ascending else key < last))
    }


def test_a_tenant_is_read_from_its_own_index_and_an_empty_one_by_time() -> None:
    own = plan(CommandQuery(tenant_uuid="t", domain=""), None, Shards(2, 3))
    empty = plan(CommandQuery(tenant_uuid="", domain=""), None, Shards(2, 3))
    assert own is not None
    assert empty is not None
    assert (own.index, own.shards, own.filters) == ("by_tenant", ["t#0", "t#1"], {"domain": ""})
    assert (empty.index, empty.shards) == ("by_time", ["0", "1", "2"])
    assert empty.filters == {"tenant_uuid": "", "domain": ""}


def test_nothing_is_asked_where_nothing_can_match() -> None:
    for query in (
        CommandQuery(after=INT64_MAX),
        CommandQuery(before=INT64_MIN),
        CommandQuery(after=5, before=5),
        CommandQuery(after=5, before=6),
        CommandQuery(after=9, before=2),
    ):
        planned = plan(query, None, Shards())
        # Bounds that touch would be refused or find nothing; crossing ones are refused by the engine.
        assert planned is None or planned.low < planned.high
    assert plan(CommandQuery(after=9, before=2), None, Shards()) is None


class Model:
    """Shards as the engine has them: it reads ``Limit`` entries, *then* filters, and says how far it got."""

    def __init__(self, entries: dict[str, bool], shards: int) -> None:
        self.passing = entries
        self.shards: dict[str, list[str]] = {str(number): [] for number in range(shards)}
        for number, position in enumerate(entries):
            self.shards[str(hash((number, position)) % shards)].append(position)

    def query(self, planned: Plan, shard: str, start: dict[str, Any] | None, limit: int) -> Any:
        ordered = sorted(self.shards[shard], reverse=not planned.ascending)
        within = [p for p in ordered if planned.low <= p <= planned.high]
        if start is not None:
            after = start["position"]["S"]
            within = [p for p in within if (p > after if planned.ascending else p < after)]
        read = within[:limit]
        # As DynamoDB does: a key to go on with whenever the limit was reached, even if nothing is left.
        more = {"position": {"S": read[-1]}} if len(read) == limit else None
        return [Entry(p, p[16:], 0) for p in read if self.passing[p]], more


@given(
    st.dictionaries(st.integers(0, 400).map(lambda n: layout.position(n // 5, f"u{n}")), st.booleans(), max_size=80),
    st.integers(1, 5),
    st.integers(1, 9),
    st.integers(2, 6),  # a query reads two at least, as one of them may be the key that it goes on after
    st.integers(1, 3),
    st.booleans(),
)
def test_pages_over_shards_are_the_whole_in_order_even_when_filters_leave_them_empty(
    entries: dict[str, bool], shards: int, limit: int, size: int, rounds: int, ascending: bool
) -> None:
    model = Model(entries, shards)
    found: list[str] = []
    key = None
    for _ in range(1000):
        planned = plan(CommandQuery(ascending=ascending), key, Shards(time=shards))
        if planned is None:
            break
        merge = Merge(planned, limit)
        for _ in range(rounds):
            wanting = merge.wanting()
            for shard in wanting:
                merge.add(shard, *model.query(planned, shard.key, shard.next, size))
            if not wanting:
                break
        page, end = merge.certain()
        assert len(page) <= limit
        found += [entry.position for entry in page]
        if end is None:
            break
        key = layout.position_key(end)
    else:
        pytest.fail("the walk has no end")
    assert found == sorted((p for p, passes in entries.items() if passes), reverse=not ascending)
