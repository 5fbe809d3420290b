"""The folder of approvals, to which the planner and the approver can both write.

Who wrote a file is its owner, which only the system can set. So the folder may belong to anyone; it must only
keep others from replacing files: it is sticky, or writable by a group only.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from telemetron_batch.domain.errors import ApprovalError, untrusted_path_errors, write_error
from telemetron_batch.domain.ownership import HAS_OWNERS, UntrustedPathError, owner_name
from telemetron_batch.domain.shell import quote
from telemetron_batch.storage.file_system import set_mode
from telemetron_batch.storage.system_users import SystemUsers, User
from telemetron_batch.storage.trusted_folders import FolderHandle, folder_at, is_shared

_MODE: Final = 0o644
_SHARED_WITH_ALL: Final = 0o1777
_SHARED_WITH_GROUP: Final = 0o2770
_MAX_BYTES: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class OwnedFile:
    """A file of the folder with its owner, who is the only one that can have written it."""

    owner: User
    content: bytes


def approvals_folder(reports_dir: Path, named: Path | None) -> Path:
    """Return the folder of approvals: the named one, else the one in the reports folder."""
    return reports_dir / "approvals" if named is None else named


def make_approvals_folder(folder: Path) -> None:
    """Create the folder if it is missing: for all users, or for the group with `shared_with_group`."""
    try:
        folder.mkdir()
        folder.chmod(_SHARED_WITH_GROUP if is_shared() else _SHARED_WITH_ALL)
    except FileExistsError:
        pass
    except OSError as exc:
        raise write_error(str(folder), exc) from exc
    _require_folder(folder)


def _require_folder(folder: Path) -> None:
    """Raise UntrustedRunError if the folder is missing, a link, or one in which all users can replace files."""
    with untrusted_path_errors():
        try:
            found = folder.lstat()
        except OSError as exc:
            advice = "name the folder that the plan was saved with: --approvals-dir DIR"
            if isinstance(exc, PermissionError):
                advice = (
                    "let planner and approver enter the folders above it, or share another one: --approvals-dir DIR"
                )
            raise UntrustedPathError(f"{folder} cannot be used ({exc.strerror})", advice) from exc
        if not stat.S_ISDIR(found.st_mode):
            kind = "a symbolic link, and links are not followed" if stat.S_ISLNK(found.st_mode) else "no folder"
            raise UntrustedPathError(f"{folder} is {kind}", "name the folder itself with --approvals-dir")
        if HAS_OWNERS and found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
            what = f"{folder} belongs to {owner_name(found)} (mode {stat.S_IMODE(found.st_mode):04o})"
            advice = f"run: chmod +t {quote(str(folder))}"
            raise UntrustedPathError(f"{what}, and all users can replace files in it", advice)


def read_owned(folder: Path, name: str, users: SystemUsers) -> OwnedFile | None:
    """Return a file of the folder; None without one. Raises ApprovalError if others than its owner can have written it.

    Raises UntrustedRunError if the folder cannot be used.
    """
    with _opened(folder) as handle:
        try:
            descriptor = handle.open(name)
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise ApprovalError(f"{folder / name} cannot be read ({exc.strerror})", _ADVICE) from exc
        try:
            found = os.fstat(descriptor)
            _require_unshared(folder / name, found)
            content = os.read(descriptor, _MAX_BYTES)
            return OwnedFile(users.author(folder / name, found, content), content)
        finally:
            os.close(descriptor)


_ADVICE: Final = "remove the file (approve --revoke RUN, or as its owner), and let the second person approve again"


def _require_unshared(path: Path, found: os.stat_result) -> None:
    """Raise ApprovalError unless only its owner can have written a file."""
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        raise ApprovalError(f"{path} is no regular file with one name", _ADVICE)
    if HAS_OWNERS and found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mode = f"mode {stat.S_IMODE(found.st_mode):04o}"
        raise ApprovalError(f"others than its owner can write to {path} ({mode})", _ADVICE)


def write_new(folder: Path, name: str, content: bytes) -> None:
    """Write a file that all users of the folder can read. Raises FileExistsError if there is one, and BatchError."""
    with _opened(folder) as handle:
        try:
            descriptor = handle.make(name, _MODE)
        except FileExistsError:
            raise
        except OSError as exc:
            raise write_error(str(folder / name), exc) from exc
        try:
            with os.fdopen(descriptor, "wb") as file:
                set_mode(file.fileno(), _MODE)  # whatever the umask
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as exc:
            handle.remove(name)
            raise write_error(str(folder / name), exc) from exc


def remove(folder: Path, name: str) -> bool:
    """Remove a file of the folder. Return whether there was one. Raises BatchError."""
    with _opened(folder) as handle:
        try:
            handle.unlink(name)
        except FileNotFoundError:
            return False
        except OSError as exc:
            raise write_error(str(folder / name), exc) from exc
    return True


def names_with(folder: Path, suffix: str) -> list[str]:
    """Return the names of the files with a suffix, without it, sorted. Raises UntrustedRunError."""
    _require_folder(folder)
    return sorted(path.name.removesuffix(suffix) for path in folder.glob(f"[!.]*{suffix}"))


@contextmanager
def _opened(folder: Path) -> Iterator[FolderHandle]:
    """Open the folder. Raises UntrustedRunError, and PathError if it cannot be entered."""
    _require_folder(folder)
    context = folder_at(folder, refuse_link=True)
    try:
        handle = context.__enter__()
    except OSError as exc:
        raise write_error(str(folder), exc) from exc
    try:
        yield handle
    finally:
        context.__exit__(None, None, None)
