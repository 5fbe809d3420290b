"""A file beside a journal, outside SQLite, that records how far the journal was at its last commit.

SQLite ignores everything after the first damaged frame of a write-ahead log, and does not notice a missing log or a
file replaced by an older copy. The witness does: a journal that is behind its witness has lost commits.

The extent of a journal is two numbers. `records` is the number of the last attempt plus the number of the last result;
it grows with every commit that adds such rows, at no cost. Every other commit increases `notes`, a fact in
the journal, and may also delete rows. So a larger `notes` is later, regardless of `records`.

The witness is a mapped file that is never synced. After a kill it is at most one commit behind, because the
kernel keeps mapped pages. After a power loss it may be further behind or unreadable, but it is never ahead,
because it is written after the commit is on disk. Records go into two slots in turn, so that one is complete at any
time. They contain the journal's id, so that the witness of another journal is ignored.
"""

import mmap
import os
import sqlite3
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from telemetron_batch.journal.facts import Fact
from telemetron_batch.storage import trusted_folders
from telemetron_batch.storage.file_system import read_start, write_start

OTHER_COMMITS: Final = Fact.OTHER_COMMITS
"""The fact that counts commits which add neither attempts nor results."""
JOURNAL_ID: Final = Fact.JOURNAL_ID
"""The fact that ties the journal to its witness."""
LOST: Final = Fact.RECORDS_LOST
"""The fact that counts records lost before the journal was written to again."""

_FIELDS: Final = struct.Struct("<8s16sQQ")
_CHECKSUM: Final = struct.Struct("<I")
_RECORD: Final = _FIELDS.size + _CHECKSUM.size
_SLOT: Final = 64
_SIZE: Final = 2 * _SLOT
_MAGIC: Final = b"witness1"

ROWS: Final = "SELECT coalesce((SELECT max(id) FROM attempts), 0) + coalesce((SELECT max(id) FROM results), 0)"
_READ: Final = "SELECT value FROM meta WHERE name = ?"
_WRITE: Final = "INSERT OR REPLACE INTO meta VALUES (?, ?)"


class Extent(NamedTuple):
    """The extent of a journal; a later one is greater if nothing was lost."""

    notes: int
    records: int

    def beyond(self, other: "Extent") -> int:
        """Return the minimum number of records that this extent has and the other lacks."""
        if self <= other:
            return 0
        return self.notes - other.notes + max(0, self.records - other.records)


@dataclass(frozen=True, slots=True)
class WitnessEntry:
    """The content of a witness: a journal's id and extent."""

    journal_id: str
    extent: Extent

    def packed(self) -> bytes:
        """Return the record as bytes, with a checksum."""
        return _packed(self.journal_id.encode(), self.extent)

    @classmethod
    def read(cls, journal: Path) -> "WitnessEntry | None":
        """Return the latest valid record of a journal's witness; None without one."""
        try:
            content = trusted_folders.read_file(witness_of(journal))
        except OSError:
            return None
        return max(cls._records(content), key=lambda record: record.extent, default=None)

    @classmethod
    def _records(cls, content: bytes) -> "Iterator[WitnessEntry]":
        for slot in (content[:_RECORD], content[_SLOT : _SLOT + _RECORD]):
            fields, checksum = slot[: _FIELDS.size], slot[_FIELDS.size :]
            if len(slot) == _RECORD and checksum == _CHECKSUM.pack(zlib.crc32(fields)) and fields[:8] == _MAGIC:
                _, journal_id, notes, records = _FIELDS.unpack(fields)
                yield cls(journal_id.rstrip(b"\0").decode("ascii", "replace"), Extent(notes, records))


def witness_of(journal: Path) -> Path:
    """Return the path of a journal's witness."""
    return journal.with_name(f"{journal.name}-witness")


class Witness:
    """Counts the commits to a journal and detects lost ones."""

    def __init__(self, journal: Path) -> None:
        """Read the witness file. Create this before reading the journal, which can then only be further."""
        self._path = witness_of(journal)
        self._record = WitnessEntry.read(journal)
        self._journal_id = b""
        self._last: Extent | None = None
        """Extent after the last commit of this process."""
        self._next = Extent(0, 0)
        """Extent after the current commit."""
        self._file: mmap.mmap | None = None
        self._slot = 0
        self.missing = 0
        """Number of lost records that the journal has not recorded itself yet."""

    def compare(self, journal_id: str, extent: Extent) -> None:
        """Compare the witness with a journal's id and extent, and set `missing`."""
        self._journal_id = journal_id.encode()
        if self._record is not None and self._record.journal_id == journal_id:
            self.missing = self._record.extent.beyond(extent)

    def open(self) -> None:
        """Open or create the file for writing.

        Check the ownership of the journal after this and before each commit: a takeover replaces the file, so that
        a late write does not reach the new one.
        """
        if self._file is None:
            with suppress(OSError, ValueError):  # a journal works without a witness
                self._file = _mapped(self._path)

    def count(self, connection: sqlite3.Connection, added: int | None) -> None:
        """Count a commit within its transaction.

        `added` is the number of attempts and results that it adds; None if it may change anything else.
        """
        last = self._last or _extent(connection)
        if added and self._last and not self.missing:
            self._next = Extent(last.notes, last.records + added)
            return
        notes = last.notes + 1
        if self.missing:
            notes = max(last.notes, self._record.extent.notes if self._record else 0) + 1
            connection.execute(_WRITE, (LOST, str(_number(connection, LOST) + self.missing)))
        connection.execute(_WRITE, (OTHER_COMMITS, str(notes)))
        self._next = Extent(notes, _extent(connection).records)

    def write(self) -> None:
        """Write the extent of the journal. Call this when the commit is on disk."""
        self._last, self.missing = self._next, 0
        if self._file is not None:
            self._file[self._slot : self._slot + _RECORD] = _packed(self._journal_id, self._next)
            self._slot = _SLOT - self._slot

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _packed(journal_id: bytes, extent: Extent) -> bytes:
    fields = _FIELDS.pack(_MAGIC, journal_id, *extent)
    return fields + _CHECKSUM.pack(zlib.crc32(fields))


def _mapped(path: Path) -> mmap.mmap:
    """Return the mapped file of a witness, allocated so that no later write needs disk space."""
    descriptor = trusted_folders.open_file(path, os.O_RDWR | os.O_CREAT)
    try:
        content = read_start(descriptor, _SIZE)
        write_start(descriptor, content.ljust(_SIZE, b"\0"))
        return mmap.mmap(descriptor, _SIZE)
    finally:
        os.close(descriptor)


def _extent(connection: sqlite3.Connection) -> Extent:
    return Extent(_number(connection, OTHER_COMMITS), int(connection.execute(ROWS).fetchone()[0]))


def _number(connection: sqlite3.Connection, name: str) -> int:
    row = connection.execute(_READ, (name,)).fetchone()
    return 0 if row is None else int(row[0])
