"""The words that mean an action."""

from collections.abc import Mapping
from typing import Final

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.model import InputOptions

ACTION_WORDS: Final[Mapping[str, Action]] = {
    "assign": Action.ASSIGN,
    "add": Action.ASSIGN,
    "give": Action.ASSIGN,
    "issue": Action.ASSIGN,
    "unassign": Action.UNASSIGN,
    "remove": Action.UNASSIGN,
    "return": Action.UNASSIGN,
    "returned": Action.UNASSIGN,
    "revoke": Action.UNASSIGN,
}
"""Words that can mean only one action; any other word needs --action-word."""


def action_words(options: InputOptions) -> dict[str, Action]:
    """Return every word that means an action, in lower case."""
    return {**ACTION_WORDS, **{word.lower(): action for word, action in options.action_words.items()}}
