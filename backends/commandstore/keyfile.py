"""Key files: from what an operator keeps in a file to the crypto service that it describes.

A key file is one of

* 32 raw bytes: comby's key. Not if they are text: a password is no key;
* lines of 64 hex digits: the key, and below it those that were used before, newest first. A line ``digest HEX`` is the
  key of the digests (else it comes of the last line); ``#`` starts a comment;
* JSON for keys in AWS KMS: ``{"kms": {"key_id": ..., "digest_key": BASE64}}``, and where they are needed ``region``,
  ``endpoint_url``, ``profile``, ``old_key_ids``;
* JSON for a key per tenant: ``{"tenants": {"store": URL, "root": {"key_file": PATH}}}`` or ``"root": {"kms": {"key_id":
  ...}}``. A relative path begins at the file that it stands in.

What such a file holds may also come from elsewhere, as from a secret.

No error shows what a file holds.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Annotated, NamedTuple

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from commandstore.crypto import Crypto, CryptoService, EnvelopeCrypto
from commandstore.crypto.service import digest_key_from
from commandstore.errors import ConfigurationError, MissingDependency
from commandstore.registry import open_store
from commandstore.vault import LocalRoot, Root, TenantKeys

try:
    import fcntl
except ModuleNotFoundError:  # no POSIX
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "crypto_from_bytes",
    "crypto_from_file",
    "kms_document",
    "new_key_file",
    "rotate_key_file",
    "tenant_keys_from_file",
]

_KEY_BYTES = 32
_HEX_DIGITS = 64
_LIKE_A_KEY = re.compile(r"[0-9a-fA-F]{40,}")
_MOST_BYTES = 1024 * 1024
_PRIVATE = 0o600
_DIGEST = "digest"
# Of a tenant's key that was destroyed: no process has it for longer than both together, five minutes.
_KEPT_IN_THE_VAULT = 60.0
_KEPT_IN_ENVELOPES = 240.0


class _Keys(NamedTuple):
    """Keys as lines have them."""

    keys: list[bytes]
    digest: bytes | None

    def __repr__(self) -> str:
        return f"_Keys({len(self.keys)})"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def _decoded(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("must be text in base64")  # noqa: TRY004 - pydantic takes a ValueError
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error:
        raise ValueError("is not base64") from None


class _Kms(_Model):
    key_id: str = Field(min_length=1)
    old_key_ids: tuple[str, ...] = ()
    region: str | None = None
    endpoint_url: str | None = None
    profile: str | None = None


class _KmsKeys(_Kms):
    digest_key: Annotated[bytes, BeforeValidator(_decoded), Field(min_length=1, max_length=6144)]


class _Root(_Model):
    key_file: Path | None = None
    kms: _Kms | None = None

    @model_validator(mode="after")
    def _one(self) -> _Root:
        if (self.key_file is None) == (self.kms is None):
            raise ValueError("has key_file or kms, one of them")
        if "\0" in str(self.key_file):
            raise ValueError("has a NUL in its path")
        return self


class _Tenants(_Model):
    store: str = Field(min_length=1)
    root: _Root


class _Document(_Model):
    kms: _KmsKeys | None = None
    tenants: _Tenants | None = None

    @model_validator(mode="after")
    def _one(self) -> _Document:
        if (self.kms is None) == (self.tenants is None):
            raise ValueError("has kms or tenants, one of them")
        return self


def crypto_from_file(path: Path | str) -> Crypto:
    """The crypto service that a key file describes.

    Raises:
        ConfigurationError: it can't be read, or doesn't hold what it should. Never says what it holds.
        StoreNotFound: there is no store of keys at the URL in it (``commandstore init URL`` makes one).
        MissingDependency: an extra isn't installed.
    """
    path = Path(path)
    return _crypto(_read(path), path, path.parent)


def crypto_from_bytes(content: bytes, name: str) -> Crypto:
    """The crypto service that the content of a key file describes, as :func:`crypto_from_file`.

    Args:
        content: all of it.
        name: what errors call it.

    Raises:
        ConfigurationError: it doesn't hold what it should, or a relative path, which begins nowhere.
    """
    return _crypto(_parsed(content, name), name, None)


def _crypto(found: _Keys | _Document, name: Path | str, folder: Path | None) -> Crypto:
    if isinstance(found, _Keys):
        return CryptoService(found.keys[0], old_keys=found.keys[1:], digest_key=found.digest)
    if found.kms is not None:
        settings = found.kms
        try:
            from commandstore.aws.kms import KmsKeys  # noqa: PLC0415 - the SDK takes a moment, and is an extra
        except ModuleNotFoundError as error:
            raise _no_sdk() from error
        return EnvelopeCrypto(KmsKeys(**dict(settings)))
    return EnvelopeCrypto(_tenant_keys(found, name, folder), max_age=_KEPT_IN_ENVELOPES)


def tenant_keys_from_file(path: Path | str, *, read_only: bool = False) -> TenantKeys:
    """The keys of tenants that a key file describes; their store is open as long as they are in use.

    Raises:
        ConfigurationError: it is a key file of another kind, can't be read, or doesn't hold what it should.
        StoreNotFound: there is no store of keys at the URL in it.
    """
    path = Path(path)
    return _tenant_keys(_read(path), path, path.parent, read_only=read_only)


def _tenant_keys(
    found: _Keys | _Document, name: Path | str, folder: Path | None, *, read_only: bool = False
) -> TenantKeys:
    if isinstance(found, _Keys) or found.tenants is None:
        raise ConfigurationError(f"the key file {_shown(name)} has no key per tenant: it is of another kind")
    root = _root(found.tenants.root, name, folder)
    store = open_store(found.tenants.store, read_only=read_only)
    keys = TenantKeys(store, root, max_age=_KEPT_IN_THE_VAULT)
    # Nobody closes a crypto service. When the last one has let go of the keys, or the process ends, their store closes.
    weakref.finalize(keys, store.close)
    return keys


def new_key_file(path: Path | str) -> None:
    """Make a key file with a new random key, for its owner's eyes only. Never overwrites.

    Raises:
        ConfigurationError: there is a file already, or it can't be written.
    """
    path = Path(path)
    text = f"# A key of commandstore. Whoever has it reads all that it seals; without it, nobody does.\n{_new()}\n"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE)
    except FileExistsError as error:
        raise ConfigurationError(f"there is a file {_shown(path)} already; nothing was changed") from error
    except OSError as error:
        raise ConfigurationError(f"can't write the key file {_shown(path)}: {error.strerror}") from error
    try:
        _fill(descriptor, text)
    except OSError as error:
        with suppress(OSError):
            path.unlink()
        raise ConfigurationError(f"can't write the key file {_shown(path)}: {error.strerror}") from error


def rotate_key_file(path: Path | str) -> None:
    """Put a new random key first in a file of keys. The others stay, and so does the key of the digests, in a line.

    Readers see the old file or the new one. Of two rotations at once the second waits for the first.

    Raises:
        ConfigurationError: it is a key file of another kind, can't be read or can't be written, or something else
            changed it meanwhile.
    """
    path = Path(
        os.path.realpath(path)
    )  # a link stays one; Path.resolve() has an error of its own for links in a circle
    with _alone_in(path.parent):
        _rotate(path)


def _rotate(path: Path) -> None:
    data = _content(path)
    found = _parsed(data, path)
    if not isinstance(found, _Keys):
        how = "KMS rotates its keys itself" if found.kms is not None else "rotate one tenant's key (--tenant)"
        raise ConfigurationError(f"the key file {_shown(path)} holds no keys: {how}; nothing was changed")
    # Made explicit, so that the oldest key can be dropped one day.
    digest = found.digest or digest_key_from(found.keys[-1])
    lines = [_new(), *(key.hex() for key in found.keys), f"{_DIGEST} {digest.hex()}"]
    comments = "# The first line's key seals; the others open what was sealed before. Keep the line of the digests.\n"
    try:
        before = path.stat()
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            os.fchmod(descriptor, stat.S_IMODE(before.st_mode))
            with suppress(PermissionError):
                os.fchown(descriptor, before.st_uid, before.st_gid)
            _fill(descriptor, comments + "".join(f"{line}\n" for line in lines))
            # An editor takes no lock, and not every file system has one.
            _raise_if_changed(path, data)
            Path(name).replace(path)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise
    except OSError as error:
        raise ConfigurationError(f"can't write the key file {_shown(path)}: {error.strerror}") from error


def _raise_if_changed(path: Path, before: bytes) -> None:
    if _content(path) != before:
        raise ConfigurationError(
            f"the key file {_shown(path)} was changed meanwhile by something else, and is left as it is now: rotate it "
            "again"
        )


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder, where there are such locks: a key that another rotation has just put first is not lost.

    Not on the file, which is another one after a rotation.
    """
    with ExitStack() as stack:
        if fcntl is not None:
            with suppress(OSError):
                descriptor = os.open(folder, os.O_RDONLY)
                stack.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def kms_document(key_id: str, *, region: str | None = None, endpoint_url: str | None = None) -> dict[str, object]:
    """A key file for a KMS key, with a new wrapped key for digests in it. It holds no secret.

    Raises:
        ConfigurationError, AccessDenied, StoreUnavailable: KMS could not make that key.
        MissingDependency: an extra isn't installed.
    """
    try:
        from commandstore.aws.kms import KmsKeys  # noqa: PLC0415 - the SDK takes a moment, and is an extra
    except ModuleNotFoundError as error:
        raise _no_sdk() from error
    wrapped = KmsKeys.new_digest_key(key_id, region=region, endpoint_url=endpoint_url)
    given = {"region": region, "endpoint_url": endpoint_url}
    digest_key = base64.b64encode(wrapped).decode()
    return {"kms": {"key_id": key_id, "digest_key": digest_key, **{name: v for name, v in given.items() if v}}}


