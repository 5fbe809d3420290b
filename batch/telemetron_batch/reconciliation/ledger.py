"""Build one outcome for every row from the plan and the answers, and check that no row is missing."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.arrays import Flags
from telemetron_batch.domain.errors import UnbalancedError
from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.domain.reasons import Reason
from telemetron_batch.planning.plan import Plan
from telemetron_batch.reconciliation.answer_table import AnswerTableBuilder
from telemetron_batch.reconciliation.details import Detail, DetailCodes
from telemetron_batch.reconciliation.format_columns import format_ints
from telemetron_batch.reconciliation.held_details import REASON_OF
from telemetron_batch.reconciliation.reconcile import Reconciliation, row_ranges
from telemetron_batch.storage.sparse_texts import SparseTextColumn
from telemetron_batch.storage.spill import drop_pages

_OPEN: Final = -1
_DEVICE_COLUMNS: Final = ("positions", "outcomes", "deviceIds", "created")
_REASON_SHIFT: Final = 8
_TEXT_SHIFT: Final = 32
"""A detail is packed into one integer: open question, then the reason, then the text's position."""

Ints = npt.NDArray[np.integer[Any]]


class Ledger:
    """Collects one outcome for every row of a plan: answers are added, then the ledger is closed."""

    def __init__(self, plan: Plan, file_names: Sequence[str] = (), origins: Sequence[str] = ()) -> None:
        """Start with the rows that are not sent; `origins` names the earlier runs in `plan.confirmed_by`."""
        scratch, size = plan.rows.scratch, len(plan.rows)
        self._plan = plan
        self._file_names = tuple(file_names)
        self._outcome = scratch.array(size, np.int8)
        self._call = scratch.array(size, np.int32)
        self._answer = scratch.array(size, np.int32)
        self._answers = AnswerTableBuilder()
        self._detail = scratch.array(size, np.int32)
        self._details = DetailCodes()
        self._created = scratch.array(size, np.int8)
        self._unclear_attempts = scratch.array(size, np.int32)
        self._device_ids = SparseTextColumn(scratch, size)
        self._settled_twice = 0
        self._refused = Counter[int]()
        """Number of refused attempts, by row of an open call."""
        self._settled_devices = np.zeros(plan.calls, dtype=np.int32)
        self._created_customers: set[int] = set()
        self._known_customers: set[int] = set()
        """Customers known to have existed before the run."""
        self._unanswered_customers: set[int] = set()
        origin_details = np.array([0, *map(self._settled_by, origins)], np.int32)
        for rows in row_ranges(size):
            unsent = np.where(plan.confirmed_by[rows], Outcome.UNCHANGED.code, _OPEN)
            unsent[plan.original_of(rows.start, rows.stop) >= 0] = Outcome.DUPLICATE.code
            unsent[plan.rows.problem[rows] != 0] = Outcome.INVALID.code
            self._outcome[rows] = unsent
            self._detail[rows] = origin_details[plan.confirmed_by[rows]]
        self._settle_held()

    def _settle_held(self) -> None:
        """Mark the rows that the plan holds; `held_details` adds the line of the other row later."""
        held = self._plan.held
        for hold_reason, reason in REASON_OF.items():
            rows = held.because_of(hold_reason).rows
            self._outcome[rows] = Outcome.HELD.code
            self._detail[rows] = self._details.code(Detail(reason))

    def add_known_customers(self, customers: Iterable[str]) -> None:
        """Note customers that existed before the run."""
        known = pc.index_in(pa.array([*customers], pa.string()), value_set=self._plan.all_customer_emails())
        self._known_customers.update(known.drop_null().to_pylist())

    def add_answers(self, calls: Ints, answers: pa.Table) -> None:
        """Add answers; each belongs to the call at the same position of `calls`."""
        devices = pc.list_value_length(answers["positions"]).to_numpy()
        np.add.at(self._settled_devices, calls - 1, devices)
        created = pc.fill_null(answers["customerWasCreated"], False).to_numpy()
        self._created_customers.update(self._plan.customer_numbers_of_calls(calls[created]).tolist())
        entry = np.repeat(self._answers.add(answers), devices)
        columns = {name: pc.list_flatten(answers[name]).combine_chunks() for name in _DEVICE_COLUMNS}
        rows = self._plan.rows_at(np.repeat(calls, devices), columns["positions"].to_numpy())
        self._write_rows(rows, entry, columns)
        self._explain(rows, devices, answers)

    def _write_rows(self, rows: Ints, entry: Ints, columns: Mapping[str, pa.Array]) -> None:
        """Store outcome, answer, creation flag and device id of these rows."""
        once = np.sort(rows)
        once = once[np.diff(once, prepend=-1) != 0]
        self._settled_twice += len(rows) - len(once) + int((self._outcome[once] != _OPEN).sum())
        self._outcome[rows] = columns["outcomes"].to_numpy()
        self._answer[rows] = entry
        created = pc.fill_null(pc.cast(columns["created"], pa.int8()), -1)
        self._created[rows] = created.to_numpy() + 1
        has_id = pc.not_equal(columns["deviceIds"], "")
        self._device_ids.add(rows[has_id.to_numpy(zero_copy_only=False)], columns["deviceIds"].filter(has_id))

    def _explain(self, rows: Ints, devices: Ints, answers: pa.Table) -> None:
        """Store the details of these rows; most of them are empty."""
        reason, open_question = (_numbers(answers[name], devices) for name in ("reasons", "unheard"))
        text, texts = _texts(answers["texts"], devices)
        keys, index = np.unique(text << _TEXT_SHIFT | reason << _REASON_SHIFT | open_question, return_inverse=True)
        codes = [self._details.code(_detail_of(key, texts)) for key in keys.tolist()]
        self._detail[rows] = np.array(codes, np.int32)[index]

    def close(
        self,
        stop_reason: str,
        *,
        unclear_attempts: Iterable[tuple[int, Iterable[int] | None]] = (),
        refused: Iterable[tuple[int, Iterable[int] | None]] = (),
        unproven_outcomes: Collection[Outcome] = (),
    ) -> Reconciliation:
        """Settle the rows without an answer and check that every row has exactly one outcome.

        `stop_reason` is the sentence that says why the run ended before the rest was sent. `unclear_attempts` lists
        the call and positions (None: all) of every attempt that may have acted without an answer, `refused`
        those of every attempt that was sent and changed nothing. Rows with an outcome in `unproven_outcomes` may have
        been sent without a record and become unconfirmed. Raises UnbalancedError.
        """
        for call, positions in unclear_attempts:
            self._unclear_attempts[self._rows_of(call, positions)] += 1
            if self._plan.action_of_call(call) is Action.ASSIGN:
                self._unanswered_customers.add(self._plan.customer_number_of_call(call))
        for call, positions in refused:
            if self._settled_devices[call - 1] < self._plan.size_of(call):
                self._refused.update(self._rows_of(call, positions).tolist())
        missing = sum(
            self._close_open(window, stop_reason, unproven_outcomes) for window in row_ranges(len(self._outcome))
        )
        if missing or self._settled_twice:
            raise UnbalancedError(
                f"the books do not balance: {missing} rows without outcome, {self._settled_twice} settled twice",
                "this is a bug; please report it and keep the run's folder",
            )
        return self._result()

    def _rows_of(self, call: int, positions: Iterable[int] | None) -> Ints:
        rows = self._plan.rows_of(call)
        return rows if positions is None else rows[list(positions)]

    def _close_open(self, window: slice, stop_reason: str, unproven_outcomes: Collection[Outcome]) -> int:
        """Settle the rows without an answer; return how many still have no outcome."""
        outcome, unclear_attempts = self._outcome[window], self._unclear_attempts[window]
        is_open = outcome == _OPEN
        if Outcome.HELD in unproven_outcomes:
            by_plan = self._plan.held.rows
            is_open |= outcome == Outcome.HELD.code
            is_open[by_plan[(by_plan >= window.start) & (by_plan < window.stop)] - window.start] = False
        for unclear in np.unique(unclear_attempts[is_open]).tolist():
            rows = is_open & (unclear_attempts == unclear)
            if unclear:
                self._answer[window][rows] = self._answers.add_unsettled(unclear, unclear=unclear)
                outcome[rows] = Outcome.UNCONFIRMED.code
                self._detail[window][rows] = self._details.code(Detail(Reason.STOPPED_AFTER_SENDING))
            elif Outcome.NOT_SENT in unproven_outcomes:
                outcome[rows] = Outcome.UNCONFIRMED.code
                self._detail[window][rows] = self._details.code(Detail(Reason.RECORDS_LOST, stop_reason))
            else:
                outcome[rows] = Outcome.NOT_SENT.code
                self._detail[window][rows] = self._details.code(Detail(Reason.STOPPED_BEFORE, stop_reason))
        self._explain_refused(window, is_open & (unclear_attempts == 0), stop_reason)
        return int((outcome == _OPEN).sum())

    def _explain_refused(self, window: slice, unsettled: Flags, stop_reason: str) -> None:
        """Store the number of attempts of rows that were refused each time."""
        for row, attempts in self._refused.items():
            if window.start <= row < window.stop and unsettled[row - window.start]:
                self._answer[row] = self._answers.add_unsettled(attempts, unclear=0)
                self._detail[row] = self._details.code(Detail(Reason.STOPPED_AFTER_REFUSAL, stop_reason))

    def _result(self) -> Reconciliation:
        for rows, calls in self._plan.calls_by_row():
            self._call[rows] = calls
            drop_pages(self._call)
        self._device_ids.close()
        return Reconciliation(
            plan=self._plan,
            outcome=self._outcome,
            call=self._call,
            answer=self._answer,
            call_texts=format_ints(np.arange(self._plan.calls + 1), unknown=0),
            answers=self._answers.entries(),
            calls_settled=int((self._settled_devices == self._plan.sizes()).sum()),
            customers_created=len(self._created_customers),
            detail=self._detail,
            details=self._details.details(),
            customers_perhaps_created=len(self._perhaps_created()),
            unclear_attempts=self._unclear_attempts,
            created=self._created,
            device_ids=self._device_ids,
            file_names=self._file_names,
        )

    def _perhaps_created(self) -> set[int]:
        """Return the customers that an unanswered assign may have created, and of whom nothing else is known."""
        return self._unanswered_customers - self._created_customers - self._known_customers

    def _settled_by(self, origin: str) -> int:
        return self._details.code(Detail(Reason.SETTLED_BY_EARLIER_RUN, origin))


