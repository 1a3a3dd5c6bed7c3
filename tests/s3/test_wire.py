"""The wire on two engines, under both drives, with and without faults."""

from __future__ import annotations

import time

import botocore.exceptions as sdk
import pytest

from commandstore.aws.retry import Retry
from commandstore.errors import (
    AccessDenied,
    ConfigurationError,
    StoreNotFound,
    StoreUnavailable,
    Throttled,
)
from commandstore.s3.wire import ConditionFailed, Gone, Got
from commandstore.testing.faults.client import client_error
from s3.wired import NO_PAUSE, Wired

LARGE = 3 * 1024 * 1024


def test_what_was_put_is_got(bucket: Wired) -> None:
    wire = bucket.wire
    etag = bucket.do(wire.put("a/1.json", b'{"a":1}'))
    assert bucket.do(wire.get("a/1.json")) == Got(b'{"a":1}', etag)
    assert bucket.do(bucket.to(prefix="").get("stage/a/1.json")) == Got(b'{"a":1}', etag)
    assert bucket.do(wire.get("a/2.json")) is None


@pytest.mark.parametrize("size", [0, LARGE])
def test_an_object_may_be_empty_or_large(bucket: Wired, size: int) -> None:
    data = b"x" * size
    bucket.do(bucket.wire.put("a", data, content_type="application/octet-stream"))
    assert bucket.do(bucket.wire.get("a")).data == data


@pytest.mark.parametrize("key", ["ä/\U0001f600 +&%41?.json", "..a", "tenant=1//b"])
def test_a_key_may_be_anything(bucket: Wired, key: str) -> None:
    bucket.do(bucket.wire.put(key, b"1"))
    assert bucket.do(bucket.wire.get(key)).data == b"1"
    assert [entry.key for entry in bucket.do(bucket.wire.list_all(""))] == [key]


def test_what_is_known_is_not_sent_again(bucket: Wired) -> None:
    wire = bucket.wire
    first = bucket.do(wire.put("a", b"1"))
    assert bucket.do(wire.get("a", known=first)) == Got(b"", first, unchanged=True)
    second = bucket.do(wire.put("a", b"2"))
    assert bucket.do(wire.get("a", known=first)) == Got(b"2", second)
    assert bucket.do(wire.get("b", known=first)) is None


def test_a_range_is_cut_out_and_behind_the_end_is_nothing(bucket: Wired) -> None:
    wire = bucket.wire
    etag = bucket.do(wire.put("a", b"0123456789"))
    assert bucket.do(wire.get("a", start=2, length=3)) == Got(b"234", etag)
    assert bucket.do(wire.get("a", start=8)) == Got(b"89", etag)
    assert bucket.do(wire.get("a", length=2)) == Got(b"01", etag)
    assert bucket.do(wire.get("a", start=8, length=100)) == Got(b"89", etag)
    assert bucket.do(wire.get("a", start=10, length=5)) == Got(b"", "")
    assert bucket.do(wire.get("a", start=3, length=0)) == Got(b"", "")


def test_only_the_first_is_new(bucket: Wired) -> None:
    bucket.do(bucket.wire.put("a", b"1", only_new=True))
    with pytest.raises(ConditionFailed) as failed:
        bucket.do(bucket.wire.put("a", b"2", only_new=True))
    assert not failed.value.lost
    assert bucket.do(bucket.wire.get("a")).data == b"1"


def test_what_was_changed_meanwhile_is_not_replaced(bucket: Wired) -> None:
    wire = bucket.wire
    first = bucket.do(wire.put("a", b"1"))
    second = bucket.do(wire.put("a", b"2", etag=first))
    with pytest.raises(ConditionFailed) as failed:
        bucket.do(wire.put("a", b"3", etag=first))
    assert not failed.value.lost
    assert bucket.do(wire.get("a")) == Got(b"2", second)


def test_what_is_gone_is_not_replaced(bucket: Wired) -> None:
    etag = bucket.do(bucket.wire.put("a", b"1"))
    bucket.do(bucket.wire.delete(["a"]))
    with pytest.raises(Gone, match="stage/a"):
        bucket.do(bucket.wire.put("a", b"2", etag=etag))
    assert bucket.do(bucket.wire.get("a")) is None


def test_deleting_takes_many_and_missing_ones(bucket: Wired) -> None:
    wire = bucket.wire
    for number in range(9):
        bucket.do(wire.put(f"d/{number}", b""))
    bucket.do(wire.delete([f"d/{number}" for number in range(1, 20)]))
    assert [entry.key for entry in bucket.do(wire.list_all("d/"))] == ["d/0"]
    bucket.do(wire.delete([]))


