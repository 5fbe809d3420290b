"""The program in its own process with a command that gives the key, and with an input that comes late."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from telemetron_batch.sandbox.server import serve_in_thread
from telemetron_batch.sandbox.state import SandboxState

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
OLD, NEW = "old-key-of-the-process-tests", "new-key-of-the-process-tests"
ROWS = "customerEmail,deviceIdentifier,action\n" + "".join(f"c{n}@x.com,SN-{n},assign\n" for n in range(40))


class Program:
    """Starts the program in a folder with a script that gives these keys, one after another."""

    def __init__(self, folder: Path, base_url: str) -> None:
        self.folder = folder
        self.base_url = base_url
        self.script = folder / "give-key"
        self.environment = {**os.environ, "XDG_STATE_HOME": str(folder / "state"), "SECRET_STORE": "vault"}
        self.environment.pop("TELEMETRON_API_KEY", None)

    def give(self, *keys: str, rest: str = "") -> None:
        """Make the script give these keys, the last one again and again; then do `rest`."""
        cases = "".join(f"{number}) echo {key};;\n" for number, key in enumerate(keys[:-1], 1))
        body = f"echo run >> runs\nset -- $(wc -l < runs)\necho {keys[-1]}-on-stderr >&2\n"
        text = f"#!/bin/sh\n{body}case $1 in\n{cases}*) echo {keys[-1]};;\nesac\necho second line\n{rest}\n"
        self.script.write_text(text)
        self.script.chmod(0o700)

    @property
    def runs_of_script(self) -> int:
        return len((self.folder / "runs").read_text().splitlines())

    def open(self, *arguments: str, command: Sequence[str] = ("run", "rows.csv")) -> "subprocess.Popen[str]":
        options = ["--base-url", self.base_url]
        if command[0] == "run":
            options += ["--run-id", "r", "--rate", "500/s"]
        return subprocess.Popen(
            [sys.executable, "-m", "telemetron_batch", *command, *options, *arguments],
            cwd=self.folder,
            env={**self.environment, "PYTHONPATH": os.environ.get("PYTHONPATH", str(ROOT))},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **more: Any) -> "subprocess.CompletedProcess[str]":
        with self.open(*arguments, **more) as process:
            out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def everything_written(self) -> str:
        paths = [path for path in self.folder.rglob("*") if path.is_file() and path != self.script]
        return "".join(path.read_bytes().decode("latin-1") for path in paths)


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    (tmp_path / "rows.csv").write_text(ROWS)
    with SandboxState() as fleet, serve_in_thread(fleet, api_key=NEW) as base_url:
        yield Program(tmp_path, base_url)


def test_a_run_whose_key_was_replaced_goes_on_with_what_the_command_gives_then(program: Program) -> None:
    program.give(OLD, NEW)
    ended = program.run("--api-key-command", "./give-key 'with an argument'")
    assert ended.returncode == 0, ended.stderr
    assert program.runs_of_script == 2
    assert json.loads((program.folder / "reports/r/summary.json").read_text())["counts"]["assigned"] == 40
    shown = program.everything_written() + ended.stdout + ended.stderr
    assert not any(secret in shown for secret in (OLD, NEW, "give-key"))


def test_a_key_that_stays_refused_ends_with_4_and_shows_nothing_of_it(program: Program) -> None:
    program.give(OLD)
    ended = program.run("--api-key-command", "./give-key", "-v")
    assert (ended.returncode, program.runs_of_script) == (4, 2)
    assert "--api-key-command gave the same key when asked again" in ended.stderr
    assert OLD not in ended.stdout + ended.stderr + program.everything_written()


@pytest.mark.parametrize("verbose", [(), ("-v",)])
def test_a_command_that_fails_ends_with_2_and_shows_its_status_alone(program: Program, verbose: tuple[str]) -> None:
    program.give(OLD, rest="exit 3")
    ended = program.run("--api-key-command", "./give-key", *verbose)
    assert ended.returncode == 2
    assert "--api-key-command: the command ended with exit status 3" in ended.stderr.splitlines()[-1]
    assert OLD not in ended.stdout + ended.stderr
    assert not (program.folder / "reports").exists()


def test_a_command_that_is_slow_ends_with_2_after_ten_seconds(program: Program) -> None:
    program.give(NEW, rest="sleep 60")
    began = time.monotonic()
    ended = program.run("--api-key-command", "./give-key", command=("check",))
    assert ended.returncode == 2
    assert "took longer than 10 s" in ended.stderr
    assert time.monotonic() - began >= 10


def test_a_signal_while_the_command_is_asked_again_ends_the_run_within_the_grace_time(program: Program) -> None:
    program.give(OLD, OLD, rest="test $1 = 1 || { touch asked-again; exec sleep 60; }")
    process = program.open("--api-key-command", "./give-key")
    wait_for(program.folder / "asked-again")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=8)
    assert process.returncode == 3, err


def test_resume_and_verify_take_the_command_as_a_flag_which_beats_the_environment(program: Program) -> None:
    program.give(NEW)
    process = program.open("--api-key-command", "./give-key", "--rate", "10/s")
    wait_for(program.folder / "reports/r/journal.sqlite3")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert process.returncode == 3
    assert "no API key" in program.run(command=("resume", "r")).stderr
    program.environment["TELEMETRON_API_KEY"] = OLD
    assert program.run("--api-key-command", "./give-key", command=("resume", "r")).returncode == 0
    assert program.run("--api-key-command", "./give-key", command=("verify", "r")).returncode == 0


def test_the_child_has_no_key_in_its_environment(program: Program) -> None:
    program.give(NEW, rest="env > environment")
    program.environment["TELEMETRON_API_KEY"] = OLD
    assert program.run("--api-key-command", "./give-key", command=("check",)).returncode == 0
    seen = (program.folder / "environment").read_text()
    assert "SECRET_STORE=vault" in seen
    assert OLD not in seen


def test_a_profile_gives_the_command_unless_others_can_write_to_it(program: Program) -> None:
    program.give(NEW)
    profile = program.folder / "telemetron-batch.toml"
    profile.write_text('[night]\napi-key-command = "./give-key"\n')
    profile.chmod(0o644)
    assert program.run("--profile", "night").returncode == 0
    profile.chmod(stat.S_IMODE(profile.stat().st_mode) | stat.S_IWOTH)
    ended = program.run("--profile", "night", "--again")
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert program.runs_of_script == 1


# The wait for the input


def wait_for(path: Path) -> None:
    until = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < until, f"{path} does not come"
        time.sleep(0.02)


def first_line(process: "subprocess.Popen[str]") -> str:
    assert process.stderr is not None
    return process.stderr.readline()


def test_a_run_begins_when_its_input_has_come_and_settled(program: Program) -> None:
    program.give(NEW)
    rows = (program.folder / "rows.csv").rename(program.folder / "rows.tmp")
    process = program.open("--api-key-command", "./give-key", "--wait-for-file", "1m", "--settled-for", "1s")
    assert "waiting: rows.csv does not exist yet; until " in first_line(process)
    rows.rename(program.folder / "rows.csv")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "rows.csv has to stay unchanged for 1 s" in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_signal_ends_the_wait_with_3_and_leaves_nothing(
    program: Program, number: signal.Signals, command: str
) -> None:
    program.environment["TELEMETRON_API_KEY"] = NEW
    process = program.open("--wait-for-file", "1m", command=(command, "nothing.csv"))
    assert "waiting" in first_line(process)
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (3, "", "Stopped. Run the same command again.\n")
    assert not (program.folder / "reports").exists()


def test_a_quiet_run_shows_only_that_its_input_did_not_come(program: Program) -> None:
    program.environment["TELEMETRON_API_KEY"] = NEW
    ended = program.run("--wait-for-file", "1s", "--quiet", command=("run", "nothing.csv"))
    line = "nothing.csv did not come within 1 s; nothing was sent; check the export, then run the same command again"
    assert (ended.returncode, ended.stderr) == (3, f"Error: {line}\n")


def test_json_says_that_the_input_did_not_come(program: Program) -> None:
    program.environment["TELEMETRON_API_KEY"] = NEW
    ended = program.run("--wait-for-file", "1s", "--json", command=("run", "nothing.csv"))
    assert json.loads(ended.stdout)["exitCode"] == 3
