"""Write rows that come from a database or a DataFrame as the file that a run reads, every value as exact text.

The rows come and go in batches, so only some of them are in memory. Imports nothing of Airflow.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from telemetron_batch.domain.errors import InputError

if TYPE_CHECKING:
    from telemetron_batch.domain.model import InputOptions

Rows = Iterable[Sequence[Any]]
SUFFIX: Final = ".parquet"
_BATCH: Final = 5_000
_MARKS: Final = ("NAType", "NaTType")
"""Types of the values by which pandas marks a missing value."""


def write_rows(names: Sequence[str], batches: Iterable[Rows], target: Path, options: "InputOptions") -> int:
    """Write all rows to a file, and return their number.

    Raises InputError for a missing column, and for a key whose value may not be what the source had.
    """
    from telemetron_batch.input.row_snapshot import write_snapshot

    return write_snapshot(names, batches, target, options)


def frame_rows(frame: Any) -> tuple[list[str], Iterator[Rows]]:
    """Return the names of the columns of a DataFrame of pandas or polars, and its rows. Raises InputError."""
    names = [str(name) for name in getattr(frame, "columns", ())]
    if hasattr(frame, "itertuples"):
        rows = frame.itertuples(index=False, name=None)
    elif hasattr(frame, "iter_rows"):
        rows = frame.iter_rows()
    else:
        advice = "return a DataFrame of pandas or polars, a path, or a list of paths"
        raise InputError(f"the function returned {type(frame).__name__}, which has no rows", advice)
    return names, _batches(rows)


def _batches(rows: Iterator[Sequence[Any]]) -> Iterator[Rows]:
    while batch := [*islice(rows, _BATCH)]:
        yield [tuple(map(_plain, row)) for row in batch]


def _plain(value: Any) -> Any:
    """Return a value of a frame as a database would give it: None if it is missing, and no type of numpy."""
    if value is None or type(value).__name__ in _MARKS or (isinstance(value, float) and value != value):
        return None
    return value.item() if type(value).__module__ == "numpy" and hasattr(value, "item") else value
