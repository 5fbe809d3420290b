"""Send the calls of a plan that are not settled yet."""

from collections.abc import Awaitable, Callable
from functools import partial

from telemetron_batch.api.target import ApiTarget
from telemetron_batch.domain.answers import CustomerHoldings
from telemetron_batch.domain.event_sink import EventSink
from telemetron_batch.domain.stops import Stop
from telemetron_batch.sending.baseline import Baseline
from telemetron_batch.sending.call_executor import CallExecutor
from telemetron_batch.sending.progress import ProgressTracker
from telemetron_batch.sending.scheduler import Scheduler
from telemetron_batch.sending.session import (
    LOOK_VALID_S,
    SendContext,
    Session,
    open_session,
    run_limits,
    run_until_stopped,
    show_progress,
    stop_for_error,
)

AfterSending = Callable[[SendContext, Session], Awaitable[None]]
"""Called in the same session once all calls are sent."""


def send(send_context: SendContext, target: ApiTarget, afterwards: AfterSending | None = None) -> Stop | None:
    """Send the calls that are not settled yet, then call `afterwards` in the same session.

    Return None, or why the run stopped before the end.
    """
    try:
        return send_context.clock.run(_send(send_context, target, afterwards))
    except OSError as exc:
        if not send_context.journal.has_attempts():
            raise
        return stop_for_error(exc)


async def _send(send_context: SendContext, target: ApiTarget, afterwards: AfterSending | None) -> Stop | None:
    sending = send_context.config.sending
    async with open_session(send_context, target) as session:
        gate = session.gate
        executor = CallExecutor(
            session.post, send_context.journal, gate, attempts=sending.attempts, wall=send_context.clock.wall
        )
        executor.recognise = partial(session.customer_query.recognise, target.base_url)
        executor.uptime = send_context.clock.uptime
        baseline = (
            Baseline(
                session.customer_query, send_context.journal, send_context.plan, partial(_recent_look, send_context)
            )
            if sending.baseline
            else None
        )
        scheduler = Scheduler(send_context.plan, send_context.journal, executor, run_limits(send_context), baseline)
        scheduler.on_call = [session.rate_limiter.save_periodically]
        scheduler.on_wait = partial(_report_wait, gate.on_event)
        tracker = ProgressTracker(scheduler.counters, gate, sending.process_rate, send_context.clock.wall)
        async with show_progress(send_context.observer, tracker):
            await run_until_stopped(scheduler.run(), gate.stop_signal)
        if afterwards is not None and not gate.stop_signal:
            send_context.journal.set_facts(allSent=True)  # a stop from here on must not cause another sending
            await afterwards(send_context, session)
    return gate.stop_signal.stop


def _recent_look(send_context: SendContext, customer: str) -> CustomerHoldings | None:
    """Return what this process saw of a customer before sending, if that is recent enough for a baseline."""
    at = send_context.queried_at.get(customer)
    is_recent = at is not None and send_context.clock.uptime() - at < LOOK_VALID_S
    return send_context.journal.preview(customer) if is_recent else None


def _report_wait(on_event: EventSink, seconds: float, devices: int) -> None:
    what = "1 device" if devices == 1 else f"{devices} devices"
    on_event("wait", f"waiting {seconds:.0f} s: an unanswered attempt may still act on {what}")
