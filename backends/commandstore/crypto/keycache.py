"""Keys that are kept for a while: bounded in number and in age."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, NamedTuple, TypeVar

from commandstore.errors import DecryptionError

__all__ = ["Kept", "KeyCache"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Kept(NamedTuple, Generic[V]):
    """A key, or why there is none; and until when it may be used.

    Attributes:
        key: None where there is none.
        refusal: why there is none. The text and not the error, which would collect a traceback each time it is raised.
        until: on the owner's clock.
        kind: of error that says so.
    """

    key: V | None
    refusal: str
    until: float
    kind: type[DecryptionError] = DecryptionError

    def get(self) -> V:
        """The key.

        Raises:
            DecryptionError: there is none.
        """
        if self.key is None:
            raise self.kind(self.refusal)
        return self.key

    def __repr__(self) -> str:
        return f"Kept(until={self.until})"


class KeyCache(Generic[K, V]):
    """Keys by name; whoever goes beyond the number pushes out the one that was asked for least recently.

    Its owner's lock is held around :meth:`fresh` and :meth:`put`; :meth:`get` needs none.

    Args:
        most: how many.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[K, Kept[V]] = OrderedDict()

    def get(self, name: K, now: float) -> Kept[V] | None:
        """What is kept under the name, unless it is too old."""
        found = self._kept.get(name)
        return found if found is not None and found.until > now else None

    def fresh(self, name: K, now: float) -> bool:
        """Whether it is there and will do; it then counts as asked for."""
        if self.get(name, now) is None:
            return False
        self._kept.move_to_end(name)
        return True

    def put(self, name: K, kept: Kept[V]) -> None:
        """Keep it, as the one that was asked for last."""
        self._kept[name] = kept
        self._kept.move_to_end(name)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def drop(self, name: K) -> None:
        """Keep it no longer."""
        self._kept.pop(name, None)

    def clear(self) -> None:
        """Keep nothing."""
        self._kept.clear()

    def __len__(self) -> int:
        return len(self._kept)

    def __repr__(self) -> str:
        return f"KeyCache({len(self)} of {self._most})"
