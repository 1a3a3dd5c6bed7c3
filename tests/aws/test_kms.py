"""Keys in KMS: on an engine, and (where the engine is laxer than KMS) on answers as KMS gives them."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import botocore.exceptions as sdk
import pytest
from moto import mock_aws

from commandstore import Command, CommandStore
from commandstore.aws.kms import KmsKeys, KmsRoot
from commandstore.aws.kms_calls import kms_client
from commandstore.crypto import EnvelopeCrypto
from commandstore.errors import (
    AccessDenied,
    CommandStoreError,
    ConfigurationError,
    DecryptionError,
    StoreUnavailable,
    Throttled,
)
from commandstore.memory import MemoryBackend
from commandstore.vault import TenantKeys


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """A KMS by moto, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "y", "REGION": "eu-central-1"}.items():
            patch.setenv(f"AWS_{name}", value)
        for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KMS"):
            patch.delenv(name, raising=False)
        with mock_aws():
            yield kms_client()


@pytest.fixture
def key(client: Any) -> str:
    return str(client.create_key()["KeyMetadata"]["KeyId"])


class Scripted:
    """Answers with one error, or as a KMS whose every key is its own name."""

    meta = SimpleNamespace(endpoint_url="https://kms.test")

    def __init__(self, error: Exception | None = None, *, fails: tuple[str, ...] = ()) -> None:
        self.error = error
        self.fails = fails
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, operation: str) -> Any:
        def answer(**arguments: Any) -> dict[str, bytes]:
            self.asked.append((operation, arguments))
            key_id = arguments.get("KeyId", "")
            if self.error is not None and (not self.fails or key_id in self.fails):
                raise self.error
            return self.answered(key_id, arguments)

        return answer

    def answered(self, key_id: str, arguments: dict[str, Any]) -> dict[str, bytes]:
        wrapped = arguments.get("CiphertextBlob", b"")
        if wrapped and key_id and not wrapped.startswith(key_id.encode()):
            raise refusal("IncorrectKeyException")
        return {"Plaintext": bytes(32), "CiphertextBlob": key_id.encode() + b" wrapped"}


