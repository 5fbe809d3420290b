"""How far a run is, as one line: calls, the rate reached, the time left, and what keeps it waiting.

Turns what is known of one moment into words that fit a width. Refuses to know terminals
and threads; a `ProgressSnapshot` is frozen, so that another thread may draw it while sending goes on.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final

from telemetron_batch.api.attempt_gate import AttemptGate, GateStatus
from telemetron_batch.config.rate import Rate
from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.sending.counters import RunCounters
from telemetron_batch.storage import clock

_LONG_ENOUGH: Final = 10.0
"""Seconds over which a rate is measured at least, and departures: fewer would make it dance."""
_TOO_LITTLE: Final = 3
"""Calls settled below which the measured speed says nothing yet."""
_WORTH_TELLING: Final = 1.0
_GAP: Final = "  "
_SHARE_OF_BAR: Final = 8
_SHORTEST_BAR: Final = 6
_FINE: Final = (Outcome.ASSIGNED, Outcome.UNASSIGNED, Outcome.ALREADY_ASSIGNED, Outcome.SKIPPED)
"""In the order in which they are shown."""
_TROUBLE: Final = (Outcome.HELD, Outcome.UNCONFIRMED, Outcome.FAILED)
_ORDER: Final = (*_FINE, *_TROUBLE)


class Style(Enum):
    """What a piece of the line is about, for whoever gives it a colour."""

    PLAIN = "plain"
    DONE = "done"
    OPEN = "open"
    SOFT = "soft"
    WAITING = "waiting"
    TROUBLE = "trouble"


Piece = tuple[str, Style]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressSnapshot:
    """A run at one moment."""

    what: str = "calls"
    """What is counted, in one word."""
    calls: int
    """Calls of the plan; or of what else there is to be done."""
    done: int
    """Calls settled, those of earlier processes included."""
    outcomes: dict[Outcome, int]
    """Devices so far."""
    ceiling: Rate
    reached: float | None
    """Attempts a second that really left; None before there are enough to tell."""
    seconds_left: float | None
    """If nothing more gets in the way; None while nobody can tell."""
    elapsed: float
    """Seconds since this process began to send."""
    down_at: float | None
    """Since when the API has been down, in seconds of the epoch; None while it is up."""
    condition: GateStatus
    over: bool = False
    """Nothing more will be sent by this process."""


class ProgressTracker:
    """Looks at a run from time to time and works out how fast it gets on. Used on the event loop."""

    def __init__(self, tally: RunCounters, traffic: AttemptGate, ceiling: Rate, wall: Callable[[], float]) -> None:
        self._tally = tally
        self._traffic = traffic
        self._ceiling = ceiling
        self._wall = wall
        self._began = self._seen = clock.now()
        self._active_seconds = 0.0
        self._marks = deque([self._mark(self._began, 0)])

    def view(self, *, over: bool = False) -> ProgressSnapshot:
        """The run as it is now."""
        now, condition = clock.now(), self._traffic.condition()
        if condition.down_for is None and condition.held_for <= 0:
            self._active_seconds += now - self._seen
        self._seen = now
        self._remember(self._mark(now, condition.departures))
        return ProgressSnapshot(
            what=self._tally.unit,
            calls=self._tally.calls,
            done=self._tally.calls_done,
            outcomes=dict(self._tally.outcomes),
            ceiling=self._ceiling,
            reached=self._reached(condition),
            seconds_left=self._seconds_left(condition),
            elapsed=now - self._began,
            down_at=None if condition.down_for is None else self._wall() - condition.down_for,
            condition=condition,
            over=over,
        )

    def _mark(self, now: float, departures: int) -> "_Sample":
        return _Sample(now, self._active_seconds, self._tally.calls_done, departures)

    def _remember(self, mark: "_Sample") -> None:
        """Keep as many marks as a steady figure needs; one of a moment in which nothing happened adds nothing."""
        if mark.counts == self._marks[-1].counts:
            return
        self._marks.append(mark)
        while len(self._marks) > 1 and self._marks[1].is_long_before(mark):
            self._marks.popleft()

    def _reached(self, condition: GateStatus) -> float | None:
        first, last = self._marks[0], self._marks[-1]
        return _pace_of(condition.departures - first.departures, last.at - first.at, self._seen - first.at)

    def _seconds_left(self, condition: GateStatus) -> float | None:
        """Rest of the pause and the calls still open, at the speed of late; pauses that are over do not count."""
        if condition.down_for is not None:
            return None
        first, last = self._marks[0], self._marks[-1]
        settled = self._tally.calls_done - first.done
        speed = _pace_of(settled, last.awake - first.awake, self._active_seconds - first.awake)
        if speed is None or settled < _TOO_LITTLE:
            speed = min(condition.rate, self._ceiling.per_second)
        return condition.held_for + (self._tally.calls - self._tally.calls_done) / speed


def _pace_of(number: int, until_last: float, until_now: float) -> float | None:
    """So many a second; None if there are none. What has passed since the last one counts if it is long for a gap."""
    seconds = max(until_last, until_now * number / (number + 1))
    return number / seconds if number > 0 and seconds > 0 else None


@dataclass(frozen=True, slots=True)
class _Sample:
    """How much was done by a moment."""

    at: float
    awake: float
    """Seconds by then in which nothing kept attempts from leaving."""
    done: int
    departures: int

    @property
    def counts(self) -> tuple[int, int]:
        return self.done, self.departures

    def is_long_before(self, later: "_Sample") -> bool:
        """Is it so long before that the marks between can be measured without an older one?"""
        return later.awake - self.awake >= _LONG_ENOUGH and later.departures - self.departures >= _LONG_ENOUGH


def format_line(view: ProgressSnapshot, width: int) -> list[Piece]:
    """The line in pieces, at most so many signs together; what matters less is left out first."""
    count = _count(view)
    told = [*_state(view, width - len(count[0]) - len(_GAP))] or ([] if view.over else [_pace(view)])
    pieces = [count]
    for piece in (*told, *_left(view)):
        if _length([*pieces, piece]) <= width:
            pieces.append(piece)
    bar, outcomes = _bar_and_outcomes(view, width, width - _length(pieces))
    return _joined(count, bar, [*pieces[1:], *outcomes])


def _bar_and_outcomes(view: ProgressSnapshot, width: int, room: int) -> tuple[list[Piece], list[Piece]]:
    """Bar and outcomes for what is left of the line; rather no bar than no outcome."""
    bar = _bar(view, width // _SHARE_OF_BAR)
    outcomes = [*_outcomes(view, room)]
    beside = [*_outcomes(view, room - len(_text(bar)) - len(_GAP))] if bar else outcomes
    if not bar or (outcomes and not beside) or room < len(_text(bar)) + len(_GAP):
        return [], outcomes
    return bar, beside


def format_log(view: ProgressSnapshot) -> str:
    """The same in words, for a log: no bar, nothing left out."""
    told = [text for text, _ in (*_state(view, 1000), *_left(view))]
    outcomes = ", ".join(f"{view.outcomes[one]:,} {one}" for one in _ORDER if view.outcomes.get(one))
    pace = [] if view.over or view.condition.stop else [_pace(view)[0].strip()]
    so_far = f"{view.done:,} of {view.calls:,} {view.what}, {', '.join([*pace, *told])}"
    return f"{so_far}; {outcomes}" if outcomes else so_far


def duration(seconds: float) -> str:
    """So long, as people say it: 40 s, 3 min 20 s, 1 h 5 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


