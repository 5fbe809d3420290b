"""A witness beside a journal: how far the journal had come at its last commit, kept outside SQLite.

SQLite ignores everything behind the first damaged frame of a write-ahead log, and does not miss
a log that is gone or notice that a file was replaced by an older copy. The witness does: a journal
that is behind it has lost commits.

How far a journal has come is two numbers. `rows` is its last attempt's number and its last result's, added
up: it rises with every commit that adds such rows, and costs these, the many, nothing. Every other commit raises
`notes`, a fact in the journal; it may also take rows away. So more notes are later, whatever the rows.

The witness is a mapped file that is never synced. The kernel keeps what was put into it if the process is
killed, which is at most one commit behind. After a power loss it may be further behind or unreadable,
but it is never ahead: it is written when the commit is on disk. Records are put into two slots
in turn, so that one is whole at any moment, and carry the journal's id: the witness of another journal does not count.
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

NOTES: Final = Fact.NOTES
"""The fact in the journal that counts the commits which add neither attempts nor results."""
JOURNAL_ID: Final = Fact.JOURNAL_ID
"""The fact in the journal by which its witness knows it."""
LOST: Final = Fact.RECORDS_LOST
"""The fact in the journal that counts what was lost before it was written to again."""

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
    """How far a journal has come; the later is the greater, as long as nothing is lost."""

    notes: int
    rows: int

    def beyond(self, other: "Extent") -> int:
        """Return the least number of records that this has and the other lacks."""
        if self <= other:
            return 0
        return self.notes - other.notes + max(0, self.rows - other.rows)


@dataclass(frozen=True, slots=True)
class Record:
    """What a witness shows: which journal, and how far it had come."""

    journal_id: str
    extent: Extent

    def packed(self) -> bytes:
        """Return the bytes of the record, checksum included."""
        return _packed(self.journal_id.encode(), self.extent)

    @classmethod
    def read(cls, journal: Path) -> "Record | None":
        """Return the latest record of a journal's witness; None without one, or where its checksum is wrong."""
        try:
            content = trusted_folders.read_file(witness_of(journal))
        except OSError:
            return None
        return max(cls._records(content), key=lambda record: record.extent, default=None)

    @classmethod
    def _records(cls, content: bytes) -> "Iterator[Record]":
        for slot in (content[:_RECORD], content[_SLOT : _SLOT + _RECORD]):
            fields, checksum = slot[: _FIELDS.size], slot[_FIELDS.size :]
            if len(slot) == _RECORD and checksum == _CHECKSUM.pack(zlib.crc32(fields)) and fields[:8] == _MAGIC:
                _, journal_id, notes, rows = _FIELDS.unpack(fields)
                yield cls(journal_id.rstrip(b"\0").decode("ascii", "replace"), Extent(notes, rows))


def witness_of(journal: Path) -> Path:
    """Return the path of a journal's witness."""
    return journal.with_name(f"{journal.name}-witness")


class Witness:
    """Counts the commits to a journal, and says what is missing in it."""

    def __init__(self, journal: Path) -> None:
        """Read the file. Must come before the journal is read, which may only be further by then."""
        self._path = witness_of(journal)
        self._record = Record.read(journal)
        self._journal_id = b""
        self._last: Extent | None = None
        """After the last commit of this process."""
        self._next = Extent(0, 0)
        """After the one under way."""
        self._file: mmap.mmap | None = None
        self._slot = 0
        self.missing = 0
        """Records that the witness knows of and the journal does not, until the journal itself says so."""

    def compare(self, journal_id: str, extent: Extent) -> None:
        """Find out what is missing in the journal, which calls itself so and has come so far."""
        self._journal_id = journal_id.encode()
        if self._record is not None and self._record.journal_id == journal_id:
            self.missing = self._record.extent.beyond(extent)

    def open(self) -> None:
        """Open the file for writing; make it if need be.

        The owner of the journal must be confirmed after this and before each commit: whoever takes the journal
        over replaces the file, so that a late write does not reach the new one.
        """
        if self._file is None:
            with suppress(OSError, ValueError):  # a journal without a witness is a journal all the same
                self._file = _mapped(self._path)

    def count(self, connection: sqlite3.Connection, added: int | None) -> None:
        """Count a commit, as part of its transaction.

        `added` is how many attempts and results it adds; None where it may also have changed anything else.
        """
        last = self._last or _extent(connection)
        if added and self._last and not self.missing:
            self._next = Extent(last.notes, last.rows + added)
            return
        notes = last.notes + 1
        if self.missing:
            notes = max(last.notes, self._record.extent.notes if self._record else 0) + 1
            connection.execute(_WRITE, (LOST, str(_number(connection, LOST) + self.missing)))
        connection.execute(_WRITE, (NOTES, str(notes)))
        self._next = Extent(notes, _extent(connection).rows)

    def show(self) -> None:
        """Write down how far the journal has come, now that the commit is on disk."""
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
    """Map the file of a witness; whole, so that no later write to it needs room."""
    descriptor = trusted_folders.open_file(path, os.O_RDWR | os.O_CREAT)
    try:
        content = os.pread(descriptor, _SIZE, 0)
        os.pwrite(descriptor, content.ljust(_SIZE, b"\0"), 0)
        return mmap.mmap(descriptor, _SIZE)
    finally:
        os.close(descriptor)


def _extent(connection: sqlite3.Connection) -> Extent:
    return Extent(_number(connection, NOTES), int(connection.execute(ROWS).fetchone()[0]))


def _number(connection: sqlite3.Connection, name: str) -> int:
    row = connection.execute(_READ, (name,)).fetchone()
    return 0 if row is None else int(row[0])
