"""Write all files of a run from its journal, and return its summary.

The same journal and the same options always give the same files.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np

from telemetron_batch import __version__
from telemetron_batch.config.options import OPTIONS_BY_KEY
from telemetron_batch.config.rate import Rate
from telemetron_batch.domain.arrays import Ints
from telemetron_batch.domain.errors import UnbalancedError
from telemetron_batch.domain.model import InputFile, OwnersSummary
from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.domain.preview import Preview
from telemetron_batch.domain.stops import ExitCode, Stop
from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.journal import Journal
from telemetron_batch.journal.planned_run import saved_plan_json
from telemetron_batch.journal.resume_hint import resume_hint_of
from telemetron_batch.planning.delta import decode_column
from telemetron_batch.planning.plan import Plan
from telemetron_batch.planning.plan_summary import summarize
from telemetron_batch.reconciliation.answered import reconcile_answers
from telemetron_batch.reconciliation.effect import flag_ineffective_unassigns, has_only_ineffective_unassigns
from telemetron_batch.reconciliation.reconcile import CONFIRMED, CONTRADICTED, Reconciliation
from telemetron_batch.reconciliation.remaining_devices import RemainingDevices, find_remaining_devices
from telemetron_batch.reports import attention_files
from telemetron_batch.reports.csv_files import (
    ReportInput,
    extra_columns,
    write_attention,
    write_reconciliation,
    write_undo,
)
from telemetron_batch.reports.page import MAX_HOLDERS, Page, Timeline, slice_seconds, write_html
from telemetron_batch.reports.summary import ATTENTION, ATTENTION_WORKBOOK, FILES, PREVIEW, SUMMARY, WORKBOOK, Summary
from telemetron_batch.reports.unwritten_files import Unwritten
from telemetron_batch.reports.workbook import fits, write_attention_xlsx, write_xlsx
from telemetron_batch.storage.clock import iso
from telemetron_batch.storage.commands import command, rerun_command
from telemetron_batch.verification.apply import VerificationData, apply_verification
from telemetron_batch.verification.preview import changed_by_others

_MAX_EVENTS: Final = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportOptions:
    """Why the run stopped, and the options that decide about its files and exit code."""

    stop: Stop | None
    raw_csv: bool = False
    xlsx: bool = False
    tolerate: Sequence[Outcome] = ()
    empty_exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class _Findings:
    """What several files of a run tell, found once."""

    remaining: RemainingDevices
    changed_by_others: Ints
    """Rows whose outcome differs from the preview."""


def reconcile(journal: Journal, plan: Plan, stop: Stop | None) -> Reconciliation:
    """Return one outcome for every row, from the whole journal. Raises UnbalancedError."""
    reconciliation = _verified_reconciliation(journal, plan, stop)
    return (
        flag_ineffective_unassigns(reconciliation)
        if journal.fact(Fact.UNASSIGNS_QUESTIONED) and has_only_ineffective_unassigns(reconciliation)
        else reconciliation
    )


def _verified_reconciliation(journal: Journal, plan: Plan, stop: Stop | None) -> Reconciliation:
    reconciliation = reconcile_answers(journal, plan, stop)
    # After a loss of records, requests without a record may have followed a customer query.
    if journal.fact(Fact.VERIFY) is None or journal.records_lost:
        return reconciliation
    unrequested = {plan.customer_number_of_call(call) for call in journal.calls_with_unrequested_devices()}
    return apply_verification(
        reconciliation,
        VerificationData(journal.queries(), journal.all_holdings(), journal.last_attempts(), unrequested),
    )


def write_files(folder: Path, journal: Journal, reconciliation: Reconciliation, options: ReportOptions) -> Summary:
    """Write all files of the run and return its summary, which has the run's exit code.

    An existing workbook is updated even without `xlsx`. It is written last, because it takes the longest. If a
    file cannot be written, the others are written all the same, and the summary says that the run has stopped.
    """
    options = replace(options, xlsx=options.xlsx or (folder / WORKBOOK).exists())
    files = journal.input_files
    report = ReportInput(files, reconciliation, options.raw_csv)
    own = extra_columns(files)
    unwritten = Unwritten()
    with unwritten.collect_error("reconciliation.csv"):
        written = write_reconciliation(folder / "reconciliation.csv", report, journal.blocks(cells=own))
        _require_balance(folder, sum(file.rows for file in files), written, len(reconciliation.plan.rows))
    with unwritten.collect_error(ATTENTION):
        attention_files.write(folder, ATTENTION, journal, lambda file: write_attention(file, report, journal.blocks()))
    with unwritten.collect_error("undo.csv"):
        write_undo(folder / "undo.csv", report, journal.blocks(backwards=True, cells={}))
    findings = _Findings(
        find_remaining_devices(reconciliation, journal.blocks(cells={})), _changed_by_others(journal, reconciliation)
    )
    summary = _summary(folder, journal, reconciliation, options, findings)
    with unwritten.collect_error(SUMMARY):
        unwritten.add_to(summary, resume_hint_of(journal)).write()
    with unwritten.collect_error("report.html"):
        page = _page(journal, reconciliation, summary, options.stop)
        holders = findings.remaining.largest_holders(MAX_HOLDERS)
        page = replace(page, holders=holders, changed_by_others=findings.changed_by_others)
        write_html(folder / "report.html", page, journal.blocks(cells={}))
    if _wants_attention_workbook(journal, reconciliation, options):
        with unwritten.collect_error(ATTENTION_WORKBOOK):
            attention_files.write(
                folder,
                ATTENTION_WORKBOOK,
                journal,
                lambda file: write_attention_xlsx(file, folder, report, summary.fields, journal.blocks()),
            )
    if options.xlsx:
        with unwritten.collect_error(WORKBOOK):
            write_xlsx(folder / WORKBOOK, report, summary.fields, journal.blocks(cells=own))
    with unwritten.collect_error(SUMMARY):
        unwritten.add_to(summary, resume_hint_of(journal)).write()
    return unwritten.add_to(summary, resume_hint_of(journal))


def _require_balance(folder: Path, read: int, written: int, planned: int) -> None:
    if not written == read == planned:
        what = f"run {folder.name}: {read} rows were read, but {written} were reported in {folder}"
        raise UnbalancedError(what, "this is a bug; please report it")


def _wants_attention_workbook(journal: Journal, reconciliation: Reconciliation, options: ReportOptions) -> bool:
    """Return whether to write attention.xlsx: the input is a workbook or `xlsx` is set, and the rows fit a sheet."""
    wanted = options.xlsx or any(file.is_workbook for file in journal.input_files)
    return wanted and fits(int(reconciliation.attention().sum()))


def _page(journal: Journal, reconciliation: Reconciliation, summary: Summary, stop: Stop | None) -> Page:
    """Return the data of report.html."""
    resume_hint, fields, folder, base_url = (
        resume_hint_of(journal),
        summary.fields,
        summary.folder,
        journal.base_url_flag,
    )
    rate = Rate.parse(fields["options"].get("rate", str(OPTIONS_BY_KEY["rate"].default)))
    return Page(
        fields=fields,
        reconciliation=reconciliation,
        plan=replace(
            summarize(reconciliation.plan, journal.input_files, rate, journal.fact(Fact.SINCE)),
            preview=Preview.of_fact(journal.fact(Fact.PREVIEW)),
        ),
        timeline=_timeline(journal, fields["attempts"]),
        attention_file=summary.attention_files[-1],
        rerun_attention_command=rerun_command(
            folder, summary.attention_files[-1], sandbox=fields["sandbox"], base_url=base_url
        ),
        undo_command=command("undo", folder, base_url) if stop is None else "",
        continue_advice=(resume_hint if stop is None else stop.adjust_resume_hint(resume_hint)).words,
    )


def _timeline(journal: Journal, attempts: int) -> Timeline | None:
    span = journal.attempt_span()
    if span is None:
        return None
    start, end = span[0], max(span[1], journal.fact(Fact.ENDED_AT) or 0.0)
    seconds = slice_seconds(end - start, attempts)
    return Timeline(start, end, seconds, journal.timeline(start, seconds))


def _preview_fields(journal: Journal, changed: Ints) -> dict[str, Any]:
    """Return the fields about the look before sending; nothing without a complete one."""
    preview = Preview.of_fact(journal.fact(Fact.PREVIEW))
    if preview is None:
        return {}
    return {**preview.as_json(), "previewedAt": iso(preview.looked_at), "rowsChangedByOthers": len(changed)}


def _changed_by_others(journal: Journal, reconciliation: Reconciliation) -> Ints:
    """Return the rows whose outcome differs from the preview."""
    words = journal.fact(Fact.PREVIEW_WORDS)
    return np.empty(0, np.int64) if words is None else changed_by_others(reconciliation, decode_column(words))


def _verify_fields(journal: Journal, reconciliation: Reconciliation) -> dict[str, Any]:
    """Return the field `verify` of summary.json; nothing if the run was not verified."""
    facts = journal.fact(Fact.VERIFY)
    if facts is None or reconciliation.verified is None:
        return {}
    asked, missed = journal.query_counts(facts["round"])
    yes, no = (int((reconciliation.verified == answer).sum()) for answer in (CONFIRMED, CONTRADICTED))
    return {
        "verify": {
            "startedAt": iso(facts["startedAt"]),
            "endedAt": iso(facts["endedAt"]),
            "customersAsked": asked,
            "customersMissed": missed,
            "rows": {"yes": yes, "no": no, "blank": len(reconciliation.verified) - yes - no},
            "rowsSettled": reconciliation.settled_by_verification,
        }
    }


def _exit_code(options: ReportOptions, attention: int, rows: int) -> int:
    if options.stop is not None:
        return options.stop.exit_code
    if rows == 0 and options.empty_exit_code is not None:
        return options.empty_exit_code
    return ExitCode.ATTENTION if attention else ExitCode.DONE


def _summary(
    folder: Path, journal: Journal, reconciliation: Reconciliation, options: ReportOptions, findings: _Findings
) -> Summary:
    files = journal.input_files
    plan = reconciliation.plan
    verify = _verify_fields(journal, reconciliation)
    preview = _preview_fields(journal, findings.changed_by_others)
    untolerated = int(reconciliation.attention(options.tolerate).sum())
    if verify:
        untolerated += verify["verify"]["customersMissed"]
    exit_code = int(_exit_code(options, untolerated, len(plan.rows)))
    attempts, refusals, unclear = journal.attempt_totals()
    fields: dict[str, Any] = {
        "runId": journal.fact(Fact.RUN_ID),
        "version": __version__,
        "state": "stopped" if options.stop else "finished",
        "exitCode": exit_code,
        "balanced": True,
        "stop": None if options.stop is None else options.stop.as_json(resume_hint_of(journal)),
        "resumeAt": iso(options.stop.resume_at) or None if options.stop else None,
        "input": _input_fields(files),
        "inputs": [file.as_json() for file in files],
        **_origin_fields(journal),
        "rows": len(plan.rows),
        "hiddenRows": sum(file.hidden_rows for file in files),
        **_outcome_fields(reconciliation),
        "since": journal.fact(Fact.SINCE),
        **_owner_fields(OwnersSummary.of_fact(journal.fact(Fact.OWNERS))),
        "customers": plan.customers,
        "customersCreated": reconciliation.customers_created,
        "customersPerhapsCreated": reconciliation.customers_perhaps_created,
        "calls": plan.calls,
        "callsSettled": reconciliation.calls_settled,
        "attempts": attempts,
        "refusals": refusals,
        "unclearAttempts": unclear,
        "events": [{"at": iso(at), "kind": kind, "text": text} for at, kind, text in journal.events(_MAX_EVENTS)],
        "undoRows": int(reconciliation.surely_changed().sum()),
        "published": None,
        **_unassign_fields(reconciliation, findings.remaining),
        **_file_fields(folder, journal, reconciliation, options),
        **_time_fields(journal, attempts),
        **preview,
        **verify,
    }
    return Summary(folder, fields)


def _origin_fields(journal: Journal) -> dict[str, Any]:
    """Return the fields that say by whom, for what and with which options the run was started."""
    return {
        "asOf": journal.fact(Fact.AS_OF),
        "baseUrl": journal.fact(Fact.BASE_URL),
        "baseUrlFlag": journal.base_url_flag,
        "sandbox": journal.fact(Fact.SANDBOX),
        "options": journal.fact(Fact.OPTIONS),
        "airflow": journal.fact(Fact.AIRFLOW) or None,
        **saved_plan_json(journal.fact),
    }


def _owner_fields(owners: OwnersSummary | None) -> dict[str, Any]:
    """Return the fields about looked-up customers, as in the plan; nothing without `--owners`."""
    if owners is None:
        return {}
    return {"owners": owners.as_json(), "ownersFound": owners.found, "ownersNotFound": owners.not_found}


def _outcome_fields(reconciliation: Reconciliation) -> dict[str, Any]:
    wanting = reconciliation.attention_counts()
    return {
        "counts": {str(outcome): count for outcome, count in reconciliation.counts().items()},
        "attention": sum(wanting.values()),
        "attentionByOutcome": {str(outcome): count for outcome, count in wanting.items() if count},
    }


def _file_fields(
    folder: Path, journal: Journal, reconciliation: Reconciliation, options: ReportOptions
) -> dict[str, Any]:
    """Return the names of the files for people, and those of the current attention files."""
    wanted = [ATTENTION, *[ATTENTION_WORKBOOK] * _wants_attention_workbook(journal, reconciliation, options)]
    versions = [attention_files.versions(folder, name, journal) for name in wanted]
    others = [name for name in FILES if name not in (SUMMARY, ATTENTION)]
    return {
        "files": [
            others[0],
            *chain.from_iterable(versions),
            *others[1:],
            *[PREVIEW] * (folder / PREVIEW).exists(),
            *[WORKBOOK] * options.xlsx,
        ],
        "attentionFiles": [names[-1] for names in versions],
    }


def _input_fields(files: Sequence[InputFile]) -> dict[str, Any]:
    return {
        "name": ", ".join(file.name for file in files),
        "sha256": ", ".join(file.sha256 for file in files),
        "rows": sum(file.rows for file in files),
    }


def _unassign_fields(reconciliation: Reconciliation, remaining: RemainingDevices) -> dict[str, int]:
    """Return the fields about unassigns without effect and the devices that customers have left."""
    return {
        "unassignsWithoutEffect": int(reconciliation.without_effect().sum()),
        "customersWithoutDevices": remaining.without_devices,
        "customersStillHolding": remaining.still_holding,
    }


def _time_fields(journal: Journal, attempts: int) -> dict[str, Any]:
    """Return start, end, duration, who started it, the rate between first and last attempt, and the limit found."""
    span = journal.attempt_span()
    sending = span[1] - span[0] if span else 0.0
    started, ended = journal.fact(Fact.STARTED_AT), journal.fact(Fact.ENDED_AT)
    return {
        "startedAt": iso(started),
        "endedAt": iso(ended),
        "startedBy": journal.fact(Fact.STARTED_BY),
        "seconds": round(ended - started, 3) if started and ended else None,
        "sendingSeconds": round(sending, 3),
        "rateReached": round((attempts - 1) / sending, 3) if sending else None,
        "rateFound": journal.fact(Fact.RATE_FOUND),
    }
