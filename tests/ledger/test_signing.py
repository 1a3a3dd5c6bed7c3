"""Keys of the ledger: they sign as the RFCs say, and nothing of a private one ever shows."""

from __future__ import annotations

import copy
import hashlib
import pickle
import sys
import traceback
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from commandstore import ConfigurationError, MissingDependency
from commandstore.ledger.entry import Entry, sign, state
from commandstore.ledger.leaves import Leaf
from commandstore.ledger.signing import _ORDERS, Ed25519Signer, PublicKey, Signer, Verifier, one_form

# RFC 8032, section 7.1: private key, public key, message, signature.
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        (
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe"
            "24655141438e7a100b"
        ),
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302a"
            "eeb00d291612bb0c00"
        ),
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        (
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed2"
            "8dc027beceea1ec40a"
        ),
    ),
]
# RFC 6979, appendices A.2.5 and A.2.6: curve, the point, and the signature (r, s) over "sample" with the curve's hash.
RFC_6979 = [
    (
        "ecdsa-sha-256",
        ec.SECP256R1(),
        0x60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6,
        0x7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299,
        0xEFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716,
        0xF7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8,
    ),
    (
        "ecdsa-sha-384",
        ec.SECP384R1(),
        0xEC3A4E415B4E19A4568618029F427FA5DA9A8BC4AE92E02E06AAE5286B300C64DEF8F0EA9055866064A254515480BC13,
        0x8015D9B72D7D57244EA8EF9AC0C621896708A59367F9DFB9F54CA84B3F1C9DB1288B231C3AE0D4FE7344FD2533264720,
        0x94EDBB92A5ECB8AAD4736E56C691916B3F88140666CE9FA73D64C4EA95AD133C81A648152E44ACF96E36DD1E80FABE46,
        0x99EF4AEB15F178CEA1FE40DB2603138F130E740A19624526203B6351D0A3A94FA329C145786E679E7B82C71A38628AC8,
    ),
]
SEED = bytes(range(100, 132))
SIGNER = Ed25519Signer(SEED)
OTHER = Ed25519Signer(bytes(32))
RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.derive_private_key(7, ec.SECP256R1())


def pem_of(key: Any) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def private_pem_of(key: Any, encryption: Any = None, form: Any = serialization.PrivateFormat.PKCS8) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, form, encryption or serialization.NoEncryption())


class EcSigner:
    """As KMS signs: ECDSA, DER."""

    algorithm = "ecdsa-sha-256"
    key_id = PublicKey(EC_KEY.public_key()).key_id

    def sign(self, message: bytes) -> bytes:
        return EC_KEY.sign(message, ec.ECDSA(hashes.SHA256()))

    def public_key(self) -> bytes:
        return pem_of(EC_KEY.public_key())


def entry_by(signer: Signer) -> Entry:
    leaves = [Leaf(1, "c1", bytes(32), 5)]
    return sign(state(leaves, previous=None, kind="sync", commands=1, time=0, parts=1, signer=signer), signer)


@pytest.mark.parametrize(("seed", "public", "message", "signature"), RFC_8032)
def test_ed25519_signs_as_the_rfc_says(seed: str, public: str, message: str, signature: str) -> None:
    signer = Ed25519Signer(bytes.fromhex(seed))
    assert signer.sign(bytes.fromhex(message)).hex() == signature
    key = PublicKey(ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)))
    assert key.pem == signer.public_key()
    assert key.has_signed(bytes.fromhex(message), bytes.fromhex(signature))
    assert not key.has_signed(bytes.fromhex(message) + b"x", bytes.fromhex(signature))


@pytest.mark.parametrize(("algorithm", "curve", "x", "y", "r", "s"), RFC_6979)
def test_an_ecdsa_signature_of_the_rfc_is_one(algorithm: str, curve: Any, x: int, y: int, r: int, s: int) -> None:
    key = PublicKey.from_pem(pem_of(ec.EllipticCurvePublicNumbers(x, y, curve).public_key()))
    assert key.algorithm == algorithm
    assert key.has_signed(b"sample", encode_dss_signature(r, s))
    assert not key.has_signed(b"test", encode_dss_signature(r, s))
    assert not key.has_signed(b"sample", encode_dss_signature(s, r))