def test_a_list_goes_by_key_from_page_to_page(bucket: Wired) -> None:
    wire, before = bucket.wire, time.time()
    etags = {key: bucket.do(wire.put(key, b"123")) for key in ("l/b", "l/a", "l/ä", "l/c/1", "m")}
    page, token = bucket.do(wire.list("l/"))
    assert [entry.key for entry in page] == ["l/a", "l/b", "l/c/1", "l/ä"]
    assert token is None
    assert all(entry.etag == etags[entry.key] and entry.size == 3 for entry in page)
    assert all(abs(entry.modified - before) < 60 for entry in page)
    assert [entry.key for entry in bucket.do(wire.list("l/", after="l/b"))[0]] == ["l/c/1", "l/ä"]
    assert bucket.do(wire.list("n")) == ([], None)
    wire._bucket["MaxKeys"] = 1  # the engine's own pages, but small
    page, token = bucket.do(wire.list("l/"))
    assert [entry.key for entry in page] == ["l/a"]
    assert [entry.key for entry in bucket.do(wire.list("l/", token=token))[0]] == ["l/b"]
    before_all = bucket.faults.calls["list_objects_v2"]
    assert [entry.key for entry in bucket.do(wire.list_all("l/"))] == ["l/a", "l/b", "l/c/1", "l/ä"]
    assert bucket.faults.calls["list_objects_v2"] - before_all == 4


def test_pages_that_do_not_come_in_the_order_of_keys_lose_nothing(bucket: Wired) -> None:
    wire = bucket.wire
    for key in ("l/a", "l/b", "l/c"):
        bucket.do(wire.put(key, b""))
    wire._bucket["MaxKeys"] = 1
    swapped = {"stage/l/a": "stage/l/z", "stage/l/b": "stage/l/0"}

    def disorder(answer: dict[str, object]) -> dict[str, object]:
        [entry] = answer["Contents"]
        return {**answer, "Contents": [{**entry, "Key": swapped[entry["Key"]]}]}

    for _ in swapped:
        bucket.faults.answer("list_objects_v2", disorder)
    assert [entry.key for entry in bucket.do(wire.list_all("l/"))] == ["l/0", "l/c", "l/z"]


def test_a_list_that_breaks_off_is_no_short_list(bucket: Wired) -> None:
    bucket.do(bucket.wire.put("l/a", b""))
    for _ in range(bucket.wire.retry.attempts):
        bucket.faults.answer("list_objects_v2", lambda answer: {**answer, "IsTruncated": True})
    with pytest.raises(StoreUnavailable):
        bucket.do(bucket.wire.list_all("l/"))


def test_a_bucket_may_be_created_again(bucket: Wired) -> None:
    bucket.do(bucket.wire.create_bucket())
    bucket.faults.fail("create_bucket", client_error("BucketAlreadyOwnedByYou", 409))
    bucket.do(bucket.wire.create_bucket())


def test_a_bucket_elsewhere_is_created_there(bucket: Wired) -> None:
    place = bucket.wire.place
    bucket.wire.place = place._replace(bucket=f"{place.bucket}-eu", region="eu-central-1")
    bucket.do(bucket.wire.create_bucket())
    request = bucket.faults.requests[-1][1]
    assert request["CreateBucketConfiguration"] == {"LocationConstraint": "eu-central-1"}


def test_a_bucket_without_object_lock_is_not_locked(bucket: Wired) -> None:
    assert bucket.do(bucket.wire.locked()) is None


@pytest.mark.parametrize(
    ("code", "status"),
    [("ObjectLockConfigurationNotFoundError", 404), ("NotImplemented", 501), ("MethodNotAllowed", 405)],
)
def test_an_engine_without_object_lock_is_not_locked(bucket: Wired, code: str, status: int) -> None:
    bucket.faults.fail("get_object_lock_configuration", client_error(code, status))
    assert bucket.do(bucket.wire.locked()) is None
    assert bucket.faults.calls["get_object_lock_configuration"] == 1


@pytest.mark.parametrize("mode", ["GOVERNANCE", "COMPLIANCE"])
def test_a_locked_bucket_says_how(bucket: Wired, mode: str) -> None:
    configuration = {"Rule": {"DefaultRetention": {"Mode": mode, "Days": 1}}}
    wire = bucket.wire
    wire._client = _Answering(configuration)
    assert bucket.do(wire.locked()) == mode


class _Answering:
    """A client of a bucket with Object Lock."""

    def __init__(self, configuration: dict[str, object]) -> None:
        self._configuration = configuration

    async def get_object_lock_configuration(self, **_: object) -> dict[str, object]:
        return {"ObjectLockConfiguration": self._configuration}


def test_the_options_and_the_owner_go_with_every_request(bucket: Wired) -> None:
    wire = bucket.to(put_options={"ServerSideEncryption": "AES256"}, owner="123456789012")
    for method in ("put_object", "get_object", "delete_object", "list_objects_v2", "get_object_lock_configuration"):
        bucket.faults.fail(method, client_error("AccessDenied", 403))
    for call in (wire.put("a", b""), wire.get("a"), wire.delete(["a"]), wire.list(""), wire.locked()):
        with pytest.raises(AccessDenied, match="123456789012"):
            bucket.do(call)
    sent = [request for method, request in bucket.faults.requests if method != "create_bucket"]
    assert len(sent) == 5
    assert all(request["ExpectedBucketOwner"] == "123456789012" for request in sent)
    assert [request.get("ServerSideEncryption") for request in sent] == ["AES256", None, None, None, None]


