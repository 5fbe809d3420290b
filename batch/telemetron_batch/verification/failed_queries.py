"""Customers that could not be queried: who is at fault, and how often it is reported."""

from typing import Final

from telemetron_batch.domain.answers import CustomerHoldings
from telemetron_batch.sending.session import Session

_MAX_REPORTED: Final = 5
"""Failed queries that are reported one by one."""


class FailedQueries:
    """Counts the failed queries of a session, and reports the first ones as events of a kind."""

    def __init__(self, session: Session, base_url: str, kind: str) -> None:
        self._session = session
        self._base_url = base_url
        self._kind = kind
        self.count = 0

    async def add(self, holdings: CustomerHoldings) -> bool:
        """Count a failed query and report it. Return False, without counting it, if the session stops instead.

        It stops if nothing has ever answered, or nothing like the API.
        """
        gate, query = self._session.gate, self._session.customer_query
        if gate.stop_if_never_reached(holdings.error):
            return False
        if not gate.is_recognised:
            await query.recognise(self._base_url)
            if gate.stop_signal:
                return False
        self.count += 1
        if self.count <= _MAX_REPORTED:
            gate.on_event(self._kind, f"{holdings.customer} could not be queried: {holdings.error}")
        return True
