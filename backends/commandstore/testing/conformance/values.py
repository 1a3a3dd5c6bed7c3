"""Laws of values and sizes: nothing is altered, nothing is cut, and what is over a limit is refused unwritten."""

from __future__ import annotations

from typing import Any

import pytest

from commandstore.codec import MAX_NAME_BYTES, MAX_PAYLOAD_BYTES, MAX_TENANT_BYTES, MAX_UUID_BYTES
from commandstore.command import Command
from commandstore.errors import InvalidCommand
from commandstore.store import CommandStore
from commandstore.testing.conformance.data import (
    BYTES,
    CONTEXTS,
    EDGES,
    KIB,
    MIB,
    NAMES,
    ODD_UUIDS,
    a_command,
    only,
    payload,
)
from commandstore.testing.conformance.lab import Lab

__all__ = ["SizeLaws", "ValueLaws"]

SIZES = (0, 1, 349 * KIB, 350 * KIB, 390_000, 399_000, 400_000, 400 * KIB - 300, 400 * KIB, MIB - 1, MIB, 5 * MIB + 3)
"""Around the limits of one item of the engines there are: 400 KB, 1 MiB."""

NAME_LIMITS = {
    "tenant_uuid": MAX_TENANT_BYTES,
    "workspace_uuid": MAX_NAME_BYTES,
    "domain": MAX_NAME_BYTES,
    "data_type": MAX_NAME_BYTES,
}


class ValueLaws:
    def test_every_int64_created_at_comes_back(self, lab: Lab, store: CommandStore) -> None:
        for at in EDGES:
            lab.keeps(store, a_command(f"at {at}", at))

    def test_every_int64_instance_id_comes_back(self, lab: Lab, store: CommandStore) -> None:
        for number in (*EDGES, -(2**31), 2**31 - 1, 2**31):
            lab.keeps(store, a_command(f"instance {number}", instance_id=number))

    @pytest.mark.parametrize("field", ["created_at", "instance_id"])
    def test_a_number_outside_of_int64_is_refused(self, lab: Lab, store: CommandStore, field: str) -> None:
        for number in (2**63, -(2**63) - 1, 2**64, 10**40):
            fields: dict[str, Any] = {field: number}
            lab.refuses(store, a_command(**fields))

    def test_text_that_utf8_cant_hold_is_refused(self, lab: Lab, store: CommandStore) -> None:
        lab.refuses(store, a_command(domain="\ud800"))
        lab.refuses(store, a_command("a\udfff"))

    def test_every_byte_of_a_payload_comes_back(self, lab: Lab, store: CommandStore) -> None:
        for number, data in enumerate(BYTES):
            lab.keeps(store, a_command(f"c{number}", data_bytes=data))

    def test_a_request_context_comes_back_byte_for_byte(self, lab: Lab, store: CommandStore) -> None:
        for number, text in enumerate(CONTEXTS):
            lab.keeps(store, a_command(f"c{number}", req_ctx=text))

    def test_every_name_comes_back(self, lab: Lab, store: CommandStore) -> None:
        for number, name in enumerate(NAMES):
            lab.keeps(
                store,
                a_command(f"c{number}", tenant_uuid=name, workspace_uuid=name, domain=name, data_type=name),
            )

    def test_empty_fields_come_back_empty(self, lab: Lab, store: CommandStore) -> None:
        lab.keeps(store, Command("c1", 0))
        assert store.create_many([Command("c1", 0), Command("c2", 0)]).duplicate == ("c1",)
        assert store.get("c2") == Command("c2", 0)

    def test_every_odd_uuid_is_a_command_of_its_own(self, lab: Lab, store: CommandStore) -> None:
        commands = {uuid: a_command(uuid, data_bytes=b"of %d" % at) for at, uuid in enumerate(ODD_UUIDS)}
        for command in commands.values():
            lab.keeps(store, command)
        assert lab.place.raw_uuids() == set(commands)
        assert store.get_many(commands) == commands
        lab.place.settle()
        assert store.list(with_total=False).commands == tuple(commands[uuid] for uuid in sorted(commands))
        for uuid in commands:
            assert store.update(a_command(uuid, 2))
            assert store.delete(uuid)
            assert store.get(uuid) is None
        assert lab.place.raw_uuids() == set()

    def test_a_nul_in_a_uuid_comes_back(self, lab: Lab, store: CommandStore) -> None:
        for uuid in ("\x00", "a\x00", "a\x00b"):
            lab.keeps(store, a_command(uuid))
        assert store.get("a") is None

    def test_create_many_keeps_every_value_as_create_does(self, lab: Lab, store: CommandStore) -> None:
        given = [
            *(a_command(f"at {at}", at, instance_id=at) for at in EDGES),
            *(a_command(f"data {number}", data_bytes=data) for number, data in enumerate(BYTES)),
            *(a_command(f"context {number}", req_ctx=text) for number, text in enumerate(CONTEXTS)),
            *(a_command(f"name {number}", tenant_uuid=name, domain=name) for number, name in enumerate(NAMES)),
            *(a_command(uuid) for uuid in (*ODD_UUIDS, "a\x00b")),
        ]
        held = {command.command_uuid: command for command in given if lab.place.holds(command)}
        result = store.create_many(given)
        assert set(result.created) == set(held) == lab.place.raw_uuids()
        assert all(isinstance(failure.error, InvalidCommand) for failure in result.failed)
        assert len(result.created) + len(result.failed) == len(given)
        assert store.get_many(held) == held
        assert sorted(store.create_many(held.values()).duplicate) == sorted(held)

    def test_update_keeps_every_value_as_create_does(self, lab: Lab, store: CommandStore) -> None:
        store.create(a_command())
        changes: list[dict[str, Any]] = [
            *({"created_at": at} for at in EDGES),
            *({"data_bytes": data} for data in BYTES),
            *({"req_ctx": text} for text in CONTEXTS),
            *({"tenant_uuid": name, "workspace_uuid": name} for name in NAMES),
        ]
        for change in changes:
            command = a_command(**{"created_at": 3, **change})
            if lab.place.holds(command):
                assert store.update(command)
                assert store.get("c1") == command
            else:
                with pytest.raises(InvalidCommand):
                    store.update(command)


