"""The suite's own guard: a test that prints a secret fails, in whatever way it printed it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import secrets_said

TESTS = """
import logging, os, sys

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

def test_has_secrets_and_says_nothing(capsys):
    password = "hunter2"
    print("***")
    assert capsys.readouterr().out
"""


def test_a_test_that_prints_a_secret_fails(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    done = subprocess.run(  # noqa: S603 - our own words
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
            tmp_path,
            tmp_path,
        ],
        env={**os.environ, "PYTHONPATH": str(Path(secrets_said.__file__).parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "5 passed, 4 errors" in done.stdout, done.stdout
    for name in ("test_prints", "test_reads_what_it_printed", "test_reads_what_its_processes_print", "test_logs"):
        assert f"{name} printed a secret" in done.stdout
    assert "says_nothing printed" not in done.stdout
