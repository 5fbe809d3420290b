"""Find the columns of a DataFrame, and with them how to read the file that was written from it.

The file is ours: commas, one line for the header, and all rows below it. So only the columns are looked for.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from telemetron_batch.domain.errors import InputError
from telemetron_batch.domain.model import InputOptions
from telemetron_batch.domain.printable import printable
from telemetron_batch.input.dialect import (
    MAX_COLUMNS,
    Dialect,
    HeaderCandidate,
    clean_header,
    dialect_of,
    listed,
    match_columns,
    reject_ambiguous,
    required_fields,
)

FRAME: Final = "frame"
"""The name of a DataFrame as an input."""
_MAX_NAMES: Final = 20
_MAX_LETTERS: Final = 40


def frame_dialect(names: Sequence[str], options: InputOptions, *, body_offset: int = 0) -> Dialect:
    """Return the dialect of a file with the columns of a frame; the first row has the number 1.

    Raises InputError if a required column is missing or found twice, ConfigError if an option is invalid.
    """
    if len(names) > MAX_COLUMNS:
        raise InputError(f"{len(names)} columns, and at most {MAX_COLUMNS} are read", "select columns first")
    cells = tuple(map(clean_header, names))
    candidate = HeaderCandidate(cells, 1, 0, ",", match_columns(cells, options))
    missing = [field for field in required_fields(options) if not candidate.matches[field]]
    if missing:
        raise InputError(f"no column for {listed(missing)}; {_shown(cells)}", _advice(missing))
    reject_ambiguous(candidate, "utf-8", options)
    return replace(dialect_of(candidate, body_offset, options), numbers_records=True)


def _shown(names: Sequence[str]) -> str:
    listed = ", ".join(f'"{printable(name[:_MAX_LETTERS])}"' for name in names[:_MAX_NAMES])
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return f"its columns are {listed}{more}" if names else "it has no columns"


def _advice(missing: Sequence[str]) -> str:
    columns = ", ".join(f'"{field}": "..."' for field in missing)
    advice = [f"rename the columns, or say which they are: column={{{columns}}}"]
    if "action" in missing:
        advice.append('give action="assign" or action="unassign" for all rows')
    return "; or ".join(advice)
