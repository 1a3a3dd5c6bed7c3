"""Where the stores of these tests are, and how to read them past the library."""

import base64
import itertools
import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg

from commandstore.command import Command
from commandstore.contract import Backend
from commandstore.memory import MemoryBackend
from commandstore.registry import backend_from_url
from commandstore.testing.conformance import Place


class MemoryPlace(Place):
    def __init__(self, backend: MemoryBackend | None = None) -> None:
        self.backend = backend or MemoryBackend()

    def make_backend(self) -> MemoryBackend:
        return self.backend  # what is in memory is opened again in the same object only

    def raw_uuids(self) -> set[str]:
        return set(self.backend._records)

    def raw_payload(self, command_uuid: str) -> bytes:
        return self.backend._records[command_uuid][0].data


class SqlitePlace(Place):
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "app.db"

    def make_backend(self) -> Backend:
        return backend_from_url(f"sqlite:///{self.file}")

    def make_absent_backend(self) -> Backend:
        return backend_from_url(f"sqlite:///{self.directory / 'absent.db'}")

    def raw_uuids(self) -> set[str]:
        return {uuid.decode() for (uuid,) in self._execute("SELECT CAST(uuid AS BLOB) FROM commands")}

    def raw_payload(self, command_uuid: str) -> bytes:
        [(data,)] = self._execute("SELECT CAST(data_bytes AS BLOB) FROM commands WHERE uuid = ?", command_uuid)
        return data

    def damage(self, command_uuid: str) -> None:
        self._execute("UPDATE commands SET domain = CAST(x'ff' AS TEXT) WHERE uuid = ?", command_uuid)

    def _execute(self, statement: str, *values: str) -> list[Any]:
        with closing(sqlite3.connect(self.file, timeout=10)) as connection, connection:
            return connection.execute(statement, values).fetchall()


class PostgresPlace(Place):
    """A database whose tables go before each test: that takes a tenth of the time of a new database."""

    def __init__(self, url: str, empty_url: str) -> None:
        self.url = url
        self.empty_url = empty_url
        self._drop(url)

    def make_backend(self) -> Backend:
        return backend_from_url(self.url)

    def make_absent_backend(self) -> Backend:
        self._drop(self.empty_url)
        return backend_from_url(self.empty_url)

    def raw_uuids(self) -> set[str]:
        return {uuid for (uuid,) in self._read("SELECT uuid FROM commands")}

    def raw_payload(self, command_uuid: str) -> bytes:
        [(data,)] = self._read("SELECT data_bytes FROM commands WHERE uuid = %s", command_uuid)
        return data.encode()

    def holds(self, command: Command) -> bool:
        """Text in Postgres is UTF-8 without NUL, data_bytes too, and comby's instance_id has 32 bits."""
        texts = command.model_dump(exclude={"created_at", "instance_id", "data_bytes"}).values()
        try:
            data = command.data_bytes.decode()
        except UnicodeDecodeError:
            return False
        return -(2**31) <= command.instance_id < 2**31 and "\0" not in "".join([data, *texts])

    def _read(self, statement: str, *values: str) -> list[Any]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(statement, values).fetchall()

    def _drop(self, url: str) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("DROP TABLE IF EXISTS commands, commandstore_registers")


