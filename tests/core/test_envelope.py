"""Envelopes: one data key for many payloads of a tenant, bounded in number and age, and none of them ever shown."""

from __future__ import annotations

import copy
import hashlib
import hmac
import pickle
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from commandstore import (
    Command,
    CommandStore,
    ConfigurationError,
    Crypto,
    DecryptionError,
    StoreUnavailable,
    sync_command_store,
)
from commandstore.crypto import Context, DataKey, EnvelopeCrypto, Sealed
from commandstore.memory import MemoryBackend

DIGEST_KEY = b"the digests' key, of 32 bytes..."


class Provider:
    """Wraps nothing: it remembers. Counts what it is asked for."""

    name = "test"

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.destroyed: set[str] = set()
        self.down = False
        self.keys: dict[bytes, tuple[str, bytes]] = {}
        self.lock = threading.Lock()

    def generate(self, tenant_uuid: str) -> DataKey:
        self._ask("generate", tenant_uuid)
        with self.lock:
            number = len(self.keys)
            wrapped, plain = b"wrapped %d" % number, hashlib.sha256(b"key %d" % number).digest()
            self.keys[wrapped] = tenant_uuid, plain
        return DataKey(plain, wrapped)

    def unwrap(self, wrapped: bytes, tenant_uuid: str) -> bytes:
        self._ask("unwrap", tenant_uuid)
        owner, plain = self.keys.get(wrapped, ("", b""))
        if not plain or owner != tenant_uuid:
            raise DecryptionError("not a data key of this tenant")
        return plain

    def digest_key(self, tenant_uuid: str) -> bytes:
        self._ask("digest_key", tenant_uuid)
        return DIGEST_KEY

    def _ask(self, what: str, tenant: str) -> None:
        with self.lock:
            self.asked.append(what)
        if self.down:
            raise StoreUnavailable("the provider is down")
        if tenant in self.destroyed:
            raise DecryptionError(f"the key of tenant {tenant!a} was destroyed on a day")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def contexts(count: int, tenant: str = "t") -> list[Context]:
    return [Context(tenant, f"c{number}") for number in range(count)]


def prepared(crypto: EnvelopeCrypto, sealing: Sequence[Context] = (), opening: Sequence[Any] = ()) -> bool:
    """Get what is needed; whether anything was."""
    work = crypto.prepare(sealing, opening)
    if work is None:
        return False
    work()
    return True


def sealed_with(crypto: EnvelopeCrypto, count: int, tenant: str = "t") -> list[Sealed]:
    given = contexts(count, tenant)
    prepared(crypto, given)
    return [crypto.seal(context.command_uuid.encode(), context) for context in given]


def data_keys(sealed: Sequence[Sealed]) -> list[bytes]:
    return [EnvelopeCrypto._wrapped(one) for one in sealed]


@given(st.binary(max_size=100), st.text(max_size=5), st.text(min_size=1, max_size=5))
def test_what_was_sealed_comes_back(plain: bytes, tenant: str, uuid: str) -> None:
    crypto, context = EnvelopeCrypto(Provider()), Context(tenant, uuid)
    sealed = crypto.seal(plain, context)
    assert crypto.open(sealed, context) == plain
    assert crypto.open(Sealed(sealed.data, ""), context) == plain
    assert sealed.cipher == "aes-256-gcm+test"


def test_it_is_a_crypto_service(provider: Provider) -> None:
    assert isinstance(EnvelopeCrypto(provider), Crypto)


def test_the_layout_is_as_documented(provider: Provider) -> None:
    data = EnvelopeCrypto(provider).seal(b"payload", Context("tén", "ü")).data
    assert data[:15] == b"CSE\x01\x00\x09wrapped 0"
    bound = b"commandstore payload 1\0" + b"\x00\x04" + "tén".encode() + "ü".encode()
    _, key = provider.keys[b"wrapped 0"]
    assert AESGCM(key).decrypt(data[15:27], data[27:], bound) == b"payload"


# Asking the provider


def test_a_batch_of_one_tenant_asks_for_one_data_key_and_one_digest_key(provider: Provider) -> None:
    crypto = EnvelopeCrypto(provider)
    sealed = sealed_with(crypto, 100)
    assert sorted(provider.asked) == ["digest_key", "generate"]
    assert len(set(data_keys(sealed))) == 1
    assert not prepared(crypto, contexts(100))
    for one, context in zip(sealed, contexts(100), strict=True):
        assert crypto.open(one, context) == context.command_uuid.encode()
        crypto.digest(bytes(32), context)
    assert len(provider.asked) == 2


