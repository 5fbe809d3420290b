"""Rate limiter for several processes that share one limit, whose state is kept in a store.

The script in the store decides. This side reports what became of its attempts, asks for
permits, and continues alone at its share of the limit while the store is out of reach.
Answers are untrusted, because others can write to the store: an invalid answer counts as
none, and no answer makes this process exceed its own rate.
"""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

from telemetron_batch.config.rate import Rate
from telemetron_batch.domain.event_sink import EventSink
from telemetron_batch.rate_limit.pacer import MIN_WAIT_S, Pacer, PacerState, Permit, WindowLimiter, spacing
from telemetron_batch.rate_limit.script_backend import HEARTBEAT_S, LimitBackendError, ScriptBackend, unreachable
from telemetron_batch.rate_limit.shared_answer import (
    Acknowledgement,
    GrantedPermit,
    StoreAnswer,
    learned_from_incident,
    permit_or_wait,
    read_answer,
    required_wait,
)
from telemetron_batch.storage import clock

_REQUEST_EXPIRY_S: Final = 2.0
"""Seconds after which a request must have no effect, because this side has given up waiting for its answer."""
_JITTER_TOLERANCE_S: Final = 0.005
"""Seconds by which an attempt may leave after its permit. The window's allowance for jitter covers them."""
_MIN_POLL_S: Final = 0.005
"""Seconds before the store is asked again at the earliest."""
_MAX_POLL_S: Final = 60.0
"""Seconds before the store is asked again at the latest."""
_UNANNOUNCED_PAUSE_S: Final = 0.25
"""Seconds for which a refusal without a wait stops this process, until the store's answer gives the real pause."""


@dataclass(frozen=True, slots=True)
class LimiterSettings:
    """How a process takes part in a shared limit."""

    rate: Rate
    """Ceiling of all processes together; if they differ in it, the lowest applies."""
    share: Rate
    """Ceiling of this process while it is alone; less if more processes share the limit."""
    attempt_expiry: float
    """Seconds after which an attempt can no longer be answered."""


@dataclass(frozen=True, slots=True)
class _SharedState:
    """The shared state as of the last exchange."""

    at: float = 0.0
    rate: float = math.inf
    learned_rate: float | None = None
    process_count: int = 1
    ceiling: Rate | None = None
    paused_until: float | None = None
    """When the pause of all processes ends; None without a pause."""


@dataclass(frozen=True, slots=True)
class _SharedPermit(Permit):
    """A permit from the store, or from this process's own pacer while it is alone."""

    id: str = ""
    local: tuple[Pacer, Permit] | None = None


