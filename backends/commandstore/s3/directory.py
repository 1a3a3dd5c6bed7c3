"""Which segment holds a uuid: directories of entries, many segments in one object. Pure.

An entry has ``WIDTH`` bytes: eight of BLAKE2b over the uuid, the number of the segment and the row in it (big-endian
uint32 each), so that entries sort by hash. Entries lie in *runs*, each sorted by itself; an object is several runs,
one behind the other. To add a run is to copy bytes, which costs nothing; to merge runs takes a comparison of Python's
for each entry, so that is done seldom: see :func:`fold`.

Bloom filters are a tenth of the size, but each probe of one takes several steps of Python, for every segment, and one
answer in a hundred is wrong. Here a single uuid takes two objects of at most ``FULL`` entries or twice that, read
once and kept; a bulk insert looks its uuids up by a binary search in C, and a wrong candidate is a matter of 2**-64.

Entries of segments that were merged into others stay until their run is merged: who finds one asks the manifest.
"""

from __future__ import annotations

import hashlib
import sys
from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

__all__ = [
    "FULL",
    "SPACE",
    "WIDTH",
    "Candidate",
    "Chunk",
    "Directory",
    "chunks",
    "entries",
    "fold",
    "hash_of",
    "hashes_of",
]

_HASH = 8
WIDTH = _HASH + 4 + 4
FULL = 1 << 17
"""A directory object of more entries than this is merged, and then cut in two: 2 MiB."""
_SEARCH = 8
"""A search takes about as long as so many entries take to become part of a set."""
SPACE = 1 << (8 * _HASH)
"""Hashes are below this."""


class Candidate(NamedTuple):
    """Where a command may lie."""

    segment: int
    row: int


def hash_of(command_uuid: str) -> int:
    """What a uuid is sorted by in a directory."""
    return int.from_bytes(hashes_of([command_uuid])[command_uuid], "big")


def hashes_of(uuids: Iterable[str]) -> dict[str, bytes]:
    """Of each uuid its hash, as it stands in an entry."""
    blake2b = hashlib.blake2b
    return {uuid: blake2b(uuid.encode(), digest_size=_HASH).digest() for uuid in uuids}


def entries(uuids: Sequence[str], segment: int, hashes: Mapping[str, bytes] | None = None) -> bytes:
    """The run of a segment, from the uuids of its rows, and their hashes where those were taken already."""
    number = segment.to_bytes(4, "big")
    known = hashes if hashes is not None else hashes_of(uuids)
    made = [known[uuid] + number + row.to_bytes(4, "big") for row, uuid in enumerate(uuids)]
    made.sort()
    return b"".join(made)


class Directory:
    """A directory object, to be looked into.

    Args:
        data: its bytes.
        runs: how many entries each run has.

    Raises:
        ValueError: the object has another length.
    """

    def __init__(self, data: bytes, runs: Sequence[int]) -> None:
        if len(data) != sum(runs) * WIDTH:
            raise ValueError("a directory of another length")
        self.data = data
        self._hashes = array("Q", data)[0::2]
        if sys.byteorder == "little":
            self._hashes.byteswap()
        ends = [0]
        for count in runs:
            ends.append(ends[-1] + count)
        self._bounds = list(pairwise(ends))

    def find(self, key: int) -> list[Candidate]:
        """Where a hash is found, in all runs."""
        found: list[Candidate] = []
        hashes, data = self._hashes, self.data
        for start, end in self._bounds:
            at = bisect_left(hashes, key, start, end)
            while at < end and hashes[at] == key:
                place = at * WIDTH + _HASH
                segment, row = data[place : place + 4], data[place + 4 : place + 8]
                found.append(Candidate(int.from_bytes(segment, "big"), int.from_bytes(row, "big")))
                at += 1
        return found

    def among(self, keys: Collection[int]) -> Collection[int]:
        """Those of some hashes that are here."""
        if len(keys) * len(self._bounds) * _SEARCH > len(self._hashes):
            # A set of all hashes would take five times the memory of the array.
            return frozenset(keys).intersection(self._hashes)
        return [key for key in keys if self._has(key)]

    def _has(self, key: int) -> bool:
        hashes = self._hashes
        for start, end in self._bounds:
            at = bisect_left(hashes, key, start, end)
            if at < end and hashes[at] == key:
                return True
        return False

    def run(self, number: int) -> bytes:
        """The bytes of a run."""
        start, end = self._bounds[number]
        return self.data[start * WIDTH : end * WIDTH]


class Chunk(NamedTuple):
    """A directory object that is about to be: what it holds from which hash on."""

    low: int
    data: bytes
    runs: tuple[int, ...]


def chunks(run: bytes, lows: Sequence[int]) -> list[bytes]:
    """A sorted run, cut where each of the hashes begins; the first one is 0."""
    keys = [low.to_bytes(_HASH, "big") for low in lows]
    cuts = [_first(run, key) * WIDTH for key in keys] + [len(run)]
    return [run[start:end] for start, end in pairwise(cuts)]


def merge(runs: Iterable[bytes], live: Collection[int]) -> bytes:
    """One run of several, with the entries of live segments only."""
    numbers = {number.to_bytes(4, "big") for number in live}
    found = [entry for run in runs for entry in _cut(run) if entry[_HASH : _HASH + 4] in numbers]
    found.sort()  # of sorted runs, which takes about a comparison for each entry
    return b"".join(found)


def fold(
    low: int, high: int, old: Directory | None, runs: Sequence[int], new: bytes, live: Collection[int]
) -> list[Chunk]:
    """What becomes of a partition when a run is added to it.

    Runs of one size are merged two by two, so that there are few of them, and none is merged often. A partition that
    is full is cut in two; so no lookup ever reads more, however many commands there are.

    Args:
        low: its first hash.
        high: the next partition's.
        old: its object; None where there is none yet.
        runs: of that object.
        new: a sorted run of hashes within these bounds.
        live: the numbers of segments that there are.
    """
    pieces = [old.run(number) for number in range(len(runs))] if old else []
    pieces.append(new)
    if sum(map(len, pieces)) > FULL * WIDTH:
        return list(_split(low, high, merge(pieces, live)))
    while len(pieces) > 1 and len(pieces[-2]) < 2 * len(pieces[-1]):
        pieces[-2:] = [merge(pieces[-2:], live)]
    return [Chunk(low, b"".join(pieces), tuple(len(piece) // WIDTH for piece in pieces))]


def _split(low: int, high: int, run: bytes) -> Iterator[Chunk]:
    if len(run) <= FULL * WIDTH or high - low == 1:
        yield Chunk(low, run, (len(run) // WIDTH,))
        return
    middle = (low + high) // 2
    at = _first(run, middle.to_bytes(_HASH, "big")) * WIDTH
    yield from _split(low, middle, run[:at])
    yield from _split(middle, high, run[at:])


def _cut(data: bytes) -> Iterator[bytes]:
    return (data[at : at + WIDTH] for at in range(0, len(data), WIDTH))


def _first(run: bytes, key: bytes) -> int:
    """The first entry of a run that is not before a key."""
    low, high = 0, len(run) // WIDTH
    while low < high:
        middle = (low + high) // 2
        if run[middle * WIDTH : middle * WIDTH + _HASH] < key:
            low = middle + 1
        else:
            high = middle
    return low
