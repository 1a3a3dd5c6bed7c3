"""Key files on the command line."""

from __future__ import annotations

import base64
import json
import stat

import pytest

from command_line.program import KEY, PAYLOAD
from commandstore import Command, open_store
from commandstore.keyfile import crypto_from_file
from commandstore.testing.engines import Engine


@pytest.fixture
def tenants(tmp_path):
    """A key file of keys per tenant."""
    (tmp_path / "root").write_text(KEY.hex())
    (tmp_path / "root").chmod(0o600)
    url = f"sqlite:///{tmp_path}/keys.db"
    with open_store(url, create=True):
        pass
    path = tmp_path / "tenants.json"
    path.write_text(json.dumps({"tenants": {"store": url, "root": {"key_file": "root"}}}))
    return path


def create(cli, url, uuid, file, tenant="t"):
    return cli("create", url, "--command-uuid", uuid, "--tenant-uuid", tenant, "--data", PAYLOAD, "--key-file", file)


def test_new_makes_a_key_that_works_and_shows_nothing_of_it(cli, memory, tmp_path):
    file = tmp_path / "key"
    made = cli("keys", "new", file)
    assert (made.code, made.out) == (0, f"made {file}\n")
    key = file.read_text().splitlines()[-1]
    assert key not in made.out + made.err
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert create(cli, memory(), "c", file).code == 0
    assert cli("get", memory(), "c", "--key-file", file, "--json").document["tenant_uuid"] == "t"
    assert cli("get", memory(), "c").code == 1


def test_new_never_overwrites(cli, refused, tmp_path):
    file = tmp_path / "key"
    assert cli("keys", "new", file, "--json").document == {"key_file": str(file), "created": True}
    before = file.read_bytes()
    assert "already" in refused("keys", "new", file)
    assert file.read_bytes() == before


def test_rotate_keeps_old_ones_readable_and_duplicates_duplicates(cli, memory, key_file, tmp_path):
    create(cli, memory(), "old", key_file)
    with open_store(memory(), crypto=crypto_from_file(key_file)) as store:
        [command] = store.scan()
    rotated = cli("keys", "rotate", key_file)
    assert (rotated.code, rotated.out) == (0, f"a new key stands first in {key_file}\n")
    create(cli, memory(), "new", key_file)
    listed = cli("ls", memory(), "--key-file", key_file, "--json").document
    assert [one["command_uuid"] for one in listed["commands"]] == ["old", "new"]
    with open_store(memory(), crypto=crypto_from_file(key_file)) as store:
        assert store.create_many([command]).duplicate == ("old",)
    old = tmp_path / "old"
    old.write_bytes(KEY)
    assert cli("ls", memory(), "--key-file", old).code == 1


def test_rotate_of_a_tenant(cli, memory, tenants):
    create(cli, memory(), "c1", tenants)
    document = cli("keys", "rotate", tenants, "--tenant", "t", "--json").document
    assert document["tenant_uuid"] == "t"
    assert len(bytes.fromhex(document["key"])) == 8
    create(cli, memory(), "c2", tenants)
    assert cli("ls", memory(), "--key-file", tenants).code == 0


def test_rotate_says_what_it_cant(refused, tenants, key_file):
    assert "--tenant" in refused("keys", "rotate", tenants)
    assert "another kind" in refused("keys", "rotate", key_file, "--tenant", "t")


def test_tenant_destroy_makes_that_tenants_payloads_unreadable_alone(cli, refused, memory, tenants):
    for uuid, tenant in (("a", "t"), ("b", "u")):
        create(cli, memory(), uuid, tenants, tenant)
    assert "--yes" in refused("keys", "tenant-destroy", tenants, "t")
    assert cli("get", memory(), "a", "--key-file", tenants).code == 0
    destroyed = cli("keys", "tenant-destroy", tenants, "t", "--yes")
    assert destroyed.code == 0
    assert destroyed.out.startswith("the key of tenant t was destroyed on 20")
    gone = cli("get", memory(), "a", "--key-file", tenants)
    assert gone.code == 1
    assert "command 'a': the key of tenant 't' was destroyed on 20" in gone.err
    listed = cli("ls", memory(), "--key-file", tenants, "--total", "--json").document
    assert ([one["command_uuid"] for one in listed["commands"]], listed["total"]) == (["b"], 2)
    again = cli("keys", "tenant-destroy", tenants, "t", "--yes", "--json").document
    assert again["destroyed"] in destroyed.out
    assert again["already"] is True
    assert "was destroyed already, on 20" in cli("keys", "tenant-destroy", tenants, "t", "--yes").out


@pytest.mark.parametrize("tenant", ["typo", ""])
def test_a_tenant_that_never_had_a_key_is_an_error_and_may_have_one_later(cli, refused, memory, tenants, tenant):
    create(cli, memory(), "a", tenants)
    for command in (("tenant-destroy", tenants, tenant, "--yes"), ("rotate", tenants, "--tenant", tenant)):
        said = refused("keys", *command)
        assert said.startswith(f"tenant '{tenant}' has no key in sqlite:")
        assert said.endswith("; nothing was changed")
    assert create(cli, memory(), "b", tenants, tenant).code == 0
    destroyed = cli("keys", "tenant-destroy", tenants, tenant, "--yes", "--json").document
    assert (destroyed["tenant_uuid"], destroyed["already"]) == (tenant, False)


def test_kms_prints_a_key_file_that_works(cli, memory, tmp_path, ministack: Engine, monkeypatch):
    import boto3  # noqa: PLC0415 - this test alone needs the SDK

    client = boto3.client("kms", **ministack.client_arguments)
    key = client.create_key()["KeyMetadata"]["KeyId"]
    client.close()
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    printed = cli("keys", "kms", key, "--region", "us-east-1", "--endpoint-url", ministack.endpoint)
    assert printed.code == 0, printed.err
    assert base64.b64decode(printed.document["kms"]["digest_key"])
    file = tmp_path / "kms.json"
    file.write_text(printed.out)
    assert create(cli, memory(), "c", file).code == 0
    assert cli("get", memory(), "c", "--key-file", file, "--json").document["command_uuid"] == "c"
    with open_store(memory()) as store:
        assert [error.command_uuid for error in store.list().corrupt] == ["c"]


def test_keys_alone_says_what_there_is(cli):
    shown = cli("keys", "--help")
    assert shown.code == 0
    assert all(name in shown.out for name in ("new", "rotate", "tenant-destroy", "kms"))


def test_a_key_file_of_another_shape_is_refused(refused, memory, tmp_path):
    file = tmp_path / "bad"
    file.write_text(json.dumps({"kms": {"key_id": "k", "digest_key": KEY.hex(), "more": 1}}))
    assert "kms" in refused("ls", memory(), "--key-file", file)
    with open_store(memory()) as store:
        store.create(Command("c", 1))
