"""The table itself: how it is made, how it is recognised, and the settings that it keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from commandstore.aws.retry import Retry
from commandstore.codec import FORMAT_VERSION
from commandstore.drive import Drive
from commandstore.dynamodb import layout
from commandstore.dynamodb.layout import Shards
from commandstore.dynamodb.requests import ABSENT
from commandstore.dynamodb.wire import ConditionFailed, Wire
from commandstore.errors import ConfigurationError, StoreNotFound, StoreUnavailable

__all__ = ["Creation", "definition", "fault", "open_table"]

_PATIENCE = 300.0
_LONGEST_POLL = 2.0


@dataclass(frozen=True, slots=True)
class Creation:
    """How a table is made. The rest (alarms, backups, keys of one's own) is the infrastructure's.

    Attributes:
        tenant_shards: None takes what the table has, or the default.
        time_shards: likewise.
        deletion_protection: DeleteTable is refused until it is switched off.
        pitr: continuous backups, so that any second of the last weeks can be restored.
    """

    tenant_shards: int | None = None
    time_shards: int | None = None
    deletion_protection: bool = False
    pitr: bool = False

    @property
    def shards(self) -> Shards:
        """The counts of a new table."""
        default = Shards()
        return Shards(self.tenant_shards or default.tenant, self.time_shards or default.time)


def definition(table: str, *, deletion_protection: bool = False) -> dict[str, Any]:
    """The request that creates the table: on-demand, two keys, two indexes."""
    names = ["uuid", "part", "time_shard", "tenant_shard", "position"]
    request: dict[str, Any] = {
        "TableName": table,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": name, "AttributeType": "S"} for name in names],
        "KeySchema": _key_schema("uuid", "part"),
        "GlobalSecondaryIndexes": [
            {
                "IndexName": index,
                "KeySchema": _key_schema(*keys),
                "Projection": {
                    "ProjectionType": "INCLUDE",
                    "NonKeyAttributes": list(layout.INDEX_ATTRIBUTES[index]),
                },
            }
            for index, keys in layout.INDEX_KEYS.items()
        ],
    }
    if deletion_protection:
        request["DeletionProtectionEnabled"] = True
    return request


def _key_schema(hash_key: str, range_key: str) -> list[dict[str, str]]:
    return [
        {"AttributeName": hash_key, "KeyType": "HASH"},
        {"AttributeName": range_key, "KeyType": "RANGE"},
    ]


def fault(description: Mapping[str, Any]) -> str | None:
    """What about a table that was described doesn't fit; None where all does."""
    if _keys(description) != [("uuid", "HASH", "S"), ("part", "RANGE", "S")]:
        return "its key is not uuid (HASH, string) and part (RANGE, string)"
    indexes = {index["IndexName"]: index for index in description.get("GlobalSecondaryIndexes") or ()}
    for name, keys in layout.INDEX_KEYS.items():
        index = indexes.get(name)
        if index is None:
            return f"it has no index {name}"
        types = dict(_types(description))
        if _keys({**index, "AttributeDefinitions": description.get("AttributeDefinitions")}) != [
            (keys[0], "HASH", "S"),
            (keys[1], "RANGE", "S"),
        ]:
            return f"the key of its index {name} is not {keys[0]} (HASH, string) and {keys[1]} (RANGE, string): {types}"
        projection = index.get("Projection", {})
        missing = set(layout.INDEX_ATTRIBUTES[name]) - set(projection.get("NonKeyAttributes") or ())
        if projection.get("ProjectionType") != "ALL" and missing:
            return f"its index {name} does not project {', '.join(sorted(missing))}"
    return None


def _types(description: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(a["AttributeName"], a["AttributeType"]) for a in description.get("AttributeDefinitions") or ()]


def _keys(description: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    types = dict(_types(description))
    schema = sorted(description.get("KeySchema") or (), key=lambda key: str(key["KeyType"]))
    return [(key["AttributeName"], key["KeyType"], types.get(key["AttributeName"], "")) for key in schema]


async def open_table(wire: Wire, drive: Drive, creation: Creation, *, create: bool) -> Shards:
    """Find the table (or make it), see that it is one of ours, and read its shard counts.

    Raises:
        StoreNotFound: there is none, and ``create`` is False.
        ConfigurationError: it has another shape, other counts than asked for, or no settings.
    """
    # Few attempts: a host that can't be reached should be said at once, not after a minute.
    quick = Retry(attempts=3, base=wire.retry.base, draw=wire.retry.draw, clock=wire.retry.clock)
    description = await _describe(wire, quick)
    if description is None:
        if not create:
            raise StoreNotFound(
                f"there is no table {wire.table} at {wire.place.host}; "
                f"create it with: commandstore init '{wire.place.url}'"
            )
        await _create(wire, creation)
    made = description is None
    description = await _active(wire, drive, description)
    if made and creation.pitr:
        await _protect(wire)
    wrong = fault(description)
    if wrong is not None:
        raise ConfigurationError(f"table {wire.table} is not a command store: {wrong}")
    shards = await _settings(wire)
    if shards is None:
        if not create:
            raise ConfigurationError(
                f"table {wire.table} has the right shape, but no settings yet; "
                f"write them with: commandstore init '{wire.place.url}'"
            )
        shards = await _settle(wire, creation.shards)
    for name, asked, has in (
        ("tenant_shards", creation.tenant_shards, shards.tenant),
        ("time_shards", creation.time_shards, shards.time),
    ):
        if asked is not None and asked != has:
            raise ConfigurationError(
                f"table {wire.table} was made with {name}={has}, and the URL says {asked}; "
                "the count of a table never changes: leave it out of the URL"
            )
    return shards


async def _describe(wire: Wire, retry: Retry | None = None) -> dict[str, Any] | None:
    try:
        answer = await wire.call("DescribeTable", {"TableName": wire.table}, retry=retry)
    except StoreNotFound:
        return None
    described: dict[str, Any] = answer["Table"]
    return described


async def _create(wire: Wire, creation: Creation) -> None:
    request = definition(wire.table, deletion_protection=creation.deletion_protection)
    try:
        await wire.call("CreateTable", request)
    except ConfigurationError as error:
        # Somebody else was quicker, or our own first attempt was: see what there is.
        if "ResourceInUseException" not in str(error):
            raise


async def _protect(wire: Wire) -> None:
    request = {"TableName": wire.table, "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True}}
    await wire.call("UpdateContinuousBackups", request)


async def _active(wire: Wire, drive: Drive, description: dict[str, Any] | None) -> dict[str, Any]:
    """Wait until table and indexes are there: a new one takes AWS some seconds."""
    end = wire.retry.clock() + _PATIENCE
    pause = min(0.1, wire.retry.base)
    while True:
        # After CreateTable, DescribeTable may say for a moment that there is none.
        description = description or await _describe(wire)
        states = [] if description is None else [description.get("TableStatus")]
        states += [i.get("IndexStatus", "ACTIVE") for i in (description or {}).get("GlobalSecondaryIndexes") or ()]
        if description is not None and all(state in {"ACTIVE", "UPDATING"} for state in states):
            return description
        hopeless = any(state not in {"ACTIVE", "CREATING", "UPDATING"} for state in states)
        if hopeless or wire.retry.clock() > end:
            what = ", ".join(sorted({str(state) for state in states})) or "nowhere to be seen"
            raise StoreUnavailable(f"table {wire.table} is not ready ({what}); try again later")
        await drive.sleep(pause)
        pause = min(_LONGEST_POLL, pause * 2)
        description = None


# Settings


async def _settings(wire: Wire) -> Shards | None:
    item = await wire.get(layout.SETTINGS_KEY)
    if item is None:
        return None
    try:
        form = int(item["format"]["N"])
        shards = Shards(int(item["tenant_shards"]["N"]), int(item["time_shards"]["N"]))
        if not all(1 <= count <= layout.MOST_SHARDS for count in shards):
            raise ValueError("a count of shards that can't be")  # noqa: TRY301 - told below
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(f"the settings in table {wire.table} can't be read ({error!r})") from error
    if form > FORMAT_VERSION:
        raise ConfigurationError(
            f"table {wire.table} has format {form}; this commandstore knows up to {FORMAT_VERSION}: update it"
        )
    return shards


async def _settle(wire: Wire, shards: Shards) -> Shards:
    """Write the settings of a new table, unless somebody else just did; then theirs hold.

    Two clients that disagreed on the counts would each miss what the other wrote. So the counts are written by a
    condition, and only while the table is empty: with commands in it, nobody knows which counts they were spread by.
    """
    answer = await wire.call("Scan", {"TableName": wire.table, "Limit": 1, "ConsistentRead": True})
    if answer["Items"]:
        found = await _settings(wire)
        if found is None:
            raise ConfigurationError(
                f"table {wire.table} holds items but no settings (item 'commandstore', 'settings'), so the shards of "
                "its commands are unknown; restore that item, or use another table"
            )
        return found
    item: layout.Item = {
        **layout.SETTINGS_KEY,
        "format": {"N": str(FORMAT_VERSION)},
        "tenant_shards": {"N": str(shards.tenant)},
        "time_shards": {"N": str(shards.time)},
    }
    try:
        await wire.call("PutItem", {"TableName": wire.table, "Item": item, **ABSENT})
    except ConditionFailed:
        found = await _settings(wire)
        if found is None:
            raise ConfigurationError(f"the settings of table {wire.table} came and went; try again") from None
        return found
    return shards
