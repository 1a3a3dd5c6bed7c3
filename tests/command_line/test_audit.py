"""``commandstore audit``: from a new key to a checked proof, and how each command ends."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from command_line.program import KEY, PAYLOAD
from commandstore import Command, CryptoService, open_store
from commandstore.signingkey import signer_from


@pytest.fixture
def audited(cli, tmp_path):
    """A store whose six commands are in its ledger."""
    key = tmp_path / "signing-key"
    assert cli("audit", "keygen", key).code == 0
    url = f"sqlite:///{tmp_path}/app.db"
    with open_store(url, create=True, signer=signer_from(key)) as store:
        store.create_many(Command(f"c{n}", n, 0, "t", "w", "d", "k", PAYLOAD.encode()) for n in range(6))

    def alter(statement):
        with closing(sqlite3.connect(tmp_path / "app.db")) as connection, connection:
            connection.execute(statement)

    verify = ("audit", "verify", url, "--public-key", f"{key}.pub", "--patience", "0")
    return SimpleNamespace(url=url, key=key, public=f"{key}.pub", verify=verify, alter=alter, path=tmp_path)


def test_a_new_key_is_told_by_its_id_and_its_secret_is_not_printed(cli, refused, tmp_path):
    result = cli("audit", "keygen", tmp_path / "key", "--json")
    assert result.document == {
        "signing_key": f"{tmp_path}/key",
        "public_key": f"{tmp_path}/key.pub",
        "key_id": result.document["key_id"],
    }
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert "PRIVATE" not in result.out + result.err
    assert "already" in refused("audit", "keygen", tmp_path / "key")
    plain = cli("audit", "keygen", tmp_path / "other")
    assert plain.out.startswith(f"made {tmp_path}/other (keep it secret) and {tmp_path}/other.pub (for auditors): key ")


def test_a_clean_store_is_said_to_be(cli, audited):
    result = cli(*audited.verify)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("clean: full audit up to entry 1: 1 entries, 6 commands = 6 intact, in ")
    document = cli(*audited.verify, "--json").document
    assert (document["clean"], document["intact"], document["store"]) == (True, 6, audited.url)


def test_what_does_not_fit_is_a_table_and_exit_code_1(cli, audited):
    audited.alter("DELETE FROM commands WHERE uuid = 'c2'")
    audited.alter("UPDATE commands SET domain = 'x' WHERE uuid = 'c4'")
    result = cli(*audited.verify)
    assert (result.code, result.err) == (1, "")
    head, dropped, altered, account = result.out.splitlines()
    assert head.split() == ["WHAT", "ENTRY", "COMMAND_UUID", "CREATED_AT", "WHY"]
    assert dropped.split()[:4] == ["dropped", "1", "c2", "2"]
    assert altered.split()[:4] == ["altered", "1", "c4", "4"]
    assert account.startswith(
        "NOT CLEAN: full audit up to entry 1: 1 entries, 6 commands = 4 intact + 1 dropped + 1 alt"
    )
    document = cli(*audited.verify, "--json").document
    assert [(one["kind"], one["command_uuid"]) for one in document["findings"]] == [
        ("dropped", "c2"),
        ("altered", "c4"),
    ]
    assert "iban" not in json.dumps(document) + result.out


def test_the_first_entry_that_does_not_fit_is_named(cli, audited):
    audited.alter("DELETE FROM commandstore_registers WHERE name LIKE 'ledger/entry/%'")
    result = cli(*audited.verify)
    assert result.code == 1
    assert "first entry that does not fit: 1\n" in result.out
    assert cli(*audited.verify, "--json").document["first_bad_entry"] == 1


def test_more_than_a_screenful_is_cut(cli, audited):
    with open_store(f"sqlite:///{audited.path}/many.db", create=True) as store:
        store.create_many(Command(f"c{n}", n) for n in range(30))
    url = f"sqlite:///{audited.path}/many.db"
    result = cli("audit", "verify", url, "--public-key", audited.public, "--patience", "0")
    assert (result.code, len(result.out.splitlines())) == (1, 24)
    assert "... and 11 more (--json lists up to 1,000)\n" in result.out


def test_a_checkpoint_is_written_after_a_clean_audit_only(cli, audited):
    file = audited.path / "checkpoint"
    first = cli(*audited.verify, "--checkpoint", file)
    assert (first.code, first.err) == (0, f"there is no checkpoint '{file}' yet: a full audit\n")
    assert json.loads(file.read_text())["sequence"] == 1
    with open_store(audited.url, signer=signer_from(audited.key)) as store:
        store.create(Command("new", 9))
    second = cli(*audited.verify, "--checkpoint", file)
    assert second.out.startswith("clean: audit from entry 1 up to entry 2: 1 entries, 1 commands = 1 intact, in ")
    kept = file.read_text()
    assert json.loads(kept)["sequence"] == 2
    audited.alter("DELETE FROM commands WHERE uuid = 'c2'")
    third = cli(*audited.verify, "--checkpoint", file)
    assert (third.code, third.out.split()[5:7]) == (1, ["count", "2"])
    assert cli(*audited.verify, "--checkpoint", file, "--full").code == 1
    assert file.read_text() == kept
    assert cli(*audited.verify, "--checkpoint", file, "--no-count").code == 0
    # What was not counted is found when it is.
    assert cli(*audited.verify, "--checkpoint", file).code == 1


def test_what_is_known_is_accepted_and_said_all_the_same(cli, refused, audited):
    file = audited.path / "checkpoint"
    audited.alter("DELETE FROM commands WHERE uuid = 'c2'")
    assert "--checkpoint" in refused(*audited.verify, "--accept")
    assert cli(*audited.verify, "--checkpoint", file).code == 1
    assert not file.exists()
    result = cli(*audited.verify, "--checkpoint", file, "--accept")
    assert (result.code, result.out.splitlines()[1].split()[:3]) == (1, ["dropped", "1", "c2"])
    assert f"accepted: the next audit from '{file}' goes on after what was found" in result.err
    assert cli(*audited.verify, "--checkpoint", file).code == 0
    assert cli(*audited.verify, "--checkpoint", file, "--full").code == 1
    audited.alter("DELETE FROM commands WHERE uuid = 'c3'")
    kept = file.read_text()
    assert "nothing was accepted" in cli(*audited.verify, "--checkpoint", file, "--accept").err
    assert file.read_text() == kept


def test_a_damaged_entry_is_told_and_what_it_knew_is_adopted(cli, audited):
    with open_store(audited.url, signer=signer_from(audited.key)) as store:
        store.create(Command("new", 9))
    audited.alter("DELETE FROM commandstore_registers WHERE name LIKE 'ledger/entry/%1'")
    result = cli("audit", "adopt", audited.url, "--signing-key", audited.key, "--public-key", audited.public)
    assert (result.code, result.out) == (0, "7 commands = 6 adopted, in 1 entries, + 1 known\n")
    assert "1 entries of the ledger do not fit, and say nothing; entry 1: entry 1 is missing" in result.err


def test_tenants_that_are_too_many_are_said(cli, audited, monkeypatch):
    monkeypatch.setattr("commandstore.audit.book.MOST_TENANTS", 0)
    assert cli(*audited.verify, "--lists").out.startswith("the lists of tenants were not compared")


def test_a_checkpoint_that_can_not_be_written_is_told_before_the_audit(refused, audited, monkeypatch):
    monkeypatch.setattr("commandstore.cli.audit.verify_ledger", lambda *_, **__: pytest.fail("it was audited"))
    for place in ("absent/checkpoint", "signing-key/checkpoint", "x" * 300):
        said = refused(*audited.verify, "--checkpoint", audited.path / place)
        assert "the checkpoint " in said
    assert not list(audited.path.glob(".commandstore-*"))


def test_what_was_found_is_said_although_the_checkpoint_can_not_be_written(cli, audited, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    file = audited.path / "checkpoint"
    result = cli(*audited.verify, "--checkpoint", file)
    assert result.code == 2
    assert result.out.startswith("clean: full audit up to entry 1: ")
    assert f"error: can't write the checkpoint '{file}': No space left on device; the audit was done" in result.err
    document = cli(*audited.verify, "--checkpoint", file, "--json").document
    assert (document["clean"], document["error"]["type"]) == (True, "ConfigurationError")
    assert not file.exists()


def test_a_checkpoint_that_is_required_and_gone_is_no_clean_audit(cli, refused, audited):
    file = audited.path / "checkpoint"
    required = (*audited.verify, "--require-checkpoint")
    assert "--checkpoint FILE" in refused(*required)
    assert "there is no checkpoint" in refused(*required, "--checkpoint", file)
    assert not file.exists()
    assert cli(*audited.verify, "--checkpoint", file).code == 0
    assert cli(*required, "--checkpoint", file).code == 0
    file.unlink()
    assert "nothing was audited" in refused(*required, "--checkpoint", file)


def test_a_damaged_checkpoint_is_refused(refused, audited):
    (audited.path / "checkpoint").write_text("{}")
    assert "no checkpoint of an audit" in refused(*audited.verify, "--checkpoint", audited.path / "checkpoint")


def test_a_proof_is_written_and_checked_with_nothing_else(cli, audited):
    assert (cli("audit", "prove", audited.url, "c3", "--out", audited.path / "proof").out) == ""
    (audited.path / "command").write_text(cli("get", audited.url, "c3", "--json").out)
    (audited.path / "app.db").unlink()
    checked = ("audit", "check", audited.path / "proof", "--public-key", audited.public)
    result = cli(*checked)
    assert result.code == 0
    assert result.out.startswith("holds: create of command c3, recorded by entry 1 at 2")
    assert result.out.endswith("; its content was not compared (--command)\n")
    assert cli(*checked, "--command", audited.path / "command").out.endswith("; the command is what was recorded\n")
    document = cli(*checked, "--command", audited.path / "command", "--json").document
    assert (document["holds"], document["command_uuid"], document["content_compared"]) == (True, "c3", True)
    other = json.loads((audited.path / "command").read_text()) | {"domain": "x"}
    (audited.path / "command").write_text(json.dumps(other))
    result = cli(*checked, "--command", audited.path / "command")
    assert (result.code, result.out.split(":")[0]) == (1, "does NOT hold")
    assert cli(*checked, "--command", audited.path / "command", "--json").document["holds"] is False


def test_a_proof_goes_to_stdout_too_and_never_over_a_file(cli, audited):
    document = cli("audit", "prove", audited.url, "c3").document
    assert document["command_uuid"] == "c3"
    (audited.path / "proof").write_text("mine")
    result = cli("audit", "prove", audited.url, "c3", "--out", audited.path / "proof")
    assert (result.code, (audited.path / "proof").read_text()) == (2, "mine")
    assert cli("audit", "prove", audited.url, "c3", "--out", audited.path / "no" / "proof").code == 2


def test_no_proof_is_exit_code_1(cli, audited):
    result = cli("audit", "prove", audited.url, "absent")
    assert (result.code, result.out) == (1, "")
    assert result.err == "commandstore: no entry of the ledger speaks of command 'absent'\n"


def test_adopting_records_what_is_there(cli, audited):
    with open_store(f"sqlite:///{audited.path}/old.db", create=True) as store:
        store.create_many(Command(f"c{n}", n) for n in range(3))
    url = f"sqlite:///{audited.path}/old.db"
    result = cli("audit", "adopt", url, "--signing-key", audited.key)
    assert (result.code, result.out) == (0, "3 commands = 3 adopted, in 1 entries, + 0 known\n")
    assert cli("audit", "adopt", url, "--signing-key", audited.key, "--json").document == {
        "store": url,
        "commands": 3,
        "adopted": 0,
        "known": 3,
        "left": 0,
        "entries": 0,
        "bad_entries": 0,
        "first_bad_entry": None,
        "findings": [],
    }
    with closing(sqlite3.connect(audited.path / "old.db")) as connection, connection:
        connection.execute("UPDATE commands SET domain = 'x' WHERE uuid = 'c1'")
    result = cli("audit", "adopt", url, "--signing-key", audited.key)
    assert (result.code, result.out.endswith("+ 1 left as they are (audit verify names them)\n")) == (1, True)


def test_an_export_with_proofs_is_checked_row_by_row(cli, refused, audited):
    file = audited.path / "out"
    result = cli("export", audited.url, file, "--proofs", "--json")
    assert (result.code, result.document["unproven"]) == (0, 0)
    assert "FILE" in refused("export", audited.url, "--proofs")
    check = ("audit", "check", file, "--ledger", f"{file}.ledger.jsonl", "--public-key", audited.public)
    result = cli(*check)
    assert (result.code, result.out) == (
        0,
        "holds: 6 rows = 6 proven + 0 without a proof + 0 bad; 1 entries, of which 0 bad\n",
    )
    file.write_text(file.read_text().replace('"domain":"d"', '"domain":"e"', 1))
    result = cli(*check)
    assert result.code == 1
    assert result.out.splitlines()[1].split()[:3] == ["export", "1", "c0"]
    assert cli(*check, "--json").document["bad"] == 1


def test_an_option_that_says_nothing_of_what_is_checked_is_refused(cli, refused, audited):
    cli("export", audited.url, audited.path / "out", "--proofs")
    cli("audit", "prove", audited.url, "c3", "--out", audited.path / "proof")
    (audited.path / "garbage").write_bytes(b"\xff")
    beside = ("--ledger", audited.path / "out.ledger.jsonl")
    check = ("audit", "check", audited.path / "out", *beside, "--public-key", audited.public)
    assert "--command is for a proof" in refused(*check, "--command", audited.path / "garbage")
    check = ("audit", "check", audited.path / "proof", "--public-key", audited.public)
    assert "--ledger" in refused(*check, "--sealed")
    assert cli(*check).code == 0


def test_an_export_as_parquet_is_not_taken_for_lines(cli, refused, audited):
    pytest.importorskip("pyarrow")
    file = audited.path / "out"
    assert cli("export", audited.url, file, "--proofs", "--format", "parquet").code == 0
    check = ("audit", "check", file, "--public-key", audited.public)
    for more in ((), ("--ledger", f"{file}.ledger.jsonl")):
        said = refused(*check, *more)
        assert said.startswith(f"'{file}' is Parquet, and check reads JSON Lines: ")
        assert "--format jsonl" in said


@pytest.mark.skipif(os.name != "posix", reason="a pipe has no name there")
def test_an_export_may_come_from_a_pipe(cli, audited):
    cli("export", audited.url, audited.path / "out", "--proofs")
    reader, writer = os.pipe()
    os.write(writer, (audited.path / "out").read_bytes())
    os.close(writer)
    beside = ("--ledger", audited.path / "out.ledger.jsonl")
    result = cli("audit", "check", f"/dev/fd/{reader}", *beside, "--public-key", audited.public)
    os.close(reader)
    assert (result.code, result.out.split(":")[0]) == (0, "holds")
    assert ": 6 rows = 6 proven" in result.out


def test_an_export_of_what_the_ledger_does_not_know_says_so(cli, audited):
    audited.alter("UPDATE commands SET domain = 'x' WHERE uuid = 'c1'")
    result = cli("export", audited.url, audited.path / "out", "--proofs")
    assert (result.code, result.err.endswith(" bytes; 1 are without a proof\n")) == (1, True)


def test_an_encrypted_store_is_audited_without_its_key_and_its_export_with_a_word(cli, audited, key_file):
    url = f"sqlite:///{audited.path}/sealed.db"
    with open_store(url, create=True, signer=signer_from(audited.key), crypto=CryptoService(KEY)) as store:
        store.create(Command("c", 1, data_bytes=PAYLOAD.encode()))
    assert cli("audit", "verify", url, "--public-key", audited.public).code == 0
    file = audited.path / "out"
    assert cli("export", url, file, "--proofs", "--key-file", key_file).code == 0
    check = ("audit", "check", file, "--ledger", f"{file}.ledger.jsonl", "--public-key", audited.public)
    assert "--sealed" in cli(*check).out
    result = cli(*check, "--sealed")
    assert result.code == 0
    assert result.out.startswith(
        "recorded, content not checked: 1 rows = 0 proven + 1 recorded, content not checked + 0 without"
    )
    assert cli(*check, "--sealed", "--json").document["holds"] is False


def test_what_can_not_be_is_refused(refused, audited):
    verify = ("audit", "verify", audited.url)
    assert "--public-key" in refused(*verify)
    assert "can't read the public key" in refused(*verify, "--public-key", audited.path / "absent")
    assert "public key" in refused(*verify, "--public-key", audited.key)
    check = ("audit", "check", audited.path / "absent", "--public-key", audited.public)
    assert "can't read" in refused(*check)
    (audited.path / "proof").write_text("{}")
    (audited.path / "command").write_text("{}")
    check = ("audit", "check", audited.path / "proof", "--public-key", audited.public)
    assert "no command as get --json prints it" in refused(*check, "--command", audited.path / "command")
    assert "can't read the signing key" in refused("audit", "adopt", audited.url, "--signing-key", "absent")
    assert "no file" in refused(
        "audit", "verify", f"sqlite:///{audited.path}/absent.db", "--public-key", audited.public
    )
