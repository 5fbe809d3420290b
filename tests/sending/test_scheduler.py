"""A call that must wait for an unanswered attempt lets others go first, and waits no less for it."""

import asyncio
import random
import re
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetron_batch.sandbox.state import Assigned, SandboxState
from telemetron_batch.sending.lane_queue import LaneQueue
from tests.conftest import Desk, Ran
from tests.support.scripted import Event, Loses, Says, ScriptedServer, Seen

QUIET = 35.0
"""Seconds: the default deadline of an attempt and the margin."""
EARLY = 0.1
"""Seconds by which an attempt is recorded before it leaves."""


# In turn


def test_lanes_are_taken_in_their_order() -> None:
    turns = LaneQueue([range(1, 3), range(3, 4)])
    assert [turns.take(0.0) for _ in range(3)] == [range(1, 3), range(3, 4), None]


def test_a_lane_put_off_comes_back_when_it_is_due_or_when_no_other_is_left() -> None:
    turns = LaneQueue([range(1, 3), range(3, 5), range(5, 7), range(7, 9)])
    turns.take(0.0)
    turns.take(0.0)
    turns.requeue_at(20.0, range(2, 3))
    turns.requeue_at(10.0, range(3, 5))
    assert turns.take(0.0) == range(5, 7)
    assert turns.take(10.0) == range(3, 5)
    assert turns.take(11.0) == range(7, 9)
    assert not turns.has_untaken
    assert [turns.take(11.0), turns.take(11.0)] == [range(2, 3), None]


# In a run


def given_and_taken_back(customers: int) -> list[tuple[str, str, str]]:
    pairs = [(f"user{number:02}@x.com", f"SN-{number:02}") for number in range(customers)]
    return [(*pair, action) for pair in pairs for action in ("assign", "unassign")]


def test_while_some_wait_for_an_unanswered_attempt_to_run_out_all_others_go_on(desk: Desk) -> None:
    desk.server.script = lambda seen: Loses() if seen.number in (1, 2) else None
    ran = desk.run(given_and_taken_back(20), concurrency="2")
    began = ran.server.seen[0].at
    left = {seen.customer: seen.at - began for seen in ran.server.seen if seen.action == "unassign"}
    waited = [customer for customer, at in left.items() if at >= QUIET - EARLY]
    assert sorted(waited) == ["user00@x.com", "user01@x.com"]
    assert max(at for customer, at in left.items() if customer not in waited) < 10
    assert set(ran.outcomes[1::2]) == {"unassigned"}
    assert ran.server.most_for_one_customer == 1


def test_it_is_told_how_long_and_for_how_many_devices_the_run_waits(desk: Desk) -> None:
    desk.server.script = lambda seen: Loses() if seen.number in (1, 2) else None
    ran = desk.run(given_and_taken_back(3), timeout="7")
    (told,) = told_waits(ran)
    seconds = re.fullmatch(r"waiting (\d+) s: an unanswered attempt may still act on 2 devices", told)
    assert seconds is not None
    assert 0 < int(seconds[1]) <= 12


def test_in_a_cut_call_only_the_devices_of_the_unanswered_part_wait(desk: Desk) -> None:
    script = iter([Says(413, {"error": "Too many devices"}), Loses()])
    desk.server.script = lambda _: next(script, None)
    pairs = [("a@x.com", f"SN-{number}") for number in range(4)]
    rows = [*((*pair, "assign") for pair in pairs), *((*pair, "unassign") for pair in pairs[2:])]
    ran = desk.run(rows, concurrency="1")
    assert ran.server.seen[1].devices == ["SN-0", "SN-1"]  # the lost one
    assert ran.server.seen[-1].devices == ["SN-2", "SN-3"]
    assert (set(ran.outcomes[4:]), told_waits(ran)) == ({"unassigned"}, [])


def test_calls_whose_pairs_return_leave_before_others_of_the_stage(desk: Desk) -> None:
    rows = [(f"user{number:02}@x.com", f"SN-{number:02}", "assign") for number in range(20)]
    ran = desk.run([*rows, (*rows[11][:2], "unassign"), (*rows[17][:2], "unassign")], concurrency="1")
    assert [seen.customer for seen in ran.server.seen][:2] == [rows[11][0], rows[17][0]]
    assert len(ran.server.seen) == 22


# A query ends the wait


def told_waits(ran: Ran) -> list[str]:
    with closing(sqlite3.connect(ran.summary.folder / "journal.sqlite3")) as journal:
        return [text for (text,) in journal.execute("SELECT text FROM events WHERE kind = 'wait' ORDER BY id")]


def queries_of(ran: Ran) -> int:
    return sum(seen.action == "query" for seen in ran.server.seen)


A_MOVE = [("a@x.com", "SN-1", "assign"), ("a@x.com", "SN-1", "unassign")]


def test_with_a_baseline_a_query_that_shows_the_lost_work_ends_the_wait(desk: Desk) -> None:
    desk.server.script = after_queries(Loses(acted=True))
    ran = desk.run(A_MOVE, baseline=True)
    assert (ran.outcomes, told_waits(ran), queries_of(ran)) == (["assigned", "unassigned"], [], 2)
    assert ran.server.seen[-1].at - ran.server.seen[0].at < QUIET


def test_without_a_baseline_nothing_is_queried_and_the_whole_time_is_waited(desk: Desk) -> None:
    desk.server.script = after_queries(Loses(acted=True))
    ran = desk.run(A_MOVE)
    assert (len(told_waits(ran)), queries_of(ran)) == (1, 0)


