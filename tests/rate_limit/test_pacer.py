import json
import math
from dataclasses import asdict
from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from telemetron_batch.rate_limit.pacer import Pacer, PacerState, Permit, Rate
from tests.support.simulate import (
    Bucket,
    Changing,
    Course,
    FixedWindow,
    Server,
    Simulation,
    SlidingLog,
    TalkativeWindow,
    World,
    leave,
    most_in_a_window,
    run,
)

NEAR = {"way_there": (0.1, 0.12), "way_back": (0.1, 0.12)}
"""A network that spreads arrivals by 20 ms."""


def refused_pacer(wait: float | None = None, jitter: float = 0.0) -> Pacer:
    """Return a pacer of 10/s whose first attempt left at time 0 and was refused at time 1."""
    pacer = Pacer(Rate(10))
    permit, _ = leave(pacer, 0.0)
    pacer.throttled(permit, 1.0, wait, jitter)
    return pacer


# Rate


@pytest.mark.parametrize(
    ("text", "per_second", "written"),
    [
        ("10/s", 10, "10/s"),
        (" 10 / SEC ", 10, "10/s"),
        ("600/min", 10, "600/min"),
        ("10/minute", 1 / 6, "10/min"),
        ("36000/h", 10, "36000/h"),
        ("1/hour", 1 / 3600, "1/h"),
        ("0.5/s", 0.5, "0.5/s"),
        ("auto", math.inf, "auto"),
    ],
)
def test_a_rate_is_read_as_people_write_it_and_written_back_so(text, per_second, written):
    assert Rate.parse(text).per_second == pytest.approx(per_second)
    assert str(Rate.parse(text)) == written
    assert Rate.parse(written) == Rate.parse(text)


@pytest.mark.parametrize("text", ["", "10", "0/s", "-1/s", "10/fortnight", "1e3/s", "fast", "1/s/s", "٣/s"])
def test_what_is_no_rate_is_refused_in_one_line(text):
    with pytest.raises(ValueError, match=r"rate|range") as refusal:
        Rate.parse(text)
    assert "\n" not in str(refusal.value)
    assert repr(text) in str(refusal.value)


@given(st.decimals("0.5", 9_999, places=3), st.sampled_from(["s", "min", "h"]))
def test_every_rate_survives_being_written_and_read(attempts, unit):
    rate = Rate.parse(f"{attempts}/{unit}")
    assert Rate.parse(str(rate)) == rate


def test_a_rate_over_an_unusual_time_is_written_with_it():
    assert str(Rate(100, 10)) == "100/10 s"


# A known rate


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["40/s", "10/s", "1/s", "0.5/s", "1.5/s", "200/min", "2/min", "3000/s"]),
    st.integers(1, 20),
    st.integers(0, 10_000),
    st.floats(0, 0.02),
)
def test_no_window_of_time_has_more_departures_than_the_rate(text, workers, seed, lateness):
    rate = Rate.parse(text)
    whole = max(1, math.floor(rate.attempts))
    window = rate.seconds * whole / rate.attempts
    world = World(Bucket(1e9, 1e9), workers=workers, seed=seed, lateness=lateness)
    course = run(Pacer(rate), world, until=4 * window, calls=2_000)
    assert course.departed
    # J, the allowance for network jitter, belongs to the window that the pacer keeps.
    allowance = min(0.5, max(0.025, window / 40))
    assert most_in_a_window(course.departed, window + allowance - 1e-6) <= whole


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 3), min_size=50, max_size=200))
def test_no_idleness_is_ever_made_up_for_by_a_burst(pauses):
    pacer, now, departed = Pacer(Rate(10)), 0.0, []
    for pause in pauses:
        now = leave(pacer, now)[1]
        departed.append(now)
        now += pause if pause > 2 else 0.0
    assert most_in_a_window(departed, 1.0249) <= 10
    assert all(later - earlier > 0.05 for earlier, later in pairwise(departed))


