"""Directories against a dictionary."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from commandstore.s3.directory import WIDTH, Hashes, Row, covers, entries, find, key_of, merge, window

UUIDS = st.lists(st.text(min_size=1, max_size=8), max_size=30)
SEGMENTS = st.lists(UUIDS, max_size=5)


def directory(segments: list[list[str]]) -> bytes:
    return merge([], [entry for number, uuids in enumerate(segments) for entry in entries(uuids, number)])


@given(SEGMENTS, UUIDS)
def test_every_row_of_a_uuid_is_found_and_no_other(segments: list[list[str]], others: list[str]) -> None:
    data = directory(segments)
    every = {uuid for uuids in segments for uuid in uuids}
    for uuid in every | set(others):
        rows = [Row(n, at) for n, uuids in enumerate(segments) for at, one in enumerate(uuids) if one == uuid]
        assert find(data, key_of(uuid)) == rows
    asked = sorted(every | set(others))
    assert Hashes(data).known(asked) == [uuid in every for uuid in asked]


@given(SEGMENTS, SEGMENTS, st.sets(st.integers(0, 4)))
def test_a_merge_is_the_directory_of_the_segments_that_are_left(
    one: list[list[str]], other: list[list[str]], dropped: set[int]
) -> None:
    kept = [number for number in range(len(one)) if number not in dropped]
    numbers = {old: new for new, old in enumerate(kept)}
    others = {old: old + len(kept) for old in range(len(other))}
    merged = merge([(directory(one), numbers), (directory(other), others)])
    assert merged == directory([one[number] for number in kept] + other)


@pytest.mark.parametrize("count", [1, 2, 100, 20_000])
def test_a_window_of_a_large_directory_says_all_of_each_key(count: int) -> None:
    data = directory([[f"c{number}" for number in range(count)]])
    for number in range(0, count + 50, max(1, count // 200)):  # those behind the count are not in it
        key = key_of(f"c{number}")
        first, end = window(key, count)
        part = data[first * WIDTH : end * WIDTH]
        assert covers(part, key, first, count)
        assert find(part, key) == find(data, key) == ([Row(0, number)] if number < count else [])
        assert end - first <= 32 + 12 * count**0.5


def test_a_range_that_misses_its_key_is_noticed() -> None:
    uuids = sorted((f"c{number}" for number in range(100)), key=key_of)
    data = directory([uuids])
    key = key_of(uuids[50])
    for first, end, said in ((49, 52, True), (0, 52, True), (49, 100, True), (50, 52, False), (49, 51, False)):
        assert covers(data[first * WIDTH : end * WIDTH], key, first, 100) is said, (first, end)
