"""List the runs under a reports folder: start, input, state and next step."""

import json
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from telemetron_batch.domain.errors import BatchError, DiskError, JournalError, UntrustedRunError
from telemetron_batch.domain.stops import StopReason
from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.facts_reader import LOSS_ADVICE, FactsReader, ImmutableFacts
from telemetron_batch.journal.layout import JOURNAL_NAME, LOCK_NAME, run_folders, shard_folders
from telemetron_batch.journal.planned_run import saved_plan_json
from telemetron_batch.run.approval import ApprovalRequest
from telemetron_batch.storage.clock import Clock, RealClock, iso
from telemetron_batch.storage.commands import command, shard_command
from telemetron_batch.storage.lease_files import is_in_use, remote_holder
from telemetron_batch.storage.lock import is_held
from telemetron_batch.storage.system_users import SystemUsers
from telemetron_batch.storage.trusted_folders import read_file


@dataclass(frozen=True, slots=True)
class RunInfo:
    """One run in the list."""

    run_id: str
    started_at: str
    input: str
    rows: int
    state: str
    """The state of the run.

    planned, awaitingApproval, approved, running, interrupted (its process died), stopped, finished,
    incomplete (its journal lost records) or unreadable. A sharded run is planned until a shard has started, and then
    in shards until it is reported.
    """
    as_of: str | None
    """The value of `--as-of`."""
    attention: int | None
    exit_code: int | None
    next_step: str
    approval: Mapping[str, Any] | None = None
    """Who planned and who approved it; None if its plan was not saved."""
    fingerprint: str | None = None
    """The short fingerprint of its saved plan."""

    def as_json(self) -> dict[str, Any]:
        """Return it under the names of the JSON document."""
        return {
            "runId": self.run_id,
            "startedAt": self.started_at,
            "input": self.input,
            "rows": self.rows,
            "state": self.state,
            "asOf": self.as_of,
            "attention": self.attention,
            "exitCode": self.exit_code,
            "nextStep": self.next_step,
            "approval": self.approval,
            "fingerprint": self.fingerprint,
        }


def list_runs(
    reports_dir: Path,
    warn: Callable[[str], None] = lambda _: None,
    *,
    users: SystemUsers | None = None,
    clock: Clock | None = None,
) -> list[RunInfo]:
    """Return all runs under the folder, the newest first; `warn` is called for runs of other users."""
    users, now = users or SystemUsers(), (clock or RealClock()).wall()
    found = (_line_of_ours(folder, warn, users, now) for folder in run_folders(reports_dir, warn))
    lines = [line for line in found if line is not None]
    return sorted(lines, key=lambda line: (line.started_at, line.run_id), reverse=True)


def _line_of_ours(folder: Path, warn: Callable[[str], None], users: SystemUsers, now: float) -> RunInfo | None:
    try:
        return run_info(folder, users, now)
    except UntrustedRunError as exc:
        warn(f"run {folder.name} is passed over: {exc.reason}")
        return None


def run_info(folder: Path, users: SystemUsers, now: float) -> RunInfo:
    """Return state and next step of a run; `now` is in seconds since the epoch."""
    if is_held(folder / LOCK_NAME):
        return _run_info(folder, _under_way(folder), "running", "wait for it")
    elsewhere = remote_holder(folder / LOCK_NAME)
    if elsewhere is not None:
        # Whether that process is alive can be told only after watching its lease.
        resume = command("resume", folder, _base_url_flag(folder))
        return _run_info(folder, _under_way(folder), "running", f"wait for {elsewhere}; if it has died: {resume}")
    try:
        journal = FactsReader(folder / JOURNAL_NAME)
    except (JournalError, DiskError) as exc:
        return RunInfo(folder.name, "", "", 0, "unreadable", None, None, None, str(exc))
    try:
        if journal.loss:
            return _run_info(folder, _begun(journal), "incomplete", f"{journal.loss}; {LOSS_ADVICE}")
        fields, in_shards = journal.fact(Fact.SUMMARY) or {}, journal.is_in_shards
        resume = command("resume", folder, journal.base_url_flag)
        if fields and journal.fact(Fact.ENDED_AT) is not None:
            again = f"its shards again, then {command('report', folder)}" if in_shards else resume
            return _ended_run_info(folder, fields, again)
        begun = _begun(journal)
        if in_shards:
            return _in_shards(folder, begun)
        if journal.is_unsent_plan:
            return _planned_run_info(folder, journal, users, now)
        return _run_info(folder, begun, "interrupted", resume)
    finally:
        journal.close()


