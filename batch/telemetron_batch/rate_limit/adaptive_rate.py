"""Learn the rate that a server grants from its answers and refusals.

Arithmetic only. Permits, pauses and probes belong to the pacer. The constants were found
by simulation against fixed windows, sliding windows and token buckets
(tests/rate_limit/test_unknown_limits.py). The public ones are rendered into shared_pace.lua.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

INITIAL_RATE: Final = 5.0
"""Attempts per second at the start, when no ceiling is given. It doubles until the first refusal."""
INITIAL_DOUBLING_TIME_S: Final = 1.0
"""Seconds in which the rate doubles at the start, when no ceiling is given."""
MIN_RATE: Final = 0.05
"""Attempts per second, the lowest rate. One attempt in 20 s still notices when the server grants more."""
MAX_RATE: Final = 10_000.0
"""Attempts per second, the highest rate. One process cannot send faster; the limit keeps the arithmetic finite."""

MIN_SPREAD: Final = 1.06
"""Minimum factor by which the granted rate may differ from the learned rate. No measurement is more precise."""
_MAX_SPREAD: Final = 2.0
"""Maximum factor by which the granted rate may differ from the learned rate. A climb starts at rate / spread."""
_RESTORED_SPREAD: Final = 1 / 0.9
"""Spread of a rate that another process learned. The limit may have changed a little since."""

UPPER_BOUND_WEIGHT: Final = 0.75
"""Where between its lower bound (0) and its upper bound (1) the true value is expected.

