"""What the laws are tried with: a place for one store, and a laboratory that opens it with or without an event loop.

Laws are written once, against the blocking API. Under the async drive a store is an :class:`OverAsync`: an
``AsyncCommandStore`` whose every call is run in one event loop, which all stores of a test share.
"""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack

import pytest

from commandstore.command import BatchResult, Command, Page, StoreInfo
from commandstore.contract import Backend
from commandstore.core import PAGE, Filters
from commandstore.crypto import Crypto
from commandstore.drive import run
from commandstore.errors import CommandStoreError, InvalidCommand
from commandstore.ledger.signing import Signer
from commandstore.store import AsyncCommandStore, CommandStore

__all__ = ["DriveName", "Lab", "OverAsync", "Place"]

T = TypeVar("T")
DriveName = Literal["blocking", "async"]


class Place(ABC):
    """Where one store can be, fresh and empty when a test gets it. This is what the author of a backend supplies."""

    @abstractmethod
    def make_backend(self) -> Backend:
        """A backend for this place. Each call is another process that opens the same store."""

    @abstractmethod
    def raw_uuids(self) -> set[str]:
        """The uuids of all commands that are really stored, read past the store (an SDK client, a file)."""

    @abstractmethod
    def raw_payload(self, command_uuid: str) -> bytes:
        """The payload as it is really stored, read past the store; put together where the engine splits it."""

    def make_absent_backend(self) -> Backend | None:
        """A backend for a place of the same kind where there is no store yet; None: there always is one."""
        return None

    def holds(self, command: Command) -> bool:
        """Whether the engine can hold the values of this command. What it can't is ``InvalidCommand``, unwritten."""
        del command
        return True

    def settle(self) -> None:  # noqa: B027 - nothing to wait for where what is written is listed at once
        """Wait until what was written is listed; for engines whose ``list_is_consistent`` is False, if they do lag."""

    def damage(self, command_uuid: str) -> None:
        """Make what is stored for this uuid unreadable, past the store. Only ``CorruptRecordLaws`` asks for it."""
        raise NotImplementedError(f"{type(self).__name__} can't damage {command_uuid!a}")


class OverAsync(CommandStore):
    """An ``AsyncCommandStore`` with the blocking API: each call runs to its end in the given event loop."""

    def __init__(self, backend: Backend, runner: asyncio.Runner) -> None:
        self._store = AsyncCommandStore(backend)
        self._runner = runner
        self.core = self._store.core

    def init(
        self,
        *,
        read_only: bool = False,
        crypto: Crypto | None = None,
        attributes: Mapping[str, Any] | None = None,
        create: bool = True,
        on_undecryptable: str = "raise",
        signer: Signer | None = None,
    ) -> None:
        self._runner.run(
            self._store.init(
                read_only=read_only,
                crypto=crypto,
                attributes=attributes,
                create=create,
                on_undecryptable=on_undecryptable,
                signer=signer,
            )
        )

    def create(self, command: Command) -> None:
        self._runner.run(self._store.create(command))

    def create_many(self, commands: Iterable[Command]) -> BatchResult:
        return self._runner.run(self._store.create_many(commands))

    def get(self, command_uuid: str) -> Command | None:
        return self._runner.run(self._store.get(command_uuid))

    def get_many(self, command_uuids: Iterable[str]) -> dict[str, Command]:
        return self._runner.run(self._store.get_many(command_uuids))

    def list(
        self,
        *,
        offset: int = 0,
        limit: int = 100,
        order_by: str = "created_at",
        ascending: bool = True,
        cursor: str | None = None,
        with_total: bool = True,
        **filters: Unpack[Filters],
    ) -> Page:
        return self._runner.run(
            self._store.list(
                offset=offset,
                limit=limit,
                order_by=order_by,
                ascending=ascending,
                cursor=cursor,
                with_total=with_total,
                **filters,
            )
        )

    def scan(
        self,
        *,
        order_by: str = "created_at",
        ascending: bool = True,
        page_size: int = PAGE,
        on_corrupt: Callable[[CommandStoreError], None] | None = None,
        **filters: Unpack[Filters],
    ) -> Iterator[Command]:
        found = self._store.scan(
            order_by=order_by, ascending=ascending, page_size=page_size, on_corrupt=on_corrupt, **filters
        )

        async def following() -> Command | None:
            return await anext(found, None)

        # Not a generator as a whole, so that a bad query is an error of the call, as it is in the other drive.
        return iter(lambda: self._runner.run(following()), None)

    def total(self, **filters: Unpack[Filters]) -> int:
        return self._runner.run(self._store.total(**filters))

    def update(self, command: Command) -> bool:
        return self._runner.run(self._store.update(command))

    def delete(self, command_uuid: str) -> bool:
        return self._runner.run(self._store.delete(command_uuid))

    def info(self) -> StoreInfo:
        return self._runner.run(self._store.info())

    def reset(self) -> None:
        self._runner.run(self._store.reset())

    def compact(self) -> dict[str, int]:
        return self._runner.run(self._store.compact())

    def gc(self, grace: float = 86400.0) -> dict[str, int]:
        return self._runner.run(self._store.gc(grace))

    def close(self) -> None:
        self._runner.run(self._store.close())

    def __repr__(self) -> str:
        return repr(self._store)


