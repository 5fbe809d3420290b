"""Actions of rows and their stored codes, and the phases of a sharded run."""

from enum import StrEnum
from typing import Final


class Action(StrEnum):
    """What a row asks the API to do. The API has one bulk endpoint for each action."""

    ASSIGN = "assign"
    UNASSIGN = "unassign"

    __hash__ = str.__hash__  # hashed several times for each call; the hash of an Enum is slow

    @property
    def code(self) -> int:
        """The stored number of this action."""
        return _CODES[self]


_CODES: Final = {Action.ASSIGN: 0, Action.UNASSIGN: 1}
ACTIONS: Final = (Action.ASSIGN, Action.UNASSIGN)
"""Actions in the order of their codes."""
UNKNOWN_ACTION: Final = -1
"""The code in an action column for a word that is no known action."""


class Phase(StrEnum):
    """A part of a sharded run that every shard finishes before any shard starts the next."""

    UNASSIGN = "unassign"
    """The unassigns of the first stage."""
    ASSIGN = "assign"
    """All later stages."""
