"""A call under way: what of it is open, what was tried, and how a killed run's call goes on.

The journal's attempts are played back through the same `RejectedDeviceSearch` that made them, so that
a resumed run asks just what the former one would have asked next.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple

from telemetron_batch.api.classify import CallRejected, DeviceRejected, PayloadTooLarge, SideEffects
from telemetron_batch.domain.model import Answer, Call, DeviceResult
from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.domain.reasons import Reason
from telemetron_batch.journal.journal import Journal
from telemetron_batch.journal.reader import Attempt
from telemetron_batch.sending.rejected_search import Positions, RejectedDeviceSearch

_SPECIFIC_IDENTIFIER: Final = re.compile(r"(?=.*\D)..|...", re.DOTALL)
"""Anything shorter, such as a lone number, may stand in an error text by chance."""

NO_MAXIMUM: Final = 1 << 30
ANSWERED: Final = "answered"
"""The stored code of the verdict on a usable answer."""
STUBBORN: Final = "stubborn"
"""The stored code of the verdict on a call that the API keeps failing on."""
BLAMED: Final = (DeviceRejected.code, STUBBORN)


@lru_cache(maxsize=16)
def all_of(devices: int) -> Positions:
    """The positions of a call of so many devices: the same object for all, as most calls are alike."""
    return tuple(range(devices))


@lru_cache(maxsize=16)
def _set_of(positions: Positions) -> frozenset[int]:
    return frozenset(positions)


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """An attempt as the bookkeeping of its call needs it."""

    asked: frozenset[int]
    may_have_acted: bool
    pending_since: float | None = None
    """When it left, on the event loop's clock, if it may still act; None if not, or if it left in another process."""


class HeldBefore(NamedTuple):
    """What a customer held before the run first wrote to them."""

    devices: Mapping[str, bool | None]
    """Of each device of a call, did they hold it? None: not known."""
    is_known: bool
    """Did the API know the customer?"""


@dataclass(slots=True)
class CallState:
    """A call under way."""

    call: Call
    split: RejectedDeviceSearch[DeviceResult]
    tries: list[AttemptRecord] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    """Those recorded by this process."""
    held_before: Mapping[str, bool | None] | None = None
    """Of each device, did the customer hold it before this run? None: not known."""
    customer_was_known: bool | None = None
    """Did the API know the customer before this run? None: not known."""
    maximum: int = NO_MAXIMUM
    """Devices that one request may hold, as far as refusals of this call tell."""
    successes_before: int = 0
    """Answers that calls had had when work on this one began."""
    seemed_throttled: int = 0
    """Refusals of this call that were throttling by their haste alone."""

    def held(self, position: int) -> bool | None:
        """Did the customer hold this device before the run? None: not known."""
        return None if self.held_before is None else self.held_before[self.call.devices[position]]

    def asked_before(self, asked: Iterable[int]) -> tuple[int, int]:
        """Attempts that held all these positions, and how many of them may have acted unheard."""
        doubts = [one.may_have_acted for one in self.tries if one.asked.issuperset(asked)]
        return len(doubts), sum(doubts)

    def all_asked_before(self, positions: Collection[int]) -> tuple[int, int] | None:
        """What `asked_before` says of these positions, where it says the same of each; mostly it does."""
        if not all(one.asked.issuperset(positions) for one in self.tries):
            return None
        return len(self.tries), sum(one.may_have_acted for one in self.tries)

    def most_asked_before(self, positions: Collection[int]) -> tuple[int, int]:
        """The most that `asked_before` says of one of these positions, of each number."""
        attempts, doubts = zip(*self.each_asked_before(positions).values(), strict=True)
        return max(attempts), max(doubts)

    def each_asked_before(self, positions: Collection[int]) -> dict[int, tuple[int, int]]:
        """Of each position what `asked_before` says of it alone."""
        alike = self.all_asked_before(positions)
        return {at: alike or self.asked_before((at,)) for at in positions}

    def pending_since(self) -> float | None:
        """Return when the last attempt left that may still act, on the event loop's clock; None without one."""
        return max((one.pending_since for one in self.tries if one.pending_since is not None), default=None)

    def has_doubts(self) -> bool:
        """Return whether any attempt may have acted unheard."""
        return any(one.may_have_acted for one in self.tries)


