"""What the unassigns of all shards have left behind, for those who assign."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from telemetron_batch.domain.actions import Phase
from telemetron_batch.domain.errors import JournalError
from telemetron_batch.journal.layout import JOURNAL_NAME
from telemetron_batch.journal.resume_hint import system_errors_in_words
from telemetron_batch.run.locking import LockWaiter, acquire_lease, open_journal
from telemetron_batch.sending.holds import UnreleasedReport, collect_unreleased
from telemetron_batch.sharding.partition import CALLS, Shard, ShardCalls, shard_folder
from telemetron_batch.sharding.shard_plan import LEFT_BEHIND, ShardLayout, lock_of_shard, require_shard
from telemetron_batch.storage.clock import Clock, RealClock

_PATIENCE: Final = 5.0
"""Seconds in which whoever looks at a shard at rest, as we do, has done with it."""


@dataclass(frozen=True, slots=True)
class Barrier:
    """What the unassigns of all shards have left behind, in the order of the shards."""

    unreleased: tuple[UnreleasedReport, ...]

    @property
    def unfinished(self) -> tuple[int, ...]:
        """Shards that have not settled all of their unassigns."""
        return tuple(number for number, left in enumerate(self.unreleased, 1) if not left.complete)

    @property
    def complete(self) -> bool:
        """Have all shards settled all of their unassigns? That is the last word then."""
        return not self.unfinished

    def as_json(self) -> dict[str, Any]:
        """In numbers, small enough to be handed on."""
        left = sum(one.pairs.num_rows for one in self.unreleased)
        return {"complete": self.complete, "unfinishedShards": [*self.unfinished], "unassignsLeft": left}


@system_errors_in_words()
def barrier(folder: Path, *, clock: Clock | None = None) -> Barrier:
    """What the unassigns of all shards of a run have left behind, as far as they are made.

    Raises LockedError while a shard is at them.
    """
    clock = clock or RealClock()
    with open_journal(folder) as journal:
        division = ShardLayout.of(journal)
    if division is None:
        raise JournalError(f"run {folder.name} was started without shards", "there is nothing to wait for")
    # Somebody else may be looking at a shard just as we do.
    waiting = LockWaiter.for_seconds(folder.name, _PATIENCE, clock)
    return Barrier(tuple(waiting.retry_while_locked(partial(_left, folder, shard, clock)) for shard in division.shards))


def _left(run: Path, shard: Shard, clock: Clock) -> UnreleasedReport:
    """What one shard has told, or its journal tells where its process was killed. Raises LockedError."""
    require_shard(run, shard.number)
    if not shard.calls[Phase.UNASSIGN]:
        return read_from_journal(run, shard.number)
    path = shard_folder(run, shard.number) / LEFT_BEHIND
    if (told := UnreleasedReport.read(path)) is not None:
        return told
    with acquire_lease(lock_of_shard(run, shard.number), LockWaiter.no_wait(run.name, clock)):
        if not path.exists():
            read_from_journal(run, shard.number).write(path)
    return _left(run, shard, clock)


def read_from_journal(run: Path, shard: int) -> UnreleasedReport:
    """What a shard has left behind, read off its journal while nobody is at work on it."""
    folder = shard_folder(run, shard)
    unassigns = ShardCalls(folder / CALLS, Phase.UNASSIGN)
    if not (unassigns.calls and (folder / JOURNAL_NAME).exists()):
        return collect_unreleased(unassigns, None)
    with open_journal(folder) as journal:
        return collect_unreleased(unassigns, journal)


def unfinished(run: Path, division: ShardLayout) -> Iterator[int]:
    """Shards that are known to be at their unassigns, or not to have settled all of them."""
    for shard in division.shards:
        require_shard(run, shard.number)
        told = UnreleasedReport.read(shard_folder(run, shard.number) / LEFT_BEHIND)
        if shard.calls[Phase.UNASSIGN] and (told is None or not told.complete):
            yield shard.number
