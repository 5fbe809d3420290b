"""File locks that the kernel releases when their owner dies, so they are never stale.

The content of a lock file is used only in messages.
"""

import hashlib
import json
import os
import stat
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from telemetron_batch.domain.base_url import api_identity
from telemetron_batch.domain.errors import LockedError, PathError, untrusted_path_errors, write_error
from telemetron_batch.domain.ownership import is_mine
from telemetron_batch.storage.file_system import NO_LINK, read_start, write_start
from telemetron_batch.storage.group_folder import open_shared, require_group_folder
from telemetron_batch.storage.kernel_lock import make_shared, try_lock, unlock

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
            write_start(descriptor, json.dumps([owner.pid, owner.since, owner.run, shared]).encode())
        except OSError as exc:
            os.close(descriptor)
            raise write_error(str(path), exc) from exc
        if shared and not make_shared(descriptor):  # another process got an exclusive lock in between
            os.close(descriptor)
            raise LockedError(f"{what} is in use by another process", "wait for it, or give run --wait 10m")
        return cls(path, descriptor)

    def release(self) -> None:
        """Release the lock."""
        if sys.platform == "win32":  # it may release the locks of a closed file only later
            unlock(self._descriptor)
        os.close(self._descriptor)


def is_held(path: Path) -> bool:
    """Return whether a process holds the lock."""
    try:
        descriptor = os.open(path, os.O_RDWR | NO_LINK)
    except OSError:
        return False
    try:
        return not try_lock(descriptor, shared=True)
    finally:
        os.close(descriptor)


def _try_exclusive(descriptor: int, run: str | None) -> bool:
    """Lock an open file exclusively, or shared with other processes of the same run. Return whether that worked.

    The last process with an exclusive lock wrote the file's content; it holds the lock shared since then, or has
    ended.
    """
    while not try_lock(descriptor, shared=False):
        if not try_lock(descriptor, shared=True):
            return False
        _, _, owner, shared = _owner(descriptor)
        if shared:
            return owner == run
        # `is_held` takes a shared lock for an instant: that is no owner, so try again.
        unlock(descriptor)
    return True


def _read_owner(descriptor: int) -> str:
    pid, since, run, _ = _owner(descriptor)
    return f"process {pid} (run {run}, since {since})" if pid else "another process"


def _owner(descriptor: int) -> tuple[int, str, str, bool]:
    """Return pid (0 if unknown), start time, run, and whether the lock is shared by processes of that run."""
    try:
        pid, since, run, *rest = json.loads(read_start(descriptor, 4096))
    except ValueError:
        return 0, "", "", False
    return pid, since, run, bool(rest and rest[0])


def state_dir() -> Path:
    """Return this user's folder for data that outlives a run."""
    try:
        folder = _state_base() / "telemetron-batch"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(folder, os.W_OK | os.X_OK):
            return folder
    except (OSError, RuntimeError):
        pass
    # A service account may have no writable home; all its processes must still use one folder.
    folder = Path(tempfile.gettempdir()) / f"telemetron-batch{_user_suffix()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as exc:
        raise PathError(f"{folder} cannot be used for locks ({exc.strerror})", _OWN_FOLDER) from exc
    if not is_mine(found) or not stat.S_ISDIR(found.st_mode):
        raise PathError(f"{folder} belongs to another user or is no folder", _OWN_FOLDER)
    return folder


def _state_base() -> Path:
    """Return the folder in which programs keep data of this user. Raises RuntimeError for a user without a home."""
    if named := os.environ.get("XDG_STATE_HOME"):
        return Path(named)
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local)
    return Path.home() / ".local" / "state"


def _user_suffix() -> str:
    """Return what tells users apart in the folder for temporary files; on Windows each has their own folder."""
    if sys.platform == "win32":
        return ""
    else:  # noqa: RET505 - the type checker knows only such branches as those of a system
        return f"-{os.getuid()}"


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
