"""Query each customer of a finished run once and store the answers in the journal.

Only customers whose holdings can show something are queried, and only after no attempt of the run
can act any more. A verification that was stopped is continued; after a completed one, all are
queried again. `apply` interprets the answers.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from telemetron_batch.api.attempt_gate import AttemptGate
from telemetron_batch.api.customer_query import CustomerQuery
from telemetron_batch.domain.answers import CustomerHoldings
from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.journal import Journal
from telemetron_batch.planning.plan import Plan
from telemetron_batch.reconciliation.answered import reconcile_answers
from telemetron_batch.sending.counters import RunCounters
from telemetron_batch.sending.scheduler import RunLimits
from telemetron_batch.storage import clock
from telemetron_batch.verification.apply import customers_to_query, is_timely, last_attempts

_MAX_REPORTED: Final = 5
"""Failed queries that are reported one by one."""

CustomerDue = tuple[float, str]
"""The time from which a customer may be queried, on the event loop's clock, and the customer's email."""
PendingSeconds = Callable[[float | None], float]
"""Returns the seconds for which an attempt may still act, given its uptime (None if made in another boot)."""


class Verifier:
    """Queries what the customers of one run hold."""

    def __init__(
        self, plan: Plan, journal: Journal, customer_query: CustomerQuery, gate: AttemptGate, limits: RunLimits
    ) -> None:
        self._journal = journal
        self._customer_query = customer_query
        self._gate = gate
        self._halt = gate.stop_signal
        self._concurrency = limits.concurrency
        self._missed = 0
        self._last_verification = journal.fact(Fact.VERIFY) or {"round": 0, "endedAt": 0.0}
        targets = self._targets(plan, limits.pending_seconds)
        already_queried = {holdings.customer for holdings in self._reusable_queries()}
        self._open = [(due, customer) for due, customer in targets if customer not in already_queried]
        self.counters = RunCounters(len(targets), calls_done=len(already_queried), unit="customers")
        self.on_query: list[Callable[[], None]] = []
        """Called after each query on the event loop, so they must not block."""

    async def run(self, wall: Callable[[], float]) -> None:
        """Query all remaining customers, or as many as possible before the run stops."""
        facts = self._last_verification
        if facts["endedAt"] is not None:
            facts = {"round": facts["round"] + 1, "startedAt": wall(), "endedAt": None}
        self._journal.set_facts(verify=facts)
        targets = iter(self._open)
        async with asyncio.TaskGroup() as workers:
            for _ in range(min(self._concurrency, len(self._open))):
                workers.create_task(self._run_worker(targets, facts["round"]))
        if not self._halt:
            self._journal.set_facts(verify={**facts, "endedAt": wall()})

    async def _run_worker(self, targets: Iterator[CustomerDue], verification_number: int) -> None:
        """Take customer after customer and query each when its time has come."""
        for due, customer in targets:
            while (wait := due - clock.now()) > 0 and not self._halt:
                await clock.wait_for_event(self._halt.event, wait)
            after = self._journal.last_attempt
            holdings = None if self._halt else await self._customer_query.fetch(customer)
            if holdings is None or (holdings.devices is None and self._record_failure(holdings)):
                return
            await self._journal.record_query(replace(holdings, after_attempt=after), verification_number)
            self.counters.calls_done += 1
            for callback in self.on_query:
                callback()

    def _record_failure(self, holdings: CustomerHoldings) -> bool:
        """Report a failed query; return whether the run stops because nothing has ever answered."""
        if self._gate.stop_if_never_reached(holdings.error):
            return True
        self._missed += 1
        if self._missed <= _MAX_REPORTED:
            self._gate.on_event("verify", f"{holdings.customer} could not be asked: {holdings.error}")
        return False

    def _targets(self, plan: Plan, pending_seconds: PendingSeconds) -> list[CustomerDue]:
        """Return the customers to query, those first that can be queried now."""
        codes = customers_to_query(reconcile_answers(self._journal, plan, None))
        self._last_attempts = last_attempts(plan, self._journal.last_attempts())
        due = np.zeros(plan.customers)
        for pending in self._journal.pending_attempts():
            customer = plan.customer_number_of_call(pending.call)
            due[customer] = max(due[customer], clock.now() + pending_seconds(pending.uptime))
        order = np.argsort(due[codes], kind="stable")
        customers = plan.all_customer_emails().take(codes[order]).to_pylist()
        self._codes = dict(zip(customers, codes[order].tolist(), strict=True))
        return [*zip(due[codes[order]].tolist(), customers, strict=True)]

    def _reusable_queries(self) -> Iterator[CustomerHoldings]:
        """Yield the valid queries of a stopped verification, without customers that the run has written to since."""
        if self._last_verification["endedAt"] is None:
            for holdings in self._journal.queries(self._last_verification["round"]):
                code = self._codes.get(holdings.customer)
                if code is not None and not holdings.error and is_timely(holdings, int(self._last_attempts[code])):
                    yield holdings
