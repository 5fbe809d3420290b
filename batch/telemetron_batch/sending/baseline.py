"""Record what customers held before this run first wrote to them, so that lost answers can be interpreted.

`alreadyAssigned` after a lost answer is this run's own work only if the customer did not have
the device before. Each customer is queried once, before the first call, and the result is stored
in the journal. If the query fails, or if the customer held a device whose identifier is spelled
differently, the result is marked as unclear instead of guessed.
"""

from collections.abc import Callable, Sequence

from telemetron_batch.api.customer_query import CustomerQuery
from telemetron_batch.domain.answers import Answer, CustomerHoldings
from telemetron_batch.domain.model import Call
from telemetron_batch.domain.outcomes import OWNED_AFTER
from telemetron_batch.journal.journal import Journal
from telemetron_batch.planning.calls import CallPlan
from telemetron_batch.sending.call_state import HoldingsBefore
from telemetron_batch.sending.holdings import are_in_holdings

RecentLooks = Callable[[str], CustomerHoldings | None]
"""Returns what this process has seen of a customer shortly before sending; None if it has not looked."""


class Baseline:
    """Provides which devices a customer held before a call, and queries it if necessary."""

    def __init__(
        self,
        customer_query: CustomerQuery,
        journal: Journal,
        plan: CallPlan,
        recent_looks: RecentLooks = lambda _: None,
    ) -> None:
        self._customer_query = customer_query
        self._journal = journal
        self._plan = plan
        self._recent_looks = recent_looks
        self._own_changes: dict[tuple[str, str], bool] = {}
        """For pairs that the run sends several times: whether the customer holds the device after the last call."""
        self._already_written = plan.customer_emails_of_calls(journal.calls_that_may_have_acted())
        """Customers that earlier processes may have changed. A query now would not show what they held before."""
        self._queried: dict[str, bool] = {}
        """Customers that this process queried, and whether the query succeeded."""

    async def holdings_before(self, call: Call) -> HoldingsBefore | None:
        """Return for each device of a call whether its customer held it before; None if that is not known.

        A query by an earlier process counts only if that process has written to the customer since.
        Otherwise others may have changed the holdings meanwhile.
        """
        customer = call.customer
        if customer not in self._already_written and customer not in self._queried:
            self._queried[customer] = await self._query(customer)
        holdings = self._journal.holdings(customer)
        if holdings is None or not self._queried.get(customer, True):
            return None
        queried = dict(zip(call.devices, are_in_holdings(call.devices, holdings), strict=True))
        devices = {device: self._own_changes.get((customer, device), state) for device, state in queried.items()}
        return HoldingsBefore(devices, self._journal.was_known(customer) is True, queried)

    async def holdings_now(self, customer: str, devices: Sequence[str]) -> dict[str, bool]:
        """Query which of these devices a customer holds now. Leave out those for which that is not known."""
        holdings = await self._customer_query.fetch(customer)
        if holdings is None or holdings.devices is None:
            return {}
        states = zip(devices, are_in_holdings(devices, holdings.devices), strict=True)
        return {device: state for device, state in states if state is not None}

    async def _query(self, customer: str) -> bool:
        """Query what a customer holds and record it; return whether the query succeeded."""
        holdings = self._recent_looks(customer) or await self._customer_query.fetch(customer)
        if holdings is None or holdings.devices is None:
            return False
        await self._journal.record_holdings(customer, holdings.devices, is_known=holdings.is_known)
        return True

    def record_own_changes(self, call: Call, answer: Answer) -> None:
        """Record what the run itself has changed."""
        for position, result in answer.results.items():
            device = call.devices[position]
            if result.outcome in OWNED_AFTER and self._plan.has_multiple_calls(device):
                self._own_changes[call.customer, device] = OWNED_AFTER[result.outcome]
