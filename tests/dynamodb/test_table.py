"""URLs, opening, creating, recognising the table, and its settings."""

from __future__ import annotations

import builtins
from typing import Any

import pytest

from commandstore import codec
from commandstore.command import Command
from commandstore.contract import Capability
from commandstore.drive import run
from commandstore.dynamodb.backend import DynamoDBBackend
from commandstore.dynamodb.table import Creation, definition, fault
from commandstore.errors import (
    AccessDenied,
    ConfigurationError,
    MissingDependency,
    StoreNotFound,
    StoreUnavailable,
)
from commandstore.registry import backend_from_url
from commandstore.store import CommandStore
from commandstore.testing.engines import Engine
from dynamodb.rig import NO_PAUSE, Rig, rigs

SETTINGS = {"uuid": {"S": "commandstore"}, "part": {"S": "settings"}}


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("dynamodb://", "name"),
        ("dynamodb://a", "name"),
        ("dynamodb://user:pw@table", "name"),
        ("dynamodb://table/path", "path"),
        ("dynamodb://table?regoin=x", "regoin"),
        ("dynamodb://table?bulk=fast", "bulk"),
        ("dynamodb://table?concurrency=0", "concurrency"),
        ("dynamodb://table?tenant_shards=257", "tenant_shards"),
        ("dynamodb://table?time_shards=many", "time_shards"),
        ("dynamodb://table?pitr=perhaps", "pitr"),
        ("dynamodb://table?endpoint_url=localhost:4566", "endpoint_url"),
        ("dynamodb://table?endpoint_url=http://user:pw@localhost", "endpoint_url"),
        ("dynamodb://table?endpoint_url=http://[::1", "endpoint_url"),
        ("dynamodb://table?endpoint_url=http://localhost:99999", "endpoint_url"),
    ],
)
def test_a_url_that_cannot_be_right_is_refused_before_anything_is_touched(url: str, word: str) -> None:
    with pytest.raises(ConfigurationError, match=word) as caught:
        backend_from_url(url)
    assert "pw" not in str(caught.value)


def test_a_url_gives_every_option() -> None:
    backend = backend_from_url(
        "dynamodb://a.table-1?region=eu-central-1&endpoint_url=http://127.0.0.1:1/&bulk=put&concurrency=3"
        "&tenant_shards=5&time_shards=6&pitr=true&deletion_protection=true&profile=someone"
    )
    assert isinstance(backend, DynamoDBBackend)
    assert backend.location == "dynamodb://a.table-1?region=eu-central-1&endpoint_url=http://127.0.0.1:1"
    assert backend._creation == Creation(5, 6, deletion_protection=True, pitr=True)
    assert backend._put
    assert backend._concurrency == 3


