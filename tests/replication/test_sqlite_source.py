"""The laws of the sync, attacked with real SQLite sources."""

import shutil
import sqlite3
import threading
from contextlib import closing, suppress

import pytest

from commandstore import Command, CommandStore, CryptoService, SyncError, open_store, sync_command_store
from commandstore.command import INT64_MAX
from commandstore.memory import MemoryBackend
from commandstore.testing.comby import GENERATIONS, create_sqlite, insert_sqlite, migrate_sqlite, sample_commands
from replication.sequence_model import Kill, Mortal
from sql.sqlite_rows import BAD, ROWS, commands, database, fill, reader

each_generation = pytest.mark.parametrize("generation", GENERATIONS)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "app.db"


def opened(backend=None) -> CommandStore:
    store = CommandStore(backend or MemoryBackend())
    store.init()
    return store


def rows(*numbers, **fields):
    return [{"uuid": f"c{n}", "created_at": n, "tenant_uuid": "ab"[n % 2]} | fields for n in numbers]


def execute(path, statement, *values):
    with closing(sqlite3.connect(path, isolation_level=None)) as app:
        app.execute(statement, values)


def sync(path, destination, **options):
    with reader(path) as source:
        report = sync_command_store(source, destination, **options)
    assert report.read == report.copied + report.duplicates + report.conflicts + report.failed
    return report


def same(path, destination) -> bool:
    with reader(path) as source:
        return list(destination.scan()) == sorted(source.scan(), key=lambda c: c.position)


@each_generation
def test_every_command_arrives_and_a_second_run_copies_nothing(generation, path):
    create_sqlite(path, generation)
    insert_sqlite(path, sample_commands(700, payload="mixed", ties=150))
    destination = opened()
    assert sync(path, destination, batch_size=64).copied == 700
    assert same(path, destination)
    assert sync(path, destination).read == 0


@each_generation
@pytest.mark.parametrize("batch_size", [1, 3, 1000])
def test_odd_rows_arrive_and_bad_ones_are_parked(generation, batch_size, path):
    database(path, generation)
    destination = opened()
    report = sync(path, destination, batch_size=batch_size, skip_on_error=True)
    assert (report.copied, report.failed) == (len(ROWS) - len(BAD), len(BAD))
    assert sorted(destination.scan(), key=lambda c: c.command_uuid) == sorted(commands(), key=lambda c: c.command_uuid)
    again = sync(path, destination, skip_on_error=True)
    assert (again.read, again.failed) == (len(BAD), len(BAD))


def test_a_bad_row_stops_the_run_and_is_named(path):
    database(path, "C", [*rows(1, 2), {"created_at": 3}, *rows(4)])
    destination = opened()
    with pytest.raises(SyncError, match="row 3"):
        sync(path, destination, batch_size=1, concurrency=1)
    assert destination.total() == 2


def test_a_parked_row_is_copied_once_it_is_mended(path):
    database(path, "C", [*rows(1), {"created_at": 2}, {"uuid": "c3", "created_at": "words"}, *rows(4)])
    destination = opened()
    report = sync(path, destination, skip_on_error=True)
    assert {str(failure.reason).partition(":")[0].partition(" has")[0] for failure in report.failures} == {
        "row 2",
        "row 3",
    }
    execute(path, "UPDATE commands SET uuid = 'mended' WHERE id = 2")
    assert (sync(path, destination, skip_on_error=True).copied, destination.get("mended").created_at) == (1, 2)
    execute(path, "UPDATE commands SET created_at = 3 WHERE id = 3")
    assert sync(path, destination, skip_on_error=True).copied == 1
    assert sync(path, destination).read == 0
    assert destination.total() == 4


def test_a_parked_row_that_is_gone_is_forgotten(path):
    database(path, "C", [*rows(1), {"created_at": 2}])
    destination = opened()
    sync(path, destination, skip_on_error=True)
    execute(path, "DELETE FROM commands WHERE id = 2")
    assert sync(path, destination).failed == 0


@each_generation
@pytest.mark.parametrize("deleted", [1, 5, 40])
def test_ids_of_deleted_top_rows_that_are_used_again_are_copied(generation, deleted, path):
    database(path, generation, rows(*range(40)))
    destination = opened()
    sync(path, destination)
    execute(path, "DELETE FROM commands WHERE id > ?", 40 - deleted)
    fill(path, rows(*range(100, 100 + deleted)))
    assert sync(path, destination).copied == deleted
    assert destination.total() == 40 + deleted
    assert sync(path, destination).read == 0


def test_ids_that_are_used_again_with_more_rows_behind_them_are_copied(path):
    database(path, "C", rows(*range(40)))
    destination = opened()
    sync(path, destination)
    execute(path, "DELETE FROM commands WHERE id > 30")
    fill(path, rows(*range(100, 160)))
    assert sync(path, destination).copied == 60


@each_generation
def test_a_restored_backup_is_followed_from_where_it_fits(generation, path, tmp_path):
    database(path, generation, rows(*range(30)))
    shutil.copyfile(path, tmp_path / "backup.db")
    destination = opened()
    fill(path, rows(*range(30, 60)))
    sync(path, destination)
    for file in path.parent.glob("app.db-*"):
        file.unlink()
    shutil.copyfile(tmp_path / "backup.db", path)
    fill(path, rows(*range(200, 240)))
    report = sync(path, destination)
    assert report.copied == 40
    assert destination.total() == 100
    assert sync(path, destination).read == 0


def test_another_database_under_the_same_name_is_copied_whole(path, tmp_path):
    database(path, "C", rows(*range(30)))
    database(tmp_path / "other.db", "A", rows(*range(100, 130)))
    destination = opened()
    assert sync(path, destination, source_name="billing").copied == 30
    assert sync(tmp_path / "other.db", destination, source_name="billing").copied == 30
    assert sync(path, destination, source_name="billing").duplicates == 30


