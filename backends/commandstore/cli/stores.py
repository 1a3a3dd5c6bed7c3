"""The commands on one store: init, info, create, get, ls, compact, gc, reset."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from commandstore.cli import output
from commandstore.cli.output import Column, emit, moment, note, printable, say
from commandstore.cli.secret_files import crypto_of, signer_of
from commandstore.command import Command, Page, SealedCommand
from commandstore.core import Filters
from commandstore.drive import run
from commandstore.errors import CommandStoreError, ConfigurationError, StoreNotFound
from commandstore.registry import open_store
from commandstore.store import CommandStore
from commandstore.url import redact

__all__ = [
    "compact",
    "create",
    "gc",
    "get",
    "info",
    "init",
    "list_",
    "open_with_key",
    "payload",
    "print_page",
    "reset",
]


def open_with_key(
    url: str,
    key_file: Path | None = None,
    *,
    read_only: bool = False,
    signing_key: str | None = None,
    keep: bool = False,
) -> AbstractContextManager[CommandStore]:
    """The store of a URL, open; it is never made.

    Args:
        url: of the store.
        key_file: what payloads are encrypted with.
        read_only: nothing will be written.
        signing_key: what signs the entries of its ledger, as :func:`commandstore.signingkey.signer_from` takes it.
        keep: give commands that can't be decrypted with their payloads sealed.
    """
    signer = None if signing_key is None else signer_of(signing_key)
    return open_store(
        url,
        read_only=read_only,
        crypto=None if key_file is None else crypto_of(key_file),
        on_undecryptable="keep" if keep else "raise",
        signer=signer,
    )


def init(url: str, *, json: bool = False) -> int:
    """Make the store where there is none."""
    there = False
    try:
        with open_store(url) as store:
            there, where = True, str(store)
    except (StoreNotFound, ConfigurationError):
        # None, or one that was not finished; if it is neither, this says so as well.
        with open_store(url, create=True) as store:
            where = str(store)
    if json:
        emit({"store": where, "created": not there})
    else:
        say(f"{where} was there already; nothing was changed" if there else f"made {where}")
    return 0


def info(url: str, *, json: bool = False) -> int:
    """What the store is and holds."""
    with open_with_key(url, read_only=True) as store:
        found = store.info()
    if json:
        emit(asdict(found))
        return 0
    say(f"store     {printable(found.connection_info)}")
    say(f"type      {found.store_type}")
    say(f"commands  {found.num_items:,}")
    if found.num_items:
        say(f"newest    {_times(found.last_item_created_at)}")
    return 0


def payload(data: str | None, data_file: str | None) -> bytes:
    """The payload as it was given: text, a file, stdin, or none.

    Raises:
        ConfigurationError: given twice, or the file can't be read.
    """
    if data is not None and data_file is not None:
        raise ConfigurationError("give --data or --data-file, not both")
    if data_file is None:
        return (data or "").encode("utf-8", "surrogateescape")  # bytes that are no text come as they were typed
    try:
        return sys.stdin.buffer.read() if data_file == "-" else Path(data_file).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"can't read {data_file!a}: {error.strerror}") from error


def create(
    url: str,
    command: Command,
    *,
    key_file: Path | None = None,
    signing_key: str | None = None,
    json: bool = False,
) -> int:
    """Store a new command."""
    with open_with_key(url, key_file, signing_key=signing_key) as store:
        run(store.core.ready_to_record())
        store.create(command)
    if json:
        emit(output.command_document(command))
    else:
        say(f"created {printable(command.command_uuid)}")
    return 0


def get(url: str, command_uuid: str, *, key_file: Path | None = None, keep: bool = False, json: bool = False) -> int:
    """Show a command; 1 when there is none."""
    with open_with_key(url, key_file, read_only=True, keep=keep) as store:
        command = store.get(command_uuid)
    if json:
        emit(command and output.command_document(command))
    elif command is None:
        shown = redact(command_uuid)  # it may be a URL in the wrong place
        note(f"commandstore: there is no command {shown!a}")
    else:
        _show(command)
    return 0 if command is not None else 1


def _show(command: Command) -> None:
    for name in Command.model_fields:
        value = getattr(command, name)
        if name == "created_at":
            value = _times(value)
        elif isinstance(value, bytes):
            value = _payload_for_people(value, sealed=isinstance(command, SealedCommand))
        say(f"{name:<14}  {printable(str(value))}".rstrip())


def _payload_for_people(data: bytes, *, sealed: bool) -> str:
    if sealed:
        return f"{len(data):,} bytes that can't be decrypted"
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return f"{len(data):,} bytes that are not text (--json has them in base64)"
    return f"{text}" if data else ""


def _times(created_at: int) -> str:
    return f"{created_at}  {moment(created_at)}".rstrip()


def list_(  # the name of the command is ls
    url: str,
    filters: Filters,
    *,
    limit: int = 100,
    offset: int = 0,
    cursor: str | None = None,
    order_by: str = "created_at",
    ascending: bool = True,
    with_total: bool = False,
    key_file: Path | None = None,
    keep: bool = False,
    json: bool = False,
) -> int:
    """List commands; 1 when some can't be read."""
    with open_with_key(url, key_file, read_only=True, keep=keep) as store:
        page = store.list(
            limit=limit,
            offset=offset,
            cursor=cursor,
            order_by=order_by,
            ascending=ascending,
            with_total=with_total,
            **filters,
        )
    if json:
        emit(
            {
                "commands": [output.command_document(command) for command in page.commands],
                "total": page.total,
                "cursor": page.cursor,
                "corrupt": [_corrupt(error) for error in page.corrupt],
            }
        )
    else:
        print_page(page)
    return 1 if page.corrupt else 0


