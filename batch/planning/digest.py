"""The plan in numbers, for a person who is about to say yes and for `plan --json`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from batch.model import InputFile
from batch.planning.calls import Stage
from batch.planning.plan import Plan
from batch.rate import Rate
from batch.rows import InvalidRows


@dataclass(frozen=True, slots=True)
class Digest:
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
    problems: Sequence[InvalidRows]
    rate: Rate

    @property
    def invalid(self) -> int:
        """Rows that will not be sent because something is wrong with them."""
        return sum(kind.rows for kind in self.problems)

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
            "calls": self.calls,
            "devices": self.devices,
            "customers": self.customers,
            "duplicates": self.duplicates,
            "unchanged": self.unchanged,
            "since": self.since,
            "invalid": self.invalid,
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


def digest(plan: Plan, files: Sequence[InputFile], rate: Rate, since: Mapping[str, Any] | None = None) -> Digest:
    """Sum up a plan."""
    return Digest(
        files=files,
        rows=len(plan.rows),
        calls=plan.calls,
        devices=plan.sent,
        customers=plan.customers,
        duplicates=plan.duplicates,
        unchanged=int(np.count_nonzero(plan.left_out)),
        since=since,
        stages=[*plan.stages()],
        problems=plan.rows.invalid,
        rate=rate,
    )
