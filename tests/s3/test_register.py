"""The compare-and-swap register on two engines, under both drives, with lost answers and rivals."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import orjson
import pytest

from commandstore.errors import CorruptRecord, StoreUnavailable
from commandstore.s3.register import KEPT, Register
from commandstore.testing.faults.client import client_error
from s3.wired import Wired

KEY = "registers/r.json"


@pytest.fixture
def register(bucket: Wired) -> Register:
    return Register(bucket.wire, KEY)


@pytest.fixture
def rival_swaps(bucket: Wired) -> Iterator[Callable[..., None]]:
    """Swaps by another process, as it were: with a client of its own, that blocks and has no faults."""
    other = Wired(bucket.place.endpoint or "", "blocking")
    register = Register(other.to(bucket=bucket.place.bucket), KEY)

    def swap(times: int = 1) -> None:
        for number in range(times):
            assert other.do(register.swap(b"rival %d" % number, other.do(register.read())))

    yield swap
    other.close()


def test_a_register_that_nobody_swapped_is_none(bucket: Wired, register: Register) -> None:
    assert bucket.do(register.read()) is None


def test_a_swap_is_read_and_the_next_needs_what_was_read(bucket: Wired, register: Register) -> None:
    assert bucket.do(register.swap(b"\x00\xff", None))
    seen = bucket.do(register.read())
    assert (seen.value, seen.sequence) == (b"\x00\xff", 1)
    assert bucket.do(register.swap(b"", seen))
    assert bucket.do(register.read()).value == b""
    for stale in (None, seen):
        assert not bucket.do(register.swap(b"never", stale))
    assert bucket.do(register.read()).value == b""


def test_a_removed_register_has_no_value_and_can_be_set_again(bucket: Wired, register: Register) -> None:
    bucket.do(register.swap(b"1", None))
    bucket.do(register.swap(None, bucket.do(register.read())))
    removed = bucket.do(register.read())
    assert removed.value is None
    assert not bucket.do(register.swap(b"2", None))
    assert bucket.do(register.swap(b"2", removed))


def test_the_same_value_again_has_another_etag(bucket: Wired, register: Register) -> None:
    bucket.do(register.swap(b"1", None))
    first = bucket.do(register.read())
    bucket.do(register.swap(b"1", first))
    assert bucket.do(register.read()).etag != first.etag
    assert not bucket.do(register.swap(b"2", first))


@pytest.mark.parametrize("times", [1, 2])
def test_a_swap_whose_answer_is_lost_was_done(bucket: Wired, register: Register, times: int) -> None:
    bucket.faults.lose("put_object", times)
    assert bucket.do(register.swap(b"1", None))
    seen = bucket.do(register.read())
    assert (seen.value, seen.sequence) == (b"1", 1)


def test_a_swap_that_was_sent_twice_by_what_carries_it_was_done(bucket: Wired, register: Register) -> None:
    def refused(_: object) -> object:
        raise client_error("PreconditionFailed", 412)

    seen = None
    for value in (b"1", b"2"):
        # As aiohttp does with a PUT, when a kept connection turns out to be closed: the second answer is 412.
        bucket.faults.answer("put_object", refused)
        assert bucket.do(register.swap(value, seen))
        seen = bucket.do(register.read())
    assert (seen.value, seen.sequence) == (b"2", 2)


def test_a_lost_swap_counts_even_when_others_swapped_since(
    bucket: Wired, register: Register, rival_swaps: Callable[..., None]
) -> None:
    bucket.faults.lose("put_object")
    bucket.faults.before("put_object", lambda: None)  # the first attempt passes
    bucket.faults.before("put_object", lambda: rival_swaps(3))
    assert bucket.do(register.swap(b"mine", None))
    assert bucket.do(register.read()).value == b"rival 2"


def test_a_lost_swap_that_was_not_done_is_told_apart(
    bucket: Wired, register: Register, rival_swaps: Callable[..., None]
) -> None:
    bucket.faults.fail("put_object", client_error("InternalError", 500))
    bucket.faults.before("put_object", rival_swaps)
    assert not bucket.do(register.swap(b"mine", None))
    assert bucket.do(register.read()).value == b"rival 0"


def test_where_too_many_swapped_since_the_fate_is_unknown_and_named(
    bucket: Wired, register: Register, rival_swaps: Callable[..., None]
) -> None:
    bucket.faults.lose("put_object")
    bucket.faults.before("put_object", lambda: None)
    bucket.faults.before("put_object", lambda: rival_swaps(KEPT))
    with pytest.raises(StoreUnavailable, match=r"registers/r\.json.*unknown"):
        bucket.do(register.swap(b"mine", None))


def test_as_many_as_are_named_still_tell(bucket: Wired, register: Register, rival_swaps: Callable[..., None]) -> None:
    bucket.faults.lose("put_object")
    bucket.faults.before("put_object", lambda: None)
    bucket.faults.before("put_object", lambda: rival_swaps(KEPT - 1))
    assert bucket.do(register.swap(b"mine", None))


def test_a_swap_that_can_not_be_sent_says_so_and_changes_nothing(bucket: Wired, register: Register) -> None:
    bucket.faults.fail("put_object", client_error("InternalError", 500), times=bucket.wire.retry.attempts)
    with pytest.raises(StoreUnavailable):
        bucket.do(register.swap(b"1", None))
    assert bucket.do(register.read()) is None


def test_an_object_that_went_is_not_made_again_by_a_swap(bucket: Wired, register: Register) -> None:
    bucket.do(register.swap(b"1", None))
    seen = bucket.do(register.read())
    bucket.do(bucket.wire.delete([KEY]))
    assert not bucket.do(register.swap(b"2", seen))
    assert bucket.do(register.read()) is None


def test_an_update_goes_by_what_is_there_then(
    bucket: Wired, register: Register, rival_swaps: Callable[..., None]
) -> None:
    bucket.faults.before("put_object", rival_swaps)
    assert bucket.do(register.update(lambda value: (value or b"") + b"+")) == b"rival 0+"
    assert bucket.do(register.read()).value == b"rival 0+"


def test_an_update_that_always_comes_too_late_ends(
    bucket: Wired, register: Register, rival_swaps: Callable[..., None]
) -> None:
    for _ in range(bucket.wire.retry.attempts):
        bucket.faults.before("put_object", rival_swaps)
    with pytest.raises(StoreUnavailable, match="nothing was changed"):
        bucket.do(register.update(lambda _: b"mine"))
    assert bucket.do(register.read()).value == b"rival 0"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        orjson.dumps({"format": 2, "put_id": "a", "sequence": 1, "recent": ["a"], "value": None}),
        orjson.dumps({"format": 1, "put_id": "a", "sequence": 1, "recent": ["a"], "value": "%"}),
        orjson.dumps({"format": 1, "put_id": "a", "sequence": 1, "recent": [], "value": None}),
        orjson.dumps({"format": 1, "put_id": 1, "sequence": 1, "recent": ["a"], "value": None}),
    ],
)
def test_what_is_no_register_is_named_and_kept(bucket: Wired, register: Register, body: bytes) -> None:
    bucket.do(bucket.wire.put(KEY, body))
    with pytest.raises(CorruptRecord, match=r"registers/r\.json"):
        bucket.do(register.update(lambda _: b"1"))
    assert bucket.do(bucket.wire.get(KEY)).data == body
