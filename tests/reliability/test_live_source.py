"""A source that is written to all the time, synced every second: nothing is lost, nothing doubled."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from commandstore import open_store, sync_command_store
from commandstore.memory import MemoryBackend
from commandstore.store import CommandStore
from commandstore.testing.comby import create_postgres, create_sqlite
from reliability.scale import FULL, scaled
from reliability.stores import SERVICES, Where, opened

SEED = "20261125"
RATE = 500
logger = logging.getLogger(__name__)


@pytest.fixture(params=["sqlite", "postgres"])
def source(request, tmp_path):
    if request.param == "sqlite":
        create_sqlite(tmp_path / "live.db", "C")
        yield f"sqlite:///{tmp_path / 'live.db'}"
    else:
        with request.getfixturevalue("postgres").database() as url:
            create_postgres(url, "C")
            yield url


@pytest.fixture(params=["memory", "sqlite", "dynamodb", "s3", "firestore"] if FULL else ["memory", "sqlite"])
def where(request):
    if request.param in SERVICES:
        yield from opened(request)
    else:
        backend = MemoryBackend("live")
        yield Where(backend.location, lambda: list(backend._records), backend=backend)


def a_run(source: str, where: Where):
    """As a schedule starts one: everything opened anew."""
    with open_store(source, read_only=True) as here, CommandStore(where.make_backend()) as there:
        there.init()
        report = sync_command_store(here, there)
    assert report.complete
    assert report.conflicts == report.failed == 0
    assert report.read == report.copied + report.duplicates
    return report


def test_a_source_that_is_written_to_all_the_time_loses_nothing(source, where) -> None:
    seconds = scaled(6, 120)
    copied: Counter[str] = Counter()
    with CommandStore(where.make_backend()) as there:
        there.init(create=True)
    script = Path(__file__).with_name("writer.py")
    arguments = [sys.executable, str(script), source, str(RATE), str(seconds), SEED]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as writer:  # noqa: S603 - our own script
        for line in writer.stdout:  # one a second, by the writer's clock
            if line.startswith("committed"):
                break
            report = a_run(source, where)
            copied["runs"] += 1
            copied["while it was written"] += report.copied
            copied["duplicates"] += report.duplicates
    assert writer.returncode == 0
    _, committed, took = line.split()
    assert int(committed) == RATE * seconds

    last = a_run(source, where)
    assert copied["while it was written"] + last.copied == int(committed)
    again = a_run(source, where)
    assert (again.read, again.copied) == (0, 0)
    stored = where.uuids()
    assert len(stored) == len(set(stored)) == int(committed)
    with open_store(source, read_only=True) as here, CommandStore(where.make_backend()) as there:
        there.init()
        for one, other in zip(here.scan(), there.scan(page_size=20_000), strict=True):
            assert one == other
    logger.info(
        "%s to %s: %s commands in %s s, %s, %d copied by the last run",
        source.partition(":")[0],
        where.scheme,
        committed,
        took,
        dict(copied),
        last.copied,
    )
