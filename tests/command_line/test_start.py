"""How the program starts: quickly, and without what it doesn't need."""

import subprocess
import sys
import threading

import pytest

import commandstore
from commandstore.cli import main


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)  # noqa: S603


@pytest.mark.parametrize("args", [[], ["--help"], ["-h"], ["sync", "--help"], ["--version"]])
def test_help_and_version_load_no_sdk(args):
    sdks = {"boto3", "botocore", "sqlalchemy", "psycopg", "google.cloud", "rich", "moto", "cryptography"}
    result = run(f"import sys; from commandstore.cli import main; main({args!r}); print({sdks!r} & set(sys.modules))")
    assert result.stdout.splitlines()[-1] == "set()", result
    assert result.stderr == ""


def test_the_version_is_the_package_s(cli):
    assert cli("--version").out == f"commandstore {commandstore.__version__}\n"


def test_help_exits_with_0_and_nothing_at_all_with_2(cli):
    assert cli("--help").code == 0
    assert cli().code == 2
    assert cli().out == cli("--help").out


def test_help_names_every_command(cli):
    out = cli("--help").out
    for name in ("init", "info", "create", "get", "ls", "export", "sync", "compact", "gc", "reset", "demo"):
        assert f"\n  {name} " in out
        assert cli(name, "--help").code == 0


@pytest.mark.parametrize("package", ["typer", "rich"])
def test_without_its_extra_it_says_how_to_get_it(cli, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    result = cli("--help")
    assert (result.code, result.out) == (2, "")
    assert result.err == f"commandstore: error: the command line needs {package}: pip install 'commandstore[cli]'\n"


def test_it_runs_from_another_thread(cli):
    # Where no signal handler can be installed.
    codes = []
    thread = threading.Thread(target=lambda: codes.append(main(["info", "memory://"])))
    thread.start()
    thread.join()
    assert codes == [0]
    cli("--version")


def test_the_traceback_is_shown_when_asked_for_and_has_no_password(capsys, monkeypatch):
    monkeypatch.setenv("COMMANDSTORE_DEBUG", "1")
    assert main(["info", "nope://user:hunter2@host"]) == 2
    err = capsys.readouterr().err
    assert "Traceback (most recent call last)" in err
    assert "hunter2" not in err
