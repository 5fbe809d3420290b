"""From the answers in a journal to one outcome for every row."""

from collections.abc import Sequence
from contextlib import closing
from typing import Final

from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.domain.stops import Stop, StopReason
from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.journal import Journal
from telemetron_batch.planning.delta import ConfirmedBy
from telemetron_batch.planning.plan import Plan
from telemetron_batch.reconciliation.ledger import Ledger
from telemetron_batch.reconciliation.reconcile import Reconciliation
from telemetron_batch.storage.concurrency import prefetch

_UNSURE: Final = (Outcome.NOT_SENT, Outcome.HELD)
"""What a journal that has lost records cannot say for sure: that a row was never sent."""


def ledger_from_answers(journal: Journal, plan: Plan, stop: Stop | None) -> Reconciliation:
    """One outcome for every row, from the answers alone. Raises UnbalancedError."""
    origins = [ConfirmedBy(*one).words for one in journal.meta(Fact.ORIGINS, [])]
    books = Ledger(plan, [file.name for file in journal.input_files], origins)
    with closing(prefetch(journal.answers())) as coming:
        for calls, answers in coming:
            books.add_answers(calls, answers)
    books.expect_known(customer for customer, is_known in journal.customers_known_before() if is_known)
    why = (stop or Stop(StopReason.PROCESS_ENDED)).sentence
    unsure: Sequence[Outcome] = ()
    if journal.loss:
        # Only in shards is anything held released again.
        why, unsure = journal.loss, _UNSURE if journal.meta(Fact.DIVISION) is not None else _UNSURE[:1]
    return books.close(
        why,
        doubtful=((attempt.call, attempt.positions) for attempt in journal.unclear_attempts()),
        refused=((attempt.call, attempt.positions) for attempt in journal.refused_attempts()),
        unsure=unsure,
    )
