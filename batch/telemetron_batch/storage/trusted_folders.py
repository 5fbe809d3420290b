"""Check that a run's folder and its files are ours, and open files there without following links.

A path is ours if its owner is this user or root, no other user can write to it, and it is no symbolic link. With
`shared_with_group`, members of this user's groups may write to it too. The reports folder itself is not
checked: a user who can write to it can at most replace a run's folder with one of their own, which is not ours.

Windows has no numeric owners and no descriptors of folders: only links are refused there.
"""

import errno
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Final

from telemetron_batch.domain.ownership import HAS_OWNERS, UntrustedPathError, account, is_mine, is_owned, name_of
from telemetron_batch.domain.shell import quote
from telemetron_batch.storage.file_system import BINARY, FOLDER_ONLY, NO_LINK, NO_WAIT

_ROOT: Final = 0
_HAS_DESCRIPTORS: Final = bool(NO_LINK) and {os.open, os.stat, os.unlink} <= os.supports_dir_fd
_MAX_LINKS: Final = 40

_shared: ContextVar[bool] = ContextVar("_shared", default=False)


@contextmanager
def shared_with_group(is_shared: bool) -> Iterator[None]:
    """Within this context, accept run folders that members of our groups can write to, if `is_shared`."""
    token = _shared.set(is_shared or _shared.get())
    try:
        yield
    finally:
        _shared.reset(token)


def require_folder(path: Path) -> None:
    """Raise UntrustedPathError unless the folder is ours or absent."""
    found = _found(path)
    if found is None:
        return
    _check(path, found, stat.S_ISDIR, "folder")
    if not is_mine(found) and not os.access(path, os.R_OK | os.X_OK):
        owner, mode = _owner(found)
        what = f"{path} belongs to {owner} (mode {mode:04o}) and cannot be read"
        raise UntrustedPathError(what, f"run as {owner}, or name another --run-id")


def require_file(path: Path) -> None:
    """Raise UntrustedPathError unless the file is ours or absent. Does not check its folder."""
    found = _found(path)
    if found is not None:
        _check(path, found, stat.S_ISREG, "file")


def _found(path: Path) -> os.stat_result | None:
    """Return the status of a path without following a link; None if it does not exist."""
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as exc:
        what = f"{path} cannot be examined ({exc.strerror})"
        raise UntrustedPathError(what, f"run as the owner of {path.parent}, or name another folder") from exc


def require_files(folder: Path, names: Iterable[str]) -> None:
    """Raise UntrustedPathError unless a folder and these files in it are ours, as far as they exist."""
    require_folder(folder)
    for name in names:
        require_file(folder / name)


def open_file(path: Path, flags: int, mode: int = 0o600) -> int:
    """Return a descriptor of a file that is ours, in a folder that is ours. Follows no link.

    Raises UntrustedPathError, and OSError as `os.open` does.
    """
    if not _HAS_DESCRIPTORS:
        require_files(path.parent, (path.name,))
        return os.open(path, flags | BINARY, mode)
    folder = open_folder(path.parent)
    try:
        descriptor = os.open(path.name, flags | NO_LINK | NO_WAIT, mode, dir_fd=folder)
    except OSError as exc:
        if exc.errno == errno.ELOOP:
            require_file(path)
        raise
    finally:
        os.close(folder)
    with _closed_on_error(descriptor):
        _check(path, os.fstat(descriptor), stat.S_ISREG, "file")
    return descriptor


def open_folder(path: Path) -> int:
    """Return a descriptor of a folder that is ours. Raises UntrustedPathError, and OSError as `os.open` does."""
    try:
        descriptor = os.open(path, os.O_RDONLY | FOLDER_ONLY | NO_LINK)
    except OSError:
        require_folder(path)
        raise
    with _closed_on_error(descriptor):
        _check(path, os.fstat(descriptor), stat.S_ISDIR, "folder")
    return descriptor


def read_file(path: Path) -> bytes:
    """Return the content of a file that is ours. Raises UntrustedPathError, and OSError as `os.open` does."""
    with os.fdopen(open_file(path, os.O_RDONLY), "rb") as file:
        return file.read()


