"""Random kills against a server that fails in every way: no row is lost or wrong, nothing settled is sent again.

Many runs of some hundred rows, each killed several times at random and then completed. Results are compared with the
server's own log. TESTS_KILLS sets the number of kills, with about fifty rows for each:

    TESTS_KILLS=1000 python -m pytest -m slow -s tests/end_to_end/test_kills.py
"""

import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.books import is_marked
from tests.support.crashing import KILLED, Acts, Forge, Heard, Left, Place, Server, left_by, refusing
from tests.support.scripted import Hangs, Loses, Says, Seen

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("TESTS_KILLS", "60"))
LANES = 3
KILLS_A_RUN = 6
ROWS_A_RUN = 300
CONCURRENCY = 6
OPTIONS = {"rate": "300/s", "concurrency": str(CONCURRENCY), "chunk-size": "6", "timeout": "0.4"}
POISON = "POISON"
ATTENTION, DONE = 1, 0

Key = tuple[str, str, str]
"""Action, customer and device."""

HTML = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
FAULTS: dict[str, tuple[float, Any]] = {
    "executed, then the connection drops": (0.06, Loses(acted=True)),
    "the connection drops before that": (0.04, Loses(acted=False)),
    "500 before executing": (0.03, Says(500, {"error": "Internal server error"})),
    "500 after executing": (0.03, Acts(Says(500, {"error": "Internal server error"}))),
    "502 in HTML, not executed": (0.02, Says(502, HTML, {"content-type": "text/html"})),
    "502 in HTML, executed": (0.02, Acts(Says(502, HTML, {"content-type": "text/html"}))),
    "429": (0.015, Says(429, {"error": "Too many requests"})),
    "429, at once again": (0.02, Says(429, {"error": "Too many requests"}, {"retry-after": "0"})),
    "429, again in a second": (0.005, Says(429, {"error": "Too many requests"}, {"retry-after": "1"})),
    "executed, the answer cut short": (0.03, Acts()),
    "executed, half of the JSON": (0.01, Acts(Says(200, b'{"success": true, "assignedDev'))),
    "executed, no answer in time": (0.01, Hangs(acted=True)),
    "no answer in time": (0.01, Hangs(acted=False)),
}
SHARE = sum(share for share, _ in FAULTS.values())


def faulty(chance: random.Random, met: Counter[str]) -> Callable[[Seen], Any]:
    """Refuse poison, and let some of the other requests fail."""
    names = [*FAULTS]
    weights = [FAULTS[name][0] for name in names]

    def script(seen: Seen) -> Any:
        if chance.random() < SHARE:
            name = chance.choices(names, weights)[0]
            met[name] += 1
            event = FAULTS[name][1]
            is_refused = any(device.startswith(POISON) for device in seen.devices)
            return _unacted(event) if is_refused else event
        return refusing(POISON)(seen)

    return script


def _unacted(event: Any) -> Any:
    """Return the fault that looks the same to the client if the server refuses the request."""
    if isinstance(event, Acts):
        return event.says or Loses(acted=False)
    return type(event)(acted=False) if isinstance(event, Loses | Hangs) else event


@dataclass
class World:
    """The input of one run, and the state of the server before it."""

    rows: list[Key] = field(default_factory=list)
    owned: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def made(cls, chance: random.Random) -> "World":
        world = cls()
        customers = [f"user{number}@x.com" for number in range(chance.randrange(12, 30))]
        kinds = [world._assign, world._unassign, world._transfer, world._back_and_forth, world._chain]
        number = 0
        while len(world.rows) < ROWS_A_RUN:
            number += 1
            one, other, third = chance.sample(customers, 3)
            chance.choices(kinds, [60, 25, 12, 2, 1])[0](chance, (one, other, third), _device(chance, number))
        return world

    def prepare(self, folder: Path, server: Server) -> None:
        """Write the input, and reset the server to its state before the run."""
        folder.mkdir(parents=True)
        lines = ["customerEmail,deviceIdentifier,action", *(f"{row[1]},{row[2]},{row[0]}" for row in self.rows)]
        (folder / "rows.csv").write_text("\n".join(lines) + "\n")
        server.renew()
        for customer, device in self.owned:
            server.fleet.assign(customer, [device], create=True)

    def _assign(self, chance: random.Random, who: tuple[str, ...], device: str) -> None:
        if chance.random() < 0.08:
            self.owned.append((who[0], device))
        self.rows.append(("assign", who[0], device))

    def _unassign(self, chance: random.Random, who: tuple[str, ...], device: str) -> None:
        if chance.random() < 0.92:
            self.owned.append((who[0], device))
        self.rows.append(("unassign", who[0], device))

    def _transfer(self, chance: random.Random, who: tuple[str, ...], device: str) -> None:  # noqa: ARG002
        self.owned.append((who[0], device))
        self.rows += [("unassign", who[0], device), ("assign", who[1], device)]

    def _back_and_forth(self, chance: random.Random, who: tuple[str, ...], device: str) -> None:  # noqa: ARG002
        self.rows += [(action, who[0], device) for action in ("assign", "unassign", "assign")]

    def _chain(self, chance: random.Random, who: tuple[str, ...], device: str) -> None:  # noqa: ARG002
        self.owned.append((who[0], device))
        for giver, taker in ((0, 1), (1, 2)):
            self.rows += [("unassign", who[giver], device), ("assign", who[taker], device)]


