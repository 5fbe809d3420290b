"""Who a run belongs to when the kernel's lock cannot say: a run's folder on storage that several hosts share.

A kernel lock holds on one host. What holds between hosts here is a claim: a small file beside the
lock (`run.lease.1`, `run.lease.2` ...) that was made by O_EXCL, so of all who want one number one gets
it. The highest claim is the owner's. It writes into its claim every few seconds.

Two writers never, and no clocks compared:

- A newcomer to whose eyes a claim has not changed for `TAKEOVER_AFTER_S` seconds of its own clock takes the
  next number. One on the owner's own host (the same boot of the same kernel) need not watch: it has the
  kernel's lock, so the owner is dead.
- An owner trusts its claim for `LEASE_S` seconds, which are fewer, from the moment at which its last renewal
  *began*; and a renewal counts only if it was also *done* within the term of the one before. So before any
  newcomer can be through with watching, the owner has either been seen or has stopped trusting itself. How
  long a process or the storage stands still, and where, does not matter.
- An owner whose term has run out (stopped for a minute, or the storage hung) does not go on with the old
  claim, for a newcomer may be about to take the next number: it tries for that number itself. If it gets it,
  nobody else had it; if not, the run is lost to it.
- A claim counts only if after it was made there is no higher one, and the one that was judged dead stands
  there as it was judged: so a claimant who fell asleep between judging and claiming finds out.

What the loser must not do. *Send:* asked before each attempt is recorded and again when its first byte is about
to be written; that costs one look at a clock. *Write to the journal, not even how an attempt under way ended:*
two writers on one SQLite file that do not see each other's locks destroy it, and nothing is lost by silence.
Such an attempt stands there as begun, which the new owner takes for "may have acted", and that is the
truth. Not even close it, for that moves the log into the file. *Name files:* what it is writing aside does not
take its name. And since a process can be stopped between its last look and a write, a newcomer from another host
goes on with a copy of the journal (`storage.apart`): a write that comes late goes into a file without a name.
What is left is an attempt stopped between that last look and the socket. It was recorded before,
so it is not taken for undone; but an API that cannot be told who owns the run cannot refuse it.

A claim goes when its owner has ended, whatever came of the run; one that a dead process left goes with the next.
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
from telemetron_batch.storage.lease_files import LeaseFile, LeaseFiles, LeaseHolder, content_of

LEASE_S: Final = 30.0
"""Seconds for which an owner trusts its last renewal."""
TAKEOVER_AFTER_S: Final = 45.0
"""Seconds without a change after which a newcomer takes an owner on another host for dead.

