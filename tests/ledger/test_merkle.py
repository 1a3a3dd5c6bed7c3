"""The Merkle tree: RFC 9162 as it is written there, naively, is the second opinion."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commandstore.ledger.merkle import leaf_hash, path_to, root_from_path, root_of

# The leaves of Certificate Transparency's reference tree, and its roots for the first 1, 2, ... 8 of them.
REFERENCE = [
    bytes.fromhex(data)
    for data in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
# Of the same tree: index, size, inclusion path.
PATHS = [
    (0, 1, []),
    (
        0,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        5,
        8,
        [
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    (
        1,
        5,
        [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
]


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def split(n: int) -> int:
    """The largest power of two smaller than n."""
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def mth(data: list[bytes]) -> bytes:
    """Section 2.1.1."""
    if not data:
        return sha(b"")
    if len(data) == 1:
        return sha(b"\x00" + data[0])
    k = split(len(data))
    return sha(b"\x01" + mth(data[:k]) + mth(data[k:]))


def inclusion(m: int, data: list[bytes]) -> list[bytes]:
    """PATH(m, D_n) of section 2.1.3.1."""
    if len(data) == 1:
        return []
    k = split(len(data))
    if m < k:
        return [*inclusion(m, data[:k]), mth(data[k:])]
    return [*inclusion(m - k, data[k:]), mth(data[:k])]


def verified(leaf: bytes, index: int, size: int, path: list[bytes], root: bytes) -> bool:
    """Section 2.1.3.2, step by step."""
    if index >= size:
        return False
    fn, sn, r = index, size - 1, leaf
    for p in path:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            r = sha(b"\x01" + p + r)
            if not fn & 1:
                while True:
                    fn, sn = fn >> 1, sn >> 1
                    if fn & 1 or fn == 0:
                        break
        else:
            r = sha(b"\x01" + r + p)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and r == root


def tree(size: int) -> list[bytes]:
    return [b"leaf %d" % number for number in range(size)]


sizes = st.integers(1, 300)
hashes = st.binary(min_size=32, max_size=32)


@pytest.mark.parametrize("size", range(1, 9))
def test_the_reference_tree_has_its_roots(size: int) -> None:
    assert root_of([leaf_hash(data) for data in REFERENCE[:size]]).hex() == ROOTS[size - 1]


@pytest.mark.parametrize(("index", "size", "path"), PATHS)
def test_the_reference_tree_has_its_paths(index: int, size: int, path: list[str]) -> None:
    known = [leaf_hash(data) for data in REFERENCE[:size]]
    assert [node.hex() for node in path_to(known, index)] == path
    found = root_from_path(known[index], index, size, [bytes.fromhex(node) for node in path])
    assert found is not None
    assert found.hex() == ROOTS[size - 1]


def test_the_root_over_nothing_is_the_hash_of_nothing() -> None:
    assert root_of([]).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@given(st.lists(st.binary(max_size=40), max_size=70))
def test_the_root_is_that_of_the_definition(data: list[bytes]) -> None:
    assert root_of([leaf_hash(one) for one in data]) == mth(data)


@pytest.mark.parametrize("size", range(34))
def test_the_root_is_that_of_the_definition_for_each_size(size: int) -> None:
    assert root_of([leaf_hash(one) for one in tree(size)]) == mth(tree(size))


def test_the_leaves_are_left_as_they_are() -> None:
    known = [leaf_hash(one) for one in tree(7)]
    before = list(known)
    root_of(known)
    path_to(known, 6)
    assert known == before


@pytest.mark.parametrize("size", range(1, 20))
def test_each_path_is_that_of_the_definition_and_leads_to_the_root(size: int) -> None:
    data = tree(size)
    known = [leaf_hash(one) for one in data]
    for index in range(size):
        path = path_to(known, index)
        assert path == inclusion(index, data)
        assert root_from_path(known[index], index, size, path) == mth(data)
        assert verified(known[index], index, size, path, mth(data))


@given(st.data())
def test_a_path_leads_to_the_root_exactly_where_the_rfc_says_so(data: st.DataObject) -> None:
    size = data.draw(sizes)
    index = data.draw(st.integers(0, size - 1))
    leaves = [leaf_hash(one) for one in tree(size)]
    root, path = root_of(leaves), path_to(leaves, index)
    # As it is, or bent: another index, another size, a node less, more, or replaced.
    claimed = data.draw(st.sampled_from([index]) | st.integers(0, 310))
    claimed_size = data.draw(st.sampled_from([size]) | st.integers(0, 310))
    kept = data.draw(st.sampled_from([len(path)]) | st.integers(0, len(path)))
    bent = path[:kept] + data.draw(st.just([]) | st.lists(hashes, max_size=2))
    found = root_from_path(leaves[index], claimed, claimed_size, bent)
    assert (found == root) == verified(leaves[index], claimed, claimed_size, bent, root)


@given(st.integers(0, 400), st.integers(0, 400), st.lists(hashes, max_size=10))
def test_a_path_of_the_wrong_length_is_none(index: int, size: int, path: list[bytes]) -> None:
    right = index < size and len(inclusion(index, [b""] * size)) == len(path) if size < 40 else None
    found = root_from_path(bytes(32), index, size, path)
    if right is not None:
        assert (found is not None) == right
    if index >= size:
        assert found is None


@pytest.mark.parametrize("index", [-1, 3, 4])
def test_there_is_no_path_from_outside_of_the_tree(index: int) -> None:
    known = [leaf_hash(one) for one in tree(3)]
    with pytest.raises(IndexError):
        path_to(known, index)
    assert root_from_path(known[0], index, 3, path_to(known, 0)) is None


@pytest.mark.parametrize("node", [b"", bytes(31), bytes(33), bytes(64)])
def test_what_is_no_hash_is_on_no_path(node: bytes) -> None:
    known = [leaf_hash(one) for one in tree(2)]
    assert root_from_path(known[0], 0, 2, [node]) is None
    assert root_from_path(node, 0, 2, [known[1]]) is None


def test_a_node_is_not_a_leaf() -> None:
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    assert leaf_hash(left + right) != root_of([left, right])
