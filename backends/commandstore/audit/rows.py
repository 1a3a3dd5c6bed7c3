"""Checking an export with proofs, row by row and without the store. Reads two files, and nothing else."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from commandstore import codec
from commandstore.audit.exported import RowProof
from commandstore.audit.lines import PROOF_FIELDS, entry_line, row_line
from commandstore.audit.report import MAX_LISTED
from commandstore.command import INT64_MAX, INT64_MIN, Position
from commandstore.core import is_int
from commandstore.errors import ConfigurationError, LedgerError
from commandstore.ledger.entry import Entry
from commandstore.ledger.leaves import Leaf, Op, hashes_of
from commandstore.ledger.merkle import root_from_path
from commandstore.ledger.signing import Verifier

__all__ = ["ExportCheck", "RowFinding", "check_export"]

_TEXTS = ("command_uuid", "tenant_uuid", "workspace_uuid", "domain", "data_type", "session_uuid", "req_ctx")
_OPS = {"create": Op.CREATE, "update": Op.UPDATE}
_LONGEST_NAME = 512
_DISORDER = "it is out of order, or there twice"
_RESPELLED = (
    "it is not spelled as an export writes it: a field is there besides, twice or in another place, or a value has "
    "other characters; who reads it may read something else than was checked"
)


@dataclass(frozen=True, slots=True)
class RowFinding:
    """A line that does not hold.

    Attributes:
        file: ``"export"`` or ``"ledger"``.
        line: its number, from 1.
        command_uuid: of the row, where it could be read.
        reason: one line, without the payload.
    """

    file: str
    line: int
    command_uuid: str | None
    reason: str


@dataclass(slots=True)
class ExportCheck:
    """The account of a check: ``rows == proven + sealed + unproven + bad``.

    A row that is proven was recorded so once. That nothing was recorded later can't be seen in an export: it may show
    an older version of a command, or one that was deleted since.

    Attributes:
        rows: rows of the export.
        proven: recorded exactly as they are here, by an entry that one of the keys signed.
        sealed: such a command was recorded at this time, but the ledger speaks of its cipher: no other field of the row
            was compared with anything.
        unproven: rows without a proof: the ledger did not know them.
        bad: rows that do not hold.
        entries: entries beside the export.
        bad_entries: of these, those that do not hold.
        findings: lines that do not hold, up to 1,000.
    """

    rows: int = 0
    proven: int = 0
    sealed: int = 0
    unproven: int = 0
    bad: int = 0
    entries: int = 0
    bad_entries: int = 0
    findings: list[RowFinding] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Every row is proven, and every entry is signed."""
        return self.recorded and not self.sealed

    @property
    def recorded(self) -> bool:
        """Every row is of a command that was recorded, its content compared or not; and every entry is signed."""
        return not (self.bad or self.unproven or self.bad_entries)

    def to_dict(self) -> dict[str, Any]:
        """Plain values under these names, ``holds`` and ``recorded``, for JSON."""
        return {**asdict(self), "holds": self.holds, "recorded": self.recorded}


def check_export(
    file: str | os.PathLike[str],
    ledger_file: str | os.PathLike[str],
    public_keys: bytes | str | Iterable[bytes | str],
    *,
    sealed: bool = False,
) -> ExportCheck:
    """Check every row of an export (JSON Lines) that was written with proofs.

    Every line must be the very bytes that an export writes. That no row is missing can't be seen: an export may be of a
    part. Rows that are there twice, or out of order, are found.

    Args:
        file: the export.
        ledger_file: what was written beside it.
        public_keys: PEM texts: those that may have signed the ledger.
        sealed: the store is encrypted, so rows whose content the ledger can't vouch for are no findings. They are
            counted apart: whoever forged such a row, its uuid and its time apart, is not found. So a check with such
            rows never ``holds``; whether nothing else is wrong is in ``recorded``.

    Raises:
        ConfigurationError: a file can't be read; no public key.
    """
    check = ExportCheck()
    entries = _entries(Path(ledger_file), Verifier(public_keys), check)
    order = _Order()
    for number, line in _lines(Path(file)):
        check.rows += 1
        uuid: str | None = None
        try:
            row = _object(line)
            uuid = row["command_uuid"] if isinstance(row.get("command_uuid"), str) else None
            record = _record(row)
            order.next(record.position)
            proof = _proof(row)
            kind = _held_against(record, proof, entries, sealed=sealed)
            _must_be(line, row_line(record, proof, proofs=PROOF_FIELDS[0] in row))
        except LedgerError as error:
            check.bad += 1
            _list(check, RowFinding("export", number, uuid and uuid[:_LONGEST_NAME], str(error)))
        else:
            setattr(check, kind, getattr(check, kind) + 1)
    return check


def _entries(file: Path, verifier: Verifier, check: ExportCheck) -> dict[int, tuple[bytes, int]]:
    """Root and size by sequence, of the entries that hold.

    Two that are signed under one number prove that the ledger was forked; neither is believed.
    """
    found: dict[int, tuple[bytes, int]] = {}
    signed: dict[int, tuple[bytes, int]] = {}
    forked: set[int] = set()
    for number, line in _lines(file):
        check.entries += 1
        try:
            entry = Entry.from_json(line)
            _must_be(line, entry_line(entry))
            reason = verifier.check(entry)
        except LedgerError as error:
            reason = str(error)
        if reason is None:
            first, its_line = signed.setdefault(entry.sequence, (entry.hash, number))
            if first == entry.hash:
                found[entry.sequence] = bytes.fromhex(entry.root), entry.count
                continue
            reason = (
                f"another entry {entry.sequence}, signed as well, is in line {its_line}: whoever has the key "
                "forked the ledger"
            )
            forked.add(entry.sequence)
        check.bad_entries += 1
        _list(check, RowFinding("ledger", number, None, reason))
    return {sequence: tree for sequence, tree in found.items() if sequence not in forked}


