"""Following the advice of a stopped run continues it, also if the run id was generated."""

import re
import shutil
import signal
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest

from telemetron_batch.domain.errors import DiskError
from telemetron_batch.domain.stops import MAKE_ROOM, ResumeHint, Stop, StopReason
from telemetron_batch.reports import write_all
from telemetron_batch.run import pipeline
from telemetron_batch.sharding.report import report_run
from tests.cli.test_commands import STRUCK, call
from tests.conftest import ENVIRON, Desk, Ran
from tests.reports.test_page import shown
from tests.support.scripted import BASE_URL

ROWS = [(f"u{n}@x.com", f"SN-{n}", "assign") for n in range(6)]
MADE_UP = r"rows-20[0-9]{6}T[0-9]{6}Z"
RESUME = rf"run telemetron-batch resume \S*?({MADE_UP})"
AT_URL = f"--base-url {BASE_URL}"


def stopped(desk: Desk, **flags: object) -> Ran:
    """Run until a deadline stops it before its last call; without an id unless one is given."""
    return desk.run(ROWS, **{"run_id": None, "rate": "1/s", "deadline": "2s", "again": True, **flags})


def advice(ran: Ran) -> str:
    return str(ran.json["stop"]["advice"])


@pytest.mark.parametrize("run_id", [None, "given"])
def test_a_renamed_folder_gives_the_run_its_id(desk: Desk, run_id: str | None) -> None:
    ran = stopped(desk, run_id=run_id)
    moved = ran.folder.rename(ran.folder.with_name(f"{ran.folder.name}-kept"))
    summary = report_run(moved)
    told = summary.fields["stop"]["advice"]
    assert told == f"run telemetron-batch resume {moved} {AT_URL} to go on"
    sent = len(desk.server.seen)
    again = desk.run(ROWS, run_id=moved.name)
    assert (again.folder, set(again.outcomes)) == (moved, {"assigned"})
    assert len(desk.server.seen) - sent == len(ROWS) - summary.counts["assigned"]


# Through the command line


@pytest.fixture
def command(tmp_path: Path) -> tuple[object, ...]:
    """Return a command without run id that ends before its last call."""
    rows = tmp_path / "rows.csv"
    rows.write_text("customerEmail,deviceIdentifier,action\n" + "".join(",".join(row) + "\n" for row in ROWS[:3]))
    return "run", rows, "--sandbox", "--reports-dir", tmp_path / "reports", "--rate", "1/s", "--deadline", "1s"


def test_a_command_without_an_id_is_continued_by_its_advice(command: tuple[object, ...], tmp_path: Path) -> None:
    ended = call(*command)
    found = re.search(rf"Stopped: the deadline has passed; {RESUME} to go on\.\n", ended.stderr)
    assert (ended.exit_code, found is not None) == (3, True)
    assert found is not None
    advised = found[0].partition("telemetron-batch ")[2].removesuffix(" to go on.\n")
    assert advised in call("runs", "--reports-dir", tmp_path / "reports").stdout
    while (again := call(*advised.split())).exit_code == 3:
        pass  # under the deadline that the run was begun with
    assert again.exit_code == 0
    assert [path.name for path in (tmp_path / "reports").iterdir()] == [found[1]]


def test_another_input_under_the_id_of_a_stopped_run_gets_its_resume_advice(
    command: tuple[object, ...], tmp_path: Path
) -> None:
    call(*command, "--run-id", "k1")
    Path(str(command[1])).write_text("customerEmail,deviceIdentifier,action\na@x.com,SN-9,assign\n")
    refused = call(*command, "--run-id", "k1")
    assert refused.exit_code == 2
    assert refused.stderr == (
        "Error: run k1 was started with another input; to go on with it, which needs no input file, "
        f"run telemetron-batch resume {tmp_path / 'reports' / 'k1'}; for this input name another --run-id\n"
    )


def test_the_advice_for_a_given_id_is_unchanged(command: tuple[object, ...]) -> None:
    told = "Stopped: the deadline has passed; run the same command again to go on.\n"
    assert call(*command, "--run-id", "r").stderr.endswith(told)
    assert call("report", "r", "--reports-dir", command[4]).stderr == told


