"""Keys of the stores: key files in Secrets Manager and the ledger's key in KMS, both on moto; SQLite to SQLite."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from types import SimpleNamespace
from typing import Any

import boto3
import pytest

from commandstore import (
    AccessDenied,
    Command,
    ConfigurationError,
    CryptoService,
    DecryptionError,
    StoreUnavailable,
    SyncError,
    open_store,
)
from commandstore.crypto import EnvelopeCrypto
from commandstore.drive import BlockingDrive, run
from commandstore.entrypoints import aws_lambda, keys
from commandstore.entrypoints.keys import LateSigner, destination_crypto, source_crypto
from commandstore.entrypoints.settings import SyncSettings
from commandstore.keyfile import crypto_from_bytes
from commandstore.ledger.log import Ledger
from commandstore.ledger.signing import Ed25519Signer, PublicKey, Signer, Verifier
from infra.iam import KEYS, actions_of, needed_keys, recording

KEY, OTHER = bytes(range(32)), bytes(range(128, 160))
COUNT = 12
PURPOSE = {"purpose": "commandstore digests"}


def commands(first: int = 0) -> list[Command]:
    return [Command(f"c{n:03}", 1_700_000_000_000_000_000 + n, data_bytes=b"secret") for n in range(first, COUNT)]


def context() -> SimpleNamespace:
    return SimpleNamespace(aws_request_id="r-1", function_name="sync", get_remaining_time_in_millis=lambda: 60_000)


@pytest.fixture
def aws(moto_server, monkeypatch) -> pytest.MonkeyPatch:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": moto_server.endpoint,
    }.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.fixture
def secret(aws) -> Callable[..., str]:  # noqa: ARG001 - the client finds its endpoint by it
    """Put something into a secret, or into a new one; its name."""
    client = boto3.client("secretsmanager")

    def put(content: bytes | str, name: str | None = None) -> str:
        what = {"SecretString": content} if isinstance(content, str) else {"SecretBinary": content}
        if name is None:
            return str(client.create_secret(Name=f"keys-{uuid.uuid4().hex}", **what)["Name"])
        client.put_secret_value(SecretId=name, **what)
        return name

    return put


@pytest.fixture
def kms(aws) -> Iterator[Any]:  # noqa: ARG001 - as above
    with closing(boto3.client("kms")) as client:
        yield client


@pytest.fixture
def ledger_key(kms) -> str:
    return str(kms.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["Arn"])


class Stores:
    """A source whose payloads KEY seals, and an empty destination; the functions' environment names both."""

    def __init__(self, folder: Any, environment: pytest.MonkeyPatch) -> None:
        self.source, self.destination = f"sqlite:///{folder}/app.db", f"sqlite:///{folder}/copy.db"
        self.environment = environment
        open_store(self.source, create=True).close()
        open_store(self.destination, create=True).close()
        self.add(KEY, commands())
        self.set(SOURCE=self.source, DESTINATION=self.destination, SOURCE_NAME="app", VERIFY_HOURS="1000000")

    def add(self, key: bytes, batch: list[Command]) -> None:
        with open_store(self.source, crypto=CryptoService(key)) as store:
            store.create_many(batch)

    def set(self, **settings: str) -> None:
        for name, value in settings.items():
            self.environment.setenv(f"COMMANDSTORE_{name}", value)

    def copied(self, crypto: Any = None) -> list[Command]:
        with open_store(self.destination, read_only=True, crypto=crypto) as store:
            return list(store.scan())

    def ledger(self) -> list[Any]:
        with open_store(self.destination, read_only=True) as store:
            return run(Ledger(store.core.backend, BlockingDrive()).read(0, 100))

    def begin_ledger(self, signer: Signer) -> None:
        with open_store(self.destination, signer=signer) as store:
            store.create(Command("first", 1))


@pytest.fixture
def stores(tmp_path, monkeypatch) -> Iterator[Stores]:
    yield Stores(tmp_path, monkeypatch)
    aws_lambda._container.close()


# Key files in secrets


@pytest.mark.parametrize("content", [KEY, KEY.hex(), f"# ours\n{KEY.hex()}\n"], ids=["bytes", "text", "lines"])
def test_a_secret_is_a_key_file(secret, content) -> None:
    settings = SyncSettings(source="memory://", destination="memory://", source_keys_secret=secret(content))
    crypto = source_crypto(settings)
    assert isinstance(crypto, CryptoService)
    assert crypto.decrypt(CryptoService(KEY).encrypt(b"x")) == b"x"
    assert destination_crypto(settings) is None


def test_a_secret_may_name_a_key_in_kms(secret, kms) -> None:
    text = key_in_kms(kms, kms.create_key()["KeyMetadata"]["Arn"])
    settings = SyncSettings(source="memory://", destination="memory://", destination_keys_secret=secret(text))
    assert isinstance(destination_crypto(settings), EnvelopeCrypto)


