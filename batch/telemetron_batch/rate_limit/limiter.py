"""Rate limiter interface that the gate uses, for this process alone or shared with others.

`acquire` and `before_send` may take I/O, because a shared limit is stored elsewhere.
Reports return at once and are delivered later.
"""

from collections.abc import Iterable
from typing import Protocol

from telemetron_batch.rate_limit.pacer import Pacer, Permit


class RateLimiter(Protocol):
    """Decides when attempts may leave. Times are seconds of the running loop's clock.

    Every permit is reported back once, by `succeeded`, `throttled` or `abandoned`. `Pacer`
    documents what the methods guarantee.
    """

    @property
    def permits_granted(self) -> int:
        """Number of attempts of this process that got a permit."""

    @property
    def learned_rate(self) -> float | None:
        """Attempts per second that the server grants; None if it never refused."""

    async def acquire(self, now: float) -> Permit | float:
        """Return a permit to leave now, or the seconds (more than 0) after which to ask again."""

    async def before_send(self, permit: Permit, now: float) -> float:
        """Return 0 when the permitted attempt may leave at this moment, else the seconds to wait."""

    def adjust_send_time(self, permit: Permit, departed: float, now: float) -> None:
        """Record that an attempt reached the wire later than it departed."""

    def succeeded(self, permit: Permit, now: float) -> None:
        """Record that the rate limit let the attempt through."""

    def throttled(self, permit: Permit, now: float, wait: float | None, jitter: float) -> None:
        """Record that the server refused the attempt for its rate."""

    def abandoned(self, permit: Permit, now: float) -> None:
        """Record that no answer came, or that the attempt never left."""

    def apply_quotas(self, quotas: Iterable[tuple[int, float]], now: float) -> None:
        """Slow down for the quotas of an answer: attempts left, seconds until renewed."""

    def paused_until(self, now: float) -> float | None:
        """Return when the pause of all workers ends, or None without a pause."""

    def rate(self, now: float) -> float:
        """Return the attempts per second that may leave at present, apart from pauses."""


class LocalRateLimiter:
    """The rate limiter of a pacer in this process; needs no I/O."""

    def __init__(self, pacer: Pacer) -> None:
        self._pacer = pacer
        self.succeeded = pacer.succeeded
        self.throttled = pacer.throttled
        self.abandoned = pacer.abandoned
        self.apply_quotas = pacer.apply_quotas
        self.paused_until = pacer.paused_until
        self.rate = pacer.rate

    @property
    def permits_granted(self) -> int:
        """Number of attempts that got a permit."""
        return self._pacer.permits_granted

    @property
    def learned_rate(self) -> float | None:
        """Attempts per second that the server grants; None if it never refused."""
        return self._pacer.learned_rate

    async def acquire(self, now: float) -> Permit | float:
        """Return a permit to leave now, or the seconds (more than 0) after which to ask again."""
        return self._pacer.acquire(now)

    async def before_send(self, permit: Permit, now: float) -> float:  # noqa: ARG002 - part of the interface
        """Return 0 when the permitted attempt may leave at this moment, else the seconds to wait."""
        return self._pacer.before_send(now)

    def adjust_send_time(self, permit: Permit, departed: float, now: float) -> None:  # noqa: ARG002
        """Record that an attempt reached the wire later than it departed."""
        self._pacer.adjust_send_time(departed, now)
