"""Keys of the ledger: signing with a local Ed25519 key, and checking signatures. Pure.

A key's id is the first 16 hex characters of SHA-256 over its public half (DER, SubjectPublicKeyInfo): enough to find
the key by, and never what a signature is believed for.

Of each ECDSA signature ``(r, s)`` there is a second one, ``(r, n - s)``, which anybody can compute and which holds as
well. KMS gives either. Entries are written with the smaller ``s`` (:func:`one_form`), and no other is believed: so no
entry's signature can be altered unseen.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, Self, runtime_checkable

from commandstore.errors import ConfigurationError, MissingDependency

if TYPE_CHECKING:
    from commandstore.ledger.entry import Entry

__all__ = ["ED25519", "Ed25519Signer", "PublicKey", "Signer", "Verifier", "one_form"]

ED25519 = "ed25519"
_SEED_BYTES = 32
_KEY_ID_CHARACTERS = 16
# By the curve's name: how entries call it, and the hash that goes with it.
_CURVES = {"secp256r1": ("ecdsa-sha-256", "SHA256"), "secp384r1": ("ecdsa-sha-384", "SHA384")}
# By the algorithm: n, the order of the curve's group (SEC 2, sections 2.4.2 and 2.5.1).
_ORDERS = {
    "ecdsa-sha-256": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    "ecdsa-sha-384": (
        0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973
    ),
}
_BEGIN = b"-----BEGIN "


@runtime_checkable
class Signer(Protocol):
    """What a ledger needs of a key; bring your own by these four.

    Attributes:
        key_id: see the module's docstring.
        algorithm: ``ed25519``, ``ecdsa-sha-256`` (P-256) or ``ecdsa-sha-384`` (P-384).
    """

    @property
    def key_id(self) -> str:
        """Of the key; asks no network."""

    @property
    def algorithm(self) -> str:
        """Of the signatures."""

    def sign(self, message: bytes) -> bytes:
        """The signature over a message; ECDSA's as DER, of either s. May block; may be called from several threads."""

    def public_key(self) -> bytes:
        """The public half as PEM (SubjectPublicKeyInfo)."""


class Ed25519Signer:
    """Signs with an Ed25519 key of one's own (RFC 8032).

    Args:
        seed: the 32 bytes of the private key. See :meth:`from_pem` and :meth:`generate`.

    Raises:
        ConfigurationError: another length.
        MissingDependency: the ``crypto`` extra isn't installed.
    """

    __slots__ = ("_key", "_public")

    def __init__(self, seed: bytes) -> None:
        if not isinstance(seed, bytes | bytearray) or len(seed) != _SEED_BYTES:
            raise ConfigurationError("an Ed25519 private key has exactly 32 bytes")
        self._key: Any = _library().ed25519.Ed25519PrivateKey.from_private_bytes(bytes(seed))
        self._public = PublicKey(self._key.public_key())

    @classmethod
    def generate(cls) -> Self:
        """A new random key.

        Raises:
            MissingDependency: the ``crypto`` extra isn't installed.
        """
        return cls(_library().ed25519.Ed25519PrivateKey.generate().private_bytes_raw())

    @classmethod
    def from_pem(cls, pem: bytes | str) -> Self:
        """The key in a PEM text (PKCS8, without a passphrase), as :meth:`private_pem` gives it.

        Raises:
            ConfigurationError: it is none, or one of another kind. Never says what it holds.
            MissingDependency: the ``crypto`` extra isn't installed.
        """
        library, text = _library(), _bytes(pem)
        key, problem = None, ""
        if b"ENCRYPTED" in text:
            problem = "it has a passphrase; remove it (openssl pkey -in KEY -out PLAIN), and guard the file instead"
        elif b"BEGIN PUBLIC KEY" in text:
            problem = "this is the public half"
        else:
            try:
                key = library.serialization.load_pem_private_key(text, password=None)
            except Exception:  # noqa: BLE001 - whatever the parser says may show what it read
                problem = "it can't be read as PEM"
        if key is not None and not isinstance(key, library.ed25519.Ed25519PrivateKey):
            key, problem = None, "it is a key of another kind"
        if key is None:
            # Here, and not where it was caught, so that the error does not carry the parser's.
            raise ConfigurationError(
                f"the ledger's signing key must be an Ed25519 private key as PEM: {problem}. "
                "A new one comes from: commandstore audit keygen"
            )
        return cls(key.private_bytes_raw())

    def private_pem(self) -> bytes:
        """The key as PEM (PKCS8), without a passphrase: whoever has it can sign."""
        library = _library().serialization
        pem: bytes = self._key.private_bytes(library.Encoding.PEM, library.PrivateFormat.PKCS8, library.NoEncryption())
        return pem

    @property
    def key_id(self) -> str:
        """See :class:`Signer`."""
        return self._public.key_id

    @property
    def algorithm(self) -> str:
        """See :class:`Signer`."""
        return self._public.algorithm

    def sign(self, message: bytes) -> bytes:
        """See :class:`Signer`."""
        signature: bytes = self._key.sign(message)
        return signature

    def public_key(self) -> bytes:
        """See :class:`Signer`."""
        return self._public.pem

    def __repr__(self) -> str:
        return f"Ed25519Signer({self.key_id})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an Ed25519Signer holds a key and is not to be pickled; make one where it is needed")


