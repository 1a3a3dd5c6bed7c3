"""Directories against a dictionary."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from commandstore.s3 import directory
from commandstore.s3.directory import SPACE, WIDTH, Candidate, Directory, chunks, entries, fold, hash_of, merge

UUIDS = st.lists(st.text(min_size=1, max_size=8), max_size=30, unique=True)
SEGMENTS = st.lists(UUIDS, max_size=5)


def a_directory(segments: list[list[str]]) -> Directory:
    runs = [entries(uuids, number) for number, uuids in enumerate(segments)]
    return Directory(b"".join(runs), [len(run) // WIDTH for run in runs])


@given(SEGMENTS, UUIDS)
def test_every_row_of_a_uuid_is_found_and_no_other(segments: list[list[str]], others: list[str]) -> None:
    data = a_directory(segments)
    every = {uuid for uuids in segments for uuid in uuids}
    for uuid in every | set(others):
        rows = [Candidate(n, at) for n, uuids in enumerate(segments) for at, one in enumerate(uuids) if one == uuid]
        assert data.find(hash_of(uuid)) == rows
    asked = {hash_of(uuid): uuid for uuid in every | set(others)}
    assert {asked[key] for key in data.among(asked)} == every


def test_many_keys_are_looked_up_as_single_ones_are(monkeypatch: pytest.MonkeyPatch) -> None:
    uuids = [f"c{number}" for number in range(100)]
    data = a_directory([uuids[:50], uuids[50:]])
    keys = [hash_of(f"c{number}") for number in range(150)]
    for searched in (0, 1000):  # always by search, always by set
        monkeypatch.setattr(directory, "_SEARCH", searched)
        assert sorted(data.among(keys)) == sorted(keys[:100])


@given(SEGMENTS, st.sets(st.integers(0, 4)))
def test_a_merge_is_one_run_of_the_segments_that_are_left(segments: list[list[str]], dropped: set[int]) -> None:
    live = {number for number in range(len(segments)) if number not in dropped}
    run = merge([entries(uuids, number) for number, uuids in enumerate(segments)], live)
    assert run == b"".join(sorted(run[at : at + WIDTH] for at in range(0, len(run), WIDTH)))
    kept = Directory(run, [len(run) // WIDTH])
    for uuid in {uuid for uuids in segments for uuid in uuids}:
        expected = [Candidate(n, at) for n in sorted(live) for at, one in enumerate(segments[n]) if one == uuid]
        assert kept.find(hash_of(uuid)) == expected


@given(UUIDS, st.lists(st.integers(1, SPACE - 1), max_size=5, unique=True))
def test_the_pieces_of_a_run_are_cut_where_partitions_begin(uuids: list[str], bounds: list[int]) -> None:
    run, lows = entries(uuids, 7), [0, *sorted(bounds)]
    pieces = chunks(run, lows)
    assert b"".join(pieces) == run
    for piece, low, high in zip(pieces, lows, [*lows[1:], SPACE], strict=True):
        keys = [int.from_bytes(piece[at : at + 8], "big") for at in range(0, len(piece), WIDTH)]
        assert all(low <= key < high for key in keys)


@given(SEGMENTS, st.integers(1, 40))
def test_partitions_stay_small_and_lose_nothing(segments: list[list[str]], full: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(directory, "FULL", full)
        live = set(range(len(segments)))
        made: list[tuple[int, Directory, tuple[int, ...]]] = []
        for number, uuids in enumerate(segments):
            lows = [low for low, _, _ in made] or [0]
            pieces = chunks(entries(uuids, number), lows)
            before, made = made or [(0, None, ())], []
            for (low, old, runs), high, piece in zip(before, [*lows[1:], SPACE], pieces, strict=True):
                for chunk in fold(low, high, old, runs, piece, live):
                    assert sum(chunk.runs) <= max(full, len(segments))  # one uuid of each can not be cut
                    made.append((chunk.low, Directory(chunk.data, chunk.runs), chunk.runs))
        assert [low for low, _, _ in made] == sorted({low for low, _, _ in made})
        for uuid in {uuid for uuids in segments for uuid in uuids}:
            key = hash_of(uuid)
            home = [data for low, data, _ in made if low <= key][-1]
            assert sorted(home.find(key)) == [
                Candidate(n, at) for n, uuids in enumerate(segments) for at, one in enumerate(uuids) if one == uuid
            ]


def test_runs_of_a_partition_are_few_however_often_it_grows() -> None:
    old, runs = None, ()
    for number in range(200):
        run = entries([f"{number}-{at}" for at in range(50)], number)
        [chunk] = fold(0, SPACE, old, runs, run, range(number + 1))
        old, runs = Directory(chunk.data, chunk.runs), chunk.runs
        assert len(runs) <= 9
    assert sum(runs) == 200 * 50


def test_a_directory_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="length"):
        Directory(b"x" * WIDTH * 2, [1])
