"""Read the journals of the other runs in a reports folder, without changing them, and the lines of removed runs.

A journal is opened as immutable (no lock, no extra file) if it has no write-ahead log, or if a process on another
host has or had it open. In the second case the run counts as one that has sent something.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.base_url import api_identity
from telemetron_batch.domain.errors import DiskError, JournalError, UntrustedRunError
from telemetron_batch.domain.model import InputFile
from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.input.own_reports import is_own_report
from telemetron_batch.journal.facts import Fact, is_finished
from telemetron_batch.journal.journal import Journal
from telemetron_batch.journal.layout import JOURNAL_NAME, LOCK_NAME, run_folders, shard_folders
from telemetron_batch.journal.reader import ImmutableJournal, JournalReader
from telemetron_batch.journal.removed_runs import RemovedRun, read_removed_rows
from telemetron_batch.planning.delta import RowDeltaState
from telemetron_batch.planning.run_order import KeyBatches, RunOrder
from telemetron_batch.rows.rows import joined_pairs
from telemetron_batch.run.delta_history import recorded_delta_states
from telemetron_batch.run.removed import removed_runs
from telemetron_batch.storage.lease_files import is_in_use, remote_holder


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A run by the facts that its journal started with, and whether it has finished."""

    folder: Path
    api: str
    """Identity of the API."""
    account_hash: str | None
    job_key: tuple[str, ...]
    is_sandbox: bool
    hashes: tuple[str, ...]
    """SHA-256 of its input files."""
    has_own_reports: bool
    """Whether all its input files are reports of this program."""
    order: RunOrder
    is_finished: bool
    removed: RemovedRun | None = None
    """Its line, if its folder was removed."""

    @classmethod
    def of_removed(cls, reports_dir: Path, removed: RemovedRun) -> "RecordedRun":
        """Return a run whose folder was removed; only finished runs are."""
        as_of = None if removed.as_of is None else datetime.fromisoformat(removed.as_of)
        return cls(
            folder=reports_dir / removed.run_id,
            api=removed.api,
            account_hash=removed.account_hash,
            job_key=removed.job_key,
            is_sandbox=removed.is_sandbox,
            hashes=removed.hashes,
            has_own_reports=removed.has_own_reports,
            order=RunOrder(removed.run_id, as_of, removed.written),
            is_finished=True,
            removed=removed,
        )

    @classmethod
    def of(cls, folder: Path, fact: Callable[[str], Any]) -> "RecordedRun":
        """Return the run in this folder; `fact` returns a fact of its journal by name."""
        files, as_of = fact("inputs") or (), fact("asOf")
        written = [file.get("written") for file in files]
        newest = None if None in written else max(written, default=None)
        return cls(
            folder=folder,
            api=api_identity(fact("baseUrl")),
            account_hash=fact("client"),
            job_key=tuple(fact("lineage") or ()),
            is_sandbox=bool(fact("sandbox")),
            hashes=tuple(file["sha256"] for file in files),
            has_own_reports=bool(files) and all(is_own_report(file["name"], file["header"]) for file in files),
            order=RunOrder(folder.name, None if as_of is None else datetime.fromisoformat(as_of), newest),
            is_finished=is_finished(fact),
        )

    def is_same_job(self, other: "RecordedRun") -> bool:
        """Return whether both belong to one job: the same API, account and job name."""
        same = self.api == other.api and self.account_hash == other.account_hash and self.job_key == other.job_key
        return same and self.account_hash is not None

    @property
    def has_order(self) -> bool:
        """Whether `--as-of` orders it: not if it used the sandbox or took reports of this program as input."""
        return not (self.is_sandbox or self.has_own_reports)

    def has_sent(self) -> bool:
        """Return whether it, or a shard of it, has recorded an attempt. Raises JournalError, DiskError."""
        if self.removed is not None:
            return self.removed.has_sent
        return any(_has_attempts(folder) for folder in (self.folder, *shard_folders(self.folder)))

    def sent_rows(self) -> KeyBatches:
        """Yield the key columns of the rows that it sent, may have sent, or found done.

        Of a removed run only those that it sent are known.
        """
        if self.removed is not None:
            for batch in self._removed_rows(self.removed):
                yield 0, batch.append_column("line", pa.array(np.zeros(batch.num_rows, np.int64)))
            return
        with _reading(self.folder) as journal:
            has_states = journal.fact(Fact.ROW_STATES) is not None and self.is_at_rest()
            for file, keys, states, _ in recorded_delta_states(journal):
                problem = keys["problem"].to_numpy()
                yield file, keys.filter(pa.array(states != RowDeltaState.NOT_SENT if has_states else problem == 0))

    def taken_pairs(self) -> Iterator[pa.Array]:
        """Yield the pairs, as `joined_pairs` returns them, that it unassigned and left so. Raises as `has_sent`."""
        if self.removed is not None:
            for batch in self._removed_rows(self.removed):
                yield joined_pairs(batch.filter(batch["took"]))
            return
        with _reading(self.folder) as journal:
            counts = (journal.fact(Fact.SUMMARY) or {}).get("counts", {})
            if not counts.get(Outcome.UNASSIGNED):
                return
            rows = [(keys, states) for _, keys, states, _ in recorded_delta_states(journal)]
        # In journals of earlier versions a skipped unassign has the same state as an effective one.
        marks = (
            {RowDeltaState.TAKEN}
            if any((states == RowDeltaState.TAKEN).any() for _, states in rows)
            else {RowDeltaState.CONFIRMED}
        )
        for keys, states in rows:
            unassigns = keys["action"].to_numpy() == Action.UNASSIGN.code
            yield joined_pairs(keys.filter(pa.array(np.isin(states, [*marks]) & unassigns)))

    def _removed_rows(self, removed: RemovedRun) -> Iterator[pa.RecordBatch]:
        """Yield the kept rows of a removed run. Raises JournalError if they were forgotten."""
        if not removed.has_rows:
            raise JournalError(f"run {removed.run_id} was removed with --forget-devices")
        yield from read_removed_rows(self.folder.parent, removed)

    def is_at_rest(self) -> bool:
        """Return whether the row states in its journal are final."""
        # The state of a sharded run is complete after its report; a stopped shard may have continued since.
        is_complete = self.is_finished or not shard_folders(self.folder)
        return is_complete and not is_in_use(self.folder / LOCK_NAME)


