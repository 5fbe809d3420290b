"""Room for more columns than fit into memory: in memory as long as they are few, then in files.

Its shapes: a column that grows block by block, one of numbers that mostly follow one another,
an array that is filled in any order, and a table whose records are spread over parts by a
number. What they hold is lost with the `Scratch`; nothing here is ever read by another process.
Knows no row and no rule.
"""

import mmap
import os
import shutil
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

MEMORY: Final = 64 << 20
"""Bytes of one column, array or table that stay in memory."""
PARTS: Final = 64
"""At least so many where there is one."""
_PART_BYTES: Final = 16 << 20
"""Bytes of a part, about, where more than those are needed: what is worked out for it is then as quick as ever."""
_MOST_PARTS: Final = 4096
_COLUMNS: Final = 8
"""There are about so many columns where there is one."""
_FLUSH_BYTES: Final = range(24 << 20, 48 << 20)
"""Bytes that are shared out together, at least and at most: to share out little costs much for each record."""
_MIN_WRITE: Final = 128 << 10
"""Bytes that a part gets then, about, where there are many: of smaller pieces it is slow to read."""

Array = npt.NDArray[Any]
Hashes = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]
_Held = tuple[pa.RecordBatch, Hashes]


@dataclass(frozen=True, slots=True)
class SpillLimits:
    """How much of a scratch's contents may stay in memory, and into how many parts at least the rest is spread."""

    memory: int = MEMORY
    parts: int = PARTS


