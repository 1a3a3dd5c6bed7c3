"""The main job, end to end: a comby database into DynamoDB by the command line, killed, run twice at once, compared.

``COMMANDSTORE_MAIN_JOB=200000`` makes it the full size, by hand; the default is a tenth of that.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid

import boto3
import pytest

from commandstore import open_store
from commandstore.testing.comby import create_sqlite, insert_sqlite, sample_commands

COUNT = int(os.environ.get("COMMANDSTORE_MAIN_JOB", "20000"))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Generation C: 1,000 commands on one timestamp, three tenants, payloads from 2 bytes to 2 MB."""
    path = tmp_path_factory.mktemp("main") / "app.db"
    create_sqlite(path, "C")
    insert_sqlite(path, sample_commands(COUNT, tenants=3, ties=1000, payload="mixed"))
    return f"sqlite:///{path}"


@pytest.fixture
def table(ministack, monkeypatch):
    for name, value in ministack.client_arguments.items():
        if name.startswith("aws_"):
            monkeypatch.setenv(name.upper(), value)
    name = f"commands-{uuid.uuid4().hex[:8]}"
    region = ministack.client_arguments["region_name"]
    url = f"dynamodb://{name}?region={region}&endpoint_url={ministack.endpoint}"
    open_store(url, create=True).close()
    yield name, url
    client = boto3.client("dynamodb", **ministack.client_arguments)
    client.delete_table(TableName=name)
    client.close()


def start(source: str, destination: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "commandstore", "sync", source, destination, "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: S603


def finish(process: subprocess.Popen[str]) -> dict:
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    report = json.loads(out)
    assert report["complete"]
    assert report["read"] == report["copied"] + report["duplicates"] + report["conflicts"] + report["failed"]
    assert report["conflicts"] == report["failed"] == 0
    return report


def assert_equal_field_by_field(source_url: str, destination_url: str) -> None:
    with open_store(source_url, read_only=True) as source, open_store(destination_url, read_only=True) as destination:
        compared = 0
        # Large pages, as the engine looks at all of an index for each query.
        for here, there in zip(source.scan(), destination.scan(page_size=20_000), strict=True):
            assert here == there
            compared += 1
        assert compared == COUNT


def heads_in(table: str, ministack) -> int:
    """How many commands lie in the table, counted without the store: heads alone are in the index."""
    client = boto3.client("dynamodb", **ministack.client_arguments)
    pages = client.get_paginator("scan").paginate(TableName=table, IndexName="by_time", Select="COUNT")
    count = sum(page["Count"] for page in pages)
    client.close()
    return count


def test_killed_in_the_middle_the_next_run_ends_in_the_same_state_and_a_further_one_copies_nothing(
    source, table, ministack
) -> None:
    name, url = table
    killed = start(source, url)
    for line in killed.stderr:  # the first progress that says that something was copied
        if any(part.isdigit() and int(part) > 0 for part in line.replace(",", "").split()):
            break
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    before = heads_in(name, ministack)
    assert 0 < before < COUNT

    report = finish(start(source, url))
    assert report["copied"] + before == COUNT
    assert_equal_field_by_field(source, url)
    assert heads_in(name, ministack) == COUNT

    again = finish(start(source, url))
    assert (again["read"], again["copied"]) == (0, 0)


def test_two_runs_at_once_end_with_every_command_exactly_once(source, table, ministack) -> None:
    name, url = table
    runs = [start(source, url), start(source, url)]
    reports = [finish(run) for run in runs]
    assert sum(report["copied"] for report in reports) == COUNT
    assert heads_in(name, ministack) == COUNT
    assert_equal_field_by_field(source, url)
