"""The details of rows that the plan holds."""

from collections.abc import Mapping, Sequence
from typing import Final

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
    where = [pa.scalar(f"{_RISK}: line"), format_ints(rows.lines_of(held.cause))]
    if len(file_names) > 1:
        where += [pa.scalar("of"), pa.array(file_names).take(pa.array(rows.files_of(held.cause)))]
    after = pa.array([_AFTER_LINE[reason] for reason in HoldReason]).take(pa.array(held.reason - 1))
    return pc.binary_join_element_wise(pc.binary_join_element_wise(*where, " "), after, "")
