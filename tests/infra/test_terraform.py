"""The Terraform modules without an engine: their form, what they refuse, and what they plan."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import hcl2
import pytest

from commandstore.codec import FORMAT_VERSION
from commandstore.dynamodb.layout import SETTINGS_KEY, Shards
from commandstore.dynamodb.table import definition
from commandstore.entrypoints import aws_lambda
from commandstore.entrypoints.settings import PREFIX, SyncSettings, read_settings
from infra.iam import needed_keys
from infra.terraform_rig import (
    AWS_MODULES,
    MODULES,
    TERRAFORM,
    Workspace,
    actions_on,
    empty_package,
    misformatted,
    resources,
)

PLACES = sorted(path.parent for path in TERRAFORM.glob("*/*/main.tf"))
SECRET = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:source-AbCdEf"
PARAMETER = "arn:aws:ssm:eu-central-1:111122223333:parameter/app/source"
KEY = "arn:aws:kms:eu-central-1:111122223333:key/00000000-0000-4000-8000-000000000000"
LEDGER_KEY = "arn:aws:kms:eu-central-1:111122223333:key/11111111-0000-4000-8000-000000000000"
SOURCE_KEYS = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:source-keys-AbCdEf"
DESTINATION_KEYS = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:destination-keys-AbCdEf"
KEYS = {
    "ledger_key_arn": LEDGER_KEY,
    "source_keys_secret_arn": SOURCE_KEYS,
    "destination_keys_secret_arn": DESTINATION_KEYS,
    "payload_kms_key_arn": KEY,
}
TOPIC = "arn:aws:sns:eu-central-1:111122223333:alarms"
POLICY = json.dumps({"Version": "2012-10-17", "Statement": []})
# Any text may be right for these.
FREE = {"tenant_uuid", "indexes_file", "backfill_definition_file"}


# Their form


def blocks(place: Path, kind: str) -> dict[str, dict[str, Any]]:
    """The variables or outputs of a folder, by name. Texts keep their quotes."""
    found = {}
    for path in sorted(place.glob("*.tf")):
        for block in hcl2.loads(path.read_text("utf-8")).get(kind, ()):
            found |= {name.strip('"'): body for name, body in block.items()}
    return found


def test_they_are_formatted() -> None:
    assert misformatted() == ""


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
def test_what_goes_in_and_out_is_typed_and_described(place) -> None:
    variables, outputs = blocks(place, "variable"), blocks(place, "output")
    assert len(variables) * len(outputs) > 0
    for name, variable in variables.items():
        assert "type" in variable, name
        assert variable["description"].strip('"').endswith((".", "com")), name
    for name, output in outputs.items():
        assert output["description"].strip('"').endswith("."), name


@pytest.mark.parametrize("name", sorted(path.name for path in MODULES.iterdir()))
def test_texts_and_numbers_are_validated(name) -> None:
    variables = blocks(MODULES / name, "variable")
    careless = {
        variable
        for variable, body in variables.items()
        if body["type"].strip('"') in {"string", "number"} and "validation" not in body
    }
    assert careless <= FREE


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
def test_each_folder_has_a_page_that_names_every_variable_without_a_default(place) -> None:
    page = (place / "README.md").read_text("utf-8")
    for name, variable in blocks(place, "variable").items():
        assert "default" in variable or f"`{name}`" in page or f"{name} " in page, name


# What Terraform makes of them


@pytest.fixture(scope="module")
def workspaces(tmp_path_factory):
    made: dict[str, Workspace] = {}

    def workspace(module: str, *, offline: bool = True) -> Workspace:
        if module not in made:
            made[module] = Workspace(tmp_path_factory.mktemp("terraform"), module, offline=offline)
            made[module].init()
        return made[module]

    return workspace


@pytest.fixture(scope="module")
def sync(tmp_path_factory):
    """What `aws-sync` can't do without."""
    return {
        "package_path": empty_package(tmp_path_factory.mktemp("package")),
        "source_secret_arn": SECRET,
        "source_name": "app",
        "destination_url": "dynamodb://commands?region=eu-central-1",
        "destination_policies": dict.fromkeys(("writer", "reader", "register"), POLICY),
    }


@pytest.fixture(scope="module")
def by_default(workspaces, sync):
    """The plan of `aws-sync` with nothing else given."""
    return resources(workspaces("modules/aws-sync").plan(sync))


