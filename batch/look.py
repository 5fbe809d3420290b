"""What a customer holds now, as the API says: one harmless queryCustomer, with its retries.

Under the same gate as all attempts. Changes nothing, so nothing about it is ever unclear.
"""

from batch import wire
from batch.exchange import Exchange, Post
from batch.model import Action
from batch.retry import Spent, until_settled
from batch.traffic import Traffic
from batch.verdict import Refusal, TryAgain, Verdict

_NO_CALL = 0


class Looker:
    """Asks what customers hold."""

    def __init__(self, post: Post, traffic: Traffic, attempts: int) -> None:
        self._post = post
        self._traffic = traffic
        self._attempts = attempts

    async def holdings(self, customer: str) -> frozenset[str] | None:
        """The identifiers of the customer's devices; None when that cannot be learnt."""
        spent = Spent()
        look = until_settled(spent, self._attempts, self._traffic)
        result: frozenset[str] | Verdict | None = await look(self._look, customer, spent)
        return result if isinstance(result, frozenset) else None

    async def _look(self, customer: str, spent: Spent) -> frozenset[str] | Verdict | None:
        leave = await self._traffic.leave(_NO_CALL)
        if leave is None:
            return None
        left = await self._traffic.depart()
        exchange = await self._post(wire.QUERY_PATH, wire.query_body(customer), left)
        result = _read(exchange)
        verdict = None if isinstance(result, frozenset) else result
        self._traffic.heard |= exchange.status is not None
        self._traffic.learn(leave, verdict, exchange.hint)
        if isinstance(result, TryAgain):
            spent.failures += not leave.while_down
        return result


def _read(exchange: Exchange) -> frozenset[str] | Verdict:
    if isinstance(exchange.ending, Refusal) and exchange.ending.status == 404:
        return frozenset()
    return exchange.read(wire.read_holdings, Action.ASSIGN)
