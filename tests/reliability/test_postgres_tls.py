"""TLS to Postgres that is worth its name: whoever is not the server that was meant gets nothing to hear."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from commandstore import Command, ConfigurationError, open_store
from commandstore.testing import comby
from reliability.tls_proxy import Authority, TlsProxy

PASSWORD = "hunter2-s3cret"


@pytest.fixture
def database(postgres_url: str) -> str:
    comby.create_postgres(postgres_url, "C")
    return postgres_url


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ours")


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither variables nor a root certificate in the home of whoever runs this."""
    for name in [name for name in os.environ if name.startswith("PG")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


def url(database: str, proxy: TlsProxy, host: str, **options: object) -> str:
    name = urlsplit(database).path
    query = "&".join(f"{key}={value}" for key, value in options.items())
    return f"postgresql://postgres:{PASSWORD}@{host}:{proxy.port}{name}?{query}"


@contextmanager
def refused(proxy: TlsProxy, *words: str) -> Iterator[None]:
    """Refused by an error that says what to do; and the other side heard neither a name nor a password."""
    with pytest.raises(ConfigurationError) as caught:
        yield
    said = str(caught.value)
    assert all(word in said for word in words), said
    assert PASSWORD not in said
    assert proxy.connections > 0
    assert bytes(proxy.heard) == b""


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_the_right_authority_and_the_right_host_are_let_in(database: str, ours: Authority, host: str) -> None:
    with TlsProxy(ours.server("localhost", "127.0.0.1"), urlsplit(database).port or 0) as proxy:
        with open_store(url(database, proxy, host, sslmode="verify-full", sslrootcert=ours.file)) as store:
            store.create(Command("c1", 1, data_bytes=b"over TLS"))
            assert store.get("c1") == Command("c1", 1, data_bytes=b"over TLS")
            assert "sslrootcert" not in str(store)
        assert b"over TLS" in proxy.heard


def test_another_authority_is_refused_and_hears_nothing(database: str, ours: Authority, tmp_path: Path) -> None:
    others = Authority(tmp_path, "others")
    with (
        TlsProxy(others.server("localhost"), urlsplit(database).port or 0) as proxy,
        refused(proxy, "sslrootcert", "sslmode"),
    ):
        open_store(url(database, proxy, "localhost", sslmode="verify-full", sslrootcert=ours.file))


def test_another_host_is_refused_and_hears_nothing(database: str, ours: Authority) -> None:
    with (
        TlsProxy(ours.server("other.internal"), urlsplit(database).port or 0) as proxy,
        refused(proxy, "host name", "verify-full"),
    ):
        open_store(url(database, proxy, "localhost", sslmode="verify-full", sslrootcert=ours.file))


def test_a_certificate_that_ended_is_refused_and_hears_nothing(database: str, ours: Authority) -> None:
    with (
        TlsProxy(ours.server("localhost", days=-1), urlsplit(database).port or 0) as proxy,
        refused(proxy, "sslrootcert"),
    ):
        open_store(url(database, proxy, "localhost", sslmode="verify-full", sslrootcert=ours.file))


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_who_says_that_there_is_no_tls_is_refused_and_hears_nothing(database: str, ours: Authority, mode: str) -> None:
    with TlsProxy(None, urlsplit(database).port or 0) as proxy, refused(proxy, "does not speak TLS"):
        open_store(url(database, proxy, "localhost", sslmode=mode, sslrootcert=ours.file))


def test_an_authority_whose_file_is_not_there_is_refused(database: str, ours: Authority, tmp_path: Path) -> None:
    with (
        TlsProxy(ours.server("localhost"), urlsplit(database).port or 0) as proxy,
        refused(proxy, "sslrootcert"),
    ):
        open_store(url(database, proxy, "localhost", sslmode="verify-full", sslrootcert=tmp_path / "none.pem"))


def test_without_verify_full_anybody_is_believed_which_is_why_the_docs_ask_for_it(
    database: str, tmp_path: Path
) -> None:
    others = Authority(tmp_path, "others")
    with (
        TlsProxy(others.server("other.internal"), urlsplit(database).port or 0) as proxy,
        open_store(url(database, proxy, "localhost", sslmode="require")) as store,
    ):
        assert store.total() == 0
