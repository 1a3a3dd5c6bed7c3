"""The commands of ``commandstore audit``: keygen, verify, prove, check, adopt."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import orjson

from commandstore.audit import (
    AuditFinding,
    AuditProgress,
    AuditReport,
    check_export,
    check_proof,
    read_checkpoint,
    verify_ledger,
    write_checkpoint,
)
from commandstore.audit import adopt as adopt_into
from commandstore.audit import prove as prove_of
from commandstore.cli import output
from commandstore.cli.output import Column, emit, moment, note, printable, say
from commandstore.cli.progress import progress
from commandstore.command import Command
from commandstore.errors import ConfigurationError, LedgerError
from commandstore.registry import open_store
from commandstore.signingkey import new_signing_key, public_keys_from, signer_from

__all__ = ["adopt", "check", "check_rows", "keygen", "prove", "verify"]

MAX_SHOWN = 20
"""How many findings people are shown; ``--json`` has all that the report lists."""

_KINDS = ("added", "dropped", "altered", "unfinished", "unreadable", "unlisted")


def keygen(file: Path, *, json: bool = False) -> int:
    """Make a signing key."""
    public, key_id = new_signing_key(file)
    if json:
        emit({"signing_key": str(file), "public_key": str(public), "key_id": key_id})
    else:
        say(f"made {printable(str(file))} (keep it secret) and {printable(str(public))} (for auditors): key {key_id}")
    return 0


def verify(
    url: str,
    public_key_files: Sequence[Path],
    *,
    checkpoint_file: Path | None = None,
    full: bool = False,
    count: bool = True,
    lists: bool = False,
    accept: bool = False,
    patience: float = 10.0,
    json: bool = False,
) -> int:
    """Audit a store; 0 when all fits, else 1. The checkpoint is written after a clean audit, or where it is accepted.

    Raises:
        ConfigurationError: what is found is to be accepted, and there is no checkpoint to write.
    """
    if accept and checkpoint_file is None:
        raise ConfigurationError("--accept writes a checkpoint although something does not fit: give --checkpoint FILE")
    keys = public_keys_from(public_key_files)
    checkpoint = None if checkpoint_file is None else read_checkpoint(checkpoint_file)
    if checkpoint_file is not None and checkpoint is None:
        note(f"there is no checkpoint {str(checkpoint_file)!a} yet: a full audit")
    with open_store(url, read_only=True) as store, progress(_so_far) as show:
        report = verify_ledger(
            store,
            keys,
            checkpoint=checkpoint,
            full=full,
            count=count,
            lists=lists,
            accept=accept,
            patience=patience,
            progress=show,
        )
    if checkpoint_file is not None and report.checkpoint is not None:
        write_checkpoint(checkpoint_file, report.checkpoint)
        if report.accepted:
            note(
                f"accepted: the next audit from {str(checkpoint_file)!a} goes on after what was found; a full one won't"
            )
    elif accept:
        note("nothing was accepted: there is no entry to go on after, or a count names nothing (--full does)")
    if json:
        emit(report.to_dict())
    else:
        _print(report)
    return 0 if report.clean else 1


def _print(report: AuditReport) -> None:
    """The account; above it what does not fit."""
    if report.findings:
        columns = [
            Column("WHAT"),
            Column("ENTRY", right=True),
            Column("COMMAND_UUID"),
            Column("CREATED_AT", right=True),
        ]
        rows = [_row(finding) for finding in report.findings[:MAX_SHOWN]]
        output.table([*columns, Column("WHY", may_shrink=True)], rows)
    total = report.commands - report.intact + report.bad_entries
    if total > MAX_SHOWN:
        say(f"... and {total - MAX_SHOWN:,} more (--json lists up to 1,000)")
    if report.first_bad_entry is not None:
        say(f"first entry that does not fit: {report.first_bad_entry}")
    if report.full and report.tenants_compared is None:
        say("the lists of tenants were not compared with the commands: there are more than 10,000 tenants")
    say(_account(report))


def _row(finding: AuditFinding) -> list[str]:
    return [
        finding.kind.value,
        "" if finding.sequence is None else str(finding.sequence),
        finding.command_uuid or "",
        "" if finding.created_at is None else str(finding.created_at),
        finding.reason,
    ]


def _account(report: AuditReport) -> str:
    bad = "".join(f" + {getattr(report, kind):,} {kind}" for kind in _KINDS if getattr(report, kind))
    what = "full audit" if report.full else f"audit from entry {report.since}"
    changes = f"; {report.updated:,} updates and {report.deleted:,} deletions recorded" if report.changes else ""
    return (
        f"{'clean' if report.clean else 'NOT CLEAN'}: {what} up to entry {report.head}: {report.entries:,} entries, "
        f"{report.commands:,} commands = {report.intact:,} intact{bad}{changes}, in {report.seconds:,.1f} s"
    )


def prove(url: str, command_uuid: str, *, out: Path | None = None) -> int:
    """Write a proof; 1 when there is none.

    Raises:
        ConfigurationError: there is a file already, or it can't be written.
    """
    if out is not None and out.exists():
        raise ConfigurationError(f"{str(out)!a} is there already; nothing was changed")
    with open_store(url, read_only=True) as store:
        try:
            proof = prove_of(store, command_uuid)
        except LedgerError as error:
            note(f"commandstore: {error}")
            return 1
    if out is None:
        emit(proof.to_json())
        return 0
    try:
        with out.open("xb") as file:
            file.write(orjson.dumps(proof.to_json(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    except OSError as error:
        raise ConfigurationError(f"can't write {str(out)!a}: {error.strerror}") from error
    return 0


def check(file: Path, public_key_files: Sequence[Path], *, command_file: Path | None = None, json: bool = False) -> int:
    """Check a proof; 1 when it does not hold."""
    keys = public_keys_from(public_key_files)
    text = _read(file)
    command = None if command_file is None else _command(command_file)
    try:
        proof = check_proof(text, keys, command)
    except LedgerError as error:
        if json:
            emit({"holds": False, "reason": str(error)})
        else:
            say(f"does NOT hold: {printable(str(error))}")
        return 1
    entry, done = proof.entry, proof.op.name.lower()
    if json:
        emit(
            {
                "holds": True,
                "command_uuid": proof.command_uuid,
                "operation": done,
                "digest": proof.digest.hex(),
                "sequence": entry.sequence,
                "time": entry.time,
                "key_id": entry.key_id,
                "content_compared": command is not None,
            }
        )
    else:
        content = "the command is what was recorded" if command else "its content was not compared (--command)"
        say(
            f"holds: {done} of command {printable(proof.command_uuid)}, recorded by entry {entry.sequence} at "
            f"{moment(entry.time) or entry.time}, signed with key {entry.key_id}; {content}"
        )
    return 0


def check_rows(
    file: Path, ledger_file: Path, public_key_files: Sequence[Path], *, sealed: bool = False, json: bool = False
) -> int:
    """Check an export; 1 when a row does not hold, or has no proof. Of ciphers, that it was recorded has to do."""
    report = check_export(file, ledger_file, public_keys_from(public_key_files), sealed=sealed)
    if json:
        emit(report.to_dict())
        return 0 if report.recorded else 1
    if report.findings:
        columns = [Column("FILE"), Column("LINE", right=True), Column("COMMAND_UUID"), Column("WHY", may_shrink=True)]
        rows = [[f.file, str(f.line), f.command_uuid or "", f.reason] for f in report.findings[:MAX_SHOWN]]
        output.table(columns, rows)
    if (total := report.bad + report.bad_entries) > MAX_SHOWN:
        say(f"... and {total - MAX_SHOWN:,} more (--json lists up to 1,000)")
    ciphers = f" + {report.sealed:,} recorded, content not checked" if report.sealed else ""
    verdict = "does NOT hold"
    if report.recorded:
        verdict = "holds" if report.holds else "recorded, content not checked"
    say(
        f"{verdict}: {report.rows:,} rows = {report.proven:,} proven{ciphers} + "
        f"{report.unproven:,} without a proof + {report.bad:,} bad; "
        f"{report.entries:,} entries, of which {report.bad_entries:,} bad"
    )
    return 0 if report.recorded else 1


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"can't read {str(file)!a}: {error.strerror}") from error


def _command(file: Path) -> Command:
    text, problem = _read(file), f"{str(file)!a} is no command as get --json prints it"
    try:
        fields = orjson.loads(text)
        fields["data_bytes"] = base64.b64decode(fields["data_bytes"], validate=True)
        return Command(**fields)
    except (ValueError, TypeError, KeyError):
        # Without the cause, which may show the payload. pydantic's errors are ValueErrors.
        raise ConfigurationError(problem) from None


def adopt(url: str, signing_key: str, public_key_files: Sequence[Path] = (), *, json: bool = False) -> int:
    """Record what no entry knows; 1 when commands are left that are not as the ledger says."""
    keys = public_keys_from(public_key_files) if public_key_files else ()
    with open_store(url, signer=signer_from(signing_key)) as store, progress(_so_far) as show:
        where = str(store)
        report = adopt_into(store, keys, progress=show)
    if report.findings:
        first = report.findings[0]
        note(
            f"{report.bad_entries:,} entries of the ledger do not fit, and say nothing; entry {first.sequence}: "
            f"{first.reason} (audit verify names all)"
        )
    if json:
        emit({"store": where, **report.to_dict()})
    else:
        left = f" + {report.left:,} left as they are (audit verify names them)" if report.left else ""
        say(
            f"{report.commands:,} commands = {report.adopted:,} adopted, in {report.entries:,} entries, "
            f"+ {report.known:,} known{left}"
        )
    return 1 if report.left else 0


def _so_far(now: AuditProgress) -> str:
    return f"{now.entries:,} entries, {now.commands:,} commands, {now.findings:,} findings"
