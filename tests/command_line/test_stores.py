"""The commands on one store."""

import base64
import json
import uuid
from io import BytesIO, TextIOWrapper

import pytest

from command_line.program import KEY, PAYLOAD
from commandstore import Command, open_store

T = 1_735_689_600_123_456_789


def fill(url, count=3, **fields):
    with open_store(url) as store:
        for number in range(count):
            store.create(Command(f"c{number}", T + number, **fields))


def test_init_says_what_it_made_and_leaves_what_is_there(cli, memory):
    assert cli("init", memory()).out == f"{memory()} was there already; nothing was changed\n"
    assert cli("init", memory(), "--json").document == {"store": memory(), "created": False}


def test_info_of_an_empty_store_has_no_newest(cli, memory):
    assert cli("info", memory()).out == f"store     {memory()}\ntype      memory\ncommands  0\n"


def test_info_shows_count_and_newest_time(cli, memory):
    fill(memory())
    assert "commands  3\nnewest    1735689600123456791  2025-01-01T00:00:00.123456791Z\n" in cli("info", memory()).out
    assert cli("info", memory(), "--json").document == {
        "store_type": "memory",
        "last_item_created_at": T + 2,
        "num_items": 3,
        "connection_info": memory(),
    }


def test_create_takes_every_field(cli, memory):
    result = cli(
        *("create", memory(), "--command-uuid", "u", "--created-at", "-5", "--instance-id", "7", "--tenant-uuid", "t"),
        *("--workspace-uuid", "w", "--domain", "d", "--data-type", "k", "--data", PAYLOAD, "--req-ctx", '{"a": 1}'),
    )
    assert (result.code, result.out) == (0, "created u\n")
    with open_store(memory()) as store:
        assert store.get("u") == Command("u", -5, 7, "t", "w", "d", "k", PAYLOAD.encode(), '{"a": 1}')


def test_create_makes_a_random_uuid_and_takes_the_time_of_now(cli, memory):
    document = cli("create", memory(), "--json").document
    assert uuid.UUID(document["command_uuid"]).version == 4
    assert document["created_at"] > T
    assert cli("get", memory(), document["command_uuid"], "--json").document == document


def test_create_takes_the_payload_from_a_file_or_stdin_byte_for_byte(cli, memory, tmp_path, monkeypatch):
    raw = bytes(range(256))
    (tmp_path / "data").write_bytes(raw)
    cli("create", memory(), "--command-uuid", "file", "--data-file", tmp_path / "data")
    monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(raw)))
    cli("create", memory(), "--command-uuid", "stdin", "--data-file", "-")
    with open_store(memory()) as store:
        assert [command.data_bytes for command in store.get_many(["file", "stdin"]).values()] == [raw, raw]


def test_creating_what_exists_changes_nothing_and_exits_with_1(cli, memory):
    fill(memory(), 1, data_bytes=b"first")
    result = cli("create", memory(), "--command-uuid", "c0", "--data", "second")
    assert (result.code, result.out) == (1, "")
    assert "exists already" in result.err
    with open_store(memory()) as store:
        assert store.get("c0").data_bytes == b"first"


def test_get_shows_every_field(cli, memory):
    with open_store(memory()) as store:
        store.create(Command("u", T, 7, "t", "w", "d", "k", b'{"a":1}', '{"b":2}'))
    assert cli("get", memory(), "u").out.splitlines() == [
        "command_uuid    u",
        "created_at      1735689600123456789  2025-01-01T00:00:00.123456789Z",
        "instance_id     7",
        "tenant_uuid     t",
        "workspace_uuid  w",
        "domain          d",
        "data_type       k",
        'data_bytes      {"a":1}',
        'req_ctx         {"b":2}',
    ]


def test_get_as_json_has_the_payload_in_base64(cli, memory):
    fill(memory(), 1, data_bytes=b"\x00\xff", req_ctx='{ "kept" : "byte for byte" }')
    document = cli("get", memory(), "c0", "--json").document
    assert base64.b64decode(document["data_bytes"]) == b"\x00\xff"
    assert document["req_ctx"] == '{ "kept" : "byte for byte" }'


