"""Plan a run and divide it into shards."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from telemetron_batch.config.config import RunConfig
from telemetron_batch.domain.approval import ApprovalPolicy
from telemetron_batch.domain.errors import ConfigError, JournalError, untrusted_path_errors
from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.journal import Journal
from telemetron_batch.journal.layout import JOURNAL_NAME, LOCK_NAME, SHARDS, shard_folders
from telemetron_batch.journal.resume_hint import translate_system_errors
from telemetron_batch.planning.plan_summary import PlanSummary
from telemetron_batch.run.await_input import await_input
from telemetron_batch.run.locking import (
    LockRequest,
    LockWaiter,
    acquire_lease,
    lock_of_run,
    open_journal,
    run_folder,
    run_scratch,
)
from telemetron_batch.run.metadata import ensure_same_run
from telemetron_batch.run.prepare import DraftedRun, create_run, new_run_id
from telemetron_batch.run.query_snapshot import with_query_result
from telemetron_batch.run.replan import replan_from_journal, summarize_from_journal
from telemetron_batch.run.requirements import require_key
from telemetron_batch.sending.observer import RunObserver
from telemetron_batch.sharding.partition import CALLS, Shard, shard_folder, write_shards
from telemetron_batch.sharding.rate_slots import slot_rate
from telemetron_batch.storage.clock import Clock, RealClock
from telemetron_batch.storage.trusted_folders import require_files, require_folder, shared_with_group

UNRELEASED_FILE: Final = "left.arrow"
"""The file in a shard's folder with the devices that its unassigns have not surely released."""


@dataclass(frozen=True, slots=True)
class ShardLayout:
    """The shards of a run."""

    shards_at_once: int
    """How many shards may run at once; they share the rate."""
    shards: tuple[Shard, ...]

    def shard(self, number: int) -> Shard:
        """Return one shard. Raises ConfigError."""
        if not 1 <= number <= len(self.shards):
            raise ConfigError(f"there is no shard {number}", f"the run has shards 1 to {len(self.shards)}")
        return self.shards[number - 1]

    @classmethod
    def of(cls, journal: Journal) -> "ShardLayout | None":
        """Return the layout of a run; None if it was not divided."""
        facts = journal.fact(Fact.SHARD_LAYOUT)
        return None if facts is None else cls(facts["atOnce"], tuple(map(Shard.from_json, facts["shards"])))


@dataclass(frozen=True, slots=True)
class ShardedPlan:
    """A run that is planned in shards."""

    folder: Path
    summary: PlanSummary
    layout: ShardLayout

    @property
    def run_id(self) -> str:
        """The run id."""
        return self.folder.name

    @property
    def shards(self) -> tuple[Shard, ...]:
        """The shards of the run."""
        return self.layout.shards

    def as_json(self) -> dict[str, Any]:
        """Return the fields of the JSON document: those of any plan, and those about shards."""
        return {
            **self.summary.as_json(),
            "runId": self.run_id,
            "folder": str(self.folder),
            "shardsAtOnce": self.layout.shards_at_once,
            "shards": [shard.as_json() for shard in self.shards],
        }


@translate_system_errors()
def plan_shards(config: RunConfig, *, observer: RunObserver | None = None, clock: Clock | None = None) -> ShardedPlan:
    """Plan a run and divide it into `config.shards`, without any network. Raises BatchError.

    Repeating it with the same input changes nothing.
    """
    clock, observer = clock or RealClock(), observer or RunObserver()
    require_key(config)
    _check_options(config)
    config = await_input(config, clock, observer)
    config = replace(config, run_id=config.run_id or new_run_id(config, clock))
    folder = config.folder
    waiting = LockWaiter.of(config, clock, observer)
    with (
        shared_with_group(config.shared_reports_dir),
        run_folder(folder),
        acquire_lease(lock_of_run(folder), waiting) as lease,
        run_scratch(folder, lease) as scratch,
    ):
        plan = None
        if not (folder / JOURNAL_NAME).exists():
            with with_query_result(config, folder, clock) as with_files:
                plan = create_run(with_files, scratch, observer, clock, partial(_write_shard_files, config, folder))
            config = replace(config, files=())
        with open_journal(folder, lease) as journal:
            layout = _require_same_layout(config, journal, folder)
            ensure_same_run(config, journal, folder)
            plan = plan or replan_from_journal(journal, scratch)
            return ShardedPlan(folder, summarize_from_journal(plan, journal, config.sending.rate), layout)


def _check_options(config: RunConfig) -> None:
    """Raise ConfigError if the options cannot be combined with shards."""
    if config.shards is None:
        raise ConfigError("the number of shards is missing", "give --shards N")
    if config.approval is ApprovalPolicy.SECOND:
        raise ConfigError(
            "--approval cannot be combined with --shards", "plan it without --shards, or without --approval"
        )
    if config.sandbox:
        raise ConfigError(
            "--sandbox is for one process", "start telemetron-batch sandbox, and give its address with --base-url"
        )
    if config.sending.verify:
        raise ConfigError("--verify cannot be done by shards", "verify the run after its report")
    slot_rate(config, _shards_at_once(config), 0)


def _shards_at_once(config: RunConfig) -> int:
    shards = config.shards or 1
    return min(shards, config.shards_at_once or shards)


def _write_shard_files(config: RunConfig, folder: Path, drafted: DraftedRun) -> dict[str, object]:
    """Write the calls of each shard; return the facts that the journal stores about them."""
    if leftover := next(iter(shard_folders(folder)), None):
        what = f"{leftover / JOURNAL_NAME} is of a run whose journal is gone"
        raise JournalError(what, f"move {folder / SHARDS} away")
    shutil.rmtree(folder / SHARDS, ignore_errors=True)  # a killed process may have left it
    shards = write_shards(drafted.plan, folder, config.shards or 1)
    return {"division": {"atOnce": _shards_at_once(config), "shards": [shard.as_json() for shard in shards]}}


def _require_same_layout(config: RunConfig, journal: Journal, folder: Path) -> ShardLayout:
    layout = ShardLayout.of(journal)
    advice = "give another --run-id"
    if layout is None:
        raise JournalError(f"run {folder.name} was started without shards", advice)
    if (len(layout.shards), layout.shards_at_once) != (config.shards, _shards_at_once(config)):
        was = f"{len(layout.shards)} shards, {layout.shards_at_once} at once"
        raise JournalError(f"run {folder.name} was planned in {was}", advice)
    return layout


def lock_of_shard(run: Path, shard: int) -> LockRequest:
    """Return the lock that a process holds while it works on a shard."""
    return LockRequest(f"shard {shard} of run {run.name}", shard_folder(run, shard) / LOCK_NAME)


def require_shard(run: Path, shard: int) -> None:
    """Raise UntrustedRunError unless the existing folders and files of a shard are ours."""
    with untrusted_path_errors():
        require_folder(run / SHARDS)
        require_files(shard_folder(run, shard), (CALLS, UNRELEASED_FILE))


def describe_shards(shards: Sequence[int]) -> str:
    """Return some shards and "has" or "have", to start a sentence."""
    if len(shards) == 1:
        return f"shard {shards[0]} has"
    return f"shards {', '.join(map(str, shards[:-1]))} and {shards[-1]} have"
