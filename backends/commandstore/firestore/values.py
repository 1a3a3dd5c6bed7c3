"""Values of documents: Python's on one side, protobuf messages on the other.

The messages are the plain ones under the SDK's own classes, whose making takes ten times as long. An int64 stays
exact, bytes stay bytes; nothing becomes a float on its way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from google.cloud.firestore_v1.types import document

__all__ = ["Document", "Plain", "decode", "encode", "fill", "from_timestamp", "read", "set_timestamp"]

Plain: TypeAlias = "str | int | bytes | bool | float | list[Plain] | dict[str, Plain] | None"

_Value: Any = document.Value.pb()
_NANOS = 1_000_000_000


class Document(NamedTuple):
    """A document as it was read.

    Attributes:
        name: whole: ``projects/P/databases/D/documents/C/ID``.
        fields: those asked for, of those that are there.
        update_time: nanoseconds since 1970; the engine counts microseconds. A precondition can ask for exactly this.
        create_time: the same; another one means that it was removed meanwhile, and is there again.
    """

    name: str
    fields: dict[str, Any]
    update_time: int
    create_time: int = 0


def fill(fields: Any, values: Mapping[str, Plain]) -> None:
    """Set the fields of a document (a message's map) to these values.

    Raises:
        ValueError: an int beyond 64 bits, or text that isn't Unicode (a lone surrogate).
        TypeError: something that is no :data:`Plain`.
    """
    for name, value in values.items():
        # By exact type, since a bool is an int as well; what isn't one of the frequent ones goes the long way.
        kind = type(value)
        if kind is str:
            fields[name].string_value = value
        elif kind is int:
            fields[name].integer_value = value
        elif kind is bytes:
            fields[name].bytes_value = value
        else:
            _set(fields[name], value)


def encode(value: Plain) -> Any:
    """A value's message, as filters and cursors want it."""
    message = _Value()
    _set(message, value)
    return message


def _set(message: Any, value: Plain) -> None:
    if value is None:
        message.null_value = 0
    elif isinstance(value, bool):
        message.boolean_value = value
    elif isinstance(value, int):
        message.integer_value = value
    elif isinstance(value, str):
        message.string_value = value
    elif isinstance(value, bytes):
        message.bytes_value = value
    elif isinstance(value, float):
        message.double_value = value
    elif isinstance(value, list):
        message.array_value.SetInParent()
        for part in value:
            _set(message.array_value.values.add(), part)
    elif isinstance(value, dict):
        message.map_value.SetInParent()
        fill(message.map_value.fields, value)
    else:
        raise TypeError(f"a document can't hold a {type(value).__name__}")


_SCALARS = frozenset(
    {"string_value", "integer_value", "bytes_value", "boolean_value", "double_value", "reference_value"}
)


def decode(message: Any) -> Any:
    """A value as Python has it.

    Null is None, a reference is its name, a timestamp nanoseconds since 1970. What commands never hold (a place on
    earth, what later versions of the engine may bring) stays the message that it is.
    """
    kind = message.WhichOneof("value_type")
    if kind in _SCALARS:
        return getattr(message, kind)
    if kind == "null_value" or kind is None:
        return None
    if kind == "timestamp_value":
        return from_timestamp(message.timestamp_value)
    if kind == "array_value":
        return [decode(part) for part in message.array_value.values]
    if kind == "map_value":
        return {name: decode(part) for name, part in message.map_value.fields.items()}
    return getattr(message, kind)


def read(message: Any) -> Document:
    """A document from its message."""
    fields = {name: decode(value) for name, value in message.fields.items()}
    return Document(message.name, fields, from_timestamp(message.update_time), from_timestamp(message.create_time))


def from_timestamp(message: Any) -> int:
    """Nanoseconds since 1970, exact."""
    seconds: int = message.seconds
    nanos: int = message.nanos
    return seconds * _NANOS + nanos


def set_timestamp(message: Any, nanoseconds: int) -> None:
    """The reverse of :func:`from_timestamp`, into a message that is there."""
    message.seconds, message.nanos = divmod(nanoseconds, _NANOS)
