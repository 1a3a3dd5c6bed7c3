"""A plan's faults as DynamoDB and S3 show them: which request can have which, and what it looks like.

For clients that are called with the SDK's own parameters, and for those of ``commandstore.dynamodb``, whose requests
are JSON in ``Body``.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from errno import ECONNRESET
from functools import partial
from random import Random
from typing import Any, Literal

import botocore.exceptions as sdk
import orjson
from botocore.parsers import ResponseParserError
from urllib3.exceptions import NewConnectionError

from commandstore.testing.faults.client import TornBody, client_error
from commandstore.testing.faults.plan import Fault, FaultPlan
from commandstore.testing.faults.script import Passage

__all__ = ["AwsFaults"]

_URL = "http://127.0.0.1"
_BODY = "commandstore_body"
# In seconds; the SDK's clients here give up on an answer after 20.
_SLOW = 15.0

_EVERY = (
    Fault.THROTTLED,
    Fault.UNAVAILABLE_BEFORE,
    Fault.UNAVAILABLE_AFTER,
    Fault.TIMEOUT_BEFORE,
    Fault.TIMEOUT_AFTER,
    Fault.NOT_CONNECTED,
    Fault.RESET_BEFORE,
    Fault.RESET_AFTER,
    Fault.EXPIRED,
    Fault.SKEWED,
    Fault.SLOW,
)
_MORE: Mapping[tuple[str, str], tuple[Fault, ...]] = {
    ("dynamodb", "batch_execute_statement"): (Fault.PARTIAL, Fault.CUT_SHORT),
    ("dynamodb", "batch_get_item"): (Fault.PARTIAL, Fault.CUT_SHORT),
    ("dynamodb", "batch_write_item"): (Fault.PARTIAL, Fault.CUT_SHORT),
    ("dynamodb", "delete_item"): (Fault.CONFLICT,),
    ("dynamodb", "put_item"): (Fault.CONFLICT, Fault.CUT_SHORT),
    ("dynamodb", "query"): (Fault.CUT_SHORT,),
    ("s3", "delete_object"): (Fault.CONFLICT, Fault.SENT_TWICE),
    ("s3", "get_object"): (Fault.CUT_SHORT,),
    ("s3", "list_objects_v2"): (Fault.CUT_SHORT,),
    # A PUT may be sent again by what carries it: aiohttp does so when a kept connection turns out to be closed.
    ("s3", "put_object"): (Fault.CONFLICT, Fault.SENT_TWICE),
}
_CODES: Mapping[tuple[str, Fault], tuple[tuple[str, int], ...]] = {
    ("dynamodb", Fault.THROTTLED): (
        ("ProvisionedThroughputExceededException", 400),
        ("ThrottlingException", 400),
        ("RequestLimitExceeded", 400),
    ),
    ("dynamodb", Fault.UNAVAILABLE_BEFORE): (("InternalServerError", 500), ("ServiceUnavailable", 503)),
    ("dynamodb", Fault.CONFLICT): (("TransactionConflictException", 400),),
    ("dynamodb", Fault.EXPIRED): (("ExpiredTokenException", 400),),
    ("dynamodb", Fault.SKEWED): (("InvalidSignatureException", 400),),
    ("s3", Fault.THROTTLED): (("SlowDown", 503), ("RequestThrottled", 503)),
    ("s3", Fault.UNAVAILABLE_BEFORE): (("InternalError", 500), ("ServiceUnavailable", 503)),
    ("s3", Fault.CONFLICT): (("OperationAborted", 409), ("ConditionalRequestConflict", 409)),
    ("s3", Fault.EXPIRED): (("ExpiredToken", 400),),
    ("s3", Fault.SKEWED): (("RequestTimeTooSkewed", 403),),
}
_LOST = {
    Fault.UNAVAILABLE_AFTER: Fault.UNAVAILABLE_BEFORE,
    Fault.TIMEOUT_AFTER: Fault.TIMEOUT_BEFORE,
    Fault.RESET_AFTER: Fault.RESET_BEFORE,
}
_FINAL = {Fault.EXPIRED, Fault.SKEWED}
_STATEMENT = ("ProvisionedThroughputExceeded", "ThrottlingError", "InternalServerError", "TransactionConflict")


class AwsFaults:
    """A plan's faults, for ``faulty_session`` and ``faulty_client``.

    Args:
        plan: decides.
        service: whose clients: ``"dynamodb"`` or ``"s3"``.
        is_async: whether they are aioboto3's.
    """

    def __init__(self, plan: FaultPlan, service: Literal["dynamodb", "s3"], *, is_async: bool = False) -> None:
        self.plan = plan
        self._service = service
        self._is_async = is_async

    def sent(self, method: str, request: dict[str, Any]) -> Passage | None:
        """See :class:`Intercepts`."""
        time = self.plan.time
        if time.owes(method):
            time.sent(method, _print(request))
        possible = _EVERY + _MORE.get((self._service, method), ())
        fault, random = self.plan.decide(method, possible)
        if fault is None:
            return None
        if fault is Fault.PARTIAL:
            passage = self._partial(method, request, random)
            if passage is not None:  # else, as it happens, nothing is left undone
                time.owe(method)  # what is left of it is another request
            return passage
        if fault is Fault.SLOW:
            time.advance(random.random() * _SLOW)
            return None
        return self._passage(fault, request, random, partial(time.owe, method, _print(request)))

    def _passage(self, fault: Fault, request: dict[str, Any], random: Random, owe: Callable[[], None]) -> Passage:
        if fault is Fault.SENT_TWICE:
            return Passage(request, 2)
        if fault is Fault.CUT_SHORT:
            return Passage(request, came=lambda answer: self._cut(answer, owe))
        if fault in _LOST:
            return Passage(request, came=_instead(self._error(_LOST[fault], random), owe), hides=True)
        if fault not in _FINAL:
            owe()
        raise self._error(fault, random)

    def came(self, method: str, answer: Any) -> Any:
        """See :class:`Intercepts`."""
        del method
        return answer

    def _error(self, fault: Fault, random: Random) -> Exception:
        error: Exception
        if fault is Fault.TIMEOUT_BEFORE:
            error = sdk.ReadTimeoutError(endpoint_url=_URL)
        elif fault is Fault.NOT_CONNECTED:
            refused = NewConnectionError(None, "by plan")  # type: ignore[arg-type]  # which connection doesn't matter
            error = random.choice((sdk.EndpointConnectionError, sdk.ConnectTimeoutError))(
                endpoint_url=_URL, error=refused
            )
        elif fault is Fault.RESET_BEFORE:
            error = _reset(random) if self._is_async else sdk.ConnectionClosedError(endpoint_url=_URL)
        else:
            error = client_error(*random.choice(_CODES[self._service, fault]), message="by plan")
        return error

    def _cut(self, answer: dict[str, Any], owe: Callable[[], None]) -> dict[str, Any]:
        owe()
        if _BODY in answer:
            body = answer[_BODY]
            return {**answer, _BODY: body[: len(body) // 2]}
        if "Body" in answer:
            return {**answer, "Body": TornBody(answer["Body"], is_async=self._is_async)}
        raise ResponseParserError("the answer ends too early")

    # A batch of which some is left undone

    def _partial(self, method: str, request: dict[str, Any], random: Random) -> Passage | None:
        if self._service != "dynamodb":
            return None
        body, back = _opened(request)
        if method == "batch_execute_statement":
            return _statements(body, back, random)
        wanted = body.get("RequestItems") or {}
        done: dict[str, Any] = {}
        left: dict[str, Any] = {}
        for table, what in wanted.items():
            items = what["Keys"] if method == "batch_get_item" else what
            kept = [random.random() < 0.5 for _ in items]
            for chosen, into in ((True, done), (False, left)):
                some = [item for item, keep in zip(items, kept, strict=True) if keep is chosen]
                if some:
                    into[table] = {**what, "Keys": some} if method == "batch_get_item" else some
        if not left:
            return None
        name = "UnprocessedKeys" if method == "batch_get_item" else "UnprocessedItems"
        return Passage(
            back({**body, "RequestItems": done}), 1 if done else 0, lambda answer: _changed(answer, {name: left})
        )


def _reset(random: Random) -> Exception:
    """As aiobotocore says it: of a connection that is reset under way, with the class of one that was never made."""
    from aiohttp import ClientOSError  # noqa: PLC0415 - what is blocking runs without it

    closed: Exception = sdk.ConnectionClosedError(endpoint_url=_URL)
    reset: Exception = sdk.EndpointConnectionError(endpoint_url=_URL, error=ClientOSError(ECONNRESET, "by plan"))
    return random.choice((closed, reset))


def _statements(
    body: dict[str, Any], back: Callable[[dict[str, Any]], dict[str, Any]], random: Random
) -> Passage | None:
    """Some statements fail; of those that the engine failed at, some have had their effect."""
    statements = body["Statements"]
    said: list[dict[str, Any] | None] = []  # None: as the engine says
    sent: list[bool] = []
    for _ in statements:
        fails = random.random() < 0.5
        code = _STATEMENT[random.randrange(len(_STATEMENT))]
        sent.append(not fails or (code == "InternalServerError" and random.random() < 0.5))
        said.append({"Error": {"Code": code, "Message": "by plan"}} if fails else None)
    if not any(said):
        return None

    def came(answer: Any) -> Any:
        found = iter(_content(answer).get("Responses", ()) if answer is not None else ())
        real = [next(found) if was else {} for was in sent]
        return _changed(answer, {"Responses": [mine or theirs for mine, theirs in zip(said, real, strict=True)]})

    kept = [statement for statement, was in zip(statements, sent, strict=True) if was]
    return Passage(back({**body, "Statements": kept}), 1 if kept else 0, came)


def _opened(request: dict[str, Any]) -> tuple[dict[str, Any], Callable[[dict[str, Any]], dict[str, Any]]]:
    """What a request of DynamoDB says, and how to put it back."""
    if "Body" not in request:
        return request, lambda body: body
    return orjson.loads(_bytes(request["Body"])), lambda body: {**request, "Body": orjson.dumps(body)}


def _content(answer: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(answer[_BODY]) if _BODY in answer else answer
    return found


def _changed(answer: dict[str, Any] | None, change: dict[str, Any]) -> dict[str, Any]:
    if answer is None:  # nothing was sent; both forms, as nobody knows which one is read
        return {_BODY: orjson.dumps(change), **change}
    if _BODY in answer:
        return {**answer, _BODY: orjson.dumps({**_content(answer), **change})}
    return {**answer, **change}


def _instead(error: Exception, owe: Callable[[], None]) -> Callable[[Any], Any]:
    def lost(answer: Any) -> Any:
        owe()
        body = answer.get("Body") if isinstance(answer, dict) else None
        if body is not None:
            body.close()
        raise error

    return lost


def _bytes(body: Any) -> bytes:
    found: bytes = body.getvalue() if isinstance(body, io.BytesIO) else body
    return found


def _print(request: dict[str, Any]) -> object:
    """Equal for two attempts of one request."""
    return {name: _bytes(value) if name == "Body" else value for name, value in request.items()}
