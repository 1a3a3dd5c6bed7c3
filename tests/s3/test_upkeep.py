"""What upkeep takes along the way, and by whose clock."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from commandstore.errors import StoreUnavailable
from commandstore.s3 import compaction
from commandstore.testing.conformance.data import a_command, some_commands
from commandstore.testing.engines import Engine
from s3.rig import Rig, rigs


@pytest.fixture
def rig(engine: Engine) -> Iterator[Rig]:
    yield from rigs(engine)


def later(seconds: float) -> float:
    return time.time() + seconds


def test_the_probe_of_a_killed_init_is_collected_once_nobody_can_need_it(rig: Rig) -> None:
    rig.open(create=True)
    rig.write("probe-0123456789abcdef", b"1")
    assert rig.open().gc(0) == {"objects_removed": 0}
    assert rig.open(now=lambda: later(3601)).gc(0) == {"objects_removed": 1}
    assert rig.keys("probe-") == []


def test_a_grace_is_a_courtesy_to_long_reads(rig: Rig) -> None:
    store = rig.open(create=True)
    store.create_many(some_commands(20))
    store.create_many([a_command(f"n{number}") for number in range(20)])
    store.compact()
    assert rig.open(now=lambda: later(0)).gc(3600)["objects_removed"] == 0
    assert rig.open(now=lambda: later(3601)).gc(3600)["objects_removed"] > 0
    assert len(rig.open().list().commands) == 40


def test_updates_by_themselves_keep_the_manifest_small(rig: Rig) -> None:
    store = rig.open(create=True)
    store.create_many(some_commands(5))
    for number in range(60):
        assert store.update(a_command("c00001", data_bytes=b"%d" % number))
    manifest = rig.manifest()
    assert sum(len(dead["rows"]) for dead in manifest["dead"]) < 2 * compaction.GROWTH
    assert len(manifest["segments"]) < 2 * compaction.GROWTH
    assert store.get("c00001") == a_command("c00001", data_bytes=b"59")


def test_what_upkeep_along_the_way_can_not_do_is_no_error_of_the_write(rig: Rig) -> None:
    store = rig.open(create=True)
    for number in range(compaction.GROWTH - 1):
        store.create_many([a_command(f"{number}-{at}") for at in range(2)])
    for key in rig.keys("segments/"):
        rig.delete(key)
    result = rig.open().create_many([a_command("new-1"), a_command("new-2")])
    assert result.created == ("new-1", "new-2")


def test_upkeep_that_could_not_be_done_is_not_tried_by_each_write_after_it(rig: Rig) -> None:
    store = rig.open(create=True)
    tried: list[int] = []
    number = 0

    async def unavailable() -> None:
        tried.append(number)
        raise StoreUnavailable("no answer")

    store.core.backend._compactor.after_writing = unavailable
    for number in range(20):
        store.create_many([a_command(f"{number}-{at}") for at in range(2)])
    assert tried == [0, 9, 18]
