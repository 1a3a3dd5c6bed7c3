"""A key per tenant, and crypto-shredding: destroy a tenant's key, and its payloads can't be read any more.

Master keys lie in registers of a command store that is set apart for keys, wrapped by a :class:`Root`. Data keys are
wrapped here, under the tenant's master key, so the root is asked once for each tenant and not for each data key.

**Keep the store of the keys apart from the one of the commands, and without any copy that outlives a change**: no
point-in-time recovery, no versioning of a bucket, no backup that is kept. A key that was destroyed is still in each of
them, and with it all that it opens. (What would be lost with the keys' store is everything: guard it by a root and
permissions, and by the replicas of the engine itself.)

A register ``keys/<SHA-256 of the tenant, 32 hex digits>`` holds JSON: ``version``, ``tenant``, ``masters`` (``id`` and
``wrapped`` in base64, newest first) and ``digest`` (the key of the tenant's digests, wrapped); or, once the key was
destroyed, ``version``, ``tenant`` and ``destroyed`` (when): no new key is ever made for that tenant in silence.

A wrapped data key is ``version (1) || id of the master key (8) || nonce(12) || cipher(32) || tag(16)``.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, NoReturn

import orjson

from commandstore.contract import Register
from commandstore.crypto.base import NoKey
from commandstore.crypto.envelope import DataKey
from commandstore.crypto.keycache import Kept, KeyCache
from commandstore.crypto.root import LocalRoot, Root
from commandstore.crypto.service import aead
from commandstore.drive import run
from commandstore.errors import ConfigurationError, CorruptRecord, DecryptionError, StoreUnavailable
from commandstore.store import CommandStore

__all__ = ["LocalRoot", "Root", "TenantKeys"]

_VERSION = 1
_KEY_BYTES = 32
_ID_BYTES = 8
_NONCE_BYTES = 12
_WRAPPED_BYTES = 1 + _ID_BYTES + _NONCE_BYTES + _KEY_BYTES + 16
_BOUND = b"commandstore data key 1\0"
_TRIES = 20
_LOCKS = 16


class _Master(NamedTuple):
    key: Any
    id: bytes

    def __repr__(self) -> str:
        return f"_Master({self.id.hex()})"


class _Keys:
    """The keys of one tenant, unwrapped."""

    __slots__ = ("digest", "masters")

    def __init__(self, masters: Sequence[_Master], digest: bytes) -> None:
        self.masters = masters
        self.digest = digest


class TenantKeys:
    """A provider for :class:`commandstore.crypto.EnvelopeCrypto`: a master key for each tenant, in a store of keys.

    The first use of a tenant makes its key; of several processes that do so at once, all take the key of one.

    Args:
        store: the store of the keys, open. It stays the caller's to close.
        root: wraps what is stored.
        max_age: seconds that a tenant's key is kept unwrapped here. What :class:`EnvelopeCrypto` keeps comes on top:
            after the sum of both, no process can open what a destroyed key sealed.
        max_tenants: how many tenants' keys are kept.
        clock: seconds, monotonic.
        now: the time, for the date in what remains of a destroyed key.

    Raises:
        MissingDependency: the ``crypto`` extra isn't installed.
    """

    name = "vault"

    def __init__(
        self,
        store: CommandStore,
        root: Root,
        *,
        max_age: float = 60.0,
        max_tenants: int = 4096,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        if not max_age > 0 or max_tenants < 1:
            raise ConfigurationError("max_age and max_tenants are greater than 0")
        self._make, self._invalid = aead()
        self._store = store
        self._root = root
        self._max_age = max_age
        self._clock = clock
        self._now = now
        self._lock = threading.Lock()
        self._kept: KeyCache[str, _Keys] = KeyCache(max_tenants)
        # One thread at a time loads a tenant's key, and the others find it loaded.
        self._loading = [threading.Lock() for _ in range(_LOCKS)]

    # What an EnvelopeCrypto asks for; see :class:`KeyProvider`

    def generate(self, tenant_uuid: str) -> DataKey:
        """A new data key under the tenant's newest master key, which is made where there is none.

        Raises:
            DecryptionError: the tenant's key was destroyed.
            ReadOnlyStore: there is no key yet, and the store of the keys was opened read-only.
        """
        master = self._keys(tenant_uuid, make=True).masters[0]
        plain, nonce = os.urandom(_KEY_BYTES), os.urandom(_NONCE_BYTES)
        cipher = master.key.encrypt(nonce, plain, _BOUND + tenant_uuid.encode())
        return DataKey(plain, b"".join((bytes([_VERSION]), master.id, nonce, cipher)))

    def unwrap(self, wrapped: bytes, tenant_uuid: str) -> bytes:
        """A data key again.

        Raises:
            DecryptionError: it is none of this tenant, was altered, or the tenant's key was destroyed.
        """
        if len(wrapped) != _WRAPPED_BYTES or wrapped[0] != _VERSION:
            raise DecryptionError("the data key beside the payload was not wrapped by a tenant's key")
        id_, nonce, cipher = wrapped[1:9], wrapped[9:21], wrapped[21:]
        master = _find(self._keys(tenant_uuid, make=False), id_)
        if master is None:  # another process may have rotated it
            self._forget(tenant_uuid)
            master = _find(self._keys(tenant_uuid, make=False), id_)
        if master is None:
            raise DecryptionError(f"tenant {tenant_uuid!a} has no key {id_.hex()} in {self._store}")
        try:
            plain: bytes = master.key.decrypt(nonce, cipher, _BOUND + tenant_uuid.encode())
        except self._invalid as error:
            raise DecryptionError("the data key beside the payload was altered, or is another tenant's") from error
        return plain

    def digest_key(self, tenant_uuid: str) -> bytes:
        """The key of the tenant's digests, made with its first master key.

        Raises:
            NoKey: the tenant has none yet.
            DecryptionError: the tenant's key was destroyed.
        """
        return self._keys(tenant_uuid, make=False).digest

    # Upkeep

    def rotate(self, tenant_uuid: str) -> str:
        """Make a new master key for the tenant's new data keys; the old ones stay, for what they opened.

        Other processes use it once theirs is older than ``max_age``. Digests keep their key.

        Returns:
            The id of the new key.

        Raises:
            ConfigurationError: the tenant has no key yet; nothing was changed.
            DecryptionError: the tenant's key was destroyed.
        """
        id_, wrapped = self._new_master(tenant_uuid)

        def change(document: dict[str, Any] | None) -> dict[str, Any]:
            if document is None:
                raise self._none(tenant_uuid, "rotate (its first command makes one)")
            _raise_if_destroyed(document, tenant_uuid)
            return {**document, "masters": [{"id": id_, "wrapped": wrapped}, *document["masters"]]}

        self._change(tenant_uuid, change)
        return id_

    def destroy(self, tenant_uuid: str, *, in_advance: bool = False) -> datetime:
        """Destroy the tenant's keys: what they sealed is unreadable for good, everything else stays.

        What remains says when, and keeps a new key from being made for this tenant. This process forgets its keys at
        once, but for those that an :class:`EnvelopeCrypto` keeps (its ``forget``); others after their ``max_age``.

        Args:
            tenant_uuid: whose; one that never had a key may be a slip of the pen.
            in_advance: let it have had none: from now on none is ever made.

        Returns:
            When it was destroyed; the first time, if it was already.

        Raises:
            ConfigurationError: the tenant never had a key, and not ``in_advance``; nothing was changed.
        """
        when = self._now().astimezone(UTC).isoformat(timespec="seconds")

        def change(found: dict[str, Any] | None) -> dict[str, Any]:
            if found is None and not in_advance:
                raise self._none(tenant_uuid, "destroy")
            gone = {"version": _VERSION, "tenant": tenant_uuid, "destroyed": when}
            return found if found is not None and "destroyed" in found else gone

        return datetime.fromisoformat(self._change(tenant_uuid, change)["destroyed"])

    def destroyed(self, tenant_uuid: str) -> datetime | None:
        """When the tenant's keys were destroyed; None if they weren't, or it never had one."""
        _, found = self._read(tenant_uuid)
        return datetime.fromisoformat(found["destroyed"]) if found is not None and "destroyed" in found else None

    def _none(self, tenant: str, what: str) -> ConfigurationError:
        return ConfigurationError(
            f"tenant {tenant!a} has no key in {self._store}, so there is none to {what}; nothing was changed"
        )

    # Registers

    def _keys(self, tenant: str, *, make: bool) -> _Keys:
        if (kept := self._kept.get(tenant, self._clock())) is not None:
            return kept.get()
        with self._loading[hash(tenant) % _LOCKS]:
            if (kept := self._kept.get(tenant, self._clock())) is not None:
                return kept.get()
            until = self._clock() + self._max_age
            try:
                kept = Kept(self._load(tenant, make=make), "", until)
            except _Destroyed as error:
                kept = Kept(None, str(error), until)
            with self._lock:
                self._kept.put(tenant, kept)
            return kept.get()

    def _load(self, tenant: str, *, make: bool) -> _Keys:
        _, document = self._read(tenant)
        if document is None:
            if not make:
                raise NoKey(f"tenant {tenant!a} has no key in {self._store}")
            document = self._change(tenant, lambda found: found or self._new(tenant))
        _raise_if_destroyed(document, tenant)
        try:
            masters = [(bytes.fromhex(one["id"]), base64.b64decode(one["wrapped"])) for one in document["masters"]]
            digest = base64.b64decode(document["digest"])
        except ValueError:
            raise DecryptionError(f"the keys of tenant {tenant!a} in {self._store} can't be read") from None
        return _Keys(
            [_Master(self._make(self._root.unwrap(w, _context(tenant, id_.hex()))), id_) for id_, w in masters],
            self._root.unwrap(digest, _context(tenant, "digest")),
        )

    def _read(self, tenant: str) -> tuple[Register | None, dict[str, Any] | None]:
        self._store.core.ready()
        try:
            found = run(self._store.core.backend.register_get(_register(tenant)))
        except CorruptRecord as error:
            raise DecryptionError(
                f"the keys of tenant {tenant!a} in {self._store} can't be read: {error}; restore that register, and do "
                "not remove it: a new key opens nothing that these sealed"
            ) from error
        if found is None:
            return None, None
        try:
            document = orjson.loads(found.value)
        except ValueError:
            document = None
        if not _is_of(document, tenant):
            raise DecryptionError(f"the keys of tenant {tenant!a} in {self._store} can't be read by this release")
        return found, document

    def _change(self, tenant: str, change: Callable[[dict[str, Any] | None], dict[str, Any]]) -> dict[str, Any]:
        """Swap in what a function makes of what is there; what is there then. Nothing is written where nothing changes.

        Raises:
            StoreUnavailable: others changed it again and again.
        """
        for _ in range(_TRIES):
            register, found = self._read(tenant)
            document = change(found)
            if document is not found:
                self._store.core.writable()
                swap = self._store.core.backend.register_swap(
                    _register(tenant),
                    orjson.dumps(document),
                    expected=register.token if register else None,
                    token=secrets.token_hex(8),
                )
                if not run(swap):
                    continue
            self._forget(tenant)
            return document
        raise StoreUnavailable(f"the keys of tenant {tenant!a} in {self._store} are changed by others all the time")

    def _new(self, tenant: str) -> dict[str, Any]:
        id_, wrapped = self._new_master(tenant)
        digest = self._root.wrap(os.urandom(_KEY_BYTES), _context(tenant, "digest"))
        return {
            "version": _VERSION,
            "tenant": tenant,
            "masters": [{"id": id_, "wrapped": wrapped}],
            "digest": base64.b64encode(digest).decode(),
        }

    def _new_master(self, tenant: str) -> tuple[str, str]:
        id_ = os.urandom(_ID_BYTES).hex()
        wrapped = self._root.wrap(os.urandom(_KEY_BYTES), _context(tenant, id_))
        return id_, base64.b64encode(wrapped).decode()

    def _forget(self, tenant: str) -> None:
        with self._lock:
            self._kept.drop(tenant)

    def __repr__(self) -> str:
        return f"TenantKeys({self._store})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("TenantKeys hold keys and are not to be pickled; make them where they are needed")


class _Destroyed(DecryptionError):
    """The tenant's key was destroyed: remembered, while other errors may be mended by the next call."""


