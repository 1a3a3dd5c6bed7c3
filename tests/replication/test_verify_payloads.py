"""Payloads that don't fit the digests beside them, and stores that are sealed: what is found, and what is repaired."""

from __future__ import annotations

import pytest

from commandstore import (
    Command,
    CommandStore,
    ConfigurationError,
    CryptoService,
    DecryptionError,
    EnvelopeCrypto,
    open_store,
)
from commandstore.memory import MemoryBackend
from commandstore.replication.verify import verify_command_stores
from commandstore.vault import LocalRoot, TenantKeys
from replication.verified import NOW, command, holding, told

COMMANDS = [command(n, tenant_uuid=f"t{n % 2}") for n in range(30)]
KEYS = CryptoService(b"k" * 32), CryptoService(b"o" * 32)
MISFIT = "the payload does not fit the digest that is kept beside it"


def sealed(crypto, commands=COMMANDS, backend=None) -> CommandStore:
    store = CommandStore(backend or MemoryBackend())
    store.init(crypto=crypto)
    store.create_many(commands)
    return store


def alter(store: CommandStore, uuid: str, **fields) -> None:
    """Behind the store's back: the digest beside it stays what it was."""
    records = store.core.backend._records
    record, write_id = records[uuid]
    records[uuid] = (record._replace(**(fields or {"data": record.data[:-1] + b"\x00"})), write_id)


def said(report) -> dict[str, tuple[str, str]]:
    return {finding.command_uuid: (finding.reason, finding.action) for finding in report.findings}


# Payloads


def test_what_was_altered_under_its_digest_is_found_where_payloads_are_read_and_repaired() -> None:
    source, destination = holding(COMMANDS), holding(COMMANDS)
    alter(destination, "c0003")
    alter(destination, "c0004", domain="other")
    assert verify_command_stores(source, destination).clean  # taken at its word
    report = verify_command_stores(source, destination, payloads=True, page_size=7)
    assert told(report) == {"c0003": "altered", "c0004": "altered"}
    assert said(report)["c0003"] == (f"in the destination: {MISFIT}", "")
    report = verify_command_stores(source, destination, payloads=True, repair=True)
    assert {action for _, action in said(report).values()} == {"replaced"}
    assert report.clean
    assert list(destination.scan()) == COMMANDS
    assert verify_command_stores(source, destination, payloads=True).equal == 30


def test_a_digest_that_was_altered_over_its_payload_is_repaired() -> None:
    destination = holding(COMMANDS)
    alter(destination, "c0003", digest=b"\x01" * 32)
    report = verify_command_stores(holding(COMMANDS), destination, repair=True)
    assert (told(report), report.clean) == ({"c0003": "altered"}, True)
    assert verify_command_stores(holding(COMMANDS), destination, payloads=True).clean


@pytest.mark.parametrize("there", [COMMANDS, COMMANDS[:3] + COMMANDS[4:]])
def test_what_was_altered_in_the_source_is_found_and_not_spread(there) -> None:
    source, destination = holding(COMMANDS), holding(there)
    alter(source, "c0003")
    report = verify_command_stores(source, destination, payloads=True, repair=True)
    assert told(report) == {"c0003": "altered"}
    reason, action = said(report)["c0003"]
    assert (reason, report.left) == (f"in the source: {MISFIT}", 1)
    assert action == "not repaired: it does not fit its digest in the source"
    assert list(destination.scan()) == there
    report = verify_command_stores(source, destination, repair=True)  # not even where payloads are believed
    assert report.left == len(COMMANDS) - len(there)
    assert list(destination.scan()) == there


def test_what_was_altered_in_both_is_found_though_both_are_alike() -> None:
    source, destination = holding(COMMANDS), holding(COMMANDS)
    alter(source, "c0003")
    alter(destination, "c0003")
    assert told(verify_command_stores(source, destination, payloads=True)) == {"c0003": "altered"}


def test_what_only_the_destination_has_is_extra_whatever_its_payload_is() -> None:
    destination = holding(COMMANDS)
    alter(destination, "c0003")
    source = holding(COMMANDS[:3] + COMMANDS[4:])
    assert told(verify_command_stores(source, destination, payloads=True)) == {"c0003": "extra"}
    report = verify_command_stores(source, destination, payloads=True, repair=True, delete_extra=True)
    assert (report.deleted, report.clean, destination.get("c0003")) == (1, True, None)


