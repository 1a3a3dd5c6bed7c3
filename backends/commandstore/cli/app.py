"""The commands and their options: what is typed. What each does is in the modules that it calls when it runs."""

# ruff: noqa: PLC0415 - a command imports what it needs when it runs, so that --help answers at once

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Annotated

import typer

from commandstore.cli import audit_app, keys
from commandstore.cli.options import Filter, Json, Keep, KeyFile, SigningKey, Text, Url

__all__ = ["app"]

app = typer.Typer(
    name="commandstore",
    help="Keep every command of a CQRS application in a cloud store, and copy there what a SQL database holds.",
    epilog="Stores: sqlite:///app.db, postgresql://user@host/db, dynamodb://TABLE?region=eu-central-1, memory://. "
    "Exit codes: 0 done; 1 done, but commands failed or differ; 2 could not run.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
app.add_typer(keys.app)
app.add_typer(audit_app.app)


def _version(wanted: bool) -> None:
    if wanted:
        from commandstore import __version__
        from commandstore.cli import output

        output.say(f"commandstore {__version__}")
        raise typer.Exit


@app.callback()
def options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of the program itself; the text of its help is the app's."""


@app.command()
def init(url: Url, *, json: Json = False) -> int:
    """Make a store: its table, bucket or file.

    One that is there already is left as it is.
    """
    from commandstore.cli import stores

    return stores.init(url, json=json)


@app.command()
def info(url: Url, *, json: Json = False) -> int:
    """Show what a store is and holds."""
    from commandstore.cli import stores

    return stores.info(url, json=json)


@app.command()
def create(
    url: Url,
    *,
    command_uuid: Annotated[str | None, typer.Option(help="A new random one if left out.", show_default=False)] = None,
    created_at: Annotated[
        int | None, typer.Option(help="Nanoseconds since 1970; now if left out.", show_default=False)
    ] = None,
    instance_id: Annotated[int, typer.Option(help="Which instance of the application took it.")] = 0,
    tenant_uuid: Text = "",
    workspace_uuid: Text = "",
    domain: Text = "",
    data_type: Text = "",
    data: Annotated[str | None, typer.Option(help="The payload, as text.", show_default=False)] = None,
    data_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="The payload, from a file; - is stdin.", show_default=False)
    ] = None,
    req_ctx: Annotated[str, typer.Option(help="The request context, as JSON text.", show_default=False)] = "",
    key_file: KeyFile = None,
    signing_key: SigningKey = None,
    json: Json = False,
) -> int:
    """Store a new command. One that is there already is never overwritten."""
    from commandstore.cli import stores
    from commandstore.command import Command

    command = Command(
        command_uuid=str(uuid.uuid4()) if command_uuid is None else command_uuid,
        created_at=time.time_ns() if created_at is None else created_at,
        instance_id=instance_id,
        tenant_uuid=tenant_uuid,
        workspace_uuid=workspace_uuid,
        domain=domain,
        data_type=data_type,
        data_bytes=stores.payload(data, data_file),
        req_ctx=req_ctx,
    )
    return stores.create(url, command, key_file=key_file, signing_key=signing_key, json=json)


@app.command()
def get(
    url: Url,
    command_uuid: Annotated[str, typer.Argument(metavar="UUID", show_default=False)],
    *,
    key_file: KeyFile = None,
    keep_undecryptable: Keep = False,
    json: Json = False,
) -> int:
    """Show one command. Exit code 1 when there is none."""
    from commandstore.cli import stores

    return stores.get(url, command_uuid, key_file=key_file, keep=keep_undecryptable, json=json)


