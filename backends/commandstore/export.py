"""Every command of a store into one file, for tools that are no command store: JSON Lines, or Parquet.

Commands come in the total order, a page at a time, with the digest of the plain command beside each, so that an export
can be checked against a store (or another export) without reading payloads. A file under its name is always whole: it
is written beside it under another name, and renamed at the end.

With proofs, each row says where the ledger records it, and the signed entries go to a second file beside the first: so
the whole can be checked without the store.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Protocol, Unpack

from commandstore.audit.exported import RowProof, RowProver
from commandstore.audit.lines import PROOF_FIELDS, entry_line, row_line
from commandstore.codec import Record
from commandstore.command import CommandQuery
from commandstore.contract import Key
from commandstore.core import PAGE, Filters, askable
from commandstore.drive import run
from commandstore.errors import CommandStoreError, ConfigurationError, CorruptRecord, MissingDependency
from commandstore.store import CommandStore

__all__ = ["FORMATS", "LEDGER_SUFFIX", "ExportReport", "export_commands"]

LEDGER_SUFFIX = ".ledger.jsonl"
"""Of the file beside an export with proofs that holds the ledger's entries."""

# What is in memory at once, about: a page, and in Parquet a row group.
_PAGE_BYTES = 16 * 1024 * 1024
_GROUP_BYTES = 32 * 1024 * 1024
_GROUP_ROWS = 100_000
_FIRST_PAGE = 100
_NO_PROOF = (None,) * len(PROOF_FIELDS)
_PROOF_BYTES = 500


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export did.

    Attributes:
        commands: how many were written.
        bytes: how many bytes they take: the size of the file.
        corrupt: records that can't be read, of which nothing was written; ``on_corrupt`` was told of each.
        unproven: of an export with proofs: commands that the ledger doesn't know as they are, written without a proof;
            else None.
    """

    commands: int
    bytes: int
    corrupt: int = 0
    unproven: int | None = None

    def to_dict(self) -> dict[str, int]:
        """Plain values under these names, for JSON; ``unproven`` where there are proofs."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def export_commands(
    store: CommandStore,
    file: str | os.PathLike[str] | BinaryIO,
    *,
    format: str = "jsonl",  # noqa: A002 - as the option is called
    on_corrupt: Callable[[CommandStoreError], None] | None = None,
    force: bool = False,
    proofs: bool = False,
    **filters: Unpack[Filters],
) -> ExportReport:
    """Write everything that matches to a file, in the total order, in constant memory.

    Args:
        store: read only.
        file: a path, or a buffered binary stream, which is flushed and stays open.
        format: ``"jsonl"`` or ``"parquet"``; the latter needs the extra ``parquet``.
        on_corrupt: called for a record that can't be read, which is then left out; without it, the error is raised.
        force: replace a file that is there.
        proofs: with each row, write its place in the store's ledger; and beside the file, under its name and
            ``.ledger.jsonl``, the entries. Reads the whole ledger first.
        filters: as ``store.list``.

    Raises:
        ConfigurationError: an unknown format; the path is taken, and ``force`` is False; or proofs for a stream.
        LedgerError: proofs are asked for, and the store has no ledger, or a damaged one.
        InvalidQuery: a filter that can't be.
        MissingDependency: pyarrow isn't installed.
        OSError: the file can't be written. At any error, what was at the path is as it was.
    """
    if format not in FORMATS:
        raise ConfigurationError(f"unknown format {format!a}; there are: {', '.join(FORMATS)}")
    query = store.core.query(filters)
    store.core.ready()
    if format == "parquet":
        _pyarrow()
    if not proofs:
        with _opened(file, force=force) as stream:
            return _written(store, query, stream, format, on_corrupt, None)
    if not isinstance(file, str | os.PathLike):
        raise ConfigurationError("proofs need a file with a name: the ledger's entries go into one beside it")
    beside = f"{os.fspath(file)}{LEDGER_SUFFIX}"
    with (
        RowProver(store.core) as prover,
        _opened(file, force=force) as stream,
        _opened(beside, force=force) as entries,
    ):
        run(prover.start())
        report = _written(store, query, stream, format, on_corrupt, prover)
        numbers = prover.used()
        while some := list(islice(numbers, PAGE)):
            for entry in run(prover.entries(some)):
                entries.write(entry_line(entry))
        return report


def _written(
    store: CommandStore,
    query: CommandQuery,
    stream: BinaryIO,
    format: str,  # noqa: A002 - as the option is called
    on_corrupt: Callable[[CommandStoreError], None] | None,
    prover: RowProver | None,
) -> ExportReport:
    out = _Counted(stream)
    commands = corrupt = unproven = 0
    with FORMATS[format](out, proofs=prover is not None) as writer:
        for page in _records(store, query):
            good = [found for found in page if isinstance(found, Record)]
            proofs = iter(run(prover.prove(good)) if prover is not None else [None] * len(good))
            for found in page:
                if isinstance(found, Record):
                    proof = next(proofs)
                    writer.add(found, proof)
                    commands += 1
                    unproven += proof is None
                elif on_corrupt is None:
                    raise found
                else:
                    on_corrupt(found)
                    corrupt += 1
    stream.flush()
    return ExportReport(commands, out.count, corrupt, unproven if prover is not None else None)