def recorded_runs(reports_dir: Path, excluding: Path, warn: Callable[[str], None]) -> list[RecordedRun]:
    """Return all runs under a folder except one, by name, then the removed ones.

    `warn` is called for journals that cannot be read. Raises JournalError, DiskError or UntrustedRunError if the
    history of the removed runs cannot be: nothing else knows of them.
    """
    read = [_recorded(folder, warn) for folder in run_folders(reports_dir, warn) if folder.name != excluding.name]
    # Read after the folders: a run that is removed in between is found here.
    removed = [RecordedRun.of_removed(reports_dir, one) for one in removed_runs(reports_dir)]
    return [*(run for run in read if run is not None), *removed]


def known_runs(reports_dir: Path, excluding: Path, warn: Callable[[str], None]) -> list[RecordedRun]:
    """Return what `recorded_runs` does; no runs, and a call of `warn`, if the history cannot be read."""
    try:
        return recorded_runs(reports_dir, excluding, warn)
    except (JournalError, DiskError, UntrustedRunError) as exc:
        warn(f"earlier runs are not compared with this one: {exc.reason}")
        return []


def has_taken_any(pairs: pa.Array, base_url: str, runs: Iterable[RecordedRun], warn: Callable[[str], None]) -> bool:
    """Return whether a finished run against the same API unassigned any of these pairs (see `joined_pairs`).

    `warn` is called for journals that cannot be read.
    """
    api = api_identity(base_url)
    for run in runs:
        if run.is_finished and run.api == api:
            try:
                if any(pc.any(pc.is_in(taken, value_set=pairs)).as_py() for taken in run.taken_pairs()):
                    return True
            except (JournalError, DiskError, UntrustedRunError) as exc:
                warn(f"run {run.folder.name} is not compared with this one: {exc.reason}")
    return False


def previous_run_of_same_content(files: Sequence[InputFile], base_url: str, runs: Iterable[RecordedRun]) -> str | None:
    """Return the id of a finished run of the same content against the same API; None without one."""
    wanted, api = tuple(file.sha256 for file in files), api_identity(base_url)
    same = (run for run in runs if run.hashes == wanted and run.api == api)
    return next((run.folder.name for run in same if run.is_finished and not run.is_sandbox), None)


def _recorded(folder: Path, warn: Callable[[str], None]) -> RecordedRun | None:
    try:
        with _reading(folder) as journal:
            if journal.fact(Fact.BASE_URL) is None:
                raise JournalError(f"{journal.path} does not tell yet what the run began with")
            return RecordedRun.of(folder, journal.fact)
    except (JournalError, DiskError, UntrustedRunError) as exc:
        if (folder / JOURNAL_NAME).exists():  # else it was removed meanwhile
            warn(f"run {folder.name} is not compared with this one: {exc.reason}")
        return None


def _has_attempts(folder: Path) -> bool:
    if remote_holder(folder / LOCK_NAME) is not None:
        return True
    with _reading(folder) as journal:
        return journal.has_attempts()


@contextmanager
def _reading(folder: Path) -> Iterator[JournalReader]:
    """Open the journal in a folder for reading. Raises JournalError, DiskError."""
    path = folder / JOURNAL_NAME
    # Two hosts that have a journal open do not see one another's locks on it.
    untouched = remote_holder(folder / LOCK_NAME) is not None or not path.with_name(f"{JOURNAL_NAME}-wal").exists()
    with closing(ImmutableJournal(path) if untouched else Journal(path)) as journal:
        yield journal