@pytest.mark.parametrize(("algorithm", "curve", "x", "y", "r", "s"), RFC_6979)
def test_both_forms_of_an_ecdsa_signature_come_to_one_that_holds(
    algorithm: str, curve: Any, x: int, y: int, r: int, s: int
) -> None:
    key = PublicKey.from_pem(pem_of(ec.EllipticCurvePublicNumbers(x, y, curve).public_key()))
    order = _ORDERS[algorithm]
    smaller = encode_dss_signature(r, min(s, order - s))
    assert smaller != encode_dss_signature(r, max(s, order - s))
    for one in (s, order - s):
        assert one_form(encode_dss_signature(r, one), algorithm) == smaller
    assert key.has_signed(b"sample", smaller)
    for other in (b"", b"x", encode_dss_signature(r, 0), encode_dss_signature(r, order), smaller + b"\0"):
        assert one_form(other, algorithm) == other
    assert one_form(smaller, "ed25519") == smaller


def test_a_keys_id_is_the_start_of_the_hash_of_its_public_half() -> None:
    der = serialization.load_pem_public_key(SIGNER.public_key()).public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert SIGNER.key_id == hashlib.sha256(der).hexdigest()[:16]
    assert PublicKey.from_der(der).key_id == SIGNER.key_id == PublicKey.from_pem(SIGNER.public_key()).key_id


def test_a_key_comes_back_from_its_pem() -> None:
    for pem in (SIGNER.private_pem(), SIGNER.private_pem().decode()):
        assert Ed25519Signer.from_pem(pem).private_pem() == SIGNER.private_pem()
    assert serialization.load_pem_private_key(SIGNER.private_pem(), None).private_bytes_raw() == SEED


def test_no_two_generated_keys_are_alike() -> None:
    assert len({Ed25519Signer.generate().key_id for _ in range(20)}) == 20


@pytest.mark.parametrize("signer", [SIGNER, EcSigner()])
def test_what_signs_is_a_signer(signer: object) -> None:
    assert isinstance(signer, Signer)


# What a private key must never do


@pytest.mark.parametrize(
    ("pem", "message"),
    [
        (private_pem_of(RSA_KEY), "of another kind"),
        (private_pem_of(EC_KEY), "of another kind"),
        (private_pem_of(x25519.X25519PrivateKey.from_private_bytes(SEED)), "of another kind"),
        (
            private_pem_of(
                ed25519.Ed25519PrivateKey.from_private_bytes(SEED), serialization.BestAvailableEncryption(b"secret")
            ),
            "has a passphrase",
        ),
        (SIGNER.public_key(), "the public half"),
        (SIGNER.private_pem()[:-40], "can't be read"),
        (SIGNER.private_pem().replace(b"M", b"%"), "can't be read"),
        (SIGNER.private_pem().decode().replace("M", "ü"), "can't be read"),
        (SIGNER.private_pem().decode() + "\ud800", ""),
        (SEED, "can't be read"),
        (b"", "can't be read"),
    ],
    # Named, because some keys are new in each process.
    ids=[
        *("RSA", "ECDSA", "X25519", "passphrase", "public", "cut", "damaged", "damaged text", "text after it", "raw"),
        "empty",
    ],
)
def test_a_pem_that_is_no_signing_key_is_refused_and_nothing_of_it_shown(pem: Any, message: str) -> None:
    if not message:
        assert Ed25519Signer.from_pem(pem).key_id == SIGNER.key_id
        return
    with pytest.raises(ConfigurationError, match=message) as caught:
        Ed25519Signer.from_pem(pem)
    error = caught.value
    text = pem if isinstance(pem, str) else pem.decode("latin-1")
    said = "".join(traceback.format_exception(error)) + repr(error) + repr(error.__dict__)
    assert not any(line in said for line in text.splitlines() if len(line) > 8 and "BEGIN" not in line)
    # A parser's error may show what it read.
    assert error.__cause__ is None
    assert error.__context__ is None


@pytest.mark.parametrize("seed", [b"", bytes(31), bytes(33), "x" * 32, None])
def test_a_private_key_of_another_length_is_refused(seed: Any) -> None:
    with pytest.raises(ConfigurationError, match="exactly 32 bytes"):
        Ed25519Signer(seed)


def test_nothing_shows_of_the_private_key() -> None:
    shown = f"{SIGNER} {SIGNER!r} {[SIGNER]}"
    assert shown == " ".join([f"Ed25519Signer({SIGNER.key_id})"] * 2 + [f"[Ed25519Signer({SIGNER.key_id})]"])
    assert not hasattr(SIGNER, "__dict__")


