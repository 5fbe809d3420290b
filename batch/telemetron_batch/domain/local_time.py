"""When a clock on the wall next shows a time of day, also on days when clocks are set forward or back."""

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta, tzinfo
from typing import Final

_DAYS: Final = 3
"""Days in which a time of day comes at least once: it may be skipped on one of them."""


def first_local_time_after(start: float, time_of_day: time, zone: tzinfo | None = None) -> float:
    """Return the first moment after `start` at which local clocks show a time of day, in seconds since the epoch.

    If clocks skip that time, it is the moment at which they do. If they show it twice, each counts. `zone` None is
    the zone of this machine.
    """
    first_day = datetime.fromtimestamp(start, zone).date()
    days = (first_day + timedelta(days=number) for number in range(_DAYS))
    return min(moment for day in days for moment in _moments(day, time_of_day, zone) if moment > start)


def _moments(day: date, time_of_day: time, zone: tzinfo | None) -> Iterator[float]:
    """Yield the moments at which clocks show a time on a day: one, or two if clocks are set back then."""
    wanted = datetime.combine(day, time_of_day)
    earlier, later = (wanted.replace(fold=fold, tzinfo=zone).timestamp() for fold in (0, 1))
    if earlier <= later:
        yield from {earlier, later}
    else:
        yield _jump_between(later, earlier, zone)


def _jump_between(before: float, after: float, zone: tzinfo | None) -> float:
    """Return the moment between two at which clocks are set forward, to the second."""
    offset = _offset(before, zone)
    while after - before > 1:
        middle = (before + after) // 2
        before, after = (middle, after) if _offset(middle, zone) == offset else (before, middle)
    return after


def _offset(moment: float, zone: tzinfo | None) -> timedelta | None:
    return datetime.fromtimestamp(moment, zone).astimezone(zone).utcoffset()


def local_text(moment: float, zone: tzinfo | None = None) -> str:
    """Return a moment as local date and time with its zone, such as 2026-11-30 06:00 CET."""
    return f"{datetime.fromtimestamp(moment, zone).astimezone(zone):%Y-%m-%d %H:%M %Z}".rstrip()
