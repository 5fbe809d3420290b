"""The rate that all shards of a run share: places, each with its part of the attempts in any window.

Whoever sends has a place for itself, and what its pace was outlives the process there. So
the places together never take more than the rate, whichever shards run when.
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
    """One of so many."""

    run: Path
    number: int
    """Counts from 1."""

    @property
    def lock(self) -> Path:
        """Whoever has the place holds this."""
        return self.run / "shards" / f"place-{self.number}.lock"

    @property
    def pacer_file(self) -> Path:
        """Where its pace outlives the process."""
        return self.lock.with_suffix(".json")


def slot_rate(config: RunConfig, at_once: int, place: int) -> Rate:
    """What of the rate one of so many processes may use alone. Raises ConfigError."""
    rate = config.sending.rate
    if at_once == 1 or config.sending.limit_url is not None:
        return rate
    if rate == Rate.AUTO:
        advice = "say what all shards together may use, or share it with --limit-url"
        raise ConfigError("--rate auto cannot be divided", advice)
    try:
        return rate.share(at_once, place)
    except ValueError as exc:
        longer = Rate(rate.attempts * 60, rate.seconds * 60)
        advice = f"say --rate {longer} if that is meant as well, or fewer --shards-at-once"
        raise ConfigError(f"--rate: {exc} at once", advice) from None


@contextmanager
def acquire_slot(run: Path, shard: int, at_once: int, waiting: LockWaiter) -> Iterator[RateSlot]:
    """A place of so many for a shard to send from, its own where that is free. Raises LockedError."""
    with ExitStack() as held:
        yield waiting.retry_while_locked(partial(_first_free, run, shard, at_once, replace(waiting, until=0.0), held))


def _first_free(run: Path, shard: int, at_once: int, waiting: LockWaiter, held: ExitStack) -> RateSlot:
    places = [RateSlot(run, 1 + (shard - 1 + step) % at_once) for step in range(at_once)]
    # Whether a process on another host still lives takes a while to see.
    for place in sorted(places, key=lambda place: remote_holder(place.lock) is not None):
        with suppress(LockedError):
            held.enter_context(acquire_lease(LockRequest("the place", place.lock), waiting))
            return place
    what = "the one place" if at_once == 1 else f"each of the {at_once} places"
    raise LockedError(f"{what} for shards at once is in use", "wait for it, or give run --wait 10m")
