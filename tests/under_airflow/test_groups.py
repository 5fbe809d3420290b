"""A run made by many tasks, in `dag.test()`: the results of the tasks, and what the API receives."""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import DAG

from telemetron_batch.airflow_provider.groups import telemetron_task_group
from telemetron_batch.airflow_provider.hooks import TelemetronHook
from telemetron_batch.airflow_provider.shards import (
    TelemetronPlanOperator,
    TelemetronReconcileOperator,
    TelemetronShardOperator,
)
from telemetron_batch.airflow_provider.shared_storage import file_system
from telemetron_batch.run import pipeline
from tests.support.faulty import FaultyServer
from tests.support.scripted import Says
from tests.under_airflow.conftest import KEY, DagRun
from tests.under_airflow.world import Watch, reconciled, transfers, write

RunDag = Callable[..., DagRun]
ROWS = transfers(8)
COLUMNS = ("line", "customerEmail", "deviceIdentifier", "action", "outcome", "detail", "call", "httpStatus")


@pytest.fixture
def watch(server: FaultyServer) -> Watch:
    return Watch.over(server, ROWS)


@pytest.fixture
def places(tmp_path: Path, watch: Watch) -> dict[str, str]:  # noqa: ARG001 - to have the world made
    return {"file": write(tmp_path / "rows.csv", ROWS), "reports_dir": str(tmp_path / "reports")}


def states(run: DagRun) -> dict[str, Counter[str]]:
    """Return the number of tasks by name in the group and state."""
    found: dict[str, Counter[str]] = {}
    for one in run.run.get_task_instances():
        found.setdefault(one.task_id.rpartition(".")[2], Counter())[str(one.state)] += 1
    return found


def refusing(*customers: str) -> Callable[[Any], Any]:
    """Refuse the key for calls to these customers, so that their shard fails for good."""
    return lambda seen: Says(401, {"error": "Invalid API key"}) if seen.customer in customers else None


def test_a_group_has_the_result_of_one_task(
    run_dag: RunDag, watch: Watch, places: dict[str, str], tmp_path: Path
) -> None:
    run = run_dag("sharded", **places)
    summary = run.task("shards.reconcile").xcom()
    assert states(run) == {
        "plan": Counter(success=1),
        "unassign": Counter(success=4),
        "barrier": Counter(success=1),
        "assign": Counter(success=4),
        "reconcile": Counter(success=1),
    }
    assert (run.state, summary["exitCode"], summary["calls"], len(watch.sent)) == ("success", 0, 24, 24)
    assert watch.doubled == []
    names = {one.rendered_map_index for one in run.run.get_task_instances() if one.map_index >= 0}
    assert names == {"shard 1", "shard 2", "shard 3", "shard 4"}
    alone = Watch.over(watch.server, ROWS)
    for customer, device, action in ROWS:
        if action == "assign":
            watch.server.fleet.unassign(customer, [device])
    config = TelemetronHook().config(
        [places["file"]], {"reports_dir": str(tmp_path / "one"), "run_id": "r", "again": True}
    )
    one = pipeline.run(config)
    assert (reconciled(one.folder, *COLUMNS), alone.doubled) == (reconciled(summary["folder"], *COLUMNS), [])


def test_all_tasks_of_a_group_share_one_run(run_dag: RunDag, places: dict[str, str]) -> None:
    run = run_dag("telemetron_task_group", **places)
    name = f"telemetron_task_group.assign_devices.{run.run.run_id}".replace(":", "_")
    assert run.task("assign_devices.reconcile").xcom()["runId"] == name
    assert [one.name for one in Path(places["reports_dir"]).iterdir()] == [name]
    assert run.task("tell").xcom() == f"24 rows, 0 want attention: {places['reports_dir']}/{name}/attention.csv"


