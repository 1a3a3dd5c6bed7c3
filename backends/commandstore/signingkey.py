"""Signing keys of the ledger: from what an operator names to a signer, and new ones.

A key is named by the path of a PEM file (Ed25519, PKCS8), or as ``kms:KEY``: a key in AWS KMS by its id, ARN or
``alias/NAME``, with ``?region=``, ``endpoint_url=`` and ``profile=`` where the environment doesn't say.

No error shows what a file holds.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qsl

from commandstore.errors import ConfigurationError, MissingDependency
from commandstore.ledger.signing import Ed25519Signer, Signer

__all__ = ["new_signing_key", "public_keys_from", "signer_from"]

_KMS = "kms:"
_KMS_OPTIONS = {"region", "endpoint_url", "profile"}
_MOST_BYTES = 1024 * 1024
_PRIVATE = 0o600
_PUBLIC = 0o644


def signer_from(text: str | os.PathLike[str]) -> Signer:
    """The signer that is named.

    Raises:
        ConfigurationError: there is no such file or key, or it is of another kind.
        AccessDenied, StoreUnavailable: KMS could not be asked.
        MissingDependency: an extra isn't installed.
    """
    if isinstance(text, str) and text.startswith(_KMS):
        key, _, options = text.removeprefix(_KMS).partition("?")
        return _kms_signer(key, dict(parse_qsl(options, keep_blank_values=True)))
    path = Path(text)
    try:
        return Ed25519Signer.from_pem(_read(path, "signing key"))
    except ConfigurationError as error:
        raise ConfigurationError(f"{str(path)!a}: {error}") from error


def _kms_signer(key: str, options: dict[str, str]) -> Signer:
    if not key or options.keys() - _KMS_OPTIONS:
        raise ConfigurationError(
            f"a signing key in KMS is named kms:KEY, with the options {', '.join(sorted(_KMS_OPTIONS))}"
        )
    try:
        from commandstore.aws.kms_signer import KmsSigner  # noqa: PLC0415 - the SDK takes a moment, and is an extra
    except ModuleNotFoundError as error:
        raise MissingDependency("keys in KMS need boto3: pip install 'commandstore[aws]'") from error
    return KmsSigner(key, **options)


def public_keys_from(paths: Iterable[str | os.PathLike[str]]) -> list[bytes]:
    """The PEM texts in these files.

    Raises:
        ConfigurationError: one can't be read. What is in them is looked at by whoever checks with them.
    """
    return [_read(Path(path), "public key") for path in paths]


def _read(path: Path, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES)
    except OSError as error:
        raise ConfigurationError(f"can't read the {what} {str(path)!a}: {error.strerror}") from error


def new_signing_key(path: str | os.PathLike[str]) -> tuple[Path, str]:
    """Make a new random key: FILE, for its owner's eyes only, and FILE.pub for everybody. Never overwrites.

    Returns:
        Where the public half is, and the key's id.

    Raises:
        ConfigurationError: one of the two is there already, or can't be written; then neither was made.
        MissingDependency: the ``crypto`` extra isn't installed.
    """
    private, public = Path(path), Path(f"{os.fspath(path)}.pub")
    signer = Ed25519Signer.generate()
    _make(public, signer.public_key(), _PUBLIC)
    try:
        _make(private, signer.private_pem(), _PRIVATE)
    except BaseException:
        public.unlink(missing_ok=True)
        raise
    return public, signer.key_id


def _make(path: Path, text: bytes, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError as error:
        raise ConfigurationError(f"there is a file {str(path)!a} already; nothing was changed") from error
    except OSError as error:
        raise ConfigurationError(f"can't write {str(path)!a}: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        with suppress(OSError):
            path.unlink()
        raise ConfigurationError(f"can't write {str(path)!a}: {error.strerror}") from error