def _records(store: CommandStore, query: CommandQuery) -> Iterator[list[Record | CommandStoreError]]:
    """Pages of plain records in order, and what can't be read in its place; about so many bytes are read at once."""
    key: Key | None = None
    size = _FIRST_PAGE
    while askable(query):
        found = run(store.core.pages(query, key, size))
        weight = sum(row.record.size for row in found.rows if row.record is not None)
        yield [row.record or row.error or CorruptRecord("a record that can't be read") for row in found.rows]
        if (key := found.next_key) is None:
            return
        if weight > _PAGE_BYTES:
            size = max(1, size // 2)
        elif weight < _PAGE_BYTES // 4:
            size = min(PAGE, size * 2)


# Files


@contextmanager
def _opened(file: str | os.PathLike[str] | BinaryIO, *, force: bool) -> Iterator[BinaryIO]:
    """The stream to write to. A path gets what was written to it at the end, at once, or not at all."""
    if not isinstance(file, str | os.PathLike):
        yield file
        return
    # Through a link, so that what it points to is replaced and not the link.
    path = Path(os.path.realpath(file))
    _check_free(path, force=force)
    # Beside it, because a file can't be renamed across file systems; a name of its own, because two exports may run.
    temporary = path.with_name(f".commandstore-{secrets.token_hex(8)}.part")
    try:
        with temporary.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        _check_free(path, force=force)  # an export takes its time, in which another may have ended
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _check_free(path: Path, *, force: bool) -> None:
    if not path.exists():
        return
    if not path.is_file():
        raise ConfigurationError(f"{str(path)!a} is not a file, and can't be replaced by one")
    if not force:
        raise ConfigurationError(f"{str(path)!a} is there already; it is replaced only with --force (force=True)")


class _Counted:
    """Passes on and counts what is written. Looks enough like a file for pyarrow."""

    closed = False

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.count = 0

    def write(self, data: bytes) -> int:
        self._stream.write(data)
        self.count += len(data)
        return len(data)

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        """Whoever opened the stream closes it."""


# Formats


class _Writer(Protocol):
    """Writes records; ended by its context."""

    def add(self, record: Record, proof: RowProof | None) -> None: ...


class _JsonLines:
    def __init__(self, out: _Counted, *, proofs: bool) -> None:
        self._out = out
        self._proofs = proofs

    def add(self, record: Record, proof: RowProof | None) -> None:
        self._out.write(row_line(record, proof, proofs=self._proofs))


class _Parquet:
    """Row groups of bounded bytes: one is in memory at a time, here and at whoever reads it."""

    def __init__(self, out: _Counted, *, proofs: bool) -> None:
        arrow, parquet = _pyarrow()
        self._arrow = arrow
        text, number, binary = arrow.string(), arrow.int64(), arrow.binary()
        types = {
            "command_uuid": text,
            "created_at": number,
            "instance_id": number,
            "tenant_uuid": text,
            "workspace_uuid": text,
            "domain": text,
            "data_type": text,
            "session_uuid": text,
            "data_bytes": binary,
            "req_ctx": text,
            "digest": binary,
        }
        fields = [arrow.field(name, kind, nullable=False) for name, kind in types.items()]
        if proofs:
            kinds = (number, text, number, arrow.list_(binary), binary)
            fields += [arrow.field(name, kind) for name, kind in zip(PROOF_FIELDS, kinds, strict=True)]
        self._proofs = proofs
        self._schema = arrow.schema(fields)
        self._writer = parquet.ParquetWriter(
            arrow.PythonFile(out, mode="w"),
            self._schema,
            compression="zstd",
            # Names repeat; uuids, payloads and digests don't, and a dictionary of them would be built for nothing.
            use_dictionary=["tenant_uuid", "workspace_uuid", "domain", "data_type", "session_uuid"],
        )
        self._rows: list[tuple[Any, ...]] = []
        self._weight = 0

    def add(self, record: Record, proof: RowProof | None) -> None:
        self._rows.append((*record[:11], *(proof or _NO_PROOF)) if self._proofs else record[:11])
        self._weight += record.size + (_PROOF_BYTES if proof is not None else 0)
        if self._weight >= _GROUP_BYTES or len(self._rows) >= _GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        arrays = [
            self._arrow.array(column, type=field.type)
            for column, field in zip(zip(*self._rows, strict=True), self._schema, strict=True)
        ]
        self._writer.write_batch(self._arrow.record_batch(arrays, schema=self._schema))
        self._rows, self._weight = [], 0

    def end(self) -> None:
        if self._rows:
            self._flush()
        self._writer.close()

    def abandon(self) -> None:
        # Closed all the same, while the file is still open: else it would try when it is collected.
        with suppress(OSError, ValueError):
            self._writer.close()


@contextmanager
def _json_lines(out: _Counted, *, proofs: bool) -> Iterator[_Writer]:
    yield _JsonLines(out, proofs=proofs)


@contextmanager
def _parquet(out: _Counted, *, proofs: bool) -> Iterator[_Writer]:
    writer = _Parquet(out, proofs=proofs)
    try:
        yield writer
        writer.end()
    except BaseException:
        writer.abandon()
        raise


def _pyarrow() -> tuple[Any, Any]:
    """Imported only where Parquet is asked for: it takes longer than many an export.

    Raises:
        MissingDependency: it isn't installed.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra
        import pyarrow.parquet as parquet  # noqa: PLC0415, PLR0402 - likewise
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "pyarrow":
            raise
        raise MissingDependency("parquet needs the pyarrow package: pip install 'commandstore[parquet]'") from error
    return pa, parquet


FORMATS: dict[str, Any] = {"jsonl": _json_lines, "parquet": _parquet}
"""What ``format`` may be."""
