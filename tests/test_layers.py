"""The architecture, held: a module imports only from lower layers, never sideways, never from the front door.

file -> load -> rows -> plan -> calls -> client -> answers -> journal -> reconcile -> files, exit code
"""

import ast
import re
from itertools import chain
from pathlib import Path

import pytest

import batch

LAYERS = {
    -1: {"ownership"},
    0: {
        "abreast",
        "actions",
        "airflow_context",
        "base_url",
        "climb",
        "clock",
        "facts",
        "flags",
        "garbage",
        "hashed",
        "header_names",
        "held",
        "hints",
        "identifiers",
        "interrupt",
        "memory",
        "number_formats",
        "octets",
        "outage",
        "printable",
        "radix",
        "rate",
        "reasons",
        "records",
        "scratch",
        "spellings",
        "split",
        "stops",
        "stream",
        "texts",
        "event_sink",
        "trusted",
        "urls",
    },
    1: {
        "commands",
        "details",
        "entries",
        "errors",
        "group_folder",
        "grouping",
        "night_order",
        "ordering",
        "outcomes",
        "pacing",
        "piece",
        "serials",
        "trimming",
        "witness",
    },
    2: {
        "fleet",
        "foreign",
        "line",
        "lock",
        "model",
        "open_files",
        "opening",
        "pace",
        "package",
        "remote",
        "signs",
        "whole",
        "writer",
    },
    3: {
        "apart",
        "blobs",
        "calls",
        "claims",
        "completion",
        "dialect",
        "endings",
        "endpoints",
        "options",
        "profiles",
        "rearranged",
        "redaction",
        "redis_line",
        "rows",
        "sheet_xml",
        "staging",
        "summary",
        "tally",
        "verdict",
        "wire",
    },
    4: {
        "carriage",
        "cells",
        "draft",
        "held_details",
        "input_holds",
        "lease",
        "log",
        "passed_over",
        "plan",
        "layout",
        "reader",
        "sandbox",
        "sources",
        "stored",
        "workbook",
    },
    5: {
        "config",
        "digest",
        "fast",
        "fed_back",
        "given",
        "holdings",
        "journal",
        "parse",
        "plain",
        "planner",
        "reconcile",
        "shards",
        "since",
        "trailer",
    },
    6: {
        "attention_files",
        "audit",
        "books",
        "brakes",
        "effect",
        "exchange",
        "findings",
        "going_on",
        "holds",
        "load",
        "recorded",
        "report_csv",
        "runs",
        "work",
    },
    7: {"feeding", "gathered", "past", "publishing", "report_html", "report_xlsx", "survey", "traffic", "unwritten"},
    8: {"outputs", "progress", "retry", "run_history", "setup", "shared_pace"},
    9: {"client", "concluding", "interview", "look", "order_guard", "pace_keeping", "voice"},
    10: {"baseline", "check"},
    11: {"runner"},
    12: {"verify"},
    13: {"sender"},
    14: {"places", "starting"},
    15: {"sharing", "undoing"},
    16: {"division"},
    17: {"barrier", "terminal"},
    18: {"making", "merging"},
    19: {"app"},
    20: {"cli"},
    21: {"__main__"},
}
LAYER_OF = {module: layer for layer, modules in LAYERS.items() for module in modules}
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
    "httpx2": {"carriage", "exchange", "given", "plain", "sender", "app", "making"},
    "httpcore2": {"plain", "stream"},
    "aiohttp": {"fast"},
    "msgspec": {"wire", "blobs"},
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
"""Libraries and the modules that may know them; `exchange`, `sender`, `making` and `app` hand a transport through."""


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


def test_every_module_has_its_place() -> None:
    assert sorted(LAYER_OF) == MODULES


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_lower_layers(module: str) -> None:
    assert {name for name in ours(module) if LAYER_OF[name] >= LAYER_OF[module]} == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_knows_only_those_before_it(package: str) -> None:
    later = PACKAGES[PACKAGES.index(package) + 1 :]
    inside = [module for module in MODULES if PATH_OF[module].parent.name == package]
    assert [(module, name) for module in inside for name in ours(module) if PATH_OF[name].parent.name in later] == []


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


@pytest.mark.parametrize("module", PROVIDER_MODULES)
def test_the_provider_does_not_import_the_command_line(module: str) -> None:
    used = {name for name in ours(module) if not name.startswith("airflow_provider")}
    assert {name for name in used if LAYER_OF[name] >= LAYER_OF["cli"]} == set()
    assert module not in PLAIN or not used


@pytest.mark.parametrize("module", [name for name in PROVIDER_MODULES if "example" not in name])
def test_a_module_of_the_provider_is_as_the_others(module: str) -> None:
    test_a_module_says_what_it_is_for(module)
    test_no_function_is_longer_than_fifty_lines(module)