class SharedRateLimiter:
    """A `RateLimiter` for all processes that use the same store."""

    def __init__(self, backend: ScriptBackend, settings: LimiterSettings, on_event: EventSink) -> None:
        self._backend = backend
        self._settings = settings
        self._on_event = on_event
        self._member = uuid4().hex[:12]
        self._exchange_lock, self._acquire_lock = asyncio.Lock(), asyncio.Lock()
        self._wake, self._closing = asyncio.Event(), asyncio.Event()
        self._reports: list[dict[str, Any]] = []
        self._state = _SharedState(ceiling=settings.rate)
        self._ask_at = self._paused_until = self._lost_at = -math.inf
        self._local: Pacer | None = None
        """The pacer in use while this process is alone."""
        self._permitted, self._departed = WindowLimiter(settings.rate), WindowLimiter(settings.rate)
        self._clock_offset: float | None = None
        """Seconds by which the store's clock is ahead of this process's."""
        self.permits_granted = 0

    @asynccontextmanager
    async def joined(self) -> AsyncIterator[None]:
        """Take part in the shared limit. Raises ConfigError if the store cannot be used at the start."""
        try:
            await self._exchange()
        except LimitBackendError as exc:
            await self._backend.close()
            raise unreachable(self._backend.address, exc) from exc
        heartbeat = asyncio.create_task(self._keep_in_touch())
        try:
            yield
        finally:
            self._closing.set()
            self._wake.set()
            await heartbeat
            with suppress(LimitBackendError):
                await self._exchange(leaves=True)
            await self._backend.close()

    @property
    def learned_rate(self) -> float | None:
        """Attempts per second that the server grants to all processes; None if it never refused."""
        return self._state.learned_rate

    async def acquire(self, now: float) -> Permit | float:
        """Return a permit to leave now, or the seconds (more than 0) after which to ask again."""
        if self._may_ask(now):
            async with self._acquire_lock:  # further requests would only be answered with a wait
                if self._may_ask(clock.now()):
                    try:
                        return await self._request_permit()
                    except LimitBackendError as exc:
                        self._fall_back(exc)
        now = clock.now()
        if self._local is not None:
            return self._acquire_local(self._local, now)
        return max(self._ask_at - now, MIN_WAIT_S)

    async def before_send(self, permit: Permit, now: float) -> float:
        """Return 0 when the permitted attempt may leave at this moment, else the seconds to wait."""
        shared = _as_shared(permit)
        wait = self._departed.wait(now) or await self._wait_to_depart(shared, now)
        if wait == 0:
            self._departed.add(clock.now())
        return wait

    async def _wait_to_depart(self, permit: "_SharedPermit", now: float) -> float:
        if permit.local is None and self._local is None:
            if now - permit.sent_at <= _JITTER_TOLERANCE_S:
                return 0.0
            try:
                wait = required_wait(await self._exchange(move=permit.id))
                return wait and _bounded(wait)
            except LimitBackendError as exc:
                self._fall_back(exc)
                now = clock.now()
        pacer = permit.local[0] if permit.local else self._local
        return 0.0 if pacer is None else pacer.before_send(now)

    def adjust_send_time(self, permit: Permit, departed: float, now: float) -> None:
        """Record that an attempt reached the wire later than it departed."""
        shared = _as_shared(permit)
        pacer = shared.local[0] if shared.local else self._local
        if pacer is not None:
            pacer.adjust_send_time(departed, now)
        elif now - departed > _JITTER_TOLERANCE_S:
            self._report("late", id=shared.id)

    def succeeded(self, permit: Permit, now: float) -> None:
        """Record that the rate limit let the attempt through."""
        shared = _as_shared(permit)
        if shared.local is not None:
            shared.local[0].succeeded(shared.local[1], now)
        else:
            self._report("succeeded", id=shared.id)

    def throttled(self, permit: Permit, now: float, wait: float | None, jitter: float) -> None:
        """Record a refusal for the rate: the workers of all processes wait."""
        shared = _as_shared(permit)
        asked = {} if wait is None else {"wait": wait}
        self._paused_until = max(self._paused_until, now + (wait or _UNANNOUNCED_PAUSE_S))
        if shared.local is not None:
            shared.local[0].throttled(shared.local[1], now, wait, jitter)
            self._report("throttled", id="", epoch=-1, jitter=jitter, **asked)
        elif self._local is not None:
            self._local.apply_quotas([(0, wait or _UNANNOUNCED_PAUSE_S)], now)
        else:
            self._report("throttled", id=shared.id, epoch=shared.epoch, jitter=jitter, **asked)

    def abandoned(self, permit: Permit, now: float) -> None:
        """Record that no answer came, or that the attempt never left."""
        shared = _as_shared(permit)
        if shared.local is not None:
            shared.local[0].abandoned(shared.local[1], now)
        else:
            self._report("abandoned", id=shared.id)

    def apply_quotas(self, quotas: Iterable[tuple[int, float]], now: float) -> None:
        """Slow down for the quotas of an answer: attempts left, seconds until renewed."""
        quotas = [*quotas]
        if self._local is not None:
            self._local.apply_quotas(
                [(left // self._state.process_count, resets_in) for left, resets_in in quotas], now
            )
        elif quotas:
            self._report("quotas", quotas=quotas)

    def paused_until(self, now: float) -> float | None:
        """Return when the pause of all workers ends, or None without a pause."""
        if self._local is not None:
            return self._local.paused_until(now)
        if self._state.paused_until is None and self._paused_until <= now:
            return None
        return max(now, self._paused_until, self._state.paused_until or now)

    def rate(self, now: float) -> float:
        """Return the attempts per second that may leave at present, of all processes or of this one if it is alone."""
        return self._state.rate if self._local is None else self._local.rate(now)

    # With the store

    def _may_ask(self, now: float) -> bool:
        return self._local is None and now >= self._ask_at

    async def _request_permit(self) -> Permit | float:
        asked_at = clock.now()
        if (wait := self._permitted.wait(asked_at)) > 0:
            return wait
        answer = permit_or_wait(await self._exchange(wants=True))
        if not isinstance(answer, GrantedPermit):
            self._ask_at = clock.now() + _bounded(answer)
            return _bounded(answer)
        self.permits_granted += 1
        self._permitted.add(clock.now())
        return _SharedPermit(answer.epoch, asked_at, answer.probe, id=answer.id)

    async def _exchange(self, **request: Any) -> StoreAnswer:
        """Send the reports since the last exchange together with a request, and return the answer.

        `wants`: ask for a permit, answered by `permit` or `wait`. `move`: the id of a permit whose
        attempt leaves only now, answered by `wait`. `alone`: seconds without the store, on return,
        answered by `wait`. `leaves`: leave for good. Raises LimitBackendError.
        """
        async with self._exchange_lock:
            reports, self._reports = self._reports, []
            message = {
                "member": self._member,
                "rule": self._limit_spec(),
                "lost": self._settings.attempt_expiry,
                "news": reports,
                **request,
            }
            answer = await self._ask(message)
            if not isinstance(answer, StoreAnswer):  # the store's clock was set; now the difference is known
                answer = await self._ask(message)
            if not isinstance(answer, StoreAnswer):
                raise LimitBackendError("it answers too late")
        if self._local is None:
            self._update_state(answer)
        if answer.incident is not None:
            self._report("lesson", known=learned_from_incident(answer.incident))
        return answer

    async def _ask(self, message: dict[str, Any]) -> StoreAnswer | Acknowledgement:
        """Run the script with a message that expires, so that a delayed one has no effect."""
        expiry = {} if self._clock_offset is None else {"by": clock.now() + self._clock_offset + _REQUEST_EXPIRY_S}
        answer = read_answer(await self._backend.eval_script(json.dumps(message | expiry)))
        self._clock_offset = answer.now - clock.now()
        return answer

    def _limit_spec(self) -> dict[str, float]:
        """Return the rate in the form that the script expects."""
        rate, (limit, window_s, gap) = self._settings.rate, spacing(self._settings.rate)
        spec = {"places": limit, "span": window_s, "gap": gap}
        return spec if rate == Rate.AUTO else spec | {"attempts": rate.attempts, "seconds": rate.seconds}

    def _update_state(self, answer: StoreAnswer) -> None:
        now = clock.now()
        self._state = _SharedState(
            at=now,
            rate=answer.rate,
            learned_rate=answer.learned_rate,
            process_count=int(answer.process_count),
            ceiling=Rate.AUTO if answer.attempts is None else Rate(answer.attempts, answer.seconds),
            paused_until=None if answer.pause_left is None else now + answer.pause_left,
        )

    def _report(self, kind: str, **fields: Any) -> None:
        """Queue a report for the next exchange. While this process is alone, reports are dropped."""
        if self._local is None:
            self._reports.append({"kind": kind, **fields})
            self._wake.set()

    async def _keep_in_touch(self) -> None:
        while not self._closing.is_set():
            await clock.wait_for_event(self._wake, HEARTBEAT_S)
            self._wake.clear()
            if self._local is not None:
                await self._reconnect()
            elif self._reports or clock.now() - self._state.at >= HEARTBEAT_S:
                try:
                    await self._exchange()
                except LimitBackendError as exc:
                    self._fall_back(exc)

    # Alone

    def _acquire_local(self, pacer: Pacer, now: float) -> Permit | float:
        permit = pacer.acquire(now)
        if not isinstance(permit, Permit):
            return permit
        self.permits_granted += 1
        self._permitted.add(now)
        return _SharedPermit(permit.epoch, permit.sent_at, permit.probe, local=(pacer, permit))

    def _fall_back(self, reason: LimitBackendError) -> None:
        """Continue alone at this process's share, starting one gap from now; all shares together keep the limit."""
        if self._local is not None:
            return
        now, state, share = clock.now(), self._state, self._share()
        paused_until = self.paused_until(now)
        learned_rate = None if state.learned_rate is None else state.learned_rate / state.process_count
        pacer = Pacer(share)
        pacer.restore(PacerState(math.inf, 0.0 if paused_until is None else paused_until - now, learned_rate), 0.0, now)
        self._local, self._reports, self._lost_at = pacer, [], state.at
        part = "" if state.process_count == 1 else f", one of {state.process_count} processes,"
        text = f"cannot reach {self._backend.address} ({reason}): this process{part} goes on alone at {share}"
        self._on_event("alone", text)

    def _share(self) -> Rate:
        """Return the part of the limit that this process may use while it is alone."""
        state = self._state
        whole = state.ceiling or self._settings.rate
        if whole == Rate.AUTO:
            whole = Rate(state.rate)
        try:
            equal = whole.share(state.process_count, state.process_count - 1)
        except ValueError:  # more processes than attempts in a window
            equal = Rate(1, whole.seconds * state.process_count / whole.attempts)
        return min(equal, self._settings.share, key=lambda rate: rate.per_second)

    async def _reconnect(self) -> None:
        """Return to the shared limit if the store answers, once all processes had time to notice it."""
        try:
            while (wait := required_wait(answer := await self._exchange(alone=clock.now() - self._lost_at))) > 0:
                await clock.wait_for_event(self._closing, _bounded(wait))
                if self._closing.is_set():
                    return
        except LimitBackendError:
            return
        self._local, self._ask_at = None, -math.inf
        self._update_state(answer)
        self._on_event("shared", f"{self._backend.address} answers again: the limit is shared")


def _bounded(wait: float) -> float:
    return min(max(wait, _MIN_POLL_S), _MAX_POLL_S)


def _as_shared(permit: Permit) -> _SharedPermit:
    assert isinstance(permit, _SharedPermit)  # noqa: S101 - every permit reported here was granted here
    return permit
