"""Divide the rate of a run into slots, one for each shard that runs at once.

A shard that sends owns one slot. The slot keeps its pacer state after the process has ended, so all slots
together never exceed the rate, whichever shards run when.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from telemetron_batch.config.config import RunConfig
from telemetron_batch.config.rate import Rate
from telemetron_batch.domain.errors import ConfigError, LockedError
from telemetron_batch.run.locking import LockRequest, LockWaiter, acquire_lease
from telemetron_batch.storage.lease_files import remote_holder


@dataclass(frozen=True, slots=True)
class RateSlot:
    """A part of the rate, used by one process at a time."""

    run: Path
    number: int
    """Counts from 1."""

    @property
    def lock(self) -> Path:
        """The lock file of the slot."""
        return self.run / "shards" / f"place-{self.number}.lock"

    @property
    def pacer_file(self) -> Path:
        """The file that keeps the pacer state."""
        return self.lock.with_suffix(".json")


def slot_rate(config: RunConfig, slots: int, slot: int) -> Rate:
    """Return the part of the rate that slot `slot` (from 0) of `slots` may use. Raises ConfigError."""
    rate = config.sending.rate
    if slots == 1 or config.sending.limit_url is not None:
        return rate
    if rate == Rate.AUTO:
        advice = "give the rate for all shards together, or share it with --limit-url"
        raise ConfigError("--rate auto cannot be divided", advice)
    try:
        return rate.share(slots, slot)
    except ValueError as exc:
        longer = Rate(rate.attempts * 60, rate.seconds * 60)
        advice = f"give --rate {longer} if the API allows that as well, or fewer --shards-at-once"
        raise ConfigError(f"--rate: {exc} at once", advice) from None


@contextmanager
def acquire_slot(run: Path, shard: int, slots: int, waiting: LockWaiter) -> Iterator[RateSlot]:
    """Lock one of the slots for a shard, preferably the one with its number. Raises LockedError."""
    with ExitStack() as held:
        yield waiting.retry_while_locked(partial(_first_free, run, shard, slots, replace(waiting, until=0.0), held))


def _first_free(run: Path, shard: int, slots: int, waiting: LockWaiter, held: ExitStack) -> RateSlot:
    candidates = [RateSlot(run, 1 + (shard - 1 + step) % slots) for step in range(slots)]
    # Slots held from another host come last: finding out whether that process still runs takes a while.
    for slot in sorted(candidates, key=lambda slot: remote_holder(slot.lock) is not None):
        with suppress(LockedError):
            held.enter_context(acquire_lease(LockRequest("the rate slot", slot.lock), waiting))
            return slot
    what = "the only rate slot" if slots == 1 else f"each of the {slots} rate slots"
    raise LockedError(f"{what} of this run is in use", "wait until a shard ends, or give run --wait 10m")
