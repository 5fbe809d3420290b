"""The rate that a server seems to grant, learnt from its answers and refusals.

Arithmetic only: knows no permits, holds or probes, which are the pacer's.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

# Found by simulation against fixed and sliding windows and token buckets (tests/test_unknown_limits.py).
_START: Final = 5.0
_FLOOR, _TOP = 0.05, 10_000.0
_NARROW, _WIDE, _RESTORED = 1.06, 2.0, 1 / 0.9  # by what factor the truth may lie beside what was found
_TRUST: Final = 0.75  # how much of the way to the upper bound the truth is to be expected
_BELOW: Final = 0.95  # what was refused is surely too much
_SHORTEST_MEMORY: Final = 1.0
_PERIOD, _LONGEST_PERIOD = 6.0, 60.0
_CALLS_A_PERIOD: Final = 75.0  # or slow limits would see a refusal every few calls
_HOLDS_A_PERIOD, _LONGEST_HOLD = 8.0, 2.0  # the dearer a refusal, the rarer it should be
_HURRY: Final = 0.7  # the less is known, the faster it should be found out
_DOUBLES_IN: Final = 3.0
_FEW: Final = 5
_LOG_LENGTH: Final = 10_000

_MOST_INCIDENTS, _INCIDENTS, _LAST_INCIDENTS = 20, 8, 5
_SMALL_STEP, _IN_VAIN = 0.75, 0.6
_OFTEN, _SELDOM = 8.0, 60.0  # attempts accepted for one refused, between which it may be chance
_ALIKE, _MORE_OFTEN = 2.25, 4.0


class _Incident(NamedTuple):
    rate: float
    """What was refused, per second."""
    accepted: int
    """Attempts since the incident before."""
    refused: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedState:
    """What incidents have taught, as one process can tell it to another."""

    learned_rate: float | None
    age: float
    period: float
    spread: float
    memory: float
    chance: float | None
    incidents: tuple[_Incident, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentHistory:
    """An incident that is over, and what went before it. Times are seconds of one clock."""

    since: float
    """When the incident before was over, or the first attempt left."""
    accepted: tuple[float, ...]
    """When answers came since then."""
    onset: float
    refused_at: float
    """The rate that was refused, per second."""
    refused: int
    closed: float
    """Until when the server is taken to have refused."""


class AdaptiveRate:
    """The rate that the server seems to grant, learnt from answers and refusals.

    A refusal and the hold that followed it bound the truth. From below: what was accepted,
    over the time it took and the hold that the server then needed. From above: what it
    accepted of late, over a stretch as long as it has been seen to remember. Between them
    the rate is taken to be, and climbs from under it along a cubic, fast towards it and slow
    around it (as CUBIC does in TCP); where nothing refuses well above it the limit has gone
    up, and the rate doubles.

    Some servers refuse now and then for no reason of rate. They are known by refusing as
    often at a lower rate as at a higher; their refusals then cost a hold, but no rate.
    """

    def __init__(self, ceiling: float) -> None:
        self.learned_rate: float | None = None
        """The rate found, per second; None before the first refusal."""
        self._ceiling = ceiling
        self._ramp = min(ceiling, _START) if ceiling == math.inf else ceiling
        self._stepped = self._last = self._since = 0.0
        self._began = False
        self._accepted: deque[float] = deque(maxlen=_LOG_LENGTH)
        self._age, self._period, self._spread = 0.0, _PERIOD, _NARROW
        self._onset: float | None = None
        self._refused_at = self._closed = 0.0
        self.memory = _SHORTEST_MEMORY
        """For how long the server has been seen to refuse at a stretch, in seconds."""
        self._incidents: deque[_Incident] = deque(maxlen=_MOST_INCIDENTS)
        self._refused = 0
        self._random_refusal_rate: float | None = None

    def begin(self, now: float) -> None:
        """An attempt leaves: from the first one on, time counts."""
        if not self._began:
            self._began = True
            self._since = self._stepped = self._last = now

    def rate(self) -> float:
        """Attempts a second that may leave at present."""
        if self.learned_rate is None:
            return self._ramp
        way = self._age / self._period - 1
        spread = math.log2(self._spread)
        doublings = min(spread * way**3, spread + max(0.0, self._age - 2 * self._period) / _DOUBLES_IN)
        return min(self._ceiling, _TOP, max(_FLOOR, self.learned_rate * math.exp2(min(40.0, doublings))))

    def answered(self, sent_at: float, now: float, *, pressed: bool) -> None:
        """Climb, if the rate was what held us back: else an answer says nothing about it."""
        self._accepted.append(now)
        passed, self._last = now - self._last, now
        if pressed and self.learned_rate is not None:
            self._age += min(passed, max(1.0, 2 / self.rate()))
        elif pressed and self._ceiling == math.inf and now - 1 >= self._stepped <= sent_at:
            self._ramp, self._stepped = min(_TOP, 2 * self._ramp), now

    def on_refusal(self, now: float) -> None:
        """An incident begins: the server refuses."""
        self._refused_at = self.rate()
        self._onset = now
        self._closed = max(self._closed, now)

    def refused(self, now: float, wait: float | None) -> None:
        """The server refuses at this moment, and perhaps said for how long it will."""
        self._refused += 1
        # Waits are told in whole seconds, rounded up, and often generously.
        self._closed = max(self._closed, now, now + _TRUST * ((wait or 0.0) - 1))

    def end_incident(self, now: float) -> None:
        """The incident is over: go on from what it taught."""
        if self._onset is None:
            return
        held = now - self._onset
        self.memory = max(self.memory, held)
        self._record_incident()
        if not self._is_chance():
            found, most = self._bounds(self._onset, now)
            self._settle(found, max(_NARROW, most / found), held)
        self._onset, self._refused = None, 0
        # The probe's is the first answer of what begins now.
        self._accepted.clear()
        self._accepted.append(now)
        self._since = self._last = now

    def restore(self, plateau: float) -> None:
        """Take this rate, per second, which another process found, for what the server grants."""
        self._settle(plateau, _RESTORED, 0.0)

    def _settle(self, plateau: float, spread: float, held: float) -> None:
        self.learned_rate = min(_TOP, max(_FLOOR, plateau))
        self._spread = min(_WIDE, spread)
        period = max(
            _PERIOD,
            _CALLS_A_PERIOD / self.learned_rate,
            _HOLDS_A_PERIOD * min(held, _LONGEST_HOLD),
            self.memory,  # in a window that fills up slowly, a fast climb ends far above the limit
        )
        hurry = (math.log(_NARROW) / math.log(self._spread)) ** _HURRY
        self._period = min(_LONGEST_PERIOD, hurry * period)
        self._age = 0.0

    def _bounds(self, onset: float, now: float) -> tuple[float, float]:
        """The rate to expect, and the most that it can be."""
        closed = min(now, self._closed)
        cycle = max(0.02, onset - self._since)
        recent = min(cycle, self.memory)
        latest = max((at for at in self._accepted if at <= onset), default=onset)
        of_late = sum(latest - recent < at for at in self._accepted) / (recent + closed - onset)
        high = min(self._refused_at, of_late)
        low = min(high, self._sustained(onset, (closed + now) / 2))
        if not low or len(self._accepted) < _FEW:
            low = max(low, self._least())
            high = max(low, min(_WIDE * low, self._refused_at))
        trust = _TRUST * min(1.0, cycle / self.memory)
        return min(low ** (1 - trust) * high**trust, _BELOW * self._refused_at), high

    def _sustained(self, onset: float, until: float) -> float:
        """The best rate over any stretch that ended with the incident and lasted until then."""
        count = len(self._accepted)
        rates = [(count - at) / (until - begun) for at, begun in enumerate(self._accepted) if begun < onset < until]
        return max(rates, default=0.0)

    def _least(self) -> float:
        """What to believe at least, after so few attempts: that they were refused may be chance, but not twice."""
        before = self._incidents[-2].accepted if len(self._incidents) > 1 else 0
        return _SMALL_STEP * self._refused_at if before >= _FEW else min(self._refused_at / 4, _START)

    def _record_incident(self) -> None:
        if self._incidents and self._refused_at < _SMALL_STEP * self._incidents[-1].rate:
            self._incidents.clear()
        self._incidents.append(_Incident(self._refused_at, len(self._accepted), self._refused))

    def _is_chance(self) -> bool:
        """Is it chance, and not the rate, that the server refuses for?"""
        if self._random_refusal_rate is None and _slowing_did_not_help(self._incidents):
            self._random_refusal_rate = _accepted_per_refusal(self._incidents)
            self._settle(max(incident.rate for incident in self._incidents), _NARROW, 0.0)
            self._incidents.clear()
        elif self._random_refusal_rate is not None and len(self._incidents) >= _LAST_INCIDENTS:
            lately = _accepted_per_refusal([*self._incidents][-_LAST_INCIDENTS:])
            self._random_refusal_rate = (
                self._random_refusal_rate if lately >= self._random_refusal_rate / _MORE_OFTEN else None
            )
        return self._random_refusal_rate is not None


def learn_from(known: LearnedState, course: IncidentHistory, now: float) -> LearnedState:
    """Return the state learned from an incident that ended at `now`, for callers that keep no `AdaptiveRate`."""
    climb = AdaptiveRate(math.inf)
    climb.learned_rate, climb.memory = known.learned_rate, known.memory
    climb._age, climb._period, climb._spread = known.age, known.period, known.spread
    climb._random_refusal_rate = known.chance
    climb._incidents.extend(known.incidents)
    climb._since, climb._onset, climb._closed = course.since, course.onset, course.closed
    climb._refused_at, climb._refused = course.refused_at, course.refused
    climb._accepted.extend(course.accepted)
    climb.end_incident(now)
    return LearnedState(
        learned_rate=climb.learned_rate,
        age=climb._age,
        period=climb._period,
        spread=climb._spread,
        memory=climb.memory,
        chance=climb._random_refusal_rate,
        incidents=tuple(climb._incidents),
    )


def _accepted_per_refusal(incidents: Sequence[_Incident]) -> float:
    return sum(incident.accepted for incident in incidents) / sum(incident.refused for incident in incidents)


def _slowing_did_not_help(incidents: Sequence[_Incident]) -> bool:
    """Did the rate fall far in these small steps, and the server refuse as often all the same?

    A limit far below would have made a large step, one close by have been reached.
    """
    if len(incidents) < _INCIDENTS:
        return False
    known, half = [*incidents], len(incidents) // 2
    fell = known[-1].rate <= _IN_VAIN * max(incident.rate for incident in known)
    least, most = sorted(map(_accepted_per_refusal, (known[:half], known[half:])))
    worsens = _accepted_per_refusal(known[-2:]) < _OFTEN
    return fell and not worsens and _OFTEN <= least <= most <= min(_SELDOM, _ALIKE * least)
