"""Unassigns without effect, and the devices that customers have left.

A list of unassigns without any effect usually names wrong serials or wrong customers. Such rows look settled,
because the named customer does not have the device, as the row asked; so they need attention.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.outcomes import OWNED_AFTER, Outcome
from telemetron_batch.domain.reasons import Reason
from telemetron_batch.reconciliation.details import Detail
from telemetron_batch.reconciliation.reconcile import Reconciliation, row_ranges

_MIN_INEFFECTIVE: Final = 3
"""The least number of ineffective unassigns that puts a list in question."""
_TAKEN, _GIVEN = ([outcome.code for outcome, owned in OWNED_AFTER.items() if owned is after] for after in (False, True))
_PERHAPS_TAKEN: Final = [*_TAKEN, Outcome.UNCONFIRMED.code, Outcome.NOT_SENT.code]
_PERHAPS_GIVEN: Final = [*_GIVEN, Outcome.UNCONFIRMED.code]


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


@dataclass(frozen=True, slots=True)
class CustomerCounts:
    """Numbers of customers by what they have left after their last unassign call, as the API answered."""

    without_devices: int
    """Customers without devices, to whom no later call assigned one."""
    still_holding: int
    """Customers who still have devices although all their rows are unassigns."""


def count_holders(reconciliation: Reconciliation) -> CustomerCounts:
    """Count the customers whose last unassign call reports how many devices remain.

    Customers with an unconfirmed unassign are not counted.
    """
    size = reconciliation.plan.customers
    last, given, unknown, has_assign = (np.zeros(size, kind) for kind in (np.int64, np.int64, bool, bool))
    remaining = reconciliation.answers.counts["devicesRemaining"]
    for rows, calls in reconciliation.plan.calls_by_row():
        customer = reconciliation.plan.customer_numbers_of_calls(calls)
        answer, outcome = reconciliation.answer[rows], reconciliation.outcome[rows]
        takes = reconciliation.plan.rows.action[rows] == Action.UNASSIGN.code
        gives = ~takes & np.isin(outcome, _PERHAPS_GIVEN)
        has_count = takes & (remaining[answer] >= 0)
        np.maximum.at(last, customer[has_count], answer[has_count])
        np.maximum.at(given, customer[gives], answer[gives])
        unknown[customer[takes & (outcome == Outcome.UNCONFIRMED.code)]] = True
        has_assign[customer[~takes]] = True
    known = (last > 0) & ~unknown
    left = remaining[last]
    return CustomerCounts(
        without_devices=int((known & (left == 0) & (given < last)).sum()),
        still_holding=int((known & (left > 0) & ~has_assign).sum()),
    )
