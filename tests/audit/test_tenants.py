"""What is hidden from the lists of its tenant is found, whatever hides it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import boto3
import pytest

from audit.scene import KEYS, SIGNER, Scene, a_command, named, opened
from commandstore import Command
from commandstore.audit import verify_ledger
from commandstore.memory import MemoryBackend
from commandstore.registry import backend_from_url


class Hiding(MemoryBackend):
    """Lists of a tenant that don't show everything, and counts that know of it, or don't."""

    hidden = frozenset[str]()
    counts_them = False
    walks = 0

    async def page(self, query, after, limit, *, payload=True):
        found = await super().page(query, after, limit, payload=payload)
        if query.tenant_uuid is None:
            return found
        self.walks += 1
        return found._replace(rows=[row for row in found.rows if row.record.command_uuid not in self.hidden])

    async def count(self, query):
        found = await super().count(query)
        return found - (len(self.hidden) if query.tenant_uuid == "t" and not self.counts_them else 0)


@pytest.fixture
def hiding() -> Scene:
    it = Scene(opened(Hiding(), signer=SIGNER))
    it.store.create_many(
        Command(f"{tenant}{n}", n, tenant_uuid=tenant) for tenant in ("t", "u", "") for n in range(1, 4)
    )
    return it


def test_what_is_hidden_from_its_tenant_is_named(hiding: Scene) -> None:
    assert hiding.audit().tenants_compared == 3
    assert hiding.backend.walks == 0
    hiding.backend.hidden = frozenset({"t1"})
    report = hiding.audit()
    assert (named(report), report.unlisted, report.intact) == ({("unlisted", "t1")}, 1, 8)
    assert report.findings[0].reason == "it is there, and not in the lists of its tenant"


def test_what_a_count_knows_nothing_of_is_found_by_walking_all_lists(hiding: Scene) -> None:
    hiding.backend.hidden = frozenset({"t1", "u2"})
    hiding.backend.counts_them = True
    assert hiding.audit().clean
    assert named(hiding.audit(lists=True)) == {("unlisted", "t1"), ("unlisted", "u2")}


def test_it_is_named_among_more_of_one_time_than_are_worth_reading(
    hiding: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("commandstore.audit.replay._TIES_PAGES", 0)
    hiding.backend.hidden = frozenset({"t1"})
    assert named(hiding.audit()) == {("unlisted", "t1")}


def test_lists_that_lag_behind_make_no_finding(hiding: Scene) -> None:
    hiding.backend.hidden = frozenset({"t1"})

    async def sleep(_: float) -> None:
        hiding.backend.hidden = frozenset()

    hiding.store.core.drive.sleep = sleep
    report = verify_ledger(hiding.store, KEYS, patience=30)
    assert (report.clean, report.intact) == (True, 9)


def test_what_is_hidden_and_deleted_meanwhile_is_no_finding(hiding: Scene) -> None:
    hiding.backend.hidden = frozenset({"t1"})

    async def sleep(_: float) -> None:
        hiding.store.delete("t1")

    hiding.store.core.drive.sleep = sleep
    assert verify_ledger(hiding.store, KEYS, patience=30).clean


def test_more_tenants_than_are_kept_are_said_not_to_be_compared(hiding: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    hiding.backend.hidden = frozenset({"t1"})
    monkeypatch.setattr("commandstore.audit.book.MOST_TENANTS", 2)
    report = hiding.audit()
    assert (report.clean, report.tenants_compared) == (True, None)


def test_an_audit_from_a_checkpoint_leaves_it_to_a_full_one(hiding: Scene) -> None:
    checkpoint = hiding.audit().checkpoint
    hiding.backend.hidden = frozenset({"t1"})
    report = hiding.audit(checkpoint=checkpoint)
    assert (report.clean, report.tenants_compared) == (True, None)


# Index attributes, which only an attacker can remove


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest, ministack: Any) -> Iterator[tuple[Scene, Any]]:
    request.getfixturevalue("surroundings")
    where = f"region=us-east-1&endpoint_url={ministack.endpoint}&tenant_shards=1&time_shards=1"
    with (
        opened(backend_from_url(f"dynamodb://audit-tenants?{where}")) as store,
        closing(boto3.client("dynamodb", **ministack.client_arguments)) as client,
    ):
        yield Scene(store), client


def change(client: Any, uuid: str, expression: str, **values: str) -> None:
    given = {f":{name}": {"S": value} for name, value in values.items()}
    client.update_item(
        TableName="audit-tenants",
        Key={"uuid": {"S": uuid}, "part": {"S": "head"}},
        UpdateExpression=expression,
        **({"ExpressionAttributeValues": given} if given else {}),
    )


def test_an_index_attribute_that_was_removed_is_found(table: tuple[Scene, Any]) -> None:
    it, client = table
    it.put_back()
    change(client, "a1", "REMOVE tenant_shard")
    assert "a1" not in {command.command_uuid for command in it.store.list(tenant_uuid="t").commands}
    assert named(it.audit()) == {("unlisted", "a1")}
    # As docs/ledger.md has it: an update writes it whole.
    it.store.init(signer=SIGNER)
    it.store.update(a_command("a1", 11))
    assert it.audit().clean


def test_index_attributes_that_were_swapped_are_found_by_walking_all_lists(table: tuple[Scene, Any]) -> None:
    it, client = table
    it.put_back()
    it.store.init(signer=SIGNER)
    it.store.create(Command("other", 50, tenant_uuid="u"))
    change(client, "a1", "SET tenant_shard = :to", to="u#0")
    change(client, "other", "SET tenant_shard = :to", to="t#0")
    assert it.audit().clean
    assert named(it.audit(lists=True)) == {("unlisted", "a1"), ("unlisted", "other")}
