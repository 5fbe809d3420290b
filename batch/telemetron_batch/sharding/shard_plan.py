"""A run planned, and divided into shards: what each of them has to do, and how much of the rate it may use."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from telemetron_batch.config.config import RunConfig
from telemetron_batch.domain.errors import ConfigError, JournalError, refusing_foreign_files
from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.journal import Journal
from telemetron_batch.journal.layout import JOURNAL_NAME, LOCK_NAME, SHARDS, shard_folders
from telemetron_batch.journal.resume_hint import system_errors_in_words
from telemetron_batch.planning.plan import Plan
from telemetron_batch.planning.plan_summary import PlanSummary, summarize
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
from telemetron_batch.run.prepare import create_run, new_run_id
from telemetron_batch.run.replan import replan_from_journal
from telemetron_batch.run.requirements import require_key
from telemetron_batch.sending.observer import RunObserver
from telemetron_batch.sharding.partition import CALLS, Shard, shard_folder, write_shards
from telemetron_batch.sharding.rate_slots import slot_rate
from telemetron_batch.storage.clock import Clock, RealClock
from telemetron_batch.storage.trusted_folders import require_files, require_folder, shared_with_group

LEFT_BEHIND: Final = "left.arrow"
"""In the folder of a shard: what its unassigns have left behind."""


@dataclass(frozen=True, slots=True)
class ShardLayout:
    """Into which shards a run was divided."""

    concurrent: int
    """So many of them share the rate, and no more run at once."""
    shards: tuple[Shard, ...]

    def shard(self, number: int) -> Shard:
        """One of them. Raises ConfigError."""
        if not 1 <= number <= len(self.shards):
            raise ConfigError(f"there is no shard {number}", f"the run has shards 1 to {len(self.shards)}")
        return self.shards[number - 1]

    @classmethod
    def of(cls, journal: Journal) -> "ShardLayout | None":
        """That of a run; None if it was not divided."""
        facts = journal.meta(Fact.DIVISION)
        return None if facts is None else cls(facts["atOnce"], tuple(map(Shard.from_json, facts["shards"])))


@dataclass(frozen=True, slots=True)
class ShardedPlan:
    """A run that was planned in shards, and is now to be made."""

    folder: Path
    digest: PlanSummary
    division: ShardLayout

    @property
    def run_id(self) -> str:
        """The run's."""
        return self.folder.name

    @property
    def shards(self) -> tuple[Shard, ...]:
        """What each has to do."""
        return self.division.shards

    def as_json(self) -> dict[str, Any]:
        """By the names of the JSON document: those of any plan, and some more."""
        return {
            **self.digest.as_json(),
            "runId": self.run_id,
            "folder": str(self.folder),
            "shardsAtOnce": self.division.concurrent,
            "shards": [shard.as_json() for shard in self.shards],
        }


@system_errors_in_words()
def plan_shards(config: RunConfig, *, face: RunObserver | None = None, clock: Clock | None = None) -> ShardedPlan:
    """Plan a run and divide it into `config.shards`; touches no network. Raises BatchError.

    The same again, with the same input, changes nothing.
    """
    clock, face = clock or RealClock(), face or RunObserver()
    require_key(config)
    _check_division(config)
    config = replace(config, run_id=config.run_id or new_run_id(config, clock))
    folder = config.reports_dir / str(config.run_id)
    waiting = LockWaiter.of(config, clock, face)
    with (
        shared_with_group(config.shared_reports_dir),
        run_folder(folder),
        acquire_lease(lock_of_run(folder), waiting) as lease,
        run_scratch(folder, lease) as scratch,
    ):
        plan = None
        if not (folder / JOURNAL_NAME).exists():
            plan = create_run(config, scratch, face, clock, partial(_write_shard_files, config, folder))
            config = replace(config, files=())
        with open_journal(folder, lease) as journal:
            division = _same_division(config, journal, folder)
            ensure_same_run(config, journal, folder)
            plan = plan or replan_from_journal(journal, scratch)
            told = summarize(plan, journal.input_files, config.sending.rate, journal.meta(Fact.SINCE))
            return ShardedPlan(folder, told, division)


def _check_division(config: RunConfig) -> None:
    """Raise ConfigError where the options do not go together."""
    if config.shards is None:
        raise ConfigError("it is not said into how many shards", "say --shards N")
    if config.sandbox:
        raise ConfigError(
            "--sandbox is for one process", "serve one with telemetron-batch sandbox, and name it with --base-url"
        )
    if config.sending.verify:
        raise ConfigError("--verify cannot be done by shards", "verify the run when it has been put together")
    slot_rate(config, _at_once(config), 0)


def _at_once(config: RunConfig) -> int:
    shards = config.shards or 1
    return min(shards, config.shards_at_once or shards)


def _write_shard_files(config: RunConfig, folder: Path, plan: Plan) -> dict[str, object]:
    """Write the calls of each shard; gives what the journal records of it."""
    if former := next(iter(shard_folders(folder)), None):
        raise JournalError(f"{former / JOURNAL_NAME} is of a run whose journal is gone", f"move {folder / SHARDS} away")
    shutil.rmtree(folder / SHARDS, ignore_errors=True)  # a process that was killed may have left it
    shards = write_shards(plan, folder, config.shards or 1)
    return {"division": {"atOnce": _at_once(config), "shards": [shard.as_json() for shard in shards]}}


def _same_division(config: RunConfig, journal: Journal, folder: Path) -> ShardLayout:
    division = ShardLayout.of(journal)
    advice = "name another --run-id"
    if division is None:
        raise JournalError(f"run {folder.name} was started without shards", advice)
    if (len(division.shards), division.concurrent) != (config.shards, _at_once(config)):
        was = f"{len(division.shards)} shards, {division.concurrent} at once"
        raise JournalError(f"run {folder.name} was planned in {was}", advice)
    return division


def lock_of_shard(run: Path, shard: int) -> LockRequest:
    """The one under which a process works on a shard."""
    return LockRequest(f"shard {shard} of run {run.name}", shard_folder(run, shard) / LOCK_NAME)


def require_shard(run: Path, shard: int) -> None:
    """Raise ForeignRunError unless the folders of a shard, as far as they exist, and its files are ours."""
    with refusing_foreign_files():
        require_folder(run / SHARDS)
        require_files(shard_folder(run, shard), (CALLS, LEFT_BEHIND))


def describe_shards(shards: Sequence[int]) -> str:
    """Some shards, as the subject of a sentence."""
    if len(shards) == 1:
        return f"shard {shards[0]} has"
    return f"shards {', '.join(map(str, shards[:-1]))} and {shards[-1]} have"
