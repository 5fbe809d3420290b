"""A night on which everything goes wrong a little: how long it takes, and how much of that is prescribed waiting.

3,000 rows of 150 customers, in which devices move to and fro; each kind of fault meets two requests in a
hundred. 429 is not among them: refusals that have nothing to do with the rate would lower it. An unanswered
attempt may act until its time-out and five seconds more have passed since it left, and the opposite action for one
of its pairs must wait for that. The journal and `reconciliation.csv` tell when that was so, independently of the
scheduler.
"""

# ruff: noqa: T201 - figures are all it is for

import csv
import random
import sqlite3
import tempfile
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tests.bench.bench_instead import Asked, Task, WatchedFleet, judge, run_ours
from tests.support.faulty import (
    ActsLate,
    Arrived,
    Cuts,
    Drips,
    Fault,
    FaultyServer,
    Hangs,
    Leaves,
    Loses,
    Raw,
    Resets,
    Says,
)

ROWS, CUSTOMERS, DEVICES = 3_000, 150, 900
LATENCY = 0.05
SHARE = 0.02
"""Share of the requests that meet each fault."""
MARGIN_S = 5.0
TIMEOUTS_S = (30.0, 5.0)
SEEDS = (1,)


def faults(timeout_s: float) -> tuple[Fault, ...]:
    """Return one of each kind."""
    return (
        Says(503, {"error": "Service unavailable"}),
        Says(500, {"error": "Internal error"}),
        Loses(),
        Resets(),
        Resets(acted=False),
        Cuts(),
        Raw(b"garbage\r\n\r\n"),
        Leaves(),
        Hangs(),
        Drips(),
        ActsLate(timeout_s + MARGIN_S - 1),
    )


class RandomFaults:
    """Each fault with the same small chance; otherwise none."""

    def __init__(self, timeout_s: float, seed: int) -> None:
        self._faults = faults(timeout_s)
        self._chance = random.Random(seed)

    def __call__(self, _: Arrived) -> Fault:
        at = int(self._chance.random() / SHARE)
        return self._faults[at] if at < len(self._faults) else None


def moves(path: Path, seed: int) -> Task:
    """Write a file in which devices are given, taken and given again."""
    chance = random.Random(seed)
    owner: dict[str, str] = {}
    lines: list[tuple[str, str, str]] = []
    while len(lines) < ROWS:
        device = f"SN-{chance.randrange(DEVICES):05d}"
        if device in owner:
            lines.append((owner.pop(device), device, "unassign"))
        else:
            owner[device] = f"user{chance.randrange(CUSTOMERS):04d}@example.com"
            lines.append((owner[device], device, "assign"))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("customerEmail", "deviceIdentifier", "action"))
        writer.writerows(lines)
    asked = [Asked(at, (line[0], line[1]), line[2], wrong=False) for at, line in enumerate(lines, 2)]
    return Task(path, asked)


@dataclass(frozen=True)
class Attempt:
    """An attempt as the journal has it, with the pairs it asked for."""

    call: int
    action: str
    pairs: frozenset[tuple[str, str]]
    started: float
    ended: float
    pending_until: float
    """Until when it may act; 0 if it cannot act after its end."""
    timed_out: bool


