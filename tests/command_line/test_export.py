"""``commandstore export``: what it writes where, and how it ends."""

import json
import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pyarrow.parquet
import pytest

from command_line.gate import Gate
from command_line.program import KEY, PAYLOAD
from commandstore import Command, CryptoService, open_store

CONTEXT = '{"senderSessionUuid":"s"}'


@pytest.fixture
def database(tmp_path):
    url = f"sqlite:///{tmp_path}/app.db"
    with open_store(url, create=True) as store:
        store.create_many(
            Command(f"c{n}", n, 0, f"t{n % 2}", "w", "d", "k", b"\xff\0", CONTEXT if n == 3 else "") for n in range(6)
        )
    return url


def uuids(text):
    return [json.loads(line)["command_uuid"] for line in text.splitlines()]


@pytest.mark.parametrize("where", [(), ("-",)])
def test_it_goes_to_stdout_and_the_account_to_stderr(cli, database, where):
    result = cli("export", database, *where)
    assert (result.code, uuids(result.out)) == (0, ["c0", "c1", "c2", "c3", "c4", "c5"])
    assert result.err == f"exported 6 commands, {len(result.out.encode()):,} bytes\n"


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (("--tenant-uuid", "t1"), ["c1", "c3", "c5"]),
        (("--workspace-uuid", ""), []),
        (("--domain", "d", "--before", "2"), ["c0", "c1"]),
        (("--data-type", "k", "--after", "3"), ["c4", "c5"]),
        (("--session-uuid", "s"), ["c3"]),
    ],
)
def test_it_takes_the_filters_of_ls(cli, database, filters, expected):
    assert uuids(cli("export", database, *filters).out) == expected


def test_parquet_goes_to_a_file(cli, database, tmp_path):
    path = tmp_path / "out.parquet"
    result = cli("export", database, path, "--format", "parquet", "--json")
    assert (result.code, result.err) == (0, f"exported 6 commands, {path.stat().st_size:,} bytes\n")
    assert result.document == {
        "store": database,
        "file": str(path),
        "format": "parquet",
        "commands": 6,
        "bytes": path.stat().st_size,
        "corrupt": 0,
    }
    assert pyarrow.parquet.read_table(path)["data_bytes"].to_pylist() == [b"\xff\0"] * 6


def test_a_file_is_replaced_only_by_force(cli, refused, database, tmp_path):
    path = tmp_path / "out"
    path.write_text("mine")
    assert "--force" in refused("export", database, path)
    assert path.read_text() == "mine"
    result = cli("export", database, path, "--force")
    assert (result.code, result.out, len(uuids(path.read_text()))) == (0, "", 6)


def test_what_can_not_be_is_refused(cli, refused, database, tmp_path):
    assert cli("export", database, "--format", "parquet").err.endswith("only jsonl can go to stdout\n")
    assert "name a FILE" in cli("export", database, "--json").document["error"]["message"]
    assert "there are: jsonl, parquet" in refused("export", database, tmp_path / "out", "--format", "csv")
    assert "No such file or directory" in refused("export", database, tmp_path / "nowhere" / "out")
    refused("export", f"sqlite:///{tmp_path}/absent.db", tmp_path / "out")
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith("app.db")]


def test_payloads_are_decrypted_with_the_key(cli, memory, key_file):
    with open_store(memory(), crypto=CryptoService(KEY)) as store:
        store.create(Command("c", 1, data_bytes=PAYLOAD.encode()))
    assert (
        json.loads(cli("export", memory(), "--key-file", key_file).out)["data_bytes"]
        == "eyJpYmFuIjoiREUwMiAxMjAzIDAwMDAgMDAwMCAyMDIwIDUxIn0="
    )
    result = cli("export", memory())
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("unreadable: command 'c' is encrypted")


def test_what_can_not_be_read_is_named_and_the_rest_exported(cli, database, tmp_path):
    with closing(sqlite3.connect(tmp_path / "app.db")) as connection, connection:
        connection.execute("UPDATE commands SET domain = CAST(x'ff' AS TEXT) WHERE uuid = 'c2'")
    result = cli("export", database, tmp_path / "out", "--json")
    assert (result.code, result.document["commands"], result.document["corrupt"]) == (1, 5, 1)
    named, account = result.err.splitlines()
    assert named.startswith("unreadable: row 3: ")
    assert account.endswith(" bytes; 1 can't be read and are left out")
    assert uuids((tmp_path / "out").read_text()) == ["c0", "c1", "c3", "c4", "c5"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_export_leaves_no_file(program, ministack, request, tmp_path, number, code):
    table = f"cli-{abs(hash(request.node.nodeid)):x}"
    with open_store(f"dynamodb://{table}?endpoint_url={ministack.endpoint}", create=True) as store:
        store.create(Command("c", 1))
    with Gate(ministack.endpoint, operation="Query") as gate:
        running = program("export", f"dynamodb://{table}?endpoint_url={gate.endpoint}", tmp_path / "out")
        assert gate.reached.wait(timeout=300)
        running.process.send_signal(number)
        gate.open()
        result = running.result()
    assert (result.code, result.out) == (code, "")
    assert result.err.endswith(f": nothing was written to '{tmp_path}/out'\n")
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_has_gone_ends_it_quietly(program, database):
    reading, writing = os.pipe()
    os.close(reading)
    running = program("export", database, stdout=writing)
    os.close(writing)
    result = running.result()
    assert (result.code, result.err) == (141, "")


def test_a_full_disk_is_said_in_one_line(program, database):
    with Path("/dev/full").open("w") as full:
        result = program("export", database, stdout=full).result()
    assert (result.code, result.err) == (2, "commandstore: error: can't write the output: No space left on device\n")