def _is_of(document: object, tenant: str) -> bool:
    """Whether it is what is kept of this tenant's keys, or of their end; altered by hand, it may be anything."""
    if not isinstance(document, dict) or document.get("tenant") != tenant or document.get("version") != _VERSION:
        return False
    if "destroyed" in document:
        try:
            datetime.fromisoformat(document["destroyed"])
        except (TypeError, ValueError):
            return False
        return True
    masters = document.get("masters")
    return (
        isinstance(document.get("digest"), str)
        and isinstance(masters, list)
        and bool(masters)
        and all(isinstance(one, dict) and {str} == {type(one.get("id")), type(one.get("wrapped"))} for one in masters)
    )


def _raise_if_destroyed(document: Mapping[str, Any], tenant: str) -> None:
    if "destroyed" in document:
        raise _Destroyed(f"the key of tenant {tenant!a} was destroyed on {document['destroyed']}")


def _find(keys: _Keys, id_: bytes) -> _Master | None:
    return next((master for master in keys.masters if master.id == id_), None)


def _register(tenant: str) -> str:
    return f"keys/{hashlib.sha256(tenant.encode()).hexdigest()[:32]}"


def _context(tenant: str, key: str) -> dict[str, str]:
    return {"tenant_uuid": tenant, "key": key}