@pytest.mark.parametrize("lateness", [0.0, 0.02])
@pytest.mark.parametrize(
    ("text", "limit", "window"), [("40/s", 40, 1), ("10/s", 10, 1), ("1/s", 1, 1), ("600/min", 600, 60)]
)
def test_a_known_rate_is_used_up_without_one_refusal(text, limit, window, lateness):
    world = World(SlidingLog(limit, window), until=60.0, lateness=lateness, **NEAR)
    course = run(Pacer(Rate.parse(text)), world)
    assert course.refused == []
    assert course.use(limit / window) >= 0.95


def test_a_known_rate_is_kept_evenly_from_the_first_second_on():
    course = run(Pacer(Rate.parse("600/min")), World(Bucket(1e9, 1e9), until=60.0))
    gaps = [later - earlier for earlier, later in pairwise(course.departed)]
    assert course.departed[0] == 0
    assert min(gaps) > 0.05
    assert max(gaps) < 0.16


def test_a_late_timer_costs_no_throughput_even_for_one_worker_at_a_high_rate():
    pacer, now = Pacer(Rate(200)), 0.0
    while now < 10:
        permit, now = leave(pacer, now)
        pacer.succeeded(permit, now)
        now += 0.02 if pacer.permits_granted % 5 == 0 else 0.0
    assert pacer.permits_granted >= 1_900


@pytest.mark.parametrize(("window", "allowance"), [(0.5, 0.025), (10.0, 0.25), (60.0, 0.5)])
def test_a_fortieth_of_the_window_is_allowed_for_the_network_but_at_least_25_and_at_most_500_ms(window, allowance):
    pacer = Pacer(Rate(1, window))
    leave(pacer, 0.0)
    assert pacer.acquire(window) == pytest.approx(allowance)


def test_a_worker_that_asks_again_at_the_given_time_may_leave():
    pacer = Pacer(Rate(1))
    leave(pacer, 0.0)
    assert pacer.acquire(0.0) == 1.025
    assert isinstance(pacer.acquire(1.025), Permit)


def test_a_limit_of_very_many_keeps_a_bounded_log_and_its_rate():
    pacer = Pacer(Rate(36_000, 3_600))
    assert pacer._schedule.window_limit == 9_000
    assert pacer._schedule.gap == pytest.approx(3_600.5 / 36_000)


def test_an_abandoned_attempt_counts_against_the_window_all_the_same():
    pacer = Pacer(Rate(1))
    permit, now = leave(pacer, 0.0)
    pacer.abandoned(permit, now)
    assert pacer.acquire(0.5) == pytest.approx(0.525)


def test_departures_and_refusals_are_counted():
    pacer = refused_pacer()
    assert (pacer.permits_granted, pacer.refusals) == (1, 1)


# From the permit to the wire


def test_what_was_permitted_evenly_and_then_bunched_still_leaves_no_faster_than_the_rate():
    pacer = Pacer(Rate(2))
    assert [pacer.before_send(0.0), pacer.before_send(0.5)] == [0, 0]
    assert pacer.before_send(0.75) == pytest.approx(0.275)
    assert [pacer.before_send(1.025), pacer.before_send(1.525)] == [0, 0]
    assert pacer.before_send(1.75) == pytest.approx(0.3)


def test_every_wait_is_long_enough_to_move_any_clock():
    pacer = Pacer(Rate(1))
    pacer.before_send(0.0)
    assert pacer.before_send(1.025 - 1e-9) == 1e-4


def test_without_a_limit_every_permitted_attempt_leaves():
    pacer = Pacer(Rate.AUTO)
    assert [pacer.before_send(0.0) for _ in range(3)] == [0, 0, 0]


def test_an_attempt_that_left_late_counts_from_when_it_left():
    pacer = Pacer(Rate(1))
    pacer.before_send(0.0)
    pacer.adjust_send_time(0.0, 0.5)
    assert pacer.before_send(1.2) == pytest.approx(0.325)
    assert pacer.before_send(1.525) == 0


