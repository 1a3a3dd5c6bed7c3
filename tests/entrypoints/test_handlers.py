"""The handlers in this process, from SQLite to SQLite: what they answer, raise, measure and log."""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from types import SimpleNamespace

import pytest

from commandstore import ConfigurationError, SyncError, Throttled, open_store
from commandstore.drive import run
from commandstore.entrypoints import aws_lambda
from commandstore.replication.checkpoint import lease_name
from commandstore.replication.lease import Lease
from commandstore.sql.sqlite import SqliteBackend
from commandstore.testing.comby import create_sqlite, insert_sqlite, sample_commands

pytestmark = pytest.mark.usefixtures("stores")


def context(seconds: float = 60.0) -> SimpleNamespace:
    end = time.monotonic() + seconds
    return SimpleNamespace(
        aws_request_id="r-1",
        function_name="sync",
        get_remaining_time_in_millis=lambda: int((end - time.monotonic()) * 1000),
    )


class Now:
    """The stdout of the moment."""

    def write(self, text: str) -> None:
        sys.stdout.write(text)

    def flush(self) -> None:
        sys.stdout.flush()


@pytest.fixture
def stores(tmp_path, monkeypatch):
    source = tmp_path / "app.db"
    create_sqlite(source, "C")
    insert_sqlite(source, sample_commands(50, tenants=3, ties=10))
    destination = f"sqlite:///{tmp_path / 'copy.db'}"
    open_store(destination, create=True).close()
    monkeypatch.setenv("COMMANDSTORE_SOURCE", f"sqlite:///{source}")
    monkeypatch.setenv("COMMANDSTORE_DESTINATION", destination)
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "orders")
    # The logger holds on to the stdout that there was when it was made; a test looks at its own.
    monkeypatch.setattr(aws_lambda.logger.handlers[0], "stream", Now())
    yield SimpleNamespace(source=source, destination=destination, environment=monkeypatch)
    aws_lambda._container.close()


def metrics_of(printed: str) -> dict:
    """The metrics that were printed, by name; each line of EMF is one JSON object."""
    found = {}
    for line in printed.splitlines():
        value = json.loads(line) if line.startswith("{") else {}
        for group in value.get("_aws", {}).get("CloudWatchMetrics", ()):
            assert group["Namespace"] == "commandstore"
            assert group["Dimensions"] == [["service"]]
            assert value["service"] == "orders"
            found |= {metric["Name"]: value[metric["Name"]][0] for metric in group["Metrics"]}
    return found


def test_a_run_copies_what_is_new_and_says_that_it_is_complete(capsys) -> None:
    answer = aws_lambda.handler({}, context())
    assert (answer["copied"], answer["complete"], answer["remaining"]) == (50, True, None)
    found = metrics_of(capsys.readouterr().out)
    lag = found.pop("LagSeconds")
    assert 0 <= lag < 60
    assert found.pop("DurationSeconds") >= 0
    assert found == {"Copied": 50, "Duplicates": 0, "Conflicts": 0, "Failed": 0, "Remaining": 0}
    again = aws_lambda.handler({}, context())
    assert (again["read"], again["complete"]) == (0, True)


def test_an_answer_is_json() -> None:
    assert json.loads(json.dumps(aws_lambda.handler({}, context())))["copied"] == 50


def test_a_warm_container_keeps_its_stores() -> None:
    aws_lambda.handler({}, context())
    kept = aws_lambda._container._destination
    aws_lambda.handler({}, context())
    assert aws_lambda._container._destination is kept


def test_another_setting_is_other_stores(stores, tmp_path) -> None:
    aws_lambda.handler({}, context())
    other = f"sqlite:///{tmp_path / 'other.db'}"
    open_store(other, create=True).close()
    stores.environment.setenv("COMMANDSTORE_DESTINATION", other)
    assert aws_lambda.handler({}, context())["copied"] == 50


def test_the_event_narrows_a_run(stores) -> None:
    with open_store(f"sqlite:///{stores.source}", read_only=True) as source:
        tenant = next(iter(source.scan())).tenant_uuid
        count = source.total(tenant_uuid=tenant)
    answer = aws_lambda.handler({"tenant_uuid": tenant, "batch_size": 3}, context())
    assert answer["copied"] == count