def attempts_of(folder: Path, timeout_s: float) -> list[Attempt]:
    """Return the attempts of a run in the order of their start."""
    pairs: dict[int, list[tuple[str, str]]] = defaultdict(list)
    actions: dict[int, str] = {}
    with (folder / "reconciliation.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["call"]:
                pairs[int(row["call"])].append((row["customerEmail"], row["deviceIdentifier"]))
                actions[int(row["call"])] = row["action"]
    columns = "call, started, ended, may_act_later, status"
    with sqlite3.connect(folder / "journal.sqlite3") as journal:
        rows = journal.execute(f"SELECT {columns} FROM attempts ORDER BY started").fetchall()
    # Of a part of a call the whole counts.
    return [
        Attempt(
            call=call,
            action=actions[call],
            pairs=frozenset(pairs[call]),
            started=started,
            ended=ended,
            pending_until=started + timeout_s + MARGIN_S if may_act_later else 0.0,
            timed_out=status is None and ended - started > timeout_s - 0.5,
        )
        for call, started, ended, may_act_later, status in rows
    ]


@dataclass(frozen=True)
class Spent:
    """Where the time of a run went, in seconds."""

    answered: float
    """With an attempt under way that got an answer or broke."""
    timed_out: float
    """With no other attempts under way than such as got no answer in time."""
    required: float
    """Without an attempt under way, because the rule forbids the next one."""
    other: float
    """Without an attempt under way for other reasons: pacing, back-off, our own work."""


def spent(attempts: Sequence[Attempt]) -> Spent:
    """Divide the time from the first attempt to the last answer."""
    marks = sorted({one.started for one in attempts} | {one.ended for one in attempts})
    seconds = dict.fromkeys(("answered", "timed_out", "required", "other"), 0.0)
    for first, last in pairwise(marks):
        for kind, part in _kinds(attempts, first, last):
            seconds[kind] += part
    return Spent(**seconds)


def _kinds(attempts: Sequence[Attempt], first: float, last: float) -> Iterator[tuple[str, float]]:
    under_way = [one for one in attempts if one.started <= first and one.ended >= last]
    if under_way:
        yield ("timed_out" if all(one.timed_out for one in under_way) else "answered"), last - first
        return
    following = attempts[bisect_right([one.started for one in attempts], first) :]
    allowed = _allowed_at(following[0], attempts) if following else first
    required = min(max(allowed - first, 0.0), last - first)
    yield "required", required
    yield "other", last - first - required


def _allowed_at(attempt: Attempt, attempts: Sequence[Attempt]) -> float:
    """Return from when an attempt may leave: no earlier one for the opposite of any of its pairs may still act."""
    earlier = (one for one in attempts if one.started < attempt.started and one.action != attempt.action)
    return max((one.pending_until for one in earlier if one.pairs & attempt.pairs), default=0.0)


def main() -> None:
    """Print a line for each run."""
    print(f"{ROWS:,} rows of {CUSTOMERS} customers, {100 * SHARE:.0f} % of each of {len(faults(0))} faults")
    names = ("time-out", "calls", "attempts", "seconds", "answered", "timed out", "required", "other", "untrue")
    print("".join(f"{name:>11}" for name in (*names, "left wrong", "with two")))
    for timeout_s in TIMEOUTS_S:
        for seed in SEEDS:
            with tempfile.TemporaryDirectory() as folder:
                _print_run(Path(folder), timeout_s, seed)


def _print_run(folder: Path, timeout_s: float, seed: int) -> None:
    task = moves(folder / "night.csv", seed)
    fleet = WatchedFleet(task.leavers)
    for device in {row.pair[1] for row in task.right}:  # known, and with nobody
        fleet.assign("first@example.com", [device], create=True)
        fleet.unassign("first@example.com", [device])
    with FaultyServer(script=RandomFaults(timeout_s, seed), latency=LATENCY, fleet=fleet) as server:
        began = time.perf_counter()
        outcome = run_ours(("--timeout", f"{timeout_s:g}"), task, server.base_url, folder)
        seconds = time.perf_counter() - began
        _, untrue, _, with_two, left_wrong = judge(task, fleet, server.seen, outcome)
    attempts = attempts_of(folder / "ours", timeout_s)
    part = spent(attempts)
    calls = len({one.call for one in attempts})
    seconds_of = (seconds, part.answered, part.timed_out, part.required, part.other)
    figures = (f"{timeout_s:.0f} s", calls, len(attempts), *(f"{one:.1f}" for one in seconds_of))
    print("".join(f"{one:>11}" for one in (*figures, untrue, left_wrong, with_two)), flush=True)


if __name__ == "__main__":
    main()
