"""Keys whose register the store of keys can't read: that is one tenant's trouble."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from commandstore import Command, CommandStore, DecryptionError, open_store
from commandstore.crypto import EnvelopeCrypto
from commandstore.memory import MemoryBackend
from commandstore.vault import LocalRoot, TenantKeys


def test_a_register_that_can_t_be_read_concerns_its_tenant_alone(tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path}/keys.db", create=True) as vault, CommandStore(MemoryBackend()) as store:

        def crypto() -> EnvelopeCrypto:
            return EnvelopeCrypto(TenantKeys(vault, LocalRoot(bytes(32))))

        store.init(crypto=crypto())
        for tenant in ("t", "u"):
            store.create(Command(f"of {tenant}", 1, tenant_uuid=tenant, data_bytes=b"payload"))
        with closing(sqlite3.connect(tmp_path / "keys.db", isolation_level=None)) as raw:
            changed = raw.execute(
                "UPDATE commandstore_registers SET value = 12 WHERE CAST(value AS TEXT) LIKE ?", ('%"tenant":"t"%',)
            )
            assert changed.rowcount == 1
        store.init(crypto=crypto())
        page = store.list()
        assert [command.command_uuid for command in page.commands] == ["of u"]
        [error] = page.corrupt
        assert isinstance(error, DecryptionError)
        assert error.command_uuid == "of t"
        assert "keys of tenant 't'" in str(error)
        assert "register 'keys/" in str(error)
        assert "restore that register, and do not remove it" in str(error)
        keys = TenantKeys(vault, LocalRoot(bytes(32)))
        for change in (keys.generate, keys.rotate, keys.destroy):
            with pytest.raises(DecryptionError, match="can't be read"):
                change("t")
