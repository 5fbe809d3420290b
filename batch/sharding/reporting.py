"""Report a run, whether one process made it or several did."""

from pathlib import Path

from batch import app
from batch.clock import Clock
from batch.going_on import system_errors_in_words
from batch.places import require_run, stored_fact
from batch.sharding.merging import merged
from batch.storage.facts import Fact
from batch.summary import Summary


@system_errors_in_words()
def report_run(folder: Path, *, xlsx: bool = False, clock: Clock | None = None) -> Summary:
    """Write the files of a run again, from its journal alone; with `xlsx` a workbook too. Raises BatchError.

    Of a run made in shards the journals are put together first.
    """
    require_run(folder)
    if stored_fact(folder, Fact.DIVISION) is not None:
        return merged(folder, xlsx=xlsx, clock=clock)
    return app.report(folder, xlsx=xlsx)
