"""How often passwords may be tried: by whom, from where, and for whom. Pure: the time is an argument.

A try from a browser that has signed in as this user before counts in a bucket of its own, so nobody can lock a user
out of that browser. Any other try must find room in three buckets: of the peer and user together, of the peer, and
of the user. The bucket of a user fills faster than one peer can empty it.
"""

from collections import OrderedDict
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Final


@dataclass(frozen=True, slots=True)
class Allowance:
    """A number of tries at once, and seconds until one more is allowed."""

    burst: int
    seconds_for_one: float


PAIR: Final = Allowance(5, 30.0)
PEER: Final = Allowance(20, 12.0)
USER: Final = Allowance(30, 5.0)
DEVICE: Final = Allowance(10, 15.0)
_REPORTS: Final = Allowance(1, 60.0)
_MAX_BUCKETS: Final = 10_000


class _Buckets:
    """Token buckets by key. The keys used longest ago are forgotten first."""

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self._spent: OrderedDict[tuple[str, ...], tuple[float, float]] = OrderedDict()

    def wait(self, key: tuple[str, ...], now: float) -> float:
        """Return the seconds until a try is allowed; 0.0: now."""
        return max(0.0, (self._level(key, now) - self._allowance.burst + 1) * self._allowance.seconds_for_one)

    def count(self, key: tuple[str, ...], now: float) -> None:
        """Count a try."""
        self._spent[key] = (self._level(key, now) + 1, now)
        self._spent.move_to_end(key)
        if len(self._spent) > _MAX_BUCKETS:
            self._spent.popitem(last=False)

    def forget(self, key: tuple[str, ...]) -> None:
        """Forget the tries of a key."""
        self._spent.pop(key, None)

    def _level(self, key: tuple[str, ...], now: float) -> float:
        level, at = self._spent.get(key, (0.0, now))
        return max(0.0, level - (now - at) / self._allowance.seconds_for_one)


@dataclass(frozen=True, slots=True)
class Try:
    """One attempt to sign in."""

    user: str
    peer: str
    device: str | None = None
    """The browser, if this user has signed in from it before."""


class SignInLimit:
    """Says whether a password may be tried now."""

    def __init__(self) -> None:
        self._pairs, self._peers, self._users = _Buckets(PAIR), _Buckets(PEER), _Buckets(USER)
        self._devices, self._reports = _Buckets(DEVICE), _Buckets(_REPORTS)

    def admit(self, attempt: Try, now: float) -> float:
        """Count a try and return 0.0 if it is allowed; else return the seconds until one is."""
        buckets = self._of(attempt)
        wait = max(one.wait(key, now) for one, key in buckets)
        if not wait:
            for one, key in buckets:
                one.count(key, now)
        return wait

    def is_new_refusal(self, peer: str, now: float) -> bool:
        """Return whether no refusal of this peer was reported within the last minute; the caller reports this one."""
        key = (peer_network(peer),)
        if self._reports.wait(key, now):
            return False
        self._reports.count(key, now)
        return True

    def succeeded(self, attempt: Try) -> None:
        """Forget the earlier tries of a user from the place of a success."""
        for one, key in self._of(attempt):
            if one in (self._pairs, self._devices):
                one.forget(key)

    def _of(self, attempt: Try) -> list[tuple[_Buckets, tuple[str, ...]]]:
        if attempt.device is not None:
            return [(self._devices, (attempt.user, attempt.device))]
        peer = peer_network(attempt.peer)
        return [
            (self._pairs, (peer, attempt.user)),
            (self._peers, (peer,)),
            (self._users, (attempt.user,)),
        ]


def peer_network(peer: str) -> str:
    """Return what one person can change the address of a peer within: all of it, or the half of an IPv6 address."""
    try:
        address = ip_address(peer)
    except ValueError:
        return peer
    if not isinstance(address, IPv6Address):
        return str(address)
    return str(address.ipv4_mapped or int(address) >> 64)
