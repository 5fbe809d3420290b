"""The configuration of a run that undoes another run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from telemetron_batch.config.config import RunConfig, resolve
from telemetron_batch.config.options import OPTIONS
from telemetron_batch.config.stored import NOT_FROM_JOURNALS, load_stored_config, with_access
from telemetron_batch.domain.errors import JournalError
from telemetron_batch.journal.facts import Fact, is_finished
from telemetron_batch.journal.journal import Journal
from telemetron_batch.run.locking import open_journal, require_run
from telemetron_batch.storage.commands import command, rerun_command

_UNDO = "undo.csv"


def configure_undo(folder: Path, flags: Mapping[str, Any], environ: Mapping[str, str]) -> RunConfig:
    """Return the configuration of a run of this run's undo.csv, in the sandbox if that was.

    The caller's base URL must mean the API of the run. Raises BatchError, also where there is nothing to undo.
    """
    require_run(folder)
    with open_journal(folder) as journal:
        _require_finished(folder, journal)
        sandbox, options = bool(journal.fact(Fact.SANDBOX)), journal.fact(Fact.OPTIONS)
        _require_changes(folder, journal.fact(Fact.SUMMARY))
    taken = {"reports_dir": str(folder.parent), "sandbox": sandbox, "since_last": False}
    config = resolve([str(folder / _UNDO)], {**flags, **_recorded_options(options, flags, environ), **taken}, environ)
    with_access(load_stored_config(folder, options, with_key=False), config.sending, command("undo", folder))
    return config


def _recorded_options(
    options: Mapping[str, Any], flags: Mapping[str, Any], environ: Mapping[str, str]
) -> dict[str, Any]:
    """Return the options that are taken from the run unless the caller gives them: account and lock folder."""
    resumed = (
        one for one in OPTIONS if one.for_resume and one.key in options and one.key not in {*NOT_FROM_JOURNALS, "until"}
    )
    return {
        one.key: options[one.key] for one in resumed if flags.get(one.key) is None and not environ.get(one.variable)
    }


def _require_finished(folder: Path, journal: Journal) -> None:
    """Raise JournalError unless the run has finished."""
    if is_finished(journal.fact):
        return
    if journal.is_in_shards:
        raise JournalError(f"run {folder.name} has not finished", f"make its shards, then {command('report', folder)}")
    base_url = journal.base_url_flag
    advice = f"go on with it: {command('resume', folder, base_url)}"
    if journal.fact(Fact.ENDED_AT) is None:
        written = f"{command('report', folder)} writes {_UNDO}, which takes back what it has done so far"
        raise JournalError(f"run {folder.name} has not finished, or is at work", f"{advice}; or {written}")
    feed = rerun_command(folder, _UNDO, sandbox=bool(journal.fact(Fact.SANDBOX)), base_url=base_url)
    raise JournalError(f"run {folder.name} has not finished", f"{advice}; or take back what it has done so far: {feed}")


def _require_changes(folder: Path, summary: Mapping[str, Any]) -> None:
    """Raise JournalError unless there is something to undo."""
    if not (folder / _UNDO).exists():
        raise JournalError(f"run {folder.name} has no {_UNDO} any more", f"write it again: {command('report', folder)}")
    if summary.get("undoRows") == 0:  # earlier versions did not count them
        what = f"there is nothing to take back: run {folder.name} is not sure to have changed anything"
        raise JournalError(what, "nothing was sent")