def test_a_location_is_the_same_before_and_after_opening_and_has_the_region_of_the_environment(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rig.make().location == f"dynamodb://{rig.table}?region=us-east-1&endpoint_url={rig.endpoint}"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-3")
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", rig.endpoint)
    backend = rig.make(endpoint_url=None)
    before = backend.location
    rig.open(backend)
    assert before == backend.location == f"dynamodb://{rig.table}?region=eu-west-3&endpoint_url={rig.endpoint}"


def test_the_region_may_come_from_the_variable_of_lambda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    assert DynamoDBBackend("table").location == "dynamodb://table?region=eu-west-3"
    with CommandStore(DynamoDBBackend("table", endpoint_url="http://127.0.0.1:1")) as store:
        assert "region=eu-west-3" in str(store)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert DynamoDBBackend("table").location == "dynamodb://table?region=eu-west-1"
    assert DynamoDBBackend("table", region="eu-west-2").location == "dynamodb://table?region=eu-west-2"


def test_it_says_what_it_can_do() -> None:
    backend = DynamoDBBackend("table")
    assert backend.store_type == "dynamodb"
    assert backend.capabilities == {Capability.DIGESTS, Capability.MAINTENANCE}
    assert backend.list_is_consistent is False


def test_a_missing_table_is_said_with_the_command_that_makes_it_and_nothing_is_made(rig: Rig) -> None:
    with pytest.raises(StoreNotFound, match=f"commandstore init 'dynamodb://{rig.table}"):
        rig.open(create=False)
    assert rig.table not in rig.raw.list_tables()["TableNames"]


def test_init_makes_the_table_that_the_definition_says(rig: Rig) -> None:
    rig.open()
    described = rig.raw.describe_table(TableName=rig.table)["Table"]
    assert fault(described) is None
    assert described["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    settings = rig.raw.get_item(TableName=rig.table, Key=SETTINGS)["Item"]
    assert settings == {
        **SETTINGS,
        "format": {"N": "1"},
        "tenant_shards": {"N": "2"},
        "time_shards": {"N": "3"},
    }
    rig.open(create=False)


def test_protection_and_recovery_are_switched_on_where_the_url_asks_for_them(rig: Rig) -> None:
    rig.open(creation=Creation(deletion_protection=True, pitr=True))
    assert rig.raw.describe_table(TableName=rig.table)["Table"]["DeletionProtectionEnabled"] is True
    backups = rig.raw.describe_continuous_backups(TableName=rig.table)["ContinuousBackupsDescription"]
    assert backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"
    rig.raw.update_table(TableName=rig.table, DeletionProtectionEnabled=False)


def test_a_table_that_is_still_being_made_is_waited_for(rig: Rig) -> None:
    def creating(answer: dict) -> dict:
        return {"Table": {**answer["Table"], "TableStatus": "CREATING"}}

    def index_creating(answer: dict) -> dict:
        indexes = [{**index, "IndexStatus": "CREATING"} for index in answer["Table"]["GlobalSecondaryIndexes"]]
        return {"Table": {**answer["Table"], "GlobalSecondaryIndexes": indexes}}

    rig.open()
    for change in (creating, creating, index_creating):
        rig.faults.answer("describe_table", change)
    rig.open(create=False)
    rig.faults.answer("describe_table", lambda a: {"Table": {**a["Table"], "TableStatus": "DELETING"}})
    with pytest.raises(StoreUnavailable, match="DELETING"):
        rig.open(create=False)


def test_two_that_make_the_table_at_once_agree_on_its_settings(rig: Rig) -> None:
    rig.open(creation=Creation(tenant_shards=7))
    # The second one saw no table and no settings, as if both had looked before either wrote.
    rig.faults.fail("describe_table", "ResourceNotFoundException")
    rig.faults.answer("get_item", lambda _: {})
    rig.faults.answer("scan", lambda _: {"Items": []})
    other = rig.open(creation=Creation(time_shards=16))
    assert other._lister._shards == (7, 16)


def test_shard_counts_never_change_once_they_are_written(rig: Rig) -> None:
    rig.open()
    for creation in (Creation(tenant_shards=4), Creation(time_shards=16)):
        with pytest.raises(ConfigurationError, match="never changes"):
            rig.open(creation=creation)
    assert rig.open(creation=Creation())._lister._shards == (2, 3)


def test_an_empty_table_made_elsewhere_gets_its_settings_by_init_only(rig: Rig) -> None:
    rig.raw.create_table(**definition(rig.table))
    with pytest.raises(ConfigurationError, match="commandstore init"):
        rig.open(create=False)
    assert rig.items() == []
    assert rig.open(create=True)._lister._shards == (2, 3)
    rig.open(create=False)


def test_a_table_with_commands_but_without_settings_is_refused(rig: Rig) -> None:
    backend = rig.open()
    rig.do(backend.insert([codec.encode(Command("c", 1))], "w1"))
    rig.raw.delete_item(TableName=rig.table, Key=SETTINGS)
    with pytest.raises(ConfigurationError, match="no settings"):
        rig.open()


@pytest.mark.parametrize("change", [{"format": {"N": "99"}}, {"tenant_shards": {"S": "x"}}])
def test_settings_of_a_newer_version_or_none_are_refused(rig: Rig, change: dict[str, Any]) -> None:
    rig.open()
    item = rig.raw.get_item(TableName=rig.table, Key=SETTINGS)["Item"]
    rig.raw.put_item(TableName=rig.table, Item={**item, **change})
    with pytest.raises(ConfigurationError):
        rig.open()


def _without_index(request: dict[str, Any]) -> None:
    del request["GlobalSecondaryIndexes"][1]
    request["AttributeDefinitions"] = [
        a for a in request["AttributeDefinitions"] if a["AttributeName"] != "tenant_shard"
    ]


def _other_key(request: dict[str, Any]) -> None:
    request["KeySchema"] = request["KeySchema"][:1]
    request["AttributeDefinitions"] = [a for a in request["AttributeDefinitions"] if a["AttributeName"] != "part"]


def _binary_position(request: dict[str, Any]) -> None:
    for attribute in request["AttributeDefinitions"]:
        if attribute["AttributeName"] == "position":
            attribute["AttributeType"] = "B"


def _keys_only(request: dict[str, Any]) -> None:
    request["GlobalSecondaryIndexes"][0]["Projection"] = {"ProjectionType": "KEYS_ONLY"}


@pytest.mark.parametrize("change", [_without_index, _other_key, _binary_position, _keys_only])
def test_a_table_of_another_shape_is_no_command_store(rig: Rig, change: Any) -> None:
    request = definition(rig.table)
    change(request)
    rig.raw.create_table(**request)
    with pytest.raises(ConfigurationError, match="not a command store"):
        rig.open()
    assert rig.items() == []


def test_an_index_that_projects_everything_will_do(rig: Rig) -> None:
    request = definition(rig.table)
    for index in request["GlobalSecondaryIndexes"]:
        index["Projection"] = {"ProjectionType": "ALL"}
    rig.raw.create_table(**request)
    rig.open()


def test_an_unreachable_host_is_said_after_few_attempts(drive: str) -> None:
    for rig in rigs("http://127.0.0.1:9", drive):
        with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:9"):
            rig.open()
        assert rig.faults.calls["describe_table"] == 3


def test_what_answers_but_is_no_dynamodb_is_said(rig: Rig) -> None:
    rig.open()
    for _ in range(3):
        rig.faults.answer("describe_table", lambda _: ["a proxy's word"])
    with pytest.raises(StoreUnavailable, match="does not answer as DynamoDB"):
        rig.open(create=False)


def test_without_a_region_the_url_to_write_is_said() -> None:
    with pytest.raises(ConfigurationError, match="region"), CommandStore(DynamoDBBackend("table")) as store:
        store.init(create=False)


def test_without_credentials_an_endpoint_elsewhere_is_denied_and_one_of_this_machine_is_not(
    ministack: Engine, drive: str
) -> None:
    for rig in rigs(ministack.endpoint, drive):  # the environment has none
        rig.open()
    for rig in rigs("http://dynamodb.invalid", drive, region="us-east-1"):
        with pytest.raises(AccessDenied, match="AWS_PROFILE"):
            rig.open()


def test_an_unknown_profile_is_said() -> None:
    backend = DynamoDBBackend("table", region="us-east-1", profile="nobody")
    with pytest.raises(ConfigurationError, match="nobody"), CommandStore(backend) as store:
        store.init(create=False)


def test_a_missing_aioboto3_is_answered_with_its_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **settings: Any) -> Any:
        if name.startswith("aioboto"):
            raise ModuleNotFoundError(name=name)
        return real(name, *args, **settings)

    monkeypatch.setattr(builtins, "__import__", without)

    class Pretending:
        is_async = True

    backend = DynamoDBBackend("table", endpoint_url="http://127.0.0.1:9", retry=NO_PAUSE)
    with pytest.raises(MissingDependency, match=r"commandstore\[async\]"):
        run(backend.open(Pretending(), create=False))  # type: ignore[arg-type]


def test_closing_twice_is_fine_and_it_can_be_opened_again(rig: Rig) -> None:
    backend = rig.open()
    rig.do(backend.close())
    rig.do(backend.close())
    rig.open(backend)
    assert rig.do(backend.fetch(["c"])) == {}
