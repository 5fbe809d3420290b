"""Everything that is a property of an action alone, in one table, and the phases of a sharded run.

The endpoint of an action is in `api.protocol`, its outcomes in `domain.outcomes`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
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
        return ACTION_FACTS[self].code

    @property
    def facts(self) -> "ActionProperties":
        """The row of the table for this action."""
        return ACTION_FACTS[self]


@dataclass(frozen=True, kw_only=True, slots=True)
class ActionProperties:
    """One row of the table."""

    code: int
    """The number stored in journals."""
    inverse: Action
    """The action that undoes it."""
    is_owned_after: bool
    """Whether the customer holds the device when the action is done."""
    may_create: bool
    """Whether it may create its customer, and its devices with `--auto-create-devices`."""


ACTION_FACTS: Final[Mapping[Action, ActionProperties]] = {
    Action.ASSIGN: ActionProperties(code=0, inverse=Action.UNASSIGN, is_owned_after=True, may_create=True),
    Action.UNASSIGN: ActionProperties(code=1, inverse=Action.ASSIGN, is_owned_after=False, may_create=False),
}
ACTIONS: Final = tuple(ACTION_FACTS)
"""Actions in the order of their codes."""
UNKNOWN_ACTION: Final = -1
"""The code in an action column for a word that is no known action."""


class Phase(StrEnum):
    """A part of a sharded run that every shard finishes before any shard starts the next."""

    UNASSIGN = "unassign"
    """The unassigns of the first stage."""
    ASSIGN = "assign"
    """All later stages."""
