"""Open one process's session with the API: rate limiter, gate, HTTP client and everything that stops a run."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from telemetron_batch.api.attempt_gate import AttemptGate, StopSignal, WaitLimits
from telemetron_batch.api.customer_query import CustomerQuery
from telemetron_batch.api.http_client import Post, open_client
from telemetron_batch.api.target import ApiTarget
from telemetron_batch.config.config import RunConfig
from telemetron_batch.domain.errors import BatchError, DiskError, JournalError, LockedError, PathError, system_error
from telemetron_batch.domain.event_sink import EventSink
from telemetron_batch.domain.stops import Advice, Stop, StopReason
from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.journal import Journal
from telemetron_batch.planning.calls import CallPlan
from telemetron_batch.rate_limit.limiter_factory import LimiterContext, LimiterSession, open_rate_limiter
from telemetron_batch.rate_limit.outage import OutageDetector
from telemetron_batch.sending.holds import UnreleasedDevices
from telemetron_batch.sending.observer import RunObserver
from telemetron_batch.sending.progress import ProgressTracker
from telemetron_batch.sending.scheduler import RunLimits
from telemetron_batch.sending.shutdown import (
    Deadline,
    LocalDeadline,
    Shutdown,
    stop_at_deadline,
    stop_on_lease_loss,
    stop_on_signals,
)
from telemetron_batch.storage import clock
from telemetron_batch.storage.clock import Clock
from telemetron_batch.storage.lease import Lease
from telemetron_batch.storage.lock import lock_folders
from telemetron_batch.storage.log import LOGGER

LATE_EFFECT_MARGIN_S: Final = 5.0
"""Seconds after its deadline for which an unanswered attempt may still act."""
LOOK_VALID_S: Final = 900.0
"""Seconds for which a look before sending need not be repeated, and serves as a baseline."""
_PROGRESS_INTERVAL_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class SendContext:
    """What to send and how to record and show it."""

    config: RunConfig
    plan: CallPlan
    journal: Journal
    observer: RunObserver
    clock: Clock
    lease: Lease
    unreleased: UnreleasedDevices = field(default_factory=UnreleasedDevices)
    """Devices that may still be with a former owner according to other shards."""
    pacer_file: Path | None = None
    """File of the rate limiter's state; None for the default, named after base URL and key."""
    deadline: Deadline = field(init=False)
    queried_at: dict[str, float] = field(default_factory=dict)
    """When this process queried each customer before sending, in seconds since the machine booted.

    Filled only if a baseline is wanted.
    """

    def __post_init__(self) -> None:
        sending = self.config.sending
        local = LocalDeadline.of(sending, self.clock.wall)
        object.__setattr__(self, "deadline", Deadline(sending.deadline, local))


def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionContext:
    """What a session needs to know of the command that opens it."""

    config: RunConfig
    observer: RunObserver
    clock: Clock
    on_event: EventSink
    deadline: Deadline | None = None
    """When the process stops; None: as the options say, counted from the opening of the session."""
    pacer_file: Path | None = None
    """File of the rate limiter's state; None for the default, named after base URL and key."""
    can_record: Callable[[], bool] = _always
    """Returns whether the answer to another attempt can be recorded."""
    owns_run: Callable[[], bool] = _always
    """Returns whether only this process executes the run."""

    @property
    def attempt_expiry(self) -> float:
        """Seconds after which an attempt can no longer act."""
        return self.config.sending.timeout + LATE_EFFECT_MARGIN_S


@dataclass(frozen=True, slots=True)
class Session:
    """One process's session with the API."""

    post: Post
    customer_query: CustomerQuery
    gate: AttemptGate
    rate_limiter: LimiterSession
    shutdown: Shutdown


@asynccontextmanager
async def open_session(send_context: SendContext, target: ApiTarget) -> AsyncIterator[Session]:
    """Open the session of a run and close it at the end. Signals, the deadline and a lost lease stop it."""
    journal, lease = send_context.journal, send_context.lease
    context = SessionContext(
        config=send_context.config,
        observer=send_context.observer,
        clock=send_context.clock,
        on_event=_event_sink(send_context),
        pacer_file=send_context.pacer_file,
        deadline=send_context.deadline,
        can_record=lambda: not journal.is_short_of_disk,
        owns_run=lambda: lease.is_valid,
    )
    # An attempt of an earlier process may have had a longer timeout.
    journal.set_facts(quiet=max(journal.fact(Fact.LATE_EFFECT_S, 0.0), context.attempt_expiry))
    async with connect(context, target) as session:
        with stop_on_lease_loss(lease, session.shutdown):
            yield session
    learned_rate = session.rate_limiter.limiter.learned_rate
    if learned_rate is not None:
        journal.set_facts(rateFound=round(learned_rate, 3))


