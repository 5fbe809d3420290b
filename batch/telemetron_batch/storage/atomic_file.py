"""Files that appear whole or not at all, readable by their owner only (and under --shared-reports-dir by the group)."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO

from telemetron_batch.domain.errors import DiskError, remedy, write_error
from telemetron_batch.domain.stops import MAKE_ROOM_UNSENT
from telemetron_batch.storage import trusted_folders

_confirm: ContextVar[Callable[[], None]] = ContextVar("_confirm", default=lambda: None)


@contextmanager
def rename_guard(confirm: Callable[[], None]) -> Iterator[None]:
    """While this lasts, a file takes its name only after `check_rename_allowed`, which raises where it must not.

    Within another such time, after both.
    """
    before = _confirm.get()

    def both() -> None:
        before()
        confirm()

    token = _confirm.set(both)
    try:
        yield
    finally:
        _confirm.reset(token)


def check_rename_allowed() -> None:
    """Raise where no file may take its name."""
    _confirm.get()()


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes its name only when all of it is on disk.

    Raises DiskError; what stood under the name before then still stands there.
    """
    try:
        with trusted_folders.folder_at(path.parent) as folder, _written_in(folder, path) as file:
            yield file
        sync_folder(path.parent)
    except OSError as exc:
        raise DiskError(f"cannot write {path} ({exc.strerror or exc})", remedy(exc)) from exc


@contextmanager
def _written_in(folder: trusted_folders.FolderAt, path: Path) -> Iterator[BinaryIO]:
    """Write aside in a folder, and rename when that is on disk."""
    aside = f".{path.name}.new"
    folder.remove(aside)
    try:
        with os.fdopen(folder.make(aside, trusted_folders.file_mode()), "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        check_rename_allowed()
        folder.rename(aside, path.name)
    except BaseException:
        folder.remove(aside)
        raise


@contextmanager
def disk_errors_in(folder: Path) -> Iterator[None]:
    """Turns what the disk refuses into DiskError or PlaceError, where only files of this folder are written."""
    try:
        yield
    except OSError as exc:
        raise write_error(f"in {folder}", exc) from exc


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on disk, not just the contents of its files."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_private_dir(folder: Path) -> Path:
    """Make a folder that only its owner may enter; its parents as the system's defaults have it.

    Raises ForeignRunError where there is one that is not ours.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        trusted_folders.make_folder(folder)
    except OSError as exc:
        raise write_error(str(folder), exc) from exc
    return folder


def require_free_space(folder: Path, needed: int) -> None:
    """Raise DiskError unless the folder's disk has so many bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        what = f"{folder} has {_mebibytes(free)} MiB free, and this run may need {_mebibytes(needed)}"
        raise DiskError(what, MAKE_ROOM_UNSENT)


def _mebibytes(size: int) -> str:
    return f"{size / (1 << 20):,.1f}"


class DiskReserve:
    """Disk space put by, so that a disk that fills up still takes what must be written down.

    Really allocated: a sparse file would keep nothing free.
    """

    SIZE = 1 << 20

    def __init__(self, path: Path) -> None:
        self._path = path
        self.used = False

    def allocate(self) -> None:
        """Take the space. Raises DiskError."""
        with atomic_write(self._path) as file:
            file.write(bytes(self.SIZE))

    def release(self) -> bool:
        """Free the space; False when that has been done before."""
        if self.used:
            return False
        self.used = True
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
        return True
