"""What sending needs of a plan: its calls in stages and lanes."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from telemetron_batch.domain.actions import ACTIONS, Action
from telemetron_batch.domain.model import Call


@dataclass(frozen=True, slots=True)
class Stage:
    """Calls that may run together, as lanes: the calls of a lane go one after another.

    A lane is one customer, because an unknown customer is created by the first of its
    calls. Customers that share a device which may have to be created share a lane.
    """

    number: int
    action: Action
    lanes: Sequence[range]
    """Call numbers, the longest lane first."""
    calls: int
    devices: int


class CallPlan(Protocol):
    """What sending needs of a plan, or of the part of one that a process has to make."""

    @property
    def calls(self) -> int:
        """Number of calls."""

    @property
    def rows_for_percent_limits(self) -> int:
        """Number of valid rows: the whole of which a share of rows is taken."""

    @property
    def unassign_rows(self) -> int:
        """Number of rows that are sent as unassigns: the whole of which a share of unassigns is taken."""

    def includes(self, number: int) -> bool:
        """Is it one of the calls to be made? Others that `call` knows may have been made before."""

    def stages(self) -> Iterator[Stage]:
        """The stages that have calls, in their order."""

    def call(self, number: int) -> Call:
        """Make one call."""

    def size_of(self, number: int) -> int:
        """Number of devices of one call."""

    def customer_emails_of_calls(self, numbers: Iterable[int]) -> set[str]:
        """Customers of some calls."""

    def has_multiple_calls(self, device: str) -> bool:
        """Could more than one call to a customer hold this device? Where so it is never denied."""


def action_of(stage: int) -> Action:
    """What all calls of a stage do: the odd ones take, the even ones give."""
    return Action.UNASSIGN if stage % 2 else Action.ASSIGN


assert len(ACTIONS) == 2, "stages alternate between two actions"  # noqa: S101 - a third action needs a new plan