def key_in_kms(kms, key: str) -> str:
    """A key file."""
    made = kms.generate_data_key_without_plaintext(KeyId=key, KeySpec="AES_256", EncryptionContext=PURPOSE)
    return json.dumps({"kms": {"key_id": key, "digest_key": base64.b64encode(made["CiphertextBlob"]).decode()}})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("hunter2", "must hold 32 raw bytes"),
        (b"hunter2", "must hold 32 raw bytes"),
        ('{"hunter2": 1}', "a field that is not known"),
        ("{hunter2", "not JSON"),
        ('{"tenants": {"store": "memory://", "root": {"key_file": "hunter2"}}}', "is a relative path"),
    ],
)
def test_a_secret_that_is_no_key_file_is_named_by_its_setting_and_not_shown(secret, content, said) -> None:
    settings = SyncSettings(source="memory://", destination="memory://", destination_keys_secret=secret(content))
    with pytest.raises(ConfigurationError, match=said) as caught:
        destination_crypto(settings)
    assert "COMMANDSTORE_DESTINATION_KEYS_SECRET" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.usefixtures("aws")
def test_a_secret_that_is_not_there_is_named_by_its_setting() -> None:
    settings = SyncSettings(source="memory://", destination="memory://", source_keys_secret="nothing")
    with pytest.raises(ConfigurationError, match="COMMANDSTORE_SOURCE_KEYS_SECRET: "):
        source_crypto(settings)


def test_a_whole_path_in_a_key_file_needs_no_place_to_begin_at(tmp_path) -> None:
    (tmp_path / "root").write_text(KEY.hex())
    document = {"tenants": {"store": "memory://", "root": {"key_file": str(tmp_path / "root")}}}
    assert isinstance(crypto_from_bytes(json.dumps(document).encode(), "x"), EnvelopeCrypto)


# What the functions do with them


def test_payloads_are_opened_by_the_sources_keys_and_sealed_by_the_destinations(stores, secret) -> None:
    stores.set(SOURCE_KEYS_SECRET=secret(KEY), DESTINATION_KEYS_SECRET=secret(OTHER.hex()))
    assert aws_lambda.handler({}, context())["copied"] == COUNT
    assert stores.copied(CryptoService(OTHER)) == commands()
    with open_store(stores.destination, read_only=True) as plain:
        assert b"secret" not in next(iter(plain.scan())).data_bytes
    assert aws_lambda.verify_handler({}, context())["equal"] == COUNT


def test_without_keys_payloads_are_copied_as_they_are(stores) -> None:
    assert aws_lambda.handler({}, context())["copied"] == COUNT
    assert stores.copied(CryptoService(KEY)) == commands()


def test_a_key_that_was_rotated_is_read_after_the_commands_that_it_failed_for(stores, secret) -> None:
    name = secret(KEY)
    stores.set(SOURCE_KEYS_SECRET=name, SKIP_ON_ERROR="true")
    assert aws_lambda.handler({}, context())["copied"] == COUNT
    stores.add(OTHER, [Command("new", 1_800_000_000_000_000_000, data_bytes=b"secret")])
    with pytest.raises(SyncError, match="1 commands failed"):  # the container is warm, and has the old key
        aws_lambda.handler({}, context())
    secret(f"{OTHER.hex()}\n{KEY.hex()}\n", name)
    assert aws_lambda.handler({}, context())["copied"] == 1
    assert len(stores.copied()) == COUNT + 1


@pytest.mark.parametrize("handler", ["copy_range_handler", "verify_handler"])
def test_so_it_is_by_the_other_functions(stores, secret, handler) -> None:
    stores.set(SOURCE_KEYS_SECRET=secret(KEY), SKIP_ON_ERROR="true")
    stores.add(OTHER, [Command("new", 1_750_000_000_000_000_000, data_bytes=b"secret")])
    plan = aws_lambda.plan_handler({}, context())
    assert aws_lambda._container._source is not None
    event = plan["ranges"][0] if handler == "copy_range_handler" else {}
    with suppress(SyncError):  # a verification that finds something raises
        getattr(aws_lambda, handler)(event, context())
    assert aws_lambda._container._source is aws_lambda._container._destination is None


def test_stores_without_keys_stay_open_where_commands_failed(stores) -> None:
    aws_lambda.handler({}, context())
    kept = aws_lambda._container._source
    aws_lambda._container.commands_failed()
    assert aws_lambda._container._source is kept is not None
    assert stores.copied()


def test_a_key_that_was_rotated_is_read_after_an_error(stores, secret) -> None:
    name = secret(OTHER)
    stores.set(SOURCE_KEYS_SECRET=name)
    with pytest.raises((SyncError, DecryptionError)):
        aws_lambda.handler({}, context())
    secret(KEY, name)
    assert aws_lambda.handler({}, context())["copied"] == COUNT


