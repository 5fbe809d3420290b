"""The list of runs: newest first, with state and next step."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from telemetron_batch.cli.commands import main
from telemetron_batch.run.listing import list_runs
from telemetron_batch.storage.lock import Lock, LockOwner
from tests.conftest import Desk
from tests.support.scripted import BASE_URL

A = "a@x.com"


def test_runs_are_listed_the_newest_first_with_state_and_next_step(desk: Desk) -> None:
    desk.run([(A, "SN-1", "assign")], run_id="one")
    desk.clock.monotonic += 100
    desk.run([(A, "SN-2", "assign"), (A, "", "assign")], run_id="two")
    desk.clock.monotonic += 100
    desk.run([(f"u{n}@x.com", "SN-3", "assign") for n in range(20)], run_id="three", deadline="1s")
    lines = list_runs(desk.folder / "reports")
    assert [(line.run_id, line.state, line.attention, line.exit_code) for line in lines] == [
        ("three", "stopped", lines[0].attention, 3),
        ("two", "finished", 1, 1),
        ("one", "finished", 0, 0),
    ]
    resume = f"telemetron-batch resume {desk.folder / 'reports' / 'three'} --base-url {BASE_URL}"
    assert [line.next_step for line in lines] == [resume, "look at attention.csv", "nothing"]


def test_what_to_resume_can_be_typed_as_it_stands(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.run([(f"u{n}@x.com", "SN-3", "assign") for n in range(20)], run_id="three", deadline="1s")
    monkeypatch.chdir(desk.folder)
    assert list_runs(Path("reports"))[0].next_step == f"telemetron-batch resume three --base-url {BASE_URL}"
    (desk.folder / "reports").rename(desk.folder / "the reports")
    at_url = f"--base-url {BASE_URL}"
    assert list_runs(Path("the reports"))[0].next_step == f"telemetron-batch resume 'the reports/three' {at_url}"


def test_a_run_whose_process_died_is_interrupted(desk: Desk) -> None:
    folder = desk.run([(A, "SN-1", "assign")]).folder
    from telemetron_batch.journal.journal import Journal

    journal = Journal(folder / "journal.sqlite3")
    journal.set_facts(summary=None, endedAt=None)
    journal.close()
    line = list_runs(desk.folder / "reports")[0]
    assert (line.state, line.input, line.rows, line.next_step) == (
        "interrupted", "rows.csv", 1, f"telemetron-batch resume {folder} --base-url {BASE_URL}",
    )  # fmt: skip


def test_a_run_that_is_under_way_is_running(desk: Desk) -> None:
    folder = desk.run([(A, "SN-1", "assign")]).folder
    lock = Lock.acquire(folder / "run.lock", LockOwner(1, "now", "r1"), "the run")
    assert list_runs(desk.folder / "reports")[0].state == "running"
    lock.release()


def test_a_first_run_under_way_is_listed_with_its_input(desk: Desk) -> None:
    ran = desk.run([(A, "SN-1", "assign")])
    (ran.folder / "summary.json").unlink()
    lock = Lock.acquire(ran.folder / "run.lock", LockOwner(1, "now", "r1"), "the run")
    [line] = list_runs(desk.folder / "reports")
    lock.release()
    told = {"host": "elsewhere", "boot": "another", "pid": 7, "run": "r1", "since": "then"}
    (ran.folder / "run.lease.1").write_text(json.dumps(told))
    [there] = list_runs(desk.folder / "reports")
    assert line.next_step == "wait for it"
    assert there.next_step.startswith("wait for process 7 on host elsewhere")
    for one in (line, there):
        assert (one.state, one.input, one.rows) == ("running", "rows.csv", 1)
        assert one.started_at == ran.summary.fields["startedAt"]


def test_a_journal_that_cannot_be_read_does_not_hide_the_others(desk: Desk) -> None:
    desk.run([(A, "SN-1", "assign")])
    broken = desk.folder / "reports" / "broken"
    broken.mkdir()
    (broken / "journal.sqlite3").write_text("no journal")
    assert [line.state for line in list_runs(desk.folder / "reports")] == ["finished", "unreadable"]


def test_the_command_prints_a_table_or_json(desk: Desk) -> None:
    desk.run([(A, "SN-1", "assign")])
    reports = str(desk.folder / "reports")
    assert "finished" in CliRunner().invoke(main, ["runs", "--reports-dir", reports]).stdout
    shown = json.loads(CliRunner().invoke(main, ["runs", "--reports-dir", reports, "--json"]).stdout)
    assert [(one["runId"], one["rows"]) for one in shown] == [("r1", 1)]


def test_a_folder_without_runs_says_so(tmp_path: Path) -> None:
    assert CliRunner().invoke(main, ["runs", "--reports-dir", str(tmp_path)]).stdout == "No runs here.\n"
