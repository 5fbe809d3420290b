"""The file of a journal: told from all others by its header, opened, or read untouched; errors of the disk in words."""

import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from telemetron_batch.domain.errors import BatchError, DiskError, JournalError, refusing_foreign_files, remedy
from telemetron_batch.storage import trusted_folders

SCHEMA_VERSION: Final = 2
"""Of the tables and of what is stored in them. To change either, add a migration and a fixture of the old version."""
MIGRATIONS: Final[Mapping[int, str]] = {}
"""Statements that make a journal of the version before out of one of this version, by the older version.

The first released version is 2. A journal is migrated in one transaction when it is opened.
"""
APPLICATION_ID: Final = 0x7E1E_BA7C
"""In the file's header, so that a database of somebody else is told apart."""

_TAILS: Final = ("-wal", "-shm", "-journal", "-witness")
"""Of the names of the files beside a journal."""
_ADVICE: Final = "name another --run-id, or move that file away"
_DISK_ERROR_CODES: Final = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)


def open_connection(path: Path) -> sqlite3.Connection:
    """A connection to a journal of ours; whatever else it may be is refused, untouched."""
    advice = _ADVICE
    require_ours(path)
    try:
        with os.fdopen(trusted_folders.open_file(path, os.O_RDONLY), "rb") as file:
            head = file.read(72)
            found = os.fstat(file.fileno())
        # Read from the header, for to open a database may already change it.
        ours = head[:16] == b"SQLite format 3\0" and int.from_bytes(head[68:72], "big") == APPLICATION_ID
        if not ours:
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
    """Raise ForeignRunError unless a journal, as far as it exists, its folder and all that belongs to it are ours."""
    with refusing_foreign_files():
        trusted_folders.require_files(path.parent, (path.name, *(f"{path.name}{tail}" for tail in _TAILS)))


def _require_same(path: Path, found: os.stat_result) -> None:
    """Raise JournalError if a journal was replaced since it was looked at: the library opens it by its name."""
    require_ours(path)
    if not os.path.samestat(path.lstat(), found):
        raise JournalError(f"{path} was replaced while it was opened", _ADVICE)


def migrate(
    path: Path,
    connection: sqlite3.Connection,
    migrations: Mapping[int, str] = MIGRATIONS,
    current: int = SCHEMA_VERSION,
) -> None:
    """Bring the tables of an older version up to date, all of them or none. Raises JournalError for a newer version."""
    version = _version(connection)
    if version == current:
        return
    _refuse_newer(path, version, current)
    if any(step not in migrations for step in range(version, current)):
        raise JournalError(f"{path} was written by a version that was never released (schema {version})", _ADVICE)
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in range(_version(connection), current):  # another process may have been faster
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
    """Return a connection to a copy of a journal that cannot be written to, brought up to date."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        for tail in ("", "-wal"):
            if (file := path.with_name(path.name + tail)).exists():
                shutil.copyfile(file, copy.with_name(copy.name + tail))
        memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        with closing(connect(copy)) as source:
            migrate(path, source)
            source.backup(memory)
    return memory


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def open_immutable(path: Path) -> sqlite3.Connection:
    """A connection that takes no lock, leaves no trace and sees nothing that is in the log alone."""
    require_ours(path)
    try:
        return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    except sqlite3.DatabaseError as exc:
        raise read_error(path, exc) from exc


def connect(path: Path) -> sqlite3.Connection:
    """A connection of which a commit is on disk when it is made; looks at nothing."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
    connection.execute("PRAGMA synchronous=FULL")
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of what is written within, or nothing of it."""
    connection.execute("BEGIN IMMEDIATE")
    with connection:  # which commits, or rolls back
        yield


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """What the disk refuses, said in words."""
    try:
        yield
    except (sqlite3.Error, OSError) as exc:
        raise DiskError(f"cannot write {path} ({exc})", remedy(exc)) from exc


def read_error(path: Path, exc: Exception) -> BatchError:
    """The error for a journal that cannot be read: the disk's fault, for to read it takes room as well, or its own."""
    if getattr(exc, "sqlite_errorcode", 0) & 0xFF in _DISK_ERROR_CODES:
        return DiskError(f"{path} cannot be opened ({exc})", remedy(exc))
    return JournalError(f"{path} is damaged ({exc})", _ADVICE)


def write_meta(connection: sqlite3.Connection, facts: Mapping[str, object]) -> None:
    """Put down facts by name; what was there under these names gives way."""
    rows = [(name, json.dumps(value)) for name, value in facts.items()]
    connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)


def _is_cut_short(path: Path, head: bytes) -> bool:
    """Is the file shorter than its header says, with no write-ahead log that may hold the rest?"""
    log = path.with_name(path.name + "-wal")
    if log.exists() and log.stat().st_size:
        return False
    page = int.from_bytes(head[16:18], "big")
    return path.stat().st_size < int.from_bytes(head[28:32], "big") * (65536 if page == 1 else page)
