"""How much is tried: a little on every run, and a lot where COMMANDSTORE_RELIABILITY=full says so."""

from __future__ import annotations

import os

__all__ = ["FULL", "scaled"]

FULL = os.environ.get("COMMANDSTORE_RELIABILITY") == "full"


def scaled(reduced: int, full: int) -> int:
    """The one count or the other."""
    return full if FULL else reduced
