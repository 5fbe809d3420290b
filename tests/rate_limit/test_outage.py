import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetron_batch.rate_limit.outage import OutageDetector


def down_at(now: float, *, calls: int = 3) -> OutageDetector:
    detector = OutageDetector()
    for attempt in range(10):
        detector.failed(attempt % calls, now)
    return detector


def test_ten_failures_over_three_calls_in_a_row_mean_down():
    detector = OutageDetector()
    for attempt in range(9):
        detector.failed(attempt % 3, float(attempt))
        assert not detector.is_down
    detector.failed(0, 9.0)
    assert detector.is_down


def test_one_call_or_two_that_fail_alone_do_not_mean_down():
    detector = OutageDetector()
    for attempt in range(100):
        detector.failed(attempt % 2, float(attempt))
    assert not detector.is_down
    assert detector.down_since is None
    assert detector.down_for(100.0) == 0


def test_an_answer_between_the_failures_starts_the_count_again():
    detector = OutageDetector()
    for attempt in range(90):
        detector.failed(attempt % 9, float(attempt))
        if attempt % 9 == 8:
            detector.answered(0, float(attempt))
    assert not detector.is_down


def test_down_counts_from_the_first_failure_after_the_last_answer():
    detector = OutageDetector()
    detector.answered(1, 5.0)
    for attempt in range(10):
        detector.failed(attempt, 10.0 + attempt)
    assert detector.down_since == 10
    assert detector.down_for(70.0) == 60


def test_while_up_every_call_may_leave():
    detector = OutageDetector()
    assert [detector.wait_before_attempt(call, 0.0, 0.5) for call in range(5)] == [0] * 5


def test_while_down_one_probe_leaves_and_the_others_ask_again():
    detector = down_at(0.0)
    assert detector.wait_before_attempt(1, 0.0, 0.0) == 1
    assert detector.wait_before_attempt(1, 1.0, 0.0) == 0
    assert detector.wait_before_attempt(2, 1.0, 0.0) > 0
    assert detector.wait_before_attempt(1, 1.0, 0.0) == 0, "the probe itself may ask again"


def test_probes_become_rarer_until_there_is_one_a_minute():
    detector, now, pauses = down_at(0.0), 1.0, []
    for _ in range(9):
        assert detector.wait_before_attempt(7, now, 0.0) == 0
        detector.failed(7, now)
        pauses.append(detector.wait_before_attempt(7, now, 0.0))
        now += pauses[-1]
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60, 60]


def test_a_late_failure_of_an_attempt_that_left_before_does_not_end_the_probe():
    detector = down_at(0.0)
    assert detector.wait_before_attempt(1, 1.0, 0.0) == 0
    detector.failed(2, 1.5)
    assert detector.wait_before_attempt(3, 2.0, 0.0) > 0


def test_an_answer_to_anybody_ends_the_outage_and_forgets_it():
    detector = down_at(0.0)
    assert detector.wait_before_attempt(1, 1.0, 0.0) == 0
    detector.answered(2, 1.5)
    assert not detector.is_down
    assert detector.down_since is None
    assert detector.wait_before_attempt(3, 1.5, 0.0) == 0
    detector.failed(3, 2.0)
    assert not detector.is_down


def test_an_abandoned_probe_frees_the_role_without_ending_the_outage():
    detector = down_at(0.0)
    assert detector.wait_before_attempt(1, 1.0, 0.0) == 0
    detector.abandoned(2, 1.0)
    assert detector.wait_before_attempt(3, 1.0, 0.0) > 0
    detector.abandoned(1, 1.0)
    assert detector.is_down
    wait = detector.wait_before_attempt(3, 1.0, 0.0)
    assert wait > 0
    assert detector.wait_before_attempt(3, 1.0 + wait, 0.0) == 0


def test_jitter_only_makes_probes_rarer():
    detector = down_at(0.0)
    detector.wait_before_attempt(1, 1.0, 0.99)
    detector.failed(1, 1.0)
    assert detector.wait_before_attempt(1, 1.0, 0.0) == pytest.approx(2.198)


REPORTS = st.tuples(st.sampled_from(["answered", "failed", "abandoned", "take"]), st.integers(0, 4), st.floats(0, 30))


@given(st.lists(REPORTS, max_size=60))
def test_after_any_history_a_probe_leaves_at_some_time(events):
    detector, now = OutageDetector(), 0.0
    for event, call, passed in events:
        now += passed
        if event == "take":
            assert detector.wait_before_attempt(call, now, 0.5) >= 0
        else:
            getattr(detector, event)(call, now)
    for _ in range(2_000):
        wait = detector.wait_before_attempt(99, now, 0.5)
        if wait == 0:
            return
        now += wait
    pytest.fail("nobody probes any more")


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(0, 5)), min_size=1, max_size=60))
def test_never_two_probes_at_once(steps):
    detector, now, out = down_at(0.0), 0.0, None
    for call, passed in steps:
        now += passed
        if out is None and detector.wait_before_attempt(call, now, 0.5) == 0:
            out = call
        elif out is not None and call != out:
            assert detector.wait_before_attempt(call, now, 0.5) > 0
        elif out is not None:
            detector.failed(out, now)
            out = None
