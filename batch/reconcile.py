"""Rows, plan and answers in; one outcome for every row out, and the law that none is missing.

Outcomes are integer columns by row number. Whatever is written about a run is a
function of what this module makes of its journal.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batch.errors import UnbalancedError
from batch.model import ACTIONS, OUTCOMES, Action, Answer, Outcome
from batch.plan import Plan
from batch.rows import RowBlock
from batch.verdict import MAYBE_DONE, MAYBE_OURS

_OPEN: Final = -1
_CHUNK: Final = 1 << 16
YES: Final = 1
NO: Final = 0
_VERIFIED: Final = pa.array(["no", "yes", ""])
_NAMES: Final = pa.array([str(outcome) for outcome in OUTCOMES])
_WANTED: Final = np.array(
    [[outcome.wants_attention(action) for action in ACTIONS] + [True] for outcome in OUTCOMES], dtype=bool
)
"""By outcome and action; the last column is for rows whose action is unknown, all of them invalid."""


@dataclass(slots=True)
class _Answers:
    """What answers say of whole requests, one entry each; entry 0 stands for no answer."""

    customer_id: list[str] = field(default_factory=lambda: [""])
    customer_was_created: list[bool | None] = field(default_factory=lambda: [None])
    attempts: list[int | None] = field(default_factory=lambda: [None])
    unclear: list[int | None] = field(default_factory=lambda: [None])
    status: list[int | None] = field(default_factory=lambda: [None])
    answered_at: list[float | None] = field(default_factory=lambda: [None])

    def add(self, answer: Answer) -> int:
        self.customer_id.append(answer.customer_id)
        self.customer_was_created.append(answer.customer_was_created)
        self.attempts.append(answer.attempts)
        self.unclear.append(answer.unclear_attempts)
        self.status.append(answer.http_status)
        self.answered_at.append(answer.answered_at)
        return len(self.attempts) - 1

    def columns(self) -> dict[str, pa.Array]:
        """The entries as text columns, ready to be taken from by row."""
        return {
            "customerId": pa.array(self.customer_id),
            "customerWasCreated": _text(pa.array(self.customer_was_created)),
            "attempts": _text(pa.array(self.attempts)),
            "unclearAttempts": _text(pa.array(self.unclear)),
            "httpStatus": _text(pa.array(self.status)),
            "answeredAt": _moment(pa.array(self.answered_at)),
        }


class Books:
    """One outcome for every row of a plan: filled in answer by answer, then closed."""

    def __init__(self, plan: Plan, file_names: Sequence[str] = (), origins: Sequence[str] = ()) -> None:
        """`origins` says of each number in `plan.left_out`, from 1, what settled such a row."""
        size = len(plan.rows)
        self._plan = plan
        self._file_names = tuple(file_names)
        self._outcome = np.full(size, _OPEN, dtype=np.int8)
        self._outcome[plan.rows.frame["problem"].to_numpy() != 0] = Outcome.INVALID.code
        self._outcome[plan.duplicate_of >= 0] = Outcome.DUPLICATE.code
        self._answer = np.zeros(size, dtype=np.int32)
        self._answers = _Answers()
        self._detail = np.zeros(size, dtype=np.int32)
        self._details = {"": 0}
        self._created = np.full(size, -1, dtype=np.int8)
        self._device_id = np.full(size, -1, dtype=np.int64)
        self._device_ids = _Texts()
        for number, words in enumerate(origins, 1):
            self._mark(plan.left_out == number, Outcome.UNCHANGED, words)
        self._settled_twice = 0
        self._settled_devices = np.zeros(plan.calls, dtype=np.int64)
        self._created_customers: set[int] = set()

    def settle(self, call: int, answer: Answer) -> None:
        """Book the results of one answer."""
        rows = self._plan.rows_of(call)
        entry = self._answers.add(answer)
        self._settled_devices[call - 1] += len(answer.results)
        if answer.customer_was_created:
            self._created_customers.add(self._plan.customer_of(call))
        for position, result in answer.results.items():
            row = rows[position]
            self._settled_twice += int(self._outcome[row] != _OPEN)
            self._outcome[row] = result.outcome.code
            self._answer[row] = entry
            self._detail[row] = self._detail_code(result.detail)
            if result.was_created is not None:
                self._created[row] = result.was_created
            if result.device_id:
                self._device_id[row] = self._device_ids.add(result.device_id)

    def close(self, doubtful: Iterable[tuple[int, Iterable[int] | None]], why: str) -> "Reconciliation":
        """Say of the rows without an answer what is true, and check that the books balance.

        `doubtful` names call and positions (None: all) of every attempt that may have
        acted unheard; `why` tells why the run ended before the rest was sent. Raises
        UnbalancedError.
        """
        doubts = np.zeros(len(self._outcome), dtype=np.int32)
        for call, positions in doubtful:
            rows = self._plan.rows_of(call)
            doubts[rows if positions is None else rows[list(positions)]] += 1
        is_open = self._outcome == _OPEN
        in_doubt = is_open & (doubts > 0)
        for row in np.flatnonzero(in_doubt).tolist():
            unclear = int(doubts[row])
            self._answer[row] = self._answers.add(Answer({}, attempts=unclear, unclear_attempts=unclear))
        self._mark(in_doubt, Outcome.UNCONFIRMED, "sent, but the run stopped before an answer came")
        self._mark(is_open & ~in_doubt, Outcome.NOT_SENT, f"the run stopped before it: {why}")
        missing = int((self._outcome == _OPEN).sum())
        if missing or self._settled_twice:
            raise UnbalancedError(
                f"the books do not balance: {missing} rows without outcome, {self._settled_twice} settled twice",
                "this is a bug; please report it and keep the run's folder",
            )
        return self._closed(doubts)

    def _closed(self, doubts: npt.NDArray[np.int32]) -> "Reconciliation":
        call = np.zeros(len(self._outcome), dtype=np.int32)
        numbers = np.arange(1, self._plan.calls + 1, dtype=np.int32)
        call[self._plan.order] = np.repeat(numbers, np.diff(self._plan.offsets))
        return Reconciliation(
            plan=self._plan,
            outcome=self._outcome,
            call=call,
            answer=self._answer,
            answers=self._answers.columns(),
            calls_settled=int((self._settled_devices == np.diff(self._plan.offsets)).sum()),
            customers_created=len(self._created_customers),
            detail=self._detail,
            details=pa.array([*self._details]),
            in_doubt=doubts > 0,
            created=self._created,
            device_id=self._device_id,
            device_ids=self._device_ids.column(),
            file_names=self._file_names,
        )

    def _detail_code(self, detail: str) -> int:
        return self._details.setdefault(detail, len(self._details))

    def _mark(self, rows: npt.NDArray[np.bool_], outcome: Outcome, detail: str) -> None:
        if rows.any():
            self._outcome[rows] = outcome.code
            self._detail[rows] = self._detail_code(detail)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reconciliation:
    """Closed books: what became of every row, as columns by row number.

    outcome    int8   `Outcome.code`
    call       int32  the call that held the row; 0: none
    answer     int32  position in `answers`, whose columns are texts; 0: none
    detail     int32  position in `details`
    in_doubt   bool   may an attempt at the row have acted without our hearing of it?
    created    int8   was the device created: 0 no, 1 yes, -1 not told
    device_id  int64  position in `device_ids`; -1: none
    verified   int8   does the API hold what the outcome says: `NO`, `YES`, -1 not known; None: nobody asked
    """

    plan: Plan
    outcome: npt.NDArray[np.int8]
    call: npt.NDArray[np.int32]
    answer: npt.NDArray[np.int32]
    answers: dict[str, pa.Array]
    calls_settled: int
    """Calls of which every device has a result."""
    customers_created: int
    """Customers that this run is known to have created."""
    detail: npt.NDArray[np.int32]
    details: pa.Array
    in_doubt: npt.NDArray[np.bool_]
    created: npt.NDArray[np.int8]
    device_id: npt.NDArray[np.int64]
    device_ids: pa.ChunkedArray
    file_names: tuple[str, ...] = ()
    """Of the input files, where there are several."""
    verified: npt.NDArray[np.int8] | None = None
    settled_afterwards: int = 0
    """Rows whose outcome is not from an answer of their own, but from asking afterwards."""

    def differs(self) -> npt.NDArray[np.bool_]:
        """For each row: was the API seen to hold something else than its outcome says?"""
        return np.zeros(len(self.outcome), dtype=bool) if self.verified is None else self.verified == NO

    def counts(self) -> dict[Outcome, int]:
        """Rows by outcome, every outcome named."""
        return _by_outcome(self.outcome)

    def attention(self, tolerated: Iterable[Outcome] = ()) -> npt.NDArray[np.bool_]:
        """For each row: does it want attention? Tolerated outcomes do not, but what differs at the API always."""
        wanted = _WANTED.copy()
        wanted[[outcome.code for outcome in tolerated]] = False
        by_outcome = wanted[self.outcome, self.plan.rows.frame["action"].to_numpy()]
        return np.asarray(by_outcome | self.differs(), dtype=bool)

    def attention_counts(self) -> dict[Outcome, int]:
        """Rows that want attention, by outcome, every outcome named."""
        return _by_outcome(self.outcome[self.attention()])

    def unclear(self) -> npt.NDArray[np.bool_]:
        """For each row: may this run have changed what the API holds, without anybody knowing?"""
        said = [pc.match_substring(self.details, words) for words in (MAYBE_OURS, MAYBE_DONE)]
        in_doubt = pc.or_(*said).to_numpy(zero_copy_only=False)
        return np.asarray((self.outcome == Outcome.UNCONFIRMED.code) | in_doubt[self.detail], dtype=bool)

    def surely_changed(self) -> npt.NDArray[np.bool_]:
        """For each row: is this a change, for certain, from what the API held before this run?

        What a row changed that follows an unclear one on its pair was perhaps this run's
        own work just before.
        """
        changed = np.isin(self.outcome, [Outcome.ASSIGNED.code, Outcome.UNASSIGNED.code])
        changed[self._after_unclear(changed)] = False
        return changed

    def not_undone(self) -> npt.NDArray[np.bool_]:
        """For each row: did it change something, or perhaps, that undo.csv does not take back?"""
        unclear = self.unclear()
        unclear[self._after_unclear(np.isin(self.outcome, [Outcome.ASSIGNED.code, Outcome.UNASSIGNED.code]))] = True
        return unclear

    def _after_unclear(self, changed: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """Rows that changed something, on pairs of which the first change is an unclear one."""
        unclear = self.unclear()
        if not unclear.any():
            return np.empty(0, dtype=np.int64)
        rows = np.flatnonzero(changed | unclear)
        frame = self.plan.rows.frame
        customer, device = (frame[name].to_numpy()[rows].astype(np.int64) for name in ("customer", "device"))
        pair = customer * max(1, len(self.plan.rows.devices)) + device
        _, first, of = np.unique(pair, return_index=True, return_inverse=True)
        return rows[unclear[rows[first]][of] & changed[rows]]

    def columns(self, block: RowBlock, first: int) -> dict[str, pa.Array]:
        """What is to be reported of the rows of a block, as texts by column name.

        `first` is the row number of the block's first row.
        """
        rows = slice(first, first + block.keys.num_rows)
        entry = pa.array(self.answer[rows])
        ids = self.device_ids.take(pa.array(self.device_id[rows], mask=self.device_id[rows] < 0))
        call = self.call[rows]
        told = {name: column.take(entry) for name, column in self.answers.items()}
        columns = {
            "outcome": _NAMES.take(pa.array(self.outcome[rows])),
            "detail": self._details_of(block, rows),
            "customerId": told["customerId"],
            "deviceId": pc.fill_null(ids.combine_chunks(), ""),
            "customerWasCreated": told["customerWasCreated"],
            "deviceWasCreated": pa.array(["false", "true", ""]).take(pa.array(self.created[rows] % 3)),
            "call": _text(pa.array(call, mask=call == 0)),
        }
        columns |= {name: told[name] for name in ("attempts", "unclearAttempts", "httpStatus", "answeredAt")}
        if self.verified is not None:
            columns["verified"] = _VERIFIED.take(pa.array(self.verified[rows] % 3))
        return columns

    def _details_of(self, block: RowBlock, rows: slice) -> pa.Array:
        """The loader's words for an invalid row, the answer's for a sent one; a duplicate names its original."""
        detail = self.details.take(pa.array(self.detail[rows]))
        detail = pc.if_else(pc.equal(block.keys["problem"], 0), detail, block.keys["detail"])
        origin = self.plan.duplicate_of[rows]
        repeats = origin >= 0
        if not repeats.any():
            return detail
        line = _text(pa.array(self.plan.rows.frame["line"].to_numpy()[origin]))
        outcome = _NAMES.take(pa.array(self.outcome[origin]))
        where = [pa.scalar("same as line"), line]
        if len(self.file_names) > 1:
            file = self.plan.rows.frame["file"].to_numpy()[origin]
            where += [pa.scalar("of"), pa.array(self.file_names).take(pa.array(file))]
        same = pc.binary_join_element_wise(pc.binary_join_element_wise(*where, " "), outcome, ": ")
        return pc.if_else(pa.array(repeats), same, detail)


class _Texts:
    """A long column of texts in the making; keeps few of them as Python objects."""

    def __init__(self) -> None:
        self._chunks: list[pa.Array] = []
        self._pending: list[str] = []
        self._size = 0

    def add(self, text: str) -> int:
        self._pending.append(text)
        self._size += 1
        if len(self._pending) >= _CHUNK:
            self._store()
        return self._size - 1

    def column(self) -> pa.ChunkedArray:
        self._store()
        return pa.chunked_array(self._chunks)

    def _store(self) -> None:
        self._chunks.append(pa.array(self._pending, pa.string()))
        self._pending = []


def inverse(action: Action) -> Action:
    """The action that takes another back."""
    return Action.UNASSIGN if action is Action.ASSIGN else Action.ASSIGN


def _by_outcome(codes: npt.NDArray[np.int8]) -> dict[Outcome, int]:
    found = np.bincount(codes, minlength=len(OUTCOMES)).tolist()
    return dict(zip(OUTCOMES, found, strict=True))


def _text(numbers: pa.Array) -> pa.Array:
    return pc.fill_null(pc.cast(numbers, pa.string()), "")


def _moment(seconds: pa.Array) -> pa.Array:
    """Seconds since the epoch as UTC text, to the millisecond."""
    millis = pc.cast(pc.round(pc.multiply(seconds, 1000.0)), pa.int64())
    text = pc.strftime(pc.cast(millis, pa.timestamp("ms")), format="%Y-%m-%dT%H:%M:%SZ")
    return pc.fill_null(text, "")