def test_a_failed_shard_has_its_devices_held_and_all_others_are_done(
    run_dag: RunDag, watch: Watch, places: dict[str, str]
) -> None:
    watch.then = refusing("old3@x.com")
    run = run_dag("sharded", **places)
    summary = run.task("shards.reconcile").xcom("summary")
    assert (states(run)["unassign"], states(run)["assign"]) == (Counter(success=3, failed=1), Counter(success=4))
    (failed,) = (one.map_index for one in run.run.get_task_instances() if one.state == "failed" and one.map_index >= 0)
    assert run.task("shards.unassign", failed).xcom("summary")["exitCode"] == 4
    assert (run.state, run.task("shards.reconcile").state, summary["exitCode"]) == ("failed", "failed", 4)
    outcomes = {
        (action, device): outcome
        for device, action, outcome in reconciled(summary["folder"], "deviceIdentifier", "action", "outcome")
    }
    assert outcomes["unassign", "x-SN-3"] == "notSent"
    assert all(
        outcome == ("held" if outcomes["unassign", device] == "notSent" else "assigned")
        for (action, device), outcome in outcomes.items()
        if action == "assign" and ("unassign", device) in outcomes
    )
    assert summary["counts"]["assigned"] + summary["counts"]["held"] == 16
    assert watch.doubled == []


def test_with_stop_nothing_is_assigned_after_a_shard_has_failed(
    run_dag: RunDag, watch: Watch, places: dict[str, str]
) -> None:
    watch.then = refusing("old3@x.com")
    run = run_dag("sharded_stop", **places)
    summary = run.task("shards.reconcile").xcom("summary")
    assert states(run)["barrier"] == Counter(upstream_failed=1)
    assert {action for action, _ in watch.sent} == {"unassign"}
    assert (run.state, summary["counts"]["notSent"] >= 8, summary["rows"]) == ("failed", True, 24)


def test_a_report_is_written_if_every_shard_has_failed(run_dag: RunDag, watch: Watch, places: dict[str, str]) -> None:
    watch.then = lambda _: Says(401, {"error": "Invalid API key"})
    run = run_dag("sharded", **places)
    summary = run.task("shards.reconcile").xcom("summary")
    assert (states(run)["unassign"], states(run)["assign"]) == (Counter(failed=4), Counter(failed=4))
    assert (run.state, summary["balanced"], summary["exitCode"]) == ("failed", True, 4)
    assert (summary["counts"]["notSent"], summary["counts"]["held"]) == (16, 8)
    assert run.task("shards.reconcile").tries == 1


def test_an_input_without_rows_skips_all_tasks(run_dag: RunDag, watch: Watch, places: dict[str, str]) -> None:
    write(Path(places["file"]), [])
    run = run_dag("sharded", **places)
    assert (run.state, {*sum(states(run).values(), Counter())}, watch.sent) == ("success", {"skipped"}, [])


def test_an_input_without_rows_fails_the_plan_without_skip_if_empty(run_dag: RunDag, places: dict[str, str]) -> None:
    write(Path(places["file"]), [])
    run = run_dag("sharded_stop", **places)
    assert (run.state, run.task("shards.plan").state, run.task("shards.plan").tries) == ("failed", "failed", 1)
    assert run.task("shards.reconcile").state == "upstream_failed"


def test_an_input_without_calls_is_reconciled(run_dag: RunDag, places: dict[str, str]) -> None:
    write(Path(places["file"]), [("nobody", "SN-1", "assign")])
    run = run_dag("sharded_lenient", **places)
    assert (run.state, run.task("shards.reconcile").xcom()["counts"]["invalid"]) == ("success", 1)


@pytest.mark.parametrize("row", [("nobody", "SN-1", "assign"), ("stranger@x.com", "SN-1", "unassign")])
def test_a_group_in_which_no_row_succeeded_fails_with_its_last_task(
    run_dag: RunDag, places: dict[str, str], row: tuple[str, str, str]
) -> None:
    write(Path(places["file"]), [row])
    run = run_dag("sharded", **places)
    task = run.task("shards.reconcile")
    assert (run.state, task.state, task.tries) == ("failed", "failed", 1)
    assert (task.xcom("summary")["state"], task.xcom("summary")["attention"]) == ("finished", 1)
    assert states(run)["assign"] == Counter(success=1)


