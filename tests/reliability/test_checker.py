"""The checker finds what can't be explained, and explains what can."""

from __future__ import annotations

import itertools
from random import Random

import pytest

from commandstore.testing.linearizability import (
    UNKNOWN,
    Operation,
    TooComplex,
    check,
    command_model,
    linearize,
    register_model,
    with_recreations,
)


def op(kind, argument, result, start, end, **more):
    return Operation(kind, argument, result, start, end, **more)


def explained(*operations, model=command_model):
    return check(operations, model) == []


CREATED = op("create", 1, "created", 1, 2)

WRONG = {
    "a stale read": [CREATED, op("update", 2, True, 3, 4), op("get", None, 1, 5, 6)],
    "a read from the future": [CREATED, op("get", None, 2, 3, 4), op("update", 2, True, 5, 6)],
    "a lost update": [
        CREATED,
        op("update", 2, True, 3, 6),
        op("update", 3, True, 4, 5),
        op("get", None, 2, 7, 8),
        op("get", None, 3, 9, 10),
    ],
    "two creates": [op("create", 1, "created", 1, 4), op("create", 2, "created", 2, 3)],
    "two deletes": [CREATED, op("delete", None, True, 3, 6), op("delete", None, True, 4, 5)],
    "a create that finds what nobody made": [op("create", 1, "exists", 1, 2)],
    "an update of what is gone": [CREATED, op("delete", None, True, 3, 4), op("update", 2, True, 5, 6)],
    "an update that misses what is there": [CREATED, op("update", 2, False, 3, 4)],
    "a delete that misses what is there": [CREATED, op("delete", None, False, 3, 4)],
    "an acknowledged write that is gone": [CREATED, op("get", None, None, 3, 4)],
    "a conflict with itself": [op("create", 1, "conflicting", 1, 2)],
    "a lost write that is seen, and then is not": [
        CREATED,
        op("update", 2, "lost", 3, None),
        op("get", None, 2, 4, 5),
        op("get", None, 1, 6, 7),
    ],
    "a lost write that was not asked for yet": [
        CREATED,
        op("get", None, 2, 3, 4),
        op("update", 2, "lost", 5, None),
    ],
    "a failed write that happens once it is over": [
        CREATED,
        op("update", 2, UNKNOWN, 3, 4),
        op("get", None, 1, 5, 6),
        op("get", None, 2, 7, 8),
    ],
    "a lost delete that is seen twice": [
        CREATED,
        op("delete", None, "lost", 3, None),
        op("get", None, None, 4, 5),
        op("create", 2, "created", 6, 7),
        op("get", None, None, 8, 9),
    ],
}

RIGHT = {
    "nothing": [],
    "one after the other": [CREATED, op("get", None, 1, 3, 4), op("delete", None, True, 5, 6)],
    "a read beside a write sees the old": [CREATED, op("update", 2, True, 3, 6), op("get", None, 1, 4, 5)],
    "a read beside a write sees the new": [CREATED, op("update", 2, True, 3, 6), op("get", None, 2, 4, 5)],
    "two updates in the other order": [
        CREATED,
        op("update", 2, True, 3, 6),
        op("update", 3, True, 4, 5),
        op("get", None, 2, 7, 8),
    ],
    "a create between two deletes": [
        CREATED,
        op("delete", None, True, 3, 8),
        op("create", 2, "created", 4, 7),
        op("delete", None, True, 5, 6),
    ],
    "a lost write that happened": [CREATED, op("update", 2, "lost", 3, None), op("get", None, 2, 4, 5)],
    "a lost write that never happened": [CREATED, op("update", 2, "lost", 3, None), op("get", None, 1, 4, 5)],
    "a lost write that happened later": [
        CREATED,
        op("update", 2, "lost", 3, None),
        op("get", None, 1, 4, 5),
        op("get", None, 2, 6, 7),
    ],
    "a failed write that happened": [CREATED, op("update", 2, UNKNOWN, 3, 4), op("get", None, 2, 5, 6)],
    "a failed write that never happened": [CREATED, op("update", 2, UNKNOWN, 3, 4), op("get", None, 1, 5, 6)],
    "a failed delete, or create": [
        CREATED,
        op("delete", None, UNKNOWN, 3, 4),
        op("create", 2, UNKNOWN, 5, 6),
        op("get", None, 2, 7, 8),
    ],
    "a lost create that others run into": [op("create", 1, "lost", 1, None), op("create", 2, "exists", 2, 3)],
    "an answer that is all there is": [op("create", 1, "lost", 1, None), op("delete", None, "lost", 2, None)],
    "create_many finds the same and another": [
        CREATED,
        op("create", 1, "duplicate", 3, 4),
        op("create", 2, "conflicting", 5, 6),
    ],
}


@pytest.mark.parametrize("history", WRONG.values(), ids=WRONG)
def test_what_no_order_explains_is_a_violation(history) -> None:
    [violation] = check(history, command_model)
    assert linearize(violation.operations[:-1], command_model) is not None
    assert str(violation).count("does not fit") == 1


@pytest.mark.parametrize("history", RIGHT.values(), ids=RIGHT)
def test_what_some_order_explains_is_none(history) -> None:
    assert explained(*history)


