"""`import telemetron_batch` is cheap, and its names are what they are called whatever was imported before."""

import inspect
import pickle
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import telemetron_batch as tb

PACKAGE = Path(tb.__file__).parent
PUBLIC = ["BatchError", "Plan", "Progress", "Result", "plan", "report", "resume", "run", "verify"]
ROWS = "customerEmail,deviceIdentifier,action\na@example.com,A1,assign\n"
RUN = "print(tb.run('a.csv', sandbox=True).exit_code, callable(tb.run))"


def printed_by(script: str, folder: Path) -> str:
    (folder / "a.csv").write_text(ROWS)
    command = [sys.executable, "-W", "error", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder).stdout.strip()


def test_the_public_names_are_listed_and_found() -> None:
    assert tb.__all__ == PUBLIC
    assert {*PUBLIC, "__version__"} <= {*dir(tb)}
    assert all(callable(getattr(tb, name)) for name in PUBLIC)
    with pytest.raises(AttributeError, match="module 'telemetron_batch' has no attribute 'nothing'"):
        tb.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_importing_the_package_imports_nothing_else(tmp_path: Path) -> None:
    script = "import sys, telemetron_batch; print(*sorted(n for n in sys.modules if n.startswith('telemetron_batch')))"
    assert printed_by(script, tmp_path) == "telemetron_batch"
    heavy = "import sys, telemetron_batch; print({'numpy', 'pandas', 'pyarrow', 'asyncio', 'click'} & {*sys.modules})"
    assert printed_by(heavy, tmp_path) == "set()"


def test_a_run_of_a_path_imports_pandas_only_where_frames_are_used() -> None:
    source = (PACKAGE / "python_api" / "functions.py").read_text() + (PACKAGE / "python_api" / "results.py").read_text()
    assert "\nimport pandas" not in source


@pytest.mark.parametrize(
    "before",
    [
        "import telemetron_batch as tb",
        "import telemetron_batch as tb; import telemetron_batch.run.pipeline",
        "import telemetron_batch.run.pipeline; import telemetron_batch as tb",
        "from telemetron_batch.run import pipeline; import telemetron_batch as tb",
        "from telemetron_batch.run.finish import finish_run; import telemetron_batch as tb; tb.run",
        "from telemetron_batch import run; import telemetron_batch as tb",
        "from telemetron_batch import *; import telemetron_batch as tb",
        "import telemetron_batch as tb; tb.plan('a.csv'); import telemetron_batch.run.pipeline as pipeline",
        "import importlib, telemetron_batch as tb; importlib.reload(tb)",
    ],
)
def test_run_is_a_function_whatever_was_imported_before(before: str, tmp_path: Path) -> None:
    after = (
        "import telemetron_batch.run.pipeline as p; from telemetron_batch.run.pipeline import run; assert p.run is run"
    )
    assert printed_by(f"{before}; {RUN}; {after}; {RUN.replace('sandbox', 'again=True, sandbox')}", tmp_path) == (
        "0 True\n0 True"
    )


def test_the_package_that_can_be_called_is_still_a_package() -> None:
    import telemetron_batch.run as package
    from telemetron_batch.run import pipeline

    assert tb.run is package
    assert package.pipeline is pipeline  # type: ignore[attr-defined]
    assert inspect.ismodule(package)
    assert package.__path__


def test_run_shows_the_signature_of_its_function_and_can_be_pickled() -> None:
    from telemetron_batch.python_api import functions

    assert inspect.signature(tb.run) == inspect.signature(functions.run)
    assert pickle.loads(pickle.dumps(tb.run)) is tb.run
    assert pickle.loads(pickle.dumps(tb.plan)) is tb.plan


def test_errors_have_an_exit_code_and_an_advice() -> None:
    with pytest.raises(tb.BatchError) as caught:
        tb.run("nothing.csv", sandbox=True)
    error = caught.value
    assert (error.exit_code, error.reason, error.advice) == (
        2,
        "nothing.csv: there is no such file",
        "check the path",
    )
    assert str(error) == f"{error.reason}; {error.advice}"


def test_types_are_part_of_the_package() -> None:
    assert (PACKAGE / "py.typed").read_bytes() == b""
    config = tomllib.loads((PACKAGE.parents[1] / "pyproject.toml").read_text())
    assert "py.typed" in config["tool"]["setuptools"]["package-data"]["telemetron_batch"]


TYPED = """
from datetime import timedelta
from pathlib import Path

import pandas as pd
import telemetron_batch as tb
from telemetron_batch.run.pipeline import run as internal_run

frame = pd.DataFrame({"customerEmail": ["a@example.com"]})
plan: tb.Plan = tb.plan(frame, rate="2/s", column={"customerEmail": "Kunde"}, save=True)
result: tb.Result = tb.run([Path("a.csv"), "b.csv"], timeout=timedelta(seconds=5), max_failed="5%", sandbox=True)
rows: int = result.summary.rows
table: pd.DataFrame = tb.resume(result, on_progress=lambda progress: print(progress.fraction)).reconciliation()
try:
    tb.verify("monday", base_url="https://example.com/api/ext-v1")
except tb.BatchError as error:
    code: int = error.exit_code
internal_run
"""
WRONG = {
    'tb.run("a.csv", max_fail=5)': "call-arg",
    'tb.run("a.csv", concurrency=1.5)': "arg-type",
    'tb.run("a.csv", hidden="show")': "arg-type",
    "tb.run(5)": "arg-type",
    'tb.report("r", rate="5/s")': "call-arg",
    'tb.run("a.csv").summary.rows.nothing': "attr-defined",
    "tb.nothing": "attr-defined",
}


@pytest.mark.slow
def test_mypy_knows_the_names_and_types_of_the_interface(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(TYPED + "\n".join(WRONG) + "\n")
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(program)]
    output = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env={"MYPYPATH": str(PACKAGE.parent), "PATH": "/bin"}
    ).stdout
    first = len(TYPED.splitlines()) + 1
    found = {
        int(line.split(":")[1]): line.rpartition("[")[2].rstrip("]")
        for line in output.splitlines()
        if line.startswith("program.py:") and ": error: " in line
    }
    assert found == {first + at: kind for at, kind in enumerate(WRONG.values())}, output
