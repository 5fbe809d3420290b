"""Approve the saved plan of another user, take an approval back, and list what waits for one."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from telemetron_batch.domain.approval import is_fingerprint_of, parse_fingerprint, short_fingerprint
from telemetron_batch.domain.errors import ApprovalError, ConfigError
from telemetron_batch.journal.resume_hint import translate_system_errors
from telemetron_batch.run.approval import SUFFIX as APPROVAL_SUFFIX
from telemetron_batch.run.approval import ApprovalRecord
from telemetron_batch.run.plan_note import SUFFIX as PLAN_SUFFIX
from telemetron_batch.run.plan_note import PlanNote
from telemetron_batch.storage.approval_folder import approvals_folder, names_with, read_owned, remove, write_new
from telemetron_batch.storage.clock import Clock, RealClock, iso
from telemetron_batch.storage.commands import approve_command
from telemetron_batch.storage.system_users import SystemUsers, User


@dataclass(frozen=True, slots=True)
class ApprovalInfo:
    """A run that waits for an approval, or has one."""

    run_id: str
    fingerprint: str
    """In its short form."""
    planned_by: str | None
    """None once the run has begun."""
    approved_by: str | None
    """None without an approval."""
    approved_at: str | None
    counts: dict[str, int] | None = None
    """The numbers of rows, calls, devices and customers; None once the run has begun."""

    def as_json(self) -> dict[str, Any]:
        """Return it under the names of the JSON document."""
        return {
            "runId": self.run_id,
            "fingerprint": self.fingerprint,
            "plannedBy": self.planned_by,
            "approvedBy": self.approved_by,
            "approvedAt": self.approved_at,
            **(self.counts or {}),
        }


@translate_system_errors()
def approve(
    folder: Path,
    fingerprint: str,
    approvals_dir: Path | None = None,
    users: SystemUsers | None = None,
    clock: Clock | None = None,
) -> ApprovalInfo:
    """Write the approval of the run in a folder, for the plan with this fingerprint. Raises BatchError.

    The folder itself is not read, because it may be private to the planner.
    """
    users, clock = users or SystemUsers(), clock or RealClock()
    run_id, user, place = folder.name, users.current(), approvals_folder(folder.parent, approvals_dir)
    try:
        given = parse_fingerprint(fingerprint)
    except ValueError as exc:
        raise ConfigError(str(exc), "give it as plan --save printed it") from exc
    if user.is_root:
        raise ApprovalError("root does not count as a second person", "approve as the user that you are")
    former = read_owned(place, f"{run_id}{APPROVAL_SUFFIX}", users)
    note = PlanNote.read(place, run_id, users)
    if former is not None:
        raise _approved_before(folder, former.owner, approvals_dir)
    if note is None:
        what = f"no plan of a run {run_id} waits for an approval in {place}"
        raise ApprovalError(what, "name the run as plan --save --approval second printed it")
    _require_approvable(note, given, user)
    record = ApprovalRecord(run_id, note.fingerprint, note.journal_id, clock.wall())
    try:
        write_new(place, f"{run_id}{APPROVAL_SUFFIX}", record.encoded(user))
    except FileExistsError:
        raise _approved_before(folder, None, approvals_dir) from None
    return _info(run_id, note, user, record)


def _require_approvable(note: PlanNote, given: str, user: User) -> None:
    """Raise ApprovalError unless this user may approve the plan, which has the given fingerprint."""
    if not is_fingerprint_of(given, note.fingerprint):
        shown = short_fingerprint(given.replace("-", ""))
        what = f"the plan of run {note.run_id} has another fingerprint than {shown}"
        raise ApprovalError(what, "look at the plan again, and ask its author for its fingerprint")
    if user.uid == note.planned_by.uid:
        raise ApprovalError(f"{user.name} planned run {note.run_id}", "let another user approve it")


def _approved_before(folder: Path, by: User | None, named: Path | None) -> ApprovalError:
    who, revoke = "" if by is None else f" by {by.name}", approve_command(folder, "--revoke", named)
    return ApprovalError(f"run {folder.name} has been approved already{who}", f"to approve it anew, first run {revoke}")


@translate_system_errors()
def revoke(folder: Path, approvals_dir: Path | None = None) -> None:
    """Remove the approval of a run; a run that has sent goes on all the same. Raises BatchError."""
    place = approvals_folder(folder.parent, approvals_dir)
    if not remove(place, f"{folder.name}{APPROVAL_SUFFIX}"):
        raise ApprovalError(f"run {folder.name} has no approval in {place}", "nothing was changed")


@translate_system_errors()
def list_approvals(
    reports_dir: Path,
    approvals_dir: Path | None = None,
    users: SystemUsers | None = None,
    warn: Callable[[str], None] = lambda _: None,
) -> list[ApprovalInfo]:
    """Return the runs that have an approval or wait for one, by run id. Raises BatchError.

    `warn` is called for files that cannot be read as those of an approval.
    """
    place, users = approvals_folder(reports_dir, approvals_dir), users or SystemUsers()
    if approvals_dir is None and not place.exists():
        return []
    lines = []
    for run_id in sorted({*names_with(place, APPROVAL_SUFFIX), *names_with(place, PLAN_SUFFIX)}):
        try:
            lines.append(_listed(place, run_id, users))
        except ApprovalError as exc:
            warn(exc.reason)
    return lines


def _listed(place: Path, run_id: str, users: SystemUsers) -> ApprovalInfo:
    note, file = PlanNote.read(place, run_id, users), read_owned(place, f"{run_id}{APPROVAL_SUFFIX}", users)
    if file is None:
        return _info(run_id, note, None, None)
    try:
        return _info(run_id, note, file.owner, ApprovalRecord.decoded(file.content))
    except ValueError as exc:
        raise ApprovalError(f"the approval of run {run_id} in {place} cannot be read ({exc})") from exc


def _info(run_id: str, note: PlanNote | None, approver: User | None, record: ApprovalRecord | None) -> ApprovalInfo:
    full = note.fingerprint if note is not None else record.fingerprint if record is not None else ""
    return ApprovalInfo(
        run_id,
        short_fingerprint(full),
        None if note is None else note.planned_by.name,
        None if approver is None else approver.name,
        None if record is None else iso(record.at),
        None if note is None else note.counts,
    )
