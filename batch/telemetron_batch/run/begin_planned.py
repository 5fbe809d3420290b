"""What must hold before the first attempt of a run whose plan was saved: same plan, approval, no repeated content."""

from contextlib import suppress
from dataclasses import replace
from functools import partial

import httpx2

from telemetron_batch.domain.approval import ApprovalPolicy
from telemetron_batch.domain.errors import BatchError, BrakeError
from telemetron_batch.domain.preview import Preview
from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.journal import Journal
from telemetron_batch.journal.planned_run import Approval, PlannedRun
from telemetron_batch.planning.plan import Plan
from telemetron_batch.run.approval import ApprovalRequest
from telemetron_batch.run.delta_history import job_identity
from telemetron_batch.run.history import recorded_runs
from telemetron_batch.run.plan_note import SUFFIX
from telemetron_batch.run.prepare import non_defaults, refuse_repeated_content
from telemetron_batch.run.preview import look_before_sending
from telemetron_batch.run.replan import summarize_from_journal
from telemetron_batch.run.save_plan import record_saved_plan, require_same_plan
from telemetron_batch.sending.session import SendContext
from telemetron_batch.storage.approval_folder import remove
from telemetron_batch.storage.log import LOGGER
from telemetron_batch.storage.system_users import SystemUsers


def begin_planned_run(
    plan: Plan, send_context: SendContext, users: SystemUsers, transport: httpx2.AsyncBaseTransport | None
) -> None:
    """Raise BatchError if a run whose plan was saved must not be sent; else record that it begins.

    With `--online` look at the customers first. Does nothing for a run that was neither saved nor needs an approval.
    A run that has sent needs no second approval.
    """
    config, journal = send_context.config, send_context.journal
    planned, has_sent = PlannedRun.of(journal.fact), journal.has_attempts()
    if planned is None and (has_sent or config.approval is ApprovalPolicy.NONE):
        return
    if planned is None or not has_sent:
        planned = record_saved_plan(config, plan, journal, send_context.clock, users)
    require_same_plan(planned, plan, journal)
    if not has_sent:
        request = ApprovalRequest.of(journal.path.parent, journal.fact, config.approvals_dir)
        approval = request.require(users, send_context.clock.wall()) if request and planned.needs_approval else None
        _require_new_content(send_context)
        preview = look_before_sending(send_context, plan, transport) if config.online else None
        _confirm(plan, send_context, preview or _earlier_preview(journal))
        _record_begin(send_context, approval)
        if request is not None and approval is not None:
            _remove_note(request)


def _require_new_content(send_context: SendContext) -> None:
    """Raise BrakeError if another run has processed the content since the plan was saved."""
    config, observer = send_context.config, send_context.observer
    if config.sandbox:
        return
    others = recorded_runs(config.reports_dir, config.folder, partial(observer.on_message, "warning"))
    refuse_repeated_content(config, send_context.journal.input_files, others, observer)


def _earlier_preview(journal: Journal) -> Preview | None:
    """Return what a complete look before this process showed."""
    fields = journal.fact(Fact.PREVIEW)
    return None if fields is None or fields["endedAt"] is None else Preview.of_json(fields)


def _confirm(plan: Plan, send_context: SendContext, preview: Preview | None) -> None:
    """Show the plan and, on a terminal, ask. Raises BrakeError if the answer is no."""
    config, journal = send_context.config, send_context.journal
    summary = summarize_from_journal(plan, journal, config.sending.rate, non_defaults(config))
    if not send_context.observer.confirm_plan(replace(summary, preview=preview)):
        raise BrakeError("not confirmed", "nothing was sent")


def _record_begin(send_context: SendContext, approval: Approval | None) -> None:
    """Record that the run begins now, for the account of this process, and under which approval."""
    config, journal, now = send_context.config, send_context.journal, send_context.clock.wall()
    account = job_identity(config, journal.input_files, now).account_hash
    facts: dict[str, object] = {Fact.STARTED_AT: now, Fact.ACCOUNT_HASH: account}
    if approval is not None:
        facts[Fact.APPROVAL] = approval.as_fact()
        LOGGER.info("the plan was approved by %s", approval.by.name)
    journal.set_facts(**facts)


def _remove_note(request: ApprovalRequest) -> None:
    """Remove the plan from the list of plans that wait, unless the file belongs to another user."""
    with suppress(BatchError):
        remove(request.place, f"{request.run_id}{SUFFIX}")
