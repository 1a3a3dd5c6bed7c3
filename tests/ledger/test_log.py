"""The ledger in a store: one entry of each number, whoever appends and whatever is lost on the way."""

from __future__ import annotations

import threading

import pytest

from commandstore import Command, ConfigurationError, LedgerError, StoreUnavailable
from commandstore.codec import encode
from commandstore.command import Position
from commandstore.drive import run
from commandstore.ledger import log
from commandstore.ledger.leaves import Leaf, Op
from commandstore.memory import MemoryBackend
from ledger.ledgers import SIGNER, everything, leaf, ledger


def positions(*numbers: int) -> list[Position]:
    return [Position(number, f"c{number:04}") for number in numbers]


def test_what_is_appended_is_read_again_in_the_total_order() -> None:
    backend = MemoryBackend()
    [entry] = run(ledger(backend).append("sync", [leaf(3), leaf(1), leaf(2)]))
    assert everything(backend) == [("sync", [leaf(1), leaf(2), leaf(3)])]
    assert (entry.sequence, entry.count, entry.commands) == (1, 3, 3)


def test_a_store_without_a_ledger_has_none() -> None:
    empty = ledger()
    assert run(empty.head()) is None
    assert run(empty.read(0, 10)) == []
    assert run(empty.begun()) is False
    assert run(empty.live(positions(1))) == {}


def test_no_entry_has_more_leaves_than_one_may(monkeypatch) -> None:
    monkeypatch.setattr(log, "MAX_LEAVES", 4)
    backend = MemoryBackend()
    run(ledger(backend).append("sync", [leaf(n) for n in range(10)]))
    assert [len(leaves) for _, leaves in everything(backend)] == [4, 4, 2]


def test_the_count_of_commands_goes_on_from_entry_to_entry() -> None:
    one = ledger()
    run(one.append("sync", [leaf(n) for n in range(5)]))
    run(one.append("update", [leaf(1, Op.UPDATE)]))
    [entry] = run(one.append("delete", [leaf(2, Op.DELETE)]))
    assert entry.commands == 4


def test_nothing_to_append_appends_nothing() -> None:
    backend = MemoryBackend()
    assert run(ledger(backend).append("sync", [])) == []
    assert backend._registers == {}


def test_without_a_signer_nothing_is_appended() -> None:
    backend = MemoryBackend()
    with pytest.raises(ConfigurationError, match="signer"):
        run(ledger(backend, None).append("sync", [leaf(1)]))
    assert backend._registers == {}


