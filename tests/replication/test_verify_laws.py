"""A verification against a comparison of sets, over pairs of stores as they come."""

from __future__ import annotations

import time

from hypothesis import given, settings
from hypothesis import strategies as st

from commandstore import Command, CommandStore, CryptoService
from commandstore.codec import encode
from commandstore.command import CommandQuery
from commandstore.drive import run
from commandstore.memory import MemoryBackend
from commandstore.replication.streams import Stream
from commandstore.replication.verify import Settings, Verify, verify_command_stores
from replication.verified import NOW, Lagging, Rows, holding, told, truth

# The same examples every time, and no deadline on a busy machine.
examples = settings(deadline=None, derandomize=True, database=None, max_examples=200)
UUIDS = ["a", "b", "c", "d", "ä", "\U0001f69a", "\uffff", "z"]
times = st.sampled_from([-(2**63), -2, -1, 0, 0, 1, 1, 2, 3, 2**62 - 1])
ranges = st.builds(
    lambda after, before, tenant: {"after": after, "before": before, "tenant_uuid": tenant},
    st.none() | times,
    times | st.just(2**63 - 1),
    st.sampled_from([None, None, "x", ""]),
)


@st.composite
def command(draw, uuid=None):
    return Command(
        draw(st.sampled_from(UUIDS)) if uuid is None else uuid,
        draw(times),
        tenant_uuid=draw(st.sampled_from(["x", "x", ""])),
        data_bytes=draw(st.sampled_from([b"one", b"two"])),
    )


@st.composite
def pairs(draw):
    """Two stores' commands: much is in both alike."""
    source = {one.command_uuid: one for one in draw(st.lists(command(), max_size=12))}
    destination = dict(source)
    for uuid in draw(st.sets(st.sampled_from(UUIDS), max_size=4)):
        if draw(st.booleans()):
            destination.pop(uuid, None)
        else:
            destination[uuid] = draw(command(uuid))
    return list(source.values()), list(destination.values())


@examples
@given(pairs(), ranges, st.sampled_from([1, 2, 3, 1000]))
def test_it_says_of_every_command_what_a_comparison_of_sets_says(pair, within, page_size) -> None:
    source, destination = (holding(commands) for commands in pair)
    report = verify_command_stores(source, destination, **within, page_size=page_size)
    said = truth(source, destination, CommandQuery(**within))
    assert told(report) == {uuid: kind for uuid, kind in said.items() if kind != "equal"}
    assert report.equal == list(said.values()).count("equal")
    assert report.complete
    assert report.clean == (not told(report))


@examples
@given(pairs(), ranges, st.sampled_from([1, 2, 1000]), st.sets(st.sampled_from(UUIDS)), st.sets(st.sampled_from(UUIDS)))
def test_lists_that_lag_make_no_findings(pair, within, page_size, hidden_here, hidden_there) -> None:
    source, destination = holding(pair[0], Lagging(hidden_here)), holding(pair[1], Lagging(hidden_there))
    report = verify_command_stores(source, destination, **within, page_size=page_size)
    said = truth(holding(pair[0]), holding(pair[1]), CommandQuery(**within))
    assert told(report).items() <= said.items()
    assert report.equal <= list(said.values()).count("equal")
    if not hidden_here:  # whatever the source lists is judged
        assert report.missing == list(said.values()).count("missing")
        assert report.equal == list(said.values()).count("equal")


@examples
@given(pairs(), ranges, st.sampled_from([(True, False), (False, True), (True, True)]), st.booleans())
def test_it_sees_through_encryption(pair, within, sealed, other_key) -> None:
    keys = [CryptoService(b"k" * 32), CryptoService(b"o" * 32 if other_key else b"k" * 32)]
    stores = []
    for commands, crypto, is_sealed in zip(pair, keys, sealed, strict=True):
        store = CommandStore(MemoryBackend())
        store.init(crypto=crypto if is_sealed else None)
        store.create_many(commands)
        stores.append(store)
    report = verify_command_stores(*stores, **within)
    said = truth(*stores, CommandQuery(**within))
    assert told(report) == {uuid: kind for uuid, kind in said.items() if kind != "equal"}


