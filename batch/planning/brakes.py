"""What must hold before anything is sent: brakes that the user set, and yesterday's file fed again."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from batch.config import Brakes
from batch.errors import BrakeError
from batch.model import Action, InputFile
from batch.planning.plan import Plan
from batch.rows import Rows


def check_rows(rows: Rows, brakes: Brakes) -> None:
    """Raise BrakeError where the number of rows is not as the user said it must be."""
    if brakes.expect_rows is not None and len(rows) != brakes.expect_rows:
        raise BrakeError(
            f"the input has {len(rows)} rows, --expect-rows says {brakes.expect_rows}",
            "nothing was sent; look whether the export is complete",
        )
    if brakes.min_rows is not None and len(rows) < brakes.min_rows:
        raise BrakeError(
            f"the input has {len(rows)} rows, fewer than --min-rows {brakes.min_rows}",
            "nothing was sent; look whether the export is complete",
        )


def check_trailers(files: Iterable[InputFile]) -> None:
    """Raise BrakeError where a file has another number of rows than its last line says."""
    for file in files:
        if file.trailer_count is not None and file.trailer_count != file.rows:
            raise BrakeError(
                f"{file.name} has {file.rows} rows, its trailer says {file.trailer_count}",
                "nothing was sent; look whether the export is complete",
            )


def check_plan(plan: Plan, brakes: Brakes, settled: npt.NDArray[np.int64] | None = None) -> None:
    """Raise BrakeError where the plan would remove more than the user allowed.

    `settled` is not 0 for rows of which an earlier run knows that they are surely so:
    where these are sent all the same, that removes nothing.
    """
    removals = sum(stage.devices for stage in plan.stages() if stage.action is Action.UNASSIGN)
    if settled is not None:
        for rows, _ in plan.calls_by_row():
            unassign = plan.rows.action[rows] == Action.UNASSIGN.code
            removals -= int(np.count_nonzero(settled[rows[unassign]]))
    if brakes.max_unassign is not None and removals > brakes.max_unassign:
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


def former_run(files: Sequence[InputFile], base_url: str, reports_dir: Path) -> str | None:
    """The id of a finished run of the same content against the same base URL; None without one."""
    wanted = [file.sha256 for file in files]
    for summary in _summaries(reports_dir):
        inputs = summary.get("inputs")
        if not (isinstance(inputs, list) and all(isinstance(one, dict) for one in inputs)):
            continue
        hashes = [one.get("sha256") for one in inputs]
        finished = summary.get("state") == "finished" and not summary.get("sandbox")
        if finished and hashes == wanted and summary.get("baseUrl") == base_url:
            return str(summary.get("runId"))
    return None


def _summaries(reports_dir: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(reports_dir.glob("*/summary.json")):
        try:
            summary = json.loads(path.read_bytes())
        except (OSError, ValueError):
            continue
        if isinstance(summary, dict):
            yield summary
