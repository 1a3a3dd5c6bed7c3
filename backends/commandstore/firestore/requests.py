"""What requests are made of: writes with their preconditions, queries with their cursors, batches within limits. Pure.

A query comes out with its filters and orders in the order given, which is the order of the composite index that
serves it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from google.cloud.firestore_v1.types import query as queries
from google.cloud.firestore_v1.types import write

from commandstore.firestore.values import Plain, encode, fill, set_timestamp

__all__ = [
    "BATCH_BYTES",
    "BATCH_WRITES",
    "EMULATOR_BATCH_BYTES",
    "NAME",
    "Cursor",
    "Filter",
    "Order",
    "create",
    "cut",
    "delete",
    "index_command",
    "put",
    "query",
]

BATCH_WRITES = 500
# The engine takes 10 MiB a request, the emulator 4 MiB of any message.
BATCH_BYTES = 9_000_000
EMULATOR_BATCH_BYTES = 3_500_000

NAME = "__name__"
"""What queries call the name of a document; its values are whole names."""

_Write: Any = write.Write.pb()
_StructuredQuery: Any = queries.StructuredQuery.pb()
# Of a field beside its number and its length, with room to spare.
_FRAME = 8

Comparison = Literal["==", "<", "<=", ">", ">=", "in"]
_Operator = queries.StructuredQuery.FieldFilter.Operator
_OPERATORS: dict[Comparison, int] = {
    "==": int(_Operator.EQUAL),
    "<": int(_Operator.LESS_THAN),
    "<=": int(_Operator.LESS_THAN_OR_EQUAL),
    ">": int(_Operator.GREATER_THAN),
    ">=": int(_Operator.GREATER_THAN_OR_EQUAL),
    "in": int(_Operator.IN),
}
_EQUAL = {_OPERATORS["=="], _OPERATORS["in"]}
_AND = int(queries.StructuredQuery.CompositeFilter.Operator.AND)
_ASCENDING = int(queries.StructuredQuery.Direction.ASCENDING)
_DESCENDING = int(queries.StructuredQuery.Direction.DESCENDING)


class Filter(NamedTuple):
    """A field's value compared with another; ``in`` with each of a list of at most 30."""

    field: str
    comparison: Comparison
    value: Plain


class Order(NamedTuple):
    """What a query is ordered by, first to last."""

    field: str
    ascending: bool = True


class Cursor(NamedTuple):
    """Where a query starts: a value for each order, of which later ones may be left out.

    Attributes:
        values: in the order of the orders; of :data:`NAME` the whole name.
        inclusive: whether what has these values is part of the answer.
    """

    values: Sequence[Plain]
    inclusive: bool = False


def create(name: str, values: Mapping[str, Plain]) -> Any:
    """A write that succeeds only where there is no such document."""
    message = _Write()
    message.current_document.exists = False
    message.update.name = name
    fill(message.update.fields, values)
    return message


def put(
    name: str, values: Mapping[str, Plain], *, exists: Literal[True] | None = None, update_time: int | None = None
) -> Any:
    """A write of a whole document.

    Args:
        name: whole.
        values: all fields; those that it had before are gone.
        exists: only where there is one.
        update_time: only where it was last written at this time.
    """
    message = _Write()
    _condition(message, exists, update_time)
    message.update.name = name
    fill(message.update.fields, values)
    return message


def delete(name: str, *, exists: Literal[True] | None = None, update_time: int | None = None) -> Any:
    """A removal; without a condition it also succeeds where there is nothing."""
    message = _Write()
    _condition(message, exists, update_time)
    message.delete = name
    return message


def _condition(message: Any, exists: bool | None, update_time: int | None) -> None:
    if update_time is not None:
        set_timestamp(message.current_document.update_time, update_time)
    elif exists is not None:
        message.current_document.exists = exists


def query(
    collection: str,
    *,
    where: Sequence[Filter] = (),
    order: Sequence[Order] = (),
    start: Cursor | None = None,
    end: Cursor | None = None,
    limit: int | None = None,
    fields: Sequence[str] | None = None,
) -> Any:
    """A structured query over one collection. There is no offset: skipped documents would be billed.

    Args:
        collection: its last name, below the parent that the query is sent with.
        where: all must hold.
        order: first to last.
        start: the answer begins after (or at) this.
        end: the answer ends before (or at) this.
        limit: at most so many.
        fields: only these come; none at all with ``()``.
    """
    message = _StructuredQuery()
    message.from_.add().collection_id = collection
    if fields is not None:
        for field in fields or (NAME,):
            message.select.fields.add().field_path = field
    if len(where) == 1:
        _filter(message.where, where[0])
    elif where:
        message.where.composite_filter.op = _AND
        for one in where:
            _filter(message.where.composite_filter.filters.add(), one)
    for field, ascending in order:
        added = message.order_by.add()
        added.field.field_path = field
        added.direction = _ASCENDING if ascending else _DESCENDING
    if start is not None:
        _cursor(message.start_at, start, order, before=start.inclusive)
    if end is not None:
        _cursor(message.end_at, end, order, before=not end.inclusive)
    if limit is not None:
        message.limit.value = limit
    return message


def _filter(message: Any, one: Filter) -> None:
    compared = message.field_filter
    compared.field.field_path = one.field
    compared.op = _OPERATORS[one.comparison]
    compared.value.CopyFrom(_operand(one.field, one.value))


def _cursor(message: Any, cursor: Cursor, order: Sequence[Order], *, before: bool) -> None:
    message.before = before
    # A cursor with fewer values than orders is a prefix of the order.
    message.values.extend(_operand(field, value) for (field, _), value in zip(order, cursor.values, strict=False))


def _operand(field: str, value: Plain) -> Any:
    message = encode(value)
    if field == NAME:
        message.reference_value = value
    return message


def index_command(message: Any, project: str, database: str) -> str:
    """The command that makes the composite index which a query needs: what is compared with ``==`` first, then orders.

    Args:
        message: of :func:`query`.
        project: where the index is to be.
        database: in that project.
    """
    filters = message.where.composite_filter.filters or ([message.where] if message.HasField("where") else [])
    equal = [one.field_filter.field.field_path for one in filters if one.field_filter.op in _EQUAL]
    columns = [(field, "ascending") for field in equal]
    columns += [
        (order.field.field_path, "descending" if order.direction == _DESCENDING else "ascending")
        for order in message.order_by
        if order.field.field_path not in equal
    ]
    # The name comes last by itself, in the direction of the field before it.
    if columns and columns[-1][0] == NAME and (len(columns) == 1 or columns[-1][1] == columns[-2][1]):
        columns.pop()
    return " ".join(
        [
            "gcloud firestore indexes composite create",
            f"--project={shlex.quote(project)} --database={shlex.quote(database)} --query-scope=COLLECTION",
            f"--collection-group={shlex.quote(message.from_[0].collection_id)}",
            *(f"--field-config=field-path={field},order={direction}" for field, direction in columns),
        ]
    )


def cut(writes: Sequence[Any], count: int, size: int) -> Iterator[list[int]]:
    """Indexes of writes, in batches of at most so many and so many bytes; one that is larger goes alone."""
    batch: list[int] = []
    taken = 0
    for index, message in enumerate(writes):
        length = message.ByteSize() + _FRAME
        if batch and (len(batch) >= count or taken + length > size):
            yield batch
            batch, taken = [], 0
        batch.append(index)
        taken += length
    if batch:
        yield batch
