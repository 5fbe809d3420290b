"""The other ways to send: hook, decorator, query, sensor; and what follows a run: verify, undo, a notice."""

import asyncio
import json
import os
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException
from airflow.sdk import DAG

from telemetron_batch.airflow_provider.notifications import TelemetronNotifier
from telemetron_batch.airflow_provider.operators import TelemetronBatchOperator, TelemetronUndoOperator
from telemetron_batch.airflow_provider.sensors import TelemetronFileSensor
from telemetron_batch.airflow_provider.triggers import SettledFileTrigger
from tests.support.faulty import FaultyServer
from tests.under_airflow.conftest import DagRun
from tests.under_airflow.test_operator import write

RunDag = Callable[..., DagRun]


@pytest.fixture
def places(tmp_path: Path, server: FaultyServer) -> dict[str, str]:
    """An input of three rows whose devices exist, and the reports folder."""
    server.fleet.seed([(f"c{number}@x.com", f"SN-{number}", "assign") for number in range(3)])
    return {"file": write(tmp_path / "rows.csv", 3), "reports_dir": str(tmp_path / "reports")}


def test_a_python_task_plans_sends_queries_and_checks(
    run_dag: RunDag, server: FaultyServer, places: dict[str, str]
) -> None:
    run = run_dag("by_hook", **places)
    told = run.task("send").xcom()
    assert (told["checked"], told["planned"], told["sent"]["counts"]["assigned"]) == (server.base_url, 3, 3)
    assert told["held"] == {"c0@x.com": ["SN-0"], "nobody@x.com": None}
    assert told["sent"]["runId"] == f"by_hook.send.{run.run.run_id}".replace(":", "_")


def test_a_failed_python_task_fails_as_the_operator_does(run_dag: RunDag, places: dict[str, str]) -> None:
    Path(places["file"]).write_text("customerEmail,deviceIdentifier,action\nnobody,SN-1,assign\n")
    assert run_dag("by_hook", **places).task("send").state == "failed"


def test_the_frame_that_a_function_returns_is_sent(
    run_dag: RunDag, server: FaultyServer, places: dict[str, str]
) -> None:
    summary = run_dag("framed", **places).task("assignments").xcom()
    assert (summary["rows"], summary["counts"]["assigned"]) == (1, 1)
    assert [seen.customer for seen in server.seen if seen.action == "assign"] == ["c1@x.com"]


def test_the_file_that_a_function_names_is_sent(run_dag: RunDag, places: dict[str, str]) -> None:
    assert run_dag("framed", **places, lists="yes").task("assignments").xcom()["rows"] == 3


def test_the_rows_of_a_query_are_sent(
    run_dag: RunDag, places: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("airflow.providers.sqlite")
    with sqlite3.connect(tmp_path / "erp.db") as database:
        database.execute("CREATE TABLE wanted (mail TEXT, serial TEXT)")
        database.executemany("INSERT INTO wanted VALUES (?, ?)", [("c0@x.com", "SN-0"), ("c2@x.com", "SN-2")])
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "sqlite", "host": str(tmp_path / "erp.db")}))
    summary = run_dag("queried", reports_dir=places["reports_dir"], file="").task("send").xcom()
    assert (summary["rows"], summary["counts"]["assigned"]) == (2, 2)


def test_a_run_is_verified_and_taken_back(run_dag: RunDag, server: FaultyServer, places: dict[str, str]) -> None:
    run = run_dag("mended", **places)
    assert run.state == "success"
    sent, verified, undone = (run.task(name).xcom() for name in ("send", "verify", "undo"))
    assert verified["runId"] == sent["runId"]
    assert verified["verify"]["customersAsked"] == 3
    assert (undone["counts"]["unassigned"], undone["runId"]) == (3, f"mended.undo.{run.run.run_id}".replace(":", "_"))
    assert all(not server.fleet.owners(f"SN-{number}") for number in range(3))


def test_a_notifier_tells_how_a_task_ended(run_dag: RunDag, places: dict[str, str]) -> None:
    run_dag("noticed", **places)
    notice = Path(places["reports_dir"]) / "notices.txt"
    task, sentence, counts, where = notice.read_text().splitlines()
    assert task.startswith("noticed.send, run ")
    assert (sentence, counts) == ("All 3 rows are where they should be.", "3 assigned")
    assert where.startswith(places["reports_dir"])


def test_a_notifier_tells_why_a_task_failed(run_dag: RunDag, places: dict[str, str]) -> None:
    Path(places["file"]).write_text("customerEmail,deviceIdentifier,action\nnobody,SN-1,assign\n")
    run_dag("noticed", **places)
    told = (Path(places["reports_dir"]) / "notices.txt").read_text()
    assert "The one row wants attention" in told
    assert "1 invalid" in told


