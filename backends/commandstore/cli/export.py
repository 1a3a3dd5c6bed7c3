"""``commandstore export``: everything that matches, into a file or to stdout."""

from __future__ import annotations

import sys
from pathlib import Path

from commandstore.cli import output
from commandstore.cli.output import OutputError, emit, note
from commandstore.cli.stores import open_with_key
from commandstore.core import Filters
from commandstore.errors import CommandStoreError, ConfigurationError
from commandstore.export import ExportReport, export_commands

__all__ = ["export"]

_STDOUT = "-"


def export(
    url: str,
    file: str,
    filters: Filters,
    *,
    format: str = "jsonl",  # noqa: A002 - as the option is called
    force: bool = False,
    proofs: bool = False,
    key_file: Path | None = None,
    json: bool = False,
) -> int:
    """Export commands; 1 when some can't be read, or have no proof where proofs are asked for.

    Raises:
        ConfigurationError: stdout can't take it, or FILE is there already.
    """
    if file == _STDOUT and json:
        raise ConfigurationError("stdout is for the document of --json, so name a FILE for the commands")
    if file == _STDOUT and format == "parquet":
        raise ConfigurationError("parquet needs a FILE; only jsonl can go to stdout")
    if file == _STDOUT and proofs:
        raise ConfigurationError("--proofs needs a FILE: the ledger's entries go into one beside it")
    with open_with_key(url, key_file, read_only=True) as store:
        where = str(store)
        try:
            report = export_commands(
                store,
                sys.stdout.buffer if file == _STDOUT else file,
                format=format,
                force=force,
                proofs=proofs,
                on_corrupt=_name,
                **filters,
            )
        except (CommandStoreError, BrokenPipeError):
            raise
        except OSError as error:
            output.discard()
            name = "the output" if file == _STDOUT else ascii(file)
            raise OutputError(f"can't write {name}: {error.strerror}") from error
        except KeyboardInterrupt as interrupt:
            if file != _STDOUT:
                interrupt.add_note(f"nothing was written to {file!a}")
            raise
    if json:
        emit({"store": where, "file": file, "format": format, **report.to_dict()})
    note(_account(report))
    return 1 if report.corrupt or report.unproven else 0


def _name(error: CommandStoreError) -> None:
    note(f"unreadable: {error}")


def _account(report: ExportReport) -> str:
    bad = f"; {report.corrupt:,} can't be read and are left out" if report.corrupt else ""
    unproven = f"; {report.unproven:,} are without a proof" if report.unproven else ""
    return f"exported {report.commands:,} commands, {report.bytes:,} bytes{bad}{unproven}"
