"""Plan an input without any network, for the command `plan`: everything that a run does up to sending.

Apart from `pipeline`, so that `plan` does not load what sends and reports.
"""

import tempfile
from pathlib import Path

from telemetron_batch.config.config import RunConfig
from telemetron_batch.journal.resume_hint import translate_system_errors
from telemetron_batch.planning.plan_summary import PlanSummary, summarize
from telemetron_batch.run.await_input import await_input
from telemetron_batch.run.prepare import delta_json, load_input, plan_and_check_limits, since_last, size_of_input
from telemetron_batch.run.query_snapshot import with_query_result
from telemetron_batch.sending.observer import RunObserver
from telemetron_batch.storage.clock import Clock, RealClock
from telemetron_batch.storage.spill import Scratch
from telemetron_batch.storage.trusted_folders import shared_with_group


@translate_system_errors()
def make_plan(config: RunConfig, clock: Clock | None = None, observer: RunObserver | None = None) -> PlanSummary:
    """Load, plan and check the input without any network and without leaving a file. Raises BatchError."""
    clock = clock or RealClock()
    config = await_input(config, clock, observer or RunObserver())
    with (
        shared_with_group(config.shared_reports_dir),
        tempfile.TemporaryDirectory() as folder,
        Scratch(Path(folder) / "scratch") as scratch,
    ):
        with with_query_result(config, Path(folder), clock) as read_config:
            loaded = load_input(read_config, size_of_input(read_config), Path(folder), scratch)
        delta = since_last(config, loaded, clock)
        plan = plan_and_check_limits(config, loaded, delta, clock)
        return summarize(plan, loaded.files, config.sending.rate, delta_json(delta)).with_owners(loaded.owners)