def test_a_dry_run_writes_nothing_and_measures_nothing(stores, capsys) -> None:
    answer = aws_lambda.handler({"dry_run": True}, context())
    assert (answer["copied"], answer["dry_run"]) == (50, True)
    assert metrics_of(capsys.readouterr().out) == {}
    with open_store(stores.destination, read_only=True) as copy:
        assert copy.total() == 0


def test_time_that_is_nearly_up_ends_with_what_is_left() -> None:
    answer = aws_lambda.handler({}, context(1.0))
    assert (answer["complete"], answer["remaining"]) == (False, 50)
    assert aws_lambda.handler({}, context())["copied"] == 50


def test_a_run_that_finds_the_lease_held_ends_at_once_and_says_so(stores, capsys) -> None:
    stores.environment.setenv("COMMANDSTORE_SOURCE_NAME", "app")
    with open_store(stores.destination) as copy:
        name = lease_name("app", copy.core.query({}))
        run(Lease(copy.core.backend, name, seconds=60).acquire())
    assert aws_lambda.handler({}, context()) == {"skipped": "lease held"}
    assert metrics_of(capsys.readouterr().out) == {"Skipped": 1}
    with open_store(stores.destination, read_only=True) as copy:
        assert copy.total() == 0


def break_one(path) -> str:
    with sqlite3.connect(path) as database:
        (uuid,) = database.execute("SELECT uuid FROM commands ORDER BY id LIMIT 1").fetchone()
        database.execute("UPDATE commands SET created_at = 'never' WHERE uuid = ?", (uuid,))
    database.close()
    return uuid


def test_a_command_that_cant_be_copied_stops_the_run_by_name(stores, capsys) -> None:
    uuid = break_one(stores.source)
    with pytest.raises(SyncError, match=uuid) as caught:
        aws_lambda.handler({}, context())
    assert caught.value.__cause__ is None
    assert metrics_of(capsys.readouterr().out)["Failed"] == 1


def test_with_skip_on_error_the_others_are_copied_and_it_is_still_raised(stores, capsys) -> None:
    stores.environment.setenv("COMMANDSTORE_SKIP_ON_ERROR", "true")
    uuid = break_one(stores.source)
    for copied in (49, 0):
        with pytest.raises(SyncError, match=f"1 commands failed and 0 conflict: {uuid}"):
            aws_lambda.handler({}, context())
        found = metrics_of(capsys.readouterr().out)
        assert (found["Copied"], found["Failed"]) == (copied, 1)


def test_a_conflict_is_raised_by_name(stores) -> None:
    with open_store(f"sqlite:///{stores.source}", read_only=True) as source, open_store(stores.destination) as copy:
        command = next(iter(source.scan()))
        copy.create(command.model_copy(update={"data_bytes": b"other"}))
    with pytest.raises(SyncError, match=f"0 commands failed and 1 conflict: {command.command_uuid}"):
        aws_lambda.handler({}, context())


@pytest.mark.parametrize("event", [{"tennant": "x"}, {"batch_size": 0}, None])
def test_an_event_that_cant_be_right_touches_nothing(stores, event) -> None:
    stores.environment.setenv("COMMANDSTORE_SOURCE", "sqlite:////nowhere/at/all.db")
    with pytest.raises(ConfigurationError, match="the event can't be right"):
        aws_lambda.handler(event, context())
    assert aws_lambda._container._source is None


def test_no_payload_and_no_password_is_printed(stores, capsys) -> None:
    stores.environment.setenv("POWERTOOLS_LOG_LEVEL", "DEBUG")
    stores.environment.setenv("COMMANDSTORE_SOURCE", "postgresql://app:hunter2@127.0.0.1:9/app")
    with pytest.raises(Exception, match=r"127\.0\.0\.1") as caught:
        aws_lambda.handler({}, context())
    printed = capsys.readouterr()
    assert "hunter2" not in printed.out + printed.err + str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


# Verification


def test_equal_stores_are_clean(capsys) -> None:
    aws_lambda.handler({}, context())
    capsys.readouterr()
    answer = aws_lambda.verify_handler({"after": 0}, context())
    assert (answer["compared"], answer["complete"]) == (50, True)
    assert metrics_of(capsys.readouterr().out) == {"Missing": 0, "Extra": 0, "Altered": 0}


