"""What is printed, and how."""

import pytest

from commandstore.cli.output import moment, one_line, printable


@pytest.mark.parametrize(
    ("created_at", "shown"),
    [
        (1_735_689_600_000_000_000, "2025-01-01T00:00:00.000000000Z"),
        (1_735_689_600_000_000_001, "2025-01-01T00:00:00.000000001Z"),
        (2**63 - 1, "2262-04-11T23:47:16.854775807Z"),
        (1_735_689_600_000_000, ""),  # microseconds
        (1_735_689_600, ""),
        (0, ""),
        (-(2**63), ""),
    ],
)
def test_a_time_is_shown_where_the_value_looks_like_nanoseconds(created_at, shown):
    assert moment(created_at) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Grüße 漢字", "Grüße 漢字"),
        ("\x1b[1m", "\\x1b[1m"),
        ("a\nb", "a\\nb"),
        ("\ud800", "\\ud800"),
        ("\u202e", "\\u202e"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text, shown):
    assert printable(text) == shown


def test_a_message_of_several_lines_becomes_one():
    assert one_line("FATAL:  no\n  such\trole\n") == "FATAL: no such role"
