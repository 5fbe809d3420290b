"""Records whose cells stand for more than themselves: several identifiers in one cell, or the value of the cell above.

Works on the cells of a block before they are judged, and keeps for each row the record it comes from.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.model import Problem
from telemetron_batch.input.block import CellBlock, Ints
from telemetron_batch.input.cell_bytes import CellBytes, byte_in
from telemetron_batch.input.normalize import normalize_fast
from telemetron_batch.input.number_formats import CellKind

_NAMES: Final = ("customerEmail", "deviceIdentifier", "action")
_T = TypeVar("_T")


def with_values_above(pieces: Iterable[CellBlock], columns: Mapping[str, int]) -> Iterator[CellBlock]:
    """Give empty cells of these columns the value above, where anything else stands in the record.

    Nothing is taken from a record of the wrong width, nor from one above it. A value is
    taken with the kind of its cell.
    """
    above = dict.fromkeys(columns, _Above())
    for piece in pieces:
        cells, kinds = piece.cells, dict(piece.kinds)
        blank = _are_blank(cells)
        for name, column in columns.items():
            taken = _taken(cells.column(column), blank, piece, name)
            filled = pc.fill_null(pc.fill_null_forward(taken), above[name].text)
            kinds[name] = _kinds_below(kinds.get(name, {}), taken, blank, above[name].kind)
            cells = cells.set_column(column, cells.schema.field(column), pc.if_else(blank, "", filled))
            above[name] = _last(filled, taken, kinds[name], above[name])
        yield replace(piece, cells=cells, kinds={name: of for name, of in kinds.items() if of})


def with_split_cells(pieces: Iterable[CellBlock], column: int, separators: str) -> Iterator[CellBlock]:
    """Make each part of a column's cells, between any of the separators, a row of its own."""
    for piece in pieces:
        yield _split(piece, column, separators)


@dataclass(frozen=True, slots=True)
class _Above:
    """The value that empty cells take, and the kind of its cell."""

    text: str = ""
    kind: CellKind = CellKind.PLAIN


def _taken(column: pa.Array, blank: pa.Array, piece: CellBlock, name: str) -> pa.Array:
    """Return the cells of which those below take the value; null for those that take one."""
    empty = pc.equal(normalize_fast(column)[0], "")
    faulty, of_kind = np.zeros(len(column), np.bool_), np.zeros(len(column), np.bool_)
    faulty[list(piece.faults)] = True
    of_kind[list(piece.kinds.get(name, ()))] = True  # a formula without a value is none to fill
    open_cells = pc.and_not(pc.or_(empty, blank), pa.array(of_kind))
    return pc.if_else(pa.array(faulty), "", pc.if_else(open_cells, pa.scalar(None, pa.string()), column))


def _kinds_below(
    kinds: Mapping[int, CellKind], taken: pa.Array, blank: pa.Array, above: CellKind
) -> Mapping[int, CellKind]:
    """Return the kinds of cells, those that take a value with the kind it has."""
    if not kinds and not above:
        return kinds
    codes = np.zeros(len(taken), np.int64)
    codes[list(kinds)] = list(kinds.values())
    known = pc.is_valid(taken).to_numpy(zero_copy_only=False)
    of_each = pc.fill_null(pc.fill_null_forward(pa.array(codes, mask=~known)), int(above)).to_numpy()
    rows = np.flatnonzero((of_each != 0) & ~blank.to_numpy(zero_copy_only=False))
    return {int(row): CellKind(int(of_each[row])) for row in rows}


def _last(filled: pa.Array, taken: pa.Array, kinds: Mapping[int, CellKind], above: _Above) -> _Above:
    """Return the value for cells of the next block."""
    rows = np.flatnonzero(pc.is_valid(taken).to_numpy(zero_copy_only=False))
    if not len(rows):
        return above
    row = int(rows[-1])
    return _Above(filled[row].as_py(), kinds.get(row, CellKind.PLAIN))


