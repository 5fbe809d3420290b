"""From a journal to the plan that its run was started with."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from telemetron_batch.config.config import RunConfig
from telemetron_batch.config.rate import Rate
from telemetron_batch.domain.errors import JournalError
from telemetron_batch.domain.model import OwnersSummary, PlanOptions
from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.journal import Journal
from telemetron_batch.journal.reader import JournalReader
from telemetron_batch.planning.delta import decode_column
from telemetron_batch.planning.plan import Plan
from telemetron_batch.planning.plan_summary import PlanSummary, summarize
from telemetron_batch.planning.planner import plan_calls
from telemetron_batch.rows.rows import RowsBuilder
from telemetron_batch.run.history import RecordedRun, recorded_runs
from telemetron_batch.run.order_guard import check_order
from telemetron_batch.sending.observer import RunObserver
from telemetron_batch.storage.spill import Scratch

_BYTES_PER_ROW: Final = 50
"""Approximate bytes of key text of a row."""


def replan_from_journal(journal: JournalReader, scratch: Scratch) -> Plan:
    """Make the plan again that the run was started with, from the journal's rows. Raises JournalError."""
    shape = journal.fact(Fact.FIXED_OPTIONS)
    scratch.reserve(_BYTES_PER_ROW * sum(file.rows for file in journal.input_files))
    builder = RowsBuilder(scratch, with_device_types=shape["auto_create_devices"])
    for file, keys in journal.key_columns():
        builder.add(file, keys)
    options = PlanOptions(
        chunk_size=shape["chunk_size"],
        auto_create_devices=shape["auto_create_devices"],
        hold_by_input=journal.fact(Fact.HOLDS_BY_INPUT, False),  # earlier versions held nothing because of the input
    )
    left_out = journal.fact(Fact.CONFIRMED_BY)
    plan = plan_calls(builder.rows(), options, None if left_out is None else decode_column(left_out))
    if plan.fingerprint() != journal.fact(Fact.PLAN_FINGERPRINT):
        version = journal.fact(Fact.VERSION)
        raise JournalError(f"this version plans the run otherwise than {version} did", f"use version {version}")
    return plan


def summarize_from_journal(
    plan: Plan, journal: JournalReader, rate: Rate, non_defaults: Sequence[str] = ()
) -> PlanSummary:
    """Return the plan in numbers, with what its journal records of earlier runs and of owners."""
    summary = summarize(plan, journal.input_files, rate, journal.fact(Fact.SINCE), non_defaults)
    return summary.with_owners(OwnersSummary.of_fact(journal.fact(Fact.OWNERS)))


def check_order_again(config: RunConfig, journal: Journal, folder: Path, observer: RunObserver) -> None:
    """Raise BrakeError if a newer run of the job has sent something since this one stopped."""
    run = RecordedRun.of(folder, journal.fact)
    if not config.brakes.out_of_order and run.has_order:
        others = recorded_runs(folder.parent, folder, partial(observer.on_message, "warning"))
        check_order(run, others, journal.key_columns, partial(observer.on_message, "warning"))
