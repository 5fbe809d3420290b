"""What a journal tells: its input, every attempt, every answer, what customers hold."""

import json
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.errors import JournalError
from telemetron_batch.domain.model import Answer, CustomerHoldings, InputFile
from telemetron_batch.domain.outcomes import OUTCOMES, Outcome
from telemetron_batch.domain.reasons import Reason
from telemetron_batch.journal.codec import Positions, answer_of, answers_of, decode_batch, devices_of, positions_of
from telemetron_batch.journal.connection import open_connection, open_immutable, read_error, require_ours
from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.witness import JOURNAL_ID, LOST, NOTES, ROWS, Extent, Witness
from telemetron_batch.rows.rows import RowBlock
from telemetron_batch.storage.clock import boot_number

_MAY_HAVE_ACTED_SQL: Final = "ending IS NULL OR ending = 'unclear' OR omitted > 0"
"""May have acted without our hearing of it: no answer, or one that left devices out."""
LOST_IN_SHARDS: Final = Fact.RECORDS_LOST_IN_SHARDS
"""The fact in the journal of a run that counts the records lost in those of its shards."""
AFTER_LOSS: Final = "report the run, correct by hand what it calls unconfirmed, and start again under another --run-id"
_BATCH_BYTES: Final = 4 << 20
"""Bytes of answers' JSON that are read together."""
_TIMELINE: Final = """
SELECT CAST((started - :start) / :seconds AS INTEGER) AS slice,
       CASE WHEN verdict = 'throttled' THEN 'throttled' ELSE coalesce(ending, 'unclear') END AS what, count(*)
FROM attempts GROUP BY slice, what
UNION ALL
SELECT CAST((at - :start) / :seconds AS INTEGER) AS slice, kind AS what, count(*)
FROM events WHERE kind IN ('hold', 'down', 'up') GROUP BY slice, what
ORDER BY slice, what
"""

Ints = npt.NDArray[np.int64]


class AttemptEnding(StrEnum):
    """How an attempt ended. The values are stored."""

    ANSWERED = "answered"
    REFUSED = "refused"
    UNSENT = "unsent"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a call, or at a part of it, as the journal has it."""

    number: int
    call: int
    positions: Positions | None
    """None: all devices of the call."""
    started: float
    ending: AttemptEnding | None
    """None: its process died before it ended."""
    verdict: str | None
    reason: Reason
    text: str

    @property
    def may_have_acted(self) -> bool:
        """Could the API have done what it asked for without our hearing of it?"""
        return self.ending in (None, AttemptEnding.UNCLEAR)


@dataclass(frozen=True, slots=True)
class PendingAttempt:
    """An attempt that may have acted unheard, and may still act for some time."""

    call: int
    positions: Positions | None
    """None: all devices of the call."""
    uptime: float | None
    """Seconds since this machine's boot when it left; None where it left in another boot or on another machine."""


@dataclass(frozen=True, slots=True)
class RecordedAnswer:
    """An answer in the journal, and the call whose devices it settles."""

    call: int
    answer: Answer
    by_attempt: bool


@dataclass(frozen=True, slots=True)
class Settled:
    """How far a run is."""

    devices: npt.NDArray[np.int64]
    """By call, from number 1: how many of its devices are settled."""
    outcomes: Mapping[Outcome, int]
    """What all of them came to."""


@dataclass(frozen=True, slots=True)
class BlockIterable:
    """The input in the journal, which can be gone through as often as needed."""

    _read: Callable[[], Iterator[RowBlock]]

    def __iter__(self) -> Iterator[RowBlock]:
        return self._read()