@pytest.mark.parametrize("module", [*(f"modules/{name}" for name in AWS_MODULES), "examples/complete"])
def test_it_is_valid(workspaces, module) -> None:
    workspace = workspaces(module, offline=module.startswith("modules/"))
    said = json.loads(workspace.run("validate", "-json").stdout)
    assert said["valid"]
    assert said["diagnostics"] == []


def test_the_table_is_the_one_that_the_library_makes(workspaces) -> None:
    plan = resources(workspaces("modules/aws-store-dynamodb").plan({"name": "commands"}))
    table = plan["aws_dynamodb_table.this"]
    assert as_request(table) == in_order(definition("commands", deletion_protection=True))
    assert table["point_in_time_recovery"][0]["enabled"] is True
    # No key of one's own: DynamoDB's is taken, and nothing is said about it.
    assert not table.get("server_side_encryption")
    item = json.loads(plan["aws_dynamodb_table_item.settings[0]"]["item"])
    shards = Shards()
    assert item == {
        **SETTINGS_KEY,
        "format": {"N": str(FORMAT_VERSION)},
        "tenant_shards": {"N": str(shards.tenant)},
        "time_shards": {"N": str(shards.time)},
    }


def as_request(table: dict[str, Any]) -> dict[str, Any]:
    """Terraform's words for a table in those of CreateTable."""

    def keys(of: dict[str, Any]) -> list[dict[str, str]]:
        return [
            {"AttributeName": of["hash_key"], "KeyType": "HASH"},
            {"AttributeName": of["range_key"], "KeyType": "RANGE"},
        ]

    request = {
        "TableName": table["name"],
        "BillingMode": table["billing_mode"],
        "AttributeDefinitions": [{"AttributeName": a["name"], "AttributeType": a["type"]} for a in table["attribute"]],
        "KeySchema": keys(table),
        "GlobalSecondaryIndexes": [
            {
                "IndexName": index["name"],
                "KeySchema": keys(index),
                "Projection": {
                    "ProjectionType": index["projection_type"],
                    "NonKeyAttributes": index["non_key_attributes"],
                },
            }
            for index in table["global_secondary_index"]
        ],
    }
    if table["deletion_protection_enabled"]:
        request["DeletionProtectionEnabled"] = True
    return in_order(request)


def in_order(request: dict[str, Any]) -> dict[str, Any]:
    """A request with its sets, which have no order, as sorted lists."""
    indexes = []
    for index in sorted(request["GlobalSecondaryIndexes"], key=lambda index: index["IndexName"]):
        projection = index["Projection"]
        indexes.append(
            {**index, "Projection": {**projection, "NonKeyAttributes": sorted(projection["NonKeyAttributes"])}}
        )
    attributes = sorted(request["AttributeDefinitions"], key=lambda attribute: attribute["AttributeName"])
    return {**request, "AttributeDefinitions": attributes, "GlobalSecondaryIndexes": indexes}


def test_object_lock_and_a_key_of_ones_own(workspaces) -> None:
    variables = {"bucket": "audit", "object_lock": {"mode": "COMPLIANCE", "days": 3650}, "kms_key_arn": KEY}
    plan = resources(workspaces("modules/aws-store-s3").plan(variables))
    assert plan["aws_s3_bucket.this"]["object_lock_enabled"] is True
    [rule] = plan["aws_s3_bucket_object_lock_configuration.this[0]"]["rule"]
    assert rule["default_retention"][0]["days"] == 3650
    [rule] = plan["aws_s3_bucket_server_side_encryption_configuration.this"]["rule"]
    assert rule["apply_server_side_encryption_by_default"] == [{"kms_master_key_id": KEY, "sse_algorithm": "aws:kms"}]