@examples
@given(
    st.lists(st.tuples(command(), st.booleans()), max_size=10),
    st.data(),
    ranges,
    st.sampled_from([1, 2, 1000]),
)
def test_a_uuid_in_several_rows_is_one_command(rows, data, within, page_size) -> None:
    # A row without a time reads as of time 0.
    rows = [(one.model_copy(update={"created_at": 0}) if no else one, no) for one, no in rows]
    copied: dict[str, Command] = {}
    for one, _ in data.draw(st.permutations(rows)):
        copied.setdefault(one.command_uuid, one)
    for uuid in data.draw(st.sets(st.sampled_from(UUIDS), max_size=3)):
        if data.draw(st.booleans()):
            copied.pop(uuid, None)
        else:
            copied[uuid] = data.draw(command(uuid))
    source, destination = holding([], Rows(rows)), holding(copied.values())
    query = CommandQuery(**within)
    report = verify_command_stores(source, destination, **within, page_size=page_size)
    kinds = told(report)
    for uuid in UUIDS:
        here, there = [one for one, _ in rows if one.command_uuid == uuid], copied.get(uuid)
        scope = any(query.matches(one) for one in here), there is not None and query.matches(there)
        if not here:
            assert kinds.get(uuid) == ("extra" if scope[1] else None)
        elif there is None:
            assert kinds.get(uuid) in (
                {"missing"} if query.matches(here[0]) else {"missing", None} if scope[0] else {None}
            )
        elif there in here:
            assert uuid not in kinds
        elif query.matches(here[0]) or (len(here) == 1 and scope[1]):
            assert kinds.get(uuid) == "altered"
        else:
            assert kinds.get(uuid) in ({"altered", None} if any(scope) else {None})
    assert report.equal == sum(
        query.matches(there) and any(one == there for one, _ in rows) for there in copied.values()
    )


@examples
@given(pairs(), st.integers(0, 12), st.sampled_from([1, 2, 3]))
def test_what_was_stopped_goes_on_after_what_was_reached(pair, pages, page_size) -> None:
    source, destination = (holding(commands) for commands in pair)
    left = iter([1.0] * pages)
    first = verify_command_stores(
        source, destination, before=NOW, page_size=page_size, time_left=lambda: next(left, 0.0)
    )
    said = truth(source, destination, CommandQuery(before=NOW))
    expected = {uuid: kind for uuid, kind in said.items() if kind != "equal"}
    if first.complete:
        assert told(first) == expected
        return
    assert not first.clean
    second = verify_command_stores(source, destination, after=first.reached, before=NOW)
    assert told(first) | told(second) == expected
    assert first.equal + second.equal >= list(said.values()).count("equal")


def test_by_default_it_compares_what_is_older_than_its_start() -> None:
    now = 10**18
    old, young = Command("old", now - 1), Command("young", now)
    verify = Verify(holding([old, young]).core, holding([]).core, Settings(), now=lambda: now)
    report = run(verify.run())
    assert told(report) == {"old": "missing"}
    assert report.reached == now - 1


@examples
@given(pairs(), ranges, st.sampled_from([1, 2, 3, 1000]), st.booleans(), st.booleans())
def test_a_repair_makes_the_range_equal_and_counts_each_command_once(pair, within, page_size, payloads, asked) -> None:
    source, destination = (holding(commands) for commands in pair)
    query = CommandQuery(**within)
    delete_extra = asked and any(map(query.matches, pair[0]))  # an empty source deletes nothing
    said = truth(source, destination, query)
    outside = {one for one in destination.scan() if one.command_uuid not in said}
    settings = {**within, "page_size": page_size, "payloads": payloads}
    report = verify_command_stores(source, destination, **settings, repair=True, delete_extra=asked)
    assert told(report) == {uuid: kind for uuid, kind in said.items() if kind != "equal"}
    assert report.equal == list(said.values()).count("equal")
    assert report.left == (0 if delete_extra else report.extra)
    assert report.clean == (report.left == 0)
    left = {one.command_uuid: one for one in destination.scan()}
    for uuid, kind in said.items():
        assert left.get(uuid) == source.get(uuid) or (kind == "extra" and not delete_extra)
    assert outside <= set(left.values())
    again = verify_command_stores(source, destination, **settings)
    assert told(again) == {uuid: kind for uuid, kind in told(report).items() if kind == "extra" and not delete_extra}


