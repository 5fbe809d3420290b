"""Query, at the end of a run or later, what its customers hold now."""

from telemetron_batch.api.target import ApiTarget
from telemetron_batch.domain.stops import Stop
from telemetron_batch.planning.plan import Plan
from telemetron_batch.sending.progress import ProgressTracker
from telemetron_batch.sending.session import (
    SendContext,
    Session,
    open_session,
    run_limits,
    run_until_stopped,
    show_progress,
)
from telemetron_batch.verification.targets import find_targets
from telemetron_batch.verification.verifier import Verifier


def verify_customers(send_context: SendContext, target: ApiTarget) -> Stop | None:
    """Query what the customers of the plan hold now. Return None, or why it stopped before all were queried."""
    return send_context.clock.run(_verify(send_context, target))


async def _verify(send_context: SendContext, target: ApiTarget) -> Stop | None:
    async with open_session(send_context, target) as session:
        await verify_in_session(send_context, session)
    return session.gate.stop_signal.stop


async def verify_in_session(send_context: SendContext, session: Session) -> None:
    """Query what the customers of the plan hold now, in an open session."""
    sending = send_context.config.sending
    assert isinstance(send_context.plan, Plan)  # noqa: S101 - a single shard is never verified
    limits, gate, journal = run_limits(send_context), session.gate, send_context.journal
    targets = await find_targets(send_context.plan, journal, limits, gate.stop_signal)
    if targets is None:
        return
    if targets.forgotten:
        number = "1 customer is" if targets.forgotten == 1 else f"{targets.forgotten:,} customers are"
        send_context.observer.on_message("warning", f"{number} not verified: the address was forgotten")
    verifier = Verifier(targets, journal, session.customer_query, gate, limits.concurrency)
    verifier.on_query = [session.rate_limiter.save_periodically]
    tracker = ProgressTracker(verifier.counters, gate, sending.process_rate, send_context.clock.wall)
    async with show_progress(send_context.observer, tracker):
        await run_until_stopped(verifier.run(send_context.clock.wall), gate.stop_signal)
