"""What clients of random histories meet, and what is noted of it."""

from __future__ import annotations

from typing import Any

import pytest

from commandstore.memory import MemoryBackend
from commandstore.testing.faults import Fault, FaultPlan, FaultyBackend
from commandstore.testing.histories import run_clients
from commandstore.testing.linearizability import UNKNOWN
from commandstore.testing.scripts import random_scripts


@pytest.mark.parametrize("drive", ["blocking", "async"])
def test_faults_are_met_by_the_clients_and_not_by_who_reads_in_the_end(drive: Any) -> None:
    memory, plan = MemoryBackend(), FaultPlan(1, {Fault.UNAVAILABLE_BEFORE: 1.0})
    scripts = random_scripts(1, clients=3, cuts=0)
    history = run_clients(lambda: FaultyBackend(memory, plan), drive, scripts, during=plan)
    assert history.unavailable == sum(map(len, scripts))
    *unknown, last = history.operations
    assert (last.kind, last.result, last.client) == ("get", None, 3)
    assert {one.result for one in unknown} == {UNKNOWN}
    assert not plan.is_on


@pytest.mark.parametrize("drive", ["blocking", "async"])
def test_what_a_plan_kept_from_being_answered_is_over_and_what_else_was_not_answered_need_not_be(drive: Any) -> None:
    memory, scripts = MemoryBackend(), random_scripts(1, clients=3, cuts=0)
    always = FaultPlan(1, {Fault.UNAVAILABLE_BEFORE: 1.0})
    with_plan = run_clients(lambda: FaultyBackend(memory, always), drive, scripts, during=always)
    assert None not in {one.end for one in with_plan.operations}
    always.next("replace", Fault.UNAVAILABLE_BEFORE, times=1_000)
    without = run_clients(lambda: FaultyBackend(memory, always), drive, scripts)
    assert {one.end is None for one in without.operations if one.result == UNKNOWN} == {True}
