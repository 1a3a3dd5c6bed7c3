"""The suite's own guard: a test that prints a secret fails, in whatever way it printed it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import secrets_said

TESTS = """
import logging, os, subprocess, sys
from commandstore.errors import ConfigurationError

def test_prints():
    print("postgresql://u:hunter2@h/db")

def test_reads_what_it_printed(capsys):
    print("password=s3cret", file=sys.stderr)
    assert capsys.readouterr().err

def test_reads_what_its_processes_print(capfd):
    os.system("echo hunter2")
    assert capfd.readouterr().out

def test_logs():
    logging.getLogger("x").warning("key %s", bytes(range(24)).hex())

def test_logs_by_the_way():
    logging.getLogger("x").info("password hunter2")

def test_traces():
    logging.getLogger("commandstore.any").debug("password hunter2")

def test_runs_what_prints():
    subprocess.run([sys.executable, "-c", "print('hunter2')"], capture_output=True)

def test_makes_an_error():
    try:
        raise ConfigurationError("hunter2")
    except ConfigurationError:
        pass

def test_has_secrets_and_says_nothing(capsys):
    password = "hunter2"
    print("***")
    assert capsys.readouterr().out
"""


def test_a_test_that_says_a_secret_fails(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    # Into a file, as what is read of a process counts as said by this test.
    with (tmp_path / "out").open("w") as out:
        subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-p",
                "secrets_said",
                "-p",
                "no:cacheprovider",
                "--rootdir",
                ".",
                ".",
            ],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(secrets_said.__file__).parent)},
            stdout=out,
            check=False,
        )
    said = (tmp_path / "out").read_text()
    failing = re.findall(r"def (test_\w+)", TESTS)[:-1]
    assert f"{len(failing) + 1} passed, {len(failing)} errors" in said, said
    for name in failing:
        assert f"{name} said a secret" in said
    assert "says_nothing said" not in said
