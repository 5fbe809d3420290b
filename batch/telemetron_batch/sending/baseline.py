"""What customers held before this run first wrote to them, so that lost answers can be told exactly.

An answer `alreadyAssigned` after a lost one is this run's own work if the customer did
not have the device before, and not if they had. Each customer is looked at once, before
their first call, and the journal keeps it; a customer who could not be looked at is
attributed as without a baseline: marked, not guessed. So is a device if the customer held one
whose identifier is spelled otherwise.
"""

from telemetron_batch.api.customer_query import CustomerQuery
from telemetron_batch.domain.model import Answer, Call
from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.journal.journal import Journal
from telemetron_batch.planning.calls import CallPlan
from telemetron_batch.sending.call_state import HeldBefore
from telemetron_batch.sending.holdings import held_by_one

_HELD_AFTER = {Outcome.ASSIGNED: True, Outcome.ALREADY_ASSIGNED: True, Outcome.UNASSIGNED: False}


class Baseline:
    """Knows, or finds out, who held what before a call."""

    def __init__(self, looker: CustomerQuery, journal: Journal, plan: CallPlan) -> None:
        self._looker = looker
        self._journal = journal
        self._plan = plan
        self._own_changes: dict[tuple[str, str], bool] = {}
        """Pairs that the run sends several times: what they came to last."""
        self._written = plan.customer_emails_of_calls(journal.calls_that_may_have_acted())
        """Customers whom earlier processes may have changed: what they hold now is not what they held before."""
        self._looked: dict[str, bool] = {}
        """Customers whom this process has asked for, and whether that told anything."""

    async def held_before(self, call: Call) -> HeldBefore | None:
        """Return for each device of a call whether its customer held it before; None if that is not known.

        What an earlier process saw of a customer counts only if it has written to them since: else
        others may have changed it.
        """
        customer = call.customer
        if customer not in self._written and customer not in self._looked:
            self._looked[customer] = await self._look(customer)
        held = self._journal.holdings(customer)
        if held is None or not self._looked.get(customer, True):
            return None
        states = zip(call.devices, held_by_one(call.devices, held), strict=True)
        devices = {device: self._own_changes.get((customer, device), state) for device, state in states}
        return HeldBefore(devices, self._journal.was_known(customer) is True)

    async def _look(self, customer: str) -> bool:
        """Ask what a customer holds, and put it down; return whether that could be learnt."""
        look = await self._looker.fetch(customer)
        if look is None or look.devices is None:
            return False
        await self._journal.held(customer, look.devices, is_known=look.is_known)
        return True

    def learn(self, call: Call, answer: Answer) -> None:
        """Hear what the run itself has changed."""
        for position, result in answer.results.items():
            device = call.devices[position]
            if result.outcome in _HELD_AFTER and self._plan.has_multiple_calls(device):
                self._own_changes[call.customer, device] = _HELD_AFTER[result.outcome]
