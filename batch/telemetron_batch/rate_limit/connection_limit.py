"""Tell connections that are refused for their number, as by a firewall, from an API that is down.

Uses no clock and no network: times are arguments, in seconds of one clock.
"""

import math
from typing import Final

_MIN_REFUSED: Final = 3
"""Refused connections in a row that make an episode. Fewer can be an accident."""
_MIN_CALLS: Final = 2
"""Calls to which they must belong at least."""
_MEMORY_S: Final = 600.0
"""Seconds for which an episode, and a limit that was recognised, are remembered."""


class ConnectionLimitDetector:
    """Counts refused or reset connections between answers.

    A firewall lets some connections through, refuses all others for a while, and lets some through again. So the
    second episode of refusals shows a limit; the first one may be an outage. An episode counts once one of its calls
    is answered: otherwise the calls themselves may be why the server resets their connections. Once a limit is
    recognised, every refusal is put down to it.
    """

    def __init__(self) -> None:
        self._refused = 0
        self._calls: set[int] = set()
        self._last_calls: set[int] = set()
        """The calls of the last episode, until one of them is answered."""
        self._last_episode = self._recognised_at = -math.inf
        self._has_answered = False
        self.is_limit = False
        """Whether the last refusal is put down to a limit."""

    def answered(self, call: int, now: float) -> None:
        """Record that an attempt of this call got an answer."""
        if self._has_answered and self._is_episode():
            self._last_calls = self._calls
        if call in self._last_calls:
            self._last_episode = now
            self._last_calls = set()
        self._has_answered = True
        self._refused = 0
        self._calls = set()

    def refused(self, call: int, now: float) -> bool:
        """Record that a connection was refused or reset, and return whether a limit is the cause."""
        self._refused += 1
        self._calls.add(call)
        is_again = now - self._last_episode <= _MEMORY_S and self._is_episode()
        self.is_limit = is_again or now - self._recognised_at <= _MEMORY_S
        if self.is_limit:
            self._recognised_at = now
        return self.is_limit

    def _is_episode(self) -> bool:
        return self._refused >= _MIN_REFUSED and len(self._calls) >= _MIN_CALLS
