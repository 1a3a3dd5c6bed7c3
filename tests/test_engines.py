"""The engines start, listen on 127.0.0.1 alone, and leave nothing behind."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import boto3
import psutil
import psycopg
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from commandstore.testing import engine_base, engines
from commandstore.testing.engines import (
    Dynalite,
    EngineUnavailable,
    Ministack,
    Moto,
    Postgres,
    embedded_dynamodb,
    engines_required,
)
from commandstore.testing.processes import SupervisedProcess, free_port

ENGINES = [Ministack, Moto, Dynalite, Postgres]
WAIT = 30


def _below(process):
    return process.children(recursive=True)


def _listeners(processes):
    found = []
    for process in processes:
        try:
            found += [c.laddr for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN]
        except psutil.NoSuchProcess:  # Postgres has short-lived workers
            continue
    return found


def _create_table(client, name):
    client.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "uuid", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "uuid", "KeyType": "HASH"}],
    )


def _insert_by_partiql(client, table):
    statement = {"Statement": f"INSERT INTO \"{table}\" VALUE {{'uuid': ?}}", "Parameters": [{"S": "a"}]}
    return client.batch_execute_statement(Statements=[statement])["Responses"][0]


@pytest.mark.parametrize("engine_type", ENGINES)
def test_an_engine_listens_on_one_port_of_localhost_and_is_gone_after_stop(engine_type, new_engine):
    before = set(_below(psutil.Process()))
    engine = new_engine(engine_type)
    ours = [process for process in _below(psutil.Process()) if process not in before]
    assert {(address.ip, address.port) for address in _listeners(ours)} == {("127.0.0.1", engine._port)}
    engine.stop()
    assert not [process for process in ours if process.is_running()]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", engine._port), timeout=WAIT)
    engine.stop()  # a second time is fine


@pytest.mark.parametrize("engine_type", [Ministack, Moto, Dynalite])
def test_an_engine_serves_dynamodb_and_forgets_it_on_reset(engine_type, new_engine):
    engine = new_engine(engine_type)  # of its own: others keep tables in the shared one
    client = boto3.client("dynamodb", **engine.client_arguments)
    _create_table(client, "engines")
    assert client.list_tables()["TableNames"] == ["engines"]
    engine.reset()
    assert client.list_tables()["TableNames"] == []
    client.close()


def test_engines_end_with_a_process_that_is_killed():
    program = (
        "import os, signal, psutil\n"
        "from commandstore.testing.engines import Moto\n"
        "engine = Moto().start()\n"
        "print(*[p.pid for p in psutil.Process().children(recursive=True)], flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own program
    assert result.returncode == -signal.SIGKILL, result.stderr
    pids = [int(pid) for pid in result.stdout.split()]
    assert len(pids) == 2
    orphans = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    assert not psutil.wait_procs(orphans, timeout=WAIT)[1]


def test_a_supervised_process_takes_its_directory_with_it():
    directory = Path(tempfile.mkdtemp())
    process = SupervisedProcess(["/bin/cat"], environment=dict(os.environ), directory=directory)
    process.stop()
    assert not process.alive
    assert not directory.exists()


def test_a_port_that_another_process_takes_first_is_given_up_for_the_next(monkeypatch, new_engine):
    with socket.socket() as rival:
        rival.bind(("127.0.0.1", 0))
        rival.listen()
        taken, free = rival.getsockname()[1], free_port()
        ports = iter([taken, free])
        monkeypatch.setattr(engine_base, "free_port", lambda: next(ports))
        assert new_engine(Moto).endpoint == f"http://127.0.0.1:{free}"


def test_an_engine_that_dies_on_the_way_up_is_quoted():
    class Broken(Moto):
        def _command(self, port):
            del port
            return [sys.executable, "-c", "raise SystemExit('no room for tables')"]

    with pytest.raises(EngineUnavailable, match="no room for tables"):
        Broken().start()


def test_a_program_that_is_not_there_is_named():
    class Missing(Moto):
        def _command(self, port):
            del port
            return ["/nowhere/engine"]

    with pytest.raises(EngineUnavailable, match="/nowhere/engine"):
        Missing().start()


def _without_programs(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("UV", raising=False)
    found = engines.importlib.util.find_spec
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None if name == "uv" else found(name))


@pytest.mark.parametrize(("engine_type", "needed"), [(Ministack, "uv"), (Dynalite, "Node.js")])
def test_a_missing_engine_says_how_to_get_it(engine_type, needed, monkeypatch):
    _without_programs(monkeypatch)
    assert not engine_type.available()
    with pytest.raises(EngineUnavailable, match=f"not here: install {needed}"):
        engine_type().start()


@pytest.mark.parametrize(("value", "expected"), [("1", True), ("0", False), ("", False), (None, False)])
def test_engines_are_required_where_the_environment_says_so(value, expected, monkeypatch):
    monkeypatch.delenv("COMMANDSTORE_REQUIRE_ENGINES", raising=False)
    if value is not None:
        monkeypatch.setenv("COMMANDSTORE_REQUIRE_ENGINES", value)
    assert engines_required() is expected


@pytest.mark.usefixtures("ministack")
def test_the_embedded_dynamodb_is_ministack_where_uv_is_and_takes_partiql():
    with embedded_dynamodb() as server:
        assert (server.name, server.bulk) == ("ministack", "partiql")
        client = boto3.client("dynamodb", **{**Ministack().client_arguments, "endpoint_url": server.endpoint})
        _create_table(client, "demo")
        assert "Error" not in _insert_by_partiql(client, "demo")
        assert _insert_by_partiql(client, "demo")["Error"]["Code"] == "DuplicateItem"
        client.close()


def test_the_embedded_dynamodb_is_moto_without_uv_and_wants_bulk_put(monkeypatch):
    _without_programs(monkeypatch)
    with embedded_dynamodb() as server:
        assert (server.name, server.bulk) == ("moto", "put")
        client = boto3.client("dynamodb", **{**Moto().client_arguments, "endpoint_url": server.endpoint})
        _create_table(client, "demo")
        client.put_item(TableName="demo", Item={"uuid": {"S": "a"}})
        assert client.get_item(TableName="demo", Key={"uuid": {"S": "a"}})["Item"] == {"uuid": {"S": "a"}}
        client.close()


def test_moto_does_not_take_partiql_with_parameters(moto_server):
    """The reason for bulk=put. When this fails, moto has learnt it."""
    once = Config(retries={"total_max_attempts": 1})  # it answers 500, which boto3 would repeat for half a minute
    client = boto3.client("dynamodb", config=once, **moto_server.client_arguments)
    _create_table(client, "partiql")
    with pytest.raises(ClientError):
        _insert_by_partiql(client, "partiql")
    moto_server.reset()
    client.close()


def test_postgres_gives_each_test_a_database_of_its_own(postgres):
    with postgres.database() as one, postgres.database() as other:
        with psycopg.connect(one) as connection:
            connection.execute("CREATE TABLE t (i int)")
        with psycopg.connect(other) as connection:
            assert connection.execute("SELECT to_regclass('t')").fetchone() == (None,)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(one)


def test_postgres_drops_no_other_database(postgres):
    with pytest.raises(ValueError, match="postgres"):
        postgres.drop(postgres.url)


def test_postgres_prepares_transactions(postgres_url):
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("BEGIN")
        connection.execute("CREATE TABLE t (i int)")
        connection.execute("PREPARE TRANSACTION 'held'")
        assert connection.execute("SELECT to_regclass('t')").fetchone() == (None,)
        connection.execute("COMMIT PREPARED 'held'")
        assert connection.execute("SELECT to_regclass('t')").fetchone() == ("t",)
