"""A column of texts for some of the rows, which spills to files."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa

from telemetron_batch.domain.arrays import Ints
from telemetron_batch.storage.spill import PartitionedTable, Scratch


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
