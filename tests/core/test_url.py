"""Store URLs, and that no password is ever shown."""

import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commandstore import ConfigurationError
from commandstore.registry import backend_from_url
from commandstore.url import StoreUrl, redact

SECRET = "s3cr3t"
# Something before and after the word that is looked for, so that it may be cut anywhere.
PASSWORDS = st.builds(lambda a, b: f"{a}{SECRET}{b}", st.text(max_size=6), st.text(max_size=6))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("memory://", ("memory", "", "", {})),
        ("memory://name", ("memory", "name", "", {})),
        ("sqlite:///app.db", ("sqlite", "", "app.db", {})),
        ("sqlite:////var/lib/app.db", ("sqlite", "", "/var/lib/app.db", {})),
        ("sqlite:///with%20space%23.db", ("sqlite", "", "with space#.db", {})),
        ("DynamoDB://Table?region=eu-central-1", ("dynamodb", "Table", "", {"region": "eu-central-1"})),
        (
            "dynamodb://t?endpoint_url=http://127.0.0.1:4566&region=",
            ("dynamodb", "t", "", {"endpoint_url": "http://127.0.0.1:4566", "region": ""}),
        ),
        ("postgresql://u:p%40@h:5432/db", ("postgresql", "u:p%40@h:5432", "db", {})),
        ("x://h/p?a=b%26c+d", ("x", "h", "p", {"a": "b&c d"})),
    ],
)
def test_a_url_is_taken_apart(text: str, expected: tuple[str, str, str, dict[str, str]]) -> None:
    url = StoreUrl.parse(text)
    assert (url.scheme, url.host, url.path, url.options) == expected
    assert url.text == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "app.db",
        "sqlite:app.db",
        "://x",
        "/abs/app.db",
        "x://h?a",
        "x://h?a=1&a=2",
        "x://h#f",
        "x://[h",
        "C:\\app.db",
        "x:h://p",
        " x://h",
    ],
)
def test_what_is_no_store_url_is_a_configuration_error(text: str) -> None:
    with pytest.raises(ConfigurationError):
        StoreUrl.parse(text)


def test_an_unknown_option_is_named_with_those_there_are() -> None:
    url = StoreUrl.parse("x://h?a=1&b=2")
    assert url.only({"a", "b"}) == {"a": "1", "b": "2"}
    with pytest.raises(ConfigurationError, match="'b' in the URL; there are: a, c"):
        url.only({"c", "a"})
    with pytest.raises(ConfigurationError, match="there are: none"):
        url.only(())


@pytest.mark.parametrize(
    "text",
    [
        "x://h?S3cr3t=1",
        "x://h?with%20space=1",
        f"x://h?{'s3cr3t' * 7}=1",
        "x://u:p?s_cr_t=1@h",
        "x://h?sslpassword=first&s_cr_t=1",
        "x://h?b=s3cr3t",
    ],
)
def test_an_unknown_option_that_may_be_a_piece_of_a_password_is_not_named(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"unknown option.*there are: sslpassword$") as caught:
        StoreUrl.parse(text).only({"sslpassword"})
    for piece in ("3cr3t", "s_cr_t", "space", "first"):
        assert piece not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://u:pw@h:5432/db?sslmode=require", "postgresql://u:***@h:5432/db?sslmode=require"),
        ("postgresql://u@h/db", "postgresql://u@h/db"),
        ("postgresql://h:5432/db", "postgresql://h:5432/db"),
        ("postgresql://u:p@ss/w@h/db", "postgresql://u:***@h/db"),
        ("postgresql://h/db?user=u&password=pw&sslpassword=x", "postgresql://h/db?user=u&password=***&sslpassword=***"),
        ("x://h?SECRET_TOKEN=a&aws_secret_access_key=b&c", "x://h?SECRET_TOKEN=***&aws_secret_access_key=***&c"),
        ("postgresql://h:5432/db?options=a@b", "postgresql://h:5432/db?options=a@b"),
        ("sqlite:///app.db", "sqlite:///app.db"),
        ("not a url", "not a url"),
        ("postgresql:u:pw@h", "postgresql:***@h"),
        ("postgresql:/u:pw@h/db", "postgresql:***@h/db"),
        ("postgresql;//u:pw@h/db", "postgresql;//u:***@h/db"),
        ("//u:pw@h", "//u:***@h"),
        ("u:pw@h/db?password=pw", "u:***@h/db?password=***"),
        ("u:p?w@h/db", "u:***@h/db"),
        ("u:pw@h://x", "u:***@h://x"),
        ("sqlite:app.db?key=k", "sqlite:app.db?key=***"),
        ("--to=http://u:pw@h", "--to=http://u:***@h"),
    ],
)
def test_a_url_is_shown_without_its_secrets(text: str, shown: str) -> None:
    assert redact(text) == shown


@given(PASSWORDS)
def test_a_password_before_the_host_is_never_shown(password: str) -> None:
    _never_shown(f"postgresql://user:{password}@host:5432/db?sslmode=require")


@given(PASSWORDS)
def test_a_password_without_a_user_is_never_shown(password: str) -> None:
    _never_shown(f"postgresql://:{password}@host/db")


@given(
    st.sampled_from(["", "postgresql:", "postgresql:/", "postgresql;//", "//", "postgresql ://", " postgresql://"]),
    PASSWORDS,
    st.sampled_from(["", "/db", "/db?sslmode=require", "://x", "?x=://"]),
)
def test_a_password_in_a_mistyped_url_is_never_shown(before: str, password: str, behind: str) -> None:
    _never_shown(f"{before}user:{password}@host{behind}")


@pytest.mark.parametrize(
    "text",
    [
        f"firestore://p:{SECRET}/c",
        f"firestore://p:{SECRET}/x@h/c",
        f"firestore://p/u:{SECRET}@h",
        f"firestore://p/c?database=u:{SECRET}@h",
        f"s3://AKIA/{SECRET}@bucket/x",
        f"s3://AKIA:{SECRET}@bucket/x",
        f"dynamodb://AKIA:{SECRET}@tab",
        f"dynamodb://AKIA/{SECRET}@tab",
    ],
)
def test_a_password_where_none_belongs_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        backend_from_url(text)
    assert SECRET not in str(caught.value)


def test_a_project_of_a_domain_is_one() -> None:
    assert backend_from_url("firestore://example.com:acme/c").location == "firestore://example.com:acme/c"


@given(st.text(st.characters(exclude_characters="&"), max_size=6), st.sampled_from(["password", "secret_key", "Token"]))
def test_a_password_in_an_option_is_never_shown(around: str, name: str) -> None:
    _never_shown(f"postgresql://host/db?a=1&{name}={around}{SECRET}{around}&b=2")


def _never_shown(text: str) -> None:
    assert SECRET not in redact(text)
    try:
        url = StoreUrl.parse(text)
    except ConfigurationError as error:  # most of these are no URLs
        assert SECRET not in "".join(traceback.format_exception(error, limit=0))  # noqa: PT017
    else:
        assert SECRET not in str(url)
        assert SECRET not in repr(url)
