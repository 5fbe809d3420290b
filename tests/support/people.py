"""Several users at one desk: who runs a command, and who owns the files of approvals, without system users."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from telemetron_batch.config.config import RunConfig, resolve
from telemetron_batch.run import pipeline
from telemetron_batch.run.approve import ApprovalInfo, approve
from telemetron_batch.run.listing import RunInfo, list_runs
from telemetron_batch.run.save_plan import SavedPlan, save_plan
from telemetron_batch.storage.approval_folder import approvals_folder
from telemetron_batch.storage.system_users import SystemUsers, User
from tests.conftest import KEY, Desk, Ran
from tests.support.scripted import BASE_URL

ROOT, PETRA, PAUL, RUTH = (User(number, name) for number, name in enumerate(("root", "petra", "paul", "ruth")))
"""The administrator, who plans, who approves, and who runs."""


class FakeUsers(SystemUsers):
    """Users who take turns; each file belongs to the user who wrote it."""

    def __init__(self) -> None:
        self.now = PETRA
        self.owners: dict[tuple[int, int], User] = {}

    def current(self) -> User:
        return self.now

    def owner(self, found: os.stat_result) -> User:
        return self.owners.setdefault((found.st_dev, found.st_ino), self.now)

    @contextmanager
    def acting(self, user: User) -> Iterator[None]:
        before, self.now = self.now, user
        try:
            yield
        finally:
            self.now = before

    def give(self, path: Path, user: User) -> None:
        """Make a user the owner of a file."""
        found = path.stat()
        self.owners[found.st_dev, found.st_ino] = user


class Office:
    """A desk at which several people work."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.users = FakeUsers()
        self.reports = desk.folder / "reports"

    def config(self, *files: str, environ: dict[str, str] | None = None, **flags: Any) -> RunConfig:
        where = {"base_url": BASE_URL, "reports_dir": str(self.reports), "run_id": "r1", **flags}
        return resolve(files, where, {"TELEMETRON_API_KEY": KEY} if environ is None else environ)

    def save(self, path: str, *, by: User = PETRA, **flags: Any) -> SavedPlan:
        with self.users.acting(by):
            saved = save_plan(self.config(path, **flags), self.desk.face, self.desk.clock, self.users)
            for note in self.place(**flags).glob("*.plan"):
                self.users.owners.setdefault((note.stat().st_dev, note.stat().st_ino), by)
        return saved

    def approve(self, fingerprint: str, *, by: User = PAUL, run: str = "r1", place: Path | None = None) -> ApprovalInfo:
        with self.users.acting(by):
            approved = approve(self.reports / run, fingerprint, place, self.users, self.desk.clock)
        self.users.give(approvals_folder(self.reports, place) / f"{run}.json", by)
        return approved

    def run(self, *files: str, by: User = RUTH, **flags: Any) -> Ran:
        with self.users.acting(by):
            summary = pipeline.run(
                self.config(*files, **flags),
                observer=self.desk.face,
                transport=self.desk.server,
                clock=self.desk.clock,
                users=self.users,
            )
        return Ran(summary, summary.folder, self.desk.server)

    def place(self, *, approvals_dir: str | None = None, **_: Any) -> Path:
        return approvals_folder(self.reports, None if approvals_dir is None else Path(approvals_dir))

    @property
    def sent(self) -> int:
        """The number of requests that the API has seen."""
        return len(self.desk.server.seen)

    def line(self, run: str = "r1") -> RunInfo:
        """Return the run as `runs` lists it."""
        [line] = [
            line for line in list_runs(self.reports, users=self.users, clock=self.desk.clock) if line.run_id == run
        ]
        return line
