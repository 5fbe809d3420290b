"""Query, at the end of a run or later, what its customers hold now."""

from telemetron_batch.api.target import ApiTarget
from telemetron_batch.domain.stops import Stop
from telemetron_batch.planning.plan import Plan
from telemetron_batch.sending.progress import ProgressTracker
from telemetron_batch.sending.session import (
    Job,
    Session,
    open_session,
    run_limits,
    run_until_stopped,
    show_progress,
)
from telemetron_batch.verification.verifier import Verifier


def verify_customers(job: Job, target: ApiTarget) -> Stop | None:
    """Query what the customers of the plan hold now. Return None, or why it stopped before all were queried."""
    return job.clock.run(_verify(job, target))


async def _verify(job: Job, target: ApiTarget) -> Stop | None:
    async with open_session(job, target) as session:
        await verify_in_session(job, session)
    return session.gate.halt.stop


async def verify_in_session(job: Job, session: Session) -> None:
    """Query what the customers of the plan hold now, in an open session."""
    sending = job.config.sending
    assert isinstance(job.plan, Plan)  # noqa: S101 - a single shard is never verified
    verifier = Verifier(job.plan, job.journal, session.customer_query, session.gate, run_limits(job))
    verifier.on_query = [session.rate_limiter.save_periodically]
    tracker = ProgressTracker(verifier.counters, session.gate, sending.process_rate, job.clock.wall)
    async with show_progress(job.observer, tracker):
        await run_until_stopped(verifier.run(job.clock.wall), session.gate.halt)
