"""``commandstore demo``: all of it on one machine, shown by the commands that one would type."""

from __future__ import annotations

import shlex
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from commandstore.cli.output import Column, emit, note, say, table
from commandstore.cli.stores import open_with_key, print_page
from commandstore.cli.sync import copy, print_report
from commandstore.errors import StoreUnavailable
from commandstore.registry import open_store
from commandstore.replication import SyncReport
from commandstore.testing.comby import create_sqlite, insert_sqlite, sample_commands, sample_tenants
from commandstore.testing.engines import EmbeddedDynamoDB, EngineUnavailable, embedded_dynamodb

__all__ = ["demo"]

_TENANTS = 3
_TIES = 100
_SHOWN = 5
_INDENT = 3


class Total(NamedTuple):
    """How many commands of a tenant each store holds."""

    tenant_uuid: str
    source: int
    destination: int


def demo(*, count: int, keep: bool, json: bool) -> int:
    """Run it; 0 when both stores hold the same at the end. Whatever happens, everything is removed again."""
    began = time.monotonic()
    show = _Teller(quiet=json)
    show.line("From a comby database to DynamoDB, on this machine alone. Everything is removed at the end.")
    with tempfile.TemporaryDirectory(prefix="commandstore-demo-") as directory:
        source = _make_database(show, Path(directory) / "app.db", count)
        with _dynamodb(show) as engine:
            destination = _make_table(show, engine)
            first = _sync(show, "Copy", source, destination)
            second = _sync(
                show, "Copy again: the checkpoint, kept in the table, says that nothing is new", source, destination
            )
            _list(show, destination, sample_tenants(_TENANTS)[0])
            totals = _totals(show, source, destination)
            seconds = time.monotonic() - began
            same = first.clean and second.clean and all(t.source == t.destination for t in totals)
            if json:
                emit(
                    {
                        "engine": engine.name,
                        "count": count,
                        "first": first.to_dict(),
                        "second": second.to_dict(),
                        "totals": [total._asdict() for total in totals],
                        "same": same,
                        "seconds": seconds,
                    }
                )
            _end(show, seconds, same=same)
            if keep:
                _wait(show, source, destination)
    return 0 if same else 1


class _Teller:
    """Says what happens, step by step; nothing where there is to be one JSON document."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self._number = 0

    def step(self, title: str) -> None:
        """Begin a step."""
        self._number += 1
        if not self.quiet:
            say(f"\n{self._number}. {title}")

    def line(self, text: str) -> None:
        """A line within it."""
        if not self.quiet:
            say(f"{' ' * _INDENT if self._number else ''}{text}".rstrip())

    def typed(self, *arguments: str) -> None:
        """The command that does what follows."""
        self.line(f"$ commandstore {shlex.join(arguments)}")


def _make_database(show: _Teller, path: Path, count: int) -> str:
    show.step(f"A comby database in SQLite: {count:,} commands of {_TENANTS} tenants, many at the same time")
    create_sqlite(path, "C")
    insert_sqlite(path, sample_commands(count, tenants=_TENANTS, ties=_TIES))
    source = f"sqlite:///{path}"
    show.line(source)
    return source


@contextmanager
def _dynamodb(show: _Teller) -> Iterator[EmbeddedDynamoDB]:
    show.step("A DynamoDB")
    note("starting it; the very first time, it is downloaded")
    try:
        engine = embedded_dynamodb()
    except EngineUnavailable as error:
        raise StoreUnavailable(f"the demo needs a DynamoDB that it can start: {error}") from error
    with engine:
        show.line(f"{engine.name} at {engine.endpoint}")
        yield engine


def _make_table(show: _Teller, engine: EmbeddedDynamoDB) -> str:
    destination = f"dynamodb://commands?endpoint_url={engine.endpoint}"
    if engine.bulk != "partiql":
        destination += f"&bulk={engine.bulk}"
    show.step("Its table")
    show.typed("init", destination)
    with open_store(destination, create=True) as made:
        show.line(f"made {made}")
    return destination


def _sync(show: _Teller, title: str, source: str, destination: str) -> SyncReport:
    show.step(title)
    show.typed("sync", source, destination)
    with open_with_key(source, read_only=True) as reading, open_with_key(destination) as writing:
        report = copy(reading, writing, {}, announce=False)
    if not show.quiet:
        print_report(report, indent=_INDENT)
    return report


def _list(show: _Teller, destination: str, tenant: str) -> None:
    show.step("The latest commands of a tenant")
    show.typed("ls", destination, "--tenant-uuid", tenant, "--descending", "--limit", str(_SHOWN))
    with open_with_key(destination, read_only=True) as store:
        page = store.list(tenant_uuid=tenant, ascending=False, limit=_SHOWN, with_total=False)
    if not show.quiet:
        print_page(page, indent=_INDENT, more=False)


def _totals(show: _Teller, source: str, destination: str) -> list[Total]:
    show.step("How many commands each tenant has")
    show.typed("ls", destination, "--tenant-uuid", "TENANT", "--total", "--limit", "0")
    with open_with_key(source, read_only=True) as before, open_with_key(destination, read_only=True) as after:
        totals = [
            Total(tenant, before.total(tenant_uuid=tenant), after.total(tenant_uuid=tenant))
            for tenant in sample_tenants(_TENANTS)
        ]
        totals.append(Total("all", before.total(), after.total()))
    if not show.quiet:
        columns = [Column("TENANT_UUID"), Column("SQLITE", right=True), Column("DYNAMODB", right=True)]
        table(columns, [[t.tenant_uuid, f"{t.source:,}", f"{t.destination:,}"] for t in totals], indent=_INDENT)
    return totals


def _end(show: _Teller, seconds: float, *, same: bool) -> None:
    show.line("")
    show.line(f"{'Both hold the same' if same else 'The two stores DIFFER'}; all this took {seconds:.1f} s.")
    show.step("Your turn, with a database and an AWS account of your own")
    show.typed("init", "dynamodb://commands?region=eu-central-1")
    show.typed("sync", "sqlite:///app.db", "dynamodb://commands?region=eu-central-1")


def _wait(show: _Teller, source: str, destination: str) -> None:
    show.step("Both are kept until Ctrl-C. In another terminal, try:")
    show.typed("info", source)
    show.typed("ls", destination, "--limit", "10", "--total")
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        note("removing both")
