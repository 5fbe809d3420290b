"""Read a journal: the input, facts, attempts, answers, queries and events."""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.answers import Answer, CustomerHoldings
from telemetron_batch.domain.arrays import Ints
from telemetron_batch.domain.model import InputFile
from telemetron_batch.domain.outcomes import OUTCOMES, Outcome
from telemetron_batch.domain.reasons import Reason
from telemetron_batch.journal.codec import (
    Positions,
    decode_answer,
    decode_answers,
    decode_batch,
    decode_devices,
    decode_positions,
)
from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.facts_reader import FactsReader, ImmutableFacts
from telemetron_batch.journal.schema import EndState
from telemetron_batch.journal.witness import OTHER_COMMITS
from telemetron_batch.rows.rows import RowBlock
from telemetron_batch.storage.clock import boot_number

_SELECT_PREVIEWS: Final = "SELECT customer, at, is_known, devices, why FROM previews"
_MAY_HAVE_ACTED_SQL: Final = "ending IS NULL OR ending = 'unclear' OR omitted > 0"
"""Condition for attempts that may have been carried out without a known result: no answer, or an incomplete one."""
_BATCH_BYTES: Final = 4 << 20
"""Bytes of JSON answers that are decoded together."""
_TIMELINE: Final = """
SELECT CAST((started - :start) / :seconds AS INTEGER) AS slice,
       CASE WHEN verdict = 'throttled' THEN 'throttled' ELSE coalesce(ending, 'unclear') END AS what, count(*)
FROM attempts GROUP BY slice, what
UNION ALL
SELECT CAST((at - :start) / :seconds AS INTEGER) AS slice, kind AS what, count(*)
FROM events WHERE kind IN ('hold', 'down', 'up') GROUP BY slice, what
ORDER BY slice, what
"""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a call, or at a part of it, as recorded."""

    number: int
    call: int
    positions: Positions | None
    """None: all devices of the call."""
    started: float
    ending: EndState | None
    """None: the process died before the attempt ended."""
    verdict: str | None
    reason: Reason
    text: str

    @property
    def may_have_acted(self) -> bool:
        """Whether the API may have carried it out although no answer came."""
        return self.ending in (None, EndState.UNCLEAR)


@dataclass(frozen=True, slots=True)
class PendingAttempt:
    """An unanswered attempt that may have been carried out, or may still be."""

    call: int
    positions: Positions | None
    """None: all devices of the call."""
    uptime: float | None
    """Send time in seconds since this machine's boot; None if it was sent in another boot or on another machine."""


@dataclass(frozen=True, slots=True)
class RecordedAnswer:
    """A recorded answer with its call."""

    call: int
    answer: Answer
    came_from_attempt: bool


@dataclass(frozen=True, slots=True)
class SettledDevices:
    """The progress of a run."""

    devices: npt.NDArray[np.int64]
    """Number of settled devices of each call, from call 1."""
    outcomes: Mapping[Outcome, int]
    """Number of devices by outcome."""


@dataclass(frozen=True, slots=True)
class BlockIterable:
    """The input in the journal; can be iterated several times."""

    _read: Callable[[], Iterator[RowBlock]]

    def __iter__(self) -> Iterator[RowBlock]:
        return self._read()


