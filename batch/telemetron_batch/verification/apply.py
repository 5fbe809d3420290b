"""Closed books put against what the API was seen to hold afterwards.

A look tells one thing: whether a customer holds a device now. So it can judge the last
row of a pair (a customer and a device) that may have changed anything, and settle it
where no answer did; of the rows before it only the answers of later rows tell. Whose
work it was stays open, unless what the customer held before is known. Pure: knows no
journal and asks nobody.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.model import CustomerHoldings
from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.domain.reasons import Unheard
from telemetron_batch.planning.plan import Plan, SentRows
from telemetron_batch.reconciliation.details import Details
from telemetron_batch.reconciliation.reconcile import Reconciliation
from telemetron_batch.sending.holdings import (
    ABSENCE_UNPROVEN,
    SPELLED_DIFFERENTLY,
    UNKNOWN,
    Holding,
    States,
    holding_states,
)

Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

_ASSIGNED, _ALREADY = Outcome.ASSIGNED.code, Outcome.ALREADY_ASSIGNED.code
_UNASSIGNED, _SKIPPED, _FAILED = Outcome.UNASSIGNED.code, Outcome.SKIPPED.code, Outcome.FAILED.code
_OPEN: Final = (Outcome.UNCONFIRMED.code, _FAILED)
_HELD_AFTER: Final = (_ASSIGNED, _ALREADY)
_NEVER_SENT: Final = (Outcome.HELD.code, Outcome.NOT_SENT.code)

_THE_API_HOLDS: Final = (
    "asked afterwards, the API does not have it with the customer",
    "asked afterwards, the API has it with the customer",
)
_A_LATER_ROW: Final = ("a later row found the customer without it", "a later row found the customer with it")
_OWN_WORK: Final = ": done by an attempt whose answer was lost"
_NO_WORK: Final = ", as before"
_SUPERSEDED: Final = "later rows are about the same device, so that asking afterwards does not tell"
_SPELLED_OTHERWISE: Final = "asked afterwards, the API has one with the customer that is spelled otherwise"
_OWN_FORM: Final = "the API spells devices in a form of its own, so that asking afterwards does not tell"
_NOT_LEARNT: Final = "asked afterwards, the API did not say what the customer holds"


@dataclass(frozen=True, slots=True)
class VerificationData:
    """What is known of holdings besides the answers."""

    looks: Iterable[CustomerHoldings]
    """One for each customer who was asked after the run."""
    before: Iterable[tuple[str, frozenset[str]]]
    """Customers who were asked before the run wrote to them, and what they held."""
    last_attempts: Iterable[tuple[int, int]]
    """Calls, and the number of the last attempt at each."""
    absence_unproven: Collection[int] = ()
    """Codes of customers of whom an answer of this run named identifiers that nobody asked for."""


def customers_to_query(books: Reconciliation) -> Ints:
    """Codes of the customers of whom a look can tell anything."""
    return np.unique(_Pairs.of(books).keys.customer)


def last_attempts(plan: Plan, by_call: Iterable[tuple[int, int]]) -> Ints:
    """Return for each customer code the number of the last attempt of the run; 0 without one."""
    last = np.zeros(plan.customers, np.int64)
    for call, attempt in by_call:
        customer = plan.customer_id_of_call(call)
        last[customer] = max(last[customer], attempt)
    return last


def is_timely(look: CustomerHoldings, last_attempt: int) -> bool:
    """Return whether no attempt at the customer came after a look, or could still act when it was taken."""
    return look.after_attempt is not None and look.after_attempt >= last_attempt


def apply_verification(books: Reconciliation, evidence: VerificationData) -> Reconciliation:
    """The books with `verified` filled in, and rows settled that a look can settle."""
    pairs = _Pairs.of(books)
    looks = _Looks(books.plan.all_customer_emails(), last_attempts(books.plan, evidence.last_attempts))
    held_now = holding_states(pairs.keys, looks.usable(evidence.looks), evidence.absence_unproven)
    held_first = holding_states(pairs.keys, looks.coded(evidence.before), evidence.absence_unproven)
    seen = np.where(pairs.last, held_now, UNKNOWN)
    after = np.where(pairs.is_open, np.where(pairs.last, seen, pairs.held_before_next), pairs.held_after_by_answer)
    before = np.where(pairs.first, held_first, np.roll(after, 1))

    outcome, verified = books.outcome.copy(), np.full(len(books.outcome), -1, dtype=np.int8)
    settled, known = pairs.is_open & (after >= 0), seen >= 0
    outcome[pairs.rows[settled]] = _outcomes(pairs.desired, before, after)[settled]
    verified[pairs.rows[known]] = (pairs.is_open | (pairs.held_after_by_answer == seen))[known]
    words = _DetailNotes(len(outcome))
    for some, said in _messages(pairs, before, after, seen):
        words.say(pairs.rows[some], said)
    for row, said in looks.failures(pairs):
        words.say(row, said)
    detail, details = words.added_to(books)
    return replace(
        books,
        outcome=outcome,
        detail=detail,
        details=details,
        verified=verified,
        settled_by_verification=int(settled.sum()),
    )


def _outcomes(target: States, before: States, after: States) -> States:
    """What became of rows of which it is known whether the customer held the device afterwards."""
    changed = np.where(target == 1, _ASSIGNED, _UNASSIGNED)
    unchanged = np.where(target == 1, _ALREADY, _SKIPPED)
    done = np.where(before == 1 - target, changed, unchanged)
    return np.where(after == target, done, _FAILED).astype(np.int8)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pairs:
    """The rows that may have changed anything, pair by pair, in the order in which they were carried out."""

    keys: SentRows
    first: Flags
    last: Flags
    """Is it the first, the last of its pair?"""
    is_open: Flags
    """Is it not known what it came to?"""
    desired: States
    """What the row wanted: 1 to give, 0 to take."""
    held_after_by_answer: States
    """Did the customer hold the device after it, by its own answer?"""
    held_before_next: States
    """Did they after it, by the answer to the next row of the pair?"""

    @property
    def rows(self) -> Ints:
        """Their numbers."""
        return self.keys.rows

    @classmethod
    def of(cls, books: Reconciliation) -> "_Pairs":
        keys, in_doubt = books.plan.sent_keys(), books.unclear_attempts > 0
        sent = keys.rows
        # A row that was refused and never in doubt has changed nothing: a look has nothing to say of it.
        idle = np.isin(books.outcome[sent], _NEVER_SENT) | ((books.outcome[sent] == _FAILED) & ~in_doubt[sent])
        keys = keys.only(~idle)
        pair = keys.customer * max(1, len(keys.devices)) + keys.device
        by_pair = np.argsort(pair, kind="stable")
        keys, pair = keys.only(by_pair), pair[by_pair]
        rows = keys.rows
        outcome, last = books.outcome[rows], np.diff(pair, append=-1) != 0
        is_open = np.isin(outcome, _OPEN)
        found_by_next = np.roll(_found(outcome, in_doubt[rows]), -1)
        return cls(
            keys=keys,
            first=np.diff(pair, prepend=-1) != 0,
            last=last,
            is_open=is_open,
            desired=(books.plan.rows.action[rows] == Action.ASSIGN.code).astype(np.int8),
            held_after_by_answer=np.where(is_open, UNKNOWN, np.isin(outcome, _HELD_AFTER)).astype(np.int8),
            held_before_next=np.where(last, UNKNOWN, found_by_next).astype(np.int8),
        )


def _found(outcome: States, in_doubt: Flags) -> States:
    """Did the customer hold the device before a row, by its answer? Not told where a lost attempt may have acted."""
    found = np.full(len(outcome), UNKNOWN, dtype=np.int8)
    found[(outcome == _ASSIGNED) | ((outcome == _SKIPPED) & ~in_doubt)] = 0
    found[(outcome == _UNASSIGNED) | ((outcome == _ALREADY) & ~in_doubt)] = 1
    return found


class _Looks:
    """Hands on the looks that came late enough, with customers by their codes, and keeps why others failed."""

    def __init__(self, customers: pa.Array, last: Ints) -> None:
        self._codes = {name: code for code, name in enumerate(customers.to_pylist())}
        self._last = last
        self._why: dict[int, str] = {}

    def usable(self, looks: Iterable[CustomerHoldings]) -> Iterator[Holding]:
        """What customers were seen to hold when no attempt of the run could act any more."""
        for look in looks:
            code = self._codes[look.customer]
            if look.devices is None:
                self._why[code] = look.error
            elif is_timely(look, int(self._last[code])):
                yield code, look.devices

    def coded(self, holdings: Iterable[tuple[str, frozenset[str]]]) -> Iterator[Holding]:
        """Holdings by customer codes."""
        return ((self._codes[customer], devices) for customer, devices in holdings)

    def failures(self, pairs: _Pairs) -> Iterator[tuple[int, "_Said"]]:
        """Rows that stay open because their customer could not be asked, and why they could not."""
        lost = pairs.keys.only(pairs.is_open & pairs.last)
        for row, customer in zip(lost.rows.tolist(), lost.customer.tolist(), strict=True):
            if customer in self._why:
                yield row, _Said(f"{_NOT_LEARNT}: {self._why[customer]}")


class _Said(NamedTuple):
    """What is said of rows besides what their details say already."""

    text: str
    unheard: Unheard | None = None
    """What an unanswered attempt leaves open from now on; None: what it left open before."""


def _messages(pairs: _Pairs, before: States, after: States, seen: States) -> Iterator[tuple[Flags, _Said]]:
    """What is to be said of which of the pairs' rows."""
    done = after == pairs.desired
    whose = (
        ("", ~done, Unheard.NOTHING),
        (_OWN_WORK, done & (before == 1 - pairs.desired), Unheard.NOTHING),
        (_NO_WORK, done & (before == pairs.desired), Unheard.NOTHING),
        ("", done & (before < 0), Unheard.WHOSE_WORK),
    )
    for state in (0, 1):
        settled = pairs.is_open & (after == state)
        for words, rows, unheard in whose:
            yield settled & rows & pairs.last, _Said(_THE_API_HOLDS[state] + words, unheard)
            yield settled & rows & ~pairs.last, _Said(_A_LATER_ROW[state] + words, unheard)
        differs = ~pairs.is_open & (seen == state) & (pairs.held_after_by_answer != state)
        yield differs, _Said(f"but {_THE_API_HOLDS[state]}")
    yield pairs.is_open & ~pairs.last & (after < 0), _Said(_SUPERSEDED)
    yield pairs.is_open & (seen == SPELLED_DIFFERENTLY), _Said(_SPELLED_OTHERWISE)
    yield pairs.is_open & (seen == ABSENCE_UNPROVEN), _Said(_OWN_FORM)


class _DetailNotes:
    """What is said of rows besides what their details say already."""

    def __init__(self, rows: int) -> None:
        self._codes: dict[_Said | None, int] = {None: 0}
        self._said = np.zeros(rows, dtype=np.int64)

    def say(self, rows: Ints | int, said: _Said) -> None:
        """Say it of these rows, instead of what was said of them before."""
        self._said[rows] = self._codes.setdefault(said, len(self._codes))

    def added_to(self, books: Reconciliation) -> tuple[npt.NDArray[np.int32], Details]:
        """The rows' details with these words after them: positions, and the details they are positions in."""
        also = np.flatnonzero(self._said)
        keys, at = np.unique(books.detail[also] * np.int64(len(self._codes)) + self._said[also], return_inverse=True)
        said = [*self._codes]
        added = [
            books.details.and_also(code // len(said), one.text, one.unheard)
            for code in keys.tolist()
            if (one := said[code % len(said)]) is not None
        ]
        detail = books.detail.copy()
        detail[also] = len(books.details) + at
        return detail, books.details.extended(added)
