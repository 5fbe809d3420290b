"""Collect the devices that the unassigns of all shards have not surely released, before the assigns."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from telemetron_batch.domain.actions import Phase
from telemetron_batch.domain.errors import JournalError
from telemetron_batch.journal.layout import JOURNAL_NAME
from telemetron_batch.journal.resume_hint import translate_system_errors
from telemetron_batch.run.locking import LockWaiter, acquire_lease, open_journal
from telemetron_batch.sending.holds import UnreleasedReport, collect_unreleased
from telemetron_batch.sharding.partition import CALLS, Shard, ShardCalls, shard_folder
from telemetron_batch.sharding.shard_plan import UNRELEASED_FILE, ShardLayout, lock_of_shard, require_shard
from telemetron_batch.storage.clock import Clock, RealClock

_LOCK_WAIT_S: Final = 5.0
"""Another process that only reads an idle shard releases its lock within this time."""


@dataclass(frozen=True, slots=True)
class UnreleasedByShard:
    """The devices that each shard has not surely released, in the order of the shards."""

    unreleased: tuple[UnreleasedReport, ...]

    @property
    def unfinished(self) -> tuple[int, ...]:
        """Shards that have not settled all their unassigns."""
        return tuple(number for number, report in enumerate(self.unreleased, 1) if not report.complete)

    @property
    def complete(self) -> bool:
        """Whether all shards have settled all their unassigns, so that the result is final."""
        return not self.unfinished

    def as_json(self) -> dict[str, Any]:
        """Return the numbers, for the JSON document."""
        pairs = sum(report.pairs.num_rows for report in self.unreleased)
        return {"complete": self.complete, "unfinishedShards": [*self.unfinished], "unassignsLeft": pairs}


@translate_system_errors()
def collect_unreleased_by_shard(folder: Path, *, clock: Clock | None = None) -> UnreleasedByShard:
    """Return the devices that the shards of a run have not surely released so far.

    Raises LockedError while a shard is unassigning.
    """
    clock = clock or RealClock()
    with open_journal(folder) as journal:
        layout = ShardLayout.of(journal)
    if layout is None:
        raise JournalError(f"run {folder.name} was started without shards", "there is nothing to wait for")
    # Another process may be reading the same shard.
    waiting = LockWaiter.for_seconds(folder.name, _LOCK_WAIT_S, clock)
    reads = (partial(_read_unreleased, folder, shard, clock) for shard in layout.shards)
    return UnreleasedByShard(tuple(map(waiting.retry_while_locked, reads)))


def _read_unreleased(run: Path, shard: Shard, clock: Clock) -> UnreleasedReport:
    """Return the report of one shard; if its process was killed, read it from the journal. Raises LockedError."""
    require_shard(run, shard.number)
    if not shard.calls[Phase.UNASSIGN]:
        return read_from_journal(run, shard.number)
    path = shard_folder(run, shard.number) / UNRELEASED_FILE
    if (report := UnreleasedReport.read(path)) is not None:
        return report
    with acquire_lease(lock_of_shard(run, shard.number), LockWaiter.no_wait(run.name, clock)):
        if not path.exists():
            read_from_journal(run, shard.number).write(path)
    return _read_unreleased(run, shard, clock)


def read_from_journal(run: Path, shard: int) -> UnreleasedReport:
    """Return the unreleased devices of a shard from its journal; the caller holds the lock or knows it is idle."""
    folder = shard_folder(run, shard)
    unassigns = ShardCalls(folder / CALLS, Phase.UNASSIGN)
    if not (unassigns.calls and (folder / JOURNAL_NAME).exists()):
        return collect_unreleased(unassigns, None)
    with open_journal(folder) as journal:
        return collect_unreleased(unassigns, journal)


def unfinished(run: Path, layout: ShardLayout) -> Iterator[int]:
    """Yield the shards that are unassigning, or have not settled all their unassigns."""
    for shard in layout.shards:
        require_shard(run, shard.number)
        report = UnreleasedReport.read(shard_folder(run, shard.number) / UNRELEASED_FILE)
        if shard.calls[Phase.UNASSIGN] and (report is None or not report.complete):
            yield shard.number
