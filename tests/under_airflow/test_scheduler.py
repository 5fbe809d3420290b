"""The operator under a real scheduler, with tasks in processes of their own, which are killed.

One Airflow for all tests here: dag-processor, scheduler, triggerer and api-server with a LocalExecutor,
on ports and in a home of its own.
"""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from batch.storage.runs import LOCK
from tests.faulty import FaultyServer
from tests.scripted import Says
from tests.under_airflow.conftest import KEY, connection, furnish, variables
from tests.under_airflow.test_operator import write

pytestmark = pytest.mark.slow
PATIENCE = 240.0


@dataclass
class Airflow:
    """A running Airflow, spoken to as a user's script would."""

    home: Path
    port: int
    token: str = ""

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """One request to the API; None where there is nothing (yet)."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method)
        request.add_header("Content-Type", "application/json")
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        try:
            with urllib.request.urlopen(request, json.dumps(body).encode() if body is not None else None) as answer:
                return json.loads(answer.read() or "null")
        except urllib.error.HTTPError as exc:
            if exc.code in (404, 409, 422):
                return None
            raise
        except OSError:
            return None

    def trigger(self, dag_id: str, **params: Any) -> "Run":
        """Start a run of a DAG, as soon as Airflow knows it."""
        body = {"logical_date": None, "conf": params}
        told = until(lambda: self.ask("POST", f"/api/v2/dags/{dag_id}/dagRuns", body))
        return Run(self, dag_id, told["dag_run_id"])


@dataclass
class Run:
    """A run of a DAG."""

    airflow: Airflow
    dag_id: str
    run_id: str

    @property
    def path(self) -> str:
        return f"/api/v2/dags/{self.dag_id}/dagRuns/{urllib.request.quote(self.run_id)}"

    def end(self) -> str:
        """Its state when it has ended."""
        return until(lambda: (state := self.airflow.ask("GET", self.path)["state"]) in ("success", "failed") and state)

    def task(self, task_id: str, index: int = -1) -> dict[str, Any]:
        """A task instance, as the API tells of it."""
        found = self.airflow.ask("GET", f"{self.path}/taskInstances")["task_instances"]
        return next(one for one in found if (one["task_id"], one["map_index"]) == (task_id, index))

    def xcom(self, task_id: str, key: str = "return_value", index: int = -1) -> Any:
        """A value that a task left; None if it left none."""
        where = f"{self.path}/taskInstances/{task_id}/xcomEntries/{key}?map_index={index}&deserialize=false"
        told = self.airflow.ask("GET", where)
        value = told and told["value"]
        return json.loads(value) if isinstance(value, str) and value[:1] in "{[" else value

    def clear(self, task_id: str) -> None:
        """Have a task run again."""
        body = {"dry_run": False, "task_ids": [task_id], "dag_run_id": self.run_id, "only_failed": False}
        assert self.airflow.ask("POST", f"/api/v2/dags/{self.dag_id}/clearTaskInstances", body)

    def fail(self, task_id: str) -> None:
        """Mark a running task as failed, as a person would."""
        assert self.airflow.ask("PATCH", f"{self.path}/taskInstances/{task_id}", {"new_state": "failed"})


def until(what: Callable[[], Any]) -> Any:
    """Ask until the answer is something."""
    end = time.monotonic() + PATIENCE
    while not (answer := what()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.25)
    return answer


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


@pytest.fixture(scope="module")
def api() -> Iterator[FaultyServer]:
    with FaultyServer(api_key=KEY) as opened:
        yield opened


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory, api: FaultyServer) -> Iterator[Airflow]:
    """Airflow up, with our DAGs known."""
    home, port = furnish(tmp_path_factory.mktemp("airflow")), free_port()
    told = {
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
        "AIRFLOW_CONN_TELEMETRON_DEFAULT": connection(api),
    }
    environ = {**os.environ, **variables(home), **told}
    command = [str(Path(sys.executable).with_name("airflow"))]
    subprocess.run([*command, "db", "migrate"], env=environ, check=True, capture_output=True)
    processes = []
    try:
        for part in ("api-server", "scheduler", "dag-processor", "triggerer"):
            log = (home / f"{part}.log").open("wb")
            processes.append(
                subprocess.Popen([*command, part], env=environ, stdout=log, stderr=log, start_new_session=True)
            )
        opened = Airflow(home, port)
        until(lambda: _healthy(opened.ask("GET", "/api/v2/monitor/health")))
        opened.token = until(lambda: opened.ask("GET", "/auth/token"))["access_token"]
        yield opened
    finally:
        for sign in (signal.SIGTERM, signal.SIGKILL):
            for process in processes:
                _end(process, sign)


def _healthy(told: Any) -> bool:
    return bool(told) and all(told[part]["status"] == "healthy" for part in ("scheduler", "dag_processor"))


def _end(process: "subprocess.Popen[bytes]", sign: signal.Signals) -> None:
    try:
        os.killpg(process.pid, sign)
        process.wait(12)
    except (ProcessLookupError, subprocess.TimeoutExpired):
        pass


@pytest.fixture
def places(tmp_path: Path, api: FaultyServer) -> dict[str, str]:
    """Forty calls, at 5 a second: enough to be killed in the midst of."""
    api.script, _ = (lambda _: None), api.seen.clear()
    return {"file": write(tmp_path / "rows.csv", 40), "reports_dir": str(tmp_path / "reports")}


def owner_when(places: dict[str, str], api: FaultyServer, calls: int) -> int:
    """The process that holds the run, once so many calls have arrived."""
    until(lambda: len(api.seen) >= calls)
    (lock,) = Path(places["reports_dir"]).glob(f"*/{LOCK}")
    pid, _, _ = json.loads(lock.read_text())
    return int(pid)


def parent_of(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("PPid")))


def devices_sent(api: FaultyServer) -> list[str]:
    return [device for seen in api.seen for device in seen.devices]


def balanced(summary: dict[str, Any]) -> None:
    """Every row has an outcome, and in the file that is written the same."""
    assert summary["counts"]["notSent"] == summary["counts"]["unconfirmed"] == 0
    with (Path(summary["folder"]) / "reconciliation.csv").open(newline="") as file:
        assert len([*csv.DictReader(file)]) == summary["rows"] == 40


def test_a_killed_task_is_tried_again_and_goes_on(airflow: Airflow, api: FaultyServer, places: dict[str, str]) -> None:
    run = airflow.trigger("slow", **places)
    os.kill(owner_when(places, api, 10), signal.SIGKILL)
    assert (run.end(), run.task("send")["try_number"]) == ("success", 2)
    balanced(run.xcom("send"))
    twice = len(api.seen) - len(set(devices_sent(api)))
    assert 0 <= twice <= 8  # at most what was in flight


def test_a_task_whose_supervisor_is_killed_stops_and_another_goes_on(
    airflow: Airflow, api: FaultyServer, places: dict[str, str]
) -> None:
    run = airflow.trigger("slow", **places)
    owner = owner_when(places, api, 10)
    os.kill(parent_of(owner), signal.SIGKILL)
    until(lambda: not Path(f"/proc/{owner}").exists() or "Z" in Path(f"/proc/{owner}/stat").read_text().split()[2])
    sent = len(api.seen)
    assert sent < 40  # it did not go on behind Airflow's back
    assert (run.end(), run.task("send")["try_number"]) == ("success", 2)
    balanced(run.xcom("send"))


def test_a_task_marked_as_failed_stops(airflow: Airflow, api: FaultyServer, places: dict[str, str]) -> None:
    run = airflow.trigger("slow", **places)
    owner = owner_when(places, api, 5)
    run.fail("send")
    until(lambda: not Path(f"/proc/{owner}").exists())
    assert run.end() == "failed"
    assert len(api.seen) < 40
    (folder,) = Path(places["reports_dir"]).iterdir()
    assert json.loads((folder / "summary.json").read_text())["stop"]["reason"] == "stopped by Airflow"


def test_a_long_wait_frees_the_slot_and_the_same_try_goes_on(
    airflow: Airflow, api: FaultyServer, places: dict[str, str]
) -> None:
    api.script = lambda seen: Says(429, {}, {"Retry-After": "8"}) if seen.number == 5 else None
    run = airflow.trigger("patient", **places)
    until(lambda: run.task("send")["state"] == "deferred")
    assert api.seen[-1].number == 5
    assert (run.end(), run.task("send")["try_number"]) == ("success", 1)
    balanced(run.xcom("send"))
    assert api.seen[5].at - api.seen[4].at >= 8


def test_cleared_after_success_sends_nothing(airflow: Airflow, api: FaultyServer, places: dict[str, str]) -> None:
    run = airflow.trigger("plain", **places)
    assert run.end() == "success"
    first, sent = run.xcom("send"), len(api.seen)
    run.clear("send")
    until(lambda: run.task("send")["try_number"] == 2)
    assert run.end() == "success"
    assert (run.xcom("send"), len(api.seen)) == (first, sent)


def test_an_empty_input_is_skipped(airflow: Airflow, api: FaultyServer, places: dict[str, str]) -> None:
    Path(places["file"]).write_text("customerEmail,deviceIdentifier,action\n")
    run = airflow.trigger("plain", **places)
    assert (run.end(), run.task("send")["state"], api.seen) == ("success", "skipped", [])


def test_a_killed_command_line_is_tried_again_and_goes_on(
    airflow: Airflow, api: FaultyServer, places: dict[str, str]
) -> None:
    run = airflow.trigger("slow_bash", **places)
    os.kill(owner_when(places, api, 10), signal.SIGKILL)
    assert (run.end(), run.task("send")["try_number"]) == ("success", 2)
    balanced({**run.xcom("send"), "folder": str(next(Path(places["reports_dir"]).iterdir()))})


def test_the_key_stands_in_no_log_and_no_rendered_field(airflow: Airflow, places: Any) -> None:
    run = airflow.trigger("slow_bash", **places)
    assert run.end() == "success"
    assert KEY not in json.dumps(run.task("send"))
    for path in airflow.home.rglob("*.log"):
        assert KEY.encode() not in path.read_bytes(), path
