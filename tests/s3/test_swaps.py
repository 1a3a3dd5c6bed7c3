"""Swaps of the manifest: taking turns within a store, lost answers, and what can't be known."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ReadTimeoutError

from commandstore.errors import StoreNotFound, StoreUnavailable
from commandstore.s3.manifest import KEPT, Grave, Manifest, decode, encode
from commandstore.s3.root import Root
from commandstore.testing.faults.client import client_error
from s3.wired import Wired


async def named(manifest: Manifest, name: str) -> Manifest:
    """A change that can be seen."""
    return replace(manifest, graves={**manifest.graves, name: Grave(0, None)})


def opened(bucket: Wired) -> Root:
    root = Root(bucket.wire)
    if bucket.do(root.read()) is None:
        assert bucket.do(root.begin(Manifest("life")))
    return root


def refused(_: object) -> object:
    raise client_error("PreconditionFailed", 412)


def names(bucket: Wired) -> set[str]:
    return set(bucket.do(Root(bucket.wire).fresh()).graves)


def test_many_changes_at_once_of_one_store_take_turns(bucket: Wired) -> None:
    # Against each other they would run out of attempts: here each takes one read and one write.
    root = opened(bucket)
    bucket.faults.calls.clear()
    wanted = {f"n{number}" for number in range(40)}
    if bucket.is_async:

        async def together() -> None:
            await asyncio.gather(*(root.change(lambda m, n=name: named(m, n)) for name in wanted))

        bucket.do(together())
    else:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda name: bucket.do(root.change(lambda m: named(m, name))), wanted))
    assert names(bucket) == wanted
    assert bucket.faults.calls["put_object"] == 40


def test_a_swap_that_lost_a_race_is_made_anew_on_what_is_there(bucket: Wired) -> None:
    root, other = opened(bucket), opened(bucket)
    rival = Root(bucket.to())

    async def plan(manifest: Manifest) -> Manifest:
        if "rival" not in manifest.graves:
            await rival.change(lambda m: named(m, "rival"))
        return await named(manifest, "mine")

    bucket.do(root.change(plan))
    assert names(bucket) == {"rival", "mine"}
    assert set(bucket.do(other.fresh()).graves) == {"rival", "mine"}


def test_a_swap_that_was_sent_twice_by_what_carries_it_is_done_once(bucket: Wired) -> None:
    root, calls = opened(bucket), []

    async def plan(manifest: Manifest) -> Manifest:
        calls.append(manifest.sequence)
        return await named(manifest, "mine")

    # As aiohttp does with a PUT, when a kept connection turns out to be closed: the second answer is 412.
    bucket.faults.answer("put_object", refused)
    bucket.do(root.change(plan))
    assert (calls, names(bucket)) == ([0], {"mine"})


def test_a_swap_whose_answer_was_lost_is_found_again(bucket: Wired) -> None:
    root, calls = opened(bucket), []

    async def plan(manifest: Manifest) -> Manifest:
        calls.append(manifest.sequence)
        return await named(manifest, "mine")

    bucket.faults.lose("put_object")
    bucket.do(root.change(plan))
    assert (calls, names(bucket)) == ([0], {"mine"})


def test_a_swap_whose_answer_was_lost_is_found_again_behind_others(bucket: Wired) -> None:
    root, calls = opened(bucket), []

    async def plan(manifest: Manifest) -> Manifest:
        calls.append(manifest.sequence)
        return await named(manifest, "mine")

    def others() -> None:
        for number in range(3):
            _swap_past_the_store(bucket, f"rival{number}")

    bucket.faults.lose("put_object")
    bucket.faults.before("put_object", lambda: None)  # the first attempt
    bucket.faults.before("put_object", others)  # before it is tried again
    bucket.do(root.change(plan))
    assert calls == [0]
    assert names(bucket) == {"mine", "rival0", "rival1", "rival2"}


def test_a_swap_that_too_many_others_followed_has_an_unknown_fate(bucket: Wired) -> None:
    root = opened(bucket)

    def others() -> None:
        _swap_past_the_store(bucket, "rival", times=KEPT + 1)

    bucket.faults.lose("put_object")
    bucket.faults.before("put_object", lambda: None)
    bucket.faults.before("put_object", others)
    with pytest.raises(StoreUnavailable, match="whether that swap was done is unknown"):
        bucket.do(root.change(lambda m: named(m, "mine")))


def test_a_swap_that_may_still_be_on_its_way_is_not_made_anew(bucket: Wired) -> None:
    root = opened(bucket)
    calls: list[int] = []

    async def plan(manifest: Manifest) -> Manifest:
        calls.append(manifest.sequence)
        return await named(manifest, "mine")

    bucket.faults.fail("put_object", ReadTimeoutError(endpoint_url="http://127.0.0.1"), times=50)
    with pytest.raises(StoreUnavailable):
        bucket.do(root.change(plan))
    assert calls == [0]


def test_a_change_of_nothing_writes_nothing(bucket: Wired) -> None:
    root = opened(bucket)

    async def nothing(_: Manifest) -> None:
        return None

    bucket.faults.calls.clear()
    assert bucket.do(root.change(nothing)).sequence == 0
    assert bucket.faults.calls["put_object"] == 0


def test_a_manifest_that_is_gone_stops_the_swap(bucket: Wired) -> None:
    root = opened(bucket)

    async def plan(manifest: Manifest) -> Manifest:
        await bucket.wire.delete(["manifest.json"])
        return manifest

    with pytest.raises(StoreNotFound, match=r"manifest\.json"):
        bucket.do(root.change(plan))


def _swap_past_the_store(bucket: Wired, name: str, times: int = 1) -> None:
    """As another process would, by a client of its own."""
    place = bucket.place
    client = boto3.client(
        "s3",
        endpoint_url=place.endpoint,
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
        config=Config(s3={"addressing_style": "path"}),
    )
    where = {"Bucket": place.bucket, "Key": f"{place.prefix}manifest.json"}
    with closing(client):
        manifest = decode(client.get_object(**where)["Body"].read(), "manifest.json")
        for number in range(times):
            graves = {**manifest.graves, name: Grave(0, None)}
            manifest = replace(manifest, graves=graves).swapped(f"{name}-{number}")
        client.put_object(**where, Body=encode(manifest))