def test_get_exits_with_1_when_there_is_none(cli, memory):
    result = cli("get", memory(), "nobody")
    assert (result.code, result.out, result.err) == (1, "", "commandstore: there is no command 'nobody'\n")
    result = cli("get", memory(), "nobody", "--json")
    assert (result.code, result.document) == (1, None)


def test_what_is_stored_can_not_command_the_terminal(cli, memory):
    fill(memory(), 1, domain="\x1b]0;owned\x07", data_bytes=b"\x1b[2J\r\n", tenant_uuid="\u202eevil")
    for args in (("get", memory(), "c0"), ("ls", memory())):
        out = cli(*args).out
        assert not {"\x1b", "\x07", "\r", "\u202e"} & set(out)
        assert "\\x1b]0;owned\\x07" in out


def test_ls_shows_times_names_and_sizes(cli, memory):
    fill(memory(), 2, tenant_uuid="t", domain="Order", data_type="OrderCommandPlace", data_bytes=b"12345")
    assert [line.split() for line in cli("ls", memory()).out.splitlines()] == [
        ["TIME", "(UTC)", "CREATED_AT", "COMMAND_UUID", "TENANT_UUID", "DOMAIN", "DATA_TYPE", "BYTES"],
        ["2025-01-01T00:00:00.123456789Z", str(T), "c0", "t", "Order", "OrderCommandPlace", "5"],
        ["2025-01-01T00:00:00.123456790Z", str(T + 1), "c1", "t", "Order", "OrderCommandPlace", "5"],
    ]


def test_ls_shows_plain_numbers_without_a_time(cli, memory):
    with open_store(memory()) as store:
        store.create(Command("c", 1_735_689_600))
    assert cli("ls", memory()).out.split() == [
        *("CREATED_AT", "COMMAND_UUID", "TENANT_UUID", "DOMAIN", "DATA_TYPE", "BYTES"),
        *("1735689600", "c", "0"),
    ]


def test_ls_into_a_pipe_cuts_nothing(cli, memory):
    fill(memory(), 1, tenant_uuid="t" * 300, domain="d" * 1000)
    assert "t" * 300 in cli("ls", memory()).out
    assert "d" * 1000 in cli("ls", memory()).out


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tenant_uuid", "x"),
        ("workspace_uuid", "x"),
        ("domain", "x"),
        ("data_type", "x"),
        ("session_uuid", "x"),
        ("before", 100),
        ("after", -100),
    ],
)
def test_ls_has_every_filter(cli, memory, name, value):
    match = {"before": {"created_at": 99}, "after": {"created_at": -99}}.get(name, {"created_at": 0, name: "x"})
    other = {"before": {"created_at": 100}, "after": {"created_at": -100}}.get(name, {"created_at": 0, name: "y"})
    if name == "session_uuid":
        match, other = ({"created_at": 0, "req_ctx": f'{{"senderSessionUuid":"{v}"}}'} for v in "xy")
    with open_store(memory()) as store:
        store.create_many([Command("match", **match), Command("other", **other)])
    document = cli("ls", memory(), f"--{name.replace('_', '-')}", value, "--json").document
    assert [command["command_uuid"] for command in document["commands"]] == ["match"]


def test_an_empty_filter_is_exactly_empty(cli, memory):
    with open_store(memory()) as store:
        store.create_many([Command("none", 0), Command("some", 0, tenant_uuid="t")])
    document = cli("ls", memory(), "--tenant-uuid", "", "--json").document
    assert [command["command_uuid"] for command in document["commands"]] == ["none"]


def uuids(result):
    return [command["command_uuid"] for command in result.document["commands"]]


def test_ls_pages_by_limit_offset_and_cursor(cli, memory):
    fill(memory(), 5)
    first = cli("ls", memory(), "--limit", "2", "--json")
    assert uuids(first) == ["c0", "c1"]
    assert uuids(cli("ls", memory(), "--limit", "2", "--offset", "3", "--json")) == ["c3", "c4"]
    assert uuids(cli("ls", memory(), "--cursor", first.document["cursor"], "--json")) == ["c2", "c3", "c4"]
    assert uuids(cli("ls", memory(), "--limit", "-1", "--descending", "--json")) == ["c4", "c3", "c2", "c1", "c0"]


