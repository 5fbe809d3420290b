"""The program in its own process, against servers on real sockets: signals, kills, locks, pipes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from telemetron_batch.sandbox.server import Limit, serve_in_thread
from telemetron_batch.sandbox.state import SandboxState
from tests.support.books import reconciliation_of

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
KEY = "key-of-the-process-tests"


class Program:
    """Starts the program over one input file, against one server."""

    def __init__(self, folder: Path, base_url: str) -> None:
        self.folder, self.base_url = folder, base_url
        self.rows = folder / "rows.csv"
        self.environment = {**os.environ, "TELEMETRON_API_KEY": KEY, "XDG_STATE_HOME": str(folder / "state")}

    def write(self, customers: int) -> None:
        lines = [f"user{n}@x.com,SN-{n}-{m},assign" for n in range(customers) for m in range(3)]
        self.rows.write_text("\n".join(["customerEmail,deviceIdentifier,action", *lines]) + "\n")

    def start(self, *arguments: str, run_id: str = "r", **streams: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "telemetron_batch", "run", str(self.rows), "--base-url", self.base_url]
        command += ["--reports-dir", str(self.folder / "reports"), "--run-id", run_id, *arguments]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
        return subprocess.Popen(command, cwd=ROOT, env=self.environment, text=True, **streams)  # type: ignore[call-overload]

    def finish(self, *arguments: str, run_id: str = "r") -> subprocess.CompletedProcess[str]:
        with self.start(*arguments, run_id=run_id) as process:
            out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def wait_for_attempts(self, number: int) -> None:
        """Until the server has heard so many requests."""
        until = time.monotonic() + 30
        while len(self.fleet.history or []) < number:
            assert time.monotonic() < until, "the program does not get on"
            time.sleep(0.02)

    @property
    def outcomes(self) -> list[str]:
        return [row["outcome"] for row in reconciliation_of(self.folder / "reports" / "r")]

    @property
    def summary(self) -> dict:
        return json.loads((self.folder / "reports" / "r" / "summary.json").read_text())


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    with SandboxState() as fleet, serve_in_thread(fleet, api_key=KEY) as base_url:
        fleet.history = []
        program = Program(tmp_path, base_url)
        program.fleet = fleet
        program.write(200)
        yield program


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_cleanly_and_the_same_command_continues(program: Program, number: signal.Signals) -> None:
    process = program.start("--rate", "100/s")
    program.wait_for_attempts(50)
    process.send_signal(number)
    began = time.monotonic()
    _, err = process.communicate(timeout=30)
    assert process.returncode == 3
    assert time.monotonic() - began < 4.5
    assert number.name in err
    assert set(program.outcomes) == {"assigned", "notSent"}
    assert program.finish("--rate", "500/s").returncode == 0
    assert set(program.outcomes) == {"assigned"}
    assert len(program.fleet.history) == 200


def test_a_kill_loses_nothing_and_repeats_only_what_was_in_flight(program: Program) -> None:
    for heard in (30, 80, 130):
        process = program.start("--rate", "200/s")
        program.wait_for_attempts(heard)
        process.kill()
        process.communicate()
    assert program.finish("--rate", "500/s").returncode == 0
    assert set(program.outcomes) <= {"assigned", "alreadyAssigned"}
    assert len(program.fleet.history) <= 200 + 3 * 8
    repeated = program.summary["unclearAttempts"]
    assert program.outcomes.count("alreadyAssigned") <= 3 * repeated


def test_a_second_process_is_refused_naming_the_first(program: Program) -> None:
    process = program.start("--rate", "5/s")
    program.wait_for_attempts(5)
    second, third = program.finish(), program.finish(run_id="other")
    assert (second.returncode, third.returncode) == (6, 6)
    assert f"process {process.pid}" in second.stderr
    assert second.stderr.count("\n") == third.stderr.count("\n") == 1
    process.kill()
    process.communicate()
    assert program.finish("--rate", "500/s").returncode == 0


def test_a_run_can_wait_for_another(program: Program) -> None:
    process = program.start("--rate", "200/s")
    program.wait_for_attempts(5)
    assert program.finish("--rate", "500/s", "--wait", "30s").returncode == 0
    process.communicate()
    assert len(program.fleet.history) == 200


def test_a_closed_pipe_is_no_error(program: Program) -> None:
    read, write = os.pipe()
    os.close(read)
    process = program.start("--rate", "500/s", stdout=write)
    os.close(write)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in err


def test_an_unreachable_api_is_a_one_line_error(program: Program) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        program.base_url = f"http://127.0.0.1:{free.getsockname()[1]}/api/ext-v1"
    ended = program.finish("--give-up-after", "2s")
    assert ended.returncode == 3
    assert "Stopped: the API" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert set(program.outcomes) == {"notSent"}


def test_a_wrong_key_stops_at_once(program: Program) -> None:
    program.environment["TELEMETRON_API_KEY"] = "another-key"
    ended = program.finish()
    assert ended.returncode == 4
    assert "the API refuses this key" in ended.stderr
    assert "another-key" not in ended.stderr + ended.stdout


def test_a_known_strict_limit_is_used_and_not_exceeded(tmp_path: Path) -> None:
    with SandboxState() as fleet, serve_in_thread(fleet, api_key=KEY, limit=Limit(40, 1.0)) as base_url:
        fleet.history = []
        program = Program(tmp_path, base_url)
        program.write(400)
        assert program.finish("--rate", "40/s").returncode == 0
        times = [arrival.at for arrival in fleet.history]
        refused = sum(arrival.status == 429 for arrival in fleet.history)
    used = 399 / (times[-1] - times[0]) / 40
    sys.stdout.write(f"\n40/s against a sliding window of 40 a second: {used:.1%} used, {refused} refused\n")
    assert refused <= 1


def test_the_sandbox_command_serves_until_it_is_interrupted(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "telemetron_batch", "sandbox", "--port", "0", "--db", str(tmp_path / "s.db")]
    environment = {name: text for name, text in os.environ.items() if name != "TELEMETRON_API_KEY"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        base_url = process.stdout.readline().split()[-1]
        program = Program(tmp_path, base_url)
        program.write(5)
        assert program.finish("--rate", "100/s").returncode == 0
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 0
    with SandboxState(tmp_path / "s.db") as fleet:
        assert fleet.owners("SN-3-1") == {"user3@x.com"}
