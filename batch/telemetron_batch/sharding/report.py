"""Report a run, sharded or not."""

from collections.abc import Mapping
from pathlib import Path

from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.resume_hint import translate_system_errors
from telemetron_batch.reports.summary import Summary
from telemetron_batch.run import pipeline
from telemetron_batch.run.locking import require_run, stored_facts
from telemetron_batch.sharding.merge import merge_and_report
from telemetron_batch.storage.clock import Clock


@translate_system_errors()
def report_run(
    folder: Path, *, xlsx: bool = False, environ: Mapping[str, str] | None = None, clock: Clock | None = None
) -> Summary:
    """Write the files of a run again from its journal, with `xlsx` also the workbooks. Raises BatchError.

    For a sharded run, the journals of the shards are merged first, which is its end: the options in `environ` say who
    hears of it.
    """
    require_run(folder)
    (division,) = stored_facts(folder, Fact.SHARD_LAYOUT)
    if division is not None:
        return merge_and_report(folder, xlsx=xlsx, environ=environ, clock=clock)
    return pipeline.report(folder, xlsx=xlsx)