def _numbers(lists: pa.ChunkedArray, devices: Ints) -> npt.NDArray[np.int64]:
    """Return the numbers of all lists, one for each device; 0 where the list is null."""
    numbers = np.zeros(int(devices.sum()), np.int64)
    has_list = pc.is_valid(lists).to_numpy()
    if has_list.any():
        numbers[np.repeat(has_list, devices)] = pc.list_flatten(lists).to_numpy()
    return numbers


def _texts(lists: pa.ChunkedArray, devices: Ints) -> tuple[npt.NDArray[np.int64], Sequence[str]]:
    """Return the texts of all lists, one for each device, as positions in the distinct texts; "" is 0."""
    codes = np.zeros(int(devices.sum()), np.int64)
    has_list = pc.is_valid(lists).to_numpy()
    if not has_list.any():
        return codes, ("",)
    encoded = pc.list_flatten(lists).combine_chunks().dictionary_encode()
    codes[np.repeat(has_list, devices)] = encoded.indices.to_numpy() + np.int64(1)
    return codes, ("", *encoded.dictionary.to_pylist())


def _detail_of(key: int, texts: Sequence[str]) -> Detail:
    reason, open_question = (
        key >> _REASON_SHIFT & (1 << _TEXT_SHIFT - _REASON_SHIFT) - 1,
        key & (1 << _REASON_SHIFT) - 1,
    )
    return Detail(reason, texts[key >> _TEXT_SHIFT], open_question)
