"""Remove the folders of old runs, and keep a line of each (`prune`).

The line is written before the folder is moved aside, and the folder is deleted after that. So a kill leaves a whole run
or a line; what was moved aside is deleted by the next command.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from telemetron_batch.domain.errors import (
    BatchError,
    BrakeError,
    DiskError,
    JournalError,
    LockedError,
    UntrustedRunError,
)
from telemetron_batch.domain.stops import MAKE_ROOM, ExitCode
from telemetron_batch.journal.layout import DESK, DESK_PLANS, JOURNAL_NAME, UPLOAD_RECORD, UPLOADS, own_run_folders
from telemetron_batch.journal.removed_runs import HistoryDraft, history_draft, read_removed_runs
from telemetron_batch.journal.resume_hint import translate_system_errors
from telemetron_batch.retention.keep_rules import is_old, reasons_to_stay
from telemetron_batch.retention.run_files import edited_attention_files, foreign_files
from telemetron_batch.retention.superseded_rows import leave_out_superseded
from telemetron_batch.retention.workplace import Workplace, workplace
from telemetron_batch.run.removal import RunFacts, read_run_facts, removal_line, removal_rows
from telemetron_batch.storage.clock import Clock, RealClock, iso
from telemetron_batch.verification.answers import remove_expired_answers

_AT_ONCE: Final = 64
"""Runs whose lines are written together."""


@dataclass(frozen=True, slots=True)
class PruneRequest:
    """What to remove."""

    reports_dir: Path
    keep_s: float
    """Runs that ended less than this number of seconds ago stay."""
    dry_run: bool = False
    forget_devices: bool = False
    """Whether the lines of removed runs are kept without customers and devices."""


@dataclass(frozen=True, slots=True)
class OldRun:
    """A run that is removed."""

    run_id: str
    ended_at: float
    size: int
    """Bytes of its files."""

    def as_json(self) -> dict[str, Any]:
        """Return it under the names of the JSON document."""
        return {"runId": self.run_id, "endedAt": iso(self.ended_at), "bytes": self.size}


@dataclass(slots=True)
class PruneResult:
    """What was removed, or with `--dry-run` would be, and why other old runs stay."""

    dry_run: bool
    removed: list[OldRun] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    """Why old or unfinished runs stay, by run id."""
    left: dict[str, str] = field(default_factory=dict)
    """Why runs that should be removed could not be, by run id."""
    inputs: set[str] = field(default_factory=set)
    """SHA-256 of all files that finished runs have read."""

    @property
    def size(self) -> int:
        """Bytes of the files of all removed runs."""
        return sum(run.size for run in self.removed)

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of the command."""
        return ExitCode.ATTENTION if self.left else ExitCode.DONE

    def as_json(self) -> dict[str, Any]:
        """Return the fields of the JSON document."""
        return {
            "exitCode": int(self.exit_code),
            "dryRun": self.dry_run,
            "removed": [run.as_json() for run in self.removed],
            "bytes": self.size,
            "kept": [{"runId": run_id, "reason": reason} for run_id, reason in sorted(self.kept.items())],
            "left": [{"runId": run_id, "reason": reason} for run_id, reason in sorted(self.left.items())],
        }


@translate_system_errors()
def prune(
    request: PruneRequest,
    *,
    confirm: Callable[[PruneResult], bool] = lambda _: True,
    warn: Callable[[str], None] = lambda _: None,
    clock: Clock | None = None,
) -> PruneResult:
    """Remove the folders of finished runs that ended before the time to keep, and that nothing needs.

    `confirm` gets what would be removed, and returns whether to do so; `warn` is called for folders that are passed
    over. Raises BatchError.
    """
    clock = clock or RealClock()
    with workplace(request.reports_dir, clock) as place:
        result, wanted = _survey(request, clock.wall(), warn)
        if request.dry_run:
            return result
        if wanted and not confirm(result):
            raise BrakeError("not confirmed", "nothing was removed")
        result.removed = []
        _remove_all(place, wanted, request, result, clock.wall())
        if request.forget_devices:
            with history_draft(request.reports_dir, place.folder) as draft:
                draft.forget_all_rows()
        remove_expired_answers(request.reports_dir, clock.wall())
        return result


def _survey(request: PruneRequest, now: float, warn: Callable[[str], None]) -> tuple[PruneResult, list[RunFacts]]:
    """Return what would happen, and the runs to remove, the oldest first."""
    result, runs = PruneResult(request.dry_run), list[RunFacts]()
    for folder in own_run_folders(request.reports_dir, partial(_leave, result, warn)):
        try:
            runs.append(read_run_facts(folder))
        except (JournalError, DiskError, UntrustedRunError) as exc:
            _raise_if_full(exc)
            if (folder / JOURNAL_NAME).exists():  # else it was removed meanwhile
                result.left[folder.name] = exc.reason
    before = now - request.keep_s
    result.kept = {run.run_id: "it has not finished" for run in runs if not run.is_finished}
    result.kept |= reasons_to_stay(runs, before, _runs_of_uploads(request.reports_dir))
    old = [run for run in runs if is_old(run, before) and run.run_id not in result.kept]
    result.inputs = {digest for run in runs if run.is_finished for digest in run.input_hashes}
    result.inputs |= {digest for run in read_removed_runs(request.reports_dir) for digest in run.hashes}
    wanted = [run for run in old if _may_be_removed(run, result)]
    wanted.sort(key=lambda run: (run.ended_at or 0.0, run.run_id))
    result.removed = [_old_run(run) for run in wanted]
    return result, wanted


