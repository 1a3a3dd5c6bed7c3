"""The Lambda's zip: for one processor, within Lambda's limits, the same bytes each time, and importable as it is."""

import hashlib
import importlib.util
import json
import os
import platform
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from commandstore.testing.engine_base import EngineUnavailable, engines_required
from commandstore.testing.engines import find_uv

PROJECT = Path(__file__).resolve().parent.parent.parent
SCRIPT = PROJECT / "infra" / "package.py"
MACHINES = {"x86_64": 0x3E, "arm64": 0xB7}
HANDLERS = ["handler", "verify_handler", "plan_handler", "copy_range_handler", "finish_handler"]
OWN_ARCH = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}.get(platform.machine().lower())
OWN_PYTHON = ".".join(platform.python_version_tuple()[:2])


def call(command, **options):
    return subprocess.run(command, check=False, capture_output=True, text=True, **options)  # noqa: S603 - no shell


def run(*arguments, **environment):
    """Run the command; its exit code, what it printed, and its errors."""
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    done = call(command, env={**os.environ, **environment})
    return done.returncode, done.stdout, done.stderr


def build(*arguments, **environment):
    code, printed, errors = run(*arguments, **environment)
    assert code == 0, errors
    return printed


def require_uv():
    if find_uv() is None:
        missing = EngineUnavailable("uv builds the package: pip install uv")
        if engines_required():
            pytest.fail(f"COMMANDSTORE_REQUIRE_ENGINES is set, but {missing}", pytrace=False)
        pytest.skip(str(missing))


@pytest.fixture(scope="module", params=sorted(MACHINES))
def package(request, tmp_path_factory):
    """A processor, its zip, and what the command printed."""
    require_uv()
    path = tmp_path_factory.mktemp("package") / f"commandstore-lambda-{request.param}.zip"
    return request.param, path, build("--arch", request.param, "--output", path)


@pytest.fixture(scope="module")
def task_root(tmp_path_factory):
    """The zip for this very processor and Python, unpacked."""
    require_uv()
    if OWN_ARCH is None or sys.platform != "linux":
        pytest.skip(f"Lambda has no {platform.machine()} with {sys.platform}, so its zip cannot be imported here")
    folder = tmp_path_factory.mktemp("task")
    build("--arch", OWN_ARCH, "--python", OWN_PYTHON, "--bytecode", "--output", folder / "package.zip")
    with zipfile.ZipFile(folder / "package.zip") as archive:
        archive.extractall(folder / "task")
    return folder / "task"


def imported(task_root, code):
    """What code prints that finds the standard library and the zip's content, and nothing else that is installed."""
    begin = "import json, sys; sys.path.insert(0, sys.argv[1]); "
    done = call([sys.executable, "-I", "-S", "-B", "-W", "error", "-c", begin + code, str(task_root)])
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_zip_is_within_lambdas_limits(package):
    _, path, _ = package
    with zipfile.ZipFile(path) as archive:
        unzipped = sum(entry.file_size for entry in archive.infolist())

    assert path.stat().st_size < 50_000_000
    assert unzipped < 250_000_000


def test_binaries_are_for_the_processor(package):
    arch, path, _ = package
    machines = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            start = archive.open(name).read(20)
            if start.startswith(b"\x7fELF"):
                machines[name] = int.from_bytes(start[18:20], "little")

    assert set(machines.values()) == {MACHINES[arch]}
    distributions = {name.partition("/")[0] for name in machines}
    assert {"pydantic_core", "orjson", "sqlalchemy", "psycopg_binary", "psycopg_binary.libs"} <= distributions
    assert {"cryptography", "_cffi_backend"} <= {name.partition(".")[0] for name in distributions}


def test_same_versions_make_the_same_bytes(package, tmp_path):
    arch, path, _ = package
    again = tmp_path / "again.zip"
    build("--arch", arch, "--output", again, "--constraint", path.with_suffix(".txt"), TZ="Asia/Tokyo")

    assert again.read_bytes() == path.read_bytes()


def test_zip_holds_what_is_imported_and_nothing_of_the_machine_that_made_it(package):
    _, path, _ = package
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        text = b"".join(archive.read(entry) for entry in entries if ".dist-info/" in entry.filename)
    names = [entry.filename for entry in entries]

    assert names == sorted(names)
    assert not [name for name in names if name.startswith(".")]
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {entry.external_attr >> 16 for entry in entries} == {0o100644}
    assert not [name for name in names if name.endswith((".pyc", ".pyi", "/RECORD", "/direct_url.json"))]
    assert not [name for name in names if name.startswith("bin/") or "/tests/" in name]
    assert not [name for name in names if name.startswith(("pytest", "moto", "aioboto3", "pyarrow", "google", "typer"))]
    assert str(PROJECT).encode() not in text
    assert any(name.endswith("/licenses/LICENSE") and name.startswith("commandstore-") for name in names)


