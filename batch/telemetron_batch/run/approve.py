"""Approve the saved plan of another user, take an approval back, and list what waits for one."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from telemetron_batch.domain.approval import ApprovalPolicy, is_fingerprint_of, parse_fingerprint, short_fingerprint
from telemetron_batch.domain.errors import ApprovalError, ConfigError, JournalError
from telemetron_batch.journal.resume_hint import translate_system_errors
from telemetron_batch.run.approval import ApprovalRecord
from telemetron_batch.run.plan_note import PlanNote
from telemetron_batch.storage.approval_folder import (
    approvals_folder,
    approved_run_ids,
    read_approval,
    remove_approval,
    write_approval,
)
from telemetron_batch.storage.clock import Clock, RealClock, iso
from telemetron_batch.storage.commands import approve_command
from telemetron_batch.storage.system_users import SystemUsers, User


@dataclass(frozen=True, slots=True)
class ApprovalInfo:
    """A run that waits for an approval, or has one."""

    run_id: str
    fingerprint: str
    """In its short form; "" if it cannot be read."""
    planned_by: str | None
    """None if the plan cannot be read."""
    approved_by: str | None
    """None without an approval."""
    approved_at: str | None
    counts: dict[str, int] | None = None
    """The numbers of rows, calls, devices and customers; None if the plan cannot be read."""

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

    If this user cannot read the plan, the approval is for the fingerprint as given, and the run compares it.
    """
    users, clock = users or SystemUsers(), clock or RealClock()
    user, place = users.current(), approvals_folder(folder.parent, approvals_dir)
    try:
        given = parse_fingerprint(fingerprint)
    except ValueError as exc:
        raise ConfigError(str(exc), "give it as plan --save printed it") from exc
    if user.is_root:
        raise ApprovalError("root does not count as a second person", "approve as the user that you are")
    note = PlanNote.read(folder)
    if note is None:
        _require_unreadable(folder)
    else:
        _require_approvable(folder, note, given, user)
    full, journal_id = (given, None) if note is None else (note.fingerprint, note.journal_id)
    record = ApprovalRecord(folder.name, full, journal_id, clock.wall())
    try:
        write_approval(place, folder.name, record.encoded(user))
    except FileExistsError:
        raise _approved_before(folder, place, approvals_dir, users) from None
    return _info(folder.name, note, user.name, record)


def _require_unreadable(folder: Path) -> None:
    """Raise JournalError if the folder can be seen to hold no saved plan."""
    try:
        found = {path.name for path in folder.iterdir()}
    except PermissionError:
        return
    except OSError:
        raise JournalError(
            f"there is no run in {folder}", "name its id, or its folder as plan --save printed it"
        ) from None
    if "plan.json" not in found:
        raise JournalError(
            f"the plan of run {folder.name} was not saved", "save it with plan FILE --save --approval second"
        )


def _require_approvable(folder: Path, note: PlanNote, given: str, user: User) -> None:
    """Raise ApprovalError unless this user may approve the plan, which has the given fingerprint."""
    if not is_fingerprint_of(given, note.fingerprint):
        shown = short_fingerprint(given.replace("-", ""))
        what = f"the plan of run {folder.name} has another fingerprint than {shown}"
        raise ApprovalError(what, "look at the plan again, and ask its author for its fingerprint")
    if note.policy is not ApprovalPolicy.SECOND:
        raise ApprovalError(
            f"run {folder.name} needs no approval", "plan it with --approval second if it shall need one"
        )
    if user.uid == note.planned_by.uid:
        raise ApprovalError(f"{user.name} planned run {folder.name}", "let another user approve it")


def _approved_before(folder: Path, place: Path, named: Path | None, users: SystemUsers) -> ApprovalError:
    file = read_approval(place, folder.name, users)
    by = "" if file is None else f" by {file.owner.name}"
    revoke = approve_command(folder, "--revoke", named)
    return ApprovalError(f"run {folder.name} has been approved already{by}", f"to approve it anew, first run {revoke}")


@translate_system_errors()
def revoke(folder: Path, approvals_dir: Path | None = None) -> None:
    """Remove the approval of a run; a run that has sent goes on all the same. Raises BatchError."""
    place = approvals_folder(folder.parent, approvals_dir)
    if not remove_approval(place, folder.name):
        raise ApprovalError(f"run {folder.name} has no approval in {place}", "nothing was changed")


@translate_system_errors()
def list_approvals(
    reports_dir: Path,
    approvals_dir: Path | None = None,
    users: SystemUsers | None = None,
    warn: Callable[[str], None] = lambda _: None,
) -> list[ApprovalInfo]:
    """Return the runs with an approval, and those whose plan this user can read and that need one, by run id.

    `warn` is called for approvals that do not count for any run. Raises BatchError.
    """
    place, users = approvals_folder(reports_dir, approvals_dir), users or SystemUsers()
    approved = set(approved_run_ids(place))
    notes = _notes(reports_dir)
    waiting = {run for run, note in notes.items() if note.policy is ApprovalPolicy.SECOND}
    lines = []
    for run_id in sorted(approved | waiting):
        try:
            lines.append(_listed(place, run_id, notes.get(run_id), users))
        except ApprovalError as exc:
            warn(exc.reason)
    return lines


def _notes(reports_dir: Path) -> dict[str, PlanNote]:
    """Return the notes of the saved plans that this user can read, by run id."""
    try:
        found = ((path.name, PlanNote.read(path)) for path in sorted(reports_dir.iterdir()))
        return {name: note for name, note in found if note is not None}
    except OSError:
        return {}


def _listed(place: Path, run_id: str, note: PlanNote | None, users: SystemUsers) -> ApprovalInfo:
    file = read_approval(place, run_id, users)
    if file is None:
        return _info(run_id, note, None, None)
    try:
        return _info(run_id, note, file.owner.name, ApprovalRecord.decoded(file.content))
    except ValueError as exc:
        raise ApprovalError(f"the approval of run {run_id} in {place} cannot be read ({exc})") from exc


def _info(run_id: str, note: PlanNote | None, approver: str | None, record: ApprovalRecord | None) -> ApprovalInfo:
    full = note.fingerprint if note is not None else record.fingerprint if record is not None else ""
    return ApprovalInfo(
        run_id,
        short_fingerprint(full.replace("-", "")),
        None if note is None else note.planned_by.name,
        approver,
        None if record is None else iso(record.at),
        None if note is None else note.counts,
    )