def test_a_command_that_is_missing_is_raised_by_name(stores, capsys) -> None:
    aws_lambda.handler({}, context())
    with open_store(stores.destination) as copy:
        uuid = next(iter(copy.scan())).command_uuid
        copy.delete(uuid)
    capsys.readouterr()
    with pytest.raises(SyncError, match=f"1 missing.*{uuid}"):
        aws_lambda.verify_handler({"after": 0}, context())
    assert metrics_of(capsys.readouterr().out)["Missing"] == 1


def test_a_run_may_verify_what_it_copied(stores) -> None:
    stores.environment.setenv("COMMANDSTORE_VERIFY_HOURS", "100000")
    answer = aws_lambda.handler({"verify": True}, context())
    assert (answer["copied"], answer["verify"]["compared"]) == (50, 50)


# Backfill


def test_a_backfill_by_the_handlers_and_the_sync_goes_on() -> None:
    plan = aws_lambda.plan_handler({"commands_per_range": 15}, context())
    assert [(piece["low"], piece["high"]) for piece in plan["ranges"]] == [
        ("0", "15"),
        ("15", "30"),
        ("30", "45"),
        ("45", "50"),
    ]
    for piece in json.loads(json.dumps(plan["ranges"])):
        answer = aws_lambda.copy_range_handler(piece, context())
        assert answer["complete"]
    assert aws_lambda.finish_handler({"plan": plan["plan"]}, context()) == {"plan": plan["plan"], "settled": "50"}
    assert aws_lambda.handler({}, context())["read"] == 0


def test_a_range_goes_on_where_its_time_was_up(stores) -> None:
    stores.environment.setenv("COMMANDSTORE_BATCH_SIZE", "10")
    stores.environment.setenv("COMMANDSTORE_CONCURRENCY", "1")
    plan = aws_lambda.plan_handler({}, context())
    ticks = iter([60_000, 60_000, 100])
    short = context()
    short.get_remaining_time_in_millis = lambda: next(ticks)
    answer = aws_lambda.copy_range_handler(plan["ranges"][0], short)
    assert (answer["copied"], answer["complete"]) == (20, False)
    rest = {name: answer[name] for name in ("plan", "low", "high", "after")}
    assert aws_lambda.copy_range_handler(rest, context())["copied"] == 30


@pytest.mark.parametrize(
    "after", ["5", "nothing", '{"a":1}', '["x"]', "[1,2,3,4]", "[{}]", "[]", "[99999999999999999999]"]
)
def test_a_place_that_nobody_handed_out_is_refused(after) -> None:
    plan = aws_lambda.plan_handler({}, context())
    with pytest.raises(ConfigurationError, match=r"can't be right|no key of this source"):
        aws_lambda.copy_range_handler({**plan["ranges"][0], "after": after}, context())


def test_a_range_whose_store_does_not_answer_is_named_so_that_the_state_machine_begins_it_again(monkeypatch) -> None:
    plan = aws_lambda.plan_handler({}, context())

    async def throttled(*_):
        raise Throttled("too fast")

    monkeypatch.setattr(SqliteBackend, "insert", throttled)
    with pytest.raises(Throttled, match="too fast"):
        aws_lambda.copy_range_handler(plan["ranges"][0], context())


def test_that_a_tenant_has_been_copied_is_not_told_as_the_lag_of_the_whole(capsys) -> None:
    aws_lambda.handler({"tenant_uuid": "nobody"}, context())
    assert "LagSeconds" not in metrics_of(capsys.readouterr().out)


def test_a_verification_that_was_not_finished_is_no_success_and_no_difference() -> None:
    aws_lambda.handler({}, context())
    with pytest.raises(SyncError, match="the time was up: nothing after") as caught:
        aws_lambda.verify_handler({"after": 0}, context(1.0))
    assert "differ" not in str(caught.value)
    with pytest.raises(SyncError, match="the time was up"):
        aws_lambda.handler({"verify": True}, context(20.0))


def test_what_differs_is_in_the_log_with_what_it_is(stores, capsys) -> None:
    aws_lambda.handler({}, context())
    with open_store(stores.destination) as copy:
        uuid = next(iter(copy.scan())).command_uuid
        copy.delete(uuid)
    with pytest.raises(SyncError):
        aws_lambda.verify_handler({"after": 0}, context())
    logged = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"not clean"' in line]
    assert [(one["kind"], one["command_uuid"]) for one in logged[0]["report"]["findings"]] == [("missing", uuid)]
