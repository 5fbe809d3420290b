"""Search for the devices that the API rejects: decide which devices of a call to request next.

A pure state machine over positions 0 ... n-1 of one call. It gets the result of each request and
returns the positions of the next one. The same history always gives the same state, so a resumed
run replays the journal and continues.

A request that contains a rejected device is refused as a whole and changes nothing. `budget` is
how many more requests may be refused: even if every open device must then be requested alone, the
call makes at most n + 1 requests after the first. An accepted group of k earns k - 1, a refused group
costs one. Groups are requested if the budget allows it, or with a small overdraft while rejected
devices are rare: one bad device in 500 costs at most 18 requests, and no call of n costs more
than n + 1. If the overdraft is not earned back, the last open devices are rejected without having
been requested alone.
"""

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Generic, NamedTuple, TypeVar

Positions = tuple[int, ...]
Refusal = TypeVar("Refusal")

STOP_AFTER_SAME_ERROR: Final = 16
"""Devices refused alone with the same error, after which the rest is requested together one last time."""
_MIN_ACCEPTED_IN_ROW: Final = 8
"""Minimum number of requests accepted in a row before an overdraft is allowed."""
_MIN_ACCEPTED_PER_REJECTED: Final = 6
"""Minimum number of accepted devices per rejected device before an overdraft is allowed."""
_DEVICES_PER_OVERDRAFT: Final = 16
"""Devices of the refused call for each request of overdraft."""


class Rejected(NamedTuple, Generic[Refusal]):
    """Why a position is rejected."""

    refusal: Refusal
    alone: bool
    """Whether the device was requested alone. Otherwise each request with it was refused along with others."""


class _Group(NamedTuple, Generic[Refusal]):
    positions: Positions
    refusal: Refusal


@dataclass(slots=True)
class _Search(Generic[Refusal]):
    """The search for rejected devices in one refused group of positions."""

    requests_left: int
    """Requests that may still be made."""
    refusal: Refusal
    """The refusal of the whole group."""
    allowed_overdraft: int
    bad_groups: list[_Group[Refusal]] = field(default_factory=list)
    """Groups that contain at least one rejected device; the last one is searched next."""
    open: deque[int] = field(default_factory=deque)
    """Positions about which nothing is known."""
    budget: int = 1
    cleared: int = 0
    """Number of accepted devices."""
    group_size: int = 1
    all_at_once: bool = False
    """Whether the last refusal named its devices, so that the open positions are probably acceptable together."""
    last_chance: bool = False
    """Whether the rest is being requested together one last time."""
    accepted_in_row: int = 0
    single_results: list[Refusal | None] = field(default_factory=list)
    """Results of devices requested alone; None is an acceptance."""


class RejectedDeviceSearch(Generic[Refusal]):
    """The open positions of one call. Call `next`, send the request and report its result."""

    def __init__(self, positions: Positions, max_devices: int) -> None:
        self._whole: deque[Positions] = deque()
        self._search: _Search[Refusal] | None = None
        self._requested_again: set[int] = set()
        self._rejected: dict[int, Rejected[Refusal]] = {}
        self._enqueue(positions, max_devices)

    def next(self) -> Positions | None:
        """Return the positions of the next request; None if all are settled."""
        if self._search is not None:
            return _next_in(self._search)
        return self._whole[0] if self._whole else None

    @property
    def searching(self) -> bool:
        """Whether a refused group is being searched."""
        return self._search is not None

    def take_rejected(self) -> dict[int, Rejected[Refusal]]:
        """Return and clear the positions rejected since the last call of this method."""
        settled, self._rejected = self._rejected, {}
        return settled

    def record_accepted(self, requested: Positions, omitted: Collection[int] = ()) -> Positions:
        """Record a request that ended without a refusal.

        `omitted` positions are requested once more. Return those that were omitted for the second time.
        """
        fresh = tuple(position for position in omitted if position not in self._requested_again)
        self._requested_again.update(fresh)
        self._accepted(requested)
        if fresh:
            self._whole.append(fresh)
        return tuple(position for position in omitted if position not in fresh)

    def refused(self, requested: Positions, refusal: Refusal, named: Sequence[int] = ()) -> None:
        """Record that the request was refused because of a device in it.

        `named` are positions whose identifiers the refusal names.
        """
        if len(requested) == 1:
            self._refused_alone(requested, refusal)
        elif self._search is None:
            self._whole.popleft()
            self._search = _Search(
                requests_left=len(requested) + 1,
                refusal=refusal,
                allowed_overdraft=len(requested) // _DEVICES_PER_OVERDRAFT,
            )
            _add_bad_group(self._search, _Group(requested, refusal), named)
        else:
            _count_refused(self._search, requested)
            self._search.budget -= 1
            _add_bad_group(self._search, _Group(requested, refusal), named)
            if self._search.last_chance:
                self._search.requests_left = 0
        self._close_if_done()

    def record_too_large(self, requested: Positions, max_devices: int, refusal: Refusal) -> None:
        """Record that the request contained too many devices. A single device that is too many is rejected.

        Waiting requests are split as well, because they would be refused for the same reason.
        """
        self._accepted(requested)
        if len(requested) == 1:
            self._reject(requested, refusal, alone=True)
        else:
            waiting = tuple(position for group in (requested, *self._whole) for position in group)
            self._whole.clear()
            self._enqueue(waiting, max_devices)

    def open(self) -> Positions:
        """Return all positions that are not settled, in no particular order."""
        waiting = tuple(position for group in self._whole for position in group)
        return waiting if self._search is None else (*_unsettled(self._search), *waiting)

    def give_up(self) -> Positions:
        """Close and return all open positions."""
        rest = self.open()
        self._whole.clear()
        self._search = None
        return rest

    def _enqueue(self, positions: Positions, max_devices: int) -> None:
        """Split positions into requests of at most `max_devices`, in front of those that already wait."""
        pieces = [positions[at : at + max_devices] for at in range(0, len(positions), max_devices)]
        self._whole.extendleft(reversed(pieces))

    def _accepted(self, requested: Positions) -> None:
        if self._search is None:
            self._whole.popleft()
        else:
            _count_accepted(self._search, requested)
            self._close_if_done()

    def _reject(self, positions: Positions, refusal: Refusal, *, alone: bool) -> None:
        self._rejected.update(dict.fromkeys(positions, Rejected(refusal, alone)))

    def _refused_alone(self, requested: Positions, refusal: Refusal) -> None:
        self._reject(requested, refusal, alone=True)
        if self._search is None:
            self._whole.popleft()
            return
        _count_refused(self._search, requested)
        self._search.accepted_in_row = 0
        self._search.group_size = 1
        self._search.single_results.append(refusal)
        if len(self._search.single_results) == STOP_AFTER_SAME_ERROR and all(
            one == refusal for one in self._search.single_results
        ):
            _retry_rest_together(self._search)

    def _close_if_done(self) -> None:
        """End the search if nothing is open, or if no further request may be made.

        The positions that are left were part of refused requests only. So nothing was changed for
        them, although another device may have been the cause.
        """
        search = self._search
        if search is None:
            return
        while search.budget <= 0 and search.bad_groups and len(search.bad_groups[-1].positions) == 1:
            self._reject(*search.bad_groups.pop(), alone=False)
            search.budget += 1
        if search.requests_left <= 0 or not _unsettled(search):
            for group in search.bad_groups:
                self._reject(*group, alone=False)
            self._reject(tuple(search.open), search.refusal, alone=False)
            self._search = None


