"""The audit log: who did what, from where and when, as JSON lines that are only appended."""

import errno
import os
import threading
from pathlib import Path
from typing import Final

from telemetron_batch.domain.errors import write_error
from telemetron_batch.domain.printable import json_text
from telemetron_batch.storage.clock import Clock, iso
from telemetron_batch.storage.trusted_folders import open_private_log
from telemetron_batch.web.people import User

AUDIT_NAME: Final = "audit.jsonl"
Fact = str | int | float | bool | None


class AuditLog:
    """Appends one line for each action to a private file. May be used by several threads."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path = path
        self._clock = clock
        self._lock = threading.Lock()

    def record(self, user: User | None, action: str, **facts: Fact) -> None:
        """Append one action of a user; None: of nobody who is signed in.

        Raises BatchError if the line cannot be written: then do not do what it says.
        """
        who = {"user": None, "peer": None} if user is None else {"user": user.name, "peer": user.peer}
        line = {"at": iso(self._clock.wall()), **who, "action": action, **facts}
        with self._lock:
            self._append((json_text(line) + "\n").encode())

    def _append(self, line: bytes) -> None:
        try:
            descriptor = open_private_log(self.path)
            try:
                before = os.fstat(descriptor).st_size
                if os.write(descriptor, line) < len(line):
                    os.ftruncate(descriptor, before)  # else the next line would not begin a line
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as exc:
            raise write_error(str(self.path), exc) from exc
