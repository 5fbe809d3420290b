"""`plan --online` of many customers: how much of the limit it uses, and who is asked twice after a kill."""

# ruff: noqa: T201 - figures are all it is for

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.bench.instead.common import KEY
from tests.support.faulty import FaultyServer, SlidingWindow

CUSTOMERS, RATE = 10_000, 50
KILL_AFTER = 0.4
"""Part of the customers after whose queries the process is killed."""


def start(folder: Path, base_url: str) -> subprocess.Popen[bytes]:
    """Start the command, the same each time."""
    flags = ("--online", "--rate", f"{RATE}/s", "--base-url", base_url, "--reports-dir", str(folder / "reports"), "-q")
    command = [sys.executable, "-m", "telemetron_batch", "plan", str(folder / "rows.csv"), *flags]
    environ = os.environ | {"TELEMETRON_API_KEY": KEY, "XDG_STATE_HOME": str(folder)}
    return subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL)


def customers_asked(server: FaultyServer) -> Counter[str]:
    """Return how often each customer was asked for."""
    return Counter(str(seen.body["email"]) for seen in server.seen)


def main() -> None:
    """Print the figures."""
    limit = SlidingWindow(RATE, 1.0, retry_after=True)
    with tempfile.TemporaryDirectory() as name, FaultyServer(script=limit, latency=0.02) as server:
        folder = Path(name)
        rows = "".join(f"user{number:05}@example.com,SN-{number:05},assign\n" for number in range(CUSTOMERS))
        (folder / "rows.csv").write_text(f"customerEmail,deviceIdentifier,action\n{rows}")
        killed = start(folder, server.base_url)
        while len(server.seen) < KILL_AFTER * CUSTOMERS:
            time.sleep(0.05)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        at_kill = len(server.seen)
        start(folder, server.base_url).wait()
        print(f"{CUSTOMERS:,} customers, limit and rate {RATE}/s, killed after {at_kill:,} queries")
        for title, seen in (("before the kill", server.seen[:at_kill]), ("after it", server.seen[at_kill:])):
            seconds = seen[-1].at - seen[0].at
            print(f"  {title}: {len(seen):,} queries in {seconds:.1f} s: {len(seen) / seconds / RATE:.1%} of the limit")
        asked = customers_asked(server)
        print(f"  refused: {server.refusals}; asked: {len(asked):,}; twice: {sum(n > 1 for n in asked.values())}")


if __name__ == "__main__":
    main()
