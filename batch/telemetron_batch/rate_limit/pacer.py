"""When the next attempt may leave: rate arithmetic, holds, and what refusals teach.

One pacer serves all workers. It answers "go" or "ask again in so many seconds" and
books no slots, so a hold that begins while workers sleep holds them all. It refuses
to know clocks, randomness, sleeping and HTTP: times and jitter come in as arguments.
"""

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from telemetron_batch.config.rate import Rate
from telemetron_batch.rate_limit.adaptive_rate import AdaptiveRate

_DAY: Final = 86_400.0
_LATENESS: Final = 0.05  # how far late timers may put the schedule behind, without losing throughput
_LOG_LENGTH: Final = 10_000
_JITTER_TOLERANCE_S: Final = 0.002  # less than this the jitter allowance takes
_FORGOTTEN: Final = 600.0  # what a server granted so long ago says little of now
_SOONEST: Final = 1e-4  # moves any clock's floating point on, so that nobody asks for ever
_LOOK_AGAIN: Final = 0.05  # nobody can tell when a probe that is out will be answered
_PROBE_LOST: Final = 600.0  # a probe never reported back must not hold everybody for ever
_FIRST_PAUSE: Final = 0.25
_A_LOOK: Final = 0.05  # where a refusal has lasted for a minute, to look again at once is one more refusal
_LONGEST_FIRST, _LONGEST_PAUSE, _DOUBLINGS = 2.0, 16.0, 6
_LONGEST_GAP: Final = 1.0  # after a probe that was let through
_EVEN: Final = 120.0  # a quota renewed by then is spread evenly; that of a day would crawl


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to send one attempt now. It is reported back exactly once."""

    epoch: int
    """Refused permits of one epoch belong to one incident."""
    sent_at: float
    probe: bool


@dataclass(frozen=True, slots=True)
class PacerState:
    """What a later process must know, in seconds from the moment it was taken."""

    ahead: float = 0.0
    """Until the next departure is due."""
    hold: float = 0.0
    """Rest of the hold; 0 when there is none."""
    plateau: float | None = None
    """Attempts a second that the server was found to grant; None when it never refused."""


class Spacing(NamedTuple):
    """How far apart attempts have to leave; a window of 0 s does not limit them."""

    limit: int
    """How many may leave in any `window_s`."""
    window_s: float
    gap: float
    """Seconds between two that leave evenly."""


def spacing(rate: Rate) -> Spacing:
    """The spacing that holds a rate in any window of time; why, is told at `_Schedule`."""
    if rate.attempts == math.inf:
        return Spacing(1, 0.0, 0.0)
    whole = max(1, math.floor(rate.attempts))
    window = rate.seconds * whole / rate.attempts
    parts = math.ceil(whole / _LOG_LENGTH)
    places = whole // parts
    span = (window + min(0.5, max(0.025, window / 40))) / parts
    return Spacing(places, span, span / places)


class _Schedule:
    """Even spacing, and never more than the rate in any window.

    Lemma: let an attempt take between d and d+J seconds to arrive. What arrives in a
    window of length W left within one of length W+J; departures T apart put at most
    (W+J)/T of them there. So T = (W+J)/N keeps every window at N, whether the server's
    windows are fixed or sliding, and wherever they begin.
    Timers wake late, so the schedule may be behind a little and departures then bunch;
    hence the departure N places back is looked up as well: it must be W+J ago.
    """

    def __init__(self, rate: Rate) -> None:
        places, self._span, self.gap = spacing(rate)
        self.due = -math.inf
        self._log: deque[float] = deque(maxlen=places)
        self._left: deque[float] = deque(maxlen=places)

    def wait(self, now: float) -> float:
        due = self.due
        if len(self._log) == self._log.maxlen:
            due = max(due, self._log[0] + self._span)
        return due - now

    def reserve(self, now: float, gap: float) -> None:
        first = self.due == -math.inf  # it is not late: nothing was due before it
        self.due = max(self.due, now if first else now - _LATENESS) + max(gap, self.gap)
        self._log.append(now)

    def confirm(self, now: float) -> float:
        """The same look-up for attempts as they really leave: 0, or the seconds still to wait."""
        if self._span and len(self._left) == self._left.maxlen and now < self._left[0] + self._span:
            return max(self._left[0] + self._span - now, _SOONEST)
        self._left.append(now)
        return 0.0

    def correct(self, planned: float, actual: float) -> None:
        """Correct when an attempt left, as far as it is still remembered."""
        if actual - planned > _JITTER_TOLERANCE_S and planned in self._left:
            self._left.remove(planned)
            self._left.append(actual)


class Ceiling:
    """At most so many attempts in any window of a rate, for a pace that is decided elsewhere."""

    def __init__(self, rate: Rate) -> None:
        told = spacing(rate)
        self._window = told.limit * rate.seconds / rate.attempts
        self._log: deque[float] = deque(maxlen=told.limit)

    def wait(self, now: float) -> float:
        """0 when another attempt may leave, else the seconds to wait."""
        if len(self._log) < (self._log.maxlen or 0) or now >= self._log[0] + self._window:
            return 0.0
        return max(self._log[0] + self._window - now, _SOONEST)

    def add(self, now: float) -> None:
        """Another attempt leaves."""
        self._log.append(now)


class Pacer:
    """Says when attempts may leave, for all workers together.

    Every permit is reported back once, by `succeeded`, `throttled` or `abandoned`.
    Times are seconds of one monotonic clock.
    """

    def __init__(self, rate: Rate) -> None:
        self.departures = 0
        self.refusals = 0
        self._schedule = _Schedule(rate)
        self._climb = AdaptiveRate(rate.per_second)
        self._epoch = self._refused_probes = self._in_flight = 0
        self._paused_until: float | None = None
        self._probe: Permit | None = None
        self._pressed = False
        self._quota, self._quota_ends = math.inf, -math.inf
        self._renewed = -math.inf

    def take(self, now: float) -> Permit | float:
        """A permit to leave now, or the seconds (more than 0) after which to ask again."""
        wait = max(self._schedule.wait(now), self._renewed - now, self._held(now))
        if wait > 0:
            self._pressed = True
            return max(wait, _SOONEST)
        if now - self._schedule.due > _LATENESS:
            self._pressed = False
        self._climb.begin(now)
        self._schedule.reserve(now, 1 / self.rate(now))
        self.departures += 1
        self._in_flight += 1
        permit = Permit(self._epoch, now, probe=self._paused_until is not None)
        if permit.probe:
            self._probe = permit
        return permit

    def left_late(self, permitted: float, now: float) -> None:
        """An attempt that departed at one time reached the wire at a later one: a new connection takes its time."""
        self._schedule.correct(permitted, now)

    def depart(self, now: float) -> float:
        """0 when a permitted attempt may leave this very moment, else the seconds to wait.

        Between permit and departure the attempt is put on record; a slow disk can bunch
        there what was permitted evenly.
        """
        return self._schedule.confirm(now)

    def succeeded(self, permit: Permit, now: float) -> None:
        """The server let the attempt through, whatever it then said about the call."""
        self._in_flight -= 1
        self._climb.answered(permit.sent_at, now, pressed=self._pressed)
        if permit == self._probe:
            self._probe = None
            if self._paused_until is not None and self._paused_until <= now:
                self._paused_until = None
                self._refused_probes = 0
                self._climb.end_incident(now)
                # The probe may have taken the one place that had become free.
                self._schedule.due = max(self._schedule.due, now + min(_LONGEST_GAP, 1 / self.rate(now)))

    def throttled(self, permit: Permit, now: float, wait: float | None, jitter: float) -> None:
        """The server refused the attempt for its rate: all wait, one probes, the rate falls once.

        `wait` is what the server asked for, in seconds; `jitter` a random number in [0, 1).
        """
        self._in_flight -= 1
        self.refusals += 1
        self._climb.refused(now, wait)
        if permit == self._probe:
            self._probe = None
            self._refused_probes += 1
        elif permit.epoch == self._epoch:
            self._epoch += 1
            self._climb.on_refusal(now)
        elif wait is None:
            return
        self._hold(now + self._pause(wait, jitter))

    def abandoned(self, permit: Permit, now: float) -> None:
        """No answer came at all: the attempt may have counted, and another one has to probe."""
        self._in_flight -= 1
        if permit == self._probe:
            self._probe = None
            self._hold(now + self._pause(None, 0.0))

    def heed(self, quotas: Iterable[tuple[int, float]], now: float) -> None:
        """Slow down for the quotas that an answer told: attempts left, seconds until renewed.

        Told after the answer's own permit was reported. Attempts still in flight count as used.
        A spent quota holds all as a refusal does, but it was foreseen: no probe, no lower rate.
        """
        spread = []
        for left, renewed_in in quotas:
            room = left - self._in_flight
            if room <= 0:
                self._renewed = max(self._renewed, now + renewed_in)
            elif 0 < renewed_in <= _EVEN:
                spread.append((room / renewed_in, now + renewed_in))
        if spread:
            self._quota, self._quota_ends = min(spread)
            self._schedule.due = max(self._schedule.due, now)

    def held_until(self, now: float) -> float | None:
        """When the hold of all workers ends, or None while they may leave."""
        if self._paused_until is None and self._renewed <= now:
            return None
        return max(now, self._renewed, -math.inf if self._paused_until is None else self._paused_until)

    def rate(self, now: float) -> float:
        """Attempts a second that may leave at present, holds apart."""
        return min(self._climb.rate(), self._quota if now < self._quota_ends else math.inf)

    @property
    def found(self) -> float | None:
        """Attempts a second that the server was found to grant; None when it never refused."""
        return self._climb.learned_rate

    def snapshot(self, now: float) -> PacerState:
        """What `restore` needs so that the next process neither bursts nor ignores a hold."""
        ahead = max(0.0, self._schedule.due - now)
        held_until = self.held_until(now)
        return PacerState(ahead, 0.0 if held_until is None else held_until - now, self.found)

    def restore(self, state: PacerState, elapsed: float, now: float) -> None:
        """Go on where a former process was `elapsed` seconds ago; absurd numbers are clamped."""
        if state.plateau is not None and 0 < state.plateau < math.inf and elapsed < _FORGOTTEN:
            self._climb.restore(state.plateau)
        gap = max(self._schedule.gap, 1 / self.rate(now))
        elapsed = _clamped(elapsed, math.inf)
        # Departures that the state does not know of yet were a gap apart, give or take the lateness.
        ahead = max(_clamped(state.ahead, gap) - elapsed, min(gap, 1.0))
        self._schedule.due = now + ahead + _LATENESS
        hold = _clamped(state.hold, _DAY) - elapsed
        if hold > 0:
            self._hold(now + hold)

    def _pause(self, wait: float | None, jitter: float) -> float:
        """Seconds to hold: never less than asked for, and longer with each probe refused in a row."""
        first = max(_FIRST_PAUSE, min(_LONGEST_FIRST, self._climb.memory * _A_LOOK))
        own = (0.5 + jitter / 2) * min(_LONGEST_PAUSE, first * 2.0 ** min(self._refused_probes, _DOUBLINGS))
        return own if wait is None else max(own, wait + jitter * min(1.0, wait / 20))

    def _held(self, now: float) -> float:
        if self._paused_until is None:
            return 0.0
        if self._probe is not None and now - self._probe.sent_at < _PROBE_LOST:
            return _LOOK_AGAIN
        return self._paused_until - now

    def _hold(self, until: float) -> None:
        self._paused_until = until if self._paused_until is None else max(self._paused_until, until)


def _clamped(number: float, most: float) -> float:
    return min(most, max(0.0, number))  # in this order, for then NaN makes 0
