"""State of a call in progress: open positions, attempts so far, and how to restore it from the journal.

The recorded attempts are replayed through the same `RejectedDeviceSearch` that made them, so a
resumed run sends the request that the former process would have sent next.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple

from telemetron_batch.api.classify import CallRejected, DeviceRejected, SideEffects, TooManyDevices
from telemetron_batch.domain.answers import Answer, DeviceResult
from telemetron_batch.domain.model import Call
from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.domain.reasons import Reason
from telemetron_batch.journal.journal import Journal
from telemetron_batch.journal.reader import Attempt
from telemetron_batch.sending.rejected_search import Positions, RejectedDeviceSearch

_SPECIFIC_IDENTIFIER: Final = re.compile(r"(?=.*\D)..|...", re.DOTALL)
"""Matches identifiers that are specific enough. A shorter one, such as a single digit, can be in a text by chance."""

NO_MAXIMUM: Final = 1 << 30
ANSWERED: Final = "answered"
"""Stored verdict code of a usable answer."""
PERSISTENT_SERVER_ERROR: Final = "stubborn"
"""Stored verdict code of a call on which the API fails repeatedly."""
DEVICE_REFUSAL_CODES: Final = (DeviceRejected.code, PERSISTENT_SERVER_ERROR)


@lru_cache(maxsize=16)
def all_of(devices: int) -> Positions:
    """Return all positions of a call of this size. Calls of the same size share one object."""
    return tuple(range(devices))


@lru_cache(maxsize=16)
def _set_of(positions: Positions) -> frozenset[int]:
    return frozenset(positions)


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """An attempt at some positions of a call."""

    requested: frozenset[int]
    may_have_acted: bool
    """Whether it may have changed something without an answer that says so."""
    pending_since: float | None = None
    """When it left, on the event loop's clock, if it may still act; None if not, or if another process made it."""


class HoldingsBefore(NamedTuple):
    """What a customer held before the run first wrote to it."""

    devices: Mapping[str, bool | None]
    """Whether the customer held each device of a call; None if that is not known."""
    is_known: bool
    """Whether the API knew the customer."""
    queried: Mapping[str, bool | None]
    """What the query alone showed; `devices` also considers what this run has changed since."""


@dataclass(slots=True)
class CallState:
    """A call in progress."""

    call: Call
    search: RejectedDeviceSearch[DeviceResult]
    attempts: list[AttemptRecord] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    """Answers recorded by this process."""
    holdings_before: Mapping[str, bool | None] | None = None
    """Whether the customer held each device before this run; None if that is not known."""
    customer_was_known: bool | None = None
    """Whether the API knew the customer before this run; None if that is not known."""
    max_devices: int = NO_MAXIMUM
    """Devices that one request may contain, according to refusals of this call."""
    successes_before: int = 0
    """Number of successful attempts of all calls when this one began."""
    presumed_throttles: int = 0
    """Number of 503s of this call that counted as throttling only because they were fast."""

    def had_device(self, position: int) -> bool | None:
        """Return whether the customer held this device before the run; None if that is not known."""
        return None if self.holdings_before is None else self.holdings_before[self.call.devices[position]]

    def count_attempts(self, requested: Iterable[int]) -> tuple[int, int]:
        """Return how many attempts contained all these positions, and how many of those may have acted."""
        doubts = [one.may_have_acted for one in self.attempts if one.requested.issuperset(requested)]
        return len(doubts), sum(doubts)

    def common_attempt_counts(self, positions: Collection[int]) -> tuple[int, int] | None:
        """Return the counts of `count_attempts` if they are the same for each position (the usual case), else None."""
        if not all(one.requested.issuperset(positions) for one in self.attempts):
            return None
        return len(self.attempts), sum(one.may_have_acted for one in self.attempts)

    def highest_attempt_counts(self, positions: Collection[int]) -> tuple[int, int]:
        """Return the maximum of each count of `count_attempts` over these positions."""
        attempts, doubts = zip(*self.attempt_counts(positions).values(), strict=True)
        return max(attempts), max(doubts)

    def attempt_counts(self, positions: Collection[int]) -> dict[int, tuple[int, int]]:
        """Return the counts of `count_attempts` for each single position."""
        alike = self.common_attempt_counts(positions)
        return {at: alike or self.count_attempts((at,)) for at in positions}

    def pending_since(self) -> dict[int, float]:
        """Return by position when its last attempt that may still act left, on the event loop's clock."""
        since: dict[int, float] = {}
        for one in self.attempts:  # in the order in which they left
            if one.pending_since is not None:
                since.update(dict.fromkeys(one.requested, one.pending_since))
        return since

    def unclear_attempts(self) -> int:
        """Return how many attempts may have acted without an answer."""
        return sum(one.may_have_acted for one in self.attempts)


