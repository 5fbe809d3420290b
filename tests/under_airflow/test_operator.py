"""The operator in `dag.test()`: what Airflow stores of a run, and what the API receives."""

import csv
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from threading import Timer
from typing import Any
from urllib.parse import quote, unquote

import pytest

from telemetron_batch.airflow_provider.hooks import TelemetronHook
from telemetron_batch.airflow_provider.operators import TelemetronBatchOperator
from telemetron_batch.airflow_provider.task_log import TaskObserver
from telemetron_batch.airflow_provider.task_thread import in_thread
from telemetron_batch.domain.cancellation import CancelToken
from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.journal.layout import LOCK_NAME
from telemetron_batch.run import pipeline
from telemetron_batch.storage.lock import Lock, LockOwner
from tests.conftest import HEADER
from tests.support.faulty import Arrived, FaultyServer
from tests.support.listeners import listening
from tests.support.scripted import Event, Hangs, Says
from tests.under_airflow.conftest import KEY, DagRun, connection, dags

RunDag = Callable[..., DagRun]


def write(path: Path, rows: int, action: str = "assign") -> str:
    """Write an input with this number of rows, each of another customer."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        writer.writerows((f"c{number}@x.com", f"SN-{number}", action) for number in range(rows))
    return str(path)


@pytest.fixture
def places(tmp_path: Path, server: FaultyServer) -> dict[str, str]:
    """An input of three rows whose devices exist, and the reports folder."""
    server.fleet.seed([(f"c{number}@x.com", f"SN-{number}", "assign") for number in range(60)])
    return {"file": write(tmp_path / "rows.csv", 3), "reports_dir": str(tmp_path / "reports")}


def test_the_return_value_is_the_summary(run_dag: RunDag, places: dict[str, str]) -> None:
    task = run_dag("plain", **places).task("send")
    summary = task.xcom()
    assert task.state == "success"
    assert summary["counts"]["assigned"] == 3
    folder = Path(summary["folder"])
    written = json.loads((folder / "summary.json").read_text())
    assert {**written, "folder": str(folder)} == summary


def test_the_run_id_is_made_of_dag_task_and_run(run_dag: RunDag, places: dict[str, str]) -> None:
    run = run_dag("plain", **places)
    expected = f"plain.send.{run.run.run_id}".replace(":", "_")
    assert run.task("send").xcom()["runId"] == expected


def test_summary_and_journal_name_the_task(run_dag: RunDag, places: dict[str, str]) -> None:
    run = run_dag("plain", **places)
    told = run.task("send").xcom()["airflow"]
    assert told == {"dagId": "plain", "taskId": "send", "dagRunId": run.run.run_id, "tryNumber": "1"}


def test_the_end_of_a_task_is_told_once_also_if_its_options_are_refused(
    run_dag: RunDag, places: dict[str, str], server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listening() as listener:
        told = {"ping": f"http://{listener.host}/p"}
        monkeypatch.setenv("AIRFLOW_CONN_TELEMETRON_DEFAULT", connection(server, **told))
        assert run_dag("plain", **places).task("send").state == "success"
        assert listener.pings == [("/p/start", ""), ("/p", "0")]
        monkeypatch.setenv("AIRFLOW_CONN_TELEMETRON_DEFAULT", connection(server, **told, rate="fast"))
        assert run_dag("plain", **places).task("send").state == "failed"
        assert listener.pings[2:] == [("/p/fail", "2")]
        assert KEY not in str(listener.heard)


def test_without_an_address_of_the_web_there_is_no_link(run_dag: RunDag, places: dict[str, str]) -> None:
    task = run_dag("plain", **places).task("send")
    assert not task.xcom("_link_ReportLink")
    assert Path(unquote(task.xcom("report_url").removeprefix("file://"))).read_text().startswith("<!doctype html>")


def test_the_link_leads_where_the_connection_says(
    run_dag: RunDag, server: FaultyServer, places: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = connection(server, reports_url="https://reports.example.com/t/")
    monkeypatch.setenv("AIRFLOW_CONN_TELEMETRON_DEFAULT", told)
    task = run_dag("plain", **places).task("send")
    expected = f"https://reports.example.com/t/{quote(task.xcom()['runId'])}/report.html"
    assert task.xcom("_link_ReportLink") == task.xcom("report_url") == expected


def test_the_link_uses_reports_url(run_dag: RunDag, places: dict[str, str]) -> None:
    task = run_dag("strict", **places).task("send")
    run_id = task.xcom()["runId"]
    assert task.xcom("report_url") == f"https://reports.example.com/telemetron/{quote(run_id)}/report.html"


def test_the_same_run_id_after_success_sends_nothing(
    run_dag: RunDag, server: FaultyServer, places: dict[str, str]
) -> None:
    first = run_dag("named", **places, name="night-1").task("send").xcom()
    again = run_dag("named", **places, name="night-1").task("send").xcom()
    assert (again, len(server.seen)) == (first, 3)


def test_attention_rows_do_not_fail_the_task(run_dag: RunDag, places: dict[str, str]) -> None:
    with Path(places["file"]).open("a") as file:
        file.write("nobody,SN-1,assign\n")
    task = run_dag("plain", **places).task("send")
    assert (task.state, task.xcom()["exitCode"], task.xcom()["attention"]) == ("success", 1, 1)


@pytest.mark.parametrize("row", ["nobody,SN-1,assign", "stranger@x.com,SN-1,unassign"])
def test_a_run_without_a_successful_row_fails_without_a_retry(
    run_dag: RunDag, places: dict[str, str], row: str
) -> None:
    Path(places["file"]).write_text(f"customerEmail,deviceIdentifier,action\n{row}\n{row}\n")
    run = run_dag("plain", **places)
    task = run.task("send")
    assert (run.state, task.state, task.tries) == ("failed", "failed", 1)
    summary = task.xcom("summary")
    assert (summary["state"], summary["exitCode"], summary["rows"]) == ("finished", 1, 2)


def test_a_run_without_a_successful_row_updates_no_asset(run_dag: RunDag, places: dict[str, str]) -> None:
    Path(places["file"]).write_text("customerEmail,deviceIdentifier,action\nnobody,SN-1,assign\n")
    run = run_dag("plain", **places)
    assert run.asset_events() == []


def test_fail_on_stopped_accepts_a_run_without_a_successful_row(run_dag: RunDag, places: dict[str, str]) -> None:
    Path(places["file"]).write_text("customerEmail,deviceIdentifier,action\nnobody,SN-1,assign\n")
    task = run_dag("lenient", **places).task("send")
    assert (task.state, task.xcom()["exitCode"]) == ("success", 1)


def test_a_run_of_unchanged_rows_does_not_fail(run_dag: RunDag, places: dict[str, str]) -> None:
    told = {"reports_dir": places["reports_dir"], "files": places["file"], "opts": '{"since_last": true}'}
    assert run_dag("rendered", **told).state == "success"
    task = run_dag("rendered", **told).task("send")
    assert (task.state, task.xcom()["counts"]["unchanged"], task.xcom()["calls"]) == ("success", 3, 0)


def test_a_run_of_devices_that_were_already_returned_does_not_fail(
    run_dag: RunDag, server: FaultyServer, places: dict[str, str]
) -> None:
    server.fleet.assign("c1@x.com", ["SN-1"], create=True)
    Path(places["file"]).write_text("customerEmail,deviceIdentifier,action\nc1@x.com,SN-2,unassign\n")
    task = run_dag("plain", **places).task("send")
    assert (task.state, task.xcom()["counts"]["skipped"]) == ("success", 1)


def test_rows_that_want_attention_fail_a_strict_task(run_dag: RunDag, places: dict[str, str]) -> None:
    Path(places["file"]).write_text("customerEmail,deviceIdentifier,action\nnobody,SN-1,assign\n")
    task = run_dag("strict", **places).task("send")
    assert (task.state, task.xcom("summary")["attention"]) == ("failed", 1)


def test_an_input_without_rows_skips_the_task(run_dag: RunDag, server: FaultyServer, places: dict[str, str]) -> None:
    Path(places["file"]).write_text("customerEmail,deviceIdentifier,action\n")
    run = run_dag("plain", **places)
    assert (run.task("send").state, run.state, server.seen) == ("skipped", "success", [])


def test_an_input_without_rows_fails_a_strict_task(run_dag: RunDag, places: dict[str, str]) -> None:
    Path(places["file"]).write_text("customerEmail,deviceIdentifier,action\n")
    assert run_dag("strict", **places).task("send").state == "failed"


@pytest.mark.parametrize("content", ["", " \n\n"])
def test_a_file_without_a_header_fails_the_task_and_leaves_no_run(
    run_dag: RunDag, server: FaultyServer, places: dict[str, str], content: str
) -> None:
    Path(places["file"]).write_text(content)
    run = run_dag("plain", **places)
    assert (run.state, run.task("send").state, run.task("send").tries) == ("failed", "failed", 1)
    assert (list(Path(places["reports_dir"]).iterdir()), server.seen) == ([], [])


def test_a_file_without_a_header_is_skipped_if_the_options_accept_it(run_dag: RunDag, places: dict[str, str]) -> None:
    Path(places["file"]).write_text("")
    told = {"reports_dir": places["reports_dir"], "files": places["file"], "opts": '{"allow_empty": true}'}
    assert run_dag("rendered", **told).task("send").state == "skipped"


def test_a_relative_reports_dir_is_refused(run_dag: RunDag, server: FaultyServer, places: dict[str, str]) -> None:
    task = run_dag("plain", file=places["file"], reports_dir="reports").task("send")
    assert (task.state, task.tries, server.seen) == ("failed", 1, [])


@pytest.mark.parametrize("wrong", ["no such file", "no such column", "a refused key"])
def test_an_error_that_a_person_must_correct_is_not_retried(
    run_dag: RunDag, server: FaultyServer, places: dict[str, str], wrong: str
) -> None:
    if wrong == "no such file":
        Path(places["file"]).unlink()
    elif wrong == "no such column":
        Path(places["file"]).write_text("a,b,c\n1,2,3\n")
    else:
        server.script = lambda _: Says(401, {"error": "Invalid API key"})
    task = run_dag("plain", **places).task("send")
    assert (task.state, task.tries) == ("failed", 1)
    assert len(server.seen) == (1 if wrong == "a refused key" else 0)


def test_another_process_that_has_the_run_costs_no_try(run_dag: RunDag, places: dict[str, str]) -> None:
    folder = Path(places["reports_dir"]) / "night-1"
    other = Lock.acquire(folder / LOCK_NAME, LockOwner(1, "now", "night-1"), "run night-1")
    timer = Timer(4, other.release)
    timer.start()
    task = run_dag("named", **places, name="night-1").task("send")
    timer.join()
    assert (task.state, task.tries, task.xcom()["counts"]["assigned"]) == ("success", 1, 3)


def test_a_task_that_airflow_ends_with_a_timeout_has_its_summary(
    run_dag: RunDag, server: FaultyServer, places: dict[str, str]
) -> None:
    server.script = lambda seen: Hangs(acted=False) if seen.number == 2 else None
    task = run_dag("too_short", **places).task("send")
    summary = task.xcom("summary")
    assert (task.state, summary["stop"]["reason"]) == ("failed", "stopped by Airflow")
    assert summary["counts"]["unconfirmed"] + summary["counts"]["assigned"] + summary["counts"]["notSent"] == 3


def test_a_timeout_ends_the_run_and_the_next_try_continues(
    run_dag: RunDag, server: FaultyServer, places: dict[str, str]
) -> None:
    write(Path(places["file"]), 30)
    hung: list[Arrived] = []

    def script(arrived: Arrived) -> Event:
        if arrived.devices == ["SN-20"] and not hung:
            hung.append(arrived)
            return Hangs(acted=False)
        return None

    server.script = script
    task = run_dag("short", **places).task("send")
    summary = task.xcom()
    assert (task.state, task.tries, summary["counts"]["notSent"]) == ("success", 2, 0)
    assert len(server.seen) == summary["attempts"] == 31
    assert summary["unclearAttempts"] == 1
    assert [event["kind"] for event in summary["events"]] == ["airflow", "airflow"]


def test_a_long_wait_is_deferred_and_the_same_try_continues(
    run_dag: RunDag, server: FaultyServer, places: dict[str, str]
) -> None:
    server.script = lambda seen: Says(429, {}, {"Retry-After": "3"}) if seen.number == 2 else None
    task = run_dag("patient", **places).task("send")
    summary = task.xcom()
    assert (task.state, task.tries, summary["counts"]["assigned"]) == ("success", 1, 3)
    assert task.xcom("summary")["stop"]["reason"].startswith("the API asks to wait until ")
    assert [event["kind"] for event in summary["events"]] == ["airflow", "hold", "airflow"]
    assert server.seen[2].at - server.seen[1].at >= 3


def test_a_wait_without_deferral_happens_in_the_slot(
    run_dag: RunDag, server: FaultyServer, places: dict[str, str]
) -> None:
    server.script = lambda seen: Says(429, {}, {"Retry-After": "2"}) if seen.number == 2 else None
    summary = run_dag("plain", **places).task("send").xcom()
    assert (summary["counts"]["assigned"], len([one for one in summary["events"] if one["kind"] == "airflow"])) == (
        3,
        1,
    )


def test_each_mapped_task_has_a_run_of_its_own(run_dag: RunDag, places: dict[str, str], tmp_path: Path) -> None:
    files = [places["file"], write(tmp_path / "more.csv", 5)]
    run = run_dag("several", reports_dir=places["reports_dir"], files=files)
    summaries = [run.task("send", index).xcom() for index in range(2)]
    assert [one["rows"] for one in summaries] == [3, 5]
    assert [one["runId"][-2:] for one in summaries] == [".0", ".1"]
    assert [one["airflow"]["mapIndex"] for one in summaries] == ["0", "1"]


def test_the_asset_event_has_the_summary(run_dag: RunDag, places: dict[str, str]) -> None:
    run = run_dag("plain", **places)
    (extra,) = run.asset_events()
    assert extra["counts"]["assigned"] == 3


def test_nothing_stored_contains_the_key(
    run_dag: RunDag, airflow_home: Path, places: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    run_dag("plain", **places)
    run_dag("telemetron_bash", **places)
    out, err = capfd.readouterr()
    assert KEY not in out + err
    for place in (airflow_home, Path(places["reports_dir"])):
        for path in place.rglob("*"):
            if path.is_file():
                assert KEY.encode() not in path.read_bytes(), path


def test_a_killed_task_ends_its_run(server: FaultyServer, places: dict[str, str], tmp_path: Path) -> None:
    write(Path(places["file"]), 60)
    interrupt = CancelToken()
    config = TelemetronHook().config([places["file"]], {"reports_dir": str(tmp_path), "run_id": "r1", "rate": "10/s"})
    server.script = lambda seen: interrupt.cancel("stopped by Airflow") if seen.number == 5 else None
    summary = in_thread(lambda: pipeline.run(config, observer=TaskObserver(interrupt)), interrupt)
    assert (summary.exit_code, summary.fields["stop"]["reason"]) == (3, "stopped by Airflow")
    assert summary.counts[Outcome.NOT_SENT] == 60 - len(server.seen) > 0


def test_a_run_whose_supervisor_is_gone_ends(
    server: FaultyServer, places: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(Path(places["file"]), 60)
    parents = iter([1, 1, 1])
    monkeypatch.setattr("os.getppid", lambda: next(parents, 2))
    interrupt = CancelToken()
    config = TelemetronHook().config([places["file"]], {"reports_dir": str(tmp_path), "run_id": "r1", "rate": "10/s"})
    summary = in_thread(lambda: pipeline.run(config, observer=TaskObserver(interrupt)), interrupt)
    assert (summary.exit_code, summary.fields["stop"]["reason"]) == (3, "the supervisor of its task is gone")
    assert len(server.seen) < 60


def test_the_example_with_the_operator_runs(run_dag: RunDag, places: dict[str, str]) -> None:
    run = run_dag("telemetron_operator", **places)
    assert run.state == "success"
    assert run.task("tell").xcom().startswith("3 rows, 0 want attention: /")


def test_the_example_with_the_command_line_runs(run_dag: RunDag, places: dict[str, str]) -> None:
    task = run_dag("telemetron_bash", **places).task("assign_devices")
    assert (task.state, task.xcom()["counts"]["assigned"]) == ("success", 3)
    assert task.xcom()["airflow"]["dagId"] == "telemetron_bash"


def test_the_example_with_the_command_line_skips_an_empty_input(run_dag: RunDag, places: dict[str, str]) -> None:
    Path(places["file"]).write_text("customerEmail,deviceIdentifier,action\n")
    assert run_dag("telemetron_bash", **places).task("assign_devices").state == "skipped"


def test_the_example_with_an_approval_sends_the_plan_that_was_shown(airflow_home: Path, places: dict[str, str]) -> None:
    dag = dags(airflow_home)["telemetron_approval"]
    [approve] = [task for task in dag.tasks if task.task_id == "approve"]
    assert (approve.defaults, approve.upstream_task_ids, approve.downstream_task_ids) == (
        ["Reject"],
        {"plan"},
        {"send"},
    )
    run = DagRun(dag.test(run_conf=places, mark_success_pattern="approve"))
    plan, sent = run.task("plan").xcom(), run.task("send").xcom()
    assert (plan["state"], plan["runId"]) == ("planned", sent["runId"])
    assert (sent["fingerprint"], sent["counts"]["assigned"]) == (plan["fingerprint"], 3)


@pytest.mark.parametrize("dag_id", ["rendered", "rendered_json", "rendered_native"])
def test_options_and_files_may_be_rendered_to_json_text(
    run_dag: RunDag, places: dict[str, str], tmp_path: Path, dag_id: str
) -> None:
    files, opts = [places["file"], write(tmp_path / "more.csv", 5, "unassign")], {"chunk_size": 7, "xlsx": True}
    told: dict[str, Any] = {"files": files, "opts": opts}
    if dag_id == "rendered":
        told = {name: json.dumps(value) for name, value in told.items()}
    summary = run_dag(dag_id, reports_dir=places["reports_dir"], **told).task("send").xcom()
    assert [one["path"] for one in summary["inputs"]] == files
    assert (summary["options"]["chunk_size"], summary["options"]["xlsx"]) == ("7", True)
    assert datetime.fromisoformat(summary["options"]["as_of"]).tzinfo is not None


def test_a_path_and_an_empty_text_of_options_are_taken_as_they_are(run_dag: RunDag, places: dict[str, str]) -> None:
    summary = run_dag("rendered", reports_dir=places["reports_dir"], files=places["file"], opts="").task("send").xcom()
    assert (summary["inputs"][0]["path"], summary["rows"]) == (places["file"], 3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"opts": {"chunk_size": 7}},
        {"opts": "[1]"},
        {"opts": '{"max_faled": 1}'},
        {"opts": '{"run_id": "x"}'},
        {"files": ["a.csv", "b.csv"]},
        {"files": '["a.csv", 1]'},
        {"files": "[]"},
    ],
)
def test_a_wrongly_rendered_template_is_not_retried(
    run_dag: RunDag, server: FaultyServer, places: dict[str, str], wrong: dict[str, Any]
) -> None:
    told = {"files": places["file"], "opts": "", **wrong}
    task = run_dag("rendered", reports_dir=places["reports_dir"], **told).task("send")
    assert (task.state, task.tries, server.seen) == ("failed", 1, [])


@pytest.mark.parametrize(
    ("dag_id", "task_id"),
    [("plain", "send"), ("sharded", "shards.reconcile"), ("telemetron_bash", "assign_devices")],
)
def test_a_run_is_as_of_the_end_of_its_data_interval(
    airflow_home: Path, places: dict[str, str], dag_id: str, task_id: str
) -> None:
    night = datetime(2026, 1, 2, 2, tzinfo=UTC)
    run = DagRun(dags(airflow_home)[dag_id].test(run_conf=places, logical_date=night))
    assert run.task(task_id).xcom()["options"]["as_of"] == run.run.data_interval_end.isoformat()


@pytest.mark.parametrize(
    ("dag_id", "task_id"),
    [("plain", "send"), ("sharded", "shards.reconcile"), ("telemetron_bash", "assign_devices")],
)
def test_a_manual_run_without_a_data_interval_is_as_of_no_time(
    airflow_home: Path, places: dict[str, str], dag_id: str, task_id: str
) -> None:
    run = DagRun(dags(airflow_home)[dag_id].test(run_conf=places, logical_date=None))
    assert run.run.data_interval_end is None
    assert "as_of" not in run.task(task_id).xcom()["options"]


def test_lineage_names_the_files() -> None:
    pytest.importorskip("airflow.providers.openlineage")
    operator = TelemetronBatchOperator(task_id="send", file="/in/rows.csv", reports_dir="/out", run_id="r:1")
    told = operator.get_openlineage_facets_on_complete(None)
    assert [one.name for one in told.inputs] == ["/in/rows.csv"]
    assert told.outputs[0].name == "/out/r_1/reconciliation.csv"


def test_lineage_names_an_object_by_its_bucket_and_key() -> None:
    pytest.importorskip("airflow.providers.openlineage")
    operator = TelemetronBatchOperator(task_id="send", file="s3://erp/in/rows.csv", reports_dir="/out", run_id="r")
    (told,) = operator.get_openlineage_facets_on_start().inputs
    assert (told.namespace, told.name) == ("s3://erp", "in/rows.csv")
