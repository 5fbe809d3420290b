"""What ends the program before its work is done, sorted by who must act.

    BatchError                      exit   who acts
    ├── ConfigError                   2    whoever typed the command or keeps the profile
    │   └── ForeignRunError           2    whoever keeps the reports folder
    ├── InputError                    2    whoever made the file
    ├── BrakeError                    2    whoever set the brake: look at the plan first
    ├── JournalError                  2    whoever keeps the reports folder
    ├── DiskError                     3    whoever keeps the disk; then the same command again
    ├── PublishError                  3    whoever keeps the place; then the same command again
    ├── LockedError                   6    nobody: another process is at it
    ├── VerifyError                   3    whoever its advice names (4: the API refuses this client)
    └── UnbalancedError               7    us: a bug

A call that the API refuses is no exception but an outcome; a run that stops on its
way is a `Stop`. Any other exception is a bug and keeps its traceback.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Self

from batch.stops import Advice, ExitCode, Stop, WayOn
from batch.storage.trusted import NotOursError

MAKE_ROOM: Final = Advice("make room", repeat=True)
"""What to do about a full disk."""

_NO_PLACE_TO_WRITE = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOENT, errno.ELOOP}
)


class BatchError(Exception):
    """The run cannot go on. `str()` is one line that says what is wrong and what to do."""

    exit_code = ExitCode.NOT_STARTED

    def __init__(self, what: str, advice: str | Advice = "") -> None:
        super().__init__(what, advice)
        self.what = what
        self.next_step = advice if isinstance(advice, Advice) else Advice(advice)
        self.way_on = WayOn()
        """How the run is continued, if it was begun."""

    @property
    def advice(self) -> str:
        """What to do next, in words."""
        return self.next_step.words(self.way_on)

    def __str__(self) -> str:
        return f"{self.what}; {self.advice}" if self.next_step else self.what


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


def unwritable(what: str, exc: OSError) -> BatchError:
    """The error for a place that cannot be written to: its own fault, or the disk's."""
    if isinstance(exc, NotOursError):
        return not_ours(exc)
    told = f"cannot write {what} ({exc.strerror or exc})"
    if exc.errno in _NO_PLACE_TO_WRITE:
        return ConfigError(told, "nothing was sent; name a folder that can be written to")
    return DiskError(told, MAKE_ROOM)


class ForeignRunError(ConfigError):
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