@asynccontextmanager
async def connect(context: SessionContext, target: ApiTarget) -> AsyncIterator[Session]:
    """Open a session with the API for any command. Signals and the deadline stop it."""
    config, sending, wall = context.config, context.config.sending, context.clock.wall
    folder = lock_folders(None if config.sandbox else config.lock_dir)[-1]
    file = context.pacer_file or folder / f"{target.name}.json"
    limiter_context = LimiterContext(target.name, file, context.attempt_expiry, wall, context.on_event)
    connecting = open_client(target, timeout=sending.timeout, wall=wall, secrets=config.secrets)
    async with open_rate_limiter(sending, limiter_context) as rate_limiter, connecting as client:
        gate = AttemptGate(
            rate_limiter.limiter, OutageDetector(), _wait_limits(config), on_event=context.on_event, wall=wall
        )
        gate.can_record, gate.owns_run = context.can_record, context.owns_run
        customer_query = CustomerQuery(client.post, gate, attempts=sending.attempts, wall=wall)
        shutdown = Shutdown(gate.stop_signal, client)
        deadline = context.deadline or Deadline(sending.deadline)
        with stop_at_deadline(gate.stop_signal, deadline), stop_on_signals(context.observer, shutdown):
            yield Session(client.post, customer_query, gate, rate_limiter, shutdown)


async def run_until_stopped(work: Awaitable[None], stop_signal: StopSignal) -> None:
    """Await the work; turn errors of the disk, the journal and the lease into a stop of the run."""
    try:
        await work
    except* (DiskError, PathError, JournalError, LockedError, OSError) as group:
        stop_signal.set(stop_for_error(group.exceptions[0]))


def stop_for_error(error: Exception) -> Stop:
    """Return the stop for an error, with its advice."""
    translated = system_error(error) if isinstance(error, OSError) else error
    advice = translated.next_step if isinstance(translated, BatchError) else Advice()
    return Stop(StopReason.ERROR, getattr(translated, "reason", str(translated)), advice=advice)


def _wait_limits(config: RunConfig) -> WaitLimits:
    sending = config.sending
    pause = sending.give_up_after if sending.longest_wait is None else sending.longest_wait
    return WaitLimits(down=sending.give_up_after, pause=pause)


def run_limits(send_context: SendContext) -> RunLimits:
    """Return the limits of a run, with percentages converted to numbers of rows."""
    brakes, sending = send_context.config.brakes, send_context.config.sending
    return RunLimits(
        concurrency=sending.concurrency,
        max_failed=None
        if brakes.max_failed is None
        else brakes.max_failed.limit_for(send_context.plan.rows_for_percent_limits),
        max_skipped=None
        if brakes.max_skipped is None
        else brakes.max_skipped.limit_for(send_context.plan.unassign_rows),
        max_new_customers=brakes.max_new_customers,
        hold_transfers=sending.hold_transfers,
        unreleased=send_context.unreleased,
        late_effect_s=send_context.journal.fact(Fact.LATE_EFFECT_S),
        uptime=send_context.clock.uptime,
    )


def shown_events(observer: RunObserver) -> EventSink:
    """Return a sink that shows events to the observer and records them nowhere."""

    def on_event(kind: str, text: str, *, is_shown: bool = True) -> None:
        if is_shown:
            observer.on_message(kind, text)

    return on_event


def _event_sink(send_context: SendContext) -> EventSink:
    show = shown_events(send_context.observer)

    def on_event(kind: str, text: str, *, is_shown: bool = True) -> None:
        send_context.journal.record_event(send_context.clock.wall(), kind, text)
        LOGGER.info(text, extra={"kind": kind})
        show(kind, text, is_shown=is_shown)

    return on_event


@asynccontextmanager
async def show_progress(observer: RunObserver, watch: ProgressTracker) -> AsyncIterator[None]:
    """Show progress to the observer, if it wants to see it."""
    observer.on_start()
    polling = asyncio.create_task(_poll_progress(observer, watch)) if observer.wants_progress() else None
    try:
        yield
    finally:
        if polling is not None:
            polling.cancel()
            observer.on_progress(watch.snapshot(over=True))
        observer.on_stop()


async def _poll_progress(observer: RunObserver, watch: ProgressTracker) -> None:
    while True:
        observer.on_progress(watch.snapshot())
        await clock.sleep(_PROGRESS_INTERVAL_S)
