"""The errors of this library, one tree.

No error of an SDK or a database driver leaves a backend: it is translated here, and the original is ``__cause__``.
Each class also inherits the builtin that a caller would expect to catch.

* ``CommandStoreError``
    * ``CommandExists`` (``ValueError``): a command with this uuid is there already.
    * ``InvalidCommand`` (``ValueError``): the command can't be stored, here or anywhere.
    * ``InvalidQuery`` (``ValueError``): a filter, order, cursor or uuid that can't be asked for.
    * ``CorruptRecord`` (``ValueError``): what is stored can't be read as a command.
    * ``DecryptionError`` (``ValueError``): wrong key, altered bytes, or plain data where cipher is expected.
    * ``LedgerError`` (``ValueError``): what is in the ledger, or in a proof, can't be read or doesn't fit.
    * ``ReadOnlyStore`` (``PermissionError``): the store was opened read-only.
    * ``StoreClosed`` (``RuntimeError``): the store was not initialised, is closed, or belongs to another event loop.
    * ``Unsupported`` (``NotImplementedError``): this backend can't do that.
    * ``StoreUnavailable`` (``ConnectionError``): no answer; the same call may succeed later.
        * ``Throttled``: the engine asks for a slower pace, and went on asking until our patience ended.
    * ``AccessDenied`` (``PermissionError``): credentials are missing, wrong, or not allowed to do this.
    * ``StoreNotFound`` (``LookupError``): no such database, table, bucket or collection.
    * ``ConfigurationError`` (``ValueError``): a URL, an option or a setting that can't be right.
    * ``MissingDependency`` (``ImportError``): an extra isn't installed; the message has its pip line.
    * ``SyncError`` (``RuntimeError``): a sync stopped before its end; carries the report.
    * ``LeaseHeld`` (``RuntimeError``): another run holds the lease.
    * ``SuspendedError`` (``RuntimeError``): a backend awaited something real in a blocking store (its own fault).

Messages name the command or object and say what to do next. They never hold a payload, a password or a key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from commandstore.codec import Record
    from commandstore.command import BatchResult, Command
    from commandstore.contract import Outcome
    from commandstore.records import Fate
    from commandstore.replication.report import SyncReport

__all__ = [
    "AccessDenied",
    "CommandExists",
    "CommandStoreError",
    "ConfigurationError",
    "CorruptRecord",
    "DecryptionError",
    "InvalidCommand",
    "InvalidQuery",
    "LeaseHeld",
    "LedgerError",
    "MissingDependency",
    "ReadOnlyStore",
    "StoreClosed",
    "StoreNotFound",
    "StoreUnavailable",
    "SuspendedError",
    "SyncError",
    "Throttled",
    "Unsupported",
]


class CommandStoreError(Exception):
    """The root: catches whatever this library raises on purpose.

    What was done before an error is worth knowing whatever the error was, so every one can carry it:

    Attributes:
        outcomes: of an insert that ended so: what is known for each record, None where nothing is.
        fates: the same, as the facade counts them (duplicate or conflicting told apart).
        result: of a ``create_many`` that ended so: the commands whose fate is known.
    """

    outcomes: Sequence[Outcome | None] | None = None
    fates: Sequence[Fate | CommandStoreError | None] = ()
    result: BatchResult | None = None

    def __init__(self, message: str, **attributes: Any) -> None:
        super().__init__(message)
        self.message = message
        self.__dict__.update(attributes)

    def __str__(self) -> str:
        # OSError and KeyError, bases of some errors here, would format their arguments in their own way.
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, {k: v for k, v in self.__dict__.items() if k != "message"}))


def _rebuild(cls: type[CommandStoreError], message: str, attributes: dict[str, Any]) -> CommandStoreError:
    error = cls.__new__(cls, message)
    CommandStoreError.__init__(error, message, **attributes)
    return error


class CommandExists(CommandStoreError, ValueError):
    """A command with this uuid is stored already; nothing was changed.

    Attributes:
        existing: the stored command, or None where it was gone again before it could be read.
    """

    def __init__(self, message: str, *, existing: Command | None = None) -> None:
        super().__init__(message, existing=existing)
        self.existing = existing


class InvalidCommand(CommandStoreError, ValueError):
    """The command breaks a limit that the message names; nothing was written.

    Attributes:
        command_uuid: whose command, as far as it is known.
    """

    def __init__(self, message: str, *, command_uuid: str | None = None) -> None:
        super().__init__(message, command_uuid=command_uuid)
        self.command_uuid = command_uuid


class InvalidQuery(CommandStoreError, ValueError):
    """A filter, an order, a cursor or a uuid that can't be asked for; the store was not touched."""


