"""Detect that the API is down and decide when one attempt may probe it.

The detector looks at all calls together, because a call that fails alone may itself be the
cause. It uses no clock, no random numbers and no HTTP; how long a run waits is not its concern.
"""

from collections import deque
from typing import Final

_FAILED_ATTEMPTS: Final = 10
"""Minimum number of failed attempts in a row before the API counts as down."""
_FAILED_CALLS: Final = 3
"""Calls to which these attempts must belong at least: one call can fail for its own reasons."""
_MAX_PROBE_INTERVAL_S: Final = 60.0
"""Longest time between two probes, in seconds. An API that is back is noticed within it."""
_PROBE_TIMEOUT_S: Final = 600.0
"""Seconds after which a probe counts as abandoned. A probe that is never reported back must not block the run."""


class OutageDetector:
    """Down when the last ten attempts, over at least three calls, all failed; up at the first answer.

    An attempt fails by a connection error, a time-out or a 5xx. Any other answer, including a
    refusal for the rate, shows that the API is up. Attempts of which no byte left count as those of
    different calls, because their call cannot be the cause.
    """

    def __init__(self) -> None:
        self._failed: deque[tuple[int, int]] = deque(maxlen=_FAILED_ATTEMPTS)
        """The call of each attempt, and a number of its own if no byte of it left."""
        self._unsent = 0
        self._first_failure: float | None = None
        self._down = False
        self._due = 0.0
        self._pause = 1.0
        self._probes = 0
        self._probe: tuple[int, float] | None = None

    @property
    def is_down(self) -> bool:
        """Whether the API seems to be down. Attempts that leave meanwhile do not count against their calls."""
        return self._down

    @property
    def down_since(self) -> float | None:
        """When the first attempt after the last answer failed; None while the API is up."""
        return self._first_failure if self._down else None

    def down_for(self, now: float) -> float:
        """Return the seconds since `down_since`, or 0 while the API is up."""
        since = self.down_since
        return 0.0 if since is None else max(0.0, now - since)

    def next_probe(self, now: float) -> float | None:
        """Return the seconds until the next probe may leave; None while one is in flight or none is needed."""
        return None if self._probe is not None or not self._down else max(0.0, self._due - now)

    def wait_before_attempt(self, call: int, now: float, jitter: float) -> float:
        """Return 0 when an attempt of this call may leave now, else the seconds after which to ask again.

        While the API is down, the call that gets 0 is the probe until its attempt is
        `answered`, `failed` or `abandoned`. `jitter` is a random number in [0, 1).
        """
        if not self._down or (self._probe is not None and self._probe[0] == call):
            return 0.0
        if self._probe is not None and now - self._probe[1] < _PROBE_TIMEOUT_S:
            return 1.0
        if now < self._due:
            return max(self._due - now, 1e-3)
        self._probe = (call, now)
        self._probes += 1
        self._pause = min(_MAX_PROBE_INTERVAL_S, 2.0 ** min(self._probes, 6)) * (1 + jitter / 10)
        return 0.0

    def answered(self, call: int, now: float) -> None:  # noqa: ARG002 - same signature for all reports
        """Record that the call's attempt got an answer other than a 5xx: the API is up."""
        self._failed.clear()
        self._first_failure = None
        self._down = False
        self._probe = None
        self._probes = 0

    def failed(self, call: int, now: float, *, sent: bool = True) -> None:
        """Record that the call's attempt ended in a connection error, a time-out or a 5xx."""
        self._unsent += not sent
        self._failed.append((call, 0 if sent else self._unsent))
        if self._first_failure is None:
            self._first_failure = now
        if self._down:
            self._release(call, now)
        elif len(self._failed) == _FAILED_ATTEMPTS and len(set(self._failed)) >= _FAILED_CALLS:
            self._down = True
            self._due = now + 1.0

    def abandoned(self, call: int, now: float) -> None:
        """Record that the call's attempt was cancelled or never left, which says nothing about the API."""
        self._release(call, now)

    def _release(self, call: int, now: float) -> None:
        if self._probe is not None and self._probe[0] == call:
            self._probe = None
            self._due = now + self._pause
