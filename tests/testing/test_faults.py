"""The fault kit itself: the same seed gives the same faults, and each fault is what it is called."""

# ruff: noqa: ARG002 - as Calls declares them

from __future__ import annotations

import asyncio
from collections.abc import Callable
from errno import ECONNRESET
from typing import Any

import botocore.exceptions as sdk
import orjson
import pytest
from botocore.parsers import ResponseParserError
from google.api_core import exceptions as google
from google.cloud.firestore_v1.types import firestore as messages

from commandstore.aws.retry import Retry, Tries
from commandstore.codec import encode
from commandstore.command import CommandQuery
from commandstore.drive import BlockingDrive, run
from commandstore.errors import AccessDenied, CommandStoreError, StoreUnavailable, Throttled
from commandstore.firestore.client import Calls
from commandstore.memory import MemoryBackend
from commandstore.testing.conformance.data import some_commands
from commandstore.testing.faults import Fault, FaultPlan, FaultyBackend, VirtualTime
from commandstore.testing.faults.aws import AwsFaults
from commandstore.testing.faults.client import faulty_client
from commandstore.testing.faults.firestore import FaultyCalls, FirestoreFaults

ALL = list(Fault)

# The plan


def faults(plan: FaultPlan, operations: str) -> dict[tuple[str, int], Fault]:
    """What the requests of a string of operations, a letter each, meet."""
    with plan:
        for operation in operations:
            plan.decide(operation, ALL)
    return {(entry.operation, entry.ordinal): entry.fault for entry in plan.log}


def test_the_same_seed_gives_the_same_faults_and_another_one_gives_others() -> None:
    found = faults(FaultPlan(1, 0.3), "ab" * 200)
    assert 50 < len(found) < 200
    assert faults(FaultPlan(1, 0.3), "ab" * 200) == found
    assert faults(FaultPlan(2, 0.3), "ab" * 200) != found


def test_who_comes_first_does_not_change_which_faults_there_are() -> None:
    assert faults(FaultPlan(1, 0.3), "a" * 200 + "b" * 200) == faults(FaultPlan(1, 0.3), "ba" * 200)


def test_there_are_no_faults_outside_and_where_it_is_to_be_calm() -> None:
    plan = FaultPlan(1, 1.0)
    assert plan.decide("a", ALL).fault is None
    with plan, plan.calm():
        assert plan.decide("a", ALL).fault is None
    assert plan.requests.total() == 0
    with plan:
        assert plan.decide("a", ALL).fault is not None


def test_each_fault_has_its_rate() -> None:
    found = faults(FaultPlan(1, {Fault.SLOW: 0.25, Fault.EXPIRED: 0.05}), "a" * 2000)
    counts = {fault: list(found.values()).count(fault) for fault in set(found.values())}
    assert counts.keys() == {Fault.SLOW, Fault.EXPIRED}
    assert 400 < counts[Fault.SLOW] < 600
    assert 50 < counts[Fault.EXPIRED] < 150


