"""Faults of the network, the API and the disk, with real sockets and the program in its own process.

Each test also checks that every row has one outcome, that nothing settled is sent again, that the server agrees with
the outcomes, and that no file contains the key.
"""

import json
import math
import os
import re
import resource
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from telemetron_batch.domain.outcomes import Outcome
from tests.support.books import reconciliation_of
from tests.support.disks import fill, small_disk
from tests.support.faulty import (
    ActsLate,
    Adds,
    Arrived,
    Bucket,
    Cuts,
    Drips,
    Fault,
    FaultyServer,
    FixedWindow,
    Leaves,
    Limit,
    Raw,
    Resets,
    SlidingWindow,
    bomb,
)
from tests.support.nginx import BINARY, nginx, refused
from tests.support.scripted import Hangs, Loses, Rewrites, Says

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
KEY = "key-of-the-fault-tests-0123456789"
LONG = int(os.environ.get("TESTS_TIMES", "1"))
"""Multiplies the calls of the tests that measure; by 1 the whole file takes some five minutes."""
IN_FLIGHT = 8
HEADER = ("customerEmail", "deviceIdentifier", "action")

Row = tuple[str, ...]


def customers(count: int, first: int = 0) -> list[Row]:
    """One call each."""
    return [(f"user{number:04}@x.com", f"SN-{number:05}", "assign") for number in range(first, first + count)]


def many(count: int, customer: str, action: str = "assign") -> list[Row]:
    """Devices of one customer."""
    return [(customer, f"SN-{customer.partition('@')[0]}-{number:05}", action) for number in range(count)]


@dataclass
class Ended:
    """A process that has ended."""

    code: int
    out: str
    err: str
    peak: int = 0
    """Peak memory in bytes."""
    seconds: float = 0.0


