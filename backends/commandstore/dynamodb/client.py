"""Clients of DynamoDB."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

from commandstore.aws import client as aws
from commandstore.drive import Drive
from commandstore.dynamodb.faults import Place

__all__ = ["connect", "located"]


def located(place: Place, profile: str | None, session: Any = None) -> Place:
    """Where a client for this place would talk to; asks no network."""
    region, endpoint = aws.located("dynamodb", place.region, place.endpoint, profile=profile, session=session)
    return place._replace(region=region, endpoint=endpoint)


async def connect(
    drive: Drive,
    stack: AsyncExitStack,
    *,
    place: Place,
    profile: str | None,
    concurrency: int,
    session: Any = None,
) -> Any:
    """A client of DynamoDB whose methods are coroutines, for a place as :func:`located` found it.

    Raises:
        ConfigurationError: no region, no such profile, an endpoint that isn't a URL.
        MissingDependency: aioboto3 isn't installed.
    """
    target = aws.Target("dynamodb", f"table {place.table}", place.url, place.region, place.endpoint)
    # The bodies are made by requests.py, within the limits in layout.py.
    settings = {"parameter_validation": False}
    return await aws.connect(
        drive, stack, target, profile=profile, concurrency=concurrency, session=session, settings=settings
    )