def test_a_violation_is_its_shortest_beginning() -> None:
    later = [op("get", None, 2, start, start + 1) for start in range(10, 50, 2)]
    [violation] = check([*WRONG["a stale read"], *later], command_model)
    assert violation.operations == tuple(WRONG["a stale read"])


def test_where_nothing_is_kept_of_what_was_removed_a_creation_may_be_done_once_more_and_only_then() -> None:
    back = [op("create", 1, "created", 1, 6), op("delete", None, True, 2, 3), op("get", None, 1, 7, 8)]
    assert not explained(*back)
    assert explained(*with_recreations(back))
    late = [CREATED, op("delete", None, True, 3, 4), op("get", None, 1, 5, 6)]
    assert not explained(*with_recreations(late))
    back = [
        op("swap", (None, "a"), True, 1, 8),
        op("get", None, "a", 2, 3),
        op("swap", ("a", None), True, 4, 5),
        op("get", None, None, 6, 7),
        op("get", None, "a", 9, 10),
    ]
    assert not explained(*back, model=register_model)
    assert explained(*with_recreations(back), model=register_model)


def test_each_partition_is_an_object_of_its_own() -> None:
    histories = [op("create", 1, "created", at, at + 1, partition=name) for at, name in ((1, "a"), (3, "b"))]
    assert explained(*histories)
    wrong = [op("delete", None, False, 5, 6, partition="b"), *histories]
    assert [violation.operations[0].partition for violation in check(wrong, command_model)] == ["b"]


def test_a_search_that_takes_too_long_gives_up_aloud() -> None:
    lost = [op("update", number, "lost", number + 10, None) for number in range(20)]
    with pytest.raises(TooComplex):
        check([CREATED, *lost, op("get", None, "never", 50, 51)], command_model, most_states=1000)


@pytest.mark.parametrize("model", [command_model, register_model])
def test_an_operation_that_the_model_does_not_know_is_an_error(model) -> None:
    with pytest.raises(ValueError, match="not an operation"):
        check([op("rename", 1, True, 1, 2)], model)


def test_registers_swap_by_token() -> None:
    made = op("swap", (None, "a"), True, 1, 2)
    assert explained(made, op("swap", ("a", "b"), True, 3, 4), op("get", None, "b", 5, 6), model=register_model)
    assert explained(made, op("swap", ("a", "b"), "lost", 3, None), op("get", None, "b", 5, 6), model=register_model)
    for token in "ab":
        failed = op("swap", ("a", "b"), UNKNOWN, 3, 4)
        assert explained(made, failed, op("get", None, token, 5, 6), model=register_model)
    assert explained(made, op("swap", ("a", None), True, 3, 4), op("get", None, None, 5, 6), model=register_model)
    assert explained(made, op("swap", ("b", "c"), False, 3, 4), model=register_model)
    # A removal of what is gone may say either; of what is there, only that it was done.
    removed = op("swap", ("a", None), True, 3, 4)
    for result in (True, False):
        assert explained(made, removed, op("swap", ("a", None), result, 5, 6), model=register_model)
    assert not explained(made, op("swap", ("a", None), False, 3, 4), model=register_model)
    assert not explained(op("swap", (None, None), False, 1, 2), model=register_model)
    # Its own token in place: a lost answer.
    assert explained(made, op("swap", (None, "a"), True, 3, 4), model=register_model)
    assert not explained(made, op("swap", ("b", "c"), True, 3, 4), model=register_model)
    assert not explained(made, op("swap", ("a", "c"), False, 3, 4), model=register_model)
    assert not explained(
        made, op("swap", ("a", "b"), True, 3, 6), op("swap", ("a", "c"), True, 4, 5), model=register_model
    )


@pytest.mark.parametrize("seed", range(200))
def test_the_search_agrees_with_trying_every_order(seed) -> None:
    """Short histories, right and wrong ones, against the definition itself."""
    random = Random(seed)  # noqa: S311 - the same every time
    moments = random.sample(range(1, 100), 10)
    history = []
    for number in range(5):
        start, end = sorted(moments[2 * number : 2 * number + 2])
        kind = random.choice(["create", "update", "delete", "get"])
        result = random.choice({"create": ["created", "exists"], "get": [None, 0, 1, 2, 3, 4]}.get(kind, [True, False]))
        lost = random.random() < 0.2
        if kind != "get" and random.random() < 0.2:
            result = UNKNOWN
        history.append(op(kind, number, result, start, None if lost else end))
    assert (linearize(history, command_model) is not None) == by_trying(history)


def by_trying(history) -> bool:
    lost = [one for one in history if one.end is None or one.result == UNKNOWN]
    answered = [one for one in history if one not in lost]
    return any(
        fits(order)
        for count in range(len(lost) + 1)
        for chosen in itertools.combinations(lost, count)
        for order in itertools.permutations([*answered, *chosen])
    )


def fits(order) -> bool:
    for at, one in enumerate(order):
        if any(later.end is not None and later.end < one.start for later in order[at:]):
            return False
    state = None
    for one in order:
        then = list(command_model(state, one))
        if not then:
            return False
        [state] = then
    return True
