"""The progress line is correct and never too long."""

import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetron_batch.api.attempt_gate import GateStatus
from telemetron_batch.config.rate import Rate
from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.domain.stops import Stop, StopReason
from telemetron_batch.sending.progress import ProgressSnapshot, Style, format_line, format_log
from tests.conftest import Desk
from tests.support.scripted import Refuses, Says, Seen

GOING = GateStatus(permits_granted=40, rate=10.0, pause_left=0.0, down_for=None, next_probe=None, stop=None)
SIX_PAST_TWO = time.mktime((2026, 11, 21, 2, 13, 0, 0, 0, -1))


def snapshot(**differing: Any) -> ProgressSnapshot:
    told = {name: differing.pop(name) for name in tuple(differing) if name in GateStatus.__slots__}
    gate_status = GateStatus(**({name: getattr(GOING, name) for name in GateStatus.__slots__} | told))
    usual = {
        "calls": 1234,
        "done": 123,
        "outcomes": {Outcome.ASSIGNED: 1204, Outcome.FAILED: 3},
        "ceiling": Rate.parse("10/s"),
        "reached": 9.83,
        "seconds_left": 113.0,
        "elapsed": 12.0,
        "down_at": None,
        "gate_status": gate_status,
    }
    return ProgressSnapshot(**(usual | differing))


def text(snapshot: ProgressSnapshot, width: int = 79) -> str:
    return "".join(piece for piece, _ in format_line(snapshot, width))


DOWN = {"down_for": 40.0, "next_probe": 7.2, "down_at": SIX_PAST_TWO, "seconds_left": None}


def test_the_line_shows_calls_the_rate_reached_the_time_left_and_outcomes() -> None:
    told = text(snapshot())
    assert re.fullmatch(r"  123/1,234 calls  ─+  9\.8 of 10/s  1:55 left  1,204 assigned  3 failed", told)


def test_the_rate_is_shown_in_the_unit_of_its_ceiling() -> None:
    assert "590 of 600/min" in text(snapshot(ceiling=Rate.parse("600/min")))
    assert " 9.8/s  " in text(snapshot(ceiling=Rate.AUTO))


def test_a_pause_is_shown_with_its_length_reason_and_the_time_left() -> None:
    told = text(snapshot(pause_left=11.3, seconds_left=124.0))
    assert "of 10/s" not in told
    assert "waiting 12 s: the API asked for it  2:05 left" in told


def test_a_blink_of_a_pause_is_none() -> None:
    assert "waiting" not in text(snapshot(pause_left=0.4))


def test_an_outage_is_shown_with_its_start_and_the_next_probe() -> None:
    assert "API down since 02:13, next probe in 8 s" in text(snapshot(**DOWN))
    assert "API down since 02:13, a probe is out" in text(snapshot(**DOWN | {"next_probe": None}))


def test_an_outage_has_no_estimated_end() -> None:
    assert "left" not in text(snapshot(**DOWN))


def test_after_a_signal_the_line_shows_the_reason_for_the_wait() -> None:
    stop = Stop(StopReason.INTERRUPTED, "stopped by SIGINT")
    told = text(snapshot(stop=stop))
    assert "stopping: waiting for calls in flight" in told
    assert "left" not in told


def test_the_last_line_shows_the_duration() -> None:
    assert "took 12 s" in text(snapshot(done=1234, over=True))
    assert "stopped after 12 s" in text(snapshot(over=True))


@pytest.mark.parametrize("width", [79, 59])
@pytest.mark.parametrize(
    ("state", "kept"),
    [({}, "9.8 of 10/s"), (DOWN, "since 02:13"), ({"pause_left": 11.3}, "waiting 12 s: the API asked for it")],
)
def test_what_matters_stays_where_it_is_narrow(state: dict[str, Any], kept: str, width: int) -> None:
    told = text(snapshot(calls=12_345, **state), width)
    assert kept in told
    assert len(told) <= width


def test_where_not_all_outcomes_have_room_trouble_comes_first() -> None:
    outcomes = {Outcome.ASSIGNED: 123_456, Outcome.ALREADY_ASSIGNED: 99_999, Outcome.FAILED: 7}
    pieces = format_line(snapshot(outcomes=outcomes), 64)
    assert ("7 failed", Style.TROUBLE) in pieces
    assert "alreadyAssigned" not in "".join(text for text, _ in pieces)


VIEWS = st.builds(
    snapshot,
    calls=st.integers(1, 10**7),
    done=st.integers(0, 10**7),
    outcomes=st.dictionaries(st.sampled_from([*Outcome]), st.integers(0, 10**8)),
    ceiling=st.sampled_from([Rate.parse(rate) for rate in ("10/s", "600/min", "1/h", "36000/h", "auto")]),
    reached=st.none() | st.floats(0.00001, 10_000),
    seconds_left=st.none() | st.floats(0, 1e7),
    elapsed=st.floats(0, 1e6),
    down_at=st.none() | st.floats(0, 2e9),
    pause_left=st.floats(0, 1e6),
    next_probe=st.none() | st.floats(0, 60),
    over=st.booleans(),
)


