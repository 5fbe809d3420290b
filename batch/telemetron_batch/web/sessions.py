"""The sessions of users who have signed in: kept in memory only, so a restart ends them."""

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

_MAX_SESSIONS: Final = 10_000
_MAX_OF_ONE_USER: Final = 20


@dataclass(frozen=True, slots=True)
class Session:
    """A browser in which a user has signed in."""

    user: str
    stamp: bytes
    """Stamp of the account at sign-in."""
    since: float
    seen: float


class Sessions:
    """Starts, finds and ends sessions. The store has hashes, so its content lets nobody in."""

    def __init__(self, idle_s: float, longest_s: float) -> None:
        self._idle_s, self._longest_s = idle_s, longest_s
        self._by_hash: OrderedDict[bytes, Session] = OrderedDict()

    def start(self, user: str, stamp: bytes, now: float) -> str:
        """Start a session and return its secret name."""
        secret = secrets.token_urlsafe(32)
        self._drop(lambda one: self._is_over(one, now))
        of_user = [key for key, one in self._by_hash.items() if one.user == user]
        for key in of_user[: max(0, len(of_user) - _MAX_OF_ONE_USER + 1)]:
            del self._by_hash[key]
        while len(self._by_hash) >= _MAX_SESSIONS:
            self._by_hash.popitem(last=False)
        self._by_hash[_hashed(secret)] = Session(user, stamp, now, now)
        return secret

    def find(self, secret: str, now: float, *, is_use: bool = True) -> Session | None:
        """Return the session of this name; None if it is over. A use keeps it from becoming idle."""
        key = _hashed(secret)
        session = self._by_hash.get(key)
        if session is None:
            return None
        if self._is_over(session, now):
            del self._by_hash[key]
            return None
        if is_use:
            self._by_hash[key] = replace(session, seen=now)
            self._by_hash.move_to_end(key)
        return session

    def end(self, secret: str) -> None:
        """End a session."""
        self._by_hash.pop(_hashed(secret), None)

    def _is_over(self, session: Session, now: float) -> bool:
        return now - session.seen > self._idle_s or now - session.since > self._longest_s

    def _drop(self, is_over: Callable[[Session], bool]) -> None:
        for key in [key for key, one in self._by_hash.items() if is_over(one)]:
            del self._by_hash[key]


def _hashed(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()
