"""The gate that every attempt passes: rate limit, pauses, outages and the end of the run.

One gate serves all workers. It connects the rate limiter and the outage detector to the
running clock.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from telemetron_batch.api.classify import (
    ErrorResponse,
    NoUsableResponse,
    StopRun,
    Throttled,
    Transient,
    Verdict,
    WithdrawnError,
)
from telemetron_batch.api.http_client import HttpResult
from telemetron_batch.domain.event_sink import EventSink
from telemetron_batch.domain.stops import Stop, StopReason
from telemetron_batch.rate_limit.connection_limit import ConnectionLimitDetector
from telemetron_batch.rate_limit.headers import ServerHint
from telemetron_batch.rate_limit.limiter import RateLimiter
from telemetron_batch.rate_limit.outage import OutageDetector
from telemetron_batch.rate_limit.pacer import Permit
from telemetron_batch.storage import clock
from telemetron_batch.storage.clock import iso

_RETRY_BUDGET: Final = 50
"""Retries in addition to one per answer, before all retries wait their longest."""

API_CHECK_CALL: Final = 0
"""Call number of the query that checks whether the API is at the URL."""

_LEASE_POLL_S: Final = 0.25
"""Seconds between two checks whether this process owns the run again."""
_RENOTIFY_RATIO: Final = 0.2
"""Part of a pause by which it must grow before it is reported again."""
_NOTIFY_PAUSE_S: Final = 5.0
"""Minimum seconds of a pause that is shown to the user; shorter ones are only recorded."""
_DAY_S: Final = 86_400.0
_YEAR_S: Final = 365 * _DAY_S
"""Longest wait that is shown as a date, because calendars end."""


@dataclass(frozen=True, slots=True)
class WaitLimits:
    """Longest waits, in seconds, before a run stops."""

    down: float
    """How long the API may be down."""
    pause: float
    """How long the API may ask to wait."""


class StopSignal:
    """Signals that the run stops before its last call. The first reason given is kept."""

    def __init__(self) -> None:
        self.stop: Stop | None = None
        self.event = asyncio.Event()

    def __bool__(self) -> bool:
        return self.stop is not None

    def set(self, stop: Stop) -> None:
        """Stop the run for this reason: no further attempt leaves."""
        if self.stop is None:
            self.stop = stop
            self.event.set()


@dataclass(frozen=True, slots=True)
class AttemptSlot:
    """Permission for one attempt; reported back exactly once, through `AttemptGate.report`."""

    call: int
    permit: Permit
    while_down: bool
    """Whether this attempt probes an API that seems to be down. It then does not count against its call."""


@dataclass(frozen=True, slots=True)
class GateStatus:
    """State of the gate at one moment. Times are seconds from that moment."""

    permits_granted: int
    """Number of attempts that have left."""
    rate: float
    """Attempts per second that may leave at present, apart from pauses."""
    pause_left: float
    """Seconds that all workers will still wait because the API asked for it; 0 without a pause."""
    down_for: float | None
    """Seconds for which the API has been down; None while it is up."""
    next_probe: float | None
    """Seconds until the next probe while the API is down; None if a probe is in flight."""
    stop: Stop | None
    """Why no further attempt leaves; None while the run continues."""


class AttemptGate:
    """Decides when an attempt may leave, and learns from its result."""

    def __init__(
        self,
        pace: RateLimiter,
        detector: OutageDetector,
        limits: WaitLimits,
        *,
        on_event: EventSink,
        wall: Callable[[], float],
    ) -> None:
        self._pace = pace
        self._detector = detector
        self._connection_limit = ConnectionLimitDetector()
        self._is_connection_limit_notified = False
        self._wait_limits = limits
        self._wall = wall
        self.stop_signal = StopSignal()
        self.on_event = on_event
        self._notified_pause_until = 0.0
        self.successes = 0
        self.can_record: Callable[[], bool] = lambda: True
        """Returns whether the journal can record another attempt; called before each."""
        self.owns_run: Callable[[], bool] = lambda: True
        """Returns whether only this process executes the run. Called before each attempt and at its first byte."""
        self._retry_tokens = _RETRY_BUDGET
        self._unreachable_since: float | None = None
        self._last_failure = ""
        self.ever_reached = False
        """Whether anything has ever answered."""
        self.is_recognised = False
        """Whether any answer had the form of the API's answers."""
        self.is_recognising = False
        """Whether a query is checking that the API is at the URL. No other attempt leaves meanwhile."""

    @property
    def is_down(self) -> bool:
        """Whether the API seems to be down."""
        return self._detector.is_down

    def pause_left(self) -> float:
        """Return the seconds that all workers will still wait because the API asked for it; 0 without a pause."""
        now = clock.now()
        until = self._pace.paused_until(now)
        return 0.0 if until is None else until - now

    def status(self) -> GateStatus:
        """Return the gate's state, for display."""
        now = clock.now()
        return GateStatus(
            permits_granted=self._pace.permits_granted,
            rate=self._pace.rate(now),
            pause_left=self.pause_left(),
            down_for=self._detector.down_for(now) if self._detector.is_down else None,
            next_probe=self._detector.next_probe(now),
            stop=self.stop_signal.stop,
        )

    async def acquire(self, call: int) -> AttemptSlot | None:
        """Wait until an attempt may leave and return its slot; None if the run stops first."""
        while not self.stop_signal:
            if not self.owns_run() or (self.is_recognising and call != API_CHECK_CALL):
                await clock.wait_for_event(self.stop_signal.event, _LEASE_POLL_S)
                continue
            now = clock.now()
            self._check_wait_limits(now)
            wait = self._detector.wait_before_attempt(call, now, clock.jitter())
            if wait <= 0:
                permit = await self._pace.acquire(now)
                if isinstance(permit, Permit):
                    return self._open_slot(call, permit)
                wait = permit
                if self.pause_left() >= _NOTIFY_PAUSE_S:  # another process may have been asked to wait
                    self._notify_pause()
            await clock.wait_for_event(self.stop_signal.event, wait)
        return None

    def _open_slot(self, call: int, permit: Permit) -> AttemptSlot | None:
        if self.stop_signal:  # the run stopped while the permit was requested
            self._pace.abandoned(permit, clock.now())
            return None
        return AttemptSlot(call, permit, self._detector.is_down)

    async def before_send(self, slot: AttemptSlot) -> Callable[[], None]:
        """Wait until the window has room, because a slow disk may have bunched attempts.

        Return the function to call when the request begins to be written. It raises
        WithdrawnError if the request must not leave.
        """
        while (wait := await self._pace.before_send(slot.permit, at := clock.now())) > 0:
            await clock.sleep(wait)

        def on_send() -> None:
            if not self.owns_run():
                raise WithdrawnError("this process was paused, and another one may have taken over the run")
            self._pace.adjust_send_time(slot.permit, at, clock.now())

        return on_send

    @contextmanager
    def recognition(self) -> Iterator[None]:
        """Let only the attempts of `API_CHECK_CALL` leave."""
        self.is_recognising = True
        try:
            yield
        finally:
            self.is_recognising = False

    def report(self, slot: AttemptSlot, verdict: Verdict | None, result: HttpResult) -> None:
        """Record the result of an attempt; a verdict of None means a usable answer."""
        hint = result.hint
        self.ever_reached |= result.status is not None
        self.is_recognised |= verdict is None or _is_api_error(result)
        if isinstance(verdict, Throttled):
            self._throttled(slot, hint)
        elif isinstance(verdict, Transient) and verdict.counts_as_down:
            self._failed(slot, verdict.text, result.failure)
        else:
            self._answered(slot, hint)
        if isinstance(verdict, StopRun):
            self.stop_signal.set(verdict.stop)

    def stop_if_never_reached(self, text: str) -> bool:
        """Stop the run if nothing has ever answered, and return whether that is so. No single call is to blame then."""
        if not self.ever_reached:
            self.stop_signal.set(Stop(StopReason.API_UNREACHABLE, f": {text}"))
        return not self.ever_reached

    def counts_as_attempt(self, slot: AttemptSlot, failure: NoUsableResponse | ErrorResponse | None) -> bool:
        """Return whether a failed attempt, whose result was reported, counts against its call.

        It does not if the API was down when it left; nor if the API can be reached, but the connection was refused
        or reset before its first byte, or because of the speed.
        """
        if slot.while_down:
            return False
        if not isinstance(failure, NoUsableResponse) or not failure.how.is_refused_connection or not self.ever_reached:
            return True
        return failure.sent and not self._connection_limit.is_limit

    def take_retry_token(self) -> bool:
        """Take a token for a retry. Return False if retries outnumber answers: each must then wait its longest."""
        self._retry_tokens = max(0, self._retry_tokens - 1)
        return self._retry_tokens > 0

    def _answered(self, slot: AttemptSlot, hint: ServerHint) -> None:
        self._retry_tokens = min(_RETRY_BUDGET, self._retry_tokens + 1)
        now = clock.now()
        self.successes += 1
        self._pace.succeeded(slot.permit, now)
        self._pace.apply_quotas(hint.quotas, now)
        if self.pause_left() >= _NOTIFY_PAUSE_S:  # a quota that is spent every second is not worth a message
            self._notify_pause()
        self._mark_up(slot, now)

    def _throttled(self, slot: AttemptSlot, hint: ServerHint) -> None:
        now = clock.now()
        self._pace.throttled(slot.permit, now, hint.wait, clock.jitter())
        self._mark_up(slot, now)
        self._notify_pause()

    def _notify_pause(self) -> None:
        """Report a pause once, and again only if further refusals make it clearly longer."""
        left = self.pause_left()
        until = clock.now() + left
        if left > 0 and until > self._notified_pause_until + _RENOTIFY_RATIO * left:
            self._notified_pause_until = until
            self.on_event("hold", f"waiting {left:.1f} s: the API asked for it", is_shown=left >= _NOTIFY_PAUSE_S)

    def _failed(self, slot: AttemptSlot, text: str, failure: NoUsableResponse | ErrorResponse | None) -> None:
        now = clock.now()
        was_down = self._detector.is_down
        self._unreachable_since = self._unreachable_since or now
        self._last_failure = text
        is_refused = isinstance(failure, NoUsableResponse) and failure.how.is_refused_connection
        if is_refused and self._connection_limit.refused(slot.call, now):
            self._pace.throttled(slot.permit, now, None, clock.jitter())
            self._notify_connection_limit(text)
        else:
            self._pace.abandoned(slot.permit, now)
        self._detector.failed(slot.call, now, sent=not isinstance(failure, NoUsableResponse) or failure.sent)
        if self._detector.is_down and not was_down:
            self.on_event("down", f"the API seems to be down ({text}); probing until it answers")

    def _notify_connection_limit(self, text: str) -> None:
        """Report once that the speed is the cause of refused connections."""
        if not self._is_connection_limit_notified:
            self._is_connection_limit_notified = True
            cause = f"connections are refused or reset in proportion to the speed, as by a firewall ({text})"
            self.on_event("refused", f"{cause}: the rate falls, as after a 429; a lower --rate avoids it")

    def _mark_up(self, slot: AttemptSlot, now: float) -> None:
        was_down = self._detector.is_down
        self._detector.answered(slot.call, now)
        self._connection_limit.answered(slot.call, now)
        if was_down:
            self.on_event("up", "the API answers again")

    def _check_wait_limits(self, now: float) -> None:
        """Stop the run if the API is down or asks to wait for too long, or if the journal cannot grow."""
        if (
            not self.ever_reached
            and self._unreachable_since is not None
            and now - self._unreachable_since >= self._wait_limits.down
        ):
            self.stop_signal.set(Stop(StopReason.API_UNREACHABLE, f": {self._last_failure}"))
        if not self.can_record():
            self.stop_signal.set(Stop(StopReason.DISK_FULL))
        if self._detector.is_down and self._detector.down_for(now) >= self._wait_limits.down:
            self.stop_signal.set(Stop(StopReason.API_DOWN, f"{self._detector.down_for(now):.0f}"))
        elif self.pause_left() > self._wait_limits.pause:
            until = self._wall() + min(self.pause_left(), _YEAR_S)
            wait = "for more than a year" if self.pause_left() > _YEAR_S else f"until {_time_text(until, self._wall())}"
            self.stop_signal.set(Stop(StopReason.API_ASKS_TO_WAIT, wait, until))


def _is_api_error(result: HttpResult) -> bool:
    return isinstance(result.failure, ErrorResponse) and result.failure.is_api_error


def _time_text(at: float, now: float) -> str:
    """Return a future time in UTC, with its date if it is more than a day ahead."""
    date, _, time = iso(at).partition("T")
    return f"{time[:8]}Z" if at - now < _DAY_S else f"{date} {time[:8]}Z"
