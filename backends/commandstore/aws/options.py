"""What the URLs of the AWS stores have in common."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from commandstore.errors import ConfigurationError

__all__ = ["MOST_CONCURRENCY", "endpoint_of", "number_of"]

MOST_CONCURRENCY = 128


def endpoint_of(endpoint_url: str | None, scheme: str, given_as: str = "endpoint_url") -> str | None:
    """The endpoint, when it is one.

    Args:
        endpoint_url: as it was given.
        scheme: of the store's URL, for the message.
        given_as: where it was given, for the message.

    Raises:
        ConfigurationError: it is none, or has a password in it, which is not shown.
    """
    if endpoint_url is None:
        return None
    try:
        parts = urlsplit(endpoint_url)
        usable = parts.scheme in {"http", "https"} and parts.hostname and not parts.query and parts.port != 0
    except ValueError:  # a bracket that isn't closed, a port that is no number
        usable = False
    if not usable:
        raise ConfigurationError(f"{scheme}: {given_as} must be like http://127.0.0.1:4566")
    if "@" in endpoint_url:  # behind a slash too: a password may have one
        raise ConfigurationError(f"{scheme}: no user or password in {given_as}; credentials come from AWS's settings")
    return endpoint_url.rstrip("/")


def number_of(options: Mapping[str, str], name: str, most: int, scheme: str) -> int | None:
    """An option that is a number from 1 on; None where it isn't given.

    Raises:
        ConfigurationError: it is something else.
    """
    text = options.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= most):
        raise ConfigurationError(f"{scheme}: {name} is a number from 1 to {most}, not {text!r}")
    return int(text)