The lower bound counts the whole pause, in which the server may have recovered long before.
"""
_MAX_RATIO_TO_REFUSED: Final = 0.95
"""Part of a refused rate that the learned rate may reach. The refused rate itself is too high."""
RETRY_AFTER_ROUNDING_S: Final = 1.0
"""Seconds by which a requested wait may exceed the needed one. Servers give whole seconds, rounded up."""
MIN_MEMORY_S: Final = 1.0
"""Seconds for which a server is assumed to remember attempts. Shorter windows behave like this one."""

MIN_PERIOD_S: Final = 6.0
"""Shortest climb from the reduced rate back to the learned rate, in seconds. Each climb can cost one refusal."""
_MAX_PERIOD_S: Final = 60.0
"""Longest climb from the reduced rate back to the learned rate, in seconds. Slower climbs waste the quota."""
_MIN_ATTEMPTS_PER_PERIOD: Final = 75.0
"""Minimum number of attempts during one climb. With fewer, a low limit would refuse one attempt in every few."""
_MIN_PAUSES_PER_PERIOD: Final = 8.0
"""Minimum length of a climb, as a multiple of the pause that the refusal cost. Expensive refusals must be rare."""
_MAX_COUNTED_PAUSE_S: Final = 2.0
"""Seconds of a pause that count for `_MIN_PAUSES_PER_PERIOD`. A server that asks for more would slow every climb."""
_SPREAD_SPEEDUP_EXPONENT: Final = 0.7
"""How much a wide spread shortens the climb (0: not at all). An uncertain rate is worth testing soon."""
DOUBLING_TIME_S: Final = 3.0
"""Seconds in which the rate doubles once nothing has refused well above the learned rate: the limit has risen."""
PERIODS_BEFORE_DOUBLING: Final = 2.0
"""Climbs without a refusal after which the rate doubles: one to the learned rate, one as far above it."""
MAX_DOUBLINGS: Final = 40.0
"""Maximum doublings of the learned rate. They exceed every limit; more could overflow."""
MIN_COUNTED_GAP_S: Final = 1.0
"""Seconds between two answers that always count as part of a climb."""
COUNTED_GAPS: Final = 2.0
"""Gaps between attempts that count as part of a climb when an answer is late. Longer silence says nothing."""

_MIN_SAMPLE: Final = 5
"""Minimum number of accepted attempts before a rate is calculated. Fewer say too little."""
MAX_REMEMBERED_ANSWERS: Final = 10_000
"""Accepted attempts that are remembered since the last incident. Bounds memory."""

_MAX_REMEMBERED_INCIDENTS: Final = 20
"""Incidents that are remembered. Bounds memory; the tests below need fewer."""
_INCIDENTS_TO_ASSUME_CHANCE: Final = 8
"""Minimum number of incidents before refusals may count as independent of the rate. Fewer may be an accident."""
_INCIDENTS_TO_REVOKE_CHANCE: Final = 5
"""Latest incidents that decide whether refusals are still independent of the rate."""
_SMALL_STEP_RATIO: Final = 0.75
"""Part of a refused rate down to which the next refused rate is a small step. A larger fall restarts the test."""
_USELESS_SLOWDOWN_RATIO: Final = 0.6
"""Part of the highest refused rate below which refusals should have become rarer if they depended on the rate."""
_MIN_ACCEPTED_PER_RANDOM_REFUSAL: Final = 8.0
"""Accepted attempts per refusal. A server that refuses more often than this enforces a rate."""
_MAX_ACCEPTED_PER_RANDOM_REFUSAL: Final = 60.0
"""Accepted attempts per refusal. Rarer refusals fit a limit that each climb reaches once."""
_SAME_FREQUENCY_RATIO: Final = 2.25
"""Factor between two frequencies of refusals that still count as the same."""
_HIGHER_FREQUENCY_RATIO: Final = 4.0
"""Factor by which random refusals must become more frequent before they count as a limit again."""


class Incident(NamedTuple):
    """One refusal together with those that followed it during the same pause."""

    rate: float
    """Attempts per second that were refused."""
    accepted: int
    """Attempts accepted since the previous incident."""
    refused: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedState:
    """What incidents have taught, in a form that processes can exchange."""

    learned_rate: float | None
    climb_age: float
    """Seconds since the current climb began."""
    climb_duration: float
    """Seconds of a climb from the reduced rate back to the learned rate."""
    spread: float
    """Factor by which the granted rate may differ from the learned rate."""
    longest_refusal_s: float
    """Longest time for which the server has refused, in seconds."""
    accepted_per_random_refusal: float | None
    """Accepted attempts per refusal, if refusals do not depend on the rate; otherwise None."""
    incidents: tuple[Incident, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentHistory:
    """An incident that has ended and the time before it. Times are seconds of one clock."""

    since: float
    """When the previous incident ended, or when the first attempt left."""
    accepted: tuple[float, ...]
    """When each accepted attempt since then was answered."""
    onset: float
    """When the first refusal came."""
    refused_rate: float
    """The rate that was refused, in attempts per second."""
    refused: int
    """Number of refusals."""
    refusing_until: float
    """Until when the server is assumed to have refused."""


class AdaptiveRate:
    """The rate that the server grants, learned from answers and refusals.

    A refusal and the pause after it bound the granted rate. The lower bound is the number of
    accepted attempts over the time they took plus the pause that the server needed. The upper
    bound is what the server accepted lately, over a span as long as it has been seen to
    remember. The learned rate lies between the two. The actual rate starts below it and
    climbs along a cubic, fast at first and slow around the learned rate (as CUBIC does in
    TCP). If nothing refuses well above it, the limit has risen and the rate doubles.

    Some servers refuse at random, independent of the rate. They refuse as often at a lower
    rate as at a higher one. Their refusals cost a pause but do not lower the rate.
    """

    def __init__(self, ceiling: float) -> None:
        self.learned_rate: float | None = None
        """Attempts per second that the server grants; None before the first refusal."""
        self._ceiling = ceiling
        self._unrefused_rate = min(ceiling, INITIAL_RATE) if ceiling == math.inf else ceiling
        self._doubled_at = self._last_answer_at = self._since = 0.0
        self._has_begun = False
        self._accepted: deque[float] = deque(maxlen=MAX_REMEMBERED_ANSWERS)
        self._age, self._period, self._spread = 0.0, MIN_PERIOD_S, MIN_SPREAD
        self._onset: float | None = None
        self._refused_rate = self._refusing_until = 0.0
        self.memory = MIN_MEMORY_S
        """Longest time that the server has been seen to refuse without a break, in seconds."""
        self._incidents: deque[Incident] = deque(maxlen=_MAX_REMEMBERED_INCIDENTS)
        self._refusals = 0
        self._accepted_per_random_refusal: float | None = None

    def begin(self, now: float) -> None:
        """Record that an attempt leaves; the first one starts the measurement."""
        if not self._has_begun:
            self._has_begun = True
            self._since = self._doubled_at = self._last_answer_at = now

    def rate(self) -> float:
        """Return the attempts per second that may leave at present."""
        if self.learned_rate is None:
            return self._unrefused_rate
        distance = self._age / self._period - 1
        spread = math.log2(self._spread)
        unrefused = max(0.0, self._age - PERIODS_BEFORE_DOUBLING * self._period)
        doublings = min(MAX_DOUBLINGS, spread * distance**3, spread + unrefused / DOUBLING_TIME_S)
        return min(self._ceiling, MAX_RATE, max(MIN_RATE, self.learned_rate * math.exp2(doublings)))

    def add_accepted(self, sent_at: float, now: float, *, rate_limited: bool) -> None:
        """Record an accepted attempt, and climb if it was our rate that limited the attempts."""
        self._accepted.append(now)
        passed, self._last_answer_at = now - self._last_answer_at, now
        may_double = now - INITIAL_DOUBLING_TIME_S >= self._doubled_at <= sent_at
        if rate_limited and self.learned_rate is not None:
            self._age += min(passed, max(MIN_COUNTED_GAP_S, COUNTED_GAPS / self.rate()))
        elif rate_limited and self._ceiling == math.inf and may_double:
            self._unrefused_rate, self._doubled_at = min(MAX_RATE, 2 * self._unrefused_rate), now

    def begin_incident(self, now: float) -> None:
        """Record that the server begins to refuse."""
        self._refused_rate = self.rate()
        self._onset = now
        self._refusing_until = max(self._refusing_until, now)

    def add_refusal(self, now: float, wait: float | None) -> None:
        """Record a refusal and the seconds that the server asked to wait, if any."""
        self._refusals += 1
        needed = (wait or 0.0) - RETRY_AFTER_ROUNDING_S
        self._refusing_until = max(self._refusing_until, now, now + UPPER_BOUND_WEIGHT * needed)

    def end_incident(self, now: float) -> None:
        """Record that the server accepts again, and learn from the incident."""
        if self._onset is None:
            return
        pause_s = now - self._onset
        self.memory = max(self.memory, pause_s)
        self._record_incident()
        if not self._refuses_at_random():
            expected, highest = self._estimate(self._onset, now)
            self._set_learned_rate(expected, max(MIN_SPREAD, highest / expected), pause_s)
        self._onset, self._refusals = None, 0
        # The answer to the probe is the first one of the new measurement.
        self._accepted.clear()
        self._accepted.append(now)
        self._since = self._last_answer_at = now

    def restore(self, learned_rate: float) -> None:
        """Start from a rate, in attempts per second, that another process learned."""
        self._set_learned_rate(learned_rate, _RESTORED_SPREAD, 0.0)

    def _set_learned_rate(self, learned_rate: float, spread: float, pause_s: float) -> None:
        self.learned_rate = min(MAX_RATE, max(MIN_RATE, learned_rate))
        self._spread = min(_MAX_SPREAD, spread)
        climb_duration = max(
            MIN_PERIOD_S,
            _MIN_ATTEMPTS_PER_PERIOD / self.learned_rate,
            _MIN_PAUSES_PER_PERIOD * min(pause_s, _MAX_COUNTED_PAUSE_S),
            self.memory,  # a long window fills slowly: a faster climb would end far above the limit
        )
        speedup = (math.log(MIN_SPREAD) / math.log(self._spread)) ** _SPREAD_SPEEDUP_EXPONENT
        self._period = min(_MAX_PERIOD_S, speedup * climb_duration)
        self._age = 0.0

    def _estimate(self, onset: float, now: float) -> tuple[float, float]:
        """Return the expected granted rate and its upper bound."""
        refusing_until = min(now, self._refusing_until)
        cycle = max(0.02, onset - self._since)
        recent = min(cycle, self.memory)
        latest = max((at for at in self._accepted if at <= onset), default=onset)
        recent_rate = sum(latest - recent < at for at in self._accepted) / (recent + refusing_until - onset)
        high = min(self._refused_rate, recent_rate)
        low = min(high, self._best_sustained_rate(onset, (refusing_until + now) / 2))
        if not low or len(self._accepted) < _MIN_SAMPLE:
            low = max(low, self._lower_bound_of_small_sample())
            high = max(low, min(_MAX_SPREAD * low, self._refused_rate))
        weight = UPPER_BOUND_WEIGHT * min(1.0, cycle / self.memory)
        return min(low ** (1 - weight) * high**weight, _MAX_RATIO_TO_REFUSED * self._refused_rate), high

    def _best_sustained_rate(self, onset: float, until: float) -> float:
        """Return the best rate over any span that starts with an accepted attempt and lasts until `until`."""
        count = len(self._accepted)
        rates = [(count - at) / (until - begun) for at, begun in enumerate(self._accepted) if begun < onset < until]
        return max(rates, default=0.0)

    def _lower_bound_of_small_sample(self) -> float:
        """Return a careful rate after few attempts: one early refusal may be chance, two are not."""
        before = self._incidents[-2].accepted if len(self._incidents) > 1 else 0
        if before >= _MIN_SAMPLE:
            return _SMALL_STEP_RATIO * self._refused_rate
        return min(self._refused_rate / 4, INITIAL_RATE)

    def _record_incident(self) -> None:
        if self._incidents and self._refused_rate < _SMALL_STEP_RATIO * self._incidents[-1].rate:
            self._incidents.clear()
        self._incidents.append(Incident(self._refused_rate, len(self._accepted), self._refusals))

    def _refuses_at_random(self) -> bool:
        """Update and return whether the server refuses at random, independent of the rate."""
        if self._accepted_per_random_refusal is None and _slowing_did_not_help(self._incidents):
            self._accepted_per_random_refusal = _accepted_per_refusal(self._incidents)
            self._set_learned_rate(max(incident.rate for incident in self._incidents), MIN_SPREAD, 0.0)
            self._incidents.clear()
        elif self._accepted_per_random_refusal is not None and len(self._incidents) >= _INCIDENTS_TO_REVOKE_CHANCE:
            lately = _accepted_per_refusal([*self._incidents][-_INCIDENTS_TO_REVOKE_CHANCE:])
            if lately < self._accepted_per_random_refusal / _HIGHER_FREQUENCY_RATIO:
                self._accepted_per_random_refusal = None
        return self._accepted_per_random_refusal is not None


def learn_from(state: LearnedState, incident: IncidentHistory, now: float) -> LearnedState:
    """Return the state learned from an incident that ended at `now`, for callers that keep no `AdaptiveRate`."""
    adaptive = AdaptiveRate(math.inf)
    adaptive.learned_rate, adaptive.memory = state.learned_rate, state.longest_refusal_s
    adaptive._age, adaptive._period, adaptive._spread = state.climb_age, state.climb_duration, state.spread
    adaptive._accepted_per_random_refusal = state.accepted_per_random_refusal
    adaptive._incidents.extend(state.incidents)
    adaptive._since, adaptive._onset = incident.since, incident.onset
    adaptive._refusing_until = incident.refusing_until
    adaptive._refused_rate, adaptive._refusals = incident.refused_rate, incident.refused
    adaptive._accepted.extend(incident.accepted)
    adaptive.end_incident(now)
    return LearnedState(
        learned_rate=adaptive.learned_rate,
        climb_age=adaptive._age,
        climb_duration=adaptive._period,
        spread=adaptive._spread,
        longest_refusal_s=adaptive.memory,
        accepted_per_random_refusal=adaptive._accepted_per_random_refusal,
        incidents=tuple(adaptive._incidents),
    )


def _accepted_per_refusal(incidents: Sequence[Incident]) -> float:
    return sum(incident.accepted for incident in incidents) / sum(incident.refused for incident in incidents)


def _slowing_did_not_help(incidents: Sequence[Incident]) -> bool:
    """Return whether the rate fell far in small steps while refusals stayed as frequent.

    A limit far below would have caused a large step; a limit close below would have been reached.
    """
    if len(incidents) < _INCIDENTS_TO_ASSUME_CHANCE:
        return False
    known, half = [*incidents], len(incidents) // 2
    fell_far = known[-1].rate <= _USELESS_SLOWDOWN_RATIO * max(incident.rate for incident in known)
    lower, higher = sorted(map(_accepted_per_refusal, (known[:half], known[half:])))
    is_getting_worse = _accepted_per_refusal(known[-2:]) < _MIN_ACCEPTED_PER_RANDOM_REFUSAL
    is_steady = (
        _MIN_ACCEPTED_PER_RANDOM_REFUSAL
        <= lower
        <= higher
        <= min(_MAX_ACCEPTED_PER_RANDOM_REFUSAL, _SAME_FREQUENCY_RATIO * lower)
    )
    return fell_far and not is_getting_worse and is_steady
