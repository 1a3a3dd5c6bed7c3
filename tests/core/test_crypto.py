"""The crypto service: what it seals comes back, and nothing of the key ever shows."""

import copy
import hashlib
import hmac
import pickle
import sys
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from commandstore import CommandStore, ConfigurationError, Crypto, CryptoService, DecryptionError, MissingDependency
from commandstore.crypto import Context, Sealed
from commandstore.crypto.keyed import KeyedDigest
from commandstore.crypto.service import aead, digest_key_from
from commandstore.memory import MemoryBackend

KEY = b"0123456789abcdef0123456789abcdef"
OTHER = b"another key of thirty-two bytes!"
SERVICE = CryptoService(KEY)
CONTEXT = Context("tenant", "c1")


@given(st.binary(max_size=200))
def test_what_was_sealed_comes_back(plain: bytes) -> None:
    assert SERVICE.decrypt(SERVICE.encrypt(plain)) == plain
    assert CryptoService(KEY).decrypt(SERVICE.encrypt(plain)) == plain
    assert SERVICE.open(SERVICE.seal(plain, CONTEXT), CONTEXT) == plain


def test_the_layout_is_nonce_ciphertext_tag() -> None:
    assert len(SERVICE.encrypt(b"")) == 12 + 16
    assert len(SERVICE.encrypt(b"x" * 100)) == 12 + 100 + 16
    assert len(SERVICE.seal(b"x" * 100, CONTEXT).data) == 12 + 100 + 16


def test_a_sealed_payload_of_another_program_can_be_opened() -> None:
    # AES-256-GCM with a tag of 16 bytes and no additional data, by another interface than the service uses.
    encryptor = Cipher(algorithms.AES(KEY), modes.GCM(b"n" * 12)).encryptor()
    sealed = b"n" * 12 + encryptor.update(b"from elsewhere") + encryptor.finalize() + encryptor.tag
    assert SERVICE.decrypt(sealed) == b"from elsewhere"
    assert SERVICE.open(Sealed(sealed, ""), CONTEXT) == b"from elsewhere"


_P60 = (
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525"
    "b16aedf5aa0de657ba637b391aafd255"
)
_K = "feffe9928665731c6d6a8f9467308308" * 2
_C15 = (
    "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838"
    "c5f61e6393ba7a0abcc9f662898015ad"
)


@pytest.mark.parametrize(
    ("key", "nonce", "plain", "cipher", "tag"),
    [
        ("00" * 32, "00" * 12, "", "", "530f8afbc74536b9a963b4f1c4cb738b"),
        ("00" * 32, "00" * 12, "00" * 16, "cea7403d4d606b6e074ec5d3baf39d18", "d0d1c8a799996bf0265b98b5d48ab919"),
        (_K, "cafebabefacedbaddecaf888", _P60, _C15, "b094dac5d93471bdec1a502270e3cc6c"),
    ],
    ids=["case 13", "case 14", "case 15"],
)
def test_the_published_vectors_of_gcm_open(key: str, nonce: str, plain: str, cipher: str, tag: str) -> None:
    """McGrew and Viega, The Galois/Counter Mode of Operation, appendix B: those with 256 bits and no added data."""
    assert CryptoService(bytes.fromhex(key)).decrypt(bytes.fromhex(nonce + cipher + tag)) == bytes.fromhex(plain)


def test_the_cipher_agrees_with_the_published_vector_that_has_additional_data() -> None:
    """Case 16 of the same. Envelopes bind tenant and command by additional data."""
    make, _ = aead()
    cipher = bytes.fromhex(_C15[:120] + "76fc6ece0f4e1768cddf8853bb2d551b")
    added = bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2")
    assert make(bytes.fromhex(_K)).decrypt(bytes.fromhex("cafebabefacedbaddecaf888"), cipher, added).hex() == _P60[:120]


def test_no_two_ciphers_of_one_payload_are_alike() -> None:
    assert len({SERVICE.encrypt(b"same") for _ in range(50)}) == 50
    assert len({SERVICE.seal(b"same", CONTEXT).data[:12] for _ in range(50)}) == 50


