"""What commands print and do differently when Airflow runs them."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from telemetron_batch.cli.commands import main
from telemetron_batch.config.airflow_context import airflow_context, context_variables, describe
from tests.conftest import Desk

CONTEXT = {
    "AIRFLOW_CTX_DAG_ID": "nightly",
    "AIRFLOW_CTX_TASK_ID": "assign",
    "AIRFLOW_CTX_DAG_RUN_ID": "scheduled__2026-01-01T00:00:00+00:00",
    "AIRFLOW_CTX_TRY_NUMBER": "2",
    "AIRFLOW_CTX_DAG_OWNER": "somebody",
}
TOLD = {"dagId": "nightly", "taskId": "assign", "dagRunId": CONTEXT["AIRFLOW_CTX_DAG_RUN_ID"], "tryNumber": "2"}
NO_ROWS = "customerEmail,deviceIdentifier,action\n"


def test_the_context_comes_from_airflows_variables() -> None:
    assert airflow_context(CONTEXT) == TOLD
    assert describe({"dagId": "nightly", "tryNumber": "2"}) == "DAG nightly, try 2"


def test_outside_airflow_the_context_is_empty() -> None:
    assert airflow_context({"AIRFLOW_CTX_TRY_NUMBER": "1"}) == {}


def test_only_the_variables_of_the_context_are_passed_on() -> None:
    assert "AIRFLOW_CTX_DAG_OWNER" not in context_variables(CONTEXT | {"HOME": "/"})
    assert airflow_context(context_variables(CONTEXT)) == TOLD


def test_a_summary_outside_airflow_names_no_task(desk: Desk) -> None:
    assert desk.run([("a@x.com", "d1", "assign")]).json["airflow"] is None


@pytest.mark.parametrize(("reports", "warned"), [("reports", True), ("{absolute}", False)])
def test_a_relative_reports_folder_causes_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reports: str, warned: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.csv").write_text(NO_ROWS)
    arguments = ["run", "rows.csv", "--sandbox", "--allow-empty", "--json"]
    where = reports.format(absolute=tmp_path / "elsewhere")
    told = CliRunner().invoke(main, [*arguments, "--reports-dir", where], env=CONTEXT)
    assert ("Airflow deletes the folder of a task" in told.stderr) is warned
    assert json.loads(told.output.splitlines()[-1])["airflow"] == TOLD


def test_the_summary_is_the_last_line_of_both_streams_together(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("customerEmail,deviceIdentifier,action\na@x.com,d1,assign\nnobody,d2,assign\n")
    told = CliRunner().invoke(
        main, ["run", str(file), "--sandbox", "--json", "--reports-dir", str(tmp_path)], env=CONTEXT
    )
    assert json.loads(told.output.splitlines()[-1])["rows"] == 2


def test_an_empty_input_ends_with_the_exit_code_that_airflow_treats_as_skipped(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(NO_ROWS)
    arguments = ["run", str(file), "--sandbox", "--empty-exit-code", "99", "--reports-dir", str(tmp_path)]
    assert CliRunner().invoke(main, arguments, env=CONTEXT).exit_code == 99
