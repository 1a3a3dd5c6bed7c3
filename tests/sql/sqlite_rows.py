"""Databases with what a file may hold and Go never writes, and the order that is to be found in them."""

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

from commandstore import Command, CommandStore, open_store
from commandstore.command import INT64_MAX, INT64_MIN
from commandstore.contract import Slice
from commandstore.drive import run
from commandstore.testing.comby import create_sqlite, raw_insert_sqlite

NANOS = 1_735_689_600_000_000_000
OLD = ["id", "instance_id", "uuid", "tenant_uuid", "domain", "created_at", "data_type", "data_bytes", "req_ctx"]

# Columns of one row each. Bytes become TEXT of just these bytes, a memoryview becomes a BLOB.
GOOD = [
    {"uuid": f"plain-{n}", "created_at": NANOS + n // 3, "tenant_uuid": "ab"[n % 2], "domain": "Order"}
    for n in range(10)
]
ODD = [
    {"uuid": "nothing but a uuid"},
    {"uuid": "another without time", "tenant_uuid": "a"},
    {"uuid": "zero", "created_at": 0},
    {"uuid": "before the epoch", "created_at": -1},
    {"uuid": "first of all", "created_at": INT64_MIN, "instance_id": INT64_MIN},
    {"uuid": "last of all", "created_at": INT64_MAX, "instance_id": INT64_MAX},
    {"uuid": "with NULs", "created_at": 7, "data_bytes": b"a\0b\0", "tenant_uuid": "t\0t", "domain": "\0"},
    {"uuid": "nul\0in it", "created_at": 7},
    {"uuid": "not UTF-8 inside", "created_at": 7, "data_bytes": b"\xff\xfe\0"},
    {"uuid": "a BLOB inside", "created_at": 7, "data_bytes": memoryview(b"\xff{}")},
    {"uuid": "broken context", "created_at": 7, "req_ctx": '{"senderSessionUuid":'},
    {"uuid": "a session", "created_at": 7, "req_ctx": '{"senderSessionUuid":"s1"}'},
    {"uuid": "漢字/../+%", "created_at": 7, "tenant_uuid": "Grüße 🚚"},
    {"uuid": "Z", "created_at": 7},
    {"uuid": "a", "created_at": 7},
    {"uuid": "\U0001f69a", "created_at": 7},
    {"uuid": "\uffee", "created_at": 7},
]
BAD = [
    {"created_at": 8, "data_bytes": b"no uuid at all"},
    {"uuid": "", "created_at": 8},
    {"uuid": b"\xff\xfe", "created_at": 8},
    {"uuid": "bad tenant", "created_at": 8, "tenant_uuid": b"\xff"},
    {"uuid": "bad domain", "created_at": 8, "domain": b"\xff"},
    {"uuid": "bad type", "created_at": 8, "data_type": b"\xff"},
    {"uuid": "bad context", "created_at": 8, "req_ctx": b"\xff"},
    {"uuid": "bad instance", "created_at": 8, "instance_id": "twelve"},
    {"uuid": "a time in words", "created_at": "yesterday"},
    {"uuid": "a time in other words", "created_at": "yesterday"},
    {"uuid": "a time in bad text", "created_at": b"\xff\0\xfe"},
    {"uuid": "a time in bytes", "created_at": memoryview(b"\0\1")},
    {"uuid": "a time in halves", "created_at": 7.5},
    {"uuid": "a time out of range", "created_at": 1e300},
    {"uuid": "an endless time", "created_at": float("inf")},
    {"uuid": memoryview(b"a uuid in bytes"), "created_at": 8},
    {"uuid": "a tenant in bytes", "created_at": 8, "tenant_uuid": memoryview(b"a")},
    {"uuid": "a domain in bytes", "created_at": 8, "domain": memoryview(b"Order")},
    {"uuid": "a type in bytes", "created_at": 8, "data_type": memoryview(b"")},
    {"uuid": "a context in bytes", "created_at": 8, "req_ctx": memoryview(b'{"senderSessionUuid":"s1"}')},
]
ROWS = [*GOOD, *ODD, *BAD]


def fill(path: Path, rows=ROWS) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for row in rows:
            raw_insert_sqlite(connection, **row)


def database(path: Path, generation: str, rows=ROWS, **options) -> Path:
    create_sqlite(path, generation, **options)
    fill(path, rows)
    return path


def reader(path: Path, **options) -> CommandStore:
    return open_store(f"sqlite:///{path}", read_only=True, **options)


def commands(rows=(*GOOD, *ODD)) -> list[Command]:
    """What is to be read of good rows, in the total order."""
    found = []
    for row in rows:
        plain = {"created_at": 0, "data_bytes": b""} | {k: v for k, v in row.items() if k != "uuid"}
        plain["data_bytes"] = bytes(plain["data_bytes"])
        found.append(Command(row["uuid"], **plain))
    # A row without a time reads 0, and stands before all.
    timed = {row["uuid"]: "created_at" in row for row in rows}
    return sorted(found, key=lambda c: (timed[c.command_uuid], c.created_at, c.command_uuid.encode()))


def walk(store: CommandStore, size: int, **query) -> tuple[list[Command], list[str]]:
    """Everything by pages of a size, through cursors: the commands and the messages of the rows that can't be read."""
    good, bad, cursor = [], [], None
    for _ in range(10_000):
        page = store.list(limit=size, cursor=cursor, with_total=False, **query)
        assert len(page.commands) + len(page.corrupt) <= size
        good += page.commands
        bad += [str(error) for error in page.corrupt]
        if (cursor := page.cursor) is None:
            return good, bad
    raise AssertionError("the pages never end")


def slices(store: CommandStore, size: int, *, ascending: bool = True, **filters) -> list[Slice]:
    """The pages as the backend gives them."""
    query, key, found = store.core.query(filters, ascending=ascending), None, []
    while not found or key is not None:
        found.append(run(store.core.backend.page(query, key, size)))
        key = found[-1].next_key
        assert len(found) < 10_000
    return found


def traces(path: Path) -> dict[str, tuple[str, int]]:
    """Every file of the directory: the hash of its bytes, and when it was changed."""
    return {
        file.name: (hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_mtime_ns)
        for file in path.parent.iterdir()
        if not file.name.endswith("-shm")  # what readers hold of it is written into it
    }
