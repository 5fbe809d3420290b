"""The lists that people upload or scan, until they become runs: a bounded folder that only the server can enter.

Each list has a folder with a random name, its file and `upload.json`. When it has become a run, its folder moves into
that of the run, and goes with it.
"""

import csv
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Final

from telemetron_batch.domain.errors import ConfigError, write_error
from telemetron_batch.domain.model import Correction
from telemetron_batch.domain.printable import json_text, printable
from telemetron_batch.journal.layout import UPLOAD_IN_RUN, UPLOAD_RECORD
from telemetron_batch.storage.atomic_file import atomic_write, disk_errors_in, make_private_dir
from telemetron_batch.storage.clock import Clock

_ID: Final = re.compile(r"[a-z0-9]{20}")
_SUFFIX: Final = re.compile(r"(\.(?:csv|tsv|txt|xlsx|zip))?(\.gz)?$", re.IGNORECASE)
_KEPT_S: Final = 7 * 86_400.0
"""Seconds for which a list that became no run is kept."""
_MAX_NAME: Final = 120
_COPY_BYTES: Final = 1 << 20
SCAN_HEADER: Final = ("customerEmail", "deviceIdentifier")

Flags = Mapping[str, Any]
"""Options of the input by key, as the command line would give them."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A list that is not a run yet."""

    id: str
    owner: str
    """The user of the page who brought it."""
    name: str
    """The name of the file as the user's browser gave it; for people only."""
    at: float
    """Seconds since the epoch."""
    file: Path
    folder: Path
    of_run: str | None = None
    """The run that the file is of; None for a file that a user brought."""
    flags: Flags | None = None
    """What is known of columns and words; None before the user has seen them."""
    corrections: tuple[Correction, ...] = ()
    """The cells that the user has corrected."""

    def as_json(self) -> dict[str, Any]:
        """Return what `upload.json` holds."""
        return {
            "owner": self.owner,
            "name": self.name,
            "at": self.at,
            "file": str(self.file) if self.of_run else self.file.name,
            "ofRun": self.of_run,
            "flags": self.flags,
            "corrections": [list(one) for one in self.corrections],
        }

    @classmethod
    def of_json(cls, folder: Path, fields: Mapping[str, Any]) -> "Upload":
        """Return the list that `as_json` gave. Raises LookupError, TypeError or ValueError for anything else."""
        corrections = tuple(Correction(str(name), int(line), str(text)) for name, line, text in fields["corrections"])
        return cls(
            id=folder.name,
            owner=str(fields["owner"]),
            name=str(fields["name"]),
            at=float(fields["at"]),
            file=folder / fields["file"],
            folder=folder,
            of_run=fields["ofRun"],
            flags=fields["flags"],
            corrections=corrections,
        )

    def corrected(self, changes: Iterable[Correction]) -> "Upload":
        """Return the list with further corrected cells."""
        cells = {(one.field, one.line): one for one in (*self.corrections, *changes)}
        return replace(self, corrections=tuple(sorted(cells.values(), key=lambda one: (one.line, one.field))))


