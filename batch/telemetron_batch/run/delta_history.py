"""Find which rows earlier runs in the reports folder have settled (`--since-last`).

Only runs in the same reports folder against the same base URL count; the sandbox counts as a base URL of its own.

The base run is the last finished run (the one that started last) with the same account and the same job: the name
of the job, else the profile, else the names of the input files without digits (`erp-0521.csv` matches
`erp-0522.csv`). Only its journal is read. For each row that the base run left out, its journal names the earlier run
that settled the row.

A device is uncertain if any other run has sent it since the base run started, whatever the key, profile or end of
that run, and whether or not its folder was removed since. For a run that is active or was killed these are all devices
it planned to send. An attempt without an answer
may still be carried out for 15 minutes. A journal that cannot be read, or a base run that started in the future, makes
every device uncertain. Hosts that share a reports folder need clocks that agree to within the time between two runs.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.config.config import RunConfig
from telemetron_batch.domain.arrays import Ints
from telemetron_batch.domain.base_url import api_identity
from telemetron_batch.domain.errors import DiskError, JournalError, UntrustedRunError
from telemetron_batch.domain.model import InputFile
from telemetron_batch.journal.facts import Fact, is_finished
from telemetron_batch.journal.journal import Journal
from telemetron_batch.journal.layout import JOURNAL_NAME, LOCK_NAME, run_folders, shard_folders
from telemetron_batch.journal.reader import ImmutableJournal, JournalReader
from telemetron_batch.journal.removed_runs import RemovedRun, read_removed_rows
from telemetron_batch.planning.delta import (
    ConfirmedBy,
    ConfirmedPairs,
    RowDeltaState,
    decode_column,
    find_unchanged,
)
from telemetron_batch.rows.rows import KEY_SCHEMA, PLAN_COLUMNS, Rows
from telemetron_batch.run.removed import removed_runs
from telemetron_batch.storage.clock import iso
from telemetron_batch.storage.lease_files import is_in_use, remote_holder
from telemetron_batch.storage.lock import key_fingerprint, organisation_name

LATE_EFFECT_S: Final = 900.0
"""How long an attempt without an answer may still be carried out."""
_QUERY_DIGITS: Final = 12
_NO_PAIRS: Final = pa.RecordBatch.from_pylist([], schema=pa.schema([KEY_SCHEMA.field(name) for name in PLAN_COLUMNS]))
_NAME_ORGANISATION: Final = "give --organisation NAME to both runs to keep the history when the key changes"
_FULL_RUN_TOLERANCE: Final = 23 / 24
"""A full run is due after this fraction of --full-every; otherwise a start some minutes early would delay it a day."""


@dataclass(frozen=True, slots=True)
class JobIdentity:
    """The job that a run belongs to, and when it asks."""

    reports_dir: Path
    base_url: str
    account_hash: str | None
    """Hash of base URL and organisation or key; None without both, which matches the runs of any account."""
    organisation: str | None
    """The value of `--organisation`."""
    job_key: tuple[str, ...]
    """The kind of name, and the name: of the job, of the profile, or of the input files."""
    now: float
    """Seconds since the epoch."""

    @property
    def words(self) -> str:
        """The job's name in words."""
        kind, *names = self.job_key
        return f"{', '.join(names)} without a profile" if kind == "files" else f"{kind} {names[0]}"


@dataclass(frozen=True, slots=True)
class Delta:
    """Which rows of an input earlier runs have settled, and whether they are left out."""

    confirmed_by: Ints
    """By row: 0, or the number of the origin that settled it, also in a full run."""
    origins: tuple[ConfirmedBy, ...]
    explanation: str
    """What is sent and why, in words."""
    base_run_id: str | None = None
    """The base run."""
    last_full_run_at: float | None = None
    """When the last full run started; None if this is a full run."""

    @property
    def left_out(self) -> Ints | None:
        """The rows to leave out, as the planner takes them; None in a full run."""
        return None if self.last_full_run_at is None else self.confirmed_by

    def as_json(self) -> dict[str, Any]:
        """Return it under the names of the JSON documents."""
        return {"run": self.base_run_id, "full": self.last_full_run_at is None, "told": self.explanation}