class Scratch:
    """A folder for one piece of work, made when it is first needed and removed when the work is done."""

    def __init__(self, folder: Path | None = None, room: SpillLimits | None = None) -> None:
        """Without a folder everything stays in memory."""
        self.room = room or SpillLimits()
        self.parts = self.room.parts
        """Into so many a table is spread."""
        self._expected = 0
        self.writer_pool = ThreadPoolExecutor(1)
        """A thread that writes while others work out what comes next."""
        self._folder = folder
        self._names = 0
        if folder is not None:  # a process that was killed may have left one
            shutil.rmtree(folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def remove(self) -> None:
        """Free the disk. What is still mapped stays readable as long as it is held."""
        self.writer_pool.shutdown(cancel_futures=True)  # or it might write on into the folder
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def reserve(self, size: int) -> None:
        """So many more bytes are to come, about: what is spread from now on is spread accordingly."""
        self._expected += size
        self.parts = max(self.room.parts, min(_MOST_PARTS, self._expected // _PART_BYTES))

    def fits(self, size: int) -> bool:
        """May something of so many bytes stay in memory?"""
        return self._folder is None or size <= self.room.memory

    def path(self) -> Path:
        """A new file's."""
        assert self._folder is not None  # noqa: S101 - without a folder everything fits
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._names += 1
        return self._folder / f"{self._names}"

    def array(self, size: int, dtype: npt.DTypeLike) -> Array:
        """So many zeros, to be filled in any order."""
        length = size * np.dtype(dtype).itemsize
        if self.fits(length):
            return np.zeros(size, dtype)
        path = self.path()
        with path.open("xb") as file:
            os.posix_fallocate(file.fileno(), 0, length)  # a file with holes would end the process on a full disk
        return np.memmap(path, dtype, "r+", shape=(size,))


class SpillColumn:
    """A column of numbers that grows block by block."""

    def __init__(self, scratch: Scratch, dtype: npt.DTypeLike) -> None:
        self._scratch = scratch
        self._dtype = np.dtype(dtype)
        self._chunks: list[Array] = []
        self._size = 0
        self._path: Path | None = None

    def add(self, values: Array) -> None:
        """Append some values."""
        self._chunks.append(np.ascontiguousarray(values, self._dtype))
        self._size += len(values)
        if not self._scratch.fits(self._size * self._dtype.itemsize * _COLUMNS):
            self._store()

    def array(self) -> Array:
        """All of it; nothing can be added after that."""
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
    """Numbers that mostly follow one another, each one more than the last: only where they do not takes room."""

    def __init__(self, scratch: Scratch) -> None:
        self._begins = SpillColumn(scratch, np.int64)
        """Places at which a number does not follow the one before it."""
        self._numbers = SpillColumn(scratch, np.int64)
        self._size = 0
        self._last = -2

    def add(self, numbers: Array) -> None:
        """Append some numbers, none of them below 0."""
        if not len(numbers):
            return
        begins = np.flatnonzero(np.diff(numbers, prepend=self._last) != 1)
        self._begins.add(self._size + begins)
        self._numbers.add(numbers[begins])
        self._size += len(numbers)
        self._last = int(numbers[-1])

    def at(self, places: Array) -> Array:
        """The numbers at some places; nothing can be added after that."""
        begins, numbers = self._columns
        run = np.searchsorted(begins, places, side="right") - 1
        found: Array = numbers[run] + (places - begins[run])
        return found

    @cached_property
    def _columns(self) -> tuple[Array, Array]:
        return self._begins.array(), self._numbers.array()


class PartitionedTable:
    """A table whose records are spread over parts by a number that each brings: equal numbers, same part.

    One part while it is small; then as many as the room has, in files, which are written while more comes.
    """

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch
        self._held: list[_Held] = []
        self._size = 0
        self._files: list[_PartFile] = []
        self._sharing: Future[None] | None = None

    def add(self, batch: pa.RecordBatch, hashes: Hashes, chosen: Flags | None = None) -> None:
        """Append records and the number of each; only those chosen, if some are."""
        if chosen is not None:
            batch, hashes = batch.filter(pa.array(chosen)), hashes[chosen]
        if not batch.num_rows:
            return
        self._held.append((batch, hashes))
        self._size += batch.nbytes + hashes.nbytes
        if not self._files and not self._scratch.fits(self._size):
            self._files = [_PartFile(self._scratch.path()) for _ in range(self._scratch.parts)]
        if self._files and self._size >= min(max(_FLUSH_BYTES.start, len(self._files) * _MIN_WRITE), _FLUSH_BYTES.stop):
            self._flush()

    def partition_of(self, hashes: Hashes) -> npt.NDArray[np.int16]:
        """The part, counted from 0, to which each of these numbers belongs."""
        return (hashes % np.uint64(max(1, len(self._files)))).astype(np.int16)

    def iter_parts(self) -> Iterator[tuple[int, pa.Table]]:
        """As `parts`, with the number of each; nothing can be added after that, but they can be gone through again."""
        if self._files:
            self._flush()
            self._join_flush()
            for number, file in enumerate(self._files):
                if (table := file.read()) is not None:
                    yield number, table
        elif self._held:
            yield 0, pa.Table.from_batches([batch for batch, _ in self._held])

    def drain_parts(self) -> Iterator[pa.Table]:
        """Each part that holds anything, its records in the order in which they came.

        A part is gone once it has been given.
        """
        for number, table in self.iter_parts():
            if self._files:
                self._files[number].remove()
            yield table
        self._held, self._files = [], []

    def _flush(self) -> None:
        """Have what is held written into the parts' files, as soon as what was held before is there."""
        self._join_flush()
        held, self._held, self._size = self._held, [], 0
        if held:
            self._sharing = self._scratch.writer_pool.submit(self._write, held)

    def _join_flush(self) -> None:
        """Nothing is being written any more. Raises what went wrong."""
        if self._sharing is not None:
            self._sharing.result()

    def _write(self, held: list[_Held]) -> None:
        batches, hashes = zip(*held, strict=True)
        part = self.partition_of(np.concatenate(hashes))
        order = np.argsort(part, kind="stable")
        bounds = np.searchsorted(part[order], np.arange(len(self._files) + 1)).tolist()
        batch = pa.concat_batches(batches).take(pa.array(order))
        for file, (first, end) in zip(self._files, pairwise(bounds), strict=True):
            if end > first:
                file.write(batch.slice(first, end - first))


class _PartFile:
    """One part on disk, a stream of Arrow's. Open only while it is written to or read: there may be many."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, batch: pa.RecordBatch) -> None:
        with self._path.open("ab") as file:
            if not file.tell():
                file.write(batch.schema.serialize())
            file.write(batch.serialize())

    def read(self) -> pa.Table | None:
        """The part's records, None without any."""
        if not self._path.exists():
            return None
        with pa.OSFile(os.fsencode(self._path)) as file, pa.ipc.open_stream(file) as stream:
            return stream.read_all()

    def remove(self) -> None:
        """Free the disk."""
        self._path.unlink()


def to_batch(table: pa.Table) -> pa.RecordBatch:
    """A part in one piece; its texts may come to more than the two gibibytes of a plain string column."""
    if table.nbytes > 1 << 30:
        large = [field.with_type(pa.large_string()) if field.type == pa.string() else field for field in table.schema]
        table = table.cast(pa.schema(large))
    return table.combine_chunks().to_batches()[0]


def spill_batch(scratch: Scratch, batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same records; where they are many they are read from a file when they are looked at."""
    if scratch.fits(batch.nbytes * scratch.parts):
        return batch
    path = scratch.path()
    with path.open("xb") as file, pa.ipc.new_file(file, batch.schema) as writer:
        writer.write_batch(batch)
    with pa.memory_map(os.fsencode(path)) as file:  # closed, it stays mapped: there may be many
        return pa.ipc.open_file(file).get_batch(0)


def spill_column(scratch: Scratch, values: Array) -> Array:
    """The same numbers; where they are many they are read from a file when they are looked at."""
    column = SpillColumn(scratch, values.dtype)
    column.add(values)
    return column.array()


def drop_pages(array: Array) -> None:
    """Give back the memory through which a file was looked at; the contents stay."""
    held = getattr(array, "_mmap", None)
    if held is not None:
        with suppress(ValueError, OSError):
            held.madvise(mmap.MADV_DONTNEED)
