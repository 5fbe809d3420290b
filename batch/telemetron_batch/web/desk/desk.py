"""The desk: everything that the pages do, by the functions that the command line calls too.

Lists are read in threads, runs are sent by one thread after the other. The state is on disk, in the reports folder:
`.uploads` holds lists, `.desk` the queue, what is shown of plans, approvals and mappings; the runs are runs like any
other.
"""

import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx2

from telemetron_batch.config.config import RunConfig
from telemetron_batch.config.key_source import KeySource
from telemetron_batch.config.option_values import parse_run_id
from telemetron_batch.config.stored import load_stored_config, with_access
from telemetron_batch.domain.cancellation import CancelToken
from telemetron_batch.domain.errors import BatchError, JournalError, LockedError
from telemetron_batch.domain.model import Correction
from telemetron_batch.init.column_inference import ColumnGuess, survey_file
from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.facts_reader import ImmutableFacts
from telemetron_batch.journal.layout import DESK, DESK_PLANS, JOURNAL_NAME, LOCK_NAME, UPLOADS, run_folders
from telemetron_batch.run import pipeline
from telemetron_batch.run.approval import SUFFIX as APPROVAL_SUFFIX
from telemetron_batch.run.approve import approve, revoke
from telemetron_batch.run.listing import RunInfo, run_info
from telemetron_batch.run.locking import stored_facts
from telemetron_batch.run.plan_note import SUFFIX as NOTE_SUFFIX
from telemetron_batch.run.preview import preview_plan
from telemetron_batch.run.save_plan import save_plan
from telemetron_batch.run.undo import configure_undo
from telemetron_batch.storage.approval_folder import remove
from telemetron_batch.storage.atomic_file import make_private_dir
from telemetron_batch.storage.clock import Clock, RealClock
from telemetron_batch.storage.lease_files import is_in_use
from telemetron_batch.storage.trusted_folders import shared_with_group
from telemetron_batch.web.audit import AuditLog
from telemetron_batch.web.desk.check import Check, check
from telemetron_batch.web.desk.mapping import config_of, config_of_file
from telemetron_batch.web.desk.page_users import PageUsers
from telemetron_batch.web.desk.plan_view import PlanView, read_plan_view
from telemetron_batch.web.desk.progress import PageObserver
from telemetron_batch.web.desk.run_queue import Job, JobKind, RunQueue
from telemetron_batch.web.desk.uploads import Upload, UploadStore, original_name, random_id
from telemetron_batch.web.people import User

T = TypeVar("T")

PLANNED_STATES: Final = ("planned", "awaitingApproval", "approved")
"""States of a run that has sent nothing."""
_READERS: Final = 2
"""Lists that are read at the same time."""
_KEY_WAIT_S: Final = 86_400.0
"""Seconds for which a run waits for another process that uses the key."""
_MAX_WORKBOOK_ROWS: Final = 100_000
"""Rows of the largest list whose results are written as workbooks too; a million rows take many minutes."""
_MAX_TASKS: Final = 64
_MAX_LISTS_BYTES: Final = 4 << 30
_RUN_ID_LETTERS: Final = 4


@dataclass(frozen=True, slots=True)
class RunLine:
    """A run in the list."""

    info: RunInfo
    owner: str | None
    """The user of the page who asked for it; None for a run of the command line."""
    name: str
    """The name of its list."""
    is_queued: bool


