"""A call that must wait for an unanswered attempt lets others go first, and waits no less for it."""

import asyncio
import random
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetron_batch.sandbox.state import Assigned, SandboxState
from telemetron_batch.sending.scheduler import _LaneQueue
from tests.conftest import Desk
from tests.support.scripted import Event, Loses, Says, ScriptedServer, Seen

QUIET = 35.0
"""Seconds: the default deadline of an attempt and the margin."""
EARLY = 0.1
"""Seconds by which an attempt is recorded before it leaves."""


# In turn


def test_lanes_are_taken_in_their_order() -> None:
    turns = _LaneQueue([range(1, 3), range(3, 4)])
    assert [turns.take(0.0) for _ in range(3)] == [range(1, 3), range(3, 4), None]


def test_a_lane_put_off_comes_back_when_it_is_due_or_when_no_other_is_left() -> None:
    turns = _LaneQueue([range(1, 3), range(3, 5), range(5, 7), range(7, 9)])
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

    def __call__(self, seen: Seen) -> Event:
        if self._chance.random() > 0.3:
            return None
        self.lost.append(seen)
        act = self._fleet.assign if seen.action == "assign" else self._fleet.unassign
        kind = self._chance.choice(["never", "at once", "late", "late"])
        if kind == "late":
            asyncio.get_running_loop().call_later(self._chance.uniform(0, QUIET - 1), act, seen.customer, seen.devices)
            return self._chance.choice([Loses(acted=False), Says(504, {"error": "Gateway timeout"})])
        return Loses(acted=kind == "at once")


A, B, C = "a@x.com", "b@x.com", "c@x.com"
STORIES = (
    ((A, "assign"), (A, "unassign")),
    ((A, "unassign"), (B, "assign"), (B, "unassign"), (C, "assign")),
    ((B, "assign"), (A, "unassign")),
    ((A, "unassign"), (A, "assign")),
    ((C, "assign"),),
)
FILES = st.lists(st.sampled_from(STORIES), min_size=1, max_size=12)


@settings(max_examples=40, deadline=None)
@given(stories=FILES, seed=st.integers(0, 10_000), workers=st.integers(1, 3), chunk=st.integers(1, 3))
def test_what_is_carried_out_late_undoes_nothing_and_puts_no_device_with_two(
    tmp_path_factory: pytest.TempPathFactory, stories: list, seed: int, workers: int, chunk: int
) -> None:
    rows = [(customer, f"SN-{at:02}", action) for at, story in enumerate(stories) for customer, action in story]
    desk = Desk(Path(tmp_path_factory.mktemp("desk")))
    fleet = LateFleet({(customer, device) for customer, device, what in rows if what == "unassign"})
    fleet.seed(rows)
    fleet.with_two.clear()
    lateness = Lateness(fleet, seed)
    desk.server = ScriptedServer(fleet, lateness)
    ran = desk.run(rows, concurrency=str(workers), chunk_size=str(chunk), attempts="20")
    assert fleet.with_two == set()
    for lost in lateness.lost:
        for seen in ran.server.seen:
            if seen.number > lost.number and (seen.customer, seen.action != lost.action) == (lost.customer, True):
                assert not {*seen.devices} & {*lost.devices} or seen.at >= lost.at + QUIET - EARLY
    wanted = {row[:2]: row[2] == "assign" for row in rows}
    assert {pair: pair[0] in fleet.owners(pair[1]) for pair in wanted} == wanted
    assert set(ran.outcomes) <= {"assigned", "alreadyAssigned", "unassigned", "skipped"}
