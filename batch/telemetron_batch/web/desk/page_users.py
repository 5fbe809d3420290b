"""The users of the page as the persons of a plan: who planned it, who approved it, who sends it.

All files are written by the one user of the system that the server runs as. So the approvals of the page are kept in a
folder that only this user can enter, and there the content of a file says who wrote it.
"""

import json
import os
import unicodedata
from hashlib import sha256
from pathlib import Path
from typing import Final

from telemetron_batch.storage.system_users import SystemUsers, User

_FIRST_NUMBER: Final = 1 << 32
"""Larger than the number of any user of the system."""
_AUTHOR_FIELDS: Final = ("approvedBy", "plannedBy")


class PageUsers(SystemUsers):
    """The users of the page; a person is acting, or nobody is and the files are only read."""

    def __init__(self, folder: Path, name: str | None = None) -> None:
        self._folder = folder
        """The folder of the page's approvals."""
        self._name = name

    def current(self) -> User:
        """Return the person who is acting, else the user of the system."""
        return super().current() if self._name is None else person(self._name)

    def author(self, file: Path, found: os.stat_result, content: bytes) -> User:
        """Return the person whom a file of the page's approvals names; of any other file its owner."""
        owner = super().author(file, found, content)
        if file.parent == self._folder and owner == super().current():
            name = _named_author(content)
            if name is not None:
                return person(name)
        return owner


def person(name: str) -> User:
    """Return a user of the page as a user with a number. Spellings of one name are one user."""
    same = unicodedata.normalize("NFKC", name).casefold()
    return User(_FIRST_NUMBER + int.from_bytes(sha256(same.encode()).digest()[:6]), name)


def _named_author(content: bytes) -> str | None:
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError):
        return None
    names = [fields[name] for name in _AUTHOR_FIELDS if name in fields] if isinstance(fields, dict) else []
    return names[0] if names and isinstance(names[0], str) else None
