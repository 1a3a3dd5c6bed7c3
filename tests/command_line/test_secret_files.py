"""A file with a key that every user can read is told of, once, whichever command reads it."""

from __future__ import annotations

import json
import os

import pytest

from command_line.program import KEY
from commandstore import open_store

pytestmark = pytest.mark.skipif(os.name != "posix", reason="files have no modes there")


@pytest.fixture
def place(cli, tmp_path, monkeypatch):
    """A folder with a store that has a ledger, its keys, and a store of keys."""
    monkeypatch.chdir(tmp_path)
    cli("audit", "keygen", "signing")
    cli("keys", "new", "key")
    cli("keys", "new", "root")
    for name in ("store", "sealed", "keys"):
        with open_store(f"sqlite:///{name}.db", create=True):
            pass
    (tmp_path / "tenants").write_text(
        json.dumps({"tenants": {"store": "sqlite:///keys.db", "root": {"key_file": "root"}}})
    )
    return tmp_path


def warnings(result):
    return [line for line in result.err.splitlines() if line.startswith("commandstore: warning: ")]


@pytest.mark.parametrize(
    ("secret", "command"),
    [
        ("key", "create sqlite:///sealed.db --key-file key"),
        ("key", "get sqlite:///sealed.db u --key-file key"),
        ("key", "ls sqlite:///sealed.db --key-file key"),
        ("key", "export sqlite:///sealed.db --key-file key"),
        ("key", "sync sqlite:///store.db sqlite:///sealed.db --source-key-file key --key-file key"),
        ("key", "verify sqlite:///store.db sqlite:///sealed.db --key-file key"),
        ("key", "keys rotate key"),
        ("root", "create sqlite:///sealed.db --key-file tenants"),
        ("root", "keys rotate tenants --tenant t"),
        ("root", "keys tenant-destroy tenants t --yes"),
        ("signing", "create sqlite:///store.db --signing-key signing"),
        ("signing", "sync sqlite:///sealed.db sqlite:///store.db --signing-key signing"),
        ("signing", "verify sqlite:///sealed.db sqlite:///store.db --repair --signing-key signing"),
        ("signing", "reset sqlite:///store.db --yes --signing-key signing"),
        ("signing", "audit adopt sqlite:///store.db --signing-key signing"),
    ],
)
def test_a_secret_that_everybody_can_read_is_told_of_once(cli, place, secret, command):
    cli("create", "sqlite:///other.db", "--tenant-uuid", "t", "--key-file", "tenants")
    for mode in (0o600, 0o640, 0o400):
        (place / secret).chmod(mode)
        assert not warnings(cli(*command.split()))
    (place / secret).chmod(0o644)
    for _ in range(2):
        [line] = warnings(cli(*command.split()))
        assert f"'{secret}' (mode 0644): chmod 600 it" in line


def test_what_holds_no_secret_is_not_told_of(cli, place):
    """A file that was refused, a public key, and the JSON of keys that are elsewhere."""
    for name in ("signing.pub", "tenants"):
        (place / name).chmod(0o644)
    (place / "nothing").write_text("no key")
    (place / "nothing").chmod(0o644)
    assert not warnings(cli("create", "sqlite:///sealed.db", "--key-file", "tenants"))
    assert not warnings(cli("ls", "sqlite:///sealed.db", "--key-file", "nothing"))
    assert not warnings(cli("audit", "verify", "sqlite:///store.db", "--public-key", "signing.pub", "--patience", "0"))


@pytest.mark.usefixtures("place")
def test_a_key_from_a_pipe_is_taken(cli):
    reader, writer = os.pipe()
    os.write(writer, KEY)
    os.close(writer)
    result = cli("create", "sqlite:///sealed.db", "--key-file", f"/dev/fd/{reader}")
    os.close(reader)
    assert (result.code, result.err) == (0, "")
