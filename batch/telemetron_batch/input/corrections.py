"""Replace key cells by the texts with which a person has corrected them, without changing the file.

What the reader knows of the former cell, such as that it was a date, does not hold for the text. Records with a wrong
number of cells stay as they are: in them it is not known which cell belongs to which column.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import pyarrow as pa

from telemetron_batch.domain.arrays import Ints
from telemetron_batch.domain.model import Correction
from telemetron_batch.input.block import CellBlock

T = TypeVar("T")


def with_corrections(
    blocks: Iterable[CellBlock], columns: Mapping[str, int], corrections: Sequence[Correction]
) -> Iterator[CellBlock]:
    """Yield the blocks with the corrected cells; `columns` maps fields to columns."""
    texts: dict[str, dict[int, str]] = {}
    for one in corrections:
        if one.field in columns:
            texts.setdefault(one.field, {})[one.line] = one.text
    lines = np.array(sorted({line for of_field in texts.values() for line in of_field}), np.int64)
    for block in blocks:
        rows = np.flatnonzero(np.isin(block.lines, lines))
        yield _corrected(block, rows, columns, texts) if len(rows) else block


def _corrected(
    block: CellBlock, rows: Ints, columns: Mapping[str, int], texts: Mapping[str, Mapping[int, str]]
) -> CellBlock:
    for field, by_line in texts.items():
        line_of = {row: int(block.lines[row]) for row in rows.tolist() if row not in block.width_errors}
        found = {row: by_line[line] for row, line in line_of.items() if line in by_line}
        if found:
            block = _with_cells(block, field, columns[field], found)
    return block


def _with_cells(block: CellBlock, field: str, column: int, texts: Mapping[int, str]) -> CellBlock:
    cells = block.cells.column(column).to_pylist()
    for row, text in texts.items():
        cells[row] = text
    named = block.cells.set_column(column, str(column), pa.array(cells, pa.string()))
    return replace(
        block,
        cells=named,
        kinds=_without_rows(block.kinds, field, texts),
        date_originals=_without_rows(block.date_originals, field, texts),
    )


def _without_rows(
    by_field: Mapping[str, Mapping[int, T]], field: str, rows: Mapping[int, str]
) -> Mapping[str, Mapping[int, T]]:
    """Return the mapping without these rows of a field."""
    if field not in by_field:
        return by_field
    return {**by_field, field: {row: value for row, value in by_field[field].items() if row not in rows}}
