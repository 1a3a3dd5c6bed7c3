"""Keys of tenants: made once, rotated, destroyed; whatever processes do at the same time."""

from __future__ import annotations

import copy
import json
import pickle
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

from commandstore import (
    Command,
    CommandStore,
    ConfigurationError,
    CryptoService,
    DecryptionError,
    ReadOnlyStore,
    StoreUnavailable,
)
from commandstore.crypto import Context, EnvelopeCrypto, NoKey
from commandstore.memory import MemoryBackend
from commandstore.vault import LocalRoot, TenantKeys

ROOT = b"the root key has 32 bytes, too!!"
DAY = datetime(2025, 3, 1, 12, 30, 15, 999, tzinfo=UTC)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def place() -> MemoryBackend:
    """Where the keys are."""
    return MemoryBackend()


def opened(place: MemoryBackend, *, read_only: bool = False, root: bytes = ROOT, **options: Any) -> TenantKeys:
    """What another process has of the same keys."""
    store = CommandStore(place)
    store.init(read_only=read_only)
    return TenantKeys(store, LocalRoot(root), now=lambda: DAY, **options)


def values(place: MemoryBackend) -> list[dict[str, Any]]:
    return [json.loads(register.value) for register in place._registers.values()]


def test_what_was_generated_is_unwrapped_by_every_process(place: MemoryBackend) -> None:
    keys = opened(place)
    for tenant in ("t", "", "tén/änt" * 30):
        made = keys.generate(tenant)
        assert len(made.plain) == 32
        assert opened(place).unwrap(made.wrapped, tenant) == made.plain
        assert opened(place).digest_key(tenant) == keys.digest_key(tenant)
    keys.generate("u")
    assert len({keys.digest_key(tenant) for tenant in ("t", "", "u")}) == 3


def test_who_asks_for_the_key_of_digests_makes_none(place: MemoryBackend) -> None:
    with pytest.raises(NoKey):
        opened(place).digest_key("t")
    assert not place._registers


def test_two_data_keys_are_never_alike(place: MemoryBackend) -> None:
    keys = opened(place)
    assert len({keys.generate("t").plain for _ in range(20)}) == 20


def test_the_register_is_as_documented_and_holds_no_plain_key(place: MemoryBackend) -> None:
    keys = opened(place)
    made = keys.generate("t")
    [name], [value] = list(place._registers), values(place)
    assert re.fullmatch(r"keys/[0-9a-f]{32}", name)
    assert set(value) == {"version", "tenant", "masters", "digest"}
    assert (value["version"], value["tenant"], len(value["masters"])) == (1, "t", 1)
    raw = place._registers[name].value
    assert made.plain.hex().encode() not in raw
    assert keys.digest_key("t").hex().encode() not in raw


def test_a_tenants_keys_are_read_once_and_again_after_max_age(
    place: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []
    real = MemoryBackend.register_get

    async def counted(self: MemoryBackend, name: str) -> Any:
        reads.append(name)
        return await real(self, name)

    monkeypatch.setattr(MemoryBackend, "register_get", counted)
    clock = Clock()
    keys = opened(place, max_age=60, clock=clock)
    keys.generate("t")
    first = len(reads)
    for _ in range(5):
        keys.unwrap(keys.generate("t").wrapped, "t")
        keys.digest_key("t")
    assert len(reads) == first
    clock.now += 60
    keys.generate("t")
    assert len(reads) == first + 1


def test_of_several_first_uses_at_once_all_take_the_same_key(place: MemoryBackend) -> None:
    processes = [opened(place) for _ in range(8)]
    start = threading.Barrier(8)

    def first(keys: TenantKeys) -> tuple[bytes, bytes, bytes]:
        start.wait()
        made = keys.generate("t")
        return made.wrapped, made.plain, keys.digest_key("t")

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(first, processes))
    assert len({digest for _, _, digest in found}) == 1
    for wrapped, plain, _ in found:
        assert all(keys.unwrap(wrapped, "t") == plain for keys in processes)


