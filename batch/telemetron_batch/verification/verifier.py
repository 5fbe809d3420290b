"""After a run: each customer concerned is asked once what they hold, and the journal keeps it.

Asks only those of whom a look can tell something, and only when no attempt of the run
can act any more. A verify that was stopped is gone on with; one after a verify that
ended asks afresh. What the looks mean for the rows is not known here.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from telemetron_batch.api.attempt_gate import AttemptGate
from telemetron_batch.api.customer_query import CustomerQuery
from telemetron_batch.domain.model import CustomerHoldings
from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.journal import Journal
from telemetron_batch.planning.plan import Plan
from telemetron_batch.reconciliation.answered import ledger_from_answers
from telemetron_batch.sending.counters import RunCounters
from telemetron_batch.sending.scheduler import RunLimits
from telemetron_batch.storage import clock
from telemetron_batch.verification.apply import customers_to_query, is_timely, last_attempts

_MAX_REPORTED: Final = 5
"""Customers who could not be asked that are told of one by one."""

CustomerDue = tuple[float, str]
"""The moment from which a customer may be asked, on the event loop's clock, and their email."""
Lasts = Callable[[float | None], float]
"""How many seconds an attempt may still act that left at this uptime; None: in another boot, or on another machine."""


class Verifier:
    """Asks what the customers of one run hold."""

    def __init__(
        self, plan: Plan, journal: Journal, looker: CustomerQuery, traffic: AttemptGate, limits: RunLimits
    ) -> None:
        self._journal = journal
        self._looker = looker
        self._traffic = traffic
        self._halt = traffic.halt
        self._concurrency = limits.concurrency
        self._missed = 0
        self._last = journal.meta(Fact.VERIFY) or {"round": 0, "endedAt": 0.0}
        targets = self._targets(plan, limits.lasts)
        asked = {look.customer for look in self._reusable_queries()}
        self._open = [(moment, customer) for moment, customer in targets if customer not in asked]
        self.tally = RunCounters(len(targets), calls_done=len(asked), unit="customers")
        self.on_query: list[Callable[[], None]] = []
        """Called after each look, on the event loop: must not take long."""

    async def run(self, wall: Callable[[], float]) -> None:
        """Ask everybody who is left, or as many as may be asked before the run is halted."""
        facts = self._last
        if facts["endedAt"] is not None:
            facts = {"round": facts["round"] + 1, "startedAt": wall(), "endedAt": None}
        self._journal.set_facts(verify=facts)
        targets = iter(self._open)
        async with asyncio.TaskGroup() as workers:
            for _ in range(min(self._concurrency, len(self._open))):
                workers.create_task(self._work(targets, facts["round"]))
        if not self._halt:
            self._journal.set_facts(verify={**facts, "endedAt": wall()})

    async def _work(self, targets: Iterator[CustomerDue], number: int) -> None:
        """One worker: take the next customer, and ask when their time has come."""
        for moment, customer in targets:
            while (wait := moment - clock.now()) > 0 and not self._halt:
                await clock.wait_for_event(self._halt.event, wait)
            after = self._journal.last_attempt
            look = None if self._halt else await self._looker.fetch(customer)
            if look is None or (look.devices is None and self._record_failure(look)):
                return
            await self._journal.looked(replace(look, after_attempt=after), number)
            self.tally.calls_done += 1
            for hear in self.on_query:
                hear()

    def _record_failure(self, look: CustomerHoldings) -> bool:
        """Hear of a customer who could not be asked. Does that end it all, because nobody has ever answered?"""
        if self._traffic.stop_if_never_reached(look.error):
            return True
        self._missed += 1
        if self._missed <= _MAX_REPORTED:
            self._traffic.tell("verify", f"{look.customer} could not be asked: {look.error}")
        return False

    def _targets(self, plan: Plan, lasts: Lasts) -> list[CustomerDue]:
        """Everybody of whom a look can tell something, those first who need not be waited for."""
        codes = customers_to_query(ledger_from_answers(self._journal, plan, None))
        self._last_attempts = last_attempts(plan, self._journal.last_attempts())
        quiet = np.zeros(plan.customers)
        for pending in self._journal.pending_attempts():
            customer = plan.customer_id_of_call(pending.call)
            quiet[customer] = max(quiet[customer], clock.now() + lasts(pending.uptime))
        order = np.argsort(quiet[codes], kind="stable")
        customers = plan.all_customer_emails().take(codes[order]).to_pylist()
        self._codes = dict(zip(customers, codes[order].tolist(), strict=True))
        return [*zip(quiet[codes[order]].tolist(), customers, strict=True)]

    def _reusable_queries(self) -> Iterator[CustomerHoldings]:
        """Those of a verify that was stopped, but for customers whom it missed or to whom the run went on sending."""
        if self._last["endedAt"] is None:
            for look in self._journal.queries(self._last["round"]):
                code = self._codes.get(look.customer)
                if code is not None and not look.error and is_timely(look, int(self._last_attempts[code])):
                    yield look