class JournalReader:
    """The journal of one run, open for reading."""

    def __init__(self, path: Path) -> None:
        self._path = path
        require_ours(path)
        self._witness = Witness(path)
        self._connection = open_connection(path)
        # Rows first: a process at work on it may raise the notes in between, which is further and no loss.
        with self._reading(ROWS) as cursor:
            extent = Extent(self.meta(NOTES, 0), cursor.fetchone()[0])
        self._witness.compare(self.meta(JOURNAL_ID, ""), extent)

    @property
    def path(self) -> Path:
        """Where it is."""
        return self._path

    @property
    def records_lost(self) -> int:
        """How many records at least are lost, here or in a journal that was gathered: rows may have been sent."""
        return int(self._witness.missing + self.meta(LOST, 0) + self.meta(LOST_IN_SHARDS, 0))

    @property
    def loss(self) -> str:
        """What was lost and what that means, in words; empty where none was."""
        lost = self.records_lost
        many = f"{lost} record{'s' if lost > 1 else ''}"
        return f"the journal has lost at least {many}: rows may have been sent without a record" if lost else ""

    def require_complete(self) -> None:
        """Raise JournalError where records were lost: nobody knows what has been sent."""
        if loss := self.loss:
            raise JournalError(f"{self._path}: {loss}", AFTER_LOSS)

    def extent(self) -> dict[str, int]:
        """Return how much it holds, in numbers that only ever rise."""
        query = "SELECT coalesce(max(id), 0), (SELECT count(*) FROM results WHERE attempt IS NOT NULL) FROM attempts"
        with self._reading(query) as cursor:
            attempts, answers = cursor.fetchone()
        return {"attempts": attempts, "answers": answers, "notes": self.meta(NOTES, 0)}

    def meta(self, name: str, default: Any = None) -> Any:
        """One of the facts about the run, as it was given to `publish` or `note`."""
        with self._reading("SELECT value FROM meta WHERE name = ?", (name,)) as cursor:
            row = cursor.fetchone()
            return default if row is None else json.loads(row[0])

    @property
    def is_in_shards(self) -> bool:
        """Whether the run is made by several processes, as shards."""
        return self.meta(Fact.DIVISION) is not None

    @property
    def input_files(self) -> tuple[InputFile, ...]:
        """The input files of the run."""
        return tuple(
            InputFile(**{**one, "header": tuple(one["header"]), "warnings": tuple(one["warnings"])})
            for one in self.meta(Fact.INPUTS, [])
        )

    @property
    def base_url_flag(self) -> str | None:
        """The base URL that the run was given on the command line; None if it was not, or if no API is asked."""
        if self.meta(Fact.SANDBOX):
            return None
        # Journals of earlier versions do not tell where the URL came from.
        option = (self.meta(Fact.OPTIONS) or {}).get("base_url")
        url = self.meta(Fact.BASE_URL_FLAG, option)
        return None if url is None else str(url)

    def key_columns(self) -> Iterator[tuple[int, pa.RecordBatch]]:
        """File number and key columns of each block of the input, in order."""
        with self._reading("SELECT file, keys FROM blocks ORDER BY number") as cursor:
            for file, keys in cursor:
                yield file, decode_batch(keys)

    def blocks(self, *, backwards: bool = False, cells: Mapping[int, Sequence[int]] | None = None) -> BlockIterable:
        """The input, block by block, in order or last to first.

        `cells` names the columns of cells that are wanted of each file, by their positions: to
        unpack the others takes time. None: all of them.
        """
        return BlockIterable(partial(self._blocks, cells, "DESC" if backwards else "ASC"))

    def attempts_of(self, call: int) -> list[Attempt]:
        """The attempts at one call, oldest first."""
        return [*self._attempts("WHERE call = ?", (call,))]

    def unclear_attempts(self) -> Iterator[Attempt]:
        """All attempts that may have acted without our hearing of it, also where an answer left devices out."""
        return self._attempts(f"WHERE {_MAY_HAVE_ACTED_SQL}", ())

    def settlements(self) -> Iterator[RecordedAnswer]:
        """Every answer, in the order in which they were recorded."""
        return (settlement for _, settlement in self.numbered_settlements())

    def numbered_settlements(self) -> Iterator[tuple[int, RecordedAnswer]]:
        """Yield every answer with the number under which `take_back` knows it."""
        query = "SELECT id, call, answer, attempt IS NOT NULL FROM results ORDER BY id"
        with self._reading(query) as cursor:
            for number, call, answer, by_attempt in cursor:
                yield number, RecordedAnswer(call, answer_of(answer), bool(by_attempt))

    def settled_of(self, calls: int) -> Settled:
        """How many devices of so many calls, from number 1, are settled, and what they came to."""
        devices, codes = np.zeros(calls, np.int64), np.zeros(len(OUTCOMES), np.int64)
        for of, answers in self.answers():
            np.add.at(devices, of - 1, pc.list_value_length(answers["outcomes"]).to_numpy())
            codes += np.bincount(pc.list_flatten(answers["outcomes"]).to_numpy(), minlength=len(OUTCOMES))
        counts = zip(OUTCOMES, codes.tolist(), strict=True)
        return Settled(devices, {outcome: count for outcome, count in counts if count})

    def answers(self) -> Iterator[tuple[Ints, pa.Table]]:
        """Every answer, in the order in which they were recorded, many at a time.

        Their calls, and records as `answers_of` gives them.
        """
        with self._reading("SELECT call, answer FROM results ORDER BY id") as cursor:
            calls, texts, size = list[int](), list[bytes](), 0
            for call, answer in cursor:
                calls.append(call)
                texts.append(zlib.decompress(answer))
                size += len(texts[-1])
                if size >= _BATCH_BYTES:
                    yield np.array(calls), answers_of(texts)
                    calls, texts, size = [], [], 0
            if calls:
                yield np.array(calls), answers_of(texts)

    def results_without_attempt(self) -> Iterator[tuple[int, RecordedAnswer]]:
        """Results that no answer of their own brought, by the numbers under which `take_back` knows them."""
        with self._reading("SELECT id, call, answer FROM results WHERE attempt IS NULL ORDER BY id") as cursor:
            for number, call, answer in cursor:
                yield number, RecordedAnswer(call, answer_of(answer), by_attempt=False)

    def settled_positions(self, call: int) -> list[tuple[int | None, Positions]]:
        """Attempt id (None: settled without an answer) and positions of each result of one call."""
        query = "SELECT attempt, answer FROM results WHERE call = ? ORDER BY id"
        with self._reading(query, (call,)) as cursor:
            return [(attempt, tuple(answer_of(answer).results)) for attempt, answer in cursor]

    def holdings(self, customer: str) -> frozenset[str] | None:
        """What a customer held before the run first wrote to them; None if nobody looked."""
        query = "SELECT devices FROM holdings WHERE customer = ?"
        with self._reading(query, (customer,)) as cursor:
            row = cursor.fetchone()
            return None if row is None else devices_of(row[0])

    def was_known(self, customer: str) -> bool | None:
        """Return whether the API knew a customer before the run first wrote to them; None if nobody looked."""
        with self._reading("SELECT is_known FROM holdings WHERE customer = ?", (customer,)) as cursor:
            row = cursor.fetchone()
            return None if row is None else bool(row[0])

    def customers_known_before(self) -> Iterator[tuple[str, bool]]:
        """Yield each customer who was looked at before the run first wrote to them, and whether the API knew them."""
        with self._reading("SELECT customer, is_known FROM holdings") as cursor:
            for customer, is_known in cursor:
                yield customer, bool(is_known)

    def all_holdings(self) -> Iterator[tuple[str, frozenset[str]]]:
        """Each customer who was looked at before the run first wrote to them, and what they held."""
        with self._reading("SELECT customer, devices FROM holdings ORDER BY customer") as cursor:
            for customer, devices in cursor:
                yield customer, devices_of(devices)

    def queries(self, round_number: int | None = None) -> Iterator[CustomerHoldings]:
        """What customers were seen to hold after the run, one look each; of one verify, or of all."""
        query = """SELECT customer, at, devices, why, after_attempt FROM looks
                   WHERE round = coalesce(?, round) ORDER BY customer"""
        with self._reading(query, (round_number,)) as cursor:
            for customer, at, devices, why, after in cursor:
                yield CustomerHoldings(
                    customer, at, None if devices is None else devices_of(devices), why, after_attempt=after
                )

    def query_counts(self, round_number: int) -> tuple[int, int]:
        """Customers who were asked in one verify, and those of them of whom nothing could be learnt."""
        query = "SELECT count(*), coalesce(sum(why <> ''), 0) FROM looks WHERE round = ?"
        with self._reading(query, (round_number,)) as cursor:
            asked, missed = cursor.fetchone()
        return asked, missed

    def last_attempts(self) -> list[tuple[int, int]]:
        """Return each call that was attempted, and the number of the last attempt at it."""
        with self._reading("SELECT call, max(id) FROM attempts GROUP BY call") as cursor:
            return cursor.fetchall()

    def calls_that_may_have_acted(self) -> list[int]:
        """Return the calls of which an attempt was answered, or may have acted unheard."""
        query = "SELECT DISTINCT call FROM attempts WHERE ending IS NULL OR ending IN ('answered', 'unclear')"
        with self._reading(query) as cursor:
            return [call for (call,) in cursor]

    def pending_attempts(self) -> Iterator[PendingAttempt]:
        """Yield the attempts that may have acted unheard, and have not been answered since by the API itself."""
        query = f"""SELECT call, positions, CASE WHEN boot = ? THEN uptime END FROM attempts
                    WHERE may_act_later AND ({_MAY_HAVE_ACTED_SQL}) ORDER BY id"""  # noqa: S608 - a constant
        with self._reading(query, (boot_number(),)) as cursor:
            for call, positions, uptime in cursor:
                yield PendingAttempt(call, positions_of(positions), uptime)

    def refused_attempts(self) -> Iterator[Attempt]:
        """Yield the attempts that left, and that the API or something before it refused."""
        return self._attempts("WHERE ending = 'refused'", ())

    def calls_with_foreign_answers(self) -> list[int]:
        """Return the calls of which an answer named identifiers that nobody asked for."""
        with self._reading("SELECT DISTINCT call FROM attempts WHERE foreign_count > 0") as cursor:
            return [call for (call,) in cursor]

    def has_attempts(self) -> bool:
        """Whether any attempt is recorded."""
        with self._reading("SELECT EXISTS (SELECT 1 FROM attempts)") as cursor:
            return bool(cursor.fetchone()[0])

    def attempt_totals(self) -> tuple[int, int, int]:
        """Number of attempts, of those throttled, and of those that may have acted unheard."""
        query = """SELECT count(*), coalesce(sum(verdict = 'throttled'), 0),
                   coalesce(sum(ending IS NULL OR ending = 'unclear'), 0) FROM attempts"""
        with self._reading(query) as cursor:
            attempts, throttled, unclear = cursor.fetchone()
        return attempts, throttled, unclear

    def attempt_span(self) -> tuple[float, float] | None:
        """When the first and the last attempt left; None without attempts."""
        with self._reading("SELECT min(started), max(started) FROM attempts") as cursor:
            first, last = cursor.fetchone()
        return None if first is None else (first, last)

    def acted_since(self, moment: float, late: float) -> bool:
        """Did an attempt end after that moment, or may one that nobody heard of have acted then?

        `late` is how many seconds after it left such an attempt may still be carried out.
        """
        query = f"""SELECT EXISTS (SELECT 1 FROM attempts WHERE coalesce(ended, started) > :moment
                    OR (started > :moment - :late AND ({_MAY_HAVE_ACTED_SQL})))"""  # noqa: S608 - a constant
        with self._reading(query, {"moment": moment, "late": late}) as cursor:
            return bool(cursor.fetchone()[0])

    def timeline(self, start: float, seconds: float) -> list[tuple[int, str, int]]:
        """Slice of time (from 0, each so many seconds long), what happened in it, and how often.

        Attempts by their ending (`throttled` where the API said that we are too fast), and
        the events that all workers heed.
        """
        return self._connection.execute(_TIMELINE, {"start": start, "seconds": seconds}).fetchall()

    def events(self, most: int) -> list[tuple[float, str, str]]:
        """When, kind and text of what was worth telling and no attempt: the first so many."""
        query = "SELECT at, kind, text FROM events ORDER BY at, id LIMIT ?"
        with self._reading(query, (most,)) as cursor:
            return cursor.fetchall()

    def _blocks(self, wanted: Mapping[int, Sequence[int]] | None, order: str) -> Iterator[RowBlock]:
        column = "cells" if wanted is None or any(wanted.values()) else "NULL"
        query = f"SELECT file, keys, {column} FROM blocks ORDER BY number {order}"  # noqa: S608 - constants
        with self._reading(query) as cursor:
            for file, keys, cells in cursor:
                columns = None if wanted is None else wanted.get(file, ())
                yield RowBlock(file, decode_batch(keys), decode_batch(cells, columns))

    @contextmanager
    def _reading(self, query: str, values: Sequence[object] | Mapping[str, object] = ()) -> Iterator[sqlite3.Cursor]:
        """What a query finds; where the file turns out to be damaged, that is said in words."""
        try:
            cursor = self._connection.execute(query, values)
            try:
                yield cursor
            finally:
                # An iteration given up half-way may be cleared away after the journal was closed.
                with suppress(sqlite3.ProgrammingError):
                    cursor.close()
        except (sqlite3.DatabaseError, zlib.error, ValueError, OSError) as exc:
            raise read_error(self._path, exc) from exc

    def _attempts(self, where: str, values: Sequence[object]) -> Iterator[Attempt]:
        columns = "id, call, positions, started, ending, verdict, coalesce(reason, 0), coalesce(text, '')"
        query = f"SELECT {columns} FROM attempts {where} ORDER BY id"  # noqa: S608 - constants of this class
        with self._reading(query, values) as cursor:
            for number, call, positions, started, ending, verdict, reason, text in cursor:
                how = None if ending is None else AttemptEnding(ending)
                yield Attempt(number, call, positions_of(positions), started, how, verdict, Reason(reason), text)


class ImmutableJournal(JournalReader):
    """What a journal began with, read without a trace: it may be open in another process, also on another host.

    Its input, and the facts that `publish` put down; of all that came later nothing is sure to be there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        require_ours(path)
        self._witness = Witness(path)  # compared with nothing: what is in the log alone is not seen
        self._connection = open_immutable(path)

    def close(self) -> None:
        """Let go of it."""
        self._connection.close()
