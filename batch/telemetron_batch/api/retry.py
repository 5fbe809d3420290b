"""Attempts at one request until it is settled or they are spent: the only module that knows tenacity.

Throttling costs nothing here: it is waited for at the gate, by all together. What an
attempt is and what its results mean is its owner's business.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import tenacity

from telemetron_batch.api.attempt_gate import AttemptGate
from telemetron_batch.api.classify import LONGEST_BACKOFF, Throttled, Transient, backoff
from telemetron_batch.storage import clock

T = TypeVar("T")


@dataclass(slots=True)
class AttemptBudget:
    """What a request has cost so far."""

    failures: int = 0
    """Attempts that count: neither throttled nor made while the API was down."""
    server_errors: int = 0


async def retry_until_final(
    attempt: Callable[[], Awaitable[T]], spent: AttemptBudget, attempts: int, traffic: AttemptGate
) -> T:
    """Make attempts until a result is no passing fault; gives the last result when attempts are spent."""
    first = await attempt()
    if not _is_transient(first):
        return first  # as most are: what goes on below costs as much as to read an answer
    results = [first]

    async def next_one() -> T:
        return results.pop() if results else await attempt()

    # A fresh one for each request: shared by several tasks it would mix up their attempts.
    again = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_result(_is_transient),
        stop=lambda _: spent.failures >= attempts,
        wait=lambda state: _delay(state, spent, traffic),
        sleep=lambda seconds: clock.wait_for_event(traffic.halt.event, seconds),
        retry_error_callback=_last_result,
    )
    result: T = await again(next_one)
    return result


def _is_transient(result: object) -> bool:
    return isinstance(result, Transient | Throttled)


def _delay(state: tenacity.RetryCallState, spent: AttemptBudget, traffic: AttemptGate) -> float:
    if not isinstance(_last_result(state), Transient):
        return 0.0
    if traffic.is_down or traffic.take_retry_token():
        return backoff(max(1, spent.failures), clock.jitter())
    return LONGEST_BACKOFF * (1 + clock.jitter()) / 2


def _last_result(state: tenacity.RetryCallState) -> object:
    return None if state.outcome is None else state.outcome.result()
