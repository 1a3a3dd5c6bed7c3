"""The packaged stack: serverless.yml to CloudFormation by osls, offline, in a copy of what it reads."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import boto3
import pytest
from botocore.config import Config

from commandstore.testing.engines import Engine, EngineUnavailable, engines_required, find_uv

ROOT = Path(__file__).parents[2]
PACKAGE_SECONDS = 300
RUN_SECONDS = 60

FAKE_HANDLERS = '''
"""Stand-ins for the handlers: two ranges, of which each takes two calls; an odd size makes the second one fail."""

import os


def plan_handler(event, context):
    assert set(event) == {"commands_per_range"}, event
    size = event["commands_per_range"]
    ranges = [{"plan": "p1", "low": str(low), "high": str(low + size), "after": None} for low in (0, size)]
    return {"plan": "p1", "ranges": ranges}


def copy_range_handler(event, context):
    assert set(event) == {"plan", "low", "high", "after"} and event["plan"] == "p1", event
    low, high = int(event["low"]), int(event["high"])
    if low % 2:
        raise ValueError("a poison row")
    half = event["after"] is None
    print("copies", low, event["after"])
    counts = {"read": 1, "copied": 1, "duplicates": 0, "conflicts": 0, "failed": 0}
    return {**event, "after": str((low + high) // 2 if half else high), "complete": not half, **counts}


def finish_handler(event, context):
    assert event == {"plan": "p1"}, event
    return {"plan": "p1", "settled": 2}


def handler(event, context):
    return {"event": event, "settings": sorted(name for name in os.environ if name.startswith("COMMANDSTORE_"))}


verify_handler = handler
'''


Made = TypeVar("Made")


def or_skip(make: Callable[[], Made]) -> Made:
    """What is made; where a tool for it is missing, the rule of the engines."""
    try:
        return make()
    except EngineUnavailable as missing:
        if engines_required():
            pytest.fail(f"COMMANDSTORE_REQUIRE_ENGINES is set, but {missing}", pytrace=False)
        pytest.skip(str(missing))


def npx() -> str:
    """The program that runs osls.

    Raises:
        EngineUnavailable: Node.js is not here.
    """
    found = shutil.which("npx")
    if found is None:
        raise EngineUnavailable("npx is not here: install Node.js, whose npx runs osls from the package index")
    return found


def package(directory: Path, stage: str, params: Mapping[str, str] | None = None) -> Path:
    """Package the service in a new directory; returned is the folder with the templates.

    Args:
        directory: is made.
        stage: names of resources begin with ``commandstore-`` and it.
        params: of serverless.yml.

    Raises:
        EngineUnavailable: there is no npx.
        RuntimeError: osls refused, with what it said.
    """
    (directory / "infra").mkdir(parents=True)
    (directory / "dist").mkdir()
    shutil.copy(ROOT / "serverless.yml", directory)
    shutil.copytree(ROOT / "infra" / "serverless", directory / "infra" / "serverless")
    shutil.copy(ROOT / "infra" / "backfill.asl.json", directory / "infra")
    architecture = (params or {}).get("architecture", "arm64")
    with zipfile.ZipFile(directory / "dist" / f"commandstore-lambda-{architecture}.zip", "w") as archive:
        for name, text in (("__init__", ""), ("entrypoints/__init__", ""), ("entrypoints/aws_lambda", FAKE_HANDLERS)):
            archive.writestr(f"commandstore/{name}.py", text)
    options = [f"--param={name}={value}" for name, value in (params or {}).items()]
    # Nothing of the machine's AWS settings, and no question whether there is a newer release.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SLS_"))}
    environment |= {"SLS_NOTIFICATIONS_MODE": "off", "SLS_TELEMETRY_DISABLED": "1", "CI": "1"}
    done = subprocess.run(  # noqa: S603 - this project's own command
        [npx(), "--yes", "--prefer-offline", "osls@4", "package", "--stage", stage, *options],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PACKAGE_SECONDS,
        check=False,
    )
    said = done.stdout + done.stderr
    if done.returncode or "warning" in said.lower():
        raise RuntimeError(f"osls does not like the service: {said}")
    return directory / ".serverless"


def template(packaged: Path) -> dict[str, Any]:
    """The whole stack."""
    found: dict[str, Any] = json.loads((packaged / "cloudformation-template-update-stack.json").read_text())
    return found


def cfn_lint(packaged: Path) -> str:
    """What cfn-lint finds; empty when nothing.

    Raises:
        EngineUnavailable: there is no uv to run it.
    """
    uv = find_uv()
    if uv is None:
        raise EngineUnavailable("uv is not here: pip install uv; it runs cfn-lint from the package index")
    lint = ["tool", "run", "--from", "cfn-lint>=1.30,<2", "cfn-lint"]
    # W3005: the framework says DependsOn where a reference would do.
    done = subprocess.run(  # noqa: S603 - likewise
        [*uv, *lint, "--ignore-checks", "W3005", "--", str(packaged / "cloudformation-template-update-stack.json")],
        capture_output=True,
        text=True,
        timeout=PACKAGE_SECONDS,
        check=False,
    )
    if done.returncode and not done.stdout:
        raise RuntimeError(f"cfn-lint did not run: {done.stderr}")
    return done.stdout


REFUSED_BY_MINISTACK = {
    # "Properties.Metrics (metric math) is not supported; use MetricName and Namespace": one alarm over a sum is what an
    # operator wants to get, and cfn-lint has looked at both.
    "TableThrottlesAlarm",
    "VerifyDifferencesAlarm",
}


class Cloud:
    """An account of an engine, with clients for what the stack has."""

    region = "us-east-1"

    def __init__(self, engine: Engine) -> None:
        self._arguments: dict[str, Any] = dict(engine.client_arguments)
        self.endpoint: str = engine.endpoint

    def client(self, service: str) -> Any:
        """A client with few retries: an engine here is there or not."""
        return boto3.client(service, **self._arguments, config=Config(retries={"total_max_attempts": 2}))


def deploy(cloud: Cloud, packaged: Path, name: str, parameters: Mapping[str, str]) -> dict[str, str]:
    """Create the stack as the framework does: first the bucket for the code, then everything. Returned: its outputs."""
    formation = cloud.client("cloudformation")
    first = (packaged / "cloudformation-template-create-stack.json").read_text()
    formation.create_stack(StackName=name, TemplateBody=first)
    formation.get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    whole = template(packaged)
    for refused in REFUSED_BY_MINISTACK:
        del whole["Resources"][refused]
    bucket = formation.describe_stack_resource(StackName=name, LogicalResourceId="ServerlessDeploymentBucket")
    [key] = {resource["Properties"]["Code"]["S3Key"] for resource in of_type(whole, "AWS::Lambda::Function").values()}
    archive = next((packaged.parent / "dist").glob("*.zip")).read_bytes()
    bucket_name = bucket["StackResourceDetail"]["PhysicalResourceId"]
    cloud.client("s3").put_object(Bucket=bucket_name, Key=key, Body=archive)
    formation.update_stack(
        StackName=name,
        TemplateBody=json.dumps(whole),
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"],
    )
    formation.get_waiter("stack_update_complete").wait(StackName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 120})
    [stack] = formation.describe_stacks(StackName=name)["Stacks"]
    return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}


def remove(cloud: Cloud, name: str) -> None:
    """Delete a stack."""
    formation = cloud.client("cloudformation")
    formation.delete_stack(StackName=name)
    formation.get_waiter("stack_delete_complete").wait(StackName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})


def of_type(whole: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The resources of one type, by their logical ids."""
    return {name: resource for name, resource in whole["Resources"].items() if resource["Type"] == kind}


