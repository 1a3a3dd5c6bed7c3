"""Exports with proofs: every row is held against the ledger without the store, and none passes that was touched."""

from __future__ import annotations

import base64
import itertools
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from audit.scene import ALL, HISTORY, KEYS, MALLORY, SIGNER, Scene, a_command, forged, leaf_of, opened
from commandstore import ConfigurationError, CryptoService, LedgerError, export_commands, open_store
from commandstore.audit import ExportCheck, adopt, check_export
from commandstore.audit.exported import RowProver, Tree
from commandstore.codec import encode
from commandstore.drive import run
from commandstore.ledger.merkle import path_to, root_of
from commandstore.testing.comby import create_sqlite, raw_insert_sqlite


@pytest.fixture
def exported(it: Scene, tmp_path: Path) -> Path:
    path = tmp_path / "out.jsonl"
    assert export_commands(it.store, path, proofs=True).unproven == 0
    return path


def checked(path: Path, keys: Any = KEYS, **options: Any) -> ExportCheck:
    check = check_export(path, f"{path}.ledger.jsonl", keys, **options)
    assert check.rows == check.proven + check.sealed + check.unproven + check.bad
    return check


def test_an_export_holds(exported: Path) -> None:
    check = checked(exported)
    assert check.holds
    # The entry of the deletion is not among them: no row speaks of it.
    assert (check.rows, check.proven, check.entries) == (len(ALL), len(ALL), 4)
    assert check.to_dict()["holds"] is True


def test_a_part_of_a_store_holds_too(it: Scene, tmp_path: Path) -> None:
    export_commands(it.store, tmp_path / "part", proofs=True, after=29)
    assert (checked(tmp_path / "part").proven, checked(tmp_path / "part").entries) == (2, 1)
    assert export_commands(it.store, tmp_path / "none", proofs=True, tenant_uuid="?").commands == 0
    assert checked(tmp_path / "none").holds


def write(path: Path, rows: list[Any]) -> None:
    """Write rows as an export does."""
    path.write_bytes(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows))


