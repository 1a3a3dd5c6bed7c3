"""Many commands through the sync: memory and descriptors stay as they were, and the last cost what the first did.

Costs are counted, not timed: calls of Python functions, requests, bytes. The full form is benchmarks/load.py's own
million, but for requests to S3, which are sent one at a time; the reduced one has small caches, which are full before
it ends as the real ones are in the full form.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from commandstore.testing.comby import create_sqlite, insert_sqlite, sample_commands
from reliability.scale import FULL, scaled

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
COUNT = scaled(20_000, 1_000_000)
PARTS = 5
ROOM = scaled(4, 60)
"""Megabytes that a run may take once it is warm. What it writes is five times as much in the reduced form."""
# Else freed blocks of all sizes stay in the C library's heap, which grows to what it once held.
HEAP = {"MALLOC_MMAP_THRESHOLD_": "131072"}
CHILD = """
import json, pathlib, sys
from commandstore.s3 import backend, objects
backend.S3Backend.__init__.__kwdefaults__["concurrency"] = 1
if not {full}:
    objects._INDEXED_ROWS, objects._DIRECTORY_BYTES = 2_000, 1_000_000
import load
found = load.measured(*sys.argv[1:3], {count}, pathlib.Path(sys.argv[3]), "", parts={parts}, with_calls=True, **{how})
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("load") / "source.db"
    create_sqlite(path, "C")
    insert_sqlite(path, sample_commands(COUNT, tenants=3))
    return f"sqlite:///{path}"


@pytest.mark.parametrize("kind", ["sqlite", "s3"])
def test_the_last_commands_of_many_cost_what_the_first_did_and_nothing_grows_with_them(
    kind: str, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    from load import Load, Sample  # noqa: PLC0415 - not installed

    # One at a time, in this order: else calls would be made by other threads, where they aren't counted, and there
    # would be as many connections as requests happened to meet.
    how = {"concurrency": 1, "batch_size": None if FULL else 500}
    child = CHILD.format(full=FULL, count=COUNT, parts=PARTS, how=how)
    said = subprocess.run(  # noqa: S603 - our own
        [sys.executable, "-c", child, kind, source, str(tmp_path)],
        check=True,
        capture_output=True,
        text=True,
        cwd=BENCHMARKS,
        env=os.environ | HEAP,
    )
    samples, milliseconds = json.loads(said.stdout)
    load = Load([Sample(*one) for one in samples], milliseconds)
    warm, *later = load.samples[1:]
    assert len(later) == PARTS - 1
    assert {sample.descriptors for sample in later} == {warm.descriptors}
    assert max(sample.megabytes for sample in later) - warm.megabytes < ROOM
    for cost in (
        load.each(lambda one: one.calls),
        load.each(lambda one: one.requests),
        load.each(lambda one: one.sent),
    ):
        assert cost[-1] <= 1.5 * cost[0]
    assert set(load.milliseconds) == {"list of 100", "get", "total"}
