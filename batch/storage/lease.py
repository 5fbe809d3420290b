"""Who a run belongs to when the kernel's lock cannot say: a run's folder on storage that several hosts share.

A kernel lock holds on one host. What holds between hosts here is a claim: a small file beside the
lock (`run.lease.1`, `run.lease.2` ...) that was made by O_EXCL, so of all who want one number one gets
it. The highest claim is the owner's. It writes into its claim every few seconds.

Two writers never, and no clocks compared:

- A newcomer to whose eyes a claim has not changed for `WATCHED_FOR` seconds of its own clock takes the
  next number. One on the owner's own host (the same boot of the same kernel) need not watch: it has the
  kernel's lock, so the owner is dead.
- An owner trusts its claim for `TERM` seconds, which are fewer, from the moment at which its last renewal
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

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self
from uuid import uuid4

from batch.clock import uptime
from batch.errors import LockedError, unwritable
from batch.storage.lock import Lock, Owner, is_held

TERM: Final = 30.0
"""Seconds for which an owner trusts its last renewal."""
WATCHED_FOR: Final = 45.0
"""Seconds without a change after which a newcomer takes an owner on another host for dead.

The difference is room for clocks of different speed and for storage that shows a change late.
"""
RENEWED_EVERY: Final = 3.0
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_GO_ON: Final = "look at the run there; if it ends early, run the same command again"


def this_boot() -> str:
    """Names this boot of this host's kernel: the reach of its locks, and of a process's life."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return socket.gethostname()


