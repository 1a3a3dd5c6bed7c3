"""Registers of a ledger that the store can't read, and entries that claim what none has: named, and in nobody's way."""

from __future__ import annotations

import orjson
import pytest

from commandstore import CorruptRecord, LedgerError
from commandstore.command import Position
from commandstore.drive import run
from commandstore.ledger.leaves import MAX_LEAVES, most_parts
from commandstore.ledger.reading import HEAD, body_name, entry_name
from commandstore.memory import MemoryBackend
from ledger.ledgers import leaf, ledger


def positions(*numbers: int) -> list[Position]:
    return [Position(number, f"c{number:04}") for number in numbers]


class Broken(MemoryBackend):
    """Some of its registers are none any more."""

    def __init__(self) -> None:
        super().__init__()
        self.broken: set[str] = set()
        self.asked: list[str] = []

    async def register_get(self, name):
        self.asked.append(name)
        if name in self.broken:
            raise CorruptRecord(f"register {name!a} is no register")
        return await super().register_get(name)

    async def register_swap(self, name, value, *, expected, token):
        if name in self.broken:
            raise CorruptRecord(f"register {name!a} is no register")
        return await super().register_swap(name, value, expected=expected, token=token)


def broken(*names: str) -> Broken:
    """With seven entries; the registers of these names are damaged."""
    backend = Broken()
    for number in range(1, 8):
        run(ledger(backend).append("sync", [leaf(number)]))
    backend.broken |= {
        name
        if name == HEAD
        else entry_name(int(name[-1]))
        if name.startswith("entry")
        else body_name(run(ledger(backend).read(int(name[-1]) - 1, 1))[0].root, 0)
        for name in names
    }
    return backend


@pytest.mark.parametrize(
    "what", [[HEAD], ["entry 1"], ["leaves 2"], [HEAD, "entry 1", "entry 4", "entry 6", "leaves 7"]], ids=str
)
def test_registers_that_are_none_stop_nobody_but_before_the_newest_entry(what) -> None:
    backend = broken(*what)
    assert run(ledger(backend).head()).sequence == 7
    [entry] = run(ledger(backend).append("sync", [leaf(9)]))
    assert entry.sequence == 8
    assert "c0009" in run(ledger(backend).live(positions(1, 2, 3, 9)))


@pytest.mark.parametrize("what", [["entry 7"], [HEAD, "entry 7"]], ids=str)
def test_a_newest_entry_that_is_no_register_is_an_error_that_says_what_to_do(what) -> None:
    backend = broken(*what)
    before = dict(backend._registers)
    for attempt in (ledger(backend).read(0, 10), ledger(backend).head(), ledger(backend).append("sync", [leaf(9)])):
        with pytest.raises(LedgerError, match=r"entry 7 of the ledger.*is no register; restore it.*do not") as caught:
            run(attempt)
        assert caught.value.sequence == 7
    assert backend._registers == before


def test_leaves_in_what_is_no_register_name_their_entry() -> None:
    backend = broken("leaves 2")
    [entry] = run(ledger(backend).read(1, 1))
    with pytest.raises(
        LedgerError, match=r"entry 2 of the ledger: part 0 of its leaves can't be read.*restore"
    ) as caught:
        run(ledger(backend).leaves(entry))
    assert caught.value.sequence == 2
    assert run(ledger(backend).readable_leaves(2)) == []


def test_bodies_can_t_be_written_over_what_is_no_register() -> None:
    backend = broken("leaves 7")
    del backend._registers[entry_name(7)]
    with pytest.raises(LedgerError, match=r"can't be appended to.*restore"):
        run(ledger(backend).append("sync", [leaf(7)]))


@pytest.mark.parametrize("what", [[], [HEAD], ["entry 1"], [HEAD, "entry 1"]], ids=str)
def test_a_damaged_ledger_is_one(what) -> None:
    backend = broken(*what)
    assert run(ledger(backend).begun())
    if HEAD not in what:
        del backend._registers[HEAD]
        assert run(ledger(backend).begun())


@pytest.mark.parametrize("parts", [most_parts(MAX_LEAVES), 999_999_999_999])
def test_a_forger_who_claims_many_bodies_keeps_nobody_busy(parts) -> None:
    backend = broken()
    name = entry_name(1)
    forged = orjson.loads(backend._registers[name].value)
    statement = forged["statement"].replace('"count":1', f'"count":{MAX_LEAVES}')
    forged["statement"] = statement.replace('"parts":1', f'"parts":{parts}')
    backend._registers[name] = backend._registers[name]._replace(value=orjson.dumps(forged))
    backend.asked.clear()
    assert run(ledger(backend).readable_leaves(1)) == []
    run(ledger(backend).append("sync", [leaf(9)]))
    assert list(run(ledger(backend).live(positions(1, 2, 3, 9)))) == ["c0002", "c0003", "c0009"]
    assert len(backend.asked) < 100