def test_the_wait_goes_on_if_the_repeat_of_the_lost_attempt_made_the_change(desk: Desk) -> None:
    desk.server.script = after_queries(Loses(acted=False))
    ran = desk.run(A_MOVE, baseline=True)
    assert (ran.outcomes, len(told_waits(ran)), queries_of(ran)) == (["assigned", "unassigned"], 1, 1)


def test_the_wait_goes_on_after_two_unanswered_attempts(desk: Desk) -> None:
    desk.server.script = after_queries(Loses(acted=True), Loses(acted=True))
    ran = desk.run(A_MOVE, baseline=True)
    assert (len(told_waits(ran)), queries_of(ran)) == (1, 1)


def test_the_wait_goes_on_if_the_customer_had_the_device_before_the_run(desk: Desk) -> None:
    desk.server.fleet.seed([("a@x.com", "SN-1", "unassign")])
    desk.server.script = after_queries(Loses(acted=True))
    ran = desk.run(A_MOVE, baseline=True)
    assert (ran.outcomes, len(told_waits(ran)), queries_of(ran)) == (["alreadyAssigned", "unassigned"], 1, 1)


def test_the_wait_goes_on_if_the_query_shows_nothing_of_the_lost_attempt(desk: Desk) -> None:
    desk.server.fleet.seed([("a@x.com", "SN-2", "unassign")])
    desk.server.script = after_queries(Loses(acted=False))
    ran = desk.run(A_MOVE, baseline=True, attempts="1")
    assert ran.outcomes == ["unconfirmed", "skipped"]
    assert (len(told_waits(ran)), queries_of(ran)) == (1, 2)


def after_queries(*events: Event) -> Callable[[Seen], Event]:
    """Return a script that answers queries and lets these events happen to the first other requests."""
    script = iter(events)
    return lambda seen: None if seen.action == "query" else next(script, None)


# Whatever arrives late


class LateFleet(SandboxState):
    """Executes some requests later without an answer, and records assigns that overtake an unassign."""

    def __init__(self, leavers: set[tuple[str, str]]) -> None:
        super().__init__()
        self._leavers = leavers
        self.with_two: set[str] = set()

    def assign(self, email: str, devices: Iterable[str], *, create: bool = False) -> Assigned | None:
        devices = [*devices]
        for device in devices:
            if any((owner, device) in self._leavers for owner in self.owners(device) - {email}):
                self.with_two.add(device)
        return super().assign(email, devices, create=create)


class Lateness:
    """Loses some requests and executes some of these as late as the timeout and its margin allow."""

    def __init__(self, fleet: SandboxState, seed: int) -> None:
        self._fleet = fleet
        self._chance = random.Random(seed)
        self.lost: list[Seen] = []
        self._late: list[Seen] = []

    def __call__(self, seen: Seen) -> Event:
        if seen.action == "query" or self._chance.random() > 0.3:
            return None
        self.lost.append(seen)
        kind = self._chance.choice(["never", "at once", "late", "late"])
        if kind == "late":
            self._late.append(seen)
            asyncio.get_running_loop().call_later(self._chance.uniform(0, QUIET - 1), self._execute, seen)
            return self._chance.choice([Loses(acted=False), Says(504, {"error": "Gateway timeout"})])
        return Loses(acted=kind == "at once")

    def execute_rest(self) -> None:
        """Execute what would be executed after the end of the run."""
        for seen in [*self._late]:
            self._execute(seen)

    def _execute(self, seen: Seen) -> None:
        self._late.remove(seen)
        act = self._fleet.assign if seen.action == "assign" else self._fleet.unassign
        act(seen.customer, seen.devices)


A, B, C = "a@x.com", "b@x.com", "c@x.com"
STORIES = (
    ((A, "assign"), (A, "unassign")),
    ((A, "unassign"), (B, "assign"), (B, "unassign"), (C, "assign")),
    ((B, "assign"), (A, "unassign")),
    ((A, "unassign"), (A, "assign")),
    ((C, "assign"),),
)
FILES = st.lists(st.sampled_from(STORIES), min_size=1, max_size=12)


SHAPES = st.fixed_dictionaries(
    {"concurrency": st.sampled_from("123"), "chunk_size": st.sampled_from("123"), "baseline": st.booleans()}
)


@settings(max_examples=60, deadline=None)
@given(stories=FILES, seed=st.integers(0, 10_000), shape=SHAPES)
def test_what_is_carried_out_late_undoes_nothing_and_puts_no_device_with_two(
    tmp_path_factory: pytest.TempPathFactory, stories: list, seed: int, shape: dict
) -> None:
    rows = [(customer, f"SN-{at:02}", action) for at, story in enumerate(stories) for customer, action in story]
    desk = Desk(Path(tmp_path_factory.mktemp("desk")))
    fleet = LateFleet({(customer, device) for customer, device, what in rows if what == "unassign"})
    fleet.seed(rows)
    fleet.with_two.clear()
    lateness = Lateness(fleet, seed)
    desk.server = ScriptedServer(fleet, lateness)
    ran = desk.run(rows, **shape, attempts="20")
    assert fleet.with_two == set()
    for lost in lateness.lost if not shape["baseline"] else ():  # a query may show that it has acted
        for seen in ran.server.seen:
            if seen.number > lost.number and (seen.customer, seen.action != lost.action) == (lost.customer, True):
                assert not {*seen.devices} & {*lost.devices} or seen.at >= lost.at + QUIET - EARLY
    lateness.execute_rest()
    wanted = {row[:2]: row[2] == "assign" for row in rows}
    assert {pair: pair[0] in fleet.owners(pair[1]) for pair in wanted} == wanted
    assert set(ran.outcomes) <= {"assigned", "alreadyAssigned", "unassigned", "skipped"}