def test_ls_tells_people_how_to_go_on(cli, memory):
    fill(memory(), 3)
    page = cli("ls", memory(), "--limit", "2")
    _, _, cursor = page.err.strip().partition("more: add --cursor ")
    assert "c2" in cli("ls", memory(), "--cursor", cursor).out


def test_ls_counts_only_when_asked(cli, memory):
    fill(memory(), 3)
    assert cli("ls", memory(), "--json").document["total"] is None
    assert cli("ls", memory(), "--limit", "0", "--total").out == "total 3\n"
    assert cli("ls", memory(), "--limit", "1", "--total", "--json").document["total"] == 3


def test_ls_of_nothing_says_so(cli, memory):
    result = cli("ls", memory())
    assert (result.code, result.out, result.err) == (0, "", "no commands\n")


def test_unreadable_commands_are_listed_beside_the_page_and_exit_with_1(cli, memory, key_file):
    fill(memory(), 1)
    cli("create", memory(), "--command-uuid", "sealed", "--key-file", key_file)
    result = cli("ls", memory())
    assert result.code == 1
    assert "c0" in result.out
    assert "unreadable: command 'sealed' is encrypted" in result.err
    document = cli("ls", memory(), "--json").document
    assert [(entry["command_uuid"], bool(entry["reason"])) for entry in document["corrupt"]] == [("sealed", True)]
    assert uuids(cli("ls", memory(), "--json")) == ["c0"]


@pytest.mark.parametrize("content", [KEY, KEY.hex().encode(), KEY.hex().encode() + b"\n", KEY.hex().upper().encode()])
def test_a_key_file_seals_and_opens(cli, memory, tmp_path, content):
    path = tmp_path / "key"
    path.write_bytes(content)
    cli("create", memory(), "--command-uuid", "u", "--data", PAYLOAD, "--key-file", path)
    assert PAYLOAD in cli("get", memory(), "u", "--key-file", path).out
    without = cli("get", memory(), "u")
    assert (without.code, without.out) == (1, "")
    assert "open the store with its crypto service" in without.err


def test_reset_needs_yes_where_there_is_nobody_to_ask(memory, refused):
    fill(memory())
    assert "--yes" in refused("reset", memory())
    with open_store(memory()) as store:
        assert store.total() == 3


def test_reset_removes_everything(cli, memory):
    fill(memory())
    assert cli("reset", memory(), "--yes").out == f"{memory()} is empty\n"
    assert cli("reset", memory(), "--yes", "--json").document == {"store": memory(), "reset": True}
    with open_store(memory()) as store:
        assert store.total() == 0


class Terminal(TextIOWrapper):
    def isatty(self):
        return True


@pytest.mark.parametrize(("answer", "code", "left"), [("y\n", 0, 0), ("n\n", 2, 3), ("\n", 2, 3), ("", 2, 3)])
def test_reset_asks_on_a_terminal(cli, memory, monkeypatch, answer, code, left):
    fill(memory())
    monkeypatch.setattr("sys.stdin", Terminal(BytesIO(answer.encode())))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    result = cli("reset", memory())
    assert result.code == code
    assert f"Remove all 3 commands and the checkpoints of {memory()}?" in result.err
    assert result.out == ("" if left else f"{memory()} is empty\n")
    with open_store(memory()) as store:
        assert store.total() == left


def test_every_document_is_one_and_plain_ascii(cli, memory):
    fill(memory(), 1, domain="Grüße 漢字 🚚")
    out = cli("get", memory(), "c0", "--json").out
    assert out.isascii()
    assert json.loads(out)["domain"] == "Grüße 漢字 🚚"


def test_a_store_with_a_ledger_is_reset_with_its_signing_key_only(cli, memory, refused, tmp_path):
    cli("audit", "keygen", tmp_path / "key")
    cli("create", memory(), "--command-uuid", "u", "--signing-key", tmp_path / "key")
    assert "keeps a ledger" in refused("reset", memory(), "--yes")
    assert "keeps a ledger" in refused("create", memory(), "--command-uuid", "v")
    assert cli("reset", memory(), "--yes", "--signing-key", tmp_path / "key").out == f"{memory()} is empty\n"
    with open_store(memory()) as store:
        assert store.total() == 0
