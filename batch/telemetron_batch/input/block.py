"""A block of consecutive records of a file as cells, before validation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from telemetron_batch.domain.arrays import Ints
from telemetron_batch.domain.model import Problem
from telemetron_batch.input.number_formats import CellKind


@dataclass(frozen=True, slots=True)
class CellBlock:
    """Some consecutive records as cells.

    lines              the line on which each record begins
    cells              one string column for each header, named "0", "1", ...
    width_errors       position to sentence, for records whose cells cannot be told apart
    width_problem      the problem that these records have
    last_record        the last record that is not blank, as written and as its cells without quotes;
                       empty if no trailer is expected
    wrong_width_cells  position to all cells, for the records in `width_errors`
    piece_numbers      number of each row among the rows of its record, from 1; 0 for a record that is one
                       row. None if all are 0
    kinds              field to position to kind, for key cells of a workbook that are not plain
    date_originals     field to position to original cell, for key cells that a spreadsheet may have turned into a date
    """

    lines: Ints
    cells: pa.RecordBatch
    width_errors: dict[int, str]
    last_record: tuple[str, ...] = ()
    wrong_width_cells: Mapping[int, Sequence[str]] = field(default_factory=dict)
    piece_numbers: Ints | None = None
    kinds: Mapping[str, Mapping[int, CellKind]] = field(default_factory=dict)
    date_originals: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    width_problem: Problem = Problem.CELL_COUNT
