"""Key files on the command line: make, rotate, destroy a tenant's key, describe a key in KMS."""

# ruff: noqa: PLC0415 - a command imports what it needs when it runs, so that --help answers at once

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from commandstore.cli.options import Json

__all__ = ["app"]

app = typer.Typer(
    name="keys",
    help="Key files: what payloads are encrypted with (--key-file).",
    rich_markup_mode=None,
)

File = Annotated[Path, typer.Argument(metavar="FILE", help="The key file.", show_default=False)]


@app.command()
def new(file: File, *, json: Json = False) -> int:
    """Make a key file with a new random key, readable by its owner alone. Never overwrites.

    Keep a copy in a safe place: without the key, nobody reads what it sealed.
    """
    from commandstore.cli import output
    from commandstore.keyfile import new_key_file

    new_key_file(file)
    if json:
        output.emit({"key_file": str(file), "created": True})
    else:
        output.say(f"made {output.printable(str(file))}")
    return 0


@app.command()
def rotate(
    file: File,
    *,
    tenant: Annotated[
        str | None, typer.Option(metavar="UUID", help="In a store of keys per tenant: whose.", show_default=False)
    ] = None,
    json: Json = False,
) -> int:
    """Put a new key first; what the old ones sealed stays readable.

    Give the new file to whoever reads before you give it to whoever writes. A tenant that has no key yet gets one with
    its first command; rotating it is an error.
    """
    from commandstore.cli import output, secret_files

    if tenant is None:
        secret_files.rotate(file)
        document: dict[str, str] = {"key_file": str(file)}
        text = f"a new key stands first in {output.printable(str(file))}"
    else:
        document = {"tenant_uuid": tenant, "key": secret_files.tenant_keys_of(file).rotate(tenant)}
        text = f"new data keys of tenant {output.printable(tenant)} are wrapped by key {document['key']}"
    if json:
        output.emit({**document, "rotated": True})
    else:
        output.say(text)
    return 0


@app.command(name="tenant-destroy")
def tenant_destroy(
    file: File,
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="The tenant's uuid.", show_default=False)],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Needed: it can't be undone.")] = False,
    json: Json = False,
) -> int:
    """Destroy a tenant's key for good: its payloads become unreadable, everything else stays.

    Processes that have the key in memory may use it for five more minutes. A tenant that never had a key is an error;
    one whose key was destroyed before is left as it is.
    """
    from commandstore.cli import output, secret_files
    from commandstore.errors import ConfigurationError

    if not yes:
        raise ConfigurationError(
            f"this makes every payload of tenant {tenant!a} unreadable for good; say --yes. Nothing was changed"
        )
    keys = secret_files.tenant_keys_of(file)
    already = keys.destroyed(tenant) is not None
    when = keys.destroy(tenant).isoformat()
    if json:
        output.emit({"tenant_uuid": tenant, "destroyed": when, "already": already})
    elif already:
        output.say(
            f"the key of tenant {output.printable(tenant)} was destroyed already, on {when}; nothing was changed"
        )
    else:
        output.say(f"the key of tenant {output.printable(tenant)} was destroyed on {when}")
    return 0


@app.command()
def kms(
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="Its id, ARN or alias/NAME.", show_default=False)],
    *,
    region: Annotated[str | None, typer.Option(show_default=False)] = None,
    endpoint_url: Annotated[str | None, typer.Option(metavar="URL", show_default=False)] = None,
    json: Annotated[bool, typer.Option("--json", help="It is JSON anyway.")] = False,
) -> int:
    """Print a key file for a symmetric key in AWS KMS, once for a store: it holds the wrapped key of its digests.

    It is no secret, but keep it: with another one, equal commands are not recognised.
    """
    from commandstore.cli import output
    from commandstore.keyfile import kms_document

    del json
    output.emit(kms_document(key_id, region=region, endpoint_url=endpoint_url))
    return 0
