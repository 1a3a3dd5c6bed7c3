r"""Envelope encryption: a payload under a data key, the data key wrapped beside it, the wrapping key somewhere safe.

**Layout** of a sealed payload, version 1::

    "CSE" || version (1) || length of the wrapped key (2, big-endian) || wrapped key || nonce(12) || cipher || tag(16)

It says by itself how it is to be opened, so it needs no place for a cipher's name. AES-256-GCM's additional data are
``"commandstore payload 1\0"``, the length of the tenant's uuid in UTF-8 (2, big-endian), that uuid, and the command's
uuid: a payload that is moved to another command, of this tenant or of another, does not open.

A data key is shared by many commands of one tenant, or each command would cost a request. So the tenant is bound twice,
by the provider when it unwraps and here, and the command here.
"""

from __future__ import annotations

import os
import struct
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from operator import length_hint
from typing import Any, NoReturn, Protocol

from commandstore.crypto.base import Context, NoKey, Sealed
from commandstore.crypto.keycache import Kept, KeyCache
from commandstore.crypto.keyed import KeyedDigest
from commandstore.crypto.service import aead
from commandstore.errors import ConfigurationError, DecryptionError

__all__ = ["DataKey", "EnvelopeCrypto", "KeyProvider"]

_MAGIC = b"CSE"
_VERSION = 1
_START = struct.Struct(">3sBH")
_LENGTH = struct.Struct(">H")
_BOUND = b"commandstore payload 1\0"
_KEY_BYTES = 32
_NONCE_BYTES = 12
_TAG_BYTES = 16
_MOST_WRAPPED = 0xFFFF
_MOST_MESSAGES = 2**32  # under one key with random nonces (NIST SP 800-38D, 8.3)
_CIPHER = "aes-256-gcm"


class DataKey:
    """A data key: what payloads are sealed with.

    Attributes:
        plain: its 32 bytes.
        wrapped: what is stored beside each payload, and tells nothing without the wrapping key.
    """

    __slots__ = ("plain", "wrapped")

    def __init__(self, plain: bytes, wrapped: bytes) -> None:
        self.plain = plain
        self.wrapped = wrapped

    def __repr__(self) -> str:
        return f"DataKey(wrapped in {len(self.wrapped)} bytes)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a DataKey is a key and is not to be pickled")


class KeyProvider(Protocol):
    """Where data keys come from. All of it may block, and is called from several threads.

    Each raises ``DecryptionError`` for what concerns this tenant alone (its key was destroyed, the wrapped key is no
    key of it), and what concerns the service (``StoreUnavailable``, ``AccessDenied``, ``ConfigurationError``) as it is.
    """

    @property
    def name(self) -> str:
        """A short name, which becomes part of the cipher's: ``kms``."""

    def generate(self, tenant_uuid: str) -> DataKey:
        """A new data key of a tenant."""

    def unwrap(self, wrapped: bytes, tenant_uuid: str) -> bytes:
        """The data key of a tenant that was wrapped so."""

    def digest_key(self, tenant_uuid: str) -> bytes:
        """The key of a tenant's digests: 32 bytes, always the same ones.

        Raises:
            NoKey: no data key was generated for the tenant yet. Whoever only compares must make none.
        """


class _SealingKey:
    """A data key that new payloads are sealed with."""

    __slots__ = ("bound", "encrypt", "start", "tickets", "until")

    def __init__(
        self, encrypt: Callable[[bytes, bytes, bytes], bytes], key: DataKey, bound: bytes, messages: int, until: float
    ) -> None:
        self.encrypt = encrypt
        self.start = _START.pack(_MAGIC, _VERSION, len(key.wrapped)) + key.wrapped
        self.bound = bound
        self.until = until
        # One for each payload. Taking the next is one step of the interpreter, so that threads need no lock for it.
        self.tickets = iter(range(messages))


