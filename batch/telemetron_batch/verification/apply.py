"""Apply the verification to a reconciliation: compare outcomes with the holdings queried after the run.

A query shows only whether a customer holds a device now. So it checks only the last row of a pair
(customer and device) that may have changed something. If no answer gave that row an outcome, the
query gives it one. Earlier rows
of the pair can only be settled by the answers of later rows. Which process did the work is known
only if it is known what the customer held before. Pure functions, without journal or requests.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.answers import CustomerHoldings
from telemetron_batch.domain.arrays import Flags, Ints
from telemetron_batch.domain.outcomes import OWNED_AFTER, UNSENT, Outcome
from telemetron_batch.domain.reasons import OpenQuestion
from telemetron_batch.planning.plan import Plan, RowsToSend
from telemetron_batch.reconciliation.details import Details
from telemetron_batch.reconciliation.reconcile import Reconciliation
from telemetron_batch.sending.holdings import (
    ABSENCE_UNPROVEN,
    SPELLED_DIFFERENTLY,
    UNKNOWN,
    Holding,
    HoldingStates,
    holding_states,
)

_ASSIGNED, _ALREADY = Outcome.ASSIGNED.code, Outcome.ALREADY_ASSIGNED.code
_UNASSIGNED, _SKIPPED, _FAILED = Outcome.UNASSIGNED.code, Outcome.SKIPPED.code, Outcome.FAILED.code
_OPEN: Final = (Outcome.UNCONFIRMED.code, _FAILED)
_OWNED_AFTER: Final = [outcome.code for outcome, owned in OWNED_AFTER.items() if owned]
_UNSENT: Final = tuple(outcome.code for outcome in UNSENT)

_THE_API_HOLDS: Final = (
    "asked afterwards, the API does not have it with the customer",
    "asked afterwards, the API has it with the customer",
)
_A_LATER_ROW: Final = ("a later row found the customer without it", "a later row found the customer with it")
_OWN_WORK: Final = ": done by an attempt whose answer was lost"
_UNCHANGED_TEXT: Final = ", as before"
_SUPERSEDED: Final = "later rows are about the same device, so that asking afterwards does not tell"
_SPELLED_DIFFERENTLY: Final = "asked afterwards, the API has one with the customer that is spelled otherwise"
_API_RESPELLS: Final = "the API spells devices in a form of its own, so that asking afterwards does not tell"
_NOT_LEARNT: Final = "asked afterwards, the API did not say what the customer holds"


@dataclass(frozen=True, slots=True)
class VerificationData:
    """What queries show about holdings."""

    queries: Iterable[CustomerHoldings]
    """One query for each customer that was queried after the run."""
    before: Iterable[tuple[str, frozenset[str]]]
    """Customers that were queried before the run wrote to them, and what they held."""
    last_attempts: Iterable[tuple[int, int]]
    """Call numbers and the number of the last attempt at each."""
    absence_unproven: Collection[int] = ()
    """Codes of customers for which an answer of this run named identifiers that were not requested."""


def customers_to_query(reconciliation: Reconciliation) -> Ints:
    """Return the codes of the customers whose holdings can show anything."""
    return np.unique(_Pairs.of(reconciliation).keys.customer)


def last_attempts(plan: Plan, by_call: Iterable[tuple[int, int]]) -> Ints:
    """Return for each customer code the number of the last attempt of the run; 0 without one."""
    last = np.zeros(plan.customers, np.int64)
    for call, attempt in by_call:
        customer = plan.customer_number_of_call(call)
        last[customer] = max(last[customer], attempt)
    return last


def is_timely(holdings: CustomerHoldings, last_attempt: int) -> bool:
    """Return whether the query came after the last attempt at the customer, when none could still act."""
    return holdings.after_attempt is not None and holdings.after_attempt >= last_attempt


def apply_verification(reconciliation: Reconciliation, data: VerificationData) -> Reconciliation:
    """Return the reconciliation with `verified` filled in and with the rows settled that queries can settle."""
    pairs = _Pairs.of(reconciliation)
    queries = _Queries(
        reconciliation.plan.all_customer_emails(), last_attempts(reconciliation.plan, data.last_attempts)
    )
    owned_now = holding_states(pairs.keys, queries.usable(data.queries), data.absence_unproven)
    owned_first = holding_states(pairs.keys, queries.coded(data.before), data.absence_unproven)
    seen = np.where(pairs.last, owned_now, UNKNOWN)
    after = np.where(pairs.is_open, np.where(pairs.last, seen, pairs.owned_before_next), pairs.owned_after_by_answer)
    before = np.where(pairs.first, owned_first, np.roll(after, 1))

    outcome, verified = reconciliation.outcome.copy(), np.full(len(reconciliation.outcome), -1, dtype=np.int8)
    settled, known = pairs.is_open & (after >= 0), seen >= 0
    outcome[pairs.rows[settled]] = _outcomes(pairs.desired, before, after)[settled]
    verified[pairs.rows[known]] = (pairs.is_open | (pairs.owned_after_by_answer == seen))[known]
    notes = _DetailNotes(len(outcome))
    for selected, note in _notes(pairs, before, after, seen):
        notes.set(pairs.rows[selected], note)
    for row, note in queries.failures(pairs):
        notes.set(row, note)
    detail, details = notes.added_to(reconciliation)
    return replace(
        reconciliation,
        outcome=outcome,
        detail=detail,
        details=details,
        verified=verified,
        settled_by_verification=int(settled.sum()),
    )


def _outcomes(desired: HoldingStates, before: HoldingStates, after: HoldingStates) -> HoldingStates:
    """Return the outcomes of rows for which it is known whether the customer held the device afterwards."""
    changed = np.where(desired == 1, _ASSIGNED, _UNASSIGNED)
    unchanged = np.where(desired == 1, _ALREADY, _SKIPPED)
    done = np.where(before == 1 - desired, changed, unchanged)
    return np.where(after == desired, done, _FAILED).astype(np.int8)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pairs:
    """The rows that may have changed anything, pair by pair, in the order of execution."""

    keys: RowsToSend
    first: Flags
    """Whether the row is the first of its pair."""
    last: Flags
    """Whether the row is the last of its pair."""
    is_open: Flags
    """Whether the result of the row is unknown."""
    desired: HoldingStates
    """The state that the row requests: 1 held, 0 not held."""
    owned_after_by_answer: HoldingStates
    """Whether the customer held the device after the row, according to the row's own answer."""
    owned_before_next: HoldingStates
    """Whether the customer held the device after the row, according to the answer of the pair's next row."""

    @property
    def rows(self) -> Ints:
        """The row numbers."""
        return self.keys.rows

    @classmethod
    def of(cls, reconciliation: Reconciliation) -> "_Pairs":
        keys, in_doubt = reconciliation.plan.sent_keys(), reconciliation.unclear_attempts > 0
        sent = keys.rows
        # A row that was refused and never in doubt has changed nothing, so a query cannot show anything about it.
        idle = np.isin(reconciliation.outcome[sent], _UNSENT) | (
            (reconciliation.outcome[sent] == _FAILED) & ~in_doubt[sent]
        )
        keys = keys.only(~idle)
        pair = keys.customer * max(1, len(keys.devices)) + keys.device
        by_pair = np.argsort(pair, kind="stable")
        keys, pair = keys.only(by_pair), pair[by_pair]
        rows = keys.rows
        outcome, last = reconciliation.outcome[rows], np.diff(pair, append=-1) != 0
        is_open = np.isin(outcome, _OPEN)
        found_by_next = np.roll(_found(outcome, in_doubt[rows]), -1)
        return cls(
            keys=keys,
            first=np.diff(pair, prepend=-1) != 0,
            last=last,
            is_open=is_open,
            desired=(reconciliation.plan.rows.action[rows] == Action.ASSIGN.code).astype(np.int8),
            owned_after_by_answer=np.where(is_open, UNKNOWN, np.isin(outcome, _OWNED_AFTER)).astype(np.int8),
            owned_before_next=np.where(last, UNKNOWN, found_by_next).astype(np.int8),
        )


