"""Every operation of the S3 store, ended at every single request, or with a single answer that never came.

What only reads leaves the bucket as it was. So the states in which a process can leave a bucket are those before each
of its writes, and the one after the last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
from botocore.loaders import JSONFileLoader

from commandstore.command import BatchResult, Command
from commandstore.errors import CommandExists
from commandstore.s3 import compaction, directory, finder
from commandstore.store import CommandStore
from commandstore.testing.conformance.data import a_command
from commandstore.testing.engines import Engine
from commandstore.testing.faults.client import client_error
from s3.stores import Killed, Script, Stores, everything, holding, referred

Model = dict[str, Command]


@pytest.fixture(scope="module", autouse=True)
def service_models() -> Iterator[None]:
    """Each client reads the SDK's description of the service anew, which takes longer than most tests: once will do."""
    with pytest.MonkeyPatch.context() as patch:
        load = cache(JSONFileLoader().load_file)
        patch.setattr(JSONFileLoader, "load_file", lambda _, path: load(path))
        yield


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """A dozen commands make all that a million make: parts, several directories, segments that are large enough."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finder, "SMALL", 1)
        patch.setattr(finder, "_INLINE", 1)
        patch.setattr(finder, "_FOLDED", 1)
        patch.setattr(finder, "_FOLDS", 1)  # one request at a time, so that they come in one order
        patch.setattr(finder, "FULL", 4)
        patch.setattr(directory, "FULL", 4)
        patch.setattr(compaction, "FULL_ROWS", 4)
        yield


@pytest.fixture(scope="module")
def stores(ministack: Engine) -> Iterator[Stores]:
    stores = Stores(ministack)
    yield stores
    stores.close()


# A store with something of everything


def one(uuid: str, text: str = "as it was created") -> Command:
    """A command whose payload is nobody else's."""
    return a_command(uuid, 1000 + int(uuid[1:]), tenant_uuid=f"tenant-{uuid[0]}", data_bytes=f"{uuid} {text}".encode())


NEW, IN_INBOX, IN_SEGMENT, ALONE = one("n1"), one("i1"), one("s3"), one("s30")
GRAVE, BURIED = one("g1"), one("g2")
"""Deleted, and named by the manifest; deleted, and named by a segment since a compaction."""


def seed(stores: Stores) -> tuple[dict[str, bytes], Model]:
    place = stores.place()
    with stores.open(place) as store:
        store.create_many([BURIED, one("s1"), one("s2")])
        store.delete("g2")
        store.compact()
        store.create_many([IN_SEGMENT, one("s4"), GRAVE])
        store.create_many([one("s5"), one("s6"), one("s7")])
        store.create_many([one("s1"), ALONE])
        store.delete("g1")
        store.update(one("s4", "as it was updated"))
        for command in (IN_INBOX, one("i2"), one("i4")):
            store.create(command)
        letters = {key: body for key, body in stores.objects(place).items() if holding({key: body}, one("i4"))}
        store.update(one("i4", "as it was updated"))
        stores.put(place, letters)  # as a process leaves it that ends between its swap and its last request
        return stores.objects(place), everything(store, {"g1", "g2"})


@pytest.fixture(scope="module")
def seeded(stores: Stores, small: None) -> tuple[dict[str, bytes], Model]:
    del small
    objects, model = seed(stores)
    assert {key.partition("/")[0] for key in objects} >= {"inbox", "segments", "indexes", "directories", "parts"}
    assert b'"partitions":[[' in objects["manifest.json"]
    return objects, model


# Operations


@dataclass(frozen=True)
class Operation:
    """What is done, what is there then, and what is said.

    Attributes:
        run: does it, and returns what the store answered.
        end: what there is afterwards.
        answer: what the store answers when nothing goes wrong.
        again: what it may answer, too, to a caller who had no answer and asks again.
        erased: whose payload must be nowhere any more.
    """

    run: Callable[[CommandStore], Any]
    end: Callable[[Model], Model]
    answer: Any
    again: Any
    erased: Command | None = None


