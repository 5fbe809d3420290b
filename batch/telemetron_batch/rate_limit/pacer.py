"""Decide when the next attempt may leave: even spacing, pauses, quotas and the adaptive rate.

One pacer serves all workers. It answers "leave now" or "ask again in N seconds" and
reserves nothing for sleeping workers, so a pause that begins meanwhile stops them all. It
uses no clock, no random numbers, no sleeping and no HTTP: times and jitter are arguments.
The public constants are rendered into shared_pace.lua.
"""

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from telemetron_batch.config.rate import Rate
from telemetron_batch.rate_limit.adaptive_rate import AdaptiveRate

MAX_LATENESS_S: Final = 0.05
"""Seconds by which the schedule may lag behind and catch up. Late timers then cost no throughput."""
MIN_WAIT_S: Final = 1e-4
"""Shortest wait, in seconds. It advances the floating point of any clock, so that no caller asks forever."""
_MAX_REMEMBERED_DEPARTURES: Final = 10_000
"""Departures that are remembered. Larger rates are enforced in parts of their window, which bounds memory."""
_JITTER_TOLERANCE_S: Final = 0.002
"""Seconds by which an attempt may leave late without a correction. The window's allowance for jitter covers them."""
_MAX_RESTORED_PAUSE_S: Final = 86_400.0
"""Longest pause taken over from a stored state, in seconds. A damaged file must not stop a run for years."""
STATE_TTL_S: Final = 600.0
"""Seconds for which a stored learned rate is valid. What a server granted earlier says little about now."""

PROBE_POLL_S: Final = 0.05
"""Seconds between two questions while a probe is in flight. Nobody can tell when it will be answered."""
_PROBE_TIMEOUT_S: Final = 600.0
"""Seconds after which a probe counts as lost. A probe that is never reported back must not block all workers."""
MAX_GAP_AFTER_PROBE_S: Final = 1.0
"""Longest gap after an accepted probe, in seconds. The probe may have used the only free place of a window."""

MIN_FIRST_PAUSE_S: Final = 0.25
"""Shortest first pause after a refusal, in seconds, when the server does not say how long to wait."""
FIRST_PAUSE_PER_MEMORY: Final = 0.05
"""First pause as a part of the longest refusal seen. If refusals last a minute, probing at once is refused again."""
MAX_FIRST_PAUSE_S: Final = 2.0
"""Longest first pause after a refusal, in seconds. Further pauses double."""
MAX_PAUSE_S: Final = 16.0
"""Longest pause that the server did not ask for, in seconds. A recovered server is noticed within it."""
MAX_PAUSE_DOUBLINGS: Final = 6
"""Refused probes in a row that double the pause. `MIN_FIRST_PAUSE_S` then reaches `MAX_PAUSE_S`."""
MIN_PAUSE_FRACTION: Final = 0.5
"""A pause that the server did not ask for lasts at least this fraction of its full length; the rest is random."""
MAX_EXTRA_WAIT_FRACTION: Final = 0.05
"""Up to this fraction of a requested wait is added at random. It spreads clients that were refused together."""
MAX_EXTRA_WAIT_S: Final = 1.0
"""Maximum seconds that are added to a requested wait at random."""
MAX_PACED_QUOTA_S: Final = 120.0
"""Seconds within which a quota must be renewed to be spread evenly. Spreading a daily quota would slow a run down."""


@dataclass(frozen=True, slots=True)
class Permit:
    """Permission to send one attempt now. Each permit is reported back exactly once."""

    epoch: int
    """Refusals of permits of the same epoch belong to one incident."""
    sent_at: float
    probe: bool
    """Whether this attempt tests, during a pause, if the server accepts again."""


@dataclass(frozen=True, slots=True)
class PacerState:
    """State for a later process. Times are seconds from the moment of the snapshot."""

    next_due_in: float = 0.0
    """Seconds until the next departure is due."""
    pause_left: float = 0.0
    """Seconds left of the pause; 0 without one."""
    learned_rate: float | None = None
    """The learned rate in attempts per second; None if the server never refused."""


class Spacing(NamedTuple):
    """How far apart attempts must leave. A window of 0 s sets no limit."""

    limit: int
    """Attempts that may leave in any `window_s`."""
    window_s: float
    gap: float
    """Seconds between two attempts that leave evenly."""


def spacing(rate: Rate) -> Spacing:
    """Return the spacing that keeps a rate in any window of time; see `_Schedule` for the proof."""
    if rate.attempts == math.inf:
        return Spacing(1, 0.0, 0.0)
    whole = max(1, math.floor(rate.attempts))
    window = rate.seconds * whole / rate.attempts
    jitter_allowance = min(0.5, max(0.025, window / 40))
    parts = math.ceil(whole / _MAX_REMEMBERED_DEPARTURES)
    limit = whole // parts
    window_s = (window + jitter_allowance) / parts
    return Spacing(limit, window_s, window_s / limit)


