"""`holdings` and `compare`: time and memory as the number of customers grows, with ten devices each.

Queries are answered in the process, so their figures are what a query costs this program. The large turns find all
answers kept, as after a listing that was killed at its end; `python -m tests.bench.bench_compare 1000000` chooses
the number of customers. Every turn is a process of its own.
"""

# ruff: noqa: T201 - figures are all it is for

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx2
import numpy as np
import pyarrow as pa

from telemetron_batch.comparison.compare import compare_fleet
from telemetron_batch.comparison.holdings import list_holdings
from telemetron_batch.comparison.lookup import LookupRequest, Surroundings
from telemetron_batch.config.config import RunConfig, resolve
from telemetron_batch.domain.answers import CustomerHoldings
from telemetron_batch.sending.observer import RunObserver
from telemetron_batch.storage.clock import RealClock
from telemetron_batch.storage.text_hash import hash_texts
from telemetron_batch.verification.answers import open_answers
from tests.bench.bench_load import own_peak

DEVICES = 10
QUERIED = 20_000
LENGTHS = (10_000, 100_000, 1_000_000)
BASE_URL = "http://127.0.0.1:9/api/ext-v1"


def email(number: int) -> str:
    return f"user.{number:07}@corp{number % 997}.example.com"


def devices(number: int) -> list[str]:
    """What a customer holds; one in a hundred has a device beyond the file, and one lacks a device."""
    held = [f"SN-{number:07}-{at}" for at in range(DEVICES)]
    return [*held, f"OLD-{number:07}"] if number % 100 == 0 else held[1:] if number % 100 == 1 else held


class Answering(httpx2.AsyncBaseTransport):
    """Answers each query at once."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        customer = json.loads(await request.aread())["email"]
        for step in ("connection.connect_tcp.started", "http11.send_request_headers.started"):
            await request.extensions["trace"](step, {})
        body = {"email": customer, "devices": devices(int(customer[5:12])), "id": "x"}
        return httpx2.Response(200, json=body, request=request)


def config_of(folder: Path, file: str) -> RunConfig:
    flags = {"base_url": BASE_URL, "reports_dir": str(folder / "reports"), "rate": "10000/s"}
    return resolve([file], flags, {"TELEMETRON_API_KEY": "key-of-the-bench"})


def prepare(folder: Path, customers: int) -> None:
    """Write the fleet, and keep an answer about each customer."""
    with (folder / "fleet.csv").open("w") as file:
        file.write("customerEmail,deviceIdentifier\n")
        for number in range(customers):
            file.write("".join(f"{email(number)},SN-{number:07}-{at}\n" for at in range(DEVICES)))
    from hashlib import sha256

    from telemetron_batch.api.target import ApiTarget

    name = ApiTarget.of(config_of(folder, "-"), None).name
    codes = np.sort(hash_texts(pa.array([email(number) for number in range(customers)])))
    with open_answers(folder / "reports", name, time.time) as store:
        store.begin(sha256(codes.tobytes()).hexdigest(), 3600)
        began = time.monotonic()
        for number in range(customers):
            store.put(CustomerHoldings(email(number), time.time(), frozenset(devices(number))))
        print(f"  keeping an answer {1e6 * (time.monotonic() - began) / customers:8.0f} microseconds", flush=True)


def work(name: str, folder: Path) -> None:
    """Run one of the commands in this process, and print seconds, processor seconds and the most memory."""
    request = LookupRequest(config_of(folder, str(folder / "fleet.csv")), folder / f"{name}.csv", force=True)
    surroundings = Surroundings(RunObserver(), RealClock(), Answering())
    began, used = time.monotonic(), time.process_time()
    if name == "compare":
        summary = compare_fleet(request, remove_extra=True, surroundings=surroundings)
    else:
        summary = list_holdings((), request, surroundings)
    fields = summary.fields
    print(time.monotonic() - began, time.process_time() - used, own_peak(), fields["asked"], sum(summary.rows.values()))


def taken(name: str, folder: Path) -> None:
    """Run one of the commands in a process of its own, and print its figures."""
    command = [sys.executable, "-m", "tests.bench.bench_compare", name, str(folder)]
    told = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ}).stdout.split()
    clock, used, peak, asked, rows = (float(one) for one in told)
    print(
        f"  {name:<9}{clock:8.1f} s   processors {used:8.1f} s   peak memory {int(peak) >> 10:5,} MiB"
        f"   {asked:,.0f} asked, {rows:,.0f} rows written",
        flush=True,
    )


def main() -> None:
    """Print all figures."""
    lengths = [int(one) for one in sys.argv[1:] if one.isdigit()] or LENGTHS
    with tempfile.TemporaryDirectory() as folder:
        print(f"{QUERIED:,} customers, all asked")
        prepare(Path(folder), QUERIED)
        for name in ("compare", "holdings"):
            for kept in (Path(folder) / "reports" / ".answers").iterdir():
                kept.unlink()
            taken(name, Path(folder))
    for customers in lengths:
        with tempfile.TemporaryDirectory() as folder:
            print(f"{customers:,} customers with {DEVICES} devices, all answers kept")
            prepare(Path(folder), customers)
            for name in ("compare", "holdings"):
                taken(name, Path(folder))


if __name__ == "__main__":
    if len(sys.argv) > 2 and not sys.argv[1].isdigit():
        work(sys.argv[1], Path(sys.argv[2]))
    else:
        main()
