"""Histories on engines that lose requests and answers: nobody is cut off, and each client tries again by itself.

A write that is tried again finds what its first try did, or what others did since. Whatever it then says has to fit
what everybody else was told (``test_linearizability.py`` has the same without faults).
"""

from __future__ import annotations

import logging
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from commandstore.aws.retry import Retry
from commandstore.testing.faults import Fault, FaultPlan
from commandstore.testing.histories import run_clients
from commandstore.testing.linearizability import check, command_model, register_model, with_recreations
from commandstore.testing.scripts import Kind, random_scripts, random_swaps
from reliability.scale import scaled
from reliability.storms import dynamodb, on_firestore, prepare, s3

SEED = 20261125
RATES = {Fault.TIMEOUT_AFTER: 0.1, Fault.TIMEOUT_BEFORE: 0.1, Fault.RESET_AFTER: 0.05, Fault.SENT_TWICE: 0.05}
# Real pauses, as clients wait for each other here; and as many tries as the library makes.
RETRY = Retry(base=0.002, longest=0.02)
ALL_WAYS: tuple[tuple[Kind, ...], ...] = (("create", "create", "create_many"),)
# As in test_linearizability.
ONE_WAY: tuple[tuple[Kind, ...], ...] = (("create",), ("create_many",))
DRIVES = ["blocking", "async"]
AWS_DRIVES = DRIVES if find_spec("aioboto3") else DRIVES[:1]
_log = logging.getLogger(__name__)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    prepare(monkeypatch, tmp_path)


def histories(
    place: Any, drive: Any, count: int, *, steps: int = 40, creating: tuple[tuple[Kind, ...], ...] = ALL_WAYS
) -> None:
    """Judge so many histories, each on a place of its own with a plan of its own."""
    kinds: Counter[str] = Counter()
    faults: Counter[Fault] = Counter()
    wrong: list[str] = []
    for number in range(count):
        seed = f"{SEED} {number}"
        way = creating[(number + (drive == "async")) % len(creating)]
        scripts = random_scripts(seed, steps=steps, cuts=0, long=0, creating=way)
        for model, todo in ((command_model, scripts), (register_model, random_swaps(seed, cuts=0))):
            plan = FaultPlan(number, RATES)
            with place(plan) as target:
                history = run_clients(target.make, drive, todo, during=plan)
            operations = with_recreations(history.operations) if target.recreates else history.operations
            wrong += [f"seed {seed!r}: {violation}" for violation in check(operations, model)]
            kinds += history.kinds
            faults += plan.faults
    _log.info("%s: %d histories, %s; %s", drive, count, dict(faults), dict(kinds))
    assert not wrong, f"{len(wrong)} of {count} histories\n" + "\n".join(wrong)
    # A history without writes or faults explains itself.
    assert kinds["create: created"] + kinds["create_many: created"] >= count
    assert kinds["swap: True"] >= count
    assert faults.total() >= count


@pytest.mark.parametrize("drive", AWS_DRIVES)
def test_on_dynamodb(drive: str, request: pytest.FixtureRequest) -> None:
    engine, is_async = request.getfixturevalue("ministack"), drive == "async"
    histories(lambda plan: dynamodb(plan, engine, is_async=is_async, retry=RETRY), drive, scaled(1, 100))


@pytest.mark.parametrize("drive", AWS_DRIVES)
def test_on_s3(drive: str, request: pytest.FixtureRequest) -> None:
    engine, is_async = request.getfixturevalue("ministack"), drive == "async"
    histories(
        lambda plan: s3(plan, engine, is_async=is_async, retry=RETRY),
        drive,
        scaled(1, 50),
        steps=12,
        creating=ONE_WAY,
    )


@pytest.mark.parametrize("drive", DRIVES)
def test_on_firestore(drive: str, request: pytest.FixtureRequest) -> None:
    emulator = request.getfixturevalue("firestore_emulator")
    histories(lambda plan: on_firestore(plan, emulator, retry=RETRY), drive, scaled(1, 70))
