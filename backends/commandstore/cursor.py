"""Cursors: where a page ended, as one opaque string. Pure.

A cursor is bound to store, filters and order, and carries a checksum, so that a foreign, cut or altered one is an error
and never a page from the wrong place.
"""

from __future__ import annotations

import base64
import hashlib

import orjson

from commandstore.command import CommandQuery
from commandstore.contract import Key
from commandstore.errors import InvalidQuery

__all__ = ["read_cursor", "write_cursor"]

_VERSION = 1
_CHECKSUM_BYTES = 6


def _binding(location: str, query: CommandQuery) -> str:
    what = [location, query.canonical(), query.order_by, query.ascending]
    return hashlib.sha256(orjson.dumps(what, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()[:_CHECKSUM_BYTES]


def write_cursor(key: Key, location: str, query: CommandQuery) -> str:
    """The cursor that goes on after ``key``, in the store at ``location``, with this query."""
    body = orjson.dumps([_VERSION, _binding(location, query), list(key)])
    return base64.urlsafe_b64encode(_checksum(body) + body).rstrip(b"=").decode("ascii")


def read_cursor(cursor: str, location: str, query: CommandQuery) -> Key:
    """The key in a cursor.

    Raises:
        InvalidQuery: it is damaged, or belongs to another store, other filters or another order.
    """
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        body = raw[_CHECKSUM_BYTES:]
        version, binding, key = orjson.loads(body)
        intact = _checksum(body) == raw[:_CHECKSUM_BYTES] and isinstance(key, list)
    except (ValueError, TypeError) as error:
        raise InvalidQuery("the cursor is damaged; give it as the page returned it") from error
    if not intact:
        raise InvalidQuery("the cursor is damaged; give it as the page returned it")
    if version != _VERSION or binding != _binding(location, query):
        raise InvalidQuery("the cursor belongs to another store, other filters or another order; start without one")
    return tuple(key)