@app.command(name="ls")
def list_(
    url: Url,
    *,
    tenant_uuid: Filter = None,
    workspace_uuid: Filter = None,
    domain: Filter = None,
    session_uuid: Filter = None,
    data_type: Filter = None,
    before: Annotated[int | None, typer.Option(help="Only created_at < this.", show_default=False)] = None,
    after: Annotated[int | None, typer.Option(help="Only created_at > this.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(help="At most so many; negative: all.")] = 100,
    offset: Annotated[int, typer.Option(help="Skip so many; costs their reading.")] = 0,
    cursor: Annotated[
        str | None, typer.Option(help="Go on where the page before ended; costs nothing.", show_default=False)
    ] = None,
    order_by: Annotated[str, typer.Option(help="What to order by.")] = "created_at",
    descending: Annotated[bool, typer.Option("--descending", help="Newest first.")] = False,
    total: Annotated[bool, typer.Option("--total", help="Count what matches in all; costs an index read.")] = False,
    key_file: KeyFile = None,
    keep_undecryptable: Keep = False,
    json: Json = False,
) -> int:
    """List commands in the order of their time."""
    from commandstore.cli import stores

    return stores.list_(
        url,
        {
            "tenant_uuid": tenant_uuid,
            "workspace_uuid": workspace_uuid,
            "domain": domain,
            "session_uuid": session_uuid,
            "data_type": data_type,
            "before": before,
            "after": after,
        },
        limit=limit,
        offset=offset,
        cursor=cursor,
        order_by=order_by,
        ascending=not descending,
        with_total=total,
        key_file=key_file,
        keep=keep_undecryptable,
        json=json,
    )


@app.command()
def export(
    url: Url,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Where to; - or left out is stdout (jsonl only).", show_default=False)
    ] = "-",
    *,
    format: Annotated[str, typer.Option(metavar="jsonl|parquet", help="What to write.")] = "jsonl",  # noqa: A002
    tenant_uuid: Filter = None,
    workspace_uuid: Filter = None,
    domain: Filter = None,
    session_uuid: Filter = None,
    data_type: Filter = None,
    before: Annotated[int | None, typer.Option(help="Only created_at < this.", show_default=False)] = None,
    after: Annotated[int | None, typer.Option(help="Only created_at > this.", show_default=False)] = None,
    proofs: Annotated[
        bool,
        typer.Option(
            "--proofs", help="With each command its place in the ledger, and the ledger's entries in FILE.ledger.jsonl."
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it is there.")] = False,
    key_file: KeyFile = None,
    json: Json = False,
) -> int:
    """Write commands to a file, in the order of their time, for other tools.

    FILE appears when it is complete. Exit code 1 when some commands can't be read; they are named.
    """
    from commandstore.cli.export import export as run

    return run(
        url,
        file,
        {
            "tenant_uuid": tenant_uuid,
            "workspace_uuid": workspace_uuid,
            "domain": domain,
            "session_uuid": session_uuid,
            "data_type": data_type,
            "before": before,
            "after": after,
        },
        format=format,
        force=force,
        proofs=proofs,
        key_file=key_file,
        json=json,
    )


@app.command()
def sync(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Read, never written.", show_default=False)],
    destination: Annotated[
        str, typer.Argument(metavar="DESTINATION", help="Written, never overwritten.", show_default=False)
    ],
    *,
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="How many commands are read and written at once; what suits the destination if left out.",
            show_default=False,
        ),
    ] = None,
    tenant_uuid: Annotated[str | None, typer.Option(help="Only this tenant's.", show_default=False)] = None,
    skip_on_error: Annotated[
        bool,
        typer.Option(
            "--skip-on-error", help="Park commands that can't be copied, go on, and try them again in every run."
        ),
    ] = False,
    resume_from_dest: Annotated[
        bool, typer.Option(help="Go on after the checkpoint, or compare everything by key.")
    ] = True,
    start_after_time: Annotated[
        int | None, typer.Option(help="Only created_at > this, in its unit.", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Compare only; write nothing.")] = False,
    lag: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="How late commands may be committed with an older created_at, in its unit, at a source that is no SQL "
            "database; ten minutes of nanoseconds if left out.",
            show_default=False,
        ),
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="How many batches are written side by side; what suits the destination if left out.",
            show_default=False,
        ),
    ] = None,
    source_name: Annotated[
        str | None,
        typer.Option(help="What the checkpoint knows the source by, where its URL may change.", show_default=False),
    ] = None,
    source_key_file: KeyFile = None,
    destination_key_file: Annotated[
        Path | None, typer.Option("--destination-key-file", "--key-file", help="Likewise, for the destination.")
    ] = None,
    signing_key: SigningKey = None,
    json: Json = False,
) -> int:
    """Copy what is new from one store to another.

    Afterwards every command of the source is in the destination, byte for byte, and a second run copies nothing. It
    may be interrupted at any moment: run it again.
    """
    from commandstore.cli.sync import sync as run
    from commandstore.replication import DEFAULT_LAG

    return run(
        source,
        destination,
        {
            "batch_size": batch_size,
            "tenant_uuid": tenant_uuid,
            "skip_on_error": skip_on_error,
            "resume_from_dest": resume_from_dest,
            "start_after_time": start_after_time,
            "dry_run": dry_run,
            "lag": DEFAULT_LAG if lag is None else lag,
            "concurrency": concurrency,
            "source_name": source_name,
        },
        source_key_file=source_key_file,
        destination_key_file=destination_key_file,
        signing_key=signing_key,
        json=json,
    )


