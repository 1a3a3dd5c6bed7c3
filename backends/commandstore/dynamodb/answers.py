"""What an answer must hold before anybody reads it. Pure.

An answer that is JSON, and yet not what DynamoDB says, comes from something in between, or from no DynamoDB at all.
Read as it is, a part that is missing would be taken for "there is none".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["is_whole"]

Answer = dict[str, Any]


def is_whole(operation: str, request: Mapping[str, Any] | bytes, answer: object) -> bool:
    """Whether an answer to this request has the parts that are read of it, in their shapes."""
    counts = isinstance(request, Mapping) and request.get("Select") == "COUNT"
    return isinstance(answer, dict) and _CHECKS.get("Count" if counts else operation, _anything)(answer)


def _anything(_: Answer) -> bool:
    return True


def _item(answer: Answer) -> bool:
    return isinstance(answer.get("Item", {}), dict)


def _table(answer: Answer) -> bool:
    return isinstance(answer.get("Table"), dict)


def _statements(answer: Answer) -> bool:
    said = answer.get("Responses")
    return isinstance(said, list) and all(
        isinstance(one, dict) and isinstance(one.get("Error", {}), dict) for one in said
    )


def _got(answer: Answer) -> bool:
    found = answer.get("Responses")
    return (
        isinstance(found, dict)
        and all(isinstance(items, list) and _are_items(items) for items in found.values())
        and _left(answer.get("UnprocessedKeys"), dict)
    )


def _written(answer: Answer) -> bool:
    return "UnprocessedItems" in answer and _left(answer["UnprocessedItems"], list)


def _left(left: object, kind: type) -> bool:
    """Whether this is what a batch may leave undone: for each table something, or nothing at all."""
    return isinstance(left, dict) and all(isinstance(what, kind) for what in left.values())


def _queried(answer: Answer) -> bool:
    return _has_items(answer, "position") and _goes_on(answer, "position")


def _counted(answer: Answer) -> bool:
    return isinstance(answer.get("Count"), int) and _goes_on(answer, "position")


def _scanned(answer: Answer) -> bool:
    return _has_items(answer, "part") and _goes_on(answer, "part")


def _has_items(answer: Answer, *names: str) -> bool:
    items = answer.get("Items")
    return isinstance(items, list) and _are_items(items, *names)


def _goes_on(answer: Answer, *names: str) -> bool:
    """Whether it ends, or says where to go on."""
    return "LastEvaluatedKey" not in answer or _are_items([answer["LastEvaluatedKey"]], *names)


def _are_items(items: list[Any], *names: str) -> bool:
    """Whether all have these keys, and ``uuid``: they are strings, as the table is made so."""
    try:
        return all(isinstance(item[name]["S"], str) for item in items for name in ("uuid", *names))
    except (KeyError, TypeError):
        return False


_CHECKS: dict[str, Callable[[Answer], bool]] = {
    "BatchExecuteStatement": _statements,
    "BatchGetItem": _got,
    "BatchWriteItem": _written,
    "Count": _counted,
    "DescribeTable": _table,
    "GetItem": _item,
    "Query": _queried,
    "Scan": _scanned,
}
