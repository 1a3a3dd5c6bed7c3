"""The index of a segment: everything of its rows but the payloads, by columns. Pure.

A column in which every value is the same (the tenant of a small application, the write id of a batch) is that value
once; one of few values is a table of them and a number for each row.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import orjson

from commandstore.codec import Record
from commandstore.command import CommandQuery
from commandstore.errors import CorruptRecord
from commandstore.s3.layout import INDEXES, Lines, Stored

__all__ = ["DIGEST", "Index", "Rows"]

FORMAT = 1
DIGEST = 32


class Rows(NamedTuple):
    """A segment that is about to be: rows in the total order, those of deleted commands among them.

    Attributes:
        rows: payloads may be missing; they are in the lines.
        lines: what the segment's object is made of.
        gone: the numbers of the rows that stand for a deleted command. Their line is empty.
    """

    rows: Sequence[Stored]
    lines: Lines
    gone: frozenset[int] = frozenset()


class Index:
    """What a segment holds. Rows have numbers, from 0, in the total order.

    Attributes:
        uuids: of each row.
        created_at: of each row.
        gone: the rows that stand for a deleted command: they are no commands, and nothing may come in their place by
            the inbox.
        checks: CRC-32 of each line.
        offsets: where each line begins, and at last where the segment ends.
    """

    _TEXTS = ("tenant_uuid", "workspace_uuid", "domain", "data_type", "session_uuid", "cipher")

    def __init__(
        self,
        uuids: list[str],
        created_at: list[int],
        columns: dict[str, _Column],
        digests: bytes,
        lengths: list[int],
        checks: list[int],
        gone: frozenset[int],
    ) -> None:
        self.uuids = uuids
        self.created_at = created_at
        self.gone = gone
        self.checks = checks
        self.lengths = lengths
        self.offsets = [0, *accumulate(lengths)]
        self._columns = columns
        self._digests = digests
        self._rows: dict[str, int] | None = None

    @classmethod
    def of(cls, made: Rows) -> Index:
        """The index of rows."""
        columns = list(zip(*(stored.record for stored in made.rows), strict=True))
        fields = dict(zip(Record._fields, columns, strict=True))
        taken = {name: _Column.of(fields[name]) for name in (*cls._TEXTS, "instance_id", "format")}
        taken["write_id"] = _Column.of([stored.write_id for stored in made.rows])
        taken["inbox_put_id"] = _Column.of([stored.put_id for stored in made.rows])
        return cls(
            list(fields["command_uuid"]),
            list(fields["created_at"]),
            taken,
            b"".join(fields["digest"]),
            [len(line) for line in made.lines.lines],
            made.lines.checks,
            made.gone,
        )

    def encode(self) -> bytes:
        """The object's body."""
        found = {
            "format": FORMAT,
            "rows": len(self.uuids),
            "command_uuid": self.uuids,
            "created_at": self.created_at,
            "columns": {name: column.encode() for name, column in self._columns.items()},
            "digest": base64.b64encode(self._digests).decode("ascii"),
            "length": self.lengths,
            "crc32": self.checks,
            "deleted": sorted(self.gone),
        }
        return orjson.dumps(found)

    @classmethod
    def decode(cls, body: bytes, segment_id: str) -> Index:
        """Read a body.

        Raises:
            CorruptRecord: it is no index; names the object.
        """
        try:
            found = orjson.loads(body)
            if found["format"] > FORMAT:
                raise ValueError("a newer format, or another check sum")  # noqa: TRY301 - told below
            count = found["rows"]
            names = (*cls._TEXTS, "instance_id", "format", "write_id", "inbox_put_id")
            index = cls(
                found["command_uuid"],
                found["created_at"],
                {name: _Column.decode(found["columns"][name], count) for name in names},
                base64.b64decode(found["digest"], validate=True),
                found["length"],
                found["crc32"],
                frozenset(found["deleted"]),
            )
            sizes = {len(index.uuids), len(index.created_at), len(index.lengths), len(index.checks), count}
            if len(sizes) != 1 or len(index._digests) != count * DIGEST:
                raise ValueError("columns of different lengths")  # noqa: TRY301 - told below
        except (ValueError, TypeError, KeyError) as error:
            key = f"{INDEXES}{segment_id}.json"
            raise CorruptRecord(
                f"object {key} is no index of a segment, or was altered; restore it from a backup", location=key
            ) from error
        return index

    def __len__(self) -> int:
        return len(self.uuids)

    def key(self, row: int) -> tuple[int, str]:
        """The position of a row."""
        return self.created_at[row], self.uuids[row]

    def digest(self, row: int) -> bytes:
        return self._digests[row * DIGEST : (row + 1) * DIGEST]

    def write_id(self, row: int) -> str:
        value: str = self._columns["write_id"].at(row)
        return value

    def put_id(self, row: int) -> str | None:
        value: str | None = self._columns["inbox_put_id"].at(row)
        return value

    def row_of(self, command_uuid: str) -> int | None:
        """The row of a uuid."""
        if self._rows is None:
            self._rows = {uuid: row for row, uuid in enumerate(self.uuids)}
        return self._rows.get(command_uuid)

    def record(self, row: int) -> Record:
        """The record of a row, without its payload."""
        at = {name: column.at(row) for name, column in self._columns.items()}
        return Record(
            self.uuids[row],
            self.created_at[row],
            at["instance_id"],
            at["tenant_uuid"],
            at["workspace_uuid"],
            at["domain"],
            at["data_type"],
            at["session_uuid"],
            b"",
            "",
            self.digest(row),
            at["cipher"],
            at["format"],
        )

    def stored(self, row: int) -> Stored:
        """As :meth:`record`, with how it came here."""
        return Stored(self.record(row), self.write_id(row), self.put_id(row))

    def matcher(self, query: CommandQuery) -> Callable[[int], bool] | None:
        """Tells of a row whether it passes the filters on names; None where no row of this segment does."""
        wanted: list[tuple[list[int], int]] = []
        for name, value in query.equal_to.items():
            column = self._columns[name]
            code = column.code(value)
            if code is None:
                return None
            if column.codes is not None:
                wanted.append((column.codes, code))
        if not wanted:
            return lambda _: True
        if len(wanted) == 1:
            [(codes, code)] = wanted
            return lambda row: codes[row] == code
        return lambda row: all(codes[row] == code for codes, code in wanted)

    def tenants(self) -> Counter[str]:
        """How many commands each tenant has here."""
        column = self._columns["tenant_uuid"]
        if column.codes is None:
            return Counter({column.values[0]: len(self) - len(self.gone)} if len(self) > len(self.gone) else {})
        codes = Counter(column.codes)
        for row in self.gone:
            codes[column.codes[row]] -= 1
        return Counter({column.values[code]: count for code, count in codes.items() if count})

    def tenant(self, row: int) -> str:
        value: str = self._columns["tenant_uuid"].at(row)
        return value


class _Column(NamedTuple):
    """Values, and for each row the number of its value; no numbers where all rows have the only one."""

    values: list[Any]
    codes: list[int] | None

    @classmethod
    def of(cls, items: Sequence[Any]) -> _Column:
        numbers = {value: number for number, value in enumerate(dict.fromkeys(items))}
        if len(numbers) == 1:
            return cls(list(numbers), None)
        return cls(list(numbers), [numbers[item] for item in items])

    def at(self, row: int) -> Any:
        return self.values[0 if self.codes is None else self.codes[row]]

    def code(self, value: object) -> int | None:
        return self.values.index(value) if value in self.values else None

    def encode(self) -> dict[str, Any]:
        return {"values": self.values, "codes": self.codes}

    @classmethod
    def decode(cls, found: dict[str, Any], count: int) -> _Column:
        column = cls(found["values"], found["codes"])
        if not column.values or (column.codes is not None and len(column.codes) != count):
            raise ValueError("a column of another length")
        if column.codes and max(column.codes) >= len(column.values):
            raise ValueError("a code without a value")
        return column
