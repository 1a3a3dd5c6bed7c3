"""The scheduled sync as Lambda runs it: a comby Postgres into DynamoDB, by awslambdaric and a Runtime API."""

from __future__ import annotations

import itertools
import json
import uuid
from concurrent.futures import ThreadPoolExecutor

import boto3
import psycopg
import pytest

from commandstore import open_store
from commandstore.testing.comby import (
    create_postgres,
    create_role,
    insert_postgres,
    raw_insert_postgres,
    sample_commands,
)
from lambda_runtime.containers import container
from lambda_runtime.gated import HANG, RESERVE, gated, run_until_its_deadline

COUNT = 4_000
MOST_RUNS = 100
ROLES = itertools.count()


@pytest.fixture
def database(postgres_url) -> str:
    create_postgres(postgres_url, "C")
    insert_postgres(postgres_url, sample_commands(COUNT, tenants=3, ties=500))
    return postgres_url


@pytest.fixture
def environment(ministack, database, monkeypatch) -> dict[str, str]:
    """What the function is told, and this process as well, which looks at the destination."""
    region = ministack.client_arguments["region_name"]
    here = {
        "AWS_ENDPOINT_URL": ministack.endpoint,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
    }
    for name, value in here.items():
        monkeypatch.setenv(name, value)
    destination = f"dynamodb://lambda-{uuid.uuid4().hex[:8]}?region={region}"
    open_store(destination, create=True).close()
    return {
        **here,
        "COMMANDSTORE_SOURCE": database,
        "COMMANDSTORE_SOURCE_NAME": "app",
        "COMMANDSTORE_DESTINATION": destination,
        "COMMANDSTORE_BATCH_SIZE": "200",
        "COMMANDSTORE_CONCURRENCY": "2",
        "POWERTOOLS_SERVICE_NAME": "app",
    }


def sync(environment):
    return container("commandstore.entrypoints.aws_lambda.handler", environment)


def result(answer) -> dict:
    assert answer.error_type is None, (answer.error_message, answer.logs)
    return answer.result


def assert_equal(environment) -> None:
    with (
        open_store(environment["COMMANDSTORE_SOURCE"], read_only=True) as source,
        open_store(environment["COMMANDSTORE_DESTINATION"], read_only=True) as copied,
    ):
        for here, there in zip(source.scan(), copied.scan(page_size=5_000), strict=True):
            assert here == there


def test_a_cold_and_a_warm_start_copy_what_is_new(environment, database) -> None:
    with sync(environment) as function:
        assert result(function.invoke({}))["copied"] == COUNT
        insert_postgres(database, sample_commands(7, seed=8))
        warm = function.invoke({})
        assert (result(warm)["copied"], warm.result["complete"]) == (7, True)
    assert_equal(environment)


def test_short_deadlines_end_in_a_checkpoint_and_the_next_run_goes_on(environment) -> None:
    """No run is cut off by the deadline, and none copies again what another one did."""
    environment["COMMANDSTORE_BATCH_SIZE"] = "50"
    with (
        gated(environment, requests=8) as (gate, function_s),
        container("lambda_runtime.patient.handler", function_s) as function,
    ):
        results = [result(run_until_its_deadline(function, gate, 1.5))]
        while not results[-1]["complete"]:
            results.append(result(function.invoke({}, timeout=1.5 + RESERVE)))
            assert results[-1]["duplicates"] == 0
            assert len(results) < MOST_RUNS
    assert sum(one["copied"] for one in results) == COUNT
    assert len(results) > 1
    assert results[0]["remaining"] == COUNT - results[0]["copied"]
    assert_equal(environment)


def test_of_two_invocations_at_once_one_works_and_the_other_says_so(environment) -> None:
    with sync(environment) as one, sync(environment) as other, ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda function: result(function.invoke({})), (one, other)))
    assert sorted(answer.get("copied", 0) for answer in answers) == [0, COUNT]
    assert_equal(environment)


