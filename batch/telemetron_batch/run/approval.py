"""Whether a saved plan has the approval that it needs: of another user, for this plan of this run, and in time.

The person who approved is the owner of the approval's file. What the file says of its author does not count.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from telemetron_batch.domain.approval import short_fingerprint
from telemetron_batch.domain.errors import ApprovalError
from telemetron_batch.domain.stops import Advice
from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.planned_run import Approval, PlannedRun
from telemetron_batch.storage.approval_folder import approvals_folder, read_owned
from telemetron_batch.storage.clock import duration, iso
from telemetron_batch.storage.commands import approve_command
from telemetron_batch.storage.system_users import SystemUsers, User

SUFFIX: Final = ".json"
_CLOCK_TOLERANCE_S: Final = 300.0
"""Seconds by which the clock of the approver's host may be ahead."""


@dataclass(frozen=True, slots=True)
class ApprovalRecord:
    """The content of the file of an approval."""

    run_id: str
    fingerprint: str
    """The full form."""
    journal_id: str
    """Identity of the journal that holds the plan."""
    at: float
    """Seconds since the epoch."""

    def encoded(self, by: User) -> bytes:
        """Return the content of the file; the name of the approver is for people only."""
        fields = {
            "runId": self.run_id,
            "fingerprint": self.fingerprint,
            "journalId": self.journal_id,
            "approvedAt": iso(self.at),
            "approvedBy": by.name,
        }
        return json.dumps(fields, indent=2).encode() + b"\n"

    @classmethod
    def decoded(cls, content: bytes) -> "ApprovalRecord":
        """Return the content of a file. Raises ValueError if it is not that of an approval."""
        try:
            fields = json.loads(content)
            at = datetime.fromisoformat(fields["approvedAt"])
            if at.tzinfo is None:
                raise ValueError("its time has no zone")
            return cls(str(fields["runId"]), str(fields["fingerprint"]), str(fields["journalId"]), at.timestamp())
        except (LookupError, TypeError, AttributeError, OverflowError, RecursionError) as exc:
            raise ValueError("it is not an approval") from exc


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """A saved plan that needs an approval, and where that is expected."""

    folder: Path
    """The run's folder."""
    planned: PlannedRun
    journal_id: str
    approvals_dir: Path | None
    """None: the folder in the reports folder."""

    @classmethod
    def of(
        cls, folder: Path, fact: Callable[[str], Any], approvals_dir: Path | None = None
    ) -> "ApprovalRequest | None":
        """Return the request of a run, given the facts of its journal by name; None without a saved plan.

        Without `approvals_dir` the folder is the one that was named when the plan was saved.
        """
        planned = PlannedRun.of(fact)
        if planned is None:
            return None
        recorded = (fact(Fact.OPTIONS) or {}).get("approvals_dir")
        named = approvals_dir or (None if recorded is None else Path(recorded))
        return cls(folder, planned, fact(Fact.JOURNAL_ID), named)

    @property
    def run_id(self) -> str:
        """The id of the run."""
        return self.folder.name

    @property
    def place(self) -> Path:
        """The folder of approvals."""
        return approvals_folder(self.folder.parent, self.approvals_dir)

    @property
    def short_fingerprint(self) -> str:
        """The fingerprint as people type it."""
        return short_fingerprint(self.planned.fingerprint)

    @property
    def command(self) -> str:
        """The command that approves the plan."""
        return approve_command(self.folder, self.short_fingerprint, self.approvals_dir)

    def find(self, users: SystemUsers, now: float) -> Approval | None:
        """Return the approval of a plan; None without one. Raises ApprovalError if there is one that does not count."""
        file = read_owned(self.place, f"{self.run_id}{SUFFIX}", users)
        if file is None:
            return None
        self._require_second(file.owner)
        try:
            record = ApprovalRecord.decoded(file.content)
        except ValueError as exc:
            raise self._refused(f"its file cannot be read as an approval ({exc})") from exc
        self._require_same_plan(record)
        self._require_in_time(record, now)
        return Approval(file.owner, record.at)

    def require(self, users: SystemUsers, now: float) -> Approval:
        """Return the approval under which this user may send the plan. Raises ApprovalError without one that counts."""
        approval = self.find(users, now)
        if approval is None:
            what = f"run {self.run_id} needs approval: approve {self.run_id} {self.short_fingerprint}"
            raise ApprovalError(
                what, Advice(f"let another user than {self.planned.planned_by.name} run {self.command}", repeat=True)
            )
        if approval.by.uid == users.current().uid:
            raise self._refused(f"{approval.by.name} approved it and runs it")
        return approval

    def _require_second(self, approver: User) -> None:
        if approver.is_root:
            raise self._refused("root wrote it, and root does not count as a second person")
        if approver.uid == self.planned.planned_by.uid:
            raise self._refused(f"{approver.name} planned the run and approved it")

    def _require_same_plan(self, record: ApprovalRecord) -> None:
        if record.run_id != self.run_id:
            raise self._refused(f"it is for run {record.run_id}")
        if record.fingerprint != self.planned.fingerprint:
            raise self._refused(f"it is for the fingerprint {short_fingerprint(record.fingerprint)}")
        if record.journal_id != self.journal_id:
            raise self._refused("it is for another plan that had this run id")

    def _require_in_time(self, record: ApprovalRecord, now: float) -> None:
        age = now - record.at
        if age < -_CLOCK_TOLERANCE_S:
            raise self._refused(f"it is of {iso(record.at)}, which is in the future")
        if age > self.planned.expires_after_s:
            limit = duration(self.planned.expires_after_s)
            raise self._refused(f"it has expired: it is of {iso(record.at)} and counted for {limit}")

    def _refused(self, why: str) -> ApprovalError:
        """Return the error for an approval that does not count."""
        revoke = approve_command(self.folder, "--revoke", self.approvals_dir)
        what = (
            f"run {self.run_id} needs approval ({self.short_fingerprint}): the one that is there does not count, {why}"
        )
        return ApprovalError(what, f"remove it with {revoke}, then let a second person run {self.command}")
