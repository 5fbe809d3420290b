"""What the rows of a run tell later runs about the owners of devices (`--owners runs`)."""

from typing import Final

import numpy as np
import numpy.typing as npt

from telemetron_batch.domain.actions import ACTIONS, Action
from telemetron_batch.domain.arrays import Flags
from telemetron_batch.domain.outcomes import OUTCOMES, OWNED_AFTER, Outcome
from telemetron_batch.owners.last_words import OwnerWord
from telemetron_batch.planning.plan import Plan
from telemetron_batch.reconciliation.reconcile import Reconciliation

_MAY_BE: Final = {Action.ASSIGN: OwnerWord.MAY_BE_GIVEN, Action.UNASSIGN: OwnerWord.MAY_BE_TAKEN}
_TO_BE: Final = {Action.ASSIGN: OwnerWord.TO_BE_GIVEN, Action.UNASSIGN: OwnerWord.TO_BE_TAKEN}


def _word(outcome: Outcome, action: Action) -> OwnerWord:
    """Return what a row with this outcome tells."""
    if outcome in OWNED_AFTER:
        return OwnerWord.GIVEN if OWNED_AFTER[outcome] else OwnerWord.TAKEN
    if outcome is Outcome.SKIPPED and action is Action.UNASSIGN:
        return OwnerWord.TAKEN
    if outcome is Outcome.UNCONFIRMED:
        return _MAY_BE[action]
    # A stopped run may go on; what it held may be released then.
    return _TO_BE[action] if outcome in (Outcome.NOT_SENT, Outcome.HELD) else OwnerWord.NOTHING


_WORDS: Final = np.array(
    [[*(_word(outcome, action) for action in ACTIONS), OwnerWord.NOTHING] for outcome in OUTCOMES], np.int8
)
"""By outcome and action; the last column is for rows with an unknown action."""
_MAY_BE_BY_ACTION: Final = np.array([_MAY_BE[action] for action in ACTIONS], np.int8)


def owner_words(reconciliation: Reconciliation, *, has_ended: bool) -> npt.NDArray[np.int8]:
    """Return the `OwnerWord` of each row; `has_ended` is whether the run sends nothing any more."""
    plan = reconciliation.plan
    words = _WORDS[reconciliation.outcome, plan.rows.action]
    if has_ended:
        words[np.isin(words, [*_TO_BE.values()])] = OwnerWord.NOTHING
    doubtful = reconciliation.contradicted() | _follows_unclear_opposite(plan, reconciliation.unclear_attempts > 0)
    doubtful &= words != OwnerWord.NOTHING
    words[doubtful] = _MAY_BE_BY_ACTION[plan.rows.action[doubtful]]
    return words


def _follows_unclear_opposite(plan: Plan, in_doubt: Flags) -> Flags:
    """Return which rows are the last of their pair after an opposite row that may have been carried out unanswered."""
    action, earlier, last = plan.rows.action, plan.superseded_rows, plan.superseding_rows
    found = np.zeros(len(in_doubt), np.bool_)
    found[last[in_doubt[earlier] & (action[earlier] != action[last])]] = True
    return found
