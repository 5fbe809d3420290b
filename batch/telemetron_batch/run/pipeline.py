"""The program put together: from a configuration to a run, its files and its summary.

Here the parts meet, and only here. The doors (command line, Airflow) call `run`,
`make_plan`, `resume`, `verify` and `report` and put what they give into words; past one
machine `plan_shards`, `run_shard`, `barrier` and `report`.
"""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx2
import pyarrow.compute as pc

from telemetron_batch.config.airflow_context import context_variables, describe
from telemetron_batch.config.config import RunConfig, resolve
from telemetron_batch.config.options import OPTIONS, OPTIONS_BY_KEY
from telemetron_batch.config.sources import KEY_VARIABLE, PROFILE_VARIABLES
from telemetron_batch.config.stored import load_stored_config, with_base_url
from telemetron_batch.domain.actions import ACTIONS
from telemetron_batch.domain.errors import BrakeError, JournalError, VerifyError
from telemetron_batch.domain.model import Secret
from telemetron_batch.domain.stops import WayOn, listed_flags
from telemetron_batch.journal.connection import require_ours
from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.journal import Journal
from telemetron_batch.journal.layout import JOURNAL_NAME, LOCK_NAME
from telemetron_batch.journal.resume_hint import (
    errors_with_way_on,
    stopping_if_sent,
    system_errors_in_words,
    way_on_in,
)
from telemetron_batch.planning.plan import Plan
from telemetron_batch.planning.plan_summary import PlanSummary, summarize
from telemetron_batch.reports.summary import Summary
from telemetron_batch.reports.write_all import close_books, write_files
from telemetron_batch.run.finish import finish_run, load_stop_reason, report_options, serialize_stop
from telemetron_batch.run.locking import (
    SCRATCH,
    LockWaiter,
    acquire_lease,
    acquire_run_and_key,
    lock_of_run,
    open_journal,
    require_run,
    run_folder,
    run_scratch,
    stored_fact,
)
from telemetron_batch.run.prepare import (
    announce_api,
    check_order_again,
    check_rate_limit_backend,
    create_run,
    delta_json,
    ensure_same_run,
    is_redacted,
    load_input,
    new_run_id,
    plan_and_check_limits,
    replan_from_journal,
    require_connections,
    require_key,
    since_last,
    size_of_input,
)
from telemetron_batch.run.publish import is_published, publish
from telemetron_batch.sandbox.server import serve_in_thread
from telemetron_batch.sandbox.state import SandboxState
from telemetron_batch.sending.observer import RunObserver
from telemetron_batch.sending.send import send
from telemetron_batch.sending.session import ApiTarget, Job
from telemetron_batch.storage.clock import Clock, RealClock
from telemetron_batch.storage.commands import command
from telemetron_batch.storage.lease_files import is_in_use, remove_dead_local_lease
from telemetron_batch.storage.log import LOGGER, log_to_file
from telemetron_batch.storage.spill import Scratch
from telemetron_batch.storage.trusted_folders import shared_with_group
from telemetron_batch.verification.verify import verify_customers, verify_in_session


@system_errors_in_words()
def make_plan(config: RunConfig, clock: Clock | None = None) -> PlanSummary:
    """Everything up to sending; touches no network and leaves nothing behind. Raises BatchError."""
    clock = clock or RealClock()
    with (
        shared_with_group(config.shared_reports_dir),
        tempfile.TemporaryDirectory() as folder,
        Scratch(Path(folder) / SCRATCH) as scratch,
    ):
        loaded = load_input(config, size_of_input(config), Path(folder), scratch)
        delta = since_last(config, loaded, clock)
        plan = plan_and_check_limits(config, loaded, delta, clock)
        return summarize(plan, loaded.files, config.sending.rate, delta_json(delta))


@system_errors_in_words()
def run(
    config: RunConfig,
    *,
    face: RunObserver | None = None,
    transport: httpx2.AsyncBaseTransport | None = None,
    clock: Clock | None = None,
) -> Summary:
    """Do the whole job, or go on with it where a stopped run of the same id ended.

    Raises BatchError where it cannot start; a run that has started always gives its
    summary, however it ended. Of a finished run it gives the summary and changes nothing.
    """
    clock, face = clock or RealClock(), face or RunObserver()
    base_url = None if config.sandbox else config.base_url_flag
    if config.run_id is None:
        config = replace(config, run_id=new_run_id(config, clock), run_id_generated=True)
    folder = config.reports_dir / str(config.run_id)
    with shared_with_group(config.shared_reports_dir):
        way = way_on_in(folder, is_named=not config.run_id_generated, base_url=base_url)
        with errors_with_way_on(folder / JOURNAL_NAME, way):
            return _start_or_resume(config, face, transport, clock)


