"""What the clients of a random history do, drawn from a seed. Pure; :mod:`commandstore.testing.histories` does it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from commandstore.command import Command
from commandstore.testing.conformance.data import KIB, payload

__all__ = ["Kind", "Step", "content", "random_scripts", "random_swaps"]

Kind = Literal["create", "create_many", "get", "update", "delete", "list", "compact", "swap", "register"]

_LONG = 450 * KIB


@dataclass(frozen=True, slots=True)
class Step:
    """What a client does next.

    Attributes:
        kind: what.
        name: of the command, or of the register; create_many and list concern all names of the history.
        number: makes what is written unlike everything else in the history.
        cut: after how many requests (blocking) or turns of the event loop (async) it is cut off; None: not at all.
        size: about how many bytes the payload has.
    """

    kind: Kind
    name: str
    number: int
    cut: int | None = None
    size: int = 2


def random_scripts(
    seed: int | str,
    *,
    clients: int = 4,
    steps: int = 10,
    names: Sequence[str] = ("a",),
    cuts: float = 0.05,
    long: float = 0.05,
    creating: Sequence[Kind] = ("create", "create", "create_many"),
    listing: bool = False,
    upkeep: bool = False,
) -> list[list[Step]]:
    """What each client does to the commands of these names; the same for the same arguments.

    Args:
        seed: whatever.
        clients: how many there are.
        steps: how much each does.
        names: uuids.
        cuts: what share of the operations is cut off.
        long: what share of the payloads is so long that an engine splits or moves it.
        creating: how they create.
        listing: let them list, too; for stores whose lists show at once what was written. All that the store holds
            has to fit into one page, as a list of several is not of one moment.
        upkeep: let them compact, too.
    """
    random = Random(f"scripts {seed}")  # noqa: S311 - the same every time
    kinds: list[Kind] = [*creating, "get", "get", "get", "update", "update", "delete", "delete"]
    if listing:
        kinds += ["list", "list"]
    if upkeep:
        kinds += ["compact"]
    numbers = itertools.count(1)
    return [
        [
            Step(
                kind=random.choice(kinds),
                name=random.choice(names),
                number=next(numbers),
                cut=random.choice([0, 1, 1, 2, 2, 3, 5, 8, 13]) if random.random() < cuts else None,
                size=_LONG + random.randrange(9) if random.random() < long else random.randrange(2, 200),
            )
            for _ in range(steps)
        ]
        for _ in range(clients)
    ]


def random_swaps(
    seed: int | str, *, clients: int = 4, steps: int = 10, names: Sequence[str] = ("a",), cuts: float = 0.05
) -> list[list[Step]]:
    """What each client does to the registers of these names, as :func:`random_scripts`.

    A swap expects the token that its client saw last. An odd size removes.
    """
    random = Random(f"swaps {seed}")  # noqa: S311 - the same every time
    numbers = itertools.count(1)
    return [
        [
            Step(
                kind="register" if random.random() < 0.4 else "swap",
                name=random.choice(names),
                number=next(numbers),
                cut=random.choice([0, 1, 1, 2, 3, 5]) if random.random() < cuts else None,
                size=random.choice([2, 2, 2, 3]),
            )
            for _ in range(steps)
        ]
        for _ in range(clients)
    ]


def content(name: str, step: Step) -> Command:
    """The command that a step writes; its number stands in every field, so that a mixture of two shows."""
    number = step.number
    return Command(
        command_uuid=name,
        created_at=1_000 + number * 7919 % 1_000,
        instance_id=number,
        tenant_uuid=f"tenant-{number % 3}",
        workspace_uuid=f"workspace-{number}",
        domain=f"domain-{number % 2}",
        data_type=f"number-{number}",
        data_bytes=b'{"%d":"%s"}' % (number, payload(step.size)),
        req_ctx=f'{{"senderSessionUuid":"session-{number}"}}',
    )
