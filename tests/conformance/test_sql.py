"""The conformance suite over comby's table, in SQLite and in Postgres."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from commandstore.testing.conformance import Conformance, CorruptRecordLaws
from commandstore.testing.engines import Postgres
from commandstore.testing.stateful import AgainstMemory
from conformance.places import PostgresPlace, SqlitePlace


@pytest.fixture(scope="module")
def databases(postgres: Postgres) -> Iterator[tuple[str, str]]:
    """Two databases: one for the store, one where there is none."""
    with postgres.database() as url, postgres.database() as empty_url:
        yield url, empty_url


class SqlConformance(Conformance, AgainstMemory):
    keeps_write_ids = False  # comby's table has no column for them


class TestSqlite(SqlConformance, CorruptRecordLaws):
    machine_examples = 20

    @pytest.fixture
    def place(self, tmp_path: Path) -> SqlitePlace:
        return SqlitePlace(tmp_path)


class TestPostgres(SqlConformance):
    machine_examples = 15
    known_deviations: ClassVar = {}

    @pytest.fixture
    def place(self, databases: tuple[str, str]) -> PostgresPlace:
        return PostgresPlace(*databases)
