"""Whether an input is there, and what shows that it has changed."""

import stat
from pathlib import Path

from telemetron_batch.domain.urls import is_url, strip_file_scheme
from telemetron_batch.storage.object_store import find_state

InputState = tuple[object, ...]
"""What differs when an input has been written to or replaced; empty for a pipe or folder, which has no size."""


def input_state(path: str) -> InputState | None:
    """Return the state of a file or object; None if there is none. Raises InputError, ConfigError and OSError."""
    path = strip_file_scheme(path)
    if is_url(path):
        return find_state(path)
    try:
        found = Path(path).stat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
