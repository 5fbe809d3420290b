"""Decide what a query may do in SQLite, where a setting alone does not keep it from writing files."""

from typing import Final

_ALLOW: Final = 0
_DENY: Final = 1
_PRAGMA: Final = 19
_ATTACH: Final = 24
"""Numbers of SQLite's interface in C, which never change."""
_WRITING_PRAGMAS: Final = ("journal_mode", "wal_checkpoint", "query_only", "auto_vacuum", "writable_schema")


def authorize_sqlite(action: int, name: str | None, value: str | None, *_: str | None) -> int:
    """Deny what SQLite does to files in spite of `query_only`: ATTACH, also that of VACUUM INTO, and some settings."""
    is_setting = action == _PRAGMA and (name or "").lower() in _WRITING_PRAGMAS
    return _DENY if action == _ATTACH or (is_setting and value is not None) else _ALLOW
