"""Check the user's brakes on rows, trailers, age and unassigns before anything is sent."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from telemetron_batch.config.config import Brakes
from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.errors import BrakeError
from telemetron_batch.domain.model import InputFile
from telemetron_batch.domain.preview import Preview, PreviewWord
from telemetron_batch.planning.plan import Plan


def check_rows(records: int, brakes: Brakes) -> None:
    """Raise BrakeError if the number of records violates --expect-rows or --min-rows."""
    if brakes.expect_rows is not None and records != brakes.expect_rows:
        raise BrakeError(
            f"the input has {records} rows, --expect-rows says {brakes.expect_rows}",
            "nothing was sent; look whether the export is complete",
        )
    if brakes.min_rows is not None and records < brakes.min_rows:
        raise BrakeError(
            f"the input has {records} rows, fewer than --min-rows {brakes.min_rows}",
            "nothing was sent; look whether the export is complete",
        )


def check_trailers(files: Iterable[InputFile]) -> None:
    """Raise BrakeError if the trailer of a file gives a number of rows that the file does not have."""
    for file in files:
        if file.trailer_count is not None and file.trailer_count != file.record_count:
            raise BrakeError(
                f"{file.name} has {file.record_count} rows, its trailer says {file.trailer_count}",
                "nothing was sent; look whether the export is complete",
            )


def check_plan(plan: Plan, brakes: Brakes, confirmed_by: npt.NDArray[np.int64] | None = None) -> None:
    """Raise BrakeError if the plan has more unassigns than --max-unassign allows.

    Rows whose `confirmed_by` is not 0 do not count: an earlier run confirmed them, so sending
    them again removes nothing.
    """
    if brakes.max_unassign is None:
        return
    removals, limit = plan.unassign_rows, brakes.max_unassign.limit_for(plan.rows_for_percent_limits)
    if confirmed_by is not None:
        for rows, _ in plan.calls_by_row():
            unassign = plan.rows.action[rows] == Action.UNASSIGN.code
            removals -= int(np.count_nonzero(confirmed_by[rows[unassign]]))
    if removals > limit:
        raise BrakeError(
            f"{removals} rows are unassigns, more than --max-unassign {brakes.max_unassign}",
            "nothing was sent; if that is meant, raise --max-unassign",
        )


def check_preview(preview: Preview, file: Path, plan: Plan, brakes: Brakes) -> None:
    """Raise BrakeError if a look at the customers, written to `file`, shows more than a brake allows."""
    new, limit = preview.customers_to_create, brakes.max_new_customers
    if limit is not None and new > limit:
        customers = "1 customer" if new == 1 else f"{new} customers"
        raise BrakeError(
            f"{customers} would be created, more than --max-new-customers {limit}",
            f"nothing was sent; look at {file}, then raise --max-new-customers",
        )
    without_effect = preview.rows[PreviewWord.NOT_THIS_CUSTOMERS]
    if brakes.max_skipped is not None and without_effect > brakes.max_skipped.limit_for(plan.unassign_rows):
        unassigns = "1 unassign" if without_effect == 1 else f"{without_effect} unassigns"
        raise BrakeError(
            f"{unassigns} would have no effect, more than --max-skipped {brakes.max_skipped}",
            f"nothing was sent; look at {file}, then raise --max-skipped",
        )


def check_age(ages: Iterable[tuple[str, float]], brakes: Brakes) -> None:
    """Raise BrakeError if a file, given by name and age in seconds, is older than --max-age allows."""
    for name, age in ages:
        if brakes.max_age is not None and age > brakes.max_age:
            raise BrakeError(
                f"{name} was written {age:.0f} s ago, longer than --max-age allows ({brakes.max_age:.0f} s)",
                "nothing was sent; look whether the export ran",
            )