def test_a_lateness_of_a_millisecond_or_of_an_attempt_long_gone_changes_nothing():
    pacer = Pacer(Rate(1))
    pacer.before_send(10.0)
    pacer.adjust_send_time(10.0, 10.001)
    assert pacer.before_send(11.025) == 0
    pacer.adjust_send_time(10.0, 12.0)
    assert pacer.before_send(12.05) == 0


# Holds and probes


def test_no_attempt_leaves_earlier_than_the_server_asked():
    pacer = refused_pacer(wait=30.0)
    assert pacer.paused_until(1.0) == 31
    assert pacer.acquire(30.99) == pytest.approx(0.01)
    probe, now = leave(pacer, 1.0)
    assert probe.probe
    assert now >= 31


@pytest.mark.parametrize(("asked", "more"), [(300.0, 1.0), (20.0, 1.0), (8.0, 0.4)])
def test_chance_makes_a_hold_that_was_asked_for_longer_by_a_twentieth_and_a_second_at_most(asked, more):
    pacer = refused_pacer(wait=asked, jitter=0.999)
    assert pacer.paused_until(1.0) - 1.0 == pytest.approx(asked + more, abs=0.002)


def test_chance_spreads_a_hold_of_our_own_between_half_of_it_and_all():
    holds = []
    for jitter in 0.0, 0.5, 0.999:
        pacer = refused_pacer(jitter=jitter)
        holds.append(pacer.paused_until(1.0) - 1.0)
    assert holds == pytest.approx([0.125, 0.1875, 0.25], rel=0.01)


def test_a_hold_that_begins_while_workers_sleep_holds_them():
    pacer = Pacer(Rate(10))
    permit, now = leave(pacer, 0.0)
    wait = pacer.acquire(now)
    pacer.throttled(permit, now + 0.01, 5.0, 0.0)
    assert isinstance(wait, float)
    assert pacer.acquire(now + wait) > 4


def test_a_wait_of_hours_is_returned_to_every_worker():
    pacer = refused_pacer(wait=86_400.0)
    assert pacer.paused_until(2.0) == 86_401


@pytest.mark.parametrize("begins", [0.0, 1_000_000.0])
def test_one_probe_leaves_after_a_hold_and_the_others_wait_for_it_wherever_the_clock_begins(begins):
    pacer = Pacer(Rate(10))
    permit, _ = leave(pacer, begins)
    pacer.throttled(permit, begins + 1, 2.0, 0.0)
    probe, now = leave(pacer, begins + 3)
    assert probe.probe
    assert all(isinstance(pacer.acquire(now + later), float) for later in (0.0, 1.0, 5.0))
    assert pacer.paused_until(now + 5) == now + 5
    pacer.succeeded(probe, now + 6)
    assert pacer.paused_until(now + 6) is None
    assert not leave(pacer, now + 6)[0].probe


@pytest.mark.parametrize(("found", "gap"), [(5.0, 1 / 4.5), (0.1, 1.0)])
def test_after_a_probe_that_was_let_through_the_next_leaves_a_gap_later_but_within_a_second(found, gap):
    pacer = Pacer(Rate.AUTO)
    pacer.restore(PacerState(pause_left=20.0, learned_rate=found), 0.0, 0.0)
    probe, now = leave(pacer, 0.0)
    pacer.succeeded(probe, now + 30)
    assert pacer.acquire(now + 30) == pytest.approx(gap)


def test_after_a_probe_that_was_let_through_the_next_hold_is_short_again():
    pacer, now = refused_pacer(), 1.0
    for _ in range(4):
        probe, now = leave(pacer, now)
        pacer.throttled(probe, now, None, 0.0)
    probe, now = leave(pacer, now)
    pacer.succeeded(probe, now)
    permit, now = leave(pacer, now)
    pacer.throttled(permit, now, None, 0.0)
    assert pacer.paused_until(now) == pytest.approx(now + 0.125)


