"""One pace for all processes that share a limit: kept in one place, asked for by each.

What is kept and how it is decided is beyond the `line`; here a process takes part in
it: tells what became of its attempts, asks for leave in turn, and where the place is out
of reach goes on alone at its share. What carries a request there is no business of this.
Others can write there, so an answer is not trusted: whatever it says, this process does not
exceed its own rate, and one that makes no sense counts as none.
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
from telemetron_batch.rate_limit.pacer import MIN_WAIT_S, Ceiling, Pacer, PacerState, Permit, spacing
from telemetron_batch.rate_limit.script_backend import HEARTBEAT_S, LimitBackendError, ScriptBackend, unreachable
from telemetron_batch.rate_limit.shared_answer import Answer, Granted, Timed, lesson_of, read_answer, turn_of, wait_of
from telemetron_batch.storage import clock

_PATIENCE: Final = 2.0
"""Seconds after which nobody waits for an answer any more."""
_WORTH_MOVING: Final = 0.005
"""Seconds by which an attempt may leave after its permit: less than this the allowance for the network takes."""
_SOON: Final = 0.005
"""Seconds after which it is asked again at the soonest."""
_LATE: Final = 60.0
"""Seconds after which it is asked again at the latest."""
_A_MOMENT: Final = 0.25
"""For how long a refusal that says nothing holds, until the answer tells it."""


@dataclass(frozen=True, slots=True)
class LimiterSettings:
    """On what terms a process takes part."""

    rate: Rate
    """Ceiling of all together; where processes differ in it, the lowest holds."""
    share: Rate
    """What this process may use of it alone at most; less, where others are seen to share."""
    lost: float
    """Seconds after which nothing more is heard of an attempt."""


@dataclass(frozen=True, slots=True)
class _SharedState:
    """How things stood at an exchange."""

    at: float = 0.0
    rate: float = math.inf
    found: float | None = None
    sharers: int = 1
    ceiling: Rate | None = None
    until: float | None = None
    """When the hold of all ends."""


@dataclass(frozen=True, slots=True)
class _SharedPermit(Permit):
    """A permit, by those who share the limit, or while this process is alone by a pacer of its own."""

    id: str = ""
    own: tuple[Pacer, Permit] | None = None


class SharedRateLimiter:
    """A `Pace` that holds for all processes that ask at one place."""

    def __init__(self, line: ScriptBackend, terms: LimiterSettings, tell: EventSink) -> None:
        self._line = line
        self._terms = terms
        self._tell = tell
        self._member = uuid4().hex[:12]
        self._exchange_lock, self._acquire_lock = asyncio.Lock(), asyncio.Lock()
        self._wake, self._closing = asyncio.Event(), asyncio.Event()
        self._news: list[dict[str, Any]] = []
        self._view = _SharedState(ceiling=terms.rate)
        self._ask_at = self._paused_until = self._lost_at = -math.inf
        self._local: Pacer | None = None
        self._permitted, self._left = Ceiling(terms.rate), Ceiling(terms.rate)
        self._clock: float | None = None
        """By how much the clock there is ahead of ours."""
        self.departures = 0

    @asynccontextmanager
    async def joined(self) -> AsyncIterator[None]:
        """Take part while this lasts. Raises ConfigError where nobody can be asked from the start."""
        try:
            await self._exchange()
        except LimitBackendError as exc:
            await self._line.close()
            raise unreachable(self._line.address, exc) from exc
        pulse = asyncio.create_task(self._keep_in_touch())
        try:
            yield
        finally:
            self._closing.set()
            self._wake.set()
            await pulse
            with suppress(LimitBackendError):
                await self._exchange(leaves=True)
            await self._line.close()

    @property
    def learned_rate(self) -> float | None:
        """Attempts a second that the server was found to grant to all; None when it never refused."""
        return self._view.found

    async def acquire(self, now: float) -> Permit | float:
        """A permit to leave now, or the seconds (more than 0) after which to ask again."""
        if self._may_ask(now):
            async with self._acquire_lock:  # the others would only be told to wait
                if self._may_ask(clock.now()):
                    try:
                        return await self._ask_for_leave()
                    except LimitBackendError as exc:
                        self._fall_back(exc)
        now = clock.now()
        if self._local is not None:
            return self._acquire_local(self._local, now)
        return max(self._ask_at - now, MIN_WAIT_S)

    async def before_send(self, permit: Permit, now: float) -> float:
        """0 when the permitted attempt may leave this very moment, else the seconds to wait."""
        given = _given(permit)
        wait = self._left.wait(now) or await self._wait_to_depart(given, now)
        if wait == 0:
            self._left.add(clock.now())
        return wait

    async def _wait_to_depart(self, given: "_SharedPermit", now: float) -> float:
        if given.own is None and self._local is None:
            if now - given.sent_at <= _WORTH_MOVING:
                return 0.0
            try:
                wait = wait_of(await self._exchange(move=given.id))
                return wait and _bounded(wait)
            except LimitBackendError as exc:
                self._fall_back(exc)
                now = clock.now()
        pacer = given.own[0] if given.own else self._local
        return 0.0 if pacer is None else pacer.depart(now)

    def adjust_send_time(self, permit: Permit, departed: float, now: float) -> None:
        """An attempt that departed at one time reached the wire at a later one."""
        given = _given(permit)
        pacer = given.own[0] if given.own else self._local
        if pacer is not None:
            pacer.left_late(departed, now)
        elif now - departed > _WORTH_MOVING:
            self._report("late", id=given.id)

    def succeeded(self, permit: Permit, now: float) -> None:
        """The server let the attempt through."""
        given = _given(permit)
        if given.own is not None:
            given.own[0].succeeded(given.own[1], now)
        else:
            self._report("succeeded", id=given.id)

    def throttled(self, permit: Permit, now: float, wait: float | None, jitter: float) -> None:
        """The server refused the attempt for its rate: all wait, in all processes."""
        given = _given(permit)
        asked = {} if wait is None else {"wait": wait}
        self._paused_until = max(self._paused_until, now + (wait or _A_MOMENT))
        if given.own is not None:
            given.own[0].throttled(given.own[1], now, wait, jitter)
            self._report("throttled", id="", epoch=-1, jitter=jitter, **asked)
        elif self._local is not None:
            self._local.heed([(0, wait or _A_MOMENT)], now)
        else:
            self._report("throttled", id=given.id, epoch=given.epoch, jitter=jitter, **asked)

    def abandoned(self, permit: Permit, now: float) -> None:
        """No answer came at all, or the attempt never left."""
        given = _given(permit)
        if given.own is not None:
            given.own[0].abandoned(given.own[1], now)
        else:
            self._report("abandoned", id=given.id)

    def apply_quotas(self, quotas: Iterable[tuple[int, float]], now: float) -> None:
        """Slow down for the quotas that an answer told: attempts left, seconds until renewed."""
        told = [*quotas]
        if self._local is not None:
            self._local.heed([(left // self._view.sharers, renewed_in) for left, renewed_in in told], now)
        elif told:
            self._report("quotas", quotas=told)

    def held_until(self, now: float) -> float | None:
        """When the hold of all workers ends, or None while they may leave."""
        if self._local is not None:
            return self._local.held_until(now)
        if self._view.until is None and self._paused_until <= now:
            return None
        return max(now, self._paused_until, self._view.until or now)

    def rate(self, now: float) -> float:
        """Attempts a second that may leave at present, holds apart: of all together, or of this one alone."""
        return self._view.rate if self._local is None else self._local.rate(now)

    # In touch

    def _may_ask(self, now: float) -> bool:
        return self._local is None and now >= self._ask_at

    async def _ask_for_leave(self) -> Permit | float:
        asked = clock.now()
        if (wait := self._permitted.wait(asked)) > 0:
            return wait
        told = turn_of(await self._exchange(wants=True))
        if not isinstance(told, Granted):
            self._ask_at = clock.now() + _bounded(told)
            return _bounded(told)
        self.departures += 1
        self._permitted.add(clock.now())
        return _SharedPermit(told.epoch, asked, told.probe, id=told.id)

    async def _exchange(self, **besides: Any) -> Answer:
        """One exchange: the news since the last, and what is asked besides.

        `wants` a permit, answered by `permit` or `wait`; `move`: the id of one that leaves
        only now, answered by `wait`; `alone`: back after so many seconds, answered by
        `wait`; `leaves`: for good. Raises NoLineError.
        """
        async with self._exchange_lock:
            news, self._news = self._news, []
            request = {"member": self._member, "rule": self._limit_spec(), "lost": self._terms.lost, "news": news}
            answer = await self._ask(request | besides)
            if not isinstance(answer, Answer):  # the clock there was set
                answer = await self._ask(request | besides)
            if not isinstance(answer, Answer):
                raise LimitBackendError("it answers too late")
        if self._local is None:
            self._update_state(answer)
        if answer.facts is not None:
            self._report("lesson", known=lesson_of(answer.facts))
        return answer

    async def _ask(self, request: dict[str, Any]) -> Answer | Timed:
        """Ask, as one who will not wait for long: what is answered later shall have no effect."""
        asked = clock.now()
        by = {} if self._clock is None else {"by": asked + self._clock + _PATIENCE}
        answer = read_answer(await self._line.eval_script(json.dumps(request | by)))
        self._clock = answer.now - clock.now()
        return answer

    def _limit_spec(self) -> dict[str, float]:
        """Return the rate as the script knows it."""
        rate, (limit, window_s, gap) = self._terms.rate, spacing(self._terms.rate)
        told = {"places": limit, "span": window_s, "gap": gap}
        return told if rate == Rate.AUTO else told | {"attempts": rate.attempts, "seconds": rate.seconds}

    def _update_state(self, answer: Answer) -> None:
        now = clock.now()
        self._view = _SharedState(
            at=now,
            rate=answer.rate,
            found=answer.found,
            sharers=int(answer.sharers),
            ceiling=Rate.AUTO if answer.attempts is None else Rate(answer.attempts, answer.seconds),
            until=None if answer.held is None else now + answer.held,
        )

    def _report(self, kind: str, **news: Any) -> None:
        """Have news told as soon as may be; while nobody can be asked they are of no use."""
        if self._local is None:
            self._news.append({"kind": kind, **news})
            self._wake.set()

    async def _keep_in_touch(self) -> None:
        while not self._closing.is_set():
            await clock.wait_for_event(self._wake, HEARTBEAT_S)
            self._wake.clear()
            if self._local is not None:
                await self._reconnect()
            elif self._news or clock.now() - self._view.at >= HEARTBEAT_S:
                try:
                    await self._exchange()
                except LimitBackendError as exc:
                    self._fall_back(exc)

    # Alone

    def _acquire_local(self, pacer: Pacer, now: float) -> Permit | float:
        answer = pacer.take(now)
        if not isinstance(answer, Permit):
            return answer
        self.departures += 1
        self._permitted.add(now)
        return _SharedPermit(answer.epoch, answer.sent_at, answer.probe, own=(pacer, answer))

    def _fall_back(self, why: LimitBackendError) -> None:
        """From now on send at this process' share, a gap of it from now: together they stay within the limit."""
        if self._local is not None:
            return
        now, view, share = clock.now(), self._view, self._share()
        held_until = self.held_until(now)
        found = None if view.found is None else view.found / view.sharers
        pacer = Pacer(share)
        pacer.restore(PacerState(math.inf, 0.0 if held_until is None else held_until - now, found), 0.0, now)
        self._local, self._news, self._lost_at = pacer, [], view.at
        part = "" if view.sharers == 1 else f", one of {view.sharers} processes,"
        self._tell("alone", f"cannot reach {self._line.address} ({why}): this process{part} goes on alone at {share}")

    def _share(self) -> Rate:
        """What this process may use of the limit while it hears nothing of the others."""
        view = self._view
        whole = view.ceiling or self._terms.rate
        if whole == Rate.AUTO:
            whole = Rate(view.rate)
        try:
            equal = whole.share(view.sharers, view.sharers - 1)
        except ValueError:  # more processes than attempts in a window
            equal = Rate(1, whole.seconds * view.sharers / whole.attempts)
        return min(equal, self._terms.share, key=lambda rate: rate.per_second)

    async def _reconnect(self) -> None:
        """Share the limit again, if somebody answers, once all had the time to notice it."""
        try:
            while (wait := wait_of(answer := await self._exchange(alone=clock.now() - self._lost_at))) > 0:
                await clock.wait_for_event(self._closing, _bounded(wait))
                if self._closing.is_set():
                    return
        except LimitBackendError:
            return
        self._local, self._ask_at = None, -math.inf
        self._update_state(answer)
        self._tell("shared", f"{self._line.address} answers again: the limit is shared")


def _bounded(wait: float) -> float:
    return min(max(wait, _SOON), _LATE)


def _given(permit: Permit) -> _SharedPermit:
    assert isinstance(permit, _SharedPermit)  # noqa: S101 - whoever asks here gives back what was given here
    return permit