def _found(outcome: HoldingStates, in_doubt: Flags) -> HoldingStates:
    """Return whether the customer held the device before each row, unknown where a lost attempt may have acted."""
    found = np.full(len(outcome), UNKNOWN, dtype=np.int8)
    found[(outcome == _ASSIGNED) | ((outcome == _SKIPPED) & ~in_doubt)] = 0
    found[(outcome == _UNASSIGNED) | ((outcome == _ALREADY) & ~in_doubt)] = 1
    return found


class _Queries:
    """Selects the queries that came late enough, by customer code, and keeps the errors of failed ones."""

    def __init__(self, customers: pa.Array, last: Ints) -> None:
        self._codes = {name: code for code, name in enumerate(customers.to_pylist())}
        self._last = last
        self._errors: dict[int, str] = {}

    def usable(self, queries: Iterable[CustomerHoldings]) -> Iterator[Holding]:
        """Yield the holdings queried when no attempt of the run could act any more."""
        for query in queries:
            code = self._codes[query.customer]
            if query.devices is None:
                self._errors[code] = query.error
            elif is_timely(query, int(self._last[code])):
                yield code, query.devices

    def coded(self, holdings: Iterable[tuple[str, frozenset[str]]]) -> Iterator[Holding]:
        """Return holdings with customer codes instead of emails."""
        return ((self._codes[customer], devices) for customer, devices in holdings)

    def failures(self, pairs: _Pairs) -> Iterator[tuple[int, "_Note"]]:
        """Yield the rows that stay open because the query of their customer failed, with a note."""
        open_rows = pairs.keys.only(pairs.is_open & pairs.last)
        for row, customer in zip(open_rows.rows.tolist(), open_rows.customer.tolist(), strict=True):
            if customer in self._errors:
                yield row, _Note(f"{_NOT_LEARNT}: {self._errors[customer]}")


