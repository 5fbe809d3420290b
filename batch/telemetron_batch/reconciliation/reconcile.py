"""Closed books: one outcome for every row, and all else that there is to say of it.

Outcomes are integer columns by row number. Whatever is written about a run is a function
of them and of its journal.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.actions import ACTIONS, Action
from telemetron_batch.domain.outcomes import OUTCOMES, Outcome
from telemetron_batch.domain.reasons import Reason, Unheard
from telemetron_batch.planning.plan import Plan
from telemetron_batch.reconciliation.answer_table import AnswerTable, SparseTextColumn
from telemetron_batch.reconciliation.details import Details
from telemetron_batch.reconciliation.format_columns import format_bools, format_ints
from telemetron_batch.reconciliation.held_details import held_details
from telemetron_batch.rows.rows import RowBlock

_WINDOW: Final = 1 << 20
ANSWER_COLUMNS: Final = ("attempts", "unclearAttempts", "httpStatus", "answeredAt", "devicesRemaining")
WAS_CREATED: Final = 2
"""In `Reconciliation.created`."""
YES: Final = 1
NO: Final = 0
_VERIFIED: Final = pa.array(["no", "yes", ""])
_NAMES: Final = pa.array([str(outcome) for outcome in OUTCOMES])
_ATTENTION: Final = np.array(
    [[outcome.wants_attention(action) for action in ACTIONS] + [True] for outcome in OUTCOMES], dtype=bool
)
"""By outcome and action; the last column is for rows whose action is unknown, all of them invalid."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reconciliation:
    """Closed books: what became of every row, as columns by row number.

    outcome    int8   `Outcome.code`
    call       int32  the call that held the row; 0: none
    answer     int32  position in `answers`; 0: none
    detail     int32  position in `details`
    doubts     int32  attempts at the row that may have acted without our hearing of it
    created    int8   was the device created: 0 not told, 1 no, 2 yes
    verified   int8   does the API hold what the outcome says: `NO`, `YES`, -1 not known; None: nobody asked
    """

    plan: Plan
    outcome: npt.NDArray[np.int8]
    call: npt.NDArray[np.int32]
    call_texts: pa.Array
    """The calls' numbers, "" for 0."""
    answer: npt.NDArray[np.int32]
    answers: AnswerTable
    calls_settled: int
    """Calls of which every device has a result."""
    customers_created: int
    """Customers that this run is known to have created."""
    customers_perhaps_created: int
    """Further customers that an unanswered attempt of this run may have created."""
    detail: npt.NDArray[np.int32]
    details: Details
    unclear_attempts: npt.NDArray[np.int32]
    created: npt.NDArray[np.int8]
    device_ids: SparseTextColumn
    file_names: tuple[str, ...] = ()
    """Of the input files, where there are several."""
    verified: npt.NDArray[np.int8] | None = None
    settled_by_verification: int = 0
    """Rows whose outcome is not from an answer of their own, but from asking afterwards."""

    def contradicted(self) -> npt.NDArray[np.bool_]:
        """For each row: was the API seen to hold something else than its outcome says?"""
        return np.zeros(len(self.outcome), dtype=bool) if self.verified is None else self.verified == NO

    def counts(self) -> dict[Outcome, int]:
        """Rows by outcome, every outcome named."""
        return self._counted(lambda _: slice(None))

    def attention(self, tolerated: Iterable[Outcome] = ()) -> npt.NDArray[np.bool_]:
        """For each row: does it want attention? Tolerated outcomes do not, but what differs at the API always."""
        wanted = _ATTENTION.copy()
        without = [outcome.code for outcome in tolerated]
        wanted[without] = False
        questioned = self.details.reasons == Reason.UNASSIGN_WITHOUT_EFFECT
        if Outcome.SKIPPED.code in without:
            questioned[:] = False
        found = self.contradicted()
        for rows in row_ranges(len(found)):
            found[rows] |= wanted[self.outcome[rows], self.plan.rows.action[rows]]
            found[rows] |= questioned[self.detail[rows]]
        return found

    def without_effect(self) -> npt.NDArray[np.bool_]:
        """For each row: is it an unassign of a device that its customer surely did not have?"""
        clear = self.details.unheard == Unheard.NOTHING
        skipped = (self.outcome == Outcome.SKIPPED.code) & (self.plan.rows.action == Action.UNASSIGN.code)
        return np.asarray(skipped & clear[self.detail], dtype=bool)

    def attention_counts(self) -> dict[Outcome, int]:
        """Rows that want attention, by outcome, every outcome named."""
        wanting = self.attention()
        return self._counted(lambda rows: wanting[rows])

    def overtaken(self) -> npt.NDArray[np.bool_]:
        """For each row: does it want attention although a later row of its customer and device does not?

        To do such a row after all would undo the later one.
        """
        wanting = self.attention()
        rows, pair = self.plan.rows_of_pairs(np.flatnonzero(wanting))
        pairs, of = np.unique(pair, return_inverse=True)
        last_fine = np.full(len(pairs), -1)
        fine = ~wanting[rows]
        np.maximum.at(last_fine, of[fine], rows[fine])
        found = np.zeros(len(wanting), dtype=bool)
        found[rows] = wanting[rows] & (rows < last_fine[of])
        return found

    def unclear(self) -> npt.NDArray[np.bool_]:
        """For each row: may this run have changed what the API holds, without anybody knowing?"""
        in_doubt = self.details.unheard != Unheard.NOTHING
        return np.asarray((self.outcome == Outcome.UNCONFIRMED.code) | in_doubt[self.detail], dtype=bool)

    def has_reason(self, rows: npt.NDArray[np.int64], reason: Reason) -> npt.NDArray[np.bool_]:
        """For each of some rows: is this why it has its outcome?"""
        return np.asarray((self.details.reasons == reason)[self.detail[rows]], dtype=bool)

    def surely_changed(self) -> npt.NDArray[np.bool_]:
        """For each row: is this a change, for certain, from what the API held before this run?

        What a row changed that follows an unclear one on its pair was perhaps this run's
        own work just before.
        """
        changed = self._changed()
        changed[self._after_unclear(changed)] = False
        return changed

    def not_undone(self) -> npt.NDArray[np.bool_]:
        """For each row: did it change something, or perhaps, that undo.csv does not take back?"""
        unclear = self.unclear()
        unclear[self._after_unclear(self._changed())] = True
        return unclear

    def _after_unclear(self, changed: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """Rows that changed something, on pairs of which the first change is an unclear one."""
        unclear = self.unclear()
        rows, pair = self.plan.rows_of_pairs(np.flatnonzero(unclear))
        told = changed[rows] | unclear[rows]
        rows, pair = rows[told], pair[told]
        _, first, of = np.unique(pair, return_index=True, return_inverse=True)
        return rows[unclear[rows[first]][of] & changed[rows]]

    def _changed(self) -> npt.NDArray[np.bool_]:
        return np.asarray((self.outcome == Outcome.ASSIGNED.code) | (self.outcome == Outcome.UNASSIGNED.code))

    def columns(self, block: RowBlock, first: int) -> dict[str, pa.Array]:
        """What is to be reported of the rows of a block, as texts by column name.

        `first` is the row number of the block's first row.
        """
        rows = slice(first, first + block.keys.num_rows)
        told = self.answers.texts(self.answer[rows])
        columns = {
            "outcome": _NAMES.take(pa.array(self.outcome[rows])),
            "detail": self.details_of(block, first),
            "customerId": told["customerId"],
            "deviceId": self.device_ids.texts(rows.start, rows.stop),
            "customerWasCreated": told["customerWasCreated"],
            "deviceWasCreated": format_bools(self.created[rows]),
            "call": self.call_texts.take(pa.array(self.call[rows])),
        }
        columns |= {name: told[name] for name in ANSWER_COLUMNS}
        if self.verified is not None:
            columns["verified"] = _VERIFIED.take(pa.array(self.verified[rows] % 3))
        return columns

    def outcomes_of(self, rows: slice) -> pa.Array:
        """Names of the outcomes of a range of rows."""
        return _NAMES.take(pa.array(self.outcome[rows]))

    def _counted(self, chosen: Callable[[slice], Any]) -> dict[Outcome, int]:
        """Outcomes of the chosen rows of each window, counted."""
        found = np.zeros(len(OUTCOMES), np.int64)
        for rows in row_ranges(len(self.outcome)):
            found += np.bincount(self.outcome[rows][chosen(rows)], minlength=len(OUTCOMES))
        return dict(zip(OUTCOMES, found.tolist(), strict=True))

    def details_of(self, block: RowBlock, first: int) -> pa.Array:
        """The loader's words for an invalid row, the answer's for a sent one; duplicates and held rows name another."""
        rows = slice(first, first + block.keys.num_rows)
        codes, origin = self.detail[rows], self.plan.original_of(rows.start, rows.stop)
        said, repeats = np.flatnonzero(codes), np.flatnonzero(origin >= 0)
        invalid = np.flatnonzero(block.keys["problem"].to_numpy())
        held = self.plan.held.within(rows.start, rows.stop)
        texts = [
            self.details.texts.take(pa.array(codes[said])),
            block.keys["detail"].take(pa.array(invalid)),
            self._same_as(origin[repeats]),
            held_details(held, self.plan.rows, self.file_names),
        ]
        place = np.zeros(len(codes), np.int64)
        place[said] = np.arange(1, len(said) + 1)
        place[invalid] = np.arange(1, len(invalid) + 1) + len(said)
        place[repeats] = np.arange(1, len(repeats) + 1) + len(said) + len(invalid)
        place[held.rows - first] = np.arange(1, len(held) + 1) + len(said) + len(invalid) + len(repeats)
        return pa.concat_arrays([pa.array([""]), *texts]).take(pa.array(place))

    def _same_as(self, origin: npt.NDArray[np.int64]) -> pa.Array:
        """Where the originals of duplicates stand, and what became of them."""
        where = [pa.scalar("same as line"), format_ints(self.plan.rows.lines_of(origin))]
        if len(self.file_names) > 1:
            where += [pa.scalar("of"), pa.array(self.file_names).take(pa.array(self.plan.rows.files_of(origin)))]
        outcome = _NAMES.take(pa.array(self.outcome[origin]))
        return pc.binary_join_element_wise(pc.binary_join_element_wise(*where, " "), outcome, ": ")


def inverse(action: Action) -> Action:
    """The action that takes another back."""
    return Action.UNASSIGN if action is Action.ASSIGN else Action.ASSIGN


def row_ranges(size: int) -> Iterator[slice]:
    """All rows, some at a time: what is worked out for them must not take much memory."""
    return (slice(first, min(first + _WINDOW, size)) for first in range(0, size, _WINDOW))
