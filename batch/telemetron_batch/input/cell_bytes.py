"""The bytes of a column's cells, looked at all together.

For first looks that are to pass over most cells: what is plain to see in a byte costs a
fraction of what it costs to match a pattern. Knows no column and no problem.
"""

from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ints: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]
Bytes: TypeAlias = npt.NDArray[np.uint8]


class CellBytes:
    """The UTF-8 bytes of a string column without nulls, one cell after another."""

    def __init__(self, texts: pa.Array) -> None:
        self._offsets = np.zeros(1, np.int64)
        self.data = np.empty(0, np.uint8)
        """Of all cells."""
        if len(texts):
            _, offsets, content = texts.buffers()
            at = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
            octets = np.frombuffer(content, np.uint8) if content is not None else self.data
            self._offsets, self.data = at - at[0], octets[at[0] : at[-1]]

    @cached_property
    def lengths(self) -> Ints:
        """Bytes of each cell."""
        return np.diff(self._offsets)

    @cached_property
    def first(self) -> Bytes:
        """First byte of each cell; 0 for an empty one."""
        return self._at(self._offsets[:-1])

    @property
    def second(self) -> Bytes:
        """The byte after the first, even where that is the next cell's; 0 for an empty cell and after all."""
        return self._at(self._offsets[:-1] + 1)

    @cached_property
    def last(self) -> Bytes:
        """Last byte of each cell; 0 for an empty one."""
        return self._at(self._offsets[1:] - 1)

    def at(self, place: int) -> Bytes:
        """The byte at a place from 0 on; of a shorter cell that of another cell."""
        return self._at(self._offsets[:-1] + place)

    def from_end(self, place: int) -> Bytes:
        """The byte at a place counted from 1 for the last; of a shorter cell that of another cell."""
        return self._at(np.maximum(self._offsets[1:] - place, 0))

    def cells_with(self, flags: Flags) -> Flags:
        """Which cells hold a flagged byte? One flag for each of `all`."""
        having = np.zeros(len(self._offsets) - 1, np.bool_)
        having[np.searchsorted(self._offsets, np.flatnonzero(flags), side="right") - 1] = True
        return having

    @cached_property
    def _empty(self) -> Flags | None:
        """Which cells are empty; None where none is."""
        empty: Flags = self._offsets[1:] == self._offsets[:-1]
        return empty if empty.any() else None

    def _at(self, at: Ints) -> Bytes:
        """The bytes at these places, which do not fall; 0 for an empty cell and after all."""
        if not len(self.data):
            return np.zeros(len(at), np.uint8)
        found = self.data.take(at, mode="clip")
        if self._empty is not None:
            found[self._empty] = 0
        if at[-1] >= len(self.data):
            found[at >= len(self.data)] = 0
        return found


def byte_in(octets: Bytes, signs: bytes) -> Flags:
    """Which bytes are one of these signs?"""
    table = np.zeros(256, np.bool_)
    table[list(signs)] = True
    return table.take(octets)
