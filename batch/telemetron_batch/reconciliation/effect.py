"""Unassigns that took nothing from anybody, and what customers have left; from closed books alone.

A list of unassigns none of which had an effect usually names wrong serials or wrong customers. Without this the
rows would look settled, because the customer named does not have the device, as the row asked.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.domain.reasons import Reason
from telemetron_batch.reconciliation.details import Detail
from telemetron_batch.reconciliation.reconcile import Reconciliation, row_ranges

_FEWEST: Final = 3
"""Fewer unassigns without effect than this say nothing about the list."""
_PERHAPS_TAKEN: Final = (Outcome.UNASSIGNED.code, Outcome.UNCONFIRMED.code, Outcome.NOT_SENT.code)
_PERHAPS_GIVEN: Final = (Outcome.ASSIGNED.code, Outcome.ALREADY_ASSIGNED.code, Outcome.UNCONFIRMED.code)

Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


def has_only_ineffective_unassigns(books: Reconciliation) -> bool:
    """Return whether the run's unassigns, three or more, surely took nothing from anybody."""
    without = books.without_effect()
    if np.count_nonzero(without) < _FEWEST:
        return False
    doubtful = books.unclear()
    for rows in row_ranges(len(books.outcome)):
        outcome = books.outcome[rows]
        others = np.isin(outcome, _PERHAPS_TAKEN) | doubtful[rows]
        if (others & (books.plan.rows.action[rows] == Action.UNASSIGN.code)).any():
            return False
    return True


def question_unassigns(books: Reconciliation) -> Reconciliation:
    """Return the books with every unassign without effect as a row that wants attention."""
    rows = np.flatnonzero(books.without_effect())
    codes, at = np.unique(books.detail[rows], return_inverse=True)
    added = [_questioned(books.details.entries[code]) for code in codes.tolist()]
    detail = books.detail.copy()
    detail[rows] = len(books.details) + at
    return replace(books, detail=detail, details=books.details.extended(added))


def _questioned(detail: Detail) -> Detail:
    return detail._replace(reason=Reason.UNASSIGN_WITHOUT_EFFECT, text="")


@dataclass(frozen=True, slots=True)
class Holders:
    """Customers by what they have left after the run's last unassign call, by the API's answer."""

    without_devices: int
    """Customers who have none, and were given none by a later call."""
    still_holding: int
    """Customers who have some although all their rows are unassigns."""


def count_holders(books: Reconciliation) -> Holders:
    """Count the customers whose last unassign call tells what they have left.

    A customer is left out where an unassign may have acted unheard.
    """
    size = books.plan.customers
    last, given, unknown, has_assign = (np.zeros(size, kind) for kind in (np.int64, np.int64, bool, bool))
    remaining = books.answers.counts["devicesRemaining"]
    for rows, calls in books.plan.calls_by_row():
        customer = books.plan.customer_ids_of_calls(calls)
        answer, outcome = books.answer[rows], books.outcome[rows]
        takes = books.plan.rows.action[rows] == Action.UNASSIGN.code
        gives = ~takes & np.isin(outcome, _PERHAPS_GIVEN)
        told = takes & (remaining[answer] >= 0)
        np.maximum.at(last, customer[told], answer[told])
        np.maximum.at(given, customer[gives], answer[gives])
        unknown[customer[takes & (outcome == Outcome.UNCONFIRMED.code)]] = True
        has_assign[customer[~takes]] = True
    known = (last > 0) & ~unknown
    left = remaining[last]
    return Holders(
        without_devices=int((known & (left == 0) & (given < last)).sum()),
        still_holding=int((known & (left > 0) & ~has_assign).sum()),
    )