def attempt_records(
    asked: Positions, omitted: Collection[int], doubt: SideEffects, left: float | None = None
) -> list[AttemptRecord]:
    """Return an attempt for bookkeeping: what its answer left out may have been done all the same.

    `left` is when it left on the event loop's clock; None for an attempt of an earlier process.
    """
    may_have_acted = doubt is not SideEffects.NOT_DONE
    pending_since = left if doubt is SideEffects.UNCLEAR else None
    if not omitted:
        return [AttemptRecord(_set_of(asked), may_have_acted, pending_since)]
    told = frozenset(asked).difference(omitted)
    return [AttemptRecord(told, may_have_acted, pending_since), AttemptRecord(frozenset(omitted), may_have_acted=True)]


def restore(call: Call, journal: Journal, maximum: int) -> CallState:
    """The work on a call as the journal left it; all of it open if the journal knows nothing of it."""
    everything = all_of(len(call.devices))
    if not journal.may_have_history(call.number):
        return CallState(call, RejectedDeviceSearch(everything, maximum))
    history = journal.attempts_of(call.number)
    settled = journal.settled_positions(call.number)
    if not (history or settled):
        return CallState(call, RejectedDeviceSearch(everything, maximum))
    answered = {attempt: positions for attempt, positions in settled if attempt}
    tries: list[AttemptRecord] = []
    for one in history:
        asked = everything if one.positions is None else one.positions
        told = asked if one.verdict != ANSWERED else answered.get(one.number, ())
        omitted = set(asked).difference(told)
        tries += attempt_records(asked, omitted, SideEffects.UNCLEAR if one.may_have_acted else SideEffects.NOT_DONE)
    closed = {position for _, positions in settled for position in positions}
    still_open = tuple(position for position in everything if position not in closed)
    split = _played_back(call, history, answered)
    if split is None or set(split.open()) != set(still_open):
        split = RejectedDeviceSearch(still_open, maximum)
    return CallState(call, split, tries)


def _played_back(
    call: Call, history: list[Attempt], settled: dict[int, Positions]
) -> RejectedDeviceSearch[DeviceResult] | None:
    """The split after these attempts; None where they do not fit together."""
    everything = all_of(len(call.devices))
    largest = max((len(everything if one.positions is None else one.positions) for one in history), default=1)
    split: RejectedDeviceSearch[DeviceResult] = RejectedDeviceSearch(everything, largest)
    for attempt in history:
        asked = everything if attempt.positions is None else attempt.positions
        if attempt.verdict not in (ANSWERED, *BLAMED, PayloadTooLarge.code, CallRejected.code):
            continue
        if split.next() != asked:
            return None
        _play(split, call, attempt, (asked, settled.get(attempt.number, ())))
        split.condemned()
    return split


def _play(
    split: RejectedDeviceSearch[DeviceResult], call: Call, attempt: Attempt, positions: tuple[Positions, Positions]
) -> None:
    asked, answered = positions
    if attempt.verdict == ANSWERED:
        split.settled(asked, [position for position in asked if position not in set(answered)])
    elif attempt.verdict == PayloadTooLarge.code:
        split.too_many(asked, halved(asked), rejection_result(attempt.verdict, attempt.text))
    elif attempt.verdict == CallRejected.code:
        split.settled(asked)
        if len(answered) > len(asked):
            split.give_up()
    else:
        split.refused(
            asked, rejection_result(attempt.verdict, attempt.text), devices_named_in(call, asked, attempt.text)
        )


def rejection_result(verdict: str | None, text: str) -> DeviceResult:
    """The outcome of devices that a refusal settles. What the API failed on may be done all the same."""
    if verdict == STUBBORN:
        return DeviceResult(Outcome.UNCONFIRMED, reason=Reason.REPEATED_SERVER_ERROR, text=text)
    reason = Reason.TOO_MANY_DEVICES if verdict == PayloadTooLarge.code else Reason.DEVICE_REFUSED
    return DeviceResult(Outcome.FAILED, reason=reason, text=text)


def halved(asked: Positions) -> int:
    """The largest number of devices to ask for when so many were too many."""
    return max(1, len(asked) // 2)


def devices_named_in(call: Call, asked: Positions, text: str) -> Positions:
    """The positions whose identifiers stand in an error text, as words of their own."""
    return tuple(
        position
        for position in asked
        if _SPECIFIC_IDENTIFIER.match(call.devices[position])
        and call.devices[position] in text
        and re.search(rf"(?<!\w){re.escape(call.devices[position])}(?!\w)", text)
    )
