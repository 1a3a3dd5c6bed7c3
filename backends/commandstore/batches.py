"""How records are cut into what a backend takes at once. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from commandstore.codec import Record
from commandstore.contract import Backend

__all__ = ["chunks", "waves"]


def waves(records: Sequence[Record]) -> Iterator[Sequence[int]]:
    """Indexes so that no uuid stands twice in one wave.

    The first command of each uuid goes first; the second meets it as one that is there; and so on.
    """
    if records and len({record.command_uuid for record in records}) == len(records):  # as nearly always
        yield range(len(records))
        return
    waiting: Sequence[int] = range(len(records))
    while waiting:
        chosen: dict[str, int] = {}
        later = [index for index in waiting if chosen.setdefault(records[index].command_uuid, index) != index]
        yield list(chosen.values())
        waiting = later


def chunks(indexes: Sequence[int], records: Sequence[Record], backend: Backend) -> Iterator[Sequence[int]]:
    """Cut into what the backend takes at once, by count and by bytes."""
    if len(indexes) <= backend.insert_count and sum(records[i].size for i in indexes) <= backend.insert_bytes:
        yield indexes
        return
    chunk: list[int] = []
    size = 0
    for index in indexes:
        weight = records[index].size
        if chunk and (len(chunk) >= backend.insert_count or size + weight > backend.insert_bytes):
            yield chunk
            chunk, size = [], 0
        chunk.append(index)
        size += weight
    yield chunk