def _unsettled(search: _Search[Refusal]) -> list[int]:
    return [position for group in search.bad_groups for position in group.positions] + list(search.open)


def _retry_rest_together(search: _Search[Refusal]) -> None:
    """Request all remaining positions at once, because the bad ones may just be adjacent in the file."""
    search.open = deque(_unsettled(search))
    search.bad_groups = []
    search.all_at_once = search.last_chance = True


def _next_in(search: _Search[Refusal]) -> Positions:
    """Return up to half of the last guilty group, or else open positions, as far as the budget allows."""
    if search.bad_groups:
        group = search.bad_groups[-1].positions
        return group if len(group) == 1 else group[: _next_size(search, len(group) // 2)]
    wanted = len(search.open)
    return tuple(islice(search.open, wanted if search.all_at_once else _next_size(search, wanted)))


def _next_size(search: _Search[Refusal], wanted: int) -> int:
    """Return how many positions to request at once: all that are wanted only if the budget suffices."""
    if search.budget >= wanted.bit_length():
        return wanted
    rejected = len(search.single_results) - search.single_results.count(None)
    are_rare = (
        search.accepted_in_row >= _MIN_ACCEPTED_IN_ROW and search.cleared >= _MIN_ACCEPTED_PER_REJECTED * rejected
    )
    if search.budget >= 1 or (are_rare and search.budget > -search.allowed_overdraft):
        return max(1, min(wanted, search.group_size))
    return 1


def _count_refused(search: _Search[Refusal], requested: Positions) -> None:
    """Count one refused request and remove its positions from the groups."""
    search.requests_left -= 1
    if search.bad_groups:
        # The refusal of `requested` explains the refusal of its group, so nothing is known about the rest now.
        search.open.extendleft(reversed(search.bad_groups.pop().positions[len(requested) :]))
    else:
        search.all_at_once = False
        for _ in requested:
            search.open.popleft()


def _count_accepted(search: _Search[Refusal], requested: Positions) -> None:
    """Count one accepted request; the rest of a guilty group stays guilty."""
    search.requests_left -= 1
    if search.bad_groups:
        group = search.bad_groups.pop()
        if len(group.positions) > len(requested):
            search.bad_groups.append(_Group(group.positions[len(requested) :], group.refusal))
    else:
        for _ in requested:
            search.open.popleft()
    search.cleared += len(requested)
    search.budget += len(requested) - 1
    search.group_size = 2 * max(search.group_size, len(requested))
    search.accepted_in_row += 1
    if len(requested) == 1:
        search.single_results.append(None)


def _add_bad_group(search: _Search[Refusal], group: _Group[Refusal], named: Sequence[int]) -> None:
    """Add a refused group as a whole, or each device alone that the refusal names."""
    suspects = set(named)
    singles = [position for position in group.positions if position in suspects]
    if not singles or len(singles) == len(group.positions):
        search.bad_groups.append(group)
        return
    search.open.extendleft(reversed([position for position in group.positions if position not in suspects]))
    search.all_at_once = True
    search.bad_groups.extend(_Group((position,), group.refusal) for position in reversed(singles))
