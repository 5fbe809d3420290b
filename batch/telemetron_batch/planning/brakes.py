"""What must hold before anything is sent: brakes that the user set."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from telemetron_batch.config.config import Brakes
from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.errors import BrakeError
from telemetron_batch.domain.model import InputFile
from telemetron_batch.planning.plan import Plan


def check_rows(records: int, brakes: Brakes) -> None:
    """Raise BrakeError where the number of the files' records is not as the user said it must be."""
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
    """Raise BrakeError where a file has another number of rows than its last line says."""
    for file in files:
        if file.trailer_count is not None and file.trailer_count != file.record_count:
            raise BrakeError(
                f"{file.name} has {file.record_count} rows, its trailer says {file.trailer_count}",
                "nothing was sent; look whether the export is complete",
            )


def check_plan(plan: Plan, brakes: Brakes, settled: npt.NDArray[np.int64] | None = None) -> None:
    """Raise BrakeError where the plan would remove more than the user allowed.

    `settled` is not 0 for rows of which an earlier run knows that they are surely so:
    where these are sent all the same, that removes nothing.
    """
    if brakes.max_unassign is None:
        return
    removals, most = plan.unassign_rows, brakes.max_unassign.of(plan.rows_for_percent_limits)
    if settled is not None:
        for rows, _ in plan.calls_by_row():
            unassign = plan.rows.action[rows] == Action.UNASSIGN.code
            removals -= int(np.count_nonzero(settled[rows[unassign]]))
    if removals > most:
        raise BrakeError(
            f"{removals} rows are unassigns, more than --max-unassign {brakes.max_unassign}",
            "nothing was sent; if that is meant, raise --max-unassign",
        )


def check_age(ages: Iterable[tuple[str, float]], brakes: Brakes) -> None:
    """Raise BrakeError where a file (name and age in seconds) is older than the user allowed."""
    for name, age in ages:
        if brakes.max_age is not None and age > brakes.max_age:
            raise BrakeError(
                f"{name} was written {age:.0f} s ago, longer than --max-age allows ({brakes.max_age:.0f} s)",
                "nothing was sent; look whether the export ran",
            )
