"""What reading a DAG file costs: nothing that reads files or makes calls is imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {
    "pandas", "numpy", "pyarrow", "httpx2", "httpcore2", "msgspec", "tenacity", "jinja2.compiler", "xlsxwriter",
    "uvicorn", "starlette", "redis", "rich", "sqlite3", "telemetron_batch.run", "telemetron_batch.sending",
    "telemetron_batch.api", "telemetron_batch.journal", "telemetron_batch.reports", "telemetron_batch.sharding",
    "telemetron_batch.planning",
}  # fmt: skip
MODULES = ["hooks", "operators", "shards", "groups", "sensors", "triggers", "notifications", "decorators", "links"]
CODE = """
import sys
from airflow.sdk import DAG, Asset, BaseHook, BaseNotifier, BaseOperator, BaseSensorOperator, TaskGroup, task
before = {*sys.modules}
for name in sys.argv[1:]:
    __import__(f"telemetron_batch.airflow_provider.{name}")
print("imported:", *({*sys.modules} - before))
"""


@pytest.mark.parametrize("modules", [MODULES, *([name] for name in MODULES)], ids=lambda names: "+".join(names)[:20])
def test_reading_a_dag_file_imports_nothing_heavy(modules: list[str], airflow_home: Path) -> None:
    environ = {**os.environ, "AIRFLOW_HOME": str(airflow_home)}
    command = [sys.executable, "-c", CODE, *modules]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, env=environ)
    imported = set(ended.stdout.rpartition("imported:")[2].split())
    assert any(name.startswith("telemetron_batch.airflow_provider.") for name in imported)
    assert HEAVY & imported == set()
