"""The one end of a run: reconcile, write the files, conclude the journal, publish."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from telemetron_batch.config.config import RunConfig
from telemetron_batch.domain.stops import Advice, Stop, StopReason
from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.facts_reader import LOSS_ADVICE
from telemetron_batch.journal.journal import Journal
from telemetron_batch.planning.delta import RowDeltaState, encode_column, row_delta_states
from telemetron_batch.planning.plan import Plan
from telemetron_batch.reconciliation.effect import has_only_ineffective_unassigns
from telemetron_batch.reconciliation.owner_words import owner_words
from telemetron_batch.reconciliation.reconcile import Reconciliation
from telemetron_batch.reports.cause_summaries import top_causes
from telemetron_batch.reports.summary import Summary
from telemetron_batch.reports.write_all import ReportOptions, reconcile, write_files
from telemetron_batch.rows.rows import joined_pairs
from telemetron_batch.run.history import RecordedRun, has_taken_any, known_runs
from telemetron_batch.run.publish import publish
from telemetron_batch.storage.log import LOGGER

_NO_PAIRS: Final = pa.array([], pa.string())


def finish_run(config: RunConfig, plan: Plan, journal: Journal) -> Summary:
    """Reconcile a run, write its files, conclude its journal, and publish. Return the summary."""
    stop = load_stop_reason(journal)
    reconciliation = reconcile(journal, plan, stop)
    if has_only_ineffective_unassigns(reconciliation) and journal.fact(Fact.UNASSIGNS_QUESTIONED) is None:
        journal.set_facts(unassignsQuestioned=_is_unexpected(config, journal, reconciliation))
        reconciliation = reconcile(journal, plan, stop)
    summary = write_files(config.folder, journal, reconciliation, report_options(config, stop))
    words = owner_words(reconciliation, has_ended=stop is None)
    journal.conclude(
        summary=summary.fields,
        standing=encode_column(_delta_status(reconciliation)),
        ownerWords=encode_column(words),
    )
    ended = summary.fields["stop"] or {"reason": "finished"}
    LOGGER.info("ended: exit code %d, %s", summary.exit_code, ended["reason"])
    published = publish(config.publish, journal, summary)
    if not config.notices.notify:
        return published
    return replace(published, causes=top_causes(reconciliation, journal.blocks(cells={})))


def rewrite_files(config: RunConfig, plan: Plan, journal: Journal) -> Summary:
    """Write the files of a run that has ended before once more, and publish them."""
    stop = load_stop_reason(journal)
    reconciliation = reconcile(journal, plan, stop)
    folder = config.folder
    return publish(config.publish, journal, write_files(folder, journal, reconciliation, report_options(config, stop)))


def _is_unexpected(config: RunConfig, journal: Journal, reconciliation: Reconciliation) -> bool:
    """Return whether nothing explains that no unassign of a run had an effect.

    Such rows are expected in a report that is fed back, with `--since-last`, and if an earlier run has unassigned one
    of the pairs.
    """
    folder = config.folder
    if journal.fact(Fact.SINCE) is not None or RecordedRun.of(folder, journal.fact).has_own_reports:
        return False
    without, pairs, end = reconciliation.without_effect(), [_NO_PAIRS], 0
    for _, keys in journal.key_columns():
        first, end = end, end + keys.num_rows
        pairs.append(joined_pairs(keys.filter(pa.array(without[first:end]))))
    others = known_runs(config.reports_dir, folder, LOGGER.warning)
    return not has_taken_any(pa.concat_arrays(pairs), config.api_identity, others, LOGGER.warning)


def _delta_status(reconciliation: Reconciliation) -> npt.NDArray[np.int8]:
    """Return the state of each row for later runs; rows that verification contradicts are uncertain."""
    states = row_delta_states(reconciliation.plan, reconciliation.outcome, reconciliation.unclear_attempts > 0)
    states[reconciliation.contradicted()] = RowDeltaState.UNCERTAIN
    return states


def report_options(config: RunConfig, stop: Stop | None) -> ReportOptions:
    """Return how to write the files of a run that ended so."""
    brakes = config.brakes
    return ReportOptions(
        stop=stop,
        raw_csv=config.raw_csv,
        xlsx=config.xlsx,
        tolerate=config.tolerate,
        empty_exit_code=brakes.empty_exit_code,
    )


def load_stop_reason(journal: Journal) -> Stop | None:
    """Return why the run ended early, as its journal has it."""
    if loss := journal.loss:
        return Stop(StopReason.RECORDS_LOST, loss, advice=Advice(LOSS_ADVICE))
    if journal.fact(Fact.ENDED_AT) is None:
        return Stop(StopReason.PROCESS_ENDED)
    return parse_stop(journal.fact(Fact.STOP))


def serialize_stop(stop: Stop | None) -> dict[str, Any] | None:
    """Return a stop as the journal stores it; None without one."""
    return None if stop is None else stop.as_fact()


def parse_stop(note: Mapping[str, Any] | None) -> Stop | None:
    """Return the stop that `serialize_stop` stored."""
    return None if note is None else Stop.of_fact(note)