class Place:
    """A folder with an input, and a faulty server to run the program against."""

    def __init__(self, folder: Path, server: FaultyServer) -> None:
        self.folder, self.server = folder, server
        self.reports = folder / "reports"
        self.input = folder / "rows.csv"
        self.base_url = server.base_url
        self.rows: list[Row] = []
        self.ended: list[Ended] = []
        state = folder / "state"
        self.environment = {**os.environ, "TELEMETRON_API_KEY": KEY, "XDG_STATE_HOME": str(state)}
        self.program = ["-m", "telemetron_batch"]

    @property
    def run_folder(self) -> Path:
        return self.reports / "r"

    def write(self, rows: Sequence[Row], header: Sequence[str] = HEADER) -> None:
        self.rows = [*rows]
        self.input.write_text("\n".join(",".join(row) for row in [header, *rows]) + "\n")

    def start(self, *arguments: str, rate: str = "1000/s") -> subprocess.Popen[str]:
        command = [sys.executable, *self.program, "run", str(self.input), "--base-url", self.base_url, "--rate", rate]
        command += ["--reports-dir", str(self.reports), "--run-id", "r", *arguments]
        return subprocess.Popen(
            command, cwd=ROOT, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def end(self, process: subprocess.Popen[str], within: float = 120.0) -> Ended:
        """Wait for the process, and watch its memory until it ends."""
        began, peak, words = time.monotonic(), 0, ("", "")
        try:
            while process.returncode is None:
                peak = max(peak, _peak(process.pid))
                with suppress(subprocess.TimeoutExpired):
                    words = process.communicate(timeout=0.1)
                assert time.monotonic() - began < within, f"still running after {within} s"
        finally:
            if process.returncode is None:
                process.kill()
                process.communicate()
        self.ended.append(Ended(process.returncode, *words, peak, time.monotonic() - began))
        return self.ended[-1]

    def finish(self, *arguments: str, rate: str = "1000/s") -> Ended:
        return self.end(self.start(*arguments, rate=rate))

    @property
    def lines(self) -> list[dict[str, str]]:
        return reconciliation_of(self.run_folder)

    @property
    def outcomes(self) -> Counter[str]:
        return Counter(line["outcome"] for line in self.lines)

    @property
    def summary(self) -> dict[str, Any]:
        return json.loads((self.run_folder / "summary.json").read_text())

    def by_customer(self) -> dict[str, dict[str, str]]:
        """The last line of each customer."""
        return {line["customerEmail"]: line for line in self.lines}

    def check_books(self, again: int = 0) -> None:
        """What must hold however a run ended; `again` devices may have been asked for twice."""
        lines, summary = self.lines, self.summary
        assert [tuple(line[name] for name in HEADER) for line in lines] == [row[:3] for row in self.rows]
        assert {line["outcome"] for line in lines} <= set(Outcome)
        assert summary["balanced"] is True
        assert summary["rows"] == len(self.rows) == sum(summary["counts"].values())
        assert {name: count for name, count in summary["counts"].items() if count} == self.outcomes
        assert sum(times > 1 for times in self.server.told.values()) <= again, "settled, and asked again"
        self.check_secret()
        self._check_server(lines)

    def check_secret(self) -> None:
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        assert [path.name for path in files if KEY.encode() in path.read_bytes()] == []
        assert not any(KEY in ended.out + ended.err for ended in self.ended)

    def check_one_line(self, ended: Ended) -> None:
        """Besides what it tells of its progress, the program says in one line why it ended."""
        said = [line for line in ended.err.splitlines() if not TALK.match(line)]
        assert len(said) == 1, ended.err
        assert said[0].startswith(("Error: ", "Stopped: ")), ended.err

    def _check_server(self, lines: Sequence[dict[str, str]]) -> None:
        """What a row says is done is what the server holds; what it says is not done, it does not."""
        last = {(line["customerEmail"], line["deviceIdentifier"]): line for line in lines}
        for (customer, device), line in last.items():
            owned = customer in self.server.fleet.owners(device)
            match line["outcome"]:
                case "assigned" | "alreadyAssigned":
                    assert owned, line
                case "unassigned":
                    assert not owned, line
                case "failed" | "notSent" | "held":
                    assert owned == (line["action"] == "unassign"), line
                case "skipped":
                    assert not owned, line


TALK = re.compile(r"rows\.csv \(|[\d,]+ rows?: |(hold|down|up|foreign): ")
"""How lines of progress begin."""


def _peak(pid: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    return 0


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with FaultyServer() as server:
        yield Place(tmp_path, server)


def first_time(fault: Fault) -> Any:
    """Apply a fault to the first assign or unassign of each customer."""
    asked: set[str] = set()

    def script(arrived: Arrived) -> Fault:
        if arrived.action == "query" or arrived.customer in asked:
            return None
        asked.add(arrived.customer)
        return fault

    return script


def tell(text: str) -> None:
    sys.stdout.write(f"\n  {text}\n")


# Missing answers


@pytest.mark.parametrize("fault", [Loses(), Resets(), Cuts(0.9), Cuts(0.1), Hangs()], ids=repr)
def test_a_lost_answer_costs_one_retry_and_marks_every_row_it_may_affect(place: Place, fault: Fault) -> None:
    place.write(customers(24))
    place.server.fleet.assign("user0007@x.com", ["SN-00007"])
    place.server.script = first_time(fault)
    assert place.finish("--timeout", "0.5").code == 0
    assert len(place.server.seen) == 48
    assert place.outcomes == {"alreadyAssigned": 24}
    assert {(line["attempts"], line["unclearAttempts"]) for line in place.lines} == {("2", "1")}
    assert all("may be this run's own work" in line["detail"] for line in place.lines)
    place.check_books()


def test_with_a_baseline_a_lost_answer_is_attributed_exactly(place: Place) -> None:
    place.write([*customers(24), *((f"user{n:04}@x.com", f"OLD-{n}", "unassign") for n in range(24))])
    for n in range(0, 24, 2):
        place.server.fleet.assign(f"user{n:04}@x.com", [f"OLD-{n}", f"SN-{n:05}"])
    for n in range(1, 24, 2):
        place.server.fleet.assign(f"user{n:04}@x.com", ["OTHER"])
    lost: set[tuple[str, str]] = set()

    def script(arrived: Arrived) -> Fault:
        if arrived.action == "query" or (arrived.action, arrived.customer) in lost:
            return None
        lost.add((arrived.action, arrived.customer))
        return Loses()

    place.server.script = script
    assert place.finish("--baseline").code == 0
    outcomes = {(line["action"], int(line["customerEmail"][4:8]) % 2): line["outcome"] for line in place.lines}
    assert outcomes == {
        ("assign", 0): "alreadyAssigned",
        ("assign", 1): "assigned",
        ("unassign", 0): "unassigned",
        ("unassign", 1): "skipped",
    }
    assert place.outcomes == {"alreadyAssigned": 12, "assigned": 12, "unassigned": 12, "skipped": 12}
    place.check_books()


@pytest.mark.parametrize("fault", [Loses(acted=False), Resets(acted=False)], ids=repr)
def test_a_connection_that_breaks_before_the_server_acts_leaves_no_wrong_outcome(place: Place, fault: Fault) -> None:
    place.write(customers(40))
    place.server.script = first_time(fault)
    assert place.finish().code == 0
    assert place.outcomes == {"assigned": 40}
    assert len(place.server.seen) == 80
    place.check_books()


def test_connections_reset_immediately_are_retried(place: Place) -> None:
    place.write(customers(40))
    place.server.slam = 6
    assert place.finish().code == 0
    assert place.outcomes == {"assigned": 40}
    assert len(place.server.seen) == 40
    place.check_books()


def test_a_firewall_that_resets_connections_beyond_its_limit_slows_the_run_down(place: Place) -> None:
    place.write(customers(80))
    place.server.firewall = SlidingWindow(20, 6.0, retry_after=False)
    place.server.script = lambda _: Leaves()
    assert place.finish(rate="50/s").code == 0
    assert place.outcomes == {"assigned": 80}
    told = [event["text"] for event in place.summary["events"] if event["kind"] == "refused"]
    assert len(told) == 1
    assert "firewall" in told[0]
    assert "--rate" in told[0]
    assert place.server.reset_by_firewall < 80
    place.check_books()


def test_refused_connections_are_retried_and_leave_no_unclear_row(place: Place) -> None:
    place.write(customers(6))
    place.server.refuse_connections()
    process = place.start()
    time.sleep(3)
    place.server.accept_connections()
    assert place.end(process).code == 0
    assert place.outcomes == {"assigned": 6}
    assert place.summary["attempts"] > 6
    assert {line["unclearAttempts"] for line in place.lines} == {"0"}
    place.check_books()


def test_hanging_and_slow_answers_leave_all_connections_usable(place: Place) -> None:
    bad, good = 96 * LONG, 120
    place.write(customers(bad + good))
    hangs, drips = first_time(Hangs()), first_time(Drips())
    healthy: list[tuple[int, int]] = []

    def script(arrived: Arrived) -> Fault:
        number = int(arrived.customer[4:8])
        if number < bad:
            return (hangs if number % 2 else drips)(arrived)
        healthy.append((arrived.connection, place.server.in_flight))
        return None

    place.server.script, place.server.latency = script, 0.1
    assert place.finish("--timeout", "0.5").code == 0
    assert place.server.most_open <= 2 * IN_FLIGHT
    half = healthy[good // 2 :]  # by then no faulty call is about any more
    assert max(in_flight for _, in_flight in half) >= IN_FLIGHT
    assert len({connection for connection, _ in half}) >= IN_FLIGHT
    place.check_books()


def test_a_connection_closed_on_reuse_loses_and_repeats_nothing(place: Place) -> None:
    place.write(customers(60 * LONG))
    place.server.script = lambda arrived: Loses(acted=False) if arrived.nth > 1 else None
    assert place.finish("--attempts", "30").code == 0
    assert place.outcomes == {"assigned": 60 * LONG}
    assert place.summary["unclearAttempts"] > 20
    place.check_books()


def test_connections_closed_between_requests_are_replaced(place: Place) -> None:
    place.write(customers(300 * LONG))
    place.server.script = lambda _: Leaves()
    assert place.finish().code == 0
    assert place.outcomes == {"assigned": 300 * LONG}
    tell(f"closed after each answer: {place.summary['attempts'] - 300 * LONG} calls of {300 * LONG} tried again")
    place.check_books()


def test_a_request_processed_long_after_its_timeout_does_not_undo_a_later_row(place: Place) -> None:
    place.write([("a@x.com", "SN-1", "assign"), ("a@x.com", "SN-1", "unassign"), *customers(5)])
    late = iter([ActsLate(4.0)])
    place.server.script = lambda arrived: next(late, None) if arrived.customer == "a@x.com" else None
    assert place.finish("--timeout", "1").code in (0, 1)
    time.sleep(max(0.0, place.server.seen[0].at + 5 - time.monotonic()))
    assert place.server.fleet.owners("SN-1") == set()
    place.check_books()


def test_every_outcome_is_true_if_a_third_of_all_requests_fail(place: Place) -> None:
    ways: list[Fault] = [
        Loses(), Loses(acted=False), Resets(), Resets(acted=False), Cuts(0.5), Says(500, {"error": "boom"}),
        Says(502, b"<html>Bad gateway</html>"), Says(200, b"<html>"), Raw(b"HTTP/9 banana\r\n\r\n"),
        Says(409, {"error": "busy"}), Says(200, b'{"success": tr'), Hangs(),
    ]  # fmt: skip
    moves = [(f"old{n}@x.com", f"M-{n}", "unassign") for n in range(60)]
    moves += [(f"new{n}@x.com", f"M-{n}", "assign") for n in range(60)]
    for customer, device, _ in moves[:60]:
        place.server.fleet.assign(customer, [device])
    place.write([*customers(120), *many(30, "bulk@x.com"), *moves])
    place.server.script = lambda arrived: ways[arrived.number // 3 % len(ways)] if arrived.number % 3 == 0 else None
    assert place.finish("--timeout", "1").code == 0
    assert set(place.outcomes) <= {"assigned", "alreadyAssigned", "unassigned", "skipped"}
    assert all(place.server.fleet.owners(f"M-{n}") == {f"new{n}@x.com"} for n in range(60))
    doubtful = [line for line in place.lines if line["outcome"] in ("alreadyAssigned", "skipped")]
    assert doubtful
    assert all(int(line["unclearAttempts"]) for line in doubtful)
    place.check_books()


# Limits


LIMITS = [
    pytest.param(FixedWindow, 50, 1.0, id="fixed 50 a second"),
    pytest.param(SlidingWindow, 50, 1.0, id="sliding 50 a second"),
    pytest.param(SlidingWindow, 250, 5.0, id="sliding 250 in 5 s"),
    pytest.param(Bucket, 50, 1.0, id="bucket of 20, 50 a second"),
]


@pytest.mark.parametrize(("kind", "calls", "seconds"), LIMITS)
def test_an_unknown_limit_fails_no_row_and_is_rarely_exceeded(
    tmp_path: Path, kind: type[Limit], calls: int, seconds: float
) -> None:
    count, started = 500 * LONG, []
    with ExitStack() as servers:
        for retry_after in (False, True):
            server = servers.enter_context(FaultyServer(kind(calls, seconds, retry_after=retry_after), latency=0.05))
            (folder := tmp_path / str(retry_after)).mkdir()
            place = Place(folder, server)
            place.write(customers(count))
            started.append((place, place.start("--attempts", "2", "--max-failed", "0")))
        for place, process in started:
            place.end(process)
        for place, _ in started:
            _check_limit(place, count)


def _check_limit(place: Place, count: int) -> None:
    assert place.ended[-1].code == 0, place.ended[-1].err
    assert place.outcomes == {"assigned": count}
    limit = place.server.script
    assert isinstance(limit, Limit)
    refused, used = place.server.refusals / len(place.server.seen), limit.shortest(count) / _span(place.server)
    tell(
        f"{type(limit).__name__} {limit.calls}/{limit.seconds:g} s {'with' if limit.retry_after else 'without'} "
        f"Retry-After, {count} calls: {refused:.1%} refused, {used:.0%} used"
    )
    assert refused <= 0.06
    assert place.summary["refusals"] == place.server.refusals
    place.check_books()


def _span(server: FaultyServer) -> float:
    return server.seen[-1].at - server.seen[0].at


def test_a_limit_far_below_the_rate_is_found_with_one_call_at_a_time(place: Place) -> None:
    place.write(customers(40))
    place.server.script = Bucket(5, 1.0, retry_after=False, burst=1)
    assert place.finish("--concurrency", "1").code == 0
    assert place.outcomes == {"assigned": 40}
    tell(f"Bucket of 1, 5/s, 40 calls one at a time: refused {place.server.refusals / len(place.server.seen):.1%}")
    place.check_books()


@pytest.mark.skipif(BINARY is None, reason="nginx is not installed")
@pytest.mark.parametrize("burst", ["", "burst=5 nodelay"], ids=["no burst", "burst of 5"])
def test_nginx_that_throttles_with_a_bare_503_fails_no_row(place: Place, burst: str) -> None:
    count = 200 * LONG
    place.write(customers(count))
    place.server.latency = 0.05
    with nginx(place.folder / "nginx", place.server.port, burst) as port:
        place.base_url = place.base_url.replace(f":{place.server.port}/", f":{port}/")
        assert place.finish(rate="200/s").code == 0
    away = refused(place.folder / "nginx")
    assert place.outcomes == {"assigned": count}
    used = (count - 1) / 20 / _span(place.server)
    unclear = sum(line["unclearAttempts"] != "0" for line in place.lines)
    tell(
        f"nginx 20r/s {burst or 'no burst'}, {count} calls: {away / (away + len(place.server.seen)):.1%} refused, "
        f"{used:.0%} used, {unclear} rows with unclear attempts, {place.summary['refusals']} taken for throttling"
    )
    place.check_books()


def script_once_at(number: int, fault: Fault) -> Any:
    """Apply a fault to one request."""
    return lambda arrived: fault if arrived.number == number else None


def _quiet_after(server: FaultyServer, number: int) -> float:
    """Return the seconds without a request after the one with this number (and those then in flight)."""
    refused = server.seen[number - 1].at
    return min(one.at for one in server.seen if one.at > refused + 0.3) - refused


@pytest.mark.parametrize(
    ("date", "retry_after", "least"),
    [
        (0, lambda _: "3", 3.0),
        (7200, lambda at: formatdate(at + 3, usegmt=True), 2.0),
        (-7200, lambda at: formatdate(at + 3, usegmt=True), 2.0),
        (0, lambda at: str(int(at) + 3), 2.0),
    ],
    ids=["seconds", "date of a clock two hours fast", "date of a clock two hours slow", "epoch"],
)
def test_nothing_is_sent_while_the_api_asks_to_wait(place: Place, date: float, retry_after: Any, least: float) -> None:
    place.write(customers(30))

    def script(arrived: Arrived) -> Fault:
        at = time.time() + date
        headers = {"Retry-After": retry_after(at), "Date": formatdate(at, usegmt=True)}
        return Says(429, {"error": "slow down"}, headers) if arrived.number == 10 else None

    place.server.script = script
    assert place.finish(rate="40/s").code == 0
    quiet = _quiet_after(place.server, 10)
    assert least <= quiet <= 6
    place.check_books()


def test_an_invalid_retry_after_is_ignored(place: Place) -> None:
    place.write(customers(80))
    nonsense = iter(["\u00b2", "-5", "soon", "", "1e9", "99999999999999999999", "Wed, 99 Foo 2099 00:00:00 GMT"])

    def script(arrived: Arrived) -> Fault:
        text = next(nonsense, None) if arrived.number % 10 == 0 else None
        return None if text is None else Says(429, {"error": "slow down"}, {"Retry-After": text})

    place.server.script = script
    ended = place.finish(rate="40/s")
    assert ended.code == 0, ended.err
    assert next(nonsense, None) is None
    held = [float(told) for told in re.findall(r"waiting ([\d.]+) s", (place.run_folder / "run.log").read_text())]
    assert 0 < max(held) < 1, "our own pause, and no other"
    place.check_books()


def test_an_api_that_asks_to_wait_for_a_day_stops_the_run(place: Place) -> None:
    place.write(customers(60))
    place.server.script = script_once_at(20, Says(429, {"error": "quota"}, {"Retry-After": "86400"}))
    ended = place.finish(rate="40/s")
    assert ended.code == 3
    assert "asks to wait" in ended.err
    sent = len(place.server.seen)
    assert sent <= 20 + IN_FLIGHT
    again = place.finish(rate="40/s")
    assert again.code == 3
    assert len(place.server.seen) == sent, "the next process has forgotten what the API asked for"
    place.check_books()


def test_a_quota_in_a_header_is_respected(place: Place) -> None:
    place.write(customers(40))
    told = Adds({"RateLimit": '"d";r=3;t=3', "RateLimit-Policy": '"d";q=20;w=3'})
    place.server.script = script_once_at(20, told)
    assert place.finish("--concurrency", "2", rate="40/s").code == 0
    at = place.server.seen[19].at + 0.1
    assert sum(at < one.at < at + 2.8 for one in place.server.seen) <= 3
    assert place.server.seen[-1].at - at < 6
    place.check_books()


def test_a_spent_quota_with_a_429_pauses_all_calls(place: Place) -> None:
    place.write(customers(40))
    spent = Says(429, {"error": "slow down"}, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "3"})
    place.server.script = script_once_at(20, spent)
    assert place.finish(rate="40/s").code == 0
    assert 3 <= _quiet_after(place.server, 20) <= 5
    place.check_books()


STEPPING = """
import time
real, began = time.time, time.monotonic()
time.time = lambda: real() + (-3600, 3600)[int(time.monotonic() - began) % 2]
from telemetron_batch.cli.commands import main
main()
"""


def test_a_jump_of_the_local_clock_changes_neither_rate_nor_waits(place: Place) -> None:
    place.program = ["-c", STEPPING]
    place.write(customers(120))

    def script(arrived: Arrived) -> Fault:
        at = time.time()
        headers = {"Retry-After": formatdate(at + 3, usegmt=True), "Date": formatdate(at, usegmt=True)}
        return Says(429, {"error": "slow down"}, headers) if arrived.number == 60 else None

    place.server.script = script
    ended = place.finish(rate="40/s")
    assert ended.code == 0, ended.err
    assert 2 <= _quiet_after(place.server, 60) <= 6
    times = [one.at for one in place.server.seen]
    shortest = min(later - first for first, later in zip(times, times[40:], strict=False))
    tell(f"a clock that jumps by hours: 41 arrivals at 40/s within {shortest:.3f} s at the least")
    assert shortest >= 0.9  # this machine's own delays
    assert times[-1] - times[0] < 12
    place.check_books()


# Outages and refusals of the client


def test_a_run_survives_an_outage_with_few_probes(tmp_path: Path) -> None:
    started = []
    with ExitStack() as servers:
        for refused in (False, True):
            server = servers.enter_context(FaultyServer(latency=0.02))
            (folder := tmp_path / str(refused)).mkdir()
            place = Place(folder, server)
            place.write(customers(300))
            server.script = outage = Outage(server, refused=refused)
            started.append((place, outage, place.start(rate="50/s")))
        for place, _, process in started:
            place.end(process)
        for place, outage, _ in started:
            _check_outage(place, outage)


class Outage:
    """Take the API down for 12 seconds at the 60th request."""

    def __init__(self, server: FaultyServer, *, refused: bool) -> None:
        self.server, self.refused, self.over = server, refused, math.inf

    def __call__(self, arrived: Arrived) -> Fault:
        if arrived.number == 60:
            self.over = arrived.at + 12
            if self.refused:
                threading.Thread(target=_away, args=(self.server, 12)).start()
        away = arrived.number >= 60 and arrived.at < self.over
        return Says(502, b"<html>Bad gateway</html>") if away and not self.refused else None


def _check_outage(place: Place, outage: Outage) -> None:
    assert place.ended[-1].code == 0, place.ended[-1].err
    assert set(place.outcomes) <= {"assigned", "alreadyAssigned"}
    went_in = place.summary["attempts"] - 300
    back = next(one.at for one in place.server.seen if one.at >= outage.over) - outage.over
    how = "connections refused" if outage.refused else "502"
    tell(f"outage of 12 s ({how}): {went_in} attempts into it, its end noticed after {back:.1f} s")
    assert went_in <= 150
    place.check_books()


def _away(server: FaultyServer, seconds: float) -> None:
    server.refuse_connections()
    time.sleep(seconds)
    server.accept_connections()


def test_an_outage_that_lasts_too_long_stops_the_run_and_the_same_command_completes_it(place: Place) -> None:
    place.write(customers(100))
    place.server.script = lambda arrived: Says(502, b"") if arrived.number > 30 else None
    ended = place.finish("--give-up-after", "3s", rate="100/s")
    assert ended.code == 3
    place.check_one_line(ended)
    assert set(place.outcomes) <= {"assigned", "unconfirmed", "notSent"}
    place.check_books()
    place.server.script = lambda _: None
    assert place.finish().code == 0
    assert set(place.outcomes) <= {"assigned", "alreadyAssigned"}
    place.check_books()


def test_a_revoked_key_stops_the_run_and_a_new_key_completes_it(place: Place) -> None:
    place.write(customers(200))
    place.server.latency = 0.02

    def script(arrived: Arrived) -> Fault:
        revoked = arrived.number >= 80 and arrived.headers["x-api-key"] == KEY
        return Says(401, {"error": "Invalid or missing API key"}) if revoked else None

    place.server.script = script
    ended = place.finish()
    assert ended.code == 4
    place.check_one_line(ended)
    followed = len(place.server.seen) - 80
    tell(f"key revoked: {followed} calls followed the first 401")
    assert followed <= IN_FLIGHT
    assert set(place.outcomes) == {"assigned", "notSent"}
    place.check_books()
    place.environment["TELEMETRON_API_KEY"] = "the-new-key-0123456789"
    assert place.finish().code == 0
    assert place.outcomes == {"assigned": 200}
    assert not any(b"the-new-key" in path.read_bytes() for path in place.folder.rglob("*") if path.is_file())
    place.check_books()


@pytest.mark.parametrize("status", [302, 307])
def test_a_redirect_is_not_followed(place: Place, status: int) -> None:
    place.write(customers(20))
    with FaultyServer() as elsewhere:
        place.server.script = lambda arrived: Says(status, b"", {"Location": elsewhere.base_url + arrived.path[11:]})
        ended = place.finish()
        assert elsewhere.connections == 0
    assert ended.code == 4
    place.check_one_line(ended)
    assert len(place.server.seen) <= IN_FLIGHT
    assert place.outcomes == {"notSent": 20}
    place.check_books()


# Refusals and odd answers


def test_a_poison_device_in_500_costs_at_most_20_more_calls_and_two_at_most_40(place: Place) -> None:
    poison = {f"one{at}@x.com": [at] for at in (0, 1, 2, 77, 128, 249, 250, 333, 498, 499)}
    poison |= {f"two{a}-{b}@x.com": [a, b] for a, b in ((0, 1), (0, 499), (249, 250), (100, 400), (3, 77), (498, 499))}
    place.write([row for customer in poison for row in many(500, customer)])
    bad = {many(500, customer)[at][1] for customer, places in poison.items() for at in places}

    def script(arrived: Arrived) -> Fault:
        return Says(400, {"error": "=This one is locked"}) if bad & {*arrived.devices} else None

    place.server.script = script
    assert place.finish().code == 1
    assert {line["deviceIdentifier"] for line in place.lines if line["outcome"] == "failed"} == bad
    assert place.outcomes == {"assigned": 500 * len(poison) - len(bad), "failed": len(bad)}
    calls = Counter(arrived.customer for arrived in place.server.seen)
    one = [calls[customer] - 1 for customer in poison if customer.startswith("one")]
    two = [calls[customer] - 1 for customer in poison if customer.startswith("two")]
    tell(
        f"one poison device in 500: {max(one)} more calls at most, {sum(one) / len(one):.1f} on average; "
        f"two: {max(two)}, {sum(two) / len(two):.1f}"
    )
    assert max(one) <= 20
    assert max(two) <= 40
    assert not any(cell.startswith("=") for line in place.lines for cell in line.values())
    place.check_books()


def test_a_poison_device_that_the_error_names_costs_three_calls(place: Place) -> None:
    place.write(many(500, "a@x.com"))
    bad = place.rows[321][1]
    locked = Says(422, {"error": f"Device {bad} is locked"})
    place.server.script = lambda arrived: locked if bad in arrived.devices else None
    assert place.finish().code == 1
    assert place.outcomes == {"assigned": 499, "failed": 1}
    assert len(place.server.seen) <= 3
    place.check_books()


@pytest.fixture
def at_most_37(place: Place) -> list[int]:
    """The sizes of the calls refused in a run against a server that answers 413 above 37 devices."""
    place.write([row for n in range(12) for row in many(200, f"big{n}@x.com")])
    place.server.script = lambda arrived: Says(413, b"") if len(arrived.devices) > 37 else None
    assert place.finish("--concurrency", "2").code == 0
    return [arrived.number for arrived in place.server.seen if len(arrived.devices) > 37]


def test_a_413_above_37_devices_fails_no_row_and_is_remembered_for_later_calls(
    place: Place, at_most_37: list[int]
) -> None:
    assert place.outcomes == {"assigned": 2400}
    seen = place.server.seen
    tell(f"413 above 37: {len(at_most_37)} refused of {len(seen)} calls for 12 times 200 devices")
    assert {seen[number - 1].customer for number in at_most_37} == {"big0@x.com", "big1@x.com"}
    assert len(seen) - len(at_most_37) <= 12 * 8
    place.check_books()


def test_a_413_above_37_devices_costs_each_call_in_flight_only_its_halvings(at_most_37: list[int]) -> None:
    assert len(at_most_37) <= 2 * 3


ODD: dict[str, Fault] = {
    "html": Says(200, b"<html>Welcome</html>", {"content-type": "text/html"}),
    "half": Says(200, b'{"success": true, "assignedDevices": ["SN'),
    "unsuccessful": Says(200, {"success": False, "message": "no"}),
    "truthy": Says(200, {"success": "true"}),
    "list": Says(200, [{"success": True}]),
    "empty": Says(200, b""),
    "nothing": Says(204, b""),
    "deep": Says(200, b"[" * 200_000),
    "deeper": Says(200, b'{"success":true,"assignedDevices":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}"),
    "number": Says(200, b'{"success":true,"assignedDevices":[' + b"9" * 10_000 + b"]}"),
    "notgzip": Says(200, b"not gzip", {"content-encoding": "gzip"}),
    "unknowncoding": Says(200, b"\x00\x01", {"content-encoding": "x-banana"}),
    "latin": Says(200, b'{"success": true, "message": "\xe9\xff"}', {"content-type": "application/json; charset=no"}),
    "banana": Raw(b"HTTP/9 banana\r\n\r\n"),
    "silence": Raw(b""),
    "headless": Raw(b'{"success": true}\r\n\r\n'),
    "short": Raw(b'HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{"success": true}'),
    "chunks": Raw(b'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{"success": true}'),
    "headers": Raw(b"HTTP/1.1 200 OK\r\n" + b"x-a: " + b"a" * 200_000 + b"\r\n\r\n"),
    "interim": Raw(b"HTTP/1.1 100 Continue\r\n\r\n" * 50),
    "switch": Raw(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n"),
}  # fmt: skip


def test_no_odd_answer_counts_as_success(place: Place) -> None:
    place.write([*[(f"{name}@x.com", f"ODD-{name}", "assign") for name in ODD], *customers(60)])
    place.server.script = lambda arrived: ODD.get(arrived.customer.partition("@")[0])
    ended = place.finish("--attempts", "2", "--timeout", "3", rate="60/s")
    assert ended.code == 1, ended.err
    became = {name: place.by_customer()[f"{name}@x.com"] for name in ODD}
    assert {name: line["outcome"] for name, line in became.items()} == dict.fromkeys(ODD, "unconfirmed")
    assert {line["attempts"] for line in became.values()} == {"2"}
    assert place.outcomes["assigned"] == 60
    assert "Traceback" not in ended.err
    place.check_books()


def _with_devices(change: Any) -> Rewrites:
    return Rewrites(lambda answer: answer | {"assignedDevices": change(answer["assignedDevices"])})


def test_answers_are_joined_by_identifier_in_any_order(place: Place) -> None:
    foreign = {"identifier": "SN-OF-NOBODY", "deviceId": "d", "wasCreated": False}
    ways: dict[str, Fault] = {
        "backwards": _with_devices(lambda devices: devices[::-1]),
        "foreign": _with_devices(lambda devices: [foreign, *devices]),
        "twice": _with_devices(lambda devices: devices * 2),
        "spaced": _with_devices(lambda devices: [one | {"identifier": f" {one['identifier']} "} for one in devices]),
        "cased": _with_devices(lambda devices: [one | {"identifier": one["identifier"].lower()} for one in devices]),
        "bare": _with_devices(lambda devices: [one["identifier"] for one in devices]),
        "omitted": _with_devices(lambda devices: devices[1:]),
        "both": Rewrites(lambda answer: answer | {"alreadyAssigned": answer["assignedDevices"][:1]}),
        "nulls": Rewrites(lambda answer: answer | {"skipped": None, "customerId": None}),
    }
    place.write([row for name in ways for row in many(4, f"{name}@x.com")])
    rewritten = {f"{name}@x.com": first_time(way) for name, way in ways.items()}
    place.server.script = lambda arrived: rewritten[arrived.customer](arrived)
    ended = place.finish()
    assert ended.code == 0, ended.err
    again = {arrived.customer: list(arrived.devices) for arrived in place.server.seen if len(arrived.devices) < 4}
    first = {customer: [many(4, customer)[0][1]] for customer in ("omitted@x.com", "both@x.com")}
    assert again == first
    changed = Counter(line["customerEmail"] for line in place.lines if line["outcome"] != "assigned")
    assert changed == {"omitted@x.com": 1, "both@x.com": 1}
    assert "SN-OF-NOBODY" in (place.run_folder / "run.log").read_text()
    place.check_books()


@pytest.mark.parametrize(
    "bombs",
    [
        1,
        IN_FLIGHT,
    ],
)
def test_a_compression_bomb_does_not_fill_the_memory_or_count_as_success(place: Place, bombs: int) -> None:
    place.write([*customers(20), *many(bombs, "bomb@x.com")])
    place.rows[20:] = [(f"bomb{n}@x.com", device, action) for n, (_, device, action) in enumerate(place.rows[20:])]
    place.write(place.rows)
    explodes = bomb(300)
    place.server.script = lambda arrived: explodes if arrived.customer.startswith("bomb") else None
    ended = place.finish("--attempts", "2")
    assert ended.code == 1, ended.err
    assert place.outcomes == {"unconfirmed": bombs, "assigned": 20}
    place.check_books()
    tell(f"{bombs} bombs of 300 MB at a time: {ended.peak >> 20} MiB at most")
    assert ended.peak < 300 * 10**6


# The disk


def test_a_full_disk_for_the_journal_stops_the_run_and_loses_nothing(place: Place) -> None:
    place.write(customers(200))
    place.server.latency = 0.02
    with small_disk(place.reports, "4m") as disk:
        place.server.script = lambda arrived: (fill(disk), None)[1] if arrived.number == 80 else None
        ended = place.finish()
        assert ended.code == 3, ended.err
        followed = len(place.server.seen) - 80
        tell(f"disk full for the journal: {followed} calls followed; said: {ended.err.splitlines()[-1]}")
        assert followed <= IN_FLIGHT
        assert "Traceback" not in ended.err
        place.check_one_line(ended)
        (disk / "filler").unlink()
        assert place.finish().code == 0
        assert set(place.outcomes) <= {"assigned", "alreadyAssigned"}
        repeated = [line for line in place.lines if line["outcome"] == "alreadyAssigned"]
        assert all(line["unclearAttempts"] == "1" for line in repeated)
        assert len(repeated) <= 2 * IN_FLIGHT
        assert len(place.server.seen) <= 200 + len(repeated)
        place.check_books(again=len(repeated))


@pytest.fixture
def full_at_the_end(place: Place) -> Iterator[Ended]:
    """A run whose disk is full after its last answer, without room for its files."""
    place.write([(*row, "x" * 2000) for row in [*customers(60), *many(2000, "bulk@x.com")]], (*HEADER, "note"))
    with small_disk(place.reports, "24m") as disk:
        place.server.script = lambda arrived: (fill(disk), None)[1] if arrived.number == 64 else None
        yield place.finish()


def test_a_full_disk_for_the_reports_stops_the_run_and_loses_nothing(place: Place, full_at_the_end: Ended) -> None:
    assert full_at_the_end.code == 3, full_at_the_end.err
    assert "make room" in full_at_the_end.err
    assert "reconciliation.csv" in full_at_the_end.err
    left = {path.name for path in place.run_folder.iterdir()}
    assert not [name for name in left if name.endswith(".new")]
    assert "reconciliation.csv" not in left  # what still fits is there: each file appears whole or not at all
    assert place.finish().code == 3
    (place.reports / "filler").unlink()
    assert place.finish().code == 0
    assert len(place.server.seen) == 64
    assert place.outcomes == {"assigned": 2060}
    place.check_books()


def test_a_full_disk_for_the_reports_is_a_one_line_error(place: Place, full_at_the_end: Ended) -> None:
    place.check_one_line(full_at_the_end)


def test_a_disk_too_small_for_the_run_sends_nothing(place: Place) -> None:
    place.write([(*row, "x" * 2000) for row in many(2000, "bulk@x.com")], (*HEADER, "note"))
    with small_disk(place.reports, "3m"):
        ended = place.finish()
        assert ended.code == 3
        place.check_one_line(ended)
        assert "nothing was sent" in ended.err
        assert place.server.seen == []


def test_a_disk_full_at_the_start_sends_nothing(place: Place) -> None:
    place.write(customers(20))
    with small_disk(place.reports, "8m") as disk:
        fill(disk)
        ended = place.finish()
        assert ended.code in (2, 3), ended.err
        place.check_one_line(ended)
        assert place.server.seen == []
        (disk / "filler").unlink()
        assert place.finish().code == 0
        place.check_books()


def test_a_full_disk_of_the_state_folder_sends_nothing(place: Place) -> None:
    place.write(customers(20))
    with small_disk(place.folder / "state", "64k") as disk:
        fill(disk)
        ended = place.finish()
        assert ended.code in (2, 3), ended.err
        place.check_one_line(ended)
        assert place.server.seen == []


def test_a_file_size_limit_stops_the_run_and_loses_nothing(place: Place) -> None:
    place.write(customers(200))
    place.server.latency = 0.02
    log = place.run_folder / "journal.sqlite3-wal"

    def script(arrived: Arrived) -> Fault:
        if arrived.number == 80:
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (log.stat().st_size, resource.RLIM_INFINITY))

    place.server.script = script
    process = place.start()
    ended = place.end(process)
    assert ended.code == 3, ended.err
    followed = len(place.server.seen) - 80
    tell(f"journal may not grow (EFBIG): {followed} calls followed; said: {ended.err.splitlines()[-1]}")
    assert followed <= IN_FLIGHT
    place.check_one_line(ended)
    place.server.script = lambda _: None
    assert place.finish().code == 0
    repeated = place.outcomes["alreadyAssigned"]
    assert place.outcomes["assigned"] + repeated == 200
    assert repeated <= 2 * IN_FLIGHT
    place.check_books(again=repeated)


def test_a_file_with_the_name_of_the_reports_folder_is_an_error_before_sending(place: Place) -> None:
    place.write(customers(20))
    place.reports.write_text("no folder")
    ended = place.finish()
    assert ended.code in (2, 3), ended.err
    place.check_one_line(ended)
    assert place.server.seen == []


@pytest.mark.parametrize("begun", [False, True], ids=["at the start", "between two runs"])
def test_an_unwritable_reports_folder_is_an_error_before_sending(place: Place, *, begun: bool) -> None:
    place.write(customers(60))
    with small_disk(place.reports, "8m") as disk:
        if begun:
            assert place.finish("--deadline", "1s", rate="20/s").code == 3
        sent = len(place.server.seen)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        ended = place.finish()
        assert ended.code in (2, 3), ended.err
        place.check_one_line(ended)
        assert len(place.server.seen) == sent
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        assert place.finish().code == 0
        assert len(place.server.seen) == 60
        place.check_books()


# Wrong journals


def _stopped(place: Place) -> dict[str, bytes]:
    """A stopped run, and the contents of its files."""
    place.write(customers(60))
    assert place.finish("--deadline", "1s", rate="20/s").code == 3
    return _bytes(place.run_folder)


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != "run.lock"}


def _check_refused(place: Place, before: dict[str, bytes], words: str) -> None:
    sent, rows = len(place.server.seen), place.input.read_bytes()
    ended = place.finish()
    assert ended.code == 2, ended.err
    place.check_one_line(ended)
    assert words in ended.err
    assert len(place.server.seen) == sent
    assert _bytes(place.run_folder) == before
    assert place.input.read_bytes() == rows
    place.check_secret()


def test_an_input_edited_between_a_stop_and_the_next_start_is_refused(place: Place) -> None:
    before = _stopped(place)
    rows = place.rows
    for edited in (rows[:-1], [*rows, *customers(1, 99)], rows[::-1]):
        place.write(edited)
        _check_refused(place, before, "another input")
    place.write(rows)
    assert place.finish().code == 0
    assert place.outcomes == {"assigned": 60}
    place.check_books()


def test_a_truncated_journal_is_refused_and_unchanged(place: Place) -> None:
    _stopped(place)
    journal = place.run_folder / "journal.sqlite3"
    whole = journal.read_bytes()
    for kept in (0, 1, 100, 4096, len(whole) // 2, len(whole) - 1):
        journal.write_bytes(whole[:kept])
        _check_refused(place, _bytes(place.run_folder), "journal.sqlite3")
    journal.write_bytes(whole)
    assert place.finish().code == 0
    place.check_books()


@pytest.mark.parametrize("foreign", ["text", "database"])
def test_a_foreign_file_with_the_journals_name_is_refused_and_unchanged(place: Place, foreign: str) -> None:
    place.write(customers(5))
    place.run_folder.mkdir(parents=True)
    journal = place.run_folder / "journal.sqlite3"
    if foreign == "text":
        journal.write_text("dear diary\n" * 1000)
    else:
        with sqlite3.connect(journal) as database:
            database.execute("CREATE TABLE results (id INTEGER PRIMARY KEY, call, attempt, answer)")
        database.close()
    _check_refused(place, _bytes(place.run_folder), "is not a journal")


def test_a_corrupt_journal_is_a_one_line_error_and_nothing_is_sent(place: Place) -> None:
    _stopped(place)
    journal = place.run_folder / "journal.sqlite3"
    whole, sent = journal.read_bytes(), len(place.server.seen)
    for page in (1, 2, 5, len(whole) // 4096 - 1):
        journal.write_bytes(whole[: page * 4096] + b"\xa5" * 4096 + whole[(page + 1) * 4096 :])
        ended = place.finish()
        assert ended.code == 2, ended.err
        place.check_one_line(ended)
        assert len(place.server.seen) == sent
