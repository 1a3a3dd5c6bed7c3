"""Exports: every field comes back from the file, and the file is whole or not there."""

import base64
import hashlib
import io
import json
import os
import subprocess
import sys

import duckdb
import pyarrow.parquet
import pytest

from commandstore import (
    Command,
    CommandStore,
    ConfigurationError,
    CorruptRecord,
    CryptoService,
    ExportReport,
    InvalidQuery,
    StoreClosed,
    codec,
    export,
    export_commands,
    open_store,
)
from commandstore.command import INT64_MAX, INT64_MIN
from commandstore.contract import Row, Slice
from commandstore.ledger import Ed25519Signer, Entry, Leaf, Op
from commandstore.ledger.leaves import hashes_of
from commandstore.ledger.merkle import root_from_path
from commandstore.memory import MemoryBackend

FORMATS = ["jsonl", "parquet"]
CONTEXT = '{"senderSessionUuid": "s-\\u0000", "x": "Grüße"}'
ODD = [
    Command("min", INT64_MIN, INT64_MIN),
    Command("nul\0", 0, 1, "t\0", "w\0", "d\0", "k\0", b"\0", CONTEXT),
    Command("bytes", 0, 2, "t", "w", "d", "k", bytes(range(256)), "{broken"),
    Command("\U0001f600", 0, 3, "漢", data_bytes=b"\xff\xfe\x80", req_ctx='{"n": 9007199254740993}'),
    Command("\uff5e", 0, 3, "\u2028", data_bytes=b'"\n\\'),
    Command("max", INT64_MAX, INT64_MAX, data_bytes=b"x" * 1_000_000),
]


@pytest.fixture(params=["memory", "sqlite", "sqlite-sealed"])
def store(request, tmp_path):
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/app.db"
    crypto = CryptoService(bytes(32)) if request.param.endswith("sealed") else None
    with open_store(url, create=True, crypto=crypto) as store:
        yield store


@pytest.fixture
def filled(store):
    assert len(store.create_many(ODD).created) == len(ODD)
    return store


def rows(path, kind):
    if kind == "parquet":
        return pyarrow.parquet.read_table(path).to_pylist()
    read = [json.loads(line) for line in path.read_text().split("\n")[:-1]]
    return [
        row | {"data_bytes": base64.b64decode(row["data_bytes"]), "digest": bytes.fromhex(row["digest"])}
        for row in read
    ]


@pytest.mark.parametrize("kind", FORMATS)
def test_every_field_comes_back_in_the_total_order(filled, tmp_path, kind):
    path = tmp_path / "out"
    report = export_commands(filled, path, format=kind)
    assert report == ExportReport(len(ODD), path.stat().st_size, 0)
    found = rows(path, kind)
    assert list(found[0]) == [
        *("command_uuid", "created_at", "instance_id", "tenant_uuid", "workspace_uuid", "domain", "data_type"),
        *("session_uuid", "data_bytes", "req_ctx", "digest"),
    ]
    expected = sorted(ODD, key=lambda command: command.position)
    assert [row.pop("digest") for row in found] == [codec.encode(command).digest for command in expected]
    assert [row.pop("session_uuid") for row in found] == [command.session_uuid for command in expected]
    assert [Command(**row) for row in found] == expected


@pytest.mark.parametrize("kind", FORMATS)
def test_nothing_is_a_whole_file_too(store, tmp_path, kind):
    assert export_commands(store, tmp_path / "out", format=kind).commands == 0
    assert rows(tmp_path / "out", kind) == []
    # What is longer than any limit matches nothing, and no engine is asked.
    assert export_commands(store, tmp_path / "out", format=kind, force=True, domain="x" * 9_999).commands == 0


def test_filters_are_those_of_list(filled, tmp_path):
    assert export_commands(filled, tmp_path / "out", tenant_uuid="", before=INT64_MAX).commands == 1
    assert [row["command_uuid"] for row in rows(tmp_path / "out", "jsonl")] == ["min"]
    with pytest.raises(InvalidQuery):
        export_commands(filled, tmp_path / "other", nothing="x")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("kind", FORMATS)
def test_a_stream_is_written_to_and_stays_open(filled, tmp_path, kind):
    stream = io.BytesIO()
    report = export_commands(filled, stream, format=kind)
    assert report.bytes == len(stream.getvalue())
    (tmp_path / "out").write_bytes(stream.getvalue())
    assert len(rows(tmp_path / "out", kind)) == len(ODD)


