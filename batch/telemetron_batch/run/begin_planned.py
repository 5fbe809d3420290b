"""What must hold before the first attempt of a run whose plan was saved: same plan, approval, no repeated content."""

from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Final

import httpx2

from telemetron_batch.config.config import Brakes
from telemetron_batch.domain.approval import ApprovalPolicy
from telemetron_batch.domain.errors import BatchError, JournalError, NotConfirmedError
from telemetron_batch.domain.preview import Preview
from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.planned_run import Approval, PlannedRun
from telemetron_batch.planning.brakes import check_age, check_plan, check_rows
from telemetron_batch.planning.plan import Plan
from telemetron_batch.run.approval import ApprovalRequest
from telemetron_batch.run.delta_history import find_delta, job_identity
from telemetron_batch.run.history import recorded_runs
from telemetron_batch.run.plan_note import SUFFIX
from telemetron_batch.run.prepare import non_defaults, refuse_repeated_content, refuses_repeats
from telemetron_batch.run.preview import check_look, look_before_sending
from telemetron_batch.run.replan import summarize_from_journal
from telemetron_batch.run.save_plan import record_saved_plan, require_same_plan
from telemetron_batch.run.until import first_started_at
from telemetron_batch.sending.session import SendContext
from telemetron_batch.storage.approval_folder import remove
from telemetron_batch.storage.log import LOGGER
from telemetron_batch.storage.system_users import SystemUsers

_BRAKES_BEFORE_SENDING: Final = ("min_rows", "expect_rows", "max_age", "max_unassign")


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
    if has_sent:
        return
    request = ApprovalRequest.of(journal.path.parent, journal.fact, config.approvals_dir)
    if not planned.needs_approval:
        request = None
    _require_approval(request, users, send_context)
    _require_same_organisation(send_context)
    _check_brakes_given_now(plan, send_context)
    _require_new_content(send_context)
    _require_same_basis(plan, send_context)
    journal.set_facts(firstStartedAt=first_started_at(journal, send_context.clock.wall()))
    preview = look_before_sending(send_context, plan, transport) if config.online else _earlier_look(plan, send_context)
    _confirm(plan, send_context, preview)
    # The look and the question may have taken long.
    _record_begin(send_context, _require_approval(request, users, send_context))
    if request is not None:
        _remove_note(request)


def _require_approval(
    request: ApprovalRequest | None, users: SystemUsers, send_context: SendContext
) -> Approval | None:
    """Return the approval of the plan; None if it needs none. Raises ApprovalError if there is no valid one."""
    return None if request is None else request.require(users, send_context.clock.wall())


def _require_same_organisation(send_context: SendContext) -> None:
    """Raise JournalError if the run would be sent for another account than it was planned for."""
    config, journal = send_context.config, send_context.journal
    if (journal.fact(Fact.OPTIONS) or {}).get("organisation") != config.given_options.get("organisation"):
        what = f"run {config.folder.name} was planned with another --organisation"
        raise JournalError(what, "nothing was sent; give the same one, or plan under another --run-id")


def _check_brakes_given_now(plan: Plan, send_context: SendContext) -> None:
    """Raise BrakeError where a brake holds that was not given, or had another value, when the plan was saved."""
    config, journal = send_context.config, send_context.journal
    recorded, given = journal.fact(Fact.OPTIONS) or {}, config.given_options
    names = [name for name in _BRAKES_BEFORE_SENDING if given.get(name) != recorded.get(name)]
    brakes = replace(Brakes(), **{name: getattr(config.brakes, name) for name in names})
    files, now = journal.input_files, send_context.clock.wall()
    check_rows(sum(file.record_count for file in files), brakes)
    check_age([(one.path, now - one.written) for one in files if one.written is not None], brakes)
    check_plan(plan, brakes)


def _require_same_basis(plan: Plan, send_context: SendContext) -> None:
    """Raise JournalError if rows that `--since-last` leaves out are not settled any more."""
    config, journal = send_context.config, send_context.journal
    if not plan.confirmed_by.any():
        return
    job = job_identity(config, journal.input_files, send_context.clock.wall())
    delta = find_delta(job, plan.rows, config.full_every, config.folder)
    if (delta.confirmed_by[plan.confirmed_by > 0] == 0).any():
        what = f"rows that run {config.folder.name} leaves out have been changed since its plan was saved"
        raise JournalError(what, "nothing was sent; plan the file again under another --run-id")


def _require_new_content(send_context: SendContext) -> None:
    """Raise BrakeError if another run has processed the content since the plan was saved."""
    config, observer = send_context.config, send_context.observer
    if config.sandbox or not refuses_repeats(config):
        return
    others = recorded_runs(config.reports_dir, config.folder, partial(observer.on_message, "warning"))
    refuse_repeated_content(config, send_context.journal.input_files, others, observer)


def _earlier_look(plan: Plan, send_context: SendContext) -> Preview | None:
    """Return what a complete look before this process showed; None without one. Raises BrakeError if a brake holds."""
    preview = Preview.of_fact(send_context.journal.fact(Fact.PREVIEW))
    if preview is not None:
        check_look(preview, plan, send_context)
    return preview


def _confirm(plan: Plan, send_context: SendContext, preview: Preview | None) -> None:
    """Show the plan and, on a terminal, ask. Raises NotConfirmedError if the answer is no."""
    config, journal = send_context.config, send_context.journal
    summary = summarize_from_journal(plan, journal, config.sending.rate, non_defaults(config))
    if not send_context.observer.confirm_plan(replace(summary, preview=preview)):
        raise NotConfirmedError("not confirmed", "nothing was sent")


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
