"""CommandStore and AsyncCommandStore: comby's contract, blocking and for asyncio, over any backend."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self, Unpack

from commandstore.command import BatchResult, Command, CommandQuery, Page, StoreInfo
from commandstore.contract import Backend, Key
from commandstore.core import PAGE, Filters, StoreCore, StoreOptions, askable, is_int, readable
from commandstore.crypto import Crypto
from commandstore.drive import AsyncDrive, BlockingDrive, Drive, run
from commandstore.errors import CommandStoreError, InvalidQuery
from commandstore.ledger.signing import Signer

__all__ = ["AsyncCommandStore", "CommandStore"]


class _Facade:
    """What the two facades share: how they are made and how they show themselves."""

    def __init__(self, backend: Backend, drive: Drive) -> None:
        self.core = StoreCore(backend, drive)

    @property
    def options(self) -> StoreOptions:
        """How the store was initialised."""
        return self.core.options

    def __str__(self) -> str:
        return self.core.backend.location

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self})"


class CommandStore(_Facade):
    """comby's CommandStore, blocking. Safe to use from several threads.

    Args:
        backend: where commands are kept. ``open_store(url)`` makes both and initialises the store.

    Every method raises ``StoreClosed`` before ``init`` and after ``close``, ``StoreUnavailable`` when the engine does
    not answer after all retries, and ``AccessDenied`` when it refuses the credentials.
    """

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend, BlockingDrive())

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
        """Connect. On an open store, only the options change.

        Args:
            read_only: refuse writes; nothing is created.
            crypto: seals and opens payloads.
            attributes: kept, and given back by ``options``.
            create: make the table (bucket, file) where there is none.
            on_undecryptable: what becomes of a command whose payload can't be decrypted: ``"raise"``, or ``"keep"``,
                which gives it as a :class:`~commandstore.SealedCommand`.
            signer: record whatever is written in the store's ledger, signed by this. A command is recorded after it
                was created, and before it is updated or deleted.

        Raises:
            StoreNotFound: there is none, and it was not to be created.
            ConfigurationError: an option that can't be.
        """
        options = StoreOptions(read_only, crypto, dict(attributes or {}), on_undecryptable, signer)
        run(self.core.init(options, create=create))

    def create(self, command: Command) -> None:
        """Store a new command. Atomic; visible to every ``get`` from then on.

        Raises:
            ReadOnlyStore: the store is read-only.
            InvalidCommand: it can't be stored; nothing was written.
            CommandExists: one with this uuid is there, whatever its content; it was not changed.
        """
        run(self.core.create(command))

    def create_many(self, commands: Iterable[Command]) -> BatchResult:
        """Store many commands by the engine's bulk path. Each is atomic, the whole is not.

        Never raises for one bad command: the result accounts for every one. What is there is never overwritten.

        Raises:
            ReadOnlyStore: the store is read-only.
            StoreUnavailable: some fates are unknown; ``error.result`` accounts for the others, as it does in every
                other error that ends this call (``AccessDenied``). Trying the same
                commands again is safe.
        """
        return run(self.core.create_many(commands))

    def get(self, command_uuid: str) -> Command | None:
        """The command of this uuid, None when there is none. Reads one's own and everybody's acknowledged writes.

        Raises:
            InvalidQuery: the uuid is empty or not text.
            CorruptRecord: what is stored can't be read as a command.
            DecryptionError: it can't be decrypted.
        """
        return run(self.core.get(command_uuid))

    def get_many(self, command_uuids: Iterable[str]) -> dict[str, Command]:
        """The commands of these uuids, by uuid, in the order of the input; missing ones are left out.

        Raises:
            InvalidQuery, CorruptRecord, DecryptionError: as ``get``.
        """
        return run(self.core.get_many(command_uuids))

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
        """One page of commands in the total order; ``commands, total = store.list(...)`` unpacks it.

        Args:
            offset: skip so many; costs their reading. A cursor costs nothing.
            limit: at most so many; 0: none, but the real total; negative: no limit.
            order_by: ``"created_at"``, or a further name that the backend declares.
            ascending: False for the exact reverse.
            cursor: of the page before, with the same filters and order.
            with_total: count what matches in all; costs a ``total``.
            filters: see :class:`CommandQuery`; None is no filter, ``""`` is exactly empty.

        Raises:
            InvalidQuery: an unknown filter or order, a damaged or foreign cursor, a cursor with an offset.

        Records that can't be read are in ``page.corrupt`` and stop nothing. May lag behind writes where the backend
        says so (``list_is_consistent``).
        """
        query = self.core.query(filters, order_by=order_by, ascending=ascending)
        return run(self.core.list(query, offset=offset, limit=limit, cursor=cursor, with_total=with_total))

    def scan(
        self,
        *,
        order_by: str = "created_at",
        ascending: bool = True,
        page_size: int = PAGE,
        on_corrupt: Callable[[CommandStoreError], None] | None = None,
        **filters: Unpack[Filters],
    ) -> Iterator[Command]:
        """Everything that matches, in order, in constant memory.

        Args:
            order_by: as ``list``.
            ascending: as ``list``.
            page_size: how many are read at once.
            on_corrupt: called for a record that can't be read, which is then passed over; without it, the error is
                raised.
            filters: as ``list``.
        """
        query = self.core.query(filters, order_by=order_by, ascending=ascending)
        return self._scan(query, _page_size(page_size), on_corrupt)

    def _scan(
        self, query: CommandQuery, size: int, on_corrupt: Callable[[CommandStoreError], None] | None
    ) -> Iterator[Command]:
        key: Key | None = None
        while askable(query):
            found = run(self.core.pages(query, key, size))
            yield from readable(found, on_corrupt)
            if (key := found.next_key) is None:
                return

    def total(self, **filters: Unpack[Filters]) -> int:
        """How many commands match, exactly. Raises on failure; 0 means none."""
        return run(self.core.total(self.core.query(filters)))

    def update(self, command: Command) -> bool:
        """Replace the command of this uuid as a whole; False when there is none. Readers see the old or the new.

        Raises:
            ReadOnlyStore, InvalidCommand: as ``create``.
        """
        return run(self.core.update(command))

    def delete(self, command_uuid: str) -> bool:
        """Remove the command of this uuid; False when there is none.

        Raises:
            ReadOnlyStore: the store is read-only.
            InvalidQuery: the uuid is empty or not text.
        """
        return run(self.core.delete(command_uuid))

    def info(self) -> StoreInfo:
        """Count, greatest created_at and place; 0 and 0 when empty. Costs a total and a page of one."""
        return run(self.core.info())

    def reset(self) -> None:
        """Remove every command and checkpoint; the store stays usable."""
        run(self.core.reset())

    def compact(self) -> dict[str, int]:
        """Rewrite what is stored so that reads cost less; what is read stays the same. Safe beside readers and writers.

        Returns:
            Counts of what was done, under names of the backend's.

        Raises:
            ReadOnlyStore: the store is read-only.
            Unsupported: this backend has nothing to compact.
        """
        return run(self.core.compact())

    def gc(self, grace: float = 86400.0) -> dict[str, int]:
        """Remove what no command refers to, as what a killed writer left behind. Removes no command.

        Args:
            grace: seconds; only what is older goes. Must be longer than any write takes from its first step to its
                last; 0 only where nobody writes.

        Returns:
            Counts of what was done, under names of the backend's.

        Raises:
            ReadOnlyStore: the store is read-only.
            ConfigurationError: grace is negative or no number.
            Unsupported: this backend leaves no garbage.
        """
        return run(self.core.gc(grace))

    def close(self) -> None:
        """Let go of connections and threads. A second call does nothing."""
        run(self.core.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncCommandStore(_Facade):
    """comby's CommandStore for asyncio; the same contract as :class:`CommandStore`, whose docstrings hold here too.

    Belongs to the event loop that it was initialised in; used from another, it raises ``StoreClosed``.
    """

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend, AsyncDrive())

    async def init(
        self,
        *,
        read_only: bool = False,
        crypto: Crypto | None = None,
        attributes: Mapping[str, Any] | None = None,
        create: bool = True,
        on_undecryptable: str = "raise",
        signer: Signer | None = None,
    ) -> None:
        """See :meth:`CommandStore.init`."""
        options = StoreOptions(read_only, crypto, dict(attributes or {}), on_undecryptable, signer)
        await self.core.init(options, create=create)

    async def create(self, command: Command) -> None:
        """See :meth:`CommandStore.create`."""
        await self.core.create(command)

    async def create_many(self, commands: Iterable[Command]) -> BatchResult:
        """See :meth:`CommandStore.create_many`."""
        return await self.core.create_many(commands)

    async def get(self, command_uuid: str) -> Command | None:
        """See :meth:`CommandStore.get`."""
        return await self.core.get(command_uuid)

    async def get_many(self, command_uuids: Iterable[str]) -> dict[str, Command]:
        """See :meth:`CommandStore.get_many`."""
        return await self.core.get_many(command_uuids)

    async def list(
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
        """See :meth:`CommandStore.list`."""
        query = self.core.query(filters, order_by=order_by, ascending=ascending)
        return await self.core.list(query, offset=offset, limit=limit, cursor=cursor, with_total=with_total)

    def scan(
        self,
        *,
        order_by: str = "created_at",
        ascending: bool = True,
        page_size: int = PAGE,
        on_corrupt: Callable[[CommandStoreError], None] | None = None,
        **filters: Unpack[Filters],
    ) -> AsyncIterator[Command]:
        """See :meth:`CommandStore.scan`; for ``async for``."""
        query = self.core.query(filters, order_by=order_by, ascending=ascending)
        return self._scan(query, _page_size(page_size), on_corrupt)

    async def _scan(
        self, query: CommandQuery, size: int, on_corrupt: Callable[[CommandStoreError], None] | None
    ) -> AsyncIterator[Command]:
        key: Key | None = None
        while askable(query):
            found = await self.core.pages(query, key, size)
            for command in readable(found, on_corrupt):
                yield command
            if (key := found.next_key) is None:
                return

    async def total(self, **filters: Unpack[Filters]) -> int:
        """See :meth:`CommandStore.total`."""
        return await self.core.total(self.core.query(filters))

    async def update(self, command: Command) -> bool:
        """See :meth:`CommandStore.update`."""
        return await self.core.update(command)

    async def delete(self, command_uuid: str) -> bool:
        """See :meth:`CommandStore.delete`."""
        return await self.core.delete(command_uuid)

    async def info(self) -> StoreInfo:
        """See :meth:`CommandStore.info`."""
        return await self.core.info()

    async def reset(self) -> None:
        """See :meth:`CommandStore.reset`."""
        await self.core.reset()

    async def compact(self) -> dict[str, int]:
        """See :meth:`CommandStore.compact`."""
        return await self.core.compact()

    async def gc(self, grace: float = 86400.0) -> dict[str, int]:
        """See :meth:`CommandStore.gc`."""
        return await self.core.gc(grace)

    async def close(self) -> None:
        """See :meth:`CommandStore.close`."""
        await self.core.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _page_size(size: int) -> int:
    if not is_int(size) or size < 1:
        raise InvalidQuery("page_size must be at least 1")
    return size
