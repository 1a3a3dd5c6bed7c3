"""Storms: many operations at once under seeded faults, on each backend, blocking and on asyncio.

The seed of a run that failed is in its message. ``COMMANDSTORE_STORM_SEED=N`` runs that one, and
``--log-cli-level=info`` shows what each did.
"""

from __future__ import annotations

import logging
import os
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from commandstore.testing.faults import FaultPlan, run_storm
from reliability.scale import scaled
from reliability.storms import Target, dynamodb, memory, on_firestore, prepare, s3, sqlite

SEED = int(os.environ.get("COMMANDSTORE_STORM_SEED", "8"))
OPERATIONS = scaled(300, 10_000)
DRIVES = ["blocking", "async"]
AWS_DRIVES = DRIVES if find_spec("aioboto3") else DRIVES[:1]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    prepare(monkeypatch, tmp_path)


_log = logging.getLogger(__name__)


def storm(place: AbstractContextManager[Target], plan: FaultPlan, drive: Any) -> None:
    with place as target:
        report = run_storm(
            target.make,
            plan,
            drive,
            operations=OPERATIONS,
            raw_uuids=target.raw_uuids,
            long_bytes=target.long_bytes,
            apart=target.apart,
            recreates=target.recreates,
        )
    _log.info("%s: %s", drive, report)
    assert sum(report.faults.values()) > OPERATIONS // 10


@pytest.mark.parametrize("drive", DRIVES)
def test_memory_under_faults_loses_nothing(drive: str) -> None:
    plan = FaultPlan(SEED, 0.2, outages=0.02)
    storm(memory(plan), plan, drive)


@pytest.mark.parametrize("drive", DRIVES)
def test_sqlite_under_faults_loses_nothing(drive: str, tmp_path: Path) -> None:
    plan = FaultPlan(SEED, 0.2, outages=0.02)
    storm(sqlite(plan, tmp_path), plan, drive)


@pytest.mark.parametrize("drive", AWS_DRIVES)
def test_dynamodb_under_faults_loses_nothing(drive: str, request: pytest.FixtureRequest) -> None:
    plan = FaultPlan(SEED, 0.2, outages=0.1, outage_length=12)
    storm(dynamodb(plan, request.getfixturevalue("ministack"), is_async=drive == "async"), plan, drive)


@pytest.mark.parametrize("drive", AWS_DRIVES)
def test_s3_under_faults_loses_nothing(drive: str, request: pytest.FixtureRequest) -> None:
    plan = FaultPlan(SEED, 0.1, outages=0.1, outage_length=12)
    storm(s3(plan, request.getfixturevalue("ministack"), is_async=drive == "async"), plan, drive)


@pytest.mark.parametrize("drive", DRIVES)
def test_firestore_under_faults_loses_nothing(drive: str, request: pytest.FixtureRequest) -> None:
    plan = FaultPlan(SEED, 0.2, outages=0.1, outage_length=12)
    storm(on_firestore(plan, request.getfixturevalue("firestore_emulator")), plan, drive)
