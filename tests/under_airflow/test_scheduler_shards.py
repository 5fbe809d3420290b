"""A run spread over tasks under a real scheduler, whose processes are killed while they work."""

import os
import signal
from itertools import count
from pathlib import Path

import pytest

from batch.storage.runs import LOCK
from tests.faulty import FaultyServer
from tests.scripted import Says
from tests.under_airflow.live import Airflow, Run, ended, owner_of, parent_of, until
from tests.under_airflow.world import Watch, transfers, write

pytestmark = pytest.mark.slow
WORLDS = (f"world{number}" for number in count())
RATE = 8


@pytest.fixture
def watch(api: FaultyServer) -> Watch:
    return Watch.over(api, transfers(20, next(WORLDS)))


@pytest.fixture
def places(tmp_path: Path, watch: Watch) -> dict[str, str]:
    return {"file": write(tmp_path / "rows.csv", watch.rows), "reports_dir": str(tmp_path / "reports")}


def owner_when(places: dict[str, str], watch: Watch, calls: int, shard: int) -> int:
    """The process that makes a shard, once so many calls have arrived."""
    until(lambda: len(watch.sent) >= calls)
    (lock,) = Path(places["reports_dir"]).glob(f"*/shards/{shard}/{LOCK}")
    return owner_of(lock)


def tries(run: Run, task_id: str) -> list[int]:
    """How often each of the mapped tasks was tried."""
    return [
        one["try_number"] for one in sorted(run.tasks(), key=lambda one: one["map_index"]) if one["task_id"] == task_id
    ]


def test_a_killed_shard_is_tried_again_and_goes_on(airflow: Airflow, watch: Watch, places: dict[str, str]) -> None:
    run = airflow.trigger("sharded_slow", **places)
    os.kill(owner_when(places, watch, 6, shard=2), signal.SIGKILL)
    assert (run.end(), tries(run, "shards.unassign")) == ("success", [1, 2, 1, 1])
    watch.all_done(run.xcom("shards.reconcile"), RATE)


def test_a_shard_whose_supervisor_is_killed_stops_and_another_process_goes_on(
    airflow: Airflow, watch: Watch, places: dict[str, str]
) -> None:
    run = airflow.trigger("sharded_slow", **places)
    owner = owner_when(places, watch, 26, shard=1)  # by then it assigns
    os.kill(parent_of(owner), signal.SIGKILL)
    until(lambda: ended(owner))
    assert (run.end(), tries(run, "shards.assign")) == ("success", [2, 1, 1, 1])
    watch.all_done(run.xcom("shards.reconcile"), RATE)


def test_what_every_shard_failed_at_is_reported_and_done_when_they_are_cleared(
    airflow: Airflow, watch: Watch, places: dict[str, str]
) -> None:
    watch.then = lambda _: Says(401, {"error": "Invalid API key"})
    run = airflow.trigger("sharded_slow", **places)
    assert (run.end(), tries(run, "shards.unassign"), tries(run, "shards.reconcile")) == ("failed", [1] * 4, [1])
    summary = run.xcom("shards.reconcile", "summary")
    assert (summary["balanced"], summary["counts"]["held"], summary["counts"]["notSent"]) == (True, 20, 40)
    watch.server.seen.clear()
    watch.then = lambda _: None
    run.clear("shards.unassign", "shards.barrier", "shards.assign", "shards.reconcile")
    assert run.end() == "success"
    watch.all_done(run.xcom("shards.reconcile"), RATE)


def test_shards_cleared_after_success_send_nothing(airflow: Airflow, watch: Watch, places: dict[str, str]) -> None:
    run = airflow.trigger("sharded", **places)
    assert run.end() == "success"
    first, sent = run.xcom("shards.reconcile"), len(watch.sent)
    run.clear(*{one["task_id"] for one in run.tasks()})
    assert run.end() == "success"
    again = run.xcom("shards.reconcile")
    assert (again["counts"], again["attempts"], len(watch.sent)) == (first["counts"], 60, sent)