@given(st.binary(max_size=20), st.data())
def test_an_altered_byte_is_a_decryption_error(plain: bytes, data: st.DataObject) -> None:
    sealed = bytearray(SERVICE.encrypt(plain))
    at = data.draw(st.integers(0, len(sealed) - 1))
    sealed[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(DecryptionError, match="another key, or altered"):
        SERVICE.decrypt(bytes(sealed))
    for cipher in ("", SERVICE.seal(b"", CONTEXT).cipher):
        with pytest.raises(DecryptionError, match="another key, or altered"):
            SERVICE.open(Sealed(bytes(sealed), cipher), CONTEXT)


def test_another_key_is_a_decryption_error() -> None:
    with pytest.raises(DecryptionError, match="another key"):
        CryptoService(OTHER).decrypt(SERVICE.encrypt(b"x"))
    with pytest.raises(DecryptionError, match="has no such key"):
        CryptoService(OTHER).open(SERVICE.seal(b"x", CONTEXT), CONTEXT)


@pytest.mark.parametrize("length", range(28))
def test_what_is_too_short_to_be_sealed_is_a_decryption_error(length: int) -> None:
    with pytest.raises(DecryptionError, match="too short"):
        SERVICE.decrypt(bytes(length))
    with pytest.raises(DecryptionError, match="too short"):
        SERVICE.open(Sealed(bytes(length), ""), CONTEXT)


@pytest.mark.parametrize("key", [b"", bytes(16), bytes(24), bytes(31), bytes(33), "x" * 32, None, 32], ids=ascii)
def test_a_key_has_exactly_32_bytes(key: Any) -> None:
    for arguments in (
        (key, {}),
        (KEY, {"old_keys": [key]}),
        *([(KEY, {"digest_key": key})] if key is not None else []),
    ):
        with pytest.raises(ConfigurationError, match="32 bytes") as caught:
            CryptoService(arguments[0], **arguments[1])
        assert "x" * 32 not in str(caught.value)


def test_a_key_may_be_a_bytearray() -> None:
    assert CryptoService(bytearray(KEY)).decrypt(SERVICE.encrypt(b"x")) == b"x"


# Rotation


def test_after_a_rotation_old_ones_open_and_new_ones_are_under_the_new_key() -> None:
    rotated = CryptoService(OTHER, old_keys=[KEY])
    old, new = SERVICE.seal(b"old", CONTEXT), rotated.seal(b"new", CONTEXT)
    assert old.cipher != new.cipher
    for sealed, plain in ((old, b"old"), (new, b"new")):
        assert rotated.open(sealed, CONTEXT) == plain
        assert rotated.open(Sealed(sealed.data, ""), CONTEXT) == plain  # where no cipher's name is kept
        assert rotated.decrypt(sealed.data) == plain
    assert CryptoService(OTHER).open(new, CONTEXT) == b"new"
    with pytest.raises(DecryptionError):
        SERVICE.open(new, CONTEXT)


def test_digests_stay_the_same_through_a_rotation() -> None:
    plain = hashlib.sha256(b"a command").digest()
    before = SERVICE.digest(plain, CONTEXT)
    assert CryptoService(OTHER, old_keys=[KEY]).digest(plain, CONTEXT) == before
    # Even without the oldest key, once its digest key is given.
    assert CryptoService(OTHER, digest_key=digest_key_from(KEY)).digest(plain, CONTEXT) == before
    assert CryptoService(OTHER).digest(plain, CONTEXT) != before


def test_what_was_sealed_before_ciphers_had_key_names_opens() -> None:
    rotated = CryptoService(OTHER, old_keys=[KEY])
    assert rotated.open(Sealed(SERVICE.encrypt(b"x"), "aes-256-gcm"), CONTEXT) == b"x"


def test_the_ciphers_name_tells_keys_apart_and_nothing_of_them() -> None:
    name = SERVICE.seal(b"", CONTEXT).cipher
    assert name.startswith("aes-256-gcm:")
    assert len(name) < 100
    assert KEY.hex()[:8] not in name
    assert hashlib.sha256(KEY).hexdigest()[:16] not in name


# Digests


def test_digests_are_keyed_and_stable() -> None:
    plain = hashlib.sha256(b"a command").digest()
    derived = hmac.digest(KEY, b"commandstore digest key 1", "sha256")
    digest = SERVICE.digest(plain, CONTEXT)
    assert digest == CryptoService(KEY).digest(plain, CONTEXT) == hmac.digest(derived, plain, "sha256")
    assert digest != CryptoService(bytes(32)).digest(plain, CONTEXT)
    assert digest != plain


@given(st.binary(max_size=64), st.binary(max_size=200))
def test_the_keyed_digest_is_hmac(key: bytes, message: bytes) -> None:
    keyed = KeyedDigest(key)
    assert keyed(message) == keyed(message) == hmac.digest(key, message, "sha256")


def test_a_keyed_digest_takes_no_key_that_would_have_to_be_hashed() -> None:
    with pytest.raises(ValueError, match="longer key"):
        KeyedDigest(bytes(65))


# Secrets


def test_the_service_shows_nothing_of_its_key() -> None:
    store = CommandStore(MemoryBackend())
    store.init(crypto=SERVICE)
    shown = repr(SERVICE) + str(SERVICE) + repr(store.options) + repr(KeyedDigest(KEY))
    for part in (KEY, KEY[:8]):
        assert part.decode() not in shown
        assert part.hex() not in shown


@pytest.mark.parametrize("give_away", [pickle.dumps, copy.copy, copy.deepcopy])
@pytest.mark.parametrize("holder", [SERVICE, KeyedDigest(KEY)], ids=["service", "digest"])
def test_what_holds_a_key_cant_be_pickled_or_copied(holder: Any, give_away: Any) -> None:
    with pytest.raises(TypeError, match="holds a key"):
        give_away(holder)


def test_without_its_extra_the_pip_line_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "cryptography"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependency, match=r"pip install 'commandstore\[crypto\]'"):
        CryptoService(KEY)


def test_a_service_of_ones_own_needs_four_members() -> None:
    class Mine:
        def prepare(self, *_: Any, **__: Any) -> None:
            return None

        def seal(self, plain: bytes, *_: Any) -> Sealed:
            return Sealed(b"sealed" + plain, "mine")

        def open(self, sealed: Sealed, *_: Any) -> bytes:
            return sealed.data.removeprefix(b"sealed")

        def digest(self, plain_digest: bytes, *_: Any) -> bytes:
            return plain_digest[::-1]

    assert isinstance(Mine(), Crypto)
    assert isinstance(SERVICE, Crypto)
    store = CommandStore(MemoryBackend())
    store.init(crypto=Mine())
    with pytest.raises(ConfigurationError, match="prepare, seal, open and digest"):
        store.init(crypto=object())  # type: ignore[arg-type]
