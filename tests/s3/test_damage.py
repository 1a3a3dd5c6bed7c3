"""Objects that were altered, cut off or removed: each is named, and nothing is ever just left out.

The law of every list: what it gives and what it calls corrupt is, together, what there is; or it raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest

from commandstore.command import Command
from commandstore.errors import CommandExists, CommandStoreError, CorruptRecord
from commandstore.s3 import finder
from commandstore.store import CommandStore
from commandstore.testing.conformance.data import a_command
from commandstore.testing.engines import Engine
from s3.rig import Rig, rigs

LARGE, SMALL, ALONE = range(40), range(40, 50), range(50, 53)
"""A segment that a directory object knows, one whose entries are in the manifest, and what lies in the inbox."""
ALL = 53


def command(number: int) -> Command:
    return a_command(f"c{number:02}", number, tenant_uuid=f"tenant-{number % 2}", data_bytes=b"payload %d" % number)


class Damaged:
    """A store of 53 commands whose objects are about to suffer."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        store = rig.open(create=True)
        store.create_many(command(number) for number in LARGE)
        store.create_many(command(number) for number in SMALL)
        for number in ALONE:
            store.create(command(number))
        large, small = rig.manifest()["segments"]
        self.store_name = rig.manifest()["store"]
        self.segment, self.index = f"segments/{large['id']}.jsonl", f"indexes/{large['id']}.json"
        self.small_segment, self.small_index = f"segments/{small['id']}.jsonl", f"indexes/{small['id']}.json"
        self.directory = f"directories/{rig.manifest()['recent']['id']}"

    def letter(self, number: int) -> str:
        return f"inbox/{self.store_name}/c{number:02}.json"

    def alter(self, key: str, change: Callable[[bytes], bytes]) -> None:
        before = self.rig.read(key)
        after = change(before)
        assert after != before
        self.rig.write(key, after)


@pytest.fixture
def damaged(engine: Engine) -> Iterator[Damaged]:
    for rig in rigs(engine):
        yield Damaged(rig)


LISTS: list[dict[str, Any]] = [
    {},
    {"ascending": False},
    {"tenant_uuid": "tenant-1"},
    {"domain": "Account"},
    {"after": 9, "before": 52},
]


def everything(store: CommandStore, **query: Any) -> tuple[list[Command], list[CommandStoreError], int]:
    """All pages of a list, and its total."""
    cursor, commands, corrupt = None, [], []
    while True:
        page = store.list(limit=20 if not query else 100, cursor=cursor, **query)
        commands += page.commands
        corrupt += page.corrupt
        cursor = page.cursor
        if cursor is None:
            assert page.total is not None
            return commands, corrupt, page.total


def assert_told(error: CommandStoreError, key: str) -> None:
    assert type(error) is CorruptRecord
    assert key in str(error)
    assert error.location == key


def assert_corrupt(store: CommandStore, key: str, numbers: set[int]) -> None:
    """These commands, and no others, can't be read; every list says so, and gives all others as they were."""
    uuids = {f"c{number:02}" for number in numbers}
    for query in LISTS:
        commands, corrupt, total = everything(store, **query)
        assert len(commands) + len(corrupt) == total
        assert all(found == command(int(found.command_uuid[1:])) for found in commands)
        assert {found.command_uuid for found in commands}.isdisjoint(uuids)
        for error in corrupt:
            assert_told(error, key)
            assert error.command_uuid in uuids
    commands, corrupt, total = everything(store)
    assert ({error.command_uuid for error in corrupt}, total) == (uuids, ALL)
    passed: list[CommandStoreError] = []
    assert len(list(store.scan(on_corrupt=passed.append))) + len(passed) == ALL
    with pytest.raises(CorruptRecord):
        list(store.scan())
    for uuid in sorted(uuids)[:3]:
        with pytest.raises(CorruptRecord, match=uuid) as caught:
            store.get(uuid)
        assert_told(caught.value, key)
        with pytest.raises(CommandExists) as exists:
            store.create(a_command(uuid))
        assert exists.value.existing is None
    assert store.total() == ALL


def assert_raises(key: str, *calls: Callable[[], object]) -> None:
    """These calls fail, and name the object."""
    for call in calls:
        with pytest.raises(CorruptRecord) as caught:
            call()
        assert_told(caught.value, key)


# Segments


def test_a_line_that_was_altered(damaged: Damaged) -> None:
    damaged.alter(damaged.segment, lambda body: body.replace(b'"domain":"Account"', b'"domain":"Amounts"', 1))
    assert_corrupt(damaged.rig.open(), damaged.segment, {0})


