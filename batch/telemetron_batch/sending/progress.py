"""Progress of a run on one line: calls, the rate reached, the time left and the reason for a wait.

Formats one snapshot for a given width. A `ProgressSnapshot` is frozen, so another thread can
draw it while sending continues.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Final

from telemetron_batch.config.rate import Rate
from telemetron_batch.domain.outcomes import FAILURES, OUTCOMES, Outcome
from telemetron_batch.storage import clock

if TYPE_CHECKING:  # a console shows progress without loading what makes calls
    from telemetron_batch.api.attempt_gate import AttemptGate, GateStatus
    from telemetron_batch.sending.counters import RunCounters

_MIN_WINDOW: Final = 10.0
"""Seconds, and departures, over which a rate is measured at least. Over fewer it would fluctuate."""
_MIN_SETTLED_CALLS: Final = 3
"""Settled calls from which the measured speed is used to estimate the time left."""
_MIN_SHOWN_PAUSE_S: Final = 1.0
"""Seconds from which a pause is shown."""
_GAP: Final = "  "
_BAR_WIDTH_DIVISOR: Final = 8
"""The bar takes this fraction of the line."""
_MIN_BAR_WIDTH: Final = 6
"""Characters of the shortest bar that is shown."""
_GOOD_OUTCOMES: Final = tuple(outcome for outcome in OUTCOMES if outcome.facts.is_sent and outcome not in FAILURES)
"""In display order."""
_BAD_OUTCOMES: Final = (Outcome.HELD, *reversed(FAILURES))
_DISPLAY_ORDER: Final = (*_GOOD_OUTCOMES, *_BAD_OUTCOMES)


class Style(Enum):
    """Meaning of a piece of the line, from which a terminal derives its colour."""

    PLAIN = "plain"
    DONE = "done"
    OPEN = "open"
    SOFT = "soft"
    WAITING = "waiting"
    TROUBLE = "trouble"


Piece = tuple[str, Style]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressSnapshot:
    """The state of a run at one moment."""

    what: str = "calls"
    """The word for what is counted."""
    calls: int
    """Number of calls of the plan, or of other units of work."""
    done: int
    """Number of settled calls, including those of earlier processes."""
    outcomes: dict[Outcome, int]
    """Number of devices by outcome."""
    ceiling: Rate
    reached: float | None
    """Measured attempts per second; None before there are enough."""
    seconds_left: float | None
    """Estimated seconds until the end without further pauses; None if no estimate is possible."""
    elapsed: float
    """Seconds since this process began to send."""
    down_at: float | None
    """When the API went down, in seconds since the epoch; None while it is up."""
    condition: GateStatus
    over: bool = False
    """Whether this process has stopped sending."""


class ProgressTracker:
    """Samples a run periodically and measures its speed. Use it on the event loop."""

    def __init__(self, counters: RunCounters, gate: AttemptGate, ceiling: Rate, wall: Callable[[], float]) -> None:
        self._counters = counters
        self._gate = gate
        self._ceiling = ceiling
        self._wall = wall
        self._began = self._seen = clock.now()
        self._active_seconds = 0.0
        self._marks = deque([self._mark(self._began, 0)])

    def view(self, *, over: bool = False) -> ProgressSnapshot:
        """Return a snapshot of the run."""
        now, condition = clock.now(), self._gate.condition()
        if condition.down_for is None and condition.pause_left <= 0:
            self._active_seconds += now - self._seen
        self._seen = now
        self._remember(self._mark(now, condition.departures))
        return ProgressSnapshot(
            what=self._counters.unit,
            calls=self._counters.calls,
            done=self._counters.calls_done,
            outcomes=dict(self._counters.outcomes),
            ceiling=self._ceiling,
            reached=self._reached(condition),
            seconds_left=self._seconds_left(condition),
            elapsed=now - self._began,
            down_at=None if condition.down_for is None else self._wall() - condition.down_for,
            condition=condition,
            over=over,
        )

    def _mark(self, now: float, departures: int) -> _Sample:
        return _Sample(now, self._active_seconds, self._counters.calls_done, departures)

    def _remember(self, mark: _Sample) -> None:
        """Keep the samples that a steady figure needs. A sample without new calls or departures adds nothing."""
        if mark.counts == self._marks[-1].counts:
            return
        self._marks.append(mark)
        while len(self._marks) > 1 and self._marks[1].is_long_before(mark):
            self._marks.popleft()

    def _reached(self, condition: GateStatus) -> float | None:
        first, last = self._marks[0], self._marks[-1]
        return _rate_of(condition.departures - first.departures, last.at - first.at, self._seen - first.at)

    def _seconds_left(self, condition: GateStatus) -> float | None:
        """Return the rest of the pause plus the time for the open calls at the recent speed, without past pauses."""
        if condition.down_for is not None:
            return None
        first, last = self._marks[0], self._marks[-1]
        settled = self._counters.calls_done - first.done
        speed = _rate_of(settled, last.active_s - first.active_s, self._active_seconds - first.active_s)
        if speed is None or settled < _MIN_SETTLED_CALLS:
            speed = min(condition.rate, self._ceiling.per_second)
        return condition.pause_left + (self._counters.calls - self._counters.calls_done) / speed


def _rate_of(number: int, until_last: float, until_now: float) -> float | None:
    """Return events per second; None without any. The time since the last event counts if it is longer than usual."""
    seconds = max(until_last, until_now * number / (number + 1))
    return number / seconds if number > 0 and seconds > 0 else None


@dataclass(frozen=True, slots=True)
class _Sample:
    """The counts at one moment."""

    at: float
    active_s: float
    """Seconds so far without a pause or an outage."""
    done: int
    departures: int

    @property
    def counts(self) -> tuple[int, int]:
        return self.done, self.departures

    def is_long_before(self, later: _Sample) -> bool:
        """Return whether the time and departures between two samples suffice to measure a rate."""
        return later.active_s - self.active_s >= _MIN_WINDOW and later.departures - self.departures >= _MIN_WINDOW


def format_line(view: ProgressSnapshot, width: int) -> list[Piece]:
    """Return the line in pieces of at most `width` characters together. Less important pieces are omitted first."""
    count = _count(view)
    state = [*_state(view, width - len(count[0]) - len(_GAP))] or ([] if view.over else [_pace(view)])
    pieces = [count]
    for piece in (*state, *_time(view)):
        if _length([*pieces, piece]) <= width:
            pieces.append(piece)
    bar, outcomes = _bar_and_outcomes(view, width, width - _length(pieces))
    return _joined(count, bar, [*pieces[1:], *outcomes])


def _bar_and_outcomes(view: ProgressSnapshot, width: int, room: int) -> tuple[list[Piece], list[Piece]]:
    """Return the bar and the outcomes that fit into the rest of the line. Outcomes take precedence over the bar."""
    bar = _bar(view, width // _BAR_WIDTH_DIVISOR)
    outcomes = [*_outcomes(view, room)]
    beside_bar = [*_outcomes(view, room - len(_text(bar)) - len(_GAP))] if bar else outcomes
    if not bar or (outcomes and not beside_bar) or room < len(_text(bar)) + len(_GAP):
        return [], outcomes
    return bar, beside_bar


def format_log(view: ProgressSnapshot) -> str:
    """Return the complete progress as a text for a log, without a bar."""
    state = [text for text, _ in (*_state(view, 1000), *_time(view))]
    outcomes = ", ".join(f"{view.outcomes[one]:,} {one}" for one in _DISPLAY_ORDER if view.outcomes.get(one))
    pace = [] if view.over or view.condition.stop else [_pace(view)[0].strip()]
    so_far = f"{view.done:,} of {view.calls:,} {view.what}, {', '.join([*pace, *state])}"
    return f"{so_far}; {outcomes}" if outcomes else so_far


# The pieces


def _count(view: ProgressSnapshot) -> Piece:
    calls = f"{view.calls:,}"
    return f"{view.done:,}".rjust(len(calls)) + f"/{calls} {view.what}", Style.PLAIN


def _bar(view: ProgressSnapshot, width: int) -> list[Piece]:
    if width < _MIN_BAR_WIDTH:
        return []
    full = math.floor(width * view.done / max(1, view.calls))
    return [("━" * full, Style.DONE), ("─" * (width - full), Style.OPEN)]


def _pace(view: ProgressSnapshot) -> Piece:
    ceiling = "" if view.ceiling == Rate.AUTO else f"of {view.ceiling}"
    if view.reached is None:
        return f"up {ceiling.replace('of', 'to')}" if ceiling else "feeling its way", Style.SOFT
    if not ceiling:
        return f"{_figure(view.reached)}/s", Style.PLAIN
    return f"{_figure(view.reached * view.ceiling.seconds)} {ceiling}", Style.PLAIN


def _figure(number: float) -> str:
    return f"{number:,.0f}" if number >= 99.95 else f"{number:.1f}" if number >= 0.1 else f"{number:.2g}"


def _state(view: ProgressSnapshot, room: int) -> Iterator[Piece]:
    """Yield the reason for a wait, if there is one, in at most `room` characters if possible."""
    condition = view.condition
    if view.over:
        return
    if condition.stop:
        yield "stopping: letting calls under way finish", Style.WAITING
    elif view.down_at is not None:
        since = f"{datetime.fromtimestamp(view.down_at):%H:%M}"
        long, short = (
            ("a probe is out", "probe out")
            if condition.next_probe is None
            else (f"next probe in {_whole(condition.next_probe)}", f"probe in {_whole(condition.next_probe)}")
        )
        text = f"API down since {since}, {long}"
        yield text if len(text) <= room else f"down since {since}, {short}", Style.TROUBLE
    elif condition.pause_left >= _MIN_SHOWN_PAUSE_S:
        yield f"waiting {_whole(condition.pause_left)}: the API asked for it", Style.WAITING


def _whole(seconds: float) -> str:
    return clock.duration(math.ceil(seconds))


def _time(view: ProgressSnapshot) -> Iterator[Piece]:
    if view.over:
        yield f"{'stopped after' if view.done < view.calls else 'took'} {clock.duration(view.elapsed)}", Style.PLAIN
    elif view.seconds_left is not None and view.done < view.calls and not view.condition.stop:
        yield f"{_clock_text(_round_eta(view.seconds_left))} left", Style.PLAIN


def _clock_text(seconds: float) -> str:
    """Return a duration in the form 0:40, 3:20 or 1:05:00."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _round_eta(seconds: float) -> float:
    """Round an estimate up; the longer it is, the coarser."""
    step = 1 if seconds < 60 else 5 if seconds < 300 else 30 if seconds < 1800 else 60
    return math.ceil(seconds / step) * step


