"""File locks that the kernel releases when their owner dies, so they are never stale.

The content of a lock file is used only in messages.
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
from telemetron_batch.domain.errors import LockedError, PathError, untrusted_path_errors, write_error
from telemetron_batch.storage.group_folder import open_shared, require_group_folder

_OWN_FOLDER: Final = "set XDG_STATE_HOME to a folder of your own"


@dataclass(frozen=True, slots=True)
class LockOwner:
    """The holder of a lock, for messages."""

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
        """Acquire the lock. Raises LockedError, which names the holder.

        `what` names the locked thing in messages. A `shared` lock can be held by several processes of the same run.
        The file is never removed: another process may just have opened it.
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
        if shared and not _try_flock(descriptor, fcntl.LOCK_SH):  # another process got an exclusive lock in between
            os.close(descriptor)
            raise LockedError(f"{what} is in use by another process", "wait for it, or give run --wait 10m")
        return cls(path, descriptor)

    def release(self) -> None:
        """Release the lock."""
        os.close(self._descriptor)


def is_held(path: Path) -> bool:
    """Return whether a process holds the lock."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return not _try_flock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _try_exclusive(descriptor: int, run: str | None) -> bool:
    """Lock an open file exclusively, or shared with other processes of the same run. Return whether that worked.

    The last process with an exclusive lock wrote the file's content; it holds the lock shared since then, or has
    ended.
    """
    while not _try_flock(descriptor, fcntl.LOCK_EX):
        if not _try_flock(descriptor, fcntl.LOCK_SH):
            return False
        _, _, owner, shared = _owner(descriptor)
        if shared:
            return owner == run
        # `is_held` takes a shared lock for an instant: that is no owner, so try again.
    return True


def _try_flock(descriptor: int, kind: int) -> bool:
    """Lock an open file, exclusively or shared. Return False if another lock forbids it."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_owner(descriptor: int) -> str:
    pid, since, run, _ = _owner(descriptor)
    return f"process {pid} (run {run}, since {since})" if pid else "another process"


def _owner(descriptor: int) -> tuple[int, str, str, bool]:
    """Return pid (0 if unknown), start time, run, and whether the lock is shared by processes of that run."""
    try:
        pid, since, run, *rest = json.loads(os.pread(descriptor, 4096, 0))
    except ValueError:
        return 0, "", "", False
    return pid, since, run, bool(rest and rest[0])


def state_dir() -> Path:
    """Return this user's folder for data that outlives a run."""
    base = os.environ.get("XDG_STATE_HOME")
    try:
        folder = (Path(base) if base else Path.home() / ".local" / "state") / "telemetron-batch"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(folder, os.W_OK | os.X_OK):
            return folder
    except (OSError, RuntimeError):
        pass
    # A service account may have no writable home; all its processes must still use one folder.
    folder = Path(tempfile.gettempdir()) / f"telemetron-batch-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as exc:
        raise PathError(f"{folder} cannot be used for locks ({exc.strerror})", _OWN_FOLDER) from exc
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode):
        raise PathError(f"{folder} belongs to another user or is no folder", _OWN_FOLDER)
    return folder


def lock_folders(named: Path | None) -> tuple[Path, ...]:
    """Return the folders for locks of a key: this user's folder, and the one of `--lock-dir`. Raises PathError."""
    if named is None:
        return (state_dir(),)
    with untrusted_path_errors():
        return state_dir(), require_group_folder(named)


def key_fingerprint(base_url: str, key: str) -> str:
    """Return a name for this base URL, in any spelling, and key; a hash that reveals neither."""
    return _hashed(f"{api_identity(base_url)}\0{key}")


def organisation_name(base_url: str, organisation: str) -> str:
    """Return a name for this base URL, in any spelling, and organisation."""
    return _hashed(f"{api_identity(base_url)}\0\0{organisation}")


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]
