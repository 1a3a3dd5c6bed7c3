"""Whatever can't be right gets one clear error that says what to do, and nothing is changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from commandstore import open_store
from commandstore.errors import (
    AccessDenied,
    CommandStoreError,
    ConfigurationError,
    StoreNotFound,
    Unsupported,
)
from commandstore.registry import backend_from_url
from commandstore.store import CommandStore
from commandstore.testing.conformance.data import a_command
from commandstore.testing.engines import Engine
from commandstore.testing.faults.client import client_error
from s3.rig import PREFIX, Careless, Rig, rigs

OWNER = "123456789012"


@pytest.fixture
def rig(engine: Engine, drive: str) -> Iterator[Rig]:
    yield from rigs(engine, drive)


def refused(kind: type[CommandStoreError], store: CommandStore, *, create: bool = False) -> str:
    with pytest.raises(kind) as caught:
        store.init(create=create)
    assert type(caught.value) is kind
    return str(caught.value)


# Buckets


def test_a_missing_bucket_and_how_to_make_it(rig: Rig) -> None:
    said = refused(StoreNotFound, rig.make())
    assert f"there is no bucket {rig.bucket} at {rig.engine.endpoint}" in said
    assert f"commandstore init '{rig.url}'" in said
    assert rig.written() == []


def test_a_bucket_without_a_store_and_how_to_make_it(rig: Rig) -> None:
    rig.create_bucket()
    said = refused(StoreNotFound, rig.make())
    assert f"no object {PREFIX}manifest.json" in said
    assert f"commandstore init '{rig.url}'" in said
    assert rig.written() == []


def test_a_bucket_that_one_may_not_read(rig: Rig) -> None:
    rig.faults.fail("get_object", client_error("AccessDenied", 403))
    said = refused(AccessDenied, rig.make(), create=True)
    assert f"{PREFIX}manifest.json in bucket {rig.bucket}" in said
    assert "s3:GetObject" in said
    assert "s3:ListBucket" in said
    assert rig.written() == []


@pytest.mark.parametrize(("method", "action"), [("put_object", "s3:PutObject"), ("list_objects_v2", "s3:ListBucket")])
def test_a_store_that_one_may_not_make(rig: Rig, method: str, action: str) -> None:
    rig.create_bucket()
    rig.faults.fail(method, client_error("AccessDenied", 403))
    assert action in refused(AccessDenied, rig.make(), create=True)
    assert rig.objects() == {}


def test_a_bucket_of_another_account(rig: Rig) -> None:
    rig.open(create=True)
    rig.faults.fail("get_object", client_error("AccessDenied", 403))
    said = refused(AccessDenied, rig.make(expected_bucket_owner=OWNER))
    assert f"does not belong to account {OWNER}" in said


def test_a_bucket_s_name_that_another_account_took(rig: Rig) -> None:
    rig.faults.fail("create_bucket", client_error("BucketAlreadyExists", 409))
    said = refused(ConfigurationError, rig.make(), create=True)
    assert f"bucket {rig.bucket} belongs to another account" in said


# Prefixes


def test_a_prefix_that_holds_something_else_is_left_alone(rig: Rig) -> None:
    rig.create_bucket()
    rig.write("holiday.jpg", b"\xff")
    before = rig.objects()
    said = refused(ConfigurationError, rig.make(), create=True)
    assert "holds something else than a command store" in said
    assert "holiday.jpg" in said
    assert rig.written() == []
    assert rig.objects() == before


def test_what_lies_beside_the_prefix_is_in_nobody_s_way(rig: Rig) -> None:
    rig.create_bucket()
    for key in ("audit/holiday.jpg", "audit/log", "audit/log.txt", "audit/log2/manifest.json"):
        rig.raw.put_object(Bucket=rig.bucket, Key=key, Body=b"1")
    store = rig.open(create=True)
    store.create(a_command())
    store.reset()
    store.gc(0)
    there = rig.objects()
    assert all(there[key] == b"1" for key in ("audit/holiday.jpg", "audit/log", "audit/log.txt"))
    assert there["audit/log2/manifest.json"] == b"1"


def test_a_store_that_is_there_is_opened_and_not_made_again(rig: Rig) -> None:
    rig.open(create=True).create(a_command())
    before = rig.objects()
    assert rig.open(create=True).total() == 1
    assert rig.objects() == before


# Manifests


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff", b"{", b"null", b"[]", b'"manifest"', b"{}", b'{"format":1}', b'{"format":"1"}', b'{"version":2}'],
)
def test_a_manifest_that_is_none(rig: Rig, body: bytes) -> None:
    rig.create_bucket()
    rig.write("manifest.json", body)
    for create in (False, True):
        said = refused(ConfigurationError, rig.make(), create=create)
        assert f"object manifest.json in s3://{rig.bucket}/{PREFIX[:-1]}" in said
        assert "is no manifest of a command store" in said
    assert rig.written() == []


@pytest.mark.parametrize(
    ("before", "after"), [(b'"epoch":0', b'"epoch":1'), (b'"segments":[{', b'"segments":[],"old":[{'), (b"}", b"}\n")]
)
def test_a_manifest_that_was_edited(rig: Rig, before: bytes, after: bytes) -> None:
    rig.open(create=True).create_many([a_command("a"), a_command("b")])
    body = rig.read("manifest.json")
    assert before in body
    rig.write("manifest.json", after.join(body.rsplit(before, 1)))
    said = refused(ConfigurationError, rig.make())
    assert "object manifest.json" in said
    assert "was altered" in said
    rig.write("manifest.json", body)
    assert rig.open().total() == 2


def test_a_manifest_of_a_newer_format(rig: Rig) -> None:
    rig.open(create=True)
    rig.write("manifest.json", json.dumps({**rig.manifest(), "format": 2, "shards": 9}).encode())
    before = rig.objects()
    said = refused(ConfigurationError, rig.make(), create=True)
    assert "has format 2, and this release reads up to 1" in said
    assert "update" in said
    assert rig.objects() == before


def test_a_manifest_that_goes_bad_under_an_open_store(rig: Rig) -> None:
    store = rig.open(create=True)
    store.create_many([a_command("a"), a_command("b")])
    good = rig.read("manifest.json")
    rig.write("manifest.json", good[:-20])
    for call in (store.list, store.total, store.info, lambda: store.get("z"), lambda: store.create(a_command("c"))):
        with pytest.raises(ConfigurationError, match=r"object manifest\.json in s3://"):
            call()
    rig.delete("manifest.json")
    for call in (store.list, store.total, store.info, lambda: store.get("z"), lambda: store.create(a_command("c"))):
        with pytest.raises(StoreNotFound, match="commandstore init"):
            call()
    rig.write("manifest.json", good)
    assert store.total() == 3  # c was written before the manifest was looked at, and its fate was told as unknown


# URLs

REFUSED_URLS = {
    "s3://": "an S3 store is s3://BUCKET or s3://BUCKET/PREFIX",
    "s3:///audit": "an S3 store is s3://BUCKET or s3://BUCKET/PREFIX",
    f"s3://{'b' * 64}": "an S3 store is s3://BUCKET or s3://BUCKET/PREFIX",
    "s3://bücket": "an S3 store is s3://BUCKET or s3://BUCKET/PREFIX",
    "s3://AKIDEXAMPLE:s3cret@bucket": "credentials come from AWS's settings",
    "s3://bucket/a//b": "single slashes",
    "s3://bucket/a/../b": "printable ASCII",
    "s3://bucket/./b": "printable ASCII",
    "s3://bucket/%C3%A4": "printable ASCII",
    "s3://bucket/a%0Ab": "printable ASCII",
    f"s3://bucket/{'p' * 513}": "the prefix has more than 512 characters",
    "s3://bucket?sse=AES128": "sse is AES256 or aws:kms, not 'AES128'",
    "s3://bucket?sse=aes256": "sse is AES256 or aws:kms, not 'aes256'",
    "s3://bucket?sse=AES256&kms_key_id=k": "kms_key_id goes with sse=aws:kms",
    "s3://bucket?expected_bucket_owner=1234": "the account's id of twelve digits",
    "s3://bucket?expected_bucket_owner=12345678901%C2%B2": "the account's id of twelve digits",
    "s3://bucket?concurrency=0": "concurrency is a number from 1 to 128, not '0'",
    "s3://bucket?concurrency=129": "concurrency is a number from 1 to 128, not '129'",
    "s3://bucket?concurrency=-1": "concurrency is a number from 1 to 128, not '-1'",
    "s3://bucket?concurrency=%C2%B2": "concurrency is a number from 1 to 128",
    "s3://bucket?concurrency=": "concurrency is a number from 1 to 128",
    "s3://bucket?endpoint_url=127.0.0.1:4566": "endpoint_url must be like http://127.0.0.1:4566",
    "s3://bucket?endpoint_url=http://app:s3cret@host": "no user or password in endpoint_url",
    "s3://bucket?endpoint_url=http://[::1": "endpoint_url must be like",
    "s3://bucket?endpoint_url=http://host:99999": "endpoint_url must be like",
    "s3://bucket?bucket=other": "unknown option 'bucket'",
    "s3://bucket?sse=AES256&sse=AES256": "gives an option twice",
    "s3://bucket#audit": "write '#' in a store URL as %23",
}


@pytest.mark.parametrize(("url", "message"), REFUSED_URLS.items())
def test_a_url_that_can_not_be_right(url: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        backend_from_url(url)
    assert message in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_no_region_at_all() -> None:
    with pytest.raises(ConfigurationError, match=r"no AWS region is given for bucket audit: add \?region="):
        open_store("s3://audit")


def test_a_profile_that_is_not_there() -> None:
    with pytest.raises(ConfigurationError, match="nobody"):
        open_store("s3://audit?region=eu-central-1&profile=nobody")


def test_a_name_that_s3_does_not_take_for_a_bucket(engine: Engine) -> None:
    with pytest.raises(ConfigurationError, match="B_"):
        open_store(f"s3://B_?region=us-east-1&endpoint_url={engine.endpoint}", create=True)


def test_a_longest_prefix_has_room_for_every_key(rig: Rig) -> None:
    url = f"s3://{rig.bucket}/{'p' * 512}?region=us-east-1&endpoint_url={rig.engine.endpoint}"
    longest = a_command("\N{GRINNING FACE}" * 128)
    with open_store(url, create=True) as store:
        store.create(longest)
        assert store.get(longest.command_uuid) == longest


# What every request says

SAID = {
    "sse=AES256": {"ServerSideEncryption": "AES256"},
    "sse=aws:kms": {"ServerSideEncryption": "aws:kms"},
    "sse=aws:kms&kms_key_id=alias/audit": {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "alias/audit"},
    "kms_key_id=alias/audit": {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "alias/audit"},
    "": {},
}


def used(store: CommandStore) -> None:
    """Objects of every kind that a command makes, and what removes them."""
    store.create_many(a_command(f"m{n}", n) for n in range(20))
    store.create(a_command())
    store.update(a_command(domain="Other"))
    store.delete("m3")
    store.compact()
    store.gc(0)
    store.reset()


@pytest.mark.parametrize(("options", "expected"), SAID.items())
def test_the_encryption_is_asked_for_with_every_object(rig: Rig, options: str, expected: dict[str, str]) -> None:
    given = dict(pair.split("=") for pair in options.split("&") if pair)
    rig.faults = Careless("ServerSideEncryption", "SSEKMSKeyId")  # not every engine takes all that AWS takes
    used(rig.open(create=True, **given))
    puts = [request for method, request in rig.faults.requests if method == "put_object"]
    assert {request["Key"].removeprefix(PREFIX).partition("/")[0][:6] for request in puts} >= {
        "probe-",
        "manife",
        "inbox",
        "segmen",
        "indexe",
        "direct",
    }
    for request in puts:
        assert {name: request[name] for name in request if name.startswith(("Server", "SSE"))} == expected


@pytest.mark.parametrize("options", ["sse=AES256", "sse=aws:kms&kms_key_id=alias/audit"])
def test_the_encryption_in_the_url_is_the_object_s(rig: Rig, options: str) -> None:
    with open_store(f"{rig.url}&{options}", create=True) as store:
        store.create_many([a_command("a"), a_command("b")])
        store.create(a_command("c"))
    keys = rig.keys()
    assert len(keys) == 4
    for key in keys:
        head = rig.raw.head_object(Bucket=rig.bucket, Key=PREFIX + key)
        assert {name: head[name] for name in head if name.startswith(("Server", "SSE"))} == SAID[options]


def test_the_expected_owner_is_said_with_every_request(rig: Rig) -> None:
    rig.faults = Careless("ExpectedBucketOwner")
    rig.create_bucket()
    used(rig.open(create=True, expected_bucket_owner=OWNER))
    assert rig.faults.requests
    assert {request.get("ExpectedBucketOwner") for _, request in rig.faults.requests} == {OWNER}


def test_nothing_is_said_of_an_owner_where_none_is_expected(rig: Rig) -> None:
    used(rig.open(create=True))
    assert not any("ExpectedBucketOwner" in request for _, request in rig.faults.requests)


# Engines that don't keep their promises


@pytest.mark.parametrize(("parameter", "header"), [("IfNoneMatch", "If-None-Match"), ("IfMatch", "If-Match")])
def test_an_engine_that_passes_over_a_condition_is_refused(rig: Rig, parameter: str, header: str) -> None:
    rig.create_bucket()
    rig.faults = Careless(parameter)
    said = refused(Unsupported, rig.make(), create=True)
    assert f"{rig.engine.endpoint} ignores {header} on PutObject" in said
    assert rig.objects() == {}


def test_an_engine_that_has_no_conditions_is_refused(rig: Rig) -> None:
    rig.create_bucket()
    rig.faults.fail("put_object", client_error("NotImplemented", 501))
    assert "conditional writes are needed" in refused(Unsupported, rig.make(), create=True)
    assert rig.objects() == {}


# Object Lock

RETENTION = {
    "ObjectLockEnabled": "Enabled",
    "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}},
}
ERASING: dict[str, Any] = {
    "update": lambda store: store.update(a_command("a", domain="Other")),
    "delete": lambda store: store.delete("a"),
    "reset": lambda store: store.reset(),
    "gc": lambda store: store.gc(0),
}


@pytest.fixture
def locked(rig: Rig) -> Rig:
    """A bucket that keeps every object for a day, and a store in it."""
    rig.create_bucket(ObjectLockEnabledForBucket=True)
    rig.raw.put_object_lock_configuration(Bucket=rig.bucket, ObjectLockConfiguration=RETENTION)
    store = rig.open(create=True)
    store.create_many([a_command("a", 1), a_command("b", 2)])
    return rig


@pytest.mark.parametrize("what", ERASING)
def test_what_is_to_erase_is_refused_where_nothing_can_be_erased(locked: Rig, what: str) -> None:
    store, before = locked.open(), locked.objects()
    locked.faults.requests.clear()
    for _ in range(2):
        with pytest.raises(Unsupported) as caught:
            ERASING[what](store)
        assert f"bucket {locked.bucket} keeps every object by Object Lock (GOVERNANCE): {what} " in str(caught.value)
    assert locked.written() == []
    assert locked.objects() == before


def test_what_erases_nothing_works_in_a_locked_bucket(locked: Rig) -> None:
    store = locked.open()
    store.create(a_command("c", 3))
    assert store.create_many([a_command("d", 4), a_command("c", 3)]).duplicate == ("c",)
    assert store.compact()["inbox_moved"] == 1
    for reader in (store, locked.open()):
        assert reader.get("c") == a_command("c", 3)
        commands, total = reader.list()
        assert [command.command_uuid for command in commands] == ["a", "b", "c", "d"]
        assert total == 4
    assert store.info().num_items == 4


def test_a_bucket_with_object_lock_but_no_default_retention_is_as_any_other(rig: Rig) -> None:
    rig.create_bucket(ObjectLockEnabledForBucket=True)
    store = rig.open(create=True)
    store.create_many([a_command("a", 1), a_command("b", 2)])
    for erase in ERASING.values():
        erase(store)
    assert store.total() == 0


@pytest.mark.parametrize("what", ERASING)
def test_where_the_lock_may_not_be_asked_for_nothing_is_erased(rig: Rig, what: str) -> None:
    store = rig.open(create=True)
    store.create_many([a_command("a"), a_command("b")])
    before = rig.objects()
    rig.faults.fail("get_object_lock_configuration", client_error("AccessDenied", 403))
    with pytest.raises(AccessDenied, match="s3:GetBucketObjectLockConfiguration"):
        ERASING[what](store)
    assert rig.objects() == before
