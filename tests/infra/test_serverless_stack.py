"""The stack of serverless.yml on ministack: as the framework deploys it, with stand-ins for the handlers.

ministack's CloudFormation passes over some properties, so those are looked at in the template alone: a bucket's Object
Lock and lifecycle, a function's VPC and reserved concurrency. It keeps no history of a distributed map's items, so
their calls are counted by what the functions print.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from commandstore import Command, open_store
from commandstore.testing.engines import Engine
from infra import serverless_rig as rig
from infra.serverless_rig import Cloud

SECRET = "arn:aws:secretsmanager:us-east-1:000000000000:secret:source-AbCdEf"
LEDGER_KEY = "arn:aws:kms:us-east-1:000000000000:key/00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("serverless") / "service"
    return rig.or_skip(lambda: rig.package(directory, "test", {"sourceSecretArn": SECRET, "ledgerKeyArn": LEDGER_KEY}))


@pytest.fixture(scope="module")
def cloud(ministack: Engine) -> Cloud:
    return Cloud(ministack)


@pytest.fixture(scope="module")
def outputs(cloud: Cloud, packaged: Path) -> Iterator[dict[str, str]]:
    yield rig.deploy(cloud, packaged, "commandstore-test", {})
    rig.remove(cloud, "commandstore-test")
    dynamodb = cloud.client("dynamodb")
    # The stack is gone, and the table is not.
    assert dynamodb.describe_table(TableName="commandstore-test")["Table"]["DeletionProtectionEnabled"]
    dynamodb.update_table(TableName="commandstore-test", DeletionProtectionEnabled=False)
    dynamodb.delete_table(TableName="commandstore-test")


@pytest.fixture
def url_of(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """A store's URL, at the engine."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    return lambda url: f"{url}&endpoint_url={cloud.endpoint}"


def test_the_stacks_table_is_a_store(outputs: dict[str, str], url_of: Callable[[str], str]) -> None:
    url = url_of(outputs["DestinationUrl"])
    with open_store(url, create=True) as store:
        store.create(Command("one", 1, tenant_uuid="acme"))
    with open_store(url) as store:
        assert [command.command_uuid for command in store.list(tenant_uuid="acme").commands] == ["one"]
        assert store.total() == 1


def test_functions_start_with_what_the_stack_says(cloud: Cloud, outputs: dict[str, str]) -> None:
    target = cloud.client("scheduler").get_schedule(Name="commandstore-test-sync")["Target"]
    answer = cloud.client("lambda").invoke(FunctionName=target["Arn"], Payload=target["Input"])
    said = json.loads(answer["Payload"].read())
    assert said["event"] == {}
    # Of the two places for the source, the one that was given.
    given = {"COMMANDSTORE_SOURCE_SECRET", "COMMANDSTORE_DESTINATION", "COMMANDSTORE_LEDGER_KEY"}
    assert given <= set(said["settings"])
    left_out = {"SOURCE_PARAMETER", "SOURCE_KEYS_SECRET", "DESTINATION_KEYS_SECRET"}
    assert not {f"COMMANDSTORE_{name}" for name in left_out} & set(said["settings"])
    assert outputs["DestinationUrl"] == "dynamodb://commandstore-test?region=us-east-1"


def test_a_backfill_copies_all_ranges_and_then_finishes(cloud: Cloud, outputs: dict[str, str]) -> None:
    ended = rig.run(cloud, outputs["BackfillStateMachineArn"], "{}")
    assert (ended["status"], json.loads(ended["output"])) == ("SUCCEEDED", {"plan": "p1", "settled": 2})
    states = rig.states_of(cloud, ended["executionArn"])
    assert states == ["Defaults", "Settings", "Plan", "CopyRanges", "Finish"]
    # Each range twice, since the first call says that it is not complete, and where the second one goes on.
    calls = sorted(rig.logged(cloud, "commandstore-test-copy-range", "copies"))
    assert calls == ["copies 0 50000", "copies 0 None", "copies 100000 150000", "copies 100000 None"]


def test_one_failed_range_fails_the_backfill_before_it_finishes(cloud: Cloud, outputs: dict[str, str]) -> None:
    ended = rig.run(cloud, outputs["BackfillStateMachineArn"], '{"commands_per_range": 13}')
    assert (ended["status"], ended["error"]) == ("FAILED", "States.ExceedToleratedFailureThreshold")
    assert rig.states_of(cloud, ended["executionArn"])[-1] == "CopyRanges"


def test_the_stacks_bucket_is_a_store(cloud: Cloud, tmp_path: Path, url_of: Callable[[str], str]) -> None:
    params = {"destination": "s3", "objectLockDays": "1", "subnetIds": "subnet-1,subnet-2", "securityGroupIds": "sg-1"}
    params |= {"sourceParameterName": "/db/url", "alarmEmail": "ops@example.com", "reservedConcurrency": "0"}
    packaged = rig.or_skip(lambda: rig.package(tmp_path / "service", "bucket", params))
    outputs = rig.deploy(cloud, packaged, "commandstore-bucket", {})
    bucket = outputs["AuditBucketName"]
    s3 = cloud.client("s3")
    try:
        assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
        assert set(s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values()) == {True}
        [statement] = json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])["Statement"]
        assert (statement["Effect"], statement["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})
        encryption = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
        assert encryption[0]["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
        with open_store(url_of(outputs["DestinationUrl"]), create=True) as store:
            store.create(Command("one", 1, tenant_uuid="acme"))
            assert [command.command_uuid for command in store.list(tenant_uuid="acme").commands] == ["one"]
    finally:
        rig.remove(cloud, "commandstore-bucket")
    s3.head_bucket(Bucket=bucket)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Destination", "tape"),
        ("SourceSecretArn", "my-secret"),
        ("SyncRate", "5 minutes"),
        ("SourceParameterName", "x"),
        ("LedgerKeyArn", "arn:aws:kms:us-east-1:000000000000:key/*"),
    ],
)
def test_a_param_that_cannot_be_right_is_refused_at_once(cloud: Cloud, packaged: Path, name: str, value: str) -> None:
    with pytest.raises(ClientError, match=name):
        rig.deploy(cloud, packaged, "commandstore-refused", {name: value})
    rig.remove(cloud, "commandstore-refused")