class SizeLaws:
    def test_a_payload_of_any_size_comes_back(self, lab: Lab, store: CommandStore) -> None:
        for size in SIZES:
            lab.keeps(store, a_command(f"{size}", size, data_bytes=payload(size)))

    def test_a_long_payload_is_listed_and_scanned_whole(self, lab: Lab, store: CommandStore) -> None:
        sizes = (3, 420 * KIB, MIB, 5, 900 * KIB)
        expected = lab.fill(
            store, (a_command(f"c{number}", number, data_bytes=payload(size)) for number, size in enumerate(sizes))
        )
        assert list(store.list().commands) == expected
        assert list(store.list(ascending=False, limit=2).commands) == expected[:2:-1]
        assert list(store.scan(page_size=2)) == expected

    def test_a_payload_of_16_mib_comes_back(self, lab: Lab, store: CommandStore) -> None:
        command = a_command(data_bytes=payload(MAX_PAYLOAD_BYTES))
        store.create(command)
        assert store.get("c1") == command
        assert lab.place.raw_payload("c1") == command.data_bytes

    def test_a_payload_over_16_mib_is_refused(self, lab: Lab, store: CommandStore) -> None:
        lab.refuses(store, a_command(data_bytes=b"x" * (MAX_PAYLOAD_BYTES + 1)))

    def test_a_long_request_context_comes_back(self, lab: Lab, store: CommandStore) -> None:
        for size in (390 * KIB, 450 * KIB, 2 * MIB):
            text = f'{{"senderSessionUuid":"s","attributes":"Grüße 漢字 {payload(size).decode()}"}}'
            command = a_command(f"{size}", req_ctx=text, data_bytes=payload(200 * KIB))
            lab.keeps(store, command)
            lab.place.settle()
            assert store.total(session_uuid="s") == 1
            assert store.delete(f"{size}")

    def test_a_request_context_over_16_mib_is_refused(self, lab: Lab, store: CommandStore) -> None:
        lab.refuses(store, a_command(req_ctx="é" * (MAX_PAYLOAD_BYTES // 2) + "x"))

    def test_names_at_their_limits_come_back_and_are_found(self, lab: Lab, store: CommandStore) -> None:
        for letter in ("x", "é", "😀"):
            fields: dict[str, Any] = {
                name: letter * (limit // len(letter.encode())) for name, limit in NAME_LIMITS.items()
            }
            session = letter * (MAX_NAME_BYTES // len(letter.encode()))
            uuid = letter * (MAX_UUID_BYTES // len(letter.encode()))
            command = a_command(uuid, req_ctx=f'{{"senderSessionUuid":"{session}"}}', **fields)
            lab.keeps(store, command)
            lab.place.settle()
            assert store.list(session_uuid=session, **fields).commands == (command,)
            for name, value in {**fields, "session_uuid": session}.items():
                assert store.list(**only(**{name: value})).commands == (command,), name
                assert store.list(**only(**{name: value[:-1]})).commands == (), name

    @pytest.mark.parametrize("field", ["command_uuid", "session_uuid", *NAME_LIMITS])
    def test_a_name_over_its_limit_is_refused(self, lab: Lab, store: CommandStore, field: str) -> None:
        limit = {"command_uuid": MAX_UUID_BYTES, "session_uuid": MAX_NAME_BYTES, **NAME_LIMITS}[field]
        for name in ("x" * (limit + 1), "é" * (limit // 2) + "x", "😀" * (limit // 4) + "é"):
            if field == "session_uuid":
                lab.refuses(store, a_command(req_ctx=f'{{"senderSessionUuid":"{name}"}}'))
            else:
                fields: dict[str, Any] = {field: name}
                lab.refuses(store, a_command(**fields))

    def test_a_filter_longer_than_any_name_finds_nothing(self, lab: Lab, store: CommandStore) -> None:
        lab.fill(store, [a_command()])
        for name in (*NAME_LIMITS, "session_uuid"):
            page = store.list(**only(**{name: "x" * 5_000}))
            assert (page.commands, page.total, page.cursor) == ((), 0, None)
            assert store.total(**only(**{name: "😀" * 1_000})) == 0