# The pieces


def _count(view: ProgressSnapshot) -> Piece:
    calls = f"{view.calls:,}"
    return f"{view.done:,}".rjust(len(calls)) + f"/{calls} {view.what}", Style.PLAIN


def _bar(view: ProgressSnapshot, width: int) -> list[Piece]:
    if width < _SHORTEST_BAR:
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
    """What keeps the run waiting, if anything does, in words for so many signs."""
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
        told = f"API down since {since}, {long}"
        yield told if len(told) <= room else f"down since {since}, {short}", Style.TROUBLE
    elif condition.held_for >= _WORTH_TELLING:
        yield f"waiting {_whole(condition.held_for)}: the API asked for it", Style.WAITING


def _whole(seconds: float) -> str:
    return duration(math.ceil(seconds))


def _left(view: ProgressSnapshot) -> Iterator[Piece]:
    if view.over:
        yield f"{'stopped after' if view.done < view.calls else 'took'} {duration(view.elapsed)}", Style.PLAIN
    elif view.seconds_left is not None and view.done < view.calls and not view.condition.stop:
        yield f"{_clock_text(_round_eta(view.seconds_left))} left", Style.PLAIN


def _clock_text(seconds: float) -> str:
    """So long, as clocks show it: 0:40, 3:20, 1:05:00."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _round_eta(seconds: float) -> float:
    """As exact as it can be meant."""
    step = 1 if seconds < 60 else 5 if seconds < 300 else 30 if seconds < 1800 else 60
    return math.ceil(seconds / step) * step


def _outcomes(view: ProgressSnapshot, room: int) -> Iterator[Piece]:
    """As many outcomes as there is room for: trouble is taken first, and stands last."""
    told = (one for one in _ORDER if view.outcomes.get(one))
    wanted = sorted(told, key=lambda one: (one not in _TROUBLE, -view.outcomes[one]))
    taken: list[Outcome] = []
    for outcome in wanted:
        room -= len(_GAP) + len(f"{view.outcomes[outcome]:,} {outcome}")
        if room < 0:
            break
        taken.append(outcome)
    for outcome in sorted(taken, key=_ORDER.index):
        yield f"{view.outcomes[outcome]:,} {outcome}", Style.TROUBLE if outcome in _TROUBLE else Style.SOFT


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
