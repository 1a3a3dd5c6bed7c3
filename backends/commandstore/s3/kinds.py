"""JSON's values by the type that they must have: what lies in a bucket can be altered by hand. Pure.

Each returns its value, and raises TypeError or ValueError where it is another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from commandstore.command import is_int64

__all__ = ["count_by_name", "counts", "number", "numbers", "position", "text"]


def number(value: Any) -> int:
    """A whole number from 0 on."""
    if type(value) is not int or value < 0:
        raise TypeError("no number")
    return value


def numbers(values: Any) -> tuple[int, ...]:
    """A list of such."""
    return tuple(number(value) for value in values)


def text(value: Any) -> str:
    """A text."""
    if type(value) is not str:
        raise TypeError("no text")
    return value


def position(value: Any) -> tuple[int, str]:
    """Where a command stands."""
    created_at, uuid = value
    if not is_int64(created_at):
        raise TypeError("no time")
    return created_at, text(uuid)


def count_by_name(value: Any) -> Mapping[str, int]:
    """How many of each name; JSON's names are texts."""
    if type(value) is not dict or not all(type(one) is int for one in value.values()):
        raise TypeError("no counts")
    return value


def counts(value: Any) -> Mapping[str, int] | None:
    """The same, or that they were too many to be counted."""
    return None if value is None else count_by_name(value)