def test_a_probe_that_is_refused_makes_the_next_hold_longer_up_to_sixteen_seconds():
    pacer, holds = refused_pacer(), []
    now = 1.0
    for _ in range(1_100):
        probe, now = leave(pacer, now)
        assert probe.probe
        pacer.throttled(probe, now, None, 0.0)
        holds.append(pacer.paused_until(now) - now)
    assert holds[:6] == pytest.approx([0.25, 0.5, 1, 2, 4, 8])
    assert max(holds) < 8.001


def test_after_a_long_refusal_the_next_one_is_probed_later():
    pacer = refused_pacer()
    probe, now = leave(pacer, 41.0)
    pacer.succeeded(probe, now)
    permit, now = leave(pacer, now)
    pacer.throttled(permit, now, None, 0.0)
    assert pacer.paused_until(now) == pytest.approx(now + 1.0, abs=0.1)


def test_a_server_that_asks_for_no_wait_is_not_hammered():
    pacer = refused_pacer(wait=0.0)
    assert pacer.paused_until(1.0) >= 1.1


def test_an_abandoned_probe_frees_the_role():
    pacer = refused_pacer(wait=2.0)
    probe, now = leave(pacer, 3.0)
    pacer.abandoned(probe, now + 30)
    assert pacer.paused_until(now + 30) == now + 30.125
    again, later = leave(pacer, now + 30)
    assert again.probe
    assert later < now + 31


def test_a_probe_that_is_never_reported_does_not_hold_everybody_for_ever():
    pacer = refused_pacer(wait=2.0)
    leave(pacer, 3.0)
    assert leave(pacer, 700.0)[0].probe


def test_refusals_of_one_incident_cut_the_rate_once():
    pacer, now, permits = Pacer(Rate(10)), 0.0, []
    for _ in range(40):
        permit, now = leave(pacer, now)
        pacer.succeeded(permit, now)
    for _ in range(5):
        permit, now = leave(pacer, now)
        permits.append(permit)
    for permit in permits:
        pacer.throttled(permit, now, None, 0.0)
    probe, now = leave(pacer, now)
    pacer.succeeded(probe, now)
    assert pacer.refusals == 5
    assert 7 < pacer.rate(now) < 10


def test_refusals_that_are_answered_sooner_than_all_that_was_accepted_are_lived_with():
    pacer, now, permits = Pacer(Rate(1_000)), 0.0, []
    for _ in range(8):
        permit, now = leave(pacer, now)
        permits.append(permit)
    pacer.throttled(permits[0], now, None, 0.0)
    for permit in permits[1:]:
        pacer.succeeded(permit, now + 0.05)
    probe, now = leave(pacer, now + 0.05)
    pacer.succeeded(probe, now + 0.05)
    assert 0 < pacer.rate(now) < 1_000


def test_a_late_refusal_of_the_same_incident_still_holds_as_long_as_it_asks():
    pacer = Pacer(Rate(10))
    first, _ = leave(pacer, 0.0)
    second, now = leave(pacer, 0.0)
    pacer.throttled(first, now, 2.0, 0.0)
    pacer.throttled(second, now + 1, 5.0, 0.0)
    assert pacer.paused_until(now + 1) == now + 6


def test_a_late_refusal_of_the_same_incident_without_a_wait_extends_no_hold():
    pacer = Pacer(Rate(10))
    first, _ = leave(pacer, 0.0)
    second, now = leave(pacer, 0.0)
    pacer.throttled(first, now, 2.0, 0.0)
    pacer.throttled(second, now + 1.99, None, 0.0)
    assert pacer.paused_until(now) == now + 2


def test_a_probe_answered_during_a_longer_hold_does_not_end_it():
    pacer = Pacer(Rate(10))
    first, _ = leave(pacer, 0.0)
    second, now = leave(pacer, 0.0)
    pacer.throttled(first, now, 1.0, 0.0)
    probe, now = leave(pacer, now)
    pacer.throttled(second, now, 5.0, 0.0)
    pacer.succeeded(probe, now + 0.1)
    assert pacer.acquire(now + 0.1) == pytest.approx(4.9)
    assert leave(pacer, now + 0.1)[0].probe


