"""What reading a DAG file costs: nothing that reads files or makes calls is imported."""

import os
import subprocess
import sys
from pathlib import Path

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


def test_reading_a_dag_file_imports_nothing_heavy(airflow_home: Path) -> None:
    environ = {**os.environ, "AIRFLOW_HOME": str(airflow_home)}
    command = [sys.executable, "-c", CODE, *MODULES]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, env=environ)
    imported = set(ended.stdout.rpartition("imported:")[2].split())
    assert {f"telemetron_batch.airflow_provider.{name}" for name in MODULES} <= imported
    assert HEAVY & imported == set()
