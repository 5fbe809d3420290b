"""Decide whether files are complete: they exist, and have not changed for some time.

Time is counted from this process's own observations, so the clock of a file server does not matter. Imports nothing
of Airflow.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from telemetron_batch.domain.errors import InputError
from telemetron_batch.domain.urls import is_url, strip_file_scheme

FileState = tuple[int, float]
"""Size in bytes and time of the last change, in seconds since the epoch by the clock of the file's host."""
_UNKNOWN_TIME: Final = 0.0


class SettledFiles:
    """Remembers since when files have looked the same."""

    def __init__(self, settled_for_s: float) -> None:
        self._settled_for_s = settled_for_s
        self._last: Mapping[str, FileState | None] = {}
        self._since = 0.0

    def are_settled(self, states: Mapping[str, FileState | None], now: float) -> bool:
        """Return whether all files exist and have looked like this for long enough; `now` is in seconds."""
        if states != self._last:
            self._last, self._since = states, now
        return None not in states.values() and now - self._since >= self._settled_for_s


def observe(files: Sequence[str]) -> dict[str, FileState | None]:
    """Return the state of each file or object; None for one that does not exist."""
    return {file: _observe(strip_file_scheme(file)) for file in files}


def _observe(file: str) -> FileState | None:
    if is_url(file):
        from telemetron_batch.storage.object_store import size_of

        with suppress(InputError):  # the store says the same of an object that is missing and of one it cannot reach
            return size_of(file), _UNKNOWN_TIME
        return None
    with suppress(FileNotFoundError, NotADirectoryError):
        found = Path(file).stat()
        return found.st_size, found.st_mtime
    return None


def seconds_since_change(states: Mapping[str, FileState | None], now: float) -> float | None:
    """Return the seconds since the last change of any file, by the clocks of their hosts; None if one is missing."""
    times = [state[1] for state in states.values() if state is not None]
    return None if len(times) < len(states) else now - max(times)


def missing_in(states: Mapping[str, FileState | None]) -> str:
    """Return the names of the files that do not exist."""
    return ", ".join(file for file, state in states.items() if state is None)
