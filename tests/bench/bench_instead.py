"""Whole runs beside what a user would write instead: same server, same rate, same file.

The server is the stand-in API behind a limit equal to the rate that all are told; one
request in a hundred is answered 503, one in two hundred is carried out and not answered.
Each program leaves a record of what became of its rows. Whether that is true is judged
by the server's state. The programs are under `instead/`, as somebody who knows the API, the
tool and the trade would write them in an afternoon.

Ours runs twice: before it takes a device back it waits until an unheard attempt to give it can no
longer act, and how long that takes follows from the time-out. The others wait for nothing of the kind.
"""

# ruff: noqa: T201 - figures are all it is for

import compileall
import csv
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from telemetron_batch.sandbox.state import Assigned, SandboxState, Unassigned
from tests.bench.instead.common import KEY
from tests.support.faulty import Arrived, Fault, FaultyServer, Loses, Says, SlidingWindow

RATE = 100
LATENCY = 0.05
ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-instead/bin/python"
OURS = {"as it comes": (), "--timeout 5": ("--timeout", "5")}
"""Ours with these flags."""
INSTEAD = ("one_call_a_row", "with_dlt", "with_singer")
SAMPLE = ROOT / "sample_data/erp_export.csv"
# fmt: off
SAMPLE_WRONG = frozenset((
    307, 443, 1226, 495, 1333, 1077, 104, 498, 1774, 1981, 1664, 1061, 1868, 1884, 1065, 1146, 1781, 1820, 192,
    270, 675, 633, 643, 214, 718, 1899, 385,
))
# fmt: on
"""The lines that sample_data/README.md lists as not to be sent."""

Pair = tuple[str, str]
"""Customer and device."""


@dataclass(frozen=True)
class Asked:
    """A row as it stands in the file."""

    line: int
    pair: Pair
    action: str
    wrong: bool

    @property
    def key(self) -> tuple[str, ...]:
        return (*self.pair, self.action)


@dataclass
class Task:
    """A file, and what it asks for."""

    path: Path
    rows: list[Asked]
    leavers: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """By device, whom it is to be taken from."""
    wanted: dict[Pair, str] = field(default_factory=dict)
    """What the last row of each pair asks for."""

    def __post_init__(self) -> None:
        for row in self.right:
            self.wanted[row.pair] = row.action
            if row.action == "unassign":
                self.leavers[row.pair[1]].add(row.pair[0])

    @property
    def right(self) -> list[Asked]:
        return [row for row in self.rows if not row.wrong]


class WatchedFleet(SandboxState):
    """Notes what changes, and which device is given while one whom it is to be taken from still has it."""

    def __init__(self, leavers: Mapping[str, set[str]]) -> None:
        super().__init__()
        self._leavers = leavers
        self.changed: set[tuple[str, ...]] = set()
        self.with_two: set[str] = set()
        self.unknown: set[str] = set()

    def assign(self, email: str, devices: Iterable[str], *, create: bool = False) -> Assigned | None:
        devices = [*devices]
        done = super().assign(email, devices, create=create)
        self.unknown.update(devices if done is None else done.skipped)
        for device in () if done is None else done.assigned:
            self.changed.add((email, device.identifier, "assign"))
            if self.owners(device.identifier) & (self._leavers.get(device.identifier, set()) - {email}):
                self.with_two.add(device.identifier)
        return done

    def unassign(self, email: str, devices: Iterable[str]) -> Unassigned | None:
        done = super().unassign(email, devices)
        self.changed.update((email, device, "unassign") for device in (() if done is None else done.unassigned))
        return done


class Faults:
    """The limit; and some requests come to nothing, or to something that nobody hears of."""

    def __init__(self) -> None:
        self._limit = SlidingWindow(RATE, 1.0, retry_after=True)

    def __call__(self, arrived: Arrived) -> Fault:
        if arrived.number % 100 == 50:
            return Says(503, {"error": "Service unavailable"})
        return Loses() if arrived.number % 200 == 75 else self._limit(arrived)


@dataclass(frozen=True)
class Judged:
    """What a program did."""

    calls: int
    seconds: float
    silent: int
    """Rows of which its record says nothing."""
    untrue: int
    """Rows of which its record says what the server does not."""
    sent_wrong: int
    """Rows sent although they are wrong in themselves."""
    with_two: int
    """Devices that were with two customers on their way from one to the other."""
    left_wrong: int
    """Customer and device pairs that are not, in the end, as the file's last row about them asks."""


