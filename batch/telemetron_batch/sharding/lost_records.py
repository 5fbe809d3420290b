"""Refuse shards that have lost records which the run's journal has already gathered from them.

For such a shard, only the run's journal knows what was sent.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from telemetron_batch.domain.errors import JournalError
from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.journal import Journal
from telemetron_batch.journal.layout import JOURNAL_NAME
from telemetron_batch.journal.reader import JournalReader
from telemetron_batch.sharding.partition import CALLS, Shard, ShardCalls, check_calls, shard_folder

MERGED_EXTENTS: Final = Fact.MERGED_EXTENTS
"""The fact in the run's journal that stores, by shard, the extent of its journal when it was gathered."""
_ADVICE: Final = "restore the folder of the shard, or start a new run with another --run-id"

JournalCounts = Mapping[str, int]


def gathered_from(journal: Journal, shard: Shard) -> JournalCounts | None:
    """Return the extent that the run has gathered from a shard; None if it was never gathered."""
    extent: JournalCounts | None = (journal.fact(MERGED_EXTENTS) or {}).get(str(shard.number))
    return extent


def require_journal(run: Path, shard: Shard, extent: JournalCounts | None) -> None:
    """Raise JournalError if a shard that was gathered no longer has a journal."""
    path = shard_folder(run, shard.number) / JOURNAL_NAME
    if extent is not None and not path.exists():
        what = f"the journal of shard {shard.number} is missing, although run {run.name} has gathered it before"
        raise JournalError(what, _ADVICE)


def require_same(journal: JournalReader, shard: Shard, extent: JournalCounts | None) -> None:
    """Raise JournalError if a shard's journal belongs to another plan, or has less than was gathered from it."""
    if journal.fact(Fact.CALLS_HASH) != shard.sha256:
        raise JournalError(f"{journal.path} (shard {shard.number}) belongs to another plan", _ADVICE)
    now = journal.extent()
    less = [f"{now[name]} of {count} {name}" for name, count in (extent or {}).items() if now[name] < count]
    if less:
        what = f"{journal.path} (shard {shard.number}) has less than was gathered from it: {', '.join(less)}"
        raise JournalError(what, _ADVICE)


def require_calls(run: Path, shard: Shard) -> None:
    """Raise JournalError unless the file of a shard's calls is as planned."""
    try:
        check_calls(shard_folder(run, shard.number) / CALLS, shard)
    except JournalError as exc:
        raise JournalError(f"shard {shard.number}: {exc.reason}", _ADVICE) from exc


def require_no_results(run: Path, journal: Journal, shard: Shard) -> None:
    """Raise JournalError if the run's journal has results of a shard that has no journal.

    For runs that were merged by versions that did not store `MERGED_EXTENTS`.
    """
    if journal.fact(MERGED_EXTENTS) is not None or (shard_folder(run, shard.number) / JOURNAL_NAME).exists():
        return
    calls = ShardCalls(shard_folder(run, shard.number) / CALLS, phase=next(iter(shard.calls)))
    if calls.last and journal.settled_of(calls.last).devices[calls.numbers - 1].any():
        require_journal(run, shard, {})