def _outcomes(view: ProgressSnapshot, room: int) -> Iterator[Piece]:
    """Yield the outcomes that fit. Bad outcomes are selected first and shown last."""
    present = (one for one in _DISPLAY_ORDER if view.outcomes.get(one))
    by_importance = sorted(present, key=lambda one: (one not in _BAD_OUTCOMES, -view.outcomes[one]))
    shown: list[Outcome] = []
    for outcome in by_importance:
        room -= len(_GAP) + len(f"{view.outcomes[outcome]:,} {outcome}")
        if room < 0:
            break
        shown.append(outcome)
    for outcome in sorted(shown, key=_DISPLAY_ORDER.index):
        yield f"{view.outcomes[outcome]:,} {outcome}", Style.TROUBLE if outcome in _BAD_OUTCOMES else Style.SOFT


# Putting them together


def _text(pieces: Sequence[Piece]) -> str:
    return "".join(text for text, _ in pieces)


def _length(pieces: Sequence[Piece]) -> int:
    return len(_GAP.join(text for text, _ in pieces))


def _joined(count: Piece, bar: Sequence[Piece], others: Sequence[Piece]) -> list[Piece]:
    pieces = [count]
    if bar:
        pieces += [(_GAP, Style.PLAIN), *bar]
    for piece in others:
        pieces += [(_GAP, Style.PLAIN), piece]
    return pieces
