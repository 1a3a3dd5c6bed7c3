"""Which segment holds a uuid: a directory of many segments, in one immutable object. Pure.

An object of entries of ``WIDTH`` bytes, sorted: eight bytes of BLAKE2b over the uuid, the segment's number among those
of the directory (big-endian uint16), the row in it (uint32). Nothing else is in it, so that a place can be computed.

Bloom filters are a tenth of the size, but each probe of one takes several steps of Python, for every segment, and one
answer in a hundred is wrong. Here one ranged GET finds a uuid: hashes are spread evenly, so its place is known to
within a few times the root of their number (of a million entries, 14 MB, at most 85 KB are read). Bulk inserts look
uuids up by a binary search in C, and a wrong candidate is a matter of 2**-64.
"""

from __future__ import annotations

import hashlib
import math
import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

__all__ = [
    "WIDTH",
    "Hashes",
    "Row",
    "covers",
    "entries",
    "find",
    "key_of",
    "merge",
    "window",
]

_HASH = 8
WIDTH = _HASH + 2 + 4
# How many standard deviations of the place are read: a miss is one in five hundred millions, and costs a second read.
_DEVIATIONS = 6


class Row(NamedTuple):
    """Where a command may lie."""

    segment: int
    row: int


def key_of(command_uuid: str) -> bytes:
    """What a uuid is sorted by in a directory."""
    return hashlib.blake2b(command_uuid.encode(), digest_size=_HASH).digest()


def entries(uuids: Iterable[str], segment: int) -> list[bytes]:
    """The entries of a segment's rows, in the order of the rows."""
    number = segment.to_bytes(2, "big")
    return [key_of(uuid) + number + row.to_bytes(4, "big") for row, uuid in enumerate(uuids)]


def merge(parts: Iterable[tuple[bytes, Mapping[int, int]]], new: Iterable[bytes] = ()) -> bytes:
    """One directory of several.

    Args:
        parts: directories, each with the new numbers of its segments; those without a number are left out.
        new: further entries.
    """
    found: list[bytes] = []
    for data, numbers in parts:
        same = all(old == now for old, now in numbers.items())
        for entry in _cut(data):
            old = int.from_bytes(entry[_HASH : _HASH + 2], "big")
            if old in numbers:
                found.append(entry if same else entry[:_HASH] + numbers[old].to_bytes(2, "big") + entry[_HASH + 2 :])
    found += new
    found.sort()  # of sorted runs mostly, which takes a comparison for each entry
    return b"".join(found)


def find(data: bytes, key: bytes) -> list[Row]:
    """The rows of a key, in a directory or in a range of one."""
    at = _bisect(data, key)
    rows: list[Row] = []
    while data[at * WIDTH : at * WIDTH + _HASH] == key:
        entry = data[at * WIDTH : (at + 1) * WIDTH]
        rows.append(Row(int.from_bytes(entry[_HASH : _HASH + 2], "big"), int.from_bytes(entry[_HASH + 2 :], "big")))
        at += 1
    return rows


def window(key: bytes, count: int) -> tuple[int, int]:
    """The range of entries of a directory of ``count`` in which a key lies, all but surely: first, and one behind."""
    share = int.from_bytes(key, "big") / 2 ** (8 * _HASH)
    reach = int(_DEVIATIONS * math.sqrt(count * share * (1 - share))) + 16
    place = int(count * share)
    return max(0, place - reach), min(count, place + reach)


def covers(data: bytes, key: bytes, first: int, count: int) -> bool:
    """Whether a range that starts at entry ``first`` of ``count`` says all of a key: neighbours stand around it."""
    end = first + len(data) // WIDTH
    return (first == 0 or data[:_HASH] < key) and (end == count or data[-WIDTH : -WIDTH + _HASH] > key)


class Hashes:
    """The keys of a whole directory, for looking up many: eight bytes an entry.

    Args:
        data: the directory.
    """

    def __init__(self, data: bytes) -> None:
        # Column by column, at the speed of C: byte n of every key lies WIDTH bytes from that of the next one.
        columns = bytearray(len(data) // WIDTH * _HASH)
        for at in range(_HASH):
            columns[at::_HASH] = data[at::WIDTH]
        self._keys = array("Q", bytes(columns))
        if sys.byteorder == "little":
            self._keys.byteswap()

    def known(self, uuids: Sequence[str]) -> list[bool]:
        """For each uuid, whether the directory has its key."""
        keys, count = self._keys, len(self._keys)
        found: list[bool] = []
        for uuid in uuids:
            key = int.from_bytes(key_of(uuid), "big")
            at = bisect_left(keys, key)
            found.append(at < count and keys[at] == key)
        return found


def _cut(data: bytes) -> Iterator[bytes]:
    return (data[at : at + WIDTH] for at in range(0, len(data), WIDTH))


def _bisect(data: bytes, key: bytes) -> int:
    low, high = 0, len(data) // WIDTH
    while low < high:
        middle = (low + high) // 2
        if data[middle * WIDTH : middle * WIDTH + _HASH] < key:
            low = middle + 1
        else:
            high = middle
    return low
