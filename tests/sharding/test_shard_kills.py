"""Shards that run at once and are killed at random, against a server that fails in every way: outcomes stay true.

Real processes and sockets. As in `test_kills`, results are compared with the server's own log. Reports between
kills must balance too. TESTS_KILLS sets the number of kills:

    TESTS_KILLS=300 python -m pytest -m slow -s tests/sharding/test_shard_kills.py
"""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end.test_kills import ATTENTION, DONE, OPTIONS, Figures, Trial, World, faulty
from tests.support.books import reconciliation_of
from tests.support.crashing import KILLED, Forge, Place, Server
from tests.support.simulate import most_in_a_window

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("TESTS_KILLS", "40"))
ROUNDS_OF_KILLS = 3
SHARDS = 3
STOPPED, LOCKED = 3, 6
PHASES = (("--phase", "unassign"), ("--phase", "assign"), ())


@dataclass
class Crowd:
    """The shards of one run, each in its own process."""

    place: Place
    forges: Sequence[Forge]
    at_once: int

    def plan(self) -> int:
        where = ["--base-url", self.place.server.base_url, *self._where]
        options = [word for name, text in OPTIONS.items() for word in (f"--{name}", text)]
        divided = ["--shards", str(SHARDS), "--shards-at-once", str(self.at_once)]
        rows = str(self.place.folder / "rows.csv")
        return self.forges[0].run(self.place.order(["plan", rows, *where, *options, *divided, "--quiet", "--verbose"]))

    def report(self) -> int:
        folder = str(self.place.run_folder)
        return self.forges[0].run(self.place.order(["report", folder, "--verbose"]))

    def run(self, orders: Sequence[tuple[int, Sequence[str], float | None]]) -> list[int]:
        """Run these shards (number, phase, seconds until it is killed) at once; return their exit codes."""
        with ThreadPoolExecutor(len(orders)) as threads:
            return [*threads.map(lambda order: self._run(*order), orders)]

    def _run(self, shard: int, phase: Sequence[str], kill_after: float | None) -> int:
        where = ["--base-url", self.place.server.base_url, *self._where]
        words = ["run", *where, "--shard", str(shard), *phase, "--wait", "20s", "--quiet", "--verbose"]
        return self.forges[shard - 1].run(self.place.order(words, kill_after=kill_after))

    @property
    def _where(self) -> list[str]:
        return ["--reports-dir", str(self.place.folder / "reports"), "--run-id", "r"]


class ShardTrial(Trial):
    """One run in shards with kills, and the check of its result."""

    def __init__(self, crowd: Crowd, world: World) -> None:
        super().__init__(crowd.place, world)
        self.crowd = crowd

    def carry_out(self, chance: random.Random) -> int:
        """Kill random shards at random times, then let all end; return the number of kills."""
        assert self.crowd.plan() == DONE, self.place.said
        kills = 0
        for _ in range(ROUNDS_OF_KILLS):
            some = chance.sample(range(1, SHARDS + 1), chance.randint(1, SHARDS))
            phase = chance.choice(PHASES)
            codes = self.crowd.run([(shard, phase, chance.uniform(0.05, 0.8)) for shard in some])
            kills += codes.count(KILLED)
            if not {*codes} <= {DONE, KILLED, STOPPED, LOCKED}:
                self.wrong.append(f"shards ended with {codes}: {self.place.said}")
            if chance.random() < 0.3:
                self._look_at_the_report()
        for phase in PHASES[:2]:
            codes = self.crowd.run([(shard, phase, None) for shard in range(1, SHARDS + 1)])
            if {*codes} != {DONE}:
                self.wrong.append(f"shards ended with {codes}: {self.place.said}")
        code = self.crowd.report()
        self.has_ended = code in (DONE, ATTENTION)
        if not self.has_ended:
            self.wrong.append(f"the report ended with {code}: {self.place.said}")
        return kills

    def _look_at_the_report(self) -> None:
        code = self.crowd.report()
        summary = self.place.run_folder / "summary.json"
        if code not in (STOPPED, DONE, ATTENTION) or not json.loads(summary.read_text())["balanced"]:
            self.wrong.append(f"a report in between ended with {code}: {self.place.said}")


def test_shards_killed_at_random_lose_no_row_and_report_no_wrong_outcome(tmp_path: Path) -> None:
    began, chance, total = time.monotonic(), random.Random(int(os.environ.get("TESTS_SEED", "1"))), Figures()
    script = faulty(random.Random(chance.random()), total.faults)
    latency = random.Random(chance.random())
    with ExitStack() as stack:
        forges = [stack.enter_context(Forge()) for _ in range(SHARDS)]
        server = stack.enter_context(Server(script, lambda: latency.uniform(0.0, 0.03)))
        while total.kills < KILLS and not total.wrong:
            folder = tmp_path / str(total.runs)
            world = World.made(chance)
            world.prepare(folder, server)
            crowd = Crowd(Place(folder, server, forges[0]), forges, chance.choice((2, 3)))
            trial = ShardTrial(crowd, world)
            total.kills += trial.carry_out(chance)
            total.runs += 1
            total.rows += len(world.rows)
            total.requests += len(server.heard)
            trial.judge(total)
    sys.stdout.write(f"\n{total}; {time.monotonic() - began:.0f} s\n")
    assert total.wrong == []


def test_shards_on_hosts_without_common_locks_share_folder_and_rate(tmp_path: Path) -> None:
    rate, hosts = 20, ("red", "green", "blue")
    rows = [(action, f"user{at % 30}@x.com", f"SN-{at:03}") for at in range(90) for action in ("unassign", "assign")]
    lines = ["customerEmail,deviceIdentifier,action", *(f"{row[1]},{row[2]},{row[0]}" for row in rows)]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    where = ["--reports-dir", str(tmp_path / "reports"), "--run-id", "r"]
    environment = {**os.environ, "TELEMETRON_API_KEY": "key", "XDG_STATE_HOME": str(tmp_path / "state")}

    def start(host: str, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.support.elsewhere", host, *words, "-v"]
        return subprocess.Popen(command, env=environment, text=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE)

    with Server() as server:
        for _, customer, device in rows[::2]:
            server.fleet.assign(customer, [device], create=True)
        divided = ["--shards", "3", "--shards-at-once", "2", "--rate", f"{rate}/s", "--chunk-size", "2"]
        words = ["plan", str(tmp_path / "rows.csv"), "--base-url", server.base_url, *where, *divided]
        programs = [start("red", *words)]
        programs[0].communicate()
        programs += [
            start(host, "run", "--base-url", server.base_url, *where, "--shard", str(shard), "--wait", "2m")
            for shard, host in enumerate(hosts, 1)
        ]
        said = [program.communicate()[1] for program in programs]
        assert [program.returncode for program in programs] == [DONE] * 4, said
        reporting = start("blue", "report", str(tmp_path / "reports" / "r"))
        told = reporting.communicate()
        assert reporting.returncode == DONE, told
        times = sorted(one.seen.at for one in server.heard)
    assert len({one.seen.headers["user-agent"] for one in server.heard}) == len(hosts)
    window = most_in_a_window(times, 1.0)
    sys.stdout.write(f"\n{len(times)} calls from three hosts in {times[-1] - times[0]:.1f} s, {window} in a second\n")
    outcomes = {row["outcome"] for row in reconciliation_of(tmp_path / "reports" / "r")}
    assert outcomes == {"assigned", "unassigned"}