def names_in(folder: Path) -> list[str]:
    """Return the names in a folder that is ours; none if it does not exist. Raises UntrustedPathError."""
    require_folder(folder)
    try:
        return [entry.name for entry in os.scandir(folder)]
    except FileNotFoundError:
        return []


def make_folder(path: Path) -> None:
    """Create a folder that only its owner, or with `shared_with_group` its group too, may enter.

    Raises UntrustedPathError if it exists and is not ours.
    """
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        require_folder(path)
        return
    if _shared.get():
        path.chmod(0o2770)
    try:
        require_folder(path)
    except UntrustedPathError as exc:
        advice = "name a --reports-dir on another disk, or mount this one with dir_mode=0700 and file_mode=0600"
        raise UntrustedPathError(f"{exc.what}; its file system does not keep owners and modes", advice) from None


def is_shared() -> bool:
    """Return whether members of our groups may write to run folders."""
    return _shared.get()


def file_mode() -> int:
    """Return the mode of new files: private, or with `shared_with_group` writable by the group."""
    return 0o660 if _shared.get() else 0o600


class FolderHandle:
    """A folder that others may write to, held by its descriptor so that nobody can replace it by another."""

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self._path = path
        self._at = descriptor
        """None if the system opens files only by complete paths."""

    def make(self, name: str, mode: int) -> int:
        """Create a file and return its descriptor. Raises OSError, also if a file or link has that name."""
        return os.open(self._name(name), os.O_RDWR | os.O_CREAT | os.O_EXCL | NO_LINK | BINARY, mode, dir_fd=self._at)

    def open(self, name: str) -> int:
        """Return a descriptor of an existing file for reading; follows no link and does not block. Raises OSError."""
        return os.open(self._name(name), os.O_RDONLY | NO_LINK | NO_WAIT | BINARY, dir_fd=self._at)

    def unlink(self, name: str) -> None:
        """Remove a file. Raises OSError."""
        os.unlink(self._name(name), dir_fd=self._at)

    def rename(self, name: str, new: str) -> None:
        """Rename a file, replacing a file or link of the new name. Raises OSError."""
        os.replace(self._name(name), self._name(new), src_dir_fd=self._at, dst_dir_fd=self._at)

    def remove(self, name: str) -> None:
        """Remove a file if it exists."""
        with suppress(OSError):
            os.unlink(self._name(name), dir_fd=self._at)

    def _name(self, name: str) -> str:
        return name if self._at is not None else str(self._path / name)


@contextmanager
def folder_at(path: Path, *, refuse_link: bool = False) -> Iterator[FolderHandle]:
    """Open a folder without checking its owner. Raises OSError, with `refuse_link` also for a symbolic link."""
    if refuse_link and path.is_symlink():
        raise OSError(errno.ELOOP, "it is a symbolic link, and links are not followed")
    if not _HAS_DESCRIPTORS:
        yield FolderHandle(path, None)
        return
    descriptor = os.open(path, os.O_RDONLY | FOLDER_ONLY | (NO_LINK if refuse_link else 0))
    try:
        yield FolderHandle(path, descriptor)
    finally:
        os.close(descriptor)


def open_private(path: Path) -> int:
    """Return a descriptor of a file that only this user or root can have created. Raises UntrustedPathError, OSError.

    Follows a symbolic link if no other user can have created or replaced the link or its target. Does not block
    on a named pipe.
    """
    links = 0
    while True:
        try:
            if not NO_LINK and path.is_symlink():
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            descriptor = os.open(path, os.O_RDONLY | NO_LINK | NO_WAIT | BINARY)
            break
        except OSError as exc:
            links += 1
            if exc.errno != errno.ELOOP or links > _MAX_LINKS:
                raise
        path = _link_target(path)
    with _closed_on_error(descriptor):
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise UntrustedPathError(f"{path} is no regular file", "name a file that contains only the key")
        _require_owner(path, found)
        if links:
            _require_fixed(path)
    return descriptor


