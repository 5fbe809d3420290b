"""A run from start to end, in order: read this module first.

    run       finished before? -> wait for the input -> folder and locks -> load, plan, check, ask -> send -> verify
              -> finish
              (a saved plan: -> the same plan, approved? look at the customers, ask -> send -> ...)
    resume    `run` with the options that the run was started with
    verify    ask what customers hold now -> finish
    report    the files again, from the journal alone

The command `plan` does everything up to sending in `make_plan`, and with `--save` in `save_plan`; both are apart
because they load no HTTP library. `plan --online` also looks at the customers: `preview`.
Every end of a run passes through `finish.finish_run`: reconcile, write the files, conclude the journal, publish.
Around that, `announced` tells how the command ended, also if it was refused.
The doors (command line, Airflow) call these functions; `sharding` does the same with several processes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import httpx2

from telemetron_batch.config.airflow_context import describe
from telemetron_batch.config.config import RunConfig
from telemetron_batch.config.stored import load_stored_config
from telemetron_batch.domain.approval import ApprovalPolicy
from telemetron_batch.domain.errors import BrakeError, JournalError, VerifyError
from telemetron_batch.domain.stops import ResumeHint, Stop, listed_flags
from telemetron_batch.journal.connection import require_ours
from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.journal import Journal
from telemetron_batch.journal.layout import JOURNAL_NAME, LOCK_NAME
from telemetron_batch.journal.resume_hint import (
    errors_as_stop_if_sent,
    errors_with_resume_hint,
    resume_hint_in,
    translate_system_errors,
)
from telemetron_batch.notices.announce import Audience, CommandEnd, announced
from telemetron_batch.notices.refusal import Request, refusals_announced
from telemetron_batch.planning.plan import Plan
from telemetron_batch.reports.summary import Summary
from telemetron_batch.run.await_input import await_input, with_less_time
from telemetron_batch.run.begin_planned import begin_planned_run
from telemetron_batch.run.finish import finish_run, rewrite_files, serialize_stop
from telemetron_batch.run.killed_runs import error_ends_recorded, untold_kills
from telemetron_batch.run.locking import (
    LockWaiter,
    acquire_lease,
    acquire_run_and_key,
    lock_of_run,
    open_journal,
    run_folder,
    run_log,
    run_scratch,
)
from telemetron_batch.run.metadata import ensure_same_run
from telemetron_batch.run.open_api import open_api
from telemetron_batch.run.prepare import (
    content_run_id,
    create_run,
    new_run_id,
    non_defaults,
)
from telemetron_batch.run.publish import is_published, publish
from telemetron_batch.run.query_snapshot import with_query_result
from telemetron_batch.run.replan import check_order_again, replan_from_journal
from telemetron_batch.run.requirements import require_can_send
from telemetron_batch.run.save_plan import save_plan
from telemetron_batch.run.stored_config import continued_config
from telemetron_batch.run.until import first_start_kept, first_started_at, until_passed_while_waiting, with_until
from telemetron_batch.sending.observer import RunObserver
from telemetron_batch.sending.send import send
from telemetron_batch.sending.session import SendContext
from telemetron_batch.storage.clock import Clock, RealClock
from telemetron_batch.storage.commands import command as shell_command
from telemetron_batch.storage.lease import Lease
from telemetron_batch.storage.lease_files import is_in_use, remove_dead_local_lease
from telemetron_batch.storage.log import LOGGER
from telemetron_batch.storage.spill import Scratch
from telemetron_batch.storage.system_users import SystemUsers
from telemetron_batch.storage.trusted_folders import shared_with_group
from telemetron_batch.verification.answers import forget_answers
from telemetron_batch.verification.verify import verify_customers, verify_in_session


@translate_system_errors()
def run(
    config: RunConfig,
    *,
    observer: RunObserver | None = None,
    transport: httpx2.AsyncBaseTransport | None = None,
    clock: Clock | None = None,
    users: SystemUsers | None = None,
) -> Summary:
    """Make a run from its input to its reports, or continue the stopped run of the same id.

    Return the summary, however the run ended; of a run that has finished before, its summary, without any change.
    Raises BatchError where the run cannot start.
    """
    clock, observer = clock or RealClock(), observer or RunObserver()
    end = CommandEnd.of(config)
    with (
        shared_with_group(config.shared_reports_dir),
        announced(Audience.of(config, observer, clock), end, partial(untold_kills, config)),
        error_ends_recorded(end, clock),
    ):
        config = _with_run_id(config, clock, observer)
        end.run, end.folder = config.folder.name, config.folder
        end.summary = _run(Command(config, observer, clock, transport, users or SystemUsers(), end))
        return end.summary


@dataclass(frozen=True, slots=True)
class Command:
    """A command that makes or continues a run, and what it works with."""

    config: RunConfig
    observer: RunObserver
    clock: Clock
    transport: httpx2.AsyncBaseTransport | None
    users: SystemUsers
    end: CommandEnd
    """How it ends, for those who are told."""


def _run(command: Command) -> Summary:
    """Take folder and locks of a run and make it; of a run that has finished before, return the summary."""
    config, observer, clock = command.config, command.observer, command.clock
    folder = config.folder
    base_url = None if config.sandbox else config.base_url_flag
    resume_hint = resume_hint_in(folder, is_named=not config.run_id_generated, base_url=base_url)
    with errors_with_resume_hint(folder / JOURNAL_NAME, resume_hint):
        finished = _finished_before(command)
        if finished is not None:
            return finished
        config = with_until(config, clock)
        require_can_send(config, clock)
        with first_start_kept(config, clock), until_passed_while_waiting(config, clock):
            config = await_input(config, clock, observer)
            is_saved_first = config.online or config.approval is ApprovalPolicy.SECOND
            if is_saved_first and not (folder / JOURNAL_NAME).exists():
                began = clock.uptime()
                save_plan(config, observer, clock, command.users)
                used_s = 0.0 if config.query is None else clock.uptime() - began
                config = replace(config, sending=with_less_time(config.sending, used_s))
            with (
                run_folder(folder),
                acquire_run_and_key(config, folder, clock, observer) as lease,
                run_scratch(folder, lease) as scratch,
            ):
                return _run_in(folder, Resources(replace(command, config=config), lease, scratch))


def _with_run_id(config: RunConfig, clock: Clock, observer: RunObserver) -> RunConfig:
    """Return the configuration with a run id. If the run needs an approval, the same command finds it by its id."""
    if config.run_id is not None:
        return config
    if config.approval is ApprovalPolicy.SECOND and not config.brakes.again and "-" not in config.files:
        config = await_input(with_until(config, clock), clock, observer)
        return replace(config, run_id=content_run_id(config))
    return replace(config, run_id=new_run_id(config, clock), run_id_generated=True)


@dataclass(frozen=True, slots=True)
class Resources:
    """What a process that has taken a run works with."""

    command: Command
    lease: Lease
    scratch: Scratch


def _run_in(folder: Path, resources: Resources) -> Summary:
    """Plan, send, verify, reconcile and report a run whose folder and locks this process holds."""
    command = resources.command
    config, observer, clock = command.config, command.observer, command.clock
    plan = None
    if not (folder / JOURNAL_NAME).exists():
        with with_query_result(config, folder, clock) as config:
            plan = create_run(config, resources.scratch, observer, clock)
    config = replace(config, files=())  # from here on the journal is the input
    with open_journal(folder, resources.lease) as journal, errors_as_stop_if_sent(journal):
        finished = _summary_if_finished(config, folder, journal)
        if finished is not None:  # by another process while this one waited for the lock
            command.end.is_repeated = True
            return publish(config.publish, journal, finished)
        with run_log(config, folder, resources.lease):
            if plan is None:
                plan = replan_from_journal(journal, resources.scratch)
                _keep_order(config, plan, journal, observer)
            send_context = SendContext(config, plan, journal, observer, clock, resources.lease)
            begin_planned_run(plan, send_context, command.users, command.transport)
            _record_start(send_context, plan)
            stop = _send_and_verify(send_context, plan, command.transport)
            journal.set_facts(endedAt=clock.wall(), stop=serialize_stop(stop))
            return finish_run(config, plan, journal)


def _record_start(send_context: SendContext, plan: Plan) -> None:
    """Put into journal and log that this process begins to work on the run."""
    config, journal = send_context.config, send_context.journal
    LOGGER.info("run %s: %d rows, %d calls", config.run_id, len(plan.rows), plan.calls)
    for sentence in non_defaults(config):
        LOGGER.info("%s", sentence)
    config_facts = {"idMadeUp": config.run_id_generated, "baseUrlFlag": config.base_url_flag}
    now = send_context.clock.wall()
    journal.set_facts(
        stop=None,
        endedAt=None,
        firstStartedAt=first_started_at(journal, now),
        workingSince=now,
        standing=None,
        ownerWords=None,
        airflow=dict(config.airflow),
        **config_facts,
    )
    if config.airflow:
        journal.record_event(now, "airflow", describe(config.airflow))


def _send_and_verify(send_context: SendContext, plan: Plan, transport: httpx2.AsyncBaseTransport | None) -> Stop | None:
    """Make the calls that are not settled, then verify them if asked. Return why this stopped early, or None."""
    if not plan.calls:
        return None
    forget_answers(send_context.config, plan.all_customer_emails().to_pylist, send_context.clock.wall())
    with open_api(send_context, transport) as target:
        stop = send(send_context, target, verify_in_session if send_context.config.sending.verify else None)
    send_context.lease.ensure_valid()
    return stop


def _finished_before(command: Command) -> Summary | None:
    """Return the summary of a run that has finished, without a lock and without a key; None of any other run.

    Publishes the files where an earlier process could not.
    """
    config, folder = command.config, command.config.folder
    require_ours(folder / JOURNAL_NAME)
    if not (folder / JOURNAL_NAME).exists() or is_in_use(folder / LOCK_NAME):
        return None
    with open_journal(folder) as journal:
        finished = _summary_if_finished(config, folder, journal)
        nothing_left = finished is not None and is_published(config.publish, folder, journal)
    if finished is None:
        return None
    waiter = LockWaiter.of(config, command.clock, command.observer)
    remove_dead_local_lease(folder / LOCK_NAME, waiter.owner)
    if nothing_left:
        command.end.is_repeated = True
        return finished
    with acquire_lease(lock_of_run(folder), waiter) as lease, open_journal(folder, lease) as journal:
        return publish(config.publish, journal, finished)


def _summary_if_finished(config: RunConfig, folder: Path, journal: Journal) -> Summary | None:
    """Return the summary of a finished run; None for any other. Raises JournalError if it is not this run."""
    if journal.is_in_shards:
        raise JournalError(f"run {folder.name} is made in shards", "say which with --shard, or report the run")
    ensure_same_run(config, journal, folder)
    journal.require_complete()
    fields = journal.fact(Fact.SUMMARY)
    if fields is None or fields["state"] != "finished":
        return None
    return Summary(folder, {**fields, "published": journal.fact(Fact.PUBLISHED)})


def _keep_order(config: RunConfig, plan: Plan, journal: Journal, observer: RunObserver) -> None:
    """Refuse to continue a run after a newer run of its job, unless nothing is left to send."""
    try:
        check_order_again(config, journal, config.folder, observer)
    except BrakeError:
        # All answers are read for this, so only where it matters.
        if (journal.settled_of(plan.calls).devices < plan.sizes()).any():
            raise


@translate_system_errors()
def resume(
    folder: Path,
    environ: Mapping[str, str],
    *,
    out_of_order: bool = False,
    observer: RunObserver | None = None,
    clock: Clock | None = None,
) -> Summary:
    """Continue a stopped run with the options it was started with. Raises BatchError.

    With `out_of_order` also where a newer run of its job has sent something since. `verify` says where the key goes.
    """
    retry_command = f"{shell_command('resume', folder)}{' --out-of-order' if out_of_order else ''}"
    with refusals_announced(Request({}, environ, folder.name), observer, clock):
        config = continued_config(folder, environ, retry_command)
    brakes = replace(config.brakes, out_of_order=config.brakes.out_of_order or out_of_order)
    return run(replace(config, brakes=brakes), observer=observer, clock=clock)


@translate_system_errors()
def verify(
    folder: Path,
    environ: Mapping[str, str],
    *,
    observer: RunObserver | None = None,
    transport: httpx2.AsyncBaseTransport | None = None,
    clock: Clock | None = None,
) -> Summary:
    """Ask what the customers of a run hold now, and write the run's files again with the answers.

    The options are those the run was started with, except the base URL: the key goes to the API that the environment,
    its profile or the default names, and that must be the API of the run. Raises BatchError, also where it ends before
    all customers were asked: then the files are unchanged, and the same command continues.
    """
    clock, observer = clock or RealClock(), observer or RunObserver()
    config = continued_config(folder, environ, shell_command("verify", folder))
    require_can_send(config, clock)
    with (
        acquire_run_and_key(config, folder, clock, observer) as lease,
        open_journal(folder, lease) as journal,
        errors_as_stop_if_sent(journal),
        run_log(config, folder, lease),
        run_scratch(folder, lease) as scratch,
    ):
        if journal.is_in_shards and journal.fact(Fact.ENDED_AT) is None:
            raise JournalError(f"run {folder.name} was made in shards", "report it first, which puts it together")
        journal.require_complete()
        require_begun(journal, "verify")
        plan = replan_from_journal(journal, scratch)
        if plan.calls:
            _verify(SendContext(config, plan, journal, observer, clock, lease), transport)
        if journal.fact(Fact.ALL_SETTLED):
            # Only the run's own verification was stopped or killed, and this one has replaced it.
            journal.set_facts(stop=None, endedAt=journal.fact(Fact.ENDED_AT) or clock.wall())
        return finish_run(config, plan, journal)


def require_begun(journal: Journal, what: str) -> None:
    """Raise JournalError for a run whose plan was saved and which has not begun: it has no outcomes."""
    if journal.is_unsent_plan:
        name = journal.path.parent.name
        resume = shell_command("resume", journal.path.parent, journal.base_url_flag)
        raise JournalError(f"run {name} is only planned, so there is nothing to {what}", f"to send it, run {resume}")


def _verify(send_context: SendContext, transport: httpx2.AsyncBaseTransport | None) -> None:
    """Ask what the customers of a run hold. Raises VerifyError where it ended early."""
    with open_api(send_context, transport) as target:
        stop = verify_customers(send_context, target)
    send_context.lease.ensure_valid()
    if stop is not None:
        error = VerifyError.of(stop)
        error.resume_hint = ResumeHint(listed_flags("", send_context.config.base_url_flag))
        raise error


@translate_system_errors()
def report(folder: Path, *, xlsx: bool = False) -> Summary:
    """Write the files of a run again, from its journal alone; with `xlsx` a workbook too. Raises BatchError."""
    with (
        acquire_lease(lock_of_run(folder), LockWaiter.no_wait(folder.name)) as lease,
        open_journal(folder, lease) as journal,
        errors_as_stop_if_sent(journal),
        run_scratch(folder, lease) as scratch,
    ):
        require_begun(journal, "report")
        config = load_stored_config(folder, journal.fact(Fact.OPTIONS), with_key=False)
        return rewrite_files(replace(config, xlsx=config.xlsx or xlsx), replan_from_journal(journal, scratch), journal)
