"""The commands of ``commandstore audit``: keygen, verify, prove, check, adopt."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import orjson

from commandstore.audit import (
    AuditCheckpoint,
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
from commandstore.cli import output, places
from commandstore.cli.output import Column, emit, moment, note, printable, say
from commandstore.cli.progress import progress
from commandstore.cli.secret_files import signer_of
from commandstore.command import Command
from commandstore.errors import ConfigurationError, LedgerError
from commandstore.registry import open_store
from commandstore.signingkey import new_signing_key, public_keys_from

__all__ = ["adopt", "check", "keygen", "prove", "verify"]

MAX_SHOWN = 20
"""How many findings people are shown; ``--json`` has all that the report lists."""

_PARQUET = b"PAR1"
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
    require_checkpoint: bool = False,
    full: bool = False,
    count: bool = True,
    lists: bool = False,
    accept: bool = False,
    patience: float = 10.0,
    json: bool = False,
) -> int:
    """Audit a store; 0 when all fits, else 1. The checkpoint is written after a clean audit, or where it is accepted.

    Raises:
        ConfigurationError: what is found is to be accepted, and there is no checkpoint to write; or one is required,
            and there is none; or it can't be written. Where that is found after the audit only, the report is printed
            before, and in the error.
    """
    if accept and checkpoint_file is None:
        raise ConfigurationError("--accept writes a checkpoint although something does not fit: give --checkpoint FILE")
    if require_checkpoint and checkpoint_file is None:
        raise ConfigurationError("--require-checkpoint goes with --checkpoint FILE: name the one that must be there")
    keys = public_keys_from(public_key_files)
    checkpoint = None if checkpoint_file is None else _checkpoint(checkpoint_file, required=require_checkpoint)
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
    if not json:
        _print(report)
    if checkpoint_file is not None:
        _keep(report, checkpoint_file, accept=accept)
    if json:
        emit(report.to_dict())
    return 0 if report.clean else 1


def _checkpoint(file: Path, *, required: bool) -> AuditCheckpoint | None:
    """The checkpoint to begin at; None for a full audit. That it can be written again is known before there is work."""
    found = read_checkpoint(file)
    if found is None and required:
        raise ConfigurationError(
            f"there is no checkpoint {str(file)!a}, and it is required: nothing was audited. If it was removed, find "
            "out by whom, and put it back from a copy; the first audit of a store, which writes it, does without "
            "--require-checkpoint"
        )
    places.check_replaceable(file, "checkpoint")
    if found is None:
        note(f"there is no checkpoint {str(file)!a} yet: a full audit")
    return found


def _keep(report: AuditReport, file: Path, *, accept: bool) -> None:
    """Write the checkpoint of an audit that has one.

    Raises:
        ConfigurationError: it can't be written; carries the report.
    """
    if report.checkpoint is None:
        if accept:
            note("nothing was accepted: there is no entry to go on after, or a count names nothing (--full does)")
        return
    try:
        write_checkpoint(file, report.checkpoint)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{error}; the audit was done, and its report stands: the next one begins where this one did", report=report
        ) from error
    if report.accepted:
        note(f"accepted: the next audit from {str(file)!a} goes on after what was found; a full one won't")


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
    if out is not None:
        places.check_free(out)
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


def check(
    file: Path,
    public_key_files: Sequence[Path],
    *,
    command_file: Path | None = None,
    ledger_file: Path | None = None,
    sealed: bool = False,
    json: bool = False,
) -> int:
    """Check a proof, or with the ledger's file beside it an export; 1 when something does not hold.

    Raises:
        ConfigurationError: an option that is not for what is checked; a file that can't be read, or is Parquet.
    """
    if ledger_file is None:
        if sealed:
            raise ConfigurationError("--sealed is for an export: give the file of the entries beside it with --ledger")
        return _check_proof(file, public_key_files, command_file, json=json)
    if command_file is not None:
        raise ConfigurationError("--command is for a proof, and --ledger for an export, which has its commands in it")
    return _check_rows(file, ledger_file, public_key_files, sealed=sealed, json=json)


def _check_proof(file: Path, public_key_files: Sequence[Path], command_file: Path | None, *, json: bool) -> int:
    """Check a proof; 1 when it does not hold."""
    keys = public_keys_from(public_key_files)
    text = places.read(file)
    _raise_if_parquet(text, file)
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


def _check_rows(file: Path, ledger_file: Path, public_key_files: Sequence[Path], *, sealed: bool, json: bool) -> int:
    """Check an export; 1 when a row does not hold, or has no proof. Of ciphers, that it was recorded has to do."""
    _raise_if_parquet(places.start_of(file, len(_PARQUET)), file)
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


def _raise_if_parquet(start: bytes, file: Path) -> None:
    if start.startswith(_PARQUET):
        raise ConfigurationError(
            f"{str(file)!a} is Parquet, and check reads JSON Lines: export the same commands once more, as "
            "commandstore export URL FILE --proofs (--format jsonl), and check that"
        )


def _command(file: Path) -> Command:
    text, problem = places.read(file), f"{str(file)!a} is no command as get --json prints it"
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
    with open_store(url, signer=signer_of(signing_key)) as store, progress(_so_far) as show:
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