@given(VIEWS, st.integers(39, 200))
def test_no_line_is_wider_than_it_may_be(snapshot: ProgressSnapshot, width: int) -> None:
    assert len(text(snapshot, width)) <= width


@given(VIEWS)
def test_in_words_it_is_one_line_without_a_bar(snapshot: ProgressSnapshot) -> None:
    told = format_log(snapshot)
    assert "\n" not in told
    assert "━" not in told
    assert "calls, " in told


def test_in_words_nothing_is_left_out() -> None:
    told = format_log(snapshot(pause_left=11.3))
    assert told == (
        "123 of 1,234 calls, 9.8 of 10/s, waiting 12 s: the API asked for it, 1:55 left; 1,204 assigned, 3 failed"
    )


# Over a whole run, on a clock of its own


class Watcher:
    """Run and return what an observer sees."""

    def __init__(self, desk: Desk, calls: int, **flags: Any) -> None:
        self.views: list[ProgressSnapshot] = []
        self.told: list[tuple[str, str]] = []
        desk.face.wants_progress = lambda: True  # type: ignore[method-assign]
        desk.face.on_progress = self.views.append  # type: ignore[method-assign]
        desk.face.on_message = lambda *told: self.told.append(told)  # type: ignore[method-assign]
        self.ran = desk.run([(f"u{n}@x.com", f"SN-{n}", "assign") for n in range(calls)], **flags)

    @property
    def held(self) -> list[float]:
        return [one.gate_status.pause_left for one in self.views if one.gate_status.pause_left > 0]


def test_the_rate_shown_is_the_one_reached(desk: Desk) -> None:
    views = [one for one in Watcher(desk, 40, rate="1/s").views if 12 < one.elapsed < 35]
    assert len(views) > 20
    assert all(one.reached and 0.9 <= one.reached <= 1.05 for one in views)


def test_the_time_left_comes_true(desk: Desk) -> None:
    views = Watcher(desk, 40, rate="1/s").views
    ended = views[-1].elapsed
    assert ended > 30
    assert all(abs(one.seconds_left - (ended - one.elapsed)) < 3 for one in views if one.elapsed > 10)


def test_the_time_left_counts_the_pause_in(desk: Desk) -> None:
    desk.server.script = lambda seen: Says(429, {}, {"Retry-After": "60"}) if seen.number == 10 else None
    views = Watcher(desk, 40, rate="1/s").views
    late = [one for one in views if one.elapsed > 11 and one.done < 39 and one.seconds_left]
    assert any(one.gate_status.pause_left > 50 for one in late)
    # At the ceiling the open calls take a second each; how slow it will be afterwards, nobody can know in the pause.
    assert all(one.seconds_left > one.gate_status.pause_left + (40 - one.done) - 2 for one in late)


def test_a_pause_counts_down(desk: Desk) -> None:
    desk.server.script = lambda seen: Says(429, {}, {"Retry-After": "12"}) if seen.number == 1 else None
    held = Watcher(desk, 1).held
    assert len(held) > 40
    assert held == sorted(held, reverse=True)


def test_an_outage_is_seen_with_its_beginning_and_its_next_probe(desk: Desk) -> None:
    def script(_: Seen) -> Any:
        return Refuses() if desk.clock.monotonic % 100 < 40 else None

    down = [one for one in Watcher(desk, 60, rate="2/s").views if one.down_at is not None]
    assert down == []
    desk.server.script = script
    watcher = Watcher(desk, 60, rate="2/s", run_id="r2", again=True)
    down = [one for one in watcher.views if one.down_at is not None]
    assert max(one.gate_status.down_for or 0 for one in down) > 8
    assert len({round(one.down_at or 0) for one in down}) == 1
    assert any(one.gate_status.next_probe for one in down)
    assert not any(one.seconds_left for one in down)


def test_a_long_pause_is_shown_and_a_short_one_is_only_recorded(desk: Desk) -> None:
    waits = {1: "2", 20: "30"}
    desk.server.script = lambda seen: (
        Says(429, {}, {"Retry-After": waits[seen.number]}) if seen.number in waits else None
    )
    watcher = Watcher(desk, 40)
    told = [text for kind, text in watcher.told if kind == "hold"]
    assert len(told) == 1
    assert "waiting 3" in told[0]
    kinds = [event["kind"] for event in watcher.ran.json["events"]]
    assert kinds.count("hold") >= 2
    log = (watcher.ran.folder / "run.log").read_text()
    assert log.count('"kind": "hold"') == kinds.count("hold")
