"""The queue of runs: one at a time uses the key. A file for each run that waits survives a restart of the server."""

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from telemetron_batch.domain.cancellation import CancelToken
from telemetron_batch.domain.errors import BatchError, LockedError
from telemetron_batch.domain.printable import json_text
from telemetron_batch.storage.atomic_file import atomic_write, make_private_dir
from telemetron_batch.storage.clock import Clock
from telemetron_batch.storage.log import LOGGER
from telemetron_batch.web.desk.progress import PageObserver, Progress

_SHUTDOWN_S: Final = 6.0
"""Seconds for which a shutdown waits for the run under way."""
_MAX_FAILURES: Final = 200
_SHUTDOWN_REASON: Final = "the server of the page was stopped"


class JobKind(StrEnum):
    """What to do with a run. The values are stored."""

    SEND = "send"
    LOOK = "look"
    """Query the customers; nothing is changed."""


@dataclass(frozen=True, slots=True)
class Job:
    """A run that waits for the key, or uses it."""

    run_id: str
    user: str
    """The user of the page who wants it."""
    kind: JobKind
    at: float
    """When it was wanted, in seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class JobState:
    """How far a run is in the queue."""

    job: Job
    ahead: int
    """The number of runs before it; 0 for the one that is under way."""
    progress: Progress | None
    """None while it waits."""


class RunQueue:
    """Does one job after the other in a thread of its own."""

    def __init__(self, folder: Path, clock: Clock, work: Callable[[Job, PageObserver], None]) -> None:
        self._folder = folder
        self._clock = clock
        self._work = work
        self._changed = threading.Condition()
        self._waiting: list[Job] = []
        self._current: tuple[Job, PageObserver, CancelToken] | None = None
        self._failures: dict[str, str] = {}
        self._is_closing = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Take up what waited when the server was stopped, and begin."""
        make_private_dir(self._folder)
        found = filter(None, (_read(path) for path in self._folder.glob("*.json")))
        self._waiting = sorted(found, key=lambda job: job.at)
        self._thread = threading.Thread(target=self._run, name="run queue", daemon=True)
        self._thread.start()

    def shutdown(self) -> None:
        """Stop the run under way, which continues when the server starts again."""
        with self._changed:
            self._is_closing = True
            current = self._current
            self._changed.notify_all()
        if current is not None:
            current[2].cancel(_SHUTDOWN_REASON)
        if self._thread is not None:
            self._thread.join(_SHUTDOWN_S)

    def add(self, run_id: str, user: str, kind: JobKind) -> None:
        """Queue a run. Raises LockedError if it is in the queue already, and DiskError."""
        job = Job(run_id, user, kind, self._clock.wall())
        with self._changed:
            if self._find(run_id) is not None:
                raise LockedError(f"run {run_id} is under way, or waits for its turn", "look at it again")
            with atomic_write(self._folder / f"{run_id}.json") as file:
                file.write(json_text(asdict(job)).encode())
            self._failures.pop(run_id, None)
            self._waiting.append(job)
            self._changed.notify_all()

    def stop(self, run_id: str, reason: str) -> bool:
        """Stop a run, or take it out of the queue. Return whether it was there."""
        with self._changed:
            current = self._current
            if current is not None and current[0].run_id == run_id:
                token = current[2]
                self._forget(run_id)  # before it ends, so that a restart does not send it again
            else:
                before = len(self._waiting)
                self._waiting = [job for job in self._waiting if job.run_id != run_id]
                if len(self._waiting) == before:
                    return False
                self._forget(run_id)
                return True
        token.cancel(reason)
        return True

    def state(self, run_id: str) -> JobState | None:
        """Return how far a run is; None if it is not in the queue."""
        with self._changed:
            found = self._find(run_id)
            current = self._current
        if found is None:
            return None
        job, ahead = found
        return JobState(job, ahead, current[1].progress() if current is not None and ahead == 0 else None)

    def jobs(self) -> Sequence[Job]:
        """Return the run under way and those that wait, in their order."""
        with self._changed:
            return [*([] if self._current is None else [self._current[0]]), *self._waiting]

    @property
    def is_busy(self) -> bool:
        """Whether a run is under way."""
        return self._current is not None

    @property
    def is_closing(self) -> bool:
        """Whether the server is being stopped."""
        return self._is_closing

    def failure(self, run_id: str) -> str | None:
        """Return why the last job of a run could not be done; None if it could."""
        return self._failures.get(run_id)

    def _find(self, run_id: str) -> tuple[Job, int] | None:
        current = self._current
        if current is not None and current[0].run_id == run_id:
            return current[0], 0
        for position, job in enumerate(self._waiting):
            if job.run_id == run_id:
                return job, position + 1  # the one under way, or about to begin, comes first
        return None

    def _run(self) -> None:
        while (taken := self._take()) is not None:
            job, observer, token = taken
            failure = self._try(job, observer)
            with self._changed:
                if failure is not None:
                    self._failures[job.run_id] = failure
                    while len(self._failures) > _MAX_FAILURES:
                        del self._failures[next(iter(self._failures))]
                if token.reason != _SHUTDOWN_REASON:
                    self._forget(job.run_id)
                self._current = None

    def _take(self) -> tuple[Job, PageObserver, CancelToken] | None:
        """Wait for a job and return it; None when the server is being stopped."""
        with self._changed:
            while not self._waiting and not self._is_closing:
                self._changed.wait()
            if self._is_closing:
                return None
            token = CancelToken()
            self._current = (self._waiting.pop(0), PageObserver(self._clock, token), token)
            return self._current

    def _try(self, job: Job, observer: PageObserver) -> str | None:
        """Do a job. Return why it could not be done; None if it could."""
        try:
            self._work(job, observer)
        except BatchError as exc:
            LOGGER.warning("run %s: %s", job.run_id, exc)
            return str(exc)
        except Exception as exc:  # noqa: BLE001 - a bug in one run must not end those that wait
            LOGGER.exception("run %s", job.run_id)
            return f"an error of the program ended it ({type(exc).__name__})"
        return None

    def _forget(self, run_id: str) -> None:
        (self._folder / f"{run_id}.json").unlink(missing_ok=True)


def _read(path: Path) -> Job | None:
    try:
        fields = json.loads(path.read_bytes())
        return Job(path.stem, str(fields["user"]), JobKind(fields["kind"]), float(fields["at"]))
    except (OSError, LookupError, TypeError, ValueError):
        return None