@examples
@given(pairs(), st.sets(st.sampled_from(UUIDS)), st.sets(st.sampled_from(UUIDS)))
def test_a_repair_of_lists_that_lag_makes_nothing_worse(pair, hidden_here, hidden_there) -> None:
    source, destination = holding(pair[0], Lagging(hidden_here)), holding(pair[1], Lagging(hidden_there))
    before = {one.command_uuid: one for one in holding(pair[1]).scan()}
    verify_command_stores(source, destination, before=NOW, repair=True, delete_extra=True)
    for uuid in UUIDS:
        assert destination.get(uuid) in (source.get(uuid), before.get(uuid))


@examples
@given(st.lists(st.tuples(command(), st.booleans()), max_size=10), st.data(), st.sampled_from([1, 2, 1000]))
def test_a_repair_from_a_source_with_several_rows_of_a_uuid_ends(rows, data, page_size) -> None:
    rows = [(one.model_copy(update={"created_at": 0}) if no else one, no) for one, no in rows]
    there = data.draw(st.lists(command(), max_size=8, unique_by=lambda one: one.command_uuid))
    source, destination = holding([], Rows(rows)), holding(there)
    settings = {"before": NOW, "page_size": page_size}
    verify_command_stores(source, destination, **settings, repair=True, delete_extra=True)
    kinds = set(told(verify_command_stores(source, destination, **settings)).values())
    if not any(row.created_at < NOW for row, _ in rows):
        assert kinds <= {"extra"}  # an empty source deletes nothing
        return
    assert not kinds
    for one in destination.scan():
        assert one.created_at >= NOW or any(one == row for row, _ in rows)


@settings(deadline=None, derandomize=True, database=None, max_examples=60)
@given(
    st.integers(0, 400),
    st.sets(st.integers(0, 399), max_size=40),
    st.sets(st.integers(0, 399), max_size=40),
    st.sets(st.integers(0, 399), max_size=40),
    st.sampled_from([1, 17, 64, 250, 1000]),
)
def test_ranges_find_what_differs_wherever_it_stands(count, gone_here, gone_there, altered, page_size) -> None:
    commands = [Command(f"{n:03}", n // 3 - 50) for n in range(count)]
    source = holding(one for n, one in enumerate(commands) if n not in gone_here)
    destination = holding(
        one.model_copy(update={"domain": "other"}) if n in altered else one
        for n, one in enumerate(commands)
        if n not in gone_there
    )
    report = verify_command_stores(source, destination, page_size=page_size)
    said = truth(source, destination, CommandQuery())
    assert told(report) == {uuid: kind for uuid, kind in said.items() if kind != "equal"}
    assert report.equal == list(said.values()).count("equal")


def test_equal_ranges_are_compared_whole_and_halved_where_they_differ(monkeypatch) -> None:
    compared = []
    original = Stream.range

    def counted(self, start, count):
        compared.append(count)
        return original(self, start, count)

    monkeypatch.setattr(Stream, "range", counted)
    commands = [Command(f"{n:05}", n + 1) for n in range(10_000)]
    source, destination = holding(commands), holding(commands)
    assert verify_command_stores(source, destination, page_size=10_000).equal == 10_000
    assert len(compared) <= 2 * 6
    destination.delete("07777")
    compared.clear()
    assert told(verify_command_stores(source, destination, page_size=10_000)) == {"07777": "missing"}
    assert len(compared) <= 2 * 40


def test_what_comes_after_its_start_is_left_out_by_default() -> None:
    class Busy(MemoryBackend):
        written = False

        async def page(self, query, after, limit, *, payload=True):
            if not self.written:
                self.written = True
                await self.insert([encode(Command("new", time.time_ns()))], "now")
            return await super().page(query, after, limit, payload=payload)

    source = holding([Command("old", 5)], Busy())
    report = verify_command_stores(source, holding([Command("old", 5)]))
    assert source.core.backend.written
    assert (report.compared, report.clean) == (1, True)