def _leave(result: PruneResult, warn: Callable[[str], None], folder: Path, reason: str) -> None:
    """Note in the result a run folder that is not ours; a link is no run folder, so `warn` is called."""
    if folder.is_symlink():
        warn(f"run {folder.name} is passed over: {reason}")
    else:
        result.left[folder.name] = reason


def _raise_if_full(error: BatchError) -> None:
    """Raise an error that concerns the whole disk, not one run."""
    if isinstance(error, DiskError) and error.next_step == MAKE_ROOM:
        raise error


def _may_be_removed(run: RunFacts, result: PruneResult) -> bool:
    """Return whether a run's folder may be removed; note in the result what it holds that must stay."""
    try:
        foreign = foreign_files(run.folder)
        edited = edited_attention_files(run.folder, run.attention_hashes, result.inputs)
    except BatchError as exc:
        _raise_if_full(exc)
        result.left[run.run_id] = str(exc)
        return False
    if foreign:
        more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        result.left[run.run_id] = f"{run.folder / foreign[0]}{more} is not of this program; move it elsewhere"
    elif edited:
        result.left[run.run_id] = f"{edited[0]} was edited and no run has read it; run it, or move it elsewhere"
    return not foreign and not edited


def _old_run(run: RunFacts) -> OldRun:
    sizes = (path.lstat().st_size for path in run.folder.rglob("*"))
    return OldRun(run.run_id, run.ended_at or 0.0, sum(sizes))


def _remove_all(
    place: Workplace, wanted: Sequence[RunFacts], request: PruneRequest, result: PruneResult, now: float
) -> None:
    for first in range(0, len(wanted), _AT_ONCE):
        with ExitStack() as locks:
            held = [run for run in wanted[first : first + _AT_ONCE] if _hold(place, run, locks, result)]
            for run in _write_lines(place, held, request, result, now):
                old = _old_run(run)
                place.move_here(run.folder)
                result.removed.append(old)
                _remove_plan_view(request.reports_dir, run.run_id)
            place.finish_removals()


def _hold(place: Workplace, run: RunFacts, locks: ExitStack, result: PruneResult) -> bool:
    """Take a run, unless a process works on it or has changed it; note in the result why not."""
    try:
        locks.enter_context(place.hold(run.folder))
        if read_run_facts(run.folder) != run:
            result.kept[run.run_id] = "it was changed just now"
            return False
    except BatchError as exc:
        _raise_if_full(exc)
        reasons = result.kept if isinstance(exc, LockedError) else result.left
        reasons[run.run_id] = exc.reason
        return False
    return _may_be_removed(run, result)


def _write_lines(
    place: Workplace, runs: Sequence[RunFacts], request: PruneRequest, result: PruneResult, now: float
) -> list[RunFacts]:
    """Write the lines of runs, and return these runs; note in the result which journals cannot be read."""
    if not runs:
        return []
    with history_draft(request.reports_dir, place.folder) as draft:
        return [run for run in runs if _write_line(draft, run, result, now, with_rows=not request.forget_devices)]


def _write_line(draft: HistoryDraft, run: RunFacts, result: PruneResult, now: float, *, with_rows: bool) -> bool:
    line = None
    try:
        line = removal_line(run.folder, now, with_rows=with_rows)
        draft.put(line, removal_rows(run.folder) if with_rows else ())
    except (JournalError, DiskError, UntrustedRunError) as exc:
        _raise_if_full(exc)
        if line is not None:
            draft.remove(line)
        result.left[run.run_id] = exc.reason
        return False
    leave_out_superseded(draft, line)
    return True


def _remove_plan_view(reports_dir: Path, run_id: str) -> None:
    """Remove what the page for clerks shows of the plan of a removed run."""
    with suppress(OSError):
        (reports_dir / DESK / DESK_PLANS / f"{run_id}.json").unlink()


def _runs_of_uploads(reports_dir: Path) -> Iterator[str]:
    """Yield the ids of runs whose files are lists of the page for clerks that are no runs yet."""
    with suppress(OSError):
        for entry in os.scandir(reports_dir / UPLOADS):
            with suppress(OSError, ValueError, TypeError, LookupError):
                of_run = json.loads((Path(entry.path) / UPLOAD_RECORD).read_bytes())["ofRun"]
                if of_run is not None:
                    yield str(of_run)
