"""Ask, after a run or at its end, what its customers hold now."""

from telemetron_batch.domain.stops import Stop
from telemetron_batch.planning.plan import Plan
from telemetron_batch.sending.progress import ProgressTracker
from telemetron_batch.sending.session import (
    ApiTarget,
    Job,
    Session,
    open_session,
    run_limits,
    run_until_stopped,
    show_progress,
)
from telemetron_batch.storage.gc_tuning import relaxed_gc
from telemetron_batch.verification.verifier import Verifier


def verify_customers(job: Job, target: ApiTarget) -> Stop | None:
    """Ask what the customers of the plan hold now. None, or why it stopped before all were asked."""
    with relaxed_gc():
        return job.clock.run(_ask_afterwards(job, target))


async def _ask_afterwards(job: Job, target: ApiTarget) -> Stop | None:
    async with open_session(job, target) as way:
        await verify_in_session(job, way)
    return way.traffic.halt.stop


async def verify_in_session(job: Job, way: Session) -> None:
    """Ask what the customers of the plan hold now, on a way that is open."""
    sending = job.config.sending
    assert isinstance(job.plan, Plan)  # noqa: S101 - a shard is not verified by itself
    verifier = Verifier(job.plan, job.journal, way.looker, way.traffic, run_limits(job))
    verifier.on_query = [way.kept.save_periodically]
    async with show_progress(
        job.face, ProgressTracker(verifier.tally, way.traffic, sending.process_rate, job.clock.wall)
    ):
        await run_until_stopped(verifier.run(job.clock.wall), way.traffic.halt)