def test_the_same_run_again_after_success_sends_nothing(run_dag: RunDag, watch: Watch, places: dict[str, str]) -> None:
    first = run_dag("sharded", **places, name="night-1").task("shards.reconcile").xcom()
    again = run_dag("sharded", **places, name="night-1").task("shards.reconcile").xcom()
    assert (again["counts"], again["attempts"], len(watch.sent)) == (first["counts"], 24, 24)


def test_another_number_of_shards_for_the_same_run_is_refused(
    run_dag: RunDag, watch: Watch, places: dict[str, str]
) -> None:
    run_dag("sharded", **places, name="night-1")
    run = run_dag("sharded", **places, name="night-1", shards=3)
    assert (run.task("shards.plan").state, len(watch.sent)) == ("failed", 24)


def test_rows_that_want_attention_fail_a_strict_group(run_dag: RunDag, places: dict[str, str]) -> None:
    write(Path(places["file"]), [*ROWS, ("nobody", "SN-1", "assign")])
    run = run_dag("sharded_stop", **places)
    assert (run.state, run.task("shards.reconcile").xcom("summary")["exitCode"]) == ("failed", 1)


def test_a_deferred_shard_continues_in_the_same_try(run_dag: RunDag, watch: Watch, places: dict[str, str]) -> None:
    watch.then = lambda seen: Says(429, {}, {"Retry-After": "3"}) if seen.number == 2 else None
    run = run_dag("sharded_patient", **places, shards=1)
    task = run.task("shards.unassign", 0)
    assert (run.state, task.state, task.tries, len(watch.sent)) == ("success", "success", 1, 25)
    assert task.xcom("summary")["stop"]["reason"].startswith("the API asks to wait until ")
    assert watch.server.seen[2].at - watch.server.seen[1].at >= 3


def test_the_link_and_the_asset_event_are_those_of_the_reconciliation(run_dag: RunDag, places: dict[str, str]) -> None:
    run = run_dag("sharded", **places)
    summary = run.task("shards.reconcile").xcom()
    assert run.task("shards.reconcile").xcom("report_url").endswith("report.html")
    (extra,) = run.asset_events()
    assert extra["counts"] == summary["counts"]


def test_xcoms_are_small_and_contain_no_key(run_dag: RunDag, places: dict[str, str]) -> None:
    run = run_dag("sharded", **places)
    told: list[Mapping[str, Any]] = run.task("shards.plan").xcom()
    assert [one["shard"] for one in told] == [1, 2, 3, 4]
    assert sum(one["calls"] for one in told) == 24
    for path in Path(places["reports_dir"]).rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def test_a_relative_reports_dir_is_refused_before_planning(run_dag: RunDag, places: dict[str, str]) -> None:
    run = run_dag("sharded", file=places["file"], reports_dir="reports")
    assert (run.task("shards.plan").state, run.task("shards.plan").tries) == ("failed", 1)


def test_the_file_system_of_a_path_is_that_of_the_mount_nearest_to_it() -> None:
    mounts = (
        "22 1 0:20 / / rw - overlay overlay rw\n"
        "30 22 0:30 / /shared rw,relatime shared:1 - nfs4 server:/x rw\n"
        "31 30 0:31 / /shared/in\\040here rw - tmpfs tmpfs rw\n"
    )
    assert file_system(Path("/shared/telemetron"), mounts) == "nfs4"
    assert file_system(Path("/shared/in here/x"), mounts) == "tmpfs"
    assert file_system(Path("/var/lib"), mounts) == "overlay"
    assert file_system(Path("/sharedness"), mounts) == "overlay"
    assert file_system(Path("/x"), "") == ""


