"""No test may print a secret of the suite: what each test printed and logged is looked through when it has ended.

What a test read by ``capsys`` or ``capfd`` counts as well. What a failed test's own traceback shows does not.
"""

from __future__ import annotations

import re
from collections.abc import Generator

import pytest

from command_line.program import SECRETS

__all__ = ["SAID", "pytest_runtest_makereport", "pytest_runtest_setup"]

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
_read: list[str] = []


def _remembering(capture: type[pytest.CaptureFixture[str]]) -> None:
    plain = capture.readouterr

    def readouterr(self: pytest.CaptureFixture[str]) -> object:
        found = plain(self)
        _read.extend(text for text in found if isinstance(text, str))
        return found

    capture.readouterr = readouterr  # type: ignore[method-assign, assignment]


_remembering(pytest.CaptureFixture)


def pytest_runtest_setup() -> None:
    """Forget what the test before this one read."""
    _read.clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that printed a secret, when it has come to its end."""
    report = yield
    if call.when != "teardown":
        return report
    printed = [("what it read of its output", text) for text in _read] + list(report.sections)
    where = sorted({section for section, text in printed if _SAID.search(text)})
    if where and report.outcome == "passed":
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} printed a secret of the suite: {', '.join(where)} (see tests/secrets_said.py)"
    return report