def test_a_moved_database_goes_on_under_its_name(path, tmp_path):
    database(path, "C", rows(*range(30)))
    destination = opened()
    sync(path, destination, source_name="billing")
    path.rename(tmp_path / "moved.db")
    for suffix in ("-wal", "-shm"):
        if (beside := tmp_path / f"app.db{suffix}").exists():
            beside.rename(tmp_path / f"moved.db{suffix}")
    assert sync(tmp_path / "moved.db", destination, source_name="billing").read == 0


@each_generation
def test_a_clock_at_the_end_of_time_hides_nothing(generation, path):
    database(path, generation, rows(1, 2, INT64_MAX))
    destination = opened()
    assert sync(path, destination).copied == 3
    fill(path, rows(3, 0, -5))
    assert sync(path, destination).copied == 3
    assert destination.total() == 6


def test_ids_that_are_no_guide_are_followed_by_time_and_key(path):
    database(path, "C", rows(*range(20)))
    fill(path, [{"id": INT64_MAX, "uuid": "the last id", "created_at": 5}])
    destination = opened()
    assert sync(path, destination, batch_size=3).copied == 21
    fill(path, rows(7, uuid="at random"))
    assert sync(path, destination, batch_size=3).copied == 1
    assert destination.total() == 22


@pytest.mark.parametrize("whole_first", [True, False])
def test_runs_of_a_tenant_and_whole_ones_do_not_hide_from_each_other(whole_first, path):
    database(path, "C", rows(*range(20)))
    destination = opened()
    runs = [{}, {"tenant_uuid": "a"}, {"tenant_uuid": "b"}]
    for number, options in enumerate(runs if whole_first else runs[::-1]):
        sync(path, destination, **options)
        fill(path, rows(100 + number, 200 + number, 300 + number))
    sync(path, destination)
    sync(path, destination, tenant_uuid="a")
    assert destination.total() == 29
    assert same(path, destination)
    assert all(sync(path, destination, **options).copied == 0 for options in runs)


@pytest.mark.parametrize("after_effect", [False, True])
@pytest.mark.parametrize("generation", ["A", "C"])
def test_a_crash_at_any_request_loses_and_doubles_nothing(generation, after_effect, path):
    database(path, generation, rows(*range(12)))
    for requests in range(9):
        backend = Mortal()
        destination = opened(backend)
        backend.requests_left, backend.after_effect = requests, after_effect
        with suppress(Kill):  # late ones come after the run's end
            sync(path, destination, batch_size=2, concurrency=1)
        backend.requests_left = None
        assert sync(path, destination, batch_size=2).complete
        assert same(path, destination)
        assert sync(path, destination).read == 0


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_two_runs_at_once_end_with_every_command_once(kind, path, tmp_path):
    create_sqlite(path, "C")
    insert_sqlite(path, sample_commands(600, ties=100))
    shared = MemoryBackend("shared")
    target = f"sqlite:///{tmp_path / 'target.db'}"
    open_store(target, create=True).close()
    barrier, failures, copied = threading.Barrier(2), [], []

    def go():
        try:
            with reader(path) as source, opened(shared) if kind == "memory" else open_store(target) as destination:
                barrier.wait()
                copied.append(sync_command_store(source, destination, batch_size=25).copied)
        except BaseException as error:  # noqa: BLE001 - shown by the test
            failures.append(error)

    threads = [threading.Thread(target=go) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sum(copied) == 600
    with opened(shared) if kind == "memory" else open_store(target) as destination:
        assert same(path, destination)
        assert sync(path, destination).read == 0


def test_two_runs_at_once_may_share_one_source_store(path):
    create_sqlite(path, "A")
    insert_sqlite(path, sample_commands(300))
    failures = []
    with reader(path) as source:

        def go(batch_size):
            try:
                destination = opened()
                assert sync_command_store(source, destination, batch_size=batch_size).copied == 300
            except BaseException as error:  # noqa: BLE001 - shown by the test
                failures.append(error)

        threads = [threading.Thread(target=go, args=(size,)) for size in (7, 20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []


def test_an_application_that_is_upgraded_between_runs_goes_on(path):
    database(path, "A", rows(*range(20)))
    destination = opened()
    sync(path, destination)
    migrate_sqlite(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as app:
        app.execute("INSERT INTO commands (uuid, created_at, workspace_uuid) VALUES ('new', 5, 'w')")
    assert sync(path, destination).read == 1
    assert destination.get("new") == Command("new", 5, workspace_uuid="w")


def test_an_encrypted_source_is_copied_plain(path):
    with open_store(f"sqlite:///{path}", create=True, crypto=CryptoService(b"k" * 32)) as store:
        store.create(Command("c", 1, data_bytes=b"secret"))
    destination = opened()
    with reader(path, crypto=CryptoService(b"k" * 32)) as source:
        assert sync_command_store(source, destination).copied == 1
    assert destination.get("c").data_bytes == b"secret"


def test_a_file_is_a_destination_like_any_other(path, tmp_path):
    create_sqlite(path, "C")
    insert_sqlite(path, sample_commands(300, payload="mixed"))
    with open_store(f"sqlite:///{tmp_path / 'target.db'}", create=True) as destination:
        assert sync(path, destination, batch_size=50).copied == 300
        assert same(path, destination)
        assert sync(path, destination).read == 0


def test_a_store_synced_into_itself_is_left_alone(path):
    database(path, "C", rows(*range(5)))
    with open_store(f"sqlite:///{path}") as same_store:
        assert sync(path, same_store).read == 0
        assert same_store.total() == 5
