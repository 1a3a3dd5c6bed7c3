"""What an installed wheel keeps of its promises, extra by extra: run by the Python of an empty environment.

``python -I .ci/imports.py EXTRA``: with ``none``, what the core does alone, and that whatever needs more says so by the
line that installs it.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import distribution
from pathlib import Path

MODULES = {
    "none": [
        "commandstore",
        "commandstore.memory",
        "commandstore.replication",
        "commandstore.audit",
        "commandstore.export",
    ],
    "sql": ["commandstore.sql.backend", "commandstore.sql.sqlite", "commandstore.sql.postgres"],
    "aws": [
        "commandstore.dynamodb.backend",
        "commandstore.s3.backend",
        "commandstore.aws.kms",
        "commandstore.aws.kms_signer",
    ],
    "async": ["aioboto3", "commandstore.dynamodb.backend", "commandstore.s3.backend"],
    "gcp": ["commandstore.firestore.backend", "commandstore.firestore.wire"],
    "crypto": ["commandstore.crypto", "commandstore.vault", "commandstore.signingkey", "commandstore.ledger.signing"],
    "cli": ["commandstore.cli.app", "commandstore.cli.stores", "commandstore.cli.sync", "commandstore.__main__"],
    "parquet": ["commandstore.export"],
    "lambda": ["commandstore.entrypoints.settings"],
    "aws,sql,lambda": ["commandstore.entrypoints.aws_lambda", "commandstore.entrypoints.keys"],
    "testing": [
        "commandstore.testing.conformance",
        "commandstore.testing.stateful",
        "commandstore.testing.engines",
        "commandstore.testing.faults",
        "commandstore.testing.histories",
        "commandstore.testing.linearizability",
        "commandstore.testing.scripts",
        # boto3 comes with moto.
        "commandstore.testing.faults.client",
        "commandstore.testing.faults.aws",
    ],
    "gcp,testing": ["commandstore.testing.faults.firestore"],
}
KEY = bytes(32)


@contextlib.contextmanager
def missing(extra: str) -> Iterator[None]:
    """What is done in here says which extra it needs."""
    from commandstore import MissingDependency

    try:
        yield
    except MissingDependency as error:
        assert f"pip install 'commandstore[{extra}]'" in str(error), error
    else:
        raise AssertionError(f"nothing is said of commandstore[{extra}]")


def none(folder: Path) -> None:
    extras = set(distribution("commandstore").metadata.get_all("Provides-Extra") or ()) - {"all"}
    assert extras == {name for name in MODULES if "," not in name} - {"none"}, "the table of extras is not pyproject's"
    from commandstore import Command, open_store
    from commandstore.cli import main
    from commandstore.crypto import CryptoService
    from commandstore.export import export_commands
    from commandstore.ledger.signing import Ed25519Signer

    with open_store("memory://", create=True) as store:
        store.create(Command("c1", 1, data_bytes=b"x"))
        assert store.list().total == 1
        with missing("parquet"):
            export_commands(store, folder / "out.parquet", format="parquet")
        assert export_commands(store, folder / "out.jsonl").commands == 1
    for url, extra in (
        ("sqlite:///app.db", "sql"),
        ("postgresql://h/db", "sql"),
        ("dynamodb://commands?region=eu-central-1", "aws"),
        ("s3://bucket/commands?region=eu-central-1", "aws"),
        ("firestore://project/commands", "gcp"),
    ):
        with missing(extra):
            open_store(url)
    for crypto in (lambda: CryptoService(KEY), Ed25519Signer.generate):
        with missing("crypto"):
            crypto()
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        assert main(["info", "memory://"]) == 2
    assert "pip install 'commandstore[cli]'" in said.getvalue()


def sql(folder: Path) -> None:
    from commandstore import Command, open_store

    with open_store(f"sqlite:///{folder}/app.db", create=True) as store:
        store.create(Command("c1", 1))
        assert store.total() == 1


def aws(_: Path) -> None:
    from commandstore import open_async_store

    with missing("async"):
        asyncio.run(open_async_store("dynamodb://commands?region=eu-central-1&endpoint_url=http://127.0.0.1:9"))


def crypto(_: Path) -> None:
    from commandstore import Command, open_store
    from commandstore.crypto import CryptoService
    from commandstore.ledger.signing import Ed25519Signer

    with open_store("memory://", create=True, crypto=CryptoService(KEY), signer=Ed25519Signer(KEY)) as store:
        store.create(Command("c1", 1, data_bytes=b"x"))
        assert store.get("c1") == Command("c1", 1, data_bytes=b"x")


def cli(_: Path) -> None:
    from commandstore.cli import main

    with contextlib.redirect_stdout(io.StringIO()):
        assert main(["--version"]) == main(["--help"]) == main(["info", "memory://x", "--json"]) == 0


def parquet(folder: Path) -> None:
    from commandstore import Command, open_store
    from commandstore.export import export_commands

    with open_store("memory://", create=True) as store:
        store.create(Command("c1", 1))
        assert export_commands(store, folder / "out.parquet", format="parquet").commands == 1


USES: dict[str, Callable[[Path], None]] = {
    "none": none,
    "sql": sql,
    "aws": aws,
    "crypto": crypto,
    "cli": cli,
    "parquet": parquet,
}


def main(extra: str) -> None:
    """Import what this extra promises, and use a little of it."""
    for name in MODULES[extra]:
        import_module(name)
    import commandstore

    installed = Path(str(distribution("commandstore").locate_file("commandstore"))).resolve()
    assert Path(commandstore.__file__).resolve().parent == installed, "this is not the wheel's package"
    assert (installed / "py.typed").is_file(), "the wheel lacks py.typed"
    with tempfile.TemporaryDirectory() as folder:
        USES.get(extra, lambda _: None)(Path(folder))
    print(f"  {extra}: {', '.join(MODULES[extra])}")


if __name__ == "__main__":
    main(sys.argv[1])
