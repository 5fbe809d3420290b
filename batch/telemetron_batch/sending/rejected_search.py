"""Which devices of a call to ask for next, when the call cannot be made in one piece.

A pure state machine over positions 0 ... n-1 of one call: fed with what became of each
request, it says which positions the next request shall hold. What a refusal blames is
kept and compared, never looked into. Knows no network and no journal; the same history
always gives the same state, so a resumed run plays the journal back and goes on.

The search for refused devices. A request that holds a refused device is refused whole
and changes nothing. `slack` is the number of requests that we could waste and still, by
asking for every open device alone, stay within n + 1 requests after the first; a group
of k that goes through earns k - 1, a group that is refused costs one. Groups are risked
when the slack allows it, or a small debt where refused devices have been rare: one bad
device in 500 costs at most 18 requests, and no call of n more than n + 1. Where the debt
was not earned back, the last few open devices are condemned without having stood alone.
"""

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Generic, NamedTuple, TypeVar

Positions = tuple[int, ...]
Blame = TypeVar("Blame")

STOP_AFTER_SAME_ERROR: Final = 16
"""So many devices refused alone, all alike, and the rest gets one last chance together."""
_STREAK: Final = 8
"""So many requests accepted in a row make a small group worth its risk without slack ..."""
_RARE: Final = 6
"""... as long as at least so many devices were let through for each one found guilty ..."""
_DEBT: Final = 16
"""... and no more than one for so many devices of the refused group is owed."""


class Rejected(NamedTuple, Generic[Blame]):
    """Why a position is settled as refused."""

    blame: Blame
    alone: bool
    """Did it stand alone? Otherwise it was refused along with others, each time it was sent."""


class _Group(NamedTuple, Generic[Blame]):
    positions: Positions
    blame: Blame


@dataclass(slots=True)
class _Search(Generic[Blame]):
    """The hunt for refused devices in one group of positions that was refused whole."""

    left: int
    """Requests that may still be spent."""
    blame: Blame
    """What the refusal of the whole group said."""
    allowed_overdraft: int
    guilty: list[_Group[Blame]] = field(default_factory=list)
    """Groups that surely hold a refused device, the next to look into last."""
    open: deque[int] = field(default_factory=deque)
    """Positions of which nothing is known yet."""
    budget: int = 1
    cleared: int = 0
    group_size: int = 1
    all_at_once: bool = False
    """The last refusal named whom it meant, so the open positions are likely fine together."""
    last_chance: bool = False
    accepted_in_row: int = 0
    alone: list[Blame | None] = field(default_factory=list)
    """What was said to the devices that stood alone; None is an acceptance."""


