"""Leaves: what is hashed of a command, and that what was packed comes back or is known to be damaged."""

from __future__ import annotations

import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commandstore import Command
from commandstore.codec import Record, encode
from commandstore.command import INT64_MAX, INT64_MIN
from commandstore.errors import LedgerError
from commandstore.ledger.leaves import (
    PART_BYTES,
    Leaf,
    Op,
    hashes_of,
    leaf_of,
    most_parts,
    pack,
    stored_digest,
    unpack,
)
from commandstore.ledger.merkle import leaf_hash

RECORD = encode(Command("c1", 5, 7, "t", "w", "Order", "OrderPlace", b"payload", '{"a":1}'))
SEALED = RECORD._replace(data=b"cipher", cipher="aes:1", digest=bytes(range(32)))
LEAF = Leaf(Op.CREATE, "c1", bytes(32), 5)

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
leaves = st.builds(
    Leaf,
    st.sampled_from([1, 2, 3]),
    texts,
    st.binary(min_size=32, max_size=32),
    st.integers(INT64_MIN, INT64_MAX),
)


def naive_digest(record: Record) -> bytes:
    """The canonical form, written a second time."""
    texts = [getattr(record, name).encode() for name in ("command_uuid", "tenant_uuid", "workspace_uuid")]
    texts += [record.domain.encode(), record.data_type.encode(), record.data, record.req_ctx.encode()]
    numbers = [record.created_at.to_bytes(8, "big", signed=True), record.instance_id.to_bytes(8, "big", signed=True)]
    whole = b"commandstore\x01" + b"".join(numbers)
    whole += b"".join(len(text).to_bytes(8, "big") for text in texts) + b"".join(texts)
    if record.cipher:
        cipher = record.cipher.encode()
        lengths = len(record.digest).to_bytes(8, "big") + len(cipher).to_bytes(8, "big")
        whole = b"commandstore sealed\x01" + lengths + record.digest + cipher + whole
    return hashlib.sha256(whole).digest()


def test_the_numbers_of_the_operations_are_for_ever() -> None:
    assert {op.name: int(op) for op in Op} == {"CREATE": 1, "UPDATE": 2, "DELETE": 3}


@pytest.mark.parametrize("record", [RECORD, SEALED])
def test_the_digest_is_as_it_is_documented(record: Record) -> None:
    assert stored_digest(record) == naive_digest(record)


def test_a_plain_records_digest_is_that_of_its_fields_and_not_the_one_that_it_claims() -> None:
    assert stored_digest(RECORD) == RECORD.digest
    assert stored_digest(RECORD._replace(digest=bytes(32))) == RECORD.digest
    assert stored_digest(RECORD._replace(data=b"altered")) != RECORD.digest


def test_a_fresh_records_own_digest_is_believed() -> None:
    assert stored_digest(RECORD._replace(digest=bytes(32)), fresh=True) == bytes(32)
    assert stored_digest(SEALED, fresh=True) == stored_digest(SEALED)


@pytest.mark.parametrize(
    "change",
    [
        {"command_uuid": "c2"},
        {"created_at": 6},
        {"instance_id": 8},
        {"tenant_uuid": "u"},
        {"workspace_uuid": "v"},
        {"domain": "order"},
        {"data_type": "x"},
        {"data": b"other cipher"},
        {"req_ctx": "{}"},
        {"digest": bytes(32)},
        {"digest": b""},
        {"cipher": "aes:2"},
        {"cipher": "aes:1x"},
    ],
)
def test_the_digest_of_a_sealed_record_covers_each_field(change: dict[str, object]) -> None:
    assert stored_digest(SEALED._replace(**change)) != stored_digest(SEALED)


def test_bytes_moved_between_digest_and_cipher_are_another_record() -> None:
    moved = SEALED._replace(digest=SEALED.digest + b"a", cipher="es:1")
    assert stored_digest(moved) != stored_digest(SEALED)


