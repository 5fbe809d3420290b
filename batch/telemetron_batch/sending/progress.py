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
"""Minimum number of settled calls before the measured speed is used to estimate the time left."""
_MIN_SHOWN_PAUSE_S: Final = 1.0
"""Minimum seconds of a pause that is shown."""
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

    unit: str = "calls"
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
    gate_status: GateStatus
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

    def snapshot(self, *, over: bool = False) -> ProgressSnapshot:
        """Return a snapshot of the run."""
        now, gate_status = clock.now(), self._gate.status()
        if gate_status.down_for is None and gate_status.pause_left <= 0:
            self._active_seconds += now - self._seen
        self._seen = now
        self._remember(self._mark(now, gate_status.permits_granted))
        return ProgressSnapshot(
            unit=self._counters.unit,
            calls=self._counters.calls,
            done=self._counters.calls_done,
            outcomes=dict(self._counters.outcomes),
            ceiling=self._ceiling,
            reached=self._reached(gate_status),
            seconds_left=self._seconds_left(gate_status),
            elapsed=now - self._began,
            down_at=None if gate_status.down_for is None else self._wall() - gate_status.down_for,
            gate_status=gate_status,
            over=over,
        )

    def _mark(self, now: float, permits_granted: int) -> _Sample:
        return _Sample(now, self._active_seconds, self._counters.calls_done, permits_granted)

    def _remember(self, mark: _Sample) -> None:
        """Keep the samples that a steady figure needs. A sample without new calls or departures adds nothing."""
        if mark.counts == self._marks[-1].counts:
            return
        self._marks.append(mark)
        while len(self._marks) > 1 and self._marks[1].is_long_before(mark):
            self._marks.popleft()

    def _reached(self, gate_status: GateStatus) -> float | None:
        first, last = self._marks[0], self._marks[-1]
        return _rate_of(gate_status.permits_granted - first.permits_granted, last.at - first.at, self._seen - first.at)

    def _seconds_left(self, gate_status: GateStatus) -> float | None:
        """Return the rest of the pause plus the time for the open calls at the recent speed, without past pauses."""
        if gate_status.down_for is not None:
            return None
        first, last = self._marks[0], self._marks[-1]
        settled = self._counters.calls_done - first.done
        speed = _rate_of(settled, last.active_s - first.active_s, self._active_seconds - first.active_s)
        if speed is None or settled < _MIN_SETTLED_CALLS:
            speed = min(gate_status.rate, self._ceiling.per_second)
        return gate_status.pause_left + (self._counters.calls - self._counters.calls_done) / speed


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
    permits_granted: int

    @property
    def counts(self) -> tuple[int, int]:
        return self.done, self.permits_granted

    def is_long_before(self, later: _Sample) -> bool:
        """Return whether the time and departures between two samples suffice to measure a rate."""
        return (
            later.active_s - self.active_s >= _MIN_WINDOW
            and later.permits_granted - self.permits_granted >= _MIN_WINDOW
        )


def format_line(snapshot: ProgressSnapshot, width: int) -> list[Piece]:
    """Return the line in pieces of at most `width` characters together. Less important pieces are omitted first."""
    count = _count(snapshot)
    state = [*_state(snapshot, width - len(count[0]) - len(_GAP))] or ([] if snapshot.over else [_pace(snapshot)])
    pieces = [count]
    for piece in (*state, *_time(snapshot)):
        if _length([*pieces, piece]) <= width:
            pieces.append(piece)
    bar, outcomes = _bar_and_outcomes(snapshot, width, width - _length(pieces))
    return _joined(count, bar, [*pieces[1:], *outcomes])