def test_command_says_what_it_built(package):
    _, path, printed = package
    line, holds = printed.splitlines()
    listed = path.with_suffix(".txt").read_text().split()

    assert line.startswith(f"{path}  ")
    assert line.endswith(f"sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}")
    assert holds.startswith("holds ")
    held = holds.split()[1:]
    assert [name for name in held if not name.startswith("commandstore==")] == listed
    assert {"boto3", "sqlalchemy", "psycopg", "commandstore"} <= {name.partition("==")[0] for name in held}


def test_zip_opens_the_stores_of_a_sync(task_root):
    urls = [
        "postgresql://a:b@127.0.0.1/c",
        "dynamodb://commands?region=eu-central-1",
        "s3://bucket/p?region=eu-central-1",
    ]
    path, known, modules = imported(
        task_root,
        "import commandstore; from commandstore.registry import schemes, backend_from_url; "
        f"modules = [type(backend_from_url(url)).__module__ for url in {urls}]; "
        "print(json.dumps([commandstore.__file__, schemes(), modules]))",
    )

    assert path == str(task_root / "commandstore" / "__init__.py")
    assert {"postgresql", "dynamodb", "s3", "sqlite"} <= set(known)
    assert [module.split(".")[1] for module in modules] == ["sql", "dynamodb", "s3"]


def test_zip_seals_and_signs(task_root):
    sealed, key_id = imported(
        task_root,
        "from commandstore.crypto import CryptoService; from commandstore.ledger.signing import Ed25519Signer; "
        "import commandstore.entrypoints.keys; crypto = CryptoService(bytes(32)); signer = Ed25519Signer.generate(); "
        "print(json.dumps([crypto.decrypt(crypto.encrypt(b'x')).decode(), signer.key_id]))",
    )

    assert (sealed, len(key_id)) == ("x", 16)


def test_every_module_has_bytecode_that_no_file_time_outdates(task_root):
    cached = imported(
        task_root,
        "import boto3, sqlalchemy, psycopg, commandstore.registry; "
        "found = [getattr(module, '__cached__', None) for module in sys.modules.values()]; "
        "print(json.dumps([path for path in found if path and path.startswith(sys.argv[1])]))",
    )

    assert len(cached) > 100
    unchecked_hash = (1).to_bytes(4, "little")
    assert {Path(path).read_bytes()[:8] for path in cached} == {importlib.util.MAGIC_NUMBER + unchecked_hash}


def test_postgres_driver_brings_its_own_libpq(task_root):
    implementation, version = imported(
        task_root, "import psycopg; print(json.dumps([psycopg.pq.__impl__, psycopg.pq.version()]))"
    )

    assert implementation == "binary"
    assert version >= 160000


def test_handlers_are_found(task_root):
    found = imported(
        task_root,
        "from commandstore.entrypoints import aws_lambda; "
        f"print(json.dumps([name for name in {HANDLERS} if callable(getattr(aws_lambda, name, None))]))",
    )

    assert found == HANDLERS


def test_unknown_extra_is_refused():
    code, _, errors = run("--arch", "arm64", "--extra", "none-such")

    assert code == 2
    assert "none-such" in errors


@pytest.mark.parametrize("python", ["3", "3.10", "3.12.1", "new"])
def test_python_that_cannot_be_is_refused(python):
    code, _, errors = run("--arch", "arm64", "--python", python)

    assert code == 2
    assert repr(python) in errors


def test_timestamp_that_is_none_is_refused(tmp_path):
    require_uv()
    code, _, errors = run("--arch", "arm64", "--output", tmp_path / "a.zip", SOURCE_DATE_EPOCH="today")

    assert code == 1
    assert "SOURCE_DATE_EPOCH" in errors
    assert not list(tmp_path.iterdir())


def test_missing_uv_is_named(tmp_path):
    # Neither by name, nor on the search path, nor as a module.
    begin = "import sys; sys.modules['uv'] = None; sys.argv = sys.argv[1:]; "
    script = f"{begin} import runpy; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    arguments = ["package", "--arch", "arm64", "--output", str(tmp_path / "a.zip")]
    done = call([sys.executable, "-c", script, *arguments], env={"PATH": str(tmp_path)})

    assert done.returncode == 1
    assert done.stderr == "package: uv builds the package, and it is not on the search path: pip install uv\n"


@pytest.fixture
def builder():
    return runpy.run_path(str(SCRIPT))


def test_too_large_a_package_is_refused_and_its_largest_parts_named(builder):
    with pytest.raises(builder["PackageError"], match=r"3\.0 MB zipped, and Lambda takes 1 MB.*: big 2 MB, small 1 MB"):
        builder["_check_limit"](
            "zipped", 3 * 2**20, 2**20, {"small/a": bytes(2**20), "big/a": bytes(2**20), "big/b": bytes(2**20)}
        )


def test_binary_for_another_processor_is_refused(builder):
    elf = b"\x7fELF".ljust(18, b"\0") + (0x3E).to_bytes(2, "little")
    builder["_check_machine"]({"a.so": elf}, "x86_64")
    with pytest.raises(builder["PackageError"], match=r"a\.so is for another processor than arm64"):
        builder["_check_machine"]({"a.so": elf}, "arm64")
