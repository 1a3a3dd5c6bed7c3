"""Signing by KMS: on moto's, and with a client that answers as it is told to."""

from __future__ import annotations

import hashlib
import pickle
from types import SimpleNamespace
from typing import Any

import boto3
import botocore.exceptions as sdk
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

from commandstore import AccessDenied, ConfigurationError, StoreUnavailable, Throttled
from commandstore.aws.kms_signer import KmsSigner
from commandstore.ledger.entry import sign, state
from commandstore.ledger.leaves import Leaf
from commandstore.ledger.signing import PublicKey, Signer, Verifier

ARN = "arn:aws:kms:us-east-1:000000000000:key/1"
KEY = ec.derive_private_key(11, ec.SECP256R1())


class Kms:
    """A client that answers, or raises what it is given."""

    meta = SimpleNamespace(endpoint_url="https://kms.example")

    def __init__(self, **changes: Any) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.error: Exception | None = None
        self.signature: bytes | None = None
        der = KEY.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        self.public = {"KeyId": ARN, "PublicKey": der, "KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY"} | changes

    def get_public_key(self, **arguments: Any) -> dict[str, Any]:
        return self._answer("GetPublicKey", arguments, self.public)

    def sign(self, **arguments: Any) -> dict[str, Any]:
        signature = self.signature
        if signature is None:
            digest = arguments["MessageType"] == "DIGEST"
            how = utils.Prehashed(hashes.SHA256()) if digest else hashes.SHA256()
            signature = KEY.sign(arguments["Message"], ec.ECDSA(how))
        return self._answer("Sign", arguments, {"Signature": signature})

    def _answer(self, name: str, arguments: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
        self.asked.append((name, arguments))
        if self.error is not None:
            raise self.error
        return value


def refusal(code: str, status: int = 400) -> sdk.ClientError:
    said = {"Error": {"Code": code, "Message": "as KMS says"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return sdk.ClientError(said, "Sign")


@pytest.fixture
def kms(moto_server):
    client = boto3.client("kms", **moto_server.client_arguments)
    yield client
    client.close()


def key_of(kms: Any, spec: str, usage: str = "SIGN_VERIFY") -> str:
    return kms.create_key(KeySpec=spec, KeyUsage=usage)["KeyMetadata"]["KeyId"]


@pytest.mark.parametrize(
    ("spec", "algorithm"), [("ECC_NIST_P256", "ecdsa-sha-256"), ("ECC_NIST_P384", "ecdsa-sha-384")]
)
def test_an_entry_that_kms_signed_is_believed(kms, spec: str, algorithm: str) -> None:
    signer = KmsSigner(key_of(kms, spec), kms)
    assert signer.algorithm == algorithm
    leaves = [Leaf(1, "c1", bytes(32), 5)]
    made = state(leaves, previous=None, kind="sync", commands=1, time=0, parts=1, signer=signer)
    assert Verifier(signer.public_key()).check(sign(made, signer)) is None


@pytest.mark.parametrize(
    ("spec", "usage"),
    [
        ("RSA_2048", "SIGN_VERIFY"),
        ("RSA_2048", "ENCRYPT_DECRYPT"),
        ("ECC_SECG_P256K1", "SIGN_VERIFY"),
        ("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT"),
    ],
)
def test_a_key_of_another_kind_is_refused(kms, spec: str, usage: str) -> None:
    key = key_of(kms, spec, usage)
    with pytest.raises(ConfigurationError, match=key):
        KmsSigner(key, kms)


def test_a_key_that_is_not_there_is_refused(kms) -> None:
    key = "11111111-2222-4333-8444-555555555555"
    with pytest.raises(ConfigurationError, match=f"KMS key {key}.*there is no such key"):
        KmsSigner(key, kms)


def test_a_signer_makes_its_own_client_and_closes_it(kms, moto_server, monkeypatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", moto_server.endpoint)
    signer = KmsSigner(key_of(kms, "ECC_NIST_P256"), region="us-east-1")
    assert PublicKey.from_pem(signer.public_key()).has_signed(b"x", signer.sign(b"x"))
    signer.close()


def test_a_signer_needs_a_region(monkeypatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KMS", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    with pytest.raises(ConfigurationError, match="no AWS region is given for the keys in KMS"):
        KmsSigner("k")


def test_the_public_half_is_asked_for_once() -> None:
    client = Kms()
    signer = KmsSigner("alias/ledger", client)
    assert isinstance(signer, Signer)
    for _ in range(3):
        signer.key_id, signer.algorithm, signer.public_key(), repr(signer)
    assert client.asked == [("GetPublicKey", {"KeyId": "alias/ledger"})]


@pytest.mark.parametrize(
    ("message", "sent", "kind"),
    [
        (b"x" * 4096, b"x" * 4096, "RAW"),
        (b"x" * 4097, hashlib.sha256(b"x" * 4097).digest(), "DIGEST"),
    ],
    ids=["short", "long"],
)
def test_a_message_goes_to_the_key_whose_public_half_was_read(message: bytes, sent: bytes, kind: str) -> None:
    client = Kms()
    signer = KmsSigner("alias/ledger", client)
    assert PublicKey.from_pem(signer.public_key()).has_signed(message, signer.sign(message))
    assert client.asked[1:] == [
        ("Sign", {"KeyId": ARN, "Message": sent, "MessageType": kind, "SigningAlgorithm": "ECDSA_SHA_256"})
    ]


def test_a_signature_that_is_none_is_not_taken() -> None:
    client = Kms()
    signer = KmsSigner("k", client)
    client.signature = KEY.sign(b"something else", ec.ECDSA(hashes.SHA256()))
    with pytest.raises(StoreUnavailable, match="not one of key k"):
        signer.sign(b"message")


def test_a_key_for_another_use_is_refused_whatever_its_curve() -> None:
    with pytest.raises(ConfigurationError, match="it is ECC_NIST_P256 for KEY_AGREEMENT"):
        KmsSigner("k", Kms(KeyUsage="KEY_AGREEMENT"))


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (refusal("AccessDeniedException"), AccessDenied, "needs kms:Sign"),
        (refusal("ExpiredTokenException"), AccessDenied, "have expired"),
        (refusal("ThrottlingException"), Throttled, "slower pace"),
        (refusal("LimitExceededException"), Throttled, "slower pace"),
        (refusal("KMSInternalException", 500), StoreUnavailable, "could not do Sign"),
        (refusal("KeyUnavailableException", 500), StoreUnavailable, "could not do Sign"),
        (refusal("DependencyTimeoutException"), StoreUnavailable, "could not do Sign"),
        (refusal("DisabledException"), ConfigurationError, "is disabled"),
        (refusal("KMSInvalidStateException"), ConfigurationError, "being deleted"),
        (refusal("NotFoundException"), ConfigurationError, "no such key"),
        (refusal("InvalidArnException"), ConfigurationError, "alias/NAME"),
        (refusal("InvalidKeyUsageException"), ConfigurationError, "not one for signing"),
        (refusal("ValidationException"), ConfigurationError, "as KMS says"),
        (sdk.NoCredentialsError(), AccessDenied, "no AWS credentials for KMS key k"),
        (sdk.EndpointConnectionError(endpoint_url="https://kms.example"), StoreUnavailable, "did not answer Sign"),
    ],
)
def test_errors_of_the_sdk_are_translated(error: Exception, expected: type[Exception], message: str) -> None:
    client = Kms()
    signer = KmsSigner("k", client)
    client.error = error
    with pytest.raises(expected, match=message) as caught:
        signer.sign(b"message")
    assert type(caught.value) is expected
    assert caught.value.__cause__ is error
    assert "KMS key k" in str(caught.value)


def test_what_is_not_the_sdks_goes_on_up() -> None:
    client = Kms()
    signer = KmsSigner("k", client)
    client.error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        signer.sign(b"message")


def test_the_repr_shows_the_keys_id_alone() -> None:
    signer = KmsSigner("k", Kms())
    assert repr(signer) == f"KmsSigner({signer.key_id})"


def test_a_signer_is_not_pickled() -> None:
    with pytest.raises(TypeError, match="not to be pickled"):
        pickle.dumps(KmsSigner("k", Kms()))
