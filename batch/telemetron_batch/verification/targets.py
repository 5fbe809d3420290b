"""Find the customers to query: those whose holdings can show something, without those that are queried already.

All answers of the run are read for this, which takes seconds for a million rows. So the work is done in a thread:
the event loop goes on with signals, the deadline and the lease, and a stop ends the work at its next step.
"""

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from telemetron_batch.api.attempt_gate import StopSignal
from telemetron_batch.domain.answers import CustomerHoldings
from telemetron_batch.domain.forgotten import is_forgotten
from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.journal import Journal
from telemetron_batch.planning.plan import Plan
from telemetron_batch.reconciliation.answered import reconcile_answers
from telemetron_batch.sending.scheduler import RunLimits
from telemetron_batch.storage.concurrency import run_off_loop
from telemetron_batch.verification.apply import customers_to_query, is_timely, last_attempts

CustomerDue = tuple[float, str]
"""The time from which a customer may be queried, on the event loop's clock, and the customer's email."""


@dataclass(frozen=True, slots=True)
class Targets:
    """The customers to query."""

    remaining: Collection[CustomerDue]
    """Those not queried yet, first those that can be queried now."""
    queried: int
    """Number of those that a stopped verification has queried."""
    forgotten: int = 0
    """Number of customers that are not queried, because their addresses were forgotten."""


async def find_targets(plan: Plan, journal: Journal, limits: RunLimits, stop_signal: StopSignal) -> Targets | None:
    """Return the customers to query; None if the run stops meanwhile. Raises BatchError."""
    finder = _TargetFinder(plan, journal, limits, asyncio.get_running_loop().time, stop_signal)
    try:
        return await run_off_loop(finder.find)
    except _StoppedError:
        return None


class _StoppedError(Exception):
    """The run stops, so the customers to query are of no use."""


@dataclass(frozen=True, slots=True)
class _TargetFinder:
    """Finds the customers to query, in a thread."""

    plan: Plan
    journal: Journal
    limits: RunLimits
    now: Callable[[], float]
    """Returns the time of the event loop's clock."""
    stop_signal: StopSignal

    def find(self) -> Targets:
        """Return the customers to query. Raises _StoppedError."""
        reconciliation = reconcile_answers(self.journal, self.plan, None, on_batch=self._raise_if_stopped)
        self._raise_if_stopped()
        codes = customers_to_query(reconciliation)
        self._raise_if_stopped()
        due = self._due()
        order = np.argsort(due[codes], kind="stable")
        codes = codes[order]
        customers = self.plan.all_customer_emails().take(codes).to_pylist()
        queried = {one.customer for one in self._reusable_queries(dict(zip(customers, codes.tolist(), strict=True)))}
        known = [one for one in zip(due[codes].tolist(), customers, strict=True) if not is_forgotten(one[1])]
        forgotten = len(customers) - len(known)
        return Targets([one for one in known if one[1] not in queried], len(queried), forgotten)

    def _raise_if_stopped(self) -> None:
        if self.stop_signal:
            raise _StoppedError

    def _due(self) -> npt.NDArray[np.float64]:
        """Return for each customer code the time from which the customer may be queried."""
        due = np.zeros(self.plan.customers)
        for pending in self.journal.pending_attempts():
            customer = self.plan.customer_number_of_call(pending.call)
            due[customer] = max(due[customer], self.now() + self.limits.pending_seconds(pending.uptime))
        return due

    def _reusable_queries(self, codes: Mapping[str, int]) -> Iterator[CustomerHoldings]:
        """Yield the valid queries of a stopped verification, without customers that the run has written to since."""
        verification = self.journal.fact(Fact.VERIFY)
        if verification is None or verification["endedAt"] is not None:
            return
        last = last_attempts(self.plan, self.journal.last_attempts())
        for holdings in self.journal.queries(verification["round"]):
            code = codes.get(holdings.customer)
            if code is not None and not holdings.error and is_timely(holdings, int(last[code])):
                yield holdings