def _are_blank(cells: pa.RecordBatch) -> pa.Array:
    """Return which records hold nothing."""
    blank = pa.repeat(pa.scalar(True), cells.num_rows)
    for column in cells.columns:
        if pc.any(blank).as_py():
            blank = pc.and_(blank, pc.equal(normalize_fast(column)[0], ""))
    return blank


def _split(piece: CellBlock, column: int, separators: str) -> CellBlock:
    texts = normalize_fast(piece.cells.column(column))[0]
    octets = CellBytes(texts)
    wanted = octets.cells_with(byte_in(octets.data, separators.encode()))
    wanted[list(piece.faults)] = False
    if not wanted.any():
        return piece
    rows = np.flatnonzero(wanted)
    parts = pc.split_pattern_regex(texts.take(pa.array(rows)), f"[{re.escape(separators)}]")
    owner, found = rows[pc.list_parent_indices(parts).to_numpy()], normalize_fast(pc.list_flatten(parts))[0]
    filled = pc.not_equal(found, "").to_numpy(zero_copy_only=False)
    return _taken_apart(piece, column, owner[filled], found.filter(pa.array(filled)))


def _taken_apart(piece: CellBlock, column: int, owner: Ints, parts: pa.Array) -> CellBlock:
    """The piece with a row for each of some parts, in place of the records that own them."""
    counts = np.bincount(owner, minlength=len(piece.lines))
    rows = np.repeat(np.arange(len(counts)), np.maximum(counts, 1))
    numbers = np.arange(len(rows)) - np.searchsorted(rows, rows) + 1
    numbers[counts[rows] <= 1] = 0
    cells = piece.cells.take(pa.array(rows))
    split = counts[rows] > 0
    parts = pc.replace_with_mask(cells.column(column), pa.array(split), parts)
    at = {int(row): int(place) for place, row in zip(*reversed(np.unique(rows, return_index=True)), strict=True)}
    return replace(
        piece,
        lines=piece.lines[rows],
        cells=cells.set_column(column, cells.schema.field(column), parts),
        faults={at[row]: sentence for row, sentence in piece.faults.items()},
        odd={at[row]: texts for row, texts in piece.odd.items()},
        kinds={name: _of_parts(kinds, at, counts) for name, kinds in piece.kinds.items()},
        dated={name: _of_parts(dated, at, counts) for name, dated in piece.dated.items()},
        numbers=numbers,
    )


def _of_parts(values: Mapping[int, _T], at: Mapping[int, int], counts: Ints) -> dict[int, _T]:
    """Return what is known of records as what is known of their parts."""
    return {at[row] + part: value for row, value in values.items() for part in range(max(1, int(counts[row])))}


class Groups:
    """Counts rows with an empty key cell below a filled one, as a grouped list has them."""

    def __init__(self) -> None:
        self._rows = 0
        self._empty = dict.fromkeys(_NAMES, 0)
        self._starts_filled: dict[str, bool] = {}

    def add(self, keys: pa.RecordBatch) -> None:
        """Count those of a block."""
        problems = keys["problem"].to_numpy()
        known = (problems != Problem.CELLS) & (problems != Problem.NO_VALUE)  # of others a cell may seem empty
        keys = keys if known.all() else keys.filter(pa.array(known))
        names = {"customerEmail": "customerEmail", "deviceIdentifier": "deviceIdentifier", "action": "actionWord"}
        for name, column in names.items():
            if keys.num_rows:
                self._starts_filled.setdefault(name, bool(keys[column][0].as_py()))
            if self._starts_filled.get(name):
                self._empty[name] += pc.sum(pc.equal(pc.binary_length(keys[column]), 0)).as_py() or 0
        self._rows += keys.num_rows

    def told(self) -> Iterator[str]:
        """Return one sentence if most cells of a column are so."""
        names = [name for name in _NAMES if self._empty[name] > self._rows / 2]
        if names:
            options = " ".join(f"--fill-down {name}" for name in names)
            yield (
                f"most cells of {' and '.join(names)} are empty below a filled one, as in a list by groups; "
                f"{options} reads each of them as the value above"
            )
