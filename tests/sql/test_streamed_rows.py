"""Rows that are left behind: their statement ends while its connection is open, not when the collector runs."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from commandstore.sql.rows import PAYLOAD
from commandstore.sql.sequence import up_to

WIDTH = 12


def row(data: bytes) -> tuple[bytes, ...]:
    return tuple(data if at == PAYLOAD.start else b"" for at in range(WIDTH))


class Rows:
    """Says when it was closed; an interrupt may come in the place of a row."""

    def __init__(self, *rows: tuple[bytes, ...] | type[BaseException]) -> None:
        self.rows = rows
        self.closed = False

    def read(self) -> Generator[tuple[bytes, ...], None, None]:
        try:
            for one in self.rows:
                if isinstance(one, type):
                    raise one
                yield one
        finally:
            self.closed = True


def test_rows_behind_the_size_are_left_and_the_statement_is_closed() -> None:
    rows = Rows(row(b"12"), row(b"34"), row(b"56"))
    found, full = up_to(3, rows.read())
    assert (len(found), full, rows.closed) == (2, True, True)


def test_all_rows_within_the_size_come() -> None:
    rows = Rows(row(b"12"), row(b"34"))
    found, full = up_to(1000, rows.read())
    assert (len(found), full, rows.closed) == (2, False, True)


def test_an_interrupt_between_two_rows_closes_the_statement() -> None:
    class Interrupting(tuple):  # the interrupt falls into our own code, while the statement waits
        __slots__ = ()

        def __getitem__(self, at: object) -> object:
            raise KeyboardInterrupt

    rows = Rows(Interrupting())
    reading = rows.read()
    with pytest.raises(KeyboardInterrupt):
        up_to(1000, reading)
    assert rows.closed