class CorruptRecord(CommandStoreError, ValueError):
    """What is stored can't be read as a command.

    Attributes:
        command_uuid: the uuid, where it could be read.
        location: where the record lies (``"row 17"``, an item's key, an object's name).
    """

    def __init__(self, message: str, *, command_uuid: str | None = None, location: str | None = None) -> None:
        super().__init__(message, command_uuid=command_uuid, location=location)
        self.command_uuid = command_uuid
        self.location = location


class DecryptionError(CommandStoreError, ValueError):
    """A payload can't be decrypted: wrong or destroyed key, altered bytes, or plain data where cipher is expected.

    Attributes:
        command_uuid: whose payload.
        stored: the record as it is stored, where the store was told to keep such commands.
    """

    stored: Record | None = None

    def __init__(self, message: str, *, command_uuid: str | None = None) -> None:
        super().__init__(message, command_uuid=command_uuid)
        self.command_uuid = command_uuid

    def __reduce__(self) -> tuple[Any, ...]:
        # What is stored may be large, or plain where it should not be: not for whoever an error is sent to.
        return (_rebuild, (type(self), self.message, {"command_uuid": self.command_uuid}))


class LedgerError(CommandStoreError, ValueError):
    """What is in the ledger, or in a proof, can't be read, or does not fit what it speaks of.

    Attributes:
        sequence: of the ledger's entry, as far as it is known.
    """

    def __init__(self, message: str, *, sequence: int | None = None) -> None:
        super().__init__(message, sequence=sequence)
        self.sequence = sequence


class ReadOnlyStore(CommandStoreError, PermissionError):
    """The store was opened with ``read_only=True``; nothing was changed."""


class StoreClosed(CommandStoreError, RuntimeError):
    """The store was not initialised, is closed, or is used from another event loop than the one it was opened in."""


class Unsupported(CommandStoreError, NotImplementedError):
    """This backend, or the engine behind it, can't do what was asked; the message says what can be done instead."""


class StoreUnavailable(CommandStoreError, ConnectionError):
    """The store did not answer, or not in time, after all retries. The same call may succeed later."""


class Throttled(StoreUnavailable):
    """The engine asked for a slower pace until the retries were used up."""


class AccessDenied(CommandStoreError, PermissionError):
    """Credentials are missing, wrong or expired, or lack a permission that the message names."""


class StoreNotFound(CommandStoreError, LookupError):
    """The database, table, bucket or collection does not exist; the message says how to create it."""


class ConfigurationError(CommandStoreError, ValueError):
    """A URL, an option or a setting that can't be right; found before anything was touched."""


class MissingDependency(CommandStoreError, ImportError):
    """An optional dependency isn't installed; the message has the line that installs it."""


class SyncError(CommandStoreError, RuntimeError):
    """A sync stopped before its end. What it copied is durable, and its checkpoint says so.

    Attributes:
        report: what was done until then; ``report.complete`` is False.
    """

    def __init__(self, message: str, *, report: SyncReport | None = None) -> None:
        super().__init__(message, report=report)
        self.report = report


class LeaseHeld(CommandStoreError, RuntimeError):
    """Another run holds the lease; it is released at the end of that run, or when it expires."""


class SuspendedError(CommandStoreError, RuntimeError):
    """A coroutine of a backend suspended in a blocking store, where no event loop could resume it."""
