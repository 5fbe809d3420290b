"""Retry one request until its result is final or its attempts are spent; the only module that imports tenacity.

A throttled attempt does not count here: all workers wait for it together at the gate. Nor does one whose key was
refused and is replaced.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import tenacity

from telemetron_batch.api.attempt_gate import AttemptGate, AttemptSlot
from telemetron_batch.api.classify import ErrorResponse, KeyReplaced, NoUsableResponse, Throttled, Transient
from telemetron_batch.storage import clock

T = TypeVar("T")

MAX_BACKOFF_S: Final = 30.0
"""Longest wait before a retry, in seconds."""
_FIRST_BACKOFF_S: Final = 0.5
"""Longest wait before the first retry, in seconds. It doubles with each failure."""
_MAX_REFUSED_CONNECTIONS: Final = 50
"""Refused connections after which a request gives up. A firewall that limits connections lets some of 50 through."""


@dataclass(slots=True)
class AttemptCounter:
    """The attempts that a request has used so far."""

    failures: int = 0
    """Failed attempts that count: see `AttemptGate.counts_as_attempt`."""
    refused_connections: int = 0
    """Failed attempts that do not count because no byte of them left."""
    server_errors: int = 0

    def is_spent(self, attempts: int) -> bool:
        """Return whether no further attempt may be made, of this many that count."""
        return self.failures >= attempts or self.refused_connections >= _MAX_REFUSED_CONNECTIONS

    def add(self, slot: AttemptSlot, failure: NoUsableResponse | ErrorResponse | None, gate: AttemptGate) -> None:
        """Count a failed attempt."""
        counts = gate.counts_as_attempt(slot, failure)
        self.failures += counts
        self.refused_connections += not (counts or slot.while_down)


async def retry_until_final(
    attempt: Callable[[], Awaitable[T]], used: AttemptCounter, attempts: int, gate: AttemptGate
) -> T:
    """Make attempts until the result is final or the attempts are spent, and return the last result."""
    first = await attempt()
    if not _is_transient(first):
        return first  # the usual case: setting up tenacity costs as much as reading an answer
    results = [first]

    async def next_one() -> T:
        return results.pop() if results else await attempt()

    # tenacity keeps state, so every request needs its own instance.
    again = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_result(_is_transient),
        stop=lambda _: used.is_spent(attempts),
        wait=lambda state: _delay(state, used, gate),
        sleep=lambda seconds: clock.wait_for_event(gate.stop_signal.event, seconds),
        retry_error_callback=_last_result,
    )
    result: T = await again(next_one)
    return result


def _is_transient(result: object) -> bool:
    return isinstance(result, Transient | Throttled | KeyReplaced)


def _delay(state: tenacity.RetryCallState, used: AttemptCounter, gate: AttemptGate) -> float:
    if not isinstance(_last_result(state), Transient):
        return 0.0
    if gate.is_down or gate.take_retry_token():
        return backoff(max(1, used.failures + used.refused_connections), clock.jitter())
    return MAX_BACKOFF_S * (1 + clock.jitter()) / 2


def backoff(failures: int, jitter: float) -> float:
    """Return the seconds to wait before a retry after this many transient failures (from 1).

    Exponential with full jitter: uniform over [0, min(30, 0.5 * 2^(failures - 1))];
    `jitter` is a random number in [0, 1).
    """
    return jitter * min(MAX_BACKOFF_S, _FIRST_BACKOFF_S * 2.0 ** min(failures - 1, 16))


def _last_result(state: tenacity.RetryCallState) -> object:
    return None if state.outcome is None else state.outcome.result()