def open_private_log(path: Path) -> int:
    """Return a descriptor that appends to a file which only this user can read; creates the file. Follows no link.

    Does not check its folder. Raises UntrustedPathError, and OSError as `os.open` does.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | NO_LINK | NO_WAIT | BINARY, 0o600)
    except OSError as exc:
        if exc.errno == errno.ELOOP:
            require_file(path)
        raise
    with _closed_on_error(descriptor):
        found = os.fstat(descriptor)
        _check(path, found, stat.S_ISREG, "file")
        if HAS_OWNERS and found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            what = f"{path} has mode {stat.S_IMODE(found.st_mode):04o}, and others than its owner can open it"
            raise UntrustedPathError(what, f"run: chmod 600 {quote(str(path))}")
    return descriptor


def _link_target(link: Path) -> Path:
    """Return the target of a link. Raises UntrustedPathError if others can have created a link on the way to it."""
    link = link.absolute()
    _require_fixed(link)
    target = link.parent / os.readlink(link)  # noqa: PTH115 - a text, which may be relative
    at = Path(target.anchor)
    for part in target.parts[1:-1]:
        at = at / part
        if at.is_symlink():
            _require_fixed(at)
    return target.parent.resolve() / target.name


def _require_fixed(path: Path) -> None:
    """Raise UntrustedPathError if another user can have created this file or link, or can replace it."""
    _require_owner(path, os.lstat(path))
    folder = path.parent.resolve()
    found = folder.stat()
    _require_owner(folder, found)
    if HAS_OWNERS and found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not found.st_mode & stat.S_ISVTX:
        what = f"others can replace {path}: its folder {folder} has mode {stat.S_IMODE(found.st_mode):04o}"
        raise UntrustedPathError(what, f"run: chmod go-w {quote(str(folder))}")


def _require_owner(path: Path, found: os.stat_result) -> None:
    if not is_owned(found):
        owner, mode = _owner(found)
        raise UntrustedPathError(
            f"{path} belongs to {owner} (mode {mode:04o})", f"run: chown {_user_name()} {quote(str(path))}"
        )


@contextmanager
def _closed_on_error(descriptor: int) -> Iterator[None]:
    try:
        yield
    except BaseException:
        os.close(descriptor)
        raise


def _check(path: Path, found: os.stat_result, is_kind: Callable[[int], bool], kind: str) -> None:
    """Raise UntrustedPathError unless the file or folder at a path may be trusted."""
    name = quote(str(path))
    if stat.S_ISLNK(found.st_mode):
        what = (
            f"{path} is a symbolic link (owner {_owner(found)[0]}), and links in or to a run's folder are not followed"
        )
        raise UntrustedPathError(what, f"run: mv {name} {name}.link")
    if not is_kind(found.st_mode):
        raise UntrustedPathError(f"{path} is no {kind}", f"run: mv {name} {name}.old")
    owner, mode = _owner(found)
    what = f"{path} belongs to {owner} (mode {mode:04o})"
    if not is_owned(found):
        advice = f"run as {owner}, or name another --run-id; if you trust its content: chown -R {_user_name()} {name}"
        raise UntrustedPathError(f"{what}, and the files of a run must be yours or root's", advice)
    if HAS_OWNERS:
        _check_mode(found, what, name)


def _check_mode(found: os.stat_result, what: str, name: str) -> None:
    is_shared = _shared.get() and is_of_my_group(found)
    others = stat.S_IWOTH if is_shared else stat.S_IWOTH | stat.S_IWGRP
    if found.st_mode & others:
        who = "o" if is_shared else "go"
        share = ", or give --shared-reports-dir" if not found.st_mode & stat.S_IWOTH else ""
        advice = f"if nobody else has changed it: chmod -R {who}-w {name}{share}"
        raise UntrustedPathError(f"{what}, and others than its owner can write to it", advice)


def is_of_my_group(found: os.stat_result) -> bool:
    """Return whether the group of a file is one of this user's groups."""
    return found.st_gid in _my_groups()


def _owner(found: os.stat_result) -> tuple[str, int]:
    """Return the name of the owner and the mode."""
    return name_of(found.st_uid), stat.S_IMODE(found.st_mode)


def _user_name() -> str:
    """Return this user's name for `chown`."""
    if sys.platform == "win32":
        return ""
    else:  # noqa: RET505 - the type checker knows only such branches as those of a system
        return account(os.geteuid()) or str(os.geteuid())


def _my_groups() -> set[int]:
    if sys.platform == "win32":
        return set()
    else:  # noqa: RET505
        return {os.getegid(), *os.getgroups()}