class _Schedule:
    """Even spacing, and never more than the rate in any window.

    Lemma: let an attempt take between d and d+J seconds to arrive. Attempts that arrive in a
    window of length W left within a window of length W+J. Departures T apart put at most
    (W+J)/T attempts there. So T = (W+J)/N keeps every window at N, whether the server's
    windows are fixed or sliding, and wherever they begin.
    Timers wake late, so the schedule may lag a little and departures then bunch. Therefore
    the N-th last departure is checked as well: it must be W+J ago.
    """

    def __init__(self, rate: Rate) -> None:
        limit, self._window_s, self.gap = spacing(rate)
        self.due = -math.inf
        self._permitted: deque[float] = deque(maxlen=limit)
        self._departed: deque[float] = deque(maxlen=limit)

    @property
    def window_limit(self) -> int:
        """Attempts that may leave in one window."""
        return self._permitted.maxlen or 0

    def wait(self, now: float) -> float:
        due = self.due
        if len(self._permitted) == self._permitted.maxlen:
            due = max(due, self._permitted[0] + self._window_s)
        return due - now

    def reserve(self, now: float, gap: float) -> None:
        is_first = self.due == -math.inf  # then it cannot be late: nothing was due before it
        self.due = max(self.due, now if is_first else now - MAX_LATENESS_S) + max(gap, self.gap)
        self._permitted.append(now)

    def wait_to_depart(self, now: float) -> float:
        """Check the window against real departures; return 0 or the seconds still to wait."""
        departed = self._departed
        if self._window_s and len(departed) == departed.maxlen and now < departed[0] + self._window_s:
            return max(departed[0] + self._window_s - now, MIN_WAIT_S)
        departed.append(now)
        return 0.0

    def correct(self, planned: float, actual: float) -> None:
        """Replace the planned departure by the actual one, if it is still remembered."""
        if actual - planned > _JITTER_TOLERANCE_S and planned in self._departed:
            self._departed.remove(planned)
            self._departed.append(actual)


class WindowLimiter:
    """Limits the attempts in any window of a rate when the pace is decided elsewhere."""

    def __init__(self, rate: Rate) -> None:
        limit = spacing(rate).limit
        self._window = limit * rate.seconds / rate.attempts
        self._log: deque[float] = deque(maxlen=limit)

    def wait(self, now: float) -> float:
        """Return 0 when another attempt may leave, else the seconds to wait."""
        if len(self._log) < (self._log.maxlen or 0) or now >= self._log[0] + self._window:
            return 0.0
        return max(self._log[0] + self._window - now, MIN_WAIT_S)

    def add(self, now: float) -> None:
        """Record that another attempt leaves."""
        self._log.append(now)