def test_an_event_that_is_delivered_twice_copies_nothing_twice(environment) -> None:
    with sync(environment) as function:
        first = function.invoke({}, request_id="11111111-1111-4111-8111-111111111111")
        again = function.invoke({}, request_id="11111111-1111-4111-8111-111111111111")
    assert (result(first)["copied"], result(again)["read"]) == (COUNT, 0)


def test_a_killed_run_is_taken_up_when_its_lease_ends(environment) -> None:
    environment = environment | {"COMMANDSTORE_LEASE_SECONDS": "1"}
    with (
        gated(environment, requests=16) as (gate, function_s),
        sync(function_s) as function,
        ThreadPoolExecutor(1) as pool,
    ):
        running = pool.submit(function.invoke, {})
        assert gate.reached.wait(HANG)
        function.kill()
        assert running.result().error_type == "Runtime.ExitError"
    answers = []
    with sync(environment) as function:
        while not answers or "skipped" in answers[-1]:
            answers.append(result(function.invoke({})))
    assert answers[-1]["complete"]
    assert_equal(environment)


def test_a_poison_row_is_named_raised_and_does_not_stop_the_others(environment, database) -> None:
    environment = environment | {"COMMANDSTORE_SKIP_ON_ERROR": "true"}
    raw_insert_postgres(database, uuid="", created_at=5)
    with sync(environment) as function:
        for copied in (COUNT, 0):
            answer = function.invoke({})
            assert answer.error_type == "SyncError"
            assert "1 commands failed" in answer.error_message
            assert metric(answer, "Copied") == copied
            assert metric(answer, "Failed") == 1


def test_a_secret_that_is_rotated_between_two_runs_is_read_again(environment, database) -> None:
    """As Secrets Manager does with two users in turn: the other one from now on, and the first is locked out."""
    first, second = (f"reader_{uuid.uuid4().hex[:8]}" for _ in range(2))
    secret = f"app-{uuid.uuid4().hex[:8]}"
    client = boto3.client("secretsmanager")
    client.create_secret(Name=secret, SecretString=json.dumps({"url": create_role(database, first)}))
    del environment["COMMANDSTORE_SOURCE"]
    environment["COMMANDSTORE_SOURCE_SECRET"] = secret
    with sync(environment) as function:
        assert result(function.invoke({}))["copied"] == COUNT
        client.put_secret_value(SecretId=secret, SecretString=json.dumps({"url": create_role(database, second)}))
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(f"ALTER ROLE {first} NOLOGIN".encode())
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [first])
        insert_postgres(database, sample_commands(3, seed=8))
        assert result(function.invoke({}))["copied"] == 3
        assert database not in "".join(function.logs)


def test_a_database_that_goes_away_in_the_middle_is_an_error_and_the_next_run_goes_on(environment, database) -> None:
    name = database.rpartition("/")[2]
    with (
        psycopg.connect(database.replace(name, "postgres"), autocommit=True) as admin,
        gated(environment, requests=16) as (gate, function_s),
        sync(function_s) as function,
        ThreadPoolExecutor(1) as pool,
    ):
        running = pool.submit(function.invoke, {})
        assert gate.reached.wait(HANG)
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        gate.open()
        stopped = running.result()
        assert stopped.error_type == "SyncError"
        assert "sqlalchemy" not in "".join(stopped.logs)  # no cause of the error, which may show what it was given
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())
        rest = result(function.invoke({}))
    assert rest["complete"]
    assert metric(stopped, "Copied") + rest["copied"] == COUNT
    assert_equal(environment)


def test_a_missing_setting_is_said_by_its_name(environment) -> None:
    del environment["COMMANDSTORE_DESTINATION"]
    with sync(environment) as function:
        answer = function.invoke({})
    assert answer.error_type == "ConfigurationError"
    assert "COMMANDSTORE_DESTINATION" in answer.error_message


def metric(answer, name: str) -> float:
    found = [json.loads(line) for line in answer.logs if line.startswith('{"_aws"') or '"_aws"' in line]
    (values,) = [one[name] for one in found if name in one]
    return values[0]
