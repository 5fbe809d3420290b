"""The architecture, held: a module imports only from lower layers, never sideways, never from the front door.

file -> load -> rows -> plan -> calls -> client -> answers -> journal -> reconcile -> files, exit code
"""

import ast
import re
from itertools import chain
from pathlib import Path

import pytest

import batch

FOLDER = Path(batch.__file__).parent
PACKAGES = ("storage", "stand_in", "input", "planning", "sending", "reconciliation", "sharding", "screen")
"""Each may import from those before it, and the modules beside them that a layer allows."""
PATH_OF = {
    path.stem: path
    for folder in (FOLDER, *(FOLDER / name for name in PACKAGES))
    for path in folder.glob("*.py")
    if path.stem != "__init__"
}
MODULES = sorted(PATH_OF)

ONLY_HERE = {
    "httpx2": {"carriage", "exchange", "given", "plain", "session", "app", "making", "checking"},
    "httpcore2": {"plain", "stream"},
    "aiohttp": {"fast"},
    "msgspec": {"wire", "blobs", "shared_answer"},
    "yarl": {"fast"},
    "tenacity": {"retry"},
    "sqlite3": {"opening", "witness", "reader", "journal", "writer", "fleet", "apart"},
    "xml": {"package"},
    "time": {"clock", "sandbox"},
    "random": {"clock"},
    "click": {"cli", "completion", "endings", "terminal", "interview"},
    "rich": {"terminal", "voice"},
    "jinja2": {"report_html"},
    "xlsxwriter": {"report_xlsx"},
    "fsspec": {"remote"},
    "starlette": {"endpoints", "sandbox"},
    "uvicorn": {"sandbox"},
    "redis": {"redis_line"},
}
"""Libraries and the modules that may know them; several pass a transport on that a test or the sandbox gave."""


FOLDERS = ("batch", *(f"batch.{name}" for name in PACKAGES))


def path_of(module: str) -> Path:
    return PATH_OF.get(module, FOLDER / f"{module}.py")


def imports_of(module: str) -> set[str]:
    """Every name a module imports, wherever in it: `batch.input.load`, `batch.__version__`, `httpx2` ..."""
    tree = ast.parse(path_of(module).read_text())
    plain = (alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names)
    named = (
        f"{node.module}.{alias.name}" if node.module in FOLDERS else str(node.module)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    )
    return set(chain(plain, named))


def ours(module: str) -> set[str]:
    """Modules of ours that a module imports, by their own names."""
    names = {name.removeprefix("batch.") for name in imports_of(module) if name.startswith("batch.")}
    bare = {name.partition(".")[2] if name.partition(".")[0] in PACKAGES else name for name in names}
    return bare - {"__version__"}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_says_what_it_is_for(package: str) -> None:
    assert ast.get_docstring(ast.parse((FOLDER / package / "__init__.py").read_text()))


def test_every_folder_is_a_package_that_is_known() -> None:
    folders = {path.name for path in FOLDER.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert folders == {*PACKAGES, "airflow_provider"}


@pytest.mark.parametrize(("library", "modules"), ONLY_HERE.items())
def test_a_library_is_known_only_where_it_belongs(library: str, modules: set[str]) -> None:
    users = {module for module in MODULES if library in {name.split(".")[0] for name in imports_of(module)}}
    assert users <= modules


@pytest.mark.parametrize("module", MODULES)
def test_a_module_says_what_it_is_for(module: str) -> None:
    assert ast.get_docstring(ast.parse(path_of(module).read_text()))


@pytest.mark.parametrize("module", MODULES)
def test_no_function_is_longer_than_fifty_lines(module: str) -> None:
    tree = ast.parse(path_of(module).read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert [one.name for one in functions if (one.end_lineno or 0) - one.lineno >= 50] == []


# What knows Airflow stands beside the command line: above everything, and imported by nothing.

PROVIDER = FOLDER / "airflow_provider"
PROVIDER_MODULES = sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in PROVIDER.rglob("*.py"))
PLAIN = {"airflow_provider/__init__"}
"""Airflow reads these in every process: they import nothing but the standard library."""


def test_nothing_else_knows_airflow() -> None:
    users = {
        module
        for module in MODULES
        if any(re.match(r"airflow|batch\.airflow_provider", name) for name in imports_of(module))
    }
    assert users == set()


@pytest.mark.parametrize("module", [name for name in PROVIDER_MODULES if "example" not in name])
def test_a_module_of_the_provider_is_as_the_others(module: str) -> None:
    test_a_module_says_what_it_is_for(module)
    test_no_function_is_longer_than_fifty_lines(module)
