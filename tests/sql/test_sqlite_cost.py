"""What a page costs does not grow with what lies before it, in every generation."""

import sqlite3
from contextlib import closing

import pytest

from commandstore.contract import Window
from commandstore.drive import run
from commandstore.sql import sqlite as sqlite_backend
from commandstore.testing.comby import create_sqlite, insert_sqlite, sample_commands
from sql.sqlite_rows import reader

ROWS, PAGE = 30_000, 500
TABLES = [("A", False), ("B", False), ("C", False), ("C'", False), ("C", True)]


@pytest.fixture(scope="module", params=TABLES, ids=str)
def path(request, tmp_path_factory):
    generation, events = request.param
    made = tmp_path_factory.mktemp("cost") / "app.db"
    rows = list(sample_commands(ROWS, payload=100, ties=50))
    create_sqlite(made, generation, events=events, older=rows if generation == "C'" else ())
    if generation != "C'":
        insert_sqlite(made, rows)
    return made


@pytest.fixture
def steps(monkeypatch):
    """Counts the steps of SQLite's virtual machine: work, on every machine the same, where time is not."""
    counted = [0]
    connect = sqlite_backend.connect

    def counting(*arguments):
        connection = connect(*arguments)

        def count():
            counted[0] += 100

        connection.set_progress_handler(count, 100)
        return connection

    monkeypatch.setattr(sqlite_backend, "connect", counting)

    def taken():
        found, counted[0] = counted[0], 0
        return found

    return taken


def costs(read, steps):
    """What each page costs, the first one aside: it may prepare the others."""
    key, found = None, []
    while True:
        part = read(key)
        found.append(steps())
        if (key := part.next_key) is None:
            return found[1:-1]


@pytest.mark.parametrize("ascending", [True, False])
@pytest.mark.parametrize("tenant", [False, True])
def test_a_page_at_the_end_costs_what_one_at_the_start_does(ascending, tenant, path, steps):
    with reader(path) as store:
        filters = {"tenant_uuid": store.list(limit=1).commands[0].tenant_uuid} if tenant else {}
        query = store.core.query(filters, ascending=ascending)
        steps()
        found = costs(lambda key: run(store.core.backend.page(query, key, PAGE)), steps)
        assert len(found) > 10
        assert max(found) < 2 * min(found)
        assert max(found) < 400 * PAGE


def test_a_slice_of_a_feed_at_the_end_costs_what_one_at_the_start_does(path, steps):
    with reader(path) as store:
        query, window = store.core.query({}), Window(0, ROWS)
        found = costs(lambda key: run(store.core.backend.feed(query, window, key, PAGE)), steps)
        assert len(found) > 10
        assert max(found) < 2 * min(found)
        assert max(found) < 100 * PAGE


def test_a_small_window_at_the_end_costs_nothing_of_what_lies_before(path, steps):
    with reader(path) as store:
        steps()
        state = run(store.core.backend.sequence_state([], []))
        run(store.core.backend.sequence_state(state.anchors, []))
        rows = run(store.core.backend.feed(store.core.query({}), Window(ROWS - 10, ROWS), None, PAGE)).rows
        assert len(rows) == 10
        assert steps() < 20_000


def test_a_whole_scan_without_an_index_on_time_reads_the_order_once(path, steps):
    with reader(path) as store:
        steps()
        assert sum(1 for _ in store.scan(page_size=PAGE)) == ROWS
        assert steps() < 120 * ROWS


def test_no_index_is_used_that_is_wrong_or_sorts_a_large_tenant(path):
    with reader(path) as store, closing(sqlite3.connect(path)) as raw:
        raw.create_function("utf8", 3, lambda *_: b"")
        table = store.core.backend._table
        query = store.core.query({"tenant_uuid": "t", "workspace_uuid": "w", "domain": "d", "data_type": "y"})
        for statement in (
            table.page(query, None, 10, nulls=False),
            table.page(query, (5, "63", 3), 10, nulls=False),
            table.count(query),
            table.order_of(query),
            table.count_of(query),
        ):
            values = statement.values | {"low": 0, "high": 5, "limit": 5}
            plan = str(raw.execute(f"EXPLAIN QUERY PLAN {statement.sql}", values).fetchall())
            assert "workspace_index" not in plan
            if "ORDER BY created_at" in statement.sql:
                assert "tenant_index" not in plan
