"""What a call costs beyond the HTTP library: the sending core against a bare loop of the same bodies.

The bare loop has no journal, no pacing and joins no answers. It is httpx2's client, over its own
transport and over aiohttp's connections, as we have both; and, for what aiohttp could do at best, its
own client. All run as often, in turns, against the same server in a process of its own. Time of
processor is the figure that a busy machine moves least.

Where it goes, in ms of processor a call of 1 and of 500 devices, at a load of two: the request 0.26 and 0.36
over httpcore2, 0.15 and 0.28 over aiohttp; all else 0.25 and 0.70, of which the thread that writes the journal
takes 0.06 and 0.20. With 500 devices to read the answer and join it is the largest part, 0.2; to make the call
and to write its request, 0.1. That thread is at work nearly all the time, mostly waiting for the disk, one
full sync for six calls, or for the interpreter; with 500 devices the event loop waits for it a fifth of the
time: calls a second fall behind what the processor time would allow, the more so on a slow disk.
"""

# ruff: noqa: T201 - figures are all it is for

import asyncio
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from pathlib import Path
from statistics import median
from unittest.mock import patch

import aiohttp
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


class OverAiohttp(httpx2.AsyncBaseTransport):
    """httpx2's client with aiohttp below it: the least that such a transport can do."""

    def __init__(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONCURRENCY), skip_auto_headers=("accept", "user-agent")
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url, headers = str(request.url), request.headers.raw
        named = {name.decode(): value.decode() for name, value in headers}
        async with self._session.request(request.method, url, data=await request.aread(), headers=named) as response:
            return httpx2.Response(response.status, headers=response.raw_headers, content=await response.read())

    async def aclose(self) -> None:
        await self._session.close()


@asynccontextmanager
async def by_httpx2_over_aiohttp(base_url: str) -> AsyncIterator[Post]:
    async with httpx2.AsyncClient(base_url=base_url, transport=OverAiohttp(), trust_env=False) as http:

        async def post(path: str, body: bytes) -> int:
            return (await http.post(path, content=body, headers=HEADERS)).status_code

        yield post


@asynccontextmanager
async def by_aiohttp(base_url: str) -> AsyncIterator[Post]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONCURRENCY)) as http:

        async def post(path: str, body: bytes) -> int:
            async with http.post(base_url + path, data=body, headers=HEADERS) as response:
                await response.read()
                return response.status

        yield post


@contextmanager
def without_aiohttp() -> Iterator[None]:
    """As if the extra were not installed."""
    with patch.dict(sys.modules, {"telemetron_batch.api.aiohttp_transport": None}):
        yield


Opens = Callable[[str], AbstractAsyncContextManager[Post]]
LIBRARIES: Mapping[str, tuple[Opens, Callable[[], AbstractContextManager[None]]]] = {
    "httpx2": (by_httpx2, without_aiohttp),
    "httpx2-aiohttp": (by_httpx2_over_aiohttp, nullcontext),
    "aiohttp": (by_aiohttp, nullcontext),
}
"""By name: the bare loop's client, and how the sender is made to use the same connections."""


async def bare(opened: AbstractAsyncContextManager[Post], calls: list[Call]) -> None:
    """The same requests, as fast as the HTTP library makes them."""
    bodies = iter([protocol.request_body(call, range(len(call.devices))) for call in calls])
    path = protocol.PATHS[calls[0].action]

    async def work(post: Post) -> None:
        for body in bodies:
            assert await post(path, body) == 200

    async with opened as post, asyncio.TaskGroup() as workers:
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
    summary = run(resolve((str(path),), told, {"TELEMETRON_API_KEY": KEY}), face=watch)
    assert summary.exit_code == 0
    return watch


def only_requests(opened: AbstractAsyncContextManager[Post], calls: list[Call]) -> Stopwatch:
    watch = Stopwatch()
    watch.on_start()
    asyncio.run(bare(opened, calls))
    watch.on_stop()
    return watch


def compare(base_url: str, folder: Path, devices: int) -> None:
    path = folder / "rows.csv"
    count = CALLS if devices < 500 else CALLS // 5
    write_rows(path, count, devices)
    plan = plan_calls(load([str(path)], InputOptions(), spool=folder).rows, PlanOptions())
    calls = [plan.call(number) for number in range(1, plan.calls + 1)]
    print(f"{count} calls of {devices} devices, {CONCURRENCY} at a time; medians of {TURNS} turns")
    pairs = defaultdict[str, list[tuple[Stopwatch, Stopwatch]]](list)
    for turn in range(TURNS):
        for library, (alone, chosen) in LIBRARIES.items():
            watch = only_requests(alone(base_url), calls)
            with chosen():
                pairs[library].append((watch, ours(base_url, path, f"r{devices}-{library}-{turn}")))
    for library, watches in pairs.items():
        show(library, watches, count)


def show(library: str, pairs: list[tuple[Stopwatch, Stopwatch]], count: int) -> None:
    for name, watches in zip((f"{library} alone", "the sender"), zip(*pairs, strict=True), strict=True):
        seconds, used = median(one.seconds for one in watches), median(one.used for one in watches)
        print(f"  {name:<20}{count / seconds:7.0f} calls/s   {1000 * used / count:6.3f} ms of processor a call")
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
