"""The users of the system: who runs this process, and who owns a file."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from telemetron_batch.domain.ownership import name_of
from telemetron_batch.storage import windows_users

_ROOT: Final = 0


@dataclass(frozen=True, slots=True)
class User:
    """A user of the system."""

    uid: int
    name: str

    @property
    def is_root(self) -> bool:
        """Whether it is the administrator, who can act as any user."""
        return self.uid == _ROOT

    def as_fact(self) -> dict[str, Any]:
        """Return the user as a journal stores it."""
        return {"uid": self.uid, "name": self.name}

    @classmethod
    def of_fact(cls, fact: Any) -> "User":
        """Return the user that `as_fact` stored. Raises LookupError, TypeError or ValueError for anything else."""
        return cls(int(fact["uid"]), str(fact["name"]))


class SystemUsers:
    """Finds users by the system; tests replace it."""

    def current(self) -> User:
        """Return the user that this process acts for."""
        if sys.platform == "win32":
            return User(*windows_users.current_user())
        else:  # noqa: RET505 - the type checker knows only such branches as those of a system
            return self._user(os.geteuid())

    def owner(self, found: os.stat_result) -> User:
        """Return the owner of a file."""
        return self._user(found.st_uid)

    def author(self, file: Path, found: os.stat_result, content: bytes) -> User:  # noqa: ARG002 - for subclasses
        """Return who wrote a file: its owner, whatever it says of itself. Raises OSError."""
        if sys.platform == "win32":
            return User(*windows_users.owner_of(file))
        else:  # noqa: RET505
            return self.owner(found)

    def _user(self, uid: int) -> User:
        return User(uid, name_of(uid))
