"""The main job, end to end: a comby database into each store by the command line, killed, run twice at once, compared.

``COMMANDSTORE_MAIN_JOB=200000`` makes it the full size, by hand; the default is what a test may take.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from commandstore import open_store
from commandstore.testing.comby import create_sqlite, insert_sqlite, sample_commands
from main_job.destinations import Destination, DynamoDBTable, FirestoreCollection, S3Prefix

COUNT = int(os.environ.get("COMMANDSTORE_MAIN_JOB", "12000"))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Generation C: 1,000 commands on one timestamp, three tenants, payloads from 2 bytes to 2 MB."""
    path = tmp_path_factory.mktemp("main") / "app.db"
    create_sqlite(path, "C")
    insert_sqlite(path, sample_commands(COUNT, tenants=3, ties=1000, payload="mixed"))
    return f"sqlite:///{path}"


@pytest.fixture(params=[DynamoDBTable, S3Prefix, FirestoreCollection])
def destination(request, monkeypatch):
    made = request.param(request.getfixturevalue(request.param.engine))
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    open_store(made.url, create=True).close()
    yield made
    made.remove()


def start(*arguments: str, program: tuple[str, ...] = ("-m", "commandstore")) -> subprocess.Popen[str]:
    command = [sys.executable, *program, *arguments, "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: S603


def start_sync(source: str, destination: Destination, *program: str) -> subprocess.Popen[str]:
    options = {"program": program} if program else {}
    return start("sync", source, destination.url, "--batch-size", str(destination.batch_size), **options)


def document(process: subprocess.Popen[str]) -> dict:
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return json.loads(out)


def finish(process: subprocess.Popen[str]) -> dict:
    report = document(process)
    assert report["complete"]
    assert report["read"] == report["copied"] + report["duplicates"] + report["conflicts"] + report["failed"]
    assert report["conflicts"] == report["failed"] == 0
    return report


def assert_equal_field_by_field(source_url: str, destination: Destination) -> None:
    assert destination.count() == COUNT
    with (
        open_store(source_url, read_only=True) as source,
        open_store(destination.url, read_only=True) as copied,
    ):
        compared = 0
        # Large pages, as the engine looks at all of an index for each query.
        for here, there in zip(source.scan(), copied.scan(page_size=20_000), strict=True):
            assert here == there
            compared += 1
        assert compared == COUNT


def assert_upkeep_changes_no_command(source_url: str, destination: Destination) -> None:
    for command in destination.upkeep:
        document(start(*command, destination.url))
    destination.assert_tidy()
    assert_equal_field_by_field(source_url, destination)


def test_killed_in_the_middle_the_next_run_ends_in_the_same_state_and_a_further_one_copies_nothing(
    source, destination
) -> None:
    killed = start_sync(source, destination, str(Path(__file__).with_name("killed.py")))
    said = killed.communicate(timeout=600)
    assert killed.returncode == -signal.SIGKILL, said
    before = destination.count()
    assert 0 < before < COUNT

    # Requests of the killed process that were on their way may have been carried out after they were counted.
    report = finish(start_sync(source, destination))
    assert 0 < report["copied"] <= COUNT - before
    assert_equal_field_by_field(source, destination)
    assert_upkeep_changes_no_command(source, destination)

    again = finish(start_sync(source, destination))
    assert (again["read"], again["copied"]) == (0, 0)


def test_two_runs_at_once_end_with_every_command_exactly_once(source, destination) -> None:
    runs = [start_sync(source, destination), start_sync(source, destination)]
    reports = [finish(run) for run in runs]
    assert sum(report["copied"] for report in reports) == COUNT
    assert_equal_field_by_field(source, destination)
    assert_upkeep_changes_no_command(source, destination)