def test_a_store_can_be_compared_with_its_own_digests() -> None:
    store = holding(COMMANDS)
    assert verify_command_stores(store, store, payloads=True).equal == 30
    alter(store, "c0003")
    report = verify_command_stores(store, store, payloads=True, repair=True)
    assert told(report) == {"c0003": "altered"}
    assert not report.clean


def test_a_source_in_sql_has_no_digests_to_differ_from(tmp_path) -> None:
    with open_store(f"sqlite:///{tmp_path}/app.db", create=True) as source:
        source.create_many(COMMANDS)
        assert verify_command_stores(source, holding(COMMANDS), payloads=True).equal == 30


# Sealed stores


@pytest.mark.parametrize("payloads", [False, True])
@pytest.mark.parametrize("sides", [(None, 0), (0, None), (0, 0), (0, 1)])
def test_sealed_sides_are_compared_by_what_they_hold_and_repaired(sides, payloads) -> None:
    source, destination = (sealed(None if key is None else KEYS[key]) for key in sides)
    destination.delete("c0003")
    destination.update(COMMANDS[4].model_copy(update={"data_bytes": b"other"}))
    destination.create(Command("x", 5))
    found = {"c0003": "missing", "c0004": "altered", "x": "extra"}
    assert told(verify_command_stores(source, destination, payloads=payloads)) == found
    report = verify_command_stores(source, destination, payloads=payloads, repair=True, delete_extra=True)
    assert (told(report), report.clean) == (found, True)
    assert list(destination.scan()) == COMMANDS
    assert verify_command_stores(source, destination, payloads=payloads).equal == 30


def test_a_sealed_destination_in_sql_is_repaired(tmp_path) -> None:
    with open_store(f"sqlite:///{tmp_path}/app.db", create=True, crypto=KEYS[0]) as destination:
        destination.create_many(COMMANDS[1:])
        destination.update(COMMANDS[4].model_copy(update={"data_bytes": b"other"}))
        report = verify_command_stores(holding(COMMANDS), destination, repair=True)
        assert (told(report), report.clean) == ({"c0000": "missing", "c0004": "altered"}, True)
        assert list(destination.scan()) == COMMANDS


def test_a_cipher_that_was_altered_is_found_where_payloads_are_read_and_replaced() -> None:
    destination = sealed(KEYS[0])
    alter(destination, "c0003")
    assert verify_command_stores(holding(COMMANDS), destination).clean
    report = verify_command_stores(holding(COMMANDS), destination, payloads=True, repair=True)
    assert (told(report), report.clean) == ({"c0003": "failed"}, True)
    assert said(report)["c0003"][1] == "replaced"
    assert list(destination.scan()) == COMMANDS


@pytest.mark.parametrize("wrong", [None, KEYS[1]])
@pytest.mark.parametrize("there", [COMMANDS, COMMANDS[:25], COMMANDS[5:]])
def test_with_a_wrong_key_or_none_nothing_is_replaced_or_written_among_what_is_sealed(wrong, there) -> None:
    backend = MemoryBackend()
    sealed(KEYS[0], there, backend)
    before = dict(backend._records)
    destination = CommandStore(backend)
    destination.init(crypto=wrong)
    report = verify_command_stores(holding(COMMANDS), destination, repair=True, delete_extra=True)
    assert (report.failed, report.missing, report.left) == (len(there), 30 - len(there), 30)
    assert {action for _, action in said(report).values()} == {
        "not repaired: what the destination holds does not open with the key given, or none was"
    }
    assert backend._records == before


@pytest.mark.parametrize("crypto", [None, KEYS[0]])
def test_an_empty_destination_is_filled_with_or_without_a_key(crypto) -> None:
    destination = CommandStore(MemoryBackend())
    destination.init(crypto=crypto)
    assert verify_command_stores(holding(COMMANDS), destination, repair=True).clean
    assert list(destination.scan()) == COMMANDS


