"""Two processes on one store: the one does all of its work between two requests of the other, at every place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from itertools import product
from typing import Any

import pytest
from botocore.loaders import JSONFileLoader

from commandstore.command import Command
from commandstore.errors import CommandExists
from commandstore.memory import MemoryBackend
from commandstore.s3 import compaction, finder
from commandstore.store import CommandStore
from commandstore.testing.conformance.data import a_command
from commandstore.testing.engines import Engine
from s3.stores import Killed, Script, Stores, everything, holding, listed, referred

Act = Callable[[CommandStore], Any]
UUIDS = ("new", "letter", "row", "grave")


@pytest.fixture(scope="module", autouse=True)
def service_models() -> Iterator[None]:
    """Each client reads the SDK's description of the service anew, which takes longer than most tests: once will do."""
    with pytest.MonkeyPatch.context() as patch:
        load = cache(JSONFileLoader().load_file)
        patch.setattr(JSONFileLoader, "load_file", lambda _, path: load(path))
        yield


@pytest.fixture(scope="module")
def stores(ministack: Engine) -> Iterator[Stores]:
    stores = Stores(ministack)
    yield stores
    stores.close()


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of two have a directory, and are too large to be merged for their size alone."""
    monkeypatch.setattr(finder, "SMALL", 1)
    monkeypatch.setattr(compaction, "FULL_ROWS", 8)


@pytest.fixture(params=UUIDS)
def uuid(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def start(store: CommandStore) -> None:
    """One command in the inbox, others in segments, one deleted."""
    store.create_many([a_command("row"), a_command("grave"), a_command("other", 2)])
    store.delete("grave")
    store.create_many([a_command("further", 3), a_command("last", 4)])
    store.create(a_command("letter"))


@pytest.fixture(scope="module")
def seed(stores: Stores) -> dict[str, bytes]:
    place = stores.place()
    with stores.open(place) as store:
        start(store)
    return stores.objects(place)


# What is done


def create(command: Command) -> Act:
    def act(store: CommandStore) -> str:
        try:
            store.create(command)
        except CommandExists:
            return "exists"
        return "created"

    return act


def create_many(commands: list[Command]) -> Act:
    def act(store: CommandStore) -> tuple[tuple[str, ...], ...]:
        result = store.create_many(commands)
        return result.created, result.duplicate, result.conflicting

    return act


def update(uuid: str, text: bytes) -> Act:
    return lambda store: store.update(a_command(uuid, data_bytes=text))


def delete(uuid: str) -> Act:
    return lambda store: store.delete(uuid)


def compact(store: CommandStore) -> None:
    # Nothing is damaged here, whoever was in the way.
    assert store.compact()["objects_unreadable"] == 0


def gc(store: CommandStore) -> None:
    store.gc(0)


def upkeep(store: CommandStore) -> None:
    compact(store)
    gc(store)


def amid_upkeep(act: Act) -> Act:
    """The act, with the command moved from where it was before it, and after it."""

    def moving(store: CommandStore) -> Any:
        upkeep(store)
        said = act(store)
        upkeep(store)
        return said

    return moving


def reset(store: CommandStore) -> None:
    store.reset()


def begin_anew(store: CommandStore) -> None:
    store.reset()
    store.create(a_command("new"))


def bulk(uuid: str, text: bytes) -> Act:
    return create_many([a_command(uuid, data_bytes=text), a_command("another", 9)])


def changes(uuid: str, text: bytes) -> dict[str, Act]:
    return {
        "create": create(a_command(uuid, data_bytes=text)),
        "create_many": bulk(uuid, text),
        "update": update(uuid, text),
        "delete": delete(uuid),
    }


CHANGE = {
    "new": create(a_command("new", data_bytes=b"new")),
    "letter": delete("letter"),
    "row": update("row", b"changed"),
    "grave": create(a_command("grave", data_bytes=b"again")),
}


def change_all(store: CommandStore) -> list[Any]:
    return [change(store) for change in CHANGE.values()]


def readings(uuid: str) -> list[Act]:
    return [
        lambda store: store.get(uuid),
        lambda store: store.list(limit=-1, with_total=False).commands,
        lambda store: store.total(),
        lambda store: store.total(session_uuid="session-1"),
    ]


# How it is judged


def outcomes(first: Act, second: Act) -> list[tuple[Any, Any, dict[str, Command]]]:
    """What may come out: as if the one had come before the other, or the other before the one."""
    found = []
    for order in ((0, 1), (1, 0)):
        with CommandStore(MemoryBackend()) as store:
            store.init()
            start(store)
            said = [None, None]
            for which in order:
                said[which] = (first, second)[which](Untidied(store))
            found.append((*said, {command.command_uuid: command for command in store.scan()}))
    return found


class Untidied:
    """A store in memory, which has nothing to compact or to collect."""

    def __init__(self, store: CommandStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        if name == "compact":
            return lambda: {"objects_unreadable": 0}
        return (lambda _: None) if name == "gc" else getattr(self._store, name)


def meet(stores: Stores, seed: dict[str, bytes], first: Act, second: Act) -> Iterator[tuple[Any, Any, Any]]:
    """What comes out with all of the second act between two requests of the first, at one place after another."""
    number, met = 0, True
    while met:
        number, met = number + 1, False
        place, script = stores.place(seed), Script()
        with stores.open(place) as other, stores.open(place, script) as store:
            said = None

            def act(on: CommandStore = other) -> None:
                nonlocal said, met
                said, met = second(on), True

            script.before(number, act)
            answer = first(store)
            if met:
                yield answer, said, listed(store)


def test_changes_of_one_command_come_one_after_the_other(stores: Stores, seed: dict[str, bytes], uuid: str) -> None:
    for (mine, first), (its, second) in product(changes(uuid, b"first").items(), changes(uuid, b"second").items()):
        allowed = outcomes(first, second)
        # The one exception: of a creation alone and one in bulk, both may be told that they created the command.
        names = (mine, its)
        lax = uuid == "new" and set(names) == {"create", "create_many"}
        for found in meet(stores, seed, first, second):
            assert found in allowed or (lax and found[names.index("create_many")][0][0] == uuid), names


@pytest.mark.parametrize("moved", ["new", "letter"])
def test_changes_of_one_command_come_one_after_the_other_though_it_is_moved(
    stores: Stores, seed: dict[str, bytes], moved: str
) -> None:
    again = [delete(moved), create(a_command(moved, data_bytes=b"again"))]
    seconds = [*changes(moved, b"second").values(), lambda store: [act(store) for act in again]]
    for first, act in product(changes(moved, b"first").values(), seconds):
        second = amid_upkeep(act)
        allowed = outcomes(first, second)
        for found in meet(stores, seed, first, second):
            assert found in allowed


def test_a_change_is_the_same_while_the_store_is_compacted_and_collected(
    stores: Stores, seed: dict[str, bytes], uuid: str
) -> None:
    for change in changes(uuid, b"changed").values():
        allowed = outcomes(change, upkeep)
        for found in meet(stores, seed, change, upkeep):
            assert found in allowed


def test_upkeep_takes_nothing_of_what_is_written_meanwhile_and_the_next_one_leaves_nothing_over(
    stores: Stores, seed: dict[str, bytes]
) -> None:
    letters = {key: body for key, body in seed.items() if key.startswith("inbox/")}
    allowed = outcomes(upkeep, change_all)
    for found in meet(stores, seed, upkeep, change_all):
        assert found in allowed
        place = stores.latest
        with stores.open(place) as store:
            stores.put(place, letters)  # an echo of a request that was sent long ago
            assert everything(store) == found[2]
            upkeep(store)
            assert everything(store) == found[2]
        objects = stores.objects(place)
        assert set(objects) == referred(objects)


def test_upkeep_is_done_beside_upkeep_and_takes_nothing_for_damaged(stores: Stores, seed: dict[str, bytes]) -> None:
    for first, second in ((compact, upkeep), (gc, upkeep)):
        allowed = outcomes(first, second)
        for found in meet(stores, seed, first, second):
            assert found in allowed


def test_what_is_read_is_from_before_or_after_what_is_done_meanwhile(
    stores: Stores, seed: dict[str, bytes], uuid: str
) -> None:
    for reading, act in product(readings(uuid), (compact, upkeep, CHANGE[uuid])):
        allowed = outcomes(reading, act)
        for found in meet(stores, seed, reading, act):
            assert found in allowed


def test_a_reset_takes_everything_that_was_there_before_it_and_nothing_else(
    stores: Stores, seed: dict[str, bytes]
) -> None:
    acts = (CHANGE["new"], bulk("new", b"new"), CHANGE["row"], CHANGE["letter"], compact, gc, reset)
    for first, second in [*((act, begin_anew) for act in acts), (reset, CHANGE["new"])]:
        allowed = outcomes(first, second)
        for found in meet(stores, seed, first, second):
            assert found in allowed


def test_a_store_that_stays_open_goes_on_with_what_somebody_else_made_in_its_place(
    stores: Stores, seed: dict[str, bytes]
) -> None:
    place, script = stores.place(seed), Script()
    with stores.open(place, script) as store:
        stores.remove(place)
        with stores.open(place) as other:
            other.create(a_command("new"))
        script.before(100, script.die)  # rather than to ask for ever
        assert store.get("row") is None
        assert store.get("new") == a_command("new")
        assert not store.update(a_command("row"))
        assert store.update(a_command("new", data_bytes=b"changed"))
        assert everything(store) == {"new": a_command("new", data_bytes=b"changed")}


def test_a_command_that_was_deleted_stays_deleted_whatever_arrives_late(stores: Stores, seed: dict[str, bytes]) -> None:
    place = stores.place(seed)
    letters = {key: body for key, body in seed.items() if key.startswith("inbox/")}
    with stores.open(place) as store:
        store.delete("letter")
        for number in range(3):  # its mark is in the manifest, in a segment, in a merged one
            stores.put(place, letters)
            assert "letter" not in everything(store, UUIDS)
            store.update(a_command("last", 4, data_bytes=b"%d" % number))  # so that its segment is written anew
            upkeep(store)
            assert "letter" not in everything(store, UUIDS)
        assert not set(letters) & set(stores.objects(place))


def test_a_compaction_after_somebody_elses_reset_moves_what_came_since(stores: Stores, seed: dict[str, bytes]) -> None:
    place = stores.place(seed)
    with stores.open(place) as store, stores.open(place) as other:
        other.reset()
        other.create(a_command("new"))
        assert store.compact()["inbox_moved"] == 1


# What was acknowledged, and then superseded

ALONE, IN_BULK = a_command("new", data_bytes=b"alone"), a_command("new", data_bytes=b"in bulk")


@pytest.fixture
def superseded(stores: Stores, seed: dict[str, bytes]) -> dict[str, bytes]:
    """A store in which a creation in bulk met one alone, and its manifest owns the command."""
    place, script = stores.place(seed), Script()
    with stores.open(place) as other, stores.open(place, script) as store:
        script.before(3, lambda: other.create(ALONE))
        assert store.create_many([IN_BULK, a_command("another")]).created == ("new", "another")
        assert store.get("new") == other.get("new") == IN_BULK
    objects = stores.objects(place)
    assert {key.partition("/")[0] for key in holding(objects, ALONE)} == {"inbox"}
    return objects


def killed(stores: Stores, objects: dict[str, bytes], act: Act) -> Iterator[str]:
    """Places in which a process was ended before each of its writes."""
    script = Script()
    with stores.open(stores.place(objects), script) as store:
        act(store)
    for number in script.writes:
        place, dying = stores.place(objects), Script()
        with stores.open(place, dying) as store:
            dying.before(number, dying.die)
            with pytest.raises(Killed):
                act(store)
        yield place


def test_a_superseded_command_is_kept_aside_wherever_a_compaction_ends(
    stores: Stores, superseded: dict[str, bytes]
) -> None:
    for place in killed(stores, superseded, upkeep):
        assert holding(stores.objects(place), ALONE)
        with stores.open(place) as store:
            upkeep(store)
            assert store.get("new") == IN_BULK
            objects = stores.objects(place)
            assert {key.partition("/")[0] for key in holding(objects, ALONE)} == {"conflicts"}
            assert {key for key in objects if not key.startswith("conflicts/")} == referred(objects)


@pytest.mark.parametrize("act", [update("new", b"changed"), delete("new")], ids=["update", "delete"])
def test_a_superseded_command_is_forgotten_when_what_superseded_it_is(
    stores: Stores, superseded: dict[str, bytes], act: Act
) -> None:
    for kept_aside in (False, True):
        place = stores.place(superseded)
        with stores.open(place) as store:
            if kept_aside:
                upkeep(store)
            act(store)
            upkeep(store)
            objects = stores.objects(place)
            assert set(objects) == referred(objects)
            assert holding(objects, ALONE) | holding(objects, IN_BULK) == set()


def test_what_a_killed_reset_left_of_superseded_commands_goes_with_the_next_compaction(
    stores: Stores, superseded: dict[str, bytes]
) -> None:
    place = stores.place(superseded)
    with stores.open(place) as store:
        upkeep(store)
    for reset_place in killed(stores, stores.objects(place), reset):
        with stores.open(reset_place) as store:
            there = everything(store)
            upkeep(store)
            assert everything(store) == there
            objects = stores.objects(reset_place)
            # Either all of the old life, or nothing of it.
            assert bool(holding(objects, ALONE)) == ("new" in there)
