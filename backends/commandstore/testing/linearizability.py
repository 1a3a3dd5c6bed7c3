"""Whether a concurrent history could have come from one object, one operation after the other. Pure.

Wing and Gong's search with the memory that Porcupine gave it: try every operation that may have been the next, remember
(what is done, state) and never try the same twice. Histories are cut by partition (one uuid, one register) first, which
keeps each small.

An operation whose answer never came (``end`` is None) may have taken effect at any time after its start, or never. One
that ended in an error which leaves its fate open (its result is ``UNKNOWN``) took effect before that end, or never.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf

__all__ = [
    "UNKNOWN",
    "Model",
    "Operation",
    "TooComplex",
    "Violation",
    "check",
    "command_model",
    "linearize",
    "register_model",
    "with_recreations",
]

UNKNOWN = "?"
"""The result of what ended without saying whether it had been done, and can't be done any more."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What one client asked, what it was answered, and when.

    Attributes:
        kind: what was asked.
        argument: with which value.
        result: the answer; of no meaning where there was none; ``UNKNOWN`` where it leaves open what was done.
        start: when it was asked, on a clock that all clients share and that never shows the same twice.
        end: when the answer came; None: it never did.
        partition: which object.
        client: who asked; for people.
    """

    kind: str
    argument: Hashable
    result: Hashable
    start: int
    end: int | None
    partition: str = ""
    client: int = 0

    def __str__(self) -> str:
        answer = "?" if self.end is None else f"{self.result}"
        argument = "" if self.argument is None else f"{self.argument}"
        return f"[{self.start:>5}, {self.end or '':>5}] client {self.client}: {self.kind}({argument}) -> {answer}"


Model = Callable[[Hashable, Operation], Iterable[Hashable]]
"""The object: the states that an operation may lead to from this one; none where its answer can't be right.

