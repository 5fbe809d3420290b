"""Attempts without an answer that may still act: what they hold up, and until when.

The API may execute a request that timed out here even after a later request for the opposite action. So the opposite
action for the same customer and device waits until the attempt's timeout and a margin have passed since it left.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.model import Call


@dataclass(frozen=True, slots=True)
class PendingAttempt:
    """The attempts at one action of a pair that may still act."""

    action: Action
    until: float
    """When the last of them can no longer act, on the event loop's clock."""
    is_provable: bool = False
    """Whether it has acted, and cannot act again, if a query shows the pair as the action leaves it."""


@dataclass(slots=True)
class PendingAttempts:
    """The attempts of a run that may still act, by customer and device."""

    _pairs: dict[tuple[str, str], PendingAttempt] = field(default_factory=dict)

    def add(self, call: Call, until: Mapping[int, float], provable: Collection[int] = ()) -> None:
        """Add the attempts of a call, given by position until when they may act."""
        for at, end in until.items():
            pair = call.customer, call.devices[at]
            former = self._pairs.get(pair)
            if former is not None and former.action is call.action:
                self._pairs[pair] = PendingAttempt(call.action, max(end, former.until))
            else:
                self._pairs[pair] = PendingAttempt(call.action, end, is_provable=at in provable)

    def that_block(self, call: Call, now: float) -> dict[str, PendingAttempt]:
        """Return the attempts for which a call must wait, by device."""
        if not self._pairs:
            return {}
        attempts = ((device, self._pairs.get((call.customer, device))) for device in call.devices)
        return {
            device: one
            for device, one in attempts
            if one is not None and one.action is not call.action and one.until > now
        }

    def settle(self, customer: str, has_acted: Mapping[str, bool]) -> None:
        """Take over what a query showed: attempts that have acted are over; others are not asked about again."""
        for device, acted in has_acted.items():
            pair = customer, device
            if acted:
                del self._pairs[pair]
            else:
                self._pairs[pair] = replace(self._pairs[pair], is_provable=False)


def end_of_wait(blocking: Iterable[PendingAttempt]) -> float:
    """Return when none of these attempts can act any more, on the event loop's clock; -inf without any."""
    return max((one.until for one in blocking), default=-math.inf)
