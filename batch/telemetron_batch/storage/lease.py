"""The lease of a run: ownership of a run's folder on storage that several hosts share.

A kernel lock works on one host only. Between hosts, ownership is a numbered lease file beside the lock
(`run.lease.1`, `run.lease.2`, ...), created with O_EXCL so that only one process gets each number. The highest
number is the owner's, who rewrites the file every `RENEW_EVERY_S` seconds. Clocks of hosts are never compared:

- An acquirer takes the next number when it has seen the highest file unchanged for `TAKEOVER_AFTER_S` seconds of
  its own clock. On the owner's own host (same boot id) it does not wait: it holds the kernel lock, so the
  owner is dead.
- An owner trusts its lease for `LEASE_S` seconds, which is less, from the moment its last renewal *began*. A
  renewal counts only if it also *finished* within the previous term. So before an acquirer has waited long enough,
  the owner has either been seen or no longer trusts its lease, however long a process or the storage hangs.
- An owner whose term has ended (process stopped, storage hung) does not continue with the old file, because
  an acquirer may be about to take the next number. It competes for that number itself, and loses the run if another
  process has it.
- After creating a file, the acquirer checks that no higher number exists and that the old owner's file is still
  unchanged. So an acquirer that was suspended before it created the file notices that it is too late.

A process that lost its lease must not

- send: the lease is checked before an attempt is recorded and again before its first byte is written;
- write to the journal, not even the end of an attempt: two writers that do not see each other's locks destroy
  an SQLite file. The attempt stays recorded as started, which the new owner correctly reads as "may have
  acted". It must not close the journal either, because that moves the write-ahead log into the file;
- rename its temporary files to their final names.

A process can be suspended between the check and the write, so an owner from another host continues with a copy of the
journal (`journal.takeover`), and late writes go to a deleted file. One gap remains: an attempt suspended between the
last check and the socket. It was recorded before, so it is not treated as unsent.

The lease file is removed when its owner ends; a file of a dead process is removed by the next owner.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Final
from uuid import uuid4

from telemetron_batch.domain.errors import LockedError, RunRemovedError, write_error
from telemetron_batch.domain.stops import Advice
from telemetron_batch.storage.clock import uptime
from telemetron_batch.storage.lease_files import LeaseFile, LeaseFiles, LeaseOwner, content_of

LEASE_S: Final = 30.0
"""Seconds for which an owner trusts its lease after a renewal began."""
TAKEOVER_AFTER_S: Final = 45.0
"""Seconds without a change after which an acquirer considers an owner on another host dead.

