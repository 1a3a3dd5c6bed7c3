"""Proofs: what was recorded can be shown to anybody, and nothing else can."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commandstore import Command
from commandstore.codec import encode
from commandstore.errors import LedgerError
from commandstore.ledger.entry import Entry, sign, state
from commandstore.ledger.leaves import Leaf, Op, leaf_of
from commandstore.ledger.proof import Proof, check, prove
from commandstore.ledger.signing import Ed25519Signer, Verifier

SIGNER = Ed25519Signer(bytes(32))
VERIFIER = Verifier(SIGNER.public_key())
COMMANDS = [Command(f"c{number}", number, data_bytes=b"secret payload") for number in range(7)]
LEAVES = [leaf_of(Op.CREATE, encode(command)) for command in COMMANDS]


def entry_over(leaves: list[Leaf]) -> Entry:
    made = state(leaves, previous=None, kind="sync", commands=7, time=5, parts=1, signer=SIGNER)
    return sign(made, SIGNER)


ENTRY = entry_over(LEAVES)
PROOF = prove(LEAVES, 6, ENTRY)


def refused(proof: Proof, command: Command | None = None, verifier: Verifier = VERIFIER) -> str:
    with pytest.raises(LedgerError) as caught:
        check(proof, verifier, command)
    assert caught.value.sequence == 1
    return str(caught.value)


def unreadable(**changes: Any) -> str:
    with pytest.raises(LedgerError) as caught:
        Proof.from_json(PROOF.to_json() | changes)
    return str(caught.value)


@given(st.integers(1, 40), st.data())
def test_the_proof_of_each_command_holds(size: int, data: st.DataObject) -> None:
    ops = st.sampled_from(Op)
    leaves = [Leaf(data.draw(ops), f"c{number}", bytes([number]) * 32, number) for number in range(size)]
    index = data.draw(st.integers(0, size - 1))
    proof = prove(leaves, index, entry_over(leaves))
    check(proof, VERIFIER)
    assert (proof.op, proof.command_uuid, proof.digest, proof.created_at) == leaves[index]


def test_a_proof_comes_back_from_its_document() -> None:
    document = PROOF.to_json()
    for value in (document, json.dumps(document), json.dumps(document, indent=2).encode()):
        assert Proof.from_json(value) == PROOF


def test_a_proof_may_be_printed_by_any_tool() -> None:
    leaves = [leaf_of(Op.CREATE, encode(Command("漢字/\U0001f69a", 1)))]
    proof = prove(leaves, 0, entry_over(leaves))
    document = proof.to_json()
    for options in ({}, {"indent": 2}, {"ensure_ascii": False}, {"sort_keys": True}, {"separators": (",", ":")}):
        assert Proof.from_json(f"\n{json.dumps(document, **options)}\n") == proof


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("{", '{"command_uuid":"EVIL","operation":"delete",'),
        ('"path":', '"path":[],"path":'),
        ('"entry": {', '"entry": {"statement":"{}",'),
        ('"statement":', '"\\u0073tatement":"{}","statement":'),
    ],
)
def test_a_proof_that_says_something_twice_does_not_hold(before: str, after: str) -> None:
    text = json.dumps(PROOF.to_json())
    assert before in text
    with pytest.raises(LedgerError, match="has a field twice"):
        Proof.from_json(text.replace(before, after, 1))


def test_a_field_that_stands_twice_may_be_of_any_depth() -> None:
    text = json.dumps(PROOF.to_json())
    for depth in (900, 1020, 100_000):
        with pytest.raises(LedgerError):
            Proof.from_json(text.replace("{", f'{{"path":{"[" * depth}{"]" * depth},', 1))


def test_a_signature_in_other_characters_is_none() -> None:
    entry = PROOF.to_json()["entry"]
    signature = entry["signature"]
    assert signature.endswith("==")
    other = f"{signature[:-3]}{chr(ord(signature[-3]) + 1)}=="
    assert "not spelled as it was written" in unreadable(entry=entry | {"signature": other})


def test_the_document_can_be_read_by_anybody() -> None:
    assert PROOF.to_json() == {
        "version": 1,
        "command_uuid": "c6",
        "created_at": 6,
        "operation": "create",
        "digest": LEAVES[6].digest.hex(),
        "index": 6,
        "path": [node.hex() for node in PROOF.path],
        "entry": ENTRY.to_json(),
    }
    assert len(json.dumps(PROOF.to_json())) < 1_500


def test_the_payload_is_not_in_the_document() -> None:
    assert "secret" not in json.dumps(PROOF.to_json())


def test_a_proof_for_the_command_itself_holds() -> None:
    check(PROOF, VERIFIER, COMMANDS[6])


def test_an_altered_command_is_not_what_was_recorded() -> None:
    altered = Command("c6", 6, data_bytes=b"other payload")
    reason = refused(PROOF, altered)
    assert "command 'c6' is not as it was recorded" in reason
    assert "speaks of the cipher" in reason
    assert "other payload" not in reason


def test_another_command_is_not_what_the_proof_is_about() -> None:
    assert "it is about command 'c6', not about 'c5'" in refused(PROOF, COMMANDS[5])


def test_a_proof_under_another_key_does_not_hold() -> None:
    assert "not among those given" in refused(PROOF, verifier=Verifier(Ed25519Signer(bytes([1]) * 32).public_key()))


def test_a_proof_whose_entry_was_altered_does_not_hold() -> None:
    bent = replace(ENTRY, signature=bytes(64))
    assert "its signature is not one" in refused(replace(PROOF, entry=bent))


@pytest.mark.parametrize(
    "change",
    [
        {"op": Op.DELETE},
        {"command_uuid": "c5"},
        {"created_at": 7},
        {"digest": bytes(32)},
        {"digest": LEAVES[5].digest},
        {"path": tuple(reversed(PROOF.path))},
        {"path": (bytes(32), *PROOF.path[1:])},
    ],
)
def test_a_leaf_that_is_not_under_the_root_is_refused(change: dict[str, Any]) -> None:
    assert "is not under the entry's root" in refused(replace(PROOF, **change))


@pytest.mark.parametrize("index", [-1, 7, 2**70])
def test_an_index_outside_of_the_entry_is_refused(index: int) -> None:
    assert f"there is no leaf {index} among the 7" in refused(replace(PROOF, index=index))


@pytest.mark.parametrize("path", [(), PROOF.path[1:], (*PROOF.path, bytes(32)), (b"short", *PROOF.path[1:])])
def test_a_path_of_another_length_is_refused(path: tuple[bytes, ...]) -> None:
    assert "its path is not one for leaf 6 of 7" in refused(replace(PROOF, path=path))


def test_another_index_is_refused() -> None:
    proof = prove(LEAVES, 2, ENTRY)
    assert "is not under the entry's root" in refused(replace(proof, index=3))


def test_a_valid_proof_does_not_hold_with_another_entry() -> None:
    other = entry_over([*LEAVES[:6], LEAVES[6]._replace(digest=bytes(32))])
    assert "is not under the entry's root" in refused(replace(PROOF, entry=other))


@given(st.data())
def test_no_single_altered_character_of_the_document_goes_unseen(data: st.DataObject) -> None:
    text = json.dumps(PROOF.to_json())
    at = data.draw(st.integers(0, len(text) - 1))
    altered = text[:at] + chr(data.draw(st.integers(32, 126))) + text[at + 1 :]
    try:
        proof = Proof.from_json(altered)
        check(proof, VERIFIER)
    except LedgerError:
        return
    # Such as spaces.
    assert proof == PROOF


def test_leaves_that_are_not_the_entrys_have_no_proof() -> None:
    with pytest.raises(LedgerError, match="not under the entry's root"):
        prove(LEAVES[:5] + LEAVES[6:] + LEAVES[5:6], 0, ENTRY)
    with pytest.raises(LedgerError, match="is not one for leaf 0 of 7"):
        prove(LEAVES[:2], 0, ENTRY)
    for index in (7, -1):
        with pytest.raises(IndexError):
            prove(LEAVES, index, ENTRY)


def test_a_newer_version_says_upgrade() -> None:
    assert "upgrade commandstore" in unreadable(version=2, more=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": True}, "no proof"),
        ({"version": "1"}, "no proof"),
        ({"version": 0}, "no proof"),
        ({"more": 1}, "no proof"),
        ({"command_uuid": ""}, "no command_uuid"),
        ({"command_uuid": 5}, "no command_uuid"),
        ({"command_uuid": "\ud800"}, "no command_uuid"),
        ({"created_at": "6"}, "created_at"),
        ({"created_at": True}, "created_at"),
        ({"created_at": 2**63}, "created_at"),
        ({"operation": "CREATE"}, "operation"),
        ({"operation": ["create"]}, "operation"),
        ({"digest": "00"}, "digest"),
        ({"digest": "A" * 64}, "digest"),
        ({"digest": None}, "digest"),
        ({"index": -1}, "index"),
        ({"index": True}, "index"),
        ({"index": 1.0}, "index"),
        ({"path": "00"}, "path"),
        ({"path": [5]}, "path"),
        ({"path": ["00" * 31]}, "path"),
        ({"path": ["00" * 32] * 65}, "path"),
        ({"entry": None}, "entry"),
        ({"entry": {"statement": "{}", "signature": ""}}, "entry"),
    ],
)
def test_what_is_no_proof_says_what_is_wrong(changes: dict[str, Any], message: str) -> None:
    assert message in unreadable(**changes)


@pytest.mark.parametrize("value", [None, [], {}, "", "[]", b"\xff", '{"version":1}'])
def test_what_is_no_document_is_a_ledger_error(value: object) -> None:
    with pytest.raises(LedgerError):
        Proof.from_json(value)
