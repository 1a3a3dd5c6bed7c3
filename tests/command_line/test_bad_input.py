"""Whatever can't be right gets one clear line and exit code 2, and nothing is changed."""

import sqlite3
import sys
import threading
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

import commandstore
from command_line.program import KEY, PASSWORD
from commandstore import open_store
from commandstore.testing.comby import create_sqlite, insert_sqlite, sample_commands

NOBODY = "http://127.0.0.1:9"  # the discard port, where nothing listens


@pytest.fixture
def source(tmp_path):
    """A good source."""
    create_sqlite(tmp_path / "app.db", "C")
    insert_sqlite(tmp_path / "app.db", sample_commands(10))
    return f"sqlite:///{tmp_path}/app.db"


@pytest.fixture
def unchanged(tmp_path):
    """Every file that the test made is the same at its end, and there is no other."""
    before = {}

    def watch():
        before.update({path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()})

    yield watch
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def on_either_side(refused, url, other):
    """What is said of a URL as the source of a sync, as its destination, and alone."""
    return {refused("sync", url, other), refused("sync", other, url), refused("info", url), refused("ls", url)}


def test_a_file_that_is_no_database(refused, memory, tmp_path, unchanged):
    (tmp_path / "notes.txt").write_text("no database\n" * 100)
    unchanged()
    url = f"sqlite:///{tmp_path}/notes.txt"
    assert on_either_side(refused, url, memory()) == {f"{tmp_path}/notes.txt is not a SQLite database"}
    refused("init", url)


def test_a_database_without_commands(refused, memory, tmp_path, unchanged):
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        connection.execute("CREATE TABLE users (id INTEGER PRIMARY KEY)")
    unchanged()
    for said in on_either_side(refused, f"sqlite:///{tmp_path}/other.db", memory()):
        assert "has no table commands" in said
        assert "commandstore init sqlite:///" in said


def test_a_database_whose_commands_are_another_table(refused, memory, tmp_path, unchanged):
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        connection.execute("CREATE TABLE commands (id INTEGER PRIMARY KEY, line TEXT)")
    unchanged()
    url = f"sqlite:///{tmp_path}/other.db"
    for said in on_either_side(refused, url, memory()) | {refused("init", url)}:
        assert "it is not comby's" in said


def test_a_file_that_is_not_there_is_not_made(refused, memory, tmp_path, unchanged):
    unchanged()
    for said in on_either_side(refused, f"sqlite:///{tmp_path}/new.db", memory()):
        assert "there is no file" in said
        assert "commandstore init sqlite:///" in said


def test_a_directory_in_the_place_of_a_database(refused, memory, tmp_path):
    assert "is a directory" in refused("sync", f"sqlite:///{tmp_path}", memory())


def test_a_damaged_source(refused, cli, memory, tmp_path):
    create_sqlite(tmp_path / "app.db", "C")
    insert_sqlite(tmp_path / "app.db", sample_commands(1000))
    with (tmp_path / "app.db").open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xff" * 100 * 4096)
    assert "is damaged" in refused("ls", f"sqlite:///{tmp_path}/app.db")
    result = cli("sync", f"sqlite:///{tmp_path}/app.db", memory())
    assert result.code == 2
    assert "commandstore: error: the sync stopped: " in result.err


@pytest.mark.parametrize(
    "url",
    [
        f"dynamodb://commands?endpoint_url={NOBODY}",
        f"postgresql://app:{PASSWORD}@127.0.0.1:9/app",
        f"postgresql://app:{PASSWORD}@host.invalid/app",
    ],
)
def test_a_host_that_does_not_answer(refused, source, url):
    for said in on_either_side(refused, url, source):
        assert "127.0.0.1:9" in said or "host.invalid" in said


def test_a_missing_table_and_how_to_make_it(refused, ministack, source):
    url = f"dynamodb://cli-missing?endpoint_url={ministack.endpoint}"
    for said in on_either_side(refused, url, source):
        assert "there is no table cli-missing" in said
        assert f"commandstore init 'dynamodb://cli-missing?region=us-east-1&endpoint_url={ministack.endpoint}'" in said