def test_what_is_sealed_among_plain_commands_is_not_replaced_by_a_plain_one() -> None:
    backend = MemoryBackend()
    sealed(KEYS[0], COMMANDS[:1], backend)
    destination = holding(COMMANDS, backend)
    report = verify_command_stores(holding(COMMANDS), destination, repair=True)
    assert (told(report), report.equal, report.left) == ({"c0000": "failed"}, 29, 1)
    assert backend._records["c0000"][0].cipher


@pytest.mark.parametrize("read_only", [False, True])
def test_a_verification_makes_no_key_of_a_tenant_that_has_none(read_only) -> None:
    vault, backend = MemoryBackend(), MemoryBackend()
    keys, root = CommandStore(vault), LocalRoot(bytes(32))
    keys.init()
    destination = CommandStore(backend)
    destination.init(crypto=EnvelopeCrypto(TenantKeys(keys, root)))
    destination.create(COMMANDS[0])
    new = [one.model_copy(update={"tenant_uuid": "new here"}) for one in COMMANDS[1:3]]
    source = holding([COMMANDS[0], *new])
    before = dict(vault._registers)
    keys.init(read_only=read_only)
    crypto = EnvelopeCrypto(TenantKeys(keys, root))
    destination.init(crypto=crypto)
    report = verify_command_stores(source, destination)
    assert told(report) == {"c0001": "missing", "c0002": "missing"}
    assert vault._registers == before
    if not read_only:
        # That there was no key is not remembered against who makes one.
        assert verify_command_stores(source, destination, repair=True).repaired == 2
        assert list(destination.scan()) == list(source.scan())
        assert verify_command_stores(source, destination).clean


class Shredding(CryptoService):
    """Whose keys of some commands were destroyed."""

    gone: frozenset[str] = frozenset()

    def _needs(self, context) -> None:
        if context.command_uuid in self.gone:
            raise DecryptionError("its key was destroyed")

    def seal(self, plain, context):
        self._needs(context)
        return super().seal(plain, context)

    def open(self, sealed, context):
        self._needs(context)
        return super().open(sealed, context)

    def digest(self, plain_digest, context):
        self._needs(context)
        return super().digest(plain_digest, context)


@pytest.mark.parametrize("payloads", [False, True])
@pytest.mark.parametrize("there", [True, False])
def test_a_destroyed_key_fails_its_command_alone(there, payloads) -> None:
    crypto = Shredding(b"k" * 32)
    destination = sealed(crypto, COMMANDS if there else COMMANDS[:5] + COMMANDS[6:])
    crypto.gone = frozenset({"c0005"})
    destination.delete("c0009")
    report = verify_command_stores(holding(COMMANDS), destination, payloads=payloads, before=NOW, repair=True)
    expected = "failed" if there or not payloads else "missing"
    assert told(report) == {"c0005": expected, "c0009": "missing"}
    assert "its key was destroyed" in said(report)["c0005"][1]
    assert (report.equal, report.repaired, report.left) == (28, 1, 1)


def test_keys_are_asked_for_once_a_page() -> None:
    class Remote(CryptoService):
        asked: int = 0

        def prepare(self, sealing=(), opening=(), digesting=()):
            contexts = [*sealing, *opening, *digesting]

            def ask() -> None:
                self.asked += 1

            return ask if contexts else None

    crypto = Remote(b"k" * 32)
    destination = sealed(crypto)
    crypto.asked = 0
    assert verify_command_stores(holding(COMMANDS), destination, page_size=10).clean
    assert crypto.asked == 3


def test_a_destination_that_keeps_a_ledger_is_repaired_only_with_a_signer() -> None:
    from commandstore.ledger.signing import Ed25519Signer  # noqa: PLC0415

    backend = MemoryBackend()
    destination = CommandStore(backend)
    destination.init(signer=Ed25519Signer.generate())
    destination.create_many(COMMANDS[1:])
    destination.update(COMMANDS[4].model_copy(update={"data_bytes": b"other"}))
    unsigned = CommandStore(backend)
    unsigned.init()
    with pytest.raises(ConfigurationError, match="ledger"):
        verify_command_stores(holding(COMMANDS), unsigned, repair=True)
    report = verify_command_stores(holding(COMMANDS), destination, repair=True)
    assert (report.repaired, report.clean) == (2, True)