def refusal(code: str, status: int = 400) -> sdk.ClientError:
    answered: Any = {"Error": {"Code": code, "Message": "said KMS"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return sdk.ClientError(answered, "Any")


def keys_with(client: Any, key_id: Any = "k", **options: Any) -> KmsKeys:
    return KmsKeys(key_id, digest_key=b"wrapped digest key", client=client, **options)


# On an engine


def test_data_keys_are_made_and_unwrapped_for_their_tenant_alone(client: Any, key: str) -> None:
    keys = KmsKeys(key, digest_key=KmsKeys.new_digest_key(key, client=client), client=client)
    for tenant in ("t", "", "tén/änt"):
        made = keys.generate(tenant)
        assert len(made.plain) == 32
        assert keys.unwrap(made.wrapped, tenant) == made.plain
        with pytest.raises(DecryptionError, match="another tenant"):
            keys.unwrap(made.wrapped, "u")
    with pytest.raises(DecryptionError, match="altered"):
        keys.unwrap(made.wrapped[:-1] + b"x", "t")
    for wrapped in (b"", bytes(6145)):
        with pytest.raises(DecryptionError, match="not wrapped by KMS"):
            keys.unwrap(wrapped, "t")


def test_the_digest_key_is_each_tenants_own_and_always_the_same(client: Any, key: str) -> None:
    wrapped = KmsKeys.new_digest_key(key, client=client)
    first, second = (KmsKeys(key, digest_key=wrapped, client=client) for _ in range(2))
    assert first.digest_key("t") == second.digest_key("t") != first.digest_key("u")
    assert len(first.digest_key("")) == 32
    other = KmsKeys(key, digest_key=KmsKeys.new_digest_key(key, client=client), client=client)
    assert other.digest_key("t") != first.digest_key("t")


def test_a_data_key_can_not_pass_for_the_digest_key(client: Any, key: str) -> None:
    wrapped = KmsKeys.new_digest_key(key, client=client)
    made = KmsKeys(key, digest_key=wrapped, client=client).generate("t")
    with pytest.raises(ConfigurationError, match="InvalidCiphertext"):
        KmsKeys(key, digest_key=made.wrapped, client=client).digest_key("t")


def test_a_store_seals_and_opens_with_kms(client: Any, key: str) -> None:
    wrapped = KmsKeys.new_digest_key(key, client=client)
    backend = MemoryBackend()
    commands = [Command(f"c{n}", n, tenant_uuid="ab"[n % 2], data_bytes=b"secret %d" % n) for n in range(20)]
    for process in range(2):
        store = CommandStore(backend)
        store.init(crypto=EnvelopeCrypto(KmsKeys(key, digest_key=wrapped, client=client)))
        if not process:
            store.create_many(commands)
        assert list(store.scan()) == commands
        assert len(store.create_many(commands).duplicate) == 20
    assert {record.cipher for record, _ in backend._records.values()} == {"aes-256-gcm+kms"}


def test_a_root_in_kms_wraps_the_keys_of_tenants(client: Any, key: str) -> None:
    place = MemoryBackend()

    def process() -> TenantKeys:
        store = CommandStore(place)
        store.init()
        return TenantKeys(store, KmsRoot(key, client=client))

    keys = process()
    for tenant in ("t", ""):
        made = keys.generate(tenant)
        assert process().unwrap(made.wrapped, tenant) == made.plain
        keys.rotate(tenant)
        assert process().unwrap(made.wrapped, tenant) == made.plain
    keys.destroy("t")
    with pytest.raises(DecryptionError, match="destroyed"):
        process().generate("t")


def test_a_root_in_kms_binds_the_context(client: Any, key: str) -> None:
    root = KmsRoot(key, client=client)
    wrapped = root.wrap(bytes(32), {"tenant_uuid": "", "key": "digest"})
    assert root.unwrap(wrapped, {"tenant_uuid": "", "key": "digest"}) == bytes(32)
    for context in ({"tenant_uuid": "t", "key": "digest"}, {"tenant_uuid": "", "key": "other"}):
        with pytest.raises(DecryptionError):
            root.unwrap(wrapped, context)


def test_a_key_that_isnt_there_is_a_configuration_error(client: Any) -> None:
    for attempt in (
        lambda: keys_with(client, "alias/none").generate("t"),
        lambda: KmsKeys.new_digest_key("alias/none", client=client),
        lambda: KmsRoot("alias/none", client=client).wrap(bytes(32), {}),
    ):
        with pytest.raises(ConfigurationError, match=r"alias/none.*no such key"):
            attempt()


# What is asked of KMS


def test_the_encryption_context_is_the_tenant_and_never_empty() -> None:
    client = Scripted()
    keys = keys_with(client)
    keys.generate("t")
    keys.generate("")
    keys.unwrap(b"k wrapped", "t")
    keys.digest_key("t")
    keys.digest_key("u")
    contexts = [arguments["EncryptionContext"] for _, arguments in client.asked]
    tenant = {"tenant_uuid": "t"}
    assert contexts == [tenant, {"tenant_uuid_is_empty": "true"}, tenant, {"purpose": "commandstore digests"}]
    # Decrypt names its key, so that nobody has us use a key of theirs.
    assert client.asked[2][1]["KeyId"] == "k"


@pytest.mark.parametrize("key_id", ["alias/of-{tenant_uuid}", lambda tenant: f"alias/of-{tenant}"], ids=["text", "f"])
def test_a_tenant_may_have_a_kms_key_of_its_own(key_id: Any) -> None:
    client = Scripted()
    keys = keys_with(client, key_id)
    assert keys.generate("t").wrapped == b"alias/of-t wrapped"
    keys.unwrap(b"alias/of-t wrapped", "t")
    assert [arguments["KeyId"] for _, arguments in client.asked] == ["alias/of-t"] * 2
    with pytest.raises(DecryptionError, match="another KMS key"):
        keys.unwrap(b"alias/of-t wrapped", "u")


def test_after_a_change_of_the_key_what_the_old_one_wrapped_opens() -> None:
    keys = keys_with(Scripted(), "new", old_key_ids=["old", "oldest"])
    for wrapped in (b"new wrapped", b"old wrapped", b"oldest wrapped"):
        assert keys.unwrap(wrapped, "t") == bytes(32)
    with pytest.raises(DecryptionError, match="another KMS key"):
        keys.unwrap(b"another wrapped", "t")
    assert keys.generate("t").wrapped == b"new wrapped"
    root = KmsRoot("new", old_key_ids=["old"], client=Scripted())
    assert root.unwrap(b"old wrapped", {}) == bytes(32)
    with pytest.raises(DecryptionError, match="another KMS key"):
        root.unwrap(b"another wrapped", {})


def test_an_old_key_that_is_gone_keeps_nothing_else_from_opening() -> None:
    gone = Scripted(refusal("DisabledException"), fails=("new",))
    assert keys_with(gone, "new", old_key_ids=["old"]).unwrap(b"old wrapped", "t") == bytes(32)


# What KMS answers


GONE = ["DisabledException", "KMSInvalidStateException", "NotFoundException"]


def test_the_key_of_a_tenants_digests_outlives_the_tenants_own_key() -> None:
    keys = keys_with(Scripted(refusal("DisabledException"), fails=("of-t",)), "of-{tenant_uuid}")
    before = keys_with(Scripted(), "of-{tenant_uuid}").digest_key("t")
    with pytest.raises(DecryptionError):
        keys.generate("t")
    assert keys.digest_key("t") == before


@pytest.mark.parametrize("code", GONE)
def test_a_tenants_own_key_that_is_gone_concerns_its_commands_alone(code: str) -> None:
    keys = keys_with(Scripted(refusal(code), fails=("alias/t",)), "alias/{tenant_uuid}")
    for attempt in (lambda: keys.generate("t"), lambda: keys.unwrap(b"alias/t wrapped", "t")):
        with pytest.raises(DecryptionError, match=f"alias/t of tenant 't'.*{code}"):
            attempt()
    keys.generate("u")


@pytest.mark.parametrize("code", GONE)
def test_the_key_of_all_tenants_that_is_gone_stops_everything(code: str) -> None:
    keys = keys_with(Scripted(refusal(code)))
    for attempt in (lambda: keys.generate("t"), lambda: keys.unwrap(b"k wrapped", "t"), lambda: keys.digest_key("t")):
        with pytest.raises(ConfigurationError, match=code):
            attempt()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (refusal("ThrottlingException"), Throttled),
        (refusal("LimitExceededException"), Throttled),
        (refusal("KMSInternalException", 500), StoreUnavailable),
        (refusal("DependencyTimeoutException"), StoreUnavailable),
        (refusal("KeyUnavailableException", 500), StoreUnavailable),
        (refusal("NobodyKnows", 503), StoreUnavailable),
        (refusal("AccessDeniedException"), AccessDenied),
        (refusal("ExpiredTokenException"), AccessDenied),
        (refusal("UnrecognizedClientException"), AccessDenied),
        (refusal("InvalidKeyUsageException"), ConfigurationError),
        (refusal("ValidationException"), ConfigurationError),
        (sdk.EndpointConnectionError(endpoint_url="https://kms.test"), StoreUnavailable),
        (sdk.NoCredentialsError(), AccessDenied),
    ],
    ids=lambda value: getattr(value, "__name__", None) or str(value)[:60],
)
def test_what_concerns_kms_as_a_whole_is_no_error_of_a_command(error: Exception, kind: type[CommandStoreError]) -> None:
    for key_id in ("k", "alias/{tenant_uuid}"):
        keys = keys_with(Scripted(error), key_id)
        for attempt in (
            lambda k=keys: k.generate("t"),
            lambda k=keys: k.unwrap(b"k wrapped", "t"),
            lambda k=keys: k.digest_key("t"),
        ):
            with pytest.raises(CommandStoreError) as caught:
                attempt()
            assert type(caught.value) is kind
            assert caught.value.__cause__ is error
    if kind is AccessDenied and isinstance(error, sdk.ClientError) and "Expired" not in str(error):
        with pytest.raises(AccessDenied, match="kms:GenerateDataKey on it"):
            keys.generate("t")


def test_what_is_not_the_sdks_is_not_translated() -> None:
    with pytest.raises(ZeroDivisionError):
        keys_with(Scripted(ZeroDivisionError())).generate("t")


# Settings and secrets


def test_a_client_is_made_as_the_stores_make_theirs(client: Any) -> None:
    assert client.meta.region_name == "eu-central-1"
    local = kms_client("us-east-1", "http://127.0.0.1:4566/")
    assert local.meta.endpoint_url == "http://127.0.0.1:4566"
    with pytest.raises(ConfigurationError, match="endpoint_url"):
        kms_client("us-east-1", "nonsense")


def test_nothing_shows_a_key_or_can_be_pickled() -> None:
    keys = keys_with(Scripted())
    keys.digest_key("t")
    assert repr(keys) == "KmsKeys(k)"
    assert repr(keys_with(Scripted(), str)) == "KmsKeys(one for each tenant)"
    assert repr(KmsRoot("k", client=Scripted())) == "KmsRoot(k)"
    for give_away in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="pickled"):
            give_away(keys)
