"""The journals of all shards put together, and reconciled as that of any run."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from telemetron_batch.config.stored import load_stored_config
from telemetron_batch.domain.actions import Phase
from telemetron_batch.domain.errors import JournalError
from telemetron_batch.domain.stops import Advice, ExitCode, Stop, StopReason
from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.journal import Journal
from telemetron_batch.journal.layout import JOURNAL_NAME
from telemetron_batch.journal.reader import LOST_IN_SHARDS
from telemetron_batch.reports.summary import Summary
from telemetron_batch.run.finish import finish_run, load_stop_reason, parse_stop, serialize_stop
from telemetron_batch.run.locking import LockWaiter, acquire_lease, lock_of_run, open_journal, run_scratch
from telemetron_batch.run.replan import replan_from_journal
from telemetron_batch.sending.holds import UnreleasedReport, release_resolved_holds
from telemetron_batch.sharding.barrier import read_from_journal
from telemetron_batch.sharding.gather import (
    GATHERED,
    Extent,
    gathered_from,
    require_calls,
    require_journal,
    require_same,
    require_unknown,
)
from telemetron_batch.sharding.partition import CALLS, Ints, ShardCalls, shard_folder
from telemetron_batch.sharding.shard_plan import LEFT_BEHIND, ShardLayout, describe_shards, lock_of_shard, require_shard
from telemetron_batch.storage.clock import Clock, RealClock
from telemetron_batch.storage.commands import shard_command

_WORST_FIRST: Final = (ExitCode.CLIENT_REFUSED, ExitCode.BRAKE, ExitCode.STOPPED)
_NOT_BEGUN: Final = Stop(StopReason.SHARD_NOT_BEGUN)


@dataclass
class _ShardJournals:
    """What is known of the shards besides their calls, learnt as their journals are read."""

    run: Path
    division: ShardLayout
    base_url: str | None = None
    """The base URL that the run was given on the command line."""
    ends: dict[int, float | None] = field(default_factory=dict)
    """When the work on each that was begun ended last; None where its process was killed."""
    stops: dict[int, Stop] = field(default_factory=dict)
    """Why each left off, or would have if it had anything left to do."""
    extents: dict[int, Extent] = field(default_factory=dict)
    """How much the journal of each that was begun holds."""
    lost: int = 0
    """Records that are missing in those journals."""
    quiet: float = 0.0

    @cached_property
    def numbers(self) -> dict[int, Ints]:
        """The numbers of the calls of each."""
        folders = {shard.number: shard_folder(self.run, shard.number) for shard in self.division.shards}
        return {number: ShardCalls(folder / CALLS, Phase.ASSIGN).numbers for number, folder in folders.items()}

    def check(self, journal: Journal) -> None:
        """Raise JournalError unless they still hold what the run's journal has gathered from them."""
        for shard in self.division.shards:
            folder = shard_folder(self.run, shard.number)
            if (folder / JOURNAL_NAME).exists():
                with open_journal(folder) as one:
                    require_same(one, shard, gathered_from(journal, shard))

    def facts(self) -> dict[str, object]:
        """What the run's journal is to note of what was gathered."""
        return {GATHERED: self.extents, LOST_IN_SHARDS: self.lost}

    def journals(self) -> Iterator[Journal]:
        """Those of the shards that were begun, one open at a time."""
        for shard in self.division.shards:
            folder = shard_folder(self.run, shard.number)
            if (folder / JOURNAL_NAME).exists():
                with open_journal(folder) as journal:
                    self._learn(shard.number, journal)
                    yield journal

    def _learn(self, shard: int, journal: Journal) -> None:
        self.ends[shard] = journal.meta(Fact.ENDED_AT)
        self.extents[shard] = journal.extent()
        self.lost += journal.records_lost
        self.quiet = max(self.quiet, journal.meta(Fact.QUIET, 0.0))
        if journal.meta(Fact.PHASE) is not None:
            self.stops[shard] = load_stop_reason(journal) or _reason_open(journal)

    def left_behind(self) -> list[UnreleasedReport]:
        """What the unassigns of each have left behind, while nobody is at work on any."""
        return [_left(self.run, shard.number) for shard in self.division.shards]

    def ended(self, now: float) -> float:
        """When the last of them ended; now, where that is not known of all."""
        ends = [end for end in self.ends.values() if end is not None]
        return max(ends) if ends and len(ends) == len(self.ends) else now

    def stop(self, is_open: npt.NDArray[np.bool_]) -> Stop | None:
        """Why some calls are open (flagged by number, from 1), by the worst that kept a shard from them."""
        numbers = [number for number, calls in self.numbers.items() if is_open[calls - 1].any()]
        if not numbers:
            return None
        stops = {number: self.stops.get(number, _NOT_BEGUN) for number in numbers}
        worst = min(numbers, key=lambda number: (_WORST_FIRST.index(stops[number].exit_code), number))
        later = [stop.resume_at for stop in stops.values() if stop.resume_at is not None]
        others = f"{describe_shards(numbers)} not made all their calls; " if len(numbers) > 1 else ""
        advice = Advice(f"run them again ({shard_command(self.run, base_url=self.base_url)}), then report again")
        text = f"{others}shard {worst}: {stops[worst].sentence}"
        return Stop(StopReason.SHARDS_OPEN, text, max(later, default=None), advice, exit_code=stops[worst].exit_code)


