"""A verification that repairs: what it does to each kind of finding, what it leaves, and that a second one is clean."""

from __future__ import annotations

import asyncio

import pytest

from commandstore import (
    AsyncCommandStore,
    Command,
    CommandStore,
    ConfigurationError,
    CorruptRecord,
    InvalidCommand,
    ReadOnlyStore,
    StoreUnavailable,
    open_store,
)
from commandstore.codec import encode, plain_record
from commandstore.command import Position
from commandstore.drive import run
from commandstore.memory import MemoryBackend
from commandstore.replication import FindingKind
from commandstore.replication.repair import NOT_ASKED_FOR, Done, Step, step
from commandstore.replication.verify import verify_async_command_stores, verify_command_stores
from replication.stores import Picky
from replication.verified import (
    FINDINGS,
    SOURCE,
    Moving,
    Torn,
    actions,
    all_of,
    command,
    holding,
    new_url,
    spoil,
    told,
)

KIND = {uuid: kind for uuid, kind in FINDINGS.items() if kind != "failed"}
ACTIONS = {"missing": "written", "altered": "replaced", "extra": "removed"}


@pytest.mark.parametrize("kind", ["memory", "sqlite", "dynamodb", "s3", "firestore"])
def test_each_kind_is_put_right_and_a_second_verification_is_clean(kind, request, tmp_path, monkeypatch) -> None:
    source = holding(SOURCE)
    with open_store(new_url(kind, request, tmp_path, monkeypatch), create=True) as destination:
        destination.create_many(SOURCE)
        spoil(destination)
        report = verify_command_stores(source, destination, repair=True, delete_extra=True)
        assert told(report) == KIND
        assert actions(report) == {uuid: ACTIONS[found] for uuid, found in KIND.items()}
        assert (report.repaired, report.deleted, report.left, report.clean) == (5, 1, 0, True)
        assert all_of(destination) == all_of(source)
        again = verify_command_stores(source, destination)
        assert (again.compared, again.equal, again.clean) == (41, 41, True)
        # Behind the store's back, under the digest that it keeps.
        stale = encode(SOURCE[7])._replace(data=b"other")
        assert run(destination.core.backend.replace(stale, "w"))
        report = verify_command_stores(source, destination, payloads=True, repair=True)
        found = "failed" if kind == "s3" else "altered"  # S3 looks at it by itself, and calls it corrupt
        assert (told(report), report.clean) == ({"c0007": found}, True)
        assert all_of(destination) == all_of(source)
        destination.reset()


def test_it_repairs_on_asyncio_too() -> None:
    async def main() -> None:
        source, destination = AsyncCommandStore(MemoryBackend()), AsyncCommandStore(MemoryBackend())
        for store in (source, destination):
            await store.init()
        await source.create_many(SOURCE)
        await destination.create_many(SOURCE[:30])
        await destination.create(Command("x", 5))
        report = await verify_async_command_stores(source, destination, repair=True, delete_extra=True)
        assert (report.repaired, report.deleted, report.clean) == (11, 1, True)
        assert [one async for one in destination.scan()] == [one async for one in source.scan()]

    asyncio.run(main())


def test_extra_commands_are_deleted_only_when_that_is_asked_for() -> None:
    source, destination = holding(SOURCE), holding(SOURCE)
    spoil(destination)
    report = verify_command_stores(source, destination, repair=True)
    assert (report.repaired, report.deleted, report.left, report.clean) == (5, 0, 1, False)
    assert actions(report)["x0001"] == NOT_ASKED_FOR
    assert [finding.command_uuid for finding in report.findings if not finding.repaired] == ["x0001"]
    assert destination.get("x0001") is not None
    with pytest.raises(ConfigurationError, match="goes with repair"):
        verify_command_stores(source, destination, delete_extra=True)


def test_without_a_repair_nothing_is_changed_and_nothing_said_of_it() -> None:
    destination = holding(SOURCE)
    spoil(destination)
    before = all_of(destination)
    report = verify_command_stores(holding(SOURCE), destination)
    assert set(actions(report).values()) == {""}
    assert (report.repaired, report.deleted, report.left) == (0, 0, 6)
    assert all_of(destination) == before


def test_a_destination_that_was_opened_read_only_is_refused_before_anything() -> None:
    class Untouched(MemoryBackend):
        async def page(self, *_, **__):
            raise AssertionError("it was read")

    destination = holding([])
    destination.init(read_only=True)
    with pytest.raises(ReadOnlyStore):
        verify_command_stores(holding([], Untouched()), destination, repair=True)
    assert verify_command_stores(holding([command(1)]), destination).missing == 1


def test_a_store_is_not_compared_with_itself_and_the_report_says_so() -> None:
    backend = MemoryBackend()
    store, other = holding(SOURCE, backend), CommandStore(backend)
    other.init()
    report = verify_command_stores(store, other, repair=True, delete_extra=True)
    assert (report.same_store, report.compared, report.clean) == (True, 0, True)
    assert not verify_command_stores(store, holding(SOURCE)).same_store


