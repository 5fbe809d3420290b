"""The folder of a run, and the locks under which a process works in it."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from batch.clock import Clock, iso
from batch.config import RunConfig
from batch.errors import JournalError, LockedError
from batch.interrupt import Interrupt
from batch.storage.journal import Journal
from batch.storage.lock import Lock, Owner, client_name, is_held, state_folder
from batch.storage.runs import JOURNAL, LOCK
from batch.storage.whole import owners_folder

T = TypeVar("T")

_LOOK_AGAIN: Final = 0.5
_TO_SHARE: Final = 2.0


@contextmanager
def opened(folder: Path) -> Iterator[Journal]:
    """The journal of the run in this folder. Raises JournalError where there is none."""
    if not (folder / JOURNAL).exists():
        raise JournalError(f"there is no run in {folder}", "name its id or its folder")
    journal = Journal(folder / JOURNAL)
    try:
        yield journal
    finally:
        journal.close()


@contextmanager
def own_folder(folder: Path) -> Iterator[None]:
    """The run's folder, which is not left behind where no run was started in it."""
    owners_folder(folder)
    try:
        yield
    finally:
        # Another process may hold the lock and not have begun to write: then it is not ours to remove.
        left = folder.exists() and not (folder / JOURNAL).exists() and not is_held(folder / LOCK)
        if left and {path.name for path in folder.iterdir()} <= {LOCK}:
            (folder / LOCK).unlink(missing_ok=True)
            folder.rmdir()


@dataclass(frozen=True, slots=True)
class Wanted:
    """A lock that is needed: the first of these files that is free, and what that stands for."""

    what: str
    files: Sequence[Path]
    shared: bool = False
    """May other processes of the same run have it too?"""


@dataclass(frozen=True, slots=True)
class Waiting:
    """On whose behalf locks are taken, and how long that may take."""

    run_id: str
    until: float
    """Moment of the wall clock."""
    clock: Clock
    interrupt: Interrupt | None

    @classmethod
    def of(cls, config: RunConfig, clock: Clock, interrupt: Interrupt | None) -> "Waiting":
        """As long as the user said."""
        return cls(str(config.run_id), clock.wall() + config.wait, clock, interrupt)

    @property
    def is_over(self) -> bool:
        """Has it taken so long, or is it no longer wanted?"""
        return bool(self.interrupt) or self.clock.wall() >= self.until

    def take(self, wanted: Wanted) -> Lock:
        """Take a lock. Raises LockedError."""
        owner = Owner(os.getpid(), iso(self.clock.wall()), self.run_id)
        # Whoever shares a lock has it alone for a moment, to say so.
        least = self.clock.wall() + _TO_SHARE if wanted.shared else self.until
        return replace(self, until=max(self.until, least)).patiently(partial(_any_of, wanted, owner))

    def patiently(self, work: Callable[[], T]) -> T:
        """Do what a lock of somebody else may stand in the way of, again and again."""
        while True:
            try:
                return work()
            except LockedError:
                if self.is_over:
                    raise
            self.clock.pause(_LOOK_AGAIN)


def _any_of(wanted: Wanted, owner: Owner) -> Lock:
    for file in wanted.files[:-1]:
        with suppress(LockedError):
            return Lock.take(file, owner, wanted.what, shared=wanted.shared)
    return Lock.take(wanted.files[-1], owner, wanted.what, shared=wanted.shared)


@contextmanager
def holding(wanted: Iterable[Wanted], waiting: Waiting) -> Iterator[list[Lock]]:
    """All these locks; an interrupt ends the waiting for them. Raises LockedError."""
    locks: list[Lock] = []
    try:
        for one in wanted:
            locks.append(waiting.take(one))  # noqa: PERF401 - those taken are let go where the next is not to be had
        yield locks
    finally:
        for lock in locks:
            lock.release()


def locked(
    config: RunConfig, folder: Path, clock: Clock, *, interrupt: Interrupt | None
) -> AbstractContextManager[list[Lock]]:
    """This run, and this base URL and key, for this process alone."""
    return holding([lock_of_run(folder), *lock_of_key(config)], Waiting.of(config, clock, interrupt))


def lock_of_run(folder: Path) -> Wanted:
    """The one under which a process works on a run."""
    return Wanted(f"run {folder.name}", [folder / LOCK])


def lock_of_key(config: RunConfig, *, shared: bool = False) -> Iterator[Wanted]:
    """The one under which a process on this host uses a base URL and key; none in a sandbox."""
    if config.api_key is not None:
        name = client_name(config.sending.base_url, config.api_key.reveal())
        yield Wanted("this base URL and key", [state_folder() / f"{name}.lock"], shared)
