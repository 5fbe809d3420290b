"""Check before work begins that this process can open enough files and connections."""

import os
import sys
from contextlib import suppress
from typing import Final

from telemetron_batch.domain.errors import PathError
from telemetron_batch.domain.stops import Advice

FILES_NEEDED: Final = 28
"""Files that are open at once while modules load and a plan and reports are made."""


def require_open_files(connections: int = 0) -> None:
    """Raise PathError unless the files of any command and this number of connections can be open at once."""
    needed = FILES_NEEDED + connections
    _raise_limit(needed)
    free = _count_available(needed)
    if free < needed:
        fewer = ", or lower --concurrency" if connections else ""
        what = f"only {free} more files can be opened, and this command needs {needed}"
        raise PathError(what, Advice(f"let the process open more files (ulimit -n 1024){fewer}", repeat=True))


def _raise_limit(needed: int) -> None:
    """Raise the soft limit if it is too low, as far as the hard limit allows."""
    if sys.platform != "win32":  # which has no such limit
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = 2 * needed + 64
        if soft != resource.RLIM_INFINITY and soft < wanted:
            most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            with suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def _count_available(enough: int) -> int:
    """Return how many more files can be opened, at most `enough`."""
    taken: list[int] = []
    try:
        while len(taken) < enough:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        pass
    finally:
        for descriptor in taken:
            os.close(descriptor)
    return len(taken)