def between(then, kind: str = "altered"):
    """A pair that differs in one command, to which something happens between the verdict and the repair."""
    # The memory store probes by fetching: once for the digest, and once for what is altered, whole.
    backend = Moving(3 if kind == "altered" else 2)
    source = holding([command(1), command(2)], backend)
    destination = holding([command(1, data_bytes=b"other"), command(2)] if kind == "altered" else [command(2)])
    backend.then = lambda: then(source, destination)
    return source, destination


def test_what_is_written_is_what_the_source_has_just_then() -> None:
    newest = command(1, data_bytes=b"newest")
    source, destination = between(lambda source, _: source.update(newest))
    report = verify_command_stores(source, destination, repair=True)
    assert actions(report) == {"c0001": "replaced"}
    assert destination.get("c0001") == newest


def test_what_went_from_the_source_meanwhile_is_left() -> None:
    source, destination = between(lambda source, _: source.delete("c0001"))
    report = verify_command_stores(source, destination, repair=True, delete_extra=True)
    assert "not in the source" in actions(report)["c0001"]
    assert destination.get("c0001") is not None


def test_what_a_sync_brings_meanwhile_is_equal() -> None:
    source, destination = between(lambda _, destination: destination.create(command(1)), "missing")
    report = verify_command_stores(source, destination, repair=True)
    assert (told(report), report.compared, report.equal, report.clean) == ({}, 2, 2, True)


def test_what_comes_with_other_content_in_the_moment_of_writing_is_not_overwritten() -> None:
    class Racing(MemoryBackend):
        async def insert(self, records, write_id):
            await super().insert([encode(command(1, data_bytes=b"other"))], "another")
            return await super().insert(records, write_id)

    destination = holding([], Racing())
    report = verify_command_stores(holding([command(1)]), destination, repair=True)
    assert "other content meanwhile" in actions(report)["c0001"]
    assert (report.left, report.clean) == (1, False)


class Killed(MemoryBackend):
    """A destination that dies in its so-many-th change."""

    def __init__(self, changes: int | None = None) -> None:
        super().__init__()
        self.changes_left = changes

    def _changed(self) -> None:
        if self.changes_left is not None:
            self.changes_left -= 1
            if self.changes_left < 0:
                raise KeyboardInterrupt

    async def insert(self, records, write_id):
        if self.changes_left is not None:  # each is atomic, the whole is not
            await super().insert(records[:1], write_id)
        self._changed()
        return await super().insert(records, write_id)

    async def replace(self, record, write_id):
        self._changed()
        return await super().replace(record, write_id)

    async def remove(self, command_uuid):
        self._changed()
        return await super().remove(command_uuid)


@pytest.mark.parametrize("changes", range(7))
def test_a_repair_that_was_killed_ends_in_the_same_state_when_it_is_run_again(changes) -> None:
    backend = Killed()
    source, destination = holding(SOURCE), holding(SOURCE, backend)
    spoil(destination)
    destination.delete("c0030")
    backend.changes_left = changes
    try:
        verify_command_stores(source, destination, repair=True, delete_extra=True)
    except KeyboardInterrupt:
        assert changes < 6
    else:
        assert changes == 6
    backend.changes_left = None
    assert verify_command_stores(source, destination, repair=True, delete_extra=True).clean
    assert all_of(destination) == all_of(source)


def test_a_store_that_fails_ends_it_and_the_next_run_goes_on() -> None:
    class Failing(MemoryBackend):
        left = 3

        async def replace(self, record, write_id):
            self.left -= 1
            if self.left == 0:
                raise StoreUnavailable("no answer")
            return await super().replace(record, write_id)

    destination = holding([command(n, data_bytes=b"other") for n in range(5)], Failing())
    source = holding([command(n) for n in range(5)])
    with pytest.raises(StoreUnavailable, match="no answer"):
        verify_command_stores(source, destination, repair=True)
    assert verify_command_stores(source, destination).equal == 2
    assert verify_command_stores(source, destination, repair=True).repaired == 3


def test_of_what_was_written_when_a_store_failed_the_progress_tells() -> None:
    class Failing(MemoryBackend):
        async def insert(self, records, write_id):
            known = await super().insert(records[:2], write_id)
            error = StoreUnavailable("no answer")
            error.outcomes = [*known, *[None] * (len(records) - 2)]
            raise error

    destination = CommandStore(Failing())
    destination.init()
    seen = []
    with pytest.raises(StoreUnavailable, match="no answer"):
        verify_command_stores(holding([command(n) for n in range(5)]), destination, repair=True, progress=seen.append)
    assert (seen[-1].differing, seen[-1].repaired) == (2, 2)
    assert destination.total() == 2


def test_what_the_destination_can_not_hold_is_named_with_why_and_the_others_are_repaired() -> None:
    destination = holding([], Picky({"c0001"}))
    report = verify_command_stores(holding([command(n) for n in range(4)]), destination, repair=True)
    assert actions(report)["c0001"] == "not repaired: the column can't hold it"
    assert (report.missing, report.repaired, report.left) == (4, 3, 1)


