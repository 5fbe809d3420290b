"""Create a journal: its tables and the input.

The file gets its final name only when it contains the whole input, so a journal never exists partly.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from secrets import token_hex
from typing import Final

import pyarrow as pa

from telemetron_batch.journal.codec import decode_batch, encode_batch
from telemetron_batch.journal.connection import APPLICATION_ID, SCHEMA_VERSION, connect, disk_errors, write_meta
from telemetron_batch.journal.witness import JOURNAL_ID, witness_of
from telemetron_batch.rows.rows import RowBlock
from telemetron_batch.storage.atomic_file import check_rename_allowed, sync_folder

_TABLES: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE blocks (
    number INTEGER PRIMARY KEY, file INTEGER NOT NULL, keys BLOB NOT NULL, cells BLOB NOT NULL
);
CREATE TABLE attempts (
    id INTEGER PRIMARY KEY,
    call INTEGER NOT NULL,
    positions BLOB,          -- of the devices in the call; NULL: all of them
    started REAL NOT NULL,   -- seconds since the epoch, for people
    boot INTEGER,            -- which boot of which machine `uptime` counts from
    uptime REAL,             -- seconds since that boot when it left, on a clock that never jumps
    ended REAL,
    ending TEXT CHECK (ending IN ('answered', 'refused', 'unsent', 'unclear')),
    may_act_later INTEGER NOT NULL DEFAULT 1,  -- until its deadline and a margin have passed since it left
    verdict TEXT,            -- the verdict's code, for going on with a split call
    status INTEGER,
    reason INTEGER,          -- code of a Reason
    text TEXT,               -- what completes the reason's sentence
    omitted INTEGER NOT NULL DEFAULT 0,        -- devices that the answer left out
    foreign_count INTEGER NOT NULL DEFAULT 0   -- identifiers in the answer that were not requested
);
CREATE INDEX attempts_of_call ON attempts (call);
CREATE TABLE results (
    id INTEGER PRIMARY KEY,
    call INTEGER NOT NULL,
    attempt INTEGER REFERENCES attempts (id),  -- NULL: a result without an answer
    answer BLOB NOT NULL
);
CREATE INDEX results_of_call ON results (call);
CREATE TABLE holdings (  -- before the run first wrote to a customer
    customer TEXT PRIMARY KEY,
    is_known INTEGER NOT NULL,  -- 0: the API did not know the customer
    devices BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE looks (     -- after the run
    customer TEXT PRIMARY KEY,
    round INTEGER NOT NULL,  -- the last verify that queried the customer
    at REAL NOT NULL,        -- when the query was sent that returned these devices
    after_attempt INTEGER,   -- the last attempt then, if none before could act any more
    devices BLOB,            -- NULL: no query succeeded
    why TEXT NOT NULL        -- error of the last query, "" if it succeeded
) WITHOUT ROWID;
CREATE TABLE events (id INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL);
"""


class JournalDraft:
    """A journal being created: takes the input block by block, and is then published or discarded."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temp_path = path.with_name(path.name + ".new")
        with disk_errors(path):
            self._temp_path.unlink(missing_ok=True)
            os.close(os.open(self._temp_path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            self._connection = connect(self._temp_path)
            # Durability matters only from the rename on, which follows one full sync.
            self._connection.executescript(f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; {_TABLES}")
            self._connection.execute("BEGIN")

    def append(self, block: RowBlock) -> None:
        """Append a block of the input."""
        row = (block.file, encode_batch(block.keys), encode_batch(block.cells))
        with disk_errors(self._path):
            self._connection.execute("INSERT INTO blocks (file, keys, cells) VALUES (?, ?, ?)", row)

    def clear(self) -> None:
        """Drop all blocks."""
        with disk_errors(self._path):
            self._connection.execute("DELETE FROM blocks")

    def key_columns(self) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield file number and key columns of each block of the input, in order."""
        for file, keys in self._connection.execute("SELECT file, keys FROM blocks ORDER BY number"):
            yield file, decode_batch(keys)

    def publish(self, meta: Mapping[str, object]) -> None:
        """Sync the file and rename it to the run's journal."""
        with disk_errors(self._path):
            write_meta(self._connection, {**meta, JOURNAL_ID: token_hex(8)})
            self._connection.execute("COMMIT")
            self._connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            self._connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            self._connection.close()
            with self._temp_path.open("rb") as file:
                os.fsync(file.fileno())
            check_rename_allowed()
            witness_of(self._path).unlink(missing_ok=True)  # of a former journal of this name
            self._temp_path.replace(self._path)
            sync_folder(self._path.parent)

    def discard(self) -> None:
        """Remove the unfinished file."""
        self._connection.close()
        self._temp_path.unlink(missing_ok=True)