def _root(root: _Root, name: Path | str, folder: Path | None) -> Root:
    if root.key_file is not None:
        if folder is None and not root.key_file.is_absolute():
            raise ConfigurationError(
                f"root.key_file in {_shown(name)} is a relative path, and that is no file for it to begin at: give a "
                "whole path, or root.kms"
            )
        found = _read((folder or Path("/")) / root.key_file)
        if not isinstance(found, _Keys):
            raise ConfigurationError(f"root.key_file in {_shown(name)} must lead to a file of keys, not of JSON")
        return LocalRoot(found.keys[0], old_keys=found.keys[1:])
    try:
        from commandstore.aws.kms import KmsRoot  # noqa: PLC0415 - the SDK takes a moment, and is an extra
    except ModuleNotFoundError as error:
        raise _no_sdk() from error
    return KmsRoot(**dict(root.kms or ()))


def _read(path: Path) -> _Keys | _Document:
    return _parsed(_content(path), path)


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES)
    except OSError as error:
        raise ConfigurationError(f"can't read the key file {_shown(path)}: {error.strerror}") from error


def _parsed(data: bytes, name: Path | str) -> _Keys | _Document:
    if len(data) == _KEY_BYTES and not _is_text(data):
        return _Keys([data], None)
    if data.lstrip().startswith(b"{"):
        return _document(data, name)
    if len(data) == _KEY_BYTES:
        raise ConfigurationError(
            f"the key file {_shown(name)} holds 32 bytes of text, and a password is no key: make one with "
            "'commandstore keys new FILE' (a text that has been the key so far is given as 64 hex digits)"
        )
    return _lines(data, name)