def _left(run: Path, shard: int) -> UnreleasedReport:
    """Return what the unassigns of a shard have left behind; a file that cannot be read is passed over."""
    try:
        left = UnreleasedReport.read(shard_folder(run, shard) / LEFT_BEHIND)
    except JournalError:
        left = None
    return left or read_from_journal(run, shard)


def _reason_open(journal: Journal) -> Stop:
    """Why a shard has open calls whose last work came to its end."""
    if stopped := parse_stop(journal.meta(Fact.UNASSIGNING)):
        return stopped
    assigned = journal.meta(Fact.PHASE) == Phase.ASSIGN
    return Stop(StopReason.SHARD_HOLDS_ENDED if assigned else StopReason.SHARD_ASSIGNS_OPEN)


def merge_and_report(folder: Path, *, xlsx: bool = False, clock: Clock | None = None) -> Summary:
    """Put what all shards have journalled into the journal of the run, and reconcile it as any other.

    Raises LockedError while a shard is at work, and JournalError before anything is changed where a shard has
    lost what was gathered from it before.
    """
    clock = clock or RealClock()
    waiting = LockWaiter.no_wait(folder.name, clock)
    with ExitStack() as stack:
        lease = stack.enter_context(acquire_lease(lock_of_run(folder), waiting))
        journal = stack.enter_context(open_journal(folder, lease))
        division = ShardLayout.of(journal)
        assert division is not None  # noqa: S101 - only such runs are merged
        for shard in division.shards:
            require_journal(folder, shard, gathered_from(journal, shard))
            require_shard(folder, shard.number)
            require_calls(folder, shard)
            require_unknown(folder, journal, shard)
        for shard in division.shards:
            stack.enter_context(acquire_lease(lock_of_shard(folder, shard.number), waiting))
        plan = replan_from_journal(journal, stack.enter_context(run_scratch(folder, lease)))
        shards = _ShardJournals(folder, division, journal.base_url_flag)
        shards.check(journal)
        # All that the shards' files tell is read before the journal is changed.
        left, _ = shards.left_behind(), shards.numbers
        journal.import_from(shards.journals(), shards.facts)
        release_resolved_holds(journal, plan, left)
        stop = shards.stop(journal.settled_of(plan.calls).devices < plan.sizes())
        journal.set_facts(endedAt=shards.ended(clock.wall()), stop=serialize_stop(stop), quiet=shards.quiet)
        config = load_stored_config(folder, journal.meta(Fact.OPTIONS), with_key=False)
        return finish_run(replace(config, xlsx=config.xlsx or xlsx), plan, journal)
