"""The rate that a server seems to grant, learnt from its answers and refusals.

Arithmetic only: knows no permits, holds or probes, which are the pacer's.
"""

import math
from typing import Final

# Found by simulation against fixed and sliding windows and token buckets (tests/test_pacing.py).
_START: Final = 5.0
_FLOOR, _TOP = 0.05, 10_000.0
_DIP: Final = 0.1  # resume at this much below the plateau
_PERIOD: Final = 12.0  # seconds from there back to the plateau, and as long to as much above it
_LONGEST_PERIOD, _LONGEST_BELOW_CEILING = 60.0, 30.0
_DOUBLES_AFTER, _DOUBLES_BELOW_CEILING = 2.0, 1.25  # periods without a refusal; sooner where we are told how far
_CALLS_A_PERIOD: Final = 40.0  # or slow limits would see a refusal every few calls
_BRIEF: Final = 2.0
_TRUST: Final = 0.6  # how much of the way to the refused rate a brief hold takes us
_EVIDENCE: Final = 4.0  # seconds below which accepted/elapsed is noise
_FEW: Final = 10


class Climb:
    """The rate that the server seems to grant, learnt from answers and refusals.

    Between the onsets of two incidents the server's allowance is used up at both ends,
    so accepted attempts over elapsed time is its rate. A brief hold says that little was
    overdrawn, and the refused rate is near the truth; after a long one a window was
    exhausted, and only the average counts. From below that plateau the rate climbs along
    a cubic, fast towards it and slow around it (as CUBIC does in TCP); where nothing
    refuses well above it the limit has gone up, and the rate doubles.
    """

    def __init__(self, ceiling: float) -> None:
        self.plateau: float | None = None
        self._ceiling = ceiling
        self._ramp = min(ceiling, _START) if ceiling == math.inf else ceiling
        self._age = self._stepped = self._last = 0.0
        self._since: float | None = None
        self._accepted = self._granted = 0
        self._onset: float | None = None
        self._cycle = self._refused_at = 0.0
        self._period = _PERIOD
        told = ceiling < math.inf
        self._longest = _LONGEST_BELOW_CEILING if told else _LONGEST_PERIOD
        self._doubles_after = _DOUBLES_BELOW_CEILING if told else _DOUBLES_AFTER

    def begin(self, now: float) -> None:
        """An attempt leaves: from the first one on, time counts."""
        if self._since is None:
            self._since = self._stepped = self._last = now

    def rate(self) -> float:
        """Attempts a second that may leave at present."""
        if self.plateau is None:
            return self._ramp
        way = self._age / self._period
        cubic = 1 + _DIP * (min(way, 2.0) - 1) ** 3
        doublings = min(40.0, 3 * max(0.0, way - self._doubles_after))
        return min(self._ceiling, max(_FLOOR, self.plateau * cubic * 2**doublings))

    def answered(self, sent_at: float, now: float, *, pressed: bool) -> None:
        """Climb, if the rate was what held us back: else an answer says nothing about it."""
        self._accepted += 1
        passed, self._last = now - self._last, now
        if pressed and self.plateau is not None:
            self._age += min(passed, max(1.0, 2 / self.rate()))
        elif pressed and self._ceiling == math.inf and now - 1 >= self._stepped <= sent_at:
            self._ramp, self._stepped = min(_TOP, 2 * self._ramp), now

    def cut(self, now: float) -> None:
        """An incident begins: the server refuses."""
        self._cycle = max(0.1, now - (now if self._since is None else self._since))
        self._granted = self._accepted
        self._refused_at = self.rate()
        self._onset = now
        if self._cycle >= _EVIDENCE or self.plateau is None:
            self._since, self._accepted = now, 0

    def resume(self, now: float) -> None:
        """The incident is over: go on from what it taught."""
        if self._onset is None:
            return
        held, self._onset = now - self._onset, None
        brief = held <= max(_BRIEF, self._cycle / 10)
        # In a window that fills up slowly a climb as fast as elsewhere ends far above the limit.
        period = 0.75 * self._period if brief else (self._cycle + held) / 2
        self.settle(self._found(held, brief=brief))
        self._period = min(self._longest, max(self._period, period))
        self._last = now

    def settle(self, plateau: float) -> None:
        """Take this rate, per second, for what the server grants."""
        self.plateau = min(_TOP, max(_FLOOR, plateau))
        self._period = max(_PERIOD, min(self._longest, _CALLS_A_PERIOD / self.plateau))
        self._age = 0.0

    def _found(self, held: float, *, brief: bool) -> float:
        average = self._granted / self._cycle
        refused_at = min(self._refused_at, 2 * average)
        if brief:
            average += _TRUST * max(0.0, refused_at - average)
        if self.plateau is not None:
            return max(average, self._refused_at / (2 if self._granted < _FEW else 4))
        if not brief:
            # At the start, unlike at later onsets, the window was whole: count its exhaustion in.
            average = self._granted / (self._cycle + held)
        if self._ceiling < math.inf:
            average = max(average, min(refused_at / 2, 2 * average))
        return average if self._granted >= _FEW else max(average, min(self._refused_at / 4, _START))