class Desk:
    """What the pages work with. All methods block, except those that return a future."""

    def __init__(
        self,
        config: RunConfig,
        audit: AuditLog,
        clock: Clock | None = None,
        *,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        reports = config.reports_dir.absolute()
        self._private = reports / DESK
        self._approvals, self._plans = self._private / "approvals", self._private / DESK_PLANS
        self.config = replace(config, reports_dir=reports, approvals_dir=self._approvals, files=(), run_id=None)
        self.audit = audit
        self.clock = clock or RealClock()
        self.uploads = UploadStore(reports / UPLOADS, self.clock, _MAX_LISTS_BYTES)
        self.mappings_file = self._private / "mappings.toml"
        self.queue = RunQueue(self._private / "queue", self.clock, lambda *job: self._in_group(partial(self._do, *job)))
        self._transport = transport
        self._tasks: dict[tuple[object, ...], Future[Any]] = {}
        self._readers = ThreadPoolExecutor(_READERS, "reader")
        self._owners: dict[str, str | None] = {}

    def start(self) -> None:
        """Make the folders, and go on with what was queued."""
        for folder in (self._private, self._approvals, self._plans, self.uploads.folder):
            make_private_dir(folder)
        self.uploads.remove_old()
        self.queue.start()

    def shutdown(self) -> None:
        """Stop the run under way; it continues when the server starts again."""
        self.queue.shutdown()
        self._readers.shutdown(wait=False, cancel_futures=True)

    # Lists

    def survey(self, upload: Upload) -> Future[ColumnGuess]:
        """Guess the columns of a list from its first rows."""
        return self._task(("survey", upload.id), lambda: self._survey(upload))

    def _survey(self, upload: Upload) -> ColumnGuess:
        return survey_file(str(upload.file), config_of_file(upload.file, {}, self.config).input)

    def check(self, upload: Upload) -> Future[Check]:
        """Read a list with its mapping and its corrected cells."""
        version = ("check", upload.id, str(upload.flags), upload.corrections)
        return self._task(version, lambda: check(config_of(upload, self.config), upload.folder))

    def correct(self, upload: Upload, corrections: list[Correction]) -> Upload:
        """Record corrected cells of a list, and return it."""
        corrected = upload.corrected(corrections)
        self.uploads.save(corrected)
        return corrected

    # Plans

    def plan(self, upload: Upload, *, again: bool = False) -> Future[str]:
        """Make a list a planned run. Its result is the id of the run. Asked again, a failed plan is made again."""
        return self._task(("plan", upload.id, upload.owner), lambda: self._plan_upload(upload, again=again), renew=True)

    def planned(self, upload_id: str, user: User) -> Future[str] | None:
        """Return the plan that was made last of a list of this user; None if none was."""
        owners = {key[2] for key in self._tasks if key[0] == "plan" and key[1] == upload_id}
        owner = next((one for one in owners if user.is_only_user or one == user.name), None)
        return self._tasks.get(("plan", upload_id, owner))

    def _plan_upload(self, upload: Upload, *, again: bool) -> str:
        config = config_of(upload, self.config)
        if again:
            given = {**config.given_options, "again": True}
            config = replace(config, brakes=replace(config.brakes, again=True), given_options=given)
        folder = self._save_plan(config, upload.owner)
        self.uploads.move_into_run(upload, folder)
        return folder.name

    def undo_list(self, run_id: str, user: str, name: str) -> Upload:
        """Take what takes back the changes of a run as a list. Raises BatchError if there is nothing to take back."""
        flags = {"base_url": None if self.config.sandbox else self.config.sending.base_url}
        [file] = configure_undo(self.folder(run_id), flags, {}).files
        return self.uploads.of_run_file(Path(file), user, name)

    def _save_plan(self, config: RunConfig, user: str) -> Path:
        observer = PageObserver(self.clock, CancelToken())
        saved = save_plan(replace(config, run_id=self._new_run_id()), observer, self.clock, self.users(user))
        PlanView.of(saved).write(self._plans)
        return saved.folder

    def _new_run_id(self) -> str:
        at = datetime.fromtimestamp(self.clock.wall(), UTC)
        return f"desk-{at:%Y%m%dT%H%M%SZ}-{random_id()[:_RUN_ID_LETTERS]}"

    def plan_view(self, run_id: str) -> PlanView | None:
        """Return what is shown of the plan of a run; None if it must be made first: `renew_plan_view`."""
        return read_plan_view(self._plans, run_id)

    def renew_plan_view(self, run_id: str) -> Future[None]:
        """Make what is shown of the plan of a run, from its journal."""
        return self._task(("view", run_id), lambda: self._renew_plan_view(run_id), renew=True)

    def _renew_plan_view(self, run_id: str) -> None:
        config = self._config_of_run(self.folder(run_id))
        PlanView.of(save_plan(config, None, self.clock, self.users())).write(self._plans)

    def revise(self, run_id: str) -> Upload | None:
        """Remove a planned run that has sent nothing, and return its list. Raises BatchError for any other run."""
        folder = self.folder(run_id)
        if self.queue.state(run_id) is not None or is_in_use(folder / LOCK_NAME):
            raise LockedError(f"run {run_id} is under way, or waits for its turn", "stop it first")
        if self.info(run_id).state not in PLANNED_STATES:
            raise JournalError(f"run {run_id} has sent calls already", "it stays as it is")
        upload = self.uploads.move_out_of_run(folder)
        removed = self._private / f"removed-{random_id()}"
        folder.rename(removed)
        shutil.rmtree(removed, ignore_errors=True)
        (self._plans / f"{run_id}.json").unlink(missing_ok=True)
        for suffix in (NOTE_SUFFIX, APPROVAL_SUFFIX):
            with suppress(BatchError):
                remove(self._approvals, f"{run_id}{suffix}")
        return upload

    # Runs

    def send(self, run_id: str, user: str) -> None:
        """Queue a run to be sent, or to be continued."""
        self.queue.add(run_id, user, JobKind.SEND)

    def look(self, run_id: str, user: str) -> None:
        """Queue a look at the customers of a planned run."""
        self.queue.add(run_id, user, JobKind.LOOK)

    def _do(self, job: Job, observer: PageObserver) -> None:
        folder, users = self.folder(job.run_id), self.users(job.user)
        config = self._config_of_run(folder)
        if job.kind is JobKind.LOOK:
            saved = preview_plan(config, observer, self.clock, self._transport, users)
            PlanView.of(saved).write(self._plans)
        else:
            pipeline.run(config, observer=observer, transport=self._transport, clock=self.clock, users=users)

    def _config_of_run(self, folder: Path) -> RunConfig:
        """Return the configuration to continue a run with: as it was planned, with the key and network of the server.

        Raises ConfigError if it is a run of another API.
        """
        options, inputs = stored_facts(folder, Fact.OPTIONS, Fact.INPUTS)
        known = {key: value for key, value in options.items() if key != "limit_url"}
        stored = load_stored_config(folder, known, with_key=False)
        config, ours = with_access(stored, self.config.sending, "the run of the command line:"), self.config
        return replace(
            config,
            key_source=KeySource() if config.sandbox else ours.key_source.unread(),
            sending=replace(config.sending, limit_url=ours.sending.limit_url),
            organisation=ours.organisation,
            notices=ours.notices,
            online=ours.online,
            lock_dir=ours.lock_dir,
            base_url_flag=ours.base_url_flag,
            wait=max(config.wait, _KEY_WAIT_S),
            xlsx=config.xlsx or sum(one["rows"] for one in inputs) <= _MAX_WORKBOOK_ROWS,
        )

    def approve(self, run_id: str, fingerprint: str, user: str) -> None:
        """Approve the plan of a run in the name of a user. Raises ApprovalError if that user may not."""
        approve(self.folder(run_id), fingerprint, self._approvals, self.users(user), self.clock)

    def revoke(self, run_id: str) -> None:
        """Take back the approval of a run that has not been sent. Raises ApprovalError without one."""
        revoke(self.folder(run_id), self._approvals)

    def users(self, name: str | None = None) -> PageUsers:
        """Return the persons of plans and approvals, with this one acting."""
        return PageUsers(self._approvals, name)

    # What there is

    def folder(self, run_id: str) -> Path:
        """Return the folder of a run, whose id may come from anywhere. Raises JournalError if there is none."""
        with suppress(ValueError):
            folder = self.config.reports_dir / parse_run_id(run_id)
            if not run_id.startswith(".") and (folder / JOURNAL_NAME).exists():
                return folder
        raise JournalError("there is no such run", "look at the list of runs")

    def owner(self, run_id: str) -> str | None:
        """Return the user of the page who asked for a run; None for a run of the command line. Raises JournalError."""
        if run_id not in self._owners:
            facts = ImmutableFacts(self.folder(run_id) / JOURNAL_NAME)
            try:
                self._owners[run_id] = facts.fact(Fact.REQUESTED_BY)
            finally:
                facts.close()
        return self._owners[run_id]

    def info(self, run_id: str) -> RunInfo:
        """Return state and next step of a run. Raises BatchError."""
        return run_info(self.folder(run_id), self.users(), self.clock.wall())

    def name(self, run_id: str) -> str | None:
        """Return the name of the list of a run; None if the run was not made from one."""
        return original_name(self.folder(run_id))

    def runs(self, user: User, most: int) -> list[RunLine]:
        """Return the newest runs that a user may see."""
        folders = sorted(run_folders(self.config.reports_dir, lambda _: None), key=_changed_at, reverse=True)
        lines: list[RunLine] = []
        for folder in folders:
            if len(lines) == most:
                break
            with suppress(BatchError):  # not ours, or unreadable: the command `runs` names it
                owner = self.owner(folder.name)
                if user.may_see(owner):
                    lines.append(self._line(folder, owner))
        return sorted(lines, key=lambda line: (line.info.started_at, line.info.run_id), reverse=True)

    def _line(self, folder: Path, owner: str | None) -> RunLine:
        info = run_info(folder, self.users(), self.clock.wall())
        name = original_name(folder) or info.input
        return RunLine(info, owner, name, self.queue.state(folder.name) is not None)

    def _in_group(self, work: Callable[[], T]) -> T:
        """Do work in a thread, which does not know by itself whether the group may write to runs."""
        with shared_with_group(self.config.shared_reports_dir):
            return work()

    def _task(self, key: tuple[object, ...], work: Callable[[], T], *, renew: bool = False) -> Future[T]:
        """Return the future of some work: that of the same key if there is one, which with `renew` has not failed."""
        known = self._tasks.get(key)
        is_useless = known is not None and (known.cancelled() or (renew and known.done()))
        if known is None or is_useless:
            self._tasks.pop(key, None)
            known = self._tasks[key] = self._readers.submit(self._in_group, work)
            for old in [old for old, task in self._tasks.items() if task.done()][: len(self._tasks) - _MAX_TASKS]:
                del self._tasks[old]
        return known


def _changed_at(folder: Path) -> float:
    try:
        return (folder / JOURNAL_NAME).stat().st_mtime
    except OSError:
        return 0.0
