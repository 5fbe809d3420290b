"""Attempts at one request until it is settled or they are spent: the only module that knows tenacity.

Throttling costs nothing here: it is waited for at the gate, by all together. What an
attempt is and what its results mean is its owner's business.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import tenacity

from telemetron_batch.api.attempt_gate import Traffic
from telemetron_batch.api.classify import LONGEST_BACKOFF, Throttled, TryAgain, backoff
from telemetron_batch.storage import clock

T = TypeVar("T")


@dataclass(slots=True)
class Spent:
    """What a request has cost so far."""

    failures: int = 0
    """Attempts that count: neither throttled nor made while the API was down."""
    server_errors: int = 0


async def until_settled(attempt: Callable[[], Awaitable[T]], spent: Spent, attempts: int, traffic: Traffic) -> T:
    """Make attempts until a result is no passing fault; gives the last result when attempts are spent."""
    first = await attempt()
    if not _is_passing(first):
        return first  # as most are: what goes on below costs as much as to read an answer
    results = [first]

    async def next_one() -> T:
        return results.pop() if results else await attempt()

    # A fresh one for each request: shared by several tasks it would mix up their attempts.
    again = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_result(_is_passing),
        stop=lambda _: spent.failures >= attempts,
        wait=lambda state: _pause(state, spent, traffic),
        sleep=lambda seconds: clock.sleep_unless(traffic.halt.event, seconds),
        retry_error_callback=_last_result,
    )
    result: T = await again(next_one)
    return result


def _is_passing(result: object) -> bool:
    return isinstance(result, TryAgain | Throttled)


def _pause(state: tenacity.RetryCallState, spent: Spent, traffic: Traffic) -> float:
    if not isinstance(_last_result(state), TryAgain):
        return 0.0
    if traffic.is_down or traffic.spend_retry():
        return backoff(max(1, spent.failures), clock.jitter())
    return LONGEST_BACKOFF * (1 + clock.jitter()) / 2


def _last_result(state: tenacity.RetryCallState) -> object:
    return None if state.outcome is None else state.outcome.result()
