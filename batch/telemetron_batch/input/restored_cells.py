"""Key cells of an attention file as the list of its run had them, where a spreadsheet has changed them by itself.

The line of the list that each row names tells its original cells. Keeps those of the rows of
the attention file alone. What a person has entered is never replaced.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.errors import BatchError
from telemetron_batch.input.block import CellBlock, Ints
from telemetron_batch.input.flags import Flags
from telemetron_batch.input.normalize import normalize_fast
from telemetron_batch.input.spreadsheet_changes import Change, change_between
from telemetron_batch.storage.text_hash import Hashes, hash_texts

_FIRST: Final = 5
_FIELDS: Final = ("customerEmail", "deviceIdentifier", "action", "deviceType")
_NUMBERED: Final = "^([0-9]+)[.,]([0-9]*[1-9])0*$"
"""The number of a part of a record; a spreadsheet takes it for a decimal fraction."""


@dataclass(frozen=True, slots=True)
class ListedRows:
    """Some rows of a run's list: the lines as the attention file names them, and key cells as it gives them."""

    lines: pa.Array
    cells: Mapping[str, pa.Array]
    """By field. Null where the attention file leaves them blank."""


ReadList: TypeAlias = Callable[[], Iterable[ListedRows]]
"""Reads the list of the run to which an attention file belongs. Raises BatchError where it cannot be read."""


@dataclass(slots=True)
class Restorer:
    """Gives the rows of an attention file their original cells, and counts these."""

    columns: Mapping[str, int]
    """Field to position, in the attention file."""
    line_column: int
    originals: "_Originals"
    _count: int = 0
    _first: list[int] = field(default_factory=list)

    @classmethod
    def of(
        cls, pieces: Iterable[CellBlock], columns: Mapping[str, int], line_column: int, read_list: ReadList
    ) -> "Restorer | None":
        """Return the restorer of an attention file with these records; None where its run's list cannot be read."""
        named = [_line_keys(piece.cells.column(line_column)) for piece in pieces]
        wanted = np.unique(np.concatenate([hash_texts(lines) for lines in named] or [np.empty(0, np.uint64)]))
        with suppress(BatchError):
            originals = _Originals.of(read_list(), wanted)
            return cls({name: columns[name] for name in _FIELDS if name in columns}, line_column, originals)
        return None

    def restored(self, pieces: Iterable[CellBlock]) -> Iterator[CellBlock]:
        """Yield the pieces with their original cells, and count anew."""
        self._count, self._first = 0, []
        for piece in pieces:
            rows = self.originals.rows_of(_line_keys(piece.cells.column(self.line_column)))
            rows[list(piece.faults)] = -1
            for name, column in self.columns.items():
                piece = self._with_restored(piece, name, column, rows)
            yield piece

    def told(self) -> Iterator[str]:
        """Yield one sentence if cells were restored."""
        if not self._count:
            return
        cells, it = ("1 cell is", "it") if self._count == 1 else (f"{self._count} cells are", "them")
        lines = f"line{'s' * (len(self._first) > 1)} {', '.join(map(str, self._first))}"
        yield (
            f"{cells} read as in the list, because a spreadsheet has changed {it} to another form of the same value; "
            f"first: {lines}; where the new form is meant, enter it in attention.xlsx (report RUN --xlsx writes it)"
        )

    def _with_restored(self, piece: CellBlock, name: str, column: int, rows: Ints) -> CellBlock:
        cells = piece.cells.column(column)
        listed = self.originals.cells_of(name, rows)
        changed = _differing(cells, listed)
        if not len(changed):
            return piece
        at = pa.array(changed)
        originals = listed.take(at).to_pylist()
        changes = [*map(change_between, originals, cells.take(at).to_pylist())]
        restored = {
            int(row): text for row, text, what in zip(changed, originals, changes, strict=True) if what is _SAME
        }
        dated = {int(row): text for row, text, what in zip(changed, originals, changes, strict=True) if what is _DATED}
        if restored:
            self._count += len(restored)
            lines = piece.lines[list(restored)[:_FIRST]].tolist()
            self._first = sorted({*self._first, *lines})[:_FIRST]
            mask = np.zeros(len(cells), np.bool_)
            mask[list(restored)] = True
            cells = pc.replace_with_mask(cells, pa.array(mask), pa.array(list(restored.values()), cells.type))
        kinds = {row: kind for row, kind in piece.kinds.get(name, {}).items() if row not in restored}
        return replace(
            piece,
            cells=piece.cells.set_column(column, piece.cells.schema.field(column), cells),
            kinds={**piece.kinds, name: kinds},
            dated={**piece.dated, name: dated} if dated else piece.dated,
        )