def _device(chance: random.Random, number: int) -> str:
    kind = chance.choices(["SN", POISON, "UNKNOWN"], [96, 2, 2])[0]
    return f"{kind}-{number:05}"


@dataclass
class Figures:
    """The totals of all runs."""

    kills: int = 0
    runs: int = 0
    rows: int = 0
    requests: int = 0
    again: int = 0
    """Requests that partly repeat an earlier one, for any reason."""
    own: int = 0
    """Rows marked as possibly this run's own work."""
    unconfirmed: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        faults = sum(self.faults.values()) / max(1, self.requests)
        outcomes = ", ".join(f"{count} {name}" for name, count in self.outcomes.most_common())
        return (
            f"{self.kills} kills over {self.rows} rows in {self.runs} runs, {self.requests} requests, {faults:.0%} "
            f"of them with faults: {len(self.wrong)} lost, double, wrong or sent again; {self.own} rows marked as "
            f"perhaps this run's own work, {self.unconfirmed} unconfirmed ({outcomes})"
        )


class Lane:
    """Runs one after another, each with its own customers, on the server of the lane."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.chance = random.Random(seed)
        self.figures = Figures()

    def work(self, kills: int) -> Figures:
        """Until so many programs have been killed over about fifty times as many rows."""
        latency = random.Random(self.chance.random())
        script = faulty(random.Random(self.chance.random()), self.figures.faults)
        with Forge() as forge, Server(script, lambda: latency.uniform(0.0, 0.03)) as server:
            while self.figures.kills < kills or self.figures.rows < kills * ROWS_A_RUN // KILLS_A_RUN:
                self._run(server, forge)
        return self.figures

    def _run(self, server: Server, forge: Forge) -> None:
        folder = self.folder / str(self.figures.runs)
        world = World.made(self.chance)
        world.prepare(folder, server)
        place = Place(folder, server, forge, OPTIONS)
        trial = Trial(place, world)
        self.figures.kills += trial.carry_out(self.chance)
        self.figures.runs += 1
        self.figures.rows += len(world.rows)
        self.figures.requests += len(server.heard)
        trial.judge(self.figures)


class Trial:
    """One run with kills, and the check of its result."""

    def __init__(self, place: Place, world: World) -> None:
        self.place, self.world = place, world
        self.wrong: list[str] = []
        self.has_ended = False
        self.several_times = {key for key, count in Counter(world.rows).items() if count > 1}

    def carry_out(self, chance: random.Random) -> int:
        """Kill it some times, then let it end. Gives the number of kills."""
        kills, left, heard = 0, Left(), 0
        for _ in range(KILLS_A_RUN):
            code = self.place.run(kill_after=chance.uniform(0.02, 0.55))
            self._look_for_repeats(left, heard)
            if code != KILLED:
                break
            kills += 1
            # What a dead program has sent may still be on its way: it is no work of the next one.
            left, heard = left_by(self.place.run_folder), len(self.place.server.heard)
            if left.in_flight > CONCURRENCY * kills:
                self.wrong.append(f"{left.in_flight} attempts open after {kills} kills")
        else:
            code = self.place.run()
            self._look_for_repeats(left, heard)
        self.has_ended = code in (DONE, ATTENTION)
        if not self.has_ended:
            self.wrong.append(f"ended with {code}: {self.place.said}")
        return kills

    def _look_for_repeats(self, left: Left, heard: int) -> None:
        for one in self.place.server.heard[heard:]:
            if _is_repeat(one, left, self.several_times):
                self.wrong.append(f"settled, and sent again: {one.request}")

    def judge(self, figures: Figures) -> None:
        """Hold the books of the run against the server's log."""
        server = self.place.server
        server.settle()
        books = self.place.books if self.has_ended else []
        self._count(books)
        self._claims(books, figures)
        self._end_state(books)
        self.wrong += [f"{device} had two owners" for device in server.shared]
        figures.outcomes.update(row["outcome"] for row in books)
        figures.unconfirmed += sum(row["outcome"] == "unconfirmed" for row in books)
        asked = Counter(key for one in server.heard for key in one.asked)
        figures.again += sum(count - 1 for count in asked.values())
        figures.wrong += [f"{self.place.folder}: {what}" for what in self.wrong]

    def _count(self, books: list[dict[str, str]]) -> None:
        told = [(row["action"], row["customerEmail"], row["deviceIdentifier"]) for row in books]
        if told != self.world.rows:
            self.wrong.append(f"{len(self.world.rows)} rows went in, {len(told)} came out, or others")
        path = self.place.run_folder / "summary.json"
        summary = json.loads(path.read_text()) if path.exists() else {"balanced": False, "state": "nothing"}
        if not summary["balanced"] or summary["state"] != "finished":
            self.wrong.append(f"the summary says {summary['state']}")
        self.wrong += [f"line {row['line']} is {row['outcome']}" for row in books if row["outcome"] in UNFINISHED]

    def _claims(self, books: list[dict[str, str]], figures: Figures) -> None:
        """What was done is at least what is claimed, and at most that and what is marked as doubtful."""
        done, sure, doubtful = self._done(), Counter[Key](), Counter[Key]()
        for row in books:
            key = (row["action"], row["customerEmail"], row["deviceIdentifier"])
            sure[key] += row["outcome"] in ("assigned", "unassigned")
            own = is_marked(row)
            figures.own += own
            doubtful[key] += own or row["outcome"] == "unconfirmed"
        for key in {*done, *sure}:
            if not sure[key] <= done[key] <= sure[key] + doubtful[key]:
                outcomes = [row["outcome"] for row in books if row["deviceIdentifier"] == key[2]]
                self.wrong.append(f"{key} was done {done[key]} times, and said to be {outcomes}")

    def _done(self) -> Counter[Key]:
        return Counter(
            (one.seen.action, one.seen.customer, device) for one in self.place.server.heard for device in one.changed
        )

    def _end_state(self, books: list[dict[str, str]]) -> None:
        """Where the last row of a pair succeeded, the device is where it says."""
        last = {(row["customerEmail"], row["deviceIdentifier"]): row for row in books}
        for (customer, device), row in last.items():
            owns = customer in self.place.server.fleet.owners(device)
            if row["outcome"] in ("assigned", "alreadyAssigned") and not owns:
                self.wrong.append(f"{device} should be with {customer}")
            if row["outcome"] in ("unassigned", "skipped") and row["action"] == "unassign" and owns:
                self.wrong.append(f"{device} should not be with {customer}")
        self.wrong += [
            f"line {row['line']} is held, and was sent"
            for row in books
            if row["outcome"] == "held" and ("assign", row["customerEmail"], row["deviceIdentifier"]) in self._done()
        ]


UNFINISHED = ("notSent", "invalid", "duplicate")
"""Outcomes that no row of these inputs may have at the end."""


def _is_repeat(one: Heard, left: Left, several_times: set[Key]) -> bool:
    """Return whether this was sent although the journal had an answer for it."""
    if one.asked & several_times:
        return False  # asked once more in a later stage, and rightly so
    return one.request in left.ended or bool(one.asked & left.settled)


@pytest.fixture
def lanes(tmp_path: Path) -> list[Lane]:
    seed = int(os.environ.get("TESTS_SEED", "1"))
    return [Lane(tmp_path / str(number), 1000 * seed + number) for number in range(LANES)]


def test_random_kills_lose_no_row_and_report_no_wrong_outcome(lanes: list[Lane]) -> None:
    began = time.monotonic()
    total = Figures()
    with ThreadPoolExecutor(LANES) as threads:
        for figures in threads.map(lambda lane: lane.work(-(-KILLS // LANES)), lanes):
            for name, value in vars(figures).items():
                setattr(total, name, getattr(total, name) + value)
    sys.stdout.write(f"\n{total}; {time.monotonic() - began:.0f} s\n")
    assert total.wrong == []
    assert total.kills >= KILLS
