"""What is stored, altered by hand: fields missing or of another type, numbers out of range, bytes cut or flipped."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings

from commandstore.errors import CommandStoreError
from reliability.scale import scaled

__all__ = ["JUNK", "PAYLOAD", "altered", "altered_json", "cut_or_flipped", "fuzz", "only_ours", "refused"]

PAYLOAD = b"the iban DE02120300000000202051 of a customer"
"""What no error may show."""

JUNK = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.sampled_from([0, -1, 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 2**64 - 1, 10**30, -(10**30)])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    | st.sampled_from(["", "\0", "..", "/", "0" * 64, "2262-04-12", "A" * 700])
    | st.sampled_from(
        [[], {}, [[]], [None], {"": None}, [[1, "x"]], ["x", "y", "z"], [0, 0], {"S": "x"}, {"N": "1e400"}]
    )
)
"""JSON's values that a field may have once somebody wrote there; NaN and lone surrogates can't be in JSON."""

_MISSING = object()


def fuzz(reduced: int = 150, full: int = 5000, **more: Any) -> Callable[..., Any]:
    """How often a test of this kind is tried: by CI, a third of the first number, so that all take a minute."""
    slow = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much]
    return settings(max_examples=scaled(max(4, reduced // 3), full), deadline=None, suppress_health_check=slow, **more)


@contextmanager
def only_ours(*secret: bytes | str) -> Iterator[list[CommandStoreError]]:
    """What goes wrong in here is an error of ours, of one line, that shows neither the payload nor what is secret."""
    caught: list[CommandStoreError] = []
    try:
        yield caught
    except CommandStoreError as error:
        caught.append(error)
    for error in caught:
        refused(error, *secret)


def refused(error: CommandStoreError, *secret: bytes | str) -> None:
    """Look at what an error says."""
    said = "\n".join([str(error), *getattr(error, "__notes__", ())])
    assert said.strip()
    for one in (PAYLOAD, *secret):
        text = one.decode("ascii", "replace") if isinstance(one, bytes) else one
        assert text not in said, said


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in a document, the whole among it."""
    yield at
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _places(item, (*at, key))
    elif isinstance(value, list):
        for index, item in enumerate(value[:20]):
            yield from _places(item, (*at, index))


def _put(value: Any, at: tuple[Any, ...], new: Any) -> Any:
    if not at:
        return None if new is _MISSING else new
    value = copy.deepcopy(value)
    inner = value
    for step in at[:-1]:
        inner = inner[step]
    if new is _MISSING:
        del inner[at[-1]]
    else:
        inner[at[-1]] = new
    return value


@st.composite
def altered(draw: st.DrawFn, value: Any, junk: st.SearchStrategy[Any] = JUNK) -> Any:
    """A document of JSON's values with one to three changes."""
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.sampled_from(list(_places(value))[:200]))
        how = draw(st.sampled_from(["other", "other", "other", "missing", "more", "twice"]))
        inner = value
        for step in at:
            inner = inner[step]
        if how == "more" and isinstance(inner, dict):
            value = _put(value, (*at, draw(st.text("abc_", min_size=1, max_size=4))), draw(junk))
        elif how == "more" and isinstance(inner, list):
            value = _put(value, at, [*inner, draw(junk)])
        elif how == "twice" and isinstance(inner, list):
            value = _put(value, at, inner + inner)
        elif how == "missing":
            value = _put(value, at, _MISSING)
        else:
            value = _put(value, at, draw(junk))
    return value


@st.composite
def altered_json(draw: st.DrawFn, text: bytes) -> bytes:
    """A JSON text that was altered: as a document, or as bytes."""
    if draw(st.integers(0, 3)):
        return json.dumps(draw(altered(json.loads(text))), ensure_ascii=draw(st.booleans())).encode()
    return draw(cut_or_flipped(text))


@st.composite
def cut_or_flipped(draw: st.DrawFn, data: bytes) -> bytes:
    """Bytes that were cut, flipped, doubled or written over."""
    if not data:
        return draw(st.binary(min_size=1, max_size=4))
    start = draw(st.integers(0, len(data) - 1))
    end = draw(st.integers(start, min(len(data), start + 8)))
    match draw(st.sampled_from(["cut", "flip", "over", "out", "twice"])):
        case "cut":
            return data[:start]
        case "flip":
            return data[:start] + bytes([data[start] ^ (1 << draw(st.integers(0, 7)))]) + data[start + 1 :]
        case "over":
            return data[:start] + draw(st.binary(max_size=8)) + data[end:]
        case "out":
            return data[:start] + data[end:]
        case _:
            return data + data[start:]