class Lab:
    """One place, opened as often as a law wants, in one drive. A context manager that closes what it opened."""

    def __init__(self, place: Place, drive: DriveName) -> None:
        self.place = place
        self.drive = drive
        self._runner = asyncio.Runner() if drive == "async" else None
        self._stores: list[CommandStore] = []

    def closed(self, backend: Backend | None = None) -> CommandStore:
        """A store that is not initialised yet."""
        backend = backend or self.place.make_backend()
        store = OverAsync(backend, self._runner) if self._runner else CommandStore(backend)
        self._stores.append(store)
        return store

    def open(
        self,
        *,
        read_only: bool = False,
        crypto: Crypto | None = None,
        attributes: Mapping[str, Any] | None = None,
        create: bool = True,
        on_undecryptable: str = "raise",
        signer: Signer | None = None,
    ) -> CommandStore:
        """A store at the place, over a backend of its own: another process, as it were."""
        store = self.closed()
        store.init(
            read_only=read_only,
            crypto=crypto,
            attributes=attributes,
            create=create,
            on_undecryptable=on_undecryptable,
            signer=signer,
        )
        return store

    def do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a primitive of an open store's backend, as its drive does."""
        return self._runner.run(coroutine) if self._runner else run(coroutine)

    def race(self, jobs: Sequence[Coroutine[Any, Any, T]]) -> list[T | Exception]:
        """Run coroutines of cores or backends at once, on threads or as tasks; what each returned or raised."""
        if self._runner:
            return self._runner.run(_together(jobs))
        start = threading.Barrier(len(jobs))

        def attempt(job: Coroutine[Any, Any, T]) -> T | Exception:
            start.wait()
            return run(_caught(job))

        with ThreadPoolExecutor(len(jobs)) as pool:
            return list(pool.map(attempt, jobs))

    def fill(self, store: CommandStore, commands: Iterable[Command]) -> list[Command]:
        """Store new commands, wait until they are listed, and give them back in the total order."""
        new = list(commands)
        result = store.create_many(new)
        assert sorted(result.created) == sorted(command.command_uuid for command in new), result
        self.place.settle()
        return sorted(new, key=lambda command: command.position)

    def keeps(self, store: CommandStore, command: Command) -> None:
        """Check that a command comes back as it is; where the engine can't hold it, that nothing was written."""
        uuid = command.command_uuid
        if self.place.holds(command):
            store.create(command)
            assert store.get(uuid) == command, f"{command!r} came back otherwise"
            assert self.place.raw_payload(uuid) == command.data_bytes
        else:
            self.refuses(store, command)

    def refuses(self, store: CommandStore, command: Command) -> None:
        """Check that a command is ``InvalidCommand`` to every write, and that nothing was written."""
        before = self.place.raw_uuids()
        with pytest.raises(InvalidCommand):
            store.create(command)
        with pytest.raises(InvalidCommand):
            store.update(command)
        result = store.create_many([command])
        assert [failure.command_uuid for failure in result.failed] == [command.command_uuid]
        assert isinstance(result.failed[0].error, InvalidCommand)
        assert len(result) == 1
        assert self.place.raw_uuids() == before

    def close(self) -> None:
        """Close every store, then the event loop."""
        try:
            while self._stores:
                self._stores.pop().close()
        finally:
            if self._runner:
                self._runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


async def _caught(job: Coroutine[Any, Any, T]) -> T | Exception:
    try:
        return await job
    except Exception as error:  # noqa: BLE001 - the law looks at it
        return error


async def _together(jobs: Sequence[Coroutine[Any, Any, T]]) -> list[T | Exception]:
    return await asyncio.gather(*(_caught(job) for job in jobs))
