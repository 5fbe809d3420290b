"""Write rows that come from a database or a DataFrame as the file that a run reads, every value as exact text.

The rows come and go in batches, so only some of them are in memory. Imports nothing of Airflow.
"""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from telemetron_batch.domain.errors import InputError

if TYPE_CHECKING:
    from telemetron_batch.domain.model import InputOptions

Rows = Iterable[Sequence[Any]]
_BATCH: Final = 5_000


def write_rows(names: Sequence[str], batches: Iterable[Rows], target: Path, options: "InputOptions") -> int:
    """Write all rows to a CSV file, and return their number.

    Raises InputError for a missing column, and for a key whose value may not be what the source had.
    """
    from telemetron_batch.input.dialect import find_dialect
    from telemetron_batch.storage.atomic_file import disk_errors_in

    written = 0
    with disk_errors_in(target.parent), target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow(names)
        file.flush()
        keys = {at: names[at] for at in find_dialect(target.read_bytes(), "utf-8", options).columns.values()}
        for rows in batches:
            for row in rows:
                written += 1
                _require_exact_keys(row, keys, written)
                writer.writerow([value_text(value) for value in row])
    return written


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
        yield batch


def _require_exact_keys(row: Sequence[Any], keys: Mapping[int, str], number: int) -> None:
    """Raise InputError for a key that is neither a text nor a whole number."""
    for at, name in keys.items():
        value = row[at]
        if _is_missing(value) or isinstance(value, str):
            continue
        is_whole = isinstance(value, Decimal) and value == value.to_integral_value()
        if isinstance(value, bool | float | datetime | date | time | bytes) or (
            isinstance(value, Decimal) and not is_whole
        ):
            shown = f"{value_text(value)} ({type(value).__name__})"
            advice = "cast it to a text at the source, if it is still exact there"
            raise InputError(f'row {number} has {shown} in "{name}": texts or whole numbers are expected', advice)


def value_text(value: Any) -> str:
    """Return a value as exactly one text; a missing one becomes an empty text."""
    if type(value) is str:  # nearly all values
        return value
    if _is_missing(value):
        return ""
    text_of = next((text_of for kind, text_of in _TEXTS_OF if isinstance(value, kind)), str)
    return text_of(value)


def _is_missing(value: Any) -> bool:
    """Return whether a value is None, NaN, or a mark of pandas for a missing value."""
    return (
        value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value)
    )


_TEXTS_OF: Final[tuple[tuple[Any, Callable[[Any], str]], ...]] = (
    (bool, lambda value: "true" if value else "false"),
    (float, lambda value: repr(float(value)).removesuffix(".0")),
    (Decimal, lambda value: format(value, "f")),
    (datetime, lambda value: value.isoformat(sep=" ")),
    ((date, time), lambda value: value.isoformat()),
    ((bytes, bytearray, memoryview), lambda value: f"\\x{bytes(value).hex()}"),
)
"""How the values of a type become text; the first type that fits counts."""
