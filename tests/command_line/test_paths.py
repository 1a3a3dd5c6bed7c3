"""Whatever a path leads to that can't be, each command that takes one says so in one line."""

from __future__ import annotations

import pytest

from commandstore import open_store

TOO_LONG = "x" * 300
# A command for each path that one takes: P.
COMMANDS = [
    "info sqlite:///P",
    "init sqlite:///P",
    "sync sqlite:///P URL",
    "sync URL sqlite:///P",
    "create URL --data-file P",
    "create URL --key-file P",
    "create URL --signing-key P",
    "get URL u --key-file P",
    "ls URL --key-file P",
    "export URL P",
    "export URL --key-file P",
    "sync URL URL --source-key-file P",
    "sync URL URL --key-file P",
    "sync URL URL --signing-key P",
    "verify URL URL --source-key-file P",
    "verify URL URL --key-file P",
    "verify URL URL --repair --signing-key P",
    "reset URL --yes --signing-key P",
    "audit keygen P",
    "audit verify URL --public-key P",
    "audit verify URL --public-key KEY.pub --checkpoint P",
    "audit prove URL u --out P",
    "audit check P --public-key KEY.pub",
    "audit check P --ledger KEY --public-key KEY.pub",
    "audit check KEY --ledger P --public-key KEY.pub",
    "audit check KEY --public-key P",
    "audit check KEY --public-key KEY.pub --command P",
    "audit adopt URL --signing-key P",
    "audit adopt URL --signing-key KEY --public-key P",
    "keys new P",
    "keys rotate P",
    "keys rotate P --tenant t",
    "keys tenant-destroy P t --yes",
]


@pytest.fixture
def place(cli, tmp_path, monkeypatch):
    """A folder to be in, with a store and a key."""
    monkeypatch.chdir(tmp_path)
    assert cli("audit", "keygen", "KEY").code == 0
    with open_store("sqlite:///store.db", create=True):
        pass
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_a_path_that_is_too_long_is_told_in_one_line(refused, place, command):
    before = {path.name for path in place.iterdir()}
    values = {"P": TOO_LONG, "sqlite:///P": f"sqlite:///{TOO_LONG}", "URL": "sqlite:///store.db"}
    refused(*(values.get(word, word) for word in command.split()))
    assert {path.name for path in place.iterdir()} == before


def test_a_place_for_a_proof_is_looked_at_before_the_ledger_is(refused, place):
    (place / "loop").symlink_to("loop")
    (place / "nowhere").symlink_to("absent")
    prove = ("audit", "prove", "sqlite:///store.db", "u", "--out")
    assert "can't write 'loop/proof'" in refused(*prove, "loop/proof")
    assert "'nowhere' is there already" in refused(*prove, "nowhere")
    assert not (place / "absent").exists()


def test_a_key_file_behind_a_link_in_a_circle_is_told_in_one_line(refused, place):
    (place / "loop").symlink_to("loop")
    assert "'" + str(place / "loop/file") + "'" in refused("keys", "rotate", "loop/file")
