import math
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from telemetron_batch.rate_limit.headers import Quota, ServerHint, read_hints

NOW = 1_700_000_000.0


def at(seconds: float) -> str:
    return format_datetime(datetime.fromtimestamp(NOW + seconds, UTC), usegmt=True)


def wait(text: str, **headers: str) -> float | None:
    return read_hints({"retry-after": text, **headers}, NOW).wait


@pytest.mark.parametrize(("text", "seconds"), [("3", 3), ("0", 0), (" 7 ", 7), ("86400", 86_400)])
def test_retry_after_in_seconds_is_the_wait(text, seconds):
    assert read_hints({"retry-after": text}, NOW) == ServerHint(seconds, retry_after=True)


@pytest.mark.parametrize(
    "text", ["²", "-5", "+5", "soon", "", "3.5s", "120, 120", "1e3", "12345678901", "٣", "x" * 5_000]
)
def test_a_retry_after_that_is_no_number_and_no_date_is_ignored(text):
    assert read_hints({"retry-after": text}, NOW) == ServerHint()


def test_a_retry_after_that_is_a_date_is_counted_from_the_servers_own_clock():
    assert wait(at(3_630), date=at(3_600)) == 30


def test_without_a_date_of_the_response_our_own_clock_stands_in():
    assert wait(at(30)) == 30
    assert wait(at(30), date="yesterday") == 30


def test_a_date_without_a_zone_means_utc():
    assert wait("Tue, 14 Nov 2023 22:13:50") == 30
    assert wait("Tue, 14 Nov 2023 22:13:50 -0000") == 30


def test_the_two_older_spellings_of_an_http_date_are_read():
    assert wait("Tuesday, 14-Nov-23 22:13:50 GMT") == 30
    assert wait("Tue Nov 14 22:13:50 2023") == 30


def test_a_point_in_time_that_is_past_asks_for_no_wait():
    assert wait(at(-30)) == 0
    assert wait(str(int(NOW) - 30)) == 0


def test_an_epoch_number_sent_by_mistake_is_a_point_in_time():
    assert wait(str(int(NOW) + 42)) == 42
    assert wait(str(int(NOW) + 42), date=at(40)) == 2


def test_the_drafts_ratelimit_gives_the_quota_and_its_renewal():
    assert read_hints({"ratelimit": '"default";r=50;t=30'}, NOW) == ServerHint(None, (Quota(50, 30),))


def test_a_spent_quota_asks_to_wait_for_its_renewal():
    hint = read_hints({"ratelimit": '"burst";r=0;t=4, day;r=0;t=900'}, NOW)
    assert hint == ServerHint(900, (Quota(0, 4), Quota(0, 900)))


def test_a_policy_is_a_quota_still_whole_and_lends_its_window():
    policies = '"burst";q=100;w=60,"daily";q=1000;w=86400;qu="requests"'
    assert read_hints({"ratelimit-policy": policies}, NOW).quotas == (Quota(100, 60), Quota(1000, 86_400))
    limited = {"ratelimit-policy": policies, "ratelimit": '"burst";r=3'}
    assert read_hints(limited, NOW).quotas == (Quota(3, 60), Quota(1000, 86_400))


def test_a_quota_of_something_else_than_requests_is_not_ours():
    headers = {"ratelimit-policy": '"size";q=9;w=1;qu="content-bytes"', "ratelimit": '"size";r=0;t=9'}
    assert read_hints(headers, NOW) == ServerHint()


@pytest.mark.parametrize(
    "text",
    [
        '"default";r=50;t=30;',
        '"default',
        "50",
        '"d";r=-1;t=5',
        '"d";r=x;t=5',
        '"d";r=5',
        '"d";r;t=3',
        '"d";r=0;t=9 "e"',
        ", ".join(f"p{n};r=0;t=9" for n in range(30)),
        '"d";r=0;t=9' + " " * 2_000,
    ],
)
def test_a_malformed_ratelimit_is_ignored(text):
    assert read_hints({"ratelimit": text}, NOW) == ServerHint()


@pytest.mark.parametrize("prefix", ["x-ratelimit-", "ratelimit-"])
@pytest.mark.parametrize("reset", ["30", "30.0", str(int(NOW) + 30), str(int(NOW + 30) * 1000)])
def test_a_legacy_reset_is_seconds_or_a_point_in_time_in_seconds_or_milliseconds(prefix, reset):
    headers = {prefix + "limit": "100, 100;w=60", prefix + "remaining": "0", prefix + "reset": reset}
    assert read_hints(headers, NOW) == ServerHint(30, (Quota(0, 30),))


def test_a_legacy_remainder_asks_for_no_wait_but_counts_as_a_quota():
    headers = {"x-ratelimit-remaining": "7", "x-ratelimit-reset": "30"}
    assert read_hints(headers, NOW) == ServerHint(None, (Quota(7, 30),))


def test_a_legacy_reset_alone_is_a_wait():
    assert read_hints({"x-ratelimit-reset": "30"}, NOW) == ServerHint(30)


@pytest.mark.parametrize(
    ("limit", "remaining", "reset"),
    [
        ("10", "11", "30"),
        ("10", "many", "30"),
        ("10", "5", "soon"),
        ("10", "0", str(int(NOW) - 1)),
        ("10", "0", "5000000"),
        ("10", "0", "500000000000"),
        ("10", "0", "-3"),
    ],
)
def test_contradicting_legacy_headers_are_ignored(limit, remaining, reset):
    headers = {
        "x-ratelimit-limit": limit,
        "x-ratelimit-remaining": remaining,
        "x-ratelimit-reset": reset,
    }
    assert read_hints(headers, NOW) == ServerHint()


def test_retry_after_wins_over_ratelimit_and_that_over_the_legacy_headers():
    legacy = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "3"}
    draft = {"ratelimit": '"d";r=0;t=2', **legacy}
    assert read_hints(legacy, NOW).wait == 3
    assert read_hints(draft, NOW).wait == 2
    assert read_hints({"retry-after": "1", **draft}, NOW) == ServerHint(1, retry_after=True)
    assert read_hints({"retry-after": "soon", **draft}, NOW).wait == 2


NAMES = ["retry-after", "date", "ratelimit", "ratelimit-policy"] + [
    prefix + name for prefix in ("x-ratelimit-", "ratelimit-") for name in ("limit", "remaining", "reset")
]
TEXTS = st.one_of(
    st.text(),
    st.text('"\\;=,rtqwu019 ?:*-.', max_size=60),
    st.integers(-(10**20), 10**20).map(str),
    st.datetimes().map(format_datetime),
    st.tuples(st.integers(0, 99_999_999_999), st.integers(-9_999, 9_999)).map(
        lambda parts: f"Sun, 06 Nov {parts[0]} 23:59:59 {parts[1]:+05d}"
    ),
)


# The first text of a machine builds Hypothesis's table of characters, which takes seconds.
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), TEXTS), st.floats(0, 4e9))
def test_no_header_raises_and_every_hint_is_finite(headers, now):
    hint = read_hints(headers, now)
    for seconds in [hint.wait or 0.0, *(quota.resets_in for quota in hint.quotas)]:
        assert math.isfinite(seconds)
        assert seconds >= 0
    assert all(quota.left >= 0 for quota in hint.quotas)


def test_an_early_drafts_single_header_is_heeded() -> None:
    assert read_hints({"ratelimit": "limit=10, remaining=0, reset=2"}, 0.0).wait == 2


def test_a_retry_after_with_a_fraction_is_heeded() -> None:
    assert read_hints({"retry-after": "1.5"}, 0.0) == ServerHint(1.5, retry_after=True)
