"""The architecture beside the import contracts in pyproject.toml: which module may know a library, and its looks."""

import ast
from pathlib import Path

import pytest

import telemetron_batch

ROOT = Path(telemetron_batch.__file__).parent
PATHS = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in ROOT.rglob("*.py")}
MODULES = sorted(PATHS)
GENERATED = {"reports.compiled_page"}

ONLY_HERE = {
    "httpx2": {
        "api.failures",
        "api.http",
        "api.target",
        "api.tls",
        "notices.ping",
        "run.begin_planned",
        "comparison.lookup",
        "run.check",
        "run.open_api",
        "run.pipeline",
        "run.preview",
        "sharding.run_shard",
        "web.desk.desk",
    },
    "httpcore2": {"api.failures", "api.http", "api.watched_stream"},
    "msgspec": {"api.protocol", "journal.codec", "rate_limit.shared_answer"},
    "tenacity": {"api.retry"},
    "tomlkit": {"init.profile_file"},
    "sqlite3": {
        "journal.connection",
        "journal.facts_reader",
        "journal.journal",
        "journal.reader",
        "journal.removed_runs",
        "journal.rewrite",
        "journal.takeover",
        "journal.witness",
        "journal.writer",
        "sandbox.state",
        "verification.answers",
    },
    "xml": {"input.zip_package"},
    "fcntl": {"storage.kernel_lock"},
    "msvcrt": {"storage.kernel_lock"},
    "pwd": {"domain.ownership"},
    "resource": {"storage.open_files"},
    "win32api": {"sending.console_close", "storage.windows_users"},
    "win32file": {"storage.kernel_lock"},
    "win32security": {"storage.windows_users"},
    "time": {"sandbox.server", "storage.clock"},
    "random": {"storage.clock"},
    "click": {"init.interview", *(name for name in MODULES if name.startswith("cli."))},
    "rich": {"cli.console", "cli.output", "cli.show_end", "cli.show_lists", "cli.show_plan"},
    "jinja2": {"reports.compiled_page", "reports.page", "web.render"},
    "xlsxwriter": {"reports.workbook"},
    "fsspec": {"storage.object_store"},
    "starlette": {
        "sandbox.endpoints",
        "sandbox.faults",
        "sandbox.server",
        *(name for name in MODULES if name.startswith("web.")),
    },
    "uvicorn": {"sandbox.server", "web.server"},
    "argon2": {"web.passwords"},
    "apprise": {"notices.messages"},
    "prometheus_client": {"notices.metrics"},
    "redis": {"rate_limit.redis_backend"},
    "sqlalchemy": {"input.database"},
    "airflow": {name for name in MODULES if name.startswith("airflow_provider")},
}
"""Libraries and the modules that may know them; several pass a transport on that a test or the sandbox gave."""


def libraries_of(module: str) -> set[str]:
    """The top-level packages that a module imports, wherever in it."""
    tree = ast.parse(PATHS[module].read_text())
    plain = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    named = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    return {name.partition(".")[0] for name in plain | named}


@pytest.mark.parametrize(("library", "modules"), ONLY_HERE.items())
def test_a_library_is_known_only_where_it_belongs(library: str, modules: set[str]) -> None:
    assert {module for module in MODULES if library in libraries_of(module)} <= modules


def test_airflow_reads_the_provider_without_importing_anything_else() -> None:
    assert libraries_of("airflow_provider.__init__") <= {"typing", "__future__", "telemetron_batch"}
    assert "telemetron_batch" not in libraries_of("airflow_provider.__init__")


def test_no_module_is_loose_beside_the_packages() -> None:
    assert {path.name for path in ROOT.glob("*.py")} == {"__init__.py", "__main__.py"}


@pytest.mark.parametrize("module", [name for name in MODULES if "example" not in name])
def test_a_module_says_what_it_is_for(module: str) -> None:
    assert ast.get_docstring(ast.parse(PATHS[module].read_text()))


@pytest.mark.parametrize("module", [name for name in MODULES if "example" not in name and name not in GENERATED])
def test_no_function_is_longer_than_fifty_lines(module: str) -> None:
    tree = ast.parse(PATHS[module].read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert [one.name for one in functions if (one.end_lineno or 0) - one.lineno >= 50] == []
