"""What a page costs in Postgres: at the end of a table what it costs at its start, counted in blocks that are read."""

from __future__ import annotations

import psycopg
import pytest
from sqlalchemy import text

from commandstore import open_store
from commandstore.command import CommandQuery
from commandstore.contract import Window
from commandstore.sql import postgres_facts
from commandstore.sql.layout import Statement
from commandstore.testing import comby

ROWS = 40_000
TIES = range(10_000, 20_000)
PAGE = 1000

FILL = f"""
INSERT INTO commands (uuid, created_at, instance_id, tenant_uuid, domain, data_type, data_bytes, req_ctx)
SELECT gen_random_uuid(), CASE WHEN n BETWEEN {TIES.start} AND {TIES.stop} THEN {TIES.start} ELSE n END, 1,
       'tenant ' || n % 3, 'domain', 'type', repeat('x', 300), repeat('y', 300)
FROM generate_series(1, {ROWS}) n
"""  # noqa: S608


@pytest.fixture(scope="module", params=["A", "B", "C"])
def database(request, postgres):
    with postgres.database() as url:
        comby.create_postgres(url, request.param)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("ALTER TABLE commands SET (autovacuum_enabled = off)")
            connection.execute(FILL)
            connection.execute("VACUUM ANALYZE commands")
        yield url, request.param


@pytest.fixture
def backend(database):
    with open_store(database[0], read_only=True) as store:
        yield store.core.backend


@pytest.fixture
def generation(database):
    return database[1]


def blocks(backend, statement):
    with backend._reading() as connection:
        explain = text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement.sql}")
        plan = connection.execute(explain, statement.values).scalar_one()[0]["Plan"]
    return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


def key_at(backend, place, *, ascending):
    way = "ASC" if ascending else "DESC"
    order = f'created_at {way}, uuid COLLATE "C" {way}, id {way}'
    with backend._reading() as connection:
        sql = text(f"SELECT created_at, uuid, id FROM commands ORDER BY {order} LIMIT 1 OFFSET {place}")  # noqa: S608
        time, uuid, row_id = connection.execute(sql).one()
    return time, uuid.encode().hex(), row_id


@pytest.mark.parametrize("ascending", [True, False])
@pytest.mark.parametrize("tenant", [None, "tenant 1"])
def test_the_last_page_costs_what_the_first_one_does(backend, ascending, tenant, generation):
    query = CommandQuery(ascending=ascending, tenant_uuid=tenant)

    def cost(place):
        after = key_at(backend, place, ascending=ascending) if place else None
        return blocks(backend, backend._table.page(query, after, PAGE, nulls=False))

    first, last = cost(0), cost(ROWS - PAGE - 1)
    assert last <= 1.5 * first + 20
    if generation != "A":  # which has no index on time
        assert first <= 1000


@pytest.mark.parametrize("ascending", [True, False])
def test_many_commands_of_one_moment_cost_no_more_than_that_moment(backend, ascending, generation):
    place = (TIES.start if ascending else ROWS - TIES.stop) + len(TIES) // 2
    query = CommandQuery(ascending=ascending)
    statement = backend._table.page(query, key_at(backend, place, ascending=ascending), PAGE, nulls=False)
    if generation != "A":
        assert blocks(backend, statement) <= len(TIES) / 4
    page = backend._page(query, key_at(backend, place, ascending=ascending), PAGE)
    assert len({row.key for row in page.rows}) == PAGE


@pytest.mark.parametrize("sql_of", [postgres_facts.by_ids, postgres_facts.large_by_ids])
def test_a_walk_reads_by_id_wherever_it_is(backend, sql_of):
    def stretch(low):
        sql, values = backend._table.order_of(CommandQuery())
        return blocks(backend, Statement(sql, values | {"low": low, "high": ROWS, "limit": PAGE}))

    def rows(low):
        ids = list(range(low, low + PAGE))
        return blocks(backend, Statement(sql_of(backend._table), {"ids": ids, "bytes": 1 << 22}))

    for cost in (stretch, rows):
        first, last = cost(1), cost(ROWS - PAGE)
        assert last <= 1.5 * first + 20
        assert first <= 5 * PAGE


def test_large_payloads_come_by_few_at_once(postgres_url):
    comby.create_postgres(postgres_url, "C")
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO commands (uuid, created_at, data_bytes) "
            "SELECT n, n, repeat('x', CASE WHEN n % 2 = 0 THEN 1000000 ELSE 9 END) FROM generate_series(1, 40) n"
        )
        connection.execute("DELETE FROM commands WHERE id IN (1, 20, 40)")
    with open_store(postgres_url, read_only=True) as store, store.core.backend._reading() as connection:
        backend = store.core.backend
        answers = []
        everything = backend._all
        backend._all = lambda *asked: answers.append(everything(*asked)) or answers[-1]
        ids = list(range(40, 0, -1))
        assert [raw[0] for raw in backend._by_ids(connection, ids)] == [n for n in ids if n not in {1, 20, 40}]
        assert max(sum(len(raw[8]) for raw in rows) for rows in answers) < 6_000_000
        assert len(answers) <= 8


def test_what_is_new_costs_what_is_new(backend):
    sql, values = backend._table.order_of(CommandQuery(tenant_uuid="tenant 1"))
    assert blocks(backend, Statement(sql, values | {"low": ROWS - 10, "high": ROWS, "limit": 20_000})) <= 20


def test_a_walk_gives_every_row_once_in_the_order_of_time(backend):
    seen, after = [], None
    while True:
        found = backend._feed(CommandQuery(), Window(0, ROWS), after, 7_000)
        seen += [row.key for row in found.rows]
        after = found.next_key
        if after is None:
            break
    assert seen == sorted(seen)
    assert len(set(seen)) == ROWS
    backend._drop_spool()
