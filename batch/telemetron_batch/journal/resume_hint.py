"""Advice how to continue a run that ended early, and exit codes of errors after something was sent.

Repeating the command is not always enough: it may start another run or use another API.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from telemetron_batch.domain.errors import BatchError, DiskError, JournalError, PathError, system_error
from telemetron_batch.domain.stops import Advice, ExitCode, ResumeHint, listed_flags
from telemetron_batch.journal.facts import Fact
from telemetron_batch.storage.commands import command

if TYPE_CHECKING:  # `check` must not load what reads journals
    from telemetron_batch.journal.journal import Journal


def resume_hint_of(journal: Journal) -> ResumeHint:
    """Return how to continue a run: with the same command if the command names the run id.

    The name of the folder is the id, because the folder may have been renamed.
    """
    folder = journal.path.parent
    is_named = not journal.fact(Fact.RUN_ID_GENERATED) and journal.fact(Fact.RUN_ID) == folder.name
    return resume_hint_in(folder, is_named=is_named, base_url=journal.base_url_flag)


def resume_hint_in(folder: Path, *, is_named: bool, base_url: str | None) -> ResumeHint:
    """Return how to continue the run in a folder; `is_named` is whether its command names the run id."""
    if is_named:
        return ResumeHint(listed_flags("", base_url))
    return ResumeHint(listed_flags(folder.name, base_url), command("resume", folder, base_url))


@contextmanager
def errors_with_resume_hint(journal: Path, resume_hint: ResumeHint) -> Iterator[None]:
    """Add to an error or interrupt how to continue the run, if the journal exists."""
    try:
        with translate_system_errors():
            yield
    except BatchError as exc:
        if os.path.lexists(journal):
            exc.resume_hint = resume_hint
        raise
    except KeyboardInterrupt as exc:
        if resume_hint != ResumeHint() and os.path.lexists(journal):
            exc.args = (Advice(repeat=True).words(resume_hint),)
        raise


@contextmanager
def translate_system_errors() -> Iterator[None]:
    """Translate any OSError into a BatchError."""
    try:
        yield
    except OSError as exc:
        raise system_error(exc) from exc


@contextmanager
def errors_as_stop_if_sent(journal: Journal) -> Iterator[None]:
    """Translate any OSError into a BatchError, with exit code STOPPED if the run has sent something."""
    try:
        with translate_system_errors():
            yield
    except PathError as exc:
        if _has_sent(journal):
            exc.exit_code = ExitCode.STOPPED
        raise


def _has_sent(journal: Journal) -> bool:
    with suppress(DiskError, JournalError):
        return journal.has_attempts()
    return True
