"""The AWS example applied against an emulator; then the sync runs on what Terraform made, and all is destroyed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from commandstore import open_store, sync_command_store
from commandstore.dynamodb.table import definition, fault
from commandstore.entrypoints.settings import read_settings
from commandstore.testing.comby import create_sqlite, insert_sqlite, sample_commands
from commandstore.testing.engines import Engine
from infra.iam import allowed_by, needed_actions
from infra.terraform_rig import INFRA, Workspace, empty_package, resources

COMMANDS = 300
VPC = {"subnet_ids": ["subnet-0a1b2c3d4e5f60718"], "security_group_ids": ["sg-0a1b2c3d4e5f60718"]}


class Stack:
    """The example as it was applied."""

    def __init__(self, place: Path, engine: Engine, **variables: Any) -> None:
        self.engine = engine
        self.arguments = engine.client_arguments
        self.workspace = Workspace(place, "examples/complete")
        self.workspace.init()
        self.workspace.apply(
            {
                "endpoint_url": engine.endpoint,
                "region": self.arguments["region_name"],
                "package_path": empty_package(place),
                "protect": False,
                **variables,
            }
        )
        self.outputs = self.workspace.outputs()
        self.resources = resources(self.workspace.show())

    def client(self, service: str) -> Any:
        return boto3.client(service, **self.arguments)

    def url(self, scheme: str) -> str:
        [url] = [url for url in self.outputs["store_urls"] if url.startswith(scheme)]
        return f"{url}&endpoint_url={self.engine.endpoint}"

    def policies(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Role and policy of each inline policy."""
        for address, values in self.resources.items():
            if ".aws_iam_role_policy." in address:
                yield values["role"], json.loads(values["policy"])


@pytest.fixture(scope="module")
def stack(ministack, tmp_path_factory) -> Iterator[Stack]:
    """Everything, on ministack."""
    made = Stack(tmp_path_factory.mktemp("stack"), ministack, name="tf-commands", bucket="tf-commands-audit", vpc=VPC)
    yield made
    made.workspace.destroy()
    assert made.workspace.show().get("values") is None
    left = made.client("dynamodb").list_tables()["TableNames"]
    assert not [name for name in left if name.startswith("tf-commands")]


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("source") / "app.db"
    create_sqlite(path, "C")
    insert_sqlite(path, sample_commands(COMMANDS, payload="mixed"))
    return f"sqlite:///{path}"


def assert_copied(source_url: str, destination_url: str, *, create: bool = False) -> None:
    with open_store(source_url, read_only=True) as source, open_store(destination_url, create=create) as destination:
        report = sync_command_store(source, destination, source_name="app")
        assert (report.complete, report.copied, report.failed) == (True, COMMANDS, 0)
        assert sync_command_store(source, destination, source_name="app").copied == 0
        assert list(destination.scan()) == list(source.scan())


def the_table_is_a_store_at_once(stack, source, monkeypatch) -> None:
    with_credentials(monkeypatch)
    described = stack.client("dynamodb").describe_table(TableName="tf-commands")["Table"]
    assert fault(described) is None
    expected = definition("tf-commands")
    for name in ("KeySchema", "AttributeDefinitions"):
        assert sorted(map(str, described[name])) == sorted(map(str, expected[name]))
    # Without `commandstore init`: Terraform wrote the settings, and nothing has to be made any more.
    assert_copied(source, stack.url("dynamodb"))


def the_bucket_becomes_a_store_by_its_first_sync(stack, source, monkeypatch) -> None:
    """On ministack, which lets plain HTTP in; moto heeds the bucket's policy."""
    with_credentials(monkeypatch)
    assert_copied(source, stack.url("s3"), create=True)
    empty(stack.client("s3"), "tf-commands-audit")