_SAME: Final = Change.SAME_VALUE
_DATED: Final = Change.TAKEN_FOR_DATE


@dataclass(frozen=True, slots=True)
class _Originals:
    """The rows of the list that an attention file names, sorted by the hashes of their lines."""

    hashes: Hashes
    lines: pa.Array
    """Null where several rows have the same line."""
    cells: Mapping[str, pa.Array]

    @classmethod
    def of(cls, rows: Iterable[ListedRows], wanted: Hashes) -> "_Originals":
        """Keep those rows whose lines have a wanted hash."""
        tables = [_empty()]
        for some in rows:
            lines = _line_keys(some.lines)
            named = pa.array(_are_among(hash_texts(lines), wanted))
            cells = {name: some.cells.get(name, pa.nulls(len(lines), pa.string())) for name in _FIELDS}
            tables.append(pa.table({"line": lines, **cells}).filter(named))
        table = pa.concat_tables(tables).combine_chunks()
        hashes = hash_texts(_whole(table["line"]))
        order = np.argsort(hashes, kind="stable")
        hashes, table = hashes[order], table.take(pa.array(order))
        # Two rows of one hash: of one line, or of two by chance. Neither is known then.
        same = np.zeros(len(hashes), np.bool_)
        same[1:] = hashes[1:] == hashes[:-1]
        same[:-1] |= same[1:]
        lines = pc.if_else(pa.array(same), pa.scalar(None, pa.string()), _whole(table["line"]))
        return cls(hashes, lines, {name: _whole(table[name]) for name in _FIELDS})

    def rows_of(self, lines: pa.Array) -> Ints:
        """Return which row each line names; -1 where none is known."""
        if not len(self.hashes):
            return np.full(len(lines), -1, np.int64)
        places = np.searchsorted(self.hashes, hash_texts(lines)).clip(max=len(self.hashes) - 1)
        known = pc.fill_null(pc.equal(self.lines.take(pa.array(places)), lines), False)
        return np.where(known.to_numpy(zero_copy_only=False), places, -1)

    def cells_of(self, name: str, rows: Ints) -> pa.Array:
        """Return the cells of some rows; null for -1."""
        return self.cells[name].take(pa.array(rows, mask=rows < 0))


def _are_among(hashes: Hashes, some: Hashes) -> Flags:
    """Return which hashes are among some, which are sorted."""
    if not len(some):
        return np.zeros(len(hashes), np.bool_)
    found: Flags = some[np.searchsorted(some, hashes).clip(max=len(some) - 1)] == hashes
    return found


def _empty() -> pa.Table:
    return pa.table({name: pa.array([], pa.string()) for name in ("line", *_FIELDS)})


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _line_keys(lines: pa.Array) -> pa.Array:
    """Return lines in a form that survives a spreadsheet: `7.2` also for `7,2`.

    `7.1` and `7.10` become one, and so neither of them is known.
    """
    return pc.replace_substring_regex(normalize_fast(lines)[0], _NUMBERED, r"\1.\2")


def _differing(cells: pa.Array, listed: pa.Array) -> Ints:
    """Return which cells say something else than the list does."""
    differ = pc.fill_null(pc.not_equal(cells, listed), False)
    rows = np.flatnonzero(differ.to_numpy(zero_copy_only=False))
    if not len(rows):
        return rows
    at = pa.array(rows)
    other = pc.not_equal(normalize_fast(cells.take(at))[0], normalize_fast(listed.take(at))[0])
    differing: Ints = rows[other.to_numpy(zero_copy_only=False)]
    return differing
