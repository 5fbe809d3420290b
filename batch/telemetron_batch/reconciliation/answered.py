"""Read the answers of a journal into a reconciliation."""

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Final

from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.domain.stops import Stop, StopReason
from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.reader import JournalReader
from telemetron_batch.planning.delta import ConfirmedBy
from telemetron_batch.planning.plan import Plan
from telemetron_batch.reconciliation.ledger import Ledger
from telemetron_batch.reconciliation.reconcile import Reconciliation
from telemetron_batch.storage.concurrency import prefetch

_UNPROVEN_OUTCOMES: Final = (Outcome.NOT_SENT, Outcome.HELD)
"""Outcomes that mean "never sent"; a journal that has lost records cannot prove them."""


def reconcile_answers(
    journal: JournalReader, plan: Plan, stop: Stop | None, *, on_batch: Callable[[], None] = lambda: None
) -> Reconciliation:
    """Return one outcome for every row, from the answers alone. Raises UnbalancedError.

    Calls `on_batch` before each batch of answers; an exception that it raises ends the work.
    """
    origins = [ConfirmedBy(*one).words for one in journal.fact(Fact.ORIGINS, [])]
    ledger = Ledger(plan, [file.name for file in journal.input_files], origins)
    with closing(prefetch(journal.answers())) as answer_batches:
        for calls, answers in answer_batches:
            on_batch()
            ledger.add_answers(calls, answers)
    ledger.add_known_customers(customer for customer, known_before in journal.customers_known_before() if known_before)
    stop_reason = (stop or Stop(StopReason.PROCESS_ENDED)).sentence
    unproven_outcomes: Sequence[Outcome] = ()
    if journal.loss:
        # Held rows are released again only in shards.
        stop_reason, unproven_outcomes = (
            journal.loss,
            _UNPROVEN_OUTCOMES if journal.is_in_shards else _UNPROVEN_OUTCOMES[:1],
        )
    return ledger.close(
        stop_reason,
        unclear_attempts=((attempt.call, attempt.positions) for attempt in journal.unclear_attempts()),
        refused=((attempt.call, attempt.positions) for attempt in journal.refused_attempts()),
        unproven_outcomes=unproven_outcomes,
    )
