"""Query what customers hold, each customer once, and keep the answers.

For commands without a run. Customers with a kept answer are not queried.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa

from telemetron_batch.api.target import ApiTarget
from telemetron_batch.domain.stops import Stop
from telemetron_batch.sending.counters import RunCounters
from telemetron_batch.sending.progress import ProgressTracker
from telemetron_batch.sending.session import Session, SessionContext, connect, run_until_stopped, show_progress
from telemetron_batch.verification.answers import AnswerStore
from telemetron_batch.verification.failed_queries import FailedQueries

_MAX_NAMED: Final = 1000
"""Failed queries whose customers are remembered."""
_BATCH_SIZE: Final = 10_000
"""Customers that are looked up in the kept answers together."""


@dataclass(slots=True)
class QueryResult:
    """How the queries ended."""

    asked: int = 0
    """Number of customers that answered now."""
    failed: int = 0
    """Number of customers that could not be queried."""
    failures: list[tuple[str, str]] = field(default_factory=list)
    """The first of these customers, each with the reason."""
    remaining: int = 0
    """Number of customers without an answer."""
    stop: Stop | None = None
    """Why the queries stopped early."""


def query_customers(customers: pa.Array, store: AnswerStore, context: SessionContext, target: ApiTarget) -> QueryResult:
    """Query the customers that have no kept answer; keep their answers."""
    missing = _without_answer(customers, store)
    if not len(missing):
        return QueryResult()
    queries = _Queries(missing, store, len(customers))
    return context.clock.run(queries.run(context, target))


def _without_answer(customers: pa.Array, store: AnswerStore) -> pa.Array:
    parts = [pa.array(store.missing(batch), pa.string()) for batch in in_batches(customers)]
    return pa.concat_arrays([pa.array([], pa.string()), *parts])


def in_batches(customers: pa.Array) -> Iterator[list[str]]:
    """Yield the customers in lists of limited length."""
    for first in range(0, len(customers), _BATCH_SIZE):
        yield customers.slice(first, _BATCH_SIZE).to_pylist()


class _Queries:
    """The queries of one command."""

    def __init__(self, customers: pa.Array, store: AnswerStore, total: int) -> None:
        self._customers = (customer for batch in in_batches(customers) for customer in batch)
        self._store = store
        self._counters = RunCounters(total, calls_done=total - len(customers), unit="customers")
        self._result = QueryResult(remaining=len(customers))

    async def run(self, context: SessionContext, target: ApiTarget) -> QueryResult:
        sending = context.config.sending
        async with connect(context, target) as session:
            tracker = ProgressTracker(self._counters, session.gate, sending.process_rate, context.clock.wall)
            async with show_progress(context.observer, tracker):
                work = self._run_workers(session, target.base_url, sending.concurrency)
                await run_until_stopped(work, session.gate.stop_signal)
        self._result.stop = session.gate.stop_signal.stop
        return self._result

    async def _run_workers(self, session: Session, base_url: str, concurrency: int) -> None:
        failed = FailedQueries(session, base_url, "query")
        async with asyncio.TaskGroup() as workers:
            for _ in range(min(concurrency, self._result.remaining)):
                workers.create_task(self._run_worker(session, failed))

    async def _run_worker(self, session: Session, failed: FailedQueries) -> None:
        """Take customer after customer until all are queried or the session stops."""
        for customer in self._customers:
            holdings = await session.customer_query.fetch(customer)
            if holdings is None:
                return
            if holdings.devices is None:
                if await failed.add(holdings) and failed.count <= _MAX_NAMED:
                    self._result.failures.append((holdings.customer, holdings.error))
                self._result.failed = failed.count
            else:
                self._store.put(holdings)
                self._result.asked += 1
                self._result.remaining -= 1
                self._counters.calls_done += 1
            if session.gate.stop_signal:
                return
            session.rate_limiter.save_periodically()
