"""Merge the journals of all shards into the run's journal, and report the run."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from telemetron_batch.config.notices import NoticeOptions
from telemetron_batch.config.stored import load_stored_config
from telemetron_batch.domain.actions import Phase
from telemetron_batch.domain.arrays import Ints
from telemetron_batch.domain.errors import JournalError
from telemetron_batch.domain.stops import Advice, ExitCode, Stop, StopReason
from telemetron_batch.journal.facts import Fact, is_finished
from telemetron_batch.journal.facts_reader import LOST_IN_SHARDS
from telemetron_batch.journal.journal import Journal
from telemetron_batch.journal.layout import JOURNAL_NAME
from telemetron_batch.notices.announce import CommandEnd, announced
from telemetron_batch.notices.refusal import Request, audience_of
from telemetron_batch.reports.summary import Summary
from telemetron_batch.run.finish import finish_run, load_stop_reason, parse_stop, serialize_stop
from telemetron_batch.run.locking import LockWaiter, acquire_lease, lock_of_run, open_journal, run_scratch
from telemetron_batch.run.replan import replan_from_journal
from telemetron_batch.sending.holds import UnreleasedReport, release_resolved_holds
from telemetron_batch.sharding.barrier import read_from_journal
from telemetron_batch.sharding.lost_records import (
    MERGED_EXTENTS,
    JournalCounts,
    gathered_from,
    require_calls,
    require_journal,
    require_no_results,
    require_same,
)
from telemetron_batch.sharding.partition import CALLS, Shard, ShardCalls, shard_folder
from telemetron_batch.sharding.shard_plan import (
    UNRELEASED_FILE,
    ShardLayout,
    describe_shards,
    lock_of_shard,
    require_shard,
)
from telemetron_batch.storage.clock import Clock, RealClock
from telemetron_batch.storage.commands import shard_command

_WORST_FIRST: Final = (ExitCode.CLIENT_REFUSED, ExitCode.BRAKE, ExitCode.STOPPED)
_NOT_BEGUN: Final = Stop(StopReason.SHARD_NOT_BEGUN)


@dataclass
class _ShardJournals:
    """What the journals of the shards say besides their calls; filled in while they are read."""

    run: Path
    layout: ShardLayout
    base_url: str | None = None
    """The base URL that the run was given on the command line."""
    ends: dict[int, float | None] = field(default_factory=dict)
    """By shard that has started, when its last work ended; None if its process was killed."""
    stops: dict[int, Stop] = field(default_factory=dict)
    """By shard that has started, why it stopped, or would have if it had open calls."""
    extents: dict[int, JournalCounts] = field(default_factory=dict)
    """By shard that has started, the extent of its journal."""
    lost: int = 0
    """Number of records missing in those journals."""
    late_effect_s: float = 0.0
    """The latest `Fact.LATE_EFFECT_S` of all shards."""

    @cached_property
    def numbers(self) -> dict[int, Ints]:
        """The numbers of the calls of each shard."""
        folders = {shard.number: shard_folder(self.run, shard.number) for shard in self.layout.shards}
        return {number: ShardCalls(folder / CALLS, Phase.ASSIGN).numbers for number, folder in folders.items()}

    def check(self, journal: Journal) -> None:
        """Raise JournalError unless the shards still have what the run's journal has gathered from them."""
        for shard, folder in self._started():
            with open_journal(folder) as one:
                require_same(one, shard, gathered_from(journal, shard))

    def facts(self) -> dict[str, object]:
        """Return the facts about the gathered journals, to be stored in the run's journal."""
        return {MERGED_EXTENTS: self.extents, LOST_IN_SHARDS: self.lost}

    def journals(self) -> Iterator[Journal]:
        """Yield the journals of the shards that have started, one open at a time."""
        for shard, folder in self._started():
            with open_journal(folder) as journal:
                self._add_journal(shard.number, journal)
                yield journal

    def _started(self) -> Iterator[tuple[Shard, Path]]:
        """Yield the shards that have started, each with its folder."""
        for shard in self.layout.shards:
            folder = shard_folder(self.run, shard.number)
            if (folder / JOURNAL_NAME).exists():
                yield shard, folder

    def _add_journal(self, shard: int, journal: Journal) -> None:
        self.ends[shard] = journal.fact(Fact.ENDED_AT)
        self.extents[shard] = journal.extent()
        self.lost += journal.records_lost
        self.late_effect_s = max(self.late_effect_s, journal.fact(Fact.LATE_EFFECT_S, 0.0))
        if journal.fact(Fact.PHASE) is not None:
            self.stops[shard] = load_stop_reason(journal) or _reason_open(journal)

    def read_unreleased(self) -> list[UnreleasedReport]:
        """Return the unreleased devices of each shard; the caller holds the locks of all shards."""
        return [_read_unreleased(self.run, shard.number) for shard in self.layout.shards]

    def ended(self, now: float) -> float:
        """Return when the last shard ended; `now` if that is not known for all."""
        ends = [end for end in self.ends.values() if end is not None]
        return max(ends) if ends and len(ends) == len(self.ends) else now

    def stop(self, is_open: npt.NDArray[np.bool_]) -> Stop | None:
        """Return why calls are open, by the worst reason of their shards; None if none are.

        `is_open` has a flag for each call, from number 1.
        """
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


