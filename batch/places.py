"""The folder of a run, and the locks under which a process works in it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from batch.clock import Clock, iso
from batch.config import RunConfig
from batch.errors import JournalError, LockedError
from batch.interrupt import Interrupt
from batch.storage.journal import Journal
from batch.storage.lock import Lock, Owner, client_name, is_held, state_folder
from batch.storage.runs import JOURNAL, LOCK
from batch.storage.whole import owners_folder

_LOOK_AGAIN: Final = 0.5


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


@contextmanager
def locked(config: RunConfig, folder: Path, clock: Clock, *, interrupt: Interrupt | None) -> Iterator[None]:
    """This run, and this base URL and key, for this process alone; an interrupt ends the waiting for them."""
    owner = Owner(os.getpid(), iso(clock.wall()), str(config.run_id))
    wanted = [(folder / LOCK, f"run {config.run_id}")]
    if config.api_key is not None:
        name = client_name(config.sending.base_url, config.api_key.reveal())
        wanted.append((state_folder() / f"{name}.lock", "this base URL and key"))
    until = clock.wall() + config.wait
    locks: list[Lock] = []
    try:
        for path, what in wanted:
            locks.append(_take(partial(Lock.take, path, owner, what), until, clock, interrupt))
        yield
    finally:
        for lock in locks:
            lock.release()


def _take(take: Callable[[], Lock], until: float, clock: Clock, interrupt: Interrupt | None) -> Lock:
    """Take a lock, waiting for it until a moment of the wall clock."""
    while True:
        try:
            return take()
        except LockedError:
            if interrupt or clock.wall() >= until:
                raise
        clock.pause(_LOOK_AGAIN)
