"""Whether a store was opened with what its commands are sealed with: its key, or none where none is sealed.

With another key, or with none, all that is there would differ, and what is written could not be read with it: in plain,
where somebody meant it to be encrypted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from commandstore.codec import Record
from commandstore.core import StoreCore
from commandstore.errors import CommandStoreError, DecryptionError

__all__ = ["key_fits"]

_LOOKED_AT = 20


async def key_fits(core: StoreCore, met: Iterable[Record | CommandStoreError | None]) -> bool:
    """Whether what the store holds opens as it was opened, by its newest commands and those that were met.

    With a key, one that opens is enough: of others the keys may be destroyed. Without one, none may be sealed.
    """
    newest = await core.pages(replace(core.query({}), ascending=False), None, _LOOKED_AT)
    found = [*met, *(row.record or row.error for row in newest.rows)]
    if core.options.crypto is not None and any(isinstance(one, Record) for one in found):
        return True
    return not any(isinstance(one, DecryptionError) for one in found)