def test_a_longer_announced_wait_gives_a_lower_learned_rate():
    found = []
    for wait in None, 3.0, 9.0:
        pacer, now = Pacer(Rate(10)), 0.0
        for _ in range(40):
            permit, now = leave(pacer, now)
            pacer.succeeded(permit, now)
        permit, now = leave(pacer, now)
        pacer.throttled(permit, now, wait, 0.0)
        probe, _ = leave(pacer, now + 10)
        pacer.succeeded(probe, now + 10)
        found.append(pacer.learned_rate)
    assert found[2] < found[1] < found[0] < 10


def test_after_a_fluke_the_rate_is_back_at_the_ceiling_within_a_minute():
    pacer, now = refused_pacer(wait=5.0), 0.0
    while now < 61:
        permit, now = leave(pacer, now)
        pacer.succeeded(permit, now)
    assert pacer.rate(now) == 10


# Quotas


def test_a_quota_is_spread_over_its_rest_of_time():
    pacer = Pacer(Rate(10))
    permit, _ = leave(pacer, 0.0)
    pacer.succeeded(permit, 0.2)
    pacer.apply_quotas([(3, 10.0)], 0.2)
    departed, now = [], 0.2
    while now < 10.2:
        departed.append(now := leave(pacer, now)[1])
    assert len([at for at in departed if at < 10.199]) == 3
    assert min(later - earlier for earlier, later in pairwise(departed)) > 3
    assert pacer.rate(10.3) == 10


def test_a_spent_quota_holds_all_until_it_is_renewed_and_costs_no_rate():
    pacer = Pacer(Rate(10))
    permit, _ = leave(pacer, 0.0)
    pacer.succeeded(permit, 0.2)
    pacer.apply_quotas([(50, 3.0), (0, 30.0)], 0.2)
    assert pacer.paused_until(0.2) == pytest.approx(30.2)
    permit, now = leave(pacer, 0.2)
    assert now >= 30.2
    assert not permit.probe
    assert pacer.rate(now) == 10
    assert pacer.paused_until(now) is None


def test_attempts_in_flight_count_against_the_quota():
    pacer = Pacer(Rate(10))
    leave(pacer, 0.0)
    leave(pacer, 0.0)
    pacer.apply_quotas([(2, 30.0)], 0.2)
    assert pacer.paused_until(0.2) == pytest.approx(30.2)


@pytest.mark.parametrize(
    "report",
    [
        lambda pacer, permit: pacer.succeeded(permit, 0.2),
        lambda pacer, permit: pacer.abandoned(permit, 0.2),
        lambda pacer, permit: pacer.throttled(permit, 0.2, None, 0.0),
    ],
    ids=["succeeded", "abandoned", "throttled"],
)
def test_an_attempt_reported_back_is_in_flight_no_more(report):
    pacer, now, permits = Pacer(Rate(10)), 0.0, []
    for _ in range(3):
        permit, now = leave(pacer, now)
        permits.append(permit)
    report(pacer, permits[0])
    pacer.apply_quotas([(3, 10.0)], 0.5)
    assert pacer.rate(0.5) == pytest.approx(0.1)


def test_the_tighter_of_two_quotas_holds_and_that_of_a_day_is_not_spread():
    pacer = Pacer(Rate(10))
    pacer.apply_quotas([(900, 86_400.0), (30, 10.0), (10, 10.0)], 0.0)
    assert pacer.rate(1.0) == pytest.approx(1.0)
    pacer.apply_quotas([], 1.0)
    assert pacer.rate(11.0) == 10