class PublicKey:
    """A public key that can check signatures of entries.

    Args:
        key: of the cryptography package.

    Attributes:
        pem: the key as PEM.
        key_id: see the module's docstring.
        algorithm: that it signs with.

    Raises:
        ConfigurationError: no entry is signed with such a key.
    """

    __slots__ = ("_arguments", "_key", "algorithm", "key_id", "pem")

    def __init__(self, key: Any) -> None:
        library = _library()
        self._key = key
        self._arguments: tuple[Any, ...] = ()
        if isinstance(key, library.ed25519.Ed25519PublicKey):
            self.algorithm = ED25519
        else:
            curve = key.curve.name if isinstance(key, library.ec.EllipticCurvePublicKey) else ""
            if curve not in _CURVES:
                raise ConfigurationError("a key of the ledger is Ed25519, or ECDSA on P-256 or P-384; this one is not")
            self.algorithm, name = _CURVES[curve]
            self._arguments = (library.ec.ECDSA(getattr(library.hashes, name)()),)
        form = library.serialization.PublicFormat.SubjectPublicKeyInfo
        self.pem: bytes = key.public_bytes(library.serialization.Encoding.PEM, form)
        der = key.public_bytes(library.serialization.Encoding.DER, form)
        self.key_id = sha256(der).hexdigest()[:_KEY_ID_CHARACTERS]

    @classmethod
    def from_pem(cls, pem: bytes | str) -> Self:
        """The key in a PEM text.

        Raises:
            ConfigurationError: there is none in it, or one that signs no entries.
            MissingDependency: the ``crypto`` extra isn't installed.
        """
        return cls._loaded(_library().serialization.load_pem_public_key, _bytes(pem))

    @classmethod
    def from_der(cls, der: bytes) -> Self:
        """The key in a SubjectPublicKeyInfo; otherwise as :meth:`from_pem`."""
        return cls._loaded(_library().serialization.load_der_public_key, der)

    @classmethod
    def _loaded(cls, load: Any, data: bytes) -> Self:
        problem = "this can't be read as one"
        if b"PRIVATE KEY" in data:
            problem = "this is a private one, which belongs nowhere but with the signer"
        else:
            try:
                return cls(load(data))
            except ConfigurationError:
                raise
            except Exception:  # noqa: BLE001, S110 - whatever the parser says may show what it read
                pass
        raise ConfigurationError(f"a public key as PEM is needed, and {problem}")

    def has_signed(self, message: bytes, signature: bytes) -> bool:
        """Whether the signature over the message is this key's, in whatever form."""
        try:
            self._key.verify(signature, message, *self._arguments)
        except _library().InvalidSignature:
            return False
        return True

    def __repr__(self) -> str:
        return f"PublicKey({self.key_id}, {self.algorithm})"


class Verifier:
    """Checks the signatures of entries, offline.

    Args:
        public_keys: PEM texts, each with one key or several: all that the ledger was ever signed with.

    Raises:
        ConfigurationError: there are none, or one that signs no entries.
        MissingDependency: the ``crypto`` extra isn't installed.
    """

    def __init__(self, public_keys: bytes | str | Iterable[bytes | str]) -> None:
        texts = [public_keys] if isinstance(public_keys, bytes | str) else list(public_keys)
        keys = [PublicKey.from_pem(block) for text in texts for block in _blocks(_bytes(text))]
        if not keys:
            raise ConfigurationError("at least one public key is needed to check what the ledger was signed with")
        self._by_id = {key.key_id: key for key in keys}

    @property
    def key_ids(self) -> tuple[str, ...]:
        """Of the keys, in the order in which they were given."""
        return tuple(self._by_id)

    def check(self, entry: Entry) -> str | None:
        """Why the entry's signature can't be believed; None when it can."""
        key = self._by_id.get(entry.key_id)
        if key is None:
            return f"it is signed with key {entry.key_id}, which is not among those given ({', '.join(self._by_id)})"
        if key.algorithm != entry.algorithm:
            return f"it claims a signature by {entry.algorithm}, and key {entry.key_id} signs by {key.algorithm}"
        if not key.has_signed(entry.signed_bytes, entry.signature):
            return f"its signature is not one of key {entry.key_id} over what it states"
        if one_form(entry.signature, entry.algorithm) != entry.signature:
            return (
                "its signature was rewritten: it holds, but has the larger s of the two that ECDSA allows, and entries "
                "are written with the smaller"
            )
        return None

    def __repr__(self) -> str:
        return f"Verifier({', '.join(self._by_id)})"


def one_form(signature: bytes, algorithm: str) -> bytes:
    """The signature in the form in which entries have it: ECDSA's with the smaller s. What is none stays as it is."""
    order = _ORDERS.get(algorithm)
    if order is None:
        return signature
    library = _library().utils
    try:
        r, s = library.decode_dss_signature(signature)
    except ValueError:
        return signature
    form: bytes = library.encode_dss_signature(r, min(s, order - s)) if 0 < s < order else signature
    return form


def _bytes(text: bytes | str) -> bytes:
    # An encoding error would carry the whole text, which may be a private key.
    return text.encode("utf-8", "replace") if isinstance(text, str) else text


def _blocks(text: bytes) -> list[bytes]:
    """The PEM texts in a file; the whole where there is none, so that whoever reads it finds that out."""
    blocks = [_BEGIN + part for part in text.split(_BEGIN)[1:]]
    return blocks or [text]


def _library() -> SimpleNamespace:
    """What is used of the cryptography package; imported here alone, because it is an extra.

    Raises:
        MissingDependency: it isn't installed.
    """
    try:
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - an extra
        from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils  # noqa: PLC0415
    except ImportError as error:
        raise MissingDependency("signing and checking a ledger needs: pip install 'commandstore[crypto]'") from error
    return SimpleNamespace(
        InvalidSignature=InvalidSignature,
        hashes=hashes,
        serialization=serialization,
        ec=ec,
        ed25519=ed25519,
        utils=utils,
    )
