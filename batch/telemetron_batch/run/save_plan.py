"""Save a plan: make the folder and the journal of a run, to be looked at, approved and sent later.

`save_plan` is the one place where a planned run is made; `begin_planned` is what happens before it is sent.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from telemetron_batch.config.config import RunConfig
from telemetron_batch.domain.approval import ApprovalPolicy, short_fingerprint
from telemetron_batch.domain.errors import ApprovalError, JournalError
from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.journal import Journal
from telemetron_batch.journal.layout import JOURNAL_NAME
from telemetron_batch.journal.planned_run import PlannedRun
from telemetron_batch.journal.resume_hint import translate_system_errors
from telemetron_batch.planning.plan import Plan
from telemetron_batch.planning.plan_summary import PlanSummary
from telemetron_batch.run.approval import ApprovalRequest
from telemetron_batch.run.await_input import await_input
from telemetron_batch.run.fingerprint import plan_fingerprint
from telemetron_batch.run.listing import RunInfo, run_info
from telemetron_batch.run.locking import LockWaiter, acquire_lease, lock_of_run, open_journal, run_folder, run_scratch
from telemetron_batch.run.metadata import ensure_same_run
from telemetron_batch.run.plan_note import PlanNote
from telemetron_batch.run.prepare import DraftedRun, content_run_id, create_run, new_run_id
from telemetron_batch.run.query_snapshot import with_query_result
from telemetron_batch.run.replan import replan_from_journal, summarize_from_journal
from telemetron_batch.sending.observer import RunObserver
from telemetron_batch.storage.approval_folder import approvals_folder, make_approvals_folder
from telemetron_batch.storage.clock import Clock, RealClock
from telemetron_batch.storage.system_users import SystemUsers
from telemetron_batch.storage.trusted_folders import shared_with_group


@dataclass(frozen=True, slots=True)
class SavedPlan:
    """A plan that was saved as a run."""

    folder: Path
    summary: PlanSummary
    fingerprint: str
    """The full form."""
    info: RunInfo
    """State and next step of the run."""

    @property
    def short_fingerprint(self) -> str:
        """The form of the fingerprint that people read and type."""
        return short_fingerprint(self.fingerprint)

    def as_json(self) -> dict[str, Any]:
        """Return the fields of the JSON document: those of any plan, and those about the run."""
        return {
            **self.summary.as_json(),
            "runId": self.folder.name,
            "folder": str(self.folder),
            "fingerprint": self.short_fingerprint,
            "fingerprintFull": self.fingerprint,
            "state": self.info.state,
            "approval": self.info.approval,
            "nextStep": self.info.next_step,
        }


class _UnaskedObserver(RunObserver):
    """Passes messages on, and asks nothing: saving a plan sends nothing."""

    def __init__(self, observer: RunObserver) -> None:
        self.interrupt = observer.interrupt
        self.check_plan = observer.check_plan  # type: ignore[method-assign]
        self.on_message = observer.on_message  # type: ignore[method-assign]


@translate_system_errors()
def save_plan(
    config: RunConfig,
    observer: RunObserver | None = None,
    clock: Clock | None = None,
    users: SystemUsers | None = None,
) -> SavedPlan:
    """Make or reopen the run of a plan, without any network and without a question. Raises BatchError.

    Without a run id the content gives it. Repeating it with the same input changes nothing, except that a plan that
    needed no approval can come to need one.
    """
    clock, users = clock or RealClock(), users or SystemUsers()
    observer = _UnaskedObserver(observer or RunObserver())
    config = await_input(config, clock, observer)
    config = replace(config, run_id=config.run_id or _make_run_id(config, clock))
    folder, waiter = config.folder, LockWaiter.of(config, clock, observer)
    with shared_with_group(config.shared_reports_dir):
        with (
            run_folder(folder),
            acquire_lease(lock_of_run(folder), waiter) as lease,
            run_scratch(folder, lease) as scratch,
        ):
            plan = None
            if not (folder / JOURNAL_NAME).exists():
                _make_approvals_folder(config)
                make_facts = partial(_facts_of_saved_plan, config, clock, users)
                with with_query_result(config, folder, clock) as with_files:
                    plan = create_run(with_files, scratch, observer, clock, make_facts)
                config = replace(config, files=())
            with open_journal(folder, lease) as journal:
                _require_one_process(journal)
                ensure_same_run(config, journal, folder)
                plan = plan or replan_from_journal(journal, scratch)
                planned = record_saved_plan(config, plan, journal, clock, users)
                require_same_plan(planned, plan, journal)
                summary = summarize_from_journal(plan, journal, config.sending.rate)
        return SavedPlan(folder, summary, planned.fingerprint, run_info(folder, users, clock.wall()))


def _make_run_id(config: RunConfig, clock: Clock) -> str:
    """Return an id by the content of the input; by the time for a query that needs no approval."""
    if config.query is not None and config.approval is not ApprovalPolicy.SECOND:
        return new_run_id(config, clock)
    return content_run_id(config)


def _facts_of_saved_plan(
    config: RunConfig, clock: Clock, users: SystemUsers, drafted: DraftedRun
) -> Mapping[str, object]:
    """Return the fact that makes a new run a saved plan; it is in the journal from the first moment."""
    fingerprint = plan_fingerprint(drafted.plan, drafted.facts.get, drafted.draft.key_columns())
    return {Fact.SAVED_PLAN: _planned_now(config, fingerprint, clock, users).as_fact()}


def _planned_now(config: RunConfig, fingerprint: str, clock: Clock, users: SystemUsers) -> PlannedRun:
    return PlannedRun(fingerprint, users.current(), clock.wall(), config.approval, config.approval_expires)


def _make_approvals_folder(config: RunConfig) -> None:
    if config.approval is ApprovalPolicy.SECOND:
        make_approvals_folder(approvals_folder(config.reports_dir, config.approvals_dir))


def _require_one_process(journal: Journal) -> None:
    """Raise JournalError for a run in shards, and if records were lost."""
    if journal.is_in_shards:
        name = journal.path.parent.name
        raise JournalError(f"run {name} is planned in shards", "run its shards, or name another --run-id")
    journal.require_complete()


def record_saved_plan(config: RunConfig, plan: Plan, journal: Journal, clock: Clock, users: SystemUsers) -> PlannedRun:
    """Record in the journal that the plan is saved, and whether it needs an approval. Return what is recorded.

    A requirement that is recorded is never lowered. Raises ApprovalError if a run that has sent comes to need one.
    """
    recorded = PlannedRun.of(journal.fact)
    planned = recorded
    if planned is None:
        fingerprint = plan_fingerprint(plan, journal.fact, journal.key_columns())
        planned = _planned_now(config, fingerprint, clock, users)
    elif config.approval is ApprovalPolicy.SECOND:
        planned = replace(planned, policy=config.approval)
    if "approval_expires" in config.given_options:
        planned = replace(planned, expires_after_s=min(planned.expires_after_s, config.approval_expires))
    if planned != recorded:
        _require_approvable(config, planned, recorded, journal)
        journal.set_facts(**{Fact.SAVED_PLAN: planned.as_fact()})
    if planned.needs_approval and not journal.has_attempts():
        _write_note(config, plan, journal, planned, users)
    return planned


def _write_note(config: RunConfig, plan: Plan, journal: Journal, planned: PlannedRun, users: SystemUsers) -> None:
    """Tell the second person what there is to approve."""
    request = ApprovalRequest.of(journal.path.parent, journal.fact, config.approvals_dir)
    if request is not None:
        counts = {"rows": len(plan.rows), "calls": plan.calls, "devices": plan.sent_count, "customers": plan.customers}
        note = PlanNote(request.run_id, request.journal_id, planned.fingerprint, planned.planned_by, counts)
        note.write(request.place, users)


def _require_approvable(config: RunConfig, planned: PlannedRun, recorded: PlannedRun | None, journal: Journal) -> None:
    """Make the folder of approvals for a run that comes to need one. Raises ApprovalError if it has sent already."""
    if planned.needs_approval and not (recorded and recorded.needs_approval):
        if journal.has_attempts():
            what = f"run {journal.path.parent.name} has sent calls already, and cannot be approved any more"
            raise ApprovalError(what, "go on with it without --approval, or name another --run-id")
        _make_approvals_folder(config)


def require_same_plan(planned: PlannedRun, plan: Plan, journal: Journal) -> None:
    """Raise JournalError unless the journal still holds the plan that was saved."""
    if plan_fingerprint(plan, journal.fact, journal.key_columns()) != planned.fingerprint:
        name = journal.path.parent.name
        what = f"run {name} is not the plan {short_fingerprint(planned.fingerprint)} any more: its journal was changed"
        raise JournalError(what, "nothing is sent; plan the file again under another --run-id")
