"""The Merkle tree of RFC 9162, section 2.1, with SHA-256. Pure.

A leaf is hashed behind a zero byte and a node behind a one, so that no node passes for a leaf. The RFC splits n leaves
at the largest power of two below n. Pairing neighbours level by level, and lifting the odd one as it is, gives the same
tree without recursion.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

__all__ = ["HASH_BYTES", "leaf_hash", "path_to", "root_from_path", "root_of"]

HASH_BYTES = 32


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf with this data."""
    return sha256(b"\x00" + data).digest()


def _parents(level: Sequence[bytes]) -> list[bytes]:
    """The level above."""
    above = [sha256(b"\x01" + left + right).digest() for left, right in zip(level[::2], level[1::2], strict=False)]
    if len(level) % 2:
        above.append(level[-1])
    return above


def root_of(hashes: Sequence[bytes]) -> bytes:
    """The root over these leaf hashes; over none of them, SHA-256 of nothing."""
    if not hashes:
        return sha256().digest()
    level = hashes
    while len(level) > 1:
        level = _parents(level)
    return level[0]


def path_to(hashes: Sequence[bytes], index: int) -> list[bytes]:
    """The inclusion path of a leaf: the nodes beside its way to the root, the lowest first.

    Args:
        hashes: of all leaves.
        index: of the leaf, from 0.

    Raises:
        IndexError: there is no such leaf.
    """
    if not 0 <= index < len(hashes):
        raise IndexError(f"there is no leaf {index} among {len(hashes)}")
    path, level = [], hashes
    while len(level) > 1:
        beside = index ^ 1
        if beside < len(level):
            path.append(level[beside])
        level, index = _parents(level), index >> 1
    return path


def root_from_path(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """The root that a leaf and its inclusion path lead to.

    Args:
        leaf: its hash.
        index: of the leaf, from 0.
        size: how many leaves the tree has.
        path: as :func:`path_to` gives it.

    Returns:
        None where no tree of this size can have such a path: the index is outside of it, the path is too long or too
        short, or a hash isn't one.
    """
    if not 0 <= index < size or any(len(node) != HASH_BYTES for node in (leaf, *path)):
        return None
    found, rest = leaf, iter(path)
    while size > 1:
        if index ^ 1 < size:
            beside = next(rest, None)
            if beside is None:
                return None
            pair = beside + found if index & 1 else found + beside
            found = sha256(b"\x01" + pair).digest()
        index, size = index >> 1, (size + 1) >> 1
    return found if next(rest, None) is None else None
