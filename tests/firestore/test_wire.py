"""Requests and answers on the emulator, and what becomes of them when something goes wrong."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any

import pytest
from google.api_core import exceptions as google
from google.auth.credentials import AnonymousCredentials

from commandstore.aws.retry import Retry
from commandstore.drive import OperationStopped
from commandstore.errors import AccessDenied, ConfigurationError, StoreUnavailable, Throttled
from commandstore.firestore.client import connect
from commandstore.firestore.faults import Code, Place, is_refused
from commandstore.firestore.requests import NAME, Cursor, Filter, Order, create, delete, put, query
from commandstore.firestore.wire import ConditionFailed
from commandstore.testing.firestore import FirestoreEmulator
from commandstore.testing.processes import free_port
from firestore.rig import NO_PAUSE, Rig

INT64 = (-(2**63), -(2**63) + 1, -(2**53) - 1, -1, 0, 1, 2**53 + 1, 2**63 - 2, 2**63 - 1)
PASSING = [
    google.Aborted("contention"),
    google.ServiceUnavailable("try again"),
    google.ResourceExhausted("quota"),
    google.DeadlineExceeded("too slow"),
    google.InternalServerError("oops"),
    google.Unknown("stream removed"),
    google.Cancelled("by the server"),
]
PASSING_IDS = [type(error).__name__ for error in PASSING]


def creates(rig: Rig, *ids: str, **fields: Any) -> list[Any]:
    return [create(rig.name(one), {"id": one, **fields}) for one in ids]


def ids(documents: Any) -> list[str]:
    return [document.name.rpartition("/")[2] for document in documents]


def every(rig: Rig, limit: int = 1000) -> list[str]:
    return ids(
        rig.do(rig.wire.run_query(rig.place.root, query("commands", order=[Order(NAME)], limit=limit))).documents
    )


def number(rig: Rig, count: int) -> list[str]:
    names = [f"n{index:04}" for index in range(count)]
    assert set(rig.do(rig.wire.batch_write(creates(rig, *names)))) <= {0}
    return names


# Values


def test_values_come_back_as_they_were(rig: Rig) -> None:
    values = {
        "text": "Zoë\n\x00 \U0001f600",
        "empty": "",
        "bytes": b"\x00\xff\xfe\x80 \xc3\x28 \x00",
        "no_bytes": b"",
        "all_bytes": bytes(range(256)),
        "true": True,
        "false": False,
        "none": None,
        "float": 0.1,
        "list": [1, "a", b"\x00", None],
        "map": {"a": {"b": 2**63 - 1}},
        **{f"int{index}": value for index, value in enumerate(INT64)},
    }
    assert rig.do(rig.wire.batch_write([create(rig.name("v"), values)])) == [0]
    read = rig.do(rig.wire.batch_get([rig.name("v")]))[rig.name("v")].fields
    assert read == values
    assert {name: type(value) for name, value in read.items()} == {name: type(value) for name, value in values.items()}
    [found] = rig.do(rig.wire.run_query(rig.place.root, query("commands", limit=2))).documents
    assert found.fields == values


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, "\ud800", 1j])
def test_what_no_document_can_hold_is_refused_before_it_is_sent(value: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        create("projects/p/databases/d/documents/c/i", {"x": value})


# BatchGet


def test_missing_documents_are_left_out(rig: Rig) -> None:
    rig.do(rig.wire.batch_write(creates(rig, "a", "b")))
    found = rig.do(rig.wire.batch_get([rig.name(one) for one in ("a", "none", "b")]))
    assert set(found) == {rig.name("a"), rig.name("b")}
    assert rig.do(rig.wire.batch_get([])) == {}


def test_only_the_fields_asked_for_come(rig: Rig) -> None:
    rig.do(rig.wire.batch_write([create(rig.name("a"), {"x": 1, "y": 2, "data": b"long"})]))
    name = rig.name("a")
    assert rig.do(rig.wire.batch_get([name], ("x", "y", "z")))[name].fields == {"x": 1, "y": 2}
    assert rig.do(rig.wire.batch_get([name], ()))[name].fields == {}


def test_many_names_go_in_several_requests(rig: Rig) -> None:
    names = [rig.name(one) for one in number(rig, 250)]
    assert set(rig.do(rig.wire.batch_get([*names, rig.name("none")]))) == set(names)
    assert rig.faults.calls["batch_get_documents"] == 3


def test_names_that_a_batch_left_out_are_asked_for_again(rig: Rig) -> None:
    names = [rig.name(one) for one in number(rig, 20)]
    rig.faults.answer("batch_get_documents", lambda answers: answers[:7])
    rig.faults.answer("batch_get_documents", lambda answers: answers[:1])
    assert set(rig.do(rig.wire.batch_get(names))) == set(names)
    assert [len(request.documents) for _, request in rig.faults.requests[-3:]] == [20, 13, 12]


def test_a_batch_that_always_ends_early_is_given_up(rig: Rig) -> None:
    for _ in range(30):
        rig.faults.answer("batch_get_documents", lambda _: [])
    with pytest.raises(StoreUnavailable, match="early"):
        rig.do(rig.wire.batch_get([rig.name("a")]))
    assert rig.faults.calls["batch_get_documents"] == NO_PAUSE.attempts


# Queries


def rows(rig: Rig) -> list[dict[str, Any]]:
    made = [
        {"shard": shard, "created_at": 1_700_000_000_000_000_000 + at, "uuid": f"u{index}"}
        for index, (shard, at) in enumerate([(0, 5), (0, 5), (0, 5), (0, 3), (0, 9), (1, 5), (0, 4), (1, 1)])
    ]
    assert not any(rig.do(rig.wire.batch_write([create(rig.name(f"c{row['uuid']}"), row) for row in made])))
    return [row for row in made if row["shard"] == 0]


@pytest.mark.parametrize("ascending", [True, False])
def test_a_query_by_several_fields_goes_on_after_a_cursor(rig: Rig, ascending: bool) -> None:
    expected = sorted(rows(rig), key=lambda row: (row["created_at"], row["uuid"]), reverse=not ascending)
    order = [Order("created_at", ascending), Order("uuid", ascending)]
    got: list[dict[str, Any]] = []
    start = None
    while True:
        asked = query("commands", where=[Filter("shard", "==", 0)], order=order, start=start, limit=2)
        page = [document.fields for document in rig.do(rig.wire.run_query(rig.place.root, asked)).documents]
        got += page
        if len(page) < 2:
            break
        start = Cursor([page[-1]["created_at"], page[-1]["uuid"]])
    assert got == expected
    assert rig.faults.calls["run_query"] == 4


def test_a_cursor_may_include_its_own_place_and_end_before_another(rig: Rig) -> None:
    number(rig, 9)
    order, place = [Order(NAME)], rig.place.root
    of = partial(query, "commands", order=order, limit=100)
    at, last = Cursor([rig.name("n0003")]), Cursor([rig.name("n0006")])
    assert ids(rig.do(rig.wire.run_query(place, of(start=at, end=last))).documents) == ["n0004", "n0005"]
    inclusive = of(start=at._replace(inclusive=True), end=last._replace(inclusive=True))
    assert ids(rig.do(rig.wire.run_query(place, inclusive)).documents) == ["n0003", "n0004", "n0005", "n0006"]


def test_several_filters_hold_together(rig: Rig) -> None:
    rows(rig)
    base = 1_700_000_000_000_000_000
    where = [Filter("shard", "==", 0), Filter("created_at", ">=", base + 4), Filter("created_at", "<", base + 9)]
    asked = query("commands", where=where, order=[Order("created_at"), Order("uuid")], fields=("uuid",), limit=50)
    found = rig.do(rig.wire.run_query(rig.place.root, asked)).documents
    assert [document.fields for document in found] == [{"uuid": one} for one in ("u6", "u0", "u1", "u2")]
    assert rig.do(rig.wire.count(rig.place.root, asked)) == 4


def test_a_subcollection_is_asked_by_the_name_of_its_document(rig: Rig) -> None:
    inner = f"{rig.name('a')}/parts/p1"
    rig.do(rig.wire.batch_write([*creates(rig, "a", "b"), create(inner, {"x": 1})]))
    asked = query("parts", fields=(), limit=10)
    [found] = rig.do(rig.wire.run_query(rig.name("a"), asked)).documents
    assert (found.name, found.fields) == (inner, {})
    assert rig.do(rig.wire.run_query(rig.name("b"), asked)).documents == []


def test_reads_at_the_time_of_a_query_see_what_was_there_then(rig: Rig) -> None:
    names = number(rig, 6)
    first = rig.do(rig.wire.run_query(rig.place.root, query("commands", order=[Order(NAME)], limit=3)))
    assert first.read_time
    rig.do(rig.wire.commit([delete(rig.name(names[4])), put(rig.name(names[5]), {"x": 9}), *creates(rig, "z")]))
    asked = query("commands", order=[Order(NAME)], start=Cursor([first.documents[-1].name]), limit=9)
    for _ in range(2):
        then = rig.do(rig.wire.run_query(rig.place.root, asked, at=first.read_time))
        assert ids(then.documents) == names[3:]
        assert then.read_time == first.read_time
    there = rig.do(rig.wire.batch_get([rig.name(name) for name in (*names[4:], "z")], at=first.read_time))
    assert [document.fields["id"] for document in there.values()] == names[4:]


@pytest.mark.parametrize("kept", [0, 1, 7, 19])
def test_a_stream_that_ends_early_is_noticed_and_asked_again(rig: Rig, kept: int) -> None:
    names = number(rig, 20)
    rig.faults.answer("run_query", lambda answers: answers[:kept])
    assert every(rig) == names
    assert rig.faults.calls["run_query"] == 2


def unsaid(answers: list[Any], kept: int | None = None) -> list[Any]:
    for answer in answers:
        answer.ClearField("done")
    return answers[:kept]


def test_an_engine_that_never_says_done_is_asked_twice(rig: Rig) -> None:
    names = number(rig, 5)
    for _ in range(4):
        rig.faults.answer("run_query", unsaid)
    assert every(rig) == names
    assert rig.faults.calls["run_query"] == 2
    # Not where the limit is reached: then there is nothing more to say.
    assert every(rig, limit=5) == names
    assert rig.faults.calls["run_query"] == 3


def test_an_engine_that_never_says_done_and_ends_early_is_asked_until_two_answers_agree(rig: Rig) -> None:
    names = number(rig, 5)
    for kept in (2, None, 3, None, None):
        rig.faults.answer("run_query", partial(unsaid, kept=kept))
    assert every(rig) == names
    assert rig.faults.calls["run_query"] == 5


def test_of_an_engine_that_says_done_two_early_ends_at_one_place_are_not_believed(rig: Rig) -> None:
    names = number(rig, 5)
    assert every(rig) == names
    for _ in range(3):
        rig.faults.answer("run_query", partial(unsaid, kept=2))
    assert every(rig) == names
    assert rig.faults.calls["run_query"] == 5


def test_an_empty_answer_is_believed_only_when_it_says_so(rig: Rig) -> None:
    assert every(rig) == []
    assert rig.faults.calls["run_query"] == 1
    for _ in range(30):
        rig.faults.answer("run_query", lambda _: [])
    with pytest.raises(StoreUnavailable, match="early"):
        every(rig)


@pytest.mark.parametrize("error", PASSING, ids=PASSING_IDS)
@pytest.mark.parametrize("method", ["batch_get_documents", "run_query", "run_aggregation_query"])
def test_reads_are_tried_again(rig: Rig, method: str, error: Exception) -> None:
    number(rig, 3)
    rig.faults.fail(method, error, times=2)
    asked = query("commands")
    assert len(rig.do(rig.wire.batch_get([rig.name("n0000")]))) == 1
    assert len(every(rig)) == 3
    assert rig.do(rig.wire.count(rig.place.root, asked)) == 3
    assert rig.faults.calls[method] == 3


def test_a_missing_index_is_answered_with_the_command_that_creates_it(rig: Rig) -> None:
    url = "https://console.firebase.google.com/v1/r/project/p/firestore/indexes?create_composite=" + "Cg" * 300
    rig.faults.fail(
        "run_query", google.FailedPrecondition(f"The query requires an index. You can create it here: {url}")
    )
    asked = query(
        "commands",
        where=[Filter("shard", "==", 0), Filter("tenant_uuid", "==", "t"), Filter("created_at", ">", 1)],
        order=[Order("created_at", ascending=False), Order(NAME, ascending=False)],
        limit=1,
    )
    with pytest.raises(ConfigurationError) as caught:
        rig.do(rig.wire.run_query(rig.place.root, asked))
    assert (
        "gcloud firestore indexes composite create "
        f"--project={rig.place.project} --database='(default)' --query-scope=COLLECTION --collection-group=commands "
        "--field-config=field-path=shard,order=ascending --field-config=field-path=tenant_uuid,order=ascending "
        "--field-config=field-path=created_at,order=descending"
    ) in str(caught.value)
    assert url in str(caught.value)
    assert rig.faults.calls["run_query"] == 1


# Counts


def test_counts_are_exact(rig: Rig) -> None:
    asked = query("commands")
    assert rig.do(rig.wire.count(rig.place.root, asked)) == 0
    number(rig, 1201)
    assert rig.do(rig.wire.count(rig.place.root, asked)) == 1201
    assert rig.do(rig.wire.count(rig.place.root, query("commands", where=[Filter("id", "<", "n0010")]))) == 10


def test_a_count_that_does_not_come_is_never_0(rig: Rig) -> None:
    number(rig, 3)
    rig.faults.answer("run_aggregation_query", lambda _: [])
    assert rig.do(rig.wire.count(rig.place.root, query("commands"))) == 3
    for _ in range(30):
        rig.faults.answer("run_aggregation_query", lambda _: [])
    with pytest.raises(StoreUnavailable):
        rig.do(rig.wire.count(rig.place.root, query("commands")))


# BatchWrite


def test_each_write_has_its_code(rig: Rig) -> None:
    assert rig.do(rig.wire.batch_write(creates(rig, "b", "d"))) == [0, 0]
    assert rig.do(rig.wire.batch_write(creates(rig, "a", "b", "c", "d", "e", old=False))) == [0, 6, 0, 6, 0]
    assert every(rig) == ["a", "b", "c", "d", "e"]
    read = rig.do(rig.wire.batch_get([rig.name("b")]))
    assert "old" not in read[rig.name("b")].fields


def test_conditions_of_puts_and_deletes(rig: Rig) -> None:
    [at] = rig.do(rig.wire.commit(creates(rig, "a")))
    [later] = rig.do(rig.wire.commit([put(rig.name("a"), {"x": 2}, update_time=at)]))
    assert later > at
    writes = [
        put(rig.name("a"), {"x": 3}, update_time=at),
        put(rig.name("none"), {"x": 3}, exists=True),
        delete(rig.name("none2"), exists=True),
        delete(rig.name("none3")),
        put(rig.name("new"), {"x": 3}),
    ]
    assert rig.do(rig.wire.batch_write(writes)) == [9, 5, 5, 0, 0]
    document = rig.do(rig.wire.batch_get([rig.name("a")]))[rig.name("a")]
    assert (document.fields, document.update_time) == ({"x": 2}, later)
    assert rig.do(rig.wire.batch_write([delete(rig.name("a"), update_time=later)])) == [0]
    assert every(rig) == ["new"]


def test_batches_are_cut_by_count_and_by_bytes(rig: Rig) -> None:
    assert rig.do(rig.wire.batch_write([])) == []
    number(rig, 1201)
    assert sorted(rig.faults.sizes()) == [201, 500, 500]
    large = [create(rig.name(f"l{index}"), {"data": bytes(900_000)}) for index in range(8)]
    assert rig.do(rig.wire.batch_write(large)) == [0] * 8
    assert sorted(rig.faults.sizes()[3:]) == [2, 3, 3]


def status(changes: dict[int, Code], message: str = "as the engine says it") -> Any:
    """An answer in which these writes of the batch have these codes."""

    def change(answer: Any) -> Any:
        for index, code in changes.items():
            answer.status[index].code = code
            answer.status[index].message = message
        return answer

    return change


def test_only_writes_that_may_succeed_later_are_sent_again(rig: Rig) -> None:
    writes = creates(rig, *"abcdef")
    rig.faults.answer("batch_write", status({1: Code.ABORTED, 2: Code.UNAVAILABLE, 4: Code.RESOURCE_EXHAUSTED}))
    rig.faults.answer("batch_write", status({1: Code.DEADLINE_EXCEEDED}))
    # The first attempt was done after all: what is sent again finds itself.
    assert rig.do(rig.wire.batch_write(writes)) == [0, 6, 6, 0, 6, 0]
    again = [[write.update.name[-1] for write in request.writes] for _, request in rig.faults.requests]
    assert again == [list("abcdef"), ["b", "c", "e"], ["c"]]


def test_what_is_known_of_a_batch_is_known_after_an_error(rig: Rig) -> None:
    codes: list[int | None] = []
    rig.do(rig.wire.batch_write(creates(rig, "b")))
    for _ in range(NO_PAUSE.attempts + 1):
        rig.faults.answer("batch_write", status({0: Code.UNAVAILABLE}))
    with pytest.raises(StoreUnavailable):
        rig.do(rig.wire.batch_write(creates(rig, "a", "b", "c"), codes))
    assert codes == [None, 6, 0]


@pytest.mark.parametrize("code", [Code.PERMISSION_DENIED, Code.UNAUTHENTICATED])
def test_a_code_that_is_not_about_one_document_ends_the_batch(rig: Rig, code: Code) -> None:
    rig.faults.answer("batch_write", status({1: code}))
    with pytest.raises(AccessDenied):
        rig.do(rig.wire.batch_write(creates(rig, "a", "b")))


def test_a_status_about_the_database_is_no_missing_document(rig: Rig) -> None:
    rig.faults.answer("batch_write", status({0: Code.NOT_FOUND}, "The database (default) does not exist for project p"))
    with pytest.raises(LookupError, match="databases create"):
        rig.do(rig.wire.batch_write(creates(rig, "a")))


def test_an_answer_without_all_its_codes_is_not_believed(rig: Rig) -> None:
    def cut(answer: Any) -> Any:
        del answer.status[1:]
        return answer

    rig.faults.answer("batch_write", cut)
    assert rig.do(rig.wire.batch_write(creates(rig, "a", "b"))) == [6, 6]


@pytest.mark.parametrize("error", PASSING, ids=PASSING_IDS)
def test_a_batch_that_failed_is_sent_again(rig: Rig, error: Exception) -> None:
    rig.faults.fail("batch_write", error, times=3)
    assert rig.do(rig.wire.batch_write(creates(rig, "a", "b"))) == [0, 0]
    assert rig.faults.calls["batch_write"] == 4


@pytest.mark.parametrize("error", PASSING, ids=PASSING_IDS)
def test_a_batch_whose_answer_was_lost_finds_itself(rig: Rig, error: Exception) -> None:
    rig.faults.lose("batch_write", error)
    assert rig.do(rig.wire.batch_write(creates(rig, "a", "b"))) == [6, 6]


@pytest.mark.parametrize("error", PASSING, ids=PASSING_IDS)
def test_patience_ends(rig: Rig, error: Exception) -> None:
    rig.faults.fail("batch_write", error, times=50)
    kind = Throttled if isinstance(error, google.ResourceExhausted) else StoreUnavailable
    with pytest.raises(StoreUnavailable) as caught:
        rig.do(rig.wire.batch_write(creates(rig, "a", "b")))
    assert type(caught.value) is kind
    assert caught.value.__cause__ is error
    assert rig.faults.calls["batch_write"] == NO_PAUSE.attempts


def test_batches_become_smaller_when_the_engine_asks_for_a_slower_pace_and_grow_again(rig: Rig) -> None:
    rig.faults.fail("batch_write", google.ResourceExhausted("slower"), times=3)
    names = [f"n{index:04}" for index in range(500)]
    assert rig.do(rig.wire.batch_write(creates(rig, *names))) == [0] * 500
    assert rig.faults.sizes() == [500, 250, 125, 62, 124, 248, 66]
    rig.faults.answer("batch_write", status({0: Code.RESOURCE_EXHAUSTED}))
    assert rig.do(rig.wire.batch_write(creates(rig, *names))) == [6] * 500
    assert rig.faults.sizes()[7:] == [500, 1]


def test_batches_become_smaller_when_they_take_longer_than_they_may(rig: Rig) -> None:
    # The same batch again would take as long again.
    rig.faults.fail("batch_write", google.DeadlineExceeded("too slow"), times=2)
    names = [f"n{index:04}" for index in range(500)]
    assert rig.do(rig.wire.batch_write(creates(rig, *names))) == [0] * 500
    assert rig.faults.sizes() == [500, 250, 125, 250, 125]


def test_pauses_grow_and_are_random(rig: Rig) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    wire = rig.connected(retry=Retry(attempts=6, base=1.0, longest=5.0, draw=lambda: 0.5))
    wire._drive.sleep = sleep  # type: ignore[method-assign]
    rig.faults.fail("commit", google.Aborted("contention"), times=5)
    rig.do(wire.commit(creates(rig, "a")))
    assert pauses == [0.5, 1.0, 2.0, 2.5, 2.5]


def test_one_bad_write_spoils_the_whole_batch_and_is_not_tried_again(rig: Rig) -> None:
    bad = [
        creates(rig, "a", "a"),
        creates(rig, "a", "__x__"),
        [*creates(rig, "a"), create(rig.name("b"), {"data": bytes(1_048_600)})],
    ]
    for writes in bad:
        with pytest.raises(ConfigurationError) as caught:
            rig.do(rig.wire.batch_write(writes))
        assert is_refused(caught.value)
    assert rig.faults.calls["batch_write"] == len(bad)
    assert every(rig) == []


def test_a_message_beyond_the_emulators_limit_is_refused_and_not_tried_again(rig: Rig) -> None:
    with pytest.raises(ConfigurationError, match="exceeds maximum size") as caught:
        rig.do(rig.wire.batch_write([create(rig.name("a"), {"data": bytes(4_300_000)})]))
    assert is_refused(caught.value)
    assert rig.faults.calls["batch_write"] == 1


# Commit


def test_a_commit_happens_whole_or_not_at_all(rig: Rig) -> None:
    first, second = rig.do(rig.wire.commit(creates(rig, "a", "b")))
    assert first == second == rig.do(rig.wire.batch_get([rig.name("a")]))[rig.name("a")].update_time
    assert first % 1000 == 0  # the engine counts microseconds
    with pytest.raises(ConditionFailed) as caught:
        rig.do(rig.wire.commit(creates(rig, "c", "b")))
    assert (caught.value.code, caught.value.lost) == (Code.ALREADY_EXISTS, False)
    assert every(rig) == ["a", "b"]
    assert rig.do(rig.wire.commit([delete(rig.name("a")), delete(rig.name("none"))])) == [0, 0]


def test_each_condition_has_its_code(rig: Rig) -> None:
    rig.do(rig.wire.commit(creates(rig, "a")))
    failing = {
        Code.NOT_FOUND: put(rig.name("none"), {}, exists=True),
        Code.FAILED_PRECONDITION: put(rig.name("a"), {}, update_time=1_000_000),
    }
    for code, write in failing.items():
        with pytest.raises(ConditionFailed) as caught:
            rig.do(rig.wire.commit([write]))
        assert caught.value.code is code
    with pytest.raises(ConditionFailed):
        rig.do(rig.wire.commit([delete(rig.name("none"), update_time=1_000_000)]))


@pytest.mark.parametrize("error", PASSING, ids=PASSING_IDS)
def test_a_commit_whose_answer_was_lost_says_so(rig: Rig, error: Exception) -> None:
    rig.faults.lose("commit", error)
    with pytest.raises(ConditionFailed) as caught:
        rig.do(rig.wire.commit(creates(rig, "a")))
    # Of these two the engine says that nothing was done.
    assert caught.value.lost is not isinstance(error, google.Aborted | google.ResourceExhausted)


def test_swaps_by_update_time_lose_no_increment(rig: Rig) -> None:
    name = rig.name("counter")
    rig.do(rig.wire.commit([put(name, {"x": 0})]))

    async def swap() -> None:
        while True:
            read = (await rig.wire.batch_get([name]))[name]
            with suppress(ConditionFailed):
                await rig.wire.commit([put(name, {"x": read.fields["x"] + 1}, update_time=read.update_time)])
                return

    async def several() -> None:
        await rig.drive.gather([swap] * 30, 4)

    rig.do(several())
    assert rig.do(rig.wire.batch_get([name]))[name].fields == {"x": 30}


# Connections


def test_nobody_there(rig: Rig) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    wire = rig.connected(rig.place._replace(emulator=nobody), retry=Retry(attempts=3, base=0.0))
    with pytest.raises(StoreUnavailable, match=f"emulator at {nobody}"):
        rig.do(wire.commit(creates(rig, "a")))
    assert rig.faults.calls["commit"] == 3


def test_an_error_that_is_not_the_sdks_comes_out_as_it_is(rig: Rig) -> None:
    for method in ("commit", "batch_write", "run_query"):
        rig.faults.fail(method, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError) as caught:
        rig.do(rig.wire.commit([]))
    assert caught.value.__cause__ is None
    with pytest.raises(ZeroDivisionError):
        rig.do(rig.wire.batch_write(creates(rig, "a")))
    with pytest.raises(ZeroDivisionError):
        every(rig)


def test_no_proxy_is_asked_for_an_emulator(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert rig.do(rig.connected().batch_write(creates(rig, "a"))) == [0]


def test_without_credentials_there_is_one_clear_line(rig: Rig) -> None:
    with pytest.raises(AccessDenied, match="gcloud auth application-default login") as caught:
        rig.connected(Place("acme", "commands"))
    assert "\n" not in str(caught.value)


def test_the_real_firestore_is_connected_to_with_the_given_credentials(rig: Rig) -> None:
    async def connected() -> None:
        async with AsyncExitStack() as stack:
            await connect(rig.drive, stack, Place("acme", "commands"), credentials=AnonymousCredentials())

    rig.do(connected())


def test_a_cancelled_call_is_over_at_once(firestore_emulator: FirestoreEmulator) -> None:
    rig = Rig(firestore_emulator.host, "async")

    async def main() -> None:
        sent = asyncio.Event()
        rig.faults.before("commit", sent.set)
        # Whether this one is done nobody knows.
        task = asyncio.ensure_future(rig.wire.commit([put(rig.name("b"), {"x": 1})]))
        await sent.wait()
        await asyncio.wait([task], timeout=0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await rig.wire.commit([put(rig.name("a"), {"x": 2})])
        assert (await rig.wire.batch_get([rig.name("a")]))[rig.name("a")].fields == {"x": 2}

    rig.do(main())
    rig.close()


def test_a_stopped_call_sends_nothing(firestore_emulator: FirestoreEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(firestore_emulator.host, "blocking")

    def stopped() -> None:
        raise OperationStopped("stopped")

    monkeypatch.setattr(rig.drive, "check", stopped)
    with pytest.raises(OperationStopped):
        rig.do(rig.wire.commit(creates(rig, "a")))
    with pytest.raises(OperationStopped):
        every(rig)
    monkeypatch.undo()
    assert every(rig) == []
    rig.close()
