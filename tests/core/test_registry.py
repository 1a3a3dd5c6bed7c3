"""From a URL to a store."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from commandstore import (
    Command,
    CommandStore,
    ConfigurationError,
    StoreClosed,
    StoreNotFound,
    open_async_store,
    open_store,
)
from commandstore.memory import MemoryBackend
from commandstore.registry import backend_from_url, schemes

THIRD_PARTY = """
from commandstore.memory import MemoryBackend

class TheirBackend(MemoryBackend):
    store_type = "theirs"

def from_url(url):
    return TheirBackend(url.only({"name"})["name"])
"""


def test_the_schemes_are_those_of_the_entry_points() -> None:
    assert {"dynamodb", "memory", "postgres", "postgresql", "sqlite"} <= set(schemes())
    assert schemes() == sorted(schemes())


def test_an_unknown_scheme_is_told_with_those_there_are_and_without_the_password() -> None:
    with pytest.raises(ConfigurationError, match=r"unknown store URL scheme 'mysql'.*memory.*sqlite") as caught:
        open_store("mysql://user:secret@host/db")
    assert "secret" not in str(caught.value)


def test_a_store_by_url_is_open_and_a_context_manager() -> None:
    with open_store("memory://", attributes={"a": 1}) as store:
        store.create(Command("c1", 5))
        assert store.total() == 1
        assert store.options.attributes == {"a": 1}
    with pytest.raises(StoreClosed):
        store.total()


def test_an_async_store_by_url_is_open_and_a_context_manager() -> None:
    async def main() -> int:
        async with await open_async_store("memory://", read_only=True) as store:
            assert store.options.read_only
            return await store.total()

    assert asyncio.run(main()) == 0


def test_nothing_is_created_by_opening_a_url(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFound):
        open_store(f"sqlite:///{tmp_path / 'app.db'}")
    assert list(tmp_path.iterdir()) == []
    open_store(f"sqlite:///{tmp_path / 'app.db'}", create=True).close()
    assert (tmp_path / "app.db").exists()


def test_memory_is_shared_by_name_alone() -> None:
    assert backend_from_url("memory://shared-by-name") is backend_from_url("memory://shared-by-name")
    assert backend_from_url("memory://") is not backend_from_url("memory://")
    assert isinstance(backend_from_url("memory://"), MemoryBackend)
    for url in ("memory://x/path", "memory://x?option=1"):
        with pytest.raises(ConfigurationError):
            backend_from_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "memory://user:s3cr3t@host",
        "sqlite://user:s3cr3t@host/app.db",
        "sqlite://s3cr3t",
        "dynamodb://AKIA:s3cr3t",
        "dynamodb://AKIA:s3cr3t@table",
    ],
)
def test_a_password_where_none_belongs_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        backend_from_url(url)
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    ("module", "url", "extra"),
    [
        ("sqlalchemy", "sqlite:///app.db", "sql"),
        ("sqlalchemy", "postgresql://host/db", "sql"),
        ("boto3", "dynamodb://table", "aws"),
        ("botocore", "dynamodb://table", "aws"),
    ],
)
def test_a_missing_extra_is_told_with_its_pip_line(module: str, url: str, extra: str) -> None:
    # In a process of its own: here the module is loaded, and others hold on to it.
    script = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from commandstore import MissingDependency, open_store\n"
        f"try: open_store({url!r})\n"
        "except MissingDependency as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout  # noqa: S603
    assert f"needs the {module} package: pip install 'commandstore[{extra}]'" in said


def test_a_backend_that_is_broken_is_not_a_missing_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _distribution(tmp_path, "broken_backend", "import a_module_that_is_nowhere\n", "broken")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_nowhere"):
        backend_from_url("broken://")


def test_a_distribution_of_somebody_else_can_add_a_backend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _distribution(tmp_path, "their_backend", THIRD_PARTY, "theirs")
    monkeypatch.syspath_prepend(tmp_path)
    assert "theirs" in schemes()
    store = open_store("theirs://?name=x")
    assert isinstance(store, CommandStore)
    assert store.info().store_type == "theirs"
    store.close()


def _distribution(place: Path, module: str, source: str, scheme: str) -> None:
    (place / f"{module}.py").write_text(source)
    metadata = place / f"{module}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[commandstore.backends]\n{scheme} = {module}:from_url\n")
