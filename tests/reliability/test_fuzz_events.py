"""What a function is told, by its environment and its event: understood, or refused by the name of what is wrong."""

from __future__ import annotations

import json
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from commandstore.entrypoints.aws_lambda import _range_in
from commandstore.entrypoints.secret import _url
from commandstore.entrypoints.settings import (
    PlanEvent,
    PlanId,
    RangeEvent,
    SyncEvent,
    SyncSettings,
    VerifyEvent,
    read_event,
    read_settings,
)
from commandstore.errors import ConfigurationError
from reliability.mangle import JUNK, altered, fuzz, only_ours

SECRET = "hunter2"
EVENTS: list[tuple[Any, dict[str, Any]]] = [
    (SyncEvent, {"tenant_uuid": "a", "batch_size": 5, "start_after_time": 7, "dry_run": True, "verify": False}),
    (VerifyEvent, {"tenant_uuid": "a", "before": 9, "hours": 2.5}),
    (PlanEvent, {"commands_per_range": 1000}),
    (RangeEvent, {"plan": "p", "low": "-5", "high": "9", "after": '[1,"c1"]'}),
    (PlanId, {"plan": "p"}),
]
EVENT = st.sampled_from(EVENTS).flatmap(lambda one: st.tuples(st.just(one[0]), altered(one[1]) | JUNK))


@fuzz(300, 10000)
@given(given_=EVENT)
@example(given_=(VerifyEvent, {"hours": 1e300}))
@example(given_=(RangeEvent, {"plan": "p", "low": "٣", "high": "٤"}))
def test_an_event_of_any_kind_is_understood_or_refused(given_: tuple[Any, Any]) -> None:
    kind, event = given_
    event = {**event, "password": SECRET} if isinstance(event, dict) and len(event) > 4 else event
    with only_ours(SECRET) as caught:
        found = read_event(kind, event)
        if kind is RangeEvent:
            piece = _range_in(found)
            assert -(2**63) <= piece.low <= piece.high < 2**63
        if kind is VerifyEvent and found.hours is not None:
            int(found.hours * 3600 * 10**9)
    assert all(isinstance(error, ConfigurationError) for error in caught)


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8) | st.sampled_from(
    ["", "0", "1", "-1", "nan", "inf", "1e300", "true", "yes", "300", "1e-9", "0x10", "\u0661", "[]", SECRET]
)


@fuzz(200, 10000)
@given(st.dictionaries(st.sampled_from(sorted(SyncSettings.model_fields)), TEXT, max_size=6))
@example({"source": "memory://", "destination": "memory://", "lease_seconds": "1e300"})
@example({"source": "memory://", "destination": "memory://", "verify_hours": "1e300"})
def test_an_environment_of_any_kind_is_understood_or_refused(values: dict[str, str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name in SyncSettings.model_fields:
            patch.delenv(f"COMMANDSTORE_{name.upper()}", raising=False)
        for name, value in values.items():
            patch.setenv(f"COMMANDSTORE_{name.upper()}", value)
        with only_ours(*([SECRET] if SECRET in values.values() else ())) as caught:
            found = read_settings()
            int(found.verify_hours * 3600 * 10**9)
            assert 0 < found.lease_seconds <= 366 * 24 * 3600
        assert all(isinstance(error, ConfigurationError) for error in caught)
        assert all("COMMANDSTORE_" in str(error) for error in caught)


@fuzz(200, 10000)
@given(st.text(max_size=8), st.text(max_size=8))
def test_a_secret_that_holds_no_url_is_refused_without_a_word_of_it(before: str, behind: str) -> None:
    with only_ours(SECRET) as caught:
        _url(f"{before}{SECRET}{behind}", "COMMANDSTORE_SOURCE_SECRET")
        _url(json.dumps({"url": before + SECRET}), "COMMANDSTORE_SOURCE_SECRET")
    assert all(isinstance(error, ConfigurationError) for error in caught)
    assert caught
