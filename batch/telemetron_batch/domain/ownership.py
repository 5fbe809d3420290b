"""Owners of files, and the error for a file that must not be trusted."""

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

_ROOT: Final = 0
HAS_OWNERS: Final = sys.platform != "win32"
"""Whether files have an owner and a mode; Windows has access lists instead, which are not checked."""


class UntrustedPathError(PermissionError):
    """A folder or file that must not be trusted."""

    def __init__(self, what: str, advice: str) -> None:
        super().__init__(errno.EPERM, what)
        self.what = what
        self.advice = advice


def is_owned(found: os.stat_result) -> bool:
    """Return whether the owner is this user or root."""
    return is_mine(found) or found.st_uid == _ROOT


def is_mine(found: os.stat_result) -> bool:
    """Return whether the owner is this user; true where the system has no users."""
    return sys.platform == "win32" or found.st_uid == os.geteuid()


def other_owner_text(path: str) -> str:
    """Return who owns a path, or its first parent that exists; "" if it is this user."""
    for existing in (Path(path), *Path(path).parents):
        with suppress(OSError):
            found = existing.lstat()
            return "" if is_mine(found) else f"{existing} belongs to {name_of(found.st_uid)}"
    return ""


def owner_name(found: os.stat_result) -> str:
    """Return the owner's name, or `user UID` if there is no account."""
    return name_of(found.st_uid)


def name_of(uid: int) -> str:
    """Return the name of a user, or `user UID` if there is no account."""
    return account(uid) or f"user {uid}"


def account(uid: int) -> str | None:
    """Return the name of a user's account, or None."""
    if sys.platform == "win32":
        return None
    else:  # noqa: RET505 - the type checker knows only such branches as those of a system
        import pwd

        try:
            return pwd.getpwuid(uid).pw_name
        except KeyError:
            return None