def test_what_no_store_can_hold_is_left() -> None:
    backend = MemoryBackend()
    source = holding([], backend)
    for uuid, domain in (("c", "d" * 2000), ("u" * 600, "")):
        backend._records[uuid] = (plain_record(uuid, 1, 0, "", "", domain, "", b"", ""), "")
    report = verify_command_stores(source, holding([]), repair=True)
    said = actions(report)
    assert "domain is longer" in said["c"]
    assert "no uuid by which" in said[("u" * 600)[:512]]
    assert report.failed == report.left == 2


def test_what_can_t_be_read_in_the_destination_is_replaced() -> None:
    commands = [command(n) for n in range(5)]
    destination = holding(commands, Torn("c0002"))
    report = verify_command_stores(holding(commands), destination, repair=True)
    assert (told(report), actions(report)) == ({"c0002": "failed"}, {"c0002": "replaced"})
    assert (report.compared, report.equal, report.clean) == (5, 4, True)
    assert verify_command_stores(holding(commands), destination).clean


def test_what_can_t_be_read_in_the_source_is_left() -> None:
    commands = [command(n) for n in range(5)]
    destination = holding(commands[:1])
    report = verify_command_stores(holding(commands, Torn("c0002")), destination, repair=True)
    assert actions(report)["c0002"] == "not repaired: it can't be read in the source"
    assert (report.repaired, report.left) == (3, 1)
    assert destination.get("c0002") is None


def test_what_can_t_be_read_and_is_in_no_source_or_out_of_range_is_left() -> None:
    destination = holding([command(2), command(3)], Torn("c0002", "c0003"))
    source = holding([command(3, tenant_uuid="another's")])
    report = verify_command_stores(source, destination, tenant_uuid="", repair=True, delete_extra=True)
    said = actions(report)
    assert "not in the source" in said["c0002"]
    assert "outside of what is verified" in said["c0003"]
    assert destination.total() == 2


def test_what_has_no_readable_uuid_is_left() -> None:
    destination = holding([command(2)], Torn("c0002", named=False))
    report = verify_command_stores(holding([]), destination, repair=True, delete_extra=True)
    assert "no uuid by which" in actions(report)["object 7"]


def test_what_is_written_to_both_during_a_repair_is_neither_found_nor_touched() -> None:
    class Busy(MemoryBackend):
        then = None

        async def page(self, query, after, limit, *, payload=True):
            if self.then is not None:
                self.then()
            return await super().page(query, after, limit, payload=payload)

    backend = Busy()
    source, destination = holding(SOURCE, backend), holding(SOURCE)
    spoil(destination)
    number = iter(range(10**6))

    def write() -> None:
        late = Command(f"n{next(number)}", 2**62)
        source.create(late)

    backend.then = write
    report = verify_command_stores(source, destination, repair=True, delete_extra=True, page_size=7)
    assert told(report) == KIND
    backend.then = None
    assert report.clean
    assert all_of(destination) == [one for one in source.scan() if one.created_at < 2**62]


# What is to be done, as a table

HERE = encode(Command("a", 5, data_bytes=b"1"))
OTHER = encode(Command("a", 5, data_bytes=b"2"))
BAD = CorruptRecord("cut off")


@pytest.mark.parametrize(
    ("kind", "here", "there", "expected"),
    [
        ("missing", HERE, None, "written"),
        ("missing", HERE, OTHER, "replaced"),
        ("missing", HERE, HERE, Done.EQUAL),
        ("missing", None, None, Done.GONE),
        ("altered", HERE, OTHER, "replaced"),
        ("altered", HERE, None, "written"),
        ("altered", None, OTHER, None),
        ("altered", BAD, OTHER, None),
        ("extra", None, OTHER, "removed"),
        ("extra", None, BAD, "removed"),
        ("extra", None, None, Done.GONE),
        ("extra", HERE, HERE, Done.EQUAL),
        ("failed", HERE, BAD, "replaced"),
        ("failed", None, BAD, None),
        ("failed", BAD, None, None),
    ],
)
def test_what_is_done_follows_from_what_both_have_just_then(kind, here, there, expected) -> None:
    done = step(FindingKind(kind), here, there, in_scope=lambda _: True, delete_extra=True, opens=True)
    assert (done.action if isinstance(done, Step) else done) == expected


def test_the_place_of_a_finding_is_kept() -> None:
    report = verify_command_stores(holding([command(1)]), holding([]), repair=True)
    [finding] = report.findings
    assert Position(finding.created_at, finding.command_uuid) == command(1).position


def test_an_error_of_one_replacement_concerns_it_alone() -> None:
    class Refusing(MemoryBackend):
        async def replace(self, record, write_id):
            if record.command_uuid == "c0001":
                raise InvalidCommand("too long for its column")
            return await super().replace(record, write_id)

    destination = holding([command(n, data_bytes=b"other") for n in range(3)], Refusing())
    report = verify_command_stores(holding([command(n) for n in range(3)]), destination, repair=True)
    assert actions(report)["c0001"] == "not repaired: too long for its column"
    assert (report.altered, report.repaired, report.left) == (3, 2, 1)