def _lines(file: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with file.open("rb") as stream:
            yield from enumerate((line for line in stream if line.strip()), 1)
    except OSError as error:
        raise ConfigurationError(f"can't read {str(file)!a}: {error.strerror}") from error


def _list(check: ExportCheck, finding: RowFinding) -> None:
    if len(check.findings) < MAX_LISTED:
        check.findings.append(finding)


def _object(line: bytes) -> dict[str, Any]:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise LedgerError("the line is not JSON") from error
    if not isinstance(row, dict):
        raise LedgerError("the line is not an object")
    return row


def _record(row: dict[str, Any]) -> codec.Record:
    """The record of a row, its digest taken anew."""
    if any(not isinstance(row.get(name), str) for name in (*_TEXTS, "data_bytes", "digest")):
        raise LedgerError("a field is missing, or is not text")
    numbers = (row.get("created_at"), row.get("instance_id"))
    if not all(is_int(one) and INT64_MIN <= one <= INT64_MAX for one in numbers):  # type: ignore[operator]
        raise LedgerError("created_at or instance_id is no int64")
    try:
        data = base64.b64decode(row["data_bytes"], validate=True)
        record = codec.plain_record(
            row["command_uuid"],
            row["created_at"],
            row["instance_id"],
            row["tenant_uuid"],
            row["workspace_uuid"],
            row["domain"],
            row["data_type"],
            data,
            row["req_ctx"],
        )
    except ValueError as error:
        raise LedgerError("data_bytes is not base64, or a text is not one") from error
    if row["digest"] != record.digest.hex():
        raise LedgerError("its digest is not that of its fields")
    if row["session_uuid"] != record.session_uuid:
        raise LedgerError("its session is not the one in its context")
    return record


class _Order:
    """Looks whether positions follow one another as stores list them: in the total order, but for rows without a time.

    In SQL such rows come before all others, and read 0. So rows of time 0 may come first, by uuid, and then others of
    time 0 or less. Which of those of time 0 have none can't be seen, only that none is there twice.
    """

    def __init__(self) -> None:
        self._before: Position | None = None
        self._leading = True  # so far, all may be rows without a time
        self._timeless: set[str] = set()

    def next(self, position: Position) -> None:
        """Take one more.

        Raises:
            LedgerError: it is not behind the one before.
        """
        time, uuid = position
        if self._before is not None and position <= self._before:
            if not self._leading or time > 0:
                raise LedgerError(_DISORDER)
            self._leading = False
        if time == 0 and uuid in self._timeless:
            raise LedgerError(_DISORDER)
        self._leading = self._leading and time == 0
        if self._leading:
            self._timeless.add(uuid)
        elif time > 0:
            self._timeless.clear()  # they can't come again without being out of order
        self._before = position


def _must_be(line: bytes, written: bytes) -> None:
    """Raise unless a line is, byte for byte, what an export writes of what was read in it."""
    if line.rstrip(b"\r\n") != written.rstrip(b"\n"):
        raise LedgerError(_RESPELLED)


def _proof(row: dict[str, Any]) -> RowProof | None:
    """The proof of a row; None: it has none.

    Raises:
        LedgerError: it can't be read.
    """
    given: list[Any] = [row.get(name) for name in PROOF_FIELDS]
    if all(one is None for one in given):
        return None
    sequence, op, index, path, recorded = given
    if not is_int(index) or not is_int(sequence) or not isinstance(path, list) or not isinstance(recorded, str):
        raise LedgerError("its proof can't be read")
    try:
        nodes = tuple(bytes.fromhex(node) for node in path)
        return RowProof(sequence, _OPS[op].name.lower(), index, nodes, bytes.fromhex(recorded))
    except (KeyError, TypeError, ValueError) as error:
        raise LedgerError("its proof can't be read") from error


def _held_against(
    record: codec.Record, proof: RowProof | None, entries: dict[int, tuple[bytes, int]], *, sealed: bool
) -> str:
    """What the ledger makes of a row: the name of its count.

    Raises:
        LedgerError: the proof does not hold.
    """
    if proof is None:
        return "unproven"
    sequence = proof.sequence
    leaf = Leaf(_OPS[proof.op], record.command_uuid, proof.digest, record.created_at)
    if sequence not in entries:
        raise LedgerError(f"entry {sequence} is not beside the export, or does not hold")
    root, size = entries[sequence]
    if root_from_path(hashes_of([leaf])[0], proof.leaf, size, proof.path) != root:
        raise LedgerError(f"it is not under the root of entry {sequence}")
    if leaf.digest == record.digest:
        return "proven"
    if sealed:
        return "sealed"
    raise LedgerError(
        f"it is not what entry {sequence} records (of an encrypted store, the ledger vouches for ciphers: --sealed)"
    )
