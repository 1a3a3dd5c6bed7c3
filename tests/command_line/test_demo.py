"""The demo, in full."""

import signal
import tempfile
from pathlib import Path

import pytest

from commandstore.cli import demo as module
from commandstore.testing.engines import EmbeddedDynamoDB, EngineUnavailable, InProcessMoto


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    """Where the demo puts its files; nothing is left there."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield tmp_path
    assert not list(tmp_path.glob("commandstore-*"))


@pytest.mark.usefixtures("ministack")
def test_the_demo_copies_everything_once_and_shows_it(cli):
    result = cli("demo")
    assert result.code == 0
    assert "\n   10,000 read = 10,000 copied + 0 duplicates + 0 conflicts + 0 failed, in " in result.out
    assert "\n   0 read = 0 copied + " in result.out
    assert "$ commandstore sync sqlite:///" in result.out
    assert "Both hold the same" in result.out
    [all_] = [line.split() for line in result.out.splitlines() if line.split()[:1] == ["all"]]
    assert all_ == ["all", "10,000", "10,000"]


@pytest.mark.usefixtures("ministack")
def test_the_demo_as_one_document(cli):
    document = cli("demo", "--count", "300", "--json").document
    assert document["same"] is True
    assert (document["first"]["copied"], document["second"]["copied"]) == (300, 0)
    assert document["totals"][-1] == {"tenant_uuid": "all", "source": 300, "destination": 300}


def test_without_uv_the_demo_runs_on_moto_in_its_own_process(cli, monkeypatch):
    monkeypatch.setattr(module, "embedded_dynamodb", lambda: EmbeddedDynamoDB(InProcessMoto().start()))
    result = cli("demo", "--count", "300")
    assert result.code == 0
    assert "bulk=put" in result.out
    assert "\n   300 read = 300 copied + " in result.out


def test_without_any_engine_the_demo_says_how_to_get_one(cli, monkeypatch):
    def nothing():
        raise EngineUnavailable("ministack is not here: install uv")

    monkeypatch.setattr(module, "embedded_dynamodb", nothing)
    result = cli("demo", "--count", "10", "--json")
    assert result.code == 2
    assert result.document["error"]["message"].endswith("ministack is not here: install uv")


@pytest.mark.usefixtures("ministack")
def test_kept_stores_are_there_until_ctrl_c_and_then_gone(program, cli):
    running = program("demo", "--count", "300", "--keep")
    url = None
    for line in running.process.stdout:
        if " info sqlite:///" in line:
            url = line.split()[-1]
        if " ls " in line and "--limit 10" in line:
            break
    assert cli("info", url, "--json").document["num_items"] == 300
    running.process.send_signal(signal.SIGINT)
    result = running.result()
    assert (result.code, result.err.splitlines()[-1]) == (0, "removing both")
    assert not Path(url.removeprefix("sqlite:///")).exists()


@pytest.mark.usefixtures("ministack")
def test_an_interrupted_demo_leaves_nothing(program):
    running = program("demo", "--count", "20000")
    for line in running.process.stdout:
        if "commandstore sync" in line:
            break
    running.process.send_signal(signal.SIGINT)
    assert running.result().code == 130
