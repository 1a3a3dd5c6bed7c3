"""Where the source's URL is kept: Secrets Manager and SSM on moto, read once, read again when it no longer opens."""

from __future__ import annotations

import json

import boto3
import pytest

from commandstore import AccessDenied, ConfigurationError, StoreUnavailable
from commandstore.entrypoints import container
from commandstore.entrypoints.container import Container
from commandstore.entrypoints.secret import SourceUrl
from commandstore.entrypoints.settings import SyncSettings

URL = "postgresql://app:hunter2@db/app"
OTHER = "postgresql://app:hunter3@db/app"


@pytest.fixture
def aws(moto_server, monkeypatch):
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ENDPOINT_URL": moto_server.endpoint,
    }.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.fixture
def secret(aws):  # noqa: ARG001 - the clients find their endpoint by it
    client = boto3.client("secretsmanager")
    client.create_secret(Name="app-db", SecretString=URL)
    yield lambda text: client.put_secret_value(SecretId="app-db", SecretString=text)
    client.delete_secret(SecretId="app-db", ForceDeleteWithoutRecovery=True)


def source(**settings) -> SourceUrl:
    return SourceUrl(SyncSettings(destination="memory://", **settings))


def refused(error: type[Exception], **settings) -> str:
    with pytest.raises(error) as caught:
        source(**settings).get()
    assert "hunter" not in str(caught.value)
    return str(caught.value)


def test_a_secret_is_the_url_itself_or_an_object_with_it(secret) -> None:
    assert source(source_secret="app-db").get() == URL
    secret(json.dumps({"url": OTHER, "owner": "x"}))
    assert source(source_secret="app-db").get() == OTHER
    secret(json.dumps({"dsn": URL}))
    assert source(source_secret="app-db", source_secret_key="dsn").get() == URL


@pytest.mark.usefixtures("aws")
def test_a_parameter_is_read_decrypted() -> None:
    client = boto3.client("ssm")
    client.put_parameter(Name="/app/db", Value=URL, Type="SecureString")
    try:
        assert source(source_parameter="/app/db").get() == URL
    finally:
        client.delete_parameter(Name="/app/db")


def test_it_is_read_once_and_again_when_asked(secret) -> None:
    kept = source(source_secret="app-db")
    kept.get()
    secret(OTHER)
    assert kept.get() == URL
    assert kept.changed()
    assert kept.get() == OTHER
    assert not kept.changed()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (json.dumps({"password": "hunter2"}), "COMMANDSTORE_SOURCE_SECRET_KEY"),
        (json.dumps({"url": ["hunter2"]}), "no text under the key 'url'"),
        ("{hunter2", "not a JSON object"),
        ("hunter2", "COMMANDSTORE_SOURCE_SECRET leads to is not a URL"),
        ("PASSWORD=hunter2\nURL=postgresql://u:pw@h/db", "COMMANDSTORE_SOURCE_SECRET leads to is not a URL"),
        ("host=h password=hunter2 x://", "COMMANDSTORE_SOURCE_SECRET leads to is not a URL"),
        ("postgresql://u:pa@hunter2@h/db", "COMMANDSTORE_SOURCE_SECRET leads to is not a URL"),
        ("hunter2://u:pw@h/db", "COMMANDSTORE_SOURCE_SECRET leads to is not a URL"),
    ],
)
def test_a_secret_that_holds_something_else_is_refused_and_not_shown(secret, text, said) -> None:
    secret(text)
    assert said in refused(ConfigurationError, source_secret="app-db")


@pytest.mark.usefixtures("secret")
def test_a_key_into_a_secret_that_is_no_object_is_refused() -> None:
    assert "not a JSON object" in refused(ConfigurationError, source_secret="app-db", source_secret_key="url")


@pytest.mark.usefixtures("aws")
def test_what_does_not_exist_is_named_by_its_setting() -> None:
    assert "COMMANDSTORE_SOURCE_SECRET: " in refused(ConfigurationError, source_secret="nothing")
    assert "COMMANDSTORE_SOURCE_PARAMETER: " in refused(ConfigurationError, source_parameter="/nothing")


def test_a_service_without_a_way_to_it_is_said(aws) -> None:
    aws.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    message = refused(StoreUnavailable, source_secret="app-db")
    assert "interface endpoint for secretsmanager" in message


# A password that changes between two runs


class Store:
    def __init__(self, url: str, good: str) -> None:
        if url == "memory://":
            return
        if url != good:
            raise AccessDenied("the database refused the password")

    def close(self) -> None:
        """There is nothing to close."""


@pytest.fixture
def database(monkeypatch):
    """A database that lets in whoever has the URL of the moment."""
    state = {"good": URL, "opened": 0}

    def opened(url, **_):
        state["opened"] += url != "memory://"
        return Store(url, state["good"])

    monkeypatch.setattr(container, "open_store", opened)
    return state


def test_a_password_that_was_changed_is_read_again(secret, database) -> None:
    settings = SyncSettings(destination="memory://", source_secret="app-db")
    warm = Container()
    assert warm.run(settings, lambda *_: "done") == "done"
    secret(OTHER)
    database["good"] = OTHER
    seen = []

    def work(*_):
        seen.append(1)
        if len(seen) == 1:  # a connection that was open before is refused on its next use
            raise AccessDenied("the database refused the password")
        return "done again"

    assert warm.run(settings, work) == "done again"
    assert len(seen) == 2


@pytest.mark.usefixtures("secret")
def test_a_password_that_is_wrong_is_not_tried_for_ever(database) -> None:
    database["good"] = OTHER
    with pytest.raises(AccessDenied, match="refused the password"):
        Container().run(SyncSettings(destination="memory://", source_secret="app-db"), lambda *_: None)
    assert database["opened"] == 1


@pytest.mark.usefixtures("secret")
def test_after_an_error_the_stores_are_opened_anew(database) -> None:
    settings = SyncSettings(destination="memory://", source_secret="app-db")
    warm = Container()

    def fails(*_):
        raise StoreUnavailable("gone")

    with pytest.raises(StoreUnavailable):
        warm.run(settings, fails)
    warm.run(settings, lambda *_: None)
    assert database["opened"] == 2
