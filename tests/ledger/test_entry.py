"""Entries: one exact text is signed and hashed, and nothing but that text is read."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commandstore.command import Position
from commandstore.errors import LedgerError
from commandstore.ledger.entry import FIRST_PREVIOUS, Entry, sign, state
from commandstore.ledger.leaves import MAX_LEAVES, Leaf, Op, hashes_of, most_parts
from commandstore.ledger.merkle import root_of
from commandstore.ledger.signing import Ed25519Signer, Verifier

SIGNER = Ed25519Signer(bytes(32))
LEAVES = [Leaf(Op.CREATE, "b", bytes([1]) * 32, 7), Leaf(Op.CREATE, "ü", bytes([2]) * 32, -3)]


def made(leaves=LEAVES, **changes: Any) -> Entry:
    arguments: dict[str, Any] = {
        "previous": None,
        "kind": "sync",
        "commands": 2,
        "time": 1_700_000_000_000_000_000,
        "parts": 1,
        "signer": SIGNER,
    }
    return state(leaves, **arguments | changes)


ENTRY = sign(made(), SIGNER)
STATEMENT: dict[str, Any] = json.loads(ENTRY.statement)


def stored(**changes: Any) -> dict[str, str]:
    return ENTRY.to_json() | {"statement": compact(STATEMENT | changes)}


def compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def refused(value: object) -> LedgerError:
    with pytest.raises(LedgerError) as caught:
        Entry.from_json(value)
    return caught.value


def test_the_statement_is_as_it_is_documented() -> None:
    root = root_of(hashes_of(LEAVES)).hex()
    assert ENTRY.statement == (
        f'{{"version":1,"sequence":1,"previous":"{"0" * 64}","kind":"sync","root":"{root}","count":2,'
        '"first":{"created_at":-3,"command_uuid":"ü"},"last":{"created_at":7,"command_uuid":"b"},'
        f'"time":1700000000000000000,"commands":2,"parts":1,"key_id":"{SIGNER.key_id}","algorithm":"ed25519"}}'
    )


def test_signed_and_hashed_is_the_statement_behind_its_own_first_line() -> None:
    assert ENTRY.signed_bytes == b"commandstore ledger entry 1\n" + ENTRY.statement.encode()
    assert ENTRY.hash == hashlib.sha256(ENTRY.signed_bytes).digest()
    assert Verifier(SIGNER.public_key()).check(ENTRY) is None


def test_the_hash_does_not_cover_the_signature() -> None:
    assert made().hash == ENTRY.hash


def test_an_entry_holds_the_number_and_the_hash_of_the_one_before() -> None:
    second = made(previous=ENTRY)
    assert (second.sequence, second.previous) == (2, ENTRY.hash.hex())
    assert (ENTRY.sequence, ENTRY.previous) == (1, FIRST_PREVIOUS)


def test_an_entry_knows_the_smallest_and_the_largest_position() -> None:
    assert (ENTRY.first, ENTRY.last) == (Position(-3, "ü"), Position(7, "b"))


def test_of_those_with_one_time_the_uuids_decide() -> None:
    entry = made([LEAVES[0]._replace(command_uuid=uuid, created_at=5) for uuid in ("b", "a", "c")])
    assert (entry.first, entry.last) == (Position(5, "a"), Position(5, "c"))


def test_the_root_speaks_of_the_order_of_the_leaves() -> None:
    assert made(LEAVES[::-1]).root != ENTRY.root


def test_an_entry_comes_back_from_what_is_stored() -> None:
    for value in (ENTRY.to_json(), json.dumps(ENTRY.to_json()), json.dumps(ENTRY.to_json()).encode()):
        found = Entry.from_json(value)
        assert found == ENTRY
        assert isinstance(found.first, Position)


@given(
    st.lists(
        st.builds(
            Leaf,
            st.sampled_from([1, 2, 3]),
            st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
            st.just(bytes(32)),
            st.integers(-(2**63), 2**63 - 1),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_any_entry_comes_back(leaves: list[Leaf]) -> None:
    entry = sign(made(leaves), SIGNER)
    assert Entry.from_json(entry.to_json()) == entry


def test_an_entry_can_cross_processes_and_never_changes() -> None:
    assert pickle.loads(pickle.dumps(ENTRY)) == ENTRY  # noqa: S301 - ours
    with pytest.raises(dataclasses.FrozenInstanceError):
        ENTRY.root = ""


def test_an_entry_without_leaves_can_not_be_made() -> None:
    with pytest.raises(LedgerError, match="at least one command") as caught:
        made([], previous=ENTRY)
    assert caught.value.sequence == 2


@pytest.mark.parametrize("change", [{"kind": "other"}, {"commands": -1}, {"time": -1}, {"parts": 0}])
def test_what_could_not_be_read_is_not_made(change: dict[str, object]) -> None:
    with pytest.raises(LedgerError, match="can't be"):
        made(**change)


def test_only_the_key_that_the_entry_names_can_sign_it() -> None:
    with pytest.raises(LedgerError, match="names key"):
        sign(made(), Ed25519Signer.generate())


WRONG: list[tuple[str, Any]] = [
    *[(name, value) for name in ("sequence", "count", "parts") for value in (0, -1, 1.0, "1", None, True, 2**63)],
    ("count", MAX_LEAVES + 1),
    ("parts", most_parts(len(LEAVES)) + 1),
    *[(name, value) for name in ("time", "commands") for value in (-1, 1.5, False, 2**63)],
    *[
        (name, value)
        for name in ("previous", "root")
        for value in ("", "0" * 63, "0" * 65, "A" * 64, 0, "0" * 64 + "\n")
    ],
    *[("key_id", value) for value in ("", "0" * 15, "0" * 17, "G" * 16, None)],
    *[("algorithm", value) for value in ("", "RSA", "a" * 41, 1)],
    *[("kind", value) for value in ("", "Sync", None, ["sync"])],
    *[("version", value) for value in (0, -1, "1", True, 1.0)],
    *[
        (name, value)
        for name in ("first", "last")
        for value in (
            None,
            [7, "b"],
            {"created_at": 7},
            {"created_at": "7", "command_uuid": "b"},
            {"created_at": 7, "command_uuid": ""},
            {"created_at": True, "command_uuid": "b"},
            {"created_at": 2**63, "command_uuid": "b"},
            {"created_at": 7, "command_uuid": "b", "more": 1},
        )
    ],
    ("first", {"created_at": 8, "command_uuid": "b"}),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_field_that_can_not_be_is_named(name: str, value: object) -> None:
    error = refused(stored(**{name: value}))
    assert f"its {name} can't be" in str(error)
    assert error.sequence == (value if name == "sequence" and type(value) is int else None if name == "sequence" else 1)


def test_an_entry_may_be_as_large_as_any_that_a_writer_makes() -> None:
    most = most_parts(MAX_LEAVES)
    entry = Entry.from_json(stored(count=MAX_LEAVES, parts=most))
    assert (entry.count, entry.parts) == (MAX_LEAVES, most)


def test_a_newer_version_says_upgrade() -> None:
    error = refused(stored(version=2, more="unknown"))
    assert "upgrade commandstore" in str(error)
    assert error.sequence == 1


@pytest.mark.parametrize(
    "statement",
    [
        ENTRY.statement.replace(",", ", "),
        ENTRY.statement + "\n",
        ENTRY.statement.replace("ü", "\\u00fc"),
        ENTRY.statement.replace('{"version":1,', '{"version":1,"version":1,', 1),
        ENTRY.statement.replace('"version":1,"sequence":1', '"sequence":1,"version":1'),
    ],
    ids=["spaces", "a line", "escapes", "twice", "another order"],
)
def test_another_text_for_the_same_entry_is_none(statement: str) -> None:
    assert json.loads(statement) == STATEMENT
    assert "its text can't be" in str(refused(ENTRY.to_json() | {"statement": statement}))


def test_fields_are_neither_missing_nor_more() -> None:
    fewer = {name: value for name, value in STATEMENT.items() if name != "time"}
    for fields in (fewer, STATEMENT | {"more": 1}):
        assert "its list of fields can't be" in str(refused(ENTRY.to_json() | {"statement": compact(fields)}))


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        b"",
        b"{",
        b"\xff",
        "[]",
        {},
        {"statement": ENTRY.statement},
        ENTRY.to_json() | {"more": ""},
        ENTRY.to_json() | {"statement": None},
        ENTRY.to_json() | {"statement": "{"},
        ENTRY.to_json() | {"statement": "[]"},
        ENTRY.to_json() | {"statement": ENTRY.statement.replace("ü", "\ud800")},
        ENTRY.to_json() | {"signature": None},
        ENTRY.to_json() | {"signature": ""},
        ENTRY.to_json() | {"signature": "%%%"},
        ENTRY.to_json() | {"signature": "ü"},
        ENTRY.to_json() | {"signature": base64.b64encode(ENTRY.signature).decode() + "\n"},
    ],
)
def test_what_is_no_entry_is_a_ledger_error(value: object) -> None:
    refused(value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(sorted(STATEMENT)), inner),
        max_leaves=5,
    )
)
def test_no_statement_makes_another_error(value: object) -> None:
    refused(ENTRY.to_json() | {"statement": json.dumps(value)})


def test_nothing_of_the_signature_is_in_the_repr() -> None:
    assert "statement" not in repr(ENTRY)
    assert "signature" not in repr(ENTRY)
