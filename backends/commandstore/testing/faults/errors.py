"""Which errors an operation may end in while an engine fails. Pure."""

from __future__ import annotations

from commandstore.errors import AccessDenied, CommandStoreError, StoreUnavailable, SyncError

__all__ = ["wrong_error"]

# What Python itself raises where a program is wrong, and never where an engine is: as the cause of an outage it hides a
# mistake. Errors of other modules that inherit from these are their authors' own.
_MISTAKES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    NotImplementedError,
    RecursionError,
    TypeError,
)


def wrong_error(error: Exception) -> str | None:
    """What is wrong with ending in this error; None where a fault may end so."""
    if not isinstance(error, CommandStoreError):
        return f"an error was not translated: {error!r}"
    if isinstance(error, SyncError):
        if not isinstance(error.__cause__, CommandStoreError):
            return f"a sync stopped for {error.__cause__!r}"
        error = error.__cause__
    if not isinstance(error, StoreUnavailable | AccessDenied):
        return f"a fault became {type(error).__name__}: {error}"
    cause = error.__cause__
    if type(cause).__module__ == "builtins" and isinstance(cause, _MISTAKES):
        return f"{type(error).__name__} was caused by {cause!r}, which is a mistake of a program and no fault"
    return None
