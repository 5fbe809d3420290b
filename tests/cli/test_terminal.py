"""The output of a run on a terminal, and to a log."""

import io
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from telemetron_batch.cli import terminal
from telemetron_batch.cli.show_end import show_end
from telemetron_batch.cli.terminal import TerminalObserver
from telemetron_batch.config.config import OutputOptions
from tests.conftest import Desk, Ran
from tests.support.ptys import OnTerminal
from tests.support.scripted import BASE_URL, Says

A = "a@x.com"


class Screen(TerminalObserver):
    """An observer that prints to a text and gives a fixed answer."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, *, answer: bool, file: io.StringIO | None = None, **output: bool
    ) -> None:
        self.text = file or io.StringIO()
        super().__init__(OutputOptions(**output), file=self.text)
        self.asked: list[str] = []
        monkeypatch.setattr(terminal.sys.stdin, "isatty", lambda: True)
        monkeypatch.setattr(terminal.sys.stdout, "isatty", lambda: True)

        def ask_yes_no(question: str) -> bool:
            self.asked.append(question)
            return answer

        monkeypatch.setattr(terminal, "ask_yes_no", ask_yes_no)


def test_on_a_terminal_the_plan_is_shown_and_confirmed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.face = screen = Screen(monkeypatch, answer=True)
    assert desk.run([(A, "SN-1", "assign")]).outcomes == ["assigned"]
    assert screen.asked == ["Give 1 device to 1 customer?"]
    assert "assign" in screen.text.getvalue()
    assert f"\ncalls go to {BASE_URL}\n" in screen.text.getvalue()


@pytest.mark.parametrize(
    ("rows", "question"),
    [
        ([(A, "SN-1", "unassign"), (A, "SN-2", "unassign")], "Take 2 devices from 1 customer?"),
        ([(A, "SN-1", "assign"), ("b@x.com", "SN-2", "assign")], "Give 2 devices to 2 customers?"),
        (
            [(A, "SN-1", "unassign"), ("b@x.com", "SN-1", "assign"), ("b@x.com", "SN-2", "assign")],
            "Take 1 device from 1 customer and give 2 devices to 1 customer?",
        ),
        ([(A, f"SN-{number}", "assign") for number in range(1200)], "Give 1,200 devices to 1 customer?"),
    ],
)
def test_the_question_counts_devices_and_customers(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, rows: list[tuple[str, ...]], question: str
) -> None:
    desk.face = screen = Screen(monkeypatch, answer=True)
    desk.run(rows)
    assert screen.asked == [question]


def test_a_warning_about_the_input_is_shown_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.face = screen = Screen(monkeypatch, answer=True)
    desk.run([(A, str(100_000 + number), "assign") for number in range(20)] + [(A, "777", "assign")])
    assert screen.text.getvalue().count("1 serial of digits is shorter") == 1


@pytest.mark.parametrize(
    ("typed", "agreed"),
    [("y", True), ("Yes", True), ("j", True), ("JA", True), ("oui", True), ("si", True), ("n", False), ("", False)],
)
def test_a_question_accepts_yes_and_no_in_several_languages(
    monkeypatch: pytest.MonkeyPatch, typed: str, *, agreed: bool
) -> None:
    monkeypatch.setattr(terminal.click.termui, "visible_prompt_func", lambda _: typed)
    assert terminal.ask_yes_no("Really?") is agreed


def test_an_unknown_answer_repeats_the_question(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = iter(["perhaps", "y"])
    monkeypatch.setattr(terminal.click.termui, "visible_prompt_func", lambda _: next(typed))
    assert terminal.ask_yes_no("Really?")
    assert "answer y or n" in capsys.readouterr().err


def test_without_a_yes_nothing_is_sent(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    from telemetron_batch.domain.errors import BrakeError

    desk.face = Screen(monkeypatch, answer=False)
    with pytest.raises(BrakeError, match="nothing was sent"):
        desk.run([(A, "SN-1", "assign")])
    assert desk.server.seen == []


def test_yes_skips_the_question(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.face = screen = Screen(monkeypatch, answer=False, yes=True)
    assert desk.run([(A, "SN-1", "assign")]).outcomes == ["assigned"]
    assert screen.asked == []


def test_a_pause_is_shown_with_its_reason(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.face = screen = Screen(monkeypatch, answer=True)
    desk.server.script = lambda seen: Says(429, {}, {"Retry-After": "12"}) if seen.number == 1 else None
    desk.run([(A, "SN-1", "assign")])
    assert "hold: waiting 12" in screen.text.getvalue()


def test_without_a_terminal_progress_is_a_plain_line_every_thirty_seconds(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.face = screen = Screen(monkeypatch, answer=True, yes=True)
    desk.run([(f"u{n}@x.com", f"SN-{n}", "assign") for n in range(70)], rate="1/s")
    lines = [line for line in screen.text.getvalue().splitlines() if line.startswith("progress: ")]
    assert [int(re.findall("([0-9]+) of 70 calls", line)[0]) for line in lines] == [30, 59, 70]


def test_content_that_was_processed_before_needs_a_yes(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.run([(A, "SN-1", "assign")])
    desk.face = screen = Screen(monkeypatch, answer=True)
    assert desk.run([(A, "SN-1", "assign")], run_id="r2").outcomes == ["alreadyAssigned"]
    assert screen.asked[0].startswith("Run r1 has already processed exactly this content.")


@pytest.mark.parametrize("talk", [{"quiet": True}, {"progress": False}])
def test_progress_can_be_switched_off(desk: Desk, monkeypatch: pytest.MonkeyPatch, talk: dict[str, bool]) -> None:
    desk.face = screen = Screen(monkeypatch, answer=True, yes=True, **talk)
    desk.run([(f"u{n}@x.com", f"SN-{n}", "assign") for n in range(40)], rate="1/s")
    assert "progress" not in screen.text.getvalue()


class Stuck(io.StringIO):
    """A terminal paused with Ctrl-S."""

    def __init__(self) -> None:
        super().__init__()
        self.going = threading.Event()
        self.going.set()

    def write(self, text: str) -> int:
        self.going.wait(30)
        return super().write(text)


def test_a_paused_terminal_does_not_delay_calls(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = Stuck()
    desk.face = screen = Screen(monkeypatch, answer=True, yes=True, file=stuck)
    desk.server.script = lambda seen: (
        stuck.going.clear() or Says(429, {}, {"Retry-After": "12"}) if seen.number == 1 else None
    )
    assert desk.run([(A, "SN-1", "assign")]).outcomes == ["assigned"]
    assert "hold" not in screen.text.getvalue()
    stuck.going.set()


class Gone(io.StringIO):
    """A pipe whose reader has gone."""

    def write(self, text: str) -> int:  # noqa: ARG002
        raise BrokenPipeError(32, "Broken pipe")


def test_a_broken_pipe_on_standard_error_is_no_error(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.face = Screen(monkeypatch, answer=True, yes=True, file=Gone())
    desk.server.script = lambda seen: Says(429, {}, {"Retry-After": "12"}) if seen.number == 1 else None
    assert desk.run([(A, "SN-1", "assign")]).outcomes == ["assigned"]


# On a real terminal

PROGRAM = (sys.executable, "-m", "telemetron_batch")
COLOURED = re.compile(r"\x1b\[(?:[0-9]+;)*[349][0-9]m")


def on_terminal(folder: Path, *options: str, columns: int = 80, **environment: str) -> OnTerminal:
    ours = {"XDG_STATE_HOME": str(folder / "state"), **environment}
    told = ("--sandbox", "--rate", "50/s", "--reports-dir", str(folder / "reports"), "--run-id", "desk", *options)
    command = [*PROGRAM, "run", "sample_data/returns.csv", "--action", "unassign", *told]
    return OnTerminal(command, columns=columns, environment=ours)


def test_the_output_of_a_run_fits_eighty_columns_and_ends_with_the_files(tmp_path: Path) -> None:
    program = on_terminal(tmp_path)
    program.until(lambda written: "[y/N]" in written)
    program.type("y\n")
    assert program.finish() == 1
    shown = [line for line in program.texts if str(tmp_path) not in line]
    assert max(map(len, shown)) <= 80
    end = "\n".join(program.texts)
    assert re.search(r"14/14 calls  ━+  took \d+ s  35 unassigned  2 skipped  1 failed", end)
    assert re.search(r"See \S+/desk/report.html\nand \S+/desk/attention.csv\n", end)
    assert COLOURED.search(program.written)


def test_output_fits_a_narrow_terminal(tmp_path: Path) -> None:
    program = on_terminal(tmp_path, "--yes", columns=60)
    assert program.finish() == 1
    assert max(len(line) for line in program.texts if str(tmp_path) not in line) <= 60


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colours_can_be_switched_off(tmp_path: Path, environment: dict[str, str]) -> None:
    program = on_terminal(tmp_path, "--yes", **environment)
    assert program.finish() == 1
    assert "35 unassigned" in re.sub(" +", " ", program.written) or "unassigned    35" in program.written
    assert not COLOURED.search(program.written)


def test_a_dumb_terminal_is_not_overwritten(tmp_path: Path) -> None:
    program = on_terminal(tmp_path, "--yes", TERM="dumb")
    assert program.finish() == 1
    assert "\x1b" not in program.written


def off_terminal(folder: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    told = ("--sandbox", "--rate", "50/s", "--reports-dir", str(folder / "reports"), *options)
    command = [*PROGRAM, "run", "sample_data/returns.csv", "--action", "unassign", *told]
    environment = {**os.environ, "XDG_STATE_HOME": str(folder / "state"), **environment}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_without_a_terminal_there_are_no_colours_and_messages_are_one_line(tmp_path: Path) -> None:
    ended = off_terminal(tmp_path)
    assert "\x1b" not in ended.stdout + ended.stderr
    assert len(ended.stderr.splitlines()) == 2


def test_forced_colours_do_not_make_a_pipe_a_screen(tmp_path: Path) -> None:
    ended = off_terminal(tmp_path, FORCE_COLOR="1", TERM="xterm-256color")
    assert COLOURED.search(ended.stdout)
    assert "\r" not in ended.stderr
    assert "━" not in ended.stderr


def test_with_json_standard_output_is_json_alone_on_a_terminal_too(tmp_path: Path) -> None:
    out = tmp_path / "out"
    shell = 'exec "$@" > ' + str(out)
    told = ("--sandbox", "--rate", "50/s", "--reports-dir", str(tmp_path / "reports"), "--json")
    run = (*PROGRAM, "run", "sample_data/returns.csv", "--action", "unassign", *told)
    program = OnTerminal(["sh", "-c", shell, "sh", *run], environment={"XDG_STATE_HOME": str(tmp_path / "state")})
    assert program.finish() == 1
    assert json.loads(out.read_text())["exitCode"] == 1
    assert "14/14 calls" in program.written


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "2>&- >&-", "2>&1 | head -1", "2> >(true)"])
def test_a_closed_output_does_not_stop_the_run(tmp_path: Path, closed: str) -> None:
    told = f"--sandbox --rate 50/s --yes --reports-dir {tmp_path}/reports --run-id r -v"
    run = f"{' '.join(PROGRAM)} run sample_data/returns.csv --action unassign {told} {closed}"
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}
    script = f"set -o pipefail; {run}"
    ended = subprocess.run(["bash", "-c", script], check=False, env=environment, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    summary = json.loads((tmp_path / "reports" / "r" / "summary.json").read_text())
    assert (summary["state"], summary["rows"]) == ("finished", 42)


def closing(desk: Desk, *rows: tuple[str, ...]) -> Ran:
    """Return a run that takes one of two devices of A, and the only one of another customer."""
    desk.server.fleet.assign(A, ["SN-7", "SN-8"])
    desk.server.fleet.assign("b@x.com", ["SN-1"])
    return desk.run([(A, "SN-7", "unassign"), ("b@x.com", "SN-1", "unassign"), *rows])


def test_the_end_of_a_list_of_unassigns_tells_what_the_customers_have_left(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    show_end(closing(desk).summary, OutputOptions())
    told = capsys.readouterr().out
    assert "1 customer has no device left.\n1 customer still has devices: see report.html.\n" in told


def test_the_end_of_a_list_that_also_assigns_does_not_tell_it(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    ran = closing(desk, ("c@x.com", "SN-30", "assign"))
    show_end(ran.summary, OutputOptions())
    assert (ran.json["customersWithoutDevices"], ran.json["customersStillHolding"]) == (1, 1)
    assert "left" not in capsys.readouterr().out
