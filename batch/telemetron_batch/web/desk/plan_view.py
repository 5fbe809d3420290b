"""What the page shows of a plan, kept beside the runs so that a large plan is not made again for each look at it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.model import Problem
from telemetron_batch.domain.preview import Preview
from telemetron_batch.domain.printable import json_text
from telemetron_batch.run.save_plan import SavedPlan
from telemetron_batch.storage.atomic_file import atomic_write


@dataclass(frozen=True, slots=True)
class PlanView:
    """A saved plan in numbers."""

    run_id: str
    fingerprint: str
    """The short form."""
    rows: int
    calls: int
    taken_devices: int
    """Devices that are taken from customers."""
    taken_customers: int
    given_devices: int
    given_customers: int
    duplicates: int
    unchanged: int
    held: int
    stages: Sequence[tuple[int, str, int, int]]
    """Number, action, calls and devices of each stage."""
    problems: Sequence[tuple[str, int, Sequence[int]]]
    """The name of the `Problem`, the number of rows and the first lines."""
    warnings: Sequence[str]
    seconds: float | None
    """The shortest possible time; None if it is unknown."""
    preview: Mapping[str, Any] | None = None
    """What a look at the customers showed: `Preview.as_json` and its `endedAt`."""

    @classmethod
    def of(cls, saved: SavedPlan) -> "PlanView":
        """Return the view of a saved plan."""
        summary, look = saved.summary, saved.summary.preview
        taken, given = (summary.action_counts[action] for action in (Action.UNASSIGN, Action.ASSIGN))
        warnings = [f"{warning}" for file in summary.files for warning in file.warnings]
        return cls(
            run_id=saved.folder.name,
            fingerprint=saved.short_fingerprint,
            rows=summary.rows,
            calls=summary.calls,
            taken_devices=taken.devices,
            taken_customers=taken.customers,
            given_devices=given.devices,
            given_customers=given.customers,
            duplicates=summary.duplicates,
            unchanged=summary.unchanged,
            held=summary.held_by_invalid + summary.held_by_spelling,
            stages=[(one.number, str(one.action), one.calls, one.devices) for one in summary.stages],
            problems=[(kind.problem.name, kind.rows, list(kind.lines)) for kind in summary.problems],
            warnings=[*warnings, *summary.held_sentences, *summary.warnings],
            seconds=summary.shortest_seconds,
            preview=None if look is None else {**look.as_json(), "endedAt": look.looked_at},
        )

    @property
    def invalid(self) -> int:
        """The number of rows that will not be sent because they are invalid."""
        return sum(rows for _, rows, _ in self.problems)

    @property
    def look(self) -> Preview | None:
        """What a look at the customers showed; None without one."""
        return Preview.of_fact(self.preview)

    def write(self, folder: Path) -> None:
        """Keep the view in a folder."""
        with atomic_write(folder / f"{self.run_id}.json") as file:
            file.write(json_text(asdict(self)).encode())


def read_plan_view(folder: Path, run_id: str) -> PlanView | None:
    """Return the view of the plan of a run; None without one, or if it is of another version."""
    try:
        fields = json.loads((folder / f"{run_id}.json").read_bytes())
        view = PlanView(**fields)
        return replace(view, problems=[(Problem[name].name, rows, lines) for name, rows, lines in view.problems])
    except (OSError, LookupError, TypeError, ValueError):
        return None
