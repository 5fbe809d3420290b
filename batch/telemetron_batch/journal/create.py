"""Create a journal with the input.

The file gets its final name only when it contains the whole input, so a journal never exists partly.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from secrets import token_hex

import pyarrow as pa

from telemetron_batch.journal.codec import decode_batch, encode_batch
from telemetron_batch.journal.connection import connect, disk_errors, write_meta
from telemetron_batch.journal.schema import APPLICATION_ID, SCHEMA_VERSION, TABLES
from telemetron_batch.journal.witness import JOURNAL_ID, witness_of
from telemetron_batch.rows.rows import RowBlock
from telemetron_batch.storage.atomic_file import check_rename_allowed
from telemetron_batch.storage.file_system import sync_folder


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
            self._connection.executescript(f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; {TABLES}")
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
