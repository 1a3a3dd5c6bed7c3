"""Real work, what it asks of AWS, and the table of needed actions held against it: no more and no less."""

from __future__ import annotations

import asyncio
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import boto3
import pytest

from commandstore import (
    Command,
    CommandStore,
    CommandStoreError,
    open_async_store,
    open_store,
    sync_async_command_store,
    sync_command_store,
)
from commandstore.aws.kms import KmsKeys
from commandstore.crypto import EnvelopeCrypto
from commandstore.drive import run
from commandstore.dynamodb.table import definition
from commandstore.entrypoints.keys import LateSigner
from commandstore.replication import copy_range, finish_backfill, plan_backfill
from commandstore.replication.verify import verify_async_command_stores, verify_command_stores
from commandstore.s3 import compaction
from commandstore.testing.comby import raw_insert_sqlite
from infra.iam import (
    NEEDED,
    Call,
    Need,
    Recorder,
    actions_of,
    allowed_by,
    differences,
    needed_actions,
    needed_keys,
    needs_of,
    recording,
)

LONG = b"x" * 600_000  # more than an item of DynamoDB holds
PREFIX = "audit/log"
STORES = ["dynamodb", "s3"]


def commands(first: int, count: int, size: int = 10) -> list[Command]:
    return [
        Command(f"c{n:05}", 1_700_000_000_000_000_000 + n, tenant_uuid=f"t{n % 2}", data_bytes=b"x" * size)
        for n in range(first, first + count)
    ]


class Keys(NamedTuple):
    """Two keys in KMS: the ledger's and the payloads', and what the digests' is wrapped in."""

    ledger: str
    payload: str
    digest: bytes


@pytest.fixture
def keys(moto_server, monkeypatch) -> Keys:
    """On moto: ministack comes without what its KMS needs for signing."""
    arguments = moto_server.client_arguments
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", moto_server.endpoint)
    monkeypatch.setenv("AWS_REGION", arguments["region_name"])
    with closing(boto3.client("kms", **arguments)) as client:
        ledger = client.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["Arn"]
        payload = client.create_key()["KeyMetadata"]["Arn"]
        return Keys(ledger, payload, KmsKeys.new_digest_key(payload, client=client))


class Work:
    """A SQLite source, a destination that was made before, and what roles do with the two."""

    def __init__(self, kind: str, path: Path, url: str) -> None:
        self.kind, self.path, self.url = kind, path, url
        self.keys: Keys | None = None
        self.source_url = f"sqlite:///{path}"
        open_store(self.source_url, create=True).close()
        with open_store(url, create=True):
            pass  # `commandstore init`, by somebody with more rights

    def add(self, *batches: list[Command]) -> None:
        with open_store(self.source_url) as store:
            for batch in batches:
                store.create_many(batch)

    def destination(self) -> CommandStore:
        """The destination; with keys, one that keeps a ledger and whose payloads are encrypted."""
        if self.keys is None:
            return open_store(self.url)
        crypto = EnvelopeCrypto(KmsKeys(self.keys.payload, digest_key=self.keys.digest))
        return open_store(self.url, crypto=crypto, signer=LateSigner(self.keys.ledger))

    def needed(self, role: str) -> frozenset[str]:
        """What a role must be allowed to do in this destination and with its keys."""
        store = needed_actions(self.kind, role=role)
        return store if self.keys is None else store.union(*(needed_keys(k, role=role) for k in ("ledger", "payload")))

    def by_another(self, batch: list[Command]) -> None:
        """What an application writes into the destination, one by one."""
        with self.destination() as store:
            for command in batch:
                store.create(command)

    def record(self, *steps: Callable[[CommandStore, CommandStore], object]) -> Recorder:
        with recording(f"{PREFIX}/") as recorder:
            for step in steps:
                with open_store(self.source_url, read_only=True) as source, self.destination() as destination:
                    step(source, destination)
        return recorder


@pytest.fixture(params=STORES)
def work(request, tmp_path, monkeypatch) -> Iterator[Work]:
    engine = request.getfixturevalue("ministack")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    # A bulk write compacts a piece of the inbox once it has seen so many commands in it.
    monkeypatch.setattr(compaction, "_MOST_LETTERS", 4)
    path = f"/{PREFIX}" if request.param == "s3" else ""
    query = f"region={engine.client_arguments['region_name']}&endpoint_url={engine.endpoint}"
    done = Work(request.param, tmp_path / "app.db", f"{request.param}://iam-{uuid.uuid4().hex[:8]}{path}?{query}")
    yield done
    with open_store(done.url) as store:
        run(store.core.backend.clear())  # with the ledger that it may keep


class Bare(NamedTuple):
    kind: str
    url: str