def creation(command: Command) -> Operation:
    def run(store: CommandStore) -> Command | None:
        try:
            store.create(command)
        except CommandExists as error:
            return error.existing
        return None

    return Operation(run, lambda model: {**model, command.command_uuid: command}, None, again=command)


def creation_of_many() -> Operation:
    commands = [NEW, one("n2"), IN_INBOX, one("i2", "other"), IN_SEGMENT, one("s30", "other"), GRAVE, BURIED]
    created = {"n1", "n2", "g1", "g2"}

    def run(store: CommandStore) -> tuple[set[str], set[str], set[str]]:
        result: BatchResult = store.create_many(commands)
        assert not result.failed
        return set(result.created), set(result.duplicate), set(result.conflicting)

    def end(model: Model) -> Model:
        return {**model, **{c.command_uuid: c for c in commands if c.command_uuid in created}}

    return Operation(
        run,
        end,
        (created, {"i1", "s3"}, {"i2", "s30"}),
        (set(), {"i1", "s3", *created}, {"i2", "s30"}),
    )


def update(old: Command) -> Operation:
    new = one(old.command_uuid, "replaced")
    return Operation(
        lambda store: store.update(new), lambda model: {**model, new.command_uuid: new}, True, True, erased=old
    )


def deletion(old: Command) -> Operation:
    uuid = old.command_uuid
    return Operation(
        lambda store: store.delete(uuid),
        lambda model: {key: command for key, command in model.items() if key != uuid},
        True,
        False,
        erased=old,
    )


def upkeep(run: Callable[[CommandStore], object]) -> Operation:
    return Operation(lambda store: run(store) and None, dict, None, None)


OPERATIONS = {
    "create": creation(NEW),
    "create of a command that was deleted": creation(GRAVE),
    "create of a command that was deleted long ago": creation(BURIED),
    "create_many": creation_of_many(),
    "update of a command in the inbox": update(IN_INBOX),
    "update of a command in a segment": update(IN_SEGMENT),
    "update of a command in a small segment": update(ALONE),
    "delete of a command in the inbox": deletion(IN_INBOX),
    "delete of a command in a segment": deletion(IN_SEGMENT),
    "compact": upkeep(lambda store: store.compact()),
    "gc": upkeep(lambda store: store.gc(0)),
    "reset": Operation(lambda store: store.reset(), lambda _: {}, None, None, erased=IN_SEGMENT),
}
UUIDS = {"n1", "i1", "i4", "s3", "s30", "g1", "g2"}


@pytest.fixture(params=OPERATIONS)
def operation(request: pytest.FixtureRequest) -> Operation:
    return OPERATIONS[request.param]


def told(stores: Stores, objects: dict[str, bytes], operation: Operation) -> Script:
    """The requests of the operation when nothing goes wrong."""
    script = Script()
    with stores.open(stores.place(objects), script) as store:
        assert operation.run(store) == operation.answer
    return script


def tidied(stores: Stores, place: str, store: CommandStore, operation: Operation) -> None:
    """Compaction and collection leave what the manifest refers to, and nothing of what was to be forgotten."""
    store.compact()
    store.gc(0)
    objects = stores.objects(place)
    assert set(objects) == referred(objects)
    if operation.erased is not None:
        assert holding(objects, operation.erased) == set()


# The process ends


def dead_before(number: int, stores: Stores, place: str, operation: Operation) -> None:
    script = Script()
    with stores.open(place, script) as store:
        script.before(number, script.die)
        with pytest.raises(Killed):
            operation.run(store)


