"""What answers say, as columns in the making: one entry an answer, and one text a row.

Keeps few of them as Python objects, and texts that come to much in files. Knows no
outcome and no rule.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from batch.model import Answer
from batch.storage.scratch import Scratch, Spread

_CHUNK: Final = 1 << 16
_TYPES: Final[Mapping[str, pa.DataType]] = {
    "customerId": pa.large_string(),
    "customerWasCreated": pa.bool_(),
    "attempts": pa.int32(),
    "unclearAttempts": pa.int32(),
    "httpStatus": pa.int32(),
    "answeredAt": pa.float64(),
}

Ints = npt.NDArray[np.int64]


class Answers:
    """What answers say of whole requests, one entry each; entry 0 stands for no answer."""

    def __init__(self) -> None:
        self._columns = {name: _Values(kind) for name, kind in _TYPES.items()}
        self._size = 0
        self._append("", None, None, None, None, None)

    def add(self, answer: Answer) -> int:
        """Append an entry; gives its place."""
        counted = answer.attempts, answer.unclear_attempts, answer.http_status, answer.answered_at
        return self._append(answer.customer_id, answer.customer_was_created, *counted)

    def columns(self) -> dict[str, pa.Array]:
        """The entries by column: texts, flags, whole numbers, seconds since the epoch; null where nothing is known."""
        return {name: values.array() for name, values in self._columns.items()}

    def _append(self, *entry: Any) -> int:
        for column, value in zip(self._columns.values(), entry, strict=True):
            column.add(value)
        self._size += 1
        return self._size - 1


class _Values:
    def __init__(self, kind: pa.DataType) -> None:
        self._kind = kind
        self._chunks: list[pa.Array] = []
        self._pending: list[Any] = []

    def add(self, value: Any) -> None:
        self._pending.append(value)
        if len(self._pending) >= _CHUNK:
            self._store()

    def array(self) -> pa.Array:
        self._store()
        self._chunks = [pa.concat_arrays(self._chunks)]
        return self._chunks[0]

    def _store(self) -> None:
        self._chunks.append(pa.array(self._pending, self._kind))
        self._pending = []


class RowTexts:
    """A text for some of the rows, given in any order and then read in the order of the rows."""

    def __init__(self, scratch: Scratch, rows: int) -> None:
        self._scratch = scratch
        self._spread = Spread(scratch)
        self._rows: list[int] = []
        self._texts: list[str] = []
        self._width = max(1, -(-rows // scratch.room.parts))
        self._windows: dict[int, pa.RecordBatch | Path] = {}
        self._seen: tuple[int, pa.RecordBatch] | None = None

    def add(self, rows: Sequence[int], texts: Sequence[str]) -> None:
        """Say the texts of some rows."""
        self._rows += rows
        self._texts += texts
        if len(self._rows) >= _CHUNK:
            self._store()

    def close(self) -> None:
        """Make them ready to be read; no more can be added."""
        self._store()
        for table in self._spread.parts():
            table = table.sort_by("row")
            window = np.asarray(table["row"].to_numpy() // self._width)
            cuts = [*np.flatnonzero(np.diff(window, prepend=-1)).tolist(), len(window)]
            for first, end in pairwise(cuts):
                part = table.slice(first, end - first).combine_chunks().to_batches()[0]
                self._windows[int(window[first])] = self._kept(part)

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
        rows = held["row"].to_numpy()
        start, stop = np.searchsorted(rows, [first, end]).tolist()
        place = np.full(end - first, -1)
        place[rows[start:stop] - first] = np.arange(start, stop)
        texts = held["text"].take(pa.array(place, mask=place < 0))
        return texts.fill_null("")

    def _read(self, number: int) -> pa.RecordBatch | None:
        held = self._windows.get(number)
        if not isinstance(held, Path):
            return held
        if self._seen is None or self._seen[0] != number:
            with pa.OSFile(str(held)) as file, pa.ipc.open_stream(file) as stream:
                self._seen = number, stream.read_next_batch()
        return self._seen[1]

    def _kept(self, batch: pa.RecordBatch) -> pa.RecordBatch | Path:
        if self._scratch.fits(batch.nbytes * self._scratch.room.parts):
            return batch
        path = self._scratch.path()
        with path.open("xb") as file, pa.ipc.new_stream(file, batch.schema) as writer:
            writer.write_batch(batch)
        return path

    def _store(self) -> None:
        batch = pa.record_batch({"row": pa.array(self._rows, pa.int64()), "text": pa.array(self._texts, pa.string())})
        self._spread.add(batch, np.asarray(batch["row"].to_numpy() // self._width).astype(np.uint64))
        self._rows, self._texts = [], []
