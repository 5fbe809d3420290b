"""Columns and tables that spill to temporary files when they become large.

There are columns that grow block by block, columns of mostly consecutive numbers, arrays that are filled in any
order, and tables partitioned by a hash. The data is lost with its `Scratch`, and no other process reads it.
"""

import mmap
import os
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from telemetron_batch.domain.arrays import Flags
from telemetron_batch.storage.file_system import allocate

MEMORY: Final = 64 << 20
"""Maximum bytes of one column, array or table in memory."""
PARTS: Final = 64
"""Minimum number of partitions of a spilled table."""
_PART_BYTES: Final = 16 << 20
"""Approximate bytes of a partition if more than the minimum is needed; processing one stays fast at this size."""
_MAX_PARTS: Final = 4096
_TYPICAL_COLUMNS: Final = 8
"""Approximate number of columns that exist at the same time and share the memory limit."""
_FLUSH_BYTES: Final = range(24 << 20, 48 << 20)
"""Minimum and maximum bytes that are partitioned together; small flushes cost much per record."""
_MIN_WRITE: Final = 128 << 10
"""Approximate bytes that each of many partitions gets in a flush; smaller pieces are slow to read."""

Array = npt.NDArray[Any]
Hashes = npt.NDArray[np.uint64]
_HashedBatch = tuple[pa.RecordBatch, Hashes]


@dataclass(frozen=True, slots=True)
class SpillLimits:
    """The maximum bytes of a column or table in memory, and the minimum number of partitions of a spilled table."""

    memory: int = MEMORY
    parts: int = PARTS


