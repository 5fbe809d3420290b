"""Keep rows that come from a program, such as the cursor of a database, as a file that is read like any other input.

The file is Parquet with texts only. It gets its name only when it is complete, so that half a result is never used.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq

from telemetron_batch.domain.errors import InputError, SourceError
from telemetron_batch.domain.model import InputOptions
from telemetron_batch.domain.printable import encodable
from telemetron_batch.domain.stops import Advice
from telemetron_batch.input.database_types import TypedText
from telemetron_batch.input.dialect import Dialect, find_named_columns
from telemetron_batch.input.excerpt import printable_excerpt
from telemetron_batch.input.value_texts import json_text
from telemetron_batch.storage.atomic_file import atomic_write

Rows = Iterable[Sequence[Any]]
"""Some rows: a value for each column."""
_GROUP_ROWS: Final = 50_000
_GROUP_CELLS: Final = 1_000_000
_ADVICE: Final = (
    'name the columns in the query, as in SELECT mail AS "customerEmail", or say which they are with --column'
)


def write_snapshot(names: Sequence[str], batches: Iterable[Rows], target: Path, options: InputOptions) -> int:
    """Write all rows to `target` as texts, and return their number.

    `names` are those of the columns, `batches` yields any number of rows at a time; only some of them are in memory.
    What `batches` raises is passed on, and there is no file then. Raises InputError where the columns that `options`
    need are missing, and for a key that is neither text nor a whole number; DiskError.
    """
    dialect = _dialect(names, options)
    keys = {at: dialect.header[at] for at in dialect.columns.values()}
    schema = pa.schema([pa.field(encodable(name), pa.string()) for name in names])
    written = 0
    with atomic_write(target) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for rows in _groups(_given(batches), max(1, min(_GROUP_ROWS, _GROUP_CELLS // len(names)))):
            _reject_keys(rows, keys, written)
            columns = [_texts(rows, at, name, written) for at, name in enumerate(names)]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
            written += len(rows)
    return written


def _dialect(names: Sequence[str], options: InputOptions) -> Dialect:
    try:
        return find_named_columns(names, "sql", options)
    except InputError as exc:
        raise InputError(exc.reason, _ADVICE) from exc


def _given(batches: Iterable[Rows]) -> Iterator[Rows]:
    """Yield the batches. Raises SourceError where a connection breaks, which would pass for an error of the disk."""
    try:
        yield from batches
    except OSError as exc:
        what = f"the rows ended early ({exc.strerror or exc}); nothing was sent"
        raise SourceError(what, Advice(repeat=True)) from exc


def _groups(batches: Iterable[Rows], size: int) -> Iterator[list[Sequence[Any]]]:
    """Yield `size` rows at a time, however many rows come in a batch: so the same rows always give the same file."""
    group: list[Sequence[Any]] = []
    for rows in batches:
        for row in rows:
            group.append(row)
            if len(group) == size:
                yield group
                group = []
    if group:
        yield group


def _reject_keys(rows: Sequence[Sequence[Any]], keys: dict[int, str], before: int) -> None:
    """Raise InputError for the first key that is neither a text nor a whole number; `before` is the rows before."""
    for at, name in keys.items():
        for number, row in enumerate(rows, start=before + 1):
            if type(row[at]) is not str and not _may_be_key(row[at]):
                kind, shown = type(row[at]).__name__, printable_excerpt(value_text(row[at]))
                raise InputError(
                    f'row {number} has {shown} ({kind}) in "{name}", and texts or whole numbers are expected',
                    "cast it in the query, as in CAST(serial AS VARCHAR), if it is still exact there",
                )


def _may_be_key(value: Any) -> bool:
    if isinstance(value, Decimal):
        exponent = value.as_tuple().exponent
        return isinstance(exponent, int) and exponent >= 0
    if isinstance(value, TypedText):
        return False
    return value is None or isinstance(value, str | UUID) or (isinstance(value, int) and not isinstance(value, bool))


def _texts(rows: Sequence[Sequence[Any]], at: int, name: str, before: int) -> pa.Array:
    texts = [value_text(row[at]) for row in rows]
    try:
        return pa.array(texts, pa.string())
    except UnicodeEncodeError as exc:
        number = before + 1 + next(row for row, text in enumerate(texts) if encodable(text) != text)
        raise InputError(f'row {number} has text in "{name}" that is not Unicode', "cast it in the query") from exc


def value_text(value: Any) -> str:
    """Return a value of a database as exactly one text; None becomes an empty one."""
    if type(value) is str:  # nearly all values
        return value
    kind = type(value)
    if kind not in _TEXT_OF_TYPE:
        _TEXT_OF_TYPE[kind] = next((text_of for base, text_of in _TEXTS_OF if issubclass(kind, base)), str)
    return _TEXT_OF_TYPE[kind](value)


_TEXT_OF_TYPE: Final[dict[type, Callable[[Any], str]]] = {}
"""The entry of `_TEXTS_OF` for each type that was met."""
_TEXTS_OF: Final[tuple[tuple[Any, Callable[[Any], str]], ...]] = (
    (type(None), lambda _: ""),
    (bool, lambda value: "true" if value else "false"),
    (int, lambda value: format(value, "d")),
    (float, lambda value: repr(value).removesuffix(".0")),
    (Decimal, lambda value: format(value, "f")),
    (datetime, lambda value: value.isoformat(sep=" ")),
    ((date, time), lambda value: value.isoformat()),
    ((bytes, bytearray, memoryview), lambda value: f"\\x{bytes(value).hex()}"),
    ((list, tuple, dict), json_text),
)
"""How the values of a type become text; the first type that fits counts."""
