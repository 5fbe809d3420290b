"""Query which devices a customer holds now: one queryCustomer request with its retries.

Queries pass the same gate as all attempts. They change nothing, so they are never unclear.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from telemetron_batch.api import protocol
from telemetron_batch.api.attempt_gate import API_CHECK_CALL, AttemptGate
from telemetron_batch.api.classify import (
    DeviceRejected,
    ErrorResponse,
    KeyReplaced,
    Transient,
    Verdict,
    customer_not_found,
)
from telemetron_batch.api.http_client import HttpResult, Post
from telemetron_batch.api.retry import MAX_BACKOFF_S, AttemptCounter, retry_until_final
from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.answers import CustomerHoldings
from telemetron_batch.domain.stops import Stop, StopReason
from telemetron_batch.storage import clock

PROBE_EMAIL: Final = "nobody@telemetron-batch.example.com"
"""A customer that nobody has: the API is expected not to find it."""
_RECOGNITION_TIMEOUT_S: Final = 60.0
"""Seconds after which a URL that never answers like the API counts as wrong."""


@dataclass(slots=True, kw_only=True)
class _QueryAttempts(AttemptCounter):
    """The attempts at one query."""

    number: int
    """Negative, so that the gate treats each query as a call of its own, different from those of the plan."""


class CustomerQuery:
    """Queries which devices customers hold."""

    def __init__(self, post: Post, gate: AttemptGate, *, attempts: int, wall: Callable[[], float]) -> None:
        self._post = post
        self._gate = gate
        self._attempts = attempts
        self._wall = wall
        self._queries = 0

    async def fetch(self, customer: str) -> CustomerHoldings | None:
        """Return what the customer holds, or the error that prevented it; None if the run stopped first."""
        self._queries += 1
        used = _QueryAttempts(number=-self._queries)
        attempt = partial(self._attempt, customer, used)
        result = await retry_until_final(attempt, used, self._attempts, self._gate)
        if isinstance(result, CustomerHoldings | None):
            return result
        if self._gate.stop_signal:
            return None
        return CustomerHoldings(customer, self._wall(), None, result.text)

    async def recognise(self, base_url: str) -> None:
        """Check that the API is at this URL, after an answer that does not have the form of the API's.

        No other attempt leaves meanwhile. Stops the run if nothing like the API answers for a minute.
        """
        if self._gate.is_recognised or self._gate.is_recognising:
            return
        with self._gate.recognition():
            until, pause = clock.now() + _RECOGNITION_TIMEOUT_S, 1.0
            used = _QueryAttempts(number=API_CHECK_CALL)
            while True:
                result = await self._attempt(PROBE_EMAIL, used)
                if isinstance(result, KeyReplaced):
                    continue
                if (
                    self._gate.is_recognised
                    or self._gate.stop_signal
                    or not isinstance(result, Transient | DeviceRejected)
                ):
                    return
                remaining = until - clock.now()
                if remaining <= 0:
                    break
                await clock.wait_for_event(self._gate.stop_signal.event, min(remaining, pause))
                pause = min(2 * pause, MAX_BACKOFF_S)
            if result.is_from_elsewhere:
                self._gate.stop_signal.set(Stop(StopReason.NOT_THE_API, f"{base_url} ({result.text})"))

    async def _attempt(self, customer: str, used: _QueryAttempts) -> CustomerHoldings | Verdict | None:
        slot = await self._gate.acquire(used.number)
        if slot is None:
            return None
        on_send = await self._gate.before_send(slot)
        at = self._wall()
        response = await self._post(protocol.QUERY_PATH, protocol.query_body(customer), on_send)
        result = _read(response, customer, at)
        self._gate.report(slot, None if isinstance(result, CustomerHoldings) else result, response)
        if isinstance(result, Transient):
            used.add(slot, response.failure, self._gate)
        return result


def _read(response: HttpResult, customer: str, at: float) -> CustomerHoldings | Verdict:
    failure = response.failure
    if isinstance(failure, ErrorResponse) and customer_not_found(failure):
        return CustomerHoldings(customer, at, frozenset(), is_known=False)
    return response.read(
        lambda body: CustomerHoldings(customer, at, protocol.read_holdings(body, customer)), Action.ASSIGN
    )
