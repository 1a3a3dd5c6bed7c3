"""What lies under ``segments/`` is a table: after a compaction and a collection, one row for each command.

The objects are downloaded, as DuckDB's own way to S3 is an extension that it fetches from the network.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import boto3
import duckdb
import pytest
from botocore.config import Config

from commandstore import codec, open_store
from commandstore.command import Command
from commandstore.store import CommandStore
from commandstore.testing.engines import Engine

Query = Callable[..., list[Any]]

MOMENT = 1_700_000_000_000_000_001
"""In nanoseconds, and no float: the next one that a float can tell is 256 later."""


def a_command(number: int, **fields: Any) -> Command:
    return Command(
        f"8a4e9c6e-0000-4000-8000-{number:012x}",
        MOMENT + number,
        **{
            "instance_id": -(2**62) - number,
            "tenant_uuid": f"tenant-{number % 3}",
            "domain": "Größe\n\"'",
            "data_type": "Order.Place",
            "data_bytes": b"\x00\xff\n%d" % number * (number % 7),
            "req_ctx": '{"senderSessionUuid":"session-1"}',
            **fields,
        },
    )


_numbers = itertools.count(1)


class Filled:
    """A store that came about in every way that there is, what it holds, and its objects."""

    def __init__(self, client: Any, bucket: str, url: str) -> None:
        self._client, self._bucket = client, bucket
        self.commands = {number: a_command(number) for number in range(60)}
        with open_store(url, create=True) as store:
            self._fill(store)

    def _fill(self, store: CommandStore) -> None:
        store.create_many(self.commands[number] for number in range(40))
        for number in range(40, 50):
            store.create(self.commands[number])
        store.create_many(self.commands[number] for number in range(45, 60))
        for number in (3, 42):
            self.commands[number] = a_command(number, data_bytes=b"updated", tenant_uuid="tenant-9")
            assert store.update(self.commands[number])
        for number in (4, 43):
            assert store.delete(self.commands.pop(number).command_uuid)
        self.before = self.keys("segments/")
        store.compact()
        store.gc(0)
        late = {number: a_command(number, req_ctx="") for number in range(60, 70)}
        store.create_many(late.values())
        self.commands |= late

    def keys(self, prefix: str) -> list[str]:
        found = self._client.list_objects_v2(Bucket=self._bucket, Prefix=f"audit/{prefix}")
        return [item["Key"] for item in found["Contents"]]

    def download(self, directory: Path) -> str:
        """All objects under ``segments/``, as a pattern for DuckDB."""
        for key in self.keys("segments/"):
            body = self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()
            (directory / key.rpartition("/")[2]).write_bytes(body)
        return f"{directory}/*"


@pytest.fixture
def filled(engine: Engine) -> Iterator[Filled]:
    settings = Config(s3={"addressing_style": "path"})
    bucket = f"sql-{next(_numbers)}"
    with closing(boto3.client("s3", config=settings, **engine.client_arguments)) as client:
        yield Filled(client, bucket, f"s3://{bucket}/audit?region=us-east-1&endpoint_url={engine.endpoint}")


@pytest.fixture
def query(filled: Filled, tmp_path: Path) -> Iterator[Query]:
    """Run a statement over the table ``commands``, as either way to read JSON has it."""
    (tmp_path / "segments").mkdir()
    files = filled.download(tmp_path / "segments")
    with duckdb.connect() as connection:

        def run(statement: str, *values: object) -> list[Any]:
            [one, other] = [
                connection.execute(f"WITH commands AS (FROM {read}) {statement}", values).fetchall()
                for read in (f"read_json_auto('{files}')", f"read_json('{files}', format='newline_delimited')")
            ]
            assert one == other
            return one

        yield run


def test_each_command_is_one_row(filled: Filled, query: Query) -> None:
    rows = query("SELECT command_uuid::VARCHAR FROM commands ORDER BY created_at")
    assert [uuid for (uuid,) in rows] == [command.command_uuid for _, command in sorted(filled.commands.items())]


def test_a_tenant_s_commands_are_counted(filled: Filled, query: Query) -> None:
    expected = Counter(command.tenant_uuid for command in filled.commands.values())
    assert dict(query("SELECT tenant_uuid, count(*) FROM commands GROUP BY 1 ORDER BY 1")) == expected
    assert expected["tenant-9"] == 2


def test_created_at_is_exact_to_the_nanosecond(filled: Filled, query: Query) -> None:
    assert query("SELECT DISTINCT typeof(created_at), typeof(instance_id) FROM commands") == [("BIGINT", "BIGINT")]
    after = query("SELECT created_at, instance_id FROM commands WHERE created_at > ? ORDER BY 1", MOMENT + 20)
    assert after == [(c.created_at, c.instance_id) for n, c in sorted(filled.commands.items()) if n > 20]
    assert query("SELECT count(*) FROM commands WHERE created_at = ?", MOMENT + 21) == [(1,)]


def test_payloads_digests_and_names_are_what_was_stored(filled: Filled, query: Query) -> None:
    rows = query(
        "SELECT command_uuid::VARCHAR, from_base64(data_bytes), unhex(digest), domain, data_type, req_ctx::VARCHAR, "
        "session_uuid FROM commands ORDER BY created_at"
    )
    assert rows == [
        (c.command_uuid, c.data_bytes, codec.encode(c).digest, c.domain, c.data_type, c.req_ctx, c.session_uuid)
        for _, c in sorted(filled.commands.items())
    ]


def test_nothing_but_lines_of_json_lies_under_segments(filled: Filled) -> None:
    assert len(filled.keys("segments/")) == 2
    assert all(key.endswith(".jsonl") for key in filled.before + filled.keys("segments/"))
    kinds = {key.removeprefix("audit/").partition("/")[0] for key in filled.keys("")}
    assert kinds >= {"manifest.json", "segments", "indexes"}
