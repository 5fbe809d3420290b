"""Take the folder, the locks and the lease under which a process works on a run."""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from telemetron_batch.config.airflow_context import describe
from telemetron_batch.config.config import RunConfig
from telemetron_batch.domain.errors import JournalError, LockedError, UntrustedRunError, untrusted_path_errors
from telemetron_batch.domain.stops import Advice
from telemetron_batch.journal.connection import require_ours
from telemetron_batch.journal.journal import Journal
from telemetron_batch.journal.layout import JOURNAL_NAME, LOCK_NAME
from telemetron_batch.journal.reader import ImmutableJournal
from telemetron_batch.journal.takeover import replace_with_copy
from telemetron_batch.sending.observer import RunObserver
from telemetron_batch.storage.atomic_file import make_private_dir, rename_guard
from telemetron_batch.storage.clock import Clock, RealClock, iso
from telemetron_batch.storage.lease import TAKEOVER_AFTER_S, Lease, LeaseAcquirer
from telemetron_batch.storage.lease_files import LeaseOwner, is_in_use, remote_holder
from telemetron_batch.storage.lock import Lock, LockOwner, key_fingerprint, lock_folders, organisation_name
from telemetron_batch.storage.log import log_to_file
from telemetron_batch.storage.spill import Scratch
from telemetron_batch.storage.trusted_folders import require_files, require_folder

T = TypeVar("T")

SCRATCH: Final = "scratch"
_POLL_S: Final = 0.5
_SHARED_LOCK_WAIT_S: Final = 2.0


def require_run(folder: Path) -> None:
    """Raise JournalError unless there is a run in this folder, UntrustedRunError unless it is ours."""
    require_ours(folder / JOURNAL_NAME)
    if not (folder / JOURNAL_NAME).exists():
        raise JournalError(f"there is no run in {folder}", "name its id or its folder")


@contextmanager
def open_journal(folder: Path, lease: Lease | None = None) -> Iterator[Journal]:
    """Open the journal of the run in this folder; for writing only with its lease.

    Raises JournalError if there is none, LockedError if another host may have it open.
    """
    require_run(folder)
    elsewhere = remote_holder(folder / LOCK_NAME)
    if lease is None and elsewhere is not None:
        raise LockedError(f"{folder} is, or was when it died, in use by {elsewhere}", "wait for it, or go on with it")
    journal = Journal(folder / JOURNAL_NAME, None if lease is None else lease.ensure_valid)
    try:
        yield journal
    finally:
        journal.close()


@contextmanager
def run_scratch(folder: Path, lease: Lease) -> Iterator[Scratch]:
    """Make a spill folder on the run's disk, apart from that of a former owner that may still be alive."""
    for left in folder.glob(f"{SCRATCH}-*"):
        shutil.rmtree(left, ignore_errors=True)
    room = folder / f"{SCRATCH}-{lease.number}"
    with untrusted_path_errors():
        require_folder(room)
    with Scratch(room) as scratch:
        yield scratch


def run_log(config: RunConfig, folder: Path, lease: Lease) -> AbstractContextManager[None]:
    """Return a context in which the program writes the run's log, without secrets, while the lease is valid."""
    later, may_write = config.key_source.known_keys, lambda: lease.is_valid
    return log_to_file(folder / "run.log", *config.secrets, later=later, may_write=may_write)


@contextmanager
def run_folder(folder: Path) -> Iterator[None]:
    """Make the run's folder; remove it at the end if no run was started in it."""
    make_private_dir(folder)
    try:
        yield
    finally:
        remove_unused_folder(folder)


def remove_unused_folder(folder: Path) -> None:
    """Remove the folder of a run if no run was started in it."""
    with suppress(OSError, UntrustedRunError):
        # Another process may hold the lock and not have written yet: then the folder stays.
        left = folder.exists() and not (folder / JOURNAL_NAME).exists() and not is_in_use(folder / LOCK_NAME)
        if left and {path.name for path in folder.iterdir()} <= {LOCK_NAME}:
            (folder / LOCK_NAME).unlink(missing_ok=True)
            folder.rmdir()


@dataclass(frozen=True, slots=True)
class LockRequest:
    """A lock to take, and what it protects."""

    what: str
    file: Path
    shared: bool = False
    """Whether other processes of the same run may hold it too."""


