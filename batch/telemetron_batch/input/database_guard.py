"""Decide what a query may do in SQLite, where a setting alone does not keep it from writing files."""

import sqlite3
from typing import Final

_WRITING_PRAGMAS: Final = ("journal_mode", "wal_checkpoint", "query_only", "auto_vacuum", "writable_schema")


def authorize_sqlite(action: int, name: str | None, value: str | None, *_: str | None) -> int:
    """Deny what SQLite does to files in spite of `query_only`: ATTACH, also that of VACUUM INTO, and some settings."""
    is_setting = action == sqlite3.SQLITE_PRAGMA and (name or "").lower() in _WRITING_PRAGMAS
    is_denied = action == sqlite3.SQLITE_ATTACH or (is_setting and value is not None)
    return sqlite3.SQLITE_DENY if is_denied else sqlite3.SQLITE_OK
