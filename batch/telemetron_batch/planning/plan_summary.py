"""The plan in numbers, for a person who is about to say yes and for `plan --json`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from telemetron_batch.config.rate import Rate
from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.model import InputFile
from telemetron_batch.planning.calls import Stage
from telemetron_batch.planning.held_rows import HoldReason, Respelling
from telemetron_batch.planning.plan import Plan
from telemetron_batch.rows.rows import InvalidRows

_LINES: Final = 5
"""Lines, or runs of lines, of one file that are named."""


@dataclass(frozen=True, slots=True)
class Reach:
    """What one action concerns."""

    devices: int
    customers: int


@dataclass(frozen=True, slots=True)
class PlanSummary:
    """What a plan comes to."""

    files: Sequence[InputFile]
    rows: int
    calls: int
    devices: int
    customers: int
    duplicates: int
    unchanged: int
    """Rows left out because an earlier run settled them."""
    since: Mapping[str, Any] | None
    """With --since-last, what that came to, as in summary.json."""
    stages: Sequence[Stage]
    reach: Mapping[Action, Reach]
    problems: Sequence[InvalidRows]
    rate: Rate
    held_by_invalid: int
    """Assigns that are held because an invalid row may take their devices away."""
    invalid_causes: str
    """Where the first of those invalid rows stand, in words."""
    held_by_spelling: int
    """Assigns that are held because their devices are unassigned in another spelling."""
    warnings: Sequence[str]
    """What looks like a mistake in the input, seen over all its rows."""

    @property
    def invalid(self) -> int:
        """Rows that will not be sent because something is wrong with them."""
        return sum(kind.rows for kind in self.problems)

    @property
    def held(self) -> Sequence[str]:
        """Which assigns are held and why, in words; nothing where none is."""
        one, other = self.held_by_invalid, self.held_by_spelling
        why = []
        if one:
            why.append(f"{_assigns(one)} held: an invalid row may take the device away ({self.invalid_causes})")
        if other:
            why.append(f"{_assigns(other)} held: the device is unassigned in another spelling")
        return why

    @property
    def shortest_seconds(self) -> float | None:
        """Least time from the first to the last attempt, each call made once; None under `auto`."""
        per_second = self.rate.per_second
        return None if per_second == float("inf") else max(0, self.calls - 1) / per_second

    def as_json(self) -> dict[str, Any]:
        """The digest by the names of the JSON document."""
        return {
            "inputs": [file.as_json() for file in self.files],
            "rows": self.rows,
            "hiddenRows": sum(file.hidden_rows for file in self.files),
            "calls": self.calls,
            "devices": self.devices,
            "customers": self.customers,
            "duplicates": self.duplicates,
            "unchanged": self.unchanged,
            "since": self.since,
            "invalid": self.invalid,
            "heldByInvalid": self.held_by_invalid,
            "heldBySpelling": self.held_by_spelling,
            "warnings": [*self.warnings],
            "stages": [
                {
                    "stage": stage.number,
                    "action": str(stage.action),
                    "calls": stage.calls,
                    "devices": stage.devices,
                }
                for stage in self.stages
            ],
            "rate": str(self.rate),
            "shortestSeconds": self.shortest_seconds,
            "problems": [
                {"problem": kind.title, "rows": kind.rows, "firstLines": list(kind.lines)} for kind in self.problems
            ],
        }


def summarize(
    plan: Plan, files: Sequence[InputFile], rate: Rate, since: Mapping[str, Any] | None = None
) -> PlanSummary:
    """Sum up a plan."""
    by_invalid, by_spelling = (plan.held.because_of(reason) for reason in HoldReason)
    return PlanSummary(
        files=files,
        rows=len(plan.rows),
        calls=plan.calls,
        devices=plan.sent_count,
        customers=plan.customers,
        duplicates=plan.duplicates,
        unchanged=int(np.count_nonzero(plan.unchanged_source)),
        since=since,
        stages=[*plan.stages()],
        reach={action: Reach(*plan.reach(action)) for action in Action},
        problems=plan.rows.invalid,
        rate=rate,
        held_by_invalid=len(by_invalid),
        invalid_causes=_lines(plan, files, np.unique(by_invalid.cause)),
        held_by_spelling=len(by_spelling),
        warnings=[*_warnings(plan, files)],
    )


def _assigns(number: int) -> str:
    return "1 assign is" if number == 1 else f"{number:,} assigns are"


def _warnings(plan: Plan, files: Sequence[InputFile]) -> Iterator[str]:
    """Identifiers in several spellings, each in a sentence; the last one counts those that are not named."""
    for one in plan.respellings.first:
        yield _respelt(one, _lines(plan, files, np.array(one.rows, np.int64)))
    more = plan.respellings.count - len(plan.respellings.first)
    if more:
        yield f"{more:,} more {'identifier' if more == 1 else 'identifiers'} in several spellings"


def _respelt(one: Respelling, lines: str) -> str:
    what = "MAC address" if one.is_mac else "identifier"
    return f"one {what} in {one.spellings} spellings ({lines})"


def _lines(plan: Plan, files: Sequence[InputFile], rows: npt.NDArray[np.int64]) -> str:
    """Where rows, in input order, stand, as in "lines 2 to 6"; with the names of the files where there are several."""
    rows, told = rows[: _LINES * _LINES], []
    places = zip(plan.rows.files_of(rows).tolist(), plan.rows.lines_of(rows).tolist(), strict=True)
    for file, group in groupby(places, key=itemgetter(0)):
        of_file = f" of {files[file].name}" if len(files) > 1 else ""
        told.append(_in_words(sorted({line for _, line in group})) + of_file)
    return "; ".join(told)


def _in_words(lines: Sequence[int]) -> str:
    """Lines of one file, runs of three or more as such."""
    runs: list[list[int]] = []
    for line in lines:
        if runs and line == runs[-1][-1] + 1:
            runs[-1].append(line)
        else:
            runs.append([line])
    parts = [part for run in runs for part in ([f"{run[0]} to {run[-1]}"] if len(run) > 2 else map(str, run))]
    if len(parts) > _LINES:
        return f"lines {', '.join(parts[:_LINES])}, ..."
    *first, last = parts
    listed = f"{', '.join(first)} and {last}" if first else last
    return f"{'line' if len(lines) == 1 else 'lines'} {listed}"
