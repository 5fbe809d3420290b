"""Everything about an outcome, in one table: stored code, attention, meaning, advice, colour.

To add an outcome, add a member and its row in the table. Stored codes must never change their meaning.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final

from telemetron_batch.domain.actions import Action


class Outcome(StrEnum):
    """The final state of a row; every row has exactly one."""

    ASSIGNED = "assigned"
    ALREADY_ASSIGNED = "alreadyAssigned"
    UNASSIGNED = "unassigned"
    SKIPPED = "skipped"
    DUPLICATE = "duplicate"
    UNCHANGED = "unchanged"
    INVALID = "invalid"
    FAILED = "failed"
    UNCONFIRMED = "unconfirmed"
    HELD = "held"
    NOT_SENT = "notSent"

    __hash__ = str.__hash__  # hashed for each row; the hash of an Enum is slow

    @property
    def code(self) -> int:
        """The stored number of this outcome."""
        return _CODES[self]

    @property
    def facts(self) -> "OutcomeProperties":
        """The row of the table for this outcome."""
        return OUTCOME_PROPERTIES[self]

    def wants_attention(self, action: Action) -> bool:
        """Return whether a row with this action and outcome needs a person's attention."""
        match self.facts.attention:
            case Attention.ALWAYS:
                return True
            case Attention.FOR_ASSIGN:
                return action is Action.ASSIGN
        return False


class Attention(Enum):
    """Which rows with an outcome need a person's attention."""

    NEVER = "never"
    FOR_ASSIGN = "for assign"
    ALWAYS = "always"


class Tone(StrEnum):
    """The colour class of a row."""

    GOOD = "good"
    PLAIN = "plain"
    DOUBT = "doubt"
    WRONG = "wrong"


@dataclass(frozen=True, kw_only=True, slots=True)
class OutcomeProperties:
    """One row of the table."""

    code: int
    """The number stored in journals."""
    attention: Attention
    is_failure: bool = False
    """Whether it counts towards `--max-failed`."""
    is_done: bool = False
    """Whether the API has the state that the row asked for."""
    owned_after: bool | None = None
    """Whether the customer surely has the device afterwards; None if the outcome does not tell."""
    is_sent: bool = True
    """Whether it is the outcome of a request that contained the row."""
    sentence: str
    """The meaning, as text for people."""
    advice: str = ""
    """What to do about a row that needs attention. `{again}` stands for the command that continues the run."""
    tone: Tone
    tone_of_assign: Tone | None = None
    """The tone for assigns, if it differs."""


OUTCOME_PROPERTIES: Final[Mapping[Outcome, OutcomeProperties]] = {
    Outcome.ASSIGNED: OutcomeProperties(
        code=0,
        attention=Attention.NEVER,
        is_done=True,
        owned_after=True,
        tone=Tone.GOOD,
        sentence="now with the customer",
    ),
    Outcome.ALREADY_ASSIGNED: OutcomeProperties(
        code=1,
        attention=Attention.NEVER,
        is_done=True,
        owned_after=True,
        tone=Tone.GOOD,
        sentence="was with the customer before",
    ),
    Outcome.UNASSIGNED: OutcomeProperties(
        code=2,
        attention=Attention.NEVER,
        is_done=True,
        owned_after=False,
        tone=Tone.GOOD,
        sentence="taken from the customer",
    ),
    Outcome.SKIPPED: OutcomeProperties(
        code=3,
        attention=Attention.FOR_ASSIGN,
        tone=Tone.PLAIN,
        tone_of_assign=Tone.WRONG,
        sentence="unknown device, or not this customer's",
        advice="Have the device registered with Telemetron, or correct its identifier, then run attention.csv. "
        "--auto-create-devices creates unknown devices, if that is wanted.",
    ),
    Outcome.DUPLICATE: OutcomeProperties(
        code=4, attention=Attention.NEVER, is_sent=False, tone=Tone.PLAIN, sentence="the same as an earlier row"
    ),
    Outcome.UNCHANGED: OutcomeProperties(
        code=5,
        attention=Attention.NEVER,
        is_done=True,
        is_sent=False,
        tone=Tone.PLAIN,
        sentence="not sent: settled by an earlier run",
    ),
    Outcome.INVALID: OutcomeProperties(
        code=6,
        attention=Attention.ALWAYS,
        is_sent=False,
        tone=Tone.WRONG,
        sentence="not sent: the row itself is wrong",
        advice="Correct it in attention.csv and run that file.",
    ),
    Outcome.FAILED: OutcomeProperties(
        code=7,
        attention=Attention.ALWAYS,
        is_failure=True,
        tone=Tone.WRONG,
        sentence="refused by the API; nothing was changed",
        advice="Resolve the API's objection with the team that manages the customers or devices, "
        "then run attention.csv.",
    ),
    Outcome.UNCONFIRMED: OutcomeProperties(
        code=8,
        attention=Attention.ALWAYS,
        is_failure=True,
        tone=Tone.DOUBT,
        sentence="may or may not have been done: no usable answer",
        advice="Run attention.csv: a row that was done already ends as alreadyAssigned or skipped and does no harm.",
    ),
    Outcome.HELD: OutcomeProperties(
        code=9,
        attention=Attention.ALWAYS,
        is_sent=False,
        tone=Tone.DOUBT,
        sentence="not sent: may still be with the former owner",
        advice="Find out why the device could not be unassigned from its former owner (that row is listed here too); "
        "then run attention.csv, which contains both rows.",
    ),
    Outcome.NOT_SENT: OutcomeProperties(
        code=10,
        attention=Attention.ALWAYS,
        is_sent=False,
        tone=Tone.DOUBT,
        sentence="not sent: the run stopped before it",
        advice="{again}: it goes on where this run stopped.",
    ),
}
_CODES: Final = {outcome: facts.code for outcome, facts in OUTCOME_PROPERTIES.items()}
OUTCOMES: Final = tuple(sorted(_CODES, key=_CODES.__getitem__))
"""Outcomes in the order of their codes."""
UNSENT: Final = tuple(outcome for outcome, facts in OUTCOME_PROPERTIES.items() if not facts.is_sent)
OUTCOMES_OF_SUCCESS: Final[Mapping[Action, tuple[Outcome, Outcome]]] = {
    Action.ASSIGN: (Outcome.ASSIGNED, Outcome.ALREADY_ASSIGNED),
    Action.UNASSIGN: (Outcome.UNASSIGNED, Outcome.SKIPPED),
}
"""The outcome if the action changed something, and the outcome if there was nothing to change."""
OWNED_AFTER: Final = {
    outcome: facts.owned_after for outcome, facts in OUTCOME_PROPERTIES.items() if facts.owned_after is not None
}
"""Whether the customer has the device after an outcome, for outcomes that tell."""
DONE: Final = tuple(outcome for outcome, facts in OUTCOME_PROPERTIES.items() if facts.is_done)
FAILURES: Final = tuple(outcome for outcome, facts in OUTCOME_PROPERTIES.items() if facts.is_failure)

assert [*_CODES.values()] == [*range(len(Outcome))], "every outcome has a row, and codes count from 0"  # noqa: S101
