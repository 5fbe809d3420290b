"""Exceptions that end the program early, by who must act.

    BatchError                      exit   who acts
    ├── ConfigError                   2    author of the command or profile
    │   └── PathError                 2    owner of the file or folder
    │       └── UntrustedRunError     2    owner of the reports folder
    ├── InputError                    2    author of the input file
    ├── BrakeError                    2    user who set the brake, after a look at the plan
    │   └── NotConfirmedError         2    no one: a person answered no
    ├── ApprovalError                 2    second person, who approves the plan
    ├── JournalError                  2    owner of the reports folder
    ├── DiskError                     3    administrator of the disk; then run the same command again
    ├── NotReadyError                 3    author of the export; then run the same command again
    ├── UntilPassedError              3    user who set --until
    ├── PublishError                  3    administrator of the target; then run the same command again
    ├── LockedError                   6    nobody: another process works on the run
    │   └── RunRemovedError           3    user who removed the run's folder
    ├── VerifyError                   3    see its advice (exit code 4: the API refuses this client)
    ├── QueryError                    3    see its advice (exit code 4: the API refuses this client)
    ├── SourceError                   3    administrator of the database; then run the same command again
    └── UnbalancedError               7    maintainers: a bug

A call that the API refuses is an outcome, not an exception. A run that ends before its last call
has a `Stop`. An OSError that no code translates becomes a PathError or a DiskError. Any
other exception is a bug and keeps its traceback.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Self

from telemetron_batch.domain.ownership import UntrustedPathError, other_owner_text
from telemetron_batch.domain.stops import MAKE_ROOM, Advice, ExitCode, ResumeHint, Stop, StopReason

_REMEDIES: Final = {
    errno.EACCES: "run as the owner of the file or folder, or change its mode",
    errno.EPERM: "run as the owner of the file or folder, or change its mode",
    errno.EROFS: "name a folder on a writable disk",
    errno.ENOENT: "restore the missing folder, or name another",
    errno.ENOTDIR: "name a path whose parents are folders",
    errno.EISDIR: "move the folder that has the name of the file",
    errno.ENOTEMPTY: "move the folder that has the name of the file",
    errno.EEXIST: "move the file or folder that has that name",
    errno.ELOOP: "replace the symbolic link with its target",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "let the process open more files (ulimit -n 1024)",
    errno.ENFILE: "let the system open more files, or close other programs",
    errno.ENXIO: "name a regular file",
}
"""What to do about an error of the operating system that concerns the path, by its number."""
_ACCESS_DENIED_ON_WINDOWS: Final = frozenset({5, 32, 33})
"""Numbers of Windows: access denied (also where an open file is replaced), sharing violation, lock violation."""
_DISK_FULL_ERRNOS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_SQLITE_REMEDIES: Final = {
    8: "make its folder and the files in it writable",  # SQLITE_READONLY
    14: f"{MAKE_ROOM.first}, and check that its folder exists and is writable",  # SQLITE_CANTOPEN
}

_CORRECT_BASE_URL: Final = Advice("correct --base-url, which ends in /api/ext-v1")


class BatchError(Exception):
    """The run cannot continue. `str()` is one line with the problem and the advice."""

    exit_code = ExitCode.NOT_STARTED

    def __init__(self, what: str, advice: str | Advice = "") -> None:
        super().__init__(what, advice)
        self.reason = what
        self.next_step = advice if isinstance(advice, Advice) else Advice(advice)
        self.resume_hint = ResumeHint()
        """How to continue the run, if it has started."""

    @property
    def advice(self) -> str:
        """What to do next, as text."""
        return self.next_step.words(self.resume_hint)

    def __str__(self) -> str:
        return f"{self.reason}; {self.advice}" if self.next_step else self.reason


class ConfigError(BatchError):
    """An option, an environment variable or a profile has an invalid value."""


class InputError(BatchError):
    """The input cannot be read as rows without guessing."""


class BrakeError(BatchError):
    """A brake that the user set stopped the run before anything was sent."""


class NotConfirmedError(BrakeError):
    """A person answered no to the question before sending."""


class ApprovalError(BatchError):
    """The plan needs the approval of a second person, or an approval does not count."""


class JournalError(BatchError):
    """The journal is not a journal of this program, belongs to another input, or cannot be written."""


class DiskError(BatchError):
    """The disk refused a write that the records of the run depend on."""

    exit_code = ExitCode.STOPPED


class PathError(ConfigError):
    """A file or folder cannot be used: it is missing, not permitted, of the wrong kind, or on a read-only disk."""


def remedy(exc: Exception) -> Advice:
    """Return the advice for an error of the operating system or of a database file."""
    if getattr(exc, "winerror", None) in _ACCESS_DENIED_ON_WINDOWS:
        close = "close the file if a program has it open, such as a spreadsheet, or run as a user who may write to it"
        return Advice(close, repeat=True)
    sqlite_code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
    first = _SQLITE_REMEDIES.get(sqlite_code) or _REMEDIES.get(getattr(exc, "errno", None) or 0)
    return MAKE_ROOM if first is None else Advice(first, repeat=True)


def write_error(what: str, exc: OSError) -> BatchError:
    """Return the error for a path that cannot be written: PathError for the path, DiskError for the disk."""
    if isinstance(exc, UntrustedPathError):
        return untrusted_run_error(exc)
    why = [str(exc.strerror or exc)]
    if exc.errno in (errno.EACCES, errno.EPERM) and isinstance(exc.filename, str | bytes):
        why.append(other_owner_text(os.fsdecode(exc.filename)))
    message = f"cannot write {what} ({'; '.join(filter(None, why))})"
    if exc.errno in _REMEDIES:
        is_limit = exc.errno in (errno.EMFILE, errno.ENFILE, errno.ENAMETOOLONG)
        return PathError(message, remedy(exc) if is_limit else "name a folder that can be written to")
    return DiskError(message, MAKE_ROOM)


def system_error(exc: OSError) -> BatchError:
    """Return the error for any OSError; it names the paths."""
    if isinstance(exc, UntrustedPathError):
        return untrusted_run_error(exc)
    paths = [os.fsdecode(one) for one in (exc.filename, exc.filename2) if isinstance(one, str | bytes)]
    why = exc.strerror or str(exc) or type(exc).__name__
    message = f"the system refuses a file or connection ({why})"
    if paths:
        message = f"cannot use {' and '.join(paths)} ({why})"
    if exc.errno in _DISK_FULL_ERRNOS:
        return DiskError(message, MAKE_ROOM)
    has_remedy = exc.errno in _REMEDIES
    return PathError(message, remedy(exc) if has_remedy else Advice("check the disk and the network", repeat=True))


class UntrustedRunError(PathError):
    """The folder or a file of a run is not ours, so its contents are not trusted."""


def untrusted_run_error(exc: UntrustedPathError) -> UntrustedRunError:
    """Return the error for a folder or file that is not ours."""
    return UntrustedRunError(exc.what, exc.advice)


@contextmanager
def untrusted_path_errors() -> Iterator[None]:
    """Turn UntrustedPathError into UntrustedRunError."""
    try:
        yield
    except UntrustedPathError as exc:
        raise untrusted_run_error(exc) from exc


class NotReadyError(BatchError):
    """The input did not come, or did not settle, in time."""

    exit_code = ExitCode.STOPPED


class UntilPassedError(BatchError):
    """The local time of `--until` has passed since the run was first started."""

    exit_code = ExitCode.STOPPED


class PublishError(BatchError):
    """The files of a run could not be copied to the folder or URL of `--publish`."""

    exit_code = ExitCode.STOPPED


class LockedError(BatchError):
    """Another live process holds this run, or this base URL and key."""

    exit_code = ExitCode.LOCKED


class RunRemovedError(LockedError):
    """The folder of the run was removed or renamed while a process worked on the run."""

    exit_code = ExitCode.STOPPED


class VerifyError(BatchError):
    """A verify ended before every customer was queried; its answers are kept, and no file was written."""

    exit_code = ExitCode.STOPPED

    @classmethod
    def of(cls, stop: Stop) -> Self:
        """Return the error for a stop, with the exit code of that stop."""
        error = cls(f"verify stopped: {stop.sentence}", stop.advice)
        error.exit_code = stop.exit_code
        return error


class QueryError(BatchError):
    """Not all customers could be queried. The answers are kept, and no file was written."""

    exit_code = ExitCode.STOPPED

    @classmethod
    def of(cls, stop: Stop, rest: str) -> Self:
        """Return the error for a stop, with its exit code; `rest` says how much is left."""
        is_elsewhere = stop.reason in (StopReason.NOT_THE_API, StopReason.REDIRECTED)
        error = cls(f"{stop.sentence}; {rest}", _CORRECT_BASE_URL if is_elsewhere else stop.advice)
        error.exit_code = stop.exit_code
        return error


class SourceError(BatchError):
    """The database of `--query` cannot be reached, or did not give its rows to the end; nothing was sent."""

    exit_code = ExitCode.STOPPED


class UnbalancedError(BatchError):
    """Rows in and rows out differ. Never expected; never hidden."""

    exit_code = ExitCode.UNBALANCED
