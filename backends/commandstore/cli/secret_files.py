"""Files with keys: every command that reads one does so here, and tells of one that others can read too."""

# ruff: noqa: PLC0415 - most commands need no keys

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from commandstore.cli.output import note
from commandstore.cli.places import regular_file, start_of

if TYPE_CHECKING:
    from commandstore.crypto import Crypto
    from commandstore.ledger.signing import Signer
    from commandstore.vault import TenantKeys

__all__ = ["crypto_of", "forget", "rotate", "signer_of", "tenant_keys_of"]

_KMS = "kms:"
_EVERYBODYS = stat.S_IROTH | stat.S_IWOTH
_MOST_BYTES = 1024 * 1024

_told: set[str] = set()


def forget() -> None:
    """A new command begins: it tells of each file once."""
    _told.clear()


def crypto_of(path: Path) -> Crypto:
    """The crypto service of a key file. See :func:`commandstore.keyfile.crypto_from_file`."""
    from commandstore.keyfile import crypto_from_file

    crypto = crypto_from_file(path)
    _tell(path, "key file")
    return crypto


def tenant_keys_of(path: Path) -> TenantKeys:
    """The keys of tenants of a key file. See :func:`commandstore.keyfile.tenant_keys_from_file`."""
    from commandstore.keyfile import tenant_keys_from_file

    keys = tenant_keys_from_file(path)
    _tell(path, "key file")
    return keys


def rotate(path: Path) -> None:
    """Put a new key first in a key file. See :func:`commandstore.keyfile.rotate_key_file`."""
    from commandstore.keyfile import rotate_key_file

    rotate_key_file(path)
    _tell(path, "key file")


def signer_of(text: str) -> Signer:
    """The signer that is named. See :func:`commandstore.signingkey.signer_from`."""
    from commandstore.signingkey import signer_from

    signer = signer_from(text)
    if not text.startswith(_KMS):
        _tell(Path(text), "signing key")
    return signer


def _tell(path: Path, what: str) -> None:
    """Warn of what is secret in a file that was found good, and that every user of the machine can read or change.

    What its group may do is not said: that is how a secret is given to a service.
    """
    if os.name != "posix":
        return
    for secret in _secrets_of(path):
        found = regular_file(secret)
        if found is None or not found.st_mode & _EVERYBODYS or str(secret) in _told:
            continue
        _told.add(str(secret))
        note(
            f"commandstore: warning: every user of this machine can get at the {what} {str(secret)!a} (mode "
            f"{stat.S_IMODE(found.st_mode):04o}): chmod 600 it; if others use the machine, take the key for known"
        )


def _secrets_of(path: Path) -> Iterator[Path]:
    """The file itself, or where it is JSON, which holds no key, the file of the root that it names."""
    text = start_of(path, _MOST_BYTES)
    if not text.lstrip().startswith(b"{"):
        yield path
        return
    try:
        yield path.parent / orjson.loads(text)["tenants"]["root"]["key_file"]
    except (ValueError, KeyError, TypeError):  # keys in KMS
        return
