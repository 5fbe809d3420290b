"""Rows, plan and answers in; one outcome for every row out, and the law that none is missing."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batch.errors import UnbalancedError
from batch.model import Outcome
from batch.planning.plan import Plan
from batch.reconciliation.entries import Answers, RowTexts
from batch.reconciliation.held_details import MAY_BE_WITH_ANOTHER
from batch.reconciliation.reconcile import Reconciliation, windows
from batch.reconciliation.texts import of_numbers
from batch.storage.scratch import forget

_OPEN: Final = -1
_OF_DEVICES: Final = ("positions", "outcomes", "deviceIds", "created", "details")

Ints = npt.NDArray[np.integer[Any]]


class Books:
    """One outcome for every row of a plan: filled in answer by answer, then closed."""

    def __init__(self, plan: Plan, file_names: Sequence[str] = (), origins: Sequence[str] = ()) -> None:
        """`origins` says of each number in `plan.left_out`, from 1, what settled such a row."""
        scratch, size = plan.rows.scratch, len(plan.rows)
        self._plan = plan
        self._file_names = tuple(file_names)
        self._outcome = scratch.array(size, np.int8)
        self._call = scratch.array(size, np.int32)
        self._answer = scratch.array(size, np.int32)
        self._answers = Answers()
        self._detail = scratch.array(size, np.int32)
        self._details = {"": 0}
        self._created = scratch.array(size, np.int8)
        self._doubts = scratch.array(size, np.int32)
        self._device_ids = RowTexts(scratch, size)
        self._settled_twice = 0
        self._settled_devices = np.zeros(plan.calls, dtype=np.int32)
        self._created_customers: set[int] = set()
        words = np.array([0, *map(self._detail_code, origins)], np.int32)
        for rows in windows(size):
            unsent = np.where(plan.left_out[rows], Outcome.UNCHANGED.code, _OPEN)
            unsent[plan.repeated(rows.start, rows.stop) >= 0] = Outcome.DUPLICATE.code
            unsent[plan.rows.problem[rows] != 0] = Outcome.INVALID.code
            self._outcome[rows] = unsent
            self._detail[rows] = words[plan.left_out[rows]]
        self._book_held()

    def _book_held(self) -> None:
        """Settle the rows that the plan holds; where the other row stands is put into words later."""
        held = self._plan.held
        for reason, text in MAY_BE_WITH_ANOTHER.items():
            rows = held.because_of(reason).rows
            self._outcome[rows] = Outcome.HELD.code
            self._detail[rows] = self._detail_code(text)

    def settle(self, calls: Ints, answers: pa.Table) -> None:
        """Book answers, records as `answers_of` gives them, each to one of these calls."""
        devices = pc.list_value_length(answers["positions"]).to_numpy()
        np.add.at(self._settled_devices, calls - 1, devices)
        created = pc.fill_null(answers["customerWasCreated"], False).to_numpy()
        self._created_customers.update(self._plan.customers_at(calls[created]).tolist())
        entry = np.repeat(self._answers.add(answers), devices)
        told = {name: pc.list_flatten(answers[name]).combine_chunks() for name in _OF_DEVICES}
        self._book(self._plan.rows_at(np.repeat(calls, devices), told["positions"].to_numpy()), entry, told)

    def _book(self, rows: Ints, entry: Ints, told: Mapping[str, pa.Array]) -> None:
        """Put down what answers say of these rows, all at once."""
        once = np.sort(rows)
        once = once[np.diff(once, prepend=-1) != 0]
        self._settled_twice += len(rows) - len(once) + int((self._outcome[once] != _OPEN).sum())
        self._outcome[rows] = told["outcomes"].to_numpy()
        self._answer[rows] = entry
        details = told["details"].dictionary_encode()
        codes = np.array([*map(self._detail_code, details.dictionary.to_pylist())], np.int32)
        self._detail[rows] = codes[details.indices.to_numpy()]
        created = pc.fill_null(pc.cast(told["created"], pa.int8()), -1)
        self._created[rows] = created.to_numpy() + 1
        has_id = pc.not_equal(told["deviceIds"], "")
        self._device_ids.add(rows[has_id.to_numpy(zero_copy_only=False)], told["deviceIds"].filter(has_id))

    def close(self, doubtful: Iterable[tuple[int, Iterable[int] | None]], why: str) -> Reconciliation:
        """Say of the rows without an answer what is true, and check that the books balance.

        `doubtful` names call and positions (None: all) of every attempt that may have
        acted unheard; `why` tells why the run ended before the rest was sent. Raises
        UnbalancedError.
        """
        for call, positions in doubtful:
            rows = self._plan.rows_of(call)
            self._doubts[rows if positions is None else rows[list(positions)]] += 1
        missing = sum(self._close_open(window, why) for window in windows(len(self._outcome)))
        if missing or self._settled_twice:
            raise UnbalancedError(
                f"the books do not balance: {missing} rows without outcome, {self._settled_twice} settled twice",
                "this is a bug; please report it and keep the run's folder",
            )
        return self._closed()

    def _close_open(self, window: slice, why: str) -> int:
        """Mark the rows without an answer; gives how many are left without an outcome."""
        outcome, doubts = self._outcome[window], self._doubts[window]
        is_open = outcome == _OPEN
        for unclear in np.unique(doubts[is_open]).tolist():
            rows = is_open & (doubts == unclear)
            if unclear:
                self._answer[window][rows] = self._answers.add_lost(unclear)
                outcome[rows] = Outcome.UNCONFIRMED.code
                self._detail[window][rows] = self._detail_code("sent, but the run stopped before an answer came")
            else:
                outcome[rows] = Outcome.NOT_SENT.code
                self._detail[window][rows] = self._detail_code(f"the run stopped before it: {why}")
        return int((outcome == _OPEN).sum())

    def _closed(self) -> Reconciliation:
        for rows, calls in self._plan.calls_by_row():
            self._call[rows] = calls
            forget(self._call)
        self._device_ids.close()
        return Reconciliation(
            plan=self._plan,
            outcome=self._outcome,
            call=self._call,
            answer=self._answer,
            call_texts=of_numbers(np.arange(self._plan.calls + 1), unknown=0),
            answers=self._answers.entries(),
            calls_settled=int((self._settled_devices == self._plan.sizes()).sum()),
            customers_created=len(self._created_customers),
            detail=self._detail,
            details=pa.array([*self._details]),
            doubts=self._doubts,
            created=self._created,
            device_ids=self._device_ids,
            file_names=self._file_names,
        )

    def _detail_code(self, detail: str) -> int:
        return self._details.setdefault(detail, len(self._details))
