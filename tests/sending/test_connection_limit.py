"""A firewall that lets some connections through and refuses or resets all others is treated as a rate limit."""

from collections import Counter, deque

import httpx2
import pytest

from telemetron_batch.rate_limit.connection_limit import ConnectionLimitDetector
from tests.conftest import Desk
from tests.support.scripted import Event, Loses, Refuses, Seen

HEADER = ("customerEmail", "deviceIdentifier", "action")


class Firewall:
    """Lets some requests through in any minute; all others meet an event."""

    def __init__(self, let_through: int, event: Event) -> None:
        self._let_through, self._event = let_through, event
        self._times: deque[float] = deque()
        self.refused = 0

    def __call__(self, seen: Seen) -> Event:
        while self._times and seen.at - self._times[0] >= 60:
            self._times.popleft()
        if len(self._times) < self._let_through:
            self._times.append(seen.at)
            return None
        self.refused += 1
        return self._event


def customers(count: int) -> list[tuple[str, ...]]:
    return [(f"user{number}@x.com", f"SN-{number}", "assign") for number in range(count)]


BEFORE_THE_FIRST_BYTE = Refuses(httpx2.ConnectError, "Connection refused")
AFTER_IT = Loses(acted=False)


@pytest.mark.parametrize("event", [BEFORE_THE_FIRST_BYTE, AFTER_IT], ids=["before the first byte", "after it"])
def test_a_firewall_that_lets_20_connections_a_minute_through_settles_every_row(desk: Desk, event: Event) -> None:
    firewall = Firewall(20, event)
    desk.server.script = firewall
    ran = desk.run(customers(200), rate="10/s")
    assert set(ran.outcomes) == {"assigned"}
    told = [one["text"] for one in ran.json["events"] if one["kind"] == "refused"]
    assert len(told) == 1
    assert "firewall" in told[0]
    assert "--rate" in told[0]
    assert ran.json["unclearAttempts"] == (firewall.refused if event is AFTER_IT else 0)
    assert firewall.refused < 200


def test_connections_that_are_refused_before_the_first_byte_use_up_no_attempts(desk: Desk) -> None:
    refused = Counter[str]()

    def refuse_each_twice(seen: Seen) -> Event:
        refused[seen.customer] += 1
        return BEFORE_THE_FIRST_BYTE if desk.server.seen and refused[seen.customer] <= 2 else None

    desk.server.script = refuse_each_twice
    ran = desk.run(customers(20), attempts="1")
    assert set(ran.outcomes) == {"assigned"}
    assert min(list(refused.values())[1:]) == 3


def test_a_call_whose_connections_are_refused_50_times_is_given_up(desk: Desk) -> None:
    def refuse_one(seen: Seen) -> Event:
        return BEFORE_THE_FIRST_BYTE if seen.customer == "user1@x.com" and desk.server.seen else None

    desk.server.script = refuse_one
    ran = desk.run(customers(1200), concurrency="2", rate="1/s")
    assert ran.outcomes[:3] == ["assigned", "failed", "assigned"]
    assert ran.rows[1]["detail"].startswith("no usable answer in 50 attempts; the last: ")


# The detector


def episode(detector: ConnectionLimitDetector, at: float) -> list[bool]:
    return [detector.refused(call, at + call) for call in range(4)]


def test_the_first_episode_may_be_an_outage_and_the_second_one_is_a_limit() -> None:
    detector = ConnectionLimitDetector()
    detector.answered(9, 0.0)
    assert episode(detector, 1.0) == [False] * 4
    detector.answered(1, 60.0)
    assert episode(detector, 61.0) == [False, False, True, True]


def test_refusals_before_any_answer_are_no_limit() -> None:
    detector = ConnectionLimitDetector()
    assert episode(detector, 1.0) == [False] * 4
    detector.answered(1, 60.0)
    assert episode(detector, 61.0) == [False] * 4


def test_an_outage_long_after_another_one_is_no_limit() -> None:
    detector = ConnectionLimitDetector()
    detector.answered(9, 0.0)
    episode(detector, 1.0)
    detector.answered(1, 60.0)
    assert episode(detector, 700.0) == [False] * 4


def test_refusals_of_one_call_are_no_limit() -> None:
    detector = ConnectionLimitDetector()
    detector.answered(9, 0.0)
    for at in range(2):
        assert [detector.refused(1, at) for _ in range(5)] == [False] * 5
        detector.answered(1, at)


def test_refusals_of_calls_that_are_never_answered_are_no_limit() -> None:
    detector = ConnectionLimitDetector()
    for at in (0.0, 60.0, 120.0):
        detector.answered(9, at)
        assert episode(detector, at + 1) == [False] * 4
