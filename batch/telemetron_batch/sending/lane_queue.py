"""The lanes of a stage, in the order in which workers take them."""

from collections.abc import Collection, Sequence
from heapq import heappop, heappush
from typing import Final

import numpy as np

_CALLS_OF_A_WAIT: Final = 300
"""Calls that a lane may make in about the time for which a later stage waits for an unanswered attempt."""


class LaneQueue:
    """The lanes of a stage. Lanes that must wait are overtaken."""

    def __init__(self, lanes: Sequence[range], returning: Collection[int] = ()) -> None:
        """Take lanes in their order, the longest first; a lane with `returning` calls counts as a long one."""
        self._lanes = lanes
        self._order = _returning_first(lanes, returning) if returning else range(len(lanes))
        self._taken = 0
        self._waiting: list[tuple[float, int, Sequence[int]]] = []

    @property
    def has_untaken(self) -> bool:
        """Whether a lane was never taken."""
        return self._taken < len(self._lanes)

    def take(self, now: float) -> Sequence[int] | None:
        """Return the next lane: a due one, else a new one, else the one that is due first; None if all are done."""
        if self._waiting and (self._waiting[0][0] <= now or not self.has_untaken):
            return heappop(self._waiting)[-1]
        if not self.has_untaken:
            return None
        self._taken += 1
        return self._lanes[self._order[self._taken - 1]]

    def requeue_at(self, due: float, calls: Sequence[int]) -> None:
        """Put calls of a lane back until a time of the event loop's clock."""
        heappush(self._waiting, (due, calls[0], calls))


def _returning_first(lanes: Sequence[range], returning: Collection[int]) -> Sequence[int]:
    """Return the positions of the lanes, the longest first.

    A lane with a returning call counts as longer: if an attempt of it stays unanswered, a later stage has to wait.
    """
    lengths = np.fromiter((len(lane) for lane in lanes), np.int64, len(lanes))
    starts = np.fromiter((lane.start for lane in lanes), np.int64, len(lanes))
    numbers = np.sort(np.fromiter(returning, np.int64, len(returning)))
    counts = np.searchsorted(numbers, starts + lengths) - np.searchsorted(numbers, starts)
    order: list[int] = np.argsort(-(lengths + _CALLS_OF_A_WAIT * (counts > 0)), kind="stable").tolist()
    return order