def attempt_records(
    requested: Positions, omitted: Collection[int], side_effects: SideEffects, sent_at: float | None = None
) -> list[AttemptRecord]:
    """Return the records of an attempt. Devices that its answer omits may have been changed and get their own.

    `sent_at` is a time of the event loop's clock; None for an attempt of an earlier process.
    """
    may_have_acted = side_effects is not SideEffects.NOT_DONE
    pending_since = sent_at if side_effects is SideEffects.UNCLEAR else None
    if not omitted:
        return [AttemptRecord(_set_of(requested), may_have_acted, pending_since)]
    rest = frozenset(requested).difference(omitted)
    return [AttemptRecord(rest, may_have_acted, pending_since), AttemptRecord(frozenset(omitted), may_have_acted=True)]


def restore(call: Call, journal: Journal, max_devices: int) -> CallState:
    """Return the state of a call according to the journal; all positions are open if it has no record."""
    everything = all_of(len(call.devices))
    if not journal.may_have_history(call.number):
        return CallState(call, RejectedDeviceSearch(everything, max_devices))
    history = journal.attempts_of(call.number)
    settled = journal.settled_positions(call.number)
    if not (history or settled):
        return CallState(call, RejectedDeviceSearch(everything, max_devices))
    answered = {attempt: positions for attempt, positions in settled if attempt}
    attempts: list[AttemptRecord] = []
    for one in history:
        requested = everything if one.positions is None else one.positions
        settled_by_it = requested if one.verdict != ANSWERED else answered.get(one.number, ())
        omitted = set(requested).difference(settled_by_it)
        attempts += attempt_records(
            requested, omitted, SideEffects.UNCLEAR if one.may_have_acted else SideEffects.NOT_DONE
        )
    closed = {position for _, positions in settled for position in positions}
    still_open = tuple(position for position in everything if position not in closed)
    search = _replay(call, history, answered)
    if search is None or set(search.open()) != set(still_open):
        search = RejectedDeviceSearch(still_open, max_devices)
    return CallState(call, search, attempts)


def _replay(
    call: Call, history: list[Attempt], settled: dict[int, Positions]
) -> RejectedDeviceSearch[DeviceResult] | None:
    """Return the search after these attempts; None if they do not fit together."""
    everything = all_of(len(call.devices))
    largest = max((len(everything if one.positions is None else one.positions) for one in history), default=1)
    search: RejectedDeviceSearch[DeviceResult] = RejectedDeviceSearch(everything, largest)
    for attempt in history:
        requested = everything if attempt.positions is None else attempt.positions
        if attempt.verdict not in (ANSWERED, *DEVICE_REFUSAL_CODES, TooManyDevices.code, CallRejected.code):
            continue
        if search.next() != requested:
            return None
        _replay_attempt(search, call, attempt, (requested, settled.get(attempt.number, ())))
        search.take_rejected()
    return search


def _replay_attempt(
    search: RejectedDeviceSearch[DeviceResult], call: Call, attempt: Attempt, positions: tuple[Positions, Positions]
) -> None:
    requested, answered = positions
    if attempt.verdict == ANSWERED:
        search.record_accepted(requested, [position for position in requested if position not in set(answered)])
    elif attempt.verdict == TooManyDevices.code:
        search.record_too_large(requested, halved(requested), rejection_result(attempt.verdict, attempt.text))
    elif attempt.verdict == CallRejected.code:
        search.record_accepted(requested)
        if len(answered) > len(requested):
            search.give_up()
    else:
        search.refused(
            requested, rejection_result(attempt.verdict, attempt.text), devices_named_in(call, requested, attempt.text)
        )


def rejection_result(verdict: str | None, text: str) -> DeviceResult:
    """Return the result of devices that a refusal settles. After server errors they are unconfirmed."""
    if verdict == PERSISTENT_SERVER_ERROR:
        return DeviceResult(Outcome.UNCONFIRMED, reason=Reason.REPEATED_SERVER_ERROR, text=text)
    reason = Reason.TOO_MANY_DEVICES if verdict == TooManyDevices.code else Reason.DEVICE_REFUSED
    return DeviceResult(Outcome.FAILED, reason=reason, text=text)


def halved(requested: Positions) -> int:
    """Return the maximum number of devices per request after a request that was too large."""
    return max(1, len(requested) // 2)


def devices_named_in(call: Call, requested: Positions, text: str) -> Positions:
    """Return the positions whose identifiers occur in an error text as whole words."""
    return tuple(
        position
        for position in requested
        if _SPECIFIC_IDENTIFIER.match(call.devices[position])
        and call.devices[position] in text
        and re.search(rf"(?<!\w){re.escape(call.devices[position])}(?!\w)", text)
    )