def test_row_groups_are_bounded_and_pages_shrink_where_payloads_are_large(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_GROUP_BYTES", 50_000)
    monkeypatch.setattr(export, "_PAGE_BYTES", 50_000)
    asked = []

    class Watched(MemoryBackend):
        async def page(self, query, after, limit, *, payload=True):
            asked.append(limit)
            return await super().page(query, after, limit, payload=payload)

    with CommandStore(Watched()) as store:
        store.init()
        # They don't compress, so that a row group weighs what its payloads do.
        blocks = [hashlib.shake_256(b"%d" % n).digest(10_000) for n in range(400)]
        store.create_many(Command(f"{n:03}", n, data_bytes=block) for n, block in enumerate(blocks))
        assert export_commands(store, tmp_path / "out", format="parquet").commands == 400
    assert asked[:5] == [100, 50, 25, 12, 6]
    assert min(asked) >= 1
    metadata = pyarrow.parquet.read_metadata(tmp_path / "out")
    assert metadata.num_row_groups == 80
    assert {metadata.row_group(0).column(i).compression for i in range(11)} == {"ZSTD"}
    assert [row["data_bytes"] for row in rows(tmp_path / "out", "parquet")] == blocks


def test_pages_grow_where_commands_are_small(tmp_path):
    with open_store("memory://") as store:
        store.create_many(Command(f"{n:05}", n // 7) for n in range(2_500))
        assert export_commands(store, tmp_path / "out").commands == 2_500
        assert [row["command_uuid"] for row in rows(tmp_path / "out", "jsonl")] == [
            c.command_uuid for c in store.scan()
        ]


def test_what_is_there_is_replaced_only_by_force(filled, tmp_path):
    path = tmp_path / "out"
    path.write_text("mine")
    (tmp_path / "link").symlink_to(path)
    for taken in (path, tmp_path / "link", str(path)):
        with pytest.raises(ConfigurationError, match="is there already"):
            export_commands(filled, taken)
    assert path.read_text() == "mine"
    export_commands(filled, tmp_path / "link", force=True)
    assert (tmp_path / "link").is_symlink()
    assert len(rows(path, "jsonl")) == len(ODD)


def test_what_appears_during_an_export_is_not_replaced(tmp_path):
    path = tmp_path / "out"

    class Slow(MemoryBackend):
        async def page(self, query, after, limit, *, payload=True):
            path.write_text("another's")
            return await super().page(query, after, limit, payload=payload)

    with CommandStore(Slow()) as store:
        store.init()
        with pytest.raises(ConfigurationError, match="is there already"):
            export_commands(store, path)
    assert path.read_text() == "another's"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("force", [False, True])
def test_a_directory_or_device_is_never_replaced(filled, tmp_path, force):
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path, tmp_path / "pipe", "/dev/null"):
        with pytest.raises(ConfigurationError, match="is not a file"):
            export_commands(filled, place, force=force)


class Broken(MemoryBackend):
    """Its second record can't be read; what comes after the last raises ``at_end``."""

    def __init__(self, at_end=None):
        super().__init__()
        self.at_end = at_end

    async def page(self, query, after, limit, *, payload=True):
        if after is not None and self.at_end:
            raise self.at_end
        found = await super().page(query, after, 2 if self.at_end else limit, payload=payload)
        bad = CorruptRecord("row 2 is no command", command_uuid="c1", location="row 2")
        return Slice([row if row.key[0] != 1 else Row(row.key, None, bad) for row in found.rows], found.next_key)


@pytest.fixture
def broken():
    with CommandStore(Broken()) as store:
        store.init()
        store.create_many(Command(f"c{n}", n) for n in range(4))
        yield store


@pytest.mark.parametrize("kind", FORMATS)
def test_what_can_not_be_read_is_told_and_left_out(broken, tmp_path, kind):
    told = []
    report = export_commands(broken, tmp_path / "out", format=kind, on_corrupt=told.append)
    assert (report.commands, report.corrupt) == (3, 1)
    assert report.to_dict() == {"commands": 3, "bytes": report.bytes, "corrupt": 1}
    assert [error.command_uuid for error in told] == ["c1"]
    assert [row["command_uuid"] for row in rows(tmp_path / "out", kind)] == ["c0", "c2", "c3"]


@pytest.mark.parametrize("kind", FORMATS)
def test_with_nobody_to_tell_it_is_raised_and_no_file_is_left(broken, tmp_path, kind):
    with pytest.raises(CorruptRecord):
        export_commands(broken, tmp_path / "out", format=kind)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", FORMATS)
def test_an_interrupt_leaves_what_was_there(tmp_path, kind):
    (tmp_path / "out").write_text("mine")
    with CommandStore(Broken(KeyboardInterrupt())) as store:
        store.init()
        store.create_many(Command(f"c{n}", n) for n in range(4))
        with pytest.raises(KeyboardInterrupt):
            export_commands(store, tmp_path / "out", format=kind, force=True, on_corrupt=lambda _: None)
    assert (tmp_path / "out").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_full_disk_is_an_os_error(filled, kind):
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(OSError, match="No space left"):  # noqa: PTH123
        export_commands(filled, full, format=kind)


def test_what_can_not_be_is_refused_before_anything_is_touched(tmp_path):
    store = CommandStore(MemoryBackend())
    with pytest.raises(StoreClosed):
        export_commands(store, tmp_path / "out", domain="x" * 9_999)
    store.init()
    with pytest.raises(ConfigurationError, match="unknown format 'csv'; there are: jsonl, parquet"):
        export_commands(store, tmp_path / "out", format="csv")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_pyarrow_is_told_with_its_pip_line(tmp_path):
    # In a process of its own: here it is loaded.
    script = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from commandstore import MissingDependency, export_commands, open_store\n"
        f"try: export_commands(open_store('memory://'), {str(tmp_path / 'out')!r}, format='parquet')\n"
        "except MissingDependency as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout  # noqa: S603
    assert said == "parquet needs the pyarrow package: pip install 'commandstore[parquet]'\n"
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def recorded():
    with CommandStore(MemoryBackend()) as store:
        store.init(signer=Ed25519Signer.generate())
        store.create_many(ODD)
        store.update(ODD[2].model_copy(update={"domain": "other"}))
        yield store


@pytest.mark.parametrize("kind", FORMATS)
def test_with_proofs_each_row_says_where_the_ledger_has_it(recorded, tmp_path, kind):
    path = tmp_path / "out"
    report = export_commands(recorded, path, format=kind, proofs=True)
    assert report == ExportReport(len(ODD), path.stat().st_size, 0, 0)
    assert report.to_dict()["unproven"] == 0
    entries = {e.sequence: e for e in map(Entry.from_json, (tmp_path / "out.ledger.jsonl").read_bytes().splitlines())}
    assert set(entries) == {1, 2}
    found = rows(path, kind)
    assert list(found[0])[11:] == ["ledger_entry", "ledger_op", "ledger_index", "ledger_path", "ledger_digest"]
    for row in found:
        entry = entries[row["ledger_entry"]]
        digest, nodes = row["ledger_digest"], row["ledger_path"]
        if kind == "jsonl":
            digest, nodes = bytes.fromhex(digest), [bytes.fromhex(node) for node in nodes]
        assert digest == row["digest"]
        [leaf] = hashes_of([Leaf(Op[row["ledger_op"].upper()], row["command_uuid"], digest, row["created_at"])])
        assert root_from_path(leaf, row["ledger_index"], entry.count, nodes).hex() == entry.root
    assert [row["ledger_op"] for row in found].count("update") == 1


@pytest.mark.parametrize("kind", FORMATS)
def test_a_row_that_the_ledger_does_not_know_has_nulls(recorded, tmp_path, kind):
    recorded.core.backend._records["new"] = (codec.encode(Command("new", 7)), "")
    recorded.core.backend._order = None
    report = export_commands(recorded, tmp_path / "out", format=kind, proofs=True)
    assert (report.commands, report.unproven) == (len(ODD) + 1, 1)
    [row] = [row for row in rows(tmp_path / "out", kind) if row["command_uuid"] == "new"]
    assert list(row.values())[11:] == [None] * 5


def test_proofs_come_in_two_files_or_in_none(recorded, tmp_path):
    with pytest.raises(ConfigurationError, match="need a file with a name"):
        export_commands(recorded, io.BytesIO(), proofs=True)
    (tmp_path / "out.ledger.jsonl").write_text("mine")
    with pytest.raises(ConfigurationError, match="is there already"):
        export_commands(recorded, tmp_path / "out", proofs=True)
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("out.ledger.jsonl", "mine")]
    export_commands(recorded, tmp_path / "out", proofs=True, force=True)
    assert (tmp_path / "out.ledger.jsonl").read_text() != "mine"


@pytest.mark.parametrize("kind", FORMATS)
def test_duckdb_reads_it(store, tmp_path, kind):
    store.create_many(
        Command(f"c{n}", INT64_MAX - n, INT64_MIN + n, f"tenant-{n % 3}", data_bytes=b"\xff%d" % n) for n in range(100)
    )
    path = tmp_path / f"out.{kind}"
    export_commands(store, path, format=kind)
    read, data, digest = (
        (f"read_parquet('{path}')", "data_bytes", "digest")
        if kind == "parquet"
        else (f"read_json('{path}', format='newline_delimited')", "from_base64(data_bytes)", "unhex(digest)")
    )
    with duckdb.connect() as connection:
        tenants = connection.execute(
            f"SELECT tenant_uuid, count(*), max(created_at), min(instance_id) FROM {read} GROUP BY 1 ORDER BY 1"  # noqa: S608
        ).fetchall()
        payloads = connection.execute(f"SELECT {data}, {digest} FROM {read} WHERE command_uuid = 'c7'").fetchall()  # noqa: S608
    assert tenants == [
        ("tenant-0", 34, INT64_MAX, INT64_MIN),
        ("tenant-1", 33, INT64_MAX - 1, INT64_MIN + 1),
        ("tenant-2", 33, INT64_MAX - 2, INT64_MIN + 2),
    ]
    assert payloads == [(b"\xff7", codec.encode(store.get("c7")).digest)]
