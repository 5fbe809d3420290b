"""The log of a run: JSON lines without secrets."""

import logging
import os
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Final, TextIO

from telemetron_batch.domain.errors import write_error
from telemetron_batch.domain.model import Secret
from telemetron_batch.domain.printable import json_text
from telemetron_batch.storage import trusted_folders
from telemetron_batch.storage.clock import iso
from telemetron_batch.storage.redaction import Redactor

LOGGER: Final = logging.getLogger("telemetron_batch")

_current: ContextVar[logging.Handler | None] = ContextVar("_current", default=None)
"""The log of the run that this code works for; None in threads that belong to no run."""


def record_group(record: logging.LogRecord) -> Hashable | None:
    """Return what a record has in common with others of which a run may have very many; None for a single one."""
    group: Hashable | None = getattr(record, "group", None)
    return getattr(record, "kind", None) if group is None else group


class Redaction(logging.Filter):
    """Removes secrets from every record, by the rules of `Redactor`."""

    def __init__(self, *secrets: Secret, later: Callable[[], Sequence[Secret]] | None = None) -> None:
        super().__init__()
        self._redactor = Redactor(*secrets, later=later)

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the message of the record. Return True."""
        record.msg, record.args = self._redactor.redact(record.getMessage()), ()
        return True


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": iso(record.created),
            "level": record.levelname.lower(),
            "text": record.getMessage(),
        }
        kind = getattr(record, "kind", None)
        return json_text(line if kind is None else line | {"kind": kind})


class _Handler(logging.StreamHandler[TextIO]):
    """Writes lines. A line that cannot be written is dropped without ending the run or printing a traceback."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        """Do nothing."""


class _OpenLogs:
    """The logs of the runs of this process; while there is one, the logger passes on all events."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._level = logging.NOTSET

    def add(self, handler: logging.Handler) -> None:
        """Open a log."""
        with self._lock:
            if not self._count:
                self._level = LOGGER.level
                LOGGER.setLevel(logging.INFO)
            self._count += 1
            LOGGER.addHandler(handler)

    def remove(self, handler: logging.Handler) -> None:
        """Close a log; the last one restores the level of the logger."""
        with self._lock:
            LOGGER.removeHandler(handler)
            self._count -= 1
            if not self._count:
                LOGGER.setLevel(self._level)


_open_logs: Final = _OpenLogs()


@contextmanager
def log_to_file(
    path: Path,
    *secrets: Secret,
    later: Callable[[], Sequence[Secret]] | None = None,
    may_write: Callable[[], bool] = lambda: True,
) -> Iterator[None]:
    """Append the program's log to a private file within this context, while `may_write` returns true.

    `later` returns secrets that become known meanwhile.
    Events of another run in another thread of this process go to the log of that run only.
    """
    try:
        descriptor = trusted_folders.open_file(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    except OSError as exc:
        raise write_error(str(path), exc) from exc
    stream = os.fdopen(descriptor, "a", encoding="utf-8")
    handler = _Handler(stream)
    handler.setFormatter(_JsonLines())
    handler.addFilter(lambda _: _current.get() in (None, handler))
    handler.addFilter(Redaction(*secrets, later=later))
    handler.addFilter(lambda _: may_write())
    token = _current.set(handler)
    _open_logs.add(handler)
    try:
        yield
    finally:
        _open_logs.remove(handler)
        _current.reset(token)
        handler.close()
        with suppress(OSError):
            stream.close()