def test_the_functions_are_told_what_the_code_reads(workspaces, sync, monkeypatch) -> None:
    options = {
        "source_secret_key": "dsn",
        "tenant_uuid": "t1",
        "batch_size": 500,
        "concurrency": 3,
        "skip_on_error": True,
        "lag": 60_000_000_000,
        "lease_seconds": 90,
        "verify_hours": 48,
    }
    plan = resources(workspaces("modules/aws-sync").plan(sync | options | KEYS))
    functions_may_do_with_keys_what_their_code_does(plan)
    environment = plan['aws_lambda_function.this["sync"]']["environment"][0]["variables"]
    ours = {name for name in environment if name.startswith(PREFIX)}
    # A URL with a password in it belongs into no environment, and there is either a secret or a parameter.
    assert ours == {PREFIX + name.upper() for name in SyncSettings.model_fields} - {
        f"{PREFIX}SOURCE",
        f"{PREFIX}SOURCE_PARAMETER",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = read_settings()
    assert settings.source_secret == SECRET
    assert {name: getattr(settings, name) for name in options} == options
    assert (settings.source_keys_secret, settings.destination_keys_secret) == (SOURCE_KEYS, DESTINATION_KEYS)
    assert settings.ledger_key == LEDGER_KEY


def functions_may_do_with_keys_what_their_code_does(plan: dict[str, dict[str, Any]]) -> None:
    """Looked at where there is such a plan: to make one takes seconds."""
    for function in ("sync", "verify", "plan", "copy_range", "finish"):
        assert actions_on(plan, function, LEDGER_KEY) == needed_keys("ledger", role=function)
        assert actions_on(plan, function, KEY) == needed_keys("payload", role=function)
        for secret in (SOURCE_KEYS, DESTINATION_KEYS):
            assert actions_on(plan, function, secret) == {"secretsmanager:GetSecretValue"}


def test_what_is_not_given_is_left_to_the_code(workspaces, sync) -> None:
    variables = sync | {"source_secret_arn": None, "source_parameter_arn": PARAMETER}
    plan = resources(workspaces("modules/aws-sync").plan(variables))
    environment = plan['aws_lambda_function.this["verify"]']["environment"][0]["variables"]
    assert environment == {
        "COMMANDSTORE_SOURCE_PARAMETER": PARAMETER,
        "COMMANDSTORE_SOURCE_NAME": "app",
        "COMMANDSTORE_DESTINATION": sync["destination_url"],
        "COMMANDSTORE_METRICS_NAMESPACE": "commandstore",
        "POWERTOOLS_SERVICE_NAME": "commandstore-sync",
        "POWERTOOLS_LOG_LEVEL": "INFO",
    }


def test_without_keys_nobody_may_use_any(by_default) -> None:
    documents = [value for address, value in by_default.items() if address.startswith("data.aws_iam_policy_document.")]
    said = {statement["sid"] for document in documents for statement in document["statement"]}
    assert "SourceSecret" in said
    assert not said & {"Keys", "Payloads", "Ledger"}


def test_five_functions_run_the_five_handlers(by_default) -> None:
    handlers = [
        values["handler"].rsplit(".", 1)
        for address, values in by_default.items()
        if address.startswith("aws_lambda_function.")
    ]
    assert {module for module, _ in handlers} == {aws_lambda.__name__}
    assert {name for _, name in handlers} == {name for name in aws_lambda.__all__ if name.endswith("handler")}
    function = by_default['aws_lambda_function.this["sync"]']
    assert (function["architectures"], function["runtime"]) == (["arm64"], "python3.12")
    assert function["reserved_concurrent_executions"] == 2


def test_the_next_schedule_is_the_retry(by_default) -> None:
    schedule = by_default['aws_scheduler_schedule.this["sync"]']
    assert schedule["schedule_expression"] == "rate(5 minutes)"
    assert schedule["target"][0]["input"] == "{}"
    assert schedule["target"][0]["retry_policy"][0]["maximum_retry_attempts"] == 0
    for function in ("sync", "verify"):
        assert by_default[f'aws_lambda_function_event_invoke_config.this["{function}"]']["maximum_retry_attempts"] == 0


def test_the_alarms_watch_metrics_that_there_are(by_default) -> None:
    alarms = {
        address: values for address, values in by_default.items() if address.startswith("aws_cloudwatch_metric_alarm.")
    }
    written = set(re.findall(r'"([A-Z][A-Za-z]+)"', Path(aws_lambda.__file__).read_text("utf-8")))
    watched = {alarm["metric_name"] for alarm in alarms.values() if alarm["namespace"] == "commandstore"}
    for alarm in alarms.values():
        watched |= {part["metric"][0]["metric_name"] for part in alarm.get("metric_query") or () if part.get("metric")}
    assert watched == {"LagSeconds", "Failed", "Conflicts", "Missing", "Extra", "Altered"}
    assert watched <= written
    lag = alarms['aws_cloudwatch_metric_alarm.this["lag"]']
    assert lag["treat_missing_data"] == "breaching"
    assert lag["dimensions"] == {"service": "commandstore-sync"}
    of_lambda = {alarm["metric_name"] for alarm in alarms.values() if alarm["namespace"] == "AWS/Lambda"}
    assert of_lambda == {"Errors", "Throttles"}


def test_without_alarms_and_backfill_there_is_neither(workspaces, sync) -> None:
    variables = sync | {"create_alarms": False, "create_backfill": False, "verify_schedule": None}
    plan = resources(workspaces("modules/aws-sync").plan(variables))
    kinds = {address.split(".")[0] for address in plan}
    assert kinds & {"aws_cloudwatch_metric_alarm", "aws_sns_topic", "aws_sfn_state_machine"} == set()
    assert [address for address in plan if address.startswith("aws_scheduler_schedule.")] == [
        'aws_scheduler_schedule.this["sync"]'
    ]


# What they refuse


def test_a_source_is_given_once(workspaces, sync) -> None:
    workspace = workspaces("modules/aws-sync")
    once = "Give exactly one of source_secret_arn and source_parameter_arn."
    assert once in workspace.refused(sync | {"source_parameter_arn": PARAMETER})
    assert once in workspace.refused(sync | {"source_secret_arn": None})


def test_what_belongs_to_something_else_is_refused_without_it(workspaces, sync) -> None:
    wrong = {
        "source_secret_arn": None,
        "source_parameter_arn": PARAMETER,
        "source_secret_key": "dsn",
        "alarm_topic": {"arn": TOPIC},
        "alarm_emails": ["somebody@example.com"],
    }
    assert refused(workspaces("modules/aws-sync"), sync | wrong) >= {"source_secret_key", "alarm_emails"}


def test_what_a_sync_can_not_be_is_refused_by_name(workspaces, sync) -> None:
    wrong = {
        "name": "a name",
        "package_path": "folder",
        "architecture": "arm",
        "runtime": "python3.9",
        "source_secret_arn": SECRET + "*",
        "source_name": " ",
        "destination_url": "dynamodb://key:secret@commands",
        "batch_size": 0,
        "concurrency": 1.5,
        "lag": -1,
        "lease_seconds": 0,
        "verify_hours": 0,
        "schedule": "5 minutes",
        "verify_schedule": "daily",
        "sync_timeout_seconds": 901,
        "memory_mb": 1,
        "reserved_concurrency": {"sync": 0},
        "vpc": {"subnet_ids": [], "security_group_ids": ["sg-1"]},
        "permissions_boundary_arn": "boundary",
        "kms_key_arn": "alias/mine",
        "ledger_key_arn": "alias/ledger",
        "source_keys_secret_arn": "keys",
        "destination_keys_secret_arn": DESTINATION_KEYS + "*",
        "payload_kms_key_arn": KEY + "*",
        "log_level": "TRACE",
        "log_retention_days": 42,
        "metrics_namespace": "AWS/Lambda",
        "alarm_topic": {"arn": "alarms"},
        "lag_alarm_seconds": 0,
    }
    assert refused(workspaces("modules/aws-sync"), sync | wrong) >= set(wrong)


def test_what_a_store_can_not_be_is_refused_by_name(workspaces) -> None:
    wrong = {"name": "a", "tenant_shards": 0, "time_shards": 257, "kms_key_arn": "alias/mine"}
    assert refused(workspaces("modules/aws-store-dynamodb"), wrong) >= set(wrong)
    wrong = {
        "bucket": "Audit",
        "prefix": "/commands",
        "noncurrent_days": 0,
        "object_lock": {"mode": "SOFT", "days": 0},
        "kms_key_arn": "alias/mine",
    }
    assert refused(workspaces("modules/aws-store-s3"), wrong) >= set(wrong)


def refused(workspace: Workspace, variables: dict[str, Any]) -> set[str]:
    """Which variables Terraform finds fault with."""
    said = workspace.refused(variables)
    # Not where it stands in quotes: the line of the variables' file is shown as well.
    return {name for name in variables if re.search(rf'(?<!")\b{name}\b(?!")', said)}
