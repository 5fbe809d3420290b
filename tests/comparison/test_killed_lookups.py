"""The commands as processes that are killed, against a server that counts."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.support.faulty import FaultyServer

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
KEY = "key-of-the-killed-lookups"
CUSTOMERS = 400
CONCURRENCY = 8


class Lookup:
    """`holdings` over several hundred customers, as a process."""

    def __init__(self, folder: Path, server: FaultyServer) -> None:
        self.folder, self.server = folder, server
        self.customers = [f"u{number:03}@x.com" for number in range(CUSTOMERS)]
        for number, customer in enumerate(self.customers):
            server.fleet.assign(customer, [f"D-{number}-{at}" for at in range(3)])
        (folder / "list.txt").write_text("\n".join([*self.customers, ""]))

    def start(self) -> "subprocess.Popen[str]":
        environment = {**os.environ, "TELEMETRON_API_KEY": KEY, "XDG_STATE_HOME": str(self.folder / "state")}
        command = [sys.executable, "-m", "telemetron_batch", "holdings", "--customers", "list.txt", "-o", "out.csv"]
        command += ["--rate", "200/s", "--concurrency", str(CONCURRENCY), "--base-url", self.server.base_url]
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / "batch"), str(ROOT)])
        return subprocess.Popen(
            command, cwd=self.folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    @property
    def asked(self) -> Counter[str]:
        return Counter(str(arrived.body["email"]) for arrived in self.server.seen)

    def wait_for(self, requests: int) -> None:
        until = time.monotonic() + 60
        while len(self.server.seen) < requests:
            assert time.monotonic() < until, "the program does not get on"
            time.sleep(0.005)


def test_after_a_kill_the_same_command_asks_nobody_whose_answer_it_had(tmp_path: Path) -> None:
    with FaultyServer(api_key=KEY, latency=0.01) as server:
        lookup = Lookup(tmp_path, server)
        kills = (90, 180, 270)
        for requests in kills:
            with lookup.start() as process:
                lookup.wait_for(requests)
                process.send_signal(signal.SIGKILL)
            assert not (tmp_path / "out.csv").exists()
        with lookup.start() as process:
            out, err = process.communicate(timeout=120)
        assert (process.returncode, err) == (0, ""), out
        assert {*lookup.asked} == {*lookup.customers}
        # Only answers that were under way when the process was killed can be missing.
        assert len(server.seen) - CUSTOMERS <= len(kills) * CONCURRENCY
        assert max(lookup.asked.values()) <= 2
        rows = (tmp_path / "out.csv").read_text().splitlines()
        assert len(rows) == 1 + 3 * CUSTOMERS
        assert [path.suffix for path in (tmp_path / "reports" / ".answers").iterdir()] == [".sqlite3"]


def test_a_kill_while_no_answer_is_under_way_costs_no_question(tmp_path: Path) -> None:
    with FaultyServer(api_key=KEY) as server:
        lookup = Lookup(tmp_path, server)
        with lookup.start() as process:
            lookup.wait_for(100)
            process.send_signal(signal.SIGSTOP)  # what was sent is answered, and read after the stop
            time.sleep(0.3)
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 3
        with lookup.start() as process:
            process.communicate(timeout=120)
        assert process.returncode == 0
        assert set(lookup.asked.values()) == {1}


def test_an_api_that_goes_away_ends_with_3_and_the_same_command_continues(tmp_path: Path) -> None:
    with FaultyServer(api_key=KEY) as server:
        lookup = Lookup(tmp_path, server)
        with lookup.start() as process:
            lookup.wait_for(100)
            server.refuse_connections()
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
        assert process.returncode == 3
        assert "run the same command again" in err
        assert "Traceback" not in err
        server.accept_connections()
        with lookup.start() as process:
            process.communicate(timeout=120)
        assert process.returncode == 0
        assert len(server.seen) - CUSTOMERS <= CONCURRENCY