@app.command()
def verify(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="What is right; never written.", show_default=False)],
    destination: Annotated[
        str, typer.Argument(metavar="DESTINATION", help="What is compared with it.", show_default=False)
    ],
    *,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="Write to DESTINATION what is missing there, and replace what is altered or unreadable."
        ),
    ] = False,
    delete_extra: Annotated[
        bool,
        typer.Option("--delete-extra", help="With --repair: remove from DESTINATION what SOURCE doesn't have."),
    ] = False,
    payloads: Annotated[
        bool,
        typer.Option(
            "--payloads", help="Read all payloads, and compute their digests anew, in place of believing those kept."
        ),
    ] = False,
    tenant_uuid: Annotated[str | None, typer.Option(help="Only this tenant's.", show_default=False)] = None,
    after: Annotated[int | None, typer.Option(help="Only created_at > this.", show_default=False)] = None,
    before: Annotated[
        int | None,
        typer.Option(help="Only created_at < this; the start of this run if left out.", show_default=False),
    ] = None,
    source_key_file: KeyFile = None,
    destination_key_file: Annotated[
        Path | None, typer.Option("--destination-key-file", "--key-file", help="Likewise, for the destination.")
    ] = None,
    signing_key: SigningKey = None,
    json: Json = False,
) -> int:
    """Compare two stores, and name every command that is missing, extra or altered.

    Exit code 0 when nothing differs, or nothing any more after --repair; 1 when something does. What is newer than
    the start of the run is left out, so both may be written to.
    """
    from commandstore.cli.verify import verify as run

    return run(
        source,
        destination,
        {
            "repair": repair,
            "delete_extra": delete_extra,
            "payloads": payloads,
            "tenant_uuid": tenant_uuid,
            "after": after,
            "before": before,
        },
        source_key_file=source_key_file,
        destination_key_file=destination_key_file,
        signing_key=signing_key,
        json=json,
    )


@app.command()
def compact(url: Url, *, json: Json = False) -> int:
    """Rewrite what a store holds so that reads cost less. No command changes."""
    from commandstore.cli import stores

    return stores.compact(url, json=json)


@app.command()
def gc(
    url: Url,
    *,
    grace: Annotated[
        float, typer.Option(metavar="SECONDS", help="Only what is older; longer than any write takes.")
    ] = 86400.0,
    json: Json = False,
) -> int:
    """Remove what killed writers left behind, which no command refers to."""
    from commandstore.cli import stores

    return stores.gc(url, grace=grace, json=json)


@app.command()
def reset(
    url: Url,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    signing_key: SigningKey = None,
    json: Json = False,
) -> int:
    """Remove every command and checkpoint of a store, and its ledger. Asks first."""
    from commandstore.cli import stores

    return stores.reset(url, yes=yes, signing_key=signing_key, json=json)


@app.command()
def demo(
    *,
    count: Annotated[int, typer.Option(min=1, help="How many commands.")] = 10_000,
    keep: Annotated[bool, typer.Option("--keep", help="Keep both stores until Ctrl-C, to try commands on.")] = False,
    json: Json = False,
) -> int:
    """Try it all on this machine, with nothing of your own.

    Makes a comby database and a DynamoDB, copies from one to the other, and shows the commands that do it.
    """
    from commandstore.cli.demo import demo as run

    return run(count=count, keep=keep, json=json)
