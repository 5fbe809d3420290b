"""Hash and check passwords, with bounded work: two checks at a time, and a short queue."""

import asyncio
from functools import cache
from typing import Final

import argon2
from argon2.exceptions import InvalidHashError, VerificationError

from telemetron_batch.domain.model import Secret

MIN_LENGTH: Final = 8
MAX_LENGTH: Final = 1024
_AT_ONCE: Final = 2
_QUEUE: Final = 8
_QUEUE_OF_KNOWN: Final = 16
_HASHER: Final = argon2.PasswordHasher()
"""The parameters of RFC 9106 for 64 MiB of memory."""


class TooManyChecksError(Exception):
    """So many passwords wait for their check that this one must come back later."""


def hash_password(password: str) -> Secret:
    """Return the hash of a password. Raises ValueError if it is too short or too long."""
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        raise ValueError(f"a password has {MIN_LENGTH} to {MAX_LENGTH} characters")
    return Secret(_HASHER.hash(password))


def is_password(stored: Secret | None, password: str) -> bool:
    """Return whether a password has this hash. Takes as long if there is no hash."""
    try:
        _HASHER.verify((stored or _nobody()).reveal(), password[: MAX_LENGTH + 1])
    except (VerificationError, InvalidHashError):
        return False
    return stored is not None


@cache
def _nobody() -> Secret:
    return Secret(_HASHER.hash("a password that nobody has"))


class PasswordChecker:
    """Checks passwords in threads, two at a time, which bounds memory (128 MiB) and processor time."""

    def __init__(self) -> None:
        _nobody()  # so that the first unknown name takes no longer
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0

    async def check(self, stored: Secret | None, password: str, *, is_known: bool) -> bool:
        """Return whether a password has this hash. Raises TooManyChecksError if too many wait.

        `is_known`: a browser from which this user has signed in before; a part of the queue is theirs.
        """
        if self._waiting >= (_QUEUE_OF_KNOWN if is_known else _QUEUE):
            raise TooManyChecksError
        self._waiting += 1
        try:
            async with self._slots:
                return await asyncio.shield(asyncio.to_thread(is_password, stored, password))
        finally:
            self._waiting -= 1
