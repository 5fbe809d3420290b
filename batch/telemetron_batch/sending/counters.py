"""Totals of a run so far, updated once per call; read by the progress display and the safety limits."""

from collections import Counter
from dataclasses import dataclass, field

from telemetron_batch.domain.answers import Answer, Results
from telemetron_batch.domain.outcomes import FAILURES, Outcome


@dataclass(slots=True)
class RunCounters:
    """Running totals of one run, including the calls of earlier processes."""

    calls: int
    """Number of calls of the plan, or of other units of work; see `unit`."""
    calls_done: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    unassigns_without_effect: int = 0
    """Devices of unassigns that the customer certainly did not have."""
    new_customers: set[str] = field(default_factory=set)
    """Customers that this run created."""
    perhaps_new_customers: set[str] = field(default_factory=set)
    """Customers that unanswered attempts of this run may have created."""
    unit: str = "calls"
    """The word for what `calls` counts."""

    @property
    def failed(self) -> int:
        """Devices that the API refused, or whose result is unclear."""
        return sum(self.outcomes[outcome] for outcome in FAILURES)

    @property
    def customers_created_at_most(self) -> int:
        """Customers that this run created, or may have created."""
        return len(self.new_customers | self.perhaps_new_customers)

    def add(self, customer: str, answer: Answer) -> None:
        """Count one answer of a call."""
        results = Results.of(answer.results)
        self.outcomes.update(results.counts())
        self.unassigns_without_effect += results.without_effect()
        if answer.customer_was_created:
            self.new_customers.add(customer)
