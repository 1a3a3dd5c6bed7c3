"""A store with a ledger, and an attacker who has everything but the signing key: all that the backend can do."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any, NamedTuple

import orjson
import pytest
from sqlalchemy import text

from commandstore import Command, CommandStore, CorruptRecord
from commandstore.audit import AuditReport, verify_ledger
from commandstore.codec import Record, plain_record
from commandstore.command import CommandQuery
from commandstore.drive import BlockingDrive, run
from commandstore.dynamodb.layout import REGISTER
from commandstore.firestore.requests import put
from commandstore.ledger import Ed25519Signer, Entry, Leaf
from commandstore.ledger.entry import sign, state
from commandstore.ledger.leaves import pack, stored_digest
from commandstore.ledger.log import Ledger
from commandstore.ledger.reading import entry_name
from commandstore.memory import MemoryBackend
from commandstore.s3.layout import register_key

SIGNER = Ed25519Signer(bytes(32))
MALLORY = Ed25519Signer(bytes(range(32)))
KEYS = [SIGNER.public_key()]
HEAD = "ledger/head"


def a_command(uuid: str, created_at: int, data: bytes | None = None) -> Command:
    context = f'{{"senderSessionUuid":"session of {uuid}"}}'
    return Command(
        uuid, created_at, 1, "t", "w", "d", "k", f"payload of {uuid}".encode() if data is None else data, context
    )


def opened(backend: Any = None, **options: Any) -> CommandStore:
    store = CommandStore(backend or MemoryBackend())
    store.init(**options)
    return store


def forged(record: Record, **fields: Any) -> Record:
    """The record with other fields, and everything that is kept beside them made to fit."""
    return plain_record(
        *record._replace(**fields)[:7], fields.get("data", record.data), fields.get("req_ctx", record.req_ctx)
    )


class Copy(NamedTuple):
    """All that a store holds."""

    records: list[Record]
    registers: dict[str, bytes]


def history() -> list[Copy]:
    """A store after each of its five entries, the first copy being that after none."""
    store = opened(signer=SIGNER)
    backend: Any = store.core.backend
    copies = []

    def copy() -> None:
        records = [record for record, _ in backend._records.values()]
        copies.append(Copy(records, {name: register.value for name, register in backend._registers.items()}))

    copy()
    store.create_many(a_command(f"a{n}", 10 + n) for n in range(6))
    copy()
    store.create_many(a_command(f"b{n}", 20 + n) for n in range(4))
    copy()
    store.update(a_command("a5", 15, b"another payload"))
    copy()
    store.delete("a4")
    copy()
    store.create_many(a_command(f"d{n}", 30 + n) for n in range(2))
    copy()
    return copies


HISTORY = history()
ALL = ("a0", "a1", "a2", "a3", "a5", "b0", "b1", "b2", "b3", "d0", "d1")


class Scene:
    """One store, and what can be done to it past the library's ways."""

    def __init__(self, store: CommandStore) -> None:
        self.store = store
        self.backend: Any = store.core.backend

    # The store as it should be

    def put_back(self, copy: Copy = HISTORY[-1]) -> None:
        """Make the store what it was."""
        run(self.backend.clear())
        self.insert(*copy.records)
        for name, value in copy.registers.items():
            self.register(name, value)

    def audit(self, **options: Any) -> AuditReport:
        report = verify_ledger(self.store, options.pop("keys", KEYS), patience=0, **options)
        bad = report.added + report.dropped + report.altered + report.unfinished + report.unreadable + report.unlisted
        assert report.complete
        assert len({(f.kind, f.command_uuid, f.sequence) for f in report.findings}) == len(report.findings)
        assert report.commands == report.intact + bad
        assert report.clean == (not report.findings)
        assert report.accepted == (bool(report.findings) and report.checkpoint is not None)
        assert report.checkpoint is not None or report.findings
        assert not report.accepted or options.get("accept")
        return report

    # Commands

    def record(self, uuid: str) -> Record:
        return run(self.backend.fetch([uuid]))[uuid]

    def insert(self, *records: Record) -> None:
        run(self.backend.insert(records, secrets.token_hex(8)))

    def replace(self, record: Record) -> None:
        assert run(self.backend.replace(record, secrets.token_hex(8)))

    def remove(self, uuid: str) -> None:
        assert run(self.backend.remove(uuid))

    def count(self) -> int:
        return run(self.backend.count(CommandQuery()))

    # The ledger

    def register(self, name: str, value: bytes | None) -> None:
        found = run(self.backend.register_get(name))
        assert run(
            self.backend.register_swap(name, value, expected=found.token if found else None, token=secrets.token_hex(8))
        )

    def damage(self, name: str) -> None:
        """Make a register none, by what its engine has for that."""
        backend = self.backend
        if backend.store_type in {"sqlite", "postgresql"}:
            with backend._writing() as connection:
                sql = text("UPDATE commandstore_registers SET value = NULL WHERE name = :name")
                assert connection.execute(sql, {"name": name}).rowcount == 1
        elif backend.store_type == "dynamodb":
            item = {"uuid": {"S": name}, "part": {"S": REGISTER}, "value": {"S": "no bytes"}, "token": {"S": "t"}}
            run(backend._wire.call("PutItem", {"TableName": backend._place.table, "Item": item}))
        elif backend.store_type == "s3":
            run(backend._wire.put(register_key(name), b"{"))
        elif backend.store_type == "firestore":
            run(backend._wire.commit([put(backend._layout.register(name), {"value": "no bytes", "token": "t"})]))
        else:
            self.register(name, b"memory takes any bytes, and nothing else")
        if backend.store_type != "memory":
            with pytest.raises(CorruptRecord):
                run(backend.register_get(name))

    def raw(self, sequence: int) -> bytes:
        return run(self.backend.register_get(entry_name(sequence))).value

    def entry(self, sequence: int) -> Entry:
        return Entry.from_json(self.raw(sequence))

    def leaves(self, sequence: int) -> list[Leaf]:
        return run(Ledger(self.backend, BlockingDrive()).leaves(self.entry(sequence)))

    def set_entry(self, sequence: int, value: Entry | bytes | None) -> None:
        if isinstance(value, Entry):
            value = to_bytes(value)
        self.register(entry_name(sequence), value)

    def point_to(self, sequence: int) -> None:
        self.register(HEAD, b'{"version":1,"sequence":%d}' % sequence)

    def rewrite(self, sequence: int, leaves: Iterable[Leaf], signer: Any, **changes: Any) -> None:
        """Another entry in a place, with its bodies, that fits in all but perhaps the key."""
        leaves = sorted(leaves, key=lambda leaf: (leaf.created_at, leaf.command_uuid))
        previous = self.entry(sequence - 1) if sequence > 1 else None
        there = run(self.backend.register_get(entry_name(sequence)))
        old = Entry.from_json(there.value) if there else None
        commands = changes.get("commands", old.commands if old else 0)
        bodies = pack(leaves)
        entry = state(
            leaves,
            previous=previous,
            kind=old.kind if old else "create",
            commands=commands,
            time=old.time if old else 1,
            parts=len(bodies),
            signer=signer,
        )
        for part, body in enumerate(bodies):
            self.register(f"ledger/leaves/{entry.root}/{part}", body)
        self.set_entry(sequence, sign(entry, signer))


def to_bytes(entry: Entry) -> bytes:
    return orjson.dumps(entry.to_json())


def leaf_of(record: Record, op: int = 1) -> Leaf:
    return Leaf(op, record.command_uuid, stored_digest(record), record.created_at)


CHECKPOINT = Scene(opened())
CHECKPOINT.put_back()
CHECKPOINT = CHECKPOINT.audit().checkpoint


def named(report: AuditReport) -> set[tuple[str, str | int | None]]:
    """Kind, and uuid or sequence, of all that was found."""
    return {(f.kind.value, f.command_uuid if f.command_uuid is not None else f.sequence) for f in report.findings}