@dataclass(frozen=True, slots=True)
class Holder:
    """Who claims a run, in words for others."""

    pid: int
    since: str
    run: str
    host: str
    boot: str
    task: str = ""

    @classmethod
    def of(cls, owner: Owner, task: str = "") -> Self:
        """An owner on this host; `task` says for whom it works, in words."""
        return cls(owner.pid, owner.since, owner.run, socket.gethostname(), this_boot(), task)


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim as it stands in its file."""

    number: int
    content: bytes

    @property
    def fields(self) -> dict[str, Any]:
        """What it says; nothing where it is being written or cannot be read."""
        with suppress(ValueError):
            fields = json.loads(self.content)
            if isinstance(fields, dict):
                return fields
        return {}

    @property
    def words(self) -> str:
        """Whose it is."""
        fields = self.fields
        if "pid" not in fields:
            return "a process on another host"
        task = f", {fields['task']}" if fields.get("task") else ""
        return f"process {fields['pid']} on host {fields['host']} (run {fields['run']}, since {fields['since']}{task})"


class Claims:
    """The claims beside a lock: files that are made, rewritten and removed, each a step that the storage does whole."""

    def __init__(self, lock: Path) -> None:
        self._folder = lock.parent
        self._prefix = f"{lock.stem}.lease."

    def highest(self) -> Claim | None:
        """The owner's claim; None where there is none."""
        for number in sorted(self._numbers(), reverse=True):
            content = self.read(number)
            if content is not None:  # else it went between the two looks
                return Claim(number, content)
        return None

    def read(self, number: int) -> bytes | None:
        """What stands in a claim; None if it is not there."""
        try:
            return self._path(number).read_bytes()
        except FileNotFoundError:
            return None

    def make(self, number: int, content: bytes) -> bool:
        """Make a claim; False if somebody else has."""
        try:
            descriptor = os.open(self._path(number), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        except FileExistsError:
            return False
        try:
            _write(descriptor, content)
        except OSError:
            self.remove(number)
            raise
        return True

    def rewrite(self, number: int, content: bytes) -> bool:
        """Write anew into a claim, of the same length; False if it is gone."""
        try:
            descriptor = os.open(self._path(number), os.O_WRONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return False
        _write(descriptor, content)
        return True

    def remove(self, number: int) -> None:
        """Remove a claim."""
        self._path(number).unlink(missing_ok=True)

    def remove_below(self, number: int) -> None:
        """Remove the claims of those who lost the run."""
        for lower in self._numbers():
            if lower < number:
                self.remove(lower)

    def _numbers(self) -> list[int]:
        try:
            names = [entry.name for entry in os.scandir(self._folder)]
        except FileNotFoundError:
            return []
        tails = (name.removeprefix(self._prefix) for name in names if name.startswith(self._prefix))
        return [int(tail) for tail in tails if tail.isdecimal()]

    def _path(self, number: int) -> Path:
        return self._folder / f"{self._prefix}{number}"


class Lease:
    """The ownership of a run, from a claim that was won until `release`; renewed by whoever calls `renew`."""

    def __init__(self, claims: Claims, claim: Claim, began: float, now: Callable[[], float]) -> None:
        self._claims = claims
        self._number = claim.number
        self._fields = claim.fields
        self._now = now
        self._renewed = began
        """When the last renewal that counts began."""
        self._lost: LockedError | None = None
        self._at_it = threading.Lock()
        self._over = threading.Event()
        self._hearers: tuple[Callable[[], None], ...] = ()

    @property
    def number(self) -> int:
        """Of its claim: no two owners of a run ever have the same."""
        return self._number

    @property
    def is_sure(self) -> bool:
        """May the owner act on it right now? Costs next to nothing: the storage is not asked."""
        return self._lost is None and self._now() - self._renewed < TERM

    @property
    def is_apart(self) -> bool:
        """Can no former owner's late write reach the journal?"""
        return bool(self._fields["apart"])

    def confirm(self) -> None:
        """Come back only to the owner, asking the storage if need be. Raises LockedError to whoever lost it."""
        while not self.is_sure:
            self.renew()
            if self._lost is not None:
                raise self._lost

    def renew(self) -> None:
        """Show that the owner lives. What the storage refuses is passed over until the term has run out."""
        with self._at_it:
            if self._lost is not None:
                return
            began = self._now()
            if began - self._renewed < TERM:
                with suppress(OSError):
                    self._show(began)
            else:
                self._win_anew(began)

    def set_apart(self) -> None:
        """Put down that the journal is out of former owners' reach; their claims are of no use any more."""
        with self._at_it:
            self._fields["apart"] = True
            self._claims.rewrite(self._number, _content(self._fields))
            self._claims.remove_below(self._number)

    def release(self) -> None:
        """Give it up. Who lost it gives nothing up: a write of his may still be under way."""
        self._over.set()
        with self._at_it, suppress(OSError):
            if self._lost is None:
                self._lost = LockedError(f"run {self._fields['run']} was given up by this process", _GO_ON)
                if self._is_mine(self._claims.read(self._number)):
                    self._claims.remove(self._number)

    @contextmanager
    def renewed(self) -> Iterator[None]:
        """Renew it every few seconds, in a thread of its own, while this lasts."""
        thread = threading.Thread(target=self._keep_renewing, name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()

    @contextmanager
    def watched_by(self, hear: Callable[[], None]) -> Iterator[None]:
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

    def _show(self, began: float) -> None:
        highest = self._claims.highest()
        if highest is None or highest.number != self._number or not self._is_mine(highest.content):
            self._lose(highest)
            return
        self._fields["renewals"] += 1
        if not self._claims.rewrite(self._number, _content(self._fields)):
            self._lose(self._claims.highest())
        elif self._now() - self._renewed < TERM:  # else it may have come too late to be seen
            self._renewed = began

    def _win_anew(self, began: float) -> None:
        """Whoever may have been taken for dead competes for the next number like any newcomer."""
        try:
            judged = Claim(self._number, self._claims.read(self._number) or b"")
            won = self._is_mine(judged.content) and _won(self._claims, judged, self._fields)
        except OSError as exc:
            self._lose(None, f"its lease could not be renewed for {began - self._renewed:.0f} s ({exc.strerror})")
            return
        if not won:
            self._lose(self._claims.highest())
            return
        self._number += 1
        self._claims.remove_below(self._number)
        self._renewed = began

    def _lose(self, to: Claim | None, why: str | None = None) -> None:
        why = why or f"it has gone to {'another process' if to is None else to.words}, as this one seemed dead"
        self._lost = LockedError(f"run {self._fields['run']} is no longer this process's: {why}", _GO_ON)
        for hear in self._hearers:
            hear()

    def _is_mine(self, content: bytes | None) -> bool:
        return content is not None and Claim(0, content).fields.get("token") == self._fields["token"]


class Newcomer:
    """One who wants a run, has its kernel lock, and asks for its lease until it gets it or sees that it cannot."""

    def __init__(self, lock: Path, holder: Holder, what: str, now: Callable[[], float] = uptime) -> None:
        self._claims = Claims(lock)
        self._holder = holder
        self._what = what
        self._now = now
        self._seen: Claim | None = None
        self._since = 0.0

    @property
    def waits_for(self) -> str | None:
        """Whose claim is being watched, in words."""
        return None if self._seen is None else self._seen.words

    def ask(self) -> Lease | None:
        """The lease; or None: not yet known. Raises LockedError when its owner has been seen to live."""
        began = self._now()
        try:
            claim = self._claims.highest()
            if claim is not None and claim.fields.get("boot") != self._holder.boot and not self._is_dead(claim, began):
                return None
            return self._take(claim, began)
        except OSError as exc:
            raise unwritable(self._what, exc) from exc

    def _is_dead(self, claim: Claim, looked: float) -> bool:
        """Has it stood there unchanged for long enough? `looked` is when this look began."""
        if claim == self._seen:
            return looked - self._since >= WATCHED_FOR
        is_first, self._seen, self._since = self._seen is None, claim, self._now()
        if not is_first:
            raise LockedError(f"{self._what} is in use by {claim.words}", "wait for it, or say --wait 10m")
        return False

    def _take(self, dead: Claim | None, began: float) -> Lease | None:
        """The next claim, unless another was faster."""
        former = {} if dead is None else dead.fields
        apart = dead is None or (former.get("boot") == self._holder.boot and bool(former.get("apart")))
        fields = {**asdict(self._holder), "token": uuid4().hex, "renewals": 10**9, "apart": apart}
        if not _won(self._claims, dead, fields):
            return None
        number = 1 if dead is None else dead.number + 1
        lease = Lease(self._claims, Claim(number, _content(fields)), began, self._now)
        if apart:
            self._claims.remove_below(number)
        return lease


def is_elsewhere(lock: Path) -> str | None:
    """Who on another host holds what this lock is for, or did when it died, in words; None for nobody."""
    claim = Claims(lock).highest()
    return None if claim is None or claim.fields.get("boot") == this_boot() else claim.words


def is_in_use(lock: Path) -> bool:
    """Does a living process hold what this lock is for? Of another host's process that cannot be told at a glance."""
    return is_held(lock) or is_elsewhere(lock) is not None


def sweep(lock: Path, owner: Owner) -> None:
    """Remove the claim of a dead process of this host, if there is one: nothing is left to be done that it was for."""
    claim = Claims(lock).highest()
    if claim is None or claim.fields.get("boot") != this_boot():
        return
    with suppress(LockedError):
        held = Lock.take(lock, owner, "what is to be swept")
        Claims(lock).remove(claim.number)
        held.release()


def _won(claims: Claims, judged: Claim | None, fields: dict[str, Any]) -> bool:
    """Make the claim after the one that was judged dead; whether it counts."""
    number = 1 if judged is None else judged.number + 1
    if not claims.make(number, _content(fields)):
        return False
    highest = claims.highest()
    counts = highest is not None and highest.number == number
    if not counts or (judged is not None and claims.read(judged.number) != judged.content):
        claims.remove(number)
        return False
    return True


def _content(fields: dict[str, Any]) -> bytes:
    """A claim's content; always as long as before, so that it can be written over."""
    return json.dumps({**fields, "apart": int(fields["apart"])}).encode() + b"\n"


def _write(descriptor: int, content: bytes) -> None:
    """Write from the beginning, and have it where others see it."""
    try:
        os.pwrite(descriptor, content, 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