Of an operation that may have been done or not: the states that its effect leads to. A state of None is the one at the
start.
"""


class TooComplex(RuntimeError):
    """The search looked at more states than it was allowed to: make histories shorter, or fewer answers unknown."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A history that no single object explains.

    Attributes:
        operations: its shortest beginning that is wrong, in the order in which they were asked. The answer that came
            last is the one that does not fit; what was not answered by then stands there without its answer.
    """

    operations: tuple[Operation, ...]

    def __str__(self) -> str:
        last = max((one for one in self.operations if one.end is not None), key=lambda one: one.end or 0)
        lines = [f"{one}{'   <-- does not fit' if one is last else ''}" for one in self.operations]
        return "\n".join([f"no order explains these operations on {last.partition!r}:", *lines])


def check(history: Iterable[Operation], model: Model, *, most_states: int = 1_000_000) -> list[Violation]:
    """What in a history can't be explained, at most one violation for each partition.

    Raises:
        TooComplex: the search gave up; nothing is known.
    """
    partitions: dict[str, list[Operation]] = {}
    for operation in history:
        partitions.setdefault(operation.partition, []).append(operation)
    return [
        Violation(tuple(_shortest(operations, model, most_states)))
        for operations in partitions.values()
        if linearize(operations, model, most_states=most_states) is None
    ]


def with_recreations(history: Iterable[Operation]) -> list[Operation]:
    """A history on an engine that keeps no trace of what was removed, for :func:`check`.

    There a creation whose answer was lost, and that another client undoes before it is sent again, is done once more.
    So each that may have been done may have been done again, while it was under way.
    """
    found: list[Operation] = []
    for one in history:
        creates = one.kind == "create" or (isinstance(one.argument, tuple) and one.argument[0] is None)
        found += [
            one,
            *[replace(one, result=UNKNOWN)] * (2 if creates and one.result in {"created", True, UNKNOWN} else 0),
        ]
    return found


def linearize(operations: Sequence[Operation], model: Model, *, most_states: int = 1_000_000) -> list[Operation] | None:
    """An order that explains the operations on one object; None where there is none.

    Operations without an answer that are not in it need not have had an effect.

    Raises:
        TooComplex: the search gave up.
    """
    ops = sorted(operations, key=lambda one: one.start)
    answered = sum(1 << index for index, one in enumerate(ops) if one.end is not None)
    if not answered:
        return []
    seen: set[tuple[int, Hashable]] = {(0, None)}
    order: list[Operation] = []
    # A level for each operation in the order, and one more: what is done there, and what else may be tried.
    levels = [(0, _choices(ops, 0, None, model))]
    while levels:
        done, choices = levels[-1]
        for index, state in choices:
            now = done | 1 << index
            if (now, state) in seen:
                continue
            if len(seen) >= most_states:
                raise TooComplex(f"more than {most_states:,} states in a history of {len(ops)} operations")
            seen.add((now, state))
            order.append(ops[index])
            if now & answered == answered:
                return order
            levels.append((now, _choices(ops, now, state, model)))
            break
        else:
            levels.pop()
            del order[-1:]
    return None


def _choices(ops: Sequence[Operation], done: int, state: Hashable, model: Model) -> Iterator[tuple[int, Hashable]]:
    """What may come next: whatever was asked before the first answer among what is left, and the state after it."""
    left: list[tuple[int, Operation]] = []
    first_answer: float = inf
    # From the first that is not done, until what was asked after an answer that is still to be explained.
    for index in range((~done & (done + 1)).bit_length() - 1, len(ops)):
        one = ops[index]
        if one.start > first_answer:
            break
        if not done >> index & 1:
            left.append((index, one))
            first_answer = first_answer if one.end is None else min(first_answer, one.end)
    for index, one in left:
        if one.start > first_answer:
            return
        if one.end is not None and one.result == UNKNOWN:
            yield index, state
        for then in model(state, one):
            # Without an answer and without an effect is as good as never.
            if then != state or (one.end is not None and one.result != UNKNOWN):
                yield index, then


def _shortest(operations: Sequence[Operation], model: Model, most_states: int) -> list[Operation]:
    """The shortest beginning that is wrong already. Whatever begins with it is wrong too, so halving finds it."""
    ends = sorted(one.end for one in operations if one.end is not None)
    low, high = 0, len(ends) - 1
    while low < high:
        middle = (low + high) // 2
        if linearize(_until(operations, ends[middle]), model, most_states=most_states) is None:
            high = middle
        else:
            low = middle + 1
    return sorted(_until(operations, ends[low]), key=lambda one: one.start)


def _until(operations: Sequence[Operation], end: int) -> list[Operation]:
    """What was known when this answer came."""
    return [
        one if one.end is not None and one.end <= end else replace(one, end=None)
        for one in operations
        if one.start <= end
    ]


def command_model(state: Hashable, operation: Operation) -> Iterable[Hashable]:
    """One uuid of a command store; the state is the content that is stored, None where there is nothing.

    | kind   | argument | results                                                                    |
    |--------|----------|----------------------------------------------------------------------------|
    | create | content  | "created"; "exists"; of create_many also "duplicate" and "conflicting"     |
    | get    | None     | the content, or None                                                       |
    | update | content  | True; False: there was none                                                |
    | delete | None     | True; False: there was none                                                |
    """
    absent, new = state is None, operation.argument
    then: Iterable[Hashable]
    match operation.kind, _result(operation):
        case "create", "?":
            then = (new if absent else state,)
        case "create", "created":
            then = (new,) if absent else ()
        case "create", "exists":
            then = () if absent else (state,)
        case "create", "duplicate":
            then = (state,) if state == new else ()
        case "create", "conflicting":
            then = () if absent or state == new else (state,)
        case "update", "?":
            then = (state if absent else new,)
        case "delete", "?":
            then = (None,)
        case "get", found:
            then = (state,) if found in {state, "?"} else ()
        case "update", bool(done):
            then = () if done is absent else (new if done else state,)
        case "delete", bool(done):
            then = () if done is absent else (None,)
        case _:
            raise ValueError(f"not an operation on a command: {operation}")
    return then


def _result(operation: Operation) -> Hashable:
    return UNKNOWN if operation.end is None else operation.result


def register_model(state: Hashable, operation: Operation) -> Iterable[Hashable]:
    """One register; the state is the token in place, None where there is no register.

    | kind | argument                                      | results                            |
    |------|-----------------------------------------------|------------------------------------|
    | get  | None                                          | the token, or None                 |
    | swap | (expected token, new token; None removes)     | True; False: it has another token  |

    A swap that finds what it asks for in place counts as done: it can't tell a lost answer of its own. A removal of
    what is gone may say either, as some engines can tell who removed it.
    """
    if operation.kind == "get":
        return (state,) if _result(operation) in {state, UNKNOWN} else ()
    if operation.kind != "swap" or not isinstance(operation.argument, tuple):
        raise ValueError(f"not an operation on a register: {operation}")
    expected, new = operation.argument
    if _result(operation) == UNKNOWN:
        return (new if state == expected else state,)
    fits = state in {expected, new}
    gone = state is new is None and expected is not None
    if operation.result is not fits and not gone:
        return ()
    return (new if fits else state,)