@dataclass(frozen=True, slots=True)
class UploadStore:
    """The folder of lists."""

    folder: Path
    clock: Clock
    max_bytes: int
    """How large all lists together may be."""
    make_id: Callable[[], str] = field(default=lambda: random_id())

    def receive(self, source: BinaryIO, name: str, owner: str) -> Upload:
        """Keep a file that a user has sent. Raises ConfigError if there is no room, and DiskError."""
        folder = self._new_folder(_size(source))
        suffix = "".join(filter(None, map(str.lower, filter(None, _suffix(name)))))
        upload = Upload(folder.name, owner, _display_name(name), self.clock.wall(), folder / f"list{suffix}", folder)
        try:
            with disk_errors_in(folder), _new_file(upload.file) as file:
                shutil.copyfileobj(source, file, _COPY_BYTES)
            self.save(upload)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return upload

    def scanned(self, serials: Iterable[str], customer: str, name: str, owner: str, flags: Flags) -> Upload:
        """Keep scanned serials as a list, for one customer or for those that are looked up."""
        folder = self._new_folder(0)
        upload = Upload(folder.name, owner, name, self.clock.wall(), folder / "list.csv", folder, flags=flags)
        with disk_errors_in(folder), upload.file.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(SCAN_HEADER)
            writer.writerows((customer, serial) for serial in serials)
        self.save(upload)
        return upload

    def of_run_file(self, file: Path, owner: str, name: str) -> Upload:
        """Take a file of a run as a list: its attention file, which has the mapping of its run, or its undo file.

        The file stays in the folder of its run.
        """
        folder = self._new_folder(0)
        upload = Upload(folder.name, owner, name, self.clock.wall(), file, folder, of_run=file.parent.name, flags={})
        self.save(upload)
        return upload

    def find(self, upload_id: str) -> Upload | None:
        """Return the list with this id, which may come from anywhere; None without one."""
        if not _ID.fullmatch(upload_id):
            return None
        return _read(self.folder / upload_id)

    def all(self) -> list[Upload]:
        """Return all lists, the newest first."""
        found = filter(None, map(_read, self._folders()))
        return sorted(found, key=lambda one: one.at, reverse=True)

    def save(self, upload: Upload) -> None:
        """Record what is known of a list."""
        with atomic_write(upload.folder / UPLOAD_RECORD) as file:
            file.write(json_text(upload.as_json()).encode())

    def remove(self, upload: Upload) -> None:
        """Forget a list that became no run."""
        shutil.rmtree(upload.folder, ignore_errors=True)

    def move_into_run(self, upload: Upload, run: Path) -> None:
        """Move the folder of a list into that of the run that it has become."""
        with disk_errors_in(run):
            upload.folder.rename(run / UPLOAD_IN_RUN)

    def move_out_of_run(self, run: Path) -> Upload | None:
        """Move the folder of a list back out of its run; None if the run was not made from one."""
        if not (run / UPLOAD_IN_RUN / UPLOAD_RECORD).exists():
            return None
        target = self.folder / self.make_id()
        with disk_errors_in(run):
            (run / UPLOAD_IN_RUN).rename(target)
        return _read(target)

    def remove_old(self) -> None:
        """Remove lists that became no run in time, and folders without a record."""
        for folder in self._folders():
            upload = _read(folder)
            age = self.clock.wall() - (folder.stat().st_mtime if upload is None else upload.at)
            if age > _KEPT_S:
                shutil.rmtree(folder, ignore_errors=True)

    def _folders(self) -> Iterator[Path]:
        with suppress(FileNotFoundError):
            for entry in os.scandir(self.folder):
                if entry.is_dir(follow_symlinks=False) and _ID.fullmatch(entry.name):
                    yield Path(entry.path)

    def _new_folder(self, size: int) -> Path:
        """Make a folder for a list of so many bytes. Raises ConfigError if the lists would take too much room."""
        make_private_dir(self.folder)
        self.remove_old()
        if size + sum(map(_bytes_in, self._folders())) > self.max_bytes:
            raise ConfigError("there is no room for another list", "remove lists that are not needed, or wait a week")
        folder = self.folder / self.make_id()
        with disk_errors_in(self.folder):
            folder.mkdir(mode=0o700)
        return folder


def original_name(run: Path) -> str | None:
    """Return the name of the file that a run was made from, as the user's browser gave it."""
    upload = _read(run / UPLOAD_IN_RUN)
    return None if upload is None else upload.name


def random_id() -> str:
    """Return a random name of letters and digits that nobody can guess."""
    return "".join(secrets.choice("abcdefghijkmnpqrstuvwxyz23456789") for _ in range(20))


def _read(folder: Path) -> Upload | None:
    try:
        return Upload.of_json(folder, json.loads((folder / UPLOAD_RECORD).read_bytes()))
    except (OSError, LookupError, TypeError, ValueError):
        return None


def _new_file(path: Path) -> BinaryIO:
    try:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
    except OSError as exc:
        raise write_error(str(path), exc) from exc


def _suffix(name: str) -> tuple[str | None, ...]:
    found = _SUFFIX.search(name)
    return () if found is None else found.groups()


def _display_name(name: str) -> str:
    """Return the last part of a name, as it may be shown."""
    return printable(re.split(r"[/\\]", name)[-1])[:_MAX_NAME] or "list"


def _size(source: BinaryIO) -> int:
    at = source.tell()
    size = source.seek(0, os.SEEK_END)
    source.seek(at)
    return size


def _bytes_in(folder: Path) -> int:
    total = 0
    with suppress(OSError):
        for entry in os.scandir(folder):
            total += entry.stat(follow_symlinks=False).st_size
    return total