def test_an_outage_is_a_stretch_of_one_fault_that_a_retry_would_get_over() -> None:
    found = faults(FaultPlan(1, 0.0, outages=0.2, outage_length=10), "a" * 1000)
    stretches = {ordinal // 10 for _, ordinal in found}
    assert 5 < len(stretches) < 40
    for stretch in stretches:
        assert len({found["a", stretch * 10 + n] for n in range(10)}) == 1
    assert not {Fault.EXPIRED, Fault.SLOW, Fault.PARTIAL} & set(found.values())


def test_the_next_request_fails_as_the_script_says() -> None:
    plan = FaultPlan(1, 0.0)
    plan.next("a", Fault.SLOW, times=2)
    assert [plan.decide(name, ALL).fault for name in "abaa"] == [Fault.SLOW, None, Fault.SLOW, None]


def test_what_happened_is_described_with_the_seed() -> None:
    plan = FaultPlan(77, 0.0)
    plan.next("put", Fault.SLOW)
    plan.decide("put", ALL)
    assert "seed 77" in plan.describe()
    assert "put #0: slow" in plan.describe()


# Time


def test_pauses_are_counted_and_take_no_time() -> None:
    time, drive = VirtualTime(), BlockingDrive()
    time.hold(drive)
    before = time.clock()
    tries = Tries(
        Retry(attempts=3, base=1_000, longest=1_000, patience=10_000, draw=lambda: 1.0, clock=time.clock), drive
    )
    run(tries.again(StoreUnavailable("x")))
    run(tries.again(StoreUnavailable("x")))
    with pytest.raises(StoreUnavailable):
        run(tries.again(StoreUnavailable("x")))
    assert (time.pauses, time.total, time.longest) == (2, 2_000, 1_000)
    assert time.clock() - before == pytest.approx(2_000)


def test_what_is_tried_again_without_a_pause_is_noted() -> None:
    time, drive = VirtualTime(), BlockingDrive()
    time.hold(drive)
    time.begin()
    time.owe("put", "one")
    time.sent("put", "another")
    time.sent("get", "one")
    assert time.hasty == []
    time.sent("put", "one")
    assert time.hasty == ["put"]
    time.owe("put", "one")
    run(drive.sleep(0.1))
    time.sent("put", "one")
    assert time.hasty == ["put"]


def test_what_is_tried_again_for_ever_is_stopped() -> None:
    time, drive = VirtualTime(), BlockingDrive()
    time.hold(drive)
    time.begin()
    for _ in range(719):
        run(drive.sleep(5.0))
    with pytest.raises(AssertionError, match="without end"):
        run(drive.sleep(10.0))


# Clients of AWS


class Engine:
    """A client that answers as it is told, and counts what had its effect."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.effects: list[dict[str, Any]] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(**request: Any) -> Any:
            self.effects.append(request)
            answer = self.answer(request) if callable(self.answer) else self.answer
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call


class AsyncEngine(Engine):
    def __getattr__(self, name: str) -> Callable[..., Any]:
        blocking = super().__getattr__(name)

        async def call(**request: Any) -> Any:
            return blocking(**request)

        return call


DRIVES = pytest.mark.parametrize("is_async", [False, True])


def asked(
    service: Any, method: str, fault: Fault, answer: Any, *, is_async: bool, **request: Any
) -> tuple[Any, Engine]:
    """What comes of one request with a fault: its answer or error, and the engine."""
    plan = FaultPlan(1)
    plan.next(method, fault)
    engine = AsyncEngine(answer) if is_async else Engine(answer)
    client = faulty_client(engine, AwsFaults(plan, service, is_async=is_async), is_async=is_async)
    try:
        if is_async:

            async def ask() -> Any:
                return await getattr(client, method)(**request)

            return asyncio.run(ask()), engine
        return getattr(client, method)(**request), engine
    except Exception as error:  # noqa: BLE001 - the test looks at it
        return error, engine


BEFORE = [
    (Fault.THROTTLED, sdk.ClientError),
    (Fault.UNAVAILABLE_BEFORE, sdk.ClientError),
    (Fault.TIMEOUT_BEFORE, sdk.ReadTimeoutError),
    (Fault.NOT_CONNECTED, (sdk.EndpointConnectionError, sdk.ConnectTimeoutError)),
    (Fault.RESET_BEFORE, sdk.ConnectionClosedError),
    (Fault.CONFLICT, sdk.ClientError),
    (Fault.EXPIRED, sdk.ClientError),
    (Fault.SKEWED, sdk.ClientError),
]
AFTER = [
    (Fault.UNAVAILABLE_AFTER, sdk.ClientError),
    (Fault.TIMEOUT_AFTER, sdk.ReadTimeoutError),
    (Fault.RESET_AFTER, sdk.ConnectionClosedError),
]


def is_as(error: Any, kind: Any, *, is_async: bool) -> bool:
    """Whether an error is of this kind; a reset may come from aiobotocore as if nobody had been there."""
    reset = is_async and kind is sdk.ConnectionClosedError and type(error) is sdk.EndpointConnectionError
    return error.kwargs["error"].errno == ECONNRESET if reset else isinstance(error, kind)


@DRIVES
@pytest.mark.parametrize(("service", "method"), [("dynamodb", "put_item"), ("s3", "put_object")])
@pytest.mark.parametrize(("fault", "kind"), BEFORE)
def test_a_fault_before_the_effect_leaves_none(
    service: str, method: str, fault: Fault, kind: Any, is_async: bool
) -> None:
    error, engine = asked(service, method, fault, {}, is_async=is_async, Key="k")
    assert is_as(error, kind, is_async=is_async)
    assert engine.effects == []


@DRIVES
@pytest.mark.parametrize(("service", "method"), [("dynamodb", "put_item"), ("s3", "put_object")])
@pytest.mark.parametrize(("fault", "kind"), AFTER)
def test_a_fault_after_the_effect_loses_the_answer_alone(
    service: str, method: str, fault: Fault, kind: Any, is_async: bool
) -> None:
    error, engine = asked(service, method, fault, {}, is_async=is_async, Key="k")
    assert is_as(error, kind, is_async=is_async)
    assert engine.effects == [{"Key": "k"}]


@pytest.mark.parametrize(("fault", "kind"), AFTER)
def test_a_lost_answer_may_have_been_a_refusal(fault: Fault, kind: Any) -> None:
    refusal = sdk.ClientError({"Error": {"Code": "PreconditionFailed"}}, "PutObject")
    error, engine = asked("s3", "put_object", fault, refusal, is_async=False, Key="k")
    assert isinstance(error, kind)
    assert "PreconditionFailed" not in str(error)
    assert len(engine.effects) == 1


@DRIVES
def test_what_is_sent_twice_is_answered_for_the_second_time(is_async: bool) -> None:
    refusal = sdk.ClientError({"Error": {"Code": "PreconditionFailed"}}, "PutObject")
    answers = iter([{"ETag": "x"}, refusal])
    error, engine = asked("s3", "put_object", Fault.SENT_TWICE, lambda _: next(answers), is_async=is_async, Key="k")
    assert error is refusal
    assert len(engine.effects) == 2


def test_a_slow_answer_is_right_and_takes_time_of_the_plans_own() -> None:
    plan = FaultPlan(1)
    plan.next("get_item", Fault.SLOW)
    client = faulty_client(Engine({"Item": 1}), AwsFaults(plan, "dynamodb"))
    before = plan.time.clock()
    assert client.get_item() == {"Item": 1}
    assert plan.time.clock() > before


class Body:
    def __init__(self) -> None:
        self.closed = False

    def read(self) -> bytes:
        return b"whole"

    def close(self) -> None:
        self.closed = True


def test_a_body_that_is_cut_short_can_be_seen_to_be() -> None:
    answer, _ = asked("s3", "get_object", Fault.CUT_SHORT, {"Body": Body()}, is_async=False)
    with pytest.raises(sdk.IncompleteReadError):
        answer["Body"].read()
    error, _ = asked("s3", "list_objects_v2", Fault.CUT_SHORT, {"Contents": []}, is_async=False)
    assert isinstance(error, ResponseParserError)
    answer, _ = asked("dynamodb", "query", Fault.CUT_SHORT, {"commandstore_body": b'{"Items":[]}'}, is_async=False)
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(answer["commandstore_body"])


def test_the_body_of_a_lost_answer_is_closed() -> None:
    body = Body()
    asked("s3", "get_object", Fault.TIMEOUT_AFTER, {"Body": body}, is_async=False)
    assert body.closed


def test_items_that_are_left_unprocessed_were_not_written() -> None:
    items = [{"PutRequest": {"Item": {"n": {"N": str(n)}}}} for n in range(20)]
    answer, engine = asked(
        "dynamodb", "batch_write_item", Fault.PARTIAL, {}, is_async=False, RequestItems={"table": items}
    )
    [effect] = engine.effects
    left, done = answer["UnprocessedItems"]["table"], effect["RequestItems"]["table"]
    assert left
    assert done
    assert sorted(map(str, left + done)) == sorted(map(str, items))


def test_keys_that_are_left_unprocessed_keep_what_was_asked_of_them() -> None:
    keys = [{"n": {"N": str(n)}} for n in range(20)]
    wanted = {"table": {"Keys": keys, "ConsistentRead": True}}
    answer, engine = asked(
        "dynamodb",
        "batch_get_item",
        Fault.PARTIAL,
        lambda request: {"commandstore_body": request["Body"]},
        is_async=False,
        Body=orjson.dumps({"RequestItems": wanted}),
    )
    left = orjson.loads(answer["commandstore_body"])["UnprocessedKeys"]["table"]
    done = orjson.loads(engine.effects[0]["Body"])["RequestItems"]["table"]
    assert left["ConsistentRead"] is True
    assert sorted(map(str, left["Keys"] + done["Keys"])) == sorted(map(str, keys))


def test_statements_that_fail_are_answered_in_their_places() -> None:
    statements = [{"Statement": str(n)} for n in range(40)]
    answer, engine = asked(
        "dynamodb",
        "batch_execute_statement",
        Fault.PARTIAL,
        lambda request: {"Responses": [{"Said": one["Statement"]} for one in request["Statements"]]},
        is_async=False,
        Statements=statements,
    )
    said, sent = answer["Responses"], [one["Statement"] for one in engine.effects[0]["Statements"]]
    assert len(said) == 40
    good = {str(n) for n, one in enumerate(said) if "Error" not in one}
    assert all(one["Said"] == str(n) for n, one in enumerate(said) if "Error" not in one)
    lost = set(sent) - good
    assert good < set(sent) < {str(n) for n in range(40)}
    assert {said[int(n)]["Error"]["Code"] for n in lost} == {"InternalServerError"}


# Firestore's calls


class Channel(Calls):
    def __init__(self, answers: list[Any]) -> None:
        self.answers = answers
        self.effects: list[Any] = []

    async def unary(self, method: str, request: Any, seconds: float) -> Any:
        self.effects.append(request)
        return self.answers[0]

    async def stream(self, method: str, request: Any, seconds: float) -> list[Any]:
        self.effects.append(request)
        return self.answers


Write, Query = messages.BatchWriteRequest.pb(), messages.RunQueryRequest.pb()


@pytest.mark.parametrize(
    ("fault", "kind", "effects"),
    [
        (Fault.THROTTLED, google.ResourceExhausted, 0),
        (Fault.UNAVAILABLE_BEFORE, google.ServiceUnavailable, 0),
        (Fault.UNAVAILABLE_AFTER, google.ServiceUnavailable, 1),
        (Fault.TIMEOUT_BEFORE, google.DeadlineExceeded, 0),
        (Fault.TIMEOUT_AFTER, google.DeadlineExceeded, 1),
        (Fault.NOT_CONNECTED, google.ServiceUnavailable, 0),
        (Fault.RESET_BEFORE, google.ServiceUnavailable, 0),
        (Fault.RESET_AFTER, google.ServiceUnavailable, 1),
        (Fault.CONFLICT, google.Aborted, 0),
        (Fault.EXPIRED, google.Unauthenticated, 0),
    ],
)
def test_each_fault_of_firestore_is_seen_before_or_after_its_effect(fault: Fault, kind: Any, effects: int) -> None:
    plan, channel = FaultPlan(1), Channel(["answer"])
    plan.next("batch_write", fault)
    with pytest.raises(kind):
        run(FaultyCalls(channel, FirestoreFaults(plan)).unary("batch_write", Write(), 1.0))
    assert len(channel.effects) == effects


def test_a_stream_ends_early_without_an_error() -> None:
    plan = FaultPlan(1)
    plan.next("run_query", Fault.ENDS_EARLY)
    found = run(FaultyCalls(Channel(list("abcdef")), FirestoreFaults(plan)).stream("run_query", Query(), 1.0))
    assert found == list("abcdef")[: len(found)]
    assert len(found) < 6


def test_single_writes_of_a_batch_fail_and_some_of_them_had_their_effect() -> None:
    plan, request = FaultPlan(1), Write(database="d")
    for number in range(40):
        request.writes.add().delete = str(number)
    plan.next("batch_write", Fault.PARTIAL)

    class Engine(Channel):
        async def unary(self, method: str, request: Any, seconds: float) -> Any:
            await super().unary(method, request, seconds)
            answer = messages.BatchWriteResponse.pb()()
            for write in request.writes:
                answer.status.add().message = write.delete
            return answer

    channel = Engine([None])
    answer = run(FaultyCalls(channel, FirestoreFaults(plan)).unary("batch_write", request, 1.0))
    sent = {write.delete for write in channel.effects[0].writes}
    good = {str(n) for n, status in enumerate(answer.status) if not status.code}
    assert all(status.message == str(n) for n, status in enumerate(answer.status) if not status.code)
    assert len(answer.status) == 40
    assert good < sent < {str(n) for n in range(40)}
    assert {answer.status[int(n)].code for n in sent - good} == {14}


# Any backend


@pytest.mark.parametrize(
    ("fault", "kind", "effects"),
    [
        (Fault.THROTTLED, Throttled, 0),
        (Fault.UNAVAILABLE_BEFORE, StoreUnavailable, 0),
        (Fault.UNAVAILABLE_AFTER, StoreUnavailable, 3),
        (Fault.EXPIRED, AccessDenied, 0),
    ],
)
def test_a_primitive_fails_before_or_after_its_effect(
    fault: Fault, kind: type[CommandStoreError], effects: int
) -> None:
    plan, memory = FaultPlan(1), MemoryBackend()
    backend = FaultyBackend(memory, plan)
    run(backend.open(BlockingDrive(), create=True))
    plan.next("insert", fault)
    with pytest.raises(kind):
        run(backend.insert([encode(command) for command in some_commands(3)], "w"))
    assert run(memory.count(CommandQuery())) == effects


def test_an_insert_may_be_done_in_part_and_known_in_part() -> None:
    plan, memory = FaultPlan(1), MemoryBackend()
    backend = FaultyBackend(memory, plan)
    run(backend.open(BlockingDrive(), create=True))
    plan.next("insert", Fault.PARTIAL)
    records = [encode(command) for command in some_commands(40)]
    with pytest.raises(StoreUnavailable) as caught:
        run(backend.insert(records, "w"))
    outcomes = caught.value.outcomes or []
    there = run(memory.fetch([record.command_uuid for record in records]))
    known = {record.command_uuid for record, outcome in zip(records, outcomes, strict=True) if outcome is not None}
    assert 0 < len(known) < len(there) < 40
    assert known < there.keys()


def test_what_a_backend_declares_is_declared_around_it() -> None:
    memory = MemoryBackend("faulty")
    backend = FaultyBackend(memory, FaultPlan(1))
    names = ("store_type", "capabilities", "order_by", "list_is_consistent", "insert_count", "location")
    assert [getattr(backend, name) for name in names] == [getattr(memory, name) for name in names]
