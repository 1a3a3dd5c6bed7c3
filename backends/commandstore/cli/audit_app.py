"""``commandstore audit``: its commands and their options; what each does is in the module that it calls."""

# ruff: noqa: PLC0415 - a command imports what it needs when it runs, so that --help answers at once

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from commandstore.cli.options import Json, Url

__all__ = ["app"]

app = typer.Typer(
    name="audit",
    help="The ledger: whether anything in a store was added, dropped or altered, and what.",
    rich_markup_mode=None,
    no_args_is_help=True,
)

PublicKey = Annotated[
    list[Path],
    typer.Option(
        "--public-key", metavar="FILE", help="Of the key that signs the ledger, and of those before it; repeat it."
    ),
]


@app.command()
def keygen(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The private key.", show_default=False)],
    *,
    json: Json = False,
) -> int:
    """Make a key to sign a ledger with: FILE, readable by its owner alone, and FILE.pub for auditors.

    Never overwrites.
    """
    from commandstore.cli import audit

    return audit.keygen(file, json=json)


@app.command()
def verify(
    url: Url,
    *,
    public_key: PublicKey,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Go on where the last audit ended; written after a clean one. Keep it out of the store.",
        ),
    ] = None,
    require_checkpoint: Annotated[
        bool,
        typer.Option("--require-checkpoint", help="Fail if there is none, as in a schedule, where one was written."),
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Look at everything, and hold it against the checkpoint too.")
    ] = False,
    count: Annotated[
        bool, typer.Option(help="From a checkpoint, also compare how many commands there are; costs the store's count.")
    ] = True,
    lists: Annotated[
        bool, typer.Option("--lists", help="In a full audit, walk every tenant's lists, whatever their counts are.")
    ] = False,
    accept: Annotated[
        bool,
        typer.Option("--accept", help="Known: write the checkpoint all the same, so that the next audit goes on."),
    ] = False,
    patience: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="How long to wait for what is just being written.")
    ] = 10.0,
    json: Json = False,
) -> int:
    """Replay the ledger and the commands, and name the first entry and each command that does not fit.

    Needs no key of the payloads, and writes nothing to the store. Exit code 1 when something does not fit; 2 also when
    the checkpoint can't be written.
    """
    from commandstore.cli import audit

    return audit.verify(
        url,
        public_key,
        checkpoint_file=checkpoint,
        require_checkpoint=require_checkpoint,
        full=full,
        count=count,
        lists=lists,
        accept=accept,
        patience=patience,
        json=json,
    )


@app.command()
def prove(
    url: Url,
    command_uuid: Annotated[str, typer.Argument(metavar="UUID", show_default=False)],
    *,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to; stdout if left out.", show_default=False)
    ] = None,
) -> int:
    """Write a proof that a command was recorded as it is stored, or that its deletion was.

    Exit code 1 when there is no proof, because the ledger doesn't know the command, or knows another one.
    """
    from commandstore.cli import audit

    return audit.prove(url, command_uuid, out=out)


@app.command()
def check(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A proof, or an export with --ledger.", show_default=False)
    ],
    *,
    public_key: PublicKey,
    command: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Of a proof: the command, as get --json prints it, is what was recorded."),
    ] = None,
    ledger: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="FILE is an export (JSON Lines) with --proofs; this lies beside it."),
    ] = None,
    sealed: Annotated[
        bool,
        typer.Option("--sealed", help="With --ledger: the store is encrypted, so the ledger vouches for ciphers only."),
    ] = False,
    json: Json = False,
) -> int:
    """Check a proof, or every row of an export, without the store. Exit code 1 when something does not hold.

    What is proven was recorded so once; whether something was recorded later, an audit tells.
    """
    from commandstore.cli import audit

    return audit.check(file, public_key, command_file=command, ledger_file=ledger, sealed=sealed, json=json)


@app.command()
def adopt(
    url: Url,
    *,
    signing_key: Annotated[
        str, typer.Option(metavar="KEY", help="Signs the entries: a PEM file, or kms:KEY.", show_default=False)
    ],
    public_key: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Of keys that signed the ledger before. Given any, what other keys signed counts for nothing.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> int:
    """Record commands that are in the store and in no entry: of before the ledger was begun, or after a crash.

    They are recorded as they are now. A second run adopts nothing. Entries that do not fit are told, and say nothing.
    """
    from commandstore.cli import audit

    return audit.adopt(url, signing_key, public_key or (), json=json)
