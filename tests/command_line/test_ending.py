"""How a command ends when it is told to: Ctrl-C, SIGTERM, a reader that has gone, a full disk."""

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from command_line.gate import Gate
from commandstore import SyncProgress, open_store
from commandstore.cli.sync import what_it_means
from commandstore.testing.comby import create_sqlite, insert_sqlite, sample_commands

COUNT = 2000


@pytest.fixture
def source(tmp_path):
    create_sqlite(tmp_path / "app.db", "C")
    insert_sqlite(tmp_path / "app.db", sample_commands(COUNT, ties=50))
    return f"sqlite:///{tmp_path}/app.db"


@pytest.fixture
def table(ministack, request):
    """A table, and its URL by way of an endpoint."""
    name = f"cli-{abs(hash(request.node.nodeid)):x}"

    def url(endpoint=ministack.endpoint):
        return f"dynamodb://{name}?endpoint_url={endpoint}"

    with open_store(url(), create=True):
        pass
    return url


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_stopped_sync_saves_its_checkpoint_and_the_next_run_completes_it(
    program, cli, ministack, source, table, number, code, word
):
    with Gate(ministack.endpoint, open_for=40) as gate:
        running = program("sync", source, table(gate.endpoint), "--batch-size", "100")
        assert gate.reached.wait(timeout=300)
        running.process.send_signal(number)
        gate.open()
        result = running.result()
    assert (result.code, result.out) == (code, "")
    last = result.err.splitlines()[-1]
    assert last.startswith(f"commandstore: {word}: ")
    assert last.endswith("the checkpoint is saved; run the same command again to go on")
    second = cli("sync", source, table(), "--json")
    assert second.code == 0
    assert second.document["read"] < COUNT  # it went on after the checkpoint
    third = cli("sync", source, table(), "--no-resume-from-dest", "--json").document
    assert (third["read"], third["duplicates"]) == (COUNT, COUNT)


def test_an_interrupted_sync_is_one_document_too(program, ministack, source, table):
    with Gate(ministack.endpoint, open_for=0) as gate:
        running = program("sync", source, table(gate.endpoint), "--json")
        assert gate.reached.wait(timeout=300)
        running.process.send_signal(signal.SIGINT)
        gate.open()
        result = running.result()
    assert result.code == 130
    assert result.document["error"]["type"] == "Interrupted"


def test_an_interrupted_dry_run_does_not_speak_of_a_checkpoint(program, ministack, source, table):
    with Gate(ministack.endpoint, operation="BatchGetItem") as gate:
        running = program("sync", source, table(gate.endpoint), "--dry-run")
        assert gate.reached.wait(timeout=300)
        running.process.send_signal(signal.SIGINT)
        gate.open()
        result = running.result()
    assert result.code == 130
    assert result.err.splitlines()[-1].endswith(" commands compared; nothing was written")


def test_a_second_interrupt_does_not_promise_a_checkpoint():
    interrupt = KeyboardInterrupt()
    interrupt.__context__ = KeyboardInterrupt()
    said = what_it_means(interrupt, SyncProgress(9, 5), dry_run=False)
    assert said.startswith("9 commands read, 5 copied; the checkpoint may be older than that; run the same command")


def test_other_commands_just_say_that_they_were_interrupted(program, ministack, table):
    with Gate(ministack.endpoint, operation="BatchGetItem") as gate:
        running = program("get", table(gate.endpoint), "some")
        assert gate.reached.wait(timeout=300)
        running.process.send_signal(signal.SIGINT)
        gate.open()
        result = running.result()
    assert (result.code, result.out, result.err) == (130, "", "commandstore: interrupted\n")


@pytest.mark.parametrize("args", [("--help",), ("info", "memory://"), ("info", "memory://", "--json")])
def test_a_reader_that_has_gone_ends_it_quietly(program, args):
    reading, writing = os.pipe()
    os.close(reading)
    running = program(*args, stdout=writing)
    os.close(writing)
    result = running.result()
    assert (result.code, result.err) == (141, "")


def test_a_full_disk_is_said_in_one_line(program):
    with Path("/dev/full").open("w") as full:
        result = program("info", "memory://", stdout=full).result()
    assert (result.code, result.err) == (2, "commandstore: error: can't write the output: No space left on device\n")


def test_closed_streams_are_no_reason_to_fail():
    command = f"exec {sys.executable} -m commandstore info memory:// >&- 2>&-"
    assert subprocess.run(["/bin/sh", "-c", command], check=False, timeout=300).returncode == 0  # noqa: S603


def test_a_terminal_gets_a_bar_on_stderr_and_the_result_on_stdout(program, source, table):
    ours, theirs = pty.openpty()
    running = program("sync", source, table(), stderr=theirs)
    os.close(theirs)
    shown = bytearray()
    while True:
        try:
            shown += os.read(ours, 4096)
        except OSError:  # the other side is closed
            break
    os.close(ours)
    result = running.result()
    assert result.out.startswith(f"{COUNT:,} read = {COUNT:,} copied + ")
    assert "━".encode() in shown
    assert f"{COUNT:,} read".encode() in shown
