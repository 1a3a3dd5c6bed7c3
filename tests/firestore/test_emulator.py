"""The emulator as an engine: started, found, used where it runs already, and ended."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from commandstore.firestore.client import emulator_host
from commandstore.firestore.requests import create
from commandstore.testing import firestore
from commandstore.testing.engine_base import EngineUnavailable
from commandstore.testing.firestore import FirestoreEmulator, find_jar
from commandstore.testing.processes import free_port
from firestore.rig import Rig

GIVEN = "FIRESTORE_EMULATOR_HOST"


def stored(rig: Rig) -> bool:
    return bool(rig.do(rig.wire.batch_get([rig.name("a")])))


def test_one_that_runs_already_is_used_and_goes_on(
    firestore_emulator: FirestoreEmulator, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(GIVEN, f"http://{firestore_emulator.host}/")
    assert emulator_host() == firestore_emulator.host
    with FirestoreEmulator() as same:
        assert same.host == firestore_emulator.host
        rig.do(rig.wire.commit([create(rig.name("a"), {})]))
    assert stored(rig)


def test_reset_forgets_one_project_alone(firestore_emulator: FirestoreEmulator) -> None:
    one, other = (Rig(firestore_emulator.host, "blocking") for _ in range(2))
    for rig in (one, other):
        rig.do(rig.wire.commit([create(rig.name("a"), {})]))
    firestore_emulator.reset(one.place.project)
    assert (stored(one), stored(other)) == (False, True)
    one.close()
    other.close()


def test_one_that_does_not_answer_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(GIVEN, f"127.0.0.1:{free_port()}")
    assert FirestoreEmulator.available()
    engine = FirestoreEmulator()
    with pytest.raises(EngineUnavailable, match=GIVEN):
        engine.start()
    engine.stop()


def test_without_java_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(GIVEN, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not FirestoreEmulator.available()
    with pytest.raises(EngineUnavailable, match="gcloud components install cloud-firestore-emulator"):
        FirestoreEmulator().start()


def test_the_jar_is_found_in_any_sdk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(firestore, "_FOLDERS", (str(tmp_path / "nothing"), "~/google-cloud-sdk"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    for name in ("CLOUDSDK_ROOT", "CLOUDSDK_ROOT_DIR"):
        monkeypatch.delenv(name, raising=False)
    assert find_jar() is None

    def make(root: Path) -> Path:
        jar = root / "platform" / "cloud-firestore-emulator" / "cloud-firestore-emulator.jar"
        jar.parent.mkdir(parents=True)
        jar.touch()
        return jar

    at_home = make(tmp_path / "google-cloud-sdk")
    assert find_jar() == at_home
    on_the_path = make(tmp_path / "sdk")
    program = tmp_path / "sdk" / "bin" / "gcloud"
    program.parent.mkdir()
    program.touch(mode=0o755)
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "gcloud").symlink_to(program)
    assert find_jar() == on_the_path
    named = make(tmp_path / "other")
    monkeypatch.setenv("CLOUDSDK_ROOT", str(tmp_path / "other"))
    assert find_jar() == named


def test_where_the_package_put_the_jar_is_asked_of_dpkg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(firestore, "_FOLDERS", ())
    for name in ("CLOUDSDK_ROOT", "CLOUDSDK_ROOT_DIR"):
        monkeypatch.delenv(name, raising=False)
    dpkg = tmp_path / "dpkg"
    dpkg.write_text('#!/bin/sh\n[ "$1 $2" = "-L google-cloud-cli-firestore-emulator" ] && printf "/.\\n/x/it.jar\\n"\n')
    dpkg.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_jar() == Path("/x/it.jar")
    dpkg.write_text("#!/bin/sh\nexit 1\n")
    assert find_jar() is None
    dpkg.write_text("no program\n")
    assert find_jar() is None


def test_it_ends_and_leaves_nothing(firestore_emulator: FirestoreEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
    if not os.environ.get(GIVEN):
        assert firestore_emulator.start() is firestore_emulator
    monkeypatch.delenv(GIVEN, raising=False)
    if not FirestoreEmulator.available():
        pytest.skip(FirestoreEmulator.how_to_get)
    with FirestoreEmulator() as engine:
        assert engine.host != firestore_emulator.host
        process = engine._process
        assert process is not None
        assert process.alive
        assert engine._answers()
    assert not process.alive
    assert not engine._answers()
    engine.stop()
