"""Read the files of a run as DataFrames: every cell as text, without the guards that protect spreadsheets."""

import csv
import io
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv

from telemetron_batch.domain.errors import PathError, system_error
from telemetron_batch.input.normalize import apply_to_text, unguarded
from telemetron_batch.input.own_reports import unguarded_cells

_ADVICE: Final = "write it again: report makes the files of a run from its journal"
_BLOCK_BYTES: Final = 1 << 24
_MAX_BLOCK_BYTES: Final = 1 << 30
_TEXT: Final = pd.StringDtype(na_value=np.nan)
"""The type that pandas gives to texts by itself."""


def read_frame(path: Path, delimiter: str = ",", *, is_guarded: bool = True) -> pd.DataFrame:
    """Return a file of a run as a DataFrame of texts; an empty cell is an empty text. Raises BatchError.

    With `is_guarded`, the apostrophe is removed that keeps a spreadsheet from running a cell as a formula.
    """
    try:
        with path.open("rb") as file:
            names = _header(file, delimiter)
            file.seek(0)
            if not names:
                raise PathError(f"{path} is empty", _ADVICE)
            table = _read(file, delimiter, len(names), path.stat().st_size)
    except (pa.ArrowInvalid, csv.Error, UnicodeError) as exc:
        raise PathError(f"{path} cannot be read ({exc})", _ADVICE) from exc
    except OSError as exc:
        raise system_error(exc) from exc
    if is_guarded:
        names = [apply_to_text(unguarded, name) for name in names]
        table = pa.Table.from_batches(map(unguarded_cells, table.to_batches()), table.schema)
    frame: pd.DataFrame = table.to_pandas(types_mapper={pa.string(): _TEXT}.get, split_blocks=True, self_destruct=True)
    frame.columns = pd.Index(names, dtype=_TEXT)  # set apart from the table, as names may repeat
    return frame


def _header(file: BinaryIO, delimiter: str) -> list[str]:
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    try:
        return next(csv.reader(text, delimiter=delimiter), [])
    finally:
        text.detach()


def _read(file: BinaryIO, delimiter: str, width: int, size: int) -> pa.Table:
    """Return the rows below the header; a block holds a row at least, however long its cells are."""
    names = [str(at) for at in range(width)]
    convert = pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
    parse = pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    block = _BLOCK_BYTES
    while True:
        read = pa.csv.ReadOptions(column_names=names, skip_rows_after_names=1, block_size=block, use_threads=False)
        try:
            return pa.csv.read_csv(file, read, parse, convert)
        except pa.ArrowInvalid:
            if block > min(size, _MAX_BLOCK_BYTES):
                raise
            block *= 4
            file.seek(0)