def test_each_tenant_has_data_keys_of_its_own(provider: Provider) -> None:
    crypto = EnvelopeCrypto(provider)
    prepared(crypto, [Context(tenant, "c") for tenant in ("a", "b", "")])
    assert provider.asked.count("generate") == 3
    sealed = [crypto.seal(b"", Context(tenant, "c")) for tenant in ("a", "b", "", "a")]
    assert len(set(data_keys(sealed))) == 3


def test_after_so_many_messages_comes_another_data_key(provider: Provider) -> None:
    crypto = EnvelopeCrypto(provider, max_messages=10)
    keys = data_keys(sealed_with(crypto, 25))
    assert [keys.count(key) for key in dict.fromkeys(keys)] == [10, 10, 5]
    assert provider.asked.count("generate") == 3
    keys = data_keys(sealed_with(crypto, 5))
    assert provider.asked.count("generate") == 3
    assert len(set(keys)) == 1


def test_the_bound_on_messages_holds_without_preparation_and_for_many_threads(provider: Provider) -> None:
    crypto = EnvelopeCrypto(provider, max_messages=50)
    given = contexts(1000)
    with ThreadPoolExecutor(8) as pool:
        sealed = list(pool.map(lambda context: crypto.seal(b"", context), given))
    keys = data_keys(sealed)
    assert max(keys.count(key) for key in set(keys)) <= 50
    assert [crypto.open(one, context) for one, context in zip(sealed, given, strict=True)] == [b""] * 1000


def test_after_so_many_seconds_comes_another_data_key(provider: Provider, clock: Clock) -> None:
    crypto = EnvelopeCrypto(provider, max_age=100, clock=clock)
    [first] = data_keys(sealed_with(crypto, 1))
    clock.now += 89
    assert not prepared(crypto, contexts(1))
    clock.now += 2  # within what is left for a batch under way
    [second] = data_keys(sealed_with(crypto, 1))
    clock.now += 100
    third = EnvelopeCrypto._wrapped(crypto.seal(b"", Context("t", "c")))
    assert len({first, second, third}) == 3


def test_a_key_of_another_process_is_unwrapped_once(provider: Provider) -> None:
    sealed = sealed_with(EnvelopeCrypto(provider), 10)
    provider.asked.clear()
    reader = EnvelopeCrypto(provider)
    opening = list(zip(sealed, contexts(10), strict=True))
    assert prepared(reader, opening=opening)
    # A reader needs no permission to make keys.
    assert sorted(provider.asked) == ["digest_key", "unwrap"]
    assert not prepared(reader, opening=opening)
    for one, context in opening:
        assert reader.open(one, context) == context.command_uuid.encode()
        reader.digest(bytes(32), context)
    assert len(provider.asked) == 2


def test_keys_for_opening_are_bounded_in_number_and_age(provider: Provider, clock: Clock) -> None:
    writer = EnvelopeCrypto(provider, max_messages=1)
    opening = list(zip(sealed_with(writer, 8), contexts(8), strict=True))
    reader = EnvelopeCrypto(provider, max_keys=4, max_age=100, clock=clock)
    prepared(reader, opening=opening)
    assert len(reader._opening) == 4
    # What was pushed out is asked for again, and all of it opens.
    assert [reader.open(*one) for one in opening] == [c.command_uuid.encode() for _, c in opening]
    provider.asked.clear()
    assert not prepared(reader, opening=opening[-4:])
    clock.now += 91
    assert prepared(reader, opening=opening[-4:])
    assert provider.asked.count("unwrap") == 4


def test_what_is_used_stays_and_what_is_not_goes(provider: Provider) -> None:
    writer = EnvelopeCrypto(provider, max_messages=1)
    opening = list(zip(sealed_with(writer, 3), contexts(3), strict=True))
    reader = EnvelopeCrypto(provider, max_keys=2)
    prepared(reader, opening=opening[:2])
    prepared(reader, opening=opening[:1])
    prepared(reader, opening=opening[2:])
    assert not prepared(reader, opening=[opening[0], opening[2]])
    assert prepared(reader, opening=opening[1:2])


def test_what_concerns_the_provider_as_a_whole_is_raised_by_the_work(provider: Provider) -> None:
    crypto = EnvelopeCrypto(provider)
    provider.down = True
    work = crypto.prepare(contexts(3) + contexts(3, "u") + contexts(3, "v"), [])
    assert work is not None
    with pytest.raises(StoreUnavailable):
        work()
    provider.down = False
    work()
    assert crypto.open(crypto.seal(b"x", Context("u", "c")), Context("u", "c")) == b"x"


def test_the_digests_key_is_got_where_the_data_key_is_at_hand_already(provider: Provider) -> None:
    sealed = sealed_with(EnvelopeCrypto(provider), 1)
    reader = EnvelopeCrypto(provider)
    reader.open(sealed[0], Context("t", "c0"))
    provider.asked.clear()
    assert prepared(reader, opening=[(sealed[0], Context("t", "c0"))])
    assert provider.asked == ["digest_key"]


