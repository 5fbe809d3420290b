"""Answers as columns: one entry for each answer, and one device id for each row.

No answer is kept as a Python object, and large texts go to temporary files.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.answers import ANSWER_FIELDS, FieldKind
from telemetron_batch.domain.arrays import Ints
from telemetron_batch.journal.codec import ARROW_TYPES
from telemetron_batch.reconciliation.format_columns import format_bools, format_counts, format_timestamps
from telemetron_batch.storage.spill import PartitionedTable, Scratch

_TYPES: Final = {**ARROW_TYPES, FieldKind.TEXT: pa.large_string()}
_SCHEMA: Final = pa.schema([(field.name, _TYPES[field.kind]) for field in ANSWER_FIELDS])
"""Null means unknown."""

Entry = npt.NDArray[np.int32]


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerTable:
    """The request-level fields of answers, one entry for each answer; entry 0 stands for "no answer"."""

    counts: Mapping[str, npt.NDArray[np.int32]]
    """By column name; -1 means unknown."""
    tristates: Mapping[str, npt.NDArray[np.int8]]
    """By column name; 0 unknown, 1 no, 2 yes."""
    formatted: Mapping[str, pa.Array]
    """Texts and times as texts, by column name."""

    def texts(self, entry: Entry) -> dict[str, pa.Array]:
        """Return one text for each of the given entries, by column name."""
        index = pa.array(entry)
        return {
            **{name: format_counts(counts[entry]) for name, counts in self.counts.items()},
            **{name: format_bools(tristates[entry]) for name, tristates in self.tristates.items()},
            **{name: pc.cast(texts.take(index), pa.string()) for name, texts in self.formatted.items()},
        }


class AnswerTableBuilder:
    """Collects the entries of an `AnswerTable`."""

    def __init__(self) -> None:
        self._tables = [pa.Table.from_pylist([{}], _SCHEMA)]
        self._size = 1

    def add(self, answers: pa.Table) -> Entry:
        """Append an entry for each answer and return the positions of the new entries."""
        first = self._size
        self._tables.append(answers.select(_SCHEMA.names).cast(_SCHEMA))
        self._size += answers.num_rows
        return np.arange(first, self._size, dtype=np.int32)

    def add_unsettled(self, attempts: int, *, unclear: int) -> int:
        """Append an entry for a call without a result; return its position. `unclear` attempts may have acted."""
        counts = {"attempts": attempts, "unclearAttempts": unclear}
        return int(self.add(pa.Table.from_pylist([counts], _SCHEMA))[0])

    def entries(self) -> AnswerTable:
        """Return all entries."""
        table = pa.concat_tables(self._tables).combine_chunks().to_batches()[0]
        return AnswerTable(
            counts={name: pc.fill_null(table[name], -1).to_numpy() for name in _names(FieldKind.COUNT)},
            tristates={name: _flags(table[name]) for name in _names(FieldKind.FLAG)},
            formatted={name: pc.fill_null(table[name], "") for name in _names(FieldKind.TEXT)}
            | {name: format_timestamps(table[name]) for name in _names(FieldKind.TIME)},
        )


def _names(kind: FieldKind) -> list[str]:
    return [field.name for field in ANSWER_FIELDS if field.kind is kind]


def _flags(column: pa.Array) -> npt.NDArray[np.int8]:
    """Return booleans as 0 unknown, 1 no, 2 yes."""
    numbers = pc.add(pc.cast(column, pa.int8()), pa.scalar(1, pa.int8()))
    tristates: npt.NDArray[np.int8] = pc.fill_null(numbers, 0).to_numpy()
    return tristates


class SparseTextColumn:
    """A column of texts for some of the rows: written in any order, read in row order."""

    def __init__(self, scratch: Scratch, rows: int) -> None:
        self._scratch = scratch
        self._partitions = PartitionedTable(scratch)
        self._rows = rows
        self._width = max(1, -(-rows // scratch.parts))
        self._windows: dict[int, pa.RecordBatch | Path] = {}
        self._cached: tuple[int, pa.RecordBatch] | None = None

    def add(self, rows: Ints, texts: pa.Array) -> None:
        """Add the texts of some rows."""
        window = (rows // self._width).astype(np.uint64)
        self._partitions.add(pa.record_batch({"row": pa.array(rows, pa.int64()), "text": texts}), window)

    def close(self) -> None:
        """Prepare the column for reading; nothing can be added afterwards."""
        for table in self._partitions.drain_parts():
            rows = table["row"].to_numpy()
            low, high = (int(row) // self._width for row in (rows.min(), rows.max()))
            first, end = low * self._width, min((high + 1) * self._width, self._rows)
            index = np.zeros(end - first, np.int64)
            index[rows - first] = np.arange(1, len(rows) + 1)
            texts = pa.concat_arrays([pa.array([""]), *table["text"].chunks]).take(pa.array(index))
            whole = pa.record_batch({"text": texts})
            for number in range(low, high + 1):
                self._windows[number] = self._spill(whole.slice((number - low) * self._width, self._width))

    def texts(self, first: int, end: int) -> pa.Array:
        """Return the texts of a range of rows; "" for rows without a text."""
        found = [self._of_window(number, first, end) for number in range(first // self._width, -(-end // self._width))]
        return pa.concat_arrays([pa.array([], pa.string()), *found])

    def _of_window(self, number: int, first: int, end: int) -> pa.Array:
        """Return the texts of the rows of a range that lie in one window."""
        first, end = max(first, number * self._width), min(end, (number + 1) * self._width)
        batch = self._read(number)
        if batch is None:
            return pa.repeat("", end - first)
        return batch["text"].slice(first - number * self._width, end - first)

    def _read(self, number: int) -> pa.RecordBatch | None:
        batch = self._windows.get(number)
        if not isinstance(batch, Path):
            return batch
        if self._cached is None or self._cached[0] != number:
            with pa.OSFile(os.fsencode(batch)) as file, pa.ipc.open_stream(file) as stream:
                self._cached = number, stream.read_next_batch()
        return self._cached[1]

    def _spill(self, batch: pa.RecordBatch) -> pa.RecordBatch | Path:
        if self._scratch.fits(batch.nbytes * self._scratch.parts):
            return batch
        path = self._scratch.path()
        with path.open("xb") as file, pa.ipc.new_stream(file, batch.schema) as writer:
            writer.write_batch(batch)
        return path
