"""A verification's second look: what is left to another row, what is spared, and what went away meanwhile."""

from __future__ import annotations

import pytest

from commandstore import Command, CommandStore, CryptoService
from commandstore.codec import encode
from commandstore.command import Position
from commandstore.memory import MemoryBackend
from commandstore.replication import judgement
from commandstore.replication.findings import FindingKind
from commandstore.replication.judgement import Candidate
from commandstore.replication.verify import verify_command_stores
from replication.verified import Rows, holding, told

ONE, TWO, OTHER = (encode(Command("a", time, data_bytes=data)) for time, data in [(5, b"1"), (9, b"1"), (9, b"2")])


def anywhere(_: object) -> bool:
    return True


def nowhere(_: object) -> bool:
    return False


def met(record, *, in_source: bool = True) -> Candidate:
    return Candidate(record.position, frozenset({record.digest}), in_source)


def test_a_row_that_does_not_speak_for_its_uuid_is_left_to_the_one_that_does() -> None:
    assert judgement.of_source(met(TWO), ONE, None, anywhere) is None
    assert judgement.of_source(met(TWO), ONE, OTHER, anywhere) is None
    # Unless that one is out of the range, where nobody would come to it.
    assert judgement.of_source(met(TWO), ONE, None, nowhere).kind is FindingKind.MISSING
    assert judgement.of_source(met(TWO), ONE, OTHER, nowhere).kind is FindingKind.ALTERED


def test_a_command_at_two_times_is_judged_where_the_source_has_it() -> None:
    assert judgement.of_destination(met(OTHER, in_source=False), ONE, OTHER, anywhere) is None
    assert judgement.of_destination(met(OTHER, in_source=False), ONE, OTHER, nowhere).kind is FindingKind.ALTERED
    # The walk has passed the place: nobody comes to it again.
    assert judgement.of_destination(met(OTHER, in_source=False), TWO, OTHER, anywhere).kind is FindingKind.ALTERED


def test_the_reason_names_fields_and_shows_nothing_of_them() -> None:
    verdict = judgement.of_source(met(ONE), ONE, OTHER, anywhere)
    assert verdict.reason == "differs in created_at, data_bytes"


@pytest.mark.parametrize(
    ("rows", "copied", "within"),
    [
        # Of two rows at one time, the filter leaves out the one that was copied.
        ([("x", 5, "t", b"1", False), ("x", 5, "", b"1", False)], ("x", 5, "t", b"1"), {"tenant_uuid": ""}),
        ([("x", 5, "", b"1", False), ("x", 5, "t", b"1", False)], ("x", 5, "t", b"1"), {"tenant_uuid": ""}),
        # At two times, the range leaves it out.
        ([("x", 9, "", b"1", False), ("x", 5, "", b"1", False)], ("x", 9, "", b"1"), {"before": 9}),
        ([("x", 9, "", b"1", False), ("x", 9, "", b"2", False), ("x", 5, "", b"1", False)], ("x", 9, "", b"2"),
         {"before": 9}),
        # Rows of one time, and others between them.
        ([("x", 0, "", b"1", True), ("y", 0, "", b"1", True), ("x", 0, "", b"2", False)], ("x", 0, "", b"2"), {}),
    ],
)  # fmt: skip
def test_a_destination_that_has_any_of_the_rows_of_a_uuid_is_right(rows, copied, within) -> None:
    commands = [(Command(name, time, tenant_uuid=tenant, data_bytes=data), no) for name, time, tenant, data, no in rows]
    name, time, tenant, data = copied
    destination = holding([Command(name, time, tenant_uuid=tenant, data_bytes=data)])
    if any(command.command_uuid == "y" for command, _ in commands):
        destination.create(Command("y", 0, data_bytes=b"1"))
    assert told(verify_command_stores(holding([], Rows(commands)), destination, **within)) == {}


class Counting(MemoryBackend):
    """Counts what is asked of it, and does something after its first page."""

    def __init__(self, then=None) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.paged = 0
        self.then = then

    async def fetch(self, uuids):
        self.fetched += uuids
        return await super().fetch(uuids)

    async def probe(self, uuids):
        return {uuid: record.digest for uuid, record in (await super().fetch(uuids)).items()}

    async def page(self, query, after, limit, *, payload=True):
        self.paged += 1
        found = await super().page(query, after, limit, payload=payload)
        if self.then is not None and found.rows:
            then, self.then = self.then, None
            then()
        return found


def test_a_destination_with_a_key_is_compared_without_reading_its_payloads() -> None:
    backend = Counting()
    sealed = CommandStore(backend)
    sealed.init(crypto=CryptoService(b"k" * 32))
    commands = [Command(f"c{n}", n + 1, data_bytes=b"%d" % n) for n in range(9)]
    sealed.create_many(commands)
    sealed.update(commands[4].model_copy(update={"data_bytes": b"other"}))
    assert told(verify_command_stores(holding(commands), sealed)) == {"c4": "altered"}
    assert backend.fetched == ["c4"]


def test_what_is_gone_by_the_second_look_is_no_finding() -> None:
    backend = Counting()
    destination = holding([Command("a", 5), Command("b", 6)], backend)
    backend.then = lambda: destination.delete("b")
    report = verify_command_stores(holding([Command("a", 5)]), destination)
    assert told(report) == {}
    assert report.compared == 1


def test_a_store_is_not_asked_for_a_tenant_that_it_can_not_hold() -> None:
    backend = Counting()
    assert verify_command_stores(holding([]), holding([], backend), tenant_uuid="t" * 600).complete
    assert backend.paged == 0


def test_a_place_is_a_time_and_a_uuid() -> None:
    assert met(ONE).position == Position(5, "a")
