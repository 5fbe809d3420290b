"""A process that was suspended and lost its run to another host detects the loss before it does anything.

Uses real processes, with SIGSTOP and SIGCONT at random times, on storage whose locks work on one host only. The
server records the host of each request. TESTS_ZOMBIES sets the number of runs. Prints figures.
"""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from telemetron_batch.journal.layout import JOURNAL_NAME
from tests.support.books import reconciliation_of
from tests.support.crashing import KEY, ROOT, Server

pytestmark = pytest.mark.slow

ZOMBIES = int(os.environ.get("TESTS_ZOMBIES", "6"))
CUSTOMERS, RATE = 240, 40


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(latency=lambda: random.uniform(0.005, 0.05)) as server:
        yield server


class Place:
    """A folder on shared storage with processes on two hosts."""

    def __init__(self, folder: Path, base_url: str) -> None:
        self.folder, self._base_url = folder, base_url
        rows = [f"user{number:04}@x.com,SN-{number:05}-{at},assign" for number in range(CUSTOMERS) for at in (1, 2)]
        (folder / "rows.csv").write_text("\n".join(["customerEmail,deviceIdentifier,action", *rows]) + "\n")

    def start(self, host: str) -> subprocess.Popen[str]:
        where = ["--base-url", self._base_url, "--reports-dir", str(self.folder / "reports"), "--run-id", "r"]
        options = ["--rate", f"{RATE}/s", "--timeout", "3", "--yes", "--quiet"]
        environment = {**os.environ, "TELEMETRON_API_KEY": KEY, "XDG_STATE_HOME": str(self.folder / host)}
        command = [sys.executable, "-m", "tests.support.elsewhere", host, "run", str(self.folder / "rows.csv")]
        pipe = subprocess.PIPE
        return subprocess.Popen([*command, *where, *options], cwd=ROOT, env=environment, text=True, stderr=pipe)

    @property
    def outcomes(self) -> Counter[str]:
        return Counter(row["outcome"] for row in reconciliation_of(self.folder / "reports" / "r"))


def sent_from(server: Server, host: str) -> int:
    return sum(heard.seen.headers["user-agent"] == host for heard in server.heard)


def reach(server: Server, host: str, count: int) -> None:
    """Wait until `count` requests have come from a host."""
    until = time.monotonic() + 60
    while sent_from(server, host) < count:
        assert time.monotonic() < until, f"{host} sends nothing"
        time.sleep(0.005)


@pytest.mark.parametrize("number", range(ZOMBIES))
def test_a_zombie_sends_and_writes_nothing(number: int, server: Server, tmp_path: Path) -> None:
    chance = random.Random(number)
    place = Place(tmp_path, server.base_url)
    first = place.start("host-a")
    reach(server, "host-a", chance.randint(1, CUSTOMERS // 2))
    first.send_signal(signal.SIGSTOP)
    time.sleep(0.2)  # what has left arrives
    stopped_after, began = sent_from(server, "host-a"), time.monotonic()
    second = place.start("host-b")
    try:
        reach(server, "host-b", 1)
        taken_after = time.monotonic() - began
        if number % 2:
            second.wait(60)
        first.send_signal(signal.SIGCONT)
        _, told = first.communicate(timeout=60)
        _, also = second.communicate(timeout=60)
    finally:
        first.kill()
        second.kill()
    late = sent_from(server, "host-a") - stopped_after
    sys.stdout.write(
        f"\n{stopped_after} calls sent, stopped; {taken_after:.1f} s later another host goes on with "
        f"{sent_from(server, 'host-b')}; back {'at its end' if number % 2 else 'meanwhile'}: {late} sent"
    )
    assert late == 0
    assert first.returncode == 6
    assert "no longer this process's" in told
    assert (second.returncode, also) == (0, "")
    assert place.outcomes.total() == place.outcomes["assigned"] + place.outcomes["alreadyAssigned"] == 2 * CUSTOMERS
    assert sent_from(server, "host-b") <= CUSTOMERS - stopped_after + 8  # those under way are asked again
    with closing(sqlite3.connect(place.folder / "reports" / "r" / JOURNAL_NAME)) as journal:
        assert journal.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    left = {path.name for path in (place.folder / "reports" / "r").iterdir()}
    assert not [name for name in left if "lease" in name or "apart" in name]


def test_while_the_first_process_lives_the_second_is_refused_with_its_host_named(
    server: Server, tmp_path: Path
) -> None:
    place = Place(tmp_path, server.base_url)
    first = place.start("host-a")
    reach(server, "host-a", 3)
    _, told = (second := place.start("host-b")).communicate(timeout=60)
    assert second.returncode == 6
    assert "is in use by process" in told
    assert "on host host-a" in told
    assert first.wait(60) == 0
    assert sent_from(server, "host-b") == 0
    first.communicate()
