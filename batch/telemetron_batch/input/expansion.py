"""Apply --fill-down and --split: fill empty cells from above, and split cells that hold several identifiers.

Works on blocks before validation, and keeps for each row which part of its record it is.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.arrays import Ints
from telemetron_batch.domain.model import MISALIGNED, Problem
from telemetron_batch.input.block import CellBlock
from telemetron_batch.input.cell_bytes import CellBytes, byte_in
from telemetron_batch.input.normalize import normalize_fast
from telemetron_batch.input.number_formats import CellKind

_NAMES: Final = ("customerEmail", "deviceIdentifier", "action")
_T = TypeVar("_T")


def with_values_above(blocks: Iterable[CellBlock], columns: Mapping[str, int]) -> Iterator[CellBlock]:
    """Give empty cells of these columns the value above, in records that are not blank.

    A record of a wrong width gives no value, and hides the values above it. The kind of
    the cell is filled down with its value.
    """
    above = dict.fromkeys(columns, _ValueAbove())
    for block in blocks:
        cells, kinds = block.cells, dict(block.kinds)
        blank = _are_blank(cells)
        for name, column in columns.items():
            values = _values(cells.column(column), blank, block, name)
            filled = pc.fill_null(pc.fill_null_forward(values), above[name].text)
            kinds[name] = _filled_kinds(kinds.get(name, {}), values, blank, above[name].kind)
            cells = cells.set_column(column, cells.schema.field(column), pc.if_else(blank, "", filled))
            above[name] = _last_value(filled, values, kinds[name], above[name])
        yield replace(block, cells=cells, kinds={name: of_field for name, of_field in kinds.items() if of_field})


def with_split_cells(blocks: Iterable[CellBlock], column: int, separators: str) -> Iterator[CellBlock]:
    """Split the cells of a column at any of the separators, and make each part a row."""
    for block in blocks:
        yield _split(block, column, separators)


@dataclass(frozen=True, slots=True)
class _ValueAbove:
    """The value for empty cells, and the kind of its cell."""

    text: str = ""
    kind: CellKind = CellKind.PLAIN


def _values(column: pa.Array, blank: pa.Array, block: CellBlock, name: str) -> pa.Array:
    """Return the cells, with null for those to fill."""
    empty = pc.equal(normalize_fast(column)[0], "")
    is_misfit, has_kind = np.zeros(len(column), np.bool_), np.zeros(len(column), np.bool_)
    is_misfit[list(block.width_errors)] = True
    has_kind[list(block.kinds.get(name, ()))] = True  # a formula without a stored value must not be filled
    to_fill = pc.and_not(pc.or_(empty, blank), pa.array(has_kind))
    return pc.if_else(pa.array(is_misfit), "", pc.if_else(to_fill, pa.scalar(None, pa.string()), column))


def _filled_kinds(
    kinds: Mapping[int, CellKind], values: pa.Array, blank: pa.Array, above: CellKind
) -> Mapping[int, CellKind]:
    """Return the kinds of all cells; a filled cell has the kind of the cell that its value comes from."""
    if not kinds and not above:
        return kinds
    codes = np.zeros(len(values), np.int64)
    codes[list(kinds)] = list(kinds.values())
    has_value = pc.is_valid(values).to_numpy(zero_copy_only=False)
    filled = pc.fill_null(pc.fill_null_forward(pa.array(codes, mask=~has_value)), int(above)).to_numpy()
    rows = np.flatnonzero((filled != 0) & ~blank.to_numpy(zero_copy_only=False))
    return {int(row): CellKind(int(filled[row])) for row in rows}


def _last_value(filled: pa.Array, values: pa.Array, kinds: Mapping[int, CellKind], above: _ValueAbove) -> _ValueAbove:
    """Return the value for empty cells at the start of the next block."""
    rows = np.flatnonzero(pc.is_valid(values).to_numpy(zero_copy_only=False))
    if not len(rows):
        return above
    row = int(rows[-1])
    return _ValueAbove(filled[row].as_py(), kinds.get(row, CellKind.PLAIN))


def _are_blank(cells: pa.RecordBatch) -> pa.Array:
    """Return which records have only blank cells."""
    blank = pa.repeat(pa.scalar(True), cells.num_rows)
    for column in cells.columns:
        if pc.any(blank).as_py():
            blank = pc.and_(blank, pc.equal(normalize_fast(column)[0], ""))
    return blank


def _split(block: CellBlock, column: int, separators: str) -> CellBlock:
    texts = normalize_fast(block.cells.column(column))[0]
    octets = CellBytes(texts)
    to_split = octets.cells_with(byte_in(octets.data, separators.encode()))
    to_split[list(block.width_errors)] = False
    if not to_split.any():
        return block
    records = np.flatnonzero(to_split)
    lists = pc.split_pattern_regex(texts.take(pa.array(records)), f"[{re.escape(separators)}]")
    record, parts = records[pc.list_parent_indices(lists).to_numpy()], normalize_fast(pc.list_flatten(lists))[0]
    filled = pc.not_equal(parts, "").to_numpy(zero_copy_only=False)
    return _with_rows_of_parts(block, column, record[filled], parts.filter(pa.array(filled)))


def _with_rows_of_parts(block: CellBlock, column: int, record: Ints, parts: pa.Array) -> CellBlock:
    """Return the block with one row for each part instead of the record that the part belongs to."""
    counts = np.bincount(record, minlength=len(block.lines))
    rows = np.repeat(np.arange(len(counts)), np.maximum(counts, 1))
    piece_numbers = np.arange(len(rows)) - np.searchsorted(rows, rows) + 1
    piece_numbers[counts[rows] <= 1] = 0
    cells = block.cells.take(pa.array(rows))
    is_split = counts[rows] > 0
    parts = pc.replace_with_mask(cells.column(column), pa.array(is_split), parts)
    at = {int(row): int(index) for index, row in zip(*reversed(np.unique(rows, return_index=True)), strict=True)}
    return replace(
        block,
        lines=block.lines[rows],
        cells=cells.set_column(column, cells.schema.field(column), parts),
        width_errors={at[row]: sentence for row, sentence in block.width_errors.items()},
        wrong_width_cells={at[row]: texts for row, texts in block.wrong_width_cells.items()},
        kinds={name: _of_parts(kinds, at, counts) for name, kinds in block.kinds.items()},
        date_originals={name: _of_parts(dated, at, counts) for name, dated in block.date_originals.items()},
        piece_numbers=piece_numbers,
    )


def _of_parts(values: Mapping[int, _T], at: Mapping[int, int], counts: Ints) -> dict[int, _T]:
    """Return values by record as values by row: every part of a record has the value of the record."""
    return {at[row] + part: value for row, value in values.items() for part in range(max(1, int(counts[row])))}


class GroupedListDetector:
    """Counts rows with an empty key cell below a filled one, as in a list by groups."""

    def __init__(self, *, may_lack_customers: bool = False) -> None:
        """With `may_lack_customers`, empty cells of the customer are no sign."""
        self._rows = 0
        self._names = _NAMES[1:] if may_lack_customers else _NAMES
        self._empty = dict.fromkeys(self._names, 0)
        self._starts_filled: dict[str, bool] = {}

    def add(self, keys: pa.RecordBatch) -> None:
        """Count the empty key cells of a block."""
        problems = keys["problem"].to_numpy()
        # In rows with these problems a cell may be blank that is filled in the file.
        known = ~np.isin(problems, (*MISALIGNED, Problem.NO_VALUE))
        keys = keys if known.all() else keys.filter(pa.array(known))
        for name in self._names:
            column = "actionWord" if name == "action" else name
            if keys.num_rows:
                self._starts_filled.setdefault(name, bool(keys[column][0].as_py()))
            if self._starts_filled.get(name):
                self._empty[name] += pc.sum(pc.equal(pc.binary_length(keys[column]), 0)).as_py() or 0
        self._rows += keys.num_rows

    def warnings(self) -> Iterator[str]:
        """Yield one sentence if most cells of a column are empty below a filled one."""
        names = [name for name in self._names if self._empty[name] > self._rows / 2]
        if names:
            options = " ".join(f"--fill-down {name}" for name in names)
            yield (
                f"most cells of {' and '.join(names)} are empty below a filled one, as in a list by groups; "
                f"{options} reads each of them as the value above"
            )