def empty(s3: Any, bucket: str) -> None:
    """Remove every version: on ministack `force_destroy` does not come to an end with what a store leaves."""
    listed = s3.list_object_versions(Bucket=bucket)
    for version in [*listed.get("Versions", ()), *listed.get("DeleteMarkers", ())]:
        s3.delete_object(Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"])
    listed = s3.list_object_versions(Bucket=bucket)
    assert not listed.get("Versions")
    assert not listed.get("DeleteMarkers")


def with_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")


def the_functions_environment_is_what_the_code_takes(stack, monkeypatch) -> None:
    [found] = [
        stack.client("lambda").get_function_configuration(FunctionName=name)
        for key, name in stack.outputs["function_names"].items()
        if key == "sync"
    ]
    for name, value in found["Environment"]["Variables"].items():
        monkeypatch.setenv(name, value)
    settings = read_settings()
    assert settings.source_secret == stack.outputs["secret_arn"]
    assert stack.url("dynamodb").startswith(settings.destination)


def each_role_may_do_in_the_destination_what_its_code_does_and_no_more(stack) -> None:
    for sync, store in (("tf-commands-sync", "dynamodb"), ("tf-commands-to-s3", "s3")):
        allowed: dict[str, set[str]] = {}
        for role, policy in stack.policies():
            if role.startswith(sync):
                allowed.setdefault(role.removeprefix(f"{sync}-"), set()).update(allowed_by(policy, "dynamodb", "s3"))
        verify = needed_actions(store, role="verify")
        assert allowed.pop("sync") == needed_actions(store, role="sync") | verify
        assert allowed.pop("verify") == verify
        assert not allowed.pop("scheduler")
        if store == "dynamodb":
            assert not allowed.pop("backfill")
            for role in ("plan", "copy-range", "finish"):
                assert allowed.pop(role) == needed_actions(store, role=role.replace("-", "_"))
        assert not allowed


def policies_name_what_they_are_about(stack) -> None:
    policies = list(stack.policies())
    assert policies
    for role, policy in policies:
        allowed_by(policy)  # no wildcard among the actions
        for statement in policy["Statement"]:
            found = statement["Resource"]
            if "*" in ([found] if isinstance(found, str) else found):
                # What the Lambda service does in a VPC; the code is denied it.
                assert statement["Sid"] in {"NetworkAllow", "NetworkDeny"}, role
    denied = [s for _, policy in policies for s in policy["Statement"] if s["Effect"] == "Deny"]
    assert len(denied) == len([role for role, policy in policies if "NetworkAllow" in json.dumps(policy)]) == 7
    for statement in denied:
        assert set(statement["Condition"]) == {"ArnEquals"}


def the_state_machine_calls_the_three_functions(stack) -> None:
    arn = stack.outputs["state_machine_arn"]
    text = stack.client("stepfunctions").describe_state_machine(stateMachineArn=arn)["definition"]
    assert "${" not in text
    names = stack.outputs["function_names"]
    for key in ("plan", "copy_range", "finish"):
        assert text.count(f':function:{names[key]}"') == 1
    shipped = json.loads((INFRA / "backfill.asl.json").read_text("utf-8"))
    labels = {state["Label"] for state in shipped["States"].values() if "Label" in state}
    [redrive] = [
        statement["Resource"]
        for _, policy in stack.policies()
        for statement in policy["Statement"]
        if statement["Action"] == "states:RedriveExecution"
    ]
    assert {redrive.split("/")[-1].removesuffix(":*")} == labels


def a_schedule_calls_each_function_with_a_constant_event(stack) -> None:
    scheduler = stack.client("scheduler")
    for key in ("sync", "verify"):
        name = stack.outputs["function_names"][key]
        schedule = scheduler.get_schedule(GroupName="tf-commands-sync", Name=name)
        assert schedule["Target"]["Input"] == "{}"
        assert schedule["Target"]["Arn"].endswith(f":function:{name}")


def test_the_example_is_applied_used_and_destroyed(stack, source, monkeypatch) -> None:
    """One test, as to make the stack takes more than a minute, and every worker would make it."""
    with monkeypatch.context() as patch:
        the_table_is_a_store_at_once(stack, source, patch)
    with monkeypatch.context() as patch:
        the_bucket_becomes_a_store_by_its_first_sync(stack, source, patch)
    with monkeypatch.context() as patch:
        the_functions_environment_is_what_the_code_takes(stack, patch)
    each_role_may_do_in_the_destination_what_its_code_does_and_no_more(stack)
    policies_name_what_they_are_about(stack)
    the_state_machine_calls_the_three_functions(stack)
    a_schedule_calls_each_function_with_a_constant_event(stack)


@pytest.mark.skipif("COMMANDSTORE_SECOND_OPINION" not in os.environ, reason="two minutes: a second engine, by hand")
def test_a_second_apply_changes_nothing_and_destroy_leaves_nothing(moto_server, source, tmp_path, monkeypatch) -> None:
    """On moto, which tells of alarms what it was told. It can't check a state machine's definition: no backfill."""
    with_credentials(monkeypatch)
    stack = Stack(tmp_path, moto_server, name="tf-moto", bucket="tf-moto-audit", create_backfill=False)
    assert stack.workspace.changes() == ""
    assert_copied(source, stack.url("dynamodb") + "&bulk=put")
    stack.workspace.destroy()
    assert not stack.client("cloudwatch").describe_alarms(AlarmNamePrefix="tf-moto")["MetricAlarms"]
    assert "tf-moto-audit" not in [bucket["Name"] for bucket in stack.client("s3").list_buckets()["Buckets"]]
