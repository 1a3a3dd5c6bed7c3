"""Laws of encryption: with a crypto service values come back plain, and what is stored is not."""

from __future__ import annotations

import pytest

from commandstore.codec import Record
from commandstore.command import Command, SealedCommand
from commandstore.crypto import CryptoService, EnvelopeCrypto
from commandstore.errors import CommandExists, CommandStoreError, DecryptionError, InvalidCommand
from commandstore.memory import MemoryBackend
from commandstore.store import CommandStore
from commandstore.testing.conformance.data import BYTES, KIB, a_command, only, payload, some_commands
from commandstore.testing.conformance.lab import Lab
from commandstore.vault import LocalRoot, TenantKeys

__all__ = ["EncryptionLaws"]

SECRET = b"a secret that must not be readable in what is stored"


class EncryptionLaws:
    @pytest.fixture
    def crypto(self) -> CryptoService:
        """A service with a key; needs the extra ``crypto``."""
        return CryptoService(bytes(range(32)))

    @pytest.fixture
    def vault(self) -> TenantKeys:
        """A key for each tenant, in a store of keys."""
        keys = CommandStore(MemoryBackend())
        keys.init()
        return TenantKeys(keys, LocalRoot(bytes(range(32))))

    @pytest.fixture
    def sealed(self, lab: Lab, crypto: CryptoService) -> CommandStore:
        """An open, empty store with a crypto service."""
        return lab.open(crypto=crypto)

    def test_the_options_give_the_crypto_service_back(self, sealed: CommandStore, crypto: CryptoService) -> None:
        assert sealed.options.crypto is crypto
        assert "crypto" not in repr(sealed.options)

    def test_values_come_back_plain(self, lab: Lab, sealed: CommandStore) -> None:
        [command] = lab.fill(sealed, [a_command(data_bytes=SECRET)])
        assert sealed.get("c1") == command
        assert sealed.get_many(["c1"]) == {"c1": command}
        assert list(sealed.list().commands) == list(sealed.scan()) == [command]

    def test_what_is_stored_is_not_plain(self, lab: Lab, sealed: CommandStore) -> None:
        sealed.create(a_command("one", data_bytes=SECRET))
        sealed.create_many([a_command("many", data_bytes=SECRET)])
        sealed.create(a_command("new"))
        sealed.update(a_command("new", data_bytes=SECRET))
        stored = [lab.place.raw_payload(uuid) for uuid in ("one", "many", "new")]
        for data in stored:
            for part in (SECRET, SECRET.hex().encode(), SECRET[:16], b"secret"):
                assert part not in data
            assert len(data) > len(SECRET)
        assert len(set(stored)) == 3

    def test_every_byte_comes_back_from_cipher(self, lab: Lab, sealed: CommandStore) -> None:
        commands = [a_command(f"c{number:02}", number, data_bytes=data) for number, data in enumerate(BYTES)]
        assert lab.fill(sealed, commands) == commands
        assert list(sealed.get_many(command.command_uuid for command in commands).values()) == commands
        assert list(sealed.scan()) == commands

    def test_an_empty_payload_is_sealed_too(self, lab: Lab, sealed: CommandStore) -> None:
        sealed.create(a_command(data_bytes=b""))
        assert sealed.get("c1") == a_command(data_bytes=b"")
        assert lab.place.raw_payload("c1") != b""

    def test_long_payloads_come_back_from_cipher(self, lab: Lab, sealed: CommandStore) -> None:
        for size in (100, 389 * KIB, 450 * KIB, 900 * KIB):
            command = a_command(f"{size}", data_bytes=payload(size))
            sealed.create(command)
            assert sealed.get(f"{size}") == command
            assert payload(size)[:64] not in lab.place.raw_payload(f"{size}")

    def test_filters_find_sealed_commands(self, lab: Lab, sealed: CommandStore) -> None:
        [command] = lab.fill(sealed, [a_command()])
        for name in ("tenant_uuid", "workspace_uuid", "domain", "data_type", "session_uuid"):
            assert sealed.list(**only(**{name: getattr(command, name)})).commands == (command,)
            assert sealed.total(**only(**{name: "another"})) == 0

    def test_update_gives_the_new_value_back_plain(self, sealed: CommandStore) -> None:
        sealed.create(a_command(data_bytes=b"old"))
        assert sealed.update(a_command(data_bytes=SECRET)) is True
        assert sealed.get("c1") == a_command(data_bytes=SECRET)

    def test_command_exists_carries_the_plain_command(self, sealed: CommandStore) -> None:
        sealed.create(a_command(data_bytes=SECRET))
        with pytest.raises(CommandExists) as caught:
            sealed.create(a_command())
        assert caught.value.existing == a_command(data_bytes=SECRET)

    def test_equal_commands_are_duplicates_though_no_two_ciphers_are_alike(
        self, lab: Lab, sealed: CommandStore
    ) -> None:
        commands = lab.fill(sealed, [*some_commands(5), a_command("long", 9_000, data_bytes=payload(450 * KIB))])
        result = sealed.create_many([*commands, commands[0]])
        assert sorted(result.duplicate) == sorted(["c00000", *(command.command_uuid for command in commands)])
        assert len(result) == len(commands) + 1

    def test_different_commands_are_conflicts_though_both_are_sealed(self, lab: Lab, sealed: CommandStore) -> None:
        lab.fill(sealed, [a_command(data_bytes=SECRET)])
        for other in (a_command(data_bytes=b"other"), a_command(created_at=2, data_bytes=SECRET)):
            assert sealed.create_many([other]).conflicting == ("c1",)
        assert sealed.get("c1") == a_command(data_bytes=SECRET)

    def test_another_process_with_the_key_reads_it(self, lab: Lab, sealed: CommandStore) -> None:
        sealed.create(a_command(data_bytes=SECRET))
        again = lab.open(crypto=CryptoService(bytes(range(32))), read_only=True)
        assert again.get("c1") == a_command(data_bytes=SECRET)

    def test_with_a_wrong_key_nothing_is_read_and_the_command_is_named(self, lab: Lab, sealed: CommandStore) -> None:
        lab.fill(sealed, [a_command(data_bytes=SECRET)])
        wrong = lab.open(crypto=CryptoService(bytes(32)))
        with pytest.raises(DecryptionError, match="'c1'") as caught:
            wrong.get("c1")
        assert caught.value.command_uuid == "c1"
        with pytest.raises(DecryptionError, match="'c1'"):
            wrong.get_many(["none", "c1"])
        with pytest.raises(DecryptionError, match="'c1'"):
            list(wrong.scan())

    def test_without_a_key_nothing_plain_is_read(self, lab: Lab, sealed: CommandStore) -> None:
        lab.fill(sealed, [a_command(data_bytes=SECRET)])
        plain = lab.open()
        if plain.core.backend.sealed_as_hex:
            # comby's tables don't say what is sealed: without the key the cipher is what one sees.
            found = plain.get("c1")
            assert found is not None
            assert found.data_bytes == lab.place.raw_payload("c1")
            assert SECRET not in found.data_bytes
        else:
            with pytest.raises(DecryptionError, match="crypto service") as caught:
                plain.get("c1")
            assert caught.value.command_uuid == "c1"

    def test_plain_data_where_cipher_is_expected_is_an_error(self, lab: Lab, sealed: CommandStore) -> None:
        lab.open().create(a_command(data_bytes=SECRET))
        with pytest.raises(DecryptionError, match="'c1'") as caught:
            sealed.get("c1")
        assert SECRET.decode() not in str(caught.value)

    def test_in_a_list_only_the_command_that_cant_be_decrypted_is_missing(self, lab: Lab, sealed: CommandStore) -> None:
        other = lab.open(crypto=CryptoService(bytes(32)))
        a, b, c = (a_command(uuid, at, data_bytes=SECRET) for at, uuid in enumerate("abc"))
        sealed.create_many([a, c])
        other.create(b)
        lab.place.settle()
        page = sealed.list()
        assert page.commands == (a, c)
        assert page.total == 3
        [error] = page.corrupt
        assert isinstance(error, DecryptionError)
        assert error.command_uuid == "b"
        assert other.list().commands == (b,)

    def test_what_cant_be_decrypted_counts_against_the_limit_and_stops_no_walk(
        self, lab: Lab, sealed: CommandStore
    ) -> None:
        other = lab.open(crypto=CryptoService(bytes(32)))
        commands = some_commands(8)
        sealed.create_many(commands[::2])
        other.create_many(commands[1::2])
        lab.place.settle()
        found: list[Command] = []
        corrupt: list[CommandStoreError] = []
        cursor = None
        for _ in range(20):
            page = sealed.list(limit=3, cursor=cursor)
            found += page.commands
            corrupt += page.corrupt
            assert len(page.commands) + len(page.corrupt) <= 3
            cursor = page.cursor
            if cursor is None:
                break
        assert found == commands[::2]
        assert [str(error).count(c.command_uuid) for error, c in zip(corrupt, commands[1::2], strict=True)] == [1] * 4

    def test_a_scan_passes_over_what_cant_be_decrypted_when_told_to(self, lab: Lab, sealed: CommandStore) -> None:
        other = lab.open(crypto=CryptoService(bytes(32)))
        a, b, c = some_commands(3)
        sealed.create_many([a, c])
        other.create(b)
        lab.place.settle()
        errors: list[Exception] = []
        assert list(sealed.scan(on_corrupt=errors.append)) == [a, c]
        assert [type(error) for error in errors] == [DecryptionError]
        with pytest.raises(DecryptionError):
            list(sealed.scan())

    def test_after_a_rotation_old_and_new_ones_open_and_equal_ones_are_still_duplicates(
        self, lab: Lab, sealed: CommandStore
    ) -> None:
        old, new = some_commands(2)
        sealed.create(old)
        rotated = lab.open(crypto=CryptoService(bytes(32), old_keys=[bytes(range(32))]))
        assert rotated.create_many([old, new]).duplicate == (old.command_uuid,)
        lab.place.settle()
        assert rotated.list(with_total=False).commands == (old, new)
        with pytest.raises(DecryptionError, match=new.command_uuid):
            sealed.get(new.command_uuid)

    def test_an_altered_payload_is_named_and_concerns_no_other(self, lab: Lab, sealed: CommandStore) -> None:
        a, b, c = lab.fill(sealed, some_commands(3, data_bytes=SECRET))
        record = _stored(lab, sealed, b)
        altered = record.data[:-1] + bytes([record.data[-1] ^ 1])
        assert lab.do(sealed.core.backend.replace(record._replace(data=altered), "altered"))
        lab.place.settle()
        with pytest.raises(DecryptionError, match=b.command_uuid) as caught:
            sealed.get(b.command_uuid)
        assert caught.value.command_uuid == b.command_uuid
        page = sealed.list(with_total=False)
        assert page.commands == (a, c)
        assert [type(error) for error in page.corrupt] == [DecryptionError]

    @pytest.mark.parametrize("service", ["key", "envelopes"])
    def test_a_payload_of_another_command_does_not_open(
        self, lab: Lab, crypto: CryptoService, vault: TenantKeys, service: str
    ) -> None:
        store = lab.open(crypto=crypto if service == "key" else EnvelopeCrypto(vault))
        a, b = lab.fill(store, [a_command("a", 1, data_bytes=SECRET), a_command("b", 2, data_bytes=b"{}")])
        theirs = _stored(lab, store, b)
        moved = _stored(lab, store, a)._replace(data=theirs.data, cipher=theirs.cipher)
        assert lab.do(store.core.backend.replace(moved, "moved"))
        if service == "key" and store.core.backend.sealed_as_hex:
            # comby's cipher is bound to nothing, and its tables keep no digest to tell by: only envelopes can.
            assert store.get("a") == a_command("a", 1, data_bytes=b"{}")
            return
        with pytest.raises(DecryptionError, match="'a'"):
            store.get("a")
        assert store.get("b") == b
        assert a != b

    def test_commands_that_cant_be_decrypted_are_kept_when_told_to_and_never_written(
        self, lab: Lab, sealed: CommandStore
    ) -> None:
        a, b = some_commands(2, data_bytes=SECRET)
        sealed.create(a)
        other = lab.open(crypto=CryptoService(bytes(32)), on_undecryptable="keep")
        other.create(b)
        lab.place.settle()
        page = other.list(with_total=False)
        assert (len(page.commands), page.corrupt) == (2, ())
        kept, plain = page.commands
        assert isinstance(kept, SealedCommand)
        assert kept.data_bytes == lab.place.raw_payload(a.command_uuid)
        assert kept.model_dump(exclude={"data_bytes"}) == a.model_dump(exclude={"data_bytes"})
        assert plain == b
        assert list(other.scan()) == [kept, b]
        assert other.get(a.command_uuid) == kept
        for write in (other.create, other.update):
            with pytest.raises(InvalidCommand, match=a.command_uuid):
                write(kept)
        [failure] = other.create_many([kept]).failed
        assert isinstance(failure.error, InvalidCommand)
        assert sealed.get(a.command_uuid) == a

    def test_with_a_key_per_tenant_only_the_commands_of_a_destroyed_one_are_unreadable(
        self, lab: Lab, vault: TenantKeys
    ) -> None:
        store = lab.open(crypto=EnvelopeCrypto(vault))
        theirs, gone = a_command("a", 1, tenant_uuid="tenant-1"), a_command("b", 2, tenant_uuid="tenant-2")
        lab.fill(store, [theirs, gone])
        # Another process, whose keys come from the vault.
        again = lab.open(crypto=EnvelopeCrypto(vault))
        assert again.get_many(["a", "b"]) == {"a": theirs, "b": gone}
        assert sorted(again.create_many([theirs, gone]).duplicate) == ["a", "b"]
        vault.destroy("tenant-2")
        later = lab.open(crypto=EnvelopeCrypto(vault))
        page = later.list()
        assert (page.commands, page.total) == ((theirs,), 2)
        [error] = page.corrupt
        assert isinstance(error, DecryptionError)
        assert error.command_uuid == "b"
        assert "destroyed" in str(error)
        with pytest.raises(DecryptionError, match=r"'c'.*destroyed"):
            later.create(a_command("c", 3, tenant_uuid="tenant-2"))
        assert later.create_many([theirs]).duplicate == ("a",)


def _stored(lab: Lab, store: CommandStore, command: Command) -> Record:
    """The record as the backend has it."""
    [record] = lab.do(store.core.backend.fetch([command.command_uuid])).values()
    assert isinstance(record, Record)
    return record
