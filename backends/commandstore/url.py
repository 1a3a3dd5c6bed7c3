"""Store URLs: one string that says which store, where, and how. Pure.

``scheme://host/path?name=value``. Passwords are in the value, never in what is printed.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from commandstore.errors import ConfigurationError

__all__ = ["StoreUrl", "redact", "secrets_in"]

# A host with its port, and then options: what a URL with '@' in an option looks like. Anything else has a password.
_PLAIN = re.compile(r"[^:]*(:[0-9]+)?(/[^?]*)?\?[^@]*=")
_IDENTIFIER = re.compile(r"[a-z_]{1,40}")
# What Python's parser takes out of a URL without a word, so that another store would be opened than was named.
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SECRET = ("password", "secret", "token", "key", "sslpassword")


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """A store URL, taken apart.

    Attributes:
        scheme: which backend, lower case.
        host: what stands between ``//`` and the path, user and password included, as it was written: not to be shown.
        path: decoded, without the first ``/``: ``sqlite:///app.db`` has ``app.db``, ``sqlite:////a/b`` has ``/a/b``.
        options: what stands behind ``?``, decoded; a name given twice is an error.
        text: the whole URL as it was given.

    ``str`` and ``repr`` show it without passwords.
    """

    scheme: str
    host: str
    path: str
    options: dict[str, str] = field(default_factory=dict)
    text: str = ""

    @classmethod
    def parse(cls, text: str) -> StoreUrl:
        """Take a URL apart.

        Raises:
            ConfigurationError: it isn't one.
        """
        if _CONTROL.search(text) or "\0" in unquote(text):
            raise ConfigurationError(
                f"{redact(text)!a} is not a store URL: it holds a control character; write a line feed as %0A and the "
                "like, and leave out %00, which nothing takes"
            )
        if text.encode("utf-8", "replace").decode() != text:
            raise ConfigurationError(
                f"{redact(text)!a} is not a store URL: it is not UTF-8, in which names of files and hosts are written"
            )
        # Python's own messages quote parts of the URL, and a password could stand there.
        try:
            parts = urlsplit(text)
        except ValueError:
            raise ConfigurationError(f"{redact(text)!r} is not a store URL: its host can't be read") from None
        try:
            pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        except ValueError:
            raise ConfigurationError(f"{redact(text)!r} is not a store URL: write options as ?name=value&...") from None
        if not parts.scheme or not text.lower().startswith(f"{parts.scheme}://"):
            raise ConfigurationError(
                f"{redact(text)!r} is not a store URL; write it as sqlite:///app.db or dynamodb://TABLE"
            )
        if parts.fragment:
            raise ConfigurationError(f"{redact(text)!r}: write '#' in a store URL as %23")
        options = dict(pairs)
        if len(options) != len(pairs):
            raise ConfigurationError(f"{redact(text)!r} gives an option twice")
        return cls(parts.scheme.lower(), parts.netloc, unquote(parts.path[1:]), options, text)

    def only(self, known: Collection[str]) -> dict[str, str]:
        """The options, when all of them are known.

        Raises:
            ConfigurationError: names the unknown one, and those there are.
        """
        for name in self.options:
            if name not in known:
                there = ", ".join(sorted(known)) or "none"
                named = "" if self._may_be_secret(name) else f" {name!r}"
                raise ConfigurationError(f"{self.scheme}: unknown option{named} in the URL; there are: {there}")
        return self.options

    def _may_be_secret(self, name: str) -> bool:
        """Whether an option's name may be a piece of a password that has '?' or '&' in it."""
        return (
            _IDENTIFIER.fullmatch(name) is None
            or "@" in self.text.partition("?")[2]
            or any("password" in other.lower() for other in self.options if other != name)
        )

    def __str__(self) -> str:
        return redact(self.text)

    def __repr__(self) -> str:
        return f"StoreUrl({self})"


def redact(text: str) -> str:
    """The URL without passwords: neither between ``:`` and ``@`` nor in an option whose name speaks of a secret.

    Where ``://`` was mistyped, nothing tells the user from the scheme, so both may be hidden with the password.
    """
    scheme, rest, query = _taken_apart(text)
    # Up to the last '@' before the path, so that a password with '@' or '/' in it is covered too.
    user, at, host = rest.rpartition("@")
    if at:
        rest = f"{user.partition(':')[0]}{':***' if ':' in user else ''}@{host if query else _without_values(host)}"
    if query is not None:
        query = _without_values(query)
    return f"{scheme}{rest}{'' if query is None else '?'}{query or ''}"


def secrets_in(text: str) -> list[tuple[str, str, str]]:
    """What :func:`redact` hides, each with what stands before and behind it: for messages that quote a URL in part."""
    _, rest, query = _taken_apart(text)
    user = rest.rpartition("@")[0]
    # From each ':' on, as a message may quote a URL from its path on, and which ':' is the password's isn't known.
    found = [(":", user[at + 1 :], "@") for at, character in enumerate(user[:-1]) if character == ":"]
    pairs = (pair.partition("=") for pair in (query or "").split("&"))
    return found + [(f"{name}=", value, "") for name, _, value in pairs if value and _is_secret(name)]


def _without_values(options: str) -> str:
    """Options without the values of those whose name speaks of a secret."""
    pairs = (pair.partition("=") for pair in options.split("&"))
    return "&".join(f"{name}={'***' if _is_secret(name) else value}" if eq else name for name, eq, value in pairs)


def _is_secret(name: str) -> bool:
    return any(word in name.lower() for word in _SECRET)


def _taken_apart(text: str) -> tuple[str, str, str | None]:
    """The scheme with its slashes, what stands before the options, and the options if there are any."""
    head, mark, query = text.partition("?")
    scheme, slashes, rest = head.partition("://")
    if not slashes or ":" in scheme:
        before, at, _ = text.rpartition("@")
        return ("", text, None) if at and ":" in before else ("", head, query if mark else None)
    plain = ":" not in rest.rpartition("@")[0] if "@" in rest else _PLAIN.match(f"{rest}?{query}")
    if "@" in query and not plain:
        # A password with '?' in it makes no URL, but mustn't be shown when that is said.
        rest, mark = f"{rest}?{query}", ""
    return f"{scheme}{slashes}", rest, query if mark else None