def strings(value: Any) -> Iterator[str]:
    """All strings within."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield name
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)


def statements(role: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """All statements of a role's policies, those that stand under a condition too."""
    for policy in role["Properties"]["Policies"]:
        for statement in policy["PolicyDocument"]["Statement"]:
            found = statement["Fn::If"][1] if "Fn::If" in statement else statement
            actions = found["Action"]
            yield {**found, "Action": [actions] if isinstance(actions, str) else actions}


def run(cloud: Cloud, machine: str, given: str) -> dict[str, Any]:
    """Run a state machine to its end: how it ended."""
    functions = cloud.client("stepfunctions")
    execution = functions.start_execution(stateMachineArn=machine, input=given)["executionArn"]
    end = time.monotonic() + RUN_SECONDS
    while True:
        found: dict[str, Any] = functions.describe_execution(executionArn=execution)
        if found["status"] != "RUNNING":
            return found
        if time.monotonic() > end:
            raise TimeoutError(f"{execution} is still running")


def states_of(cloud: Cloud, execution: str) -> list[str]:
    """The states that an execution entered, in order."""
    history = cloud.client("stepfunctions").get_execution_history(executionArn=execution)["events"]
    return [event["stateEnteredEventDetails"]["name"] for event in history if "stateEnteredEventDetails" in event]


def logged(cloud: Cloud, function: str, word: str) -> list[str]:
    """What a function has printed, line by line, where it begins with a word."""
    found = cloud.client("logs").filter_log_events(logGroupName=f"/aws/lambda/{function}")["events"]
    lines = [line for event in found for line in event["message"].splitlines()]
    return [line for line in lines if line.startswith(word)]
