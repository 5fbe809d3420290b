"""How to go on with a run that ended early, where the program made up its id.

The same command, which names no run, would begin another one. So whatever is advised is completed
here, by the words that all advice has in common for it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from batch.errors import BatchError
from batch.storage.journal import Journal

_SAME: Final = "run the same command again"


def by_id(journal: Journal) -> str:
    """What the last command lacks to go on with the run, as words that follow it; empty where it named the run."""
    return _by_id(journal.meta("runId")) if journal.meta("idMadeUp") else ""


def advised(advice: str, by: str) -> str:
    """The advice with these words after the command to be run again, if it is one to do that."""
    return advice.replace(_SAME, _SAME + by)


@contextmanager
def errors_by_id(journal: Path) -> Iterator[None]:
    """An error or an interrupt says how to go on with the run by its id, if it was begun and has this journal."""
    try:
        yield
    except BatchError as exc:
        if journal.exists():
            exc.advice = advised(exc.advice, _by_id(journal.parent.name))
        raise
    except KeyboardInterrupt as exc:
        if journal.exists():
            exc.args = (advised(_SAME, _by_id(journal.parent.name)),)
        raise


def _by_id(run_id: str) -> str:
    return f" with --run-id {run_id}"
