"""How near the order of calls comes to the shortest possible time, one call of a customer at a time.

No schedule is shorter than all work shared out evenly, nor than the work of the customer
with most of it. (With hardly more customers than workers none comes near that either.) The
program's own planner and runner carry the plan out on a clock whose waits take no time;
modelled is how long each answer takes, and no rate holds anyone back. Beside it, the same
customers in random order, as in a file sorted by name.
"""

# ruff: noqa: T201 - figures are all it is for

import heapq
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import cast

import numpy as np

from telemetron_batch.api.attempt_gate import StopSignal
from telemetron_batch.domain.answers import Answer, DeviceResult
from telemetron_batch.domain.model import Call, PlanOptions
from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.journal.journal import Journal
from telemetron_batch.planning.plan import Plan
from telemetron_batch.planning.planner import plan_calls
from telemetron_batch.sending.call_executor import CallExecutor, CallResult
from telemetron_batch.sending.scheduler import RunLimits, Scheduler
from telemetron_batch.storage import clock
from tests.bench.modelled import Floats, answer_seconds, zipf_rows
from tests.conftest import FakeClock

ROWS, CUSTOMERS = 200_000, 5_000
SKEWS = (0.8, 1.0, 1.2, 1.5)
SEEDS = range(3)
WORKERS = (4, 8, 16, 32, 64)
_DONE = DeviceResult(Outcome.ASSIGNED)


class ModelledClient:
    """Settles every call, after as long as its answer takes."""

    def __init__(self, seconds: Floats) -> None:
        self.stop_signal = StopSignal()
        self._seconds = seconds

    async def settle(self, call: Call, _: Mapping[str, bool] | None = None) -> CallResult:
        await clock.sleep(self._seconds[call.number - 1])
        return CallResult((Answer(dict.fromkeys(range(len(call.devices)), _DONE)),), None)


def carried_out(plan: Plan, seconds: Floats, workers: int) -> float:
    """Seconds on the clock that the real runner takes for the plan."""
    nothing_before = SimpleNamespace(recorded_answers=tuple, unclear_attempts=tuple)
    client = cast(CallExecutor, ModelledClient(seconds))
    fake, limits = FakeClock(), RunLimits(concurrency=workers)
    began = fake.monotonic
    runner = Scheduler(plan, cast(Journal, nothing_before), client, limits)
    fake.run(runner.run())
    assert runner.counters.calls_done == plan.calls
    return fake.monotonic - began


def in_turn(lanes: Iterable[float], workers: int) -> float:
    """Seconds that workers take for lanes of work, each taking the next one when it is free."""
    free = [0.0] * workers
    for work in lanes:
        heapq.heapreplace(free, free[0] + work)
    return max(free)


def ratios(plan: Plan, seconds: Floats, workers: int) -> tuple[float, float]:
    """Of the runner's time, and of the time in random order, to the bound."""
    lanes = next(plan.stages()).lanes
    by_lane = np.array([seconds[lane.start - 1 : lane.stop - 1].sum() for lane in lanes])
    bound = max(seconds.sum() / workers, by_lane.max())
    by_chance = np.random.default_rng(len(lanes)).permutation(by_lane)
    return carried_out(plan, seconds, workers) / bound, in_turn(by_chance.tolist(), workers) / bound


def compare(skew: float) -> list[float]:
    """Print the worst of the seeds for each number of workers; gives the runner's ratios, all of them."""
    plans = [plan_calls(zipf_rows(ROWS, customers=CUSTOMERS, skew=skew, seed=seed), PlanOptions()) for seed in SEEDS]
    calls, longest = plans[0].calls, max(len(next(plan.stages()).lanes[0]) for plan in plans)
    print(f"skew {skew}: {calls:,} calls, {longest} of them the largest customer's")
    ours: list[float] = []
    for workers in WORKERS:
        found = [ratios(plan, answer_seconds(plan.calls, 100 + at), workers) for at, plan in enumerate(plans)]
        runner, by_chance = zip(*found, strict=True)
        ours += runner
        print(f"  {workers:3} workers: {max(runner):.4f}, in random order {max(by_chance):.4f}")
    return ours


def main() -> None:
    """Print all figures."""
    print(f"{ROWS:,} rows, {CUSTOMERS:,} customers; time as a multiple of the bound, the worst of {len(SEEDS)} seeds")
    ours = [ratio for skew in SKEWS for ratio in compare(skew)]
    print(f"the worst {max(ours):.4f}; {sum(ratio <= 1.05 for ratio in ours)} of {len(ours)} within 5 %")


if __name__ == "__main__":
    main()
