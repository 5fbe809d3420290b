"""Nights of a job, and what is kept of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from telemetron_batch.retention.forget import ForgetRequest, ForgetResult, forget
from telemetron_batch.retention.prune import PruneRequest, PruneResult, prune
from tests.conftest import Desk, Ran

DAY = 86_400.0
Row = tuple[str, str, str]


@dataclass
class Archive:
    """A desk with runs of several days, whose old runs can be removed."""

    desk: Desk
    count: int = 0

    @property
    def reports(self) -> Path:
        return self.desk.folder / "reports"

    def run(self, rows: Sequence[Row], *, pause: float = DAY, name: str = "erp-{}.csv", **flags: Any) -> Ran:
        """Make a run, a day after the one before."""
        self.count += 1
        self.desk.clock.skip(pause)
        self.desk.server.seen.clear()
        path = self.desk.file(rows, name.format(self.count))
        return self.desk.run(path, **{"run_id": f"n{self.count}", **flags})

    def night(self, rows: Sequence[Row], **flags: Any) -> Ran:
        """Make a run that leaves out what earlier ones have settled."""
        return self.run(rows, since_last=True, **flags)

    def prune(self, days: float = 0.0, **options: Any) -> PruneResult:
        """Remove the runs that are older than so many days."""
        return prune(PruneRequest(self.reports, days * DAY, **options), clock=self.desk.clock)

    def forget(self, *addresses: str, **options: Any) -> ForgetResult:
        """Forget these people."""
        return forget(ForgetRequest(self.reports, addresses, **options), clock=self.desk.clock)

    @property
    def runs(self) -> list[str]:
        """The runs whose folders are there."""
        return sorted(path.parent.name for path in self.reports.glob("*/journal.sqlite3"))

    @property
    def sent(self) -> set[Row]:
        """What the last run asked for."""
        seen = self.desk.server.seen
        return {(one.customer, device, one.action) for one in seen for device in one.devices}


@pytest.fixture
def archive(desk: Desk) -> Archive:
    return Archive(desk)
