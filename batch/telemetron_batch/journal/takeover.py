"""Replace a journal by a copy after a takeover from another host.

The former owner may have been suspended in the middle of a write, and can finish it later. So the new owner
continues with a copy of the same name, and late writes go to the old, deleted file.
"""

import os
import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from telemetron_batch.domain.errors import DiskError, LockedError, remedy
from telemetron_batch.journal.witness import WitnessEntry, witness_of
from telemetron_batch.storage import trusted_folders
from telemetron_batch.storage.atomic_file import atomic_write, disk_errors_in, require_free_space
from telemetron_batch.storage.file_system import sync_folder

_TRIES: Final = 5
_COPY_BYTES: Final = 1 << 20
_SIDECARS: Final = ("-wal", "-shm")


def replace_with_copy(path: Path) -> None:
    """Replace a journal by a copy that includes the content of its write-ahead log.

    The owner of the run calls this before it opens the journal. It can be repeated after a kill: applying the old
    log to the copy again changes nothing. Raises DiskError; LockedError if another process still writes.
    """
    aside = path.with_name(f"{path.name}.apart")
    record = WitnessEntry.read(path)  # before the copy, which can only be further
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


def _replace_witness(path: Path, record: WitnessEntry | None) -> None:
    """Replace the witness by a new file, so that a former owner writes to the old one."""
    if record is None:
        witness_of(path).unlink(missing_ok=True)
        return
    with atomic_write(witness_of(path)) as file:
        file.write(record.packed())


def _copy(path: Path, aside: Path) -> None:
    """Copy a consistent state of the file and its log."""
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
    """Copy a file to a new file. Follows no link."""
    with os.fdopen(trusted_folders.open_file(source, os.O_RDONLY), "rb") as read:
        target.unlink(missing_ok=True)
        with os.fdopen(trusted_folders.open_file(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as written:
            shutil.copyfileobj(read, written, _COPY_BYTES)


def _checkpoint(path: Path) -> None:
    """Move the log into the file and sync it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _file_stamps(path: Path) -> tuple[int, int, int, int]:
    """Return size and modification time of the file and of its log."""
    file = path.stat()
    try:
        log = _sidecar(path, "-wal").stat()
    except FileNotFoundError:
        return file.st_size, file.st_mtime_ns, 0, 0
    return file.st_size, file.st_mtime_ns, log.st_size, log.st_mtime_ns


def _sidecar(path: Path, tail: str) -> Path:
    return path.with_name(path.name + tail)
