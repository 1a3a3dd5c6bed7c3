"""The endpoint that is in force, wherever it comes from: one check, and no password in what a store is called."""

from __future__ import annotations

from pathlib import Path

import boto3
import pytest

from commandstore import CommandStore, open_store
from commandstore.aws.client import located
from commandstore.aws.kms_calls import kms_client
from commandstore.entrypoints.secret import read_secret
from commandstore.errors import ConfigurationError
from commandstore.registry import backend_from_url

SECRET = "hunter2"
PLAIN = "http://127.0.0.1:9"
WITH_PASSWORD = (f"http://bob:{SECRET}@127.0.0.1:9", f"http://bob/{SECRET}@127.0.0.1:9", f"http://bob:{SECRET}")
SERVICES = """[profile mine]
region = eu-west-1
services = local
endpoint_url = {everyone}
[profile strict]
region = eu-west-1
ignore_configured_endpoint_urls = true
endpoint_url = {everyone}
[services local]
s3 =
  endpoint_url = {s3}
"""


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The shared configuration, which is empty so far; no variable says anything."""
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", *(f"AWS_ENDPOINT_URL_{one}" for one in ("S3", "DYNAMODB", "KMS"))):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    return tmp_path / "config"


@pytest.mark.parametrize("endpoint", WITH_PASSWORD)
@pytest.mark.parametrize("service", ["s3", "dynamodb", "kms"])
@pytest.mark.parametrize("of_service", [True, False])
def test_a_password_in_a_variable_is_refused_by_the_variable_s_name(
    monkeypatch: pytest.MonkeyPatch, service: str, endpoint: str, *, of_service: bool
) -> None:
    name = f"AWS_ENDPOINT_URL_{service.upper()}" if of_service else "AWS_ENDPOINT_URL"
    monkeypatch.setenv(name, endpoint)
    with pytest.raises(ConfigurationError, match=f"^{service}: .*{name}") as caught:
        located(service, "eu-west-1", None, profile=None)
    assert SECRET not in str(caught.value)


def test_no_store_and_no_key_is_called_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", WITH_PASSWORD[0])
    asked = [lambda: kms_client("eu-west-1"), lambda: read_secret("name", "SETTING")]
    for url in ("s3://bucket/stage?region=eu-west-1", "dynamodb://tab?region=eu-west-1"):
        store = CommandStore(backend_from_url(url))
        asked += [lambda store=store: str(store), lambda store=store: repr(store), lambda url=url: open_store(url)]
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    for ask in asked:
        with pytest.raises(ConfigurationError, match="no user or password") as caught:
            ask()
        assert SECRET not in str(caught.value)
    # What the URL says is in force, and the environment is not.
    assert located("s3", "eu-west-1", PLAIN, profile=None) == ("eu-west-1", PLAIN)


def test_a_password_in_a_profile_is_refused(settings: Path) -> None:
    settings.write_text(SERVICES.format(everyone=PLAIN, s3=WITH_PASSWORD[0]))
    with pytest.raises(
        ConfigurationError, match=r"^s3: .*endpoint_url of s3 in the services of the AWS profile"
    ) as caught:
        located("s3", None, None, profile="mine")
    assert SECRET not in str(caught.value)
    settings.write_text(SERVICES.format(everyone=WITH_PASSWORD[0], s3=PLAIN))
    with pytest.raises(ConfigurationError, match=r"^dynamodb: .*endpoint_url of the AWS profile"):
        located("dynamodb", None, None, profile="mine")


@pytest.mark.parametrize("service", ["s3", "dynamodb", "kms"])
def test_the_endpoint_is_that_of_the_sdk(monkeypatch: pytest.MonkeyPatch, settings: Path, service: str) -> None:
    settings.write_text(SERVICES.format(everyone="http://everyone:1", s3="http://s3:1/"))

    def agree(profile: str) -> str | None:
        client = boto3.Session(profile_name=profile).client(
            service, aws_access_key_id="x", aws_secret_access_key=SECRET
        )
        region, endpoint = located(service, None, None, profile=profile)
        assert region == client.meta.region_name
        assert endpoint is None or endpoint == client.meta.endpoint_url.rstrip("/")
        return endpoint

    assert agree("strict") is None
    assert agree("mine") == ("http://s3:1" if service == "s3" else "http://everyone:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://variable:1")
    assert agree("mine") == "http://variable:1"
    monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service.upper()}", "http://own:1")
    assert agree("mine") == "http://own:1"
    assert agree("strict") is None
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    assert agree("mine") is None


def test_without_the_profile_the_store_still_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", PLAIN)
    assert located("s3", "eu-west-1", None, profile="no-such") == ("eu-west-1", PLAIN)
