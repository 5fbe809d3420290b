"""Read a Parquet file as blocks of texts: some rows of a row group at a time, whatever the size of the file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from telemetron_batch.domain.errors import InputError
from telemetron_batch.domain.model import InputOptions
from telemetron_batch.domain.printable import encodable, printable
from telemetron_batch.input.block import CellBlock
from telemetron_batch.input.dialect import MAX_COLUMNS, Dialect
from telemetron_batch.input.normalize import is_blank
from telemetron_batch.input.text_reader import last_record_text
from telemetron_batch.input.value_texts import reject_key_type, texts_of

_BLOCK_ROWS: Final = 50_000
_BLOCK_CELLS: Final = 2_000_000
_BLOCK_BYTES: Final = 16 << 20
_BUFFER_BYTES: Final = 1 << 20
_AGAIN: Final = "fetch or make the file again"


@contextmanager
def _errors() -> Iterator[None]:
    """Turn errors of the Parquet reader into InputError."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError, OverflowError) as exc:
        why = printable(encodable(str(exc).strip() or type(exc).__name__).splitlines()[0])
        if "crypt" in why:
            raise InputError(
                "is an encrypted Parquet file", "write it without encryption, or export it as CSV"
            ) from exc
        if isinstance(exc, pa.ArrowNotImplementedError | pa.ArrowKeyError):
            raise InputError(f"cannot be read as Parquet ({why})", "write it with plain types, or as CSV") from exc
        raise InputError(f"is a damaged Parquet file ({why})", _AGAIN) from exc


def column_names(path: Path) -> tuple[str, ...]:
    """Return the names of the columns. Raises InputError for a file that is damaged or too wide."""
    with _opened(path) as file:
        schema = file.schema_arrow
    if len(schema) > MAX_COLUMNS:
        raise InputError(f"has {len(schema)} columns, and at most {MAX_COLUMNS} are read", "export those of the list")
    return tuple(map(encodable, schema.names))


def reject_key_types(path: Path, dialect: Dialect) -> None:
    """Raise InputError if the type of a column shows that its values cannot be keys."""
    with _opened(path) as file:
        types = file.schema_arrow.types
    for column in dialect.columns.values():
        reject_key_type(f'"{dialect.header[column]}"', types[column])


def first_rows(path: Path, count: int) -> pa.RecordBatch:
    """Return the first rows as texts, one column for each name."""
    names = [str(at) for at in range(len(column_names(path)))]
    with _opened(path) as file:
        batch = next(_batches(file, count), None)
        if batch is None:
            return pa.record_batch([pa.array([], pa.string()) for _ in names], names=names)
        return _as_texts(batch.slice(0, count))


def read_rows(path: Path, options: InputOptions) -> Iterator[CellBlock]:
    """Yield the rows; `lines` are their numbers, from 1. Raises InputError for a file that is damaged."""
    with _opened(path) as file:
        expected, row = file.metadata.num_rows, 0
        for batch in _batches(file, _rows_at_a_time(file)):
            with _errors():
                cells = _as_texts(batch)
            lines = np.arange(row + 1, row + 1 + len(batch), dtype=np.int64)
            row += len(batch)
            yield CellBlock(lines, cells, {}, _last_record(cells, options))
        if row != expected:
            raise InputError(f"is a damaged Parquet file (it has {row} rows, and says {expected})", _AGAIN)


def _opened(path: Path) -> Any:
    with _errors():
        return pq.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER_BYTES)


def _rows_at_a_time(file: pq.ParquetFile) -> int:
    """Return how many rows make a block of bounded size."""
    groups = [file.metadata.row_group(at) for at in range(file.metadata.num_row_groups)]
    widest = max((group.total_byte_size // max(1, group.num_rows) for group in groups), default=0)
    columns = max(1, len(file.schema_arrow))
    return int(max(1, min(_BLOCK_ROWS, _BLOCK_CELLS // columns, _BLOCK_BYTES // max(1, widest))))


def _batches(file: pq.ParquetFile, rows: int) -> Iterator[pa.RecordBatch]:
    with _errors():
        batches = file.iter_batches(batch_size=rows, use_threads=False)
    while True:
        with _errors():
            batch = next(batches, None)
        if batch is None:
            return
        if len(batch):
            yield batch


def _as_texts(batch: pa.RecordBatch) -> pa.RecordBatch:
    return pa.record_batch(
        [texts_of(column) for column in batch.columns], names=[str(at) for at in range(batch.num_columns)]
    )


def _last_record(cells: pa.RecordBatch, options: InputOptions) -> tuple[str, ...]:
    """Return the last row that is not blank as one text, if a trailer is expected."""
    for row in range(len(cells) - 1, -1, -1) if options.trailer_count is not None else ():
        texts = [column[row].as_py() for column in cells.columns]
        if not all(map(is_blank, texts)):
            return (last_record_text(texts, ";"),)
    return ()
