"""Rows as columns: the shape in which the loader hands rows to everyone else.

A row is never a Python object. It is a position in these columns, counted from 0 in
input order across all files of the run.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

KEY_SCHEMA: Final = pa.schema(
    [
        pa.field("line", pa.int64(), nullable=False),
        pa.field("customerEmail", pa.string(), nullable=False),
        pa.field("deviceIdentifier", pa.string(), nullable=False),
        pa.field("action", pa.int8(), nullable=False),
        pa.field("actionWord", pa.string(), nullable=False),
        pa.field("deviceType", pa.string(), nullable=False),
        pa.field("problem", pa.int8(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
    ]
)
"""What the program itself needs of each row.

line              the file's line on which the record begins (a workbook's row number)
customerEmail     trimmed and lowercased; of an invalid row as far as it could be read
deviceIdentifier  trimmed and unwrapped, otherwise exactly as written
action            `Action.code`, or `NO_ACTION`
actionWord        the word that said so, as written; "" where an option said it for all rows
deviceType        "" unless devices are created automatically
problem           `Problem`; 0 for a valid row
detail            why the row is invalid, in words; "" for a valid row
"""


@dataclass(frozen=True, slots=True)
class RowBlock:
    """A run of consecutive rows of one file.

    `keys` has `KEY_SCHEMA`. `cells` has one string column for each header of the file,
    named "0", "1", ... by position (headers may repeat), holding the cells as written.
    Both have one record a row.
    """

    file: int
    """Position in the list of input files."""
    keys: pa.RecordBatch
    cells: pa.RecordBatch


@dataclass(frozen=True, slots=True)
class Rows:
    """All rows of a run, with customers, devices and types as integer codes.

    frame     one record a row, RangeIndex in input order:
              line int64, file int32, customer int32, device int32, action int8,
              device_type int32, problem int8
    customers, devices, device_types   distinct texts; a code is a position in them
    """

    frame: pd.DataFrame
    customers: pa.Array
    devices: pa.Array
    device_types: pa.Array

    def __len__(self) -> int:
        return len(self.frame)


class RowsBuilder:
    """Takes key columns block by block and gives `Rows`; keeps no other column."""

    def __init__(self) -> None:
        self._lines: list[np.ndarray] = []
        self._files: list[np.ndarray] = []
        self._actions: list[np.ndarray] = []
        self._problems: list[np.ndarray] = []
        self._texts: dict[str, list[pa.Array]] = {
            "customerEmail": [],
            "deviceIdentifier": [],
            "deviceType": [],
        }

    def add(self, file: int, keys: pa.RecordBatch) -> None:
        """Append the rows of one block (`keys` as in `RowBlock`)."""
        self._lines.append(keys["line"].to_numpy())
        self._files.append(np.full(keys.num_rows, file, dtype=np.int32))
        self._actions.append(keys["action"].to_numpy())
        self._problems.append(keys["problem"].to_numpy())
        for name, chunks in self._texts.items():
            chunks.append(pc.dictionary_encode(keys[name]))

    def rows(self) -> Rows:
        """All rows added so far."""
        customer, customers = _codes(self._texts["customerEmail"])
        device, devices = _codes(self._texts["deviceIdentifier"])
        device_type, device_types = _codes(self._texts["deviceType"])
        frame = pd.DataFrame(
            {
                "line": _joined(self._lines, np.int64),
                "file": _joined(self._files, np.int32),
                "customer": customer,
                "device": device,
                "action": _joined(self._actions, np.int8),
                "device_type": device_type,
                "problem": _joined(self._problems, np.int8),
            },
            copy=False,
        )
        return Rows(frame, customers, devices, device_types)


def _joined(chunks: list[np.ndarray], dtype: type[np.generic]) -> np.ndarray:
    return np.concatenate(chunks) if chunks else np.empty(0, dtype=dtype)


def _codes(chunks: list[pa.Array]) -> tuple[np.ndarray, pa.Array]:
    """Integer codes across all chunks, and the distinct texts they stand for."""
    if not chunks:
        return np.empty(0, dtype=np.int32), pa.array([], pa.string())
    unified = pa.chunked_array(chunks).unify_dictionaries()
    codes = np.concatenate([chunk.indices.to_numpy() for chunk in unified.chunks])
    return codes, unified.chunk(unified.num_chunks - 1).dictionary
