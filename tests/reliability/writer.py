"""An application that writes commands into a comby database at a steady rate; run as a script, in a process of its own.

``writer.py URL RATE SECONDS SEED`` writes RATE * SECONDS commands by the clock, prints a line each second, and in the
end how many it committed. Times are those of several machines: they go back now and then, and tie.

Into SQLite each command is a transaction, from three connections in turn. Into Postgres, eight connections hold their
transactions open for up to three seconds, so that ids commit out of order; one in twenty is rolled back, and its
commands are written again under other ids; of one in fifty, the number is taken long before its row is written.
"""

from __future__ import annotations

import itertools
import sqlite3
import sys
import time
from collections.abc import Iterator
from random import Random
from typing import Any

import psycopg

from commandstore.testing.samples import CombyRow, sample_commands

_COLUMNS = ", ".join(CombyRow._fields)
_DATA = CombyRow._fields.index("data_bytes")
_CONNECTIONS = 8
_TURNS = 50  # a second


def main() -> None:
    url, rate, seconds, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    random = Random(seed)  # noqa: S311 - test data
    application = Sqlite(url.removeprefix("sqlite:///")) if url.startswith("sqlite:") else Postgres(url, random)
    rows = commands(random, rate * seconds)
    began = time.monotonic()
    for tick, written in enumerate(paced(rate, rate * seconds, began), 1):
        for row in itertools.islice(rows, written):
            application.write(row)
        application.turn()
        if tick % _TURNS == 0:
            print(tick // _TURNS, flush=True)  # noqa: T201
    committed = application.end()
    print("committed", committed, f"{time.monotonic() - began:.1f}", flush=True)  # noqa: T201


def paced(rate: int, total: int, began: float) -> Iterator[int]:
    """How many commands are due, fifty times a second, until all are."""
    written = 0
    for turn in itertools.count(1):
        time.sleep(max(0.0, began + turn / _TURNS - time.monotonic()))
        due = min(total, turn * rate // _TURNS)
        yield due - written
        written = due
        if written == total:
            return


def commands(random: Random, count: int) -> Iterator[CombyRow]:
    """Commands of now, as the clocks of three machines tell it."""
    skews = [0, -40_000_000, 1_500_000_000]
    for row in sample_commands(count, seed=random.getrandbits(32), payload=200):
        now = time.time_ns() + random.choice(skews)
        yield row._replace(created_at=now // 10_000_000 * 10_000_000 if random.random() < 0.3 else now)


class Sqlite:
    def __init__(self, file: str) -> None:
        self._connections = [sqlite3.connect(file, isolation_level=None, timeout=30) for _ in range(3)]
        for connection in self._connections:
            connection.execute("PRAGMA synchronous=NORMAL")
        self._turns = itertools.cycle(self._connections)
        self._committed = 0

    def write(self, row: CombyRow) -> None:
        next(self._turns).execute(_insert(_COLUMNS, "?"), _values(row))
        self._committed += 1

    def turn(self) -> None:
        pass

    def end(self) -> int:
        for connection in self._connections:
            connection.close()
        return self._committed


class Postgres:
    def __init__(self, url: str, random: Random) -> None:
        self._random = random
        self._connections = [psycopg.connect(url) for _ in range(_CONNECTIONS)]
        self._until = [0.0] * _CONNECTIONS
        self._open: list[list[CombyRow]] = [[] for _ in range(_CONNECTIONS)]
        self._later: list[list[tuple[int, CombyRow]]] = [[] for _ in range(_CONNECTIONS)]
        self._committed = 0

    def write(self, row: CombyRow) -> None:
        at = self._random.randrange(_CONNECTIONS)
        if not self._open[at]:
            longest = 3.0 if self._random.random() < 0.02 else 0.3
            self._until[at] = time.monotonic() + self._random.uniform(0, longest)
        self._open[at].append(row)
        if self._random.random() < 0.02:
            [number] = self._connections[at].execute("SELECT nextval('commands_id_seq')").fetchone() or [0]
            self._later[at].append((int(number), row))
        else:
            self._connections[at].execute(_insert(_COLUMNS), _values(row))

    def turn(self) -> None:
        now = time.monotonic()
        for at, until in enumerate(self._until):
            if self._open[at] and until <= now:
                self._finish(at, give_up=self._random.random() < 0.05)

    def _finish(self, at: int, *, give_up: bool) -> None:
        rows, self._open[at] = self._open[at], []
        later, self._later[at] = self._later[at], []
        for number, row in later:
            self._connections[at].execute(_insert(f"id, {_COLUMNS}"), (number, *_values(row)))
        if give_up:
            self._connections[at].rollback()
            for row in rows:
                self.write(row)
        else:
            self._connections[at].commit()
            self._committed += len(rows)

    def end(self) -> int:
        while any(self._open):
            for at in range(_CONNECTIONS):
                self._finish(at, give_up=False)
        for connection in self._connections:
            connection.close()
        return self._committed


def _insert(columns: str, mark: str = "%s") -> Any:
    marks = ", ".join([mark] * len(columns.split(",")))
    return f"INSERT INTO commands ({columns}) VALUES ({marks})"  # noqa: S608 - our own names


def _values(row: CombyRow) -> tuple[Any, ...]:
    return (*row[:_DATA], row.data_bytes.decode(), *row[_DATA + 1 :])


if __name__ == "__main__":
    main()
