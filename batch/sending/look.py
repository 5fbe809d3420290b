"""What a customer holds now, as the API says: one harmless queryCustomer, with its retries.

Under the same gate as all attempts. Changes nothing, so nothing about it is ever unclear.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from batch.model import Action, Look
from batch.sending import wire
from batch.sending.exchange import Exchange, Post
from batch.sending.retry import Spent, until_settled
from batch.sending.traffic import Traffic
from batch.sending.verdict import Refusal, TryAgain, Verdict

_UNKNOWN_CUSTOMER: Final = re.compile(
    r"(?<![\w/])((no such|unknown) customer\b|customer (with (this |that )?(e-?mail )?)?(\S*@\S* )?"
    r"(was |is |does )?(not (found|exist|known)|unknown)\b)",
    re.IGNORECASE,
)
"""What a 404 says of somebody who holds nothing. A gateway that has lost its way says 404 too, and
may name the path or a service, in which the word stands as well: that tells nothing of anybody."""


@dataclass(slots=True, kw_only=True)
class _Round(Spent):
    """The attempts at one look."""

    number: int
    """Below zero, so that the gate takes each look for a call of its own and none for one of the plan's."""


class Looker:
    """Asks what customers hold."""

    def __init__(self, post: Post, traffic: Traffic, *, attempts: int, wall: Callable[[], float]) -> None:
        self._post = post
        self._traffic = traffic
        self._attempts = attempts
        self._wall = wall
        self._looks = 0

    async def look(self, customer: str) -> Look | None:
        """What the customer holds, or why that could not be learnt; None when the run ended first."""
        self._looks += 1
        spent = _Round(number=-self._looks)
        attempt = partial(self._attempt, customer, spent)
        result = await until_settled(attempt, spent, self._attempts, self._traffic)
        if isinstance(result, Look | None):
            return result
        if self._traffic.halt:
            return None
        return Look(customer, self._wall(), None, getattr(result, "text", ""))

    async def _attempt(self, customer: str, spent: _Round) -> Look | Verdict | None:
        leave = await self._traffic.leave(spent.number)
        if leave is None:
            return None
        left = await self._traffic.depart(leave)
        at = self._wall()
        exchange = await self._post(wire.QUERY_PATH, wire.query_body(customer), left)
        result = _read(exchange, customer)
        verdict = None if isinstance(result, frozenset) else result
        self._traffic.heard |= exchange.status is not None
        self._traffic.learn(leave, verdict, exchange.hint)
        if isinstance(result, frozenset):
            return Look(customer, at, result)
        if isinstance(result, TryAgain):
            spent.failures += not leave.while_down
        return result


def _read(exchange: Exchange, customer: str) -> frozenset[str] | Verdict:
    ending = exchange.ending
    if isinstance(ending, Refusal) and ending.status == 404 and _UNKNOWN_CUSTOMER.search(ending.words):
        return frozenset()
    return exchange.read(partial(wire.read_holdings, customer=customer), Action.ASSIGN)