@pytest.mark.parametrize(("left", "renewed_in", "rate"), [(3, 0.5, 6.0), (12, 120.0, 0.1), (12, 121.0, 10.0)])
def test_a_quota_of_up_to_two_minutes_is_spread_and_one_of_longer_is_not(left, renewed_in, rate):
    pacer = Pacer(Rate(10))
    pacer.apply_quotas([(left, renewed_in)], 0.0)
    assert pacer.rate(0.0) == pytest.approx(rate)


@given(st.lists(st.tuples(st.integers(0, 10_000), st.floats(0, 1e9)), max_size=5))
def test_a_hint_never_makes_us_faster(quotas):
    pacer = Pacer(Rate(10))
    pacer.apply_quotas(quotas, 0.0)
    assert pacer.rate(0.0) <= 10


def test_a_quota_in_headers_is_used_well_without_one_refusal():
    course = run(Pacer(Rate.AUTO), World(TalkativeWindow(100, 10), until=300.0, workers=8))
    assert course.refused == []
    assert course.use(10) >= 0.9


# Unknown limits

ONE_SECOND = [FixedWindow, SlidingLog]


def measured(server: Server, *, retry_after: bool, seed: int, until: float = 300.0) -> Course:
    return run(Pacer(Rate.AUTO), World(server, until=until, retry_after=retry_after, seed=seed))


@pytest.mark.parametrize("retry_after", [False, True])
@pytest.mark.parametrize("window", ONE_SECOND)
def test_an_unknown_limit_a_second_is_found(window, retry_after):
    course = measured(window(10, 1), retry_after=retry_after, seed=3)
    assert course.use(10) >= 0.8
    assert course.refusal_share <= 0.02


@pytest.mark.parametrize("retry_after", [False, True])
@pytest.mark.parametrize(
    ("server", "per_second", "burst", "least"),
    [
        (lambda: FixedWindow(600, 60), 10, 0, 0.9),
        (lambda: SlidingLog(600, 60), 10, 0, 0.9),
        (lambda: SlidingLog(100, 10), 10, 0, 0.9),
        (lambda: Bucket(10, 20), 10, 20, 0.98),
        (lambda: Bucket(2, 5), 2, 5, 0.98),
        # A Retry-After in whole seconds costs ten times the wait that this bucket needs.
        (lambda: Bucket(10, 2), 10, 2, 0.8),
    ],
    ids=["fixed 600/60 s", "sliding 600/60 s", "sliding 100/10 s", "10/s B=20", "2/s B=5", "10/s B=2"],
)
def test_an_unknown_limit_is_found_with_few_refusals(server, per_second, burst, least, retry_after):
    course = measured(server(), retry_after=retry_after, seed=3, until=3_000 / per_second)
    assert len(course.accepted) > 1_000
    assert course.refusal_share <= 0.03
    assert course.use(per_second, burst) >= least


@pytest.mark.parametrize("ceiling", ["1000/s", "50/s", "12/s"])
def test_a_ceiling_far_above_the_limit_does_no_lasting_harm(ceiling):
    world = World(Bucket(10, 5), until=300.0, workers=8, seed=3)
    course = run(Pacer(Rate.parse(ceiling)), world)
    assert course.refusal_share <= 0.03
    assert course.use(10, 5) >= 0.9


def test_a_leaky_bucket_without_burst_that_answers_bare_503_is_lived_with():
    # Arrivals spread by 0.1 s must leave 0.2 s apart to be 0.1 s apart: half the limit is all there is.
    course = measured(Bucket(10, 1), retry_after=False, seed=3)
    assert course.use(10) >= 0.45
    assert course.refusal_share <= 0.03


