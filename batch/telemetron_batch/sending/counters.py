"""The count of what has happened so far: fed once a call, read by the progress display and the brakes."""

from collections import Counter
from dataclasses import dataclass, field

from telemetron_batch.domain.model import Answer, Results
from telemetron_batch.domain.outcomes import FAILURES, Outcome


@dataclass(slots=True)
class RunCounters:
    """Running totals of one run, calls of earlier processes included."""

    calls: int
    """Calls of the plan; or what else is to be done, one by one."""
    calls_done: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    unassigns_without_effect: int = 0
    """Devices that the customer of an unassign surely did not have."""
    new_customers: set[str] = field(default_factory=set)
    """Customers that this run created."""
    perhaps_new_customers: set[str] = field(default_factory=set)
    """Customers that unanswered attempts of this run may have created."""
    unit: str = "calls"
    """What `calls` counts, in one word."""

    @property
    def failed(self) -> int:
        """Devices that the API refused, or of which we cannot say."""
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
