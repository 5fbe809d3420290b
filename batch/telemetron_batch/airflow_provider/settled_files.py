"""Decide whether files are complete: they exist, and have not changed for some time.

Time is counted from this process's own observations, so the clock of a file server does not matter. Imports nothing
of Airflow.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from telemetron_batch.domain.errors import InputError
from telemetron_batch.domain.urls import is_url, strip_file_scheme

FileState = tuple[object, ...]
"""What differs when a file has been written to or replaced."""


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
    """Return the state of each file or object; None for one that does not exist or cannot be read."""
    return {file: _observe(file) for file in files}


def _observe(file: str) -> FileState | None:
    from telemetron_batch.input.arrival import input_state

    with suppress(OSError, InputError):
        return input_state(file)
    return None


def seconds_since_change(files: Sequence[str], now: float) -> float:
    """Return the seconds since the last change of any file, by the clocks of their hosts.

    Objects in a store do not count; 0 if a file does not exist.
    """
    paths = [path for path in map(strip_file_scheme, files) if not is_url(path)]
    with suppress(OSError):
        return now - max((Path(path).stat().st_mtime for path in paths), default=0.0)
    return 0.0


def missing_in(states: Mapping[str, FileState | None]) -> str:
    """Return the names of the files that do not exist."""
    return ", ".join(file for file, state in states.items() if state is None)