class JournalReader(FactsReader):
    """The journal of one run, open for reading."""

    def extent(self) -> dict[str, int]:
        """Return counts of the journal's content that only increase."""
        query = "SELECT coalesce(max(id), 0), (SELECT count(*) FROM results WHERE attempt IS NOT NULL) FROM attempts"
        with self._reading(query) as cursor:
            attempts, answers = cursor.fetchone()
        return {"attempts": attempts, "answers": answers, "notes": self.fact(OTHER_COMMITS, 0)}

    @property
    def input_files(self) -> tuple[InputFile, ...]:
        """The input files of the run."""
        return tuple(
            InputFile(**{**one, "header": tuple(one["header"]), "warnings": tuple(one["warnings"])})
            for one in self.fact(Fact.INPUTS, [])
        )

    def key_columns(self) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield file number and key columns of each block of the input, in order."""
        with self._reading("SELECT file, keys FROM blocks ORDER BY number") as cursor:
            for file, keys in cursor:
                yield file, decode_batch(keys)

    def blocks(self, *, backwards: bool = False, cells: Mapping[int, Sequence[int]] | None = None) -> BlockIterable:
        """Return the blocks of the input, in order or backwards.

        `cells` gives the positions of the wanted cell columns by file, because decoding the others takes time;
        None means all columns.
        """
        return BlockIterable(partial(self._blocks, cells, "DESC" if backwards else "ASC"))

    def attempts_of(self, call: int) -> list[Attempt]:
        """Return the attempts at one call, oldest first."""
        return [*self._attempts("WHERE call = ?", (call,))]

    def unclear_attempts(self) -> Iterator[Attempt]:
        """Yield attempts that may have been carried out without a known result: no answer, or an incomplete one."""
        return self._attempts(f"WHERE {_MAY_HAVE_ACTED_SQL}", ())

    def recorded_answers(self) -> Iterator[RecordedAnswer]:
        """Yield every answer in the order of recording."""
        return (settlement for _, settlement in self.numbered_answers())

    def numbered_answers(self) -> Iterator[tuple[int, RecordedAnswer]]:
        """Yield every answer with its number for `delete_results`."""
        query = "SELECT id, call, answer, attempt IS NOT NULL FROM results ORDER BY id"
        with self._reading(query) as cursor:
            for number, call, answer, came_from_attempt in cursor:
                yield number, RecordedAnswer(call, decode_answer(answer), bool(came_from_attempt))

    def settled_of(self, calls: int) -> SettledDevices:
        """Return the settled devices of calls 1 to `calls`, and their outcomes."""
        devices, codes = np.zeros(calls, np.int64), np.zeros(len(OUTCOMES), np.int64)
        for call_numbers, answers in self.answers():
            np.add.at(devices, call_numbers - 1, pc.list_value_length(answers["outcomes"]).to_numpy())
            codes += np.bincount(pc.list_flatten(answers["outcomes"]).to_numpy(), minlength=len(OUTCOMES))
        counts = zip(OUTCOMES, codes.tolist(), strict=True)
        return SettledDevices(devices, {outcome: count for outcome, count in counts if count})

    def answers(self) -> Iterator[tuple[Ints, pa.Table]]:
        """Yield batches of answers in the order of recording: their call numbers, and the table of `decode_answers`."""
        with self._reading("SELECT call, answer FROM results ORDER BY id") as cursor:
            calls, texts, size = list[int](), list[bytes](), 0
            for call, answer in cursor:
                calls.append(call)
                texts.append(zlib.decompress(answer))
                size += len(texts[-1])
                if size >= _BATCH_BYTES:
                    yield np.array(calls), decode_answers(texts)
                    calls, texts, size = [], [], 0
            if calls:
                yield np.array(calls), decode_answers(texts)

    def results_without_attempt(self) -> Iterator[tuple[int, RecordedAnswer]]:
        """Yield results without an answer, with their numbers for `delete_results`."""
        with self._reading("SELECT id, call, answer FROM results WHERE attempt IS NULL ORDER BY id") as cursor:
            for number, call, answer in cursor:
                yield number, RecordedAnswer(call, decode_answer(answer), came_from_attempt=False)

    def settled_positions(self, call: int) -> list[tuple[int | None, Positions]]:
        """Return attempt number (None: without an answer) and positions of each result of one call."""
        query = "SELECT attempt, answer FROM results WHERE call = ? ORDER BY id"
        with self._reading(query, (call,)) as cursor:
            return [(attempt, tuple(decode_answer(answer).results)) for attempt, answer in cursor]

    def holdings(self, customer: str) -> frozenset[str] | None:
        """Return a customer's devices before the run first wrote to them; None if not queried."""
        query = "SELECT devices FROM holdings WHERE customer = ?"
        with self._reading(query, (customer,)) as cursor:
            row = cursor.fetchone()
            return None if row is None else decode_devices(row[0])

    def was_known(self, customer: str) -> bool | None:
        """Return whether the API knew a customer before the run first wrote to them; None if not queried."""
        with self._reading("SELECT is_known FROM holdings WHERE customer = ?", (customer,)) as cursor:
            row = cursor.fetchone()
            return None if row is None else bool(row[0])

    def customers_known_before(self) -> Iterator[tuple[str, bool]]:
        """Yield each customer queried before the run first wrote to them, and whether the API knew them."""
        with self._reading("SELECT customer, is_known FROM holdings") as cursor:
            for customer, is_known in cursor:
                yield customer, bool(is_known)

    def all_holdings(self) -> Iterator[tuple[str, frozenset[str]]]:
        """Yield each customer queried before the run first wrote to them, and their devices."""
        with self._reading("SELECT customer, devices FROM holdings ORDER BY customer") as cursor:
            for customer, devices in cursor:
                yield customer, decode_devices(devices)

    def queries(self, verification_number: int | None = None) -> Iterator[CustomerHoldings]:
        """Yield the last query of each customer after the run; with `verification_number`, only those of one verify."""
        query = """SELECT customer, at, devices, why, after_attempt FROM looks
                   WHERE round = coalesce(?, round) ORDER BY customer"""
        with self._reading(query, (verification_number,)) as cursor:
            for customer, at, devices, why, after in cursor:
                yield CustomerHoldings(
                    customer, at, None if devices is None else decode_devices(devices), why, after_attempt=after
                )

    def previews(self) -> Iterator[CustomerHoldings]:
        """Yield what each customer held when queried before the run, in the order of their emails."""
        with self._reading(f"{_SELECT_PREVIEWS} ORDER BY customer") as cursor:
            yield from map(_preview, cursor)

    def preview(self, customer: str) -> CustomerHoldings | None:
        """Return what a customer held when queried before the run; None if not queried."""
        with self._reading(f"{_SELECT_PREVIEWS} WHERE customer = ?", (customer,)) as cursor:
            row = cursor.fetchone()
            return None if row is None else _preview(row)

    def query_counts(self, verification_number: int) -> tuple[int, int]:
        """Return the numbers of customers queried in one verify, and of failed queries among them."""
        query = "SELECT count(*), coalesce(sum(why <> ''), 0) FROM looks WHERE round = ?"
        with self._reading(query, (verification_number,)) as cursor:
            queried, failed = cursor.fetchone()
        return queried, failed

    def last_attempts(self) -> list[tuple[int, int]]:
        """Return each attempted call with the number of its last attempt."""
        with self._reading("SELECT call, max(id) FROM attempts GROUP BY call") as cursor:
            return cursor.fetchall()

    def calls_that_may_have_acted(self) -> list[int]:
        """Return the calls with an attempt that was answered or may have been carried out unanswered."""
        query = "SELECT DISTINCT call FROM attempts WHERE ending IS NULL OR ending IN ('answered', 'unclear')"
        with self._reading(query) as cursor:
            return [call for (call,) in cursor]

    def pending_attempts(self) -> Iterator[PendingAttempt]:
        """Yield unanswered attempts that may have been carried out, or may still be."""
        query = f"""SELECT call, positions, CASE WHEN boot = ? THEN uptime END FROM attempts
                    WHERE may_act_later AND ({_MAY_HAVE_ACTED_SQL}) ORDER BY id"""  # noqa: S608 - a constant
        with self._reading(query, (boot_number(),)) as cursor:
            for call, positions, uptime in cursor:
                yield PendingAttempt(call, decode_positions(positions), uptime)

    def refused_attempts(self) -> Iterator[Attempt]:
        """Yield the attempts that the API, or a proxy before it, refused."""
        return self._attempts("WHERE ending = 'refused'", ())

    def calls_with_unrequested_devices(self) -> list[int]:
        """Return the calls with an answer that contained identifiers that were not requested."""
        with self._reading("SELECT DISTINCT call FROM attempts WHERE foreign_count > 0") as cursor:
            return [call for (call,) in cursor]

    def attempt_totals(self) -> tuple[int, int, int]:
        """Return the numbers of attempts, of throttled ones, and of unanswered ones that may have been carried out."""
        query = """SELECT count(*), coalesce(sum(verdict = 'throttled'), 0),
                   coalesce(sum(ending IS NULL OR ending = 'unclear'), 0) FROM attempts"""
        with self._reading(query) as cursor:
            attempts, throttled, unclear = cursor.fetchone()
        return attempts, throttled, unclear

    def attempt_span(self) -> tuple[float, float] | None:
        """Return the send times of the first and the last attempt; None without attempts."""
        with self._reading("SELECT min(started), max(started) FROM attempts") as cursor:
            first, last = cursor.fetchone()
        return None if first is None else (first, last)

    def acting_span(self) -> tuple[float, float] | None:
        """Return when the first attempt left and when the last one ended or left; None without attempts."""
        with self._reading("SELECT min(started), max(coalesce(ended, started)) FROM attempts") as cursor:
            first, last = cursor.fetchone()
        return None if first is None else (first, last)

    def acts_until(self, late: float) -> float | None:
        """Return the last moment at which an attempt may have been carried out; None without attempts.

        `late` is as in `acted_since`.
        """
        query = f"""SELECT max(max(coalesce(ended, started),
                               CASE WHEN {_MAY_HAVE_ACTED_SQL} THEN started + :late ELSE 0 END)) FROM attempts"""  # noqa: S608 - a constant
        with self._reading(query, {"late": late}) as cursor:
            found: float | None = cursor.fetchone()[0]
            return found

    def acted_since(self, moment: float, late: float) -> bool:
        """Return whether an attempt ended after a moment, or an unanswered one may have been carried out after it.

        An unanswered attempt may be carried out until `late` seconds after it was sent.
        """
        query = f"""SELECT EXISTS (SELECT 1 FROM attempts WHERE coalesce(ended, started) > :moment
                    OR (started > :moment - :late AND ({_MAY_HAVE_ACTED_SQL})))"""  # noqa: S608 - a constant
        with self._reading(query, {"moment": moment, "late": late}) as cursor:
            return bool(cursor.fetchone()[0])

    def timeline(self, start: float, seconds: float) -> list[tuple[int, str, int]]:
        """Return slice of time (from 0, each `seconds` long), kind and count of attempts and events.

        The kind of an attempt is its ending, or `throttled`; events are holds, outages and their ends.
        """
        return self._connection.execute(_TIMELINE, {"start": start, "seconds": seconds}).fetchall()

    def events(self, most: int) -> list[tuple[float, str, str]]:
        """Return time, kind and text of the first `most` events."""
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

    def _attempts(self, where: str, values: Sequence[object]) -> Iterator[Attempt]:
        columns = "id, call, positions, started, ending, verdict, coalesce(reason, 0), coalesce(text, '')"
        query = f"SELECT {columns} FROM attempts {where} ORDER BY id"  # noqa: S608 - constants of this class
        with self._reading(query, values) as cursor:
            for number, call, positions, started, ending, verdict, reason, text in cursor:
                known_ending = None if ending is None else EndState(ending)
                yield Attempt(
                    number, call, decode_positions(positions), started, known_ending, verdict, Reason(reason), text
                )


class ImmutableJournal(ImmutableFacts, JournalReader):
    """A journal read without locks or changes, while it may be open in another process or on another host.

    Only the input and the facts of `JournalDraft.publish` are reliable; later records may be missing.
    """


def _preview(row: tuple[str, float, int, bytes | None, str]) -> CustomerHoldings:
    customer, at, is_known, devices, error = row
    return CustomerHoldings(
        customer, at, None if devices is None else decode_devices(devices), error, is_known=bool(is_known)
    )