def test_a_line_that_was_made_longer(damaged: Damaged) -> None:
    damaged.alter(damaged.segment, lambda body: b" " + body)
    assert_corrupt(damaged.rig.open(), damaged.segment, set(LARGE))


def test_two_lines_that_changed_places(damaged: Damaged) -> None:
    def swap(body: bytes) -> bytes:
        lines = body.splitlines(keepends=True)
        assert len(lines[1]) == len(lines[2])
        return b"".join([lines[0], lines[2], lines[1], *lines[3:]])

    damaged.alter(damaged.segment, swap)
    assert_corrupt(damaged.rig.open(), damaged.segment, {1, 2})


@pytest.mark.parametrize("lines", [0, 1, 30])
def test_a_segment_that_was_cut_off(damaged: Damaged, lines: int) -> None:
    damaged.alter(damaged.segment, lambda body: b"".join(body.splitlines(keepends=True)[:lines]))
    assert_corrupt(damaged.rig.open(), damaged.segment, set(LARGE[lines:]))


def test_a_segment_that_was_cut_off_within_a_line(damaged: Damaged) -> None:
    damaged.alter(damaged.segment, lambda body: body[:-1])
    assert_corrupt(damaged.rig.open(), damaged.segment, {39})


def test_a_segment_that_is_missing(damaged: Damaged) -> None:
    damaged.rig.delete(damaged.segment)
    assert_corrupt(damaged.rig.open(), damaged.segment, set(LARGE))


def test_a_small_segment_that_is_missing(damaged: Damaged) -> None:
    damaged.rig.delete(damaged.small_segment)
    assert_corrupt(damaged.rig.open(), damaged.small_segment, set(SMALL))


def test_a_segment_that_is_another_one(damaged: Damaged) -> None:
    damaged.rig.write(damaged.segment, damaged.rig.read(damaged.small_segment) * 4)
    assert_corrupt(damaged.rig.open(), damaged.segment, set(LARGE))


def test_a_compaction_leaves_what_it_can_not_read_where_it_is(damaged: Damaged) -> None:
    damaged.alter(damaged.segment, lambda body: body[:-1])
    store = damaged.rig.open()
    assert store.compact()["objects_unreadable"] == 1
    store.gc(0)
    assert_corrupt(damaged.rig.open(), damaged.segment, {39})


def test_a_compaction_copies_an_altered_line_as_it_is(damaged: Damaged) -> None:
    damaged.alter(damaged.segment, lambda body: body.replace(b'"domain":"Account"', b'"domain":"Amounts"', 1))
    store = damaged.rig.open()
    assert store.update(command(1))  # so that the segment is worth being rewritten
    assert store.compact()["rows_dropped"] == 1
    store.gc(0)
    [segment] = [key for key in damaged.rig.keys("segments/") if b"Amounts" in damaged.rig.read(key)]
    assert segment != damaged.segment
    assert_corrupt(damaged.rig.open(), segment, {0})


def test_what_was_damaged_can_be_updated_or_deleted(damaged: Damaged) -> None:
    damaged.alter(damaged.segment, lambda body: body[:100])
    store = damaged.rig.open()
    assert store.update(command(1))
    assert store.get("c01") == command(1)
    assert store.delete("c02")
    commands, corrupt, total = everything(store)
    assert (len(commands), len(corrupt), total) == (14, 38, 52)


# Indexes


def changed(body: bytes, **fields: Callable[[Any], Any]) -> bytes:
    """An index with other fields, as JSON as it was."""
    found = orjson.loads(body)
    return orjson.dumps({**found, **{name: change(found[name]) for name, change in fields.items()}})


WRONG_INDEXES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut off": lambda body: body[:-1],
    "no JSON": lambda body: body.replace(b"{", b"[", 1),
    "null": lambda _: b"null",
    "an object": lambda _: b"{}",
    "with another uuid": lambda body: body.replace(b'"c07"', b'"c7"', 1),
    "with two uuids in each other's place": lambda body: body.replace(b'"c07","c08"', b'"c08","c07"', 1),
    "with another tenant": lambda body: body.replace(b'"tenant-0"', b'"tenant-9"', 1),
    "with another digest": lambda body: body.replace(b'"digest":"', b'"digest":"AAAA', 1).replace(b'","len', b'"len'),
    "with another time": lambda body: body.replace(b'"created_at":[0,1,2', b'"created_at":[0,1,1', 1),
    "with a row deleted": lambda body: body.replace(b'"deleted":[]', b'"deleted":[7]', 1),
    "of a newer format": lambda body: changed(body, format=lambda _: 2),
    "without a column": lambda body: changed(body, columns=lambda columns: {"tenant_uuid": columns["tenant_uuid"]}),
    "of fewer rows": lambda body: changed(body, rows=lambda _: 39),
    "with a row less": lambda body: changed(body, crc32=lambda checks: checks[1:]),
    "with a digest less": lambda body: changed(body, digest=lambda text: text[4:]),
    "with another length": lambda body: changed(body, length=lambda lengths: [1, *lengths[1:]]),
}