def _bar_and_outcomes(snapshot: ProgressSnapshot, width: int, room: int) -> tuple[list[Piece], list[Piece]]:
    """Return the bar and the outcomes that fit into the rest of the line. Outcomes take precedence over the bar."""
    bar = _bar(snapshot, width // _BAR_WIDTH_DIVISOR)
    outcomes = [*_outcomes(snapshot, room)]
    beside_bar = [*_outcomes(snapshot, room - len(_text(bar)) - len(_GAP))] if bar else outcomes
    if not bar or (outcomes and not beside_bar) or room < len(_text(bar)) + len(_GAP):
        return [], outcomes
    return bar, beside_bar


def format_log(snapshot: ProgressSnapshot) -> str:
    """Return the complete progress as a text for a log, without a bar."""
    state = [text for text, _ in (*_state(snapshot, 1000), *_time(snapshot))]
    outcomes = ", ".join(f"{snapshot.outcomes[one]:,} {one}" for one in _DISPLAY_ORDER if snapshot.outcomes.get(one))
    pace = [] if snapshot.over or snapshot.gate_status.stop else [_pace(snapshot)[0].strip()]
    so_far = f"{snapshot.done:,} of {snapshot.calls:,} {snapshot.unit}, {', '.join([*pace, *state])}"
    return f"{so_far}; {outcomes}" if outcomes else so_far


# The pieces


def _count(snapshot: ProgressSnapshot) -> Piece:
    calls = f"{snapshot.calls:,}"
    return f"{snapshot.done:,}".rjust(len(calls)) + f"/{calls} {snapshot.unit}", Style.PLAIN


def _bar(snapshot: ProgressSnapshot, width: int) -> list[Piece]:
    if width < _MIN_BAR_WIDTH:
        return []
    full = math.floor(width * snapshot.done / max(1, snapshot.calls))
    return [("━" * full, Style.DONE), ("─" * (width - full), Style.OPEN)]


def _pace(snapshot: ProgressSnapshot) -> Piece:
    ceiling = "" if snapshot.ceiling == Rate.AUTO else f"of {snapshot.ceiling}"
    if snapshot.reached is None:
        return f"up {ceiling.replace('of', 'to')}" if ceiling else "feeling its way", Style.SOFT
    if not ceiling:
        return f"{_figure(snapshot.reached)}/s", Style.PLAIN
    return f"{_figure(snapshot.reached * snapshot.ceiling.seconds)} {ceiling}", Style.PLAIN


def _figure(number: float) -> str:
    return f"{number:,.0f}" if number >= 99.95 else f"{number:.1f}" if number >= 0.1 else f"{number:.2g}"


def _state(snapshot: ProgressSnapshot, room: int) -> Iterator[Piece]:
    """Yield the reason for a wait, if there is one, in at most `room` characters if possible."""
    gate_status = snapshot.gate_status
    if snapshot.over:
        return
    if gate_status.stop:
        yield "stopping: waiting for calls in flight", Style.WAITING
    elif snapshot.down_at is not None:
        since = f"{datetime.fromtimestamp(snapshot.down_at):%H:%M}"
        long, short = (
            ("a probe is out", "probe out")
            if gate_status.next_probe is None
            else (f"next probe in {_whole(gate_status.next_probe)}", f"probe in {_whole(gate_status.next_probe)}")
        )
        text = f"API down since {since}, {long}"
        yield text if len(text) <= room else f"down since {since}, {short}", Style.TROUBLE
    elif gate_status.pause_left >= _MIN_SHOWN_PAUSE_S:
        yield f"waiting {_whole(gate_status.pause_left)}: the API asked for it", Style.WAITING


def _whole(seconds: float) -> str:
    return clock.duration(math.ceil(seconds))


def _time(snapshot: ProgressSnapshot) -> Iterator[Piece]:
    if snapshot.over:
        yield (
            f"{'stopped after' if snapshot.done < snapshot.calls else 'took'} {clock.duration(snapshot.elapsed)}",
            Style.PLAIN,
        )
    elif snapshot.seconds_left is not None and snapshot.done < snapshot.calls and not snapshot.gate_status.stop:
        yield f"{_clock_text(_round_eta(snapshot.seconds_left))} left", Style.PLAIN


def _clock_text(seconds: float) -> str:
    """Return a duration in the form 0:40, 3:20 or 1:05:00."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _round_eta(seconds: float) -> float:
    """Round an estimate up; the longer it is, the coarser."""
    step = 1 if seconds < 60 else 5 if seconds < 300 else 30 if seconds < 1800 else 60
    return math.ceil(seconds / step) * step


def _outcomes(snapshot: ProgressSnapshot, room: int) -> Iterator[Piece]:
    """Yield the outcomes that fit. Bad outcomes are selected first and shown last."""
    present = (one for one in _DISPLAY_ORDER if snapshot.outcomes.get(one))
    by_importance = sorted(present, key=lambda one: (one not in _BAD_OUTCOMES, -snapshot.outcomes[one]))
    shown: list[Outcome] = []
    for outcome in by_importance:
        room -= len(_GAP) + len(f"{snapshot.outcomes[outcome]:,} {outcome}")
        if room < 0:
            break
        shown.append(outcome)
    for outcome in sorted(shown, key=_DISPLAY_ORDER.index):
        yield f"{snapshot.outcomes[outcome]:,} {outcome}", Style.TROUBLE if outcome in _BAD_OUTCOMES else Style.SOFT


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
