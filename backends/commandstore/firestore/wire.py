"""Requests to one database, again where that may help; answers as plain values.

Firestore's own habits are dealt with here, so that nobody above has to know them:

* a batch of writes has a code for each: only those that may succeed later are sent again, in smaller batches once the
  engine asks for a slower pace;
* a stream may end before its end, without an error: a batch of reads accounts for every name, and a query's answer is
  whole when it says so, when it has reached its limit, or when asking once more gives the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from google.cloud.firestore_v1.types import firestore as messages

from commandstore.aws.retry import Retry, Tries
from commandstore.drive import Drive
from commandstore.errors import StoreUnavailable, Throttled
from commandstore.firestore.client import Calls
from commandstore.firestore.faults import Code, Place, answer, by_code, is_condition, is_lost, is_lost_code, translate
from commandstore.firestore.requests import BATCH_BYTES, BATCH_WRITES, EMULATOR_BATCH_BYTES, cut, index_command
from commandstore.firestore.values import Document, from_timestamp, read, set_timestamp

__all__ = ["ConditionFailed", "Found", "Wire", "was_lost"]

BATCH_GET = 100
_SECONDS = 20.0
# Of what is large on its way there or back.
_LONG_SECONDS = 40.0
_LONG = frozenset({"batch_get_documents", "batch_write", "run_query", "run_aggregation_query"})
_ALIAS = "n"

_BatchGet: Any = messages.BatchGetDocumentsRequest.pb()
_BatchWrite: Any = messages.BatchWriteRequest.pb()
_Commit: Any = messages.CommitRequest.pb()
_Count: Any = messages.RunAggregationQueryRequest.pb()
_Query: Any = messages.RunQueryRequest.pb()

# What a write in a batch may say of its own document, conditions aside.
_ANSWERS = frozenset({Code.OK, Code.INVALID_ARGUMENT, Code.OUT_OF_RANGE})


class ConditionFailed(Exception):
    """A precondition of a commit did not hold, so nothing was changed by this attempt.

    Attributes:
        code: ``ALREADY_EXISTS``, ``NOT_FOUND`` or ``FAILED_PRECONDITION`` (an update time).
        lost: whether an earlier attempt of the same call may have had its effect.
    """

    def __init__(self, code: Code, *, lost: bool) -> None:
        super().__init__(f"a precondition did not hold ({code.name})")
        self.code = code
        self.lost = lost


class Found(NamedTuple):
    """What a query found."""

    documents: list[Document]
    read_time: int | None
    """When that was so, by the engine's clock; None where it doesn't say."""


class Wire:
    """Sends requests to one database.

    Args:
        calls: of a client that fits the drive.
        drive: pauses, and runs several requests at once.
        place: what errors are about, and whose database it is.
        retry: how long to try again.
        concurrency: how many requests at once.
    """

    def __init__(self, calls: Calls, drive: Drive, place: Place, *, retry: Retry, concurrency: int) -> None:
        self.place = place
        self.retry = retry
        self._calls = calls
        self._drive = drive
        self._concurrency = concurrency
        self._batch_bytes = BATCH_BYTES if place.emulator is None else EMULATOR_BATCH_BYTES
        self._pace = _Pace()
        self._says_done = False

    def tries(self) -> Tries:
        """For a call that repeats itself."""
        return Tries(self.retry, self._drive)

    # Reads

    async def batch_get(
        self, names: Sequence[str], fields: Sequence[str] | None = None, *, at: int | None = None
    ) -> dict[str, Document]:
        """The documents of these names, consistent; missing ones are left out.

        Args:
            names: distinct, whole.
            fields: only these; none at all with ``()``.
            at: as they were then, see :meth:`run_query`.
        """
        found: dict[str, Document] = {}
        batches = [names[start : start + BATCH_GET] for start in range(0, len(names), BATCH_GET)]
        jobs = [partial(self._batch_get, batch, fields, at, found) for batch in batches]
        await self._drive.gather(jobs, self._concurrency)
        return found

    async def _batch_get(
        self, names: Sequence[str], fields: Sequence[str] | None, at: int | None, found: dict[str, Document]
    ) -> None:
        tries = self.tries()
        while True:
            request = _BatchGet(database=self.place.database_name, documents=names)
            if fields is not None:
                request.mask.SetInParent()
                request.mask.field_paths.extend(fields)
            if at is not None:
                set_timestamp(request.read_time, at)
            answers = await self._stream("batch_get_documents", request)
            missing = {one.missing for one in answers if one.missing}
            for one in answers:
                if one.HasField("found"):
                    found[one.found.name] = read(one.found)
            left = [name for name in names if name not in found and name not in missing]
            if not left:
                return
            if len(left) < len(names):
                tries.progress()
            await tries.again(self._ended_early("batch_get_documents"))
            names = left

    async def run_query(self, parent: str, query: Any, *, at: int | None = None) -> Found:
        """All documents that a query finds, in its order: give it a limit.

        Args:
            parent: of the collection: ``place.root``, or the name of a document.
            query: a ``StructuredQuery``; ``requests.query`` makes one.
            at: the :attr:`Found.read_time` of a query before, less than an hour ago: what was there then is found.
        """
        request = _Query(parent=parent)
        request.structured_query.CopyFrom(query)
        if at is not None:
            set_timestamp(request.read_time, at)
        limit = query.limit.value if query.HasField("limit") else None
        tries = self.tries()
        before: list[str] | None = None
        while True:
            answers = await self._stream("run_query", request, query=query)
            found = [one.document for one in answers if one.HasField("document")]
            # The engine may say that this was all. One that never does is asked once more; of one that does, an answer
            # that doesn't say so is none, however often it comes.
            names = [document.name for document in found]
            done = any(one.done for one in answers)
            self._says_done = self._says_done or done
            if done or len(found) == limit or (answers and names == before and not self._says_done):
                return Found([read(document) for document in found], from_timestamp(answers[-1].read_time) or at)
            before = names if answers else []
            await tries.again(self._ended_early("run_query"))

    async def count(self, parent: str, query: Any) -> int:
        """How many documents a query finds, exactly; none of them is read."""
        request = _Count(parent=parent)
        aggregation = request.structured_aggregation_query
        aggregation.structured_query.CopyFrom(query)
        counted = aggregation.aggregations.add()
        counted.alias = _ALIAS
        counted.count.SetInParent()
        tries = self.tries()
        while True:
            for one in await self._stream("run_aggregation_query", request, query=query):
                fields = one.result.aggregate_fields
                if _ALIAS in fields:
                    total: int = fields[_ALIAS].integer_value
                    return total
            await tries.again(self._ended_early("run_aggregation_query"))

    # Writes

    async def batch_write(
        self, writes: Sequence[Any], codes: list[int | None] | None = None, lost: set[int] | None = None
    ) -> list[int]:
        """Writes of distinct documents, each for itself; what became of each, as one of gRPC's codes.

        A write whose answer was lost is sent again: with ``exists: false`` it may then find itself, and says
        ``ALREADY_EXISTS``.

        Args:
            writes: made by ``requests``.
            codes: filled with what is known, aligned, so that it is there after an error as well.
            lost: filled with the indexes of those that may have been done by an attempt whose answer was lost.

        Raises:
            StoreUnavailable: the fate of some is unknown after all tries.
            CommandStoreError: the request, or one write, was refused for a reason that isn't one document's.
        """
        known: list[int | None] = codes if codes is not None else []
        known[:] = [None] * len(writes)
        batches = cut(writes, BATCH_WRITES, self._batch_bytes)
        await self._drive.gather(
            [partial(self._write, writes, known, set() if lost is None else lost, indexes) for indexes in batches],
            self._concurrency,
        )
        return [code for code in known if code is not None]

    async def _write(self, writes: Sequence[Any], codes: list[int | None], lost: set[int], waiting: list[int]) -> None:
        tries = self.tries()
        while waiting:
            size = self._pace.size
            sent, rest = waiting[:size], waiting[size:]
            request = _BatchWrite(database=self.place.database_name)
            request.writes.extend(writes[index] for index in sent)
            try:
                answered = await self._once("batch_write", request)
            except StoreUnavailable as error:
                if was_lost(error):
                    lost.update(sent)
                self._pace.slower(error)
                await tries.again(error)
                continue
            left, failure = self._understand(sent, answered, codes, lost)
            if len(left) < len(sent):
                tries.progress()
            if failure is None:
                self._pace.faster()
            else:
                self._pace.slower(failure)
                await tries.again(failure)
            waiting = left + rest

    def _understand(
        self, sent: list[int], answered: Any, codes: list[int | None], lost: set[int]
    ) -> tuple[list[int], StoreUnavailable | None]:
        """Note what became of each; returned is what is to be sent again, and why."""
        if len(answered.status) != len(sent):
            lost.update(sent)
            return sent, self._ended_early("batch_write")
        left: list[int] = []
        failure: StoreUnavailable | None = None
        for index, status in zip(sent, answered.status, strict=True):
            code = status.code
            if code in _ANSWERS or is_condition(code, status.message):
                codes[index] = code
                continue
            error = by_code(code, status.message, "batch_write", self.place)
            if not isinstance(error, StoreUnavailable):
                raise error
            if is_lost_code(code):
                lost.add(index)
            left.append(index)
            failure = error
        return left, failure

    async def commit(self, writes: Sequence[Any], *, once: bool = False) -> list[int]:
        """Writes that happen together or not at all; their update times (0 for removals), aligned.

        Args:
            writes: made by ``requests``.
            once: don't send it again by itself; the caller looks first.

        Raises:
            ConditionFailed: a precondition of one did not hold.
            CommandStoreError: translated; ``StoreUnavailable`` once all attempts are used up.
        """
        request = _Commit(database=self.place.database_name)
        request.writes.extend(writes)
        answered = await self._call("commit", request, once=once)
        return [from_timestamp(result.update_time) for result in answered.write_results]

    # One request

    async def _call(self, method: str, request: Any, *, once: bool = False) -> Any:
        """A request and its answer, again where that may help."""
        tries = self.tries()
        lost = False
        while True:
            try:
                return await self._once(method, request, lost=lost)
            except StoreUnavailable as error:
                if once:
                    raise
                lost = lost or was_lost(error)
                failure = error
            await tries.again(failure)

    async def _stream(self, method: str, request: Any, *, query: Any = None) -> list[Any]:
        tries = self.tries()
        while True:
            try:
                return await self._streamed(method, request, query)
            except StoreUnavailable as error:
                failure = error
            await tries.again(failure)

    async def _once(self, method: str, request: Any, *, lost: bool = False) -> Any:
        try:
            return await self._calls.unary(method, request, _seconds(method))
        except Exception as error:
            said = answer(error)
            if said is not None and method == "commit" and is_condition(said.code, said.message):
                raise ConditionFailed(said.code, lost=lost) from error
            translated = translate(error, method, self.place)
            if translated is None:
                raise
            raise translated from error

    async def _streamed(self, method: str, request: Any, query: Any) -> list[Any]:
        try:
            return await self._calls.stream(method, request, _seconds(method))
        except Exception as error:
            index = index_command(query, self.place.project, self.place.database) if query is not None else None
            translated = translate(error, method, self.place, index=index)
            if translated is None:
                raise
            raise translated from error

    def _ended_early(self, method: str) -> StoreUnavailable:
        return StoreUnavailable(f"{self.place.host} ended its answer to {method} on {self.place.where} early")


class _Pace:
    """How many writes go at once: halved where the engine or the line is too slow for them, doubled with success."""

    _SMALLEST = 20

    def __init__(self) -> None:
        self.size = BATCH_WRITES

    def slower(self, error: StoreUnavailable) -> None:
        said = answer(error.__cause__) if error.__cause__ is not None else None
        if isinstance(error, Throttled) or (said is not None and said.code is Code.DEADLINE_EXCEEDED):
            self.size = max(self._SMALLEST, self.size // 2)

    def faster(self) -> None:
        self.size = min(BATCH_WRITES, self.size * 2)


def _seconds(method: str) -> float:
    return _LONG_SECONDS if method in _LONG else _SECONDS


def was_lost(error: StoreUnavailable) -> bool:
    """Whether the request that ended so may have had its effect."""
    return error.__cause__ is not None and is_lost(error.__cause__)
