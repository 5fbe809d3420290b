"""How long a run takes on 1, 2, 4 and 8 workers, where the API's limit grows with them.

The whole program, shard by shard, against a server in this process, on a clock whose waits take no
time: seconds are those of plan and pacing, not of this machine. A phase takes as long as its slowest
shard. The bound is all calls at the whole rate. About a minute of processor.
"""

# ruff: noqa: T201 - figures are all it is for

import tempfile
from pathlib import Path

import numpy as np

from telemetron_batch.config.config import resolve
from telemetron_batch.domain.actions import Phase
from telemetron_batch.sharding.report import report_run
from telemetron_batch.sharding.run_shard import run_shard
from telemetron_batch.sharding.shard_plan import plan_shards
from tests.conftest import HEADER, KEY, FakeClock
from tests.support.scripted import BASE_URL, ScriptedServer

WORKERS = (1, 2, 4, 8)
CALLS_A_SECOND = 20
"""For each worker."""
ROWS, CUSTOMERS = 40_000, 4_000
LATENCY = 0.12
SKEW = 0.6
"""A customer's calls go one after another: one who has them all could not be sped up by any number of workers."""


def write_rows(path: Path) -> None:
    """Customers as Zipf has it, not too unlike; one row in ten takes a device from somebody."""
    numbers = np.random.default_rng(3)
    shares = np.cumsum(np.arange(1, CUSTOMERS + 1.0) ** -SKEW)
    customer = np.searchsorted(shares, numbers.random(ROWS) * shares[-1])
    action = np.where(numbers.random(ROWS) < 0.1, "unassign", "assign")
    lines = [
        f"user{whose:05}@x.com,SN-{n:06},{what}" for n, (whose, what) in enumerate(zip(customer, action, strict=True))
    ]
    path.write_text("\n".join([",".join(HEADER), *lines]) + "\n")


def play(folder: Path, path: Path, workers: int) -> tuple[int, float]:
    """Calls of the run, and the seconds that the workers need for it."""
    server = ScriptedServer()
    server.latency = LATENCY
    server.fleet.assign("stock@x.com", [f"SN-{n:06}" for n in range(ROWS)], create=True)
    where = {"base_url": BASE_URL, "reports_dir": str(folder), "run_id": f"on{workers}"}
    where |= {"chunk_size": "20", "again": True}
    rate = f"{CALLS_A_SECOND * workers}/s"
    config = resolve([str(path)], {**where, "rate": rate, "shards": str(workers)}, {"TELEMETRON_API_KEY": KEY})
    planned, seconds = plan_shards(config, clock=FakeClock()), 0.0
    for phase in Phase:
        slowest = 0.0
        for shard in planned.shards:
            clock = FakeClock()
            clock.monotonic += seconds
            began = clock.monotonic
            mine = resolve([], {**where, "shard": str(shard.number), "phase": str(phase)}, {"TELEMETRON_API_KEY": KEY})
            ended = run_shard(mine, transport=server, clock=clock)
            assert ended.exit_code == 0
            slowest = max(slowest, clock.monotonic - began)
        seconds += slowest
    assert report_run(planned.folder).fields["balanced"]
    return planned.summary.calls, seconds


def main() -> None:
    """Print all figures."""
    print(f"{ROWS:,} rows, {CUSTOMERS:,} customers, {CALLS_A_SECOND} calls a second for each worker")
    with tempfile.TemporaryDirectory() as folder:
        write_rows(path := Path(folder) / "rows.csv")
        for workers in WORKERS:
            calls, seconds = play(Path(folder), path, workers)
            bound = calls / (CALLS_A_SECOND * workers)
            print(f"  {workers} workers: {calls:,} calls in {seconds:6.1f} s, {seconds / bound:.2f} of the bound")


if __name__ == "__main__":
    main()
