"""Random concurrent histories of create, get, update, delete and of registers, on every backend, against the model."""

from __future__ import annotations

import logging
import time
from collections import Counter

import pytest

from commandstore import CommandStore
from commandstore.memory import MemoryBackend
from commandstore.testing.histories import run_clients
from commandstore.testing.linearizability import Violation, check, command_model, register_model
from commandstore.testing.scripts import random_scripts, random_swaps
from reliability.scale import scaled
from reliability.stores import SERVICES, opened
from reliability.wavering import BROKEN, Wavering

SEED = 20261125
logger = logging.getLogger(__name__)
DRIVES = ["blocking", "async"]
ALL_WAYS = (("create", "create", "create_many"),)
# Of a create and a create_many of one uuid at one moment, S3 may acknowledge both (docs/s3.md): so each for itself.
ONE_WAY = (("create",), ("create_many",))
_MOST = 30
# Most histories are plain; some have many clients that die, some many payloads that an engine splits.
MORE_OF = ({"long": 0.3}, {}, {"cuts": 0.3}, {})


@pytest.fixture(params=SERVICES)
def where(request):
    yield from opened(request)


def histories(make_backend, drive, *, operations, creating=ALL_WAYS, **options) -> Counter[str]:
    """Judge histories until so many operations were done and something happened in them; how often each answer came."""
    kinds: Counter[str] = Counter()
    done = cut = unavailable = 0
    began = time.monotonic()
    number = 0
    # Who comes first is nobody's to say: few operations may all come too early, too late, or be cut off.
    while done < operations or (number < _MOST and not is_eventful(kinds)):
        number += 1
        seed = f"{SEED} {number}"
        names = [f"{drive}-{number}-{name}" for name in "ab"]
        way = creating[(number + number // len(MORE_OF) + (drive == "async")) % len(creating)]
        scripts = random_scripts(seed, names=names, creating=way, **options, **MORE_OF[number % len(MORE_OF)])
        for model, steps in ((command_model, scripts), (register_model, random_swaps(seed, steps=4, names=names))):
            history = run_clients(make_backend, drive, steps)
            violations = check(history.operations, model)
            assert not violations, f"seed {seed!r}:\n" + "\n".join(map(str, violations))
            done += len(history.operations)
            cut += history.cut
            unavailable += history.unavailable
            kinds += history.kinds
        remove(make_backend(), names)
    seconds = time.monotonic() - began
    logger.info(
        "%s, %s: %d operations in %d histories, %d cut off, %d unavailable, %.1f s: %s",
        make_backend().store_type,
        drive,
        done,
        number,
        cut,
        unavailable,
        seconds,
        dict(kinds),
    )
    return kinds


def is_eventful(kinds) -> bool:
    """Whether there is something to explain: a history in which nothing happens explains itself."""
    created = kinds["create: created"] + kinds["create_many: created"]
    return bool(created and kinds["update: True"] + kinds["delete: True"] and kinds["swap: True"])


def remove(backend, names) -> None:
    """So that all that there is fits into one page: a list of several is not of one moment."""
    with CommandStore(backend) as store:
        store.init()
        for name in names:
            store.delete(name)


@pytest.mark.parametrize("drive", DRIVES)
def test_concurrent_operations_on_one_uuid_are_as_if_done_one_after_the_other(where, drive) -> None:
    backend = where.make_backend()
    kinds = histories(
        where.make_backend,
        drive,
        operations=scaled(150 if backend.store_type in {"sqlite", "postgres"} else 40, 10_000),
        # Writers of S3 that swap one manifest wait for each other by the clock.
        steps=scaled(4 if backend.store_type == "s3" else 10, 10),
        creating=ONE_WAY if backend.store_type == "s3" else ALL_WAYS,
        listing=backend.list_is_consistent,
        upkeep=True,
    )
    stored = where.uuids() if backend.store_type != "dynamodb" else []  # parts of who was cut off lie there until a gc
    assert len(stored) == len(set(stored))
    assert is_eventful(kinds), kinds


@pytest.mark.parametrize("drive", DRIVES)
def test_and_so_they_are_in_memory(drive) -> None:
    backend = MemoryBackend()
    histories(lambda: backend, drive, operations=scaled(1_000, 10_000), listing=True)


def test_and_so_they_are_in_whatever_order_requests_and_answers_arrive() -> None:
    for number in range(scaled(20, 500)):
        assert violations_of(Wavering, f"{SEED} {number}") == []


def violations_of(backend_type, seed) -> list[Violation]:
    """One backend for all clients, whose order of things the seed says."""
    backend = backend_type(seed)
    found: list[Violation] = []
    for model, steps in (
        (command_model, random_scripts(seed, names=["a", "b"], long=0)),
        (register_model, random_swaps(seed)),
    ):
        found += check(run_clients(lambda: backend, "async", steps).operations, model)
    return found


@pytest.mark.parametrize("backend_type", BROKEN)
def test_a_backend_that_is_broken_on_purpose_is_found_out(backend_type) -> None:
    seeds = (f"{SEED} {number}" for number in range(200))
    seed, [violation, *_] = next((seed, found) for seed in seeds if (found := violations_of(backend_type, seed)))
    assert "does not fit" in str(violation)
    # And again, by its seed.
    assert violations_of(backend_type, seed)[0] == violation