def test_a_tenant_whose_key_turns_out_to_be_destroyed_is_not_sealed_for_with_what_is_left(provider: Provider) -> None:
    crypto = EnvelopeCrypto(provider, max_messages=10)
    sealed_with(crypto, 1)
    provider.destroyed.add("t")
    prepared(crypto, contexts(20))
    with pytest.raises(DecryptionError, match="destroyed"):
        crypto.seal(b"", Context("t", "c"))


# What does not open


@pytest.mark.parametrize("cipher", ["", "aes-256-gcm+test"])
def test_no_altered_byte_opens(provider: Provider, cipher: str) -> None:
    crypto, context = EnvelopeCrypto(provider), Context("t", "c")
    data = crypto.seal(b"payload", context).data
    for at in range(len(data)):
        altered = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with pytest.raises(DecryptionError):
            crypto.open(Sealed(altered, cipher), context)
    for end in range(len(data)):
        with pytest.raises(DecryptionError):
            crypto.open(Sealed(data[:end], cipher), context)


def test_a_payload_of_another_command_or_tenant_does_not_open(provider: Provider) -> None:
    crypto = EnvelopeCrypto(provider)
    sealed = crypto.seal(b"x", Context("ten", "ant"))
    for other in (Context("ten", "c"), Context("t", "ant"), Context("tena", "nt"), Context("", "tenant")):
        with pytest.raises(DecryptionError):
            crypto.open(sealed, other)


def test_plain_data_and_other_ciphers_are_told_apart(provider: Provider) -> None:
    crypto, context = EnvelopeCrypto(provider), Context("t", "c")
    with pytest.raises(DecryptionError, match="no envelope"):
        crypto.open(Sealed(b'{"plain": true}', ""), context)
    with pytest.raises(DecryptionError, match=r"'aes-256-gcm:abc'.*opens aes-256-gcm\+test"):
        crypto.open(Sealed(b"", "aes-256-gcm:abc"), context)
    with pytest.raises(DecryptionError, match="version 2"):
        crypto.open(Sealed(b"CSE\x02" + bytes(100), ""), context)
    assert crypto.prepare([], [(Sealed(b"plain", ""), context)]) is None


def test_a_destroyed_tenant_is_remembered_and_concerns_no_other(provider: Provider, clock: Clock) -> None:
    writer = EnvelopeCrypto(provider)
    gone, there = sealed_with(writer, 1, "gone")[0], sealed_with(writer, 1, "there")[0]
    provider.destroyed.add("gone")
    crypto = EnvelopeCrypto(provider, max_age=100, clock=clock)
    sealing = [Context("gone", "c0"), Context("there", "c0")]
    opening = [(gone, sealing[0]), (there, sealing[1])]
    assert prepared(crypto, sealing, opening)
    assert not prepared(crypto, sealing, opening)
    asked = len(provider.asked)
    for attempt in (
        lambda: crypto.seal(b"", sealing[0]),
        lambda: crypto.open(gone, sealing[0]),
        lambda: crypto.digest(bytes(32), sealing[0]),
    ):
        with pytest.raises(DecryptionError, match="'gone' was destroyed on a day"):
            attempt()
    assert crypto.open(there, sealing[1]) == b"c0"
    crypto.digest(bytes(32), sealing[1])
    crypto.seal(b"", sealing[1])
    assert len(provider.asked) == asked
    # A key in KMS can be enabled again.
    provider.destroyed.clear()
    clock.now += 100
    assert prepared(crypto, sealing, opening)
    assert crypto.open(gone, sealing[0]) == b"c0"


def test_a_tenant_that_is_destroyed_later_is_sealed_for_no_longer_than_max_age(
    provider: Provider, clock: Clock
) -> None:
    crypto = EnvelopeCrypto(provider, max_age=100, clock=clock)
    [sealed] = sealed_with(crypto, 1)
    provider.destroyed.add("t")
    crypto.seal(b"", Context("t", "c"))
    clock.now += 100
    for attempt in (
        lambda: crypto.seal(b"", Context("t", "c")),
        lambda: crypto.open(sealed, Context("t", "c0")),
        lambda: crypto.digest(bytes(32), Context("t", "c0")),
    ):
        with pytest.raises(DecryptionError, match="destroyed"):
            attempt()


def test_forget_lets_go_of_every_key_at_once(provider: Provider) -> None:
    crypto = EnvelopeCrypto(provider)
    [sealed] = sealed_with(crypto, 1)
    provider.destroyed.add("t")
    crypto.forget()
    with pytest.raises(DecryptionError, match="destroyed"):
        crypto.open(sealed, Context("t", "c0"))
    with pytest.raises(DecryptionError, match="destroyed"):
        crypto.seal(b"", Context("t", "c0"))


