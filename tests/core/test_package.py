"""What the package shows, and what importing it costs."""

import ast
import importlib
import inspect
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import commandstore
import commandstore.drive

SDKS = (
    "aioboto3",
    "aiobotocore",
    "boto3",
    "botocore",
    "cryptography",
    "google",
    "psycopg",
    "pyarrow",
    "rich",
    "sqlalchemy",
    "typer",
)
PURE = [
    module.name
    for package in (commandstore, commandstore.drive)
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
    if not module.ispkg and not module.name.endswith("__main__")
]


def test_all_is_exact_and_sorted() -> None:
    # What a type checker sees of the package is what is imported under TYPE_CHECKING.
    block = next(node for node in ast.parse(inspect.getsource(commandstore)).body if isinstance(node, ast.If))
    shown = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert commandstore.__all__ == sorted(shown)


@pytest.mark.parametrize("name", commandstore.__all__)
def test_every_public_name_is_there(name: str) -> None:
    value = getattr(commandstore, name)
    assert getattr(commandstore, name) is value
    assert value.__name__ == name


def test_no_other_name_is_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = commandstore.Nothing  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", PURE)
def test_all_of_a_module_is_exact(name: str) -> None:
    module = importlib.import_module(name)
    tree = ast.parse(inspect.getsource(module))
    defined = {
        node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    }
    public = {name for name in defined if not name.startswith("_")}
    assert public <= set(module.__all__), "a public class or function that isn't in __all__"
    assert all(hasattr(module, name) for name in module.__all__)
    assert len(module.__all__) == len(set(module.__all__))


def test_the_version_is_that_of_the_project() -> None:
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert f'version = "{commandstore.__version__}"' in project


@pytest.mark.parametrize("statement", ["import commandstore", "import commandstore.memory, commandstore.replication"])
def test_importing_the_library_loads_no_sdk(statement: str) -> None:
    script = f"{statement}\nimport json, sys\nprint(json.dumps(list(sys.modules)))"
    # -S would hide the library as well; -I keeps this process's path and settings out.
    said = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)  # noqa: S603
    loaded = {module.partition(".")[0] for module in json.loads(said.stdout)}
    assert loaded.isdisjoint(SDKS)


def test_a_store_in_memory_loads_no_sdk() -> None:
    script = (
        "from commandstore import Command, open_store\n"
        "with open_store('memory://') as store: store.create(Command('c1', 5)); assert store.get('c1')\n"
        "import json, sys\nprint(json.dumps(list(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)  # noqa: S603
    assert {module.partition(".")[0] for module in json.loads(said.stdout)}.isdisjoint(SDKS)


def test_the_package_is_typed() -> None:
    assert (Path(commandstore.__file__).parent / "py.typed").exists()