def job_identity(config: RunConfig, files: Sequence[InputFile], now: float) -> JobIdentity:
    """Return the job that a run of these files belongs to."""
    organisation = None if config.sandbox else config.organisation
    return JobIdentity(
        config.reports_dir,
        config.api_identity,
        account_hash_of(config),
        organisation,
        job_key_of(config, [file.name for file in files]),
        now,
    )


def account_hash_of(config: RunConfig) -> str | None:
    """Return a hash of the account: of the organisation, else of the key; None without both."""
    if config.sandbox:
        return "sandbox"
    if config.organisation is not None:
        return organisation_name(config.api_identity, config.organisation)
    return None if config.api_key is None else key_fingerprint(config.api_identity, config.api_key.reveal())


def job_key_of(config: RunConfig, file_names: Sequence[str]) -> tuple[str, ...]:
    """Return what names the job: its name, else the profile, else the query, else the file names without digits."""
    if config.job is not None:
        return "job", config.job
    if config.profile is not None:
        return "profile", config.profile
    if config.query is not None:
        return "query", sha256(config.query.sql.encode()).hexdigest()[:_QUERY_DIGITS]
    return "files", *sorted({re.sub(r"\d+", "#", name) for name in file_names})


def find_delta(job: JobIdentity, rows: Rows, full_every: float, own_folder: Path | None = None) -> Delta:
    """Return which rows are settled; leave them out if the last full run started less than `full_every` seconds ago.

    `own_folder` is that of the run itself, if it exists already.
    """
    nothing, sent = np.zeros(len(rows), dtype=np.int64), "everything is sent: "
    skipped_runs: list[str] = []
    try:
        last, others = _runs(job, own_folder, skipped_runs.append)
        skipped_runs = [f"{one}, so what it settled or changed since is not known" for one in skipped_runs]
        sent = "; ".join([*skipped_runs, sent])
        if last is None:
            return Delta(nothing, (), f"{sent}{_why_no_base_run(job, others)}")
        if last.began_at > job.now:
            return Delta(nothing, (), f"{sent}run {last.run_id} began in the future", last.run_id)
        removed = _removed_since(job, last.began_at)
        if forgotten := next((one.run_id for one in removed if not one.has_rows), None):
            what = f"which devices run {forgotten} changed is not known, as it was removed with --forget-devices"
            return Delta(nothing, (), f"{sent}{what}", last.run_id)
        known = _known(last, others, _devices_of_removed(job.reports_dir, removed))
    except (JournalError, DiskError, UntrustedRunError) as exc:
        return Delta(nothing, (), f"{sent}{exc.reason}; move its folder away if it is of no use")
    confirmed_by, origins = _drop_unused_origins(find_unchanged(rows, known), known.origins)
    if job.now - last.last_full_run_at >= full_every * _FULL_RUN_TOLERANCE:
        return Delta(confirmed_by, origins, f"{sent}the last full run began {iso(last.last_full_run_at)}", last.run_id)
    explanation = f"left out is what run {last.run_id}, which ended {iso(last.ended_at)}, knew to be settled"
    beside = (past.in_use_note for past in others if past.remote_holder is not None)
    return Delta(
        confirmed_by, origins, "; ".join([explanation, *beside, *skipped_runs]), last.run_id, last.last_full_run_at
    )


def _why_no_base_run(job: JobIdentity, others: Sequence["_PreviousRun"]) -> str:
    """Return why there is no base run: no run at all, or the last one used another key or account."""
    same = (past for past in others if past.finished and past.job_key == job.job_key)
    last = max(same, key=lambda past: (past.began_at, past.run_id), default=None)
    if last is None:
        return f"there is no finished run of {job.words} yet"
    last_run = f"the last run of {job.words} ({last.run_id})"
    if job.organisation is None and last.organisation is None:
        return f"{last_run} used another key; {_NAME_ORGANISATION}"
    ours, theirs = (one or "none" for one in (job.organisation, last.organisation))
    return f"--organisation is {ours}, and that of {last_run} is {theirs}"


def _drop_unused_origins(confirmed_by: Ints, origins: Sequence[ConfirmedBy]) -> tuple[Ints, tuple[ConfirmedBy, ...]]:
    """Drop the origins that settle no row, so that they do not accumulate run by run."""
    numbers = np.unique(confirmed_by[confirmed_by > 0])
    renumbered = np.where(confirmed_by > 0, np.searchsorted(numbers, confirmed_by) + 1, 0)
    return renumbered, tuple(origins[number - 1] for number in numbers.tolist())