@pytest.mark.parametrize("ceiling", ["auto", "10/s"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_limit_that_falls_is_followed_in_seconds_and_one_that_rises_in_a_minute(ceiling, seed):
    phases = (0.0, Bucket(10, 5)), (100.0, Bucket(4, 5)), (200.0, Bucket(10, 5))
    course = run(Pacer(Rate.parse(ceiling)), World(Changing(*phases), until=330.0, seed=seed))
    assert course.accepted_between(80, 100) >= 180
    assert course.accepted_between(105, 115) >= 36
    assert sum(100 <= at < 110 for at in course.refused) <= 10
    assert course.accepted_between(260, 270) >= 75
    assert course.accepted_between(280, 330) >= 420


def test_an_unknown_rate_begins_gently():
    course = measured(Bucket(1e9, 1e9), retry_after=False, seed=3, until=10.0)
    assert len([at for at in course.departed if at < 1]) <= 6
    assert len([at for at in course.departed if at < 3]) <= 35
    assert len([at for at in course.departed if at > 8]) > 100


def test_an_unused_rate_does_not_climb():
    pacer, now = Pacer(Rate.AUTO), 0.0
    leave(pacer, now)
    for _ in range(100):
        permit, now = leave(pacer, now)
        pacer.succeeded(permit, now + 0.1)
        now += 1.0
    assert pacer.rate(now) == 5


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([Rate.AUTO, Rate(20), Rate(600, 60)]),
    st.integers(1, 12),
    st.integers(0, 10_000),
    st.booleans(),
)
def test_no_attempt_leaves_during_a_hold(rate, workers, seed, talkative):
    world = World(SlidingLog(20, 5), until=60.0, workers=workers, seed=seed, retry_after=talkative, lost=0.1)
    course = run(Pacer(rate), world)
    assume(course.holds)
    for heard, until in course.holds:
        assert not any(heard < at < until for at in course.departed)


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["take", "succeeded", "throttled", "abandoned", "heed"]),
        st.integers(0, 30),
        st.floats(0, 20),
        st.none() | st.floats(0, 100),
    ),
    max_size=80,
)


@settings(deadline=None)
@given(st.sampled_from([Rate.AUTO, Rate(10), Rate(0.5), Rate(1, 3_600)]), EVENTS)
def test_after_any_history_a_later_time_gives_a_permit(rate, events):
    pacer, now, out = Pacer(rate), 0.0, []
    for event, choice, passed, wait in events:
        now += passed
        if event == "take":
            answer = pacer.acquire(now)
            assert isinstance(answer, Permit) or 0 < answer < math.inf
            out += [answer] if isinstance(answer, Permit) else []
        elif event == "heed":
            pacer.apply_quotas([(choice, wait or 0.0)], now)
        elif out:
            permit = out.pop(choice % len(out))
            extra = (wait, 0.5) if event == "throttled" else ()
            getattr(pacer, event)(permit, now, *extra)
    for permit in out:
        pacer.abandoned(permit, now)
    assert leave(pacer, now)[1] <= now + 10_000


# Restart


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["40/s", "10/s", "600/min", "1.5/s"]),
    st.floats(1, 20),
    st.floats(0, 3),
    st.integers(0, 10_000),
    st.floats(0, 2),
)
def test_a_restart_does_not_burst_even_from_a_state_of_some_time_ago(text, killed, pause, seed, stale):
    rate = Rate.parse(text)
    whole = math.floor(rate.attempts)
    world = World(Bucket(1e9, 1e9), until=killed, workers=8, seed=seed)
    first = Pacer(rate)
    before = Simulation(first, world).run().departed
    state = first.snapshot(killed)
    second, begins = Pacer(rate), killed + pause
    second.restore(state, pause + stale, begins)
    world = World(Bucket(1e9, 1e9), until=begins + 10, workers=8, seed=seed + 1)
    after = Simulation(second, world, begins=begins).run().departed
    assume(before and after)
    window = rate.seconds * whole / rate.attempts
    assert most_in_a_window(before + after, window + min(0.5, max(0.025, window / 40)) - 1e-6) <= whole