def test_many_who_append_at_once_make_one_chain_and_lose_nothing() -> None:
    backend = MemoryBackend()
    start = threading.Barrier(6)

    def writer(number: int) -> None:
        mine = ledger(backend)
        start.wait()
        for turn in range(5):
            run(mine.append("create", [leaf(number * 100 + turn)]))

    threads = [threading.Thread(target=writer, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [one for _, leaves in everything(backend) for one in leaves]
    assert sorted(found) == sorted(leaf(number * 100 + turn) for number in range(6) for turn in range(5))


def test_who_is_overtaken_leaves_out_what_the_other_recorded_as_created() -> None:
    backend = MemoryBackend()
    slow, quick = ledger(backend), ledger(backend)
    run(slow.append("sync", [leaf(0)]))
    since = slow.newest
    run(quick.append("sync", [leaf(1), leaf(2)]))
    run(slow.append("sync", [leaf(1), leaf(3), leaf(2, Op.UPDATE)], since=since))
    told = [one for _, leaves in everything(backend) for one in leaves]
    assert told == [leaf(0), leaf(1), leaf(2), leaf(2, Op.UPDATE), leaf(3)]


def test_who_is_overtaken_by_all_that_it_had_appends_nothing() -> None:
    backend = MemoryBackend()
    slow, quick = ledger(backend), ledger(backend)
    run(slow.append("sync", [leaf(0)]))
    since = slow.newest
    run(quick.append("sync", [leaf(1)]))
    assert run(slow.append("sync", [leaf(1)], since=since)) == []
    assert len(everything(backend)) == 2


def test_what_was_created_and_then_deleted_by_another_is_recorded_as_the_store_holds_it() -> None:
    backend = MemoryBackend()
    slow, quick = ledger(backend), ledger(backend)
    run(slow.begin())
    since = slow.newest
    stored = encode(Command("there", 1, data_bytes=b"as it is"))
    for uuid in ("there", "gone"):
        run(quick.append("create", [Leaf(Op.CREATE, uuid, bytes(32), 1)]))
        run(quick.append("delete", [Leaf(Op.DELETE, uuid, bytes(32), 1)]))
    run(backend.insert([stored], "w"))
    created = [Leaf(Op.CREATE, uuid, bytes(32), 1) for uuid in ("there", "gone")]
    run(slow.append("sync", created, since=since))
    assert everything(backend)[4:] == [("sync", [Leaf(Op.CREATE, "there", stored.digest, 1)])]


@pytest.mark.parametrize("head", [None, b'{"version":1,"sequence":2}', b'{"version":1,"sequence":99}', b"no head"])
def test_the_head_is_only_a_hint(head) -> None:
    backend = MemoryBackend()
    for number in range(5):
        run(ledger(backend).append("sync", [leaf(number)]))
    found = backend._registers["ledger/head"]
    run(backend.register_swap("ledger/head", head, expected=found.token, token="t"))
    assert run(ledger(backend).head()).sequence == 5
    [entry] = run(ledger(backend).append("sync", [leaf(5)]))
    assert entry.sequence == 6


class Forgetful(MemoryBackend):
    """Does what it is asked, and says that it can't be reached."""

    lost = ""

    async def register_swap(self, name, value, *, expected, token):
        done = await super().register_swap(name, value, expected=expected, token=token)
        if self.lost and self.lost in name:
            self.lost = ""
            raise StoreUnavailable("no answer")
        return done


@pytest.mark.parametrize("lost", ["ledger/entry", "ledger/leaves"])
def test_after_a_lost_answer_the_chain_goes_on(lost) -> None:
    backend = Forgetful()
    mine = ledger(backend)
    run(mine.append("sync", [leaf(1)]))
    backend.lost = lost
    with pytest.raises(StoreUnavailable):
        run(mine.append("sync", [leaf(2)]))
    run(mine.append("sync", [leaf(2), leaf(3)], since=1))
    told = [one for _, leaves in everything(backend) for one in leaves]
    assert told == [leaf(1), leaf(2), leaf(3)]


def test_a_head_that_can_t_be_written_is_no_failure() -> None:
    backend = Forgetful()
    backend.lost = "ledger/head"
    mine = ledger(backend)
    assert len(run(mine.append("sync", [leaf(1)]))) == 1
    run(ledger(backend).append("sync", [leaf(2)]))
    assert len(everything(backend)) == 2


def test_what_is_live_is_known_by_its_last_digest() -> None:
    backend = MemoryBackend()
    mine = ledger(backend)
    run(mine.append("sync", [leaf(n) for n in range(6)]))
    run(mine.append("update", [leaf(1, Op.UPDATE)._replace(digest=b"u" * 32)]))
    run(mine.append("delete", [leaf(2, Op.DELETE)]))
    for one in (mine, ledger(backend)):  # who wrote it, and who has to read it
        known = run(one.live(positions(0, 1, 2, 7)))
        assert known == {"c0000": leaf(0).digest, "c0001": b"u" * 32}


def test_only_the_leaves_of_entries_that_can_hold_a_command_are_read() -> None:
    class Counting(MemoryBackend):
        bodies = 0

        async def register_get(self, name):
            self.bodies += "leaves" in name
            return await super().register_get(name)

    backend = Counting()
    for number in range(0, 100, 10):
        run(ledger(backend).append("sync", [leaf(number + n) for n in range(10)]))
    backend.bodies = 0
    reader = ledger(backend)
    assert len(run(reader.live(positions(42, 43, 999)))) == 2
    assert backend.bodies == 1
    run(reader.live(positions(44)))
    assert backend.bodies == 1  # kept


def test_what_others_append_is_known_a_moment_later() -> None:
    backend = MemoryBackend()
    reader = ledger(backend)
    assert run(reader.live(positions(1))) == {}
    run(ledger(backend).append("sync", [leaf(1)]))
    assert list(run(reader.live(positions(1)))) == ["c0001"]


def test_commands_of_late_are_found_without_reading_what_is_old() -> None:
    class Counting(MemoryBackend):
        reads = 0

        async def register_get(self, name):
            self.reads += 1
            return await super().register_get(name)

    backend = Counting()
    for number in range(600):
        run(ledger(backend).append("sync", [leaf(number)]))
    backend.reads = 0
    reader = ledger(backend)
    assert len(run(reader.live(positions(598, 599)))) == 2
    assert backend.reads < 400  # of a chain of 600 entries, the newest 256, and 64 of these for deletions
    assert len(run(reader.live(positions(3)))) == 1


@pytest.mark.parametrize("damaged", ["ledger/entry/000000000001", "ledger/leaves/"])
def test_an_entry_that_can_t_be_read_says_nothing_of_its_commands(damaged) -> None:
    backend = MemoryBackend()
    [first] = run(ledger(backend).append("sync", [leaf(1)]))
    run(ledger(backend).append("sync", [leaf(2)]))
    name = damaged if damaged.endswith("1") else f"ledger/leaves/{first.root}/0"
    run(backend.register_swap(name, b"damaged", expected=backend._registers[name].token, token="t"))
    assert list(run(ledger(backend).live(positions(1, 2)))) == ["c0002"]


@pytest.mark.parametrize("what", ["cut", "rewritten"])
def test_nothing_is_chained_to_an_entry_that_is_not_what_it_was(what) -> None:
    backend = MemoryBackend()
    mine = ledger(backend)
    run(mine.append("sync", [leaf(1)]))
    name = "ledger/entry/000000000001"
    token = backend._registers[name].token
    run(backend.register_swap(name, None, expected=token, token="t"))
    if what == "rewritten":
        run(ledger(backend).append("sync", [leaf(9)]))
    with pytest.raises(LedgerError, match="not what it was a moment ago"):
        run(mine.append("sync", [leaf(2)], since=0))


def test_nothing_is_chained_to_an_entry_that_only_bears_the_signer_s_name() -> None:
    class Forger:
        key_id, algorithm = SIGNER.key_id, SIGNER.algorithm

        def sign(self, _: bytes) -> bytes:
            return bytes(64)

        def public_key(self) -> bytes:
            return SIGNER.public_key()

    backend = MemoryBackend()
    run(ledger(backend, Forger()).append("sync", [leaf(1)]))
    with pytest.raises(LedgerError, match="does not fit the key that signs"):
        run(ledger(backend).append("sync", [leaf(2)]))


@pytest.mark.parametrize("value", [None, b"", b"damaged"])
def test_leaves_that_are_gone_or_damaged_name_their_entry(value) -> None:
    backend = MemoryBackend()
    [entry] = run(ledger(backend).append("sync", [leaf(1)]))
    name = f"ledger/leaves/{entry.root}/0"
    run(backend.register_swap(name, value, expected=backend._registers[name].token, token="t"))
    if value == b"":
        assert run(ledger(backend).leaves(entry)) == []  # not what the root says, which is for an audit to tell
    else:
        with pytest.raises(LedgerError, match="entry 1 of the ledger") as caught:
            run(ledger(backend).leaves(entry))
        assert caught.value.sequence == 1


@pytest.mark.parametrize("value", [b"damaged", b"{}", b"[]"])
def test_an_entry_that_can_t_be_read_names_itself_and_nothing_is_chained_to_it(value) -> None:
    backend = MemoryBackend()
    for number in range(3):
        run(ledger(backend).append("sync", [leaf(number)]))
    name = "ledger/entry/000000000003"
    run(backend.register_swap(name, value, expected=backend._registers[name].token, token="t"))
    before = dict(backend._registers)
    for attempt in (ledger(backend).read(0, 10), ledger(backend).append("sync", [leaf(9)])):
        with pytest.raises(LedgerError, match="entry 3") as caught:
            run(attempt)
        assert caught.value.sequence == 3
    assert backend._registers == before


def test_an_entry_in_another_s_place_is_no_entry() -> None:
    backend = MemoryBackend()
    for number in range(3):
        run(ledger(backend).append("sync", [leaf(number)]))
    registers = backend._registers
    registers["ledger/entry/000000000002"] = registers["ledger/entry/000000000001"]
    with pytest.raises(LedgerError, match="entry 2 of the ledger says that it is entry 1"):
        run(ledger(backend).read(0, 10))
