"""The moment that `--until` means for a run: counted from the first start of its run id, in whatever process."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from telemetron_batch.config.config import RunConfig
from telemetron_batch.domain.errors import BatchError, LockedError, UntilPassedError, untrusted_path_errors
from telemetron_batch.domain.local_time import first_local_time_after, local_text
from telemetron_batch.domain.stops import SEND_THE_REST, ExitCode
from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.journal import Journal
from telemetron_batch.journal.layout import JOURNAL_NAME
from telemetron_batch.run.locking import remove_unused_folder, stored_facts
from telemetron_batch.storage.atomic_file import atomic_write, make_private_dir
from telemetron_batch.storage.clock import Clock
from telemetron_batch.storage.trusted_folders import read_file

FIRST_START_FILE: Final = "first-start.json"
"""Holds the first start of a run that has no journal yet, because it waits for its input or for another run."""


def with_until(config: RunConfig, clock: Clock) -> RunConfig:
    """Return the configuration with the moment of `--until`. Raises UntilPassedError if it has passed."""
    until, now = config.sending.until, clock.wall()
    if until is None or config.sending.until_at is not None:
        return config
    start = None if config.run_id is None else _first_start(config.folder)
    at = first_local_time_after(now if start is None else start, until)
    config = replace(config, sending=replace(config.sending, until_at=at))
    _require_before(config, now)
    return config


def _require_before(config: RunConfig, now: float) -> None:
    """Raise UntilPassedError if the moment of `--until` has passed."""
    until, at = config.sending.until, config.sending.until_at
    if until is not None and at is not None and now >= at:
        what = f"--until {until:%H:%M} was over for run {config.run_id} at {local_text(at)}, and nothing was sent now"
        raise UntilPassedError(what, SEND_THE_REST)


def _first_start(folder: Path) -> float | None:
    """Return when the run in a folder was first started; None if it was not, or only planned."""
    if not (folder / JOURNAL_NAME).exists():
        return _noted_start(folder)
    first, created, saved = stored_facts(folder, Fact.FIRST_STARTED_AT, Fact.STARTED_AT, Fact.SAVED_PLAN)
    known: float | None = first if first is not None or saved is not None else created
    return known


def _noted_start(folder: Path) -> float | None:
    try:
        with untrusted_path_errors():
            noted = json.loads(read_file(folder / FIRST_START_FILE))
        return float(noted["firstStartedAt"])
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError):
        return None  # it was not written, or is damaged


def first_started_at(journal: Journal, now: float) -> float:
    """Return when a process first began to send the run; now, unless one has begun before."""
    first: float | None = journal.fact(Fact.FIRST_STARTED_AT)
    return now if first is None else first


@contextmanager
def first_start_kept(config: RunConfig, clock: Clock) -> Iterator[None]:
    """Keep the first start of a run that has no journal yet and ends before it has one, for its next try.

    Kept if a process was stopped or killed while it waited; not if the run could not start, so that it can start
    later.
    """
    note = config.folder / FIRST_START_FILE
    if config.sending.until_at is None or config.run_id_generated or (config.folder / JOURNAL_NAME).exists():
        yield
        return
    _note_start(config.folder, clock.wall())
    is_kept = False
    try:
        yield
    except (BatchError, KeyboardInterrupt) as exc:
        is_kept = not isinstance(exc, BatchError) or exc.exit_code in (ExitCode.STOPPED, ExitCode.LOCKED)
        raise
    finally:
        if not is_kept or (config.folder / JOURNAL_NAME).exists():
            with suppress(OSError):
                note.unlink(missing_ok=True)
            remove_unused_folder(config.folder)


def _note_start(folder: Path, now: float) -> None:
    if _noted_start(folder) is None:
        make_private_dir(folder)
        with atomic_write(folder / FIRST_START_FILE) as file:
            file.write(json.dumps({"firstStartedAt": now}).encode())


@contextmanager
def until_passed_while_waiting(config: RunConfig, clock: Clock) -> Iterator[None]:
    """Turn the end of a wait for a lock into UntilPassedError, if that was at the moment of `--until`."""
    try:
        yield
    except LockedError:
        _require_before(config, clock.wall())
        raise