@pytest.fixture(params=STORES)
def bare(request, monkeypatch) -> Bare:
    """A table or a bucket, empty, as a template makes it."""
    engine = request.getfixturevalue("ministack")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    name = f"bare-{uuid.uuid4().hex[:8]}"
    with closing(boto3.client(request.param, **engine.client_arguments)) as client:
        if request.param == "dynamodb":
            client.create_table(**definition(name))
        else:
            client.create_bucket(Bucket=name)
    path = f"/{PREFIX}" if request.param == "s3" else ""
    query = f"region={engine.client_arguments['region_name']}&endpoint_url={engine.endpoint}"
    return Bare(request.param, f"{request.param}://{name}{path}?{query}")


def poison(path: Path) -> None:
    with closing(sqlite3.connect(path)) as application:
        raw_insert_sqlite(application, uuid="poison", created_at=1, domain=b"\xff")


def synced(source, destination, **options):
    return sync_command_store(source, destination, skip_on_error=True, lease_seconds=60, batch_size=40, **options)


def killed(source, destination) -> None:
    def now(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synced(source, destination, progress=now)


def verified(source, destination):
    return verify_command_stores(source, destination)


def everything_a_sync_meets(work: Work) -> set[Call]:
    calls: set[Call] = set()

    def run(*steps) -> None:
        calls.update(work.record(*steps).calls)

    run(synced)  # nothing
    work.add(commands(0, 30))
    work.by_another([*commands(0, 6), *commands(100, 6, size=7), Command("app", 3)])
    work.add(commands(100, 6))  # conflicts
    run(synced, synced)
    work.add([Command("long-1", 1_700_000_000_000_001_000, data_bytes=LONG), *commands(200, 90)])
    work.by_another([Command("long-2", 1_700_000_000_000_001_001, data_bytes=LONG)])
    work.add([Command("long-2", 1_700_000_000_000_001_001, data_bytes=LONG[:-1])])  # its parts are removed again
    run(killed, synced)
    work.add([Command("one", 1_700_000_000_000_002_000)])
    run(synced)
    work.add([Command("long-3", 1_700_000_000_000_002_001, data_bytes=LONG)])
    run(synced)
    poison(work.path)
    run(synced, synced)
    run(lambda source, destination: synced(source, destination, dry_run=True))
    run(lambda source, destination: synced(source, destination, resume_from_dest=False))
    run(lambda source, destination: synced(source, destination, tenant_uuid="t1"))
    for batch in range(12):  # so many segments that they are merged
        work.add(commands(1000 + batch * 10, 10))
        run(synced)
    return calls


def test_a_sync_needs_these_actions_and_no_others(work, keys) -> None:
    """Also where it keeps a ledger, whose entries and leaves are registers like the others, and seals payloads."""
    work.keys = keys
    calls = everything_a_sync_meets(work)
    assert actions_of(calls) == work.needed("sync")
    assert keys_used(calls, "Sign") == keys_used(calls, "GetPublicKey") == {keys.ledger.rpartition("/")[2]}
    # The digests' key says in itself what wrapped it.
    assert keys_used(calls, "GenerateDataKey") | keys_used(calls, "Decrypt") == {keys.payload.rpartition("/")[2], ""}


def keys_used(calls: set[Call], operation: str) -> set[str]:
    """Their ids, which moto gives back in place of a whole ARN."""
    return {c.resource.rpartition("/")[2] for c in calls if (c.service, c.operation) == ("kms", operation)}


def test_a_verification_needs_these_actions_and_no_others(work, keys) -> None:
    work.keys = keys
    work.add([*commands(0, 60), Command("long-1", 1_700_000_000_000_001_000, data_bytes=LONG)])
    work.record(synced)
    with work.destination() as destination:
        destination.delete("c00003")
        destination.update(Command("c00004", 9, data_bytes=b"other"))
        destination.update(Command("long-1", 9, data_bytes=LONG[:-1]))
        destination.create(Command("extra", 8))
    poison(work.path)
    recorder = work.record(
        verified, lambda source, destination: verify_command_stores(source, destination, tenant_uuid="t1")
    )
    report = verify_command_stores(*(stores := (open_store(work.source_url, read_only=True), work.destination())))
    for store in stores:
        store.close()
    assert (report.missing, report.altered, report.extra) == (1, 2, 1)
    assert actions_of(recorder.calls) == work.needed("verify")
    if work.kind == "dynamodb":
        queried = {need.resource for need in needs_of(recorder.calls) if need.action == "dynamodb:Query"}
        assert queried == {"index/by_time", "index/by_tenant"}


def test_the_steps_of_a_backfill_need_these_actions_and_no_others(work, keys) -> None:
    work.keys = keys
    work.add(commands(0, 70), [Command("long-1", 1_700_000_000_000_001_000, data_bytes=LONG)])
    work.by_another([*commands(0, 8), *commands(30, 3, size=5), Command("app", 3)])
    planned = []

    def plan(source, destination) -> None:
        planned[:] = [plan_backfill(source, destination, commands_per_range=20)]

    def copy(source, destination) -> None:
        for piece in planned[0].ranges:
            copy_range(source, destination, piece, batch_size=10)

    def finish(source, destination) -> None:
        finish_backfill(source, destination, planned[0].plan)

    for role, step in (("plan", plan), ("copy_range", copy), ("finish", finish)):
        # Twice: it may be run again.
        assert actions_of(work.record(step, step).calls) <= work.needed(role)
        if role != "copy_range":  # which meets less here than a sync may; it writes by the same code
            assert actions_of(work.record(step).calls) == work.needed(role)


def test_what_a_sync_removes_from_a_bucket_is_what_the_manifest_has_taken_over(work) -> None:
    calls = everything_a_sync_meets(work)
    assert actions_of(calls) == work.needed("sync")  # without keys, none of theirs
    needs = needs_of(calls)
    if work.kind == "s3":
        assert {need.resource for need in needs if need.action == "s3:DeleteObject"} == {"inbox/"}
    assert {need.resource for need in needs if need.action == "dynamodb:PartiQLInsert"} <= {"table"}


def test_on_asyncio_it_asks_for_the_same(work) -> None:
    work.add(commands(0, 30), [Command("long-1", 1_700_000_000_000_001_000, data_bytes=LONG)])
    work.by_another(commands(0, 6))

    async def main() -> None:
        async with (
            await open_async_store(work.source_url, read_only=True) as source,
            await open_async_store(work.url, create=False) as destination,
        ):
            await sync_async_command_store(source, destination, lease_seconds=60)
            assert (await verify_async_command_stores(source, destination)).missing == 0

    with recording(f"{PREFIX}/") as recorder:
        asyncio.run(main())
    assert actions_of(recorder.calls) == needed_actions(work.kind, role="sync") | needed_actions(
        work.kind, role="verify"
    )


def test_what_a_template_made_is_refused_until_somebody_has_initialised_it(bare) -> None:
    with pytest.raises(CommandStoreError, match="commandstore init"):
        open_store(bare.url, create=False)
    with recording(f"{PREFIX}/") as recorder:
        open_store(bare.url, create=True).close()
    assert actions_of(recorder.calls) == needed_actions(bare.kind, role="init")
    open_store(bare.url, create=False).close()


# The tools themselves


def test_a_policy_is_read_as_what_it_allows() -> None:
    document = {
        "Statement": [
            {"Effect": "Allow", "Action": ["s3:GetObject", "sqs:SendMessage"], "Resource": "*"},
            {"Fn::If": ["C", {"Effect": "Allow", "Action": "s3:PutObject", "Resource": "*"}, {"Ref": "AWS::NoValue"}]},
            {"Effect": "Deny", "Action": "s3:DeleteObject", "Resource": "*"},
        ]
    }
    assert allowed_by(document, "s3") == {"s3:GetObject", "s3:PutObject"}
    assert allowed_by(document) == {"s3:GetObject", "s3:PutObject", "sqs:SendMessage"}


@pytest.mark.parametrize(
    "statement",
    [{"Action": "s3:*"}, {"Action": ["s3:Get*"]}, {"NotAction": "s3:PutObject"}, {"Action": "a:B", "NotResource": "x"}],
)
def test_what_nobody_can_tell_the_extent_of_is_refused(statement) -> None:
    with pytest.raises(ValueError, match=r"exclusion|wildcard"):
        allowed_by({"Statement": {"Effect": "Allow", "Resource": "*", **statement}})


def test_what_a_policy_has_too_much_and_too_little_is_told() -> None:
    actions = [*NEEDED["finish"]["dynamodb"] - {"dynamodb:PutItem"}, "dynamodb:Scan", "sqs:SendMessage"]
    document = {"Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}]}
    assert differences("dynamodb", "finish", document) == {
        "needless": ["dynamodb:Scan"],
        "lacking": ["dynamodb:PutItem"],
    }


def test_an_operation_that_nobody_has_looked_up_fails() -> None:
    with pytest.raises(KeyError):
        actions_of([Call("dynamodb", "TransactWriteItems", "table")])


def test_what_each_call_needs_says_on_what() -> None:
    assert needs_of([Call("s3", "PutObject", "registers/", "if-match")]) == {
        Need("s3:PutObject", "registers/"),
        Need("s3:GetObject", "registers/"),
    }
    assert needed_actions("s3", role="backfill") == NEEDED["sync"]["s3"]