def _start_or_resume(
    config: RunConfig, face: RunObserver, transport: httpx2.AsyncBaseTransport | None, clock: Clock
) -> Summary:
    """Begin the run of this id, or go on with it."""
    folder = config.reports_dir / str(config.run_id)
    require_ours(folder / JOURNAL_NAME)
    if (folder / JOURNAL_NAME).exists() and not is_in_use(folder / LOCK_NAME):
        # Looked at before any lock is taken and without a key: a finished run is not touched at all.
        with open_journal(folder) as journal:
            finished = _summary_if_finished(config, folder, journal)
            nothing_left = finished is not None and is_published(config.publish, folder, journal)
        if finished is not None:
            remove_dead_local_lease(folder / LOCK_NAME, LockWaiter.of(config, clock, face).owner)
            return finished if nothing_left else _publish_finished(config, finished, clock, face)
        config = replace(config, files=())  # seen to be the same; standard input can be read but once
    require_key(config)
    require_connections(config)
    check_rate_limit_backend(config, clock)
    with (
        run_folder(folder),
        acquire_run_and_key(config, folder, clock, face) as lease,
        run_scratch(folder, lease) as scratch,
    ):
        plan = None
        if not (folder / JOURNAL_NAME).exists():
            plan = create_run(config, scratch, face, clock)
            config = replace(config, files=())
        with open_journal(folder, lease) as journal, stopping_if_sent(journal):
            finished = _summary_if_finished(config, folder, journal)
            if finished is not None:
                return publish(config.publish, journal, finished)
            with log_to_file(folder / "run.log", *config.secrets, may_write=lambda: lease.is_valid):
                if plan is None:
                    plan = replan_from_journal(journal, scratch)
                    _keep_order(config, plan, journal, face)
                    announce_api(config, face)
                return _send_and_report(Job(config, plan, journal, face, clock, lease), plan, transport)


def _keep_order(config: RunConfig, plan: Plan, journal: Journal, face: RunObserver) -> None:
    """Refuse to go on with a run after a newer night of its job, unless nothing is left to send."""
    try:
        check_order_again(config, journal, config.reports_dir / str(config.run_id), face)
    except BrakeError:
        # All answers are read for this, so only where it matters.
        if (journal.settled_of(plan.calls).devices < plan.sizes()).any():
            raise


@system_errors_in_words()
def resume(
    folder: Path,
    environ: Mapping[str, str],
    *,
    out_of_order: bool = False,
    face: RunObserver | None = None,
    clock: Clock | None = None,
) -> Summary:
    """Go on with a stopped run, with the options it was started with. Raises BatchError.

    With `out_of_order` also when a newer night of its job has sent something since. The key goes where `verify` says.
    """
    typed = f"{command('resume', folder)}{' --out-of-order' if out_of_order else ''}"
    config = _stored_config(folder, environ, typed)
    brakes = replace(config.brakes, out_of_order=config.brakes.out_of_order or out_of_order)
    return run(replace(config, brakes=brakes), face=face, clock=clock)


@system_errors_in_words()
def verify(
    folder: Path,
    environ: Mapping[str, str],
    *,
    face: RunObserver | None = None,
    transport: httpx2.AsyncBaseTransport | None = None,
    clock: Clock | None = None,
) -> Summary:
    """Ask what the customers of a run hold now, and write its files again with what that tells.

    With the options the run was started with, except the base URL: the key goes to that which the environment, its
    profile or the default names, and that must be the API of the run. Raises BatchError, also where it ends before
    all were asked: then the files are as they were, and the same again goes on.
    """
    clock, face = clock or RealClock(), face or RunObserver()
    config = _stored_config(folder, environ, command("verify", folder))
    require_key(config)
    require_connections(config)
    check_rate_limit_backend(config, clock)
    with (
        acquire_run_and_key(config, folder, clock, face) as lease,
        open_journal(folder, lease) as journal,
        stopping_if_sent(journal),
        log_to_file(folder / "run.log", *config.secrets, may_write=lambda: lease.is_valid),
        run_scratch(folder, lease) as scratch,
    ):
        if journal.is_in_shards and journal.meta(Fact.ENDED_AT) is None:
            raise JournalError(f"run {folder.name} was made in shards", "report it first, which puts it together")
        journal.require_complete()
        plan = replan_from_journal(journal, scratch)
        if plan.calls:
            job = Job(config, plan, journal, face, clock, lease)
            with _open_api(job, transport) as target:
                stop = verify_customers(job, target)
            lease.ensure_valid()
            if stop is not None:
                error = VerifyError.of(stop)
                error.way_on = WayOn(listed_flags("", config.base_url_flag))
                raise error
        if journal.meta(Fact.ALL_SENT):
            # The run itself has ended well: at most its own verify was stopped or killed, and this has made up for it.
            journal.set_facts(stop=None, endedAt=journal.meta(Fact.ENDED_AT) or clock.wall())
        return finish_run(config, plan, journal)


@system_errors_in_words()
def report(folder: Path, *, xlsx: bool = False) -> Summary:
    """Write the files of a run again, from its journal alone; with `xlsx` a workbook too. Raises BatchError."""
    with (
        acquire_lease(lock_of_run(folder), LockWaiter.no_wait(folder.name)) as lease,
        open_journal(folder, lease) as journal,
        stopping_if_sent(journal),
        run_scratch(folder, lease) as scratch,
    ):
        told = load_stored_config(folder, journal.meta(Fact.OPTIONS), with_key=False)
        told = replace(told, xlsx=told.xlsx or xlsx)
        stop = load_stop_reason(journal)
        books = close_books(journal, replan_from_journal(journal, scratch), stop)
        return publish(told.publish, journal, write_files(folder, journal, books, report_options(told, stop)))


