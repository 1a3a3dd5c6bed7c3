"""A value in one object, swapped by compare-and-swap. Knows nothing of what it holds.

S3 compares ETags, and two bodies that are equal have the same one; so every body carries the random *put-id* of the
swap that wrote it, and no two lives of an object look alike. The body also names the last swaps before it. That settles
a lost answer: a 412 (or a time-out) may be the echo of one's own PUT, and then one's put-id is found among them, even
when others have swapped since. Where too many have for that list to tell, the fate is unknown, and that is said.

A value of None is a register that was removed. It stays as an object, as a conditional DELETE needs permissions that
nothing else here needs, and many compatible stores don't have it.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Callable
from typing import NamedTuple

import orjson

from commandstore.errors import CorruptRecord, StoreUnavailable
from commandstore.s3.wire import ConditionFailed, Gone, Wire

__all__ = ["KEPT", "Register", "Seen"]

KEPT = 64
"""How many swaps a body names, its own included."""


class Seen(NamedTuple):
    """What a register held when it was read.

    Attributes:
        value: None where it was removed.
        put_id: of the swap that wrote it.
        sequence: how many swaps there were, this one included.
        recent: put-ids of the last swaps, the newest first; at most ``KEPT``.
        etag: what the next swap is compared with.
    """

    value: bytes | None
    put_id: str
    sequence: int
    recent: tuple[str, ...]
    etag: str


class Register:
    """One object whose value is swapped atomically.

    Args:
        wire: to the bucket.
        key: of the object, within the store's prefix.
    """

    def __init__(self, wire: Wire, key: str) -> None:
        self._wire = wire
        self._key = key

    async def read(self) -> Seen | None:
        """What is there now, linearizable; None where nobody ever swapped.

        Raises:
            CorruptRecord: the object is no register; names it.
        """
        got = await self._wire.get(self._key)
        if got is None:
            return None
        try:
            return _decode(got.data, got.etag)
        except (ValueError, TypeError, KeyError) as error:
            raise CorruptRecord(
                f"object {self._key} in {self._wire.place.url} is no register, or was altered",
                location=self._key,
            ) from error

    async def swap(self, value: bytes | None, seen: Seen | None, *, put_id: str | None = None) -> bool:
        """Set the value when nobody swapped since ``seen`` was read.

        Args:
            value: the new one; None removes.
            seen: what :meth:`read` said.
            put_id: identifies this swap, at random; None draws one. The same one for every repetition of one swap.

        Returns:
            Whether this swap was done; False: another was, and nothing was changed.

        Raises:
            StoreUnavailable: it may have been done, or not.
        """
        put_id = put_id or secrets.token_hex(8)
        sequence = 1 if seen is None else seen.sequence + 1
        recent = (put_id, *(seen.recent if seen else ()))[:KEPT]
        body = _encode(Seen(value, put_id, sequence, recent, ""))
        try:
            await self._wire.put(self._key, body, only_new=seen is None, etag=seen.etag if seen else None)
        except ConditionFailed:
            # Of this very swap, perhaps, even where no answer was lost here: see Root.
            return await self._was_done(put_id, sequence)
        except Gone:
            return False
        except StoreUnavailable:
            if await self._was_done(put_id, sequence):
                return True
            raise  # not yet, but the request may still be on its way
        return True

    async def update(self, change: Callable[[bytes | None], bytes | None]) -> bytes | None:
        """Read, change, swap; again on what is there then, where another swap came between.

        Args:
            change: a pure function from the value to the new one; called once for each attempt.

        Returns:
            The value that is in place.

        Raises:
            StoreUnavailable: too many others swapped at once (nothing was changed), or the fate is unknown.
        """
        tries = self._wire.tries()
        while True:
            seen = await self.read()
            value = change(seen.value if seen else None)
            if await self.swap(value, seen):
                return value
            await tries.again(
                StoreUnavailable(
                    f"object {self._key} in {self._wire.place.url} is swapped by others all the time; nothing was "
                    "changed, try again later"
                )
            )

    async def _was_done(self, put_id: str, sequence: int) -> bool:
        """Whether the swap that would have been this one in the sequence was."""
        found = await self.read()
        if found is None:
            return False
        if put_id in found.recent:
            return True
        if found.sequence - sequence >= len(found.recent):
            raise StoreUnavailable(
                f"object {self._key} in {self._wire.place.url} was swapped {found.sequence - sequence:,} times while "
                "one answer was lost; whether that swap was done is unknown"
            )
        return False


def _encode(seen: Seen) -> bytes:
    value = None if seen.value is None else base64.b64encode(seen.value).decode("ascii")
    return orjson.dumps(
        {"format": 1, "put_id": seen.put_id, "sequence": seen.sequence, "recent": seen.recent, "value": value}
    )


def _decode(body: bytes, etag: str) -> Seen:
    found = orjson.loads(body)
    if found["format"] != 1:
        raise ValueError("a newer format")
    value, put_id, sequence, recent = found["value"], found["put_id"], found["sequence"], found["recent"]
    if not isinstance(put_id, str) or not isinstance(sequence, int) or not isinstance(recent, list) or not recent:
        raise TypeError("no register")
    try:
        data = None if value is None else base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
    return Seen(data, put_id, sequence, tuple(str(one) for one in recent), etag)
