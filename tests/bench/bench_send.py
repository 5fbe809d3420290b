"""What a call costs beyond the HTTP library: the sending core against a bare loop of the same bodies.

The bare loop has no journal, no pacing and joins no answers. Both run as often, in
turns, against the same server in a process of its own.
"""

# ruff: noqa: T201 - figures are all it is for

import asyncio
import os
import tempfile
import time
from pathlib import Path
from statistics import median

import httpx2

from batch.app import run
from batch.config import resolve
from batch.input.load import load
from batch.model import Call, InputOptions, PlanOptions
from batch.planning.plan import plan_calls
from batch.sending import wire
from batch.sending.sender import Face
from tests.bench.swift import served

CALLS = 3000
DEVICES = (1, 20, 500)
CONCURRENCY = 32
TURNS = 3
KEY = "key-of-the-bench"


def write_rows(path: Path, calls: int, devices: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write("customerEmail,deviceIdentifier,action\n")
        for customer in range(calls):
            file.writelines(f"user{customer}@example.com,SN-{customer}-{at:04d},assign\n" for at in range(devices))


async def bare(base_url: str, calls: list[Call]) -> None:
    """The same requests, as fast as the HTTP library makes them."""
    bodies = iter([wire.request_body(call, range(len(call.devices))) for call in calls])

    async def work(http: httpx2.AsyncClient) -> None:
        for body in bodies:
            response = await http.post(path, content=body, headers=headers)
            assert response.status_code == 200

    path = wire.PATHS[calls[0].action]
    limits = httpx2.Limits(max_connections=CONCURRENCY, max_keepalive_connections=CONCURRENCY)
    headers = {"x-api-key": KEY, "content-type": "application/json"}
    async with (
        httpx2.AsyncClient(base_url=base_url, limits=limits, trust_env=False) as http,
        asyncio.TaskGroup() as workers,
    ):
        for _ in range(CONCURRENCY):
            workers.create_task(work(http))


class Stopwatch(Face):
    """Seconds on the clock, and of this process's processors, between the first call and the last."""

    def __init__(self) -> None:
        self.seconds = self.used = 0.0

    def began(self) -> None:
        self.seconds, self.used = time.perf_counter(), time.process_time()

    def ended(self) -> None:
        self.seconds, self.used = time.perf_counter() - self.seconds, time.process_time() - self.used


def ours(base_url: str, path: Path, run_id: str) -> Stopwatch:
    """The whole program over a file; only its sending is timed."""
    told = {
        "base_url": base_url,
        "rate": "10000/s",
        "concurrency": str(CONCURRENCY),
        "again": True,
        "run_id": run_id,
        "reports_dir": str(path.parent),
    }
    watch = Stopwatch()
    summary = run(resolve((str(path),), told, {"TELEMETRON_API_KEY": KEY}), face=watch)
    assert summary.exit_code == 0
    return watch


def only_requests(base_url: str, calls: list[Call]) -> Stopwatch:
    watch = Stopwatch()
    watch.seconds, watch.used = time.perf_counter(), time.process_time()
    asyncio.run(bare(base_url, calls))
    watch.ended()
    return watch


def compare(base_url: str, folder: Path, devices: int) -> None:
    path = folder / "rows.csv"
    count = CALLS if devices < 500 else CALLS // 5
    write_rows(path, count, devices)
    plan = plan_calls(load([str(path)], InputOptions(), spool=folder).rows, PlanOptions())
    calls = [plan.call(number) for number in range(plan.calls)]
    pairs = [(only_requests(base_url, calls), ours(base_url, path, f"r{devices}-{turn}")) for turn in range(TURNS)]
    print(f"{count} calls of {devices} devices, {CONCURRENCY} at a time; medians of {TURNS} turns")
    for name, watches in zip(("httpx2 alone", "the sender"), zip(*pairs, strict=True), strict=True):
        seconds, used = median(one.seconds for one in watches), median(one.used for one in watches)
        print(f"  {name:<14}{count / seconds:7.0f} calls/s   {1000 * used / count:6.3f} ms of processor a call")
    ratio = median(alone.seconds / sender.seconds for alone, sender in pairs)
    used = median(alone.used / sender.used for alone, sender in pairs)
    print(f"  ratio of calls/s {ratio:.2f}, of processor time {used:.2f}")


def main() -> None:
    """Print all figures."""
    with tempfile.TemporaryDirectory() as folder, served() as base_url:
        os.environ["XDG_STATE_HOME"] = folder
        for devices in DEVICES:
            compare(base_url, Path(folder), devices)


if __name__ == "__main__":
    main()
