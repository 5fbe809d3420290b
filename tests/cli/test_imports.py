"""The libraries that each command imports, so that a short command does not wait for those it does not need."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from telemetron_batch.sandbox.server import serve_in_thread
from telemetron_batch.sandbox.state import SandboxState
from tests.support.listening import free_port

ROWS = "customerEmail,deviceIdentifier,action\na@example.com,A1,assign\n"
TERMINAL = {"rich"}
DATA = {"numpy", "pyarrow", "sqlite3", "msgspec"}
HTTP = {"anyio", "asyncio", "httpcore2", "httpx2", "msgspec", "tenacity"}
SANDBOX = {"python_multipart", "starlette", "uvicorn"}
HEAVY = {
    *TERMINAL,
    *DATA,
    *HTTP,
    *SANDBOX,
    "apprise",
    "argon2",
    "fsspec",
    "jinja2",
    "pandas",
    "prometheus_client",
    "python_multipart",
    "redis",
    "sqlalchemy",
    "tomlkit",
    "xlsxwriter",
}

SCRIPT = """
import sys
from telemetron_batch.cli.commands import main
try:
    main(prog_name="telemetron-batch")
except SystemExit as end:
    print("imported:", end.code, *{name.split(".")[0] for name in sys.modules})
"""


def imported_by(*arguments: str, exit_code: int, folder: Path) -> set[str]:
    """Run a command in a process of its own; return the heavy libraries that it had imported at its end."""
    command = [sys.executable, "-c", SCRIPT, *arguments]
    environ = {**os.environ, "TELEMETRON_API_KEY": "key"}
    ended = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environ, check=True)
    code, *imported = ended.stdout.rpartition("imported:")[2].split()
    assert code == str(exit_code), ended.stderr
    assert "click" in imported
    return HEAVY.intersection(imported)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.csv").write_text(ROWS)
    return tmp_path


@pytest.fixture
def base_url() -> Iterator[str]:
    with SandboxState() as fleet, serve_in_thread(fleet, api_key="key") as url:
        yield url


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["run", "--help"], 0),
        (["completion", "fish"], 0),
        (["schema", "summary"], 0),
        (["schema", "profile"], 0),
        (["run"], 2),
        (["nonsense"], 2),
        (["serve", "--help"], 0),
        (["serve", "--port", "x"], 2),
        (["serve-user", "--help"], 0),
        (["prune", "--help"], 0),
        (["forget"], 2),
    ],
)
def test_help_completion_and_usage_errors_import_nothing_heavy(
    arguments: list[str], exit_code: int, folder: Path
) -> None:
    assert imported_by(*arguments, exit_code=exit_code, folder=folder) == set()


def test_runs_and_check_import_no_column_library(folder: Path) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    assert imported_by("runs", exit_code=0, folder=folder) == {*TERMINAL, "sqlite3"}
    assert imported_by("check", "--base-url", nowhere, exit_code=3, folder=folder) == {*TERMINAL, *HTTP}


def test_plan_imports_no_http_library_and_no_writer_of_reports(folder: Path) -> None:
    assert imported_by("plan", "a.csv", exit_code=0, folder=folder) == {*TERMINAL, *DATA}
    assert imported_by("plan", "a.csv", "--save", exit_code=0, folder=folder) == {*TERMINAL, *DATA}


def test_only_a_query_imports_what_speaks_to_databases(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "erp.db")) as connection:
        connection.execute("CREATE TABLE t AS SELECT 'a@example.com' AS email, 'A1' AS serial, 'assign' AS action")
    (folder / "url").write_text("sqlite:///erp.db")
    (folder / "url").chmod(0o600)
    query = ("plan", "--query", "SELECT * FROM t", "--source-url-file", "url")
    assert imported_by(*query, exit_code=0, folder=folder) - {"asyncio"} == {*TERMINAL, *DATA, "sqlalchemy"}


def test_a_look_before_sending_imports_no_writer_of_pages_and_workbooks(folder: Path, base_url: str) -> None:
    online = ("plan", "a.csv", "--online", "--base-url", base_url)
    assert imported_by(*online, exit_code=0, folder=folder) == {*TERMINAL, *DATA, *HTTP}


def test_what_removes_and_forgets_imports_no_http_library_and_no_writer_of_reports(folder: Path) -> None:
    (folder / "reports").mkdir()
    assert imported_by("prune", "--keep", "90d", exit_code=0, folder=folder) == DATA
    assert imported_by("forget", "a@example.com", exit_code=0, folder=folder) == DATA


def test_init_imports_what_reads_the_file_and_writes_the_profile(folder: Path) -> None:
    assert imported_by("init", "a.csv", exit_code=0, folder=folder) == {"numpy", "pyarrow", "tomlkit"}


def test_a_run_imports_what_its_options_need(folder: Path, base_url: str) -> None:
    always = {*TERMINAL, *DATA, *HTTP, "jinja2"}
    runs = {
        ("--base-url", base_url): always,
        ("--sandbox",): {*always, *SANDBOX},
        ("--base-url", base_url, "--xlsx"): {*always, "xlsxwriter"},
        ("--base-url", base_url, "--since-last"): {*always, "pandas"},
        ("--base-url", base_url, "--auto-create-devices", "--device-type", "T"): {*always, "pandas"},
    }
    for number, (options, libraries) in enumerate(runs.items()):
        run = ("run", "a.csv", "--yes", "--run-id", str(number), "--again", *options)
        assert imported_by(*run, exit_code=0, folder=folder) == libraries
    assert imported_by("runs", exit_code=0, folder=folder) == {*TERMINAL, "sqlite3"}


def test_who_hears_of_an_end_is_reached_by_libraries_that_only_their_options_import(
    folder: Path, base_url: str
) -> None:
    always = {*TERMINAL, *DATA, *HTTP, "jinja2"}
    nowhere = f"127.0.0.1:{free_port()}"
    runs = {
        ("--ping", f"http://{nowhere}"): always,
        ("--metrics", "t.prom"): {*always, "prometheus_client"},
        ("--notify", f"json://{nowhere}"): {*always, "apprise"},
    }
    for number, (options, libraries) in enumerate(runs.items()):
        run = ("run", "a.csv", "--run-id", str(number), "--again", "--base-url", base_url, *options)
        assert imported_by(*run, exit_code=0, folder=folder) == libraries
    refused = ("run", "a.csv", "--rate", "fast", "--metrics", "t.prom")
    assert (
        imported_by(*refused, exit_code=2, folder=folder) <= {"numpy", "pyarrow", "sqlite3", "prometheus_client"} | HTTP
    )


@pytest.mark.parametrize("command", ["resume", "undo", "verify", "report"])
def test_a_command_about_a_run_imports_no_more_than_a_run(command: str, folder: Path, base_url: str) -> None:
    always = {*TERMINAL, *DATA, *HTTP, "jinja2"}
    of_api = [] if command == "report" else ["--base-url", base_url]
    imported_by("run", "a.csv", "--run-id", "1", "--base-url", base_url, exit_code=0, folder=folder)
    assert imported_by(command, "1", *of_api, exit_code=0, folder=folder) == always


def test_holdings_and_compare_import_no_writer_of_reports_and_no_sandbox(folder: Path, base_url: str) -> None:
    needed = {*TERMINAL, *DATA, *HTTP}
    where = ("-o", "out.csv", "--force", "--base-url", base_url)
    assert imported_by("holdings", "a@example.com", *where, exit_code=1, folder=folder) == needed
    assert imported_by("compare", "a.csv", *where, exit_code=1, folder=folder) == needed


def test_a_command_about_users_imports_only_what_hashes_passwords(folder: Path) -> None:
    add = ("serve-user", "add", "ann", "--role", "viewer", "--no-password")
    assert imported_by(*add, exit_code=0, folder=folder) == {"argon2", "asyncio"}
    assert imported_by("serve-user", "list", exit_code=0, folder=folder) == {"argon2", "asyncio"}
