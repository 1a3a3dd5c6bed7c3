"""Runs the command line in this process and as a program, and sees that no secret is ever printed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from command_line.program import KEY, SECRETS, Program, Result
from commandstore.cli import main


@pytest.fixture
def said() -> Iterator[list[str]]:
    """All that the commands of a test printed."""
    texts: list[str] = []
    yield texts
    for text in texts:
        assert not [secret for secret in SECRETS if secret in text]
        assert "Traceback" not in text


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], said: list[str]) -> Callable[..., Result]:
    """Run a command in this process."""

    def run(*args: object) -> Result:
        capsys.readouterr()
        code = main([str(arg) for arg in args])
        captured = capsys.readouterr()
        said.extend(captured)
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture
def refused(cli: Callable[..., Result]) -> Callable[..., str]:
    """Run a command that can't run: one line, exit code 2; with --json also one document that says the same."""

    def run(*args: object) -> str:
        plain = cli(*args)
        assert (plain.code, plain.out) == (2, ""), plain
        lines = [line for line in plain.err.splitlines() if not line.startswith(("syncing", "comparing"))]
        assert len(lines) == 1, plain.err
        head, mark, message = lines[0].partition("commandstore: error: ")
        assert (head, bool(mark)) == ("", True)
        assert "a bug in commandstore" not in message
        as_json = cli(*args, "--json")
        assert as_json.code == 2
        assert set(as_json.document["error"]) == {"type", "message"}
        return message

    return run


@pytest.fixture
def program(said: list[str]) -> Iterator[Callable[..., Program]]:
    """Start a command as a program; it is ended with the test."""
    running: list[Program] = []

    def start(*args: object, **options: Any) -> Program:
        running.append(Program([str(arg) for arg in args], said, **options))
        return running[-1]

    yield start
    for one in running:
        one.end()


@pytest.fixture
def memory(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """The URL of a store in memory that only this test knows."""

    def url(name: str = "store") -> str:
        return f"memory://{name}-{abs(hash(request.node.nodeid)):x}"

    return url


@pytest.fixture
def key_file(tmp_path: Any) -> str:
    """A file with a key."""
    path = tmp_path / "key"
    path.write_bytes(KEY)
    path.chmod(0o600)
    return str(path)
