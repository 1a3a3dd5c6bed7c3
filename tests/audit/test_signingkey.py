"""Signing keys: named, made, and never shown."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from commandstore import ConfigurationError
from commandstore.ledger import Ed25519Signer, Verifier
from commandstore.signingkey import new_signing_key, public_keys_from, signer_from


def test_a_new_key_is_its_owners_alone_and_fits_its_public_half(tmp_path: Path) -> None:
    path = tmp_path / "key"
    public, key_id = new_signing_key(path)
    assert public == tmp_path / "key.pub"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    signer = signer_from(str(path))
    assert isinstance(signer, Ed25519Signer)
    assert signer.key_id == key_id
    assert Verifier(public_keys_from([public])).key_ids == (key_id,)


@pytest.mark.parametrize("taken", ["key", "key.pub"])
def test_nothing_is_overwritten_and_nothing_half_made(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).write_text("mine")
    with pytest.raises(ConfigurationError, match="already"):
        new_signing_key(tmp_path / "key")
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [(taken, "mine")]
    with pytest.raises(ConfigurationError, match="can't write"):
        new_signing_key(tmp_path / "nowhere" / "key")


def test_what_is_no_key_is_named_and_not_shown(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("hunter2")
    with pytest.raises(ConfigurationError, match="key") as raised:
        signer_from(tmp_path / "key")
    assert "hunter2" not in str(raised.value)
    for name in ("absent", "."):
        with pytest.raises(ConfigurationError, match="can't read the signing key"):
            signer_from(tmp_path / name)
    with pytest.raises(ConfigurationError, match="can't read the public key"):
        public_keys_from([tmp_path / "absent"])


@pytest.mark.parametrize("name", ["kms:", "kms:key?color=red"])
def test_a_key_in_kms_has_a_name_and_few_options(name: str) -> None:
    with pytest.raises(ConfigurationError, match="named kms:KEY"):
        signer_from(name)


def test_a_key_in_kms_is_asked_for_with_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(
        "commandstore.aws.kms_signer.KmsSigner", lambda key, **options: made.append((key, options)) or "signer"
    )
    assert signer_from("kms:alias/ledger?region=eu-central-1&endpoint_url=http://127.0.0.1:1") == "signer"
    assert made == [("alias/ledger", {"region": "eu-central-1", "endpoint_url": "http://127.0.0.1:1"})]
