"""The pace of all attempts, as the gate asks for it: of this process alone, or shared with others.

Asking may take I/O, for a shared one is kept elsewhere; what became of an attempt is
only told, and is on its way when the call returns.
"""

from collections.abc import Iterable
from typing import Protocol

from telemetron_batch.rate_limit.pacer import Pacer, Permit


class RateLimiter(Protocol):
    """Says when attempts may leave. Times are seconds of the running loop's clock.

    Every permit is reported back once, by `succeeded`, `throttled` or `abandoned`. What
    the methods promise is told at `Pacer`.
    """

    @property
    def departures(self) -> int:
        """Attempts of this process that were let go."""

    @property
    def learned_rate(self) -> float | None:
        """Attempts a second that the server was found to grant; None when it never refused."""

    async def acquire(self, now: float) -> Permit | float:
        """A permit to leave now, or the seconds (more than 0) after which to ask again."""

    async def before_send(self, permit: Permit, now: float) -> float:
        """0 when the permitted attempt may leave this very moment, else the seconds to wait."""

    def adjust_send_time(self, permit: Permit, departed: float, now: float) -> None:
        """An attempt that departed at one time reached the wire at a later one."""

    def succeeded(self, permit: Permit, now: float) -> None:
        """The server let the attempt through."""

    def throttled(self, permit: Permit, now: float, wait: float | None, jitter: float) -> None:
        """The server refused the attempt for its rate."""

    def abandoned(self, permit: Permit, now: float) -> None:
        """No answer came at all, or the attempt never left."""

    def apply_quotas(self, quotas: Iterable[tuple[int, float]], now: float) -> None:
        """Slow down for the quotas that an answer told: attempts left, seconds until renewed."""

    def held_until(self, now: float) -> float | None:
        """When the hold of all workers ends, or None while they may leave."""

    def rate(self, now: float) -> float:
        """Attempts a second that may leave at present, holds apart."""


class LocalRateLimiter:
    """The pace of a pacer in this process: free of I/O."""

    def __init__(self, pacer: Pacer) -> None:
        self._pacer = pacer
        self.succeeded = pacer.succeeded
        self.throttled = pacer.throttled
        self.abandoned = pacer.abandoned
        self.apply_quotas = pacer.heed
        self.held_until = pacer.held_until
        self.rate = pacer.rate

    @property
    def departures(self) -> int:
        """Attempts that were let go."""
        return self._pacer.departures

    @property
    def learned_rate(self) -> float | None:
        """Attempts a second that the server was found to grant; None when it never refused."""
        return self._pacer.found

    async def acquire(self, now: float) -> Permit | float:
        """A permit to leave now, or the seconds (more than 0) after which to ask again."""
        return self._pacer.take(now)

    async def before_send(self, permit: Permit, now: float) -> float:  # noqa: ARG002 - one shape for all
        """0 when the permitted attempt may leave this very moment, else the seconds to wait."""
        return self._pacer.depart(now)

    def adjust_send_time(self, permit: Permit, departed: float, now: float) -> None:  # noqa: ARG002
        """An attempt that departed at one time reached the wire at a later one."""
        self._pacer.left_late(departed, now)
