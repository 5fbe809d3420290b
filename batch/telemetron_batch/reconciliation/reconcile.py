"""The result of a run: one outcome for every row, as integer columns by row number.

Every file about a run is a function of this result and of the journal.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.actions import ACTIONS, Action
from telemetron_batch.domain.answers import ANSWER_FIELDS
from telemetron_batch.domain.outcomes import OUTCOMES, Outcome
from telemetron_batch.domain.reasons import OpenQuestion, Reason
from telemetron_batch.planning.plan import Plan
from telemetron_batch.reconciliation.answer_table import AnswerTable
from telemetron_batch.reconciliation.details import Details
from telemetron_batch.reconciliation.format_columns import format_bools
from telemetron_batch.reconciliation.held_details import held_details, name_lines
from telemetron_batch.rows.rows import RowBlock
from telemetron_batch.storage.sparse_texts import SparseTextColumn

_ROWS_PER_RANGE: Final = 1 << 20
ANSWER_COLUMNS: Final = tuple(
    field.name for field in ANSWER_FIELDS if field.name not in ("customerId", "customerWasCreated")
)
"""Columns of a row's answer; `customerId` and `customerWasCreated` stand before, beside those of the device."""
WAS_CREATED: Final = 2
"""In `Reconciliation.created`."""
CONFIRMED: Final = 1
CONTRADICTED: Final = 0
_VERIFIED: Final = pa.array(["no", "yes", ""])
_NAMES: Final = pa.array([str(outcome) for outcome in OUTCOMES])
_ATTENTION: Final = np.array(
    [[outcome.wants_attention(action) for action in ACTIONS] + [True] for outcome in OUTCOMES], dtype=bool
)
"""By outcome and action; the last column is for rows with an unknown action, which are all invalid."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reconciliation:
    """What became of every row, as columns by row number.

    outcome           int8   `Outcome.code`
    call              int32  the call that contained the row; 0: none
    answer            int32  position in `answers`; 0: none
    detail            int32  position in `details`
    unclear_attempts  int32  attempts that may have acted although no answer was read
    created           int8   whether the device was created: 0 unknown, 1 no, 2 yes
    verified          int8   `CONTRADICTED` or `CONFIRMED` by the API, -1 unknown; None: not verified
    """

    plan: Plan
    outcome: npt.NDArray[np.int8]
    call: npt.NDArray[np.int32]
    call_texts: pa.Array
    """The numbers of calls as texts; "" for 0."""
    answer: npt.NDArray[np.int32]
    answers: AnswerTable
    calls_settled: int
    """Calls in which every device has a result."""
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
    """Names of the input files, if there are several."""
    verified: npt.NDArray[np.int8] | None = None
    settled_by_verification: int = 0
    """Rows whose outcome comes from the verification instead of an answer."""

    def contradicted(self) -> npt.NDArray[np.bool_]:
        """Return for each row whether the verification contradicts its outcome."""
        return np.zeros(len(self.outcome), dtype=bool) if self.verified is None else self.verified == CONTRADICTED

    def counts(self) -> dict[Outcome, int]:
        """Return the number of rows with each outcome, zeros included."""
        return self._counted(lambda _: slice(None))

    def attention(self, tolerated: Iterable[Outcome] = ()) -> npt.NDArray[np.bool_]:
        """Return for each row whether it wants attention.

        Tolerated outcomes do not, unless the verification contradicts them.
        """
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
        """Return for each row whether it unassigns a device that its customer surely did not have."""
        clear = self.details.open_question == OpenQuestion.NOTHING
        skipped = (self.outcome == Outcome.SKIPPED.code) & (self.plan.rows.action == Action.UNASSIGN.code)
        return np.asarray(skipped & clear[self.detail], dtype=bool)

    def attention_counts(self) -> dict[Outcome, int]:
        """Return the number of rows that want attention with each outcome, zeros included."""
        wanting = self.attention()
        return self._counted(lambda rows: wanting[rows])

    def superseded_attention(self) -> npt.NDArray[np.bool_]:
        """Return for each row whether it wants attention although a later row of its pair does not.

        Sending such a row after all would undo the later one.
        """
        wanting = self.attention()
        rows, pair = self.plan.rows_of_pairs(np.flatnonzero(wanting))
        is_fine = ~wanting[rows]
        pairs, pair = np.unique(pair, return_inverse=True)
        last_fine = np.full(len(pairs), -1)
        last_fine[pair[is_fine]] = rows[is_fine]  # of several the last one stays, and rows are in order
        found = np.zeros(len(wanting), dtype=bool)
        found[rows] = ~is_fine & (rows < last_fine[pair])
        return found

    def unclear(self) -> npt.NDArray[np.bool_]:
        """Return for each row whether an unanswered attempt may have changed what the API holds."""
        in_doubt = self.details.open_question != OpenQuestion.NOTHING
        return np.asarray((self.outcome == Outcome.UNCONFIRMED.code) | in_doubt[self.detail], dtype=bool)

    def has_reason(self, rows: npt.NDArray[np.int64], reason: Reason) -> npt.NDArray[np.bool_]:
        """Return for each of the given rows whether its outcome has this reason."""
        return np.asarray((self.details.reasons == reason)[self.detail[rows]], dtype=bool)

    def surely_changed(self) -> npt.NDArray[np.bool_]:
        """Return for each row whether it surely changed what the API held before this run.

        A change that follows an unclear row of the same pair is not sure: it may only revert
        what this run itself did just before.
        """
        changed = self._changed()
        changed[self._after_unclear(changed)] = False
        return changed

    def not_undone(self) -> npt.NDArray[np.bool_]:
        """Return for each row whether it changed, or may have changed, something that undo.csv does not take back."""
        unclear = self.unclear()
        unclear[self._after_unclear(self._changed())] = True
        return unclear

    def _after_unclear(self, changed: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """Return the rows that changed something, of pairs whose first change is unclear."""
        unclear = self.unclear()
        rows, pair = self.plan.rows_of_pairs(np.flatnonzero(unclear))
        relevant = changed[rows] | unclear[rows]
        rows, pair = rows[relevant], pair[relevant]
        _, first, pair = np.unique(pair, return_index=True, return_inverse=True)
        first_is_unclear = unclear[rows[first]][pair]
        after: npt.NDArray[np.int64] = rows[first_is_unclear & changed[rows]]
        return after

    def _changed(self) -> npt.NDArray[np.bool_]:
        return np.asarray((self.outcome == Outcome.ASSIGNED.code) | (self.outcome == Outcome.UNASSIGNED.code))

    def columns(self, block: RowBlock, first: int) -> dict[str, pa.Array]:
        """Return the result columns of a block as texts by column name.

        `first` is the row number of the block's first row.
        """
        rows = slice(first, first + block.keys.num_rows)
        answers = self.answers.texts(self.answer[rows])
        columns = {
            "outcome": _NAMES.take(pa.array(self.outcome[rows])),
            "detail": self.details_of(block, first),
            "customerId": answers["customerId"],
            "deviceId": self.device_ids.texts(rows.start, rows.stop),
            "customerWasCreated": answers["customerWasCreated"],
            "deviceWasCreated": format_bools(self.created[rows]),
            "call": self.call_texts.take(pa.array(self.call[rows])),
        }
        columns |= {name: answers[name] for name in ANSWER_COLUMNS}
        if self.verified is not None:
            columns["verified"] = _VERIFIED.take(pa.array(self.verified[rows] % 3))
        return columns

    def outcomes_of(self, rows: slice) -> pa.Array:
        """Return the names of the outcomes of a range of rows."""
        return _NAMES.take(pa.array(self.outcome[rows]))

    def _counted(self, chosen: Callable[[slice], Any]) -> dict[Outcome, int]:
        """Count the outcomes of the chosen rows of each range."""
        found = np.zeros(len(OUTCOMES), np.int64)
        for rows in row_ranges(len(self.outcome)):
            found += np.bincount(self.outcome[rows][chosen(rows)], minlength=len(OUTCOMES))
        return dict(zip(OUTCOMES, found.tolist(), strict=True))

    def details_of(self, block: RowBlock, first: int) -> pa.Array:
        """Return the detail of each row of a block.

        An invalid row has the loader's text, a sent one that of its answer; duplicates and held rows name
        another row. Where the customer of a valid row was looked up, the source follows.
        """
        return _with_owner_sources(self._reasons_of(block, first), block.keys)

    def _reasons_of(self, block: RowBlock, first: int) -> pa.Array:
        """Return why each row of a block has its outcome."""
        rows = slice(first, first + block.keys.num_rows)
        codes, origin = self.detail[rows], self.plan.original_of(rows.start, rows.stop)
        explained, duplicates = np.flatnonzero(codes), np.flatnonzero(origin >= 0)
        invalid = np.flatnonzero(block.keys["problem"].to_numpy())
        held = self.plan.held.within(rows.start, rows.stop)
        texts = [
            self.details.texts.take(pa.array(codes[explained])),
            block.keys["detail"].take(pa.array(invalid)),
            self._same_as(origin[duplicates]),
            held_details(held, self.plan.rows, self.file_names),
        ]
        source = np.zeros(len(codes), np.int64)
        end = 0
        for rows_of_text in (explained, invalid, duplicates, held.rows - first):
            source[rows_of_text] = np.arange(1, len(rows_of_text) + 1) + end
            end += len(rows_of_text)
        return pa.concat_arrays([pa.array([""]), *texts]).take(pa.array(source))

    def _same_as(self, origin: npt.NDArray[np.int64]) -> pa.Array:
        """Return for each duplicate the line and the outcome of its original."""
        lines = name_lines("same as line", origin, self.plan.rows, self.file_names)
        outcome = _NAMES.take(pa.array(self.outcome[origin]))
        return pc.binary_join_element_wise(lines, outcome, ": ")


def _with_owner_sources(details: pa.Array, keys: pa.RecordBatch) -> pa.Array:
    """Return the details, followed by where the customers of valid rows were looked up."""
    is_looked_up = pc.and_(pc.equal(keys["problem"], 0), pc.not_equal(keys["detail"], ""))
    if not pc.any(is_looked_up).as_py():
        return details
    separator = pc.if_else(pc.equal(details, ""), "", "; ")
    joined = pc.binary_join_element_wise(details, separator, keys["detail"], "")
    return pc.if_else(is_looked_up, joined, details)


def row_ranges(size: int) -> Iterator[slice]:
    """Yield consecutive ranges that cover all rows; working range by range bounds the memory."""
    return (slice(first, min(first + _ROWS_PER_RANGE, size)) for first in range(0, size, _ROWS_PER_RANGE))
