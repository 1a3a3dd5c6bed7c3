"""That the tests' Lambda behaves as AWS's does: warm and cold, errors, deadlines, crashes, two at once."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import psutil
import pytest

from commandstore.testing.engine_base import EngineUnavailable, engines_required
from lambda_runtime import runtime_api
from lambda_runtime.runtime_api import LambdaContainer


def container(name, environment=None, **options):
    try:
        return LambdaContainer(f"lambda_runtime.{name}", environment or {}, **options)
    except EngineUnavailable as missing:
        if engines_required():
            pytest.fail(f"COMMANDSTORE_REQUIRE_ENGINES is set, but {missing}", pytrace=False)
        pytest.skip(str(missing))


def process_states(function):
    return {child.status() for child in psutil.Process(function._process._supervisor.pid).children(recursive=True)}


def test_handler_gets_its_event_and_a_context_with_the_time_left():
    with container("handlers.echo", memory_mb=256) as function:
        answer = function.invoke({"tenant": "ä"}, timeout=60)

    assert answer.error_type is None
    assert answer.result["event"] == {"tenant": "ä"}
    assert answer.result["request_id"] == answer.request_id
    assert 0 < answer.result["left"] <= 60_000
    assert answer.result["function"] == "commandstore-test"
    assert answer.result["memory"] == "256"
    assert answer.result["arn"].endswith(":function:commandstore-test")
    assert function.cold_start_seconds > 0
    assert 0 < answer.seconds < 60


def test_second_event_finds_the_container_warm_and_has_its_own_logs():
    with container("handlers.echo") as function:
        first, second = function.invoke(1), function.invoke(2)

    assert (first.result["start"], second.result["start"]) == (1, 2)
    assert first.request_id != second.request_id
    assert first.logs == ("got 1",)
    assert second.logs == ("got 2",)
    assert function.logs == ("got 1", "got 2")


def test_duplicate_delivery_has_the_request_id_of_the_first():
    with container("handlers.echo") as function:
        first = function.invoke(1)
        again = function.invoke(1, request_id=first.request_id)

    assert again.result["request_id"] == first.result["request_id"]


def test_handler_has_its_own_environment_and_lambdas_but_not_the_tests(monkeypatch):
    monkeypatch.setenv("COMMANDSTORE_SOURCE", "of the tests")
    with container("handlers.environment", {"COMMANDSTORE_LAG": "5", "AWS_REGION": "eu-west-1"}) as function:
        seen = function.invoke({}).result

    assert "COMMANDSTORE_SOURCE" not in seen
    assert seen["COMMANDSTORE_LAG"] == "5"
    assert seen["AWS_REGION"] == seen["AWS_DEFAULT_REGION"] == "eu-west-1"
    assert seen["AWS_LAMBDA_FUNCTION_NAME"] == "commandstore-test"


def test_error_is_answered_and_logged_and_the_container_stays_warm():
    with container("handlers.fail") as function:
        answer = function.invoke({"what": "this"})
        again = function.invoke({"what": "that"})

    assert (answer.error_type, answer.error_message) == ("ValueError", "cannot take this")
    assert not answer.timed_out
    assert any("in fail" in frame for frame in answer.stack)
    assert "cannot take this" in answer.logs[0]
    assert again.error_message == "cannot take that"


def test_warning_is_an_error():
    with container("handlers.warn") as function:
        answer = function.invoke({})

    assert (answer.error_type, answer.error_message) == ("DeprecationWarning", "old")


def test_container_is_killed_at_the_deadline(monkeypatch):
    with container("handlers.wait") as function:
        # Its time is over when it has said that it waits, however long it took to that.
        clock = SimpleNamespace(time=time.time, monotonic=lambda: time.monotonic() + (3600 if function.logs else 0))
        monkeypatch.setattr(runtime_api, "time", clock)
        answer = function.invoke("this", timeout=600)

        assert answer.timed_out
        assert answer.error_type == "Sandbox.Timedout"
        assert "timed out after 600.00 seconds" in answer.error_message
        assert answer.logs == ("waiting for this",)
        assert answer.seconds >= 600
        assert not function.alive
        with pytest.raises(RuntimeError, match="start another one"):
            function.invoke("that")


def test_a_deadline_is_seconds_from_the_call():
    with container("handlers.wait") as function:
        answer = function.invoke("this", timeout=0.2)
        assert answer.timed_out
        assert answer.seconds >= 0.2


def test_kill_ends_an_event_that_is_running():
    with container("handlers.wait") as function, ThreadPoolExecutor(1) as pool:
        running = pool.submit(function.invoke, "this", timeout=600)
        while not function.logs:
            assert not running.done()
        function.kill()

        answer = running.result()
        assert answer.error_type == "Runtime.ExitError"
        assert not answer.timed_out
        assert answer.logs == ("waiting for this",)


def test_process_that_leaves_is_an_error():
    with container("handlers.leave") as function:
        assert function.invoke({}).error_type == "Runtime.ExitError"
        assert not function.alive


@pytest.mark.parametrize(
    ("name", "error_type"),
    [
        ("handlers.none_such", "Runtime.HandlerNotFound"),
        ("none_such.handler", "Runtime.ImportModuleError"),
        ("broken.handler", "RuntimeError"),
    ],
)
def test_handler_that_cannot_be_loaded_is_an_error_of_every_event(name, error_type):
    with container(name) as function:
        answers = [function.invoke({}) for _ in range(2)]

    assert [answer.error_type for answer in answers] == [error_type] * 2
    assert any(error_type in line for line in function.logs)


def test_containers_run_side_by_side_and_each_runs_one_event_at_a_time():
    with container("handlers.wait") as busy, container("handlers.echo") as free, ThreadPoolExecutor(1) as pool:
        running = pool.submit(busy.invoke, "this", timeout=600)
        while not busy.logs:
            assert not running.done()

        assert free.invoke(1).result["event"] == 1
        with pytest.raises(RuntimeError, match="runs an event"):
            busy.invoke("that")
        busy.kill()
        running.result()


def test_container_is_frozen_between_events():
    with container("handlers.echo") as function:
        for event in range(3):
            function.invoke(event)
            deadline = time.monotonic() + 60
            while (states := process_states(function)) != {psutil.STATUS_STOPPED}:
                assert time.monotonic() < deadline, states


def test_nothing_is_left_when_the_container_ends():
    threads = set(threading.enumerate())
    with container("handlers.echo") as function:
        [process] = psutil.Process(function._process._supervisor.pid).children()
        assert set(threading.enumerate()) > threads

    assert not process.is_running()
    assert set(threading.enumerate()) == threads
