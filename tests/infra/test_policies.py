"""The policies of serverless.yml against what the code needs: action by action, for each role."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from infra.iam import allowed_by, differences, needed_keys
from infra.serverless_rig import ROOT

STORES = ["dynamodb", "s3"]
SERVERLESS = {
    "SyncRole": "function",
    "VerifyRole": "verify",
    "PlanRole": "plan",
    "CopyRangeRole": "copy_range",
    "FinishRole": "finish",
}


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


def statements_about(role: dict[str, Any], parameter: str) -> list[tuple[str, set[str]]]:
    """The conditions and the actions of a role's statements about what a parameter names."""
    found = []
    for policy in role["Properties"]["Policies"]:
        for entry in policy["PolicyDocument"]["Statement"]:
            condition, statement, _ = entry.get("Fn::If", ("", entry, None))
            if statement["Resource"] == {"Ref": parameter}:
                found.append((condition, set(allowed_by({"Statement": statement}))))
    return found


@pytest.mark.parametrize("role", SERVERLESS)
def test_serverless_allows_with_a_key_in_kms_what_the_code_needs_and_nothing_else(roles, role) -> None:
    for key, parameter, condition in (
        ("ledger", "LedgerKeyArn", "HasLedgerKey"),
        ("payload", "PayloadKmsKeyArn", "HasPayloadKey"),
    ):
        needed = needed_keys(key, role=SERVERLESS[role])
        assert statements_about(roles[role], parameter) == ([(condition, needed)] if needed else [])


@pytest.mark.parametrize("role", SERVERLESS)
def test_every_function_of_serverless_may_read_the_secrets_of_its_stores(roles, role) -> None:
    read = {"secretsmanager:GetSecretValue"}
    assert statements_about(roles[role], "SourceKeysSecretArn") == [("HasSourceKeys", read)]
    assert statements_about(roles[role], "DestinationKeysSecretArn") == [("HasDestinationKeys", read)]


def test_no_other_role_of_serverless_touches_a_store(roles) -> None:
    others = {name: role for name, role in roles.items() if name not in SERVERLESS}
    assert others
    for role in others.values():
        for policy in role["Properties"]["Policies"]:
            assert not allowed_by(policy["PolicyDocument"], *STORES, "kms", "secretsmanager")