class DynamoDBPlace(Place):
    """A table of its own, with few shards: each costs every list a request."""

    _numbers = itertools.count(1)

    def __init__(self, client: Any, options: str = "") -> None:
        self.client = client
        self.table = f"conformance-{next(self._numbers)}"
        where = f"region={client.meta.region_name}&endpoint_url={client.meta.endpoint_url}"
        self.url = f"dynamodb://{{}}?{where}&tenant_shards=2&time_shards=2{options}"

    def remove(self) -> None:
        for table in self.client.list_tables()["TableNames"]:
            if table in {self.table, f"{self.table}-absent"}:
                self.client.delete_table(TableName=table)

    def make_backend(self) -> Backend:
        return backend_from_url(self.url.format(self.table))

    def make_absent_backend(self) -> Backend:
        return backend_from_url(self.url.format(f"{self.table}-absent"))

    def raw_uuids(self) -> set[str]:
        pages = self.client.get_paginator("scan").paginate(
            TableName=self.table,
            ConsistentRead=True,
            ProjectionExpression="#uuid, part",
            ExpressionAttributeNames={"#uuid": "uuid"},
        )
        items = [item for page in pages for item in page["Items"]]
        heads = {item["uuid"]["S"] for item in items if item["part"]["S"] == "head"}
        # A part without its head would be garbage that somebody pays for.
        parts = {item["uuid"]["S"] for item in items if "." in item["part"]["S"]}
        assert parts <= heads
        return heads

    def raw_payload(self, command_uuid: str) -> bytes:
        pages = self.client.get_paginator("query").paginate(
            TableName=self.table,
            ConsistentRead=True,
            KeyConditionExpression="#uuid = :uuid",
            ExpressionAttributeNames={"#uuid": "uuid"},
            ExpressionAttributeValues={":uuid": {"S": command_uuid}},
        )
        items = {item["part"]["S"]: item for page in pages for item in page["Items"]}
        head = items.pop("head")
        parts = sorted(part for part in items if "." in part)
        if "data" in head:
            assert parts == []
            return head["data"]["B"]
        blob = b"".join(items[part]["payload"]["B"] for part in parts)
        return blob[: int(head["data_length"]["N"])]

    def damage(self, command_uuid: str) -> None:
        self.client.update_item(
            TableName=self.table,
            Key={"uuid": {"S": command_uuid}, "part": {"S": "head"}},
            UpdateExpression="REMOVE #data, digest",
            ExpressionAttributeNames={"#data": "data"},
        )


class S3Place(Place):
    """A prefix of its own in one bucket."""

    _numbers = itertools.count(1)

    def __init__(self, client: Any, bucket: str) -> None:
        self.client = client
        self.bucket = bucket
        self.prefix = f"conformance-{next(self._numbers)}/"
        where = f"region={client.meta.region_name}&endpoint_url={client.meta.endpoint_url}"
        self.url = f"s3://{bucket}/{{}}?{where}"

    def make_backend(self) -> Backend:
        return backend_from_url(self.url.format(self.prefix))

    def make_absent_backend(self) -> Backend:
        return backend_from_url(self.url.format(f"absent-{self.prefix}"))

    def raw_uuids(self) -> set[str]:
        return set(self._rows())

    def raw_payload(self, command_uuid: str) -> bytes:
        row, _ = self._rows()[command_uuid]
        return base64.b64decode(row["data_bytes"])

    def damage(self, command_uuid: str) -> None:
        """Another domain, which nothing but digests and check sums can tell from the right one."""
        row, key = self._rows()[command_uuid]
        body = self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        lines = [
            re.sub(rb'"domain":"[^"]', b'"domain":"~', line) if json.loads(line) == row else line
            for line in body.splitlines(keepends=True)
        ]
        self.client.put_object(Bucket=self.bucket, Key=key, Body=b"".join(lines))

    def _rows(self) -> dict[str, tuple[dict[str, Any], str]]:
        """Every row that counts, by the rules of docs/s3.md: the manifest's, then the inbox's that it doesn't know."""
        manifest = json.loads(self._get("manifest.json"))
        segments = list(manifest["segments"])
        for part in manifest["parts"]:
            segments += json.loads(self._get(f"parts/{part['id']}.json"))["segments"]
        dead = {item["segment"]: set(item["rows"]) for item in manifest["dead"]}
        known = {deleted[0] for deleted in manifest["deleted"]}
        found: dict[str, tuple[dict[str, Any], str]] = {}
        for segment in segments:
            index = json.loads(self._get(f"indexes/{segment['id']}.json"))
            lines = iter(self._get(f"segments/{segment['id']}.jsonl").splitlines() if segment["size"] else [])
            for number, uuid in enumerate(index["command_uuid"]):
                line = None if number in index["deleted"] else next(lines)
                if number in dead.get(segment["number"], ()):
                    continue
                assert uuid not in known, "one uuid has two rows that count"
                known.add(uuid)
                if line is not None:
                    found[uuid] = (json.loads(line), f"{self.prefix}segments/{segment['id']}.jsonl")
        for key in self._keys(f"inbox/{manifest['store']}/"):
            row = json.loads(self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read())
            if row["command_uuid"] not in known:
                found[row["command_uuid"]] = (row, key)
        return found

    def _get(self, key: str) -> bytes:
        return self.client.get_object(Bucket=self.bucket, Key=self.prefix + key)["Body"].read()

    def _keys(self, prefix: str) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix + prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", ())]
