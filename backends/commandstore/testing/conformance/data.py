"""The commands that the laws write: plain ones, and those at every edge of what a command may be."""

from __future__ import annotations

from functools import lru_cache
from random import Random
from typing import Any, cast

from commandstore.command import INT64_MAX, INT64_MIN, Command
from commandstore.core import Filters

__all__ = [
    "BYTES",
    "CONTEXTS",
    "EDGES",
    "KIB",
    "MIB",
    "NAMES",
    "ODD_UUIDS",
    "a_command",
    "only",
    "payload",
    "some_commands",
    "tied_commands",
]

KIB = 1024
MIB = 1024 * KIB

EDGES = (INT64_MIN, INT64_MIN + 1, -1, 0, 1, 2**53 + 1, 1_735_689_600_123_456_789, INT64_MAX - 1, INT64_MAX)
"""Values of an int64 that a float, a bound or a sort key gets wrong."""

ODD_UUIDS = (
    ".",
    "..",
    "/",
    "a/b",
    "../a",
    "a+b",
    "a%2Fb",
    "%",
    "%00",
    " ",
    " a ",
    "a\tb\nc",
    "a\\b",
    "a'b\"c`d",
    "a#b?c&d=e",
    "a:b;c,d",
    "a@b^c~d",
    "{a}[b]<c>|*$!",
    "head",
    "HEAD",
    "commandstore",
    "settings",
    "__x__",
    "0",
    "-1",
    "null",
    "A",
    "a",
    "Ä",
    "A\u0308",
    "ß",
    "漢字",
    "\u202eabc",
    "\ufeffabc",
    "\uffff",
    "😀",
    "👩‍👩‍👧",
    "x" * 512,
    "é" * 256,
    "😀" * 128,
)
"""Uuids that a path, an URL, a reserved name, a collation or a normalisation gets wrong; the last have 512 bytes."""

NAMES = (
    "",
    " ",
    "a",
    "A",
    "a ",
    "ä",
    "a\u0308",
    "%",
    "_",
    "'",
    "a#b",
    "0",
    "null",
    "漢字😀",
    "\uffff",
    "a\x1fb",
    "a\x00b",
)
"""Names that differ from each other, whatever an engine may think."""

CONTEXTS = (
    "",
    "{}",
    "{",
    "null",
    "[]",
    '"senderSessionUuid"',
    '{"senderSessionUuid": "s1"}',
    '{ "senderSessionUuid" :\t"s1" }\n',
    '{"senderSessionUuid":7}',
    '{"senderSessionUuid":"\\ud800"}',
    '{"b":1,"a":2,"b":3}',
    '{"ratio":3.14159,"big":9007199254740993,"huge":1e400,"zero":-0.0}',
    '{"text":"\\u003cb\\u003e Grüße 漢字 😀 \\ud83d\\ude00"}',
    '{"attributes":{"nested":[1,[2,{"three":[]}]]},"unknown":true}',
    "not json at all, \x7f \\ ' \" \u2028",
    '{"nul":"\x00"}',
)
"""Request contexts that must come back byte for byte: JSON in any spelling, and what isn't JSON."""

BYTES = (
    b"",
    b"\x00",
    b"0",
    b"{}",
    bytes(range(256)),
    b"\x00leading and trailing\x00",
    b"\xff\xfe\x00",
    b"\xc3\x28 invalid utf-8 \xed\xa0\x80",
    "Grüße 漢字 😀".encode(),
    b'{"ratio":3.14159,"list":[1,2,[3]],"nested":{"a":{"b":null}}}',
    b"\r\n\t'\"\\",
)
"""Payloads that a text column, a decoder or a trimming gets wrong."""


def a_command(command_uuid: str = "c1", created_at: int = 1, **fields: Any) -> Command:
    """A command with something in every field."""
    return Command(
        command_uuid,
        created_at,
        **{
            "instance_id": 1,
            "tenant_uuid": "tenant-1",
            "workspace_uuid": "workspace-1",
            "domain": "Account",
            "data_type": "AccountCommandLogin",
            "data_bytes": b'{"n":1}',
            "req_ctx": '{"senderSessionUuid":"session-1"}',
            **fields,
        },
    )


def only(**filters: Any) -> Filters:
    """Filters whose names are known at run time only."""
    return cast("Filters", filters)


def some_commands(count: int, *, prefix: str = "c", **fields: Any) -> list[Command]:
    """Commands of different uuids and times, all else alike but the payload."""
    return [
        a_command(f"{prefix}{number:05}", 1_000 + number, **{"data_bytes": b"%d" % number, **fields})
        for number in range(count)
    ]


def tied_commands() -> list[Command]:
    """A dozen commands with ties, not in order, whose uuids stand otherwise in other orders than UTF-8's.

    U+1F600 comes after U+FF5E by code point and in UTF-8, before it in UTF-16; ``B`` comes before ``a`` in bytes, after
    it in most collations.
    """
    tied = ("\uff5e", "a", "😀", "B", "é", "z", "-")
    return [
        *(a_command(uuid, 5) for uuid in tied),
        a_command("first", INT64_MIN),
        a_command("last", INT64_MAX),
        a_command("below zero", -1),
        a_command("zero", 0),
        a_command("late", 6),
    ]


@lru_cache(maxsize=16)
def payload(size: int) -> bytes:
    """Text of exactly so many bytes that doesn't repeat: parts put together wrongly are never equal to it."""
    return Random(size).randbytes(size // 2 + 1).hex().encode()[:size]  # noqa: S311 - the same every time
