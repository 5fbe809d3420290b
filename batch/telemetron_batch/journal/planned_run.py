"""What a journal records of a saved plan: its fingerprint, who planned it, who must approve it, and who did."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from telemetron_batch.domain.approval import ApprovalPolicy, short_fingerprint
from telemetron_batch.domain.errors import JournalError
from telemetron_batch.journal.facts import Fact
from telemetron_batch.storage.clock import iso
from telemetron_batch.storage.system_users import User


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A run whose plan was saved before it is sent."""

    fingerprint: str
    """SHA-256 of the input's hash, the options and the calls."""
    planned_by: User
    planned_at: float
    """Seconds since the epoch."""
    policy: ApprovalPolicy
    expires_after_s: float
    """Seconds from the approval to the first attempt."""

    @property
    def needs_approval(self) -> bool:
        """Whether a second person must approve the plan."""
        return self.policy is ApprovalPolicy.SECOND

    def as_fact(self) -> dict[str, Any]:
        """Return it as the journal stores it."""
        return {
            "fingerprint": self.fingerprint,
            "by": self.planned_by.as_fact(),
            "at": self.planned_at,
            "approval": str(self.policy),
            "expiresAfter": self.expires_after_s,
        }

    @classmethod
    def of(cls, fact: Callable[[str], Any]) -> "PlannedRun | None":
        """Return the saved plan of a run, given its facts by name; None if it was not saved."""
        fields = fact(Fact.SAVED_PLAN)
        if fields is None:
            return None
        try:
            by, policy = User.of_fact(fields["by"]), ApprovalPolicy(fields["approval"])
            return cls(str(fields["fingerprint"]), by, float(fields["at"]), policy, float(fields["expiresAfter"]))
        except (LookupError, TypeError, ValueError) as exc:
            raise _damaged() from exc


@dataclass(frozen=True, slots=True)
class Approval:
    """The approval of a plan by a second person."""

    by: User
    at: float
    """Seconds since the epoch."""

    def as_fact(self) -> dict[str, Any]:
        """Return it as the journal stores it."""
        return {"by": self.by.as_fact(), "at": self.at}

    @classmethod
    def of(cls, fact: Callable[[str], Any]) -> "Approval | None":
        """Return the approval under which a run was sent, given its facts by name; None without one."""
        fields = fact(Fact.APPROVAL)
        try:
            return None if fields is None else cls(User.of_fact(fields["by"]), float(fields["at"]))
        except (LookupError, TypeError, ValueError) as exc:
            raise _damaged() from exc


def saved_plan_json(fact: Callable[[str], Any], approval: Approval | None = None) -> dict[str, Any]:
    """Return the fields of the JSON documents about a saved plan: null if the plan was not saved.

    `approval` is one that the journal does not have yet. Raises JournalError.
    """
    planned, approval = PlannedRun.of(fact), approval or Approval.of(fact)
    if planned is None:
        return {"fingerprint": None, "approval": None}
    return {
        "fingerprint": short_fingerprint(planned.fingerprint),
        "approval": {
            "plannedBy": planned.planned_by.name,
            "approvedBy": None if approval is None else approval.by.name,
            "approvedAt": None if approval is None else iso(approval.at),
        },
    }


def _damaged() -> JournalError:
    return JournalError("what the journal says of the saved plan is damaged", "plan the file under another --run-id")
