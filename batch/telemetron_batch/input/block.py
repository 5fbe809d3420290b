"""Some consecutive records of a file as cells, before anything is judged. Holds them, and does nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from telemetron_batch.input.number_formats import CellKind

Ints: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class CellBlock:
    """Some consecutive records as cells.

    lines   the line on which each begins
    cells   one string column for each header, named "0", "1", ...
    faults  position to sentence, for records with too few or too many cells
    odd     position to all cells, for the same records
    numbers the number of each row among those of its record, from 1; 0 for a record that is one row. None: all 0
    kinds   field to position to the kind of its cell, for key cells of a workbook that are not plain
    dated   field to position to the cell of the list, for key cells of which a spreadsheet may have made a date
    closing the last record that is not blank: as it is written, and its cells without quotes;
            none where no trailer is looked for
    """

    lines: Ints
    cells: pa.RecordBatch
    faults: dict[int, str]
    closing: tuple[str, ...] = ()
    odd: Mapping[int, Sequence[str]] = field(default_factory=dict)
    numbers: Ints | None = None
    kinds: Mapping[str, Mapping[int, CellKind]] = field(default_factory=dict)
    dated: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
