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
from commandstore.memory import MemoryBackend

KEY = b"0123456789abcdef0123456789abcdef"
SERVICE = CryptoService(KEY)


@given(st.binary(max_size=200))
def test_what_was_sealed_comes_back(plain: bytes) -> None:
    assert SERVICE.decrypt(SERVICE.encrypt(plain)) == plain
    assert CryptoService(KEY).decrypt(SERVICE.encrypt(plain)) == plain


def test_the_layout_is_nonce_ciphertext_tag() -> None:
    assert len(SERVICE.encrypt(b"")) == 12 + 16
    assert len(SERVICE.encrypt(b"x" * 100)) == 12 + 100 + 16


def test_a_sealed_payload_of_another_program_can_be_opened() -> None:
    # AES-256-GCM with a tag of 16 bytes and no additional data, by another interface than the service uses.
    encryptor = Cipher(algorithms.AES(KEY), modes.GCM(b"n" * 12)).encryptor()
    sealed = b"n" * 12 + encryptor.update(b"from elsewhere") + encryptor.finalize() + encryptor.tag
    assert SERVICE.decrypt(sealed) == b"from elsewhere"


def test_no_two_ciphers_of_one_payload_are_alike() -> None:
    assert len({SERVICE.encrypt(b"same") for _ in range(50)}) == 50


@given(st.binary(max_size=20), st.data())
def test_an_altered_byte_is_a_decryption_error(plain: bytes, data: st.DataObject) -> None:
    sealed = bytearray(SERVICE.encrypt(plain))
    at = data.draw(st.integers(0, len(sealed) - 1))
    sealed[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(DecryptionError, match="another key, or altered"):
        SERVICE.decrypt(bytes(sealed))


def test_another_key_is_a_decryption_error() -> None:
    with pytest.raises(DecryptionError, match="another key"):
        CryptoService(bytes(32)).decrypt(SERVICE.encrypt(b"x"))


@pytest.mark.parametrize("length", range(28))
def test_what_is_too_short_to_be_sealed_is_a_decryption_error(length: int) -> None:
    with pytest.raises(DecryptionError, match="too short"):
        SERVICE.decrypt(bytes(length))


@pytest.mark.parametrize("key", [b"", bytes(16), bytes(24), bytes(31), bytes(33), "x" * 32, None, 32], ids=ascii)
def test_a_key_has_exactly_32_bytes(key: Any) -> None:
    with pytest.raises(ConfigurationError, match="32 bytes") as caught:
        CryptoService(key)
    assert "x" * 32 not in str(caught.value)


def test_a_key_may_be_a_bytearray() -> None:
    assert CryptoService(bytearray(KEY)).decrypt(SERVICE.encrypt(b"x")) == b"x"


def test_digests_are_keyed_and_stable() -> None:
    plain = hashlib.sha256(b"a command").digest()
    derived = hmac.digest(KEY, b"commandstore digest key 1", "sha256")
    assert SERVICE.digest(plain) == CryptoService(KEY).digest(plain) == hmac.digest(derived, plain, "sha256")
    assert SERVICE.digest(plain) != CryptoService(bytes(32)).digest(plain)
    assert SERVICE.digest(plain) != plain


def test_the_service_shows_nothing_of_its_key() -> None:
    shown = repr(SERVICE) + str(SERVICE) + repr(CommandStore(MemoryBackend()).options)
    for part in (KEY, KEY[:8]):
        assert part.decode() not in shown
        assert part.hex() not in shown


@pytest.mark.parametrize("give_away", [pickle.dumps, copy.copy, copy.deepcopy])
def test_the_service_cant_be_pickled_or_copied(give_away: Any) -> None:
    with pytest.raises(TypeError, match="holds a key"):
        give_away(SERVICE)


def test_without_its_extra_the_pip_line_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "cryptography"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependency, match=r"pip install 'commandstore\[crypto\]'"):
        CryptoService(KEY)


def test_a_service_of_ones_own_needs_four_members() -> None:
    class Mine:
        cipher = "mine"

        def encrypt(self, plain: bytes) -> bytes:
            return b"sealed" + plain

        def decrypt(self, sealed: bytes) -> bytes:
            return sealed.removeprefix(b"sealed")

        def digest(self, plain_digest: bytes) -> bytes:
            return plain_digest[::-1]

    assert isinstance(Mine(), Crypto)
    assert isinstance(SERVICE, Crypto)
    store = CommandStore(MemoryBackend())
    store.init(crypto=Mine())
    with pytest.raises(ConfigurationError, match="cipher, encrypt, decrypt and digest"):
        store.init(crypto=object())  # type: ignore[arg-type]