def _stored_config(folder: Path, environ: Mapping[str, str], typed: str) -> RunConfig:
    """The options that a run was started with; of the environment the secrets, and who asks, alone.

    The base URL is the caller's, and must mean the API of the run; `typed` is the command that asks.
    """
    require_run(folder)
    options = stored_fact(folder, Fact.OPTIONS)
    keep = {name: environ[name] for name in (KEY_VARIABLE,) if name in environ} | context_variables(environ)
    variable = OPTIONS_BY_KEY["limit_url"].variable
    if is_redacted(options.get("limit_url", "")) and environ.get(variable):
        options["limit_url"] = environ[variable]
    options |= _said_now(environ)
    wanted = resolve((), {"sandbox": True}, _naming_the_api(environ))
    config = with_base_url(load_stored_config(folder, options, keep), wanted.sending.base_url, typed)
    return replace(config, base_url_flag=stored_fact(folder, Fact.BASE_URL_FLAG))


def _said_now(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the options that the caller says over what a run was started with."""
    said = {one.key: environ.get(one.variable) for one in OPTIONS if one.resumes}
    return {key: text for key, text in said.items() if text}


def _naming_the_api(environ: Mapping[str, str]) -> dict[str, str]:
    """Return those variables that say which API is meant, without a word on anything else."""
    names = (OPTIONS_BY_KEY["base_url"].variable, *PROFILE_VARIABLES)
    return {name: environ[name] for name in names if name in environ}


def _summary_if_finished(config: RunConfig, folder: Path, journal: Journal) -> Summary | None:
    """The summary of a finished run; None for any other. Raises JournalError if it is not this run."""
    if journal.is_in_shards:
        raise JournalError(f"run {folder.name} is made in shards", "say which with --shard, or report the run")
    ensure_same_run(config, journal, folder)
    journal.require_complete()
    fields = journal.meta(Fact.SUMMARY)
    if fields is None or fields["state"] != "finished":
        return None
    return Summary(folder, {**fields, "published": journal.meta(Fact.PUBLISHED)})


def _publish_finished(config: RunConfig, finished: Summary, clock: Clock, face: RunObserver) -> Summary:
    """What the end of a finished run could not do."""
    folder = finished.folder
    with (
        acquire_lease(lock_of_run(folder), LockWaiter.of(config, clock, face)) as lease,
        open_journal(folder, lease) as journal,
    ):
        return publish(config.publish, journal, finished)


def _send_and_report(job: Job, plan: Plan, transport: httpx2.AsyncBaseTransport | None) -> Summary:
    """Send what is open, then write the files; the run has ended when its summary is in the journal."""
    config, journal = job.config, job.journal
    LOGGER.info("run %s: %d rows, %d calls", config.run_id, len(plan.rows), plan.calls)
    typed = {"idMadeUp": config.run_id_generated, "baseUrlFlag": config.base_url_flag}
    journal.set_facts(stop=None, endedAt=None, standing=None, airflow=dict(config.airflow), **typed)
    if config.airflow:
        journal.event(job.clock.wall(), "airflow", describe(config.airflow))
    stop = None
    if plan.calls:
        with _open_api(job, transport) as target:
            stop = send(job, target, verify_in_session if config.sending.verify else None)
        job.lease.ensure_valid()
    journal.set_facts(endedAt=job.clock.wall(), stop=serialize_stop(stop))
    summary = finish_run(config, plan, journal)
    ended = summary.fields["stop"] or {"reason": "finished"}
    LOGGER.info("ended: exit code %d, %s", summary.exit_code, ended["reason"])
    return summary


@contextmanager
def _open_api(job: Job, transport: httpx2.AsyncBaseTransport | None) -> Iterator[ApiTarget]:
    """The API to send to; with --sandbox an embedded one whose fleet fits the input."""
    config = job.config
    if not config.sandbox:
        yield ApiTarget(config.sending.base_url, config.api_key or Secret(""), transport, config.organisation)
        return
    db = config.reports_dir / str(config.run_id) / "sandbox.sqlite3"
    require_ours(db)
    with SandboxState(db) as fleet:
        fleet.seed(_valid_rows(job.journal))
        with serve_in_thread(fleet) as base_url:
            yield ApiTarget(base_url, Secret("sandbox"))


def _valid_rows(journal: Journal) -> Iterator[tuple[str, str, str]]:
    """Customer, device and action of each valid row."""
    for _, keys in journal.key_columns():
        valid = keys.filter(pc.equal(keys["problem"], 0))
        columns = (valid[name].to_pylist() for name in ("customerEmail", "deviceIdentifier", "action"))
        for customer, device, action in zip(*columns, strict=True):
            yield customer, device, str(ACTIONS[action])
