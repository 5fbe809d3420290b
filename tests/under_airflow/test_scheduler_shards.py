"""A sharded run under a real scheduler, whose processes are killed while they work."""

import os
import signal
import time
from itertools import count
from pathlib import Path

import pytest

from telemetron_batch.journal.layout import LOCK_NAME
from telemetron_batch.storage.lock import is_held
from tests.support.faulty import FaultyServer
from tests.support.scripted import Says
from tests.under_airflow.live import Airflow, Run, ended, owner_of, parent_of, until
from tests.under_airflow.world import Watch, transfers, write

pytestmark = pytest.mark.slow
WORLDS = (f"world{number}" for number in count())
RATE = 8
SHARDS = ("shards.unassign", "shards.barrier", "shards.assign", "shards.reconcile")


@pytest.fixture
def watch(api: FaultyServer) -> Watch:
    return Watch.over(api, transfers(30, next(WORLDS)))


@pytest.fixture
def places(tmp_path: Path, watch: Watch) -> dict[str, str]:
    return {"file": write(tmp_path / "rows.csv", watch.rows), "reports_dir": str(tmp_path / "reports")}


def owner_when(places: dict[str, str], watch: Watch, action: str) -> int:
    """Return the process that started a shard last, after some calls of a phase."""

    def at_work() -> list[Path]:
        calls = sum(sent == action for sent, _ in watch.sent)
        locks = [*Path(places["reports_dir"]).glob(f"*/shards/*/{LOCK_NAME}")] if calls >= 4 else []
        return sorted((lock for lock in locks if is_held(lock)), key=lambda lock: lock.stat().st_mtime)

    return owner_of(until(at_work)[-1])


def tries(run: Run, task_id: str) -> list[int]:
    """Return how often the tasks with this name were tried."""
    return sorted(one["try_number"] for one in run.tasks() if one["task_id"] == task_id)


def test_a_killed_shard_is_retried_and_continues(airflow: Airflow, watch: Watch, places: dict[str, str]) -> None:
    run = airflow.trigger("sharded_slow", **places)
    os.kill(owner_when(places, watch, "unassign"), signal.SIGKILL)
    assert (run.end(), tries(run, "shards.unassign")) == ("success", [1, 1, 1, 2])
    watch.all_done(run.xcom("shards.reconcile"), RATE)


def test_a_shard_whose_supervisor_is_killed_stops_and_another_process_continues(
    airflow: Airflow, watch: Watch, places: dict[str, str]
) -> None:
    run = airflow.trigger("sharded_slow", **places)
    owner = owner_when(places, watch, "assign")
    os.kill(parent_of(owner), signal.SIGKILL)
    until(lambda: ended(owner))
    assert (run.end(), tries(run, "shards.assign")) == ("success", [1, 1, 1, 2])
    watch.all_done(run.xcom("shards.reconcile"), RATE)


def test_failed_shards_are_reported_and_done_once_after_they_are_cleared(
    airflow: Airflow, watch: Watch, places: dict[str, str]
) -> None:
    watch.then = lambda _: Says(401, {"error": "Invalid API key"})
    run = airflow.trigger("sharded_slow", **places)
    assert (run.end(), tries(run, "shards.unassign"), tries(run, "shards.reconcile")) == ("failed", [1] * 4, [1])
    summary = run.xcom("shards.reconcile", "summary")
    assert (summary["balanced"], summary["counts"]["held"], summary["counts"]["notSent"]) == (True, 30, 60)
    watch.server.seen.clear()
    watch.then = lambda _: None
    run.clear(*SHARDS)
    assert run.end() == "success"
    watch.all_done(run.xcom("shards.reconcile"), RATE)
    sent = len(watch.sent)
    run.clear("shards.plan", *SHARDS)
    assert (run.end(), len(watch.sent)) == ("success", sent)


def test_a_run_starts_when_the_failed_previous_one_is_marked_as_success(
    airflow: Airflow, watch: Watch, places: dict[str, str], tmp_path: Path
) -> None:
    nothing_valid = {**places, "file": write(tmp_path / "invalid.csv", [("nobody", "SN-1", "assign")])}
    first = airflow.trigger("telemetron_task_group", logical_date="2026-02-01T02:00:00Z", **nothing_valid)
    assert first.end() == "failed"
    states = {task["task_id"].rpartition(".")[2]: task["state"] for task in first.tasks()}
    assert states == {
        "plan": "success",
        "unassign": "success",
        "barrier": "success",
        "assign": "success",
        "reconcile": "failed",
        "tell": "upstream_failed",
    }
    second = airflow.trigger("telemetron_task_group", logical_date="2026-02-02T02:00:00Z", **places)
    until(lambda: airflow.ask("GET", second.path)["state"] == "running")
    time.sleep(8)
    assert ({task["state"] for task in second.tasks()}, watch.sent) == ({None}, [])
    first.succeed("assign_devices.reconcile")
    assert second.end() == "success"
    summary = second.xcom("assign_devices.reconcile")
    assert summary["options"]["as_of"] == "2026-02-02T02:00:00+00:00"
    assert summary["attention"] == 0
