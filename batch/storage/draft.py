"""A journal in the making: its tables, and the input put into them.

The file is made aside and renamed when the whole input is in it: a journal exists
whole or not at all.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from secrets import token_hex
from typing import Final

from batch.rows import RowBlock
from batch.storage.blobs import packed
from batch.storage.opening import APPLICATION_ID, SCHEMA_VERSION, connect, disk_errors, write_meta
from batch.storage.whole import confirm, sync_folder
from batch.storage.witness import JOURNAL_ID, witness_of

_TABLES: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE blocks (
    number INTEGER PRIMARY KEY, file INTEGER NOT NULL, keys BLOB NOT NULL, cells BLOB NOT NULL
);
CREATE TABLE attempts (
    id INTEGER PRIMARY KEY,
    call INTEGER NOT NULL,
    positions BLOB,          -- of the call's devices; NULL: all of them
    started REAL NOT NULL,   -- seconds since the epoch
    ended REAL,
    ending TEXT CHECK (ending IN ('answered', 'refused', 'unsent', 'unclear')),
    verdict TEXT,            -- the verdict's name, for going on with a split call
    status INTEGER,
    text TEXT
);
CREATE INDEX attempts_of_call ON attempts (call);
CREATE TABLE results (
    id INTEGER PRIMARY KEY,
    call INTEGER NOT NULL,
    attempt INTEGER REFERENCES attempts (id),  -- NULL: settled without an answer of its own
    answer BLOB NOT NULL
);
CREATE INDEX results_of_call ON results (call);
CREATE TABLE holdings (customer TEXT PRIMARY KEY, devices BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE events (id INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL);
"""


class JournalDraft:
    """A journal in the making: takes the input block by block, then is published or thrown away."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._aside = path.with_name(path.name + ".new")
        with disk_errors(path):
            self._aside.unlink(missing_ok=True)
            os.close(os.open(self._aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            self._connection = connect(self._aside)
            # Nothing is at stake before the rename, which comes after one full sync.
            self._connection.executescript(f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; {_TABLES}")
            self._connection.execute("BEGIN")

    def add(self, block: RowBlock) -> None:
        """Append a block of the input."""
        row = (block.file, packed(block.keys), packed(block.cells))
        with disk_errors(self._path):
            self._connection.execute("INSERT INTO blocks (file, keys, cells) VALUES (?, ?, ?)", row)

    def publish(self, meta: Mapping[str, object]) -> None:
        """Make it the run's journal, on disk to the last byte."""
        with disk_errors(self._path):
            write_meta(self._connection, {**meta, JOURNAL_ID: token_hex(8)})
            self._connection.execute("COMMIT")
            self._connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            self._connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            self._connection.close()
            with self._aside.open("rb") as file:
                os.fsync(file.fileno())
            confirm()
            witness_of(self._path).unlink(missing_ok=True)  # that of a former journal of this name
            self._aside.replace(self._path)
            sync_folder(self._path.parent)

    def discard(self) -> None:
        """Leave nothing behind."""
        self._connection.close()
        self._aside.unlink(missing_ok=True)
