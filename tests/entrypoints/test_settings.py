"""What the functions are told: a setting that can't be right is named, never shown, and nothing is touched."""

from __future__ import annotations

import pytest

from commandstore import ConfigurationError
from commandstore.entrypoints.settings import (
    PlanEvent,
    RangeEvent,
    SyncEvent,
    VerifyEvent,
    read_event,
    read_settings,
)

SECRET = "hunter2"


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("COMMANDSTORE_SOURCE", f"postgresql://app:{SECRET}@db/app")
    monkeypatch.setenv("COMMANDSTORE_DESTINATION", "dynamodb://commands")
    return monkeypatch


def refused() -> str:
    with pytest.raises(ConfigurationError) as caught:
        read_settings()
    message = str(caught.value)
    assert SECRET not in message
    assert caught.value.__cause__ is None
    return message


def test_two_are_enough() -> None:
    settings = read_settings()
    assert settings.destination == "dynamodb://commands"
    assert (settings.batch_size, settings.skip_on_error, settings.lease_seconds) == (None, False, 300.0)
    assert (settings.ledger_key, settings.source_keys_secret, settings.destination_keys_secret) == (None, None, None)


def test_keys_are_named_by_the_environment(environment) -> None:
    environment.setenv("COMMANDSTORE_LEDGER_KEY", "alias/ledger")
    environment.setenv("COMMANDSTORE_SOURCE_KEYS_SECRET", "source-keys")
    environment.setenv("COMMANDSTORE_DESTINATION_KEYS_SECRET", "")
    settings = read_settings()
    assert (settings.ledger_key, settings.source_keys_secret) == ("alias/ledger", "source-keys")
    assert settings.destination_keys_secret is None


def test_an_empty_variable_is_none(environment) -> None:
    environment.setenv("COMMANDSTORE_BATCH_SIZE", "")
    environment.setenv("COMMANDSTORE_TENANT_UUID", "")
    assert (read_settings().batch_size, read_settings().tenant_uuid) == (None, None)


def test_a_missing_destination_is_named(environment) -> None:
    environment.delenv("COMMANDSTORE_DESTINATION")
    assert "COMMANDSTORE_DESTINATION: Field required" in refused()


def test_a_missing_source_is_named_with_the_ways_to_give_it(environment) -> None:
    environment.delenv("COMMANDSTORE_SOURCE")
    message = refused()
    for name in ("COMMANDSTORE_SOURCE", "COMMANDSTORE_SOURCE_SECRET", "COMMANDSTORE_SOURCE_PARAMETER"):
        assert name in message


@pytest.mark.parametrize("other", ["COMMANDSTORE_SOURCE_SECRET", "COMMANDSTORE_SOURCE_PARAMETER"])
def test_two_sources_contradict_each_other(environment, other) -> None:
    environment.setenv(other, SECRET)
    message = refused()
    assert f"COMMANDSTORE_SOURCE and {other} contradict" in message


def test_a_key_without_a_secret_is_refused(environment) -> None:
    environment.setenv("COMMANDSTORE_SOURCE_SECRET_KEY", "url")
    assert "COMMANDSTORE_SOURCE_SECRET_KEY is set" in refused()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BATCH_SIZE", "0"),
        ("BATCH_SIZE", SECRET),
        ("CONCURRENCY", "-1"),
        ("SKIP_ON_ERROR", SECRET),
        ("LAG", "-1"),
        ("LEASE_SECONDS", "0"),
        ("LEASE_SECONDS", "nan"),
        ("VERIFY_HOURS", "inf"),
    ],
)
def test_a_value_that_cant_be_right_is_named_and_not_shown(environment, name, value) -> None:
    environment.setenv(f"COMMANDSTORE_{name}", value)
    assert f"COMMANDSTORE_{name}: " in refused()


@pytest.mark.parametrize(
    ("kind", "event"),
    [
        (SyncEvent, {"tenant": "a"}),
        (SyncEvent, {"batch_size": 0}),
        (SyncEvent, {"batch_size": "5"}),
        (SyncEvent, {"dry_run": "yes"}),
        (SyncEvent, {"start_after_time": 2**63}),
        (SyncEvent, {"source": "sqlite:///other.db"}),
        (VerifyEvent, {"hours": 0}),
        (VerifyEvent, {"hours": 1.0, "after": 5}),
        (PlanEvent, {"commands_per_range": 0}),
        (RangeEvent, {"plan": "p", "low": "1", "high": "x", "after": None}),
        (SyncEvent, []),
        (SyncEvent, None),
        (SyncEvent, "{}"),
    ],
)
def test_an_event_that_cant_be_right_is_refused_and_told_what_it_may_have(kind, event) -> None:
    with pytest.raises(ConfigurationError, match="it may have: "):
        read_event(kind, event)


def test_an_unknown_field_is_named() -> None:
    with pytest.raises(ConfigurationError, match="tenant: Extra inputs"):
        read_event(SyncEvent, {"tenant": "a"})


def test_an_event_of_the_scheduler_itself_is_refused() -> None:
    """A schedule has to pass a constant input: what it passes otherwise would be taken for a wish."""
    with pytest.raises(ConfigurationError, match="detail-type"):
        read_event(SyncEvent, {"version": "0", "detail-type": "Scheduled Event", "detail": {}})
