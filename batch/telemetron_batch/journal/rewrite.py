"""Rewrite all texts of a journal at rest, such as the address of a person who is to be forgotten.

A changed copy replaces the journal, so a kill leaves either of the two whole. The copy has no free pages, and the
write-ahead log is emptied before, so that no trace of the former texts stays in the folder. The caller holds the lock
of the run.
"""

import json
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from telemetron_batch.journal.codec import decode_batch, encode_batch
from telemetron_batch.journal.connection import disk_errors, open_connection, read_error, write_meta
from telemetron_batch.journal.text_rewriter import TextRewriter, rewrite_batch, rewrite_json
from telemetron_batch.storage import trusted_folders
from telemetron_batch.storage.atomic_file import check_rename_allowed
from telemetron_batch.storage.file_system import sync_folder

_SIDECARS: Final = ("-wal", "-shm", "-journal")
_ARROW: Final = {("blocks", "keys"), ("blocks", "cells")}
_JSON: Final = {("meta", "value")}
_TEXT: Final = {
    ("attempts", "text"),
    ("events", "text"),
    ("holdings", "customer"),
    ("looks", "customer"),
    ("looks", "why"),
    ("previews", "customer"),
    ("previews", "why"),
}
_COMPRESSED_JSON: Final = {
    ("results", "answer"),
    ("holdings", "devices"),
    ("looks", "devices"),
    ("previews", "devices"),
}
"""Columns that hold texts, by how they are encoded. All others hold numbers and words of the program."""
_KEYS: Final = {
    "blocks": "number",
    "meta": "name",
    "attempts": "id",
    "events": "id",
    "results": "id",
    "holdings": "customer",
    "looks": "customer",
    "previews": "customer",
}
_Values = tuple[Any, Any]
"""The primary key of a row, and the new content of a column."""


def journal_holds(path: Path, rewriter: TextRewriter) -> bool:
    """Return whether a rewriter would change anything in a journal. Raises JournalError, DiskError."""
    with closing(open_connection(path)) as connection:
        return any(True for column in _columns() for _ in _changes(path, connection, column, rewriter))


def rewrite_journal(
    path: Path, rewriter: TextRewriter, facts: Callable[[Callable[[str], Any]], Mapping[str, object]] = lambda _: {}
) -> None:
    """Replace a journal by a copy in which all texts are rewritten.

    `facts` gets a function that returns a rewritten fact by name, and returns facts to replace. The extent of the
    journal stays the same, so its witness still fits. Raises JournalError, DiskError.
    """
    draft = path.with_name(f"{path.name}.rewritten")
    with disk_errors(path):
        _copy(path, draft)
        with closing(sqlite3.connect(draft, isolation_level=None)) as connection:
            connection.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA secure_delete=ON")
            connection.execute("BEGIN")
            for column in _columns():
                _rewrite_column(draft, connection, column, rewriter)
            write_meta(connection, facts(lambda name: _fact(connection, name)))
            connection.execute("COMMIT")
            connection.execute("VACUUM")
        _replace(path, draft)


def database_holds(path: Path, rewriter: TextRewriter) -> bool:
    """Return whether a rewriter would change a text in a database that is no journal. Raises JournalError."""
    with _damage_of(path), closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return any(True for _ in _changed_texts(connection, rewriter))


def rewrite_database(path: Path, rewriter: TextRewriter) -> None:
    """Replace a database that is no journal by a copy in which all texts are rewritten. Raises as for a journal."""
    draft = path.with_name(f"{path.name}.rewritten")
    with disk_errors(path):
        _copy(path, draft, lambda one: sqlite3.connect(one, isolation_level=None))
        with closing(sqlite3.connect(draft, isolation_level=None)) as connection:
            connection.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA secure_delete=ON")
            for table, column, old, new in [*_changed_texts(connection, rewriter)]:
                update = f'UPDATE "{table}" SET "{column}" = ? WHERE "{column}" = ?'  # noqa: S608 - names of our tables
                connection.execute(update, (new, old))
            connection.execute("VACUUM")
        _replace(path, draft)


def _changed_texts(connection: sqlite3.Connection, rewriter: TextRewriter) -> Iterator[tuple[str, str, str, str]]:
    """Yield table, column, old and new text of all that changes in a database."""
    tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    for (table,) in tables:
        for _, column, *_ in connection.execute(f'PRAGMA table_info("{table}")').fetchall():
            query = f'SELECT DISTINCT "{column}" FROM "{table}"'  # noqa: S608 - names of our tables
            for (value,) in connection.execute(query).fetchall():
                if isinstance(value, str) and (new := rewriter.text(value)) is not value:
                    yield table, column, value, new


@contextmanager
def _damage_of(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as exc:
        raise read_error(path, exc) from exc


def _copy(path: Path, draft: Path, open_database: Callable[[Path], sqlite3.Connection] = open_connection) -> None:
    """Make a copy of a whole database, and empty its write-ahead log."""
    draft.unlink(missing_ok=True)
    os.close(trusted_folders.open_file(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, trusted_folders.file_mode()))
    with closing(open_database(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("VACUUM INTO ?", (str(draft),))


def _replace(path: Path, draft: Path) -> None:
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    check_rename_allowed()
    draft.replace(path)
    for tail in _SIDECARS:
        path.with_name(path.name + tail).unlink(missing_ok=True)
    sync_folder(path.parent)


def _columns() -> list[tuple[str, str]]:
    return sorted(_ARROW | _JSON | _TEXT | _COMPRESSED_JSON)


def _rewrite_column(
    path: Path, connection: sqlite3.Connection, column: tuple[str, str], rewriter: TextRewriter
) -> None:
    table, name = column
    update = f"UPDATE {table} SET {name} = ? WHERE {_KEYS[table]} = ?"  # noqa: S608 - constants
    for key, content in _changes(path, connection, column, rewriter):
        connection.execute(update, (content, key))


def _changes(
    path: Path, connection: sqlite3.Connection, column: tuple[str, str], rewriter: TextRewriter
) -> Iterator[_Values]:
    """Yield what changes in a column of a table, by primary key."""
    table, name = column
    try:
        keys = connection.execute(f"SELECT {_KEYS[table]} FROM {table}").fetchall()  # noqa: S608 - constants
        query = f"SELECT {name} FROM {table} WHERE {_KEYS[table]} = ?"  # noqa: S608 - constants
        for (key,) in keys:
            (content,) = connection.execute(query, (key,)).fetchone()
            rewritten = _rewritten(content, column, rewriter)
            if rewritten is not content:
                yield key, rewritten
    except (sqlite3.DatabaseError, zlib.error, ValueError) as exc:
        raise read_error(path, exc) from exc


def _rewritten(content: Any, column: tuple[str, str], rewriter: TextRewriter) -> Any:
    """Return the content of a column with its texts rewritten; the same object if nothing changes."""
    if content is None:
        return None
    if column in _ARROW:
        batch = decode_batch(content)
        rewritten = rewrite_batch(batch, rewriter)
        return content if rewritten is batch else encode_batch(rewritten)
    if column in _COMPRESSED_JSON:
        text = zlib.decompress(content).decode()
        changed = rewrite_json(text, rewriter)
        return content if changed is text else zlib.compress(changed.encode(), 1)
    return rewrite_json(content, rewriter) if column in _JSON else rewriter.text(content)


def _fact(connection: sqlite3.Connection, name: str) -> Any:
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return None if row is None else json.loads(row[0])
