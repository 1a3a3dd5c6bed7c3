"""Records, digests and limits."""

import base64
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commandstore import Command, InvalidCommand, InvalidQuery, codec

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
INT64 = st.integers(-(2**63), 2**63 - 1)
COMMANDS = st.builds(
    Command,
    command_uuid=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6),
    created_at=INT64,
    instance_id=INT64,
    tenant_uuid=TEXT,
    workspace_uuid=TEXT,
    domain=TEXT,
    data_type=TEXT,
    data_bytes=st.binary(max_size=6),
    req_ctx=TEXT,
)
GOLDEN = [
    (Command("c1", 5), "a571187fe4aafb880859ec88438b64b3deb8c141fc387e71bb38c1aa1c993224"),
    (
        Command("c1", -(2**63), 2**63 - 1, "t", "w", "d", "T", b"\x00\xff", '{"senderSessionUuid":"s"}'),
        "53340565cfe9d2214f7c718155b825cbc7ddf12bc91537cf2d86a984b0174a97",
    ),
    (
        Command("é😀", 1_735_689_600_123_456_789, -1, "", "漢", "", "", b"", ""),
        "013e1b4a6662389654e9623167181ca9b44de672c939b2166cc0876cfb78590e",
    ),
]


def _independent_digest(command: Command) -> str:
    """The digest as the module's docstring states it, by other means."""
    numbers = [command.created_at, command.instance_id]
    fields = [
        command.command_uuid.encode(),
        command.tenant_uuid.encode(),
        command.workspace_uuid.encode(),
        command.domain.encode(),
        command.data_type.encode(),
        command.data_bytes,
        command.req_ctx.encode(),
    ]
    form = b"commandstore\x01" + b"".join(n.to_bytes(8, "big", signed=True) for n in numbers)
    form += b"".join(len(field).to_bytes(8, "big") for field in fields) + b"".join(fields)
    return hashlib.sha256(form).hexdigest()


@pytest.mark.parametrize(("command", "digest"), GOLDEN)
def test_digests_never_change(command: Command, digest: str) -> None:
    # A store written years ago is compared with these. A change here needs a new format version.
    assert codec.encode(command).digest.hex() == digest
    assert codec.FORMAT_VERSION == 1


@given(COMMANDS)
def test_a_digest_is_what_its_docstring_says(command: Command) -> None:
    assert codec.encode(command).digest.hex() == _independent_digest(command)


@given(COMMANDS, COMMANDS)
def test_different_commands_have_different_canonical_forms(one: Command, other: Command) -> None:
    forms = [b"".join(codec.canonical(*command.model_dump().values())) for command in (one, other)]
    assert (forms[0] == forms[1]) == (one == other)


@given(COMMANDS, st.data())
def test_moving_a_byte_from_field_to_field_changes_the_canonical_form(command: Command, data: st.DataObject) -> None:
    names = ["tenant_uuid", "workspace_uuid", "domain", "data_type", "req_ctx"]
    giver = data.draw(st.sampled_from([name for name in names if getattr(command, name)] or ["command_uuid"]))
    taker = data.draw(st.sampled_from([name for name in names if name != giver]))
    text = getattr(command, giver)
    moved = command.model_copy(update={giver: text[:-1], taker: text[-1] + getattr(command, taker)})
    assert b"".join(codec.canonical(*command.model_dump().values())) != b"".join(
        codec.canonical(*moved.model_dump().values())
    )


@given(COMMANDS)
def test_a_command_comes_back_from_its_record(command: Command) -> None:
    record = codec.encode(command)
    assert codec.decode(record) == command
    assert record.position == command.position
    assert record.session_uuid == command.session_uuid
    assert (record.cipher, record.format) == ("", codec.FORMAT_VERSION)
    assert record.size >= len(command.data_bytes) + len(command.req_ctx)


@pytest.mark.parametrize(
    ("field", "limit"),
    [
        ("command_uuid", 512),
        ("tenant_uuid", 512),
        ("workspace_uuid", 1024),
        ("domain", 1024),
        ("data_type", 1024),
        ("req_ctx", 16 * 1024 * 1024),
    ],
)
@pytest.mark.parametrize("letter", ["x", "é", "漢", "😀"])
def test_a_text_is_limited_in_bytes_of_utf8(field: str, limit: int, letter: str) -> None:
    width = len(letter.encode())
    fields: dict[str, Any] = {"command_uuid": "c1", "created_at": 5}
    text = letter * (limit // width) + "x" * (limit % width)
    assert codec.decode(codec.encode(Command(**{**fields, field: text})))
    with pytest.raises(InvalidCommand, match=rf"{field} is longer than {limit:,} bytes"):
        codec.encode(Command(**{**fields, field: text + "x"}))


def test_a_payload_is_limited_to_16_mib() -> None:
    longest = bytes(codec.MAX_PAYLOAD_BYTES)
    assert codec.encode(Command("c1", 5, data_bytes=longest)).data == longest
    with pytest.raises(InvalidCommand, match=r"data_bytes has 16,777,217 bytes; the limit is 16,777,216"):
        codec.encode(Command("c1", 5, data_bytes=longest + b"x"))


def test_a_session_is_limited_too() -> None:
    codec.encode(Command("c1", 5, req_ctx=json.dumps({"senderSessionUuid": "x" * 1024})))
    with pytest.raises(InvalidCommand, match="session_uuid"):
        codec.encode(Command("c1", 5, req_ctx=json.dumps({"senderSessionUuid": "x" * 1025})))


@pytest.mark.parametrize("field", ["created_at", "instance_id"])
@pytest.mark.parametrize("number", [2**63, -(2**63) - 1])
def test_numbers_are_int64(field: str, number: int) -> None:
    with pytest.raises(InvalidCommand, match=f"{field} is outside of the 64-bit integers"):
        codec.encode(Command(**{"command_uuid": "c1", "created_at": 5, field: number}))


def test_an_empty_uuid_is_refused() -> None:
    with pytest.raises(InvalidCommand, match="needs a command_uuid"):
        codec.encode(Command("", 5))


@pytest.mark.parametrize("field", ["command_uuid", "tenant_uuid", "domain", "req_ctx"])
def test_a_lone_surrogate_is_refused(field: str) -> None:
    fields: dict[str, Any] = {"command_uuid": "c1", "created_at": 5, field: "a\ud800"}
    with pytest.raises(InvalidCommand, match="surrogate") as caught:
        codec.encode(Command(**fields))
    assert caught.value.command_uuid == fields["command_uuid"]


def test_a_refused_command_is_named_but_a_long_uuid_is_cut() -> None:
    with pytest.raises(InvalidCommand) as caught:
        codec.encode(Command("x" * 10_000, 5))
    assert len(str(caught.value)) < 200
    assert caught.value.command_uuid == "x" * 10_000


@pytest.mark.parametrize("uuid", ["", None, 5, b"c1", "\ud800", "a\udfffb"], ids=ascii)
def test_what_is_no_uuid_is_an_invalid_query(uuid: object) -> None:
    with pytest.raises(InvalidQuery, match="command_uuid"):
        codec.read_uuid(uuid)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_text_is_a_uuid(uuid: str) -> None:
    assert codec.read_uuid(uuid) == uuid


@given(COMMANDS)
def test_a_command_in_json_has_every_field(command: Command) -> None:
    value = json.loads(command.model_dump_json())
    assert base64.b64decode(value["data_bytes"], validate=True) == command.data_bytes
    assert value["req_ctx"] == command.req_ctx
    assert list(value) == list(Command.model_fields)
