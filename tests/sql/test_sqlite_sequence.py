"""Ids lead the way in a SQLite source: anchors, the horizon, and the walk over a window."""

import sqlite3
import threading
from contextlib import closing

import pytest

from commandstore import StoreUnavailable
from commandstore.command import INT64_MAX, INT64_MIN
from commandstore.contract import Window
from commandstore.drive import run
from commandstore.sql import sequence
from commandstore.testing.comby import GENERATIONS, create_sqlite, insert_sqlite, sample_commands
from sql.sqlite_rows import GOOD, ROWS, database, fill, reader

each_generation = pytest.mark.parametrize("generation", GENERATIONS)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "app.db"


def state_of(store, anchors=()):
    return run(store.core.backend.sequence_state(anchors, ["a mark"]))


def fed(store, window, limit, **filters):
    query, key, rows = store.core.query(filters), None, []
    for _ in range(1000):
        part = run(store.core.backend.feed(query, window, key, limit))
        assert len(part.rows) <= limit
        rows += part.rows
        if (key := part.next_key) is None:
            return rows
    raise AssertionError("the feed never ends")


def execute(path, *statements):
    with closing(sqlite3.connect(path, isolation_level=None)) as app:
        for statement in statements:
            app.execute(statement)


@each_generation
def test_an_empty_table_has_the_horizon_0_and_no_anchors(generation, path):
    create_sqlite(path, generation)
    with reader(path) as store:
        state = state_of(store)
        assert (state.horizon, state.anchors, state.mark, state.settled_marks) == (0, (), None, (True,))


@each_generation
def test_anchors_lie_ever_farther_apart_and_fit_while_their_rows_are_the_same(generation, path):
    database(path, generation, [{"uuid": f"c{n}", "created_at": n} for n in range(100)])
    with reader(path) as store:
        state = state_of(store)
        assert state.horizon == 100
        assert [anchor.id for anchor in state.anchors] == [100, 99, 97, 93, 85, 69, 37]
        assert state_of(store, state.anchors).fits == set(state.anchors)
        execute(path, "UPDATE commands SET domain = 'x' WHERE id = 99", "DELETE FROM commands WHERE id = 97")
        assert {anchor.id for anchor in state_of(store, state.anchors).fits} == {100, 93, 85, 69, 37}


def test_an_anchor_may_be_a_row_that_cannot_be_read(path):
    database(path, "C", [{"uuid": b"\xff", "created_at": b"\xfe", "instance_id": "x", "domain": memoryview(b"\xff")}])
    with reader(path) as store:
        anchors = state_of(store).anchors
        assert anchors[0].command_uuid is None
        assert state_of(store, anchors).fits == set(anchors)
        execute(path, "UPDATE commands SET domain = NULL")
        assert state_of(store, anchors).fits == set()


@each_generation
@pytest.mark.parametrize("limit", [1, 3, 1000])
def test_a_feed_is_the_window_in_order_of_time_and_id(generation, limit, path):
    database(path, generation)
    with closing(sqlite3.connect(path)) as raw:
        raw.text_factory = bytes
        stored = raw.execute("SELECT id, created_at, tenant_uuid FROM commands").fetchall()

    def time(value):
        return (isinstance(value, int), value if isinstance(value, int) else 0)

    with reader(path) as store:
        for low, high in ((0, len(ROWS)), (5, 30), (7, 7), (30, 10**6)):
            for tenant in (None, "a", ""):
                kept = [r for r in stored if tenant is None or (r[2] or b"") == tenant.encode()]
                expected = [r[0] for r in sorted(kept, key=lambda r: (time(r[1]), r[0])) if low < r[0] <= high]
                rows = fed(store, Window(low, high), limit, tenant_uuid=tenant)
                assert [row.key[1] for row in rows] == expected
        run(store.core.backend.feed_end())


def test_a_feed_of_a_session_passes_over_the_others(path):
    rows = [{"uuid": f"c{n}", "created_at": n, "req_ctx": f'{{"senderSessionUuid":"{n % 3}"}}'} for n in range(20)]
    database(path, "C", rows)
    with reader(path) as store:
        found = fed(store, Window(0, 20), 4, session_uuid="1")
        assert [row.record.command_uuid for row in found] == [f"c{n}" for n in range(1, 20, 3)]


def test_a_feed_goes_on_over_rows_that_are_deleted_or_altered_in_the_meantime(path):
    database(path, "C", [{"uuid": f"c{n}", "created_at": n} for n in range(20)])
    with reader(path) as store:
        query, window = store.core.query({}), Window(0, 20)
        first = run(store.core.backend.feed(query, window, None, 5))
        execute(
            path,
            "DELETE FROM commands WHERE id BETWEEN 6 AND 12",
            "UPDATE commands SET created_at = 999 WHERE id = 13",
        )
        second = run(store.core.backend.feed(query, window, first.next_key, 5))
        assert (second.rows, second.next_key) == ([], (9, 10))
        third = run(store.core.backend.feed(query, window, second.next_key, 5))
        assert [row.key for row in third.rows] == [(12, 13), (13, 14), (14, 15)]
        assert third.rows[0].record.created_at == 999


