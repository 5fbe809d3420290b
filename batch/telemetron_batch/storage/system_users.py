"""The users of the system: who runs this process, and who owns a file."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from telemetron_batch.domain.ownership import name_of

_ROOT: Final = 0
_UNKNOWN: Final = -1
"""The number of any user where the system has no numbers; there all files belong to root, so no approval counts."""


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
        return self._user(os.geteuid() if hasattr(os, "geteuid") else _UNKNOWN)

    def owner(self, found: os.stat_result) -> User:
        """Return the owner of a file."""
        return self._user(found.st_uid)

    def author(self, file: Path, found: os.stat_result, content: bytes) -> User:  # noqa: ARG002 - for subclasses
        """Return who wrote a file: its owner, whatever it says of itself."""
        return self.owner(found)

    def _user(self, uid: int) -> User:
        return User(uid, name_of(uid))