def _planned_run_info(folder: Path, journal: FactsReader, users: SystemUsers, now: float) -> RunInfo:
    """Return a run whose plan was saved, and which has not sent anything."""
    begun, resume = _begun(journal), command("resume", folder, journal.base_url_flag)
    try:
        request = ApprovalRequest.of(folder, journal.fact)
        if request is None or not request.planned.needs_approval:
            return _run_info(folder, begun, "planned", resume)
        approval = request.find(users, now)
    except BatchError as exc:
        return _run_info(folder, begun, "awaitingApproval", exc.advice or str(exc))
    if approval is None:
        return _run_info(folder, begun, "awaitingApproval", f"as another user: {request.command}")
    return _run_info(folder, begun | saved_plan_json(journal.fact, approval), "approved", resume)


def _in_shards(folder: Path, fields: Mapping[str, Any]) -> RunInfo:
    """Return a sharded run that was not reported yet."""
    begun = shard_folders(folder)
    if any(is_in_use(shard / LOCK_NAME) for shard in begun):
        return _run_info(folder, fields, "running", "wait for its shards")
    if not begun:
        return _run_info(folder, fields, "planned", shard_command(folder, base_url=fields["flag"]))
    return _run_info(folder, fields, "in shards", command("report", folder))


def _ended_run_info(folder: Path, fields: Mapping[str, Any], again: str) -> RunInfo:
    if fields["state"] == "stopped":
        if fields["stop"].get("code") in (StopReason.NOT_THE_API, StopReason.REDIRECTED):
            again = fields["stop"]["advice"]
        return _run_info(folder, fields, "stopped", again)
    return _run_info(folder, fields, "finished", "look at attention.csv" if fields["attention"] else "nothing")


def _base_url_flag(folder: Path) -> str | None:
    """Return the base URL flag of a run whose journal may be open on another host."""
    with suppress(JournalError, DiskError), closing(ImmutableFacts(folder / JOURNAL_NAME)) as journal:
        return journal.base_url_flag
    return None


def _run_info(folder: Path, fields: Mapping[str, Any], state: str, next_step: str) -> RunInfo:
    input_fields = fields.get("input", {})
    return RunInfo(
        run_id=folder.name,
        started_at=fields.get("startedAt", ""),
        input=input_fields.get("name", ""),
        rows=input_fields.get("rows", 0),
        state=state,
        as_of=fields.get("asOf"),
        attention=fields.get("attention"),
        exit_code=fields.get("exitCode") if state in ("finished", "stopped") else None,
        next_step=next_step,
        approval=fields.get("approval"),
        fingerprint=fields.get("fingerprint"),
    )


def _begun(journal: FactsReader) -> dict[str, Any]:
    """Return the first facts of a journal under the names of a summary; `flag` is its base URL flag."""
    inputs = journal.fact(Fact.INPUTS, [])
    input_fields = {"name": ", ".join(one["name"] for one in inputs), "rows": sum(one["rows"] for one in inputs)}
    started, flag = iso(journal.fact(Fact.STARTED_AT)), journal.base_url_flag
    fields = {"startedAt": started, "asOf": journal.fact(Fact.AS_OF), "input": input_fields, "flag": flag}
    with suppress(JournalError):  # a damaged fact must not hide the run
        fields |= saved_plan_json(journal.fact)
    return fields


def _under_way(folder: Path) -> dict[str, Any]:
    """Return what is known of an active run: its last summary, or the first facts of its journal."""
    with suppress(JournalError, DiskError), closing(ImmutableFacts(folder / JOURNAL_NAME)) as journal:
        return _begun(journal) | _summary(folder)
    return _summary(folder)


def _summary(folder: Path) -> dict[str, Any]:
    try:
        fields: dict[str, Any] = json.loads(read_file(folder / "summary.json"))
    except (OSError, ValueError):
        return {}
    return fields
