"""The sending part of a run: the calls of a plan that are not settled yet."""

from collections.abc import Awaitable, Callable
from functools import partial

from telemetron_batch.domain.event_sink import EventSink
from telemetron_batch.domain.stops import Stop
from telemetron_batch.sending.baseline import Baseline
from telemetron_batch.sending.call_executor import CallExecutor
from telemetron_batch.sending.progress import ProgressTracker
from telemetron_batch.sending.scheduler import Scheduler
from telemetron_batch.sending.session import (
    ApiTarget,
    Job,
    Session,
    open_session,
    run_limits,
    run_until_stopped,
    show_progress,
    stop_for_error,
)
from telemetron_batch.storage.gc_tuning import relaxed_gc

AfterSending = Callable[[Job, Session], Awaitable[None]]
"""What is done on the same way to the API once all is sent."""


def send(job: Job, target: ApiTarget, afterwards: AfterSending | None = None) -> Stop | None:
    """Send what of the plan is not settled yet, and then do what comes `afterwards` on the same way.

    None, or why it stopped before the end.
    """
    with relaxed_gc():
        try:
            return job.clock.run(_send(job, target, afterwards))
        except OSError as exc:
            if not job.journal.has_attempts():
                raise
            return stop_for_error(exc)


async def _send(job: Job, target: ApiTarget, afterwards: AfterSending | None) -> Stop | None:
    sending = job.config.sending
    async with open_session(job, target) as way:
        client = CallExecutor(way.post, job.journal, way.traffic, attempts=sending.attempts, wall=job.clock.wall)
        client.recognise = partial(way.looker.recognise, target.base_url)
        client.uptime = job.clock.uptime
        baseline = Baseline(way.looker, job.journal, job.plan) if sending.baseline else None
        runner = Scheduler(job.plan, job.journal, client, run_limits(job), baseline)
        runner.on_call = [way.kept.save_periodically]
        runner.tell_wait = partial(_tell_wait, way.traffic.tell)
        async with show_progress(
            job.face, ProgressTracker(runner.tally, way.traffic, sending.process_rate, job.clock.wall)
        ):
            await run_until_stopped(runner.run(), way.traffic.halt)
        if afterwards is not None and not way.traffic.halt:
            job.journal.set_facts(allSent=True)  # what may stop it from here on is no reason to send again
            await afterwards(job, way)
    return way.traffic.halt.stop


def _tell_wait(tell: EventSink, seconds: float) -> None:
    tell("wait", f"waiting up to {seconds:.0f} s: an unanswered attempt at the opposite may still be carried out")
