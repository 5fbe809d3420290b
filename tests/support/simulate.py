"""A discrete-event simulation of workers, a network and a server that limits them.

Times are numbers on a heap; nothing here sleeps, and a seed makes a run repeatable.
"""

import heapq
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from telemetron_batch.rate_limit.pacer import Pacer, Permit


class Server(Protocol):
    """A limit. `admit` returns None for an accepted arrival, else the seconds until it would accept."""

    def admit(self, now: float) -> float | None: ...

    def quotas(self, now: float) -> list[tuple[int, float]]: ...


class Unadvertised:
    def quotas(self, now: float) -> list[tuple[int, float]]:  # noqa: ARG002 - others need it
        return []


class FixedWindow(Unadvertised):
    def __init__(self, limit: int, window: float, phase: float = 0.0) -> None:
        self.limit, self.window, self.phase = limit, window, phase
        self.current, self.used = -1, 0

    def admit(self, now: float) -> float | None:
        number = math.floor((now + self.phase) / self.window)
        if number != self.current:
            self.current, self.used = number, 0
        if self.used >= self.limit:
            return (number + 1) * self.window - self.phase - now
        self.used += 1
        return None


class TalkativeWindow(FixedWindow):
    """A fixed window whose answers give the remaining number of calls."""

    def quotas(self, now: float) -> list[tuple[int, float]]:
        return [(self.limit - self.used, (self.current + 1) * self.window - self.phase - now)]


class SlidingLog(Unadvertised):
    def __init__(self, limit: int, window: float) -> None:
        self.window = window
        self.log: deque[float] = deque(maxlen=limit)

    def admit(self, now: float) -> float | None:
        if len(self.log) == self.log.maxlen and now - self.log[0] < self.window:
            return self.log[0] + self.window - now
        self.log.append(now)
        return None


class Bucket(Unadvertised):
    """A token bucket; with a burst of 1 it is nginx's `limit_req` without `burst`."""

    def __init__(self, per_second: float, burst: float) -> None:
        self.per_second, self.burst = per_second, burst
        self.tokens, self.at = burst, 0.0

    def admit(self, now: float) -> float | None:
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.per_second)
        self.at = now
        if self.tokens < 1:
            return (1 - self.tokens) / self.per_second
        self.tokens -= 1
        return None


class Changing(Unadvertised):
    """Limits that change over time: pairs of start time and server, in order."""

    def __init__(self, *phases: tuple[float, Server]) -> None:
        self.phases = phases

    def admit(self, now: float) -> float | None:
        return [server for begins, server in self.phases if begins <= now][-1].admit(now)


@dataclass(frozen=True, slots=True)
class World:
    """The environment of the pacer. Times are in seconds; `calls` or `until` ends the simulation."""

    server: Server
    calls: int = 1_000_000_000
    until: float = 100_000.0
    workers: int = 32
    way_there: tuple[float, float] = (0.075, 0.175)
    way_back: tuple[float, float] = (0.075, 0.175)
    lateness: float = 0.02
    retry_after: bool = False
    lost: float = 0.0
    """Fraction of attempts without an answer; noticed after two seconds."""
    seed: int = 1


@dataclass(slots=True)
class Course:
    """The result: times of departures, of accepted arrivals and of refusals."""

    departed: list[float] = field(default_factory=list)
    accepted: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    holds: list[tuple[float, float]] = field(default_factory=list)
    """When a refusal arrived, and until when it asked to wait."""
    ended: float = 0.0

    @property
    def refusal_share(self) -> float:
        return len(self.refused) / max(1, len(self.accepted) + len(self.refused))

    def use(self, per_second: float, burst: float = 0.0) -> float:
        """Accepted attempts as a fraction of the maximum that the server would have accepted."""
        return len(self.accepted) / (per_second * (self.ended) + burst)

    def accepted_between(self, begins: float, ends: float) -> int:
        return sum(begins <= at < ends for at in self.accepted)


def most_in_a_window(times: list[float], window: float) -> int:
    """Return the maximum number of the sorted times in any half-open window of this length."""
    most, first = 0, 0
    for last, at in enumerate(times):
        while at - times[first] >= window:
            first += 1
        most = max(most, last - first + 1)
    return most


class Limiter(Protocol):
    def acquire(self, now: float) -> Permit | float: ...


def leave(limiter: Limiter, now: float) -> tuple[Permit, float]:
    """Ask until a permit comes; return it and its time."""
    for _ in range(10_000):
        answer = limiter.acquire(now)
        if isinstance(answer, Permit):
            return answer, now
        assert answer > 0
        now += answer
    raise AssertionError("no permit comes any more")


class Simulation:
    """Workers that share one pacer: each waits for a permit, sends, and waits for the answer."""

    def __init__(self, pacer: Pacer, world: World, *, begins: float = 0.0) -> None:
        self.pacer, self.world, self.course = pacer, world, Course()
        self.random = random.Random(world.seed)
        self.events: list[tuple[float, int, Callable[[float], None]]] = []
        self.number = 0
        for _ in range(world.workers):
            self.at(begins, self.ask)

    def at(self, when: float, event: Callable[[float], None]) -> None:
        self.number += 1
        heapq.heappush(self.events, (when, self.number, event))

    def run(self) -> Course:
        now = 0.0
        while self.events and len(self.course.accepted) < self.world.calls:
            now, _, event = heapq.heappop(self.events)
            if now >= self.world.until:
                now = self.world.until
                break
            event(now)
        self.course.ended = now
        return self.course

    def ask(self, now: float) -> None:
        permit = self.pacer.acquire(now)
        if isinstance(permit, float):
            self.at(now + permit + self.random.uniform(0, self.world.lateness), self.ask)
            return
        self.course.departed.append(now)
        sent = permit
        arrives = now + self.random.uniform(*self.world.way_there)
        if self.random.random() < self.world.lost:
            self.at(arrives, lambda at: self.lose(sent, at))
        else:
            self.at(arrives, lambda at: self.arrive(sent, at))

    def lose(self, permit: Permit, now: float) -> None:
        if self.world.server.admit(now) is None:
            self.course.accepted.append(now)
        self.at(now + 2, lambda at: self.give_up(permit, at))

    def give_up(self, permit: Permit, now: float) -> None:
        self.pacer.abandoned(permit, now)
        self.ask(now)

    def arrive(self, permit: Permit, now: float) -> None:
        wait = self.world.server.admit(now)
        quotas = self.world.server.quotas(now)
        (self.course.accepted if wait is None else self.course.refused).append(now)
        back = now + self.random.uniform(*self.world.way_back)
        if wait is None:
            self.at(back, lambda at: self.succeed(permit, at, quotas))
        else:
            asked = float(math.ceil(wait)) if self.world.retry_after else None
            self.at(back, lambda at: self.throttle(permit, at, asked))

    def succeed(self, permit: Permit, now: float, quotas: list[tuple[int, float]]) -> None:
        self.pacer.succeeded(permit, now)
        self.pacer.apply_quotas(quotas, now)
        self.ask(now)

    def throttle(self, permit: Permit, now: float, wait: float | None) -> None:
        self.pacer.throttled(permit, now, wait, self.random.random())
        self.course.holds.append((now, now + (wait or 0.0)))
        self.ask(now)


def run(pacer: Pacer, world: World, **changes: object) -> Course:
    """Run one simulation from time 0."""
    return Simulation(pacer, replace(world, **changes)).run()  # type: ignore[arg-type]