Outcomes = Callable[[Asked], str | None]


def judge(task: Task, fleet: WatchedFleet, seen: list[Arrived], outcome: Outcomes) -> tuple[int, ...]:
    """From `silent` to `left_wrong`: what is counted afterwards."""
    sent = {(one.customer, device) for one in seen for device in one.devices}
    owned = {(customer, device) for customer, device in task.wanted if customer in fleet.owners(device)}
    outcomes = {row.line: outcome(row) for row in task.rows}
    last = {row.pair: row for row in task.right}
    return (
        sum(said is None for said in outcomes.values()),
        sum(_untrue(row, outcomes[row.line], fleet, owned=pair in owned) for pair, row in last.items()),
        sum(row.wrong and row.pair in sent for row in task.rows),
        len(fleet.with_two),
        sum((pair in owned) != (action == "assign") for pair, action in task.wanted.items() if _known(pair, fleet)),
    )


def _known(pair: Pair, fleet: WatchedFleet) -> bool:
    return pair[1] not in fleet.unknown


def _untrue(row: Asked, said: str | None, fleet: WatchedFleet, *, owned: bool) -> bool:
    """Does the record say done where it is not so, or not done where this very program did it?"""
    if said in ("assigned", "alreadyAssigned"):
        return not owned
    if said == "unassigned" or (said == "skipped" and row.action == "unassign"):
        return owned
    return said is not None and said != "duplicate" and row.key in fleet.changed


def run_ours(more: Sequence[str], task: Task, base_url: str, folder: Path) -> Outcomes:
    """The program itself; its record says of each line what became of it."""
    flags = (*more, "--rate", f"{RATE}/s", "--reports-dir", str(folder), "--run-id", "ours", "--quiet")
    command = [sys.executable, "-m", "telemetron_batch", "run", str(task.path), "--base-url", base_url, *flags]
    environ = os.environ | {"TELEMETRON_API_KEY": KEY, "XDG_STATE_HOME": str(folder)}
    ended = subprocess.run(command, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL, check=False)
    assert ended.returncode in (0, 1), ended.returncode
    with (folder / "ours/reconciliation.csv").open(encoding="utf-8", newline="") as file:
        said = {int(row["line"]): row["outcome"] for row in csv.DictReader(file)}
    return lambda row: said.get(row.line)


def run_instead(name: str, task: Task, base_url: str, folder: Path) -> Outcomes:
    """An alternative; its record knows no lines, so rows that say the same share what is said of one."""
    record, log = folder / "record.csv", folder / "log.txt"
    record.touch()
    command = [str(PYTHON), "-m", f"tests.bench.instead.{name}", base_url, str(task.path), str(record), str(RATE)]
    environ = os.environ | {"RUNTIME__DLTHUB_TELEMETRY": "false", "HOME": str(folder)}
    with log.open("wb") as output:
        ended = subprocess.run(command, cwd=ROOT, env=environ, stdout=output, stderr=output, check=False)
    if ended.returncode:
        print(f"  {name} ended with {ended.returncode}: {log.read_text(errors='replace').splitlines()[-1:]}")
    with record.open(encoding="utf-8", newline="") as file:
        said = {(customer, device, action): outcome for customer, device, action, outcome in csv.reader(file)}
    return lambda row: next((said[key] for key in _spellings(row) if key in said), None)


def _spellings(row: Asked) -> Iterable[tuple[str, ...]]:
    """How a record may name a row: as it is meant, as a spreadsheet wrapped it, without the action nobody knew."""
    customer, device = row.pair
    return row.key, (customer, f'="{device}"', row.action), (customer, device, "")


def played(task: Task, run: Callable[[str, Path], Outcomes]) -> Judged:
    """One program against a world of its own."""
    fleet = WatchedFleet(task.leavers)
    fleet.seed((*row.pair, row.action) for row in task.right)
    server = FaultyServer(script=Faults(), latency=LATENCY, fleet=fleet)
    with tempfile.TemporaryDirectory() as folder, server:
        began = time.perf_counter()
        outcome = run(server.base_url, Path(folder))
        seconds = time.perf_counter() - began
        return Judged(len(server.seen), seconds, *judge(task, fleet, server.seen, outcome))