def test_a_restart_goes_on_with_a_running_hold_and_the_rate_it_had_found():
    pacer = Pacer(Rate(10))
    permit, now = leave(pacer, 0.0)
    for _ in range(50):
        pacer.succeeded(permit, now)
        permit, now = leave(pacer, now)
    pacer.throttled(permit, now, 1.0, 0.0)
    probe, now = leave(pacer, now)
    pacer.succeeded(probe, now)
    permit, now = leave(pacer, now)
    pacer.throttled(permit, now, 60.0, 0.0)
    state = PacerState(**json.loads(json.dumps(asdict(pacer.snapshot(now + 5)))))
    later = Pacer(Rate(10))
    later.restore(state, 15.0, 1_000.0)
    assert later.paused_until(1_000.0) == pytest.approx(1_040)
    assert later.rate(1_000.0) == pytest.approx(0.9 * state.learned_rate)
    probe, now = leave(later, 1_000.0)
    assert probe.probe
    assert now >= 1_040
    later.succeeded(probe, now)
    assert later.paused_until(now) is None
    assert later.rate(now) == pytest.approx(0.9 * state.learned_rate, rel=0.01)


@pytest.mark.parametrize(("elapsed", "until"), [(0.0, 105.0), (4.5, 100.5), (5.0, None), (6.0, None)])
def test_a_hold_goes_on_for_what_is_left_of_it_at_the_restart(elapsed, until):
    pacer = Pacer(Rate(10))
    pacer.restore(PacerState(pause_left=5.0), elapsed, 100.0)
    assert pacer.paused_until(100.0) == until


def test_a_state_says_when_the_next_departure_is_due():
    pacer = Pacer(Rate(1))
    leave(pacer, 0.0)
    assert pacer.snapshot(0.5) == PacerState(pytest.approx(0.525))
    assert pacer.snapshot(5.0) == PacerState()


def test_after_a_restart_the_first_leaves_a_gap_later_but_within_about_a_second():
    for rate, wait in (Rate(10), 0.1525), (Rate(6, 60), 1.05):
        pacer = Pacer(rate)
        pacer.restore(PacerState(), 0.0, 100.0)
        assert pacer.acquire(100.0) == pytest.approx(wait)


def test_a_restart_waits_no_longer_than_the_gap_of_the_rate_it_had_found():
    pacer = Pacer(Rate(10))
    pacer.restore(PacerState(next_due_in=100.0, learned_rate=0.5), 0.0, 100.0)
    assert pacer.rate(100.0) == pytest.approx(0.45)
    assert pacer.acquire(100.0) == pytest.approx(1 / 0.45 + 0.05)


@pytest.mark.parametrize("plateau", [0.0, -1.0, math.inf, math.nan])
def test_a_rate_that_no_server_can_have_granted_is_not_believed(plateau):
    pacer = Pacer(Rate.AUTO)
    pacer.restore(PacerState(learned_rate=plateau), 0.0, 100.0)
    assert pacer.rate(100.0) == Pacer(Rate.AUTO).rate(100.0)


ABSURD = st.floats() | st.sampled_from([math.nan, math.inf, -math.inf, -1.0, 1e300])


@given(st.sampled_from([Rate.AUTO, Rate(10)]), ABSURD, ABSURD, st.none() | ABSURD, ABSURD)
def test_an_absurd_state_neither_stops_nor_speeds_us(rate, ahead, hold, plateau, elapsed):
    pacer = Pacer(rate)
    pacer.restore(PacerState(ahead, hold, plateau), elapsed, 1_000.0)
    assert pacer.rate(1_000.0) <= 10_000
    assert leave(pacer, 1_000.0)[1] <= 1_000 + 86_400 + 60


@pytest.mark.parametrize("rate", [Rate(10), Rate(60), Rate(600, 60)], ids=str)
def test_the_first_attempts_are_as_far_apart_as_all_others(rate):
    pacer, now, left = Pacer(rate), 7.0, []
    for _ in range(5):
        permit, now = leave(pacer, now)
        left.append(permit.sent_at)
    gaps = [later - earlier for earlier, later in pairwise(left)]
    assert min(gaps) >= 1 / rate.per_second
    assert max(gaps) == pytest.approx(min(gaps))
