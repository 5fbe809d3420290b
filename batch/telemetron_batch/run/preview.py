"""Look at the customers of a planned run before anything is sent: what each row will change.

`preview_plan` is the command `plan --online`; a run with `--online` calls `look_before_sending` as its first step.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2

from telemetron_batch.config.config import RunConfig
from telemetron_batch.domain.errors import JournalError, QueryError
from telemetron_batch.domain.preview import Preview
from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.layout import JOURNAL_NAME
from telemetron_batch.journal.resume_hint import translate_system_errors
from telemetron_batch.planning.brakes import check_preview
from telemetron_batch.planning.delta import encode_column
from telemetron_batch.planning.plan import Plan
from telemetron_batch.reports.csv_files import write_preview
from telemetron_batch.reports.summary import PREVIEW
from telemetron_batch.run.locking import acquire_run_and_key, open_journal, run_log, run_scratch
from telemetron_batch.run.open_api import open_api
from telemetron_batch.run.replan import replan_from_journal
from telemetron_batch.run.requirements import require_can_send
from telemetron_batch.run.save_plan import SavedPlan, save_plan
from telemetron_batch.sending.observer import RunObserver
from telemetron_batch.sending.session import LOOK_VALID_S, SendContext
from telemetron_batch.storage.clock import Clock, RealClock
from telemetron_batch.storage.system_users import SystemUsers
from telemetron_batch.verification.preview import preview_rows
from telemetron_batch.verification.previewer import query_customers


@translate_system_errors()
def preview_plan(
    config: RunConfig,
    observer: RunObserver | None = None,
    clock: Clock | None = None,
    transport: httpx2.AsyncBaseTransport | None = None,
    users: SystemUsers | None = None,
) -> SavedPlan:
    """Save a plan and look at its customers; change nothing at the API. Return it with the preview.

    Raises QueryError where not all customers were queried; the same command continues. Raises BrakeError.
    """
    clock, observer = clock or RealClock(), observer or RunObserver()
    require_can_send(config, clock)
    saved = save_plan(config, observer, clock, users)
    config = replace(config, run_id=saved.folder.name, files=())
    with (
        acquire_run_and_key(config, saved.folder, clock, observer) as lease,
        open_journal(saved.folder, lease) as journal,
        run_log(config, saved.folder, lease),
        run_scratch(saved.folder, lease) as scratch,
    ):
        if journal.has_attempts():
            what = f"run {saved.folder.name} has sent calls already, so a look shows what it did"
            raise JournalError(what, "name another --run-id")
        plan = replan_from_journal(journal, scratch)
        preview = look_before_sending(SendContext(config, plan, journal, observer, clock, lease), plan, transport)
    return replace(saved, summary=replace(saved.summary, preview=preview))


def look_before_sending(send_context: SendContext, plan: Plan, transport: httpx2.AsyncBaseTransport | None) -> Preview:
    """Query each customer of a run that has sent nothing, write preview.csv, and check the brakes.

    A look that was stopped is continued; a complete one is repeated if it is older than `LOOK_VALID_S`. Raises
    QueryError where it ended early, BrakeError.
    """
    journal, clock = send_context.journal, send_context.clock
    state = _begin(send_context)
    if state["endedAt"] is None and plan.calls:
        with open_api(send_context, transport) as target:
            stop = query_customers(send_context, target)
        send_context.lease.ensure_valid()
        if stop is not None:
            raise QueryError.of(stop, "nothing was sent")
    looked_at = state["endedAt"] or clock.wall()
    words, preview = preview_rows(plan, journal.previews(), looked_at)
    has_owners = journal.fact(Fact.OWNERS) is not None
    file = journal.path.parent / PREVIEW
    write_preview(file, journal.input_files, journal.blocks(), words, has_owners=has_owners)
    ended = {**state, "endedAt": looked_at, **preview.as_json()}
    journal.set_facts(**{Fact.PREVIEW: ended, Fact.PREVIEW_WORDS: encode_column(words)})
    check_look(preview, plan, send_context)
    return preview


def check_look(preview: Preview, plan: Plan, send_context: SendContext) -> None:
    """Raise BrakeError if a look shows more than a brake allows."""
    check_preview(preview, send_context.journal.path.parent / PREVIEW, plan, send_context.config.brakes)


def _begin(send_context: SendContext) -> dict[str, Any]:
    """Return the state of the look: that of an unfinished or a fresh one, else that of a new one.

    Customers whose query failed are queried again.
    """
    journal, now = send_context.journal, send_context.clock.wall()
    state: dict[str, Any] | None = journal.fact(Fact.PREVIEW)
    if state is not None and state["endedAt"] is None:
        return state
    if state is not None and 0 <= now - state["endedAt"] < LOOK_VALID_S and not _others_wrote(send_context, state):
        return {**state, "endedAt": None} if state["customersNotKnown"] else state
    journal.clear_previews()
    state = {"startedAt": now, "endedAt": None}
    journal.set_facts(**{Fact.PREVIEW: state, Fact.PREVIEW_WORDS: None})
    return state


def _others_wrote(send_context: SendContext, state: Mapping[str, Any]) -> bool:
    """Return whether the journal of another run was written to since a look began, so that the look may be outdated."""
    folder = send_context.journal.path.parent
    journals = (path for path in folder.parent.glob(f"*/{JOURNAL_NAME}*") if path.parent != folder)
    return any(_written_at(path) >= state["startedAt"] for path in journals)


def _written_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
