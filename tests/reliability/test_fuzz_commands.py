"""Commands, filters and cursors of every kind: a clear error, or exactly what was asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from commandstore import Command, CommandQuery, CommandStore, InvalidCommand, InvalidQuery, open_store
from commandstore.codec import MAX_NAME_BYTES, MAX_TENANT_BYTES, MAX_UUID_BYTES
from commandstore.cursor import write_cursor
from commandstore.memory import MemoryBackend
from reliability.mangle import JUNK, PAYLOAD, cut_or_flipped, fuzz, only_ours

# Every character there is, lone surrogates among them.
TEXT = st.text(st.characters(), max_size=6)
LIMITS = st.sampled_from([MAX_UUID_BYTES, MAX_TENANT_BYTES, MAX_NAME_BYTES])
LONG = st.builds(
    lambda limit, more, unit: unit * (limit // len(unit.encode())) + "x" * more,
    LIMITS,
    st.integers(-1, 2).map(lambda n: max(n, 0)),
    st.sampled_from(["x", "ü", "€", "\U0001f600"]),
)
INT = st.integers(-(2**65), 2**65) | st.sampled_from([2**63 - 1, 2**63, -(2**63), -(2**63) - 1])
ANYTHING = JUNK | TEXT | LONG | INT | st.binary(max_size=4) | st.floats() | st.builds(object)
FIELDS = {
    "command_uuid": TEXT | LONG,
    "created_at": INT,
    "instance_id": INT,
    "tenant_uuid": TEXT | LONG,
    "workspace_uuid": TEXT | LONG,
    "domain": TEXT | LONG,
    "data_type": TEXT | LONG,
    "data_bytes": st.binary(max_size=8) | st.just(PAYLOAD),
    "req_ctx": TEXT | st.just('{"senderSessionUuid":"\\ud800"}') | JUNK.map(json.dumps),
}
TYPES = {name: int if name in {"created_at", "instance_id"} else str for name in FIELDS} | {"data_bytes": bytes}
FILTERS = ("tenant_uuid", "workspace_uuid", "domain", "session_uuid", "data_type")


@st.composite
def fields(draw: st.DrawFn) -> dict[str, Any]:
    """Of a command: each as it may be, and now and then one that is anything."""
    found = {name: draw(strategy) for name, strategy in FIELDS.items()}
    if draw(st.integers(0, 2)) == 0:
        found[draw(st.sampled_from(list(FIELDS)))] = draw(ANYTHING)
    return found


def storable(found: dict[str, Any]) -> bool:
    """Whether the contract takes a command of these fields; written down here a second time."""
    if any(type(found[name]) is not kind for name, kind in TYPES.items()):
        return False
    if not all(-(2**63) <= found[name] < 2**63 for name in ("created_at", "instance_id")):
        return False
    try:
        sizes = {name: len(found[name].encode()) for name, kind in TYPES.items() if kind is str}
    except UnicodeEncodeError:
        return False
    most = dict.fromkeys(("workspace_uuid", "domain", "data_type"), MAX_NAME_BYTES)
    most |= {"command_uuid": MAX_UUID_BYTES, "tenant_uuid": MAX_TENANT_BYTES}
    return sizes["command_uuid"] > 0 and all(sizes[name] <= limit for name, limit in most.items())


@pytest.fixture
def store() -> Iterator[CommandStore]:
    with CommandStore(MemoryBackend()) as store:
        store.init()
        yield store


@fuzz(300, 20000)
@given(fields())
def test_a_command_is_stored_as_it_is_or_refused_by_its_field(store: CommandStore, found: dict[str, Any]) -> None:
    store.reset()
    if not storable(found):
        with pytest.raises(InvalidCommand) as caught:
            store.create(Command(**found))
        assert PAYLOAD.decode() not in str(caught.value)
        assert len(str(caught.value)) < 10 * MAX_UUID_BYTES + 300
        assert store.total() == 0
        return
    command = Command(**found)
    store.create(command)
    assert store.get(command.command_uuid) == command
    assert store.list().commands == (command,)
    # Views of the context never fail, whatever text it is.
    assert isinstance(command.session_uuid, str)
    assert command.request_context is None or isinstance(command.request_context.extra, dict)


@fuzz(300, 20000)
@given(
    st.dictionaries(st.sampled_from([*FILTERS, "before", "after", "tenant"]), ANYTHING, max_size=3),
    st.sampled_from(["created_at"]) | TEXT,
    st.booleans(),
)
def test_a_filter_is_answered_exactly_or_refused(
    store: CommandStore, filters: dict[str, Any], order_by: str, ascending: bool
) -> None:
    if store.total() == 0:
        names = [None, "", "x", "ü"]
        store.create_many(
            Command(f"c{n}", n - 3, 0, names[n % 4] or "", "", names[n % 3] or "", "t", b"", "") for n in range(12)
        )
    good = order_by == "created_at" and "tenant" not in filters
    for name, value in filters.items():
        if value is None:
            continue
        if name in {"before", "after"}:
            good &= type(value) is int and -(2**63) <= value < 2**63
        else:
            good &= isinstance(value, str) and value == value.encode("utf-8", "replace").decode()
    if not good:
        for ask in (
            lambda: store.list(order_by=order_by, ascending=ascending, **filters),
            lambda: list(store.scan(order_by=order_by, ascending=ascending, **filters)),
            lambda: store.total(**filters) if order_by == "created_at" else store.list(order_by=order_by),
        ):
            with pytest.raises(InvalidQuery):
                ask()
        return
    matching = [c for c in store.scan(ascending=ascending) if CommandQuery(**filters).matches(c)]
    page = store.list(ascending=ascending, **filters)
    assert list(page.commands) == matching
    assert page.total == store.total(**filters) == len(matching)


@fuzz(150)
@given(ANYTHING, ANYTHING, ANYTHING)
def test_offset_limit_and_page_size_are_whole_numbers_or_refused(
    store: CommandStore, offset: Any, limit: Any, size: Any
) -> None:
    with only_ours() as caught:
        page = store.list(offset=offset, limit=limit)
        assert page.commands == ()
        assert type(offset) is int
        assert offset >= 0
        assert type(limit) is int
    assert all(isinstance(error, InvalidQuery) for error in caught)
    with only_ours() as caught:
        list(store.scan(page_size=size))
        assert type(size) is int
        assert size > 0
    assert all(isinstance(error, InvalidQuery) for error in caught)


# Cursors

WHERE = ("memory", "sqlite")
SCALAR = st.none() | st.integers(-(2**63), 2**64 - 1) | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
TAGGED = st.sampled_from(
    ["real:1.5", "real:nan", "real:x", "text:6161", "text:xx", "blob:00", "null:", ":", "00", "f", "0"]
)


@pytest.fixture(params=WHERE)
def listed(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[CommandStore]:
    """A store of nine commands."""
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/app.db"
    with open_store(url, create=True) as store:
        store.create_many(Command(f"c{n}", n // 2, tenant_uuid="ab"[n % 2]) for n in range(9))
        yield store


@fuzz(150)
@given(data=st.data())
def test_an_altered_cursor_is_refused_and_never_another_page(listed: CommandStore, data: st.DataObject) -> None:
    first = listed.list(limit=data.draw(st.integers(1, 8)), tenant_uuid=None)
    assert first.cursor is not None
    altered = data.draw(cut_or_flipped(first.cursor.encode()).map(lambda raw: raw.decode("latin-1")))
    with only_ours() as caught:
        assert listed.list(cursor=altered) == listed.list(cursor=first.cursor)
    assert all(isinstance(error, InvalidQuery) for error in caught)


@fuzz(200)
@given(key=st.lists(SCALAR | TAGGED, max_size=4).map(tuple), ascending=st.booleans(), tenant=st.none() | st.just("a"))
def test_a_forged_cursor_is_refused_or_is_a_place_in_the_list(
    listed: CommandStore, key: Any, ascending: bool, tenant: str | None
) -> None:
    """Its check sum is no signature: whoever knows how can make one for any key."""
    query = CommandQuery(tenant_uuid=tenant, ascending=ascending)
    try:
        cursor = write_cursor(key, listed.core.backend.location, query)
    except TypeError:
        return  # an integer that JSON has no room for
    everything = list(listed.scan(ascending=ascending, tenant_uuid=tenant))
    with only_ours() as caught:
        page = listed.list(cursor=cursor, ascending=ascending, tenant_uuid=tenant)
        assert page.corrupt == ()
        assert list(page.commands) == everything[len(everything) - len(page.commands) :]
    assert all(isinstance(error, InvalidQuery) for error in caught)
