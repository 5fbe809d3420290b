"""The claims by which hosts tell one another who has what a lock is for: small files beside the lock.

What they mean, and when a claim counts, is told in `lease`.
"""

import json
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from telemetron_batch.domain.errors import LockedError, refusing_foreign_files
from telemetron_batch.storage import trusted_folders
from telemetron_batch.storage.lock import Lock, LockOwner, is_held

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Names this boot of this host's kernel: the reach of its locks, and of a process's life."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return socket.gethostname()


@dataclass(frozen=True, slots=True)
class LeaseHolder:
    """Who claims a run, in words for others."""

    pid: int
    since: str
    run: str
    host: str
    boot: str
    task: str = ""

    @classmethod
    def of(cls, owner: LockOwner, task: str = "") -> Self:
        """An owner on this host; `task` says for whom it works, in words."""
        return cls(owner.pid, owner.since, owner.run, socket.gethostname(), boot_id(), task)


@dataclass(frozen=True, slots=True)
class LeaseFile:
    """A claim as it stands in its file."""

    number: int
    content: bytes

    @property
    def fields(self) -> dict[str, Any]:
        """What it says; nothing where it is being written or cannot be read."""
        with suppress(ValueError):
            fields = json.loads(self.content)
            if isinstance(fields, dict):
                return fields
        return {}

    @property
    def describe(self) -> str:
        """Whose it is."""
        fields = self.fields
        if "pid" not in fields:
            return "a process on another host"
        task = f", {fields['task']}" if fields.get("task") else ""
        return f"process {fields['pid']} on host {fields['host']} (run {fields['run']}, since {fields['since']}{task})"


class LeaseFiles:
    """The claims beside a lock: files that are made, rewritten and removed, each a step that the storage does whole."""

    def __init__(self, lock: Path) -> None:
        self.folder = lock.parent
        self._prefix = f"{lock.stem}.lease."

    def highest(self) -> LeaseFile | None:
        """The owner's claim; None where there is none."""
        for number in sorted(self._numbers(), reverse=True):
            content = self.read(number)
            if content is not None:  # else it went between the two looks
                return LeaseFile(number, content)
        return None

    def read(self, number: int) -> bytes | None:
        """What stands in a claim; None if it is not there."""
        try:
            return trusted_folders.read_file(self._path(number))
        except FileNotFoundError:
            return None

    def create(self, number: int, content: bytes) -> bool:
        """Make a claim; False if somebody else has."""
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

    def create_next(self, judged: LeaseFile | None, fields: Mapping[str, Any]) -> bool:
        """Make the claim after the one that was judged dead; whether it counts."""
        number = 1 if judged is None else judged.number + 1
        if not self.create(number, content_of(fields)):
            return False
        highest = self.highest()
        counts = highest is not None and highest.number == number
        if not counts or (judged is not None and self.read(judged.number) != judged.content):
            self.remove(number)
            return False
        return True

    def rewrite(self, number: int, content: bytes) -> bool:
        """Write anew into a claim, of the same length; False if it is gone."""
        try:
            descriptor = trusted_folders.open_file(self._path(number), os.O_WRONLY)
        except FileNotFoundError:
            return False
        _write(descriptor, content)
        return True

    def remove(self, number: int) -> None:
        """Remove a claim."""
        self._path(number).unlink(missing_ok=True)

    def remove_below(self, number: int) -> None:
        """Remove the claims of those who lost the run."""
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
    """A claim's content; always as long as before, so that it can be written over."""
    return json.dumps({**fields, "apart": int(fields["apart"])}).encode() + b"\n"


def remote_holder(lock: Path) -> str | None:
    """Who on another host holds what this lock is for, or did when it died, in words; None for nobody."""
    with refusing_foreign_files():
        claim = LeaseFiles(lock).highest()
    return None if claim is None or claim.fields.get("boot") == boot_id() else claim.describe


def is_in_use(lock: Path) -> bool:
    """Does a living process hold what this lock is for? Of another host's process that cannot be told at a glance."""
    return is_held(lock) or remote_holder(lock) is not None


def remove_dead_local_lease(lock: Path, owner: LockOwner) -> None:
    """Remove the claim of a dead process of this host, if there is one: nothing is left to be done that it was for."""
    with refusing_foreign_files():
        claim = LeaseFiles(lock).highest()
    if claim is None or claim.fields.get("boot") != boot_id():
        return
    with suppress(LockedError):
        held = Lock.acquire(lock, owner, "what is to be swept")
        LeaseFiles(lock).remove(claim.number)
        held.release()


def _write(descriptor: int, content: bytes) -> None:
    """Write from the beginning, and have it where others see it."""
    try:
        os.pwrite(descriptor, content, 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
