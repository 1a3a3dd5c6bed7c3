"""Progress: a line that moves on a terminal, and lines for logs elsewhere."""

from __future__ import annotations

import io
import sys

import pytest

from commandstore.cli.progress import PlainProgress, progress


@pytest.mark.parametrize(("at_once", "shown"), [(False, ["30", "60"]), (True, ["10", "40", "60"])])
def test_without_a_terminal_it_is_a_line_now_and_then(at_once, shown) -> None:
    clock = iter([0.0, 0.1, 0.2, 5.0, 5.2, 5.3, 10.3])
    stream = io.StringIO()
    show = PlainProgress(stream, str, at_once=at_once, clock=lambda: next(clock))
    for number in (10, 20, 30, 40, 50, 60):
        show(number)
    assert stream.getvalue().split() == shown


@pytest.mark.parametrize("part", [None, lambda now: (now, 100), lambda now: (now, None)])
def test_on_a_terminal_it_is_one_line_that_goes_when_it_is_done(monkeypatch, part) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with progress(lambda now: f"{now} of them", part=part) as show:
        show(42)
    said = terminal.getvalue()
    assert "42 of them" in said
    assert ("42%" in said) == (part is not None and part(42)[1] is not None)
    assert said.endswith("\x1b[2K")  # cleared
