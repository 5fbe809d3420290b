"""A journal put out of reach of whoever still has it open on another host.

Who lost a run to another host may have been stopped in the middle of a write, and nothing makes
him look before he ends it. So the new owner goes on with a copy under the same name: what comes
late goes into the old file, which has no name any more.
"""

import os
import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from telemetron_batch.domain.errors import DiskError, LockedError, remedy
from telemetron_batch.journal.witness import Record, witness_of
from telemetron_batch.storage import trusted_folders
from telemetron_batch.storage.atomic_file import atomic_write, disk_errors_in, require_free_space, sync_folder

_TRIES: Final = 5
_PIECE: Final = 1 << 20
_SIDECARS: Final = ("-wal", "-shm")


def replace_with_copy(path: Path) -> None:
    """Put a copy, with all that its write-ahead log holds, in the place of a journal.

    To be called by the owner of the run before anybody opens the journal. Killed on the way it can be
    done again: the old log holds nothing that the copy does not, so to read it twice changes nothing.
    Raises DiskError; LockedError where somebody still writes to it.
    """
    aside = path.with_name(f"{path.name}.apart")
    record = Record.read(path)  # before the journal is copied, which may only be further then
    with disk_errors_in(path.parent):
        require_free_space(path.parent, 2 * sum(_file_stamps(path)[::2]))
        _copy(path, aside)
        try:
            _checkpoint(aside)
        except sqlite3.Error as exc:
            raise DiskError(f"cannot copy {path} ({exc})", remedy(exc)) from exc
        _replace_witness(path, record)
        aside.replace(path)
        for tail in _SIDECARS:
            _sidecar(path, tail).unlink(missing_ok=True)
        sync_folder(path.parent)


def _replace_witness(path: Path, record: Record | None) -> None:
    """Put a new file in the place of the witness: a former owner goes on writing to the old one."""
    if record is None:
        witness_of(path).unlink(missing_ok=True)
        return
    with atomic_write(witness_of(path)) as file:
        file.write(record.packed())


def _copy(path: Path, aside: Path) -> None:
    """Copy the file and its log as they are at one moment."""
    for _ in range(_TRIES):
        before = _file_stamps(path)
        for tail in _SIDECARS:
            _sidecar(aside, tail).unlink(missing_ok=True)
        _copy_file(path, aside)
        with suppress(FileNotFoundError):
            _copy_file(_sidecar(path, "-wal"), _sidecar(aside, "-wal"))
        if _file_stamps(path) == before:
            return
    raise LockedError(f"{path} is being written by another process", "wait for it, or give run --wait 10m")


def _copy_file(source: Path, target: Path) -> None:
    """Copy a file to a new one; no link is followed, on either side."""
    with os.fdopen(trusted_folders.open_file(source, os.O_RDONLY), "rb") as read:
        target.unlink(missing_ok=True)
        with os.fdopen(trusted_folders.open_file(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as written:
            shutil.copyfileobj(read, written, _PIECE)


def _checkpoint(path: Path) -> None:
    """Take the log into the file, all of it on disk."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _file_stamps(path: Path) -> tuple[int, int, int, int]:
    """Size and time of the last write, of the file and of its log."""
    file = path.stat()
    try:
        log = _sidecar(path, "-wal").stat()
    except FileNotFoundError:
        return file.st_size, file.st_mtime_ns, 0, 0
    return file.st_size, file.st_mtime_ns, log.st_size, log.st_mtime_ns


def _sidecar(path: Path, tail: str) -> Path:
    return path.with_name(path.name + tail)
