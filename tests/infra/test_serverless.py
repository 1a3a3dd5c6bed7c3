"""serverless.yml: it packages, its names are the code's, its roles allow little."""

from __future__ import annotations

import ast
import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from commandstore import errors
from commandstore.dynamodb import table
from commandstore.entrypoints.settings import PREFIX, PlanEvent, RangeEvent, SyncEvent, SyncSettings, read_event
from infra import serverless_rig as rig
from infra.iam import needed_actions, needed_keys


def _of_store(role: str) -> frozenset[str]:
    """What recorded work of the role needs in either kind of destination, with a ledger and encrypted payloads."""
    stores = needed_actions("dynamodb", role=role) | needed_actions("s3", role=role)
    return stores | needed_keys("ledger", role=role) | needed_keys("payload", role=role)


LOGS = {"logs:CreateLogStream", "logs:PutLogEvents"}
SOURCE = {"secretsmanager:GetSecretValue", "ssm:GetParameter", "kms:Decrypt"}
INTERFACES = {
    "ec2:AssignPrivateIpAddresses",
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:UnassignPrivateIpAddresses",
}
FUNCTION = LOGS | SOURCE | INTERFACES
ITEMS = {"states:StartExecution", "states:DescribeExecution", "states:StopExecution", "states:RedriveExecution"}
SEND = {"sqs:SendMessage"}
ALLOWED = {
    # An event may ask for a verification after the sync.
    "SyncRole": FUNCTION | SEND | _of_store("sync") | _of_store("verify"),
    "VerifyRole": FUNCTION | SEND | _of_store("verify"),
    "PlanRole": FUNCTION | _of_store("plan"),
    "CopyRangeRole": FUNCTION | _of_store("copy_range"),
    "FinishRole": FUNCTION | _of_store("finish"),
    "SchedulerRole": SEND | {"lambda:InvokeFunction"},
    "BackfillRole": ITEMS | {"lambda:InvokeFunction"},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    directory = tmp_path_factory.mktemp("serverless") / "service"
    return rig.template(rig.or_skip(lambda: rig.package(directory, "test")))


@pytest.fixture(scope="module")
def backfill() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((rig.ROOT / "infra" / "backfill.asl.json").read_text())
    return found


def _functions(whole: dict[str, Any]) -> list[dict[str, Any]]:
    return list(rig.of_type(whole, "AWS::Lambda::Function").values())


# The template


@pytest.mark.parametrize(
    "params",
    [{}, {"destination": "s3", "objectLockDays": "30", "architecture": "x86_64", "sourceParameterName": "/db/url"}],
    ids=["dynamodb", "s3"],
)
def test_cfn_lint_finds_nothing(tmp_path: Path, params: dict[str, str]) -> None:
    packaged = rig.or_skip(lambda: rig.package(tmp_path / "service", "test", params))
    assert rig.or_skip(lambda: rig.cfn_lint(packaged)) == ""


def test_nothing_in_the_template_is_null(whole: dict[str, Any]) -> None:
    """CloudFormation refuses null anywhere, in the state machine's definition too."""
    assert "null" not in json.dumps(whole).replace('"null"', "")


def test_the_table_is_the_one_that_the_library_makes(whole: dict[str, Any]) -> None:
    made = whole["Resources"]["CommandsTable"]["Properties"]
    asked = table.definition("any", deletion_protection=True)
    assert {name: made[name] for name in asked} == {**asked, "TableName": {"Ref": "TableName"}}


def test_what_holds_commands_outlives_the_stack(whole: dict[str, Any]) -> None:
    for name in ("CommandsTable", "AuditBucket", "AuditBucketPolicy"):
        resource = whole["Resources"][name]
        assert (resource["DeletionPolicy"], resource["UpdateReplacePolicy"]) == ("Retain", "Retain")
    made = whole["Resources"]["CommandsTable"]["Properties"]
    assert made["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert made["SSESpecification"] == {"SSEEnabled": True}


def test_the_bucket_forgets_what_was_replaced(whole: dict[str, Any]) -> None:
    rules = whole["Resources"]["AuditBucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    assert rules[0]["NoncurrentVersionExpiration"] == {"NoncurrentDays": {"Ref": "NoncurrentDays"}}
    assert rules[1]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
    # Current objects are the audit trail: no rule removes them.
    assert not {"ExpirationInDays", "ExpirationDate", "Transitions"} & {name for rule in rules for name in rule}


def test_choices_are_left_out_when_they_are_not_made(whole: dict[str, Any]) -> None:
    absent = {"Ref": "AWS::NoValue"}
    bucket = whole["Resources"]["AuditBucket"]["Properties"]
    condition, lock, otherwise = bucket["ObjectLockConfiguration"]["Fn::If"]
    assert (condition, otherwise) == ("LocksObjects", absent)
    assert lock["Rule"]["DefaultRetention"] == {"Mode": {"Ref": "ObjectLockMode"}, "Days": {"Ref": "ObjectLockDays"}}
    assert bucket["ObjectLockEnabled"] == {"Fn::If": ["LocksObjects", True, absent]}
    sync = whole["Resources"]["SyncLambdaFunction"]["Properties"]
    reserved = ["ReservesConcurrency", {"Ref": "ReservedConcurrency"}, absent]
    assert sync["ReservedConcurrentExecutions"] == {"Fn::If": reserved}
    for made in _functions(whole):
        condition, network, otherwise = made["Properties"]["VpcConfig"]["Fn::If"]
        assert (condition, otherwise) == ("InVpc", absent)
        assert network == {"SubnetIds": {"Ref": "SubnetIds"}, "SecurityGroupIds": {"Ref": "SecurityGroupIds"}}


def test_handlers_are_the_modules(whole: dict[str, Any]) -> None:
    handlers = {made["Properties"]["Handler"] for made in _functions(whole)}
    assert len(handlers) == 5
    for handler in handlers:
        module, _, name = handler.rpartition(".")
        assert callable(getattr(importlib.import_module(module), name))


def test_variables_are_settings(whole: dict[str, Any]) -> None:
    known = {PREFIX + name.upper() for name in SyncSettings.model_fields}
    for made in _functions(whole):
        named = set(made["Properties"]["Environment"]["Variables"])
        assert named <= known | {"POWERTOOLS_SERVICE_NAME", "POWERTOOLS_LOG_LEVEL"}
        assert {"COMMANDSTORE_SOURCE_SECRET", "COMMANDSTORE_SOURCE_PARAMETER", "COMMANDSTORE_DESTINATION"} <= named


def test_a_ledger_and_keys_are_left_out_when_they_are_not_given(whole: dict[str, Any]) -> None:
    absent = {"Ref": "AWS::NoValue"}
    for made in _functions(whole):
        variables = made["Properties"]["Environment"]["Variables"]
        for name, condition, parameter in (
            ("COMMANDSTORE_LEDGER_KEY", "HasLedgerKey", "LedgerKeyArn"),
            ("COMMANDSTORE_SOURCE_KEYS_SECRET", "HasSourceKeys", "SourceKeysSecretArn"),
            ("COMMANDSTORE_DESTINATION_KEYS_SECRET", "HasDestinationKeys", "DestinationKeysSecretArn"),
        ):
            assert variables[name] == {"Fn::If": [condition, {"Ref": parameter}, absent]}
            assert whole["Conditions"][condition] == {"Fn::Not": [{"Fn::Equals": [{"Ref": parameter}, ""]}]}
            assert whole["Parameters"][parameter]["Default"] == ""


def test_a_password_is_in_no_variable(whole: dict[str, Any]) -> None:
    for made in _functions(whole):
        assert "COMMANDSTORE_SOURCE" not in made["Properties"]["Environment"]["Variables"]


def test_schedules_pass_what_the_handler_takes(whole: dict[str, Any]) -> None:
    schedules = rig.of_type(whole, "AWS::Scheduler::Schedule")
    assert len(schedules) == 2
    for schedule in schedules.values():
        read_event(SyncEvent, json.loads(schedule["Properties"]["Target"]["Input"]))


def test_asynchronous_invocations_are_not_repeated_and_leave_a_trace(whole: dict[str, Any]) -> None:
    configurations = rig.of_type(whole, "AWS::Lambda::EventInvokeConfig")
    assert len(configurations) == 2
    for configuration in configurations.values():
        assert configuration["Properties"]["MaximumRetryAttempts"] == 0
        assert configuration["Properties"]["DestinationConfig"]["OnFailure"]["Destination"] == {
            "Fn::GetAtt": ["FailureQueue", "Arn"]
        }


# Alarms


def _metrics(alarm: dict[str, Any]) -> Iterator[dict[str, Any]]:
    asked = alarm["Properties"]
    if "MetricName" in asked:
        yield asked
    yield from (one["MetricStat"]["Metric"] for one in asked.get("Metrics", ()) if "MetricStat" in one)


def test_alarms_are_over_metrics_that_the_handlers_have(whole: dict[str, Any]) -> None:
    alarms = rig.of_type(whole, "AWS::CloudWatch::Alarm").values()
    ours = [one for alarm in alarms for one in _metrics(alarm) if not one["Namespace"].startswith("AWS/")]
    variables = [made["Properties"]["Environment"]["Variables"] for made in _functions(whole)]
    assert {one["Namespace"] for one in ours} == {names["COMMANDSTORE_METRICS_NAMESPACE"] for names in variables}
    services = {names["POWERTOOLS_SERVICE_NAME"] for names in variables}
    for one in ours:
        [dimension] = one["Dimensions"]
        assert dimension["Name"] == "service"
        assert dimension["Value"] in services
    names = {one["MetricName"] for one in ours}
    assert names == {"LagSeconds", "Failed", "Conflicts", "Missing", "Extra", "Altered"}
    assert names <= _texts(rig.ROOT / "backends" / "commandstore" / "entrypoints")


def _texts(directory: Path) -> set[str]:
    """Every string in the modules' source."""
    nodes = [node for path in directory.glob("*.py") for node in ast.walk(ast.parse(path.read_text("utf-8")))]
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_every_alarm_is_heard(whole: dict[str, Any]) -> None:
    for alarm in rig.of_type(whole, "AWS::CloudWatch::Alarm").values():
        assert alarm["Properties"]["AlarmActions"] == alarm["Properties"]["OKActions"] == [{"Ref": "AlarmTopic"}]


def test_silence_is_an_alarm_for_the_lag_alone(whole: dict[str, Any]) -> None:
    alarms = rig.of_type(whole, "AWS::CloudWatch::Alarm")
    loud = {name for name, alarm in alarms.items() if alarm["Properties"]["TreatMissingData"] == "breaching"}
    assert loud == {"LagAlarm"}


# Permissions


def test_roles_allow_what_is_listed_and_nothing_else(whole: dict[str, Any]) -> None:
    roles = rig.of_type(whole, "AWS::IAM::Role")
    allowed = {
        name: {action for one in rig.statements(role) if one["Effect"] == "Allow" for action in one["Action"]}
        for name, role in roles.items()
    }
    assert allowed == ALLOWED


def test_each_function_has_a_role_of_its_own(whole: dict[str, Any]) -> None:
    roles = [json.dumps(made["Properties"]["Role"]) for made in _functions(whole)]
    assert len(set(roles)) == len(roles) == 5


def test_resources_are_named(whole: dict[str, Any]) -> None:
    for role in rig.of_type(whole, "AWS::IAM::Role").values():
        for one in rig.statements(role):
            if one["Effect"] == "Allow" and "*" in (one["Resource"], *rig.strings(one["Resource"])):
                assert set(one["Action"]) == INTERFACES


def test_code_in_a_vpc_may_not_touch_its_network(whole: dict[str, Any]) -> None:
    for name, role in rig.of_type(whole, "AWS::IAM::Role").items():
        denied = {action for one in rig.statements(role) if one["Effect"] == "Deny" for action in one["Action"]}
        assert denied == (INTERFACES if ALLOWED[name] >= INTERFACES else set())


# The backfill's definition


def _levels(machine: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield machine
    for state in machine["States"].values():
        if "ItemProcessor" in state:
            yield from _levels(state["ItemProcessor"])


def test_every_state_is_reached_and_ends_somewhere(backfill: dict[str, Any]) -> None:
    for level in _levels(backfill):
        reached, waiting = set(), [level["StartAt"]]
        while waiting:
            name = waiting.pop()
            if name in reached:
                continue
            reached.add(name)
            state = level["States"][name]
            following = [state.get("Next"), state.get("Default"), *(one["Next"] for one in state.get("Choices", ()))]
            waiting += [one for one in following if one]
            assert state.get("End") or any(following)
        assert reached == set(level["States"])


def test_what_time_may_mend_is_tried_again(backfill: dict[str, Any]) -> None:
    tasks = [one for level in _levels(backfill) for one in level["States"].values() if one["Type"] == "Task"]
    assert len(tasks) == 3
    for task in tasks:
        service, ours = task["Retry"]
        assert {
            "Lambda.TooManyRequestsException",
            "Lambda.ServiceException",
            "Sandbox.Timedout",
            "States.Timeout",
        } <= set(service["ErrorEquals"])
        assert all(issubclass(getattr(errors, name), errors.StoreUnavailable) for name in ours["ErrorEquals"])
        assert {service["JitterStrategy"], ours["JitterStrategy"]} == {"FULL"}


def test_tasks_send_what_the_handlers_take(backfill: dict[str, Any]) -> None:
    outer, inner = _levels(backfill)
    sent = {name.removesuffix(".$") for name in outer["States"]["Plan"]["Parameters"]}
    assert sent <= set(PlanEvent.model_fields)
    sent = {name.removesuffix(".$") for name in inner["States"]["CopyRange"]["Parameters"]}
    assert sent == set(RangeEvent.model_fields)
