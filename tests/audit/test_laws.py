"""What an audit promises beyond the attacks: what is rightful is clean, and what is under way is no finding."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from audit.scene import ALL, HEAD, HISTORY, KEYS, MALLORY, SIGNER, Scene, a_command, forged, leaf_of, named, opened
from commandstore import (
    AsyncCommandStore,
    CommandStore,
    ConfigurationError,
    CorruptRecord,
    CryptoService,
    StoreClosed,
    sync_command_store,
    verify_command_stores,
)
from commandstore.audit import AuditReport, verify_async_ledger, verify_ledger
from commandstore.audit.book import Book
from commandstore.audit.replay import Audit, Settings
from commandstore.codec import encode
from commandstore.contract import Row
from commandstore.drive import run
from commandstore.errors import StoreUnavailable
from commandstore.ledger.entry import sign
from commandstore.ledger.leaves import MAX_LEAVES, most_parts
from commandstore.ledger.signing import Verifier
from commandstore.memory import MemoryBackend


def signed(backend: Any = None, **options: Any) -> Scene:
    return Scene(opened(backend, signer=SIGNER, **options))


# What is rightful


def test_every_rightful_change_is_clean() -> None:
    it = signed()
    checkpoint = None
    store = it.store
    for change in (
        lambda: store.create_many(a_command(f"c{n}", n) for n in range(5)),
        lambda: store.update(a_command("c1", 1, b"other")),
        lambda: store.update(a_command("c1", 99, b"other")),
        lambda: store.update(a_command("c1", 1)),
        lambda: store.delete("c2"),
        lambda: store.create(a_command("c2", 2, b"another one")),
        lambda: store.delete("c2"),
        lambda: store.create(a_command("late", -5)),
    ):
        change()
        since = it.audit(checkpoint=checkpoint) if checkpoint else it.audit()
        assert named(since) == set()
        assert since.checkpoint.commands == it.count()
        assert it.audit(checkpoint=checkpoint, full=True).clean
        checkpoint = since.checkpoint


def test_a_sync_and_one_that_comes_later_are_clean() -> None:
    source, it = opened(), signed()
    source.create_many(a_command(f"c{n}", n) for n in range(10))
    sync_command_store(source, it.store)
    first = it.audit()
    source.create_many(a_command(f"d{n}", n) for n in range(10))
    sync_command_store(source, it.store, lag=10**20)
    report = it.audit(checkpoint=first.checkpoint)
    assert (report.clean, report.commands, report.counted) == (True, 10, 20)


def test_a_repair_is_recorded_and_clean() -> None:
    source, it = opened(), signed()
    source.create_many(a_command(f"c{n}", n) for n in range(10))
    sync_command_store(source, it.store)
    it.replace(forged(it.record("c1"), data=b"x"))
    it.remove("c2")
    it.insert(encode(a_command("new", 5)))
    assert named(it.audit()) == {("altered", "c1"), ("dropped", "c2"), ("added", "new")}
    verify_command_stores(source, it.store, before=10**6, repair=True, delete_extra=True)
    report = it.audit()
    assert (report.clean, report.commands, report.checkpoint.commands) == (True, 10, 10)
    assert it.audit(checkpoint=report.checkpoint).clean


def test_an_encrypted_store_is_audited_without_its_key() -> None:
    it = signed(crypto=CryptoService(bytes(32)))
    it.store.create_many(a_command(f"c{n}", n) for n in range(3))
    it.store.update(a_command("c1", 1, b"other"))
    it.store.init()
    assert it.audit().clean
    record = it.record("c2")
    it.replace(record._replace(data=record.data[:-1] + bytes([record.data[-1] ^ 1])))
    assert named(it.audit()) == {("altered", "c2")}


def test_the_changes_that_the_ledger_records_are_told(it: Scene) -> None:
    assert [(one.op, one.command_uuid, one.sequence) for one in it.audit().changes] == [
        ("update", "a5", 3),
        ("delete", "a4", 4),
    ]


def test_keys_that_were_used_before_are_given_too() -> None:
    it = signed()
    it.store.create(a_command("c1", 1))
    it.store.init(signer=MALLORY)
    it.store.create(a_command("c2", 2))
    assert it.audit(keys=[*KEYS, MALLORY.public_key()]).clean
    assert it.audit(keys=[MALLORY.public_key() + KEYS[0]]).clean
    assert named(it.audit(keys=KEYS)) == {("entry", 2), ("added", "c2")}


def test_what_is_put_back_to_any_older_state_is_told_from_other_content() -> None:
    it = signed()
    it.store.create(a_command("c1", 1))
    first = it.record("c1")
    for payload in (b"1", b"2"):
        it.store.update(a_command("c1", 1, payload))
    it.replace(first)
    assert named(it.audit()) == {("unfinished", "c1")}


# What was stopped in the middle


class Killed(BaseException):
    pass


class Dying(MemoryBackend):
    """Dies at the next replace, remove or insert of a command."""

    dead = False

    async def replace(self, record, write_id):
        if self.dead:
            raise Killed
        return await super().replace(record, write_id)

    async def remove(self, command_uuid):
        if self.dead:
            raise Killed
        return await super().remove(command_uuid)


@pytest.mark.parametrize("what", ["update", "delete"])
def test_what_was_recorded_and_not_done_is_unfinished_until_it_is_done(what: str) -> None:
    it = signed(Dying())
    it.store.create_many(a_command(f"c{n}", n) for n in range(3))
    checkpoint = it.audit().checkpoint

    def change() -> None:
        it.store.update(a_command("c1", 1, b"other")) if what == "update" else it.store.delete("c1")

    it.backend.dead = True
    with pytest.raises(Killed):
        change()
    assert named(it.audit()) == {("unfinished", "c1")}
    # What was there before is known from earlier entries only.
    assert named(it.audit(checkpoint=checkpoint)) == {("altered" if what == "update" else "unfinished", "c1")}
    it.backend.dead = False
    change()
    assert it.audit().clean
    assert it.audit(checkpoint=checkpoint).clean


def test_an_update_after_a_deletion_that_was_not_done_is_counted_rightly() -> None:
    it = signed(Dying())
    it.store.create_many(a_command(f"c{n}", n) for n in range(3))
    checkpoint = it.audit().checkpoint
    it.backend.dead = True
    with pytest.raises(Killed):
        it.store.delete("c1")
    it.backend.dead = False
    it.store.update(a_command("c1", 1, b"other"))
    report = it.audit(checkpoint=checkpoint)
    assert (report.clean, report.counted, report.expected) == (True, 3, 3)


# What is under way


class Busy(MemoryBackend):
    """Calls something at the end of each walk."""

    def __init__(self) -> None:
        super().__init__()
        self.next: list[Any] = []

    async def page(self, query, after, limit, *, payload=True):
        found = await super().page(query, after, limit, payload=payload)
        if found.next_key is None and self.next:
            self.next.pop(0)()
        return found


def test_what_is_written_during_an_audit_is_no_finding() -> None:
    it = signed(Busy())
    it.store.create_many(a_command(f"c{n}", n) for n in range(5))

    def write() -> None:
        it.store.create(a_command("new", 3))
        it.store.delete("c1")
        it.store.update(a_command("c2", 2, b"other"))
        it.store.update(a_command("c3", 50))

    it.backend.next = [write]
    report = it.audit()
    # What came during the walk was compared, too.
    assert (report.clean, report.head, report.checkpoint.sequence) == (True, 5, 5)
    assert it.audit(checkpoint=report.checkpoint).clean


def test_what_is_created_and_not_yet_recorded_is_waited_for() -> None:
    it = Scene(opened(signer=SIGNER))
    it.store.create(a_command("c1", 1))
    ledger = it.store.core.ledger
    record = encode(a_command("c2", 2))
    it.insert(record)
    slept = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            await ledger.append("create", [leaf_of(record)])

    it.store.core.drive.sleep = sleep
    report = verify_ledger(it.store, KEYS, patience=30)
    assert (report.clean, report.commands, len(slept)) == (True, 2, 2)


def test_thousands_that_writers_have_not_recorded_yet_are_waited_for() -> None:
    # Each writer may have 10,000 of them.
    it = signed()
    it.store.create(a_command("c", 0))
    records = [encode(a_command(f"c{n}", n)) for n in range(5_500)]
    it.insert(*records)
    slept = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            await it.store.core.ledger.append("sync", [leaf_of(record) for record in records])

    it.store.core.drive.sleep = sleep
    report = verify_ledger(it.store, KEYS, patience=30)
    assert (report.clean, report.intact) == (True, 5_501)
    # A look at so many costs much: each wait is twice as long as the one before.
    assert slept == [1, 2]


def test_looks_are_bounded_by_the_patience() -> None:
    it = signed()
    it.store.create(a_command("c", 0))
    it.insert(encode(a_command("c1", 1)))
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    it.store.core.drive.sleep = sleep
    audit = Audit(it.store.core, Verifier(KEYS), Settings(patience=10), monotonic=lambda: sum(slept))
    assert named(run(audit.run())) == {("added", "c1")}
    assert slept == [1, 2, 4, 3]


def test_what_is_written_again_and_again_while_it_is_judged_is_no_finding() -> None:
    class Lively(MemoryBackend):
        left = 0

        async def fetch(self, uuids):
            if self.left and uuids == ["c1"]:
                self.left -= 1
                it.store.update(a_command("c1", 1, b"%d" % self.left))
            return await super().fetch(uuids)

    it = signed(Lively())
    it.store.create(a_command("c1", 1))
    old = it.record("c1")
    it.store.update(a_command("c1", 1, b"other"))
    it.replace(old)  # so that it is looked at
    it.backend.left = 2
    assert it.audit().clean


def test_a_count_is_waited_for_once_in_all() -> None:
    it = signed()
    it.store.create(a_command("c1", 1))
    checkpoint = it.audit().checkpoint
    record = encode(a_command("c2", 2))
    it.insert(record)
    slept = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 1:
            await it.store.core.ledger.append("create", [leaf_of(record)])

    it.store.core.drive.sleep = sleep
    assert verify_ledger(it.store, KEYS, checkpoint=checkpoint, patience=30).clean
    assert len(slept) == 1
    it.remove("c2")
    report = verify_ledger(it.store, KEYS, checkpoint=checkpoint, patience=1e-9)
    # The command that was named explains the count.
    assert named(report) == {("dropped", "c2")}


def test_a_list_that_lags_behind_makes_no_finding() -> None:
    class Lagging(MemoryBackend):
        list_is_consistent = False
        hidden = frozenset({"a1"})
        walks = 0

        async def page(self, query, after, limit, *, payload=True):
            found = await super().page(query, after, limit, payload=payload)
            if payload:
                found = found._replace(rows=[row for row in found.rows if row.record.command_uuid not in self.hidden])
            return found

    it = Scene(opened(Lagging()))
    it.put_back()
    assert it.audit().clean


# What else can be wrong with a command


class Odd(MemoryBackend):
    """Shows what a test wants it to."""

    hidden = ""
    twice = ""
    broken: ClassVar[dict[str, CorruptRecord]] = {}

    async def page(self, query, after, limit, *, payload=True):
        found = await super().page(query, after, limit, payload=payload)
        rows = []
        for row in found.rows:
            uuid = row.record.command_uuid
            if uuid in self.broken:
                rows.append(Row(row.key, None, self.broken[uuid]))
            elif uuid != self.hidden:
                rows += [row] * (2 if uuid == self.twice else 1)
        return found._replace(rows=rows)

    async def fetch(self, uuids):
        return {u: self.broken.get(u, r) for u, r in (await super().fetch(uuids)).items()}


@pytest.fixture
def odd() -> Scene:
    it = Scene(opened(Odd()))
    it.put_back()
    return it


def test_a_command_that_lists_do_not_show_is_named(odd: Scene) -> None:
    odd.backend.hidden = "a1"
    assert named(odd.audit()) == {("unlisted", "a1")}


def test_a_second_record_of_a_uuid_is_named(odd: Scene) -> None:
    odd.backend.twice = "a1"
    assert named(odd.audit()) == {("added", "a1")}


def test_what_can_not_be_read_is_named_once(odd: Scene) -> None:
    odd.backend.broken = {
        "a1": CorruptRecord("damaged", command_uuid="a1"),
        "a2": CorruptRecord("row 3", location="row 3"),
        "a3": CorruptRecord("no text", command_uuid="\ud800", location="row 4"),
    }
    odd.insert(encode(a_command("new", 3)))
    odd.backend.broken = {**odd.backend.broken, "new": CorruptRecord("damaged", command_uuid="new")}
    report = odd.audit()
    assert named(report) == {("unreadable", name) for name in ("a1", "row 3", "a2", "row 4", "a3", "new")}
    assert [finding.created_at for finding in report.findings if finding.command_uuid == "a1"] == [11]


@pytest.mark.parametrize("field", ["digest", "session_uuid"])
def test_what_is_kept_beside_a_command_is_checked_too(it: Scene, field: str) -> None:
    # Lists and syncs go by it.
    it.replace(it.record("a1")._replace(**{field: bytes(32) if field == "digest" else "another"}))
    report = it.audit()
    assert named(report) == {("altered", "a1")}
    assert "kept beside it" in report.findings[0].reason


def test_all_are_counted_and_a_thousand_are_listed(it: Scene) -> None:
    it.insert(*(encode(a_command(f"new{n:04}", n)) for n in range(1_100)))
    report = it.audit()
    assert (report.added, report.intact, len(report.findings)) == (1_100, len(ALL), 1_000)


# The ledger's own oddities


@pytest.mark.parametrize("value", [b"\xff", b'{"sequence": -1}', b'{"sequence": 999999999999}'])
def test_a_head_that_is_nonsense_is_named_and_holds_up_nothing(it: Scene, value: bytes) -> None:
    it.register(HEAD, value)
    assert named(it.audit()) == {("entry", 6 if b"999" in value else 1)}


def test_a_head_that_lags_behind_is_no_finding(it: Scene) -> None:
    # It is only a hint: a writer may be killed before it moves it.
    it.point_to(2)
    assert it.audit().clean
    it.register(HEAD, None)
    assert it.audit().clean


@pytest.mark.parametrize("parts", [most_parts(MAX_LEAVES), 1_000_000])
def test_a_forged_entry_of_many_bodies_is_not_read(it: Scene, parts: int) -> None:
    asked: list[str] = []
    before = it.backend.register_get

    async def watched(name: str) -> Any:
        asked.append(name)
        return await before(name)

    it.backend.register_get = watched
    value = it.raw(2).replace(rb"\"count\":4", rb"\"count\":%d" % MAX_LEAVES)
    it.set_entry(2, value.replace(rb"\"parts\":1", rb"\"parts\":%d" % parts))
    asked.clear()
    assert ("entry", 2) in named(it.audit())
    assert len(asked) < 100


def test_an_entry_that_counts_wrongly_is_named(it: Scene) -> None:
    record = encode(a_command("e", 40))
    it.insert(record)
    it.rewrite(6, [leaf_of(record)], SIGNER, commands=77)
    assert named(it.audit()) == {("entry", 6)}


def test_an_entry_that_names_another_range_is_named(it: Scene) -> None:
    # Proofs are looked for by the range.
    entry = it.entry(5)
    statement = entry.statement.replace('"created_at":31', '"created_at":99')
    it.set_entry(5, sign(replace(entry, statement=statement), SIGNER))
    assert named(it.audit()) == {("entry", 5), ("added", "d0"), ("added", "d1")}


def test_an_empty_store_without_a_ledger_is_not_clean() -> None:
    report = Scene(opened()).audit()
    assert named(report) == {("entry", 1)}
    assert report.head == 0


def test_what_follows_a_bad_entry_is_not_blamed_for_it(it: Scene) -> None:
    it.set_entry(3, it.raw(3).replace(b"update", b"create"))
    report = it.audit()
    assert (report.bad_entries, report.first_bad_entry) == (1, 3)


def test_a_command_that_was_recorded_twice_alike_is_counted_once() -> None:
    # Two writers found it unrecorded.
    it = signed()
    it.store.create(a_command("c1", 1))
    checkpoint = it.audit().checkpoint
    it.store.create(a_command("c2", 2))
    leaf = leaf_of(it.record("c2"))
    it.rewrite(3, [leaf], SIGNER, commands=3)
    report = it.audit(checkpoint=checkpoint)
    assert (report.clean, report.expected) == (True, 2)
    assert it.audit().clean


# How it is called


def test_nothing_is_written_and_a_report_is_plain(it: Scene) -> None:
    before = dict(it.backend._registers), dict(it.backend._records)
    it.store.init(read_only=True)
    it.remove("a1")
    document = it.audit().to_dict()
    assert (document["clean"], document["findings"][0]["kind"]) == (False, "dropped")
    it.insert(next(record for record in HISTORY[-1].records if record.command_uuid == "a1"))
    assert (it.backend._registers, set(it.backend._records)) == (before[0], set(before[1]))


def test_progress_is_told(it: Scene) -> None:
    told = []
    it.audit(progress=told.append)
    assert (told[-1].entries, told[-1].commands, told[-1].findings) == (5, len(ALL), 0)


def test_what_can_not_be_is_refused() -> None:
    store = CommandStore(MemoryBackend())
    with pytest.raises(StoreClosed):
        verify_ledger(store, KEYS)
    for patience in (-1, float("nan"), float("inf"), True):
        with pytest.raises(ConfigurationError, match="patience"):
            verify_ledger(store, KEYS, patience=patience)
    with pytest.raises(ConfigurationError, match="at least one public key"):
        verify_ledger(store, [])
    with pytest.raises(ConfigurationError, match="verify_async_ledger"):
        verify_ledger(AsyncCommandStore(MemoryBackend()), KEYS)  # type: ignore[arg-type]

    async def wrong() -> AuditReport:
        return await verify_async_ledger(store, KEYS)  # type: ignore[arg-type]

    with pytest.raises(ConfigurationError, match="takes an AsyncCommandStore"):
        asyncio.run(wrong())


def test_a_full_disk_says_where_room_is_needed() -> None:
    book = Book()
    book.close()
    with pytest.raises(StoreUnavailable, match="SQLITE_TMPDIR"):
        book.settle([1])