@dataclass(frozen=True, slots=True)
class LockWaiter:
    """Takes locks for a run, and waits for them up to a moment."""

    run_id: str
    until: float
    """Seconds since the epoch, by the wall clock."""
    clock: Clock
    observer: RunObserver
    task: str = ""
    """The Airflow task, in words."""

    @classmethod
    def of(cls, config: RunConfig, clock: Clock, observer: RunObserver) -> "LockWaiter":
        """Return a waiter that waits as long as `--wait` says, and not beyond `--until`."""
        until = clock.wall() + config.wait
        until = until if config.sending.until_at is None else min(until, config.sending.until_at)
        return cls(str(config.run_id), until, clock, observer, describe(config.airflow))

    @classmethod
    def no_wait(cls, run_id: str, clock: Clock | None = None) -> "LockWaiter":
        """Return a waiter that waits only to see whether a process on another host is alive."""
        return cls.for_seconds(run_id, 0.0, clock)

    @classmethod
    def for_seconds(
        cls, run_id: str, seconds: float, clock: Clock | None = None, observer: RunObserver | None = None
    ) -> "LockWaiter":
        """Return a waiter for another process that is expected to finish soon."""
        clock = clock or RealClock()
        return cls(run_id, clock.wall() + seconds, clock, observer or RunObserver())

    @property
    def owner(self) -> LockOwner:
        """The owner that lock files name."""
        return LockOwner(os.getpid(), iso(self.clock.wall()), self.run_id)

    @property
    def expired(self) -> bool:
        """Whether the time is over, or the run was interrupted."""
        return bool(self.observer.interrupt) or self.clock.wall() >= self.until

    def acquire(self, wanted: LockRequest) -> Lock:
        """Take a lock. Raises LockedError."""
        # A process that shares a lock holds it exclusively for a moment, to write its name.
        least = self.clock.wall() + _SHARED_LOCK_WAIT_S if wanted.shared else self.until
        take = partial(Lock.acquire, wanted.file, self.owner, wanted.what, shared=wanted.shared)
        return replace(self, until=max(self.until, least)).retry_while_locked(take)

    def await_lease(self, acquirer: LeaseAcquirer) -> Lease:
        """Return the lease, once it is known whether its owner on another host is alive. Raises LockedError."""
        is_reported = False
        while (lease := acquirer.try_acquire()) is None:
            if self.observer.interrupt:
                raise LockedError(f"stopped while waiting for {acquirer.current_holder}", Advice(repeat=True))
            if not is_reported:
                owner = acquirer.current_holder
                self.observer.on_message(
                    "waiting",
                    f"watching the lease for {TAKEOVER_AFTER_S:.0f} s to see whether {owner} is still running",
                )
            is_reported = True
            self.clock.sleep_blocking(_POLL_S)
        return lease

    def retry_while_locked(self, work: Callable[[], T]) -> T:
        """Repeat work while it raises LockedError, until the time is over."""
        while True:
            try:
                return work()
            except LockedError:
                if self.expired:
                    raise
            self.clock.sleep_blocking(_POLL_S)


@contextmanager
def acquire_locks(wanted: Iterable[LockRequest], waiter: LockWaiter) -> Iterator[list[Lock]]:
    """Take all these locks; an interrupt ends the wait. Raises LockedError."""
    locks: list[Lock] = []
    try:
        for one in wanted:
            locks.append(waiter.acquire(one))  # noqa: PERF401 - the ones taken are released if the next is refused
        yield locks
    finally:
        for lock in locks:
            lock.release()


@contextmanager
def acquire_lease(wanted: LockRequest, waiter: LockWaiter) -> Iterator[Lease]:
    """Take the folder of a run or shard for this process, against processes on this host and on others.

    Yield the lease. While it is valid, no former owner can write to the journal.
    """
    path = wanted.file
    with untrusted_path_errors():
        require_files(path.parent, (path.name,))
    acquirer = LeaseAcquirer(path, LeaseOwner.of(waiter.owner, waiter.task), wanted.what, waiter.clock.uptime)
    with acquire_locks([wanted], waiter), ExitStack() as held:
        lease = waiter.retry_while_locked(partial(waiter.await_lease, acquirer))
        held.callback(lease.release)
        held.enter_context(lease.auto_renew())
        held.enter_context(rename_guard(lease.ensure_valid))
        if not lease.is_journal_detached:
            if (path.parent / JOURNAL_NAME).exists():
                replace_with_copy(path.parent / JOURNAL_NAME)
            lease.mark_journal_detached()
        yield lease


@contextmanager
def acquire_run_and_key(config: RunConfig, folder: Path, clock: Clock, observer: RunObserver) -> Iterator[Lease]:
    """Take this run, and this base URL and key, for this process."""
    waiter = LockWaiter.of(config, clock, observer)
    with acquire_lease(lock_of_run(folder), waiter) as lease, acquire_locks(locks_of_key(config), waiter):
        yield lease


def lock_of_run(folder: Path) -> LockRequest:
    """Return the lock under which a process works on a run."""
    return LockRequest(f"run {folder.name}", folder / LOCK_NAME)


def locks_of_key(config: RunConfig, *, shared: bool = False) -> Iterator[LockRequest]:
    """Yield the locks under which a process on this host uses a base URL and key; none for the sandbox.

    With `--organisation`, both the key and the organisation are locked: so runs with another key of the organisation
    wait, and runs with the same key that do not name the organisation. With `--lock-dir`, both that folder and the
    user's own are used.
    """
    if config.api_key is None:
        return
    url = config.sending.base_url
    names = {"this base URL and key": key_fingerprint(url, config.api_key.reveal())}
    if config.organisation is not None:
        names["this base URL and organisation"] = organisation_name(url, config.organisation)
    for folder in lock_folders(config.lock_dir):
        for what, name in names.items():
            yield LockRequest(what, folder / f"{name}.lock", shared)


def stored_facts(folder: Path, *names: str) -> list[Any]:
    """Return facts of a run's journal by name, also if another host may have it open."""
    if remote_holder(folder / LOCK_NAME) is not None:
        with closing(ImmutableJournal(folder / JOURNAL_NAME)) as published_journal:
            return [published_journal.fact(name) for name in names]
    with open_journal(folder) as journal:
        return [journal.fact(name) for name in names]
