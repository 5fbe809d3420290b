"""A running Airflow for the tests: its components as processes, controlled over its API."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.under_airflow.conftest import furnish, variables

PATIENCE = 240.0
_READING_S = 6.0
"""Seconds that a person takes to answer. Airflow 3.3 fails a task that is answered within a second after it parked."""


@dataclass
class Airflow:
    """A running Airflow, controlled like by a user's script."""

    home: Path
    port: int
    environ: Mapping[str, str]
    token: str = ""
    parts: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def start(self, *arguments: str, **variables: str) -> "subprocess.Popen[bytes]":
        """Start a component in its own process group, so that all of it can be ended."""
        environ = {**self.environ, **variables}
        command = [str(Path(sys.executable).with_name("airflow")), *arguments]
        with (self.home / f"{'-'.join(arguments[:1])}-{len(self.parts)}.log").open("wb") as log:
            part = subprocess.Popen(command, env=environ, stdout=log, stderr=log, start_new_session=True)
        self.parts.append(part)
        return part

    def end(self, *parts: "subprocess.Popen[bytes]") -> None:
        """End components: terminate, then kill."""
        for part in parts:
            _send(part, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            for part in parts:
                part.wait(12)
        for part in parts:
            _send(part, signal.SIGKILL)
            part.wait()

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Send one request to the API; return None if there is nothing (yet)."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method)
        request.add_header("Content-Type", "application/json")
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        try:
            with urllib.request.urlopen(request, json.dumps(body).encode() if body is not None else None) as answer:
                return json.loads(answer.read() or "null")
        except urllib.error.HTTPError as exc:
            if exc.code in (404, 409, 422) or exc.code >= 500:  # SQLite is locked while DAGs are read in
                return None
            raise
        except OSError:
            return None

    def trigger(self, dag_id: str, *, logical_date: str | None = None, **params: Any) -> "Run":
        """Start a run of a DAG, as soon as Airflow knows it."""
        run = Run(self, dag_id, f"test__{uuid4()}")
        body = {"logical_date": logical_date, "conf": params, "dag_run_id": run.run_id}
        until(lambda: self.ask("POST", f"/api/v2/dags/{dag_id}/dagRuns", body) or self.ask("GET", run.path))
        return run


@dataclass
class Run:
    """A run of a DAG."""

    airflow: Airflow
    dag_id: str
    run_id: str

    @property
    def path(self) -> str:
        return f"/api/v2/dags/{self.dag_id}/dagRuns/{self.run_id}"

    def end(self) -> str:
        """Wait for the end of the run and return its state."""
        return until(
            lambda: (
                (told := self.airflow.ask("GET", self.path))
                and told["state"] in ("success", "failed")
                and told["state"]
            )
        )

    def task(self, task_id: str, index: int = -1) -> dict[str, Any]:
        """Return a task instance, as the API describes it."""
        return next(one for one in self.tasks() if (one["task_id"], one["map_index"]) == (task_id, index))

    def tasks(self) -> list[dict[str, Any]]:
        """All its task instances."""
        return self.airflow.ask("GET", f"{self.path}/taskInstances?limit=100")["task_instances"]

    def xcom(self, task_id: str, key: str = "return_value", index: int = -1) -> Any:
        """Return an XCom of a task; None if there is none."""
        where = f"{self.path}/taskInstances/{task_id}/xcomEntries/{key}?map_index={index}&deserialize=false"
        told = self.airflow.ask("GET", where)
        value = told and told["value"]
        return json.loads(value) if isinstance(value, str) and value[:1] in "{[" else value

    def clear(self, *task_ids: str) -> None:
        """Have tasks run again."""
        body = {"dry_run": False, "task_ids": [*task_ids], "dag_run_id": self.run_id, "only_failed": False}
        assert self.airflow.ask("POST", f"/api/v2/dags/{self.dag_id}/clearTaskInstances", body)
        until(lambda: self.airflow.ask("GET", self.path)["state"] in ("queued", "running"))

    def fail(self, task_id: str) -> None:
        """Mark a running task as failed, as a person would."""
        self._mark(task_id, "failed")

    def succeed(self, task_id: str) -> None:
        """Mark a failed task as successful, as a person would."""
        self._mark(task_id, "success")

    def respond(self, task_id: str, option: str) -> None:
        """Choose an option of a task that waits for a person."""
        path = f"{self.path}/taskInstances/{task_id}/-1/hitlDetails"
        until(lambda: self.airflow.ask("GET", path) and self.task(task_id)["state"] in ("deferred", "awaiting_input"))
        time.sleep(_READING_S)
        assert self.airflow.ask("PATCH", path, {"chosen_options": [option], "params_input": {}})

    def _mark(self, task_id: str, state: str) -> None:
        assert self.airflow.ask("PATCH", f"{self.path}/taskInstances/{task_id}", {"new_state": state})


def until(what: Callable[[], Any]) -> Any:
    """Ask until the answer is something."""
    end = time.monotonic() + PATIENCE
    while not (answer := what()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.25)
    return answer


def owner_of(lock: Path) -> int:
    """The process that holds a lock."""
    return int(json.loads(lock.read_text())[0])


def parent_of(pid: int) -> int:
    """The process that started another: of a task, its supervisor."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("PPid")))


def ended(pid: int) -> bool:
    """Return whether a process has ended; a zombie counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


LOCAL = {"AIRFLOW__CORE__EXECUTOR": "LocalExecutor", "AIRFLOW__CORE__PARALLELISM": "4"}
PARTS = ("api-server", "scheduler", "dag-processor", "triggerer")


@contextmanager
def running(home: Path, told: Mapping[str, str], parts: Sequence[str] = PARTS) -> Iterator[Airflow]:
    """Start Airflow and wait until it knows our DAGs."""
    port = free_port()
    environ = {**os.environ, **variables(furnish(home)), **_at(port), **told}
    command = [str(Path(sys.executable).with_name("airflow"))]
    subprocess.run([*command, "db", "migrate"], env=environ, check=True, capture_output=True)
    opened = Airflow(home, port, environ)
    try:
        for part in parts:
            opened.start(part)
        until(lambda: _healthy(opened.ask("GET", "/api/v2/monitor/health")))
        opened.token = until(lambda: opened.ask("GET", "/auth/token"))["access_token"]
        yield opened
    finally:
        opened.end(*opened.parts)


def _at(port: int) -> dict[str, str]:
    """Return settings for a fast Airflow on its own port."""
    return {
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
    }


def _healthy(told: Any) -> bool:
    return bool(told) and all(told[part]["status"] == "healthy" for part in ("scheduler", "dag_processor"))


def _send(part: "subprocess.Popen[bytes]", sign: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(part.pid, sign)
