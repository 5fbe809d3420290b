"""Say of each row, from what the customers hold now, what sending it will do. Pure functions."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from telemetron_batch.domain.actions import ACTIONS, Action
from telemetron_batch.domain.answers import CustomerHoldings
from telemetron_batch.domain.arrays import Flags, Ints
from telemetron_batch.domain.preview import PREVIEW_WORDS, Preview, PreviewWord, unexpected_outcomes
from telemetron_batch.planning.plan import Plan, RowsToSend
from telemetron_batch.reconciliation.reconcile import Reconciliation
from telemetron_batch.sending.holdings import Holding, HoldingStates, holding_states

Words = npt.NDArray[np.integer]
"""By row: the code of its `PreviewWord`."""


def preview_rows(plan: Plan, queries: Iterable[CustomerHoldings], looked_at: float) -> tuple[Words, Preview]:
    """Return what each row is expected to do if the customers hold what these queries show, and this in numbers.

    The rows of one pair are played in file order: only the first meets what the customer holds now, each later one
    what the row before it has made. `looked_at` is when the look ended, in seconds since the epoch.
    """
    words = np.full(len(plan.rows), PreviewWord.INVALID.code, np.int8)
    words[plan.rows.problem == 0] = PreviewWord.DUPLICATE.code
    words[plan.confirmed_by > 0] = PreviewWord.UNCHANGED.code
    words[plan.held.rows] = PreviewWord.HELD.code
    keys, customers = plan.sent_keys(), _Customers(plan)
    states = holding_states(keys, customers.coded(queries))
    place = _place_in_pair(keys)
    is_assign = plan.rows.action[keys.rows] == Action.ASSIGN.code
    sent = np.where(place == 0, _first_words(states, is_assign), PreviewWord.WILL_CHANGE.code)
    # An unknown customer has nothing, and exists from the first assign on.
    is_unknown = customers.is_unknown[keys.customer]
    lacks_customer = is_unknown & ((place == 0) | ((place == 1) & is_assign))
    sent[lacks_customer] = PreviewWord.CUSTOMER_UNKNOWN.code
    words[keys.rows] = sent
    counts = np.bincount(words, minlength=len(PREVIEW_WORDS)).tolist()
    return words, Preview(
        rows=dict(zip(PREVIEW_WORDS, counts, strict=True)),
        customers_to_create=len(np.unique(keys.customer[lacks_customer & is_assign])),
        customers_not_known=customers.failed,
        looked_at=looked_at,
    )


def changed_by_others(reconciliation: Reconciliation, words: Words) -> Ints:
    """Return the rows whose outcome shows that their customer was changed between the look and the run."""
    plan = reconciliation.plan
    keys = plan.sent_keys()
    rows = keys.rows[_place_in_pair(keys) == 0]
    rows = rows[~reconciliation.unclear()[rows] & (reconciliation.unclear_attempts[rows] == 0)]
    is_unexpected = np.zeros((len(PREVIEW_WORDS), len(ACTIONS), 128), np.bool_)
    for word in PREVIEW_WORDS:
        for action in ACTIONS:
            is_unexpected[word.code, action.code, [one.code for one in unexpected_outcomes(word, action)]] = True
    found: Flags = is_unexpected[words[rows], plan.rows.action[rows], reconciliation.outcome[rows]]
    return np.sort(rows[found])


def _first_words(states: HoldingStates, is_assign: Flags) -> Ints:
    """Return the word of the first row of a pair of a known customer, by the state that its customer was seen in."""
    unchanged = np.where(is_assign, PreviewWord.ALREADY_SO.code, PreviewWord.NOT_THIS_CUSTOMERS.code)
    words = np.where(states == is_assign, unchanged, PreviewWord.WILL_CHANGE.code)
    return np.where(states < 0, PreviewWord.NOT_KNOWN.code, words)


def _place_in_pair(keys: RowsToSend) -> Ints:
    """Return how many rows of the same customer and device stand before each row that is sent."""
    pair = keys.customer * max(1, len(keys.devices)) + keys.device
    order = np.argsort(pair, kind="stable")
    is_first = np.diff(pair[order], prepend=-1) != 0
    index = np.arange(len(order))
    place = np.empty(len(order), np.int64)
    place[order] = index - np.maximum.accumulate(np.where(is_first, index, 0))
    return place


@dataclass(slots=True)
class _Customers:
    """The customers of a plan by number, which of them the API does not know, and how many queries failed."""

    plan: Plan
    is_unknown: Flags = field(init=False)
    failed: int = 0
    _numbers: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        emails = self.plan.all_customer_emails().to_pylist()
        self._numbers = {email: number for number, email in enumerate(emails)}
        self.is_unknown = np.zeros(len(emails), np.bool_)

    def coded(self, queries: Iterable[CustomerHoldings]) -> Iterator[Holding]:
        """Yield what each customer of the plan holds, and note which are unknown."""
        for query in queries:
            self.failed += query.devices is None
            number = self._numbers.get(query.customer)
            if number is not None and query.devices is not None:
                self.is_unknown[number] = not query.is_known
                yield number, query.devices