def test_the_report_of_a_killed_run_tells_how_to_continue(command: tuple[object, ...], tmp_path: Path) -> None:
    struck = [sys.executable, "-c", STRUCK, str(int(signal.SIGKILL)), "run.log", *map(str, command)]
    assert subprocess.run(struck, capture_output=True, timeout=60, check=False).returncode == -signal.SIGKILL
    [folder] = (tmp_path / "reports").iterdir()
    told = call("report", folder).stderr
    again = f"run telemetron-batch resume {folder}"
    assert told == f"Stopped: its process ended; {again} to go on.\n"
    assert call(*command[:-2], "--run-id", folder.name).exit_code == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_after_sending_gives_the_resume_advice_too(
    command: tuple[object, ...], number: signal.Signals
) -> None:
    struck = [sys.executable, "-c", STRUCK, str(int(number)), ".reconciliation.csv.new", *map(str, command)]
    ended = subprocess.run([*struck, "--quiet"], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 3
    assert re.fullmatch(rf"Stopped\. R{RESUME[1:]}\.\n", ended.stderr)


# In all that is told of it


def test_summary_and_page_show_the_generated_id(desk: Desk) -> None:
    ran = stopped(desk, run_id=None)
    again = f"run telemetron-batch resume {ran.folder} {AT_URL}"
    assert advice(ran) == f"{again} to go on"
    page = shown(unescape((ran.folder / "report.html").read_text()))
    assert f"What to do next: {again} to go on." in page
    assert f"Stopped before the end. To continue where this run stopped, {again}." in page
    assert "he same command again" not in page
    assert page.count(ran.folder.name) >= 4


def test_the_page_shows_the_whole_id(desk: Desk) -> None:
    ran = desk.run(desk.file(ROWS, "n" * 150 + ".csv"), run_id=None, rate="1/s", deadline="2s")
    page = shown(unescape((ran.folder / "report.html").read_text()))
    assert page.count(f"un telemetron-batch resume {ran.folder} {AT_URL}") == 3


def test_rewritten_files_give_the_same_advice(desk: Desk) -> None:
    ran = stopped(desk)
    before = advice(ran)
    report_run(ran.folder)
    assert advice(ran) == before


def test_a_command_with_the_run_id_gets_no_id_in_its_advice(desk: Desk) -> None:
    ran = stopped(desk)
    again = stopped(desk, run_id=ran.folder.name, deadline="1s")
    assert advice(again) == f"run the same command again with {AT_URL} to go on"


def test_resume_gets_no_id_in_its_advice(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = stopped(desk)
    monkeypatch.setattr(pipeline, "send", lambda *_: Stop(StopReason.API_DOWN, "900"))
    summary = pipeline.resume(ran.folder, ENVIRON, clock=desk.clock)
    assert summary.fields["stop"]["advice"] == f"run the same command again with {AT_URL} later"


def test_the_advice_of_a_brake_names_the_id(desk: Desk) -> None:
    ran = desk.run([("a@x.com", f"UNKNOWN-{n}", "unassign") for n in range(9)], run_id=None, max_failed="2")
    by_id = f"--run-id {ran.folder.name} {AT_URL}"
    assert advice(ran).endswith(f"raise --max-failed, then run the same command again with {by_id}")


@pytest.mark.parametrize("brake", ["max_failed", "max_skipped", "max_new_customers"])
def test_raising_a_brake_needs_the_same_command(brake: str) -> None:
    name = f"--{brake.replace('_', '-')}"
    [reason] = [one for one in StopReason if f"{name} allows" in Stop(one).sentence]
    resume_hint = ResumeHint("--run-id r", "telemetron-batch resume r")
    assert Stop(reason).as_json(resume_hint)["advice"].endswith("run the same command again with --run-id r")
    assert Stop(StopReason.DEADLINE).as_json(resume_hint)["advice"] == "run telemetron-batch resume r to go on"


def test_a_finished_unpublished_run_names_its_id(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "pub").write_text("no folder")
    ran = desk.run(ROWS, run_id=None, publish=str(tmp_path / "pub"))
    assert advice(ran).endswith(f"run telemetron-batch resume {ran.folder} {AT_URL} to publish them")
    (tmp_path / "pub").unlink()
    again = pipeline.resume(ran.folder, ENVIRON, clock=desk.clock)
    assert (again.folder, again.exit_code) == (ran.folder, 0)


# Where an error ends it


def test_a_disk_full_at_the_end_names_the_id(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise DiskError("there is no room", MAKE_ROOM)

    monkeypatch.setattr(write_all, "write_reconciliation", refused)
    for run_id, flags in ((None, f"{RESUME} {AT_URL}"), ("r1", f"run the same command again with {AT_URL}")):
        ran = desk.run(ROWS, run_id=run_id, again=True)
        assert ran.json["stop"]["reason"] == "there is no room"
        assert re.fullmatch(f"make room, then {flags} to write what is missing .*", advice(ran))


def test_before_a_run_has_started_the_same_command_is_enough(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(DiskError, match=r"nothing was sent; make room, then run the same command again$"):
        desk.run(ROWS, run_id=None)