class RejectedDeviceSearch(Generic[Blame]):
    """The open positions of one call. Ask `next`, send that, tell what became of it."""

    def __init__(self, positions: Positions, maximum: int) -> None:
        self._whole: deque[Positions] = deque()
        self._search: _Search[Blame] | None = None
        self._asked_again: set[int] = set()
        self._condemned: dict[int, Rejected[Blame]] = {}
        self._enqueue(positions, maximum)

    def next(self) -> Positions | None:
        """The positions of the next request; None when none is left to make."""
        if self._search is not None:
            return _next_in(self._search)
        return self._whole[0] if self._whole else None

    @property
    def searching(self) -> bool:
        """Is a refused group being taken apart?"""
        return self._search is not None

    def condemned(self) -> dict[int, Rejected[Blame]]:
        """The positions settled as refused since last asked, and why."""
        settled, self._condemned = self._condemned, {}
        return settled

    def settled(self, asked: Positions, omitted: Collection[int] = ()) -> Positions:
        """The request came to an end that blames no device.

        Of the `omitted` positions gives those that have had their second chance; the
        others are asked once more.
        """
        fresh = tuple(position for position in omitted if position not in self._asked_again)
        self._asked_again.update(fresh)
        self._accepted(asked)
        if fresh:
            self._whole.append(fresh)
        return tuple(position for position in omitted if position not in fresh)

    def refused(self, asked: Positions, blame: Blame, named: Sequence[int] = ()) -> None:
        """The request was refused for a device in it.

        `named` are positions that the refusal speaks of by identifier.
        """
        if len(asked) == 1:
            self._refused_alone(asked, blame)
        elif self._search is None:
            self._whole.popleft()
            self._search = _Search(left=len(asked) + 1, blame=blame, allowed_overdraft=len(asked) // _DEBT)
            _suspect(self._search, _Group(asked, blame), named)
        else:
            _spend(self._search, asked)
            self._search.budget -= 1
            _suspect(self._search, _Group(asked, blame), named)
            if self._search.last_chance:
                self._search.left = 0
        self._close_if_done()

    def too_many(self, asked: Positions, maximum: int, blame: Blame) -> None:
        """The request held too many devices; one device that is too many is condemned.

        What still waits is cut anew as well: it would be refused for the same reason.
        """
        self._accepted(asked)
        if len(asked) == 1:
            self._condemn(asked, blame, alone=True)
        else:
            waiting = tuple(position for group in (asked, *self._whole) for position in group)
            self._whole.clear()
            self._enqueue(waiting, maximum)

    def open(self) -> Positions:
        """Every position that is not settled yet, in no order that means anything."""
        waiting = tuple(position for group in self._whole for position in group)
        return waiting if self._search is None else (*_unsettled(self._search), *waiting)

    def give_up(self) -> Positions:
        """Every open position, which thereby is open no more."""
        rest = self.open()
        self._whole.clear()
        self._search = None
        return rest

    def _enqueue(self, positions: Positions, maximum: int) -> None:
        """Cut positions into requests of at most `maximum`, before those that already wait."""
        pieces = [positions[at : at + maximum] for at in range(0, len(positions), maximum)]
        self._whole.extendleft(reversed(pieces))

    def _accepted(self, asked: Positions) -> None:
        if self._search is None:
            self._whole.popleft()
        else:
            _clear(self._search, asked)
            self._close_if_done()

    def _condemn(self, positions: Positions, blame: Blame, *, alone: bool) -> None:
        self._condemned.update(dict.fromkeys(positions, Rejected(blame, alone)))

    def _refused_alone(self, asked: Positions, blame: Blame) -> None:
        self._condemn(asked, blame, alone=True)
        if self._search is None:
            self._whole.popleft()
            return
        _spend(self._search, asked)
        self._search.accepted_in_row = 0
        self._search.group_size = 1
        self._search.alone.append(blame)
        if len(self._search.alone) == STOP_AFTER_SAME_ERROR and all(said == blame for said in self._search.alone):
            _retry_rest_together(self._search)

    def _close_if_done(self) -> None:
        """End the search when nothing is open, or when no request may be spent on what is.

        What is then left was refused along with others each time it was sent: surely
        nothing was done for it, though it may not be the one to blame.
        """
        search = self._search
        if search is None:
            return
        while search.budget <= 0 and search.guilty and len(search.guilty[-1].positions) == 1:
            self._condemn(*search.guilty.pop(), alone=False)
            search.budget += 1
        if search.left <= 0 or not _unsettled(search):
            for group in search.guilty:
                self._condemn(*group, alone=False)
            self._condemn(tuple(search.open), search.blame, alone=False)
            self._search = None


def _unsettled(search: _Search[Blame]) -> list[int]:
    return [position for group in search.guilty for position in group.positions] + list(search.open)


def _retry_rest_together(search: _Search[Blame]) -> None:
    """Ask for all the rest at once: perhaps the bad ones just stood together in the file."""
    search.open = deque(_unsettled(search))
    search.guilty = []
    search.all_at_once = search.last_chance = True


def _next_in(search: _Search[Blame]) -> Positions:
    """From a guilty group its first half, or what the slack allows; else from the open ones."""
    if search.guilty:
        group = search.guilty[-1].positions
        return group if len(group) == 1 else group[: _stride(search, len(group) // 2)]
    wish = len(search.open)
    return tuple(islice(search.open, wish if search.all_at_once else _stride(search, wish)))


def _stride(search: _Search[Blame], wish: int) -> int:
    """How many positions to risk in one request: all we wish for only with slack to spare."""
    if search.budget >= wish.bit_length():
        return wish
    found = len(search.alone) - search.alone.count(None)
    rare = search.accepted_in_row >= _STREAK and search.cleared >= _RARE * found
    if search.budget >= 1 or (rare and search.budget > -search.allowed_overdraft):
        return max(1, min(wish, search.group_size))
    return 1


def _spend(search: _Search[Blame], asked: Positions) -> None:
    """Book one refused request, and take what it asked for out of the groups."""
    search.left -= 1
    if search.guilty:
        # The refusal of `asked` explains that of its group: of the rest nothing is known now.
        search.open.extendleft(reversed(search.guilty.pop().positions[len(asked) :]))
    else:
        search.all_at_once = False
        for _ in asked:
            search.open.popleft()


def _clear(search: _Search[Blame], asked: Positions) -> None:
    """Book one request that went through: what remains of a guilty group is guilty still."""
    search.left -= 1
    if search.guilty:
        group = search.guilty.pop()
        if len(group.positions) > len(asked):
            search.guilty.append(_Group(group.positions[len(asked) :], group.blame))
    else:
        for _ in asked:
            search.open.popleft()
    search.cleared += len(asked)
    search.budget += len(asked) - 1
    search.group_size = 2 * max(search.group_size, len(asked))
    search.accepted_in_row += 1
    if len(asked) == 1:
        search.alone.append(None)


def _suspect(search: _Search[Blame], group: _Group[Blame], named: Sequence[int]) -> None:
    """File a refused group: as one, or with the devices that the refusal names apart."""
    accused = set(named)
    apart = [position for position in group.positions if position in accused]
    if not apart or len(apart) == len(group.positions):
        search.guilty.append(group)
        return
    search.open.extendleft(reversed([position for position in group.positions if position not in accused]))
    search.all_at_once = True
    search.guilty.extend(_Group((position,), group.blame) for position in reversed(apart))