class _Note(NamedTuple):
    """Text that the verification adds to the details of rows."""

    text: str
    open_question: OpenQuestion | None = None
    """What an unanswered attempt leaves open from now on; None to keep the former value."""


def _notes(
    pairs: _Pairs, before: HoldingStates, after: HoldingStates, seen: HoldingStates
) -> Iterator[tuple[Flags, _Note]]:
    """Yield notes, each with the rows of the pairs to which it applies."""
    done = after == pairs.desired
    attributions = (
        ("", ~done, OpenQuestion.NOTHING),
        (_OWN_WORK, done & (before == 1 - pairs.desired), OpenQuestion.NOTHING),
        (_UNCHANGED_TEXT, done & (before == pairs.desired), OpenQuestion.NOTHING),
        ("", done & (before < 0), OpenQuestion.WHOSE_WORK),
    )
    for state in (0, 1):
        settled = pairs.is_open & (after == state)
        for text, rows, open_question in attributions:
            yield settled & rows & pairs.last, _Note(_THE_API_HOLDS[state] + text, open_question)
            yield settled & rows & ~pairs.last, _Note(_A_LATER_ROW[state] + text, open_question)
        differs = ~pairs.is_open & (seen == state) & (pairs.owned_after_by_answer != state)
        yield differs, _Note(f"but {_THE_API_HOLDS[state]}")
    yield pairs.is_open & ~pairs.last & (after < 0), _Note(_SUPERSEDED)
    yield pairs.is_open & (seen == SPELLED_DIFFERENTLY), _Note(_SPELLED_DIFFERENTLY)
    yield pairs.is_open & (seen == ABSENCE_UNPROVEN), _Note(_API_RESPELLS)


class _DetailNotes:
    """The notes of rows, at most one per row, to be added to their details."""

    def __init__(self, rows: int) -> None:
        self._codes: dict[_Note | None, int] = {None: 0}
        self._note = np.zeros(rows, dtype=np.int64)

    def set(self, rows: Ints | int, note: _Note) -> None:
        """Set the note of these rows and replace any former one."""
        self._note[rows] = self._codes.setdefault(note, len(self._codes))

    def added_to(self, reconciliation: Reconciliation) -> tuple[npt.NDArray[np.int32], Details]:
        """Return for each row the position of its detail with the note added, and the details."""
        rows = np.flatnonzero(self._note)
        keys, at = np.unique(
            reconciliation.detail[rows] * np.int64(len(self._codes)) + self._note[rows], return_inverse=True
        )
        notes = [*self._codes]
        added = [
            reconciliation.details.with_verification(code // len(notes), note.text, note.open_question)
            for code in keys.tolist()
            if (note := notes[code % len(notes)]) is not None
        ]
        detail = reconciliation.detail.copy()
        detail[rows] = len(reconciliation.details) + at
        return detail, reconciliation.details.extended(added)
