"""The journals of all shards put together, and reconciled as that of any run."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from batch.clock import Clock, RealClock
from batch.concluding import concluded, note_of, stop_in, stop_of
from batch.model import ExitCode, Phase, Stop
from batch.places import Waiting, lock_of_run, opened, owning, scratch_of
from batch.planning.shards import CALLS, Ints, Shard, ShardCalls, shard_folder
from batch.recorded import as_recorded
from batch.sending.holds import LeftBehind, lift
from batch.sharding.barrier import LEFT_BEHIND, read_off
from batch.sharding.division import Division, listed, lock_of_shard
from batch.starting import plan_of
from batch.stops import Advice, StopReason
from batch.storage.journal import Journal
from batch.storage.runs import JOURNAL, shard_command
from batch.summary import Summary

_WORST_FIRST: Final = (ExitCode.CLIENT_REFUSED, ExitCode.BRAKE, ExitCode.STOPPED)
_NOT_BEGUN: Final = Stop(StopReason.SHARD_NOT_BEGUN)


@dataclass(slots=True)
class _Shards:
    """What is known of the shards besides their calls, learnt as their journals are read."""

    run: Path
    division: Division
    ends: dict[int, float | None] = field(default_factory=dict)
    """When the work on each that was begun ended last; None where its process was killed."""
    stops: dict[int, Stop] = field(default_factory=dict)
    """Why each left off, or would have if it had anything left to do."""
    quiet: float = 0.0

    def journals(self) -> Iterator[Journal]:
        """Those of the shards that were begun, one open at a time."""
        for shard in self.division.shards:
            folder = shard_folder(self.run, shard.number)
            if (folder / JOURNAL).exists():
                with opened(folder) as journal:
                    self._learn(shard.number, journal)
                    yield journal

    def _learn(self, shard: int, journal: Journal) -> None:
        self.ends[shard] = journal.meta("endedAt")
        self.quiet = max(self.quiet, journal.meta("quiet", 0.0))
        if journal.meta("phase") is not None:
            self.stops[shard] = stop_of(journal) or _left_off(journal)

    def left_behind(self) -> list[LeftBehind]:
        """What the unassigns of each have left behind, while nobody is at work on any."""
        told = ((shard.number, shard_folder(self.run, shard.number) / LEFT_BEHIND) for shard in self.division.shards)
        return [LeftBehind.read(path) or read_off(self.run, number) for number, path in told]

    def ended(self, now: float) -> float:
        """When the last of them ended; now, where that is not known of all."""
        ends = [end for end in self.ends.values() if end is not None]
        return max(ends) if ends and len(ends) == len(self.ends) else now

    def stop(self, is_open: npt.NDArray[np.bool_]) -> Stop | None:
        """Why some calls are open (flagged by number, from 1), by the worst that kept a shard from them."""
        numbers = [shard.number for shard in self.division.shards if is_open[self._numbers(shard) - 1].any()]
        if not numbers:
            return None
        stops = {number: self.stops.get(number, _NOT_BEGUN) for number in numbers}
        worst = min(numbers, key=lambda number: (_WORST_FIRST.index(stops[number].exit_code), number))
        later = [stop.resume_at for stop in stops.values() if stop.resume_at is not None]
        others = f"{listed(numbers)} not made all their calls; " if len(numbers) > 1 else ""
        advice = Advice(f"run them again ({shard_command(self.run)}), then report again")
        text = f"{others}shard {worst}: {stops[worst].sentence}"
        return Stop(StopReason.SHARDS_OPEN, text, max(later, default=None), advice, exit_code=stops[worst].exit_code)

    def _numbers(self, shard: Shard) -> Ints:
        return ShardCalls(shard_folder(self.run, shard.number) / CALLS, Phase.ASSIGN).numbers


def _left_off(journal: Journal) -> Stop:
    """Why a shard has open calls whose last work came to its end."""
    if stopped := stop_in(journal.meta("unassigning")):
        return stopped
    assigned = journal.meta("phase") == Phase.ASSIGN
    return Stop(StopReason.SHARD_HOLDS_ENDED if assigned else StopReason.SHARD_ASSIGNS_OPEN)


def merged(folder: Path, *, xlsx: bool = False, clock: Clock | None = None) -> Summary:
    """Put what all shards have journalled into the journal of the run, and reconcile it as any other.

    Raises LockedError while a shard is at work.
    """
    clock = clock or RealClock()
    waiting = Waiting.not_at_all(folder.name, clock)
    with ExitStack() as stack:
        lease = stack.enter_context(owning(lock_of_run(folder), waiting))
        journal = stack.enter_context(opened(folder, lease))
        division = Division.of(journal)
        assert division is not None  # noqa: S101 - only such runs are merged
        for shard in division.shards:
            stack.enter_context(owning(lock_of_shard(folder, shard.number), waiting))
        plan = plan_of(journal, stack.enter_context(scratch_of(folder, lease)))
        shards = _Shards(folder, division)
        journal.gather(shards.journals())
        lift(journal, plan, shards.left_behind())
        stop = shards.stop(journal.settled_of(plan.calls).devices < plan.sizes())
        journal.note(endedAt=shards.ended(clock.wall()), stop=note_of(stop), quiet=shards.quiet)
        config = as_recorded(folder, journal.meta("options"), with_key=False)
        return concluded(replace(config, xlsx=config.xlsx or xlsx), plan, journal)