def test_a_provider_that_unwraps_no_key_is_a_decryption_error(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    [sealed] = sealed_with(EnvelopeCrypto(provider), 1)
    monkeypatch.setattr(provider, "unwrap", lambda *_: b"short")
    with pytest.raises(DecryptionError, match="32 bytes"):
        EnvelopeCrypto(provider).open(sealed, Context("t", "c0"))


# Digests


def test_the_digest_is_hmac_under_the_tenants_key(provider: Provider) -> None:
    crypto = EnvelopeCrypto(provider)
    assert crypto.digest(bytes(32), Context("t", "c")) == hmac.digest(DIGEST_KEY, bytes(32), "sha256")


# Settings and secrets


@pytest.mark.parametrize(
    "bounds",
    [
        {"max_messages": 0},
        {"max_messages": 2**32 + 1},
        {"max_age": 0},
        {"max_age": float("nan")},
        {"max_keys": 0},
        {"concurrency": 0},
    ],
    ids=str,
)
def test_a_bound_that_cant_be_is_refused(provider: Provider, bounds: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_messages"):
        EnvelopeCrypto(provider, **bounds)


def test_nothing_shows_a_key(provider: Provider) -> None:
    crypto = EnvelopeCrypto(provider)
    [sealed] = sealed_with(crypto, 1)
    made = DataKey(next(iter(provider.keys.values()))[1], b"wrapped 0")
    store = CommandStore(MemoryBackend())
    store.init(crypto=crypto)
    shown = repr(crypto) + str(crypto) + repr(made) + str(made) + repr(store.options)
    caches = (crypto._opening, crypto._digests, crypto._refused, crypto._sealing)
    shown += "".join(repr(cache) for cache in caches) + repr(list(crypto._opening._kept.values()))
    try:
        crypto.open(Sealed(sealed.data[:-1] + b"x", ""), Context("t", "c0"))
    except DecryptionError as error:
        shown += repr(error) + str(error.__dict__) + pickle.dumps(error).hex()
    for secret in (made.plain, DIGEST_KEY):
        assert repr(secret)[2:-1] not in shown
        assert secret.hex() not in shown


@pytest.mark.parametrize("give_away", [pickle.dumps, copy.copy, copy.deepcopy])
def test_what_holds_keys_cant_be_pickled_or_copied(give_away: Any) -> None:
    for holder in (EnvelopeCrypto(Provider.__new__(Provider)), DataKey(bytes(32), b"w")):
        with pytest.raises(TypeError, match="pickled"):
            give_away(holder)


# In a store


def test_a_store_seals_opens_and_compares_through_envelopes(provider: Provider) -> None:
    backend = MemoryBackend()
    store = CommandStore(backend)
    store.init(crypto=EnvelopeCrypto(provider))
    commands = [Command(f"c{n}", n, tenant_uuid="ab"[n % 2], data_bytes=b"%d" % n) for n in range(10)]
    assert len(store.create_many(commands).created) == 10
    again = CommandStore(backend)
    again.init(crypto=EnvelopeCrypto(provider))
    assert list(again.scan()) == commands
    assert len(again.create_many(commands).duplicate) == 10
    provider.destroyed.add("a")
    third = CommandStore(backend)
    third.init(crypto=EnvelopeCrypto(provider))
    page = third.list()
    assert page.commands == tuple(commands[1::2])
    assert [error.command_uuid for error in page.corrupt] == [c.command_uuid for c in commands[::2]]  # type: ignore[attr-defined]
    result = third.create_many([Command("new a", 1, tenant_uuid="a"), Command("new b", 1, tenant_uuid="b")])
    assert result.created == ("new b",)
    assert [failure.command_uuid for failure in result.failed] == ["new a"]


def test_who_only_reads_or_compares_makes_no_key(provider: Provider) -> None:
    there = MemoryBackend()
    writer, reader = CommandStore(there), CommandStore(there)
    writer.init(crypto=EnvelopeCrypto(provider))
    reader.init(crypto=EnvelopeCrypto(provider))
    source = CommandStore(MemoryBackend())
    source.init()
    for store in (writer, source):
        store.create(Command("c", 1, tenant_uuid="t", data_bytes=b"plain"))
    source.create(Command("new", 2, tenant_uuid="another"))
    provider.asked.clear()
    assert sync_command_store(source, reader, dry_run=True).duplicates == 1
    assert provider.asked == ["digest_key"]
    command = reader.get("c")
    assert command is not None
    assert command.data_bytes == b"plain"
    assert provider.asked == ["digest_key", "unwrap"]