# Journals


@dataclass(frozen=True, slots=True)
class _PreviousRun:
    """What the choice of the base run needs to know of an earlier run."""

    folder: Path
    base_url: str
    account_hash: str | None
    organisation: str | None
    job_key: tuple[str, ...]
    began_at: float
    """When it read the journals of earlier runs; it had sent nothing before."""
    ended_at: float | None
    """When its last process ended; None while one is active, and after a kill."""
    finished: bool
    last_full_run_at: float
    remote_holder: str | None
    """The process on another host that holds it, or held it when it died; None without one."""

    @property
    def run_id(self) -> str:
        """The name of its folder."""
        return self.folder.name

    @property
    def in_use_note(self) -> str:
        """A note for the user that another host has this run."""
        return (
            f"run {self.run_id} is or was in use by {self.remote_holder}, "
            f"so this run sends every device that run {self.run_id} planned to send"
        )

    def is_finished_run_of(self, job: JobIdentity) -> bool:
        """Return whether it is a finished run of the same job."""
        same_key = self.account_hash is not None and job.account_hash in (None, self.account_hash)
        return self.finished and same_key and self.job_key == job.job_key

    def may_have_acted_since(self, moment: float) -> bool:
        """Return whether a call of it may have been carried out after that moment."""
        if self.may_be_running:
            return True
        journals = [path / JOURNAL_NAME for path in self.shards] or [self.folder / JOURNAL_NAME]
        if not self.shards and self.ended_at is not None and self.ended_at < moment - LATE_EFFECT_S:
            return False
        return any(_acted_since(journal, moment) for journal in journals)

    @property
    def may_be_running(self) -> bool:
        """Whether a process works on it, or may do so."""
        return self.remote_holder is not None or any(
            is_in_use(folder / LOCK_NAME) for folder in (self.folder, *self.shards)
        )

    @property
    def shards(self) -> tuple[Path, ...]:
        """The folders of its shards that have started."""
        return tuple(shard_folders(self.folder))


def _acted_since(path: Path, moment: float) -> bool:
    with closing(Journal(path)) as journal:
        journal.require_complete()
        return journal.acted_since(moment, LATE_EFFECT_S)


def _runs(
    job: JobIdentity, own_folder: Path | None, warn: Callable[[str], None]
) -> tuple[_PreviousRun | None, list[_PreviousRun]]:
    """Return the base run, and the other runs that may have changed something since; all runs if there is no base run.

    `warn` is called for runs that belong to another user; they are ignored.
    """
    folders = (folder for folder in run_folders(job.reports_dir, warn) if folder != own_folder)
    journals = [folder / JOURNAL_NAME for folder in folders]
    api = api_identity(job.base_url)
    read = (past for past in map(_read_unless_removed, journals) if past is not None)
    there = [past for past in read if api_identity(past.base_url) == api]
    answering = (past for past in there if past.is_finished_run_of(job))
    last = max(answering, key=lambda past: (past.began_at, past.run_id), default=None)
    if last is None:
        return None, there
    return last, [past for past in there if past is not last and past.may_have_acted_since(last.began_at)]


def _removed_since(job: JobIdentity, moment: float) -> list[RemovedRun]:
    """Return the removed runs that may have changed something after that moment."""
    api = api_identity(job.base_url)
    return [
        one
        for one in removed_runs(job.reports_dir)
        if one.api == api and one.acts_until is not None and one.acts_until > moment
    ]


def _devices_of_removed(reports_dir: Path, runs: Iterable[RemovedRun]) -> Iterator[pa.Array]:
    return (batch["deviceIdentifier"] for run in runs for batch in read_removed_rows(reports_dir, run))


def _read_unless_removed(path: Path) -> _PreviousRun | None:
    """Return a run; None if it was removed just now, so that its line counts."""
    try:
        return _read_previous_run(path)
    except (JournalError, DiskError, UntrustedRunError):
        if path.exists():
            raise
        return None