def test_what_is_copied_is_signed_by_the_key_in_kms(stores, ledger_key, kms) -> None:
    stores.set(LEDGER_KEY=ledger_key)
    assert aws_lambda.handler({}, context())["copied"] == COUNT
    [entry] = stores.ledger()
    assert (entry.kind, entry.count) == ("sync", COUNT)
    public = PublicKey.from_der(kms.get_public_key(KeyId=ledger_key)["PublicKey"])
    assert Verifier(public.pem).check(entry) is None
    assert aws_lambda.handler({}, context())["copied"] == 0
    assert len(stores.ledger()) == 1


def test_a_backfill_is_signed_as_well(stores, ledger_key) -> None:
    stores.set(LEDGER_KEY=ledger_key)
    plan = aws_lambda.plan_handler({"commands_per_range": 5}, context())
    for piece in plan["ranges"]:
        assert aws_lambda.copy_range_handler(piece, context())["complete"]
    aws_lambda.finish_handler({"plan": plan["plan"]}, context())
    assert sum(entry.count for entry in stores.ledger()) == COUNT


@pytest.mark.parametrize(
    ("handler", "event"),
    [
        ("handler", {}),
        ("plan_handler", {}),
        ("copy_range_handler", {"plan": "p", "low": "0", "high": "50", "after": None}),
    ],
)
def test_a_destination_with_a_ledger_is_not_written_without_its_key(stores, handler, event) -> None:
    stores.begin_ledger(Ed25519Signer.generate())
    before, entries = stores.copied(), stores.ledger()
    with pytest.raises(ConfigurationError, match=r"keeps a ledger.*nothing was changed"):
        getattr(aws_lambda, handler)(event, context())
    assert (stores.copied(), stores.ledger()) == (before, entries)
    # With it, the lease is not held by whoever was refused.
    stores.set(LEDGER_KEY="a-key")
    stores.environment.setattr(keys, "KmsSigner", lambda _: _Closing())
    assert aws_lambda.handler({}, context())["copied"] == COUNT


class _Closing(Ed25519Signer):
    def __init__(self) -> None:
        super().__init__(bytes(32))

    def close(self) -> None:
        """There is nothing to close."""


def test_a_ledger_whose_key_refuses_stops_the_run_with_what_kms_said(stores, monkeypatch) -> None:
    stores.set(LEDGER_KEY="a-key", SKIP_ON_ERROR="true")

    def refused(_):
        raise AccessDenied("the identity needs kms:Sign")

    monkeypatch.setattr(keys, "KmsSigner", refused)
    with pytest.raises((SyncError, AccessDenied), match="kms:Sign"):
        aws_lambda.handler({}, context())


# What their roles are to allow


def test_each_function_asks_for_the_keys_that_its_role_has_and_no_others(
    stores, secret, kms, ledger_key, monkeypatch
) -> None:
    payload = kms.create_key()["KeyMetadata"]["Arn"]
    stores.set(SOURCE_KEYS_SECRET=secret(KEY), DESTINATION_KEYS_SECRET=secret(key_in_kms(kms, payload)))
    stores.set(LEDGER_KEY=ledger_key)
    asked = {}

    def invoke(role: str, handler: Callable[..., Any], event: dict[str, Any]) -> Any:
        aws_lambda._container.close()  # each is a function of its own
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
        with recording() as recorder:
            answer = handler(event, context())
        asked[role] = actions_of(recorder.calls)
        return answer

    plan = invoke("plan", aws_lambda.plan_handler, {})
    invoke("copy_range", aws_lambda.copy_range_handler, plan["ranges"][0])
    invoke("finish", aws_lambda.finish_handler, {"plan": plan["plan"]})
    stores.add(KEY, [Command("new", time.time_ns(), data_bytes=b"secret")])
    invoke("sync", aws_lambda.handler, {})
    assert invoke("verify", aws_lambda.verify_handler, {})["compared"] == COUNT
    assert asked == {
        role: {"secretsmanager:GetSecretValue", *needed_keys("ledger", role=role), *needed_keys("payload", role=role)}
        for role in KEYS
    }


def test_kms_is_asked_when_there_is_something_to_sign_and_until_it_answers(monkeypatch) -> None:
    made: list[Any] = []

    def make(_: str) -> Any:
        made.append(_Closing() if made else None)
        if made[-1] is None:
            raise StoreUnavailable("KMS did not answer")
        return made[-1]

    monkeypatch.setattr(keys, "KmsSigner", make)
    signer = LateSigner("alias/ledger")
    with open_store("memory://", create=True, signer=signer) as store:
        assert store.total() == 0
        assert made == []
        with pytest.raises(StoreUnavailable):
            store.create(Command("a", 1))
        store.create(Command("b", 2))
    assert len(made) == 2
    assert (signer.key_id, signer.algorithm, signer.public_key()) == (
        made[1].key_id,
        made[1].algorithm,
        made[1].public_key(),
    )
    signer.close()
    assert signer.key_id
    assert len(made) == 3
