"""Read from the journals of earlier runs who has which device (`--owners runs`).

Only runs in the same reports folder against the same base URL and with the same account count; sandbox runs never do.
Runs whose folders were removed count by their lines. If the devices of such a run were forgotten, whatever was given
before it ended is unclear. Customers who were forgotten have no devices here.
The journal of a run that ended names the `OwnerWord` of each row. For a run that was killed or is active, they are
worked out from its answers; rows without an answer make their devices unclear. A saved plan of which nothing was sent
tells nothing. A journal that cannot be read stops the lookup, because its run may have given or taken any device.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.config.config import RunConfig
from telemetron_batch.domain.actions import ACTIONS, UNKNOWN_ACTION, Action
from telemetron_batch.domain.arrays import Ints
from telemetron_batch.domain.base_url import api_identity
from telemetron_batch.domain.errors import BatchError, ConfigError, JournalError
from telemetron_batch.domain.forgotten import FORGOTTEN_PREFIX
from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.journal import Journal
from telemetron_batch.journal.layout import JOURNAL_NAME, LOCK_NAME, run_folders, shard_folders
from telemetron_batch.journal.reader import ImmutableJournal, JournalReader
from telemetron_batch.journal.removed_runs import RemovedRun, read_removed_rows
from telemetron_batch.owners.last_words import OwnerWord, RunTime, claims_of_words
from telemetron_batch.owners.lookup import SourceFacts
from telemetron_batch.planning.delta import RowDeltaState
from telemetron_batch.reconciliation.answered import reconcile_answers
from telemetron_batch.reconciliation.owner_words import owner_words
from telemetron_batch.rows.owner_claims import CLAIM_SCHEMA, ClaimKind, ClaimSink, WantedDevices
from telemetron_batch.run.delta_history import LATE_EFFECT_S, account_hash_of, decoded_column
from telemetron_batch.run.history import RecordedRun
from telemetron_batch.run.removed import removed_runs
from telemetron_batch.run.replan import replan_from_journal
from telemetron_batch.storage.lease_files import is_in_use, remote_holder
from telemetron_batch.storage.lock import organisation_name
from telemetron_batch.storage.spill import Scratch

_ADVICE: Final = "move its folder away if it is of no use, or name an owners file"
_REPORT: Final = "report the run, then repeat the command"
_GIVES: Final = {Action.ASSIGN: OwnerWord.GIVEN, Action.UNASSIGN: OwnerWord.TAKEN}
_MAY: Final = {Action.ASSIGN: OwnerWord.MAY_BE_GIVEN, Action.UNASSIGN: OwnerWord.MAY_BE_TAKEN}
_WILL: Final = {Action.ASSIGN: OwnerWord.TO_BE_GIVEN, Action.UNASSIGN: OwnerWord.TO_BE_TAKEN}


@dataclass(frozen=True, slots=True)
class _PastRun:
    """An earlier run that may have given or taken devices."""

    run: RecordedRun
    time: RunTime

    @property
    def folder(self) -> Path:
        """The folder of the run."""
        return self.run.folder

    @property
    def removed(self) -> RemovedRun | None:
        """Its line, if its folder was removed."""
        return self.run.removed

    @property
    def order(self) -> tuple[float, float, str]:
        """By what the runs are numbered: the later run has the greater number."""
        return self.time.ended_at, self.time.began_at, self.folder.name


class RunsSource:
    """The journals of earlier runs as a source of claims: an `OwnersSource`."""

    def __init__(self, config: RunConfig, scratch_folder: Path) -> None:
        self._config = config
        self._scratch_folder = scratch_folder
        self._times: Sequence[RunTime] = ()
        self._forgotten: RemovedRun | None = None
        """The last removed run whose devices were forgotten."""
        self.warnings: list[str] = []
        """What could not be considered."""

    def read(self, wanted: WantedDevices, sink: ClaimSink) -> SourceFacts:
        """Pass on the words of all runs about wanted devices. Raises JournalError, ConfigError or DiskError."""
        runs = sorted(_past_runs(self._config, self.warnings.append), key=lambda past: past.order)
        self._times = [past.time for past in runs]
        forgotten = [past.removed for past in runs if past.removed is not None and not past.removed.has_rows]
        self._forgotten = max(forgotten, key=lambda one: one.last_attempt_at, default=None)
        for number, past in enumerate(runs):
            for keys, words in self._words(past):
                _pass_on(keys, words, number, wanted, sink)
        names = pa.array([f"run {past.folder.name}" for past in runs], pa.string())
        nowhere = "owner not found: no earlier run here has given this device to a customer"
        return SourceFacts(lambda numbers: names.take(pa.array(numbers)), nowhere)

    def settle(self, claims: pa.RecordBatch) -> pa.RecordBatch:
        """Return one claim for each pair, from the words of all runs."""
        words = claims.select(["customerEmail", "deviceIdentifier", "kind", "origin"])
        words = words.rename_columns(["customerEmail", "deviceIdentifier", "word", "run"])
        return self._without_unsure(claims_of_words(words, self._times))

    def _without_unsure(self, claims: pa.RecordBatch) -> pa.RecordBatch:
        """Return the claims; those are unclear that a removed run of forgotten devices may have ended."""
        if self._forgotten is None:
            return claims
        ended = np.array([time.ended_at for time in self._times], np.float64)[claims["origin"].to_numpy()]
        unsure = (claims["kind"].to_numpy() == ClaimKind.OWNS) & (ended <= self._forgotten.last_attempt_at)
        kind = np.where(unsure, ClaimKind.UNCLEAR, claims["kind"].to_numpy()).astype(np.int8)
        why = f"run {self._forgotten.run_id}, removed with --forget-devices, may have taken it"
        detail = pc.if_else(pa.array(unsure), why, claims["detail"])
        columns = [*claims.columns[:2], pa.array(kind), claims["origin"], detail]
        return pa.record_batch(columns, schema=CLAIM_SCHEMA)

    def _words(self, past: _PastRun) -> Iterator[tuple[pa.RecordBatch, Ints]]:
        """Yield the key columns of a run and the `OwnerWord` of each row, block by block."""
        if past.removed is not None:
            for batch in read_removed_rows(self._config.reports_dir, past.removed):
                yield batch, batch["word"].to_numpy().astype(np.int64)
            return
        try:
            with _open(past.folder) as journal:
                words, first = self._all_words(past, journal), 0
                for _, keys in journal.key_columns():
                    yield keys, _of_block(words, keys, first)
                    first += keys.num_rows
        except JournalError as exc:
            raise _unreadable(past.folder, exc) from exc

    def _all_words(self, past: _PastRun, journal: JournalReader) -> "_WordsOfBlock":
        """Return how to find the words of a block of a run."""
        if journal.records_lost:
            return _by_action(_MAY, journal)
        if past.run.is_at_rest() and (recorded := _recorded_words(past.run, journal)) is not None:
            return recorded
        if journal.is_in_shards or remote_holder(past.folder / LOCK_NAME) is not None:
            return _by_action(_WILL, journal)
        worked_out = self._worked_out(journal)
        return lambda _, rows: worked_out[rows]

    def _worked_out(self, journal: JournalReader) -> npt.NDArray[np.int8]:
        """Return the words of a run that was killed or is active, from its answers."""
        with Scratch(self._scratch_folder / "replan") as scratch:
            reconciliation = reconcile_answers(journal, replan_from_journal(journal, scratch), None)
            return owner_words(reconciliation, has_ended=False)


_WordsOfBlock = Callable[[pa.RecordBatch, slice], Ints | npt.NDArray[np.int8]]
"""Returns the words of a block, from its keys and its row numbers."""


def _recorded_words(run: RecordedRun, journal: JournalReader) -> _WordsOfBlock | None:
    """Return how to find the words that a run at rest has recorded; None if it has not."""
    if journal.fact(Fact.OWNER_WORDS) is not None:
        stored = decoded_column(journal, Fact.OWNER_WORDS)
        return lambda _, rows: stored[rows]
    return None if journal.fact(Fact.ROW_STATES) is None else _by_states(run, journal)


def recorded_words(run: RecordedRun, journal: JournalReader) -> Iterator[Ints]:
    """Yield the `OwnerWord` of each row of a finished run, block by block. Raises JournalError if it has none."""
    words, first = _recorded_words(run, journal), 0
    if words is None:
        raise JournalError(f"{journal.path} does not tell what became of its rows", _REPORT)
    for _, keys in journal.key_columns():
        yield _of_block(words, keys, first)
        first += keys.num_rows


def _of_block(words: _WordsOfBlock, keys: pa.RecordBatch, first: int) -> Ints:
    """Return the words of the valid rows of a block; nothing for the others."""
    found = np.asarray(words(keys, slice(first, first + keys.num_rows)), np.int64)
    valid = (keys["problem"].to_numpy() == 0) & (keys["action"].to_numpy() != UNKNOWN_ACTION)
    return np.where(valid, found, OwnerWord.NOTHING)


def _by_action(words: dict[Action, OwnerWord], journal: JournalReader) -> _WordsOfBlock:
    """Return the same word for all rows with the same action that the run did not leave out."""
    by_action = np.array([words[action] for action in ACTIONS])
    left_out = decoded_column(journal, Fact.CONFIRMED_BY)
    return lambda keys, rows: np.where(left_out[rows] == 0, by_action[keys["action"].to_numpy()], OwnerWord.NOTHING)


def _by_states(run: RecordedRun, journal: JournalReader) -> _WordsOfBlock:
    """Return the words of a run of an earlier version, whose journal has row states only."""
    states = decoded_column(journal, Fact.ROW_STATES)
    unsent = dict.fromkeys(ACTIONS, OwnerWord.NOTHING) if run.is_finished else _WILL
    by_state = {
        RowDeltaState.NOT_SENT: _by_action(unsent, journal),
        RowDeltaState.UNCERTAIN: _by_action(_MAY, journal),
        RowDeltaState.CONFIRMED: _by_action(_GIVES, journal),
        RowDeltaState.TAKEN: _by_action(_GIVES, journal),
    }

    def words(keys: pa.RecordBatch, rows: slice) -> Ints:
        found = np.full(keys.num_rows, OwnerWord.NOTHING, np.int64)
        for state, words_of_state in by_state.items():
            found = np.where(states[rows] == state, words_of_state(keys, rows), found)
        return found

    return words


def _pass_on(keys: pa.RecordBatch, words: Ints, run: int, wanted: WantedDevices, sink: ClaimSink) -> None:
    """Pass on the words of a block about wanted devices."""
    is_forgotten = pc.starts_with(keys["customerEmail"], FORGOTTEN_PREFIX).to_numpy(zero_copy_only=False)
    rows = np.flatnonzero((words != OwnerWord.NOTHING) & ~is_forgotten)
    devices = keys["deviceIdentifier"].take(pa.array(rows))
    found, hashes = wanted.among(devices)
    if not len(found):
        return
    at = pa.array(rows[found])
    columns = [
        keys["customerEmail"].take(at),
        devices.take(pa.array(found)),
        pa.array(words[rows[found]].astype(np.int8)),
        pa.array(np.full(len(found), run)),
        pa.repeat("", len(found)),
    ]
    sink.add(pa.record_batch(columns, schema=CLAIM_SCHEMA), hashes)


def _past_runs(config: RunConfig, warn: Callable[[str], None]) -> list[_PastRun]:
    """Return the earlier runs with the same API and account, except unsent plans.

    Raises JournalError if one cannot be read, ConfigError if it is not known which account is meant.
    """
    api, account = api_identity(config.sending.base_url), _account_of(config)
    found = []
    read = [_read(folder) for folder in run_folders(config.reports_dir, warn) if folder.name != config.run_id]
    for past in [*read, *_removed(config.reports_dir)]:
        if past is None or past.run.is_sandbox or past.run.api != api or past.run.account_hash is None:
            continue
        if account in (None, past.run.account_hash):
            found.append(past)
    if account is None and len({past.run.account_hash for past in found}) > 1:
        what = "the earlier runs used several keys or organisations, and it is not known which of them is meant"
        raise ConfigError(what, "give the key, or --organisation NAME")
    return found


def _account_of(config: RunConfig) -> str | None:
    """Return the account whose runs count; a rehearsal in the sandbox looks at the runs of the real API."""
    if not config.sandbox:
        return account_hash_of(config)
    return None if config.organisation is None else organisation_name(config.sending.base_url, config.organisation)


@contextmanager
def _open(folder: Path) -> Iterator[JournalReader]:
    """Open the journal in a folder for reading; one of another host without its locks, which are not seen here."""
    path = folder / JOURNAL_NAME
    is_elsewhere = remote_holder(folder / LOCK_NAME) is not None
    with closing(ImmutableJournal(path) if is_elsewhere else Journal(path)) as journal:
        yield journal


def _read(folder: Path) -> _PastRun | None:
    """Return the run in a folder; None if nothing of its plan was sent, or if it was removed just now.

    Raises JournalError.
    """
    try:
        # Before the journal is read, so that a process that ends in between has recorded its attempts.
        is_active = is_in_use(folder / LOCK_NAME)
        with _open(folder) as journal:
            if journal.fact(Fact.BASE_URL) is None:
                raise JournalError(f"{journal.path} does not tell yet what the run began with")
            if journal.is_unsent_plan and not journal.records_lost and not is_active:
                return None
            return _PastRun(RecordedRun.of(folder, journal.fact), _time_of(folder, journal))
    except JournalError as exc:
        if not (folder / JOURNAL_NAME).exists():
            return None
        raise _unreadable(folder, exc) from exc


def _removed(reports_dir: Path) -> list[_PastRun]:
    """Return the runs whose folders were removed. Raises JournalError or UntrustedRunError."""
    return [
        _PastRun(
            RecordedRun.of_removed(reports_dir, one),
            RunTime(one.first_attempt_at, one.last_attempt_at, one.late_effect_s),
        )
        for one in removed_runs(reports_dir)
    ]


def _time_of(folder: Path, journal: JournalReader) -> RunTime:
    """Return when a run sent its calls; of one without attempts, when it started."""
    shards = shard_folders(folder)
    is_active = remote_holder(folder / LOCK_NAME) is not None
    is_active |= any(is_in_use(one / LOCK_NAME) for one in (folder, *shards))
    is_active |= bool(shards) and journal.fact(Fact.ENDED_AT) is None
    started = journal.fact(Fact.STARTED_AT, 0.0)
    began, ended = journal.acting_span() or (started, started)
    return RunTime(began, ended, journal.fact(Fact.LATE_EFFECT_S) or LATE_EFFECT_S, is_active)


def _unreadable(folder: Path, error: BatchError) -> JournalError:
    return JournalError(f"who has the devices of run {folder.name} is not known: {error.reason}", _ADVICE)
