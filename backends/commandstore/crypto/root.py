"""What wraps the keys of tenants: the one key that all others hang from."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from typing import NoReturn, Protocol

from commandstore.crypto.service import aead, key_of
from commandstore.errors import DecryptionError

__all__ = ["LocalRoot", "Root"]

_NONCE_BYTES = 12


class Root(Protocol):
    """What wraps the keys of the tenants. May block; is called from several threads."""

    def wrap(self, plain: bytes, context: Mapping[str, str]) -> bytes:
        """Wrap a key, bound to a context."""

    def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """The key again.

        Raises:
            DecryptionError: it was wrapped by another root or for another context, or was altered.
        """


class LocalRoot:
    """A root that is a key in this process: AES-256-GCM, ``nonce || cipher || tag``, the context as additional data.

    Args:
        key: exactly 32 bytes.
        old_keys: keys that were used before; what they wrapped can still be unwrapped.

    Raises:
        ConfigurationError: a key has another length.
        MissingDependency: the ``crypto`` extra isn't installed.
    """

    def __init__(self, key: bytes, *, old_keys: Sequence[bytes] = ()) -> None:
        make, self._invalid = aead()
        self._aeads = [make(key_of(one)) for one in (key, *old_keys)]

    def wrap(self, plain: bytes, context: Mapping[str, str]) -> bytes:
        """See :meth:`Root.wrap`."""
        nonce = os.urandom(_NONCE_BYTES)
        cipher: bytes = self._aeads[0].encrypt(nonce, plain, _flat(context))
        return nonce + cipher

    def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """See :meth:`Root.unwrap`."""
        cause: Exception | None = None
        for one in self._aeads:
            try:
                plain: bytes = one.decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], _flat(context))
            except (self._invalid, ValueError) as error:
                cause = error
            else:
                return plain
        raise DecryptionError("a tenant's key was wrapped by another root key, or was altered") from cause

    def __repr__(self) -> str:
        return "LocalRoot()"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a LocalRoot holds a key and is not to be pickled")


def _flat(context: Mapping[str, str]) -> bytes:
    """A context as bytes, so that no two have the same."""
    parts = [text.encode() for pair in sorted(context.items()) for text in pair]
    return b"commandstore root 1\0" + b"".join(struct.pack(">I", len(part)) + part for part in parts)
