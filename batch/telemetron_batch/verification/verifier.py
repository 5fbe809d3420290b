"""Query each customer of a finished run once and store the answers in the journal.

Only customers whose holdings can show something are queried, and only after no attempt of the run
can act any more. A verification that was stopped is continued; after a completed one, all are
queried again. `targets` finds the customers, `apply` interprets the answers.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from telemetron_batch.api.attempt_gate import AttemptGate
from telemetron_batch.api.customer_query import CustomerQuery
from telemetron_batch.domain.answers import CustomerHoldings
from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.journal import Journal
from telemetron_batch.sending.counters import RunCounters
from telemetron_batch.storage import clock
from telemetron_batch.verification.targets import CustomerDue, Targets

_MAX_REPORTED: Final = 5
"""Failed queries that are reported one by one."""


class Verifier:
    """Queries what the customers of one run hold."""

    def __init__(
        self, targets: Targets, journal: Journal, customer_query: CustomerQuery, gate: AttemptGate, concurrency: int
    ) -> None:
        self._remaining = targets.remaining
        self._journal = journal
        self._customer_query = customer_query
        self._gate = gate
        self._halt = gate.stop_signal
        self._concurrency = concurrency
        self._missed = 0
        customers = targets.queried + len(targets.remaining)
        self.counters = RunCounters(customers, calls_done=targets.queried, unit="customers")
        self.on_query: list[Callable[[], None]] = []
        """Called after each query on the event loop, so they must not block."""

    async def run(self, wall: Callable[[], float]) -> None:
        """Query all remaining customers, or as many as possible before the run stops."""
        facts = self._journal.fact(Fact.VERIFY) or {"round": 0, "endedAt": 0.0}
        if facts["endedAt"] is not None:
            facts = {"round": facts["round"] + 1, "startedAt": wall(), "endedAt": None}
        self._journal.set_facts(verify=facts)
        targets = iter(self._remaining)
        async with asyncio.TaskGroup() as workers:
            for _ in range(min(self._concurrency, len(self._remaining))):
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
