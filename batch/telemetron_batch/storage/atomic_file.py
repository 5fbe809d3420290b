"""Files written atomically, readable by the owner only, or by the group with --shared-reports-dir."""

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
from telemetron_batch.storage.file_system import sync_folder

_confirm: ContextVar[Callable[[], None]] = ContextVar("_confirm", default=lambda: None)


@contextmanager
def rename_guard(check_allowed: Callable[[], None]) -> Iterator[None]:
    """Within this context, call `check_allowed` before each rename of a written file; it raises to forbid the rename.

    A nested context calls the outer function first.
    """
    before = _confirm.get()

    def both() -> None:
        before()
        check_allowed()

    token = _confirm.set(both)
    try:
        yield
    finally:
        _confirm.reset(token)


def check_rename_allowed() -> None:
    """Call the functions of the enclosing `rename_guard` contexts, which raise if a rename is forbidden."""
    _confirm.get()()


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to write, which gets its name only when all of its content is on disk.

    Raises DiskError; an older file of this name then stays unchanged.
    """
    try:
        with trusted_folders.folder_at(path.parent) as folder, _written_in(folder, path) as file:
            yield file
        sync_folder(path.parent)
    except OSError as exc:
        raise DiskError(f"cannot write {path} ({exc.strerror or exc})", remedy(exc)) from exc


@contextmanager
def _written_in(folder: trusted_folders.FolderHandle, path: Path) -> Iterator[BinaryIO]:
    """Yield a temporary file in the folder; sync and rename it at the end."""
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
    """Translate an OSError into DiskError or PathError, for code that writes only files of this folder."""
    try:
        yield
    except OSError as exc:
        raise write_error(f"in {folder}", exc) from exc


def make_private_dir(folder: Path) -> Path:
    """Create and return a folder that only its owner may enter. Its parents get the default mode.

    Raises UntrustedRunError if the folder exists and is not ours.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        trusted_folders.make_folder(folder)
    except OSError as exc:
        raise write_error(str(folder), exc) from exc
    return folder


def require_free_space(folder: Path, needed: int) -> None:
    """Raise DiskError unless the folder's disk has `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        what = f"{folder} has {_mebibytes(free)} MiB free, and this run may need {_mebibytes(needed)}"
        raise DiskError(what, MAKE_ROOM_UNSENT)


def _mebibytes(size: int) -> str:
    return f"{size / (1 << 20):,.1f}"


class DiskReserve:
    """Reserved disk space, so that the last records can still be written when the disk is full.

    The file contains real zeros: a sparse file would reserve nothing.
    """

    SIZE = 1 << 20

    def __init__(self, path: Path) -> None:
        self._path = path
        self.used = False

    def allocate(self) -> None:
        """Reserve the space. Raises DiskError."""
        with atomic_write(self._path) as file:
            file.write(bytes(self.SIZE))

    def release(self) -> bool:
        """Free the space. Return False if it was freed before."""
        if self.used:
            return False
        self.used = True
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
        return True