@pytest.mark.parametrize("way", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_signer_is_neither_pickled_nor_copied(way: Any) -> None:
    with pytest.raises(TypeError, match="not to be pickled"):
        way(SIGNER)


def test_the_missing_extra_is_answered_with_its_line(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    for use in (lambda: Ed25519Signer(SEED), Ed25519Signer.generate, lambda: Verifier(b"")):
        with pytest.raises(MissingDependency, match=r"pip install 'commandstore\[crypto\]'"):
            use()


# Checking


@pytest.mark.parametrize("signer", [SIGNER, EcSigner()])
def test_an_entry_that_was_signed_is_believed(signer: Signer) -> None:
    assert Verifier(signer.public_key()).check(entry_by(signer)) is None


@pytest.mark.parametrize("signer", [SIGNER, EcSigner()])
def test_an_altered_statement_or_signature_is_not_believed(signer: Signer) -> None:
    entry, verifier = entry_by(signer), Verifier(signer.public_key())
    altered = replace(entry, statement=entry.statement.replace('"count":1', '"count":2'))
    bent = bytearray(entry.signature)
    bent[-1] ^= 1
    for wrong in (altered, *(replace(entry, signature=s) for s in (bytes(bent), b"", b"x", entry.signature + b"\0"))):
        assert "its signature is not one" in (verifier.check(wrong) or "")


class LargerS(EcSigner):
    """As KMS signs half of the time."""

    def sign(self, message: bytes) -> bytes:
        r, s = decode_dss_signature(super().sign(message))
        order = _ORDERS[self.algorithm]
        return encode_dss_signature(r, max(s, order - s))


def test_an_entry_is_written_with_the_smaller_s_and_no_other_is_believed() -> None:
    signer = LargerS()
    entry, verifier = entry_by(signer), Verifier(signer.public_key())
    assert verifier.check(entry) is None
    r, s = decode_dss_signature(entry.signature)
    other = encode_dss_signature(r, _ORDERS[entry.algorithm] - s)
    assert PublicKey(EC_KEY.public_key()).has_signed(entry.signed_bytes, other)
    assert "its signature was rewritten" in (verifier.check(replace(entry, signature=other)) or "")


def test_a_signature_of_the_statement_alone_is_not_one() -> None:
    entry = entry_by(SIGNER)
    bare = replace(entry, signature=SIGNER.sign(entry.statement.encode()))
    assert "its signature is not one" in (Verifier(SIGNER.public_key()).check(bare) or "")


def test_an_entry_of_another_key_is_not_believed() -> None:
    reason = Verifier(OTHER.public_key()).check(entry_by(SIGNER))
    assert reason is not None
    assert SIGNER.key_id in reason
    assert OTHER.key_id in reason


def test_an_entry_that_claims_another_keys_id_is_not_believed() -> None:
    entry = replace(entry_by(SIGNER), key_id=OTHER.key_id)
    assert "its signature is not one" in (Verifier(OTHER.public_key()).check(entry) or "")


def test_an_entry_that_claims_another_algorithm_is_not_believed() -> None:
    entry = replace(entry_by(SIGNER), algorithm="ecdsa-sha-256")
    assert "claims a signature by ecdsa-sha-256" in (Verifier(SIGNER.public_key()).check(entry) or "")


@pytest.mark.parametrize(
    "keys",
    [
        [SIGNER.public_key(), EcSigner().public_key()],
        (key.decode() for key in (SIGNER.public_key(), EcSigner().public_key())),
        SIGNER.public_key() + b"# the new one\n" + EcSigner().public_key(),
        (SIGNER.public_key() + EcSigner().public_key()).decode(),
    ],
    ids=["list", "texts", "one file", "one text"],
)
def test_a_ledger_may_have_been_signed_with_several_keys(keys: Any) -> None:
    verifier = Verifier(keys)
    assert verifier.key_ids == (SIGNER.key_id, EcSigner.key_id)
    assert verifier.check(entry_by(SIGNER)) is None
    assert verifier.check(entry_by(EcSigner())) is None
    assert repr(verifier) == f"Verifier({SIGNER.key_id}, {EcSigner.key_id})"


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ([], "at least one"),
        (b"", "can't be read"),
        (b"nonsense", "can't be read"),
        (SIGNER.public_key()[:-40], "can't be read"),
        (SIGNER.private_pem(), "a private one"),
        (SIGNER.public_key() + SIGNER.private_pem(), "a private one"),
        (pem_of(RSA_KEY.public_key()), "this one is not"),
        (pem_of(ec.derive_private_key(7, ec.SECP521R1()).public_key()), "this one is not"),
        (pem_of(ec.derive_private_key(7, ec.SECP256K1()).public_key()), "this one is not"),
        (pem_of(x25519.X25519PrivateKey.from_private_bytes(SEED).public_key()), "this one is not"),
    ],
    ids=["none", "empty", "nonsense", "cut", "private", "both", "RSA", "P-521", "K-256", "X25519"],
)
def test_what_is_no_public_key_of_a_ledger_is_refused(key: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        Verifier(key)
    assert "MC4C" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None
