"""A night of a million rows, or of as many as are asked for, played through: some 0.4 ms of processor a call.

    python -m tests.bench.bench_night 100000000 200

plays a hundred million rows, 200 to a customer: with fewer to each, the calls of so many fill more than
a night at any honest limit.

Real are the planner, the runner, the client with its retries, pacer and gate, the bodies
that it writes and reads, and the books; on a clock whose waits take no time. Modelled are
reading the file (rows are made straight into columns), the network, the API and its
limit, and the journal: it takes a moment for each record and keeps nothing but the
answers, in the books. So the seconds are those of the plan and the pacing, not of this
machine, and the memory is that of all but the HTTP library and SQLite.
"""

# ruff: noqa: T201 - figures are all it is for

import json
import random
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import cast

from telemetron_batch.api.attempt_gate import AttemptGate, WaitLimits
from telemetron_batch.api.classify import ErrorResponse, FailureKind, NoUsableResponse
from telemetron_batch.api.http_client import HttpResult
from telemetron_batch.config.rate import Rate
from telemetron_batch.domain.answers import Answer
from telemetron_batch.domain.model import PlanOptions
from telemetron_batch.journal.journal import Journal
from telemetron_batch.journal.reader import RecordedAnswer
from telemetron_batch.journal.schema import AttemptEnd
from telemetron_batch.planning.plan import Plan
from telemetron_batch.planning.planner import plan_calls
from telemetron_batch.rate_limit.headers import ServerHint
from telemetron_batch.rate_limit.limiter import LocalRateLimiter
from telemetron_batch.rate_limit.outage import OutageDetector
from telemetron_batch.rate_limit.pacer import Pacer
from telemetron_batch.reconciliation.ledger import Ledger
from telemetron_batch.sending.call_executor import CallExecutor
from telemetron_batch.sending.scheduler import RunLimits, Scheduler
from telemetron_batch.storage import clock
from telemetron_batch.storage.spill import Scratch
from tests.bench.bench_load import own_peak
from tests.bench.modelled import zipf_rows
from tests.conftest import FakeClock
from tests.support.builders import settle

ROWS = 1_000_000
ROWS_A_CUSTOMER = 20
LIMIT = 50
"""Attempts that the API lets in within any second; the program is told the same."""
WORKERS = 16
COMMIT = 0.003
AT_ONCE = 500
"""Answers booked together."""
FAILS, LOST = 0.001, 0.0002
"""Shares of attempts that a 503 answers, and that act without an answer."""
_TIMEOUT = 30.0


class ModelledApi:
    """Grants everything after a while, up to its limit; sometimes fails, sometimes is not heard."""

    def __init__(self) -> None:
        self._random = random.Random(1)
        self._let_in: deque[float] = deque(maxlen=LIMIT)
        self.accepted = self.refused = 0

    async def post(self, path: str, body: bytes, left: Callable[[], None]) -> HttpResult:
        left()
        await clock.sleep(self._random.uniform(0.02, 0.03))
        now = clock.now()
        if len(self._let_in) == LIMIT and now < self._let_in[0] + 1.0:
            self.refused += 1
            wait = ServerHint(wait=1.0, retry_after=True)
            return HttpResult(ErrorResponse(429, "Too many requests", asks_to_wait=True), status=429, hint=wait)
        self._let_in.append(now)
        self.accepted += 1
        chance = self._random.random()
        if chance < LOST:
            await clock.sleep(_TIMEOUT)
            return HttpResult(NoUsableResponse(FailureKind.TIMEOUT, sent=True, text="no answer within 30 s"))
        await clock.sleep(self._random.lognormvariate(-2.1, 0.5))
        if chance < LOST + FAILS:
            return HttpResult(ErrorResponse(503, "Service unavailable"), status=503)
        return HttpResult(None, _granted(path, body), 200)


def _granted(path: str, body: bytes) -> bytes:
    devices = json.loads(body)["deviceIdentifiers"]
    results: dict[str, object]
    if "unassign" in path:
        results = {"unassignedDevices": devices, "skipped": []}
    else:
        given = [{"identifier": device, "deviceId": f"dev_{device}", "wasCreated": False} for device in devices]
        results = {"assignedDevices": given, "alreadyAssigned": [], "skipped": []}
    return json.dumps({"success": True, "customerId": "cust_1", "customerWasCreated": False, **results}).encode()


class ModelledJournal:
    """Takes a moment for each record, and books what it is told."""

    recorded_answers = unclear_attempts = tuple

    def __init__(self, books: Ledger) -> None:
        self._books = books
        self._settled: list[tuple[int, Answer]] = []
        self._attempts = 0

    async def record_start(self, *_: object) -> int:
        await clock.sleep(COMMIT)
        self._attempts += 1
        return self._attempts

    async def record_end(self, _: int, __: AttemptEnd, ___: float, settled: RecordedAnswer | None = None) -> None:
        if settled is None:
            await clock.sleep(COMMIT)
        else:
            await self.record_results(settled)

    async def record_results(self, settlement: RecordedAnswer) -> None:
        await clock.sleep(COMMIT)
        self._settled.append((settlement.call, settlement.answer))
        if len(self._settled) >= AT_ONCE:
            self.book()

    def book(self) -> None:
        settle(self._books, *self._settled)
        self._settled.clear()


def silent(kind: str, text: str, *, is_shown: bool = True) -> None:
    """Nobody listens at night."""


async def _sent(plan: Plan, books: Ledger, api: ModelledApi, fake: FakeClock) -> None:
    patience = WaitLimits(900, 900)
    gate = AttemptGate(
        LocalRateLimiter(Pacer(Rate(LIMIT))), OutageDetector(), patience, on_event=silent, wall=fake.wall
    )
    modelled = ModelledJournal(books)
    journal = cast(Journal, modelled)
    client = CallExecutor(api.post, journal, gate, attempts=6, wall=fake.wall)
    await Scheduler(plan, journal, client, RunLimits(concurrency=WORKERS)).run()
    modelled.book()


def play(rows: int, rows_a_customer: int) -> None:
    """Play one night and print what it came to; the peak is this process's."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, Scratch(Path(folder) / "scratch") as scratch:
        customers = rows // rows_a_customer
        made = zipf_rows(rows, customers=customers, skew=1.0, seed=1, moving=True, scratch=scratch)
        plan = plan_calls(made, PlanOptions())
        books, api, fake = Ledger(plan), ModelledApi(), FakeClock()
        before = fake.monotonic
        fake.run(_sent(plan, books, api, fake))
        seconds = fake.monotonic - before
        closed = books.close("")
    counted = ", ".join(f"{count:,} {outcome}" for outcome, count in closed.counts().items() if count)
    print(f"{rows:,} rows, {plan.customers:,} customers, {plan.calls:,} calls, told {LIMIT}/s, {WORKERS} at a time")
    print(f"  took {_long(seconds)}, at the limit itself {_long(plan.calls / LIMIT)}")
    print(f"  {api.accepted / LIMIT / seconds:.1%} of the limit used, {api.refused} attempts refused for it")
    print(f"  {counted}; peak memory {own_peak() >> 10:,} MiB")
    print(f"  played in {_long(time.perf_counter() - began)}")


def _long(seconds: float) -> str:
    return f"{seconds // 3600:.0f} h {seconds % 3600 / 60:04.1f} min"


def main() -> None:
    """Print all figures, from a process of its own."""
    subprocess.run([sys.executable, "-m", "tests.bench.bench_night", str(ROWS)], check=True)


if __name__ == "__main__":
    play(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else ROWS_A_CUSTOMER)