def sample() -> Task:
    """The sample of an ERP's export, as a CSV parser reads it."""
    rows = []
    with SAMPLE.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=";")
        header = next(reader)
        line = reader.line_num + 1
        for cells in reader:
            named = defaultdict(str, zip(header, cells, strict=False))
            serial = named["Serial Number"].strip().removeprefix('="').removesuffix('"')
            action = {"issue": "assign", "return": "unassign"}.get(named["Movement"].strip().lower(), "")
            rows.append(Asked(line, (named["E-Mail"].strip().lower(), serial), action, line in SAMPLE_WRONG))
            line = reader.line_num + 1
    return Task(SAMPLE, rows)


def generated(path: Path, rows: int = 20_000, customers: int = 1_000) -> Task:
    """A file of a rough week: transfers in either order, chains, returns, duplicates and damage."""
    chance = random.Random(7)
    weights = [1 / rank for rank in range(1, customers + 1)]
    places: list[tuple[float, tuple[str, str, str, bool]]] = []
    while len(places) < rows:
        a, b, c = (f"user{one:04d}@example.com" for one in chance.choices(range(customers), weights, k=3))
        place = float(len(places))
        for told in _story(chance, (a, b, c), f"SN-{len(places):08d}"):
            places.append((place, told))
            place += chance.uniform(1, 500)
    lines = [told for _, told in sorted(places[:rows])]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("customerEmail", "deviceIdentifier", "action"))
        writer.writerows(line[:3] for line in lines)
    return Task(path, [Asked(at, (line[0], line[1]), line[2], line[3]) for at, line in enumerate(lines, 2)])


def _story(chance: random.Random, customers: tuple[str, str, str], device: str) -> list[tuple[str, str, str, bool]]:
    """The rows about one device: customer, device, action, and whether the row is wrong."""
    a, b, c = customers
    kind = chance.random()
    if kind < 0.03:
        damage = chance.choice(
            ((a, "4.05012E+12"), (a, "#REF!"), (a, ""), ("two@at@example.com", device), ("", device))
        )
        return [(*damage, "assign", True)]
    told = [(a, "assign")]
    if kind < 0.13:
        told = [(a, "unassign")]
    elif kind < 0.16:
        told = [(a, "unassign"), (b, "assign")]
    elif kind < 0.18:
        told = [(b, "assign"), (a, "unassign")]
    elif kind < 0.19:
        told = [(a, "unassign"), (b, "assign"), (b, "unassign"), (c, "assign")]
    elif kind < 0.20:
        told = [(a, "assign"), (a, "unassign")]
    elif kind < 0.21:
        told = [(a, "assign"), (a, "assign")]
    return [(customer, device, action, False) for customer, action in told]


def compare(task: Task) -> None:
    """Print a line for each program."""
    wrong = sum(row.wrong for row in task.rows)
    print(f"{task.path.name}: {len(task.rows):,} rows, {wrong} of them wrong; told {RATE}/s")
    print(f"  {'':<16}calls  seconds  silent  untrue  wrong sent  with two  left wrong")
    for name in (*OURS, *(INSTEAD if PYTHON.exists() else ())):
        judged = played(task, partial(_run, name, task))
        counted = (judged.silent, judged.untrue, judged.sent_wrong, judged.with_two, judged.left_wrong)
        widths = (8, 8, 12, 10, 12)
        figures = "".join(f"{count:{width}}" for count, width in zip(counted, widths, strict=True))
        print(f"  {name:<16}{judged.calls:5}  {judged.seconds:7.1f}{figures}", flush=True)


def _run(name: str, task: Task, base_url: str, folder: Path) -> Outcomes:
    if name in INSTEAD:
        return run_instead(name, task, base_url, folder)
    return run_ours(OURS[name], task, base_url, folder)


def main() -> None:
    """Print all figures."""
    if not PYTHON.exists():
        print(f"without {', '.join(INSTEAD)}: `make bench` makes their environment")
    compileall.compile_dir(ROOT / "batch", quiet=1)  # as installed programs are
    with tempfile.TemporaryDirectory() as folder:
        for task in (sample(), generated(Path(folder) / "rough_week.csv")):
            compare(task)


if __name__ == "__main__":
    main()
