"""Sealing and opening: the one place between plain records and what is stored. ``crypto/`` has the ciphers."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Sequence

from commandstore import codec
from commandstore.codec import Record
from commandstore.crypto import Context, Crypto, NoKey, Sealed
from commandstore.drive import Drive
from commandstore.errors import DecryptionError

__all__ = ["Sealing"]


class Sealing:
    """Seals and opens records of one store.

    What concerns one record is an error in its place, so that it concerns that record alone.

    Args:
        crypto: the crypto service; None keeps payloads plain.
        as_hex: sealed payloads are kept as lower-case hex, without the cipher's name and without a digest.
        drive: runs what has to ask for keys.
    """

    def __init__(self, crypto: Crypto | None, *, as_hex: bool, drive: Drive) -> None:
        self._crypto = crypto
        self._as_hex = as_hex
        self._drive = drive

    @property
    def digests_are_of_ciphers(self) -> bool:
        """Whether the stored digests can't be compared, as they are over ciphers, of which no two are alike."""
        return self._as_hex and self._crypto is not None

    async def seal(self, records: Sequence[Record]) -> list[Record | DecryptionError]:
        """Plain records as they are stored."""
        crypto = self._crypto
        if crypto is None:
            return list(records)
        contexts = _contexts(records)
        work = crypto.prepare(sealing=contexts)
        if work is not None:
            await self._drive.call(work)
        sealed: list[Record | DecryptionError] = []
        for record, context in zip(records, contexts, strict=True):
            try:
                data, cipher = crypto.seal(record.data, context)
                if self._as_hex:
                    sealed.append(record._replace(data=data.hex().encode("ascii")))
                else:
                    digest = crypto.digest(record.digest, context)
                    sealed.append(Record(*record[:8], data, record.req_ctx, digest, cipher, record.format))
            except DecryptionError as error:
                sealed.append(_named(record, error))
        return sealed

    async def keyed(self, records: Sequence[Record]) -> list[bytes | DecryptionError]:
        """The digests of plain records as this store keeps them beside sealed ones.

        ``b""`` where their tenant has no key yet: nothing of it can be there.
        """
        crypto = self._crypto
        if crypto is None or self._as_hex:
            return [record.digest for record in records]
        contexts = _contexts(records)
        work = crypto.prepare(digesting=contexts)
        if work is not None:
            await self._drive.call(work)
        digests: list[bytes | DecryptionError] = []
        for record, context in zip(records, contexts, strict=True):
            try:
                digests.append(crypto.digest(record.digest, context))
            except NoKey:
                digests.append(b"")
            except DecryptionError as error:
                digests.append(_named(record, error))
        return digests

    async def open(self, records: Sequence[Record]) -> list[Record | DecryptionError]:
        """Stored records, plain; their digests are those of the plain commands."""
        crypto = self._crypto
        if crypto is None:
            return [_unless_sealed(record) if record.cipher else record for record in records]
        found = [self._sealed(record) for record in records]
        contexts = _contexts(records)
        there = [
            (sealed, context) for sealed, context in zip(found, contexts, strict=True) if isinstance(sealed, Sealed)
        ]
        work = crypto.prepare(opening=there)
        if work is not None:
            await self._drive.call(work)
        return [
            self._opened(crypto, record, sealed, context) if isinstance(sealed, Sealed) else _named(record, sealed)
            for record, sealed, context in zip(records, found, contexts, strict=True)
        ]

    def _sealed(self, record: Record) -> Sealed | DecryptionError:
        if not self._as_hex:
            if record.cipher:
                return Sealed(record.data, record.cipher)
            return DecryptionError("plain data where cipher is expected")
        try:
            return Sealed(bytes.fromhex(record.data.decode("ascii")), "")
        except ValueError:
            return DecryptionError("the payload is not hex: plain data where cipher is expected")

    def _opened(self, crypto: Crypto, record: Record, sealed: Sealed, context: Context) -> Record | DecryptionError:
        try:
            plain = codec.plain_record(*record[:7], crypto.open(sealed, context), record.req_ctx)
            if not self._as_hex and not hmac.compare_digest(crypto.digest(plain.digest, context), record.digest):
                raise DecryptionError(  # noqa: TRY301 - named just below
                    "the payload is another command's, or a field beside it was altered: its digest does not fit"
                )
        except DecryptionError as error:
            return _named(record, error)
        return plain


def _contexts(records: Iterable[Record]) -> list[Context]:
    return [Context(record.tenant_uuid, record.command_uuid) for record in records]


def _unless_sealed(record: Record) -> DecryptionError:
    uuid = record.command_uuid
    return DecryptionError(
        f"command {uuid!a} is encrypted ({record.cipher}); open the store with its crypto service",
        command_uuid=uuid,
    )


def _named(record: Record, error: DecryptionError) -> DecryptionError:
    """The error, naming the command."""
    uuid = record.command_uuid
    named = DecryptionError(f"command {uuid!a}: {error}", command_uuid=uuid)
    named.__cause__ = error
    return named