class Pacer:
    """Decides when attempts may leave, for all workers together.

    Every permit is reported back once, by `succeeded`, `throttled` or `abandoned`.
    Times are seconds of one monotonic clock.
    """

    def __init__(self, rate: Rate) -> None:
        self.permits_granted = 0
        self.refusals = 0
        self._schedule = _Schedule(rate)
        self._adaptive_rate = AdaptiveRate(rate.per_second)
        self._epoch = self._refused_probes = self._in_flight = 0
        self._paused_until: float | None = None
        self._probe: Permit | None = None
        self._is_rate_limited = False
        """Whether attempts had to wait for the rate lately. Otherwise their answers say nothing about a higher rate."""
        self._quota_rate, self._quota_rate_ends_at = math.inf, -math.inf
        self._quota_renewed_at = -math.inf

    def acquire(self, now: float) -> Permit | float:
        """Return a permit to leave now, or the seconds (more than 0) after which to ask again."""
        wait = max(self._schedule.wait(now), self._quota_renewed_at - now, self._pause_wait(now))
        if wait > 0:
            self._is_rate_limited = True
            return max(wait, MIN_WAIT_S)
        if now - self._schedule.due > MAX_LATENESS_S:
            self._is_rate_limited = False
        self._adaptive_rate.begin(now)
        self._schedule.reserve(now, 1 / self.rate(now))
        self.permits_granted += 1
        self._in_flight += 1
        permit = Permit(self._epoch, now, probe=self._paused_until is not None)
        if permit.probe:
            self._probe = permit
        return permit

    def adjust_send_time(self, permitted: float, now: float) -> None:
        """Record that a permitted attempt reached the wire later, for instance after a new connection was made."""
        self._schedule.correct(permitted, now)

    def before_send(self, now: float) -> float:
        """Return 0 when a permitted attempt may leave at this moment, else the seconds to wait.

        The attempt is written to the journal between permit and departure. A slow disk can
        bunch attempts that were permitted evenly.
        """
        return self._schedule.wait_to_depart(now)

    def succeeded(self, permit: Permit, now: float) -> None:
        """Record that the rate limit let the attempt through. The answer may still be an error of the call."""
        self._in_flight -= 1
        self._adaptive_rate.add_accepted(permit.sent_at, now, rate_limited=self._is_rate_limited)
        if permit == self._probe:
            self._probe = None
            if self._paused_until is not None and self._paused_until <= now:
                self._paused_until = None
                self._refused_probes = 0
                self._adaptive_rate.end_incident(now)
                # The probe may have used the only free place of the server's window.
                self._schedule.due = max(self._schedule.due, now + min(MAX_GAP_AFTER_PROBE_S, 1 / self.rate(now)))

    def throttled(self, permit: Permit, now: float, wait: float | None, jitter: float) -> None:
        """Record a refusal for the rate: all workers wait, one attempt probes, the rate falls once.

        `wait` is the time in seconds that the server asked for; `jitter` is a random number in [0, 1).
        """
        self._in_flight -= 1
        self.refusals += 1
        self._adaptive_rate.add_refusal(now, wait)
        if permit == self._probe:
            self._probe = None
            self._refused_probes += 1
        elif permit.epoch == self._epoch:
            self._epoch += 1
            self._adaptive_rate.begin_incident(now)
        elif wait is None:
            return
        self._extend_pause(now + self._pause_seconds(wait, jitter))

    def abandoned(self, permit: Permit, now: float) -> None:
        """Record that no answer came. The attempt may have counted; another one must probe."""
        self._in_flight -= 1
        if permit == self._probe:
            self._probe = None
            self._extend_pause(now + self._pause_seconds(None, 0.0))

    def apply_quotas(self, quotas: Iterable[tuple[int, float]], now: float) -> None:
        """Slow down for the quotas of an answer: attempts left, seconds until renewed.

        Call this after the answer's permit was reported. Attempts in flight count as used.
        A spent quota stops all workers as a refusal does, but without a probe and without a
        lower rate afterwards, because it was announced.
        """
        paced = []
        for left, renewed_in in quotas:
            unused = left - self._in_flight
            if unused <= 0:
                self._quota_renewed_at = max(self._quota_renewed_at, now + renewed_in)
            elif 0 < renewed_in <= MAX_PACED_QUOTA_S:
                paced.append((unused / renewed_in, now + renewed_in))
        if paced:
            self._quota_rate, self._quota_rate_ends_at = min(paced)
            self._schedule.due = max(self._schedule.due, now)

    def paused_until(self, now: float) -> float | None:
        """Return when the pause of all workers ends, or None without a pause."""
        if self._paused_until is None and self._quota_renewed_at <= now:
            return None
        return max(now, self._quota_renewed_at, -math.inf if self._paused_until is None else self._paused_until)

    def rate(self, now: float) -> float:
        """Return the attempts per second that may leave at present, apart from pauses."""
        return min(self._adaptive_rate.rate(), self._quota_rate if now < self._quota_rate_ends_at else math.inf)

    @property
    def learned_rate(self) -> float | None:
        """Attempts per second that the server grants; None if it never refused."""
        return self._adaptive_rate.learned_rate

    def snapshot(self, now: float) -> PacerState:
        """Return the state that keeps the next process from bursting and from ignoring a pause."""
        next_due_in = max(0.0, self._schedule.due - now)
        paused_until = self.paused_until(now)
        return PacerState(next_due_in, 0.0 if paused_until is None else paused_until - now, self.learned_rate)

    def restore(self, state: PacerState, elapsed: float, now: float) -> None:
        """Continue from the state of `elapsed` seconds ago; absurd numbers are clamped."""
        if state.learned_rate is not None and 0 < state.learned_rate < math.inf and elapsed < STATE_TTL_S:
            self._adaptive_rate.restore(state.learned_rate)
        gap = max(self._schedule.gap, 1 / self.rate(now))
        elapsed = _clamped(elapsed, math.inf)
        # The state may miss the last departures, which were a gap apart, plus or minus the lateness.
        next_due_in = max(_clamped(state.next_due_in, gap) - elapsed, min(gap, 1.0))
        self._schedule.due = now + next_due_in + MAX_LATENESS_S
        pause_left = _clamped(state.pause_left, _MAX_RESTORED_PAUSE_S) - elapsed
        if pause_left > 0:
            self._extend_pause(now + pause_left)

    def _pause_seconds(self, wait: float | None, jitter: float) -> float:
        """Return the seconds to pause: never less than the server asked for, longer with each refused probe."""
        first = max(MIN_FIRST_PAUSE_S, min(MAX_FIRST_PAUSE_S, self._adaptive_rate.memory * FIRST_PAUSE_PER_MEMORY))
        full = min(MAX_PAUSE_S, first * 2.0 ** min(self._refused_probes, MAX_PAUSE_DOUBLINGS))
        own = (MIN_PAUSE_FRACTION + jitter * (1 - MIN_PAUSE_FRACTION)) * full
        return own if wait is None else max(own, wait + jitter * min(MAX_EXTRA_WAIT_S, wait * MAX_EXTRA_WAIT_FRACTION))

    def _pause_wait(self, now: float) -> float:
        if self._paused_until is None:
            return 0.0
        if self._probe is not None and now - self._probe.sent_at < _PROBE_TIMEOUT_S:
            return PROBE_POLL_S
        return self._paused_until - now

    def _extend_pause(self, until: float) -> None:
        self._paused_until = until if self._paused_until is None else max(self._paused_until, until)


def _clamped(number: float, most: float) -> float:
    return min(most, max(0.0, number))  # in this order NaN becomes 0
