"""Laws of registers: small values, swapped atomically, that checkpoints and leases are kept in."""

from __future__ import annotations

import secrets

import pytest

from commandstore.contract import Backend, Register
from commandstore.store import CommandStore
from commandstore.testing.conformance.data import KIB, ODD_UUIDS, a_command, payload, some_commands
from commandstore.testing.conformance.lab import Lab

__all__ = ["RegisterLaws"]


class RegisterLaws:
    @pytest.fixture
    def opened(self, store: CommandStore) -> Backend:
        """The backend of the open store."""
        return store.core.backend

    def test_a_register_that_was_never_set_is_none(self, lab: Lab, opened: Backend) -> None:
        assert lab.do(opened.register_get("r")) is None

    def test_a_register_is_set_when_none_is_expected(self, lab: Lab, opened: Backend) -> None:
        assert lab.do(opened.register_swap("r", b"1", expected=None, token="t1")) is True
        assert lab.do(opened.register_get("r")) == Register(b"1", "t1")

    def test_a_register_is_swapped_when_its_token_is_expected(self, lab: Lab, opened: Backend) -> None:
        lab.do(opened.register_swap("r", b"1", expected=None, token="t1"))
        assert lab.do(opened.register_swap("r", b"2", expected="t1", token="t2")) is True
        assert lab.do(opened.register_get("r")) == Register(b"2", "t2")

    def test_a_swap_that_expects_another_token_changes_nothing(self, lab: Lab, opened: Backend) -> None:
        lab.do(opened.register_swap("r", b"1", expected=None, token="t1"))
        for value, expected in ((b"2", "t0"), (b"2", None), (b"1", None), (None, "t0")):
            assert lab.do(opened.register_swap("r", value, expected=expected, token="t2")) is False
            assert lab.do(opened.register_get("r")) == Register(b"1", "t1")

    def test_a_swap_that_expects_a_register_where_there_is_none_changes_nothing(
        self, lab: Lab, opened: Backend
    ) -> None:
        assert lab.do(opened.register_swap("r", b"1", expected="t1", token="t2")) is False
        assert lab.do(opened.register_get("r")) is None

    def test_an_old_token_is_never_good_again(self, lab: Lab, opened: Backend) -> None:
        for number in range(4):
            expected = f"t{number - 1}" if number else None
            assert lab.do(opened.register_swap("r", b"same", expected=expected, token=f"t{number}"))
        for number in range(3):
            assert not lab.do(opened.register_swap("r", b"x", expected=f"t{number}", token="new"))
        assert lab.do(opened.register_get("r")) == Register(b"same", "t3")

    def test_a_register_is_removed_when_its_token_is_expected(self, lab: Lab, opened: Backend) -> None:
        lab.do(opened.register_swap("r", b"1", expected=None, token="t1"))
        assert lab.do(opened.register_swap("r", None, expected="t1", token="t2")) is True
        assert lab.do(opened.register_get("r")) is None
        assert lab.do(opened.register_swap("r", b"3", expected="t1", token="t3")) is False
        assert lab.do(opened.register_swap("r", b"3", expected=None, token="t3")) is True
        assert lab.do(opened.register_get("r")) == Register(b"3", "t3")

    def test_a_swap_tried_again_after_a_lost_answer_is_done(self, lab: Lab, opened: Backend) -> None:
        for _ in range(2):
            assert lab.do(opened.register_swap("r", b"1", expected=None, token="t1")) is True
        for _ in range(2):
            assert lab.do(opened.register_swap("r", b"2", expected="t1", token="t2")) is True
        assert lab.do(opened.register_get("r")) == Register(b"2", "t2")

    def test_a_removal_tried_again_after_a_lost_answer_is_done(self, lab: Lab, opened: Backend) -> None:
        lab.do(opened.register_swap("r", b"1", expected=None, token="t1"))
        for _ in range(2):
            assert lab.do(opened.register_swap("r", None, expected="t1", token="t2")) is True
        assert lab.do(opened.register_get("r")) is None

    def test_a_register_holds_any_bytes(self, lab: Lab, opened: Backend) -> None:
        for number, value in enumerate((b"", b"\x00", bytes(range(256)), b"\xff\xfe", "漢字".encode())):
            lab.do(opened.register_swap(f"r{number}", value, expected=None, token="t"))
            assert lab.do(opened.register_get(f"r{number}")) == Register(value, "t")

    def test_a_register_holds_256_kib(self, lab: Lab, opened: Backend) -> None:
        token = None
        for size in (200_000, 256 * KIB, 1):
            new = f"t{size}"
            assert lab.do(opened.register_swap("r", payload(size), expected=token, token=new))
            assert lab.do(opened.register_get("r")) == Register(payload(size), new)
            token = new

    def test_registers_of_odd_names_are_apart(self, lab: Lab, opened: Backend) -> None:
        names = [*ODD_UUIDS, "sync/postgresql://db.example:5432/app?tenant=a%20b"]
        for number, name in enumerate(names):
            assert lab.do(opened.register_swap(name, b"%d" % number, expected=None, token="t"))
        for number, name in enumerate(names):
            assert lab.do(opened.register_get(name)) == Register(b"%d" % number, "t")
        assert lab.do(opened.register_swap(names[0], None, expected="t", token="t2"))
        assert lab.do(opened.register_get(names[1])) == Register(b"1", "t")

    def test_a_register_is_seen_at_once_by_another_process(self, lab: Lab, opened: Backend) -> None:
        other = lab.open().core.backend
        token = None
        for number in range(4):
            writer, reader = (opened, other) if number % 2 else (other, opened)
            assert lab.do(writer.register_swap("r", b"%d" % number, expected=token, token=f"t{number}"))
            token = f"t{number}"
            assert lab.do(reader.register_get("r")) == Register(b"%d" % number, token)

    def test_a_register_is_no_command(self, lab: Lab, store: CommandStore, opened: Backend) -> None:
        [command] = lab.fill(store, [a_command()])
        for name in ("c1", "none", "0"):
            assert lab.do(opened.register_swap(name, b"1", expected=None, token="t"))
        lab.place.settle()
        assert store.get("none") is None
        assert store.get("c1") == command
        assert list(store.list().commands) == list(store.scan()) == [command]
        assert store.total() == store.info().num_items == 1
        assert lab.place.raw_uuids() == {"c1"}
        assert store.delete("none") is False
        assert store.update(a_command("none")) is False
        store.create(a_command("none"))
        assert lab.do(opened.register_get("none")) == Register(b"1", "t")

    def test_commands_leave_registers_alone(self, lab: Lab, store: CommandStore, opened: Backend) -> None:
        lab.do(opened.register_swap("c00001", b"1", expected=None, token="t"))
        for command in lab.fill(store, some_commands(3)):
            store.update(a_command(command.command_uuid, 9))
            store.delete(command.command_uuid)
        assert lab.do(opened.register_get("c00001")) == Register(b"1", "t")

    def test_racing_swappers_lose_no_swap(self, lab: Lab, store: CommandStore) -> None:
        backends = [store.core.backend, lab.open().core.backend]
        lab.do(backends[0].register_swap("sum", b"0", expected=None, token="start"))
        outcomes = lab.race([_add(backends[number % 2], number, times=3) for number in range(1, 9)])
        assert outcomes == [None] * 8
        found = lab.do(backends[0].register_get("sum"))
        assert found is not None
        assert int(found.value) == 3 * sum(range(1, 9))

    def test_of_racing_creators_of_a_register_one_wins(self, lab: Lab, store: CommandStore) -> None:
        backends = [store.core.backend, lab.open().core.backend]
        won = lab.race(
            [
                backends[number % 2].register_swap("r", b"%d" % number, expected=None, token=f"t{number}")
                for number in range(8)
            ]
        )
        assert sorted(won, key=str) == [False] * 7 + [True]
        winner = won.index(True)
        assert lab.do(backends[0].register_get("r")) == Register(b"%d" % winner, f"t{winner}")


async def _add(backend: Backend, number: int, *, times: int) -> None:
    for _ in range(times):
        while True:
            found = await backend.register_get("sum")
            assert found is not None
            value = b"%d" % (int(found.value) + number)
            if await backend.register_swap("sum", value, expected=found.token, token=secrets.token_hex(8)):
                break
