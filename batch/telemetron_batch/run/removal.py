"""What is known of a finished run when its folder is about to be removed: its line, and the rows that it sent."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.base_url import api_identity
from telemetron_batch.domain.errors import JournalError
from telemetron_batch.journal.facts import Fact, is_finished
from telemetron_batch.journal.journal import Journal
from telemetron_batch.journal.layout import JOURNAL_NAME
from telemetron_batch.journal.reader import JournalReader
from telemetron_batch.journal.removed_runs import ROW_SCHEMA, RemovedRun
from telemetron_batch.owners.last_words import OwnerWord
from telemetron_batch.planning.delta import RowDeltaState
from telemetron_batch.run.delta_history import LATE_EFFECT_S, recorded_delta_states
from telemetron_batch.run.history import RecordedRun
from telemetron_batch.run.owner_history import recorded_words

_KEYS: Final = ("customerEmail", "deviceIdentifier", "action")
_UNSENT: Final = (RowDeltaState.NOT_SENT, RowDeltaState.INHERITED)

JobKey = tuple[str, str | None, tuple[str, ...]]
"""Identity of the API, account, and the kind of name and the name of a job."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFacts:
    """What decides whether a run is still needed. Times are in seconds since the epoch."""

    folder: Path
    is_finished: bool
    job: JobKey
    began_at: float
    """When it read the journals of earlier runs; it had sent nothing before."""
    ended_at: float | None
    acts_until: float | None
    """The last moment at which a call of it may have been carried out; None if it made none."""
    uses_since_last: bool
    inputs: tuple[Path, ...]
    """Its input files, as they were named."""
    is_published: bool
    """Whether its files are where `--publish` wants them, if anywhere."""
    input_hashes: tuple[str, ...] = ()
    """SHA-256 of its input files."""
    attention_hashes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """SHA-256 of its attention files as this program has written them, by name."""

    @property
    def run_id(self) -> str:
        """The name of its folder."""
        return self.folder.name

    @property
    def api(self) -> str:
        """Identity of the API."""
        return self.job[0]


def read_run_facts(folder: Path) -> RunFacts:
    """Return what decides whether the run in a folder is needed. Raises JournalError, DiskError, UntrustedRunError."""
    with closing(Journal(folder / JOURNAL_NAME)) as journal:
        journal.require_complete()
        fact = journal.fact
        if fact(Fact.BASE_URL) is None:
            raise JournalError(f"{journal.path} does not tell yet what the run began with")
        started = fact(Fact.STARTED_AT) or 0.0
        return RunFacts(
            folder=folder,
            is_finished=is_finished(fact),
            job=(api_identity(fact(Fact.BASE_URL)), fact(Fact.ACCOUNT_HASH), tuple(fact(Fact.JOB_KEY) or ())),
            began_at=min(started, fact(Fact.LOOKED_AT) or started),
            ended_at=fact(Fact.ENDED_AT),
            acts_until=journal.acts_until(LATE_EFFECT_S),
            uses_since_last=fact(Fact.SINCE) is not None,
            inputs=tuple(Path(file["path"]) for file in fact(Fact.INPUTS) or () if file.get("path")),
            is_published=_is_published(fact),
            input_hashes=tuple(file["sha256"] for file in fact(Fact.INPUTS) or ()),
            attention_hashes=fact(Fact.ATTENTION_HASHES) or {},
        )


def _is_published(fact: Callable[[str], Any]) -> bool:
    wanted = (fact(Fact.OPTIONS) or {}).get("publish")
    return wanted is None or fact(Fact.PUBLISHED) is not None


def removal_line(folder: Path, now: float, *, with_rows: bool) -> RemovedRun:
    """Return the line of the finished run in a folder. Raises JournalError, DiskError, UntrustedRunError."""
    with closing(Journal(folder / JOURNAL_NAME)) as journal:
        journal.require_complete()
        run, fact = RecordedRun.of(folder, journal.fact), journal.fact
        started = fact(Fact.STARTED_AT) or 0.0
        first, last = journal.acting_span() or (started, started)
        return RemovedRun(
            run_id=folder.name,
            journal_id=fact(Fact.JOURNAL_ID) or "",
            api=run.api,
            account_hash=run.account_hash,
            job_key=run.job_key,
            is_sandbox=run.is_sandbox,
            hashes=run.hashes,
            has_own_reports=run.has_own_reports,
            as_of=fact(Fact.AS_OF),
            written=run.order.written,
            has_sent=run.has_sent(),
            first_attempt_at=first,
            last_attempt_at=last,
            late_effect_s=fact(Fact.LATE_EFFECT_S) or LATE_EFFECT_S,
            acts_until=journal.acts_until(LATE_EFFECT_S),
            ended_at=fact(Fact.ENDED_AT),
            removed_at=now,
            has_rows=with_rows,
        )


def removal_rows(folder: Path) -> Iterator[pa.RecordBatch]:
    """Yield the rows that the finished run in a folder has sent, as `ROW_SCHEMA` has them. Raises as `removal_line`."""
    with closing(Journal(folder / JOURNAL_NAME)) as journal:
        run = RecordedRun.of(folder, journal.fact)
        took = _states_of_taken(journal)
        blocks = zip(recorded_delta_states(journal), recorded_words(run, journal), strict=True)
        for (_, keys, states, _), words in blocks:
            chosen = ~np.isin(states, _UNSENT) | (words != OwnerWord.NOTHING)
            unassigns = keys["action"].to_numpy() == Action.UNASSIGN.code
            columns = [
                *(keys[name] for name in _KEYS),
                pa.array(words.astype(np.int8)),
                pa.array(np.isin(states, took) & unassigns),
            ]
            if run.is_sandbox:  # its customers are made up; the devices alone decide what is sent again
                columns[0] = pa.repeat(pa.scalar("", pa.string()), keys.num_rows)
            yield pa.record_batch(columns, schema=ROW_SCHEMA).filter(pa.array(chosen))


def _states_of_taken(journal: JournalReader) -> list[RowDeltaState]:
    """Return the states of unassigns that had an effect."""
    counts = (journal.fact(Fact.SUMMARY) or {}).get("counts", {})
    if not counts.get("unassigned"):
        return []
    # In journals of earlier versions a skipped unassign has the same state as an effective one.
    has_own_state = any((states == RowDeltaState.TAKEN).any() for _, _, states, _ in recorded_delta_states(journal))
    return [RowDeltaState.TAKEN if has_own_state else RowDeltaState.CONFIRMED]