The margin over `LEASE_S` allows for clocks of different speed and for storage that shows a change late.
"""
RENEW_EVERY_S: Final = 3.0
_CHECK_OTHER_PROCESS: Final = Advice("check the run there", repeat=True, when="if it ends early")


class Lease:
    """Ownership of a run, until `release`. Valid as long as it is renewed."""

    def __init__(self, files: LeaseFiles, current: LeaseFile, began: float, now: Callable[[], float]) -> None:
        self._files = files
        self._number = current.number
        self._fields = current.fields
        self._now = now
        self._renewed = began
        """Start time of the last successful renewal."""
        self._lost: LockedError | None = None
        self._mutex = threading.Lock()
        self._over = threading.Event()
        self._callbacks: tuple[Callable[[], None], ...] = ()

    @property
    def number(self) -> int:
        """Number of the lease file; no two owners of a run ever have the same number."""
        return self._number

    @property
    def is_valid(self) -> bool:
        """Whether the owner may act now. Cheap: it does not access the storage."""
        return self._lost is None and self._now() - self._renewed < LEASE_S

    @property
    def is_journal_detached(self) -> bool:
        """Whether late writes of former owners can no longer reach the journal."""
        return bool(self._fields["apart"])

    def ensure_valid(self) -> None:
        """Return if this process owns the run, renewing the lease if necessary. Raises LockedError if it was lost."""
        while not self.is_valid:
            self.renew()
            if self._lost is not None:
                raise self._removed() or self._lost

    def renew(self) -> None:
        """Renew the lease. Errors of the storage are ignored until the term has ended."""
        with self._mutex:
            if self._lost is not None:
                return
            began = self._now()
            if began - self._renewed < LEASE_S:
                with suppress(OSError):
                    self._heartbeat(began)
            else:
                self._reacquire(began)

    def mark_journal_detached(self) -> None:
        """Record that former owners can no longer reach the journal, and remove their lease files."""
        with self._mutex:
            self._fields["apart"] = True
            self._files.rewrite(self._number, content_of(self._fields))
            self._files.remove_below(self._number)

    def release(self) -> None:
        """Give up the lease. Does not touch the lease file if the lease was lost."""
        self._over.set()
        with self._mutex, suppress(OSError):
            if self._lost is None:
                self._lost = LockedError(
                    f"run {self._fields['run']} was given up by this process", _CHECK_OTHER_PROCESS
                )
                if self._is_mine(self._files.read(self._number)):
                    self._files.remove(self._number)

    @contextmanager
    def auto_renew(self) -> Iterator[None]:
        """Renew the lease in a thread within this context."""
        thread = threading.Thread(target=self._keep_renewing, name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()

    @contextmanager
    def on_lost(self, callback: Callable[[], None]) -> Iterator[None]:
        """Call `callback`, from any thread, when the lease is lost. The callback must return quickly."""
        self._callbacks = (*self._callbacks, callback)
        try:
            if self._lost is not None:
                callback()
            yield
        finally:
            self._callbacks = tuple(one for one in self._callbacks if one is not callback)

    def _keep_renewing(self) -> None:
        while not self._over.wait(RENEW_EVERY_S):
            self.renew()

    def _heartbeat(self, began: float) -> None:
        highest = self._files.highest()
        if highest is None or highest.number != self._number or not self._is_mine(highest.content):
            self._lose(highest)
            return
        self._fields["renewals"] += 1
        if not self._files.rewrite(self._number, content_of(self._fields)):
            self._lose(self._files.highest())
        elif self._now() - self._renewed < LEASE_S:  # otherwise an acquirer may not have seen it in time
            self._renewed = began

    def _reacquire(self, began: float) -> None:
        """Compete for the next number like an acquirer: this process may have been considered dead."""
        try:
            judged = LeaseFile(self._number, self._files.read(self._number) or b"")
            number = self._files.create_next(judged, self._fields) if self._is_mine(judged.content) else None
        except OSError as exc:
            self._lose(None, f"its lease could not be renewed for {began - self._renewed:.0f} s ({exc.strerror})")
            return
        if number is None:
            self._lose(self._files.highest())
            return
        self._number = number
        self._files.remove_below(self._number)
        self._renewed = began

    def _lose(self, to: LeaseFile | None, why: str | None = None) -> None:
        why = why or f"it has gone to {'another process' if to is None else to.describe}, as this one seemed dead"
        self._lost = LockedError(f"run {self._fields['run']} is no longer this process's: {why}", _CHECK_OTHER_PROCESS)
        for callback in self._callbacks:
            callback()

    def _removed(self) -> RunRemovedError | None:
        """Return the error for a removed run folder; None if the folder exists."""
        folder = self._files.folder
        if folder.exists():
            return None
        what = f"{folder}, the folder of run {self._fields['run']}, was removed while the run went on"
        return RunRemovedError(what, Advice("restore it (only its journal records what was sent)", repeat=True))

    def _is_mine(self, content: bytes | None) -> bool:
        return content is not None and LeaseFile(0, content).fields.get("token") == self._fields["token"]


class LeaseAcquirer:
    """Acquires the lease of a run for a process that holds the kernel lock."""

    def __init__(self, lock: Path, holder: LeaseOwner, what: str, now: Callable[[], float] = uptime) -> None:
        self._files = LeaseFiles(lock)
        self._holder = holder
        self._what = what
        self._now = now
        self._seen: LeaseFile | None = None
        self._since = 0.0

    @property
    def current_holder(self) -> str | None:
        """The owner whose lease file is being watched, as text."""
        return None if self._seen is None else self._seen.describe

    def try_acquire(self) -> Lease | None:
        """Return the lease, or None if it is undecided yet. Raises LockedError if the owner is alive."""
        began = self._now()
        try:
            current = self._files.highest()
            if (
                current is not None
                and current.fields.get("boot") != self._holder.boot
                and not self._is_dead(current, began)
            ):
                return None
            return self._take(current, began)
        except OSError as exc:
            raise write_error(self._what, exc) from exc

    def _is_dead(self, current: LeaseFile, read_at: float) -> bool:
        """Return whether the file has been unchanged for long enough. It was read just after `read_at`."""
        if current == self._seen:
            return read_at - self._since >= TAKEOVER_AFTER_S
        is_first, self._seen, self._since = self._seen is None, current, self._now()
        if not is_first:
            raise LockedError(f"{self._what} is in use by {current.describe}", "wait for it, or give run --wait 10m")
        return False

    def _take(self, dead: LeaseFile | None, began: float) -> Lease | None:
        """Create the next lease file and return the lease; None if another process was faster."""
        former = {} if dead is None else dead.fields
        apart = dead is None or (former.get("boot") == self._holder.boot and bool(former.get("apart")))
        fields = {**asdict(self._holder), "token": uuid4().hex, "renewals": 10**9, "apart": apart}
        number = self._files.create_next(dead, fields)
        if number is None:
            return None
        lease = Lease(self._files, LeaseFile(number, content_of(fields)), began, self._now)
        if apart:
            self._files.remove_below(number)
        return lease
