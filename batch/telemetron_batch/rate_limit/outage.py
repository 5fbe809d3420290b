"""Whether the API is down, and when one probe may look if it is back.

Judged over all calls together: a call that fails alone is the call's own trouble. It
refuses to know clocks, randomness, HTTP and how long the run is willing to wait.
"""

from collections import deque
from typing import Final

_ATTEMPTS: Final = 10
_CALLS: Final = 3
_MAX_PROBE_INTERVAL: Final = 60.0
_PROBE_LOST: Final = 600.0
"""A probe of which nothing is heard for so long is taken for abandoned."""


class OutageDetector:
    """Down when the last ten attempts, over at least three calls, all failed; up at the first answer.

    Failed means a connection error, a time-out or a 5xx. Any other answer, a refusal for
    the rate included, shows that somebody is at home.
    """

    def __init__(self) -> None:
        self._failed: deque[int] = deque(maxlen=_ATTEMPTS)
        self._first_failure: float | None = None
        self._down = False
        self._due = 0.0
        self._pause = 1.0
        self._probes = 0
        self._probe: tuple[int, float] | None = None

    @property
    def is_down(self) -> bool:
        """Attempts that leave while this holds do not count against their calls."""
        return self._down

    @property
    def down_since(self) -> float | None:
        """When the first failure after the last answer was seen; None while the API is up."""
        return self._first_failure if self._down else None

    def down_for(self, now: float) -> float:
        """Seconds since `down_since`, 0 while the API is up."""
        since = self.down_since
        return 0.0 if since is None else max(0.0, now - since)

    def next_probe(self, now: float) -> float | None:
        """Seconds until the next probe may leave, 0 or more; None while one is out, or none is needed."""
        return None if self._probe is not None or not self._down else max(0.0, self._due - now)

    def take(self, call: int, now: float, jitter: float) -> float:
        """0 when an attempt of this call may leave now, else the seconds after which to ask again.

        While the API is down the call that gets 0 is the probe until its attempt is
        `answered`, `failed` or `abandoned`. `jitter` is a random number in [0, 1).
        """
        if not self._down or (self._probe is not None and self._probe[0] == call):
            return 0.0
        if self._probe is not None and now - self._probe[1] < _PROBE_LOST:
            return 1.0
        if now < self._due:
            return max(self._due - now, 1e-3)
        self._probe = (call, now)
        self._probes += 1
        self._pause = min(_MAX_PROBE_INTERVAL, 2.0 ** min(self._probes, 6)) * (1 + jitter / 10)
        return 0.0

    def answered(self, call: int, now: float) -> None:  # noqa: ARG002 - one shape for all reports
        """The call's attempt got an answer that is no 5xx: the API is up."""
        self._failed.clear()
        self._first_failure = None
        self._down = False
        self._probe = None
        self._probes = 0

    def failed(self, call: int, now: float) -> None:
        """The call's attempt ended in a connection error, a time-out or a 5xx."""
        self._failed.append(call)
        if self._first_failure is None:
            self._first_failure = now
        if self._down:
            self._release(call, now)
        elif len(self._failed) == _ATTEMPTS and len(set(self._failed)) >= _CALLS:
            self._down = True
            self._due = now + 1.0

    def abandoned(self, call: int, now: float) -> None:
        """The call's attempt was cancelled, or never left: nothing was learnt."""
        self._release(call, now)

    def _release(self, call: int, now: float) -> None:
        if self._probe is not None and self._probe[0] == call:
            self._probe = None
            self._due = now + self._pause
