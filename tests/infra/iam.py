"""What the code calls at AWS, and which actions of IAM that takes: recorded from real work, and read from policies.

``NEEDED`` is what the roles of a deployment are to allow. ``test_least_privilege.py`` does real work, records its
requests, and holds this table against them; tests of templates hold their policies against this table.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import botocore.session
import pytest


class Call(NamedTuple):
    """A request that went out.

    Attributes:
        service: by the SDK's name: ``dynamodb``.
        operation: by the SDK's name: ``PutItem``.
        resource: of which kind: ``table``, ``index/by_time``, ``bucket``, or the first piece of a key within the store
            (``inbox/``, ``manifest.json``). Of a key in KMS or a secret what it was asked for by, if at all.
        how: what else decides about the action: the word a PartiQL statement begins with, ``if-match``.
    """

    service: str
    operation: str
    resource: str
    how: str = ""


class Need(NamedTuple):
    """An action, and on what it is needed."""

    action: str
    resource: str


# Of an operation, the actions that AWS asks for (Service Authorization Reference). What isn't here fails the tests.
_ACTIONS: dict[tuple[str, str, str], tuple[str, ...]] = {
    ("dynamodb", "BatchExecuteStatement", "DELETE"): ("dynamodb:PartiQLDelete",),
    ("dynamodb", "BatchExecuteStatement", "INSERT"): ("dynamodb:PartiQLInsert",),
    ("dynamodb", "BatchExecuteStatement", "SELECT"): ("dynamodb:PartiQLSelect",),
    ("dynamodb", "BatchExecuteStatement", "UPDATE"): ("dynamodb:PartiQLUpdate",),
    ("dynamodb", "BatchGetItem", ""): ("dynamodb:BatchGetItem",),
    # Its removals too: nothing asks for DeleteItem then.
    ("dynamodb", "BatchWriteItem", ""): ("dynamodb:BatchWriteItem",),
    ("dynamodb", "CreateTable", ""): ("dynamodb:CreateTable",),
    ("dynamodb", "DeleteItem", ""): ("dynamodb:DeleteItem",),
    ("dynamodb", "DeleteTable", ""): ("dynamodb:DeleteTable",),
    ("dynamodb", "DescribeTable", ""): ("dynamodb:DescribeTable",),
    ("dynamodb", "GetItem", ""): ("dynamodb:GetItem",),
    ("dynamodb", "PutItem", ""): ("dynamodb:PutItem",),
    ("dynamodb", "Query", ""): ("dynamodb:Query",),
    ("dynamodb", "Scan", ""): ("dynamodb:Scan",),
    ("dynamodb", "UpdateContinuousBackups", ""): ("dynamodb:UpdateContinuousBackups",),
    ("dynamodb", "UpdateItem", ""): ("dynamodb:UpdateItem",),
    ("s3", "CreateBucket", ""): ("s3:CreateBucket",),
    ("s3", "DeleteObject", ""): ("s3:DeleteObject",),
    # Without ListBucket, a missing object is 403 and not 404.
    ("s3", "GetObject", ""): ("s3:GetObject", "s3:ListBucket"),
    ("s3", "GetObjectLockConfiguration", ""): ("s3:GetBucketObjectLockConfiguration",),
    ("s3", "HeadObject", ""): ("s3:GetObject", "s3:ListBucket"),
    ("s3", "ListObjectsV2", ""): ("s3:ListBucket",),
    ("s3", "PutObject", ""): ("s3:PutObject",),
    # To compare an ETag is to read.
    ("s3", "PutObject", "if-match"): ("s3:PutObject", "s3:GetObject"),
    ("secretsmanager", "GetSecretValue", ""): ("secretsmanager:GetSecretValue",),
    # A SecureString: SSM asks KMS in the caller's name. The account's own key (alias/aws/ssm) allows it by its policy.
    ("ssm", "GetParameter", ""): ("ssm:GetParameter",),
    ("kms", "Decrypt", ""): ("kms:Decrypt",),
    ("kms", "GenerateDataKey", ""): ("kms:GenerateDataKey",),
    ("kms", "GetPublicKey", ""): ("kms:GetPublicKey",),
    ("kms", "Sign", ""): ("kms:Sign",),
}
_OF_THE_BUCKET = {"s3:CreateBucket", "s3:GetBucketObjectLockConfiguration", "s3:ListBucket"}
_SERVICES = {"secrets-manager": "secretsmanager"}
_NAMED_BY = {"kms": "KeyId", "secretsmanager": "SecretId"}

_REGISTERS = {
    "dynamodb": {"dynamodb:DescribeTable", "dynamodb:GetItem", "dynamodb:PutItem"},
    "s3": {"s3:GetObject", "s3:ListBucket", "s3:PutObject"},
}
_SYNC = {
    "dynamodb": {
        *_REGISTERS["dynamodb"],
        "dynamodb:BatchGetItem",
        "dynamodb:BatchWriteItem",
        "dynamodb:PartiQLInsert",
    },
    "s3": {*_REGISTERS["s3"], "s3:DeleteObject"},
}
NEEDED: dict[str, dict[str, set[str]]] = {
    "sync": _SYNC,
    "verify": {
        "dynamodb": {
            "dynamodb:BatchGetItem",
            "dynamodb:DescribeTable",
            "dynamodb:GetItem",
            "dynamodb:Query",
        },
        "s3": {"s3:GetObject", "s3:ListBucket"},
    },
    "plan": _REGISTERS,
    "copy_range": _SYNC,
    "finish": _REGISTERS,
    # Not a function's: `commandstore init` of a table or bucket that a template made.
    "init": {
        "dynamodb": {*_REGISTERS["dynamodb"], "dynamodb:Scan"},
        "s3": {*_REGISTERS["s3"], "s3:DeleteObject"},
    },
}
"""By role and kind of store. ``sync`` is a sync alone: a function that may also verify needs both."""


_WRITER = {"ledger": {"kms:GetPublicKey", "kms:Sign"}, "payload": {"kms:Decrypt", "kms:GenerateDataKey"}}
_NEITHER: dict[str, set[str]] = {"ledger": set(), "payload": set()}
KEYS: dict[str, dict[str, set[str]]] = {
    "sync": _WRITER,
    "verify": {"ledger": set(), "payload": {"kms:Decrypt"}},
    "plan": _NEITHER,
    "copy_range": _WRITER,
    "finish": _NEITHER,
}
"""By role, what it needs on the key that signs the ledger, and on the one under which payloads are sealed."""


_TOGETHER = {"backfill": ("plan", "copy_range", "finish"), "function": ("sync", "verify")}


def needed_actions(store: str, *, role: str) -> frozenset[str]:
    """What a role must be allowed to do in its destination, and nothing else.

    Args:
        store: ``dynamodb`` or ``s3``.
        role: ``sync``, ``verify``, ``plan``, ``copy_range``, ``finish``, ``init``; or ``backfill``, which is three of
            these, or ``function``, which is what the scheduled one does: it may be asked to verify after a sync.
    """
    roles = _TOGETHER.get(role, (role,))
    return frozenset(action for one in roles for action in NEEDED[one][store])


def needed_keys(key: str, *, role: str) -> frozenset[str]:
    """What a role must be allowed to do with a key in KMS, and nothing else.

    Args:
        key: ``ledger`` or ``payload``.
        role: as in :func:`needed_actions`, but for ``init``.
    """
    return frozenset(action for one in _TOGETHER.get(role, (role,)) for action in KEYS[one][key])


class Recorder:
    """Collects what clients send. Those made while it is in place are heard, blocking and asyncio's alike."""

    def __init__(self) -> None:
        self.calls: set[Call] = set()

    def __call__(self, request: Any, event_name: str, **_: Any) -> None:
        _, service, operation = event_name.split(".")
        service = _SERVICES.get(service, service)
        resource, how = "", ""
        if service == "dynamodb":
            resource, how = _table_of(_json(request.body))
        elif service == "s3":
            resource, how = _object_of(request.url), "if-match" if "If-Match" in request.headers else ""
            how = how if operation == "PutObject" else ""
        elif service in _NAMED_BY:
            resource = str(_json(request.body).get(_NAMED_BY[service], ""))
        self.calls.add(Call(service, operation, resource, how))


