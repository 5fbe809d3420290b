"""Unassigns without effect.

A list of unassigns without any effect usually names wrong serials or wrong customers. Such rows look settled,
because the named customer does not have the device, as the row asked; so they need attention.
"""

from dataclasses import replace
from typing import Final

import numpy as np

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.outcomes import OWNED_AFTER, Outcome
from telemetron_batch.domain.reasons import Reason
from telemetron_batch.reconciliation.details import Detail
from telemetron_batch.reconciliation.reconcile import Reconciliation, row_ranges

_MIN_INEFFECTIVE: Final = 3
"""The least number of ineffective unassigns that puts a list in question."""
_TAKEN: Final = [outcome.code for outcome, owned in OWNED_AFTER.items() if owned is False]
_PERHAPS_TAKEN: Final = [*_TAKEN, Outcome.UNCONFIRMED.code, Outcome.NOT_SENT.code]


def has_only_ineffective_unassigns(reconciliation: Reconciliation) -> bool:
    """Return whether the run has at least three unassigns and surely none of them had an effect."""
    ineffective = reconciliation.without_effect()
    if np.count_nonzero(ineffective) < _MIN_INEFFECTIVE:
        return False
    is_unclear = reconciliation.unclear()
    for rows in row_ranges(len(reconciliation.outcome)):
        outcome = reconciliation.outcome[rows]
        may_have_taken = np.isin(outcome, _PERHAPS_TAKEN) | is_unclear[rows]
        if (may_have_taken & (reconciliation.plan.rows.action[rows] == Action.UNASSIGN.code)).any():
            return False
    return True


def flag_ineffective_unassigns(reconciliation: Reconciliation) -> Reconciliation:
    """Return the reconciliation with every unassign without effect marked as wanting attention."""
    rows = np.flatnonzero(reconciliation.without_effect())
    codes, index = np.unique(reconciliation.detail[rows], return_inverse=True)
    added = [_questioned(reconciliation.details.entries[code]) for code in codes.tolist()]
    detail = reconciliation.detail.copy()
    detail[rows] = len(reconciliation.details) + index
    return replace(reconciliation, detail=detail, details=reconciliation.details.extended(added))


def _questioned(detail: Detail) -> Detail:
    return detail._replace(reason=Reason.UNASSIGN_WITHOUT_EFFECT, text="")
