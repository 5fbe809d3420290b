"""Lease files: small files beside a lock that tell other hosts who owns it. See `lease` for the protocol."""

import json
import os
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from telemetron_batch.domain.errors import LockedError, untrusted_path_errors
from telemetron_batch.storage import trusted_folders
from telemetron_batch.storage.file_system import write_start
from telemetron_batch.storage.lock import Lock, LockOwner, is_held

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Return an id of the current boot of this host, within which kernel locks are valid."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return socket.gethostname()


@dataclass(frozen=True, slots=True)
class LeaseOwner:
    """The process that owns a lease. Stored in the lease file."""

    pid: int
    since: str
    run: str
    host: str
    boot: str
    task: str = ""

    @classmethod
    def of(cls, owner: LockOwner, task: str = "") -> Self:
        """Return the holder for an owner on this host; `task` describes the task that it works for."""
        return cls(owner.pid, owner.since, owner.run, socket.gethostname(), boot_id(), task)


@dataclass(frozen=True, slots=True)
class LeaseFile:
    """A lease file as read."""

    number: int
    content: bytes

    @property
    def fields(self) -> dict[str, Any]:
        """The parsed content; empty if the file is being written or is damaged."""
        with suppress(ValueError):
            fields = json.loads(self.content)
            if isinstance(fields, dict):
                return fields
        return {}

    @property
    def describe(self) -> str:
        """The owner, as text."""
        fields = self.fields
        if "pid" not in fields:
            return "a process on another host"
        task = f", {fields['task']}" if fields.get("task") else ""
        return f"process {fields['pid']} on host {fields['host']} (run {fields['run']}, since {fields['since']}{task})"


class LeaseFiles:
    """The lease files beside a lock. Each operation is atomic on the storage."""

    def __init__(self, lock: Path) -> None:
        self.folder = lock.parent
        self._prefix = f"{lock.stem}.lease."

    def highest(self) -> LeaseFile | None:
        """Return the lease file of the owner; None without one."""
        for number in sorted(self._numbers(), reverse=True):
            content = self.read(number)
            if content is not None:  # otherwise it was removed in the meantime
                return LeaseFile(number, content)
        return None

    def read(self, number: int) -> bytes | None:
        """Return the content of a lease file; None if it does not exist."""
        try:
            return trusted_folders.read_file(self._path(number))
        except FileNotFoundError:
            return None

    def create(self, number: int, content: bytes) -> bool:
        """Create a lease file. Return False if it exists."""
        try:
            descriptor = trusted_folders.open_file(self._path(number), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            return False
        try:
            _write(descriptor, content)
        except OSError:
            self.remove(number)
            raise
        return True

    def create_next(self, judged: LeaseFile | None, fields: Mapping[str, Any]) -> int | None:
        """Create the lease file after the one that was judged dead. Return its number; None if it does not count."""
        number = 1 if judged is None else judged.number + 1
        if not self.create(number, content_of(fields)):
            return None
        highest = self.highest()
        counts = highest is not None and highest.number == number
        if not counts or (judged is not None and self.read(judged.number) != judged.content):
            self.remove(number)
            return None
        return number

    def rewrite(self, number: int, content: bytes) -> bool:
        """Overwrite a lease file with content of the same length. Return False if it no longer exists."""
        try:
            descriptor = trusted_folders.open_file(self._path(number), os.O_WRONLY)
        except FileNotFoundError:
            return False
        _write(descriptor, content)
        return True

    def remove(self, number: int) -> None:
        """Remove a lease file. On Windows it stays, as that of a dead process, if another process just reads it."""
        try:
            self._path(number).unlink(missing_ok=True)
        except PermissionError:
            if sys.platform != "win32":
                raise

    def remove_below(self, number: int) -> None:
        """Remove the lease files of former owners."""
        for lower in self._numbers():
            if lower < number:
                self.remove(lower)

    def _numbers(self) -> list[int]:
        names = trusted_folders.names_in(self.folder)
        tails = (name.removeprefix(self._prefix) for name in names if name.startswith(self._prefix))
        return [int(tail) for tail in tails if tail.isdecimal()]

    def _path(self, number: int) -> Path:
        return self.folder / f"{self._prefix}{number}"


def content_of(fields: Mapping[str, Any]) -> bytes:
    """Return the content of a lease file. Its length never changes, so that it can be overwritten in place."""
    return json.dumps({**fields, "apart": int(fields["apart"])}).encode() + b"\n"


def remote_holder(lock: Path) -> str | None:
    """Return the owner on another host, alive or dead, as text; None without one."""
    with untrusted_path_errors():
        current = LeaseFiles(lock).highest()
    return None if current is None or current.fields.get("boot") == boot_id() else current.describe


def is_in_use(lock: Path) -> bool:
    """Return whether a process holds the lock or a lease. A dead owner on another host counts as one."""
    return is_held(lock) or remote_holder(lock) is not None


def remove_dead_local_lease(lock: Path, owner: LockOwner) -> None:
    """Remove the lease file of a dead process of this host."""
    with untrusted_path_errors():
        current = LeaseFiles(lock).highest()
    if current is None or current.fields.get("boot") != boot_id():
        return
    with suppress(LockedError):
        held = Lock.acquire(lock, owner, "the lease")
        LeaseFiles(lock).remove(current.number)
        held.release()


def _write(descriptor: int, content: bytes) -> None:
    """Overwrite the file from its beginning and sync it."""
    try:
        write_start(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