@contextmanager
def recording(prefix: str = "") -> Iterator[Recorder]:
    """Record what the clients send that are made meanwhile.

    Args:
        prefix: of S3 keys, left out of what is recorded.
    """
    recorder = Recorder()
    begin = botocore.session.Session.__init__

    def begun(self: Any, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        # The last moment before a request leaves: whatever the library does to its body is done.
        self.register("before-send", recorder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session.Session, "__init__", begun)
        yield recorder
    recorder.calls = {
        call._replace(resource=_first_piece(call.resource, prefix)) if call.service == "s3" else call
        for call in recorder.calls
    }


def needs_of(recorded: Iterable[Call]) -> set[Need]:
    """The actions that these calls take, each with what it is needed on."""
    needs = set()
    for call in recorded:
        for action in _ACTIONS[call.service, call.operation, call.how]:
            needs.add(Need(action, "bucket" if action in _OF_THE_BUCKET else call.resource))
    return needs


def actions_of(recorded: Iterable[Call]) -> frozenset[str]:
    """The actions that these calls take."""
    return frozenset(need.action for need in needs_of(recorded))


def allowed_by(document: Mapping[str, Any] | str, *services: str) -> frozenset[str]:
    """The actions that a policy allows, of these services (of all, where none is named).

    Args:
        document: a policy in JSON; a statement may stand under ``Fn::If`` and counts as if its condition held.
        services: by the prefix of their actions.

    Raises:
        ValueError: it allows by exclusion, or by a wildcard, so that nobody can say what.
    """
    value = json.loads(document) if isinstance(document, str) else document
    allowed: set[str] = set()
    statements = value["Statement"]
    for entry in [statements] if isinstance(statements, Mapping) else statements:
        statement = entry["Fn::If"][1] if "Fn::If" in entry else entry
        if statement["Effect"] != "Allow":
            continue
        if "NotAction" in statement or "NotResource" in statement:
            raise ValueError(f"a statement allows by exclusion: {statement.get('Sid')}")
        actions = statement["Action"]
        allowed |= {actions} if isinstance(actions, str) else set(actions)
    if any("*" in action or "?" in action for action in allowed):
        raise ValueError(f"a wildcard among the actions: {sorted(allowed)}")
    return frozenset(action for action in allowed if not services or action.partition(":")[0] in services)


def differences(store: str, role: str, *documents: Mapping[str, Any] | str) -> dict[str, list[str]]:
    """What the policies of one role allow that it doesn't need, and the other way round; empty where they fit."""
    allowed = frozenset(action for document in documents for action in allowed_by(document, store))
    needed = needed_actions(store, role=role)
    found = {"needless": sorted(allowed - needed), "lacking": sorted(needed - allowed)}
    return {name: actions for name, actions in found.items() if actions}


# What a request is about


def _json(body: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(body.getvalue() if hasattr(body, "getvalue") else body)
    return found


def _table_of(body: Mapping[str, Any]) -> tuple[str, str]:
    if "Statements" in body:
        words = {statement["Statement"].split(maxsplit=1)[0].upper() for statement in body["Statements"]}
        [word] = words
        return "table", word
    return f"index/{body['IndexName']}" if "IndexName" in body else "table", ""


def _object_of(url: str) -> str:
    """The key of an object; ``bucket`` where there is none."""
    parts = urlsplit(url)
    # The path is /BUCKET/KEY: the engines here have no names of their own for buckets.
    _, _, key = parts.path.lstrip("/").partition("/")
    return "bucket" if not key or "list-type" in parse_qs(parts.query) else unquote(key)


def _first_piece(key: str, prefix: str) -> str:
    if key == "bucket":
        return key
    first, slash, _ = key.removeprefix(prefix).partition("/")
    return first + slash