The difference is room for clocks of different speed and for storage that shows a change late.
"""
RENEWED_EVERY: Final = 3.0
_GO_ON: Final = Advice("look at the run there", repeat=True, when="if it ends early")


class Lease:
    """The ownership of a run, from a claim that was won until `release`; renewed by whoever calls `renew`."""

    def __init__(self, claims: LeaseFiles, claim: LeaseFile, began: float, now: Callable[[], float]) -> None:
        self._claims = claims
        self._number = claim.number
        self._fields = claim.fields
        self._now = now
        self._renewed = began
        """When the last renewal that counts began."""
        self._lost: LockedError | None = None
        self._mutex = threading.Lock()
        self._over = threading.Event()
        self._hearers: tuple[Callable[[], None], ...] = ()

    @property
    def number(self) -> int:
        """Of its claim: no two owners of a run ever have the same."""
        return self._number

    @property
    def is_valid(self) -> bool:
        """May the owner act on it right now? Costs next to nothing: the storage is not asked."""
        return self._lost is None and self._now() - self._renewed < LEASE_S

    @property
    def is_copied(self) -> bool:
        """Can no former owner's late write reach the journal?"""
        return bool(self._fields["apart"])

    def ensure_valid(self) -> None:
        """Come back only to the owner, asking the storage if need be. Raises LockedError to whoever lost it."""
        while not self.is_valid:
            self.renew()
            if self._lost is not None:
                raise self._removed() or self._lost

    def renew(self) -> None:
        """Show that the owner lives. What the storage refuses is passed over until the term has run out."""
        with self._mutex:
            if self._lost is not None:
                return
            began = self._now()
            if began - self._renewed < LEASE_S:
                with suppress(OSError):
                    self._heartbeat(began)
            else:
                self._reacquire(began)

    def mark_copied(self) -> None:
        """Put down that the journal is out of former owners' reach; their claims are of no use any more."""
        with self._mutex:
            self._fields["apart"] = True
            self._claims.rewrite(self._number, content_of(self._fields))
            self._claims.remove_below(self._number)

    def release(self) -> None:
        """Give it up. Who lost it gives nothing up: a write of his may still be under way."""
        self._over.set()
        with self._mutex, suppress(OSError):
            if self._lost is None:
                self._lost = LockedError(f"run {self._fields['run']} was given up by this process", _GO_ON)
                if self._is_mine(self._claims.read(self._number)):
                    self._claims.remove(self._number)

    @contextmanager
    def auto_renew(self) -> Iterator[None]:
        """Renew it every few seconds, in a thread of its own, while this lasts."""
        thread = threading.Thread(target=self._keep_renewing, name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()

    @contextmanager
    def on_lost(self, hear: Callable[[], None]) -> Iterator[None]:
        """Call `hear`, from any thread, when the run is lost. It must not take long."""
        self._hearers = (*self._hearers, hear)
        try:
            if self._lost is not None:
                hear()
            yield
        finally:
            self._hearers = tuple(one for one in self._hearers if one is not hear)

    def _keep_renewing(self) -> None:
        while not self._over.wait(RENEWED_EVERY):
            self.renew()

    def _heartbeat(self, began: float) -> None:
        highest = self._claims.highest()
        if highest is None or highest.number != self._number or not self._is_mine(highest.content):
            self._lose(highest)
            return
        self._fields["renewals"] += 1
        if not self._claims.rewrite(self._number, content_of(self._fields)):
            self._lose(self._claims.highest())
        elif self._now() - self._renewed < LEASE_S:  # else it may have come too late to be seen
            self._renewed = began

    def _reacquire(self, began: float) -> None:
        """Whoever may have been taken for dead competes for the next number like any newcomer."""
        try:
            judged = LeaseFile(self._number, self._claims.read(self._number) or b"")
            won = self._is_mine(judged.content) and self._claims.create_next(judged, self._fields)
        except OSError as exc:
            self._lose(None, f"its lease could not be renewed for {began - self._renewed:.0f} s ({exc.strerror})")
            return
        if not won:
            self._lose(self._claims.highest())
            return
        self._number += 1
        self._claims.remove_below(self._number)
        self._renewed = began

    def _lose(self, to: LeaseFile | None, why: str | None = None) -> None:
        why = why or f"it has gone to {'another process' if to is None else to.describe}, as this one seemed dead"
        self._lost = LockedError(f"run {self._fields['run']} is no longer this process's: {why}", _GO_ON)
        for hear in self._hearers:
            hear()

    def _removed(self) -> RunRemovedError | None:
        """Return the error where it was lost because somebody has removed the run's folder, lease and all."""
        folder = self._claims.folder
        if folder.exists():
            return None
        what = f"{folder}, the folder of run {self._fields['run']}, was removed while the run went on"
        return RunRemovedError(what, Advice("put it back (nothing else tells what was sent)", repeat=True))

    def _is_mine(self, content: bytes | None) -> bool:
        return content is not None and LeaseFile(0, content).fields.get("token") == self._fields["token"]


class LeaseAcquirer:
    """One who wants a run, has its kernel lock, and asks for its lease until it gets it or sees that it cannot."""

    def __init__(self, lock: Path, holder: LeaseHolder, what: str, now: Callable[[], float] = uptime) -> None:
        self._claims = LeaseFiles(lock)
        self._holder = holder
        self._what = what
        self._now = now
        self._seen: LeaseFile | None = None
        self._since = 0.0

    @property
    def current_holder(self) -> str | None:
        """Whose claim is being watched, in words."""
        return None if self._seen is None else self._seen.describe

    def try_acquire(self) -> Lease | None:
        """The lease; or None: not yet known. Raises LockedError when its owner has been seen to live."""
        began = self._now()
        try:
            claim = self._claims.highest()
            if claim is not None and claim.fields.get("boot") != self._holder.boot and not self._is_dead(claim, began):
                return None
            return self._take(claim, began)
        except OSError as exc:
            raise write_error(self._what, exc) from exc

    def _is_dead(self, claim: LeaseFile, looked: float) -> bool:
        """Has it stood there unchanged for long enough? `looked` is when this look began."""
        if claim == self._seen:
            return looked - self._since >= TAKEOVER_AFTER_S
        is_first, self._seen, self._since = self._seen is None, claim, self._now()
        if not is_first:
            raise LockedError(f"{self._what} is in use by {claim.describe}", "wait for it, or give run --wait 10m")
        return False

    def _take(self, dead: LeaseFile | None, began: float) -> Lease | None:
        """The next claim, unless another was faster."""
        former = {} if dead is None else dead.fields
        apart = dead is None or (former.get("boot") == self._holder.boot and bool(former.get("apart")))
        fields = {**asdict(self._holder), "token": uuid4().hex, "renewals": 10**9, "apart": apart}
        if not self._claims.create_next(dead, fields):
            return None
        number = 1 if dead is None else dead.number + 1
        lease = Lease(self._claims, LeaseFile(number, content_of(fields)), began, self._now)
        if apart:
            self._claims.remove_below(number)
        return lease
