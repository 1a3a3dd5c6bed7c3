"""URLs and arguments of every kind, to the parser and to the command line: one clear line, and never the password."""

# ruff: noqa: RUF005 - lists that are written over some lines

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from commandstore.cli import main
from commandstore.errors import ConfigurationError, MissingDependency
from commandstore.memory import MemoryBackend
from commandstore.registry import backend_from_url, schemes
from commandstore.url import StoreUrl
from reliability.mangle import fuzz, only_ours

SECRET = "hunter2-s3cret"
PIECE = st.text(st.characters(exclude_characters="\0"), max_size=4) | st.sampled_from(
    ["%00", "%0A", "%ff", "%2F", "%2e%2e", "..", "/", "//", "@", ":", "?", "&", "=", "#", "[", "]", "\n", "\t", " "]
    + ["127.0.0.1:9", "bucket", "commands", "region=eu", "endpoint_url=http://127.0.0.1:9", "\udcff", "*", "__x__"]
)
JOINED = st.lists(PIECE, max_size=5).map("".join)
SCHEMES = st.sampled_from(schemes())
URLS = st.builds("{}://{}".format, SCHEMES, JOINED) | st.builds("{}:///{}?{}".format, SCHEMES, JOINED, JOINED) | JOINED
# The password stands where passwords stand: between a user and a host that are sound, with anything around it.
WITH_PASSWORD = st.builds(
    "{}://{}:{}{}{}@127.0.0.1:9/{}?{}".format,
    st.sampled_from(["postgresql", "postgres", "mongodb", "s3", "dynamodb", "firestore", "sqlite"]),
    st.sampled_from(["u", ""]),
    JOINED,
    st.just(SECRET),
    JOINED,
    st.sampled_from(["db", "", "a b"]),
    st.sampled_from(["", "sslmode=require", "region=eu", "x=1", "connect_timeout=soon"]),
)


@fuzz(400, 20000)
@given(URLS | WITH_PASSWORD)
@example(f"postgresql://u:@{SECRET}?@127.0.0.1:9/db?x=1")
@example(f"s3://u:{SECRET}/@127.0.0.1:9/db?")
@example("sqlite:///a%00b")
@example("sqlite:///a\nb.db")
@example("sqlite:///\udcff.db")
@example("postgresql://127.0.0.1:9/\udcff")
def test_a_url_makes_a_backend_or_is_refused_in_one_line_without_the_password(text: str) -> None:
    with only_ours(SECRET) as caught:
        backend = backend_from_url(text)
        assert SECRET not in backend.location
        assert SECRET not in repr(backend)
        backend.location.encode()  # a cursor is bound to it, and a checkpoint named by it
    assert all(isinstance(error, ConfigurationError | MissingDependency) for error in caught)


@fuzz(400, 20000)
@given(JOINED, JOINED)
def test_a_url_means_what_is_written_and_nothing_is_taken_out_of_it(path: str, value: str) -> None:
    """Python's parser leaves out tabs and line feeds without a word: another file would be opened."""
    with only_ours() as caught:
        url = StoreUrl.parse(f"sqlite:///{path}?name={value}")
        assert not set("\t\r\n\0") & set(url.text)
        if not set("?#&=%;+") & set(path + value):
            assert url.path == path
            assert url.options == {"name": value}
    assert all(isinstance(error, ConfigurationError) for error in caught)


# The command line


def run(*args: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(args))
    return code, out.getvalue(), err.getvalue()


def seen(code: int, out: str, err: str, *, as_json: bool = False) -> None:
    """The laws of everything that the command line says."""
    assert code in {0, 1, 2}, err
    assert "Traceback" not in out + err
    assert "a bug in commandstore" not in out + err, err
    assert SECRET not in out + err
    assert all(character.isprintable() or character == "\n" for character in out + err)
    if code == 2:
        assert len(err.splitlines()) <= 2, err
    if as_json:
        document = json.loads(out)
        assert code == 0 or "error" in document or code == 1


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Iterator[Any]:
    """Where whatever is made by a URL that happens to be right is made; no AWS and no Google are asked."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", f"{tmp_path}/none")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", f"{tmp_path}/none")
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "GOOGLE_CLOUD_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", f"{tmp_path}/no-such-key.json")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    return tmp_path


# Nothing in here leads to a host: those that do are looked at elsewhere, as each costs the patience of a client.
LOCAL = st.builds("{}://{}".format, st.sampled_from(["sqlite", "memory", "ftp", ""]), JOINED) | st.builds(
    "sqlite:///{}".format, JOINED
)
REFUSED = st.builds(
    "{}://u:{}{}@[/{}".format,
    st.sampled_from(["postgresql", "s3", "mongodb", "dynamodb"]),
    JOINED,
    st.just(SECRET),
    JOINED,
)


@fuzz(60, 3000)
@given(
    st.sampled_from(
        [["info"], ["ls"], ["init"], ["get"], ["sync"], ["verify"], ["export"], ["audit", "verify"], ["gc"]]
    ),
    st.lists(LOCAL | REFUSED, min_size=1, max_size=3),
    st.booleans(),
)
def test_the_command_line_answers_any_url_with_one_line(
    place: Any, command: list[str], urls: list[str], as_json: bool
) -> None:
    del place
    args = [*command, *(url for url in urls if not url.startswith("-")), *(["--json"] if as_json else [])]
    seen(*run(*args))


OPTIONS = st.sampled_from(
    ["--limit", "--offset", "--cursor", "--tenant-uuid", "--domain", "--before", "--after", "--order-by", "--key-file"]
    + ["--session-uuid", "--created-at", "--data", "--data-file", "--req-ctx", "--command-uuid", "--signing-key"]
    + ["--instance-id", "--batch-size", "--concurrency", "--lag", "--source-name", "--lease-seconds", "--public-key"]
)
ARGUMENT = st.text(st.characters(exclude_characters="\0"), max_size=8) | st.sampled_from(
    ["-1", "0", "1", str(2**63), "1e9", "nan", "inf", ".", "/dev/null", "kms:x?region=a b", "\udcff", SECRET[:0]]
)


@fuzz(60, 3000)
@given(
    st.sampled_from(["ls", "create", "get", "sync", "verify", "compact", "gc", "reset", "info", "init"]),
    st.lists(st.tuples(OPTIONS, ARGUMENT), max_size=3),
    st.booleans(),
)
def test_the_command_line_answers_any_option_with_one_line(
    place: Any, command: str, options: list[tuple[str, str]], as_json: bool
) -> None:
    del place
    source = "memory://fuzzed"
    MemoryBackend()
    urls = [source, "memory://other"] if command in {"sync", "verify"} else [source]
    args = [command, *urls, *(part for pair in options for part in pair), *(["--json"] if as_json else [])]
    seen(*run(*args))
