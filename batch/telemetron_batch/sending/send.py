"""Send the calls of a plan that are not settled yet."""

from collections.abc import Awaitable, Callable
from functools import partial

from telemetron_batch.api.target import ApiTarget
from telemetron_batch.domain.event_sink import EventSink
from telemetron_batch.domain.stops import Stop
from telemetron_batch.sending.baseline import Baseline
from telemetron_batch.sending.call_executor import CallExecutor
from telemetron_batch.sending.progress import ProgressTracker
from telemetron_batch.sending.scheduler import Scheduler
from telemetron_batch.sending.session import (
    Job,
    Session,
    open_session,
    run_limits,
    run_until_stopped,
    show_progress,
    stop_for_error,
)

AfterSending = Callable[[Job, Session], Awaitable[None]]
"""Called in the same session once all calls are sent."""


def send(job: Job, target: ApiTarget, afterwards: AfterSending | None = None) -> Stop | None:
    """Send the calls that are not settled yet, then call `afterwards` in the same session.

    Return None, or why the run stopped before the end.
    """
    try:
        return job.clock.run(_send(job, target, afterwards))
    except OSError as exc:
        if not job.journal.has_attempts():
            raise
        return stop_for_error(exc)


async def _send(job: Job, target: ApiTarget, afterwards: AfterSending | None) -> Stop | None:
    sending = job.config.sending
    async with open_session(job, target) as session:
        gate = session.gate
        executor = CallExecutor(session.post, job.journal, gate, attempts=sending.attempts, wall=job.clock.wall)
        executor.recognise = partial(session.customer_query.recognise, target.base_url)
        executor.uptime = job.clock.uptime
        baseline = Baseline(session.customer_query, job.journal, job.plan) if sending.baseline else None
        scheduler = Scheduler(job.plan, job.journal, executor, run_limits(job), baseline)
        scheduler.on_call = [session.rate_limiter.save_periodically]
        scheduler.on_wait = partial(_report_wait, gate.on_event)
        tracker = ProgressTracker(scheduler.counters, gate, sending.process_rate, job.clock.wall)
        async with show_progress(job.observer, tracker):
            await run_until_stopped(scheduler.run(), gate.halt)
        if afterwards is not None and not gate.halt:
            job.journal.set_facts(allSent=True)  # a stop from here on must not cause another sending
            await afterwards(job, session)
    return gate.halt.stop


def _report_wait(on_event: EventSink, seconds: float) -> None:
    on_event("wait", f"waiting up to {seconds:.0f} s: an unanswered attempt at the opposite may still be carried out")
