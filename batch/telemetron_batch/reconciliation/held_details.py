"""The details of rows that the plan holds."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.reasons import Reason
from telemetron_batch.planning.held_rows import HeldRows, HoldReason
from telemetron_batch.reconciliation.format_columns import format_ints
from telemetron_batch.rows.rows import Rows

REASON_OF: Final[Mapping[HoldReason, Reason]] = {
    HoldReason.INVALID_ROW: Reason.INVALID_ROW_MAY_UNASSIGN,
    HoldReason.OTHER_SPELLING: Reason.UNASSIGNED_IN_OTHER_SPELLING,
}
"""The sentences of these reasons do not name the line of the other row, which differs from row to row."""
_RISK: Final = "may still be with another customer"
_AFTER_LINE: Final = {
    HoldReason.INVALID_ROW: ", an invalid row, may take this device away",
    HoldReason.OTHER_SPELLING: " unassigns this device in another spelling",
}


def held_details(held: HeldRows, rows: Rows, file_names: Sequence[str]) -> pa.Array:
    """Return the detail of each held row: why it is held, and the line (and file, if several) of the other row."""
    lines = name_lines(f"{_RISK}: line", held.cause, rows, file_names)
    after = pa.array([_AFTER_LINE[reason] for reason in HoldReason]).take(pa.array(held.reason - 1))
    return pc.binary_join_element_wise(lines, after, "")


def name_lines(before: str, chosen: npt.NDArray[np.int64], rows: Rows, file_names: Sequence[str]) -> pa.Array:
    """Return for each chosen row the text `before`, its line and, if there are several files, the name of its file."""
    parts = [pa.scalar(before), format_ints(rows.lines_of(chosen))]
    if len(file_names) > 1:
        parts += [pa.scalar("of"), pa.array(file_names).take(pa.array(rows.files_of(chosen)))]
    return pc.binary_join_element_wise(*parts, " ")