def survives_kills(stores: Stores, seeded: tuple[dict[str, bytes], Model], operation: Operation) -> None:
    """Every command is as before or as afterwards, and the operation can be done again, to its end."""
    objects, before = seeded
    after = operation.end(before)
    for number in told(stores, objects, operation).writes:
        place = stores.place(objects)
        dead_before(number, stores, place, operation)
        with stores.open(place) as store:
            found = everything(store, UUIDS)
            for uuid in before.keys() | after.keys() | found.keys():
                assert found.get(uuid) in (before.get(uuid), after.get(uuid)), (number, uuid)
            assert operation.run(store) in (operation.answer, operation.again)
            assert everything(store, UUIDS) == after, number
            tidied(stores, place, store, operation)
            assert everything(store) == after, number


def test_after_a_kill_every_command_is_as_before_or_as_afterwards_and_the_operation_can_be_done_again(
    stores: Stores, seeded: tuple[dict[str, bytes], Model], operation: Operation
) -> None:
    survives_kills(stores, seeded, operation)


def test_what_was_done_is_done_though_the_process_ends_right_then(
    stores: Stores, seeded: tuple[dict[str, bytes], Model], operation: Operation
) -> None:
    objects, before = seeded
    after = operation.end(before)
    place, script = stores.place(objects), Script()
    last = told(stores, objects, operation).writes[-1]
    with stores.open(place, script) as store:
        script.after(last, script.die)
        with pytest.raises(Killed):
            operation.run(store)
    with stores.open(place) as store:
        assert everything(store, UUIDS) == after
        tidied(stores, place, store, operation)
        assert everything(store, UUIDS) == after


# One request fails


def refuse() -> None:
    raise client_error("ConditionalRequestConflict", 409)


FAULTS = {
    "put_object": (
        lambda script, number: script.after(number, script.lose),
        lambda script, number: script.before(number, script.slow_down),
        lambda script, number: script.before(number, refuse),
    ),
    "delete_object": (
        lambda script, number: script.after(number, script.lose),
        lambda script, number: script.before(number, script.slow_down),
    ),
}


def survives_faults(stores: Stores, seeded: tuple[dict[str, bytes], Model], operation: Operation) -> None:
    """A write whose answer is lost, or that is refused once, changes nothing of the result."""
    objects, before = seeded
    after = operation.end(before)
    smooth = told(stores, objects, operation)
    for number in smooth.writes:
        for fault in FAULTS[smooth.requests[number - 1][0]]:
            place, script = stores.place(objects), Script()
            with stores.open(place, script) as store:
                fault(script, number)
                assert operation.run(store) == operation.answer, number
                assert len(script.requests) > len(smooth.requests), "nothing went wrong"
                assert everything(store) == after, number


def test_a_write_whose_answer_is_lost_or_that_is_refused_once_changes_nothing_of_the_result(
    stores: Stores, seeded: tuple[dict[str, bytes], Model], operation: Operation
) -> None:
    survives_faults(stores, seeded, operation)


def test_reads_that_are_refused_once_change_nothing_of_the_result(
    stores: Stores, seeded: tuple[dict[str, bytes], Model], operation: Operation
) -> None:
    objects, before = seeded
    script = Script()
    with stores.open(stores.place(objects), script) as store:
        script.fail_reads_once()
        assert operation.run(store) == operation.answer
        assert everything(store, UUIDS) == operation.end(before)


# With an event loop


@pytest.fixture(scope="module")
def looped(ministack: Engine) -> Iterator[Stores]:
    pytest.importorskip("aioboto3")
    stores = Stores(ministack, "async")
    yield stores
    stores.close()


@pytest.mark.parametrize(
    "name",
    [
        "create",
        "create of a command that was deleted",
        "delete of a command in the inbox",
        "update of a command in the inbox",
    ],
)
def test_all_that_holds_with_an_event_loop_as_well(
    looped: Stores, seeded: tuple[dict[str, bytes], Model], name: str
) -> None:
    survives_kills(looped, seeded, OPERATIONS[name])
    survives_faults(looped, seeded, OPERATIONS[name])
