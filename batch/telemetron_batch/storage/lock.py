"""Locks that the kernel drops when their owner dies: never stale, nothing to clean up.

What stands in a lock file is only for messages; holding it is the kernel's word.
"""

import fcntl
import hashlib
import json
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from telemetron_batch.domain.base_url import api_identity
from telemetron_batch.domain.errors import LockedError, PlaceError, refusing_foreign_files, write_error
from telemetron_batch.storage.group_folder import open_shared, require_group_folder

_OWN_FOLDER: Final = "set XDG_STATE_HOME to a folder of your own"


@dataclass(frozen=True, slots=True)
class LockOwner:
    """Who holds a lock, in words for the one who does not get it."""

    pid: int
    since: str
    run: str


class Lock:
    """A lock on a file, held until `release` or the end of the process."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, path: Path, owner: LockOwner, what: str, *, shared: bool = False) -> Self:
        """Take the lock or raise LockedError that says who has it.

        `what` names the thing that is locked. It is for this process alone, or `shared`
        by all that take it so for the same run. The file stays when the lock goes: removing
        it could take it from under a process that just opened it.
        """
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = open_shared(path)
        except OSError as exc:
            raise write_error(str(path), exc) from exc
        if not _try_exclusive(descriptor, owner.run if shared else None):
            holder = _read_owner(descriptor)
            os.close(descriptor)
            raise LockedError(f"{what} is in use by {holder}", "wait for it, or give run --wait 10m")
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps([owner.pid, owner.since, owner.run, shared]).encode(), 0)
        except OSError as exc:
            os.close(descriptor)
            raise write_error(str(path), exc) from exc
        if shared and not _try_flock(descriptor, fcntl.LOCK_SH):  # somebody came in between, to have it alone
            os.close(descriptor)
            raise LockedError(f"{what} is in use by another process", "wait for it, or give run --wait 10m")
        return cls(path, descriptor)

    def release(self) -> None:
        """Let go of the lock."""
        os.close(self._descriptor)


def is_held(path: Path) -> bool:
    """Does a living process hold the lock?"""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return not _try_flock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _try_exclusive(descriptor: int, run: str | None) -> bool:
    """Lock an open file for this process alone, or with others of the same run.

    What stands in the file is the word of whoever had it alone last; they share it from
    then on, or are gone.
    """
    while not _try_flock(descriptor, fcntl.LOCK_EX):
        if not _try_flock(descriptor, fcntl.LOCK_SH):
            return False
        _, _, owner, shared = _owner(descriptor)
        if shared:
            return owner == run
        # Whoever looks whether it is held has it for an instant, and shares it: that is no owner.
    return True


def _try_flock(descriptor: int, kind: int) -> bool:
    """Lock an open file, alone or shared, unless somebody else's lock forbids it."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_owner(descriptor: int) -> str:
    pid, since, run, _ = _owner(descriptor)
    return f"process {pid} (run {run}, since {since})" if pid else "another process"


def _owner(descriptor: int) -> tuple[int, str, str, bool]:
    """Pid (0: not known), since when, run, and whether others of it share the lock."""
    try:
        pid, since, run, *rest = json.loads(os.pread(descriptor, 4096, 0))
    except ValueError:
        return 0, "", "", False
    return pid, since, run, bool(rest and rest[0])


def state_dir() -> Path:
    """Where things that outlive a run are kept, per user of this host."""
    base = os.environ.get("XDG_STATE_HOME")
    try:
        folder = (Path(base) if base else Path.home() / ".local" / "state") / "telemetron-batch"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(folder, os.W_OK | os.X_OK):
            return folder
    except (OSError, RuntimeError):
        pass
    # A service account may have no home, or none to write to; locks must then meet elsewhere.
    folder = Path(tempfile.gettempdir()) / f"telemetron-batch-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as exc:
        raise PlaceError(f"{folder} is no folder that locks can lie in ({exc.strerror})", _OWN_FOLDER) from exc
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode):
        raise PlaceError(f"{folder} belongs to somebody else", _OWN_FOLDER)
    return folder


def lock_folders(named: Path | None) -> tuple[Path, ...]:
    """Return where locks of a key lie: in this user's folder, and in the one that several users have named.

    Raises PlaceError.
    """
    if named is None:
        return (state_dir(),)
    with refusing_foreign_files():
        return state_dir(), require_group_folder(named)


def key_fingerprint(base_url: str, key: str) -> str:
    """A name for this base URL, however it is spelled, and key; gives neither away."""
    return _hashed(f"{api_identity(base_url)}\0{key}")


def organisation_name(base_url: str, organisation: str) -> str:
    """A name for this base URL, however it is spelled, and organisation."""
    return _hashed(f"{api_identity(base_url)}\0\0{organisation}")


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]
