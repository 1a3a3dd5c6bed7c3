"""The index of a segment: everything of its rows but the payloads, by columns. Pure.

A column in which every value is the same (the tenant of a small application, the write id of a batch) is that value
once; one of few values is a table of them and a number for each row.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import accumulate
from operator import itemgetter
from typing import Any, NamedTuple

import orjson

from commandstore.codec import Record
from commandstore.command import INT64_MAX, INT64_MIN, CommandQuery
from commandstore.errors import CorruptRecord
from commandstore.s3.layout import INDEXES, Lines, Stored

__all__ = ["DIGEST", "Index", "Rows"]

FORMAT = 1
DIGEST = 32
_PUT = "inbox_put_id"


class Rows(NamedTuple):
    """A segment that is about to be: rows in the total order, those of deleted commands among them.

    Attributes:
        records: payloads may be missing; they are in the lines.
        write_ids: of each, see :class:`Stored`.
        put_ids: likewise.
        lines: what the segment's object is made of.
        gone: the numbers of the rows that stand for a deleted command. Their line is empty.
    """

    records: Sequence[Record]
    write_ids: Sequence[str]
    put_ids: Sequence[str | None]
    lines: Lines
    gone: frozenset[int] = frozenset()

    @classmethod
    def of(cls, stored: Sequence[Stored], lines: Lines, gone: frozenset[int] = frozenset()) -> Rows:
        """By columns, what came as rows."""
        return cls(
            [one.record for one in stored],
            [one.write_id for one in stored],
            [one.put_id for one in stored],
            lines,
            gone,
        )


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
        # Not by zip(*records): for each record it would make an object that the garbage collector has to look at.
        fields = {name: list(map(itemgetter(place), made.records)) for place, name in enumerate(Record._fields)}
        taken = {name: _Column.of(fields[name]) for name in (*cls._TEXTS, "instance_id", "format")}
        taken["write_id"] = _Column.of(made.write_ids)
        taken["inbox_put_id"] = _Column.of(made.put_ids)
        return cls(
            fields["command_uuid"],
            fields["created_at"],
            taken,
            b"".join(fields["digest"]),
            list(map(len, made.lines.lines)),
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
            index._check()
        except (ValueError, TypeError, KeyError) as error:
            key = f"{INDEXES}{segment_id}.json"
            raise CorruptRecord(
                f"object {key} is no index of a segment, or was altered; restore it from a backup", location=key
            ) from error
        return index

    def _check(self) -> None:
        """Raise ValueError unless every value is of its column's type; at the speed of C, as there are many."""
        numbers = {"instance_id", "format"}
        typed: list[tuple[Sequence[Any], set[type]]] = [(self.uuids, {str})]
        typed += [(values, {int}) for values in (self.created_at, self.lengths, self.checks)]
        typed += [(c.values, {int} if name in numbers else {str}) for name, c in self._columns.items() if name != _PUT]
        typed += [(self._columns[_PUT].values, {str, type(None)}), (list(self.gone), {int})]
        typed += [(column.codes, {int}) for column in self._columns.values() if column.codes is not None]
        if not all(set(map(type, values)) <= types for values, types in typed):
            raise ValueError("a value of another type")
        if self.gone and not 0 <= min(self.gone) <= max(self.gone) < len(self.uuids):
            raise ValueError("a deleted row that is none")
        everywhere = [*self.created_at, *self._columns["instance_id"].values]
        if everywhere and not INT64_MIN <= min(everywhere) <= max(everywhere) <= INT64_MAX:
            raise ValueError("a number of more than 64 bits")

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
        if items and items.count(items[0]) == len(items):  # as most columns are
            return cls([items[0]], None)
        numbers = {value: number for number, value in enumerate(dict.fromkeys(items))}
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
        if column.codes and not 0 <= min(column.codes) <= max(column.codes) < len(column.values):
            raise ValueError("a code without a value")
        return column
