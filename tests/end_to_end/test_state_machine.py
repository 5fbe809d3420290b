"""Any history of faults, kills, third-party changes and repeated commands: the outcomes are true at every stop.

A kill is an uncaught exception of the transport or the journal, after which neither does anything. Results are
compared with what the server did.
"""

import asyncio
import json
import os
import shutil
import tempfile
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from telemetron_batch.journal.journal import Journal
from telemetron_batch.journal.layout import JOURNAL_NAME
from telemetron_batch.journal.writer import Writer, resolve_all
from telemetron_batch.sandbox.state import SandboxState
from telemetron_batch.sharding.report import report_run
from tests.conftest import Desk, Ran
from tests.support.books import is_marked
from tests.support.crashing import Acts
from tests.support.scripted import Event, Hangs, Loses, Refuses, Rewrites, Says, ScriptedServer, Seen, once

EXAMPLES = int(os.environ.get("TESTS_EXAMPLES", settings.default.max_examples * 50 // 100))
CUSTOMERS = ("a@x.com", "b@x.com", "c@x.com")
GOOD = ("SN-1", "SN-2", "SN-3", "SN-4", "SN-5")
DEVICES = (*GOOD, *GOOD, *GOOD, "POISON-1", "POISON-2", "POISON-3", "UNKNOWN-1")
SERVER_ERROR = Says(500, {"error": "Internal server error"})
FAULTS: dict[str, Any] = {
    "ok": None,
    "answer lost": Loses(acted=True),
    "request lost": Loses(acted=False),
    "no connection": Refuses(),
    "no answer in time": Hangs(acted=True),
    "500": SERVER_ERROR,
    "500, yet executed": Acts(SERVER_ERROR),
    "answer cut short": Acts(Says(200, b'{"success": true, "assign')),
    "502": Says(502, b"<html>Bad Gateway</html>"),
    "429": Says(429, {"error": "Too many requests"}),
    "429, wait": Says(429, {"error": "Too many requests"}, {"Retry-After": "7"}),
}

Key = tuple[str, str, str]
"""Action, customer and device."""


class Death(BaseException):
    """The process has died."""


@dataclass
class Fate:
    """When the process dies; afterwards it does nothing."""

    steps: int | None = None
    """Steps of transport and journal until it dies; None: it lives."""
    acts_late: bool = False
    """Whether the server still carries out the requests in flight when the process died."""
    dead: bool = False

    def step(self) -> None:
        """Something outside the process is about to be changed, or has been."""
        if self.steps is not None:
            self.steps -= 1
            self.dead |= self.steps <= 0
        if self.dead:
            raise Death


@dataclass
class Judge:
    """Records what the server did for the run."""

    fleet: SandboxState
    done: Counter[Key] = field(default_factory=Counter)
    touched: set[str] = field(default_factory=set)
    """Devices that a third party has changed."""
    moved: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    """Customer and device to the customers from whom it moves there."""
    shared: list[str] = field(default_factory=list)

    def expect(self, rows: list[Key]) -> None:
        """Learn which devices the file moves from one customer to another, and never back."""
        for at, (action, customer, device) in enumerate(rows):
            if action == "assign":
                givers = {who for what, who, one in rows[:at] if what == "unassign" and one == device}
                takers = {who for what, who, one in rows if what == "assign" and one == device}
                self.moved.setdefault((customer, device), set()).update(givers - takers - {customer})

    def carried_out(self, action: str, customer: str, answer: dict[str, Any]) -> None:
        gave = [device["identifier"] for device in answer.get("assignedDevices", ())]
        changed = [*gave, *answer.get("unassignedDevices", ())]
        self.done.update((action, customer, device) for device in changed)
        for device in set(gave) - self.touched:
            owners = self.fleet.owners(device) & self.moved.get((customer, device), set())
            self.shared += [f"{device} is with {customer} and still with {owner}" for owner in owners]


class MortalServer(ScriptedServer):
    """The sandbox API, recorded by a `Judge`; its client may die."""

    def __init__(self, fate: Fate, judge: Judge) -> None:
        super().__init__(judge.fleet)
        self.fate, self.judge = fate, judge
        self.faults: deque[Any] = deque()
        self.script = self._next
        self._inner = self._api
        self._api = _Recorded(self._inner, judge)  # type: ignore[assignment]

    def _next(self, seen: Seen) -> Any:
        event = self.faults.popleft() if self.faults else None
        poisonous = any(device.startswith("POISON") for device in seen.devices)
        if not poisonous or isinstance(event, Says | Refuses):
            return event
        return Says(400, {"error": "Something is wrong"}) if event is None else Loses(acted=False)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.fate.step()
        try:
            answer = await super().handle_async_request(request)
        except asyncio.CancelledError:
            if self.fate.dead and self.fate.acts_late and b"POISON" not in request.content:
                await self._api.handle_async_request(request)
            raise
        self.fate.step()
        return answer

    async def _answer(self, request: httpx2.Request, event: Any) -> httpx2.Response:
        if not isinstance(event, Acts):
            return await super()._answer(request, event)
        await self._api.handle_async_request(request)
        assert event.says is not None
        return await super()._answer(request, event.says)


class _Recorded(httpx2.AsyncBaseTransport):
    def __init__(self, api: httpx2.AsyncBaseTransport, judge: Judge) -> None:
        self._api, self._judge = api, judge

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        answer = await self._api.handle_async_request(request)
        content = json.loads(await answer.aread())
        if answer.status_code == 200:
            action = "unassign" if "unassign" in request.url.path else "assign"
            self._judge.carried_out(action, json.loads(request.content)["customerEmail"], content)
        return httpx2.Response(answer.status_code, json=content, request=request)


def make_mortal(patch: pytest.MonkeyPatch, fate: Fate) -> None:
    """Let the journal die with its process: what was not on disk is lost."""
    commit, note = Writer._commit, Journal.set_facts

    def mortal_commit(self: Writer, connection: Any, orders: list[Any]) -> None:
        try:
            fate.step()
        except Death as death:
            for order in orders:
                order.failure = death
            resolve_all(orders)
            return
        commit(self, connection, orders)
        if fate.steps is not None:
            fate.steps -= 1
            fate.dead |= fate.steps <= 0

    def mortal_note(self: Journal, **facts: object) -> None:
        fate.step()
        note(self, **facts)

    patch.setattr(Writer, "_commit", mortal_commit)
    patch.setattr(Journal, "set_facts", mortal_note)


ROWS = st.lists(
    st.tuples(st.sampled_from(["assign", "assign", "unassign"]), st.sampled_from(CUSTOMERS), st.sampled_from(DEVICES)),
    min_size=4,
    max_size=20,
)
PAIRS = st.lists(st.tuples(st.sampled_from(CUSTOMERS), st.sampled_from(GOOD)), min_size=2, max_size=8)
FLAGS = st.fixed_dictionaries(
    {
        "chunk_size": st.integers(1, 10),
        "concurrency": st.integers(1, 4),
        "attempts": st.integers(1, 4),
        "rate": st.just("1000/s"),
    }
)
HISTORY = st.lists(st.sampled_from(["ok", "ok", *FAULTS]), max_size=20)


class AnyHistory(RuleBasedStateMachine):
    """One input and one run id, with any events."""

    @initialize(rows=ROWS, owned=PAIRS, flags=FLAGS)
    def begin(self, rows: list[Key], owned: list[tuple[str, str]], flags: dict[str, int]) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.rows, self.flags = rows, flags
        self.fate, self.judge = Fate(), Judge(SandboxState())
        self.judge.expect(rows)
        for customer, device in owned:
            self.judge.fleet.assign(customer, [device])
        self.patch = pytest.MonkeyPatch()
        self.patch.setenv("XDG_STATE_HOME", str(self.folder / "state"))
        make_mortal(self.patch, self.fate)
        self.desk = Desk(self.folder)
        self.desk.server = self.server = MortalServer(self.fate, self.judge)
        self.path = self.desk.file([(customer, device, action) for action, customer, device in rows])
        self.is_finished = False
        self.deaths = 0

    def teardown(self) -> None:
        if hasattr(self, "patch"):
            self.patch.undo()
            self.judge.fleet.close()
            shutil.rmtree(self.folder)

    @rule(customer=st.sampled_from(CUSTOMERS), device=st.sampled_from(GOOD))
    def somebody_else_gives(self, customer: str, device: str) -> None:
        self.judge.touched.add(device)
        self.judge.fleet.assign(customer, [device])

    @rule(customer=st.sampled_from(CUSTOMERS), device=st.sampled_from(GOOD))
    def somebody_else_takes(self, customer: str, device: str) -> None:
        self.judge.touched.add(device)
        self.judge.fleet.unassign(customer, [device])

    @rule(faults=HISTORY, steps=st.integers(1, 30), acts_late=st.booleans())
    def the_process_dies(self, faults: list[str], steps: int, *, acts_late: bool) -> None:
        self.server.faults = deque(FAULTS[name] for name in faults)
        self.fate.steps, self.fate.acts_late = steps, acts_late
        self.deaths += 1
        try:
            self._run()
        except BaseException:
            if not self.fate.dead:
                raise
        else:
            self._look(self.desk_ran)
        finally:
            self.fate.steps, self.fate.dead = None, False
        self._report()

    @precondition(lambda self: self.deaths > 1)
    @rule(faults=HISTORY)
    def the_same_command_again(self, faults: list[str]) -> None:
        self.server.faults = deque(FAULTS[name] for name in faults)
        asked = len(self.server.seen)
        was_finished = self.is_finished
        self._run()
        self._look(self.desk_ran)
        assert not (was_finished and len(self.server.seen) > asked)

    def _run(self) -> None:
        self.desk_ran = self.desk.run(self.path, **self.flags)
        self.is_finished = self.desk_ran.json["state"] == "finished"

    def _report(self) -> None:
        """What a dead process leaves is true as well."""
        folder = self.folder / "reports" / "r1"
        if (folder / JOURNAL_NAME).exists():
            self._look(Ran(report_run(folder), folder, self.server))

    def _look(self, ran: Ran) -> None:
        sure, doubtful = Counter[Key](), Counter[Key]()
        books = ran.rows
        assert [(row["action"], row["customerEmail"], row["deviceIdentifier"]) for row in books] == self.rows
        for key, row in zip(self.rows, books, strict=True):
            sure[key] += row["outcome"] in ("assigned", "unassigned")
            doubtful[key] += row["outcome"] == "unconfirmed" or is_marked(row)
        for key in {*sure, *self.judge.done}:
            told = [row["outcome"] for row in books if row["deviceIdentifier"] == key[2]]
            assert sure[key] <= self.judge.done[key] <= sure[key] + doubtful[key], (key, self.judge.done[key], told)
        assert self.judge.shared == []
        if self.is_finished:
            assert not {"notSent"} & {row["outcome"] for row in books}
            self._look_at_the_end(books)

    def _look_at_the_end(self, books: list[dict[str, str]]) -> None:
        last = {(row["customerEmail"], row["deviceIdentifier"]): row for row in books if row["outcome"] != "duplicate"}
        for (customer, device), row in last.items():
            owns = customer in self.judge.fleet.owners(device)
            if device not in self.judge.touched and row["outcome"] in _INTENDED[row["action"]]:
                assert owns == (row["action"] == "assign"), (customer, device, row["outcome"])


_INTENDED = {"assign": ("assigned", "alreadyAssigned"), "unassign": ("unassigned", "skipped")}


TestAnyHistoryLeavesTrueBooks = AnyHistory.TestCase
TestAnyHistoryLeavesTrueBooks.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=7,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


# Histories that once gave wrong outcomes

A = CUSTOMERS[0]


class Late:
    """Break requests for the client; the server carries them out this many seconds later."""

    def __init__(self, fleet: SandboxState, seconds: float, *devices: str) -> None:
        self._fleet, self._seconds = fleet, seconds
        self._first = set(devices)
        self._on_the_way: list[tuple[float, Seen]] = []

    def __call__(self, seen: Seen) -> Event:
        self.arrive(seen.at)
        if not self._first.intersection(seen.devices):
            return None
        self._first.difference_update(seen.devices)
        self._on_the_way.append((seen.at + self._seconds, seen))
        return Loses(acted=False)

    def arrive(self, now: float) -> None:
        for at, seen in [*self._on_the_way]:
            if at <= now:
                self._on_the_way.remove((at, seen))
                self._fleet.assign(seen.customer, seen.devices)


def _refuses_poison(lost: tuple[str, ...]) -> Callable[[Seen], Event]:
    """Refuse requests with poison; lose the first answer to a request with exactly these devices."""
    first = [lost]

    def script(seen: Seen) -> Event:
        if any(device.startswith("POISON") for device in seen.devices):
            return Says(400, {"error": "Something is wrong"})
        return Loses(acted=True) if first and tuple(seen.devices) == first[0] and first.pop() else None

    return script


def _without_the_last(answer: dict[str, Any]) -> dict[str, Any]:
    return answer | {"assignedDevices": answer["assignedDevices"][:-1]}


def test_a_lost_answer_is_reported_if_its_repeat_settles_another_device(desk: Desk) -> None:
    desk.server.script = _refuses_poison(lost=("SN-1",))
    devices = ["SN-0", "SN-1", "POISON-2", "SN-3", "SN-4", "SN-5"]
    ran = desk.run([(A, device, "assign") for device in devices])
    assert ran.outcomes == ["assigned", "alreadyAssigned", "failed", "assigned", "assigned", "assigned"]
    assert is_marked(ran.rows[1])


def test_a_device_that_an_answer_left_out_may_be_this_runs_own_work(desk: Desk) -> None:
    desk.server.script = once(Rewrites(_without_the_last))
    ran = desk.run([(A, "SN-1", "assign"), (A, "SN-2", "assign")])
    assert ran.outcomes == ["assigned", "alreadyAssigned"]
    assert is_marked(ran.rows[1])


def test_a_device_that_an_answer_left_out_was_sent(desk: Desk) -> None:
    desk.server.script = once(Rewrites(_without_the_last), Says(401, {"error": "Invalid API key"}))
    ran = desk.run([(A, "SN-1", "assign"), (A, "SN-2", "assign")])
    assert ran.outcomes == ["assigned", "unconfirmed"]


def test_the_opposite_action_waits_for_every_unanswered_attempt(desk: Desk) -> None:
    desk.server.script = late = Late(desk.server.fleet, 20, "SN-1", "SN-2")
    rows = [(A, "SN-1", "assign"), (A, "SN-2", "assign"), (A, "SN-1", "unassign"), (A, "SN-2", "unassign")]
    ran = desk.run(rows, chunk_size=1)
    late.arrive(desk.clock.monotonic + 20)
    assert ran.outcomes == ["assigned", "assigned", "unassigned", "unassigned"]
    assert desk.server.fleet.devices_of(A) == []


def test_a_resumed_run_waits_for_unanswered_attempts(desk: Desk) -> None:
    desk.server.script = late = Late(desk.server.fleet, 20, "SN-1")
    rows = [(A, "SN-1", "assign"), (A, "SN-1", "unassign")]
    assert desk.run(rows, deadline="5s").summary.exit_code == 3
    assert desk.run(rows).outcomes == ["assigned", "unassigned"]
    late.arrive(desk.clock.monotonic + 20)
    assert desk.server.fleet.devices_of(A) == []