class Scratch:
    """A folder for temporary files, created when first needed and removed at the end of the context."""

    def __init__(self, folder: Path | None = None, limits: SpillLimits | None = None) -> None:
        """Without a folder, everything stays in memory."""
        self.limits = limits or SpillLimits()
        self.parts = self.limits.parts
        """The number of partitions of a table."""
        self._expected = 0
        self.writer_pool = ThreadPoolExecutor(1)
        """A thread that writes files in the background."""
        self._folder = folder
        self._names = 0
        if folder is not None:  # a killed process may have left one
            shutil.rmtree(folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def remove(self) -> None:
        """Remove the folder. Mapped files stay readable as long as their arrays exist."""
        self.writer_pool.shutdown(cancel_futures=True)  # before the folder is removed
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def reserve(self, size: int) -> None:
        """Announce about `size` more bytes; tables that spill from now on get a suitable number of partitions."""
        self._expected += size
        self.parts = max(self.limits.parts, min(_MAX_PARTS, self._expected // _PART_BYTES))

    def fits(self, size: int) -> bool:
        """Return whether data of this size may stay in memory."""
        return self._folder is None or size <= self.limits.memory

    def path(self) -> Path:
        """Return the path of a new file."""
        assert self._folder is not None  # noqa: S101 - without a folder everything fits
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._names += 1
        return self._folder / f"{self._names}"

    def array(self, size: int, dtype: npt.DTypeLike) -> Array:
        """Return an array of zeros, to be filled in any order."""
        length = size * np.dtype(dtype).itemsize
        if self.fits(length):
            return np.zeros(size, dtype)
        path = self.path()
        with path.open("xb") as file:
            allocate(file.fileno(), length)  # a write to a sparse mapped file on a full disk kills the process
        return np.memmap(path, dtype, "r+", shape=(size,))


class SpillColumn:
    """A numeric column that grows block by block."""

    def __init__(self, scratch: Scratch, dtype: npt.DTypeLike) -> None:
        self._scratch = scratch
        self._dtype = np.dtype(dtype)
        self._chunks: list[Array] = []
        self._size = 0
        self._path: Path | None = None

    def add(self, values: Array) -> None:
        """Append values."""
        self._chunks.append(np.ascontiguousarray(values, self._dtype))
        self._size += len(values)
        if not self._scratch.fits(self._size * self._dtype.itemsize * _TYPICAL_COLUMNS):
            self._store()

    def array(self) -> Array:
        """Return the whole column. Nothing can be added afterwards."""
        if self._path is not None:
            self._store()
            return np.memmap(self._path, self._dtype, "r+", shape=(self._size,))
        chunks, self._chunks = self._chunks, []
        return np.concatenate([np.empty(0, self._dtype), *chunks])

    def _store(self) -> None:
        self._path = self._path or self._scratch.path()
        with self._path.open("ab") as file:
            for chunk in self._chunks:
                file.write(chunk.data)
        self._chunks = []


class RunLengthColumn:
    """A column of mostly consecutive numbers, stored as runs."""

    def __init__(self, scratch: Scratch) -> None:
        self._starts = SpillColumn(scratch, np.int64)
        """Positions at which a run begins."""
        self._numbers = SpillColumn(scratch, np.int64)
        self._size = 0
        self._last = -2

    def add(self, numbers: Array) -> None:
        """Append numbers, which must not be negative."""
        if not len(numbers):
            return
        starts = np.flatnonzero(np.diff(numbers, prepend=self._last) != 1)
        self._starts.add(self._size + starts)
        self._numbers.add(numbers[starts])
        self._size += len(numbers)
        self._last = int(numbers[-1])

    def at(self, positions: Array) -> Array:
        """Return the numbers at these positions. Nothing can be added afterwards."""
        starts, numbers = self._columns
        run = np.searchsorted(starts, positions, side="right") - 1
        found: Array = numbers[run] + (positions - starts[run])
        return found

    @cached_property
    def _columns(self) -> tuple[Array, Array]:
        return self._starts.array(), self._numbers.array()


class PartitionedTable:
    """A table partitioned by a hash of each record: records with equal hashes are in the same partition.

    A small table has one partition in memory. A large one has `Scratch.parts` partitions in files, which are
    written in the background.
    """

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch
        self._unwritten: list[_HashedBatch] = []
        self._size = 0
        self._files: list[_PartFile] = []
        self._flushing: Future[None] | None = None

    def add(self, batch: pa.RecordBatch, hashes: Hashes, chosen: Flags | None = None) -> None:
        """Append records with their hashes; with `chosen`, only the chosen records."""
        if chosen is not None:
            batch, hashes = batch.filter(pa.array(chosen)), hashes[chosen]
        if not batch.num_rows:
            return
        self._unwritten.append((batch, hashes))
        self._size += batch.nbytes + hashes.nbytes
        if not self._files and not self._scratch.fits(self._size):
            self._files = [_PartFile(self._scratch.path()) for _ in range(self._scratch.parts)]
        if self._files and self._size >= min(max(_FLUSH_BYTES.start, len(self._files) * _MIN_WRITE), _FLUSH_BYTES.stop):
            self._flush()

    def partition_of(self, hashes: Hashes) -> npt.NDArray[np.int16]:
        """Return the partition of each hash, from 0."""
        return (hashes % np.uint64(max(1, len(self._files)))).astype(np.int16)

    def iter_parts(self) -> Iterator[tuple[int, pa.Table]]:
        """Yield number and records of each non-empty partition. Nothing can be added afterwards. May be repeated."""
        if self._files:
            self._flush()
            self._join_flush()
            for number, file in enumerate(self._files):
                if (table := file.read()) is not None:
                    yield number, table
        elif self._unwritten:
            yield 0, pa.Table.from_batches([batch for batch, _ in self._unwritten])

    def drain_parts(self) -> Iterator[pa.Table]:
        """Yield the records of each non-empty partition in insertion order, and free the partition's file."""
        for number, table in self.iter_parts():
            if self._files:
                self._files[number].remove()
            yield table
        self._unwritten, self._files = [], []

    def _flush(self) -> None:
        """Start writing the unwritten records into the partitions' files, after the previous flush."""
        self._join_flush()
        unwritten, self._unwritten, self._size = self._unwritten, [], 0
        if unwritten:
            self._flushing = self._scratch.writer_pool.submit(self._write, unwritten)

    def _join_flush(self) -> None:
        """Wait for the current flush. Raises its error."""
        if self._flushing is not None:
            self._flushing.result()

    def _write(self, unwritten: list[_HashedBatch]) -> None:
        batches, hashes = zip(*unwritten, strict=True)
        part = self.partition_of(np.concatenate(hashes))
        order = np.argsort(part, kind="stable")
        bounds = np.searchsorted(part[order], np.arange(len(self._files) + 1)).tolist()
        batch = pa.concat_batches(batches).take(pa.array(order))
        for file, (first, end) in zip(self._files, pairwise(bounds), strict=True):
            if end > first:
                file.write(batch.slice(first, end - first))


class _PartFile:
    """One partition on disk, an Arrow stream. Open only during a read or write: there may be many partitions."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, batch: pa.RecordBatch) -> None:
        with self._path.open("ab") as file:
            if not file.tell():
                file.write(batch.schema.serialize())
            file.write(batch.serialize())

    def read(self) -> pa.Table | None:
        """Return the records of the partition; None if it is empty."""
        if not self._path.exists():
            return None
        with pa.OSFile(os.fsencode(self._path)) as file, pa.ipc.open_stream(file) as stream:
            return stream.read_all()

    def remove(self) -> None:
        self._path.unlink()


def to_batch(table: pa.Table) -> pa.RecordBatch:
    """Return a partition as one batch; uses large strings where texts could exceed the 2 GiB of a string column."""
    if table.nbytes > 1 << 30:
        large = [field.with_type(pa.large_string()) if field.type == pa.string() else field for field in table.schema]
        table = table.cast(pa.schema(large))
    return table.combine_chunks().to_batches()[0]


def spill_batch(scratch: Scratch, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the same records, mapped from a file if they are large."""
    if scratch.fits(batch.nbytes * scratch.parts):
        return batch
    path = scratch.path()
    with path.open("xb") as file, pa.ipc.new_file(file, batch.schema) as writer:
        writer.write_batch(batch)
    with pa.memory_map(os.fsencode(path)) as file:  # closing saves descriptors; the data stays mapped
        return pa.ipc.open_file(file).get_batch(0)


def spill_column(scratch: Scratch, values: Array) -> Array:
    """Return the same numbers, mapped from a file if they are large."""
    column = SpillColumn(scratch, values.dtype)
    column.add(values)
    return column.array()


def drop_pages(array: Array) -> None:
    """Release the memory pages of a mapped array; the data stays in the file."""
    mapping = getattr(array, "_mmap", None)
    if mapping is not None and sys.platform != "win32":
        with suppress(ValueError, OSError):
            mapping.madvise(mmap.MADV_DONTNEED)