@contextmanager
def suspicious_dynamodb():
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            body = b'{"__type":"com.amazonaws#UnrecognizedClientException","message":"The security token is invalid."}'
            self.send_response(400)
            self.send_header("Content-Type", "application/x-amz-json-1.0")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_credentials_that_aws_does_not_know(cli, refused, source, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", PASSWORD)
    with suspicious_dynamodb() as endpoint:
        url = f"dynamodb://commands?endpoint_url={endpoint}"
        on_either_side(refused, url, source)
        assert cli("info", url, "--json").document["error"]["type"] == "AccessDenied"


def test_no_credentials_at_all(refused, source, monkeypatch, tmp_path):
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    assert "no AWS credentials" in refused("sync", source, "dynamodb://commands?region=eu-central-1")


def test_a_role_that_postgres_does_not_let_in(refused, memory, postgres_url):
    at = postgres_url.partition("@")[2] or postgres_url.partition("//")[2]
    refused("sync", f"postgresql://stranger:{PASSWORD}@{at}", memory())


def test_a_scheme_that_nobody_knows(refused, memory):
    for said in on_either_side(refused, f"mongodb://app:{PASSWORD}@host/db", memory()):
        assert "unknown store URL scheme 'mongodb'" in said
        assert "sqlite" in said


@pytest.mark.parametrize("url", ["", "app.db", "sqlite:app.db", "sqlite:///app.db#x", "dynamodb://commands?bulk"])
def test_a_url_that_is_none(refused, memory, url):
    refused("sync", url, memory())


@pytest.mark.parametrize(
    ("url", "package", "extra"),
    [("sqlite:///app.db", "sqlalchemy", "sql"), ("dynamodb://commands?region=eu-central-1", "boto3", "aws")],
)
def test_a_missing_extra_and_its_pip_line(refused, memory, monkeypatch, url, package, extra):
    loaded = ("commandstore.sql", "commandstore.dynamodb", "commandstore.aws")
    for name in [name for name in sys.modules if name.startswith(loaded)]:
        monkeypatch.delitem(sys.modules, name)
        if name.count(".") == 1:  # a package is an attribute of its own package too, and must come back as that
            monkeypatch.setattr(commandstore, name.rpartition(".")[2], None, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    assert f"pip install 'commandstore[{extra}]'" in refused("sync", url, memory())


@pytest.mark.parametrize(
    "options",
    [
        ("--batch-size", "0"),
        ("--batch-size", "-1"),
        ("--batch-size", "many"),
        ("--concurrency", "0"),
        ("--lag", "-1"),
        ("--start-after-time", str(2**63)),
        ("--start-after-time", "yesterday"),
        ("--unknown",),
        ("surplus",),
    ],
)
def test_an_option_of_sync_that_can_not_be_right(refused, memory, source, options):
    refused("sync", source, memory(), *options)
    with open_store(memory()) as store:
        assert store.total() == 0


@pytest.mark.parametrize(
    "options",
    [
        ("--offset", "-1"),
        ("--before", str(2**63)),
        ("--order-by", "uuid; DROP TABLE commands"),
        ("--cursor", "nonsense"),
        ("--limit", "few"),
    ],
)
def test_an_option_of_ls_that_can_not_be_right(refused, memory, options):
    refused("ls", memory(), *options)


@pytest.mark.parametrize(
    "options",
    [
        ("--created-at", str(2**63)),
        ("--command-uuid", ""),
        ("--domain", "d" * 1025),
        ("--data", "a", "--data-file", "b"),
        ("--data-file", "/does/not/exist"),
    ],
)
def test_a_command_that_can_not_be_stored(refused, memory, options):
    refused("create", memory(), *options)
    with open_store(memory()) as store:
        assert store.total() == 0


@pytest.mark.parametrize("content", [b"", KEY[:-1], KEY + b"\n", KEY.hex().encode()[:-2], b"x" * 64, b"\xff" * 64])
def test_a_key_file_that_holds_no_key(refused, memory, tmp_path, content):
    (tmp_path / "key").write_bytes(content)
    said = refused("create", memory(), "--key-file", tmp_path / "key")
    assert "must hold 32 raw bytes or 64 hex characters" in said


def test_a_password_of_32_bytes_is_no_key(refused, memory, tmp_path):
    (tmp_path / "key").write_bytes(b"my password is thirty-one chars\n")
    said = refused("create", memory(), "--key-file", tmp_path / "key")
    assert "commandstore keys new FILE" in said
    assert "password is thirty" not in said


def test_a_key_file_that_is_not_there(refused, memory):
    assert "can't read the key file" in refused("get", memory(), "u", "--key-file", "/does/not/exist")


def test_an_unknown_command_is_told_of_the_one_that_was_meant(refused):
    assert "Did you mean 'sync'?" in refused("snyc")


def test_a_url_in_a_message_about_usage_has_no_password(refused, memory):
    assert "app:***@host" in refused("info", memory(), f"postgresql://app:{PASSWORD}@host/db")


@pytest.mark.parametrize(
    "url", ["postgresql:app:{}@host/db", "app:{}@host/db", "//app:{}@host", "postgresql;//app:{}@h"]
)
def test_a_mistyped_url_is_said_without_its_password_wherever_it_stands(refused, cli, memory, url):
    refused("info", url.format(PASSWORD))
    refused("info", memory(), url.format(PASSWORD))
    refused("ls", memory(), "--limit", url.format(PASSWORD))
    assert cli("get", memory(), url.format(PASSWORD)).code == 1
    assert "is not a store URL" in refused("info", url.format(PASSWORD))


@pytest.mark.parametrize("url", ["dynamodb://commands?region=eu-central-1", "s3://bucket/stage?region=eu-central-1"])
def test_a_password_in_the_endpoint_of_the_environment_is_refused_and_not_shown(refused, source, monkeypatch, url):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://bob:{PASSWORD}@127.0.0.1:9")
    for said in on_either_side(refused, url, source):
        assert "no user or password in AWS_ENDPOINT_URL" in said
