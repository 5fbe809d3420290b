"""Find runs whose process was killed before it sent a notice, so that the next command of their job sends it.

A killed run looks like one under way that nothing works on. A file in its folder, made by exactly one process, records
that the end of this work was told.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from telemetron_batch.config.config import RunConfig
from telemetron_batch.domain.base_url import api_identity
from telemetron_batch.domain.errors import BatchError
from telemetron_batch.domain.urls import strip_file_scheme
from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.facts_reader import FactsReader
from telemetron_batch.journal.layout import JOURNAL_NAME, LOCK_NAME, run_folders
from telemetron_batch.notices.announce import CommandEnd
from telemetron_batch.notices.ending import Ending, ending_of_killed_run
from telemetron_batch.run.delta_history import account_hash_of, job_key_of
from telemetron_batch.storage import trusted_folders
from telemetron_batch.storage.clock import Clock
from telemetron_batch.storage.commands import command
from telemetron_batch.storage.lease_files import is_in_use

_TOLD: Final = ".told-{:.0f}"
"""Name of the file that records that the end of the work which began then, in milliseconds, was told."""

_UNREADABLE: Final = (BatchError, OSError, TypeError, ValueError, AttributeError)
"""What reading facts raises that are damaged, or of a version that did not have them."""

JobIdentity = tuple[str, str | None, tuple[str, ...]]
"""API, account and name of a job."""


def untold_kills(config: RunConfig) -> Iterator[Ending]:
    """Yield the ends of killed runs of this job, this run included, without a notice so far; each only once."""
    own, folders = _own_job(config), list[Path]()
    with suppress(BatchError, OSError):  # the run itself says what is wrong with its folder
        folders = run_folders(config.reports_dir, lambda _: None)
    for folder in folders:
        with suppress(*_UNREADABLE):
            is_own_run = folder.name == config.run_id
            if own is None and not is_own_run:
                continue
            began, base_url = _killed_work(folder, None if is_own_run else own)
            if began is not None and _claim(folder, began):
                advice = "it continues now" if is_own_run else f"run {command('resume', folder, base_url)}"
                yield ending_of_killed_run(folder, advice)


@contextmanager
def error_ends_recorded(end: CommandEnd, clock: Clock) -> Iterator[None]:
    """Within this context a command works on a run; if it ends by an error, later commands do not call it killed."""
    began = clock.wall()
    try:
        yield
    except BaseException:
        with suppress(*_UNREADABLE):
            if end.folder is not None and (end.folder / JOURNAL_NAME).exists():
                since, _ = _killed_work(end.folder, None)
                if since is not None and since >= began:  # else this command never began to work on it
                    _claim(end.folder, since)
        raise


def _own_job(config: RunConfig) -> JobIdentity | None:
    """Return the job of a command; None if only the run itself can tell: it is continued without its files."""
    with suppress(*_UNREADABLE):
        if config.files:
            names = [Path(strip_file_scheme(file)).name for file in config.files]
            return api_identity(config.api_identity), account_hash_of(config), job_key_of(config, names)
        with closing(FactsReader(config.folder / JOURNAL_NAME)) as journal:
            return _job_of(journal.fact)
    return None


def _job_of(fact: Callable[[str], Any]) -> JobIdentity:
    return api_identity(fact(Fact.BASE_URL)), fact(Fact.ACCOUNT_HASH), tuple(fact(Fact.JOB_KEY) or ())


def _killed_work(folder: Path, job: JobIdentity | None) -> tuple[float | None, str | None]:
    """Return when the killed process of a run began to work, and the base URL that resume needs.

    None as time if the run is not one of the job (None: of any), was not killed, or is under way. Raises BatchError.
    """
    if is_in_use(folder / LOCK_NAME):
        return None, None
    with closing(FactsReader(folder / JOURNAL_NAME)) as journal:
        fact = journal.fact
        has_ended = fact(Fact.ENDED_AT) is not None or journal.is_in_shards or journal.is_unsent_plan
        if has_ended or (job is not None and (job[1] is None or _job_of(fact) != job)):
            return None, None
        return float(fact(Fact.WORKING_SINCE) or fact(Fact.STARTED_AT) or 0.0), journal.base_url_flag


def _claim(folder: Path, began: float) -> bool:
    """Record that the end of this work is told. Return False if another command has recorded it."""
    path = folder / _TOLD.format(1000 * began)
    try:
        os.close(trusted_folders.open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True
