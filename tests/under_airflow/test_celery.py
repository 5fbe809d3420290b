# ruff: noqa: T201 - the figures are what it is run for
"""A run spread over Celery's workers, one of which is lost for good while it works: `make airflow-celery`.

Redis, PostgreSQL, scheduler, dag-processor, api-server and two workers, all of the tests' own.
"""

import json
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

import pytest

from telemetron_batch.journal.layout import LOCK_NAME
from tests.support.faulty import FaultyServer
from tests.support.redis_server import PROGRAM, RedisServer
from tests.under_airflow.conftest import connection
from tests.under_airflow.live import Airflow, Run, free_port, parent_of, running, until
from tests.under_airflow.world import Watch, transfers, write

POSTGRES = [*Path("/usr/lib/postgresql").glob("*/bin")]
pytestmark = [
    pytest.mark.celery,
    pytest.mark.skipif(not (PROGRAM and POSTGRES), reason="redis-server and PostgreSQL are not installed"),
]
ROWS = transfers(40, "celery")
RATE = 8
StartWorker = Callable[..., "subprocess.Popen[bytes]"]
PARTS = ("api-server", "scheduler", "dag-processor")


@contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL with a database for Airflow; return its URL."""
    programs = max(POSTGRES)
    user = "postgres" if os.getuid() == 0 else None  # it refuses to work for root
    folder, port = Path(tempfile.mkdtemp(prefix="airflow-postgres-")), free_port()
    if user is not None:
        shutil.chown(folder, pwd.getpwnam(user).pw_uid)
    made = [str(programs / "initdb"), "-D", str(folder / "data"), "-U", "airflow", "--auth=trust", "--no-sync"]
    subprocess.run(made, user=user, check=True, capture_output=True, cwd=folder)
    told = ["-p", str(port), "-k", str(folder), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
    server = subprocess.Popen(
        [str(programs / "postgres"), "-D", str(folder / "data"), *told],
        user=user,
        cwd=folder,
        stderr=subprocess.DEVNULL,
    )
    try:
        create = [str(programs / "createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", "airflow", "airflow"]
        until(lambda: subprocess.run(create, check=False, capture_output=True).returncode == 0)
        yield f"postgresql+psycopg2://airflow@127.0.0.1:{port}/airflow"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, api: FaultyServer, redis: RedisServer) -> Iterator[Airflow]:
    """Airflow with a CeleryExecutor, without workers yet."""
    with postgres() as database:
        told = {
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
            "AIRFLOW__CELERY__BROKER_URL": redis.url,
            "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{database}",
            "AIRFLOW_CONN_TELEMETRON_DEFAULT": connection(api),
        }
        with running(tmp_path_factory.mktemp("airflow"), told, PARTS) as opened:
            yield opened


@pytest.fixture
def worker(cluster: Airflow) -> Iterator[StartWorker]:
    """Starts workers that take two tasks at a time; they end with the test."""
    started = []

    def start(name: str, **variables: str) -> "subprocess.Popen[bytes]":
        called = f"{name}-{len(cluster.parts)}"
        options = ["-c", "2", "-H", f"{called}@%h", "--pid", str(cluster.home / f"{called}.pid"), "--skip-serve-logs"]
        started.append(cluster.start("celery", "worker", *options, **variables))
        return started[-1]

    yield start
    cluster.end(*started)


def makers(reports: Path) -> dict[int, int]:
    """Return the processes that have a shard, by its number."""
    found = {}
    for lock in reports.glob(f"*/shards/*/{LOCK_NAME}"):
        with suppress(ValueError, OSError):
            found[int(lock.parent.name)] = int(json.loads(lock.read_text())[0])
    return found


def works_for(pid: int, chief: int) -> bool:
    """Return whether a process is a descendant of another."""
    with suppress(OSError):
        while pid > 1:
            if pid == chief:
                return True
            pid = parent_of(pid)
    return False


def test_a_run_that_loses_a_worker_is_finished_by_the_other(
    cluster: Airflow, api: FaultyServer, worker: StartWorker, tmp_path: Path
) -> None:
    watch, reports = Watch.over(api, ROWS), tmp_path / "reports"
    lost, left = worker("one"), worker("two")
    began = time.monotonic()
    run = cluster.trigger("sharded_slow", file=write(tmp_path / "rows.csv", ROWS), reports_dir=str(reports))
    until(lambda: len(watch.sent) >= 10)
    its = {shard for shard, pid in makers(reports).items() if works_for(pid, lost.pid)}
    assert 0 < len(its) < 4, "each of the workers has some of the shards"
    os.killpg(lost.pid, signal.SIGKILL)
    at, sent = time.monotonic() - began, len(watch.sent)
    assert run.end() == "success"
    took = time.monotonic() - began
    watch.all_done(run.xcom("shards.reconcile"), RATE)
    tried = Counter(one["try_number"] for one in run.tasks())
    hosts = Counter(one["hostname"] for one in run.tasks())
    assert left.poll() is None
    print(f"\n{len(ROWS)} rows in 4 shards, {RATE}/s: a worker with shards {sorted(its)} was killed after {at:.0f} s")
    print(f"by then {sent} calls had arrived")
    print(f"all done after {took:.0f} s in {len(watch.sent)} calls, {watch.twice} of them repeated")
    print(f"at most {watch.most_in(1.0)} in any second; tries {dict(tried)}, hosts {dict(hosts)}")


@pytest.mark.parametrize("shared", [False, True], ids=["fixed shares", "one limit in Redis"])
def test_a_run_on_two_workers_without_faults(
    cluster: Airflow, api: FaultyServer, worker: StartWorker, tmp_path: Path, redis: RedisServer, shared: bool
) -> None:
    watch = Watch.over(api, transfers(40, "shared" if shared else "fixed"))
    for name in ("one", "two"):
        worker(name, TELEMETRON_LIMIT_URL=redis.url if shared else "")
    run = cluster.trigger(
        "sharded_slow", file=write(tmp_path / "rows.csv", watch.rows), reports_dir=str(tmp_path / "r")
    )
    assert run.end() == "success"
    watch.all_done(run.xcom("shards.reconcile"), RATE)
    assert watch.twice == 0
    told(watch, run)


def told(watch: Watch, run: Run) -> None:
    """Print the total time, and the time spent with calls."""
    ran = run.airflow.ask("GET", run.path)
    took = datetime.fromisoformat(ran["end_date"]) - datetime.fromisoformat(ran["start_date"])
    at = {action: [seen.at for seen in watch.server.seen if seen.action == action] for action in ("unassign", "assign")}
    spans = ", ".join(f"{action} {len(times)} calls in {times[-1] - times[0]:.1f} s" for action, times in at.items())
    print(f"\n{len(watch.rows)} rows in 4 shards at {RATE}/s: {took.total_seconds():.0f} s; {spans}")
    print(f"at most {watch.most_in(1.0)} in any second")
