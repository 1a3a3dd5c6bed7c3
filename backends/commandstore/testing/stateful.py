"""A state machine: any sequence of calls gives on a backend what it gives in memory.

Values come from small domains, so that ties, duplicates and conflicts are the rule. Needs hypothesis. To opt in, mix
:class:`AgainstMemory` in beside ``Conformance``; it uses the same fixture ``place``::

    class TestMyBackend(Conformance, AgainstMemory):
        machine_examples = 10  # fewer for a slow engine
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, ClassVar

import hypothesis.strategies as st
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from commandstore.command import Command
from commandstore.contract import Capability
from commandstore.drive import run
from commandstore.errors import CommandExists, Unsupported
from commandstore.memory import MemoryBackend
from commandstore.store import CommandStore
from commandstore.testing.conformance.data import EDGES, KIB, only, payload
from commandstore.testing.conformance.lab import DriveName, Lab, Place

__all__ = ["AgainstMemory", "check_against_memory", "store_machine"]

UUIDS = st.sampled_from(["a", "B", "é", "\uff5e", "😀", "a/b", "x" * 512])
TIMES = st.sampled_from([EDGES[0], -1, 0, 1, 1, 1, 2, EDGES[-1]])
NAMES = st.sampled_from(["", "x", "X"])
PAYLOADS = {"": b"", "1": b"1", "2": b"2", "json": b'{"n":3.5}', "long": payload(450 * KIB)}
CONTEXTS = ("", '{"senderSessionUuid":"x"}', '{"sender_session_uuid": "X"}', "{broken")


def _command(payload: str, **fields: Any) -> Command:
    return Command(data_bytes=PAYLOADS[payload], **fields)


COMMANDS = st.builds(
    _command,
    command_uuid=UUIDS,
    created_at=TIMES,
    instance_id=st.sampled_from([0, 1]),
    tenant_uuid=NAMES,
    workspace_uuid=NAMES,
    domain=NAMES,
    data_type=NAMES,
    # Long ones, which some engines split, are seldom: they cost time.
    payload=st.sampled_from([*list(PAYLOADS)[:-1] * 4, "long"]),
    req_ctx=st.sampled_from(CONTEXTS),
)
FILTERS = st.fixed_dictionaries(
    {},
    optional={
        "tenant_uuid": NAMES,
        "workspace_uuid": NAMES,
        "domain": NAMES,
        "session_uuid": NAMES,
        "data_type": NAMES,
        "before": TIMES,
        "after": TIMES,
    },
)
# Mostly one filter or two: with all seven hardly anything is left.
QUERIES: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({}), st.builds(lambda f: dict(list(f.items())[:2]), FILTERS), FILTERS
)
REGISTERS = st.sampled_from(["r", "a", "/"])


class _StoreMachine(RuleBasedStateMachine):
    """The store under test beside one in memory; every rule compares what both answer."""

    place: ClassVar[Place]
    drive: ClassVar[DriveName]

    def __init__(self) -> None:
        super().__init__()
        self.lab = Lab(self.place, self.drive)
        self.memory = CommandStore(MemoryBackend())
        self.memory.init()
        self.tokens = 0

    @initialize(commands=st.lists(COMMANDS, max_size=12))
    def start(self, commands: list[Command]) -> None:
        self.store = self.lab.open()
        self.store.reset()
        self.kept_up = Capability.MAINTENANCE in self.store.core.backend.capabilities
        self.create_many(commands)

    def teardown(self) -> None:
        try:
            everything = list(self.memory.scan())
            self.place.settle()
            assert list(self.store.scan()) == everything, "at the end: scan"
            assert self.place.raw_uuids() == {c.command_uuid for c in everything}, "at the end: what is really stored"
        finally:
            self.lab.close()

    @rule(command=COMMANDS)
    def create(self, command: Command) -> None:
        assert _created(self.store, command) == _created(self.memory, command), "create"

    @rule(commands=st.lists(COMMANDS, max_size=8))
    def create_many(self, commands: list[Command]) -> None:
        result = self.store.create_many(commands)
        assert result == self.memory.create_many(commands), "create_many"
        assert len(result) == len(commands)

    @rule(command=COMMANDS)
    def update(self, command: Command) -> None:
        assert self.store.update(command) == self.memory.update(command), "update"

    @rule(uuid=UUIDS)
    def delete(self, uuid: str) -> None:
        assert self.store.delete(uuid) == self.memory.delete(uuid), "delete"

    @rule(uuid=UUIDS)
    def get(self, uuid: str) -> None:
        assert self.store.get(uuid) == self.memory.get(uuid), "get"

    @rule(uuids=st.lists(UUIDS, max_size=5))
    def get_many(self, uuids: list[str]) -> None:
        assert list(self.store.get_many(uuids).items()) == list(self.memory.get_many(uuids).items()), "get_many"

    @rule(
        filters=QUERIES,
        ascending=st.booleans(),
        limit=st.integers(-1, 4),
        offset=st.integers(0, 4),
        total=st.booleans(),
    )
    def list(self, filters: dict[str, Any], *, ascending: bool, limit: int, offset: int, total: bool) -> None:
        self.place.settle()
        options: dict[str, Any] = {"ascending": ascending, "limit": limit, "offset": offset, "with_total": total}
        found, expected = self.store.list(**options, **filters), self.memory.list(**options, **filters)
        assert (found.commands, found.total) == (expected.commands, expected.total), "list"
        assert found.corrupt == (), "list: corrupt"

    @rule(filters=QUERIES, ascending=st.booleans(), limit=st.integers(1, 4), offset=st.integers(0, 2))
    def walk(self, filters: dict[str, Any], *, ascending: bool, limit: int, offset: int) -> None:
        self.place.settle()
        expected = self.memory.list(limit=-1, offset=offset, ascending=ascending, **filters).commands
        page = self.store.list(limit=limit, offset=offset, ascending=ascending, with_total=False, **filters)
        found = [*page.commands]
        while page.cursor is not None:
            assert len(page.commands) == limit, "walk: a page before the last is full"
            page = self.store.list(limit=limit, cursor=page.cursor, ascending=ascending, with_total=False, **filters)
            found += page.commands
            assert len(found) <= len(expected), "walk: no page comes twice"
        assert tuple(found) == expected, "walk"

    @rule(filters=QUERIES, ascending=st.booleans(), size=st.integers(1, 4))
    def scan(self, filters: dict[str, Any], *, ascending: bool, size: int) -> None:
        self.place.settle()
        found = [*self.store.scan(page_size=size, ascending=ascending, **only(**filters))]
        assert found == [*self.memory.scan(ascending=ascending, **only(**filters))], "scan"

    @rule(filters=QUERIES)
    def total(self, filters: dict[str, Any]) -> None:
        self.place.settle()
        assert self.store.total(**only(**filters)) == self.memory.total(**only(**filters)), "total"

    @rule()
    def info(self) -> None:
        self.place.settle()
        found, expected = self.store.info(), self.memory.info()
        assert found.num_items == expected.num_items, "info: num_items"
        assert found.last_item_created_at == expected.last_item_created_at, "info: last_item_created_at"

    @rule(name=REGISTERS, value=st.sampled_from([b"", b"1", b"\x00\xff", None]), expects=st.sampled_from("nrx"))
    def swap(self, name: str, value: bytes | None, expects: str) -> None:
        found = run(self.memory.core.backend.register_get(name))
        expected = {"n": None, "r": found.token if found else None, "x": "of nobody"}[expects]
        self.tokens += 1
        token = f"token-{self.tokens}"
        done = self.lab.do(self.store.core.backend.register_swap(name, value, expected=expected, token=token))
        assert done == run(self.memory.core.backend.register_swap(name, value, expected=expected, token=token)), (
            "register_swap"
        )

    @rule(name=REGISTERS)
    def register(self, name: str) -> None:
        found = self.lab.do(self.store.core.backend.register_get(name))
        assert found == run(self.memory.core.backend.register_get(name)), "register_get"

    @precondition(lambda self: self.memory.total() > 3)  # an early one would leave nothing to do
    @rule()
    def reset(self) -> None:
        self.store.reset()
        self.memory.reset()
        assert self.place.raw_uuids() == set(), "reset"

    @precondition(lambda self: self.kept_up)
    @rule()
    def compact(self) -> None:
        # In memory there is nothing to do; what is read afterwards says whether all was kept.
        with suppress(Unsupported):  # a backend may have only one of the two
            self.store.compact()

    @precondition(lambda self: self.kept_up)
    @rule()
    def gc(self) -> None:
        with suppress(Unsupported):
            self.store.gc(grace=0)

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = self.lab.open(create=False)


def _created(store: CommandStore, command: Command) -> Command | str | None:
    try:
        store.create(command)
    except CommandExists as error:
        return error.existing
    return "created"


def store_machine(place: Place, drive: DriveName = "blocking") -> type[RuleBasedStateMachine]:
    """The machine for one place, which it empties before each example."""
    return type("StoreMachine", (_StoreMachine,), {"place": place, "drive": drive})


def check_against_memory(
    place: Place, drive: DriveName = "blocking", *, examples: int = 30, steps: int = 30, shrink: bool = True
) -> None:
    """Run the machine: the same examples every time, without a deadline.

    Args:
        place: where the store is; what is in it goes.
        drive: with or without an event loop.
        examples: how many sequences of calls.
        steps: how many calls in each, at most.
        shrink: make what fails as short as can be.

    Raises:
        AssertionError: the store answered otherwise than memory; the note has the calls that led there.
    """
    run_state_machine_as_test(
        store_machine(place, drive),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            derandomize=True,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )


class AgainstMemory:
    """Mixed in beside ``Conformance``: the machine as one more law, in both drives."""

    machine_examples: ClassVar[int] = 30
    machine_steps: ClassVar[int] = 30

    def test_any_sequence_of_calls_gives_what_it_gives_in_memory(self, place: Place, drive: DriveName) -> None:
        check_against_memory(place, drive, examples=self.machine_examples, steps=self.machine_steps)
