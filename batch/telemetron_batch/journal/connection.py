"""Open the journal's database file: identify it by its header, migrate its schema, and translate database errors."""

import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from telemetron_batch.domain.errors import BatchError, DiskError, JournalError, remedy, untrusted_path_errors
from telemetron_batch.journal.schema import APPLICATION_ID, MIGRATIONS, SCHEMA_VERSION
from telemetron_batch.storage import trusted_folders

_TAILS: Final = ("-wal", "-shm", "-journal", "-witness")
"""Suffixes of the files beside a journal."""
_ADVICE: Final = "name another --run-id, or move that file away"
_DISK_ERROR_CODES: Final = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)


def open_connection(path: Path) -> sqlite3.Connection:
    """Return a connection to a journal. Refuses other files without changing them. Raises JournalError."""
    advice = _ADVICE
    require_ours(path)
    try:
        with os.fdopen(trusted_folders.open_file(path, os.O_RDONLY), "rb") as file:
            head = file.read(72)
            found = os.fstat(file.fileno())
        # Read the header directly: opening a database may already change the file.
        is_journal = head[:16] == b"SQLite format 3\0" and int.from_bytes(head[68:72], "big") == APPLICATION_ID
        if not is_journal:
            raise JournalError(f"{path} is not a journal of telemetron-batch", advice)
        _refuse_newer(path, int.from_bytes(head[60:64], "big"), SCHEMA_VERSION)
        if _is_cut_short(path, head):
            raise JournalError(f"{path} is cut short", advice)
        if not os.access(path, os.W_OK):
            return _copied_to_memory(path)
        connection = connect(path)
        _require_same(path, found)
        migrate(path, connection)
        connection.execute("SELECT count(*) FROM results").fetchone()
        connection.execute("PRAGMA journal_mode=WAL")
    except sqlite3.DatabaseError as exc:
        raise read_error(path, exc) from exc
    except OSError as exc:
        raise JournalError(f"{path} cannot be read ({exc.strerror})", advice) from exc
    return connection


def require_ours(path: Path) -> None:
    """Raise UntrustedRunError unless the folder, the journal and the files beside it are ours, as far as they exist."""
    with untrusted_path_errors():
        trusted_folders.require_files(path.parent, (path.name, *(f"{path.name}{tail}" for tail in _TAILS)))


def _require_same(path: Path, found: os.stat_result) -> None:
    """Raise JournalError if a journal was replaced since its header was read: SQLite opens it by name."""
    require_ours(path)
    if not os.path.samestat(path.lstat(), found):
        raise JournalError(f"{path} was replaced while it was opened", _ADVICE)


def migrate(
    path: Path,
    connection: sqlite3.Connection,
    migrations: Mapping[int, str] = MIGRATIONS,
    current: int = SCHEMA_VERSION,
) -> None:
    """Migrate an older schema to the current one in one transaction. Raises JournalError for a newer schema."""
    version = _version(connection)
    if version == current:
        return
    _refuse_newer(path, version, current)
    if any(step not in migrations for step in range(version, current)):
        raise JournalError(f"{path} was written by a version that was never released (schema {version})", _ADVICE)
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in range(_version(connection), current):  # another process may have migrated it meanwhile
            for statement in filter(str.strip, migrations[step].split(";")):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version={step + 1}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _refuse_newer(path: Path, version: int, current: int) -> None:
    if version > current:
        what = f"{path} was written by a newer version of telemetron-batch (schema {version}, this one knows {current})"
        raise JournalError(what, "use that version, or name another --run-id")


def _copied_to_memory(path: Path) -> sqlite3.Connection:
    """Return a connection to an in-memory copy of a read-only journal, migrated to the current schema."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        for tail in ("", "-wal"):
            if (file := path.with_name(path.name + tail)).exists():
                shutil.copyfile(file, copy.with_name(copy.name + tail))
        with closing(connect(copy)) as source:
            migrate(path, source)
            memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            source.backup(memory)
    return memory


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def open_immutable(path: Path) -> sqlite3.Connection:
    """Return a connection that takes no lock and changes nothing. It does not see the write-ahead log."""
    require_ours(path)
    try:
        return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    except sqlite3.DatabaseError as exc:
        raise read_error(path, exc) from exc


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection whose commits are synced to disk. Does not check the file."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
    connection.execute("PRAGMA synchronous=FULL")
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Run the block in a transaction; roll back on an exception."""
    connection.execute("BEGIN IMMEDIATE")
    with connection:  # which commits, or rolls back
        yield


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Translate errors of the database and the disk into DiskError."""
    try:
        yield
    except (sqlite3.Error, OSError) as exc:
        raise DiskError(f"cannot write {path} ({exc})", remedy(exc)) from exc


def read_error(path: Path, exc: Exception) -> BatchError:
    """Return the error for a journal that cannot be read: DiskError for the disk, JournalError for a damaged file."""
    if getattr(exc, "sqlite_errorcode", 0) & 0xFF in _DISK_ERROR_CODES:
        return DiskError(f"{path} cannot be opened ({exc})", remedy(exc))
    return JournalError(f"{path} is damaged ({exc})", _ADVICE)


def write_meta(connection: sqlite3.Connection, facts: Mapping[str, object]) -> None:
    """Write facts by name, replacing older values."""
    rows = [(name, json.dumps(value)) for name, value in facts.items()]
    connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)


def _is_cut_short(path: Path, head: bytes) -> bool:
    """Return whether the file is shorter than its header says and no write-ahead log can hold the rest."""
    log = path.with_name(path.name + "-wal")
    if log.exists() and log.stat().st_size:
        return False
    page = int.from_bytes(head[16:18], "big")
    return path.stat().st_size < int.from_bytes(head[28:32], "big") * (65536 if page == 1 else page)
