"""Query each customer of a plan once before anything is sent, and store the answers in the journal.

A look that was stopped or killed is continued: no customer is queried twice, except those whose query failed.
"""

import asyncio
from collections.abc import Callable, Iterator

from telemetron_batch.api.customer_query import CustomerQuery
from telemetron_batch.api.target import ApiTarget
from telemetron_batch.domain.stops import Stop
from telemetron_batch.planning.plan import Plan
from telemetron_batch.sending.counters import RunCounters
from telemetron_batch.sending.progress import ProgressTracker
from telemetron_batch.sending.session import SendContext, Session, open_session, run_until_stopped, show_progress
from telemetron_batch.verification.failed_queries import FailedQueries


def query_customers(send_context: SendContext, target: ApiTarget) -> Stop | None:
    """Query what the customers of the plan hold now. Return None, or why it stopped before all were queried."""
    return send_context.clock.run(_query(send_context, target))


async def _query(send_context: SendContext, target: ApiTarget) -> Stop | None:
    async with open_session(send_context, target) as session:
        previewer = Previewer(send_context, session, target.base_url)
        previewer.on_query = [session.rate_limiter.save_periodically]
        rate = send_context.config.sending.process_rate
        tracker = ProgressTracker(previewer.counters, session.gate, rate, send_context.clock.wall)
        async with show_progress(send_context.observer, tracker):
            await run_until_stopped(previewer.run(), session.gate.stop_signal)
    return session.gate.stop_signal.stop


class Previewer:
    """Queries what the customers of one plan hold."""

    def __init__(self, send_context: SendContext, session: Session, base_url: str) -> None:
        self._failed = FailedQueries(session, base_url, "online")
        self._journal = send_context.journal
        self._uptime = send_context.clock.uptime
        self._queried_at = send_context.queried_at if send_context.config.sending.baseline else None
        self._query: CustomerQuery = session.customer_query
        self._gate = session.gate
        self._concurrency = send_context.config.sending.concurrency
        assert isinstance(send_context.plan, Plan)  # noqa: S101 - a single shard is never previewed
        customers = send_context.plan.all_customer_emails().to_pylist()
        done = {holdings.customer for holdings in self._journal.previews() if not holdings.error}
        self._open = [customer for customer in customers if customer not in done]
        self.counters = RunCounters(len(customers), calls_done=len(customers) - len(self._open), unit="customers")
        self.on_query: list[Callable[[], None]] = []
        """Called after each query on the event loop, so they must not block."""

    async def run(self) -> None:
        """Query all remaining customers, or as many as possible before the run stops."""
        remaining = iter(self._open)
        async with asyncio.TaskGroup() as workers:
            for _ in range(min(self._concurrency, len(self._open))):
                workers.create_task(self._run_worker(remaining))

    async def _run_worker(self, customers: Iterator[str]) -> None:
        for customer in customers:
            queried_at = self._uptime()
            holdings = None if self._gate.stop_signal else await self._query.fetch(customer)
            if holdings is None:
                return
            if holdings.error and not await self._failed.add(holdings):
                return
            await self._journal.record_preview(holdings)
            if self._queried_at is not None and not holdings.error:
                self._queried_at[customer] = queried_at
            self.counters.calls_done += 1
            for callback in self.on_query:
                callback()
