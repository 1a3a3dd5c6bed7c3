"""A lease: of runs that would do the same work, one at a time does it. Kept in a register of the destination.

A lease is a courtesy, not what correctness rests on: two runs side by side end in the same state anyway, and a
checkpoint only ever adds facts up. It spares the second run its work, and it keeps a run that was presumed dead from
writing after another took over.

Expiry is judged by the clocks of the machines that ask. A clock that is ahead by some seconds takes a lease that much
early, and the holder finds out when it renews.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson

from commandstore.command import is_int64
from commandstore.contract import Backend, Register
from commandstore.errors import ConfigurationError, LeaseHeld, SyncError

__all__ = ["Lease"]

VERSION = 1
_NANOSECONDS = 10**9
_LONGEST = 366 * 24 * 3600


class Lease:
    """One lease in one destination.

    Args:
        backend: the destination's.
        name: of the register.
        seconds: how long it holds without being renewed: so long a crashed holder keeps others out, and no longer.
        now: the clock, in nanoseconds since 1970.

    Attributes:
        caught_up: nanoseconds since 1970: what was visible in the source at that moment is in the destination. Kept
            beside the lease from run to run, so that each run can tell how far behind the destination was. None before
            the first run that came to its end.
    """

    def __init__(self, backend: Backend, name: str, *, seconds: float, now: Callable[[], int] = time.time_ns) -> None:
        if not 0 < seconds <= _LONGEST:
            raise ConfigurationError("lease_seconds must be greater than 0, and at most a year")
        self.caught_up: int | None = None
        self._backend = backend
        self._name = name
        self._term = int(seconds * _NANOSECONDS)
        self._now = now
        self._holder = secrets.token_hex(8)
        self._token: str | None = None

    async def acquire(self) -> None:
        """Take it.

        Raises:
            LeaseHeld: another run holds it; nothing was changed.
            ConfigurationError: what is in the register isn't a lease, or is a newer release's.
        """
        while True:
            found = await self._backend.register_get(self._name)
            self.caught_up = None
            if found is not None:
                value = self._read(found)
                self.caught_up = value["caught_up"]
                left = value["until"] - self._now()
                if value["holder"] is not None and left > 0:
                    until = datetime.fromtimestamp(value["until"] / _NANOSECONDS, UTC)
                    raise LeaseHeld(
                        f"another run ({value['holder']}) copies from this source at the moment; its lease holds "
                        f"until {until:%Y-%m-%d %H:%M:%S} UTC unless it is renewed or given back"
                    )
            if await self._swap(found.token if found else None, self._holder):
                return
            # Another run was quicker: see what it holds.

    async def renew(self) -> None:
        """Hold it for another term.

        Raises:
            SyncError: it expired and another run took it, or the destination was reset; nothing was written.
        """
        if not await self._swap(self._token, self._holder):
            raise SyncError(
                "this run lost its lease: it was not renewed in time and another run took over, or the destination was "
                "reset; this run stops without saving its checkpoint (what it copied stays)"
            )

    async def release(self) -> None:
        """Give it back, with what is known of ``caught_up``. Does nothing where it was lost."""
        await self._swap(self._token, None)

    async def _swap(self, expected: str | None, holder: str | None) -> bool:
        token = secrets.token_hex(8)
        until = self._now() + self._term if holder else 0
        value = {"version": VERSION, "holder": holder, "until": until, "caught_up": self.caught_up}
        done = await self._backend.register_swap(self._name, orjson.dumps(value), expected=expected, token=token)
        if done:
            self._token = token
        return done

    def _read(self, found: Register) -> dict[str, Any]:
        try:
            value: dict[str, Any] = orjson.loads(found.value)
            version = value["version"]
            held = {name: value[name] for name in ("holder", "until", "caught_up")}
            if version == VERSION and not _is_lease(**held):
                raise TypeError("a field of another type")  # noqa: TRY301 - told below
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigurationError(
                f"the register {self._name} in the destination is not a lease, or was altered; delete it there, and "
                "the next run makes a new one"
            ) from error
        if version != VERSION:
            raise ConfigurationError(
                f"the lease was written by a newer release (format {version}, this one reads {VERSION}); "
                "upgrade commandstore"
            )
        return held


def _is_lease(holder: object, until: object, caught_up: object) -> bool:
    """Whether these can be what :meth:`Lease._swap` wrote. Nanoseconds of an int64 end in 2262: dates have room."""
    numbers = [until, *([] if caught_up is None else [caught_up])]
    return (holder is None or isinstance(holder, str)) and all(is_int64(number) for number in numbers)
