"""How to continue a run that ended early, where the same command alone would begin another one or ask another API."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from batch.errors import BatchError
from batch.stops import Advice, listed_flags
from batch.storage.facts import Fact
from batch.storage.journal import Journal


def flags_to_continue(journal: Journal) -> str:
    """Return the flags that the command which continues the run needs: its id, unless it was named, and its base URL.

    The folder's name is the id: the folder may have been renamed since.
    """
    run_id = journal.path.parent.name
    is_named = not journal.meta(Fact.ID_MADE_UP) and journal.meta(Fact.RUN_ID) == run_id
    return listed_flags("" if is_named else run_id, journal.base_url_flag)


def flags_in_words(journal: Journal) -> str:
    """Return what the same command lacks to continue the run, as words that follow it; empty for nothing."""
    flags = flags_to_continue(journal)
    return f" with {flags}" if flags else ""


@contextmanager
def errors_with_flags(journal: Path, flags: str) -> Iterator[None]:
    """Have an error or an interrupt say how to continue the run, if it was begun and has this journal."""
    try:
        yield
    except BatchError as exc:
        if flags and os.path.lexists(journal):
            exc.flags = flags
        raise
    except KeyboardInterrupt as exc:
        if flags and os.path.lexists(journal):
            exc.args = (Advice(repeat=True).words(flags),)
        raise
