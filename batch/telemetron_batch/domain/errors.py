"""What ends the program before its work is done, sorted by who must act.

    BatchError                      exit   who acts
    ├── ConfigError                   2    whoever typed the command or keeps the profile
    │   └── PlaceError                2    whoever keeps the file or folder
    │       └── ForeignRunError       2    whoever keeps the reports folder
    ├── InputError                    2    whoever made the file
    ├── BrakeError                    2    whoever set the brake: look at the plan first
    ├── JournalError                  2    whoever keeps the reports folder
    ├── DiskError                     3    whoever keeps the disk; then the same command again
    ├── PublishError                  3    whoever keeps the place; then the same command again
    ├── LockedError                   6    nobody: another process is at it
    │   └── RunRemovedError           3    whoever removed the run's folder
    ├── VerifyError                   3    whoever its advice names (4: the API refuses this client)
    └── UnbalancedError               7    us: a bug

A call that the API refuses is no exception but an outcome; a run that stops on its
way is a `Stop`. An OSError that nothing else has put into words becomes a PlaceError or a
DiskError. Any other exception is a bug and keeps its traceback.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Self

from telemetron_batch.domain.ownership import NotOursError, belonging_to_another
from telemetron_batch.domain.stops import MAKE_ROOM, Advice, ExitCode, Stop, WayOn

_PERMANENT_ERRNOS = frozenset(
    {
        errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOENT, errno.ELOOP,
        errno.ENAMETOOLONG, errno.ENOTEMPTY, errno.EMFILE, errno.ENFILE, errno.ENXIO,
    }
)  # fmt: skip
_REMEDIES: Final = {
    errno.EACCES: "run as the owner of the file or folder, or change its mode",
    errno.EPERM: "run as the owner of the file or folder, or change its mode",
    errno.EROFS: "name a folder on a disk that can be written to",
    errno.ENOENT: "put back the folder that is missing, or name another",
    errno.ENOTDIR: "name a path whose parents are folders",
    errno.EISDIR: "move away the folder that has the name of the file",
    errno.ENOTEMPTY: "move away the folder that has the name of the file",
    errno.EEXIST: "move away what has that name",
    errno.ELOOP: "replace the symbolic link by what it stands for",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "let the process open more files (ulimit -n 1024)",
    errno.ENFILE: "let the system open more files, or close other programs",
    errno.ENXIO: "name a regular file",
}
"""What to do about an error of the system, by its number."""
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_SQLITE_REMEDIES: Final = {
    8: "make its folder and the files in it writable",  # SQLITE_READONLY
    14: f"{MAKE_ROOM.first}, and check that its folder exists and is writable",  # SQLITE_CANTOPEN
}


class BatchError(Exception):
    """The run cannot go on. `str()` is one line that says what is wrong and what to do."""

    exit_code = ExitCode.NOT_STARTED

    def __init__(self, what: str, advice: str | Advice = "") -> None:
        super().__init__(what, advice)
        self.reason = what
        self.next_step = advice if isinstance(advice, Advice) else Advice(advice)
        self.way_on = WayOn()
        """How the run is continued, if it was begun."""

    @property
    def advice(self) -> str:
        """What to do next, in words."""
        return self.next_step.words(self.way_on)

    def __str__(self) -> str:
        return f"{self.reason}; {self.advice}" if self.next_step else self.reason


class ConfigError(BatchError):
    """An option, an environment variable or a profile says something that cannot be."""


class InputError(BatchError):
    """The input cannot be read as rows without guessing."""


class BrakeError(BatchError):
    """A brake that the user set held before anything was sent."""


class JournalError(BatchError):
    """The journal is not one of ours, not of this input, or cannot be written."""


class DiskError(BatchError):
    """The disk refused a write that the books depend on."""

    exit_code = ExitCode.STOPPED


class PlaceError(ConfigError):
    """A file or folder cannot be used as it is: missing, not permitted, of the wrong kind, on a read-only disk."""


def remedy(exc: Exception) -> Advice:
    """Return what to do about an error of the system or of a database file."""
    of_database = getattr(exc, "sqlite_errorcode", 0) & 0xFF
    told = _SQLITE_REMEDIES.get(of_database) or _REMEDIES.get(getattr(exc, "errno", None) or 0)
    return MAKE_ROOM if told is None else Advice(told, repeat=True)


def write_error(what: str, exc: OSError) -> BatchError:
    """Return the error for a place that cannot be written to: its own fault, or the disk's."""
    if isinstance(exc, NotOursError):
        return not_ours(exc)
    why = [str(exc.strerror or exc)]
    if exc.errno in (errno.EACCES, errno.EPERM) and isinstance(exc.filename, str | bytes):
        why.append(belonging_to_another(os.fsdecode(exc.filename)))
    told = f"cannot write {what} ({'; '.join(filter(None, why))})"
    if exc.errno in _PERMANENT_ERRNOS:
        is_limit = exc.errno in (errno.EMFILE, errno.ENFILE, errno.ENAMETOOLONG)
        return PlaceError(told, remedy(exc) if is_limit else "name a folder that can be written to")
    return DiskError(told, MAKE_ROOM)


def system_error(exc: OSError) -> BatchError:
    """Return the error for what the system refuses, wherever that came up; it names the path."""
    if isinstance(exc, NotOursError):
        return not_ours(exc)
    paths = [os.fsdecode(one) for one in (exc.filename, exc.filename2) if isinstance(one, str | bytes)]
    why = exc.strerror or str(exc) or type(exc).__name__
    told = f"cannot use {' and '.join(paths)} ({why})" if paths else f"the system refuses a file or connection ({why})"
    if exc.errno in _FULL:
        return DiskError(told, MAKE_ROOM)
    known = exc.errno in _REMEDIES
    return PlaceError(told, remedy(exc) if known else Advice("check the disk and the network", repeat=True))


class ForeignRunError(PlaceError):
    """The folder or a file of a run is not ours, so nothing in it is believed."""


def not_ours(exc: NotOursError) -> ForeignRunError:
    """Return the error for a folder or file that is not ours."""
    return ForeignRunError(exc.what, exc.advice)


@contextmanager
def refusing_foreign_files() -> Iterator[None]:
    """Turn NotOursError into ForeignRunError."""
    try:
        yield
    except NotOursError as exc:
        raise not_ours(exc) from exc


class PublishError(BatchError):
    """The files of a run could not be copied to where they shall be published."""

    exit_code = ExitCode.STOPPED


class LockedError(BatchError):
    """Another live process holds this run, or this base URL and key."""

    exit_code = ExitCode.LOCKED


class RunRemovedError(LockedError):
    """The folder of the run was removed or renamed while a process was at work in it."""

    exit_code = ExitCode.STOPPED


class VerifyError(BatchError):
    """A verify ended before all were asked; what it has learnt is kept, and no file was written."""

    exit_code = ExitCode.STOPPED

    @classmethod
    def of(cls, stop: Stop) -> Self:
        """The error for what stopped it, with the exit code of that."""
        error = cls(f"verify stopped: {stop.sentence}", stop.advice)
        error.exit_code = stop.exit_code
        return error


class UnbalancedError(BatchError):
    """Rows in and rows out differ. Never expected; never hidden."""

    exit_code = ExitCode.UNBALANCED
