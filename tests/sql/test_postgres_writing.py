"""Postgres as a destination: nothing is overwritten, whoever races; what can't be held is said before it is written."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from commandstore import Command, CommandExists, CommandStore, InvalidCommand, open_store, sync_command_store
from commandstore.drive import run
from commandstore.memory import MemoryBackend
from commandstore.testing import comby


@pytest.fixture(params=comby.GENERATIONS)
def generation(request):
    return request.param


@pytest.fixture
def database(postgres_url, generation):
    comby.create_postgres(postgres_url, generation)
    return postgres_url


@pytest.fixture
def other(database):
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


WRITER = """
import sys
from commandstore import Command, open_store
with open_store(sys.argv[1]) as store:
    store.total()
    print("ready", flush=True)
    sys.stdin.readline()
    result = store.create_many(Command(f"c{n}", n, data_bytes=sys.argv[2].encode()) for n in range(3000))
print(len(result.created), len(result.duplicate), len(result.conflicting), len(result.failed))
"""


def test_two_processes_that_write_the_same_uuids_never_overwrite(database, other):
    processes = [
        subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-c", WRITER, database, payload], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for payload in ("one", "two")
    ]
    try:
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        counts = [tuple(map(int, process.communicate(timeout=300)[0].split())) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert sum(created for created, *_ in counts) == 3000
    assert all(
        (created + conflicting, duplicate, failed) == (3000, 0, 0) for created, duplicate, conflicting, failed in counts
    )
    kept = "SELECT data_bytes, count(*), count(DISTINCT uuid) FROM commands GROUP BY 1 ORDER BY 1"
    expected = [(p, c[0], c[0]) for p, c in zip(("one", "two"), counts, strict=True) if c[0]]
    assert other.execute(kept).fetchall() == expected


def test_an_application_that_writes_the_same_uuid_at_the_moment_wins_or_loses_whole(database, other):
    with open_store(database) as store, psycopg.connect(database) as application, ThreadPoolExecutor(1) as pool:
        application.execute("INSERT INTO commands (uuid, created_at, data_bytes) VALUES ('x', 1, 'theirs')")
        ours = pool.submit(store.create_many, [Command("x", 1, data_bytes=b"ours"), Command("y", 1)])
        waits = "SELECT 1 FROM pg_locks WHERE NOT granted"
        while not other.execute(waits).fetchone():
            assert not ours.done()
        application.commit()
        result = ours.result()
        assert (result.created, result.conflicting) == (("y",), ("x",))
        assert store.get("x").data_bytes == b"theirs"


def test_writing_does_not_wait_for_an_application_that_writes_something_else(postgres_url):
    comby.create_postgres(postgres_url, "C")
    with open_store(postgres_url) as store, psycopg.connect(postgres_url) as application:
        application.execute("INSERT INTO commands (uuid) VALUES ('open for long')")
        store.create(Command("x", 1))
        assert store.get("x") is not None


def test_a_duplicate_is_an_error_and_changes_nothing(database):
    with open_store(database) as store:
        store.create(Command("x", 1, data_bytes=b"first"))
        with pytest.raises(CommandExists) as caught:
            store.create(Command("x", 2, data_bytes=b"second"))
        assert caught.value.existing.data_bytes == b"first"
        assert store.create_many([Command("x", 1, data_bytes=b"first"), Command("y", 1)]).duplicate == ("x",)


BAD = {
    "NUL in the payload": {"data_bytes": b"a\0b"},
    "NUL in a name": {"domain": "a\0b"},
    "no UTF-8": {"data_bytes": b"\xff"},
    "instance too large": {"instance_id": 2**31},
    "instance too small": {"instance_id": -(2**31) - 1},
}


@pytest.mark.parametrize("fields", BAD.values(), ids=BAD)
def test_what_a_column_can_not_hold_is_said_before_anything_is_written(database, other, fields):
    with open_store(database) as store:
        with pytest.raises(InvalidCommand, match="'bad'"):
            store.create(Command("bad", 1, **fields))
        result = store.create_many([Command("a", 1), Command("bad", 1, **fields), Command("b", 1)])
        assert (result.created, [f.command_uuid for f in result.failed]) == (("a", "b"), ["bad"])
        with pytest.raises(InvalidCommand):
            store.update(Command("a", 1, **fields))
        assert other.execute("SELECT last_value FROM commands_id_seq").fetchone() == (2,)
        assert store.get("a\0") is None
        assert store.total(domain="a\0b") == 0
        assert not store.delete("a\0")


def test_a_workspace_needs_a_column(database, generation):
    with open_store(database) as store:
        command = Command("w", 1, workspace_uuid="here")
        if generation in {"A", "B"}:
            with pytest.raises(InvalidCommand, match="workspace_uuid"):
                store.create(command)
        else:
            store.create(command)
            assert store.get("w") == command


def test_a_constraint_that_an_operator_added_refuses_its_command_alone(postgres_url):
    comby.create_postgres(postgres_url, "C")
    with psycopg.connect(postgres_url, autocommit=True) as other:
        other.execute("ALTER TABLE commands ADD CHECK (domain <> 'no')")
    with open_store(postgres_url) as store:
        commands = [Command(f"c{n:03}", n, domain="no" if n in {7, 400} else "") for n in range(500)]
        result = store.create_many(commands)
        assert [failure.command_uuid for failure in result.failed] == ["c007", "c400"]
        assert all(isinstance(failure.error, InvalidCommand) for failure in result.failed)
        assert len(result.created) == store.total() == 498


def test_large_values_come_back_as_they_went(database):
    large = Command("large", 1, data_bytes=b"x" * (16 << 20), req_ctx='{"a":"' + "ü" * 1_000_000 + '"}')
    with open_store(database) as store:
        store.create(large)
        store.create_many([Command(f"c{n}", 2, data_bytes=b"%d" % n * 1_000_000) for n in range(10, 30)])
        assert store.get("large") == large
        assert sum(1 for _ in store.scan()) == 21
        with CommandStore(MemoryBackend()) as copy:
            copy.init()
            assert sync_command_store(store, copy, batch_size=500).copied == 21
            assert copy.get("large") == large


# Making tables


def test_racing_openers_make_one_table(postgres_url):
    start = threading.Barrier(6)

    def opens(_):
        start.wait()
        with open_store(postgres_url, create=True) as store:
            return store.total()

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(opens, range(6))) == [0] * 6


def registers(other):
    return other.execute("SELECT to_regclass('commandstore_registers') IS NOT NULL").fetchone()[0]


def test_the_registers_table_is_made_by_the_first_swap_and_in_no_source(database, other):
    with open_store(database) as store, CommandStore(MemoryBackend()) as memory:
        memory.init()
        store.create(Command("x", 1))
        sync_command_store(store, memory)
        assert run(store.core.backend.register_get("checkpoint")) is None
        assert not registers(other)
        sync_command_store(memory, store)
        assert registers(other)
        store.reset()
        assert registers(other)
        assert sync_command_store(memory, store).copied == 1


def test_of_racing_swappers_one_wins_each_round(postgres_url):
    comby.create_postgres(postgres_url, "C")
    start = threading.Barrier(8)

    def swaps(number):
        with open_store(postgres_url) as store:
            backend = store.core.backend
            won = 0
            for turn in range(10):
                start.wait()
                found = run(backend.register_get(f"r{turn}"))
                expected = found.token if found else None
                start.wait()
                token = f"{number}/{turn}"
                won += run(backend.register_swap(f"r{turn}", b"%d" % number, expected=expected, token=token))
            return won

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(swaps, range(8))) == 10


def test_a_swap_whose_answer_was_lost_knows_itself(postgres_url):
    comby.create_postgres(postgres_url, "C")
    with open_store(postgres_url) as store:
        backend = store.core.backend
        assert run(backend.register_swap("r", b"1", expected=None, token="one"))
        assert run(backend.register_swap("r", b"1", expected=None, token="one"))
        assert not run(backend.register_swap("r", b"2", expected=None, token="two"))
        assert run(backend.register_get("r")) == (b"1", "one")
