"""How to continue a run that ended early, where the same command alone would begin another one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from batch.errors import BatchError
from batch.stops import Advice
from batch.storage.facts import Fact
from batch.storage.journal import Journal


def by_id(journal: Journal) -> str:
    """Return the id that the same command has to name to continue the run; empty where it named it before.

    The folder's name is the id: the folder may have been renamed since.
    """
    run_id = journal.path.parent.name
    return run_id if journal.meta(Fact.ID_MADE_UP) or journal.meta(Fact.RUN_ID) != run_id else ""


def by_id_words(journal: Journal) -> str:
    """Return what the same command lacks to continue the run, as words that follow it; empty for nothing."""
    run_id = by_id(journal)
    return f" with --run-id {run_id}" if run_id else ""


@contextmanager
def errors_by_id(journal: Path) -> Iterator[None]:
    """Have an error or an interrupt say how to continue the run by its id, if it was begun and has this journal."""
    try:
        yield
    except BatchError as exc:
        if journal.exists():
            exc.run_id = journal.parent.name
        raise
    except KeyboardInterrupt as exc:
        if journal.exists():
            exc.args = (Advice(repeat=True).words(journal.parent.name),)
        raise
