"""What customers have left after the last unassign call of the run, by the API's answers.

The last call is the last in time. Answers are numbered in the order in which they were recorded, and all calls to a
customer are in one journal, also in a run of several shards.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.arrays import Flags, Ints
from telemetron_batch.domain.outcomes import OWNED_AFTER, Outcome
from telemetron_batch.planning.plan import Plan
from telemetron_batch.reconciliation.reconcile import Reconciliation, row_ranges
from telemetron_batch.rows.rows import RowBlock
from telemetron_batch.storage.text_hash import hash_texts

_NOT_MADE: Final = 0
_UNKNOWN: Final = -1
_PERHAPS_GIVEN: Final = [*(outcome.code for outcome, owned in OWNED_AFTER.items() if owned), Outcome.UNCONFIRMED.code]
_HOLDERS: Final = pa.schema([("customer", pa.string()), ("devices", pa.int64())])
_MOST_DEVICES_FIRST: Final = [("devices", "descending"), ("customer", "ascending")]


class Holder(NamedTuple):
    """A customer who still has devices."""

    customer: str
    devices: int


@dataclass(frozen=True, slots=True)
class RemainingDevices:
    """The customers of a run by the devices that they have left after their last unassign call."""

    without_devices: int
    """Number of customers who have none, and to whom no later call may have assigned one."""
    holders: pa.Table
    """`customer` and `devices`, the number, of those who have some although all their rows are unassigns."""

    @property
    def still_holding(self) -> int:
        """Number of customers who still have devices although all their rows are unassigns."""
        return int(self.holders.num_rows)

    def largest_holders(self, most: int) -> list[Holder]:
        """Return the holders with most devices, at most `most` of them."""
        shown = self.holders.take(pc.select_k_unstable(self.holders, most, _MOST_DEVICES_FIRST))
        return [*map(Holder, shown["customer"].to_pylist(), shown["devices"].to_pylist())]


def find_remaining_devices(reconciliation: Reconciliation, blocks: Iterable[RowBlock]) -> RemainingDevices:
    """Return what customers have left, where the answer to their last unassign call says so.

    `blocks` are those of the input, in order; they are read only if rows that are not sent matter.
    """
    plan = reconciliation.plan
    calls = _Calls(reconciliation)
    customer = plan.customer_numbers_of_calls(np.arange(1, plan.calls + 1))
    last_gift, has_assign = np.zeros(plan.customers, np.int64), np.zeros(plan.customers, bool)
    np.maximum.at(last_gift, customer, calls.gave)
    has_assign[customer[~calls.unassigns]] = True
    last = calls.are_last(customer)
    customer, ended, devices = customer[last], calls.ended[last], calls.devices[last]
    holds = (devices > 0) & ~has_assign[customer]
    holders = _holders(plan, customer[holds], devices[holds])
    return RemainingDevices(
        without_devices=int(((devices == 0) & (last_gift[customer] < ended)).sum()),
        holders=holders.filter(pa.array(~_have_other_rows(holders["customer"], reconciliation, blocks))),
    )


def _holders(plan: Plan, customer: Ints, devices: Ints) -> pa.Table:
    """Return the emails of these customers with their numbers of devices."""
    emails = plan.all_customer_emails().take(pa.array(customer)) if len(customer) else pa.array([], pa.string())
    return pa.table([emails, pa.array(devices)], schema=_HOLDERS)


class _Calls:
    """Columns with one entry for each call, from call 1.

    unassigns   whether it is an unassign call
    ended       number of its newest answer; `_NOT_MADE` if it was not sent
    devices     number of devices in its newest answer that has the list; `_UNKNOWN` without one, or if some devices of
                the call were sent without an answer
    gave        number of its newest answer that may have assigned a device; 0 without one
    """

    def __init__(self, reconciliation: Reconciliation) -> None:
        plan, remaining = reconciliation.plan, reconciliation.answers.counts["devicesRemaining"]
        # Rows without any answer that may have been sent count as the newest of all.
        self._after_all = len(remaining)
        size = plan.calls + 1
        self._unassigns, self._unheard = np.zeros(size, bool), np.zeros(size, bool)
        self._ended, self._listed, self._gave = (np.zeros(size, np.int64) for _ in range(3))
        for rows, calls in plan.calls_by_row():
            self._add(reconciliation, rows, calls)
        self.unassigns, self.ended, self.gave = self._unassigns[1:], self._ended[1:], self._gave[1:]
        listed = self._listed[1:]
        self.devices: Ints = np.where((listed > 0) & ~self._unheard[1:], remaining[listed], _UNKNOWN).astype(np.int64)

    def _add(self, reconciliation: Reconciliation, rows: Ints, calls: Ints) -> None:
        """Take in some rows and the call of each."""
        answer, outcome = reconciliation.answer[rows].astype(np.int64), reconciliation.outcome[rows]
        has_list = reconciliation.answers.counts["devicesRemaining"][answer] >= 0
        unconfirmed = outcome == Outcome.UNCONFIRMED.code
        ended = np.where(unconfirmed & (answer == 0), self._after_all, answer)
        ended[outcome == Outcome.NOT_SENT.code] = _NOT_MADE
        unassigns = reconciliation.plan.rows.action[rows] == Action.UNASSIGN.code
        gave = ~unassigns & np.isin(outcome, _PERHAPS_GIVEN)
        self._unassigns[calls] = unassigns
        # A verification settles unconfirmed rows, but says nothing about the answer to their call.
        self._unheard[calls[~has_list & (unconfirmed | (reconciliation.unclear_attempts[rows] > 0))]] = True
        np.maximum.at(self._ended, calls, ended)
        np.maximum.at(self._listed, calls[has_list], answer[has_list])
        np.maximum.at(self._gave, calls[gave], ended[gave])

    def are_last(self, customer: Ints) -> Flags:
        """Return for each call whether it is the last unassign call of its customer and its devices are known."""
        ended = np.where(self.unassigns, self.ended, _NOT_MADE)
        last = np.zeros(int(customer.max(initial=-1)) + 1, np.int64)
        np.maximum.at(last, customer, ended)
        found: Flags = (self.devices != _UNKNOWN) & (ended != _NOT_MADE) & (ended == last[customer])
        return found


def _have_other_rows(customers: pa.ChunkedArray, reconciliation: Reconciliation, blocks: Iterable[RowBlock]) -> Flags:
    """Return for each customer whether a row that is not sent has the customer and is, or may be, no unassign."""
    found = np.zeros(len(customers), bool)
    if not len(customers) or not any(
        _other(reconciliation, rows).any() for rows in row_ranges(len(reconciliation.call))
    ):
        return found
    hashes = hash_texts(customers.combine_chunks())
    order = np.argsort(hashes)
    end = 0
    for block in blocks:
        first, end = end, end + block.keys.num_rows
        emails = block.keys["customerEmail"].filter(pa.array(_other(reconciliation, slice(first, end))))
        of_block = hash_texts(emails)
        at = order[np.minimum(np.searchsorted(hashes, of_block, sorter=order), len(order) - 1)]
        found[at[hashes[at] == of_block]] = True
    return found


def _other(reconciliation: Reconciliation, rows: slice) -> Flags:
    """Return for each row of a range whether it is not sent and is, or may be, no unassign."""
    is_other: Flags = (reconciliation.call[rows] == 0) & (reconciliation.plan.rows.action[rows] != Action.UNASSIGN.code)
    return is_other
