"""The runs whose folders were removed, as far as later runs compare themselves with them."""

from contextlib import closing, suppress
from pathlib import Path

from telemetron_batch.domain.errors import BatchError
from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.facts_reader import ImmutableFacts
from telemetron_batch.journal.layout import JOURNAL_NAME
from telemetron_batch.journal.removed_runs import RemovedRun, read_removed_runs


def removed_runs(reports_dir: Path) -> list[RemovedRun]:
    """Return the removed runs of a reports folder, in the order of removal.

    The line of a run is written before its folder is removed. As long as the folder is there, its journal counts, and
    the line does not. Raises JournalError or UntrustedRunError if the lines cannot be read.
    """
    return [one for one in read_removed_runs(reports_dir) if not _is_still_there(reports_dir, one)]


def _is_still_there(reports_dir: Path, run: RemovedRun) -> bool:
    path = reports_dir / run.run_id / JOURNAL_NAME
    if path.exists():
        with suppress(BatchError), closing(ImmutableFacts(path)) as journal:
            return bool(journal.fact(Fact.JOURNAL_ID) == run.journal_id)
    return False
