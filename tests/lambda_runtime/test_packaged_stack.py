"""From serverless.yml to a copy that compares equal.

The packaged stack is created on an engine; the handlers run as Lambda runs them, with the settings that the stack gives
its functions; the source is a comby Postgres whose URL lies in a secret.
"""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest

from commandstore import open_store
from commandstore.testing.comby import create_postgres, create_role, insert_postgres, sample_commands
from infra import serverless_rig as rig
from infra.serverless_rig import Cloud
from lambda_runtime.containers import container
from lambda_runtime.gated import RESERVE, gated, run_until_its_deadline

COUNT = 3_000
MOST_RUNS = 100
STAGE = "whole"
NAME = f"commandstore-{STAGE}"


@pytest.fixture
def database(postgres_url) -> str:
    """Its URL as the role that may only read."""
    create_postgres(postgres_url, "C")
    insert_postgres(postgres_url, sample_commands(COUNT, tenants=3, ties=300))
    return create_role(postgres_url, f"reader_{uuid.uuid4().hex[:8]}")


@pytest.fixture
def cloud(ministack) -> Cloud:
    return Cloud(ministack)


@pytest.fixture
def stack(cloud, database, tmp_path, monkeypatch):
    """The stack; a function that gives a function's settings."""
    here = {
        "AWS_ENDPOINT_URL": cloud.endpoint,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": cloud.region,
        "AWS_DEFAULT_REGION": cloud.region,
    }
    for name, value in here.items():
        monkeypatch.setenv(name, value)
    secrets = cloud.client("secretsmanager")
    secret = secrets.create_secret(Name=f"{NAME}-source", SecretString=json.dumps({"url": database}))["ARN"]
    packaged: Path = rig.or_skip(lambda: rig.package(tmp_path / "service", STAGE, {"sourceSecretArn": secret}))
    outputs = rig.deploy(cloud, packaged, NAME, {})
    open_store(outputs["DestinationUrl"], create=True).close()  # the one step by hand: commandstore init

    def settings(function: str) -> dict[str, str]:
        made = cloud.client("lambda").get_function_configuration(FunctionName=f"{NAME}-{function}")
        return {**made["Environment"]["Variables"], **here, "COMMANDSTORE_BATCH_SIZE": "50"}

    yield outputs, settings
    rig.remove(cloud, NAME)
    dynamodb = cloud.client("dynamodb")
    dynamodb.update_table(TableName=NAME, DeletionProtectionEnabled=False)
    dynamodb.delete_table(TableName=NAME)
    secrets.delete_secret(SecretId=secret, ForceDeleteWithoutRecovery=True)


def run(handler: str, settings: dict[str, str], *events: object, timeout: float = 60.0) -> list[dict]:
    with container(f"commandstore.entrypoints.aws_lambda.{handler}", settings) as function:
        answers = [function.invoke(event, timeout=timeout) for event in events]
    for answer in answers:
        assert answer.error_type is None, (answer.error_message, answer.logs)
    return [answer.result for answer in answers]


def assert_equal(source_url: str, destination_url: str) -> None:
    with (
        open_store(source_url, read_only=True) as source,
        open_store(destination_url, read_only=True) as copied,
    ):
        assert copied.total() == COUNT
        for here, there in zip(source.scan(), copied.scan(page_size=5_000), strict=True):
            assert here == there


def test_a_comby_postgres_is_copied_into_the_stacks_table_by_runs_with_short_deadlines(stack, database) -> None:
    outputs, settings = stack
    results: list[dict] = []
    with (
        gated(settings("sync"), requests=8) as (gate, function_s),
        container("lambda_runtime.patient.handler", function_s) as function,
    ):
        while not results or not results[-1]["complete"]:
            answer = (
                function.invoke({}, timeout=1.5 + RESERVE) if results else run_until_its_deadline(function, gate, 1.5)
            )
            assert answer.error_type is None, (answer.error_message, answer.logs)
            results.append(answer.result)
            assert len(results) < MOST_RUNS
    assert len(results) > 1
    assert sum(result["copied"] for result in results) == COUNT
    assert_equal(database, outputs["DestinationUrl"])
    (verified,) = run("verify_handler", settings("verify"), {"after": 0})
    assert (verified["compared"], verified["equal"], verified["complete"]) == (COUNT, COUNT, True)


def test_a_backfill_by_the_stacks_functions_hands_over_to_the_schedule(stack, database) -> None:
    outputs, settings = stack
    (plan,) = run("plan_handler", settings("plan"), {"commands_per_range": 800})
    assert len(plan["ranges"]) == 4
    copied = run("copy_range_handler", settings("copy-range"), *plan["ranges"])
    assert [(answer["copied"], answer["complete"]) for answer in copied] == [(800, True)] * 3 + [(600, True)]
    (finished,) = run("finish_handler", settings("finish"), {"plan": plan["plan"]})
    assert finished["settled"] == plan["ranges"][-1]["high"]
    (again,) = run("handler", settings("sync"), {})
    assert (again["read"], again["complete"]) == (0, True)
    assert_equal(database, outputs["DestinationUrl"])