def _read_previous_run(path: Path) -> _PreviousRun:
    elsewhere = remote_holder(path.parent / LOCK_NAME)
    # Two hosts that have a journal open do not see one another's locks on it.
    with closing(Journal(path) if elsewhere is None else ImmutableJournal(path)) as journal:
        journal.require_complete()
        started, ended = journal.fact(Fact.STARTED_AT, 0.0), journal.fact(Fact.ENDED_AT)
        if elsewhere is not None and journal.fact(Fact.BASE_URL) is None:
            raise JournalError(f"cannot read the first facts of {path} while {elsewhere} may have it open")
        return _PreviousRun(
            folder=path.parent,
            base_url=journal.fact(Fact.BASE_URL, ""),
            account_hash=journal.fact(Fact.ACCOUNT_HASH),
            organisation=(journal.fact(Fact.OPTIONS) or {}).get("organisation"),
            job_key=tuple(journal.fact(Fact.JOB_KEY, ())),
            began_at=min(started, journal.fact(Fact.LOOKED_AT, started)),
            ended_at=ended,
            finished=elsewhere is None and is_finished(journal.fact),
            last_full_run_at=journal.fact(Fact.FULL_AT) or started,
            remote_holder=elsewhere,
        )


def _known(last: _PreviousRun, others: Iterable[_PreviousRun], more_devices: Iterable[pa.Array]) -> ConfirmedPairs:
    """Return the pairs that the base run confirms, and the devices that other runs may have changed since.

    `more_devices` are those of removed runs.
    """
    pairs, origin = [_NO_PAIRS], [np.empty(0, dtype=np.int64)]
    with closing(Journal(last.folder / JOURNAL_NAME)) as journal:
        origins = (
            ConfirmedBy(last.run_id, iso(last.ended_at)),
            *(ConfirmedBy(*one) for one in journal.fact(Fact.ORIGINS, ())),
        )
        for _, keys, states, carried in recorded_delta_states(journal):
            sure = states >= RowDeltaState.CONFIRMED
            pairs.append(keys.select(PLAN_COLUMNS).filter(pa.array(sure)))
            origin.append(np.where(states == RowDeltaState.INHERITED, carried + 1, 1)[sure])
    touched = [device for other in others for device in _possibly_changed_devices(other)]
    touched += more_devices
    devices = pc.unique(pa.chunked_array(touched, pa.string()))
    return ConfirmedPairs(pa.concat_batches(pairs), np.concatenate(origin), origins, devices)


def _possibly_changed_devices(past: _PreviousRun) -> Iterator[pa.Array]:
    """Yield the identifiers of the devices that a run sent, or may have sent by now."""
    path = past.folder / JOURNAL_NAME
    with closing(Journal(path) if past.remote_holder is None else ImmutableJournal(path)) as journal:
        # The state of a sharded run is complete after its report; a stopped shard may have continued since.
        is_complete = past.finished or not past.shards
        ended = is_complete and journal.fact(Fact.ROW_STATES) is not None and not past.may_be_running
        for _, keys, states, carried in recorded_delta_states(journal):
            if ended:
                sent = (states != RowDeltaState.NOT_SENT) & (states != RowDeltaState.INHERITED)
            else:
                sent = (carried == 0) & (keys["problem"].to_numpy() == 0)
            yield keys["deviceIdentifier"].filter(pa.array(sent))


def recorded_delta_states(journal: JournalReader) -> Iterator[tuple[int, pa.RecordBatch, Ints, Ints]]:
    """Yield the rows of a run block by block.

    A block is the number of its file, the keys, the `RowDeltaState` of each row, and the number of the run that
    settled it.
    """
    states, carried = (decoded_column(journal, name) for name in (Fact.ROW_STATES, Fact.CONFIRMED_BY))
    first = 0
    for file, keys in journal.key_columns():
        rows = slice(first, first + keys.num_rows)
        yield file, keys, states[rows], carried[rows]
        first += keys.num_rows


def decoded_column(journal: JournalReader, name: str) -> Ints:
    """Return a stored column of row states; zeros where the journal has none."""
    rows, text = sum(file["rows"] for file in journal.fact(Fact.INPUTS, [])), journal.fact(name)
    try:
        column = np.zeros(rows, dtype=np.int64) if text is None else decode_column(text)
    except ValueError:
        column = np.empty(0, dtype=np.int64)
    if len(column) != rows:
        raise JournalError(f"what {journal.path} says of its rows is damaged")
    return column
