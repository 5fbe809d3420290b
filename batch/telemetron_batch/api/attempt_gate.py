"""The gate that every attempt passes: rate, holds, outages and the end of the run.

One gate serves all workers. It joins the arithmetic of pacing and outage to the
running clock; what an attempt is about it does not know.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from telemetron_batch.api.classify import ErrorResponse, StopRun, Throttled, Transient, Verdict, WithdrawnError
from telemetron_batch.api.http_client import HttpResult
from telemetron_batch.domain.event_sink import EventSink
from telemetron_batch.domain.stops import Stop, StopReason
from telemetron_batch.rate_limit.headers import ServerHint
from telemetron_batch.rate_limit.limiter import RateLimiter
from telemetron_batch.rate_limit.outage import OutageDetector
from telemetron_batch.rate_limit.pacer import Permit
from telemetron_batch.storage import clock
from telemetron_batch.storage.clock import iso

_RETRY_BUDGET: Final = 50
"""Retries that may go out, on top of one for each answer, before all of them slow down."""

RECOGNITION: Final = 0
"""The number of the call by which it is found out whether the API is there at all."""

_LEASE_POLL_S: Final = 0.25
"""Seconds between two looks whether the run is surely ours again."""
_RENOTIFY_RATIO: Final = 0.2
"""Part of a pause by which another one has to outlast it to be told as well."""
_NOTIFY_PAUSE_S: Final = 5.0
"""Seconds of a pause from which on it is said, and not only put on record."""
_DAY: Final = 86_400.0
_YEAR: Final = 365 * _DAY
"""Nobody means more; and calendars end somewhere."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds after which a run stops rather than wait on."""

    down: float
    """How long the API may be down."""
    hold: float
    """How long it may ask to be left alone."""


class StopSignal:
    """The end of a run before its last call; the first reason given is the one that stands."""

    def __init__(self) -> None:
        self.stop: Stop | None = None
        self.event = asyncio.Event()

    def __bool__(self) -> bool:
        return self.stop is not None

    def now(self, stop: Stop) -> None:
        """Let nothing more leave."""
        if self.stop is None:
            self.stop = stop
            self.event.set()


@dataclass(frozen=True, slots=True)
class AttemptSlot:
    """Leave for one attempt; given back exactly once, through one of the gate's methods."""

    call: int
    permit: Permit
    while_down: bool
    """A probe of an API that seems to be down: does not count against its call."""


@dataclass(frozen=True, slots=True)
class GateStatus:
    """What lets attempts leave, or keeps them from it, at one moment. Times are seconds from then."""

    departures: int
    """Attempts that left so far."""
    rate: float
    """Attempts a second that may leave at present, holds apart."""
    held_for: float
    """How long all workers will still wait because the API asked for it; 0 if they need not."""
    down_for: float | None
    """How long the API has been down; None while it is up."""
    next_probe: float | None
    """While it is down: until one attempt looks whether it is back; None if that is out."""
    stop: Stop | None
    """Why nothing more leaves, if so."""