def _read_unreleased(run: Path, shard: int) -> UnreleasedReport:
    """Return the unreleased devices of a shard; read from its journal if the file is missing or unreadable."""
    try:
        unreleased = UnreleasedReport.read(shard_folder(run, shard) / UNRELEASED_FILE)
    except JournalError:
        unreleased = None
    return unreleased or read_from_journal(run, shard)


def _reason_open(journal: Journal) -> Stop:
    """Return why a shard has open calls although its last work ended normally."""
    if stopped := parse_stop(journal.fact(Fact.UNASSIGN_STOP)):
        return stopped
    assigned = journal.fact(Fact.PHASE) == Phase.ASSIGN
    return Stop(StopReason.SHARD_HOLDS_ENDED if assigned else StopReason.SHARD_ASSIGNS_OPEN)


def merge_and_report(
    folder: Path, *, xlsx: bool = False, environ: Mapping[str, str] | None = None, clock: Clock | None = None
) -> Summary:
    """Merge the journals of all shards into the run's journal, then write its files like those of any run.

    The options in `environ` say who hears of this end. Raises LockedError while a shard is working, and JournalError,
    before anything is changed, if a shard has lost what was gathered from it before.
    """
    clock = clock or RealClock()
    audience, end = audience_of(Request({}, environ or {}), None, clock), CommandEnd(folder.name, folder)
    with announced(audience, end):
        end.summary = _merge(folder, audience.options, end, clock, xlsx=xlsx)
        return end.summary


def _merge(folder: Path, notices: NoticeOptions, end: CommandEnd, clock: Clock, *, xlsx: bool) -> Summary:
    waiting = LockWaiter.no_wait(folder.name, clock)
    with ExitStack() as stack:
        lease = stack.enter_context(acquire_lease(lock_of_run(folder), waiting))
        journal = stack.enter_context(open_journal(folder, lease))
        layout = ShardLayout.of(journal)
        assert layout is not None  # noqa: S101 - only such runs are merged
        end.is_repeated = is_finished(journal.fact)
        for shard in layout.shards:
            require_journal(folder, shard, gathered_from(journal, shard))
            require_shard(folder, shard.number)
            require_calls(folder, shard)
            require_no_results(folder, journal, shard)
        for shard in layout.shards:
            stack.enter_context(acquire_lease(lock_of_shard(folder, shard.number), waiting))
        plan = replan_from_journal(journal, stack.enter_context(run_scratch(folder, lease)))
        shards = _ShardJournals(folder, layout, journal.base_url_flag)
        shards.check(journal)
        # The files of the shards are read before the journal is changed, because reading may fail.
        unreleased, _ = shards.read_unreleased(), shards.numbers
        journal.import_from(shards.journals(), shards.facts)
        release_resolved_holds(journal, plan, unreleased)
        stop = shards.stop(journal.settled_of(plan.calls).devices < plan.sizes())
        journal.set_facts(endedAt=shards.ended(clock.wall()), stop=serialize_stop(stop), quiet=shards.late_effect_s)
        config = load_stored_config(folder, journal.fact(Fact.OPTIONS), with_key=False)
        end.empty_exit_code = config.brakes.empty_exit_code
        return finish_run(replace(config, xlsx=config.xlsx or xlsx, notices=notices), plan, journal)
