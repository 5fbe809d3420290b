"""The interface of a plan for sending: its calls in stages and lanes."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from telemetron_batch.domain.actions import ACTIONS, Action
from telemetron_batch.domain.model import Call


@dataclass(frozen=True, slots=True)
class Stage:
    """Calls that may run concurrently, in lanes: the calls of one lane run one after another.

    A lane holds the calls of one customer, because the first of them may create the customer.
    Customers share a lane if they share a device that may have to be created.
    """

    number: int
    action: Action
    lanes: Sequence[range]
    """Call numbers, the longest lane first."""
    calls: int
    devices: int


class CallPlan(Protocol):
    """The calls that a process makes: those of a whole plan, or of one shard of it."""

    @property
    def calls(self) -> int:
        """Number of calls."""

    @property
    def rows_for_percent_limits(self) -> int:
        """Number of valid rows, from which percent limits of rows are calculated."""

    @property
    def unassign_rows(self) -> int:
        """Number of unassign rows that are sent, from which percent limits of unassigns are calculated."""

    def includes(self, number: int) -> bool:
        """Return whether this is one of the calls to make. `call` may know others, which were made before."""

    def stages(self) -> Iterator[Stage]:
        """Yield the stages that have calls, in order."""

    def call(self, number: int) -> Call:
        """Make the call with this number."""

    def returning_calls(self) -> Collection[int]:
        """Return the calls with a pair on which a later call acts again. May be incomplete: it only sets priorities."""

    def size_of(self, number: int) -> int:
        """Return the number of devices of a call."""

    def customer_emails_of_calls(self, numbers: Iterable[int]) -> set[str]:
        """Return the emails of the customers of some calls."""

    def has_multiple_calls(self, device: str) -> bool:
        """Return whether several calls may contain this device. May give false positives, never false negatives."""


def action_of(stage: int) -> Action:
    """Return the action of all calls of a stage: odd stages unassign, even stages assign."""
    return Action.UNASSIGN if stage % 2 else Action.ASSIGN


assert len(ACTIONS) == 2, "stages alternate between two actions"  # noqa: S101 - a third action needs a new plan
