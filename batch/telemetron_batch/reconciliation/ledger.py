"""Rows, plan and answers in; one outcome for every row out, and the law that none is missing."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.errors import UnbalancedError
from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.domain.reasons import Reason
from telemetron_batch.planning.plan import Plan
from telemetron_batch.reconciliation.answer_table import AnswerTableBuilder, SparseTextColumn
from telemetron_batch.reconciliation.details import Detail, DetailCodes
from telemetron_batch.reconciliation.format_columns import format_ints
from telemetron_batch.reconciliation.held_details import REASON_OF
from telemetron_batch.reconciliation.reconcile import Reconciliation, row_ranges
from telemetron_batch.storage.spill import drop_pages

_OPEN: Final = -1
_OF_DEVICES: Final = ("positions", "outcomes", "deviceIds", "created")
_REASON: Final = 8
_TEXT: Final = 32
"""Bits below the reason, and below the text, in a number that stands for a detail."""

Ints = npt.NDArray[np.integer[Any]]
Flags = npt.NDArray[np.bool_]


class Ledger:
    """One outcome for every row of a plan: filled in answer by answer, then closed."""

    def __init__(self, plan: Plan, file_names: Sequence[str] = (), origins: Sequence[str] = ()) -> None:
        """`origins` says of each number in `plan.left_out`, from 1, what settled such a row."""
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
        self._doubts = scratch.array(size, np.int32)
        self._device_ids = SparseTextColumn(scratch, size)
        self._settled_twice = 0
        self._refused = Counter[int]()
        """Rows of calls that are open, by the attempts that left and changed nothing."""
        self._settled_devices = np.zeros(plan.calls, dtype=np.int32)
        self._created_customers: set[int] = set()
        self._known_customers: set[int] = set()
        """Customers who are known to have existed before the run."""
        self._unanswered_customers: set[int] = set()
        words = np.array([0, *map(self._settled_by, origins)], np.int32)
        for rows in row_ranges(size):
            unsent = np.where(plan.unchanged_source[rows], Outcome.UNCHANGED.code, _OPEN)
            unsent[plan.original_of(rows.start, rows.stop) >= 0] = Outcome.DUPLICATE.code
            unsent[plan.rows.problem[rows] != 0] = Outcome.INVALID.code
            self._outcome[rows] = unsent
            self._detail[rows] = words[plan.unchanged_source[rows]]
        self._book_held()

    def _book_held(self) -> None:
        """Settle the rows that the plan holds; where the other row stands is put into words later."""
        held = self._plan.held
        for hold_reason, reason in REASON_OF.items():
            rows = held.because_of(hold_reason).rows
            self._outcome[rows] = Outcome.HELD.code
            self._detail[rows] = self._details.code(Detail(reason))

    def expect_known(self, customers: Iterable[str]) -> None:
        """Hear of customers who existed before the run."""
        known = pc.index_in(pa.array([*customers], pa.string()), value_set=self._plan.all_customer_emails())
        self._known_customers.update(known.drop_null().to_pylist())

    def add_answers(self, calls: Ints, answers: pa.Table) -> None:
        """Book answers, records as `decode_answers` gives them, each to one of these calls."""
        devices = pc.list_value_length(answers["positions"]).to_numpy()
        np.add.at(self._settled_devices, calls - 1, devices)
        created = pc.fill_null(answers["customerWasCreated"], False).to_numpy()
        self._created_customers.update(self._plan.customer_ids_of_calls(calls[created]).tolist())
        entry = np.repeat(self._answers.add(answers), devices)
        told = {name: pc.list_flatten(answers[name]).combine_chunks() for name in _OF_DEVICES}
        rows = self._plan.rows_at(np.repeat(calls, devices), told["positions"].to_numpy())
        self._write_rows(rows, entry, told)
        self._explain(rows, devices, answers)

    def _write_rows(self, rows: Ints, entry: Ints, told: Mapping[str, pa.Array]) -> None:
        """Put down what answers say of these rows, all at once."""
        once = np.sort(rows)
        once = once[np.diff(once, prepend=-1) != 0]
        self._settled_twice += len(rows) - len(once) + int((self._outcome[once] != _OPEN).sum())
        self._outcome[rows] = told["outcomes"].to_numpy()
        self._answer[rows] = entry
        created = pc.fill_null(pc.cast(told["created"], pa.int8()), -1)
        self._created[rows] = created.to_numpy() + 1
        has_id = pc.not_equal(told["deviceIds"], "")
        self._device_ids.add(rows[has_id.to_numpy(zero_copy_only=False)], told["deviceIds"].filter(has_id))

    def _explain(self, rows: Ints, devices: Ints, answers: pa.Table) -> None:
        """Put down why these rows have their outcomes; most answers have nothing to say of it."""
        reason, unheard = (_numbers(answers[name], devices) for name in ("reasons", "unheard"))
        text, texts = _texts(answers["texts"], devices)
        keys, at = np.unique(text << _TEXT | reason << _REASON | unheard, return_inverse=True)
        codes = [self._details.code(_detail_of(key, texts)) for key in keys.tolist()]
        self._detail[rows] = np.array(codes, np.int32)[at]

    def close(
        self,
        why: str,
        *,
        doubtful: Iterable[tuple[int, Iterable[int] | None]] = (),
        refused: Iterable[tuple[int, Iterable[int] | None]] = (),
        unsure: Collection[Outcome] = (),
    ) -> Reconciliation:
        """Say of the rows without an answer what is true, and check that the books balance.

        `why` tells why the run ended before the rest was sent. `doubtful` names call and
        positions (None: all) of every attempt that may have acted unheard, `refused` of every
        one that left and changed nothing. Rows whose outcome is `unsure` may have been sent
        without a record, and become unconfirmed. Raises UnbalancedError.
        """
        for call, positions in doubtful:
            self._doubts[self._rows_of(call, positions)] += 1
            if self._plan.stage_action(call) is Action.ASSIGN:
                self._unanswered_customers.add(self._plan.customer_id_of_call(call))
        for call, positions in refused:
            if self._settled_devices[call - 1] < self._plan.size_of(call):
                self._refused.update(self._rows_of(call, positions).tolist())
        missing = sum(self._close_open(window, why, unsure) for window in row_ranges(len(self._outcome)))
        if missing or self._settled_twice:
            raise UnbalancedError(
                f"the books do not balance: {missing} rows without outcome, {self._settled_twice} settled twice",
                "this is a bug; please report it and keep the run's folder",
            )
        return self._result()

    def _rows_of(self, call: int, positions: Iterable[int] | None) -> Ints:
        rows = self._plan.rows_of(call)
        return rows if positions is None else rows[list(positions)]

    def _close_open(self, window: slice, why: str, unsure: Collection[Outcome]) -> int:
        """Mark the rows without an answer; gives how many are left without an outcome."""
        outcome, doubts = self._outcome[window], self._doubts[window]
        is_open = outcome == _OPEN
        if Outcome.HELD in unsure:
            by_plan = self._plan.held.rows
            is_open |= outcome == Outcome.HELD.code
            is_open[by_plan[(by_plan >= window.start) & (by_plan < window.stop)] - window.start] = False
        for unclear in np.unique(doubts[is_open]).tolist():
            rows = is_open & (doubts == unclear)
            if unclear:
                self._answer[window][rows] = self._answers.add_unanswered(unclear)
                outcome[rows] = Outcome.UNCONFIRMED.code
                self._detail[window][rows] = self._details.code(Detail(Reason.STOPPED_AFTER_SENDING))
            elif Outcome.NOT_SENT in unsure:
                outcome[rows] = Outcome.UNCONFIRMED.code
                self._detail[window][rows] = self._details.code(Detail(Reason.RECORDS_LOST, why))
            else:
                outcome[rows] = Outcome.NOT_SENT.code
                self._detail[window][rows] = self._details.code(Detail(Reason.STOPPED_BEFORE, why))
        self._tell_refused(window, is_open & (doubts == 0), why)
        return int((outcome == _OPEN).sum())

    def _tell_refused(self, window: slice, unsettled: Flags, why: str) -> None:
        """Say of rows that were asked for and refused each time how often that was."""
        for row, attempts in self._refused.items():
            if window.start <= row < window.stop and unsettled[row - window.start]:
                self._answer[row] = self._answers.add_refused(attempts)
                self._detail[row] = self._details.code(Detail(Reason.STOPPED_AFTER_REFUSAL, why))

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
            unclear_attempts=self._doubts,
            created=self._created,
            device_ids=self._device_ids,
            file_names=self._file_names,
        )

    def _perhaps_created(self) -> set[int]:
        """Customers of whom an unanswered assign may have made new ones, and of whom nothing else is known."""
        return self._unanswered_customers - self._created_customers - self._known_customers

    def _settled_by(self, origin: str) -> int:
        return self._details.code(Detail(Reason.SETTLED_BY_EARLIER_RUN, origin))


def _numbers(lists: pa.ChunkedArray, devices: Ints) -> npt.NDArray[np.int64]:
    """Return the numbers of lists with so many entries each; 0 for those of lists that are null."""
    numbers = np.zeros(int(devices.sum()), np.int64)
    is_there = pc.is_valid(lists).to_numpy()
    if is_there.any():
        numbers[np.repeat(is_there, devices)] = pc.list_flatten(lists).to_numpy()
    return numbers


def _texts(lists: pa.ChunkedArray, devices: Ints) -> tuple[npt.NDArray[np.int64], Sequence[str]]:
    """Return the texts of lists with so many entries each as positions in distinct texts; "" is 0."""
    places = np.zeros(int(devices.sum()), np.int64)
    is_there = pc.is_valid(lists).to_numpy()
    if not is_there.any():
        return places, ("",)
    encoded = pc.list_flatten(lists).combine_chunks().dictionary_encode()
    places[np.repeat(is_there, devices)] = encoded.indices.to_numpy() + np.int64(1)
    return places, ("", *encoded.dictionary.to_pylist())


def _detail_of(key: int, texts: Sequence[str]) -> Detail:
    reason, unheard = key >> _REASON & (1 << _TEXT - _REASON) - 1, key & (1 << _REASON) - 1
    return Detail(reason, texts[key >> _TEXT], unheard)