def test_a_leaf_says_what_was_done_to_which_command() -> None:
    assert leaf_of(Op.UPDATE, RECORD) == Leaf(2, "c1", RECORD.digest, 5)
    assert leaf_of(Op.CREATE, RECORD._replace(digest=b"")).digest == RECORD.digest


@given(st.lists(leaves, max_size=20))
def test_a_leafs_hash_is_as_it_is_documented(known: list[Leaf]) -> None:
    data = [
        bytes([leaf.op]) + leaf.digest + struct.pack(">q", leaf.created_at) + leaf.command_uuid.encode()
        for leaf in known
    ]
    assert hashes_of(known) == [leaf_hash(one) for one in data]
    assert hashes_of(iter(known)) == hashes_of(known)


@pytest.mark.parametrize("wrong", [{"digest": bytes(31)}, {"digest": bytes(33)}, {"op": 0}, {"op": 4}])
@pytest.mark.parametrize("take", [hashes_of, pack])
def test_a_leaf_that_could_be_taken_for_another_is_refused(wrong: dict[str, object], take: object) -> None:
    with pytest.raises(LedgerError, match="command 'c1' can't be in the ledger"):
        take([LEAF, LEAF._replace(**wrong)])


@given(st.lists(leaves, max_size=20))
def test_what_was_packed_comes_back(known: list[Leaf]) -> None:
    assert unpack(pack(known)) == known


def test_a_body_is_as_it_is_documented() -> None:
    leaf = Leaf(Op.DELETE, "ü", bytes(range(32)), -2)
    assert pack([leaf]) == [b"\x03" + struct.pack(">q", -2) + bytes(range(32)) + b"\x00\x02" + "ü".encode()]


@pytest.mark.parametrize("length", [36, 512])
def test_no_part_is_too_long(length: int) -> None:
    known = [LEAF._replace(command_uuid=f"{number:0{length}}") for number in range(6_000)]
    parts = pack(known)
    assert len(parts) > 1
    assert max(map(len, parts)) <= PART_BYTES
    assert unpack(parts) == known
    assert pack(known) == parts


@pytest.mark.parametrize("count", range(1, 8))
def test_there_are_as_many_parts_as_the_longest_uuids_need_and_no_more(count: int) -> None:
    known = [LEAF._replace(command_uuid=f"{number:065535}") for number in range(count)]
    assert len(pack(known)) == most_parts(count)
    assert len(pack([*known[:-1], LEAF])) <= most_parts(count)


def test_nothing_has_no_parts() -> None:
    assert pack([]) == []
    assert unpack([]) == []
    assert hashes_of([]) == []


@given(st.lists(leaves, min_size=1, max_size=5), st.data())
def test_damage_is_a_ledger_error_or_other_leaves(known: list[Leaf], data: st.DataObject) -> None:
    part = bytearray(pack(known)[0])
    if data.draw(st.booleans()):
        del part[data.draw(st.integers(0, len(part) - 1)) :]
    else:
        part[data.draw(st.integers(0, len(part) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        found = unpack([bytes(part)])
    except LedgerError as error:
        assert "part 0" in str(error)  # noqa: PT017 - either is right
    else:
        assert found != known


@pytest.mark.parametrize(
    "part",
    [
        b"\x01",
        pack([LEAF])[0][:-1],
        pack([LEAF])[0] + b"\x01",
        b"\x00" + pack([LEAF])[0][1:],
        b"\x04" + pack([LEAF])[0][1:],
        pack([LEAF])[0][:-2] + b"\xff\xff",
        pack([LEAF])[0][:-4] + b"\x00\x00",
    ],
    ids=["short", "cut", "more", "no op", "new op", "no text", "no uuid"],
)
def test_damaged_leaves_are_a_ledger_error_that_says_where(part: bytes) -> None:
    with pytest.raises(LedgerError, match="part 1 of the leaves is damaged near leaf"):
        unpack([pack([LEAF])[0], part])
