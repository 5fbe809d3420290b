"""Examine single bytes of all cells of a column at once.

To check bytes costs a fraction of matching a pattern, so this is used to select the few
cells for which a pattern is needed.
"""

from functools import cached_property

import numpy as np
import pyarrow as pa

from telemetron_batch.domain.arrays import Flags, Ints, Octets


class CellBytes:
    """The UTF-8 bytes of a string column without nulls, one cell after another."""

    def __init__(self, texts: pa.Array) -> None:
        self._offsets = np.zeros(1, np.int64)
        self.data = np.empty(0, np.uint8)
        """The bytes of all cells."""
        if len(texts):
            _, offsets, content = texts.buffers()
            at = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
            octets = np.frombuffer(content, np.uint8) if content is not None else self.data
            self._offsets, self.data = at - at[0], octets[at[0] : at[-1]]

    @cached_property
    def lengths(self) -> Ints:
        """Number of bytes of each cell."""
        return np.diff(self._offsets)

    @cached_property
    def first(self) -> Octets:
        """First byte of each cell; 0 for an empty one."""
        return self._at(self._offsets[:-1])

    @property
    def second(self) -> Octets:
        """The byte after the first. Of a cell of one byte, the next cell's; 0 for an empty cell and after the end."""
        return self._at(self._offsets[:-1] + 1)

    @cached_property
    def last(self) -> Octets:
        """Last byte of each cell; 0 for an empty one."""
        return self._at(self._offsets[1:] - 1)

    def at(self, place: int) -> Octets:
        """Return the byte at a position from 0; for a shorter cell the byte of another cell."""
        return self._at(self._offsets[:-1] + place)

    def from_end(self, place: int) -> Octets:
        """Return the byte at a position from the end, 1 for the last; for a shorter cell the byte of another cell."""
        return self._at(np.maximum(self._offsets[1:] - place, 0))

    def cells_with(self, flags: Flags) -> Flags:
        """Return which cells contain a flagged byte; there is one flag for each byte of `data`."""
        found = np.zeros(len(self._offsets) - 1, np.bool_)
        found[np.searchsorted(self._offsets, np.flatnonzero(flags), side="right") - 1] = True
        return found

    @cached_property
    def _empty(self) -> Flags | None:
        """Flags of the empty cells; None if no cell is empty."""
        empty: Flags = self._offsets[1:] == self._offsets[:-1]
        return empty if empty.any() else None

    def _at(self, at: Ints) -> Octets:
        """Return the bytes at these ascending offsets; 0 for an empty cell and after the end."""
        if not len(self.data):
            return np.zeros(len(at), np.uint8)
        found = self.data.take(at, mode="clip")
        if self._empty is not None:
            found[self._empty] = 0
        if at[-1] >= len(self.data):
            found[at >= len(self.data)] = 0
        return found


def byte_in(octets: Octets, characters: bytes) -> Flags:
    """Return which bytes are one of these characters."""
    table = np.zeros(256, np.bool_)
    table[list(characters)] = True
    return table.take(octets)