class EnvelopeCrypto:
    """Seals each payload under a data key of its tenant, which a provider wraps.

    Args:
        provider: makes and unwraps data keys: :class:`commandstore.aws.kms.KmsKeys`,
            :class:`commandstore.vault.TenantKeys`, or your own.
        max_messages: how many payloads are sealed under one data key.
        max_age: seconds that any key is kept, for sealing and for opening: how long a key that was destroyed may still
            be at work in this process, and how soon one that was enabled again works.
        max_keys: how many unwrapped data keys are kept for opening, and how many tenants' for sealing.
        concurrency: how many keys are asked for at once.
        clock: seconds, monotonic.

    Raises:
        ConfigurationError: a bound that can't be.
        MissingDependency: the ``crypto`` extra isn't installed.
    """

    def __init__(
        self,
        provider: KeyProvider,
        *,
        max_messages: int = 100_000,
        max_age: float = 300.0,
        max_keys: int = 4096,
        concurrency: int = 8,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 1 <= max_messages <= _MOST_MESSAGES or not max_age > 0 or max_keys < 1 or concurrency < 1:
            raise ConfigurationError(
                f"max_messages is from 1 to {_MOST_MESSAGES}; max_age, max_keys and concurrency are greater than 0"
            )
        self._make, self._invalid = aead()
        self._provider = provider
        self._cipher = f"{_CIPHER}+{provider.name}"
        self._max_messages = max_messages
        self._max_age = max_age
        self._max_keys = max_keys
        self._concurrency = concurrency
        self._clock = clock
        # What is about to become too old is got anew by prepare(), so that it doesn't while a batch is at work.
        self._margin = min(max_age / 10, 30.0)
        self._lock = threading.Lock()
        self._sealing: OrderedDict[str, deque[_SealingKey]] = OrderedDict()
        self._current: dict[str, _SealingKey] = {}  # the first of each, to be read without the lock
        self._refused: KeyCache[str, NoReturn] = KeyCache(max_keys)
        self._opening: KeyCache[tuple[str, bytes], Any] = KeyCache(max_keys)
        self._digests: KeyCache[str, KeyedDigest] = KeyCache(max_keys)

    # What a store asks for; see :class:`Crypto`

    def prepare(
        self,
        sealing: Iterable[Context] = (),
        opening: Iterable[tuple[Sealed, Context]] = (),
        digesting: Iterable[Context] = (),
    ) -> Callable[[], None] | None:
        """See :meth:`Crypto.prepare`."""
        now = self._clock() + self._margin
        counts = Counter([tenant for tenant, _ in sealing])
        told = {tenant for tenant, _ in digesting} - counts.keys()
        wrapped: dict[tuple[str, bytes], None] = {}
        for sealed, context in opening:
            try:
                wrapped[context.tenant_uuid, self._wrapped(sealed)] = None
            except DecryptionError:  # said by open()
                continue
        first: list[Callable[[], object]] = []
        with self._lock:
            for tenant, count in counts.items():
                keys, digest = self._missing(tenant, count, now), not self._has_digest(tenant, now)
                if keys or digest:
                    first.append(partial(self._get_for_sealing, tenant, keys, digest=digest))
            first += [partial(self._digest_key, tenant) for tenant in told if not self._digests.fresh(tenant, now)]
            first += [partial(self._unwrap, *name) for name in wrapped if not self._opening.fresh(name, now)]
            # Only once a data key opened: a provider may make the key of a tenant that it doesn't know.
            then = {tenant for tenant, _ in wrapped if tenant not in counts and not self._digests.fresh(tenant, now)}
            keyed = {tenant for tenant, key in wrapped if self._opened(tenant, key, now)} & then
        if not first and not keyed:
            return None

        def get() -> None:
            self._together(first)
            able = {tenant for tenant, key in wrapped if tenant in then and self._opened(tenant, key, self._clock())}
            self._together([partial(self._digest_key, tenant) for tenant in able])

        return get

    def seal(self, plain: bytes, context: Context) -> Sealed:
        """See :meth:`Crypto.seal`."""
        tenant, uuid = context
        key = self._current.get(tenant)
        if key is None or key.until <= self._clock() or next(key.tickets, None) is None:
            key = self._next_key(tenant)
        nonce = os.urandom(_NONCE_BYTES)
        return Sealed(
            b"".join((key.start, nonce, key.encrypt(nonce, plain, key.bound + uuid.encode()))),
            self._cipher,
        )

    def open(self, sealed: Sealed, context: Context) -> bytes:
        """See :meth:`Crypto.open`."""
        if sealed.cipher not in {"", self._cipher}:
            raise DecryptionError(f"it was sealed as {sealed.cipher!a}, and this service opens {self._cipher}")
        tenant, uuid = context
        data, wrapped = sealed.data, self._wrapped(sealed)
        found = self._opening.get((tenant, wrapped), self._clock()) or self._unwrap(tenant, wrapped)
        start = _START.size + len(wrapped)
        end = start + _NONCE_BYTES
        try:
            plain: bytes = found.get().decrypt(data[start:end], data[end:], _bound(tenant) + uuid.encode())
        except self._invalid as error:
            raise DecryptionError("the payload does not decrypt: altered bytes, or another command's") from error
        return plain

    def digest(self, plain_digest: bytes, context: Context) -> bytes:
        """See :meth:`Crypto.digest`: HMAC-SHA-256 under a key of the tenant's."""
        tenant = context.tenant_uuid
        found = self._digests.get(tenant, self._clock()) or self._digest_key(tenant)
        return found.get()(plain_digest)

    def forget(self) -> None:
        """Keep no key any longer; each is asked for again when it is needed."""
        with self._lock:
            self._sealing.clear()
            self._current.clear()
            for cache in (self._refused, self._opening, self._digests):
                cache.clear()

    # Keys

    def _missing(self, tenant: str, count: int, now: float) -> int:
        """How many data keys have to be made to seal so many payloads. Under the lock."""
        if self._refused.fresh(tenant, now):
            return 0
        keys = self._sealing.get(tenant, deque())
        if tenant in self._sealing:
            self._sealing.move_to_end(tenant)
        left = sum(length_hint(key.tickets) for key in keys if key.until > now)
        return -(-max(0, count - left) // self._max_messages)

    def _next_key(self, tenant: str) -> _SealingKey:
        """A key with a message left, when the first one has none."""
        now = self._clock()
        with self._lock:
            if (refused := self._refused.get(tenant, now)) is not None:
                refused.get()
            keys = self._sealing.get(tenant, deque())
            while keys and (keys[0].until <= now or next(keys[0].tickets, None) is None):
                keys.popleft()
            key = keys[0] if keys else None
            if key is not None:
                self._current[tenant] = key
            else:
                self._current.pop(tenant, None)
        # Asked for here only where nothing was prepared, or other threads had need of what was.
        return key or self._generate(tenant, taken=1).get()

    def _get_for_sealing(self, tenant: str, keys: int, *, digest: bool) -> None:
        for _ in range(keys):
            self._generate(tenant)
        if digest:
            self._digest_key(tenant)

    def _generate(self, tenant: str, *, taken: int = 0) -> Kept[_SealingKey]:
        until = self._clock() + self._max_age  # from when it was asked for
        try:
            made = self._provider.generate(tenant)
            cipher = self._usable(made.plain)
            if not 0 < len(made.wrapped) <= _MOST_WRAPPED:
                raise ConfigurationError(f"the provider {self._provider.name} wraps a key in no bytes, or in too many")
        except DecryptionError as error:
            refused: Kept[Any] = Kept(None, str(error), until)
            with self._lock:
                self._sealing.pop(tenant, None)
                self._current.pop(tenant, None)
                self._refused.put(tenant, refused)
            return refused
        key = _SealingKey(cipher.encrypt, made, _bound(tenant), self._max_messages - taken, until)
        with self._lock:
            self._refused.drop(tenant)
            keys = self._sealing.setdefault(tenant, deque())
            while keys and keys[0].until <= until - self._max_age + self._margin:
                keys.popleft()
            keys.append(key)
            self._current[tenant] = keys[0]
            self._sealing.move_to_end(tenant)
            while len(self._sealing) > self._max_keys:
                self._current.pop(self._sealing.popitem(last=False)[0], None)
            # What is sealed now is often read soon.
            self._opening.put((tenant, made.wrapped), Kept(cipher, "", until))
        return Kept(key, "", until)

    def _unwrap(self, tenant: str, wrapped: bytes) -> Kept[Any]:
        until = self._clock() + self._max_age
        kept: Kept[Any]
        try:
            kept = Kept(self._usable(self._provider.unwrap(wrapped, tenant)), "", until)
        except DecryptionError as error:
            kept = Kept(None, str(error), until)
        with self._lock:
            self._opening.put((tenant, wrapped), kept)
        return kept

    def _digest_key(self, tenant: str) -> Kept[KeyedDigest]:
        until = self._clock() + self._max_age
        kept: Kept[KeyedDigest]
        try:
            kept = Kept(KeyedDigest(self._provider.digest_key(tenant)), "", until)
        except DecryptionError as error:
            kept = Kept(None, str(error), until, NoKey if isinstance(error, NoKey) else DecryptionError)
        with self._lock:
            self._digests.put(tenant, kept)
        return kept

    def _has_digest(self, tenant: str, now: float) -> bool:
        """Whether the key of its digests is known; that there was none yet is no answer once payloads are sealed."""
        found = self._digests.get(tenant, now)
        return self._digests.fresh(tenant, now) and found is not None and found.kind is not NoKey

    def _opened(self, tenant: str, wrapped: bytes, now: float) -> bool:
        found = self._opening.get((tenant, wrapped), now)
        return found is not None and found.key is not None

    def _usable(self, plain: bytes) -> Any:
        if len(plain) != _KEY_BYTES:
            raise DecryptionError(f"what {self._provider.name} unwrapped is no key: it does not have 32 bytes")
        return self._make(plain)

    def _together(self, jobs: list[Callable[[], object]]) -> None:
        if len(jobs) <= 1 or self._concurrency == 1:
            for job in jobs:
                job()
            return
        with ThreadPoolExecutor(min(self._concurrency, len(jobs)), "commandstore-keys") as pool:
            waiting = [pool.submit(job) for job in jobs]
            try:
                for one in waiting:
                    one.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    @staticmethod
    def _wrapped(sealed: Sealed) -> bytes:
        """The wrapped key in a payload.

        Raises:
            DecryptionError: it has none.
        """
        data = sealed.data
        if not data.startswith(_MAGIC) or len(data) < _START.size:
            raise DecryptionError("the payload is no envelope: plain data, or another service's")
        _, version, length = _START.unpack_from(data)
        if version != _VERSION:
            raise DecryptionError(f"the payload is an envelope of version {version}; this release opens {_VERSION}")
        if not length or len(data) < _START.size + length + _NONCE_BYTES + _TAG_BYTES:
            raise DecryptionError("the payload is too short to have been encrypted")
        return data[_START.size : _START.size + length]

    def __repr__(self) -> str:
        return f"EnvelopeCrypto({self._cipher})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an EnvelopeCrypto holds keys and is not to be pickled; make one where it is needed")


def _bound(tenant: str) -> bytes:
    """What additional data begin with; the command's uuid follows."""
    text = tenant.encode()
    return _BOUND + _LENGTH.pack(len(text)) + text