class AttemptGate:
    """Says when an attempt may leave, and learns from what became of it."""

    def __init__(
        self,
        pace: RateLimiter,
        detector: OutageDetector,
        patience: Patience,
        *,
        tell: EventSink,
        wall: Callable[[], float],
    ) -> None:
        self._pace = pace
        self._detector = detector
        self._patience = patience
        self._wall = wall
        self.halt = StopSignal()
        self.tell = tell
        self._told_hold = 0.0
        self.successes = 0
        self.can_record: Callable[[], bool] = lambda: True
        """Can another attempt be put on record? Asked before each."""
        self.owns_run: Callable[[], bool] = lambda: True
        """Is it sure that nobody else carries this run out? Asked before each attempt, and as its first byte leaves."""
        self._retries = _RETRY_BUDGET
        self._unreachable_since: float | None = None
        self.ever_reached = False
        """Has the API given any sign of life?"""
        self.is_recognised = False
        """Has any answer had the shape of the API's?"""
        self.is_recognising = False
        """Is it being found out whether the API is there at all? Nothing else leaves meanwhile."""

    @property
    def is_down(self) -> bool:
        """Does the API seem to be out of reach?"""
        return self._detector.is_down

    def held_for(self) -> float:
        """Seconds that all workers will still wait because the API asked for it; 0 if they need not."""
        now = clock.now()
        until = self._pace.held_until(now)
        return 0.0 if until is None else until - now

    def condition(self) -> GateStatus:
        """How things stand, for whoever shows it."""
        now = clock.now()
        return GateStatus(
            departures=self._pace.departures,
            rate=self._pace.rate(now),
            held_for=self.held_for(),
            down_for=self._detector.down_for(now) if self._detector.is_down else None,
            next_probe=self._detector.next_probe(now),
            stop=self.halt.stop,
        )

    async def acquire(self, call: int) -> AttemptSlot | None:
        """Wait until an attempt may leave; None when the run ends first."""
        while not self.halt:
            if not self.owns_run() or (self.is_recognising and call != RECOGNITION):
                await clock.wait_for_event(self.halt.event, _LEASE_POLL_S)
                continue
            now = clock.now()
            self._look_at_limits(now)
            wait = self._detector.take(call, now, clock.jitter())
            if wait <= 0:
                permit = await self._pace.acquire(now)
                if isinstance(permit, Permit):
                    return self._leave(call, permit)
                wait = permit
                if self.held_for() >= _NOTIFY_PAUSE_S:  # another process may have been asked to wait
                    self._tell_hold()
            await clock.wait_for_event(self.halt.event, wait)
        return None

    def _leave(self, call: int, permit: Permit) -> AttemptSlot | None:
        if self.halt:  # the run ended while the permit was asked for
            self._pace.abandoned(permit, clock.now())
            return None
        return AttemptSlot(call, permit, self._detector.is_down)

    async def before_send(self, leave: AttemptSlot) -> Callable[[], None]:
        """Wait, if need be, until the window has room: the disk may have delayed attempts into a bunch.

        Gives what is to be called when the request really begins to be written. It raises
        WithdrawnError where the request must not leave.
        """
        while (wait := await self._pace.before_send(leave.permit, at := clock.now())) > 0:
            await clock.sleep(wait)

        def left() -> None:
            if not self.owns_run():
                raise WithdrawnError("this process was held up, and the run may have gone to another")
            self._pace.adjust_send_time(leave.permit, at, clock.now())

        return left

    @contextmanager
    def recognition(self) -> Iterator[None]:
        """While this lasts only `RECOGNITION` leaves."""
        self.is_recognising = True
        try:
            yield
        finally:
            self.is_recognising = False

    def report(self, leave: AttemptSlot, verdict: Verdict | None, exchange: HttpResult) -> None:
        """Hear what became of an attempt; a verdict of None is a usable answer."""
        hint = exchange.hint
        self.ever_reached |= exchange.status is not None
        self.is_recognised |= verdict is None or _is_api_error(exchange)
        if isinstance(verdict, Throttled):
            self._throttled(leave, hint)
        elif isinstance(verdict, Transient) and verdict.counts_as_down:
            self._failed(leave, verdict.text)
        else:
            self._answered(leave, hint)
        if isinstance(verdict, StopRun):
            self.halt.now(verdict.stop)

    def stop_if_never_reached(self, text: str) -> bool:
        """End the run if the API has never given any sign of life: that is no fault of a single call."""
        if not self.ever_reached:
            self.halt.now(Stop(StopReason.API_UNREACHABLE, f": {text}"))
        return not self.ever_reached

    def take_retry_token(self) -> bool:
        """Book a retry; False when retries have come to outnumber answers, and each should wait its longest."""
        self._retries = max(0, self._retries - 1)
        return self._retries > 0

    def _answered(self, leave: AttemptSlot, hint: ServerHint) -> None:
        self._retries = min(_RETRY_BUDGET, self._retries + 1)
        now = clock.now()
        self.successes += 1
        self._pace.succeeded(leave.permit, now)
        self._pace.apply_quotas(hint.quotas, now)
        if self.held_for() >= _NOTIFY_PAUSE_S:  # a quota that is spent each second is no event
            self._tell_hold()
        self._mark_up(leave, now)

    def _throttled(self, leave: AttemptSlot, hint: ServerHint) -> None:
        now = clock.now()
        self._pace.throttled(leave.permit, now, hint.wait, clock.jitter())
        self._mark_up(leave, now)
        self._tell_hold()

    def _tell_hold(self) -> None:
        """Tell of a pause once; again only if the refusals of attempts under way make it notably longer."""
        held = self.held_for()
        until = clock.now() + held
        if held > 0 and until > self._told_hold + _RENOTIFY_RATIO * held:
            self._told_hold = until
            self.tell("hold", f"waiting {held:.1f} s: the API asked for it", aloud=held >= _NOTIFY_PAUSE_S)

    def _failed(self, leave: AttemptSlot, text: str) -> None:
        now = clock.now()
        was_down = self._detector.is_down
        self._unreachable_since = self._unreachable_since or now
        self._pace.abandoned(leave.permit, now)
        self._detector.failed(leave.call, now)
        if self._detector.is_down and not was_down:
            self.tell("down", f"the API seems to be down ({text}); probing until it answers")

    def _mark_up(self, leave: AttemptSlot, now: float) -> None:
        was_down = self._detector.is_down
        self._detector.answered(leave.call, now)
        if was_down:
            self.tell("up", "the API answers again")

    def _look_at_limits(self, now: float) -> None:
        """Stop when the API has been down, or asks to be left alone, for too long."""
        if (
            not self.ever_reached
            and self._unreachable_since is not None
            and now - self._unreachable_since >= self._patience.down
        ):
            self.halt.now(Stop(StopReason.API_UNREACHABLE))
        if not self.can_record():
            self.halt.now(Stop(StopReason.DISK_FULL))
        if self._detector.is_down and self._detector.down_for(now) >= self._patience.down:
            self.halt.now(Stop(StopReason.API_DOWN, f"{self._detector.down_for(now):.0f}"))
        elif self.held_for() > self._patience.hold:
            until = self._wall() + min(self.held_for(), _YEAR)
            wait = "for more than a year" if self.held_for() > _YEAR else f"until {_moment(until, self._wall())}"
            self.halt.now(Stop(StopReason.API_ASKS_TO_WAIT, wait, until))


def _is_api_error(exchange: HttpResult) -> bool:
    return isinstance(exchange.failure, ErrorResponse) and exchange.failure.is_api_error


def _moment(at: float, now: float) -> str:
    """A moment to come, in UTC: its time, and its date where that is not clear."""
    date, _, time = iso(at).partition("T")
    return f"{time[:8]}Z" if at - now < _DAY else f"{date} {time[:8]}Z"
