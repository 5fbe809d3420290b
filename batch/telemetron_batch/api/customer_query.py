"""What a customer holds now, as the API says: one harmless queryCustomer, with its retries.

Under the same gate as all attempts. Changes nothing, so nothing about it is ever unclear.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from telemetron_batch.api import protocol
from telemetron_batch.api.attempt_gate import RECOGNITION, AttemptGate
from telemetron_batch.api.classify import (
    LONGEST_BACKOFF,
    DeviceRejected,
    ErrorResponse,
    Transient,
    Verdict,
    customer_not_found,
)
from telemetron_batch.api.http_client import HttpResult, Post
from telemetron_batch.api.retry import AttemptBudget, retry_until_final
from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.model import CustomerHoldings
from telemetron_batch.domain.stops import Stop, StopReason
from telemetron_batch.storage import clock

PROBE_EMAIL: Final = "nobody@telemetron-batch.example.com"
"""No customer of anyone's: the API is expected not to find them."""
_RECOGNISED_WITHIN: Final = 60.0
"""Seconds after which an address at which nothing answers like the API is taken for a wrong one."""


@dataclass(slots=True, kw_only=True)
class _Round(AttemptBudget):
    """The attempts at one look."""

    number: int
    """Below zero, so that the gate takes each look for a call of its own and none for one of the plan's."""


class CustomerQuery:
    """Asks what customers hold."""

    def __init__(self, post: Post, traffic: AttemptGate, *, attempts: int, wall: Callable[[], float]) -> None:
        self._post = post
        self._traffic = traffic
        self._attempts = attempts
        self._wall = wall
        self._looks = 0

    async def fetch(self, customer: str) -> CustomerHoldings | None:
        """What the customer holds, or why that could not be learnt; None when the run ended first."""
        self._looks += 1
        spent = _Round(number=-self._looks)
        attempt = partial(self._attempt, customer, spent)
        result = await retry_until_final(attempt, spent, self._attempts, self._traffic)
        if isinstance(result, CustomerHoldings | None):
            return result
        if self._traffic.halt:
            return None
        return CustomerHoldings(customer, self._wall(), None, result.text)

    async def recognise(self, base_url: str) -> None:
        """Make sure that the API is at this URL, after an answer without anything of its shape.

        Nothing else leaves meanwhile. Ends the run where after a minute nothing like the API has answered.
        """
        if self._traffic.is_recognised or self._traffic.is_recognising:
            return
        with self._traffic.recognition():
            until, pause = clock.now() + _RECOGNISED_WITHIN, 1.0
            spent = _Round(number=RECOGNITION)
            while True:
                result = await self._attempt(PROBE_EMAIL, spent)
                if (
                    self._traffic.is_recognised
                    or self._traffic.halt
                    or not isinstance(result, Transient | DeviceRejected)
                ):
                    return
                left = until - clock.now()
                if left <= 0:
                    break
                await clock.wait_for_event(self._traffic.halt.event, min(left, pause))
                pause = min(2 * pause, LONGEST_BACKOFF)
            if result.is_from_elsewhere:
                self._traffic.halt.now(Stop(StopReason.NOT_THE_API, f"{base_url} ({result.text})"))

    async def _attempt(self, customer: str, spent: _Round) -> CustomerHoldings | Verdict | None:
        leave = await self._traffic.acquire(spent.number)
        if leave is None:
            return None
        left = await self._traffic.before_send(leave)
        at = self._wall()
        exchange = await self._post(protocol.QUERY_PATH, protocol.query_body(customer), left)
        result = _read(exchange, customer, at)
        self._traffic.report(leave, None if isinstance(result, CustomerHoldings) else result, exchange)
        if isinstance(result, Transient):
            spent.failures += not leave.while_down
        return result


def _read(exchange: HttpResult, customer: str, at: float) -> CustomerHoldings | Verdict:
    ending = exchange.failure
    if isinstance(ending, ErrorResponse) and customer_not_found(ending):
        return CustomerHoldings(customer, at, frozenset(), is_known=False)
    return exchange.read(
        lambda body: CustomerHoldings(customer, at, protocol.read_holdings(body, customer)), Action.ASSIGN
    )