def test_a_feed_ends_a_slice_by_bytes(path, monkeypatch):
    monkeypatch.setattr(sequence, "PAGE_BYTES", 100_000)
    large = [{"uuid": f"c{n}", "created_at": -n, "data_bytes": b"x" * 40_000} for n in range(10)]
    database(path, "C", large)
    with reader(path) as store:
        part = run(store.core.backend.feed(store.core.query({}), Window(0, 10), None, 1000))
        assert [row.key[1] for row in part.rows] == [10, 9, 8]
        assert part.next_key == (-7, 8)
        assert len(fed(store, Window(0, 10), 1000)) == 10


def test_a_feed_of_one_large_row_after_another_reads_no_more_than_a_page(path):
    large = [{"uuid": f"c{n}", "created_at": n, "data_bytes": memoryview(b"x" * 2**24)} for n in range(5)]
    database(path, "C", large)
    with reader(path) as store:
        part = run(store.core.backend.feed(store.core.query({}), Window(0, 5), None, 1000))
        assert (len(part.rows), part.next_key) == (2, (1, 2))
        assert len(fed(store, Window(0, 5), 1000)) == 5
        assert len(run(store.core.backend.page(store.core.query({}), None, 1000)).rows) == 2


def test_rows_are_read_again_by_key_wherever_they_stand_now(path):
    database(path, "C", GOOD)
    with reader(path) as store:
        keys = [row.key for row in fed(store, Window(0, 10), 10)]
        execute(path, "DELETE FROM commands WHERE id = 2", "UPDATE commands SET created_at = 5 WHERE id = 3")
        again = run(store.core.backend.feed_again([*keys[::-1], (None, 77)]))
        assert [row and row.key[1] for row in again] == [10, 9, 8, 7, 6, 5, 4, 3, None, 1, None]
        assert again[7].key == (5, 3)


@pytest.mark.parametrize(
    "columns",
    [
        "id INTEGER",  # no key at all
        "id TEXT PRIMARY KEY",
        "id INT PRIMARY KEY",  # only INTEGER is the row's number
        "id INTEGER PRIMARY KEY DESC",  # this one isn't either, by an old mistake of SQLite
        "id INTEGER, other INTEGER, PRIMARY KEY (id, other)",
    ],
)
@pytest.mark.parametrize("rowid", ["", "WITHOUT ROWID"])
def test_ids_that_are_no_row_numbers_are_no_guide(columns, rowid, path):
    rest = ", instance_id, uuid, tenant_uuid, domain, created_at, data_type, data_bytes, req_ctx"
    names, _, keys = (columns + ", PRIMARY KEY (" if "(" not in columns else columns).partition(", PRIMARY KEY (")
    key = f", PRIMARY KEY ({keys}" if keys else ""
    try:
        execute(path, f"CREATE TABLE commands ({names}{rest}{key}) {rowid}")
    except sqlite3.OperationalError:
        return  # WITHOUT ROWID wants a key
    with reader(path) as store:
        assert state_of(store) is None


def test_a_table_without_rowids_is_no_guide(path):
    rest = "instance_id, uuid, tenant_uuid, domain, created_at, data_type, data_bytes, req_ctx"
    execute(path, f"CREATE TABLE commands (id INTEGER PRIMARY KEY, {rest}) WITHOUT ROWID")
    with reader(path) as store:
        assert state_of(store) is None


@pytest.mark.parametrize("row_id", [0, -1, INT64_MIN, INT64_MAX])
def test_ids_that_sqlite_would_not_have_given_out_are_no_guide(row_id, path):
    """Below 1 lies outside of every window; after the greatest id, SQLite picks ids at random."""
    database(path, "C", GOOD)
    fill(path, [{"id": row_id, "uuid": "by hand", "created_at": 5}])
    with reader(path) as store:
        assert state_of(store) is None
        assert store.get("by hand") is not None


def test_threads_that_walk_one_store_do_not_take_each_others_order(path):
    create_sqlite(path, "A")
    insert_sqlite(path, sample_commands(400))
    with reader(path) as store:
        expected = [row.key for row in fed(store, Window(0, 400), 1000)]
        uuids = [c.command_uuid for c in store.scan()]
        failures = []

        def walk(number):
            try:
                for _ in range(3):
                    rows = fed(store, Window(number, 400), 50)
                    assert [row.key for row in rows] == [key for key in expected if key[1] > number]
                    assert [c.command_uuid for c in store.scan(page_size=90, ascending=number % 2 == 0)] == (
                        uuids if number % 2 == 0 else uuids[::-1]
                    )
                    run(store.core.backend.feed_end())
            except BaseException as error:  # noqa: BLE001 - shown by the test
                failures.append(error)

        threads = [threading.Thread(target=walk, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []


def test_no_room_for_the_order_is_an_error_that_names_the_place(path, monkeypatch):
    create_sqlite(path, "A")
    insert_sqlite(path, sample_commands(2000))
    made = sequence.Spool.__init__

    def small(self):
        made(self)
        self._file.execute("PRAGMA max_page_count=4")

    monkeypatch.setattr(sequence.Spool, "__init__", small)
    with reader(path) as store:
        with pytest.raises(StoreUnavailable, match=r"temporary file.*SQLITE_FULL.*TMPDIR"):
            fed(store, Window(0, 2000), 10)
        with pytest.raises(StoreUnavailable, match="temporary file"):
            list(store.scan())