def test_wrong_arguments_are_errors_when_the_dag_is_parsed() -> None:
    with pytest.raises(ValueError, match="on_unassign_failure: 'ignore' is neither"):
        telemetron_task_group(file="f", reports_dir="/r", on_unassign_failure="ignore")
    with pytest.raises(ValueError, match="phase: 'both' is neither"):
        TelemetronShardOperator(task_id="t", reports_dir="/r", shard=1, phase="both")
    with pytest.raises(ValueError, match="options: shards is an argument of its own"):
        TelemetronShardOperator(task_id="t", reports_dir="/r", shard=1, phase="assign", options={"shards": 2})


def test_task_arguments_apply_to_all_tasks_and_shards_at_once_to_the_shards() -> None:
    with DAG("of_a_test"):
        group = telemetron_task_group(file="f", reports_dir="/r", shards_at_once=2, pool="telemetron", retries=3)
    tasks = {task.task_id.rpartition(".")[2]: task for task in group.iter_tasks()}
    assert {task.pool for task in tasks.values()} == {"telemetron"}
    assert {name: task.retries for name, task in tasks.items() if task.retries != 3} == {"reconcile": 0}
    assert {name for name, task in tasks.items() if task.max_active_tis_per_dagrun == 2} == {"unassign", "assign"}


def test_lineage_names_the_input_with_the_plan_and_the_files_with_the_reconciliation() -> None:
    pytest.importorskip("airflow.providers.openlineage")
    place = {"reports_dir": "/out", "run_id": "r:1"}
    plan = TelemetronPlanOperator(task_id="plan", file="/in/rows.csv", **place)
    reconcile = TelemetronReconcileOperator(task_id="reconcile", **place)
    told = [operator.get_openlineage_facets_on_start() for operator in (plan, reconcile)]
    assert [[one.name for one in some.inputs] for some in told] == [["/in/rows.csv"], []]
    assert [len(some.outputs) for some in told] == [0, 4]
    assert told[1].outputs[0].name == "/out/r_1/reconciliation.csv"


def test_a_group_with_an_approval_asks_between_plan_and_shards() -> None:
    with DAG("of_a_test"):
        group = telemetron_task_group(file="f", reports_dir="/r", approve=True, pool="telemetron", depends_on_past=True)
    tasks = {task.label: task for task in group.iter_tasks()}
    question = tasks["approve"]
    assert (question.upstream_task_ids, question.downstream_task_ids) == ({"telemetron.plan"}, {"telemetron.unassign"})
    assert (question.defaults, question.pool, question.depends_on_past) == (["Reject"], "telemetron", True)
    assert question.ignore_downstream_trigger_rules


class Answered:
    """A task instance that knows the answer of a person."""

    map_index = -1

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def xcom_pull(self, task_ids: str) -> Any:
        assert task_ids == "g.approve"
        return self.answer


@pytest.mark.parametrize("answer", [None, {"chosen_options": ["Reject"]}])
def test_a_shard_sends_nothing_without_the_approval_of_its_group(answer: Any) -> None:
    shard = TelemetronShardOperator(
        task_id="t", reports_dir="/r", shard=1, phase="assign", approval_task_id="g.approve"
    )
    with pytest.raises(AirflowFailException, match=r"task g\.approve has not been approved"):
        shard.execute({"ti": Answered(answer)})


@pytest.mark.parametrize("default", [True, False])
def test_a_group_is_deferrable_as_the_configuration_says(default: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", str(default))
    with DAG("of_a_test"):
        group = telemetron_task_group(file="f", reports_dir="/r")
        own = telemetron_task_group("own", file="f", reports_dir="/r", deferrable=not default)
    shards = {
        task.task_id: task.partial_kwargs["deferrable"]
        for one in (group, own)
        for task in one.iter_tasks()
        if "assign" in task.task_id
    }
    assert shards == {
        "telemetron.unassign": None,
        "telemetron.assign": None,
        "own.unassign": not default,
        "own.assign": not default,
    }
    assert TelemetronShardOperator(task_id="t", reports_dir="/r", shard=1, phase="assign").deferrable is default