def _is_text(data: bytes) -> bool:
    """Whether somebody may have typed it. Of random keys, fewer than one in 10^10 looks so."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character.isspace() for character in text)


def _document(data: bytes, name: Path | str) -> _Document:
    # Without the causes: they show what was read.
    try:
        return _Document.model_validate(orjson.loads(data))
    except orjson.JSONDecodeError:
        raise ConfigurationError(f"the key file {_shown(name)} is not JSON, though it begins with a brace") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        path_to, reason = first["loc"], first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":  # the name is what was read, too
            path_to, reason = path_to[:-1], "has a field that is not known"
        where = ".".join(str(part) for part in path_to) or "it"
        raise ConfigurationError(f"the key file {_shown(name)}: {where}: {reason}") from None


def _lines(data: bytes, name: Path | str) -> _Keys:
    try:
        lines = [line.partition("#")[0].strip() for line in data.decode("ascii").splitlines()]
        lines = [line for line in lines if line]
        digests = [line[len(_DIGEST) :] for line in lines if line.startswith(_DIGEST)]
        given = [line for line in lines if not line.startswith(_DIGEST)]
        if len("".join("".join(given).split())) == _HEX_DIGITS:
            given = ["".join(given)]  # one key, cut into lines as some programs do
        keys, digest = [bytes.fromhex(line) for line in given], [bytes.fromhex(line) for line in digests]
    except ValueError:  # which shows what was read
        keys, digest = [], []
    if not keys or len(digest) > 1 or any(len(key) != _KEY_BYTES for key in (*keys, *digest)):
        raise ConfigurationError(
            f"the key file {_shown(name)} must hold 32 raw bytes or 64 hex characters (a line for each key), or JSON "
            "for keys in KMS or per tenant"
        )
    return _Keys(keys, digest[0] if digest else None)


def _fill(descriptor: int, text: str) -> None:
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _new() -> str:
    return os.urandom(_KEY_BYTES).hex()


def _shown(name: Path | str) -> str:
    """A name for people; whoever gives a key where its file is asked for does not see it in a message."""
    return ascii(_LIKE_A_KEY.sub("(hex digits)", str(name)))


def _no_sdk() -> MissingDependency:
    return MissingDependency("keys in KMS need the boto3 package: pip install 'commandstore[aws]'")
