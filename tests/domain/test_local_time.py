"""When a clock on the wall shows a time of day again."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetron_batch.domain.local_time import first_local_time_after, local_text

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = [ZoneInfo(name) for name in ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC")]


def stamp(text: str) -> float:
    """Seconds since the epoch of a time in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def next_in_berlin(start: str, hours: int, minutes: int) -> str:
    found = first_local_time_after(stamp(start), time(hours, minutes), BERLIN)
    return datetime.fromtimestamp(found, UTC).isoformat()[:16]


def test_a_night_job_ends_the_next_morning() -> None:
    assert next_in_berlin("2026-11-30T21:00", 6, 0) == "2026-12-01T05:00"


def test_a_time_that_is_still_to_come_is_on_the_same_day() -> None:
    assert next_in_berlin("2026-11-30T01:00", 6, 0) == "2026-11-30T05:00"


def test_a_start_at_that_very_time_means_the_next_day() -> None:
    assert next_in_berlin("2026-11-30T05:00", 6, 0) == "2026-12-01T05:00"


def test_a_time_that_clocks_skip_is_the_moment_at_which_they_are_set_forward() -> None:
    assert next_in_berlin("2026-03-28T22:00", 2, 30) == "2026-03-29T01:00"


@pytest.mark.parametrize(
    ("start", "found"), [("2026-10-24T22:00", "2026-10-25T00:30"), ("2026-10-25T00:30", "2026-10-25T01:30")]
)
def test_a_time_that_clocks_show_twice_counts_each_time(start: str, found: str) -> None:
    assert next_in_berlin(start, 2, 30) == found


def test_a_night_in_which_clocks_are_set_ends_at_the_time_that_clocks_show_then() -> None:
    assert next_in_berlin("2026-03-28T22:00", 6, 0) == "2026-03-29T04:00"
    assert next_in_berlin("2026-10-24T22:00", 6, 0) == "2026-10-25T05:00"


def test_the_zone_of_the_machine_is_taken_if_none_is_given() -> None:
    found = first_local_time_after(stamp("2026-11-30T21:00"), time(6, 0))
    assert f"{datetime.fromtimestamp(found):%H:%M}" == "06:00"


@given(
    st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),
    st.times().map(lambda one: one.replace(second=0, microsecond=0)),
    st.sampled_from(ZONES),
)
def test_no_earlier_moment_after_the_start_shows_that_time(start: datetime, at: time, zone: ZoneInfo) -> None:
    found = first_local_time_after(start.timestamp(), at, zone)
    assert start.timestamp() < found <= start.timestamp() + 2 * 86_400
    moment = (start + timedelta(minutes=1)).replace(second=0, microsecond=0)
    while moment.timestamp() < found:
        assert moment.astimezone(zone).time() != at
        moment += timedelta(minutes=1)


def test_a_moment_is_told_with_its_zone() -> None:
    assert local_text(stamp("2026-12-01T05:00"), BERLIN) == "2026-12-01 06:00 CET"
