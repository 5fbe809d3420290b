"""What a row asks for, and the codes under which that is stored."""

from enum import StrEnum
from typing import Final


class Action(StrEnum):
    """What a row asks for. The API has one bulk endpoint for each."""

    ASSIGN = "assign"
    UNASSIGN = "unassign"

    __hash__ = str.__hash__  # looked up some times for each call; an Enum's own is slow

    @property
    def code(self) -> int:
        """The stored number of this action."""
        return _CODES[self]


_CODES: Final = {Action.ASSIGN: 0, Action.UNASSIGN: 1}
ACTIONS: Final = (Action.ASSIGN, Action.UNASSIGN)
"""Actions by their codes."""
UNKNOWN_ACTION: Final = -1
"""The code in an action column for a word that means no known action."""


class Phase(StrEnum):
    """What all shards of a run have to be through with before any of them goes on."""

    UNASSIGN = "unassign"
    """The unassigns of the first stage."""
    ASSIGN = "assign"
    """All later stages."""
