"""No test may say a secret of the suite: what each one said is looked through when it has ended.

That is what it printed (what it read of that by ``capsys`` or ``capfd`` counts as well), what it logged (our own
loggers from DEBUG on, all others from INFO on: botocore's DEBUG shows signatures by design, and takes its time), what
its processes said to ``communicate`` and Lambda containers to their log, and the message of every error of ours that
was made, caught or not. What a failed test's own traceback shows besides does not count.
"""

from __future__ import annotations

import logging
import re
import subprocess
from collections.abc import Generator

import pytest

from command_line.program import SECRETS
from commandstore.errors import CommandStoreError

__all__ = ["SAID", "heard", "pytest_runtest_makereport", "pytest_runtest_setup"]

SAID = (
    "hunter2",  # in most passwords
    "ss-w0rd",
    "s3cret",
    "AKIDEXAMPLE/",  # in a signature's scope: a header was logged
    "BEGIN PRIVATE KEY",
    *SECRETS,
    "000102030405060708090a0b0c0d0e0f1011121314151617",  # keys, in hex
    "0123456789abcdef0123456789abcdef",
)
_SAID = re.compile("|".join(map(re.escape, SAID)))
_heard: set[str] = set()


def heard(where: str, text: object) -> None:
    """Look through something that the running test made somebody say."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    if isinstance(text, str) and _SAID.search(text):
        _heard.add(where)


def _listening_to_captures(capture: type[pytest.CaptureFixture[str]]) -> None:
    plain = capture.readouterr

    def readouterr(self: pytest.CaptureFixture[str]) -> object:
        found = plain(self)
        for text in found:
            heard("what it read of its output", text)
        return found

    capture.readouterr = readouterr  # type: ignore[method-assign, assignment]


def _listening_to_processes(process: type[subprocess.Popen[str]]) -> None:
    plain = process.communicate

    def communicate(self: subprocess.Popen[str], *args: object, **kwargs: object) -> object:
        found = plain(self, *args, **kwargs)  # type: ignore[arg-type]
        for text in found:
            heard("the output of a process", text)
        return found

    process.communicate = communicate  # type: ignore[method-assign, assignment]


def _listening_to_errors(error: type[CommandStoreError]) -> None:
    plain = error.__init__

    def init(self: CommandStoreError, *args: object, **kwargs: object) -> None:
        plain(self, *args, **kwargs)  # type: ignore[arg-type]
        heard("the message of an error", str(self))

    error.__init__ = init  # type: ignore[method-assign, assignment]


_listening_to_captures(pytest.CaptureFixture)
_listening_to_processes(subprocess.Popen)
_listening_to_errors(CommandStoreError)


def pytest_runtest_setup() -> None:
    """Forget what the test before this one said; have pytest hear what this one logs."""
    _heard.clear()
    for name, level in ((None, logging.INFO), ("commandstore", logging.DEBUG)):
        logging.getLogger(name).setLevel(level)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that said a secret, when it has come to its end."""
    report = yield
    if call.when != "teardown":
        return report
    where = sorted(_heard | {section for section, text in report.sections if _SAID.search(text)})
    if where and report.outcome == "passed":
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} said a secret of the suite: {', '.join(where)} (see tests/secrets_said.py)"
    return report
