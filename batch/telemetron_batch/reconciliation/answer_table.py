"""What answers say, as columns: one entry an answer, and one text a row.

Keeps none of them as Python objects, and texts that come to much in files. Knows no
outcome and no rule.
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

from telemetron_batch.reconciliation.format_columns import format_bools, format_counts, format_timestamps
from telemetron_batch.storage.spill import PartitionedTable, Scratch

_COUNTS: Final = ("attempts", "unclearAttempts", "httpStatus", "devicesRemaining")
_SCHEMA: Final = pa.schema(
    [
        pa.field("customerId", pa.large_string()),
        pa.field("customerWasCreated", pa.bool_()),
        *(pa.field(name, pa.int32()) for name in _COUNTS),
        pa.field("answeredAt", pa.float64()),
    ]
)
"""Null: not known."""

Ints = npt.NDArray[np.int64]
Entry = npt.NDArray[np.int32]


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerTable:
    """What answers say of whole requests, one entry each; entry 0 stands for no answer."""

    customer_id: pa.Array
    answered_at: pa.Array
    customer_was_created: npt.NDArray[np.int8]
    """0 not told, 1 no, 2 yes."""
    counts: Mapping[str, npt.NDArray[np.int32]]
    """By name of column; -1: not told."""

    def texts(self, entry: Entry) -> dict[str, pa.Array]:
        """What entries say, one for each that is named, by name of column."""
        at = pa.array(entry)
        return {
            "customerId": pc.cast(self.customer_id.take(at), pa.string()),
            "customerWasCreated": format_bools(self.customer_was_created[entry]),
            **{name: format_counts(counts[entry]) for name, counts in self.counts.items()},
            "answeredAt": self.answered_at.take(at),
        }


class AnswerTableBuilder:
    """Entries in the making."""

    def __init__(self) -> None:
        self._tables = [pa.Table.from_pylist([{}], _SCHEMA)]
        self._size = 1

    def add(self, answers: pa.Table) -> Entry:
        """Append an entry for each record, of which the columns of whole requests count; gives their places."""
        first = self._size
        self._tables.append(answers.select(_SCHEMA.names).cast(_SCHEMA))
        self._size += answers.num_rows
        return np.arange(first, self._size, dtype=np.int32)

    def add_unanswered(self, attempts: int) -> int:
        """Append an entry for so many attempts that brought no answer; gives its place."""
        counts = {"attempts": attempts, "unclearAttempts": attempts}
        return int(self.add(pa.Table.from_pylist([counts], _SCHEMA))[0])

    def add_refused(self, attempts: int) -> int:
        """Append an entry for so many attempts that were refused; gives its place."""
        return int(self.add(pa.Table.from_pylist([{"attempts": attempts, "unclearAttempts": 0}], _SCHEMA))[0])

    def entries(self) -> AnswerTable:
        """All of them."""
        told = pa.concat_tables(self._tables).combine_chunks().to_batches()[0]
        created = pc.add(pc.cast(told["customerWasCreated"], pa.int8()), pa.scalar(1, pa.int8()))
        return AnswerTable(
            customer_id=pc.fill_null(told["customerId"], ""),
            answered_at=format_timestamps(told["answeredAt"]),
            customer_was_created=pc.fill_null(created, 0).to_numpy(),
            counts={name: pc.fill_null(told[name], -1).to_numpy() for name in _COUNTS},
        )


class SparseTextColumn:
    """A text for some of the rows, given in any order and then read in the order of the rows."""

    def __init__(self, scratch: Scratch, rows: int) -> None:
        self._scratch = scratch
        self._spread = PartitionedTable(scratch)
        self._rows = rows
        self._width = max(1, -(-rows // scratch.parts))
        self._windows: dict[int, pa.RecordBatch | Path] = {}
        self._seen: tuple[int, pa.RecordBatch] | None = None

    def add(self, rows: Ints, texts: pa.Array) -> None:
        """Say the texts of some rows."""
        window = (rows // self._width).astype(np.uint64)
        self._spread.add(pa.record_batch({"row": pa.array(rows, pa.int64()), "text": texts}), window)

    def close(self) -> None:
        """Make them ready to be read; no more can be added."""
        for table in self._spread.drain_parts():
            rows = table["row"].to_numpy()
            low, high = (int(row) // self._width for row in (rows.min(), rows.max()))
            first, end = low * self._width, min((high + 1) * self._width, self._rows)
            place = np.zeros(end - first, np.int64)
            place[rows - first] = np.arange(1, len(rows) + 1)
            texts = pa.concat_arrays([pa.array([""]), *table["text"].chunks]).take(pa.array(place))
            whole = pa.record_batch({"text": texts})
            for number in range(low, high + 1):
                self._windows[number] = self._spill(whole.slice((number - low) * self._width, self._width))

    def texts(self, first: int, end: int) -> pa.Array:
        """The texts of a range of rows, "" for those that have none."""
        found = [self._of_window(number, first, end) for number in range(first // self._width, -(-end // self._width))]
        return pa.concat_arrays([pa.array([], pa.string()), *found])

    def _of_window(self, number: int, first: int, end: int) -> pa.Array:
        """The texts of those rows of a range that are in one window."""
        first, end = max(first, number * self._width), min(end, (number + 1) * self._width)
        held = self._read(number)
        if held is None:
            return pa.repeat("", end - first)
        return held["text"].slice(first - number * self._width, end - first)

    def _read(self, number: int) -> pa.RecordBatch | None:
        held = self._windows.get(number)
        if not isinstance(held, Path):
            return held
        if self._seen is None or self._seen[0] != number:
            with pa.OSFile(os.fsencode(held)) as file, pa.ipc.open_stream(file) as stream:
                self._seen = number, stream.read_next_batch()
        return self._seen[1]

    def _spill(self, batch: pa.RecordBatch) -> pa.RecordBatch | Path:
        if self._scratch.fits(batch.nbytes * self._scratch.parts):
            return batch
        path = self._scratch.path()
        with path.open("xb") as file, pa.ipc.new_stream(file, batch.schema) as writer:
            writer.write_batch(batch)
        return path
