"""Builds the zip that the Lambda functions run from.

    uv run python infra/package.py --arch arm64 [--python 3.12] [--bytecode] [--output dist/....zip]

It holds this project's wheel and the wheels that its extras ``sql``, ``aws``, ``crypto`` and ``lambda`` need, for that
processor and Python, at the versions that are the newest today. They are listed beside the zip in a ``.txt``: give that
as ``--constraint`` to build the same again. The same wheels make the same bytes: names are sorted, times and
permissions fixed (``SOURCE_DATE_EPOCH`` is heeded).

boto3 is in it although Lambda has one: Lambda's changes when AWS wants it to, ours when we have tested it. botocore
keeps its models of services that nobody calls here (half of the zip, which stays far below the limit), so that a
further backend finds them.

``--bytecode`` adds what Python would otherwise compile at every cold start, as Lambda's folder of code is read-only:
imports take about a quarter of the time. It needs a Python of the functions' version, which uv finds or fetches; any
other version ignores that bytecode.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
import tomllib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path, PurePosixPath

from commandstore.testing.engines import find_uv

PROJECT = Path(__file__).resolve().parent.parent
# `crypto`: payloads are opened and sealed by keys in a secret, and signatures of the ledger are looked at once more.
EXTRAS = ("sql", "aws", "crypto", "lambda")
# What AWS takes: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
MAX_ZIPPED = 50 * 1024 * 1024
MAX_UNZIPPED = 250 * 1024 * 1024

# The processor's number in an ELF header, and its name in a wheel's platform.
_MACHINES = {"x86_64": (0x3E, "x86_64"), "arm64": (0xB7, "aarch64")}
# Python 3.11 runs on Amazon Linux 2 (glibc 2.26), later ones on Amazon Linux 2023 (glibc 2.34).
_OLD_LINUX, _NEW_LINUX = "manylinux2014", "manylinux_2_28"
_FIRST_ON_NEW_LINUX = (3, 12)

_TASK_ROOT = "/var/task"
_ELF = b"\x7fELF"
_ELF_MACHINE = slice(18, 20)
_ZIP_EPOCH = 315532800  # a zip knows no time before 1980

# What no import reads.
_DROPPED_FOLDERS = frozenset({"tests", "test"})
_DROPPED_SUFFIXES = frozenset({".pyi", ".pyx", ".pxd"})
# botocore reads its examples only to make its documentation.
_DROPPED_FILES = frozenset({"py.typed", "examples-1.json", "examples-1.json.gz"})
# Where and by whom a distribution was installed. METADATA, entry points and licences stay.
_DROPPED_FACTS = frozenset({"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json"})

_Timestamp = tuple[int, int, int, int, int, int]


class PackageError(Exception):
    """The zip could not be built; the message says why and what to do."""


@dataclass(frozen=True)
class Package:
    """A zip that was built."""

    path: Path
    zipped: int
    unzipped: int
    files: int
    sha256: str
    holds: tuple[str, ...]
    """Its distributions, as ``name==version``."""

    def __str__(self) -> str:
        size = f"{self.zipped / 2**20:.1f} MB zipped  {self.unzipped / 2**20:.1f} MB unzipped  {self.files} files"
        return f"{self.path}  {size}  sha256 {self.sha256}\nholds {' '.join(self.holds)}"


def build(
    arch: str,
    *,
    python: str,
    output: Path,
    extras: Sequence[str] = (),
    constraint: Path | None = None,
    bytecode: bool = False,
) -> Package:
    """Build the zip for a processor and a Python."""
    uv = find_uv()
    if uv is None:
        raise PackageError("uv builds the package, and it is not on the search path: pip install uv")
    timestamp = _timestamp()
    with tempfile.TemporaryDirectory(prefix="commandstore-package-") as scratch:
        wheel = _project_wheel(uv, Path(scratch, "wheel"))
        target = Path(scratch, "target")
        _install(uv, f"{wheel}[{','.join(sorted({*EXTRAS, *extras}))}]", target, arch, python, constraint)
        if bytecode:
            _compile(uv, target, python)
        files = _contents(target)
        holds = tuple(sorted(f"{found.name.lower()}=={found.version}" for found in distributions(path=[str(target)])))
        _check_machine(files, arch)
        unzipped = sum(len(data) for data in files.values())
        _check_limit("unzipped", unzipped, MAX_UNZIPPED, files)
        output.parent.mkdir(parents=True, exist_ok=True)
        draft = output.with_name(f".{output.name}.{os.getpid()}")
        try:
            _write(files, timestamp, draft)
            zipped = draft.stat().st_size
            _check_limit("zipped", zipped, MAX_ZIPPED, files)
            digest = hashlib.sha256(draft.read_bytes()).hexdigest()
            draft.replace(output)
        finally:
            draft.unlink(missing_ok=True)
    # The project itself is not on an index, so a list that is given as a constraint must not name it.
    listed = [line for line in holds if not line.startswith("commandstore==")]
    output.with_suffix(".txt").write_text("\n".join(listed) + "\n")
    return Package(output, zipped, unzipped, len(files), digest, holds)


def _project_wheel(uv: Sequence[str], folder: Path) -> Path:
    _run([*uv, "build", "--quiet", "--wheel", "--python", sys.executable, "--out-dir", str(folder), str(PROJECT)])
    return next(folder.glob("*.whl"))


def _install(
    uv: Sequence[str], requirement: str, target: Path, arch: str, python: str, constraint: Path | None
) -> None:
    linux = _NEW_LINUX if tuple(map(int, python.split("."))) >= _FIRST_ON_NEW_LINUX else _OLD_LINUX
    command = [*uv, "pip", "install", "--quiet", "--python", sys.executable, "--target", str(target)]
    command += ["--python-platform", f"{_MACHINES[arch][1]}-{linux}", "--python-version", python]
    # Nothing is compiled for another processor here, and bytecode would be that of this Python.
    command += ["--only-binary", ":all:", "--no-compile"]
    if constraint is not None:
        command += ["--constraint", str(constraint)]
    _run([*command, requirement])


def _compile(uv: Sequence[str], target: Path, python: str) -> None:
    command = [*uv, "run", "--quiet", "--no-project", "--python", python, "--", "python", "-I", "-m", "compileall"]
    # Unchecked: a zip's times are not those that were compiled, and nobody edits the code where it runs. The path in
    # it is that of Lambda, as the one here is another each time.
    command += ["-q", "--invalidation-mode", "unchecked-hash", "-s", str(target), "-p", _TASK_ROOT, str(target)]
    _run(command)


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=PROJECT)  # noqa: S603 - no shell
    if done.returncode:
        said = f"{done.stdout}\n{done.stderr}".strip()
        raise PackageError(f"{' '.join(command[:3])} failed:\n{said[-4000:]}")


def _contents(target: Path) -> dict[str, bytes]:
    found = (path for path in target.rglob("*") if path.is_file())
    named = {path.relative_to(target).as_posix(): path for path in found}
    return {name: named[name].read_bytes() for name in sorted(named) if _is_needed(PurePosixPath(name))}


def _is_needed(path: PurePosixPath) -> bool:
    # At the top, bin holds commands for a shell, with this machine's paths in them, and uv has left its lock.
    if path.parts[0] in {"bin", ".lock"} or not _DROPPED_FOLDERS.isdisjoint(path.parts):
        return False
    if path.parts[0].endswith(".dist-info"):
        return path.name not in _DROPPED_FACTS
    return path.suffix not in _DROPPED_SUFFIXES and path.name not in _DROPPED_FILES


def _check_machine(files: Mapping[str, bytes], arch: str) -> None:
    expected = _MACHINES[arch][0]
    for name, data in files.items():
        if data.startswith(_ELF) and int.from_bytes(data[_ELF_MACHINE], "little") != expected:
            raise PackageError(f"{name} is for another processor than {arch}")


def _check_limit(state: str, size: int, limit: int, files: Mapping[str, bytes]) -> None:
    if size <= limit:
        return
    sizes: dict[str, int] = {}
    for name, data in files.items():
        top = name.partition("/")[0]
        sizes[top] = sizes.get(top, 0) + len(data)
    largest = ", ".join(f"{top} {sizes[top] / 2**20:.0f} MB" for top in sorted(sizes, key=lambda top: -sizes[top])[:5])
    raise PackageError(
        f"the package has {size / 2**20:.1f} MB {state}, and Lambda takes {limit / 2**20:.0f} MB; "
        f"leave out an --extra. The largest parts, unzipped: {largest}"
    )


def _timestamp() -> _Timestamp:
    given = os.environ.get("SOURCE_DATE_EPOCH", "0")
    try:
        moment = time.gmtime(max(int(given), _ZIP_EPOCH))
    except (ValueError, OverflowError, OSError):
        raise PackageError(f"SOURCE_DATE_EPOCH is a number of seconds since 1970, not {given!r}") from None
    return moment[:6]


def _write(files: Mapping[str, bytes], timestamp: _Timestamp, path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, timestamp)
            entry.create_system = 3  # Unix, also when built elsewhere
            # Lambda runs the code as another user than the one who owns it.
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED)


def _python_version(text: str) -> str:
    parts = text.split(".")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts) or tuple(map(int, parts)) < (3, 11):  # noqa: PLR2004
        raise argparse.ArgumentTypeError(f"a version of Python like 3.12, at least 3.11, not {text!r}")
    return text


def _known_extras() -> list[str]:
    # uv only warns of an extra that does not exist.
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    return sorted({*project["optional-dependencies"]} - {*EXTRAS})


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="package", description="Builds the zip that the Lambda functions run from.")
    parser.add_argument("--arch", required=True, choices=sorted(_MACHINES), help="the functions' processor")
    parser.add_argument("--python", default="3.12", type=_python_version, help="the functions' Python (default: 3.12)")
    parser.add_argument(
        "--extra",
        action="append",
        default=[],
        choices=_known_extras(),
        help=f"an extra to have beside {', '.join(EXTRAS)}; repeatable",
    )
    parser.add_argument("--constraint", type=Path, help="versions to keep to: the .txt of an earlier build")
    parser.add_argument("--bytecode", action="store_true", help="compile the code, for quicker cold starts")
    parser.add_argument("--output", type=Path, help="default: dist/commandstore-lambda-ARCH.zip")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Build what the command line asks for; 0 if it went well."""
    options = _options(arguments)
    output = options.output or PROJECT / "dist" / f"commandstore-lambda-{options.arch}.zip"
    constraint = options.constraint.resolve() if options.constraint else None
    try:
        package = build(
            options.arch,
            python=options.python,
            output=output.resolve(),
            extras=options.extra,
            constraint=constraint,
            bytecode=options.bytecode,
        )
    except PackageError as error:
        sys.stderr.write(f"package: {error}\n")
        return 1
    sys.stdout.write(f"{package}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