def test_the_loser_of_a_race_takes_the_winners_key(place: MemoryBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    other = opened(place)
    keys = opened(place)
    wrap = LocalRoot.wrap
    won: list[bytes] = []

    def slow(self: LocalRoot, plain: bytes, context: Any) -> bytes:
        if not won:
            won.append(b"")
            other.generate("t")
            won.append(other.digest_key("t"))
        return wrap(self, plain, context)

    monkeypatch.setattr(LocalRoot, "wrap", slow)
    keys.generate("t")
    assert keys.digest_key("t") == won[1]


def test_a_race_that_never_ends_is_unavailable(place: MemoryBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    async def lost(*_: Any, **__: Any) -> bool:
        return False

    monkeypatch.setattr(place, "register_swap", lost)
    with pytest.raises(StoreUnavailable, match="'t'"):
        opened(place).generate("t")


def test_opening_makes_no_key(place: MemoryBackend) -> None:
    wrapped = opened(MemoryBackend()).generate("t").wrapped
    with pytest.raises(DecryptionError, match="tenant 't' has no key"):
        opened(place).unwrap(wrapped, "t")
    assert values(place) == []


def test_a_read_only_store_of_keys_makes_none(place: MemoryBackend) -> None:
    with pytest.raises(ReadOnlyStore):
        opened(place, read_only=True).generate("t")
    made = opened(place).generate("t")
    reader = opened(place, read_only=True)
    assert reader.unwrap(made.wrapped, "t") == made.plain
    reader.generate("t")
    with pytest.raises(ReadOnlyStore):
        reader.destroy("t")
    with pytest.raises(ReadOnlyStore):
        reader.rotate("t")


# Rotation


def test_after_a_rotation_old_data_keys_open_and_new_ones_are_under_the_new_key(place: MemoryBackend) -> None:
    keys = opened(place)
    old, digest = keys.generate("t"), keys.digest_key("t")
    id_ = keys.rotate("t")
    new = keys.generate("t")
    assert new.wrapped[1:9].hex() == id_ != old.wrapped[1:9].hex()
    for made in (old, new):
        assert keys.unwrap(made.wrapped, "t") == opened(place).unwrap(made.wrapped, "t") == made.plain
    assert keys.digest_key("t") == digest


def test_a_process_that_missed_a_rotation_reads_what_is_under_the_new_key(place: MemoryBackend) -> None:
    late = opened(place)
    late.generate("t")
    keys = opened(place)
    keys.rotate("t")
    made = keys.generate("t")
    assert late.unwrap(made.wrapped, "t") == made.plain


def test_rotations_at_once_lose_no_key(place: MemoryBackend) -> None:
    opened(place).generate("t")
    with ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(lambda _: opened(place).rotate("t"), range(8)))
    [value] = values(place)
    assert {one["id"] for one in value["masters"]} > set(ids)
    assert len(value["masters"]) == 9


def test_the_roots_key_can_be_rotated_too(place: MemoryBackend) -> None:
    made = opened(place).generate("t")
    store = CommandStore(place)
    store.init()
    rotated = TenantKeys(store, LocalRoot(bytes(32), old_keys=[ROOT]))
    assert rotated.unwrap(made.wrapped, "t") == made.plain
    rotated.rotate("t")
    assert rotated.unwrap(made.wrapped, "t") == made.plain
    with pytest.raises(DecryptionError, match="another root key"):
        opened(place).generate("t")


# Shredding


def test_a_destroyed_key_opens_nothing_makes_nothing_and_says_when(place: MemoryBackend) -> None:
    keys = opened(place)
    made, other = keys.generate("t"), keys.generate("u")
    before = keys.digest_key("u")
    assert keys.destroy("t") == DAY.replace(microsecond=0)
    for process in (keys, opened(place)):
        for attempt in (
            lambda p=process: p.unwrap(made.wrapped, "t"),
            lambda p=process: p.generate("t"),
            lambda p=process: p.digest_key("t"),
            lambda p=process: p.rotate("t"),
        ):
            with pytest.raises(DecryptionError, match=r"the key of tenant 't' was destroyed on 2025-03-01T12:30:15"):
                attempt()
        assert process.unwrap(other.wrapped, "u") == other.plain
        assert process.digest_key("u") == before


def test_nothing_of_a_destroyed_key_is_left(place: MemoryBackend) -> None:
    keys = opened(place)
    keys.generate("t")
    keys.destroy("t")
    assert values(place) == [{"version": 1, "tenant": "t", "destroyed": "2025-03-01T12:30:15+00:00"}]


@pytest.mark.parametrize("tenant", ["typo", ""])
def test_a_tenant_that_never_had_a_key_is_neither_destroyed_nor_rotated(place: MemoryBackend, tenant: str) -> None:
    keys = opened(place)
    keys.generate("t")
    before = values(place)
    for attempt in (keys.destroy, keys.rotate):
        with pytest.raises(ConfigurationError, match=f"tenant '{tenant}' has no key in .*nothing was changed"):
            attempt(tenant)
    assert values(place) == before
    assert keys.destroyed(tenant) is None
    keys.generate(tenant)  # as if nothing had been asked


def test_when_a_key_was_destroyed_can_be_asked(place: MemoryBackend) -> None:
    keys = opened(place)
    keys.generate("t")
    assert keys.destroyed("t") is None
    keys.destroy("t")
    assert opened(place, read_only=True).destroyed("t") == DAY.replace(microsecond=0)


def test_a_key_can_be_destroyed_before_there_is_one_and_only_once(place: MemoryBackend) -> None:
    opened(place).destroy("t", in_advance=True)
    later = opened(place)
    later._now = lambda: datetime(2030, 1, 1, tzinfo=UTC)
    assert later.destroy("t") == DAY.replace(microsecond=0)
    with pytest.raises(DecryptionError, match="2025-03-01"):
        later.generate("t")


def test_another_process_keeps_a_destroyed_key_for_max_age_at_most(place: MemoryBackend) -> None:
    clock = Clock()
    late = opened(place, max_age=60, clock=clock)
    made = late.generate("t")
    opened(place).destroy("t")
    assert late.unwrap(made.wrapped, "t") == made.plain
    clock.now += 60
    with pytest.raises(DecryptionError, match="destroyed"):
        late.unwrap(made.wrapped, "t")


def test_in_a_store_only_the_destroyed_tenants_payloads_are_unreadable(place: MemoryBackend) -> None:
    commands = [Command(f"c{n}", n, tenant_uuid="ab"[n % 2], data_bytes=b"%d" % n) for n in range(6)]
    backend = MemoryBackend()
    store = CommandStore(backend)
    store.init(crypto=EnvelopeCrypto(opened(place)))
    store.create_many(commands)
    opened(place).destroy("a")
    again = CommandStore(backend)
    again.init(crypto=EnvelopeCrypto(opened(place)))
    page = again.list()
    assert page.commands == tuple(commands[1::2])
    assert page.total == 6
    assert ["destroyed on 2025" in str(error) for error in page.corrupt] == [True] * 3
    assert again.list(tenant_uuid="a", limit=0).total == 3
    result = again.create_many([Command("na", 1, tenant_uuid="a"), commands[1], Command("nb", 1, tenant_uuid="b")])
    assert (result.created, result.duplicate) == (("nb",), ("c1",))
    assert [type(failure.error) for failure in result.failed] == [DecryptionError]


# What does not open


def test_a_data_key_that_was_altered_or_is_another_tenants_does_not_open(place: MemoryBackend) -> None:
    keys = opened(place)
    wrapped = keys.generate("t").wrapped
    keys.generate("u")
    for at in range(len(wrapped)):
        with pytest.raises(DecryptionError):
            keys.unwrap(wrapped[:at] + bytes([wrapped[at] ^ 1]) + wrapped[at + 1 :], "t")
    for other in (wrapped[:-1], wrapped + b"x", b""):
        with pytest.raises(DecryptionError):
            keys.unwrap(other, "t")
    with pytest.raises(DecryptionError, match="'u' has no key"):
        keys.unwrap(wrapped, "u")


def test_keys_that_were_moved_to_another_tenant_do_not_open(place: MemoryBackend) -> None:
    keys = opened(place)
    made = keys.generate("t")
    keys.generate("u")
    (t, mine), (u, other) = sorted(place._registers.items(), key=lambda item: b'"u"' in item[1].value)
    place._registers[u] = mine
    with pytest.raises(DecryptionError, match="can't be read"):
        opened(place).generate("u")
    place._registers[u] = other._replace(value=mine.value.replace(b'"tenant":"t"', b'"tenant":"u"'))
    with pytest.raises(DecryptionError, match="another root key, or was altered"):
        opened(place).unwrap(made.wrapped, "u")
    assert opened(place).unwrap(made.wrapped, "t") == made.plain
    assert t != u


@pytest.mark.parametrize(
    "value", [b"", b"[]", b"{}", b"not json", b'{"version":1,"tenant":"t"}', b'{"version":2,"tenant":"t"}'], ids=str
)
def test_damaged_keys_concern_their_tenant_alone(place: MemoryBackend, value: bytes) -> None:
    keys = opened(place)
    keys.generate("t")
    [name] = place._registers
    place._registers[name] = place._registers[name]._replace(value=value)
    with pytest.raises(DecryptionError, match="keys of tenant 't'"):
        opened(place).generate("t")
    opened(place).generate("u")


def test_a_root_binds_the_context() -> None:
    root = LocalRoot(ROOT)
    wrapped = root.wrap(b"key", {"a": "b", "c": "d"})
    assert root.unwrap(wrapped, {"c": "d", "a": "b"}) == b"key"
    for context in ({}, {"a": "b"}, {"a": "bc", "": "d"}, {"c": "b", "a": "d"}):
        with pytest.raises(DecryptionError):
            root.unwrap(wrapped, context)
    for other in (b"", wrapped[:11], wrapped[:-1]):
        with pytest.raises(DecryptionError):
            root.unwrap(other, {"a": "b", "c": "d"})


# Settings and secrets


def test_bounds_that_cant_be_are_refused(place: MemoryBackend) -> None:
    for bounds in ({"max_age": 0.0}, {"max_tenants": 0}):
        with pytest.raises(ConfigurationError, match="greater than 0"):
            opened(place, **bounds)
    with pytest.raises(ConfigurationError, match="32 bytes"):
        LocalRoot(b"short")


def test_nothing_shows_a_key(place: MemoryBackend) -> None:
    keys = opened(place)
    made = keys.generate("t")
    kept = list(keys._kept._kept.values())
    shown = repr(keys) + str(keys) + repr(LocalRoot(ROOT)) + repr(keys._kept) + repr(kept) + repr(kept[0].get().masters)
    for secret in (ROOT, made.plain, keys.digest_key("t")):
        assert repr(secret)[2:-1] not in shown
        assert secret.hex() not in shown


@pytest.mark.parametrize("give_away", [pickle.dumps, copy.copy, copy.deepcopy])
def test_what_holds_keys_cant_be_pickled_or_copied(place: MemoryBackend, give_away: Any) -> None:
    for holder in (opened(place), LocalRoot(ROOT)):
        with pytest.raises(TypeError, match="pickled"):
            give_away(holder)


def test_a_sync_seals_at_the_destination_what_other_keys_sealed_at_the_source(place: MemoryBackend) -> None:
    from commandstore import sync_command_store  # noqa: PLC0415 - for this test alone

    source, backend = CommandStore(MemoryBackend("src")), MemoryBackend("dst")
    source.init(crypto=CryptoService(bytes(32)))
    commands = [Command(f"c{n}", n, tenant_uuid="ab"[n % 2], data_bytes=b"payload %d" % n) for n in range(6)]
    source.create_many(commands)
    destination = CommandStore(backend)
    destination.init(crypto=EnvelopeCrypto(opened(place)))
    assert sync_command_store(source, destination, lag=0).copied == 6
    assert list(destination.scan()) == commands
    assert {record.cipher for record, _ in backend._records.values()} == {"aes-256-gcm+vault"}
    assert sync_command_store(source, destination, lag=0, resume_from_dest=False).duplicates == 6


def test_an_envelope_over_tenant_keys_opens_in_another_process(place: MemoryBackend) -> None:
    crypto = EnvelopeCrypto(opened(place))
    sealed = crypto.seal(b"x", Context("t", "c"))
    assert sealed.cipher == "aes-256-gcm+vault"
    assert EnvelopeCrypto(opened(place)).open(sealed, Context("t", "c")) == b"x"