def _corrupt(error: CommandStoreError) -> dict[str, Any]:
    return {
        "command_uuid": getattr(error, "command_uuid", None),
        "location": getattr(error, "location", None),
        "reason": str(error),
    }


def print_page(page: Page, *, indent: int = 0, more: bool = True) -> None:
    """The page as a table, the total below it; what isn't the list itself goes to stderr."""
    times = [moment(command.created_at) for command in page.commands]
    columns = [
        Column("TIME (UTC)"),
        Column("CREATED_AT", right=True),
        Column("COMMAND_UUID"),
        Column("TENANT_UUID", may_shrink=True),
        Column("DOMAIN", may_shrink=True),
        Column("DATA_TYPE", may_shrink=True),
        Column("BYTES", right=True),
    ]
    rows = [
        [
            when,
            str(command.created_at),
            command.command_uuid,
            command.tenant_uuid,
            command.domain,
            command.data_type,
            f"{len(command.data_bytes):,}",
        ]
        for when, command in zip(times, page.commands, strict=True)
    ]
    if rows:
        first = 0 if any(times) else 1  # plain numbers have no time
        output.table(columns[first:], [row[first:] for row in rows], indent=indent)
    elif page.total is None:
        note("no commands")
    if page.total is not None:
        say(f"{' ' * indent}total {page.total:,}")
    for error in page.corrupt:
        note(f"unreadable: {error}")
    if more and page.cursor is not None and rows:
        note(f"more: add --cursor {page.cursor}")


def compact(url: str, *, json: bool = False) -> int:
    """Rewrite what is stored so that reads cost less."""
    with open_with_key(url) as store:
        _upkeep("compacted", str(store), store.compact(), json=json)
    return 0


def gc(url: str, *, grace: float = 86400.0, json: bool = False) -> int:
    """Remove what no command refers to and is older than the grace."""
    with open_with_key(url) as store:
        _upkeep("collected", str(store), store.gc(grace), json=json)
    return 0


def _upkeep(done: str, where: str, counts: dict[str, int], *, json: bool) -> None:
    if json:
        emit({"store": where, **counts})
    else:
        pairs = ", ".join(f"{name}: {count:,}" for name, count in counts.items())
        say(f"{done} {printable(where)}: {pairs or 'nothing to do'}")


def reset(url: str, *, yes: bool = False, signing_key: str | None = None, json: bool = False) -> int:
    """Remove everything, once that is confirmed."""
    if not yes and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ConfigurationError("reset removes every command; there is no terminal to ask on, so say --yes")
    with open_with_key(url, signing_key=signing_key) as store:
        where = str(store)
        run(store.core.ready_to_record())
        if not yes and not _confirmed(f"Remove all {store.total():,} commands and the checkpoints of {where}?"):
            raise ConfigurationError("not confirmed; nothing was changed")
        store.reset()
    if json:
        emit({"store": where, "reset": True})
    else:
        say(f"{where} is empty")
    return 0


def _confirmed(question: str) -> bool:
    # Not by input() or typer.confirm(), which write to stdout, where the one document goes.
    sys.stderr.write(f"{printable(question)} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
