"""The folder of approvals, to which the planner and the approver can both write.

Who approved is the owner of a file, which only the system can set. So the folder may belong to anyone; it must only
keep others from replacing files: it is sticky, or writable by a group only.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Final

from telemetron_batch.domain.errors import ApprovalError, untrusted_path_errors, write_error
from telemetron_batch.domain.ownership import UntrustedPathError, owner_name
from telemetron_batch.storage.system_users import SystemUsers, User
from telemetron_batch.storage.trusted_folders import FolderHandle, folder_at, is_shared

_MODE: Final = 0o644
_SHARED_WITH_ALL: Final = 0o1777
_SHARED_WITH_GROUP: Final = 0o2770
_MAX_BYTES: Final = 1 << 16
_SUFFIX: Final = ".json"


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
            advice = "name the folder of approvals that the plan was saved with: --approvals-dir DIR"
            raise UntrustedPathError(f"{folder} cannot be used ({exc.strerror})", advice) from exc
        if not stat.S_ISDIR(found.st_mode):
            kind = "a symbolic link, and links are not followed" if stat.S_ISLNK(found.st_mode) else "no folder"
            raise UntrustedPathError(f"{folder} is {kind}", "name the folder itself with --approvals-dir")
        if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
            what = f"{folder} belongs to {owner_name(found)} (mode {stat.S_IMODE(found.st_mode):04o})"
            raise UntrustedPathError(
                f"{what}, and all users can replace files in it", f"run: chmod +t {quote(str(folder))}"
            )


def read_approval(folder: Path, run_id: str, users: SystemUsers) -> OwnedFile | None:
    """Return the approval of a run; None without one. Raises ApprovalError if others can have written the file."""
    if not os.path.lexists(folder):
        return None
    with _opened(folder) as handle:
        try:
            descriptor = handle.open(f"{run_id}{_SUFFIX}")
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise ApprovalError(
                f"the approval {folder / run_id}{_SUFFIX} cannot be read ({exc.strerror})", _REPLACE
            ) from exc
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(file.fileno())
            _require_unchanged(folder / f"{run_id}{_SUFFIX}", found)
            return OwnedFile(users.owner(found), file.read(_MAX_BYTES))


def _require_unchanged(path: Path, found: os.stat_result) -> None:
    """Raise ApprovalError unless only its owner can have written a file."""
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        raise ApprovalError(f"the approval {path} is no regular file with one name", _REPLACE)
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mode = f"mode {stat.S_IMODE(found.st_mode):04o}"
        raise ApprovalError(f"others than its owner can write to the approval {path} ({mode})", _REPLACE)


def write_approval(folder: Path, run_id: str, content: bytes) -> None:
    """Write the approval of a run. Raises FileExistsError if there is one, and BatchError."""
    name = f"{run_id}{_SUFFIX}"
    with _opened(folder) as handle:
        try:
            with os.fdopen(handle.make(name, _MODE), "wb") as file:
                os.fchmod(file.fileno(), _MODE)  # whatever the umask: the runner must be able to read it
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except FileExistsError:
            raise
        except OSError as exc:
            with suppress(FileNotFoundError):
                handle.remove(name)
            raise write_error(str(folder / name), exc) from exc


def remove_approval(folder: Path, run_id: str) -> bool:
    """Remove the approval of a run. Return whether there was one. Raises BatchError."""
    with _opened(folder) as handle:
        try:
            handle.unlink(f"{run_id}{_SUFFIX}")
        except FileNotFoundError:
            return False
        except OSError as exc:
            raise write_error(str(folder / f"{run_id}{_SUFFIX}"), exc) from exc
    return True


def approved_run_ids(folder: Path) -> list[str]:
    """Return the ids of the runs that have an approval, sorted. Raises BatchError."""
    if not os.path.lexists(folder):
        return []
    _require_folder(folder)
    return sorted(path.name.removesuffix(_SUFFIX) for path in folder.glob(f"[!.]*{_SUFFIX}"))


@contextmanager
def _opened(folder: Path) -> Iterator[FolderHandle]:
    """Open the folder. Raises UntrustedRunError, and PathError if it cannot be entered."""
    _require_folder(folder)
    try:
        context = folder_at(folder, refuse_link=True)
        handle = context.__enter__()
    except OSError as exc:
        raise write_error(str(folder), exc) from exc
    try:
        yield handle
    finally:
        context.__exit__(None, None, None)


_REPLACE: Final = "revoke it (approve --revoke RUN), and let the second person approve again"
