"""The operator under a real scheduler, with tasks in processes of their own, which are killed.

One Airflow for all such tests: dag-processor, scheduler, triggerer and api-server with a LocalExecutor,
on ports and in a home of its own.
"""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from telemetron_batch.journal.layout import LOCK_NAME
from tests.support.books import reconciliation_of
from tests.support.faulty import FaultyServer
from tests.support.scripted import Says
from tests.under_airflow.conftest import KEY
from tests.under_airflow.live import Airflow, Run, ended, owner_of, parent_of, until
from tests.under_airflow.test_operator import write

pytestmark = pytest.mark.slow


@pytest.fixture
def places(tmp_path: Path, api: FaultyServer) -> dict[str, str]:
    """Forty calls at 5 per second: long enough to be killed while sending."""
    api.script, _ = (lambda _: None), api.seen.clear()
    return {"file": write(tmp_path / "rows.csv", 40), "reports_dir": str(tmp_path / "reports")}


def owner_when(places: dict[str, str], api: FaultyServer, calls: int) -> int:
    """Return the process that has the run, after this number of calls."""
    until(lambda: len(api.seen) >= calls)
    (lock,) = Path(places["reports_dir"]).glob(f"*/{LOCK_NAME}")
    return owner_of(lock)


def devices_sent(api: FaultyServer) -> list[str]:
    return [device for seen in api.seen for device in seen.devices]


def balanced(summary: dict[str, Any]) -> None:
    """Check that every row has an outcome, in the summary and in the file."""
    assert summary["counts"]["notSent"] == summary["counts"]["unconfirmed"] == 0
    assert len(reconciliation_of(Path(summary["folder"]))) == summary["rows"] == 40


def test_a_killed_task_is_retried_and_continues(airflow: Airflow, api: FaultyServer, places: dict[str, str]) -> None:
    run = airflow.trigger("slow", **places)
    os.kill(owner_when(places, api, 10), signal.SIGKILL)
    assert (run.end(), run.task("send")["try_number"]) == ("success", 2)
    balanced(run.xcom("send"))
    twice = len(api.seen) - len(set(devices_sent(api)))
    assert 0 <= twice <= 8  # at most what was in flight


def test_a_task_whose_supervisor_is_killed_stops_and_another_continues(
    airflow: Airflow, api: FaultyServer, places: dict[str, str]
) -> None:
    run = airflow.trigger("slow", **places)
    owner = owner_when(places, api, 10)
    os.kill(parent_of(owner), signal.SIGKILL)
    until(lambda: ended(owner))
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


def test_a_long_wait_frees_the_slot_and_the_same_try_continues(
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


def test_a_killed_command_line_is_retried_and_continues(
    airflow: Airflow, api: FaultyServer, places: dict[str, str]
) -> None:
    run = airflow.trigger("slow_bash", **places)
    os.kill(owner_when(places, api, 10), signal.SIGKILL)
    assert (run.end(), run.task("send")["try_number"]) == ("success", 2)
    balanced({**run.xcom("send"), "folder": str(next(Path(places["reports_dir"]).iterdir()))})


def test_a_plan_is_sent_after_a_person_has_approved_it_on_the_page_of_airflow(
    airflow: Airflow, api: FaultyServer, places: dict[str, str]
) -> None:
    run = airflow.trigger("telemetron_approval", **places)
    planned = until(lambda: run.xcom("plan"))
    until(lambda: run.task("approve")["state"] in ("deferred", "awaiting_input"))
    assert (planned["state"], api.seen) == ("planned", [])
    run.respond("approve", "Approve")
    assert run.end() == "success"
    balanced({**run.xcom("send"), "folder": str(Path(places["reports_dir"]) / planned["runId"])})
    assert len(devices_sent(api)) == 40


def test_a_rejected_plan_is_never_sent(airflow: Airflow, api: FaultyServer, places: dict[str, str]) -> None:
    run = airflow.trigger("telemetron_approval", **places)
    run.respond("approve", "Reject")
    run.end()
    assert (run.task("send")["state"], api.seen) == ("skipped", [])


def test_no_log_and_no_rendered_field_contains_the_key(airflow: Airflow, places: Any) -> None:
    run = airflow.trigger("slow_bash", **places)
    assert run.end() == "success"
    assert KEY not in json.dumps(run.task("send"))
    for path in airflow.home.rglob("*.log"):
        assert KEY.encode() not in path.read_bytes(), path


def test_mapped_tasks_with_one_key_take_turns_and_use_up_no_try(
    airflow: Airflow, api: FaultyServer, places: dict[str, str], tmp_path: Path
) -> None:
    more = write(tmp_path / "more.csv", 30)
    run = airflow.trigger("several", reports_dir=places["reports_dir"], files=[places["file"], more])
    until(lambda: "up_for_reschedule" in {task["state"] for task in run.tasks()})
    assert run.end() == "success"
    assert [run.task("send", index)["try_number"] for index in range(2)] == [1, 1]
    assert [run.xcom("send", index=index)["rows"] for index in range(2)] == [40, 30]
    first, second = sorted((run.xcom("send", index=index) for index in range(2)), key=lambda one: one["startedAt"])
    assert first["endedAt"] <= second["startedAt"]
    assert len(devices_sent(api)) == 70


def test_a_backfill_sends_its_nights_in_order(airflow: Airflow, api: FaultyServer, places: dict[str, str]) -> None:
    write(Path(places["file"]), 5)
    asked = {"dag_id": "nightly", "from_date": "2026-01-05T00:00:00Z", "to_date": "2026-01-07T23:00:00Z"}
    # What depends on the past must be reprocessed, says Airflow: here there are no earlier runs.
    body = {**asked, "max_active_runs": 3, "dag_run_conf": places, "reprocess_behavior": "failed"}
    until(lambda: airflow.ask("POST", "/api/v2/backfills", body))

    def ended() -> list[dict[str, Any]] | None:
        runs = (airflow.ask("GET", "/api/v2/dags/nightly/dagRuns?order_by=logical_date") or {}).get("dag_runs", [])
        return runs if len(runs) == 3 and all(run["state"] in ("success", "failed") for run in runs) else None

    runs = [Run(airflow, "nightly", run["dag_run_id"]) for run in until(ended)]
    assert [run.end() for run in runs] == ["success"] * 3
    summaries = sorted((run.xcom("send") for run in runs), key=lambda one: one["startedAt"])
    nights = [one["options"]["as_of"][:10] for one in summaries]
    assert nights == sorted(nights)
    assert len({*nights}) == 3
    assert len(devices_sent(api)) == 15


def test_an_operator_sends_after_a_person_has_approved_its_plan(
    airflow: Airflow, api: FaultyServer, places: dict[str, str]
) -> None:
    run = airflow.trigger("approved", **places)
    run.respond("send", "Approve")
    assert len(api.seen) == 0
    assert (run.end(), run.task("send")["try_number"]) == ("success", 1)
    balanced(run.xcom("send"))
    assert run.xcom("send", "approval")["approvedBy"]


def test_a_group_sends_nothing_after_a_person_has_rejected_its_plan(
    airflow: Airflow, api: FaultyServer, places: dict[str, str]
) -> None:
    run = airflow.trigger("sharded_approved", **places)
    run.respond("shards.approve", "Reject")
    run.end()
    states = {task["task_id"]: task["state"] for task in run.tasks()}
    assert states == {
        "shards.plan": "success",
        "shards.approve": "success",
        **dict.fromkeys(("shards.unassign", "shards.barrier", "shards.assign", "shards.reconcile"), "skipped"),
    }
    assert api.seen == []