@pytest.mark.parametrize("wrong", WRONG_INDEXES)
def test_an_index_that_was_altered(damaged: Damaged, wrong: str) -> None:
    damaged.alter(damaged.index, WRONG_INDEXES[wrong])
    _assert_index_is_needed(damaged)


def test_an_index_of_another_segment(damaged: Damaged) -> None:
    damaged.rig.write(damaged.index, damaged.rig.read(damaged.small_index))
    _assert_index_is_needed(damaged)


def test_an_index_that_is_missing(damaged: Damaged) -> None:
    damaged.rig.delete(damaged.index)
    _assert_index_is_needed(damaged)


def _assert_index_is_needed(damaged: Damaged) -> None:
    store = damaged.rig.open()
    key = damaged.index
    assert_raises(
        key,
        lambda: everything(store),
        lambda: everything(store, ascending=False),
        lambda: everything(store, tenant_uuid="tenant-1"),
        lambda: store.total(domain="Account"),
        lambda: list(store.scan()),
        lambda: store.get("c07"),
        lambda: store.create(command(7)),
        lambda: store.create_many([command(7), command(60)]),
        lambda: store.update(command(7)),
        lambda: store.delete("c07"),
    )
    assert store.total() == ALL  # the manifest knows
    assert store.get("c45") == command(45)
    assert store.get("c51") == command(51)
    store.compact()
    store.gc(0)
    there = set(damaged.rig.keys())
    assert damaged.segment in there
    assert_raises(key, lambda: damaged.rig.open().get("c07"))


# Directories


@pytest.mark.parametrize(
    "change",
    [
        None,
        lambda _: b"",
        lambda body: body[:-1],
        lambda body: body[:-16],
        lambda body: bytes([body[0] ^ 1]) + body[1:],
        lambda body: body[16:] + body[:16],
    ],
)
def test_a_directory_that_is_missing_cut_off_or_altered(
    damaged: Damaged, change: Callable[[bytes], bytes] | None
) -> None:
    if change is None:
        damaged.rig.delete(damaged.directory)
    else:
        damaged.alter(damaged.directory, change)
    store = damaged.rig.open()
    assert_raises(
        damaged.directory,
        lambda: everything(store),  # which of the inbox count is in the directory
        lambda: list(store.scan()),
        store.total,
        lambda: store.get("c07"),
        lambda: store.get("nobody"),
        lambda: store.create(command(60)),
        lambda: store.create_many([command(60), command(61)]),
        lambda: store.update(command(7)),
        lambda: store.delete("c07"),
    )
    store.gc(0)
    assert {damaged.index, damaged.segment} <= set(damaged.rig.keys())


# Parts


@pytest.fixture
def parted(damaged: Damaged, monkeypatch: pytest.MonkeyPatch) -> Damaged:
    """As before, with the reference to the large segment in a part."""
    monkeypatch.setattr(finder, "_INLINE", 1)
    monkeypatch.setattr(finder, "_FOLDED", 1)
    damaged.rig.open().create_many(a_command(f"e{number}", 100 + number) for number in range(20))
    [part] = damaged.rig.manifest()["parts"]
    assert part["commands"] == 40
    return damaged


@pytest.mark.parametrize(
    "change",
    [
        None,
        lambda _: b"",
        lambda body: body[:-1],
        lambda _: b"null",
        lambda body: body.replace(b'"format":1', b'"format":2'),
        lambda body: body.replace(b'"last":[39', b'"last":[29'),
        lambda _: b'{"format":1,"segments":[]}',
    ],
)
def test_a_part_that_is_missing_or_altered(parted: Damaged, change: Callable[[bytes], bytes] | None) -> None:
    [key] = parted.rig.keys("parts/")
    if change is None:
        parted.rig.delete(key)
    else:
        parted.alter(key, change)
    store = parted.rig.open()
    assert_raises(
        key,
        lambda: everything(store),
        lambda: everything(store, ascending=False, tenant_uuid="tenant-0"),
        lambda: list(store.scan()),
        lambda: store.total(domain="Account"),
        lambda: store.get("c07"),
        lambda: store.create(command(7)),
        lambda: store.update(command(7)),
        lambda: store.delete("c07"),
        lambda: store.gc(0),
    )
    assert {parted.index, parted.segment} <= set(parted.rig.keys())
    assert store.get("c45") == command(45)


