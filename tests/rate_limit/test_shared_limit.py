"""Processes that share a limit through Redis: real programs against one counting server."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from telemetron_batch.sandbox.server import Limit, serve_in_thread
from telemetron_batch.sandbox.state import SandboxState
from tests.support.redis_server import PROGRAM, RedisServer
from tests.support.simulate import most_in_a_window

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not PROGRAM, reason="needs redis-server")]

ROOT = Path(__file__).parents[2]
KEY = "key-of-the-shared-limit"
LIMIT = 40


class Host:
    """A process with its own files and locks, as on a host of its own."""

    def __init__(self, folder: Path, base_url: str, url: str, customers: int, *arguments: str) -> None:
        folder.mkdir()
        self.folder, self.customers = folder, customers
        lines = [f"user{n}@{folder.name}.example,SN-{folder.name}-{n},assign" for n in range(customers)]
        (folder / "rows.csv").write_text("\n".join(["customerEmail,deviceIdentifier,action", *lines]) + "\n")
        environment = {**os.environ, "TELEMETRON_API_KEY": KEY, "XDG_STATE_HOME": str(folder / "state")}
        self.environment = environment | {"TELEMETRON_LIMIT_URL": url}
        command = [sys.executable, "-m", "telemetron_batch", "run", str(folder / "rows.csv"), "--base-url", base_url]
        command += ["--reports-dir", str(folder / "reports"), "--run-id", "r", "--rate", f"{LIMIT}/s"]
        self.command = [*command, *arguments]

    def start(self) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            self.command, cwd=ROOT, env=self.environment, text=True, stdout=pipe, stderr=pipe
        )
        return self.process

    def finish(self) -> int:
        _, self.said = self.process.communicate(timeout=300)
        return self.process.returncode

    @property
    def summary(self) -> dict:
        return json.loads((self.folder / "reports" / "r" / "summary.json").read_text())

    @property
    def told(self) -> list[str]:
        return [event["kind"] for event in self.summary["events"]]


class Hosts:
    """Some of them, one Redis, one server with a sliding window."""

    def __init__(self, folder: Path, number: int, customers: int) -> None:
        self.folder, self.number, self.customers = folder, number, customers
        self.redis = RedisServer(folder)

    @contextmanager
    def running(self) -> Iterator["Hosts"]:
        with SandboxState() as fleet, serve_in_thread(fleet, api_key=KEY, limit=Limit(LIMIT, 1.0)) as base_url:
            fleet.history = []
            self.fleet = fleet
            names = (f"host{at}" for at in range(self.number))
            self.all = [Host(self.folder / name, base_url, self.redis.url, self.customers) for name in names]
            for host in self.all:
                host.start()
            yield self
            codes = [host.finish() for host in self.all]
            self.times = [arrival.at for arrival in fleet.history]
            self.refused = [arrival.at for arrival in fleet.history if arrival.status == 429]
        self.redis.stop()
        assert codes == [0] * self.number

    def wait_for(self, arrivals: int) -> None:
        until = time.monotonic() + 120
        while len(self.fleet.history or []) < arrivals:
            assert time.monotonic() < until, "nothing gets on"
            time.sleep(0.02)

    def say(self, what: str) -> None:
        """The use is that of the middle nine tenths: processes start one after the other, and end so."""
        sent = len(self.times)
        middle = self.times[sent // 20 : -sent // 20]
        use = (len(middle) - 1) / (middle[-1] - middle[0]) / LIMIT
        most = most_in_a_window(self.times, 1.0)
        refused = f"{len(self.refused)} of {sent} refused ({len(self.refused) / sent:.1%})"
        sys.stdout.write(f"\n{what}: {use:.1%} used, {refused}, at most {most} in a second\n")


def test_eight_processes_use_a_limit_together_and_do_not_overrun_it(tmp_path: Path) -> None:
    with Hosts(tmp_path, 8, 150).running() as hosts:
        pass
    hosts.say("8 processes at 40/s through Redis")
    assert len(hosts.refused) <= 0.01 * len(hosts.times)
    assert sum(host.summary["attempts"] for host in hosts.all) == len(hosts.times)


def test_one_that_is_killed_leaves_its_part_to_the_others(tmp_path: Path) -> None:
    with Hosts(tmp_path, 8, 150).running() as hosts:
        hosts.wait_for(300)
        hosts.all[3].process.kill()
        hosts.all[3].finish()
        killed = len(hosts.fleet.history)
        hosts.wait_for(killed + 200)
        hosts.all[3].start()
    hosts.say("8 processes at 40/s, one killed and started again")
    assert len(hosts.refused) <= 0.01 * len(hosts.times)
    between = hosts.times[killed : killed + 200]
    assert 199 / (between[-1] - between[0]) > 0.7 * LIMIT


@pytest.mark.parametrize("end", ["stopped", "frozen"])
def test_without_redis_each_goes_on_at_its_share_and_loses_nothing(tmp_path: Path, end: str) -> None:
    with Hosts(tmp_path, 8, 150).running() as hosts:
        hosts.wait_for(300)
        hosts.redis.stop() if end == "stopped" else hosts.redis.freeze()
        hosts.wait_for(600)
        hosts.redis.start() if end == "stopped" else hosts.redis.thaw()
    hosts.say(f"8 processes at 40/s, Redis {end} for a while")
    assert len(hosts.refused) <= 0.01 * len(hosts.times)
    for host in hosts.all:
        assert host.told.count("alone") == host.told.count("shared") == 1
        assert f"cannot reach Redis at 127.0.0.1:{hosts.redis.port}" in host.said
        assert len(host.summary["events"]) < 30
        assert (host.summary["state"], host.summary["attention"]) == ("finished", 0)


def test_a_redis_that_is_not_there_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    redis = RedisServer(tmp_path)
    redis.stop()
    host = Host(tmp_path / "host", "http://127.0.0.1:9/api", redis.url, 1)
    host.start()
    assert host.finish() == 2
    assert re.match(rf"Error: cannot reach Redis at 127.0.0.1:{redis.port} \(.*\); nothing was sent", host.said)
    assert host.said.count("\n") == 1
    assert not (tmp_path / "host" / "reports" / "r").exists()


def test_the_password_of_redis_is_written_nowhere(tmp_path: Path) -> None:
    redis = RedisServer(tmp_path, "--requirepass", "hunter2hunter2")
    with SandboxState() as fleet, serve_in_thread(fleet, api_key=KEY) as base_url:
        url = f"redis://:hunter2hunter2@127.0.0.1:{redis.port}/0"
        host = Host(tmp_path / "host", base_url, url, 200, "-v")
        process = host.start()
        until = time.monotonic() + 30
        fleet.history = []
        while len(fleet.history) < 20 and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert host.finish() == 3
        host.environment.pop("TELEMETRON_LIMIT_URL")
        folder = str(tmp_path / "host" / "reports" / "r")
        host.command = [sys.executable, "-m", "telemetron_batch", "resume", folder, "--base-url", base_url, "-v"]
        host.start()
        assert host.finish() == 2
        assert "set TELEMETRON_LIMIT_URL" in host.said
        host.environment["TELEMETRON_LIMIT_URL"] = url.replace("hunter2h", "wrong")
        host.start()
        assert host.finish() == 2
        assert "cannot reach Redis" in host.said
        assert "wrong" not in host.said.replace("WRONGPASS", "").split("Traceback")[0]
        host.environment["TELEMETRON_LIMIT_URL"] = url
        host.start()
        assert host.finish() == 0
    redis.stop()
    assert host.summary["options"]["limit_url"] == f"redis://***@127.0.0.1:{redis.port}/0"
    written = [path for path in tmp_path.rglob("*") if path.is_file() and b"hunter2hunter2" in path.read_bytes()]
    assert written == []
    assert "hunter2hunter2" not in host.said
