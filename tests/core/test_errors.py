"""The error tree: as it is drawn, catchable as a caller expects, and able to cross processes."""

import builtins
import copy
import inspect
import pickle
import re
from typing import Any

import pytest

from commandstore import Command, errors
from commandstore.contract import CREATED
from commandstore.errors import CommandStoreError

CLASSES = {
    name: value
    for name, value in vars(errors).items()
    if inspect.isclass(value) and value.__module__ == errors.__name__
}
ATTRIBUTES: dict[str, dict[str, Any]] = {
    "CommandExists": {"existing": Command("c1", 5)},
    "InvalidCommand": {"command_uuid": "c1"},
    "CorruptRecord": {"command_uuid": "c1", "location": "row 17"},
    "DecryptionError": {"command_uuid": "c1"},
    "StoreUnavailable": {"outcomes": [CREATED, None], "result": None},
    "Throttled": {"outcomes": None},
}


def _drawn() -> dict[str, tuple[str, ...]]:
    """Of each error in the docstring: its parent and the builtin beside it."""
    tree: dict[str, tuple[str, ...]] = {}
    parents: list[str] = []
    for indent, name, builtin in re.findall(
        r"^( *)\* ``(\w+)``(?: \(``(\w+)``\))?", errors.__doc__ or "", re.MULTILINE
    ):
        depth = len(indent) // 4
        parents[depth:] = [name]
        tree[name] = tuple(part for part in (parents[depth - 1] if depth else "Exception", builtin) if part)
    return tree


def test_the_tree_is_as_it_is_drawn() -> None:
    assert _drawn() == {name: tuple(base.__name__ for base in cls.__bases__) for name, cls in CLASSES.items()}


def test_all_is_exact_and_sorted() -> None:
    assert errors.__all__ == sorted(CLASSES)


def test_there_is_one_root() -> None:
    assert all(issubclass(cls, CommandStoreError) for cls in CLASSES.values())


@pytest.mark.parametrize(("name", "bases"), [(name, bases) for name, bases in _drawn().items() if len(bases) > 1])
def test_an_error_is_caught_by_the_builtin_that_one_expects(name: str, bases: tuple[str, ...]) -> None:
    with pytest.raises(getattr(builtins, bases[1]), match="what to do"):
        raise CLASSES[name]("what to do")


@pytest.mark.parametrize("name", CLASSES)
def test_an_error_shows_its_message_alone(name: str) -> None:
    error = CLASSES[name]("a message, with 'quotes'")
    assert str(error) == error.message == "a message, with 'quotes'"
    assert "a message" in repr(error)


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])  # noqa: S301 - ours
def test_an_error_survives_pickling_with_its_attributes(name: str, again: Any) -> None:
    error = CLASSES[name]("message", **ATTRIBUTES.get(name, {}))
    found = again(error)
    assert type(found) is type(error)
    assert str(found) == "message"
    for attribute, value in ATTRIBUTES.get(name, {}).items():
        assert getattr(found, attribute) == value
