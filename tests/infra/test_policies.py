"""The policies of the deployments against what the code needs: action by action, for each role."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.iam import allowed_by, differences
from infra.terraform_rig import MODULES, ROOT, Workspace

pytestmark = pytest.mark.xdist_group("policies")

STORES = ["dynamodb", "s3"]
SERVERLESS = {
    "SyncRole": "function",
    "VerifyRole": "verify",
    "PlanRole": "plan",
    "CopyRangeRole": "copy_range",
    "FinishRole": "finish",
}
TERRAFORM = {"sync": "function", "verify": "verify", "plan": "plan", "copy_range": "copy_range", "finish": "finish"}
VARIABLES: dict[str, dict[str, Any]] = {
    "dynamodb": {"name": "policies", "deletion_protection": False},
    "s3": {"bucket": "policies", "prefix": "audit"},
}
PROVIDER = """
provider "aws" {
  region                      = "us-east-1"
  access_key                  = "testing"
  secret_key                  = "testing"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
  s3_use_path_style           = true
  endpoints {
    dynamodb = "ENDPOINT"
    s3       = "ENDPOINT"
    sts      = "ENDPOINT"
  }
}
"""


@pytest.fixture(scope="module")
def roles() -> dict[str, Any]:
    source = ROOT / "infra" / "serverless" / "roles.yml"
    found: dict[str, Any] = yaml.safe_load(source.read_text("utf-8"))["template"]["Resources"]
    return found


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("role", SERVERLESS)
def test_serverless_allows_what_the_code_needs_and_nothing_else(roles, role, store) -> None:
    documents = [policy["PolicyDocument"] for policy in roles[role]["Properties"]["Policies"]]
    assert differences(store, SERVERLESS[role], *documents) == {}


def test_no_other_role_of_serverless_touches_a_store(roles) -> None:
    others = {name: role for name, role in roles.items() if name not in SERVERLESS}
    assert others
    for role in others.values():
        for policy in role["Properties"]["Policies"]:
            assert not allowed_by(policy["PolicyDocument"], *STORES)


def parts_of_functions() -> dict[str, list[str]]:
    """Of each function of the module aws-sync, which of a store's policies it is given."""
    text = (MODULES / "aws-sync" / "main.tf").read_text("utf-8")
    found = re.findall(r"(\w+) = \{\n\s+handler\b[^}]*?destination\s*= \[([^]]*)\]", text)
    return {name: re.findall(r'"(\w+)"', parts) for name, parts in found}


@pytest.fixture(scope="module", params=STORES)
def store_and_policies(request, ministack, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, str]]:
    """A store, and the policies that its module gives away once it is there."""
    place: Path = tmp_path_factory.mktemp("policies")
    workspace = Workspace(place, f"modules/aws-store-{request.param}")
    (workspace.folder / "provider.tf").write_text(PROVIDER.replace("ENDPOINT", ministack.endpoint))
    workspace.init()
    # Only what the policies are made from, and not destroyed: the engine goes with all that is in it.
    (workspace.folder / "terraform.tfvars.json").write_text(json.dumps(VARIABLES[request.param]))
    target = "-target=data.aws_iam_policy_document.this"
    workspace.run("apply", "-input=false", "-no-color", "-auto-approve", target)
    return request.param, workspace.outputs()["policies"]


def test_terraform_allows_what_the_code_needs_and_nothing_else(store_and_policies) -> None:
    store, policies = store_and_policies
    parts = parts_of_functions()
    assert parts.keys() == TERRAFORM.keys()
    for function, role in TERRAFORM.items():
        documents = [policies[part] for part in parts[function]]
        assert (function, differences(store, role, *documents)) == (function, {})