class Silent:
    """A task instance whose XComs cannot be read, as in a callback of a DAG."""

    dag_id, task_id, run_id, map_index = "d", "t", "monday", 2

    def xcom_pull(self, **_: Any) -> Any:
        raise RuntimeError("no supervisor")


def test_a_notifier_tells_the_error_of_a_task_without_a_summary() -> None:
    told = TelemetronNotifier().message({"ti": Silent(), "exception": ValueError("rows.csv: there is no such file")})
    assert told.lines == ["d.t [2], run monday", "rows.csv: there is no such file."]


def test_a_sensor_hands_a_complete_file_on(run_dag: RunDag, places: dict[str, str]) -> None:
    run = run_dag("sensed", **places)
    assert (run.state, run.task("send").xcom()["rows"]) == ("success", 3)


def sensor(file: Path, **arguments: Any) -> TelemetronFileSensor:
    with DAG("of_a_test"):
        return TelemetronFileSensor(task_id="t", file=str(file), **arguments)


def test_a_rescheduled_sensor_goes_by_the_time_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "export.csv"
    looking = sensor(file, mode="reschedule", settled_for=timedelta(seconds=0.2))
    assert not looking.poke({})
    file.write_text("x")
    os.utime(file, (2e9, 2e9))
    assert not looking.poke({})
    os.utime(file, (1e9, 1e9))
    assert looking.poke({}).is_done


def test_a_deferrable_sensor_waits_in_the_triggerer(tmp_path: Path) -> None:
    from airflow.providers.common.compat.sdk import TaskDeferred

    file = tmp_path / "export.csv"
    with pytest.raises(TaskDeferred) as raised:
        sensor(file, deferrable=True, settled_for=0.05, poke_interval=0.02).execute({})
    path, arguments = raised.value.trigger.serialize()
    assert path == "telemetron_batch.airflow_provider.triggers.SettledFileTrigger"

    async def fired() -> Any:
        events = SettledFileTrigger(**arguments).run()
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        assert not waiting.done()
        file.write_text("x")
        return (await waiting).payload

    assert asyncio.run(fired()) == [str(file)]


class ParkedError(Exception):
    """Raised where Airflow would park the task."""


class Parking:
    """Asks a person who answers later, without Airflow's database."""

    questions: ClassVar[list[str]] = []

    def _park(self, context: Any, subject: str, body: str) -> None:  # noqa: ARG002
        self.questions.append(f"{subject} {body}")
        raise ParkedError


class ParkingBatch(Parking, TelemetronBatchOperator):
    """The operator, parked."""


class ParkingUndo(Parking, TelemetronUndoOperator):
    """The operator of an undo, parked."""


class Instance:
    """A task instance that keeps its XComs."""

    map_index = -1

    def __init__(self) -> None:
        self.xcoms: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value


APPROVED = {"chosen_options": ["Approve"], "responded_by_user": {"id": "1", "name": "ann"}, "responded_at": "now"}


def test_a_plan_and_an_undo_are_sent_only_after_their_approval(server: FaultyServer, places: dict[str, str]) -> None:
    context = {"ti": Instance()}
    made = {"reports_dir": places["reports_dir"], "approve": True}
    for operator in (
        ParkingBatch(task_id="t", file=places["file"], run_id="night", as_of=None, **made),
        ParkingUndo(task_id="t", run="night", run_id="back", **made),
    ):
        sent = len(server.seen)
        for _ in range(2):  # a retry asks again
            with pytest.raises(ParkedError):
                operator.execute(context)
        assert len(server.seen) == sent
        assert "3 rows" in Parking.questions[-1]
        assert "Plan `" in Parking.questions[-1]
        assert operator.execute_answered(context, APPROVED)["state"] == "finished"
        assert context["ti"].xcoms["approval"]["approvedBy"] == "ann"
        assert operator.execute(context)["state"] == "finished"  # cleared: neither asks nor sends again
        assert len(server.seen) == sent + 3


@pytest.mark.parametrize("answer", [{"chosen_options": ["Reject"]}, {"error": "no answer", "error_type": "timeout"}])
def test_a_plan_without_approval_skips_the_task(
    server: FaultyServer, places: dict[str, str], answer: dict[str, Any]
) -> None:
    operator = ParkingBatch(task_id="t", file=places["file"], reports_dir=places["reports_dir"], approve=True)
    with pytest.raises(AirflowSkipException, match="the plan was not approved"):
        operator.execute_answered({"ti": Instance()}, answer)
    assert server.seen == []