# Faults


@pytest.mark.parametrize(
    "error",
    [
        client_error("SlowDown", 503),
        client_error("ServiceUnavailable", 503),
        client_error("InternalError", 500),
        client_error("ConditionalRequestConflict", 409),
        client_error("OperationAborted", 409),
        client_error("RequestTimeout", 400),
        client_error("BadDigest", 400),
        sdk.EndpointConnectionError(endpoint_url="http://127.0.0.1"),
        sdk.ConnectionClosedError(endpoint_url="http://127.0.0.1"),
    ],
)
def test_what_may_pass_is_tried_again(bucket: Wired, error: Exception) -> None:
    bucket.faults.fail("put_object", error, times=3)
    bucket.do(bucket.wire.put("a", b"x" * LARGE, only_new=True))
    assert bucket.faults.calls["put_object"] == 4
    assert bucket.do(bucket.wire.get("a")).data == b"x" * LARGE


def test_patience_ends(bucket: Wired) -> None:
    wire = bucket.to(retry=Retry(attempts=3, base=0.0))
    bucket.faults.fail("get_object", client_error("SlowDown", 503), times=3)
    with pytest.raises(Throttled, match=bucket.place.bucket):
        bucket.do(wire.get("a"))
    bucket.faults.fail("get_object", client_error("ConditionalRequestConflict", 409), times=3)
    with pytest.raises(StoreUnavailable, match="stage/a in bucket"):
        bucket.do(wire.get("a"))
    assert bucket.faults.calls["get_object"] == 6


def test_a_condition_that_fails_behind_a_lost_answer_may_be_our_own_doing(bucket: Wired) -> None:
    bucket.faults.lose("put_object")
    with pytest.raises(ConditionFailed) as failed:
        bucket.do(bucket.wire.put("a", b"1", only_new=True))
    assert failed.value.lost
    assert bucket.do(bucket.wire.get("a")).data == b"1"


def test_an_answer_without_an_etag_is_a_lost_one(bucket: Wired) -> None:
    bucket.faults.answer("put_object", lambda a: {**a, "ETag": ""})
    with pytest.raises(ConditionFailed) as failed:
        bucket.do(bucket.wire.put("a", b"1", only_new=True))
    assert failed.value.lost


def test_an_answer_that_lacks_what_it_should_hold_is_asked_for_again(bucket: Wired) -> None:
    wire = bucket.wire

    def nothing(answer: dict) -> dict:
        answer["Body"].close()
        return {}

    bucket.do(wire.put("a", b"1"))
    bucket.faults.answer("get_object", nothing)
    assert bucket.do(wire.get("a")).data == b"1"
    for change in (
        lambda a: {**a, "Contents": [{}]},
        lambda a: {**a, "Contents": None},
        lambda a: {**a, "Contents": [{**one, "LastModified": "yesterday"} for one in a["Contents"]]},
    ):
        bucket.faults.answer("list_objects_v2", change)
        assert [entry.key for entry in bucket.do(wire.list_all(""))] == ["a"]
    for _ in range(NO_PAUSE.attempts):
        bucket.faults.answer("get_object", nothing)
    with pytest.raises(StoreUnavailable):
        bucket.do(wire.get("a"))


def test_a_condition_that_fails_behind_a_conflict_is_anothers_doing(bucket: Wired) -> None:
    bucket.do(bucket.wire.put("a", b"1"))
    bucket.faults.fail("put_object", client_error("ConditionalRequestConflict", 409))
    bucket.faults.fail("put_object", client_error("SlowDown", 503))
    with pytest.raises(ConditionFailed) as failed:
        bucket.do(bucket.wire.put("a", b"2", only_new=True))
    assert not failed.value.lost


def test_a_body_that_ends_before_its_time_is_read_again(bucket: Wired) -> None:
    etag = bucket.do(bucket.wire.put("a", b"12"))
    bucket.tear()
    bucket.tear()
    assert bucket.do(bucket.wire.get("a")) == Got(b"12", etag)
    assert bucket.faults.calls["get_object"] == 3
    for _ in range(NO_PAUSE.attempts):
        bucket.tear()
    with pytest.raises(StoreUnavailable, match="IncompleteReadError"):
        bucket.do(bucket.wire.get("a"))


def test_without_a_bucket_the_error_says_how_to_make_it(bucket: Wired) -> None:
    wire = bucket.to(bucket="not-there")
    calls = (wire.get("a"), wire.put("a", b""), wire.put("a", b"", only_new=True), wire.list(""))
    for call in calls:
        with pytest.raises(StoreNotFound, match=r"no bucket not-there .*commandstore init 's3://not-there/stage\?"):
            bucket.do(call)


def test_a_name_that_no_bucket_has_is_a_matter_of_configuration(bucket: Wired) -> None:
    with pytest.raises(ConfigurationError, match="B!"):
        bucket.do(bucket.to(bucket="B!").get("a"))
