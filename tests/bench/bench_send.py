"""What a call costs beyond the HTTP library: the sending core against a bare loop of the same bodies.

The bare loop is httpx2's own client, without journal and pacing, and it joins no answers. Both run as often,
in turns, against the same server in a process of its own. Time of processor is the figure that a busy machine
moves least.
"""

# ruff: noqa: T201 - figures are all it is for

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

import httpx2

from telemetron_batch.api import protocol
from telemetron_batch.config.config import resolve
from telemetron_batch.domain.model import Call, InputOptions, PlanOptions
from telemetron_batch.input.load import load
from telemetron_batch.planning.planner import plan_calls
from telemetron_batch.run.pipeline import run
from telemetron_batch.sending.observer import RunObserver
from tests.bench.swift import served

CALLS = 3000
DEVICES = (1, 20, 500)
CONCURRENCY = 32
TURNS = 5
KEY = "key-of-the-bench"


def write_rows(path: Path, calls: int, devices: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write("customerEmail,deviceIdentifier,action\n")
        for customer in range(calls):
            file.writelines(f"user{customer}@example.com,SN-{customer}-{at:04d},assign\n" for at in range(devices))


Post = Callable[[str, bytes], Awaitable[int]]
"""Posts a body to a path; gives the status."""
HEADERS = {"x-api-key": KEY, "content-type": "application/json"}


@asynccontextmanager
async def by_httpx2(base_url: str) -> AsyncIterator[Post]:
    limits = httpx2.Limits(max_connections=CONCURRENCY, max_keepalive_connections=CONCURRENCY)
    async with httpx2.AsyncClient(base_url=base_url, limits=limits, trust_env=False) as http:

        async def post(path: str, body: bytes) -> int:
            return (await http.post(path, content=body, headers=HEADERS)).status_code

        yield post


async def bare(base_url: str, calls: list[Call]) -> None:
    """The same requests, as fast as the HTTP library makes them."""
    bodies = iter([protocol.request_body(call, range(len(call.devices))) for call in calls])
    path = protocol.ENDPOINTS[calls[0].action].path

    async def work(post: Post) -> None:
        for body in bodies:
            assert await post(path, body) == 200

    async with by_httpx2(base_url) as post, asyncio.TaskGroup() as workers:
        for _ in range(CONCURRENCY):
            workers.create_task(work(post))


class Stopwatch(RunObserver):
    """Seconds on the clock, and of this process's processors, between the first call and the last."""

    def __init__(self) -> None:
        self.seconds = self.used = 0.0

    def on_start(self) -> None:
        self.seconds, self.used = time.perf_counter(), time.process_time()

    def on_stop(self) -> None:
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
    summary = run(resolve((str(path),), told, {"TELEMETRON_API_KEY": KEY}), observer=watch)
    assert summary.exit_code == 0
    return watch


def only_requests(base_url: str, calls: list[Call]) -> Stopwatch:
    watch = Stopwatch()
    watch.on_start()
    asyncio.run(bare(base_url, calls))
    watch.on_stop()
    return watch


def compare(base_url: str, folder: Path, devices: int) -> None:
    path = folder / "rows.csv"
    count = CALLS if devices < 500 else CALLS // 5
    write_rows(path, count, devices)
    plan = plan_calls(load([str(path)], InputOptions(), spool=folder).rows, PlanOptions())
    calls = [plan.call(number) for number in range(1, plan.calls + 1)]
    print(f"{count} calls of {devices} devices, {CONCURRENCY} at a time; medians of {TURNS} turns")
    pairs = [(only_requests(base_url, calls), ours(base_url, path, f"r{devices}-{turn}")) for turn in range(TURNS)]
    for name, watches in zip(("httpx2 alone", "the sender"), zip(*pairs, strict=True), strict=True):
        seconds, used = median(one.seconds for one in watches), median(one.used for one in watches)
        print(f"  {name:<14}{count / seconds:7.0f} calls/s   {1000 * used / count:6.3f} ms of processor a call")
    ratio = median(alone.seconds / sender.seconds for alone, sender in pairs)
    used = median(sender.used / alone.used for alone, sender in pairs)
    print(f"  the sender makes {ratio:.2f} of its calls/s with {used:.2f} of its processor time")


def main() -> None:
    """Print all figures."""
    with tempfile.TemporaryDirectory() as folder, served() as base_url:
        os.environ["XDG_STATE_HOME"] = folder
        for devices in DEVICES:
            compare(base_url, Path(folder), devices)


if __name__ == "__main__":
    main()
