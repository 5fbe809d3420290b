"""An Airflow home for the tests, which are skipped if Airflow is not installed.

Airflow reads its variables when it is first imported, so they are set here, before any test module is imported.
"""

import atexit
import importlib.util
import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.faulty import FaultyServer

HERE = Path(__file__).parent
EXAMPLES = HERE.parent.parent / "batch" / "telemetron_batch" / "airflow_provider" / "example_dags"
KEY = "key-of-the-airflow-tests-0123456789"
_FOLDERS = {
    '"/erp/{{ params.file }}"': '"{{ params.file }}"',
    '"/shared/telemetron"': '"{{ params.reports_dir }}"',
    r', pattern=r"^[\w-]+\.csv$")': '), "reports_dir": Param("", type="string")',
}
_WITHOUT_FILE = ("telemetron_mapped", "telemetron_sql", "telemetron_frame", "telemetron_undo")
"""Examples whose files no person chooses."""
"""Fixed values in the examples, and the parameters that replace them in tests."""
INSTALLED = importlib.util.find_spec("airflow") is not None

collect_ignore_glob = [] if INSTALLED else ["test_*.py"]
if importlib.util.find_spec("celery") is None:
    collect_ignore_glob.append("test_celery.py")


def variables(home: Path) -> dict[str, str]:
    """Return the minimum settings for an Airflow in its own folder."""
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__FERNET_KEY": "Zm9yLXRlc3RzLW9ubHktMDEyMzQ1Njc4OTAxMjM0NTY=",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW__API_AUTH__JWT_SECRET": "x" * 64,
        "AIRFLOW__API__SECRET_KEY": "y" * 32,
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "XDG_STATE_HOME": str(home / "state"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }


def furnish(home: Path) -> Path:
    """A home with all our DAGs: the examples, unchanged but for their folders, and those for tests."""
    shutil.copytree(EXAMPLES, home / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    for example in (home / "dags").glob("telemetron_*.py"):
        text = example.read_text()
        for ours, theirs in _FOLDERS.items() if example.stem not in _WITHOUT_FILE else ():
            assert ours in text
            text = text.replace(ours, theirs)
        example.write_text(text)
    shutil.copytree(HERE / "dags", home / "dags", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    return home


if INSTALLED:
    HOME = furnish(Path(tempfile.mkdtemp(prefix="telemetron-airflow-")))
    atexit.register(shutil.rmtree, HOME, ignore_errors=True)
    os.environ.update(variables(HOME))
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.airflow)
            # What Airflow deprecates in itself is not ours to mend.
            item.add_marker(pytest.mark.filterwarnings("ignore"))


@pytest.fixture(scope="session")
def airflow_home() -> Path:
    """Airflow with an initialized database."""
    from airflow.utils.db import initdb

    initdb()
    return HOME


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    """The sandbox API, and the connection to it."""
    with FaultyServer(api_key=KEY) as opened:
        monkeypatch.setenv("AIRFLOW_CONN_TELEMETRON_DEFAULT", connection(opened))
        yield opened


@pytest.fixture(scope="session")
def api() -> Iterator[FaultyServer]:
    """The sandbox API of the running Airflow's connection."""
    with FaultyServer(api_key=KEY) as opened:
        yield opened


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory, api: FaultyServer) -> Iterator[Any]:
    """A running Airflow with a LocalExecutor."""
    from tests.under_airflow.live import LOCAL, running

    told = {**LOCAL, "AIRFLOW_CONN_TELEMETRON_DEFAULT": connection(api)}
    with running(tmp_path_factory.mktemp("airflow"), told) as opened:
        yield opened


def connection(server: FaultyServer, **extra: Any) -> str:
    """A connection of our type, as Airflow reads it from the environment."""
    told = {"conn_type": "telemetron", "host": server.base_url, "password": KEY, "extra": extra}
    return json.dumps(told)


class Task:
    """A task instance after its run."""

    def __init__(self, run: Any, task_id: str, map_index: int = -1) -> None:
        self._run, self._id, self._index = run, task_id, map_index
        found = [one for one in run.get_task_instances() if (one.task_id, one.map_index) == (task_id, map_index)]
        self.state = str(found[0].state)
        self.tries = found[0].try_number

    def xcom(self, key: str = "return_value") -> Any:
        from airflow.models.xcom import XComModel
        from airflow.utils.session import create_session

        with create_session() as session:
            values = XComModel.get_many(
                run_id=self._run.run_id,
                key=key,
                task_ids=self._id,
                dag_ids=self._run.dag_id,
                map_indexes=self._index,
            )
            rows = session.execute(values.with_only_columns(XComModel.value)).scalars().all()
        return _decoded(rows[0]) if rows else None


def _decoded(value: Any) -> Any:
    """Return a value as it was pushed; the database may return it as JSON text or parsed."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


class DagRun:
    """A DAG run, executed in this process."""

    def __init__(self, run: Any) -> None:
        self.run = run
        self.state = str(run.state)

    def task(self, task_id: str, map_index: int = -1) -> Task:
        return Task(self.run, task_id, map_index)

    def asset_events(self) -> list[dict[str, Any]]:
        """Return the extras of the asset events of this run."""
        from airflow.models.asset import AssetEvent
        from airflow.utils.session import create_session
        from sqlalchemy import select

        with create_session() as session:
            query = select(AssetEvent.extra).where(AssetEvent.source_run_id == self.run.run_id)
            return list(session.execute(query).scalars().all())


@pytest.fixture
def run_dag(airflow_home: Path) -> Callable[..., DagRun]:
    """Run one of the DAGs in the home with these params: `dag.test()`."""

    def run(dag_id: str, **params: Any) -> DagRun:
        dag = dags(airflow_home)[dag_id]
        if any(task.depends_on_past for task in dag.tasks):
            mark_all_as_success(dag_id)
        for task in dag.tasks:
            task.retry_delay = timedelta(0)
        logging.getLogger("telemetron_batch").setLevel(logging.NOTSET)
        return DagRun(dag.test(run_conf=params))

    return run


def mark_all_as_success(dag_id: str) -> None:
    """Mark the tasks of earlier runs: `dag.test()` waits forever for a task that depends on a failed one."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import update

    with create_session() as session:
        session.execute(update(TaskInstance).where(TaskInstance.dag_id == dag_id).values(state="success"))


def dags(home: Path) -> dict[str, Any]:
    """Every DAG in the home; an import error fails the test."""
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # Airflow 3.1
        from airflow.models.dagbag import DagBag
    bag = DagBag(str(home / "dags"), **_bundle(DagBag))
    assert bag.import_errors == {}
    return dict(bag.dags)


def _bundle(bag: Any) -> dict[str, str]:
    import inspect

    return {"bundle_name": "dags-folder"} if "bundle_name" in inspect.signature(bag).parameters else {}