# The inbox

WRONG_LETTERS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut off": lambda body: body[:-3],
    "null": lambda _: b"null",
    "a list": lambda body: b"[" + body + b"]",
    "another domain": lambda body: body.replace(b'"domain":"Account"', b'"domain":"Amounts"'),
    "another time": lambda body: body.replace(b'"created_at":51', b'"created_at":15'),
    "a float for a time": lambda body: body.replace(b'"created_at":51', b'"created_at":51.0'),
    "another uuid": lambda body: body.replace(b'"c51"', b'"c99"'),
    "no digest": lambda body: body.replace(b'"digest"', b'"digests"'),
    "no put id": lambda body: b"".join([body.partition(b'"inbox_put_id"')[0], b'"inbox_put_id":null}']),
    "a newer format": lambda body: body.replace(b'"format":1', b'"format":99'),
}


@pytest.mark.parametrize("wrong", WRONG_LETTERS)
def test_a_command_of_the_inbox_that_was_altered(damaged: Damaged, wrong: str) -> None:
    damaged.alter(damaged.letter(51), WRONG_LETTERS[wrong])
    _assert_one_letter_is_corrupt(damaged)


def test_a_command_of_the_inbox_under_another_one_s_name(damaged: Damaged) -> None:
    damaged.rig.write(damaged.letter(51), damaged.rig.read(damaged.letter(50)))
    _assert_one_letter_is_corrupt(damaged)


def _assert_one_letter_is_corrupt(damaged: Damaged) -> None:
    key, store = damaged.letter(51), damaged.rig.open()
    # What can't be read may match any filter, and stands before all others.
    for query in LISTS[:4]:
        commands, corrupt, total = everything(store, **query)
        assert len(commands) + len(corrupt) == total
        for error in corrupt:
            assert_told(error, key)
    assert len(everything(store)[0]) == ALL - 1
    assert_raises(key, lambda: store.get("c51"))
    with pytest.raises(CommandExists):
        store.create(command(51))
    assert store.create_many([command(51), command(60)]).conflicting == ("c51",)
    assert store.compact()["objects_unreadable"] == 1
    store.gc(0)
    assert damaged.rig.keys("inbox/") == [key]
    assert_raises(key, lambda: damaged.rig.open().get("c51"))
    assert store.total() == ALL + 1
    assert store.delete("c51")
    assert everything(store)[1:] == ([], ALL)


def test_a_command_of_the_inbox_that_was_renamed(damaged: Damaged) -> None:
    key = f"inbox/{damaged.store_name}/stranger.json"
    damaged.rig.write(key, damaged.rig.read(damaged.letter(51)))
    damaged.rig.delete(damaged.letter(51))
    store = damaged.rig.open()
    commands, corrupt, total = everything(store)
    assert (len(commands), total) == (ALL - 1, ALL)
    [error] = corrupt
    assert_told(error, key)
    assert_raises(key, lambda: store.get("stranger"))
    assert store.get("c51") is None


def test_a_command_that_the_manifest_knows_does_not_come_back_by_the_inbox(damaged: Damaged) -> None:
    damaged.rig.write(damaged.letter(7), damaged.rig.read(damaged.letter(51)).replace(b'"c51"', b'"c07"'))
    store = damaged.rig.open()
    assert everything(store)[1:] == ([], ALL)
    assert store.get("c07") == command(7)
    store.compact()
    assert damaged.rig.open().get("c07") == command(7)
    assert store.total() == ALL


@pytest.mark.parametrize("name", ["", "notes.txt", "sub/c51.json", "%ff.json", "~x.json"])
def test_a_stranger_in_the_inbox_is_told(damaged: Damaged, name: str) -> None:
    damaged.rig.write(f"inbox/{damaged.store_name}/{name}", b"hello")
    store = damaged.rig.open()
    commands, corrupt, total = everything(store)
    assert (len(commands), len(corrupt), total) == (ALL, 1, ALL + 1)
    assert_told(corrupt[0], f"inbox/{damaged.store_name}/{name}")