def consistent(row: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A row whose digest was made to fit its fields again."""
    row = row | fields
    plain = {name: row[name] for name in ("command_uuid", "created_at", "instance_id", "tenant_uuid")}
    plain |= {name: row[name] for name in ("workspace_uuid", "domain", "data_type", "req_ctx")}
    record = encode(a_command("x", 1).model_copy(update=plain | {"data_bytes": base64.b64decode(row["data_bytes"])}))
    return row | {"digest": record.digest.hex()}


X = base64.b64encode(b"x").decode()
TOUCHED: list[tuple[Callable[[list[dict[str, Any]]], Any], str]] = [
    (lambda rows: rows.__setitem__(1, rows[1] | {"data_bytes": X}), "digest is not that of its fields"),
    (lambda rows: rows.__setitem__(1, consistent(rows[1], data_bytes=X)), "not what entry 1 records"),
    (lambda rows: rows.__setitem__(1, consistent(rows[1], tenant_uuid="u")), "not what entry 1 records"),
    (
        lambda rows: rows.__setitem__(1, (new := consistent(rows[1], data_bytes=X)) | {"ledger_digest": new["digest"]}),
        "not under the root of entry 1",
    ),
    (lambda rows: rows.__setitem__(1, rows[1] | {"session_uuid": "other"}), "session"),
    (lambda rows: rows.__setitem__(1, rows[1] | {"ledger_entry": 5}), "not under the root of entry 5"),
    (lambda rows: rows.__setitem__(1, rows[1] | {"ledger_entry": 4}), "entry 4 is not beside the export"),
    (lambda rows: rows.__setitem__(1, rows[1] | {"ledger_index": 0}), "not under the root"),
    (lambda rows: rows.__setitem__(1, rows[1] | {"ledger_op": "update"}), "not under the root"),
    (lambda rows: rows.__setitem__(1, rows[1] | {"ledger_op": "delete"}), "proof can't be read"),
    (lambda rows: rows.__setitem__(1, rows[1] | {"ledger_path": rows[1]["ledger_path"][1:]}), "not under the root"),
    (lambda rows: rows.__setitem__(1, rows[1] | {"ledger_path": None}), "proof can't be read"),
    (lambda rows: rows.__setitem__(1, rows[1] | {"ledger_digest": "zz"}), "proof can't be read"),
    (lambda rows: rows.__setitem__(1, rows[1] | {"created_at": "11"}), "no int64"),
    (lambda rows: rows.__setitem__(1, rows[1] | {"data_bytes": "?"}), "not base64"),
    (lambda rows: rows.__setitem__(1, rows[1] | {"domain": None}), "field is missing"),
    (lambda rows: rows.__setitem__(1, [1]), "not an object"),
    (lambda rows: rows.insert(1, rows[0]), "there twice"),
    (lambda rows: rows.insert(0, rows.pop(1)), "out of order"),
]


@pytest.mark.parametrize(("touch", "reason"), TOUCHED)
def test_a_row_that_was_touched_is_named(exported: Path, touch: Any, reason: str) -> None:
    rows = [json.loads(line) for line in exported.read_text().splitlines()]
    touch(rows)
    write(exported, rows)
    check = checked(exported)
    assert (check.bad, check.holds) == (1, False)
    [finding] = check.findings
    assert (finding.file, finding.line) == ("export", 2)
    assert reason in finding.reason


def respelled_hex(line: bytes) -> bytes:
    row = orjson.loads(line)
    return orjson.dumps(row | {"ledger_path": [node.upper() for node in row["ledger_path"]]})


RESPELLED: list[Callable[[bytes], bytes]] = [
    # What other readers take, where two fields have one name.
    lambda line: line.replace(b"{", b'{"data_bytes":"RVZJTA==","tenant_uuid":"EVIL",', 1),
    lambda line: line.replace(b"{", b'{"ledger_entry":1,', 1),
    lambda line: line.replace(b"{", b'{"approved_by":"mallory",', 1),
    lambda line: line[:-1] + b',"approved_by":"mallory"}',
    respelled_hex,
    lambda line: orjson.dumps(orjson.loads(line), option=orjson.OPT_SORT_KEYS),
    lambda line: line.replace(b":", b": ", 1),
    lambda line: line + b" ",
    lambda line: line.replace(b'"a1"', b'"\\u0061\\u0031"'),
]


@pytest.mark.parametrize("respell", RESPELLED)
def test_a_row_in_other_bytes_than_an_export_writes_does_not_hold(exported: Path, respell: Any) -> None:
    lines = exported.read_bytes().splitlines()
    exported.write_bytes(b"\n".join([lines[0], respell(lines[1]), *lines[2:]]))
    check = checked(exported)
    assert (check.bad, check.proven, check.holds) == (1, len(ALL) - 1, False)
    [finding] = check.findings
    assert (finding.line, finding.command_uuid) == (2, "a1")
    assert "not spelled as an export writes it" in finding.reason


def test_line_ends_may_be_those_of_another_system(exported: Path) -> None:
    exported.write_bytes(exported.read_bytes().replace(b"\n", b"\r\n"))
    assert checked(exported).holds


def respelled_signature(line: bytes) -> bytes:
    entry = orjson.loads(line)
    first, last = entry["signature"][:-3], entry["signature"][-3]
    assert entry["signature"].endswith("==")
    return orjson.dumps(entry | {"signature": f"{first}{chr(ord(last) + 1)}=="})


@pytest.mark.parametrize(
    "respell",
    [
        respelled_signature,
        lambda line: line.replace(b"{", b'{"statement":"{}",', 1),
        lambda line: line.replace(b":", b": ", 1),
    ],
)
def test_an_entry_in_other_bytes_than_an_export_writes_does_not_hold(exported: Path, respell: Any) -> None:
    beside = Path(f"{exported}.ledger.jsonl")
    lines = beside.read_bytes().splitlines()
    beside.write_bytes(b"\n".join([respell(lines[0]), *lines[1:]]))
    check = checked(exported)
    assert (check.bad_entries, check.holds) == (1, False)
    assert "not spelled as an export writes it" in check.findings[0].reason


def test_an_export_without_proofs_has_none(it: Scene, exported: Path) -> None:
    export_commands(it.store, exported, force=True)
    check = checked(exported)
    assert (check.unproven, check.bad) == (len(ALL), 0)


def test_rows_without_a_time_come_first_as_the_store_lists_them(tmp_path: Path) -> None:
    database, out = tmp_path / "app.db", tmp_path / "out"
    create_sqlite(database, "C")
    with closing(sqlite3.connect(database)) as connection:
        for uuid, time in (("zz", None), ("aa", 0), ("negative", -5), ("later", 7)):
            raw_insert_sqlite(connection, uuid=uuid, created_at=time)
    with open_store(f"sqlite:///{database}", signer=SIGNER) as store:
        assert adopt(store).adopted == 4
        export_commands(store, out, proofs=True)
    lines = dict(zip(("zz", "negative", "aa", "later"), out.read_bytes().splitlines(), strict=True))
    assert checked(out).holds
    right = set()
    for order in itertools.permutations(lines):
        out.write_bytes(b"\n".join(lines[uuid] for uuid in order))
        if checked(out).holds:
            right.add(order)
    # Which of time 0 have none can't be seen in an export.
    assert right == {
        ("zz", "negative", "aa", "later"),
        ("aa", "negative", "zz", "later"),
        ("aa", "zz", "negative", "later"),
        ("negative", "aa", "zz", "later"),
    }
    for order in right:
        for uuid, at in itertools.product(lines, range(5)):
            out.write_bytes(b"\n".join(lines[one] for one in [*order[:at], uuid, *order[at:]]))
            assert [finding.reason for finding in checked(out).findings], (order, uuid, at)


def test_a_row_without_a_proof_is_counted(exported: Path) -> None:
    rows = [json.loads(line) for line in exported.read_text().splitlines()]
    rows[2] |= dict.fromkeys(name for name in rows[2] if name.startswith("ledger_"))
    write(exported, rows)
    check = checked(exported)
    assert (check.unproven, check.bad, check.holds) == (1, 0, False)


def test_an_entry_that_was_touched_takes_its_rows_with_it(exported: Path) -> None:
    beside = Path(f"{exported}.ledger.jsonl")
    lines = beside.read_text().splitlines(keepends=True)
    beside.write_text("".join([lines[0], lines[1].replace("create", "adopt"), "nonsense\n", *lines[2:]]))
    check = checked(exported)
    assert (check.bad_entries, check.bad, check.proven) == (2, 4, 7)
    assert [finding.line for finding in check.findings if finding.file == "ledger"] == [2, 3]


def test_another_key_holds_nothing(exported: Path) -> None:
    check = checked(exported, [MALLORY.public_key()])
    assert (check.bad_entries, check.bad) == (4, len(ALL))


def test_what_the_ledger_does_not_know_is_exported_without_a_proof(it: Scene, tmp_path: Path) -> None:
    it.insert(encode(a_command("new", 12)))
    it.replace(forged(it.record("a1"), data=b"x"))
    report = export_commands(it.store, tmp_path / "out", proofs=True)
    assert (report.commands, report.unproven) == (12, 2)
    rows = {row["command_uuid"]: row for row in map(json.loads, (tmp_path / "out").read_text().splitlines())}
    assert [uuid for uuid, row in rows.items() if row["ledger_entry"] is None] == ["a1", "new"]
    assert checked(tmp_path / "out").unproven == 2


def test_what_is_recorded_during_the_export_is_proven() -> None:
    it = Scene(opened(signer=SIGNER))
    it.store.create(a_command("c1", 1))
    with RowProver(it.store.core) as prover:
        run(prover.start())
        it.store.create(a_command("c2", 2))
        assert all(run(prover.prove([it.record("c1"), it.record("c2")])))
        assert run(prover.prove([forged(it.record("c1"), command_uuid="other")])) == [None]


def test_of_an_encrypted_store_the_cipher_is_vouched_for(tmp_path: Path) -> None:
    it = Scene(opened(signer=SIGNER, crypto=CryptoService(bytes(32))))
    it.store.create_many(a_command(f"c{n}", n) for n in range(3))
    assert export_commands(it.store, tmp_path / "out", proofs=True).unproven == 0
    assert (checked(tmp_path / "out").bad, checked(tmp_path / "out").recorded) == (3, False)
    check = checked(tmp_path / "out", sealed=True)
    assert (check.sealed, check.recorded, check.holds) == (3, True, False)
    assert (check.to_dict()["holds"], check.to_dict()["recorded"]) == (False, True)


def test_of_a_cipher_uuid_and_time_are_proven_and_nothing_else(tmp_path: Path) -> None:
    it = Scene(opened(signer=SIGNER, crypto=CryptoService(bytes(32))))
    it.store.create(a_command("c", 5))
    out = tmp_path / "out"
    export_commands(it.store, out, proofs=True)
    [row] = map(json.loads, out.read_text().splitlines())
    for field, value in {"data_bytes": X, "tenant_uuid": "u", "domain": "x"}.items():
        write(out, [consistent(row, **{field: value})])
        check = checked(out, sealed=True)
        # So whoever forged it must not be told that it holds.
        assert (check.sealed, check.recorded, check.holds) == (1, True, False)
    for field, value in {"command_uuid": "d", "created_at": 6}.items():
        write(out, [consistent(row, **{field: value})])
        assert (checked(out, sealed=True).bad, checked(out, sealed=True).recorded) == (1, False)


def test_an_older_version_is_proven_as_what_it_was(tmp_path: Path) -> None:
    # As docs/ledger.md says: a proof is of what was recorded, not that it was the last word.
    older = Scene(opened())
    older.put_back(HISTORY[1])
    export_commands(older.store, tmp_path / "out", proofs=True)
    check = checked(tmp_path / "out")
    assert (check.holds, check.proven) == (True, 6)
    assert "older version" in ExportCheck.__doc__


def test_two_entries_of_one_number_prove_a_fork(it: Scene, exported: Path) -> None:
    record = forged(it.record("b1"), data=b"altered")
    leaves = [leaf_of(record) if leaf.command_uuid == "b1" else leaf for leaf in it.leaves(2)]
    beside = Path(f"{exported}.ledger.jsonl")
    lines = beside.read_bytes().splitlines()
    it.rewrite(2, leaves, SIGNER)
    for again in (1, 2):
        beside.write_bytes(b"\n".join([*lines, *[it.raw(2)] * again]))
        check = checked(exported)
        # Which one is right, nobody can tell.
        assert (check.bad_entries, check.bad, check.proven, check.holds) == (again, 4, 7, False)
        assert "forked the ledger" in check.findings[0].reason
    # The same once more is no fork.
    beside.write_bytes(b"\n".join([*lines, lines[1]]))
    assert checked(exported).holds


def test_there_are_no_proofs_without_a_sound_ledger(it: Scene, tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="has no ledger"):
        export_commands(opened(), tmp_path / "out", proofs=True)
    it.set_entry(2, None)
    with pytest.raises(LedgerError, match="entry 2 of the ledger does not fit"):
        export_commands(it.store, tmp_path / "out", proofs=True)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="can't read"):
        check_export(tmp_path / "absent", tmp_path / "absent", KEYS)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 9, 31, 64, 65])
def test_a_tree_has_the_paths_of_rfc_9162(size: int) -> None:
    hashes = [bytes([n]) * 32 for n in range(size)]
    tree = Tree(hashes)
    assert tree.root == root_of(hashes)
    assert [list(tree.path(n)) for n in range(size)] == [path_to(hashes, n) for n in range(size)]


def test_many_entries_are_proven_in_little_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("commandstore.audit.exported._TREES_KEPT", 3)
    monkeypatch.setattr("commandstore.audit.exported._AT_ONCE", 2)
    it = Scene(opened(signer=SIGNER))
    for number in range(30):
        it.store.create_many(a_command(f"c{number}-{n}", n * 100 + number) for n in range(3))
    export_commands(it.store, tmp_path / "out", proofs=True)
    assert checked(tmp_path / "out").proven == 90
