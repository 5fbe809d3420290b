"""Write to the journal of a run: its facts, every attempt, every answer.

Reports are written from this one file alone. An attempt is recorded before it is sent, and its end when it is known:

    started ──> answered   usable answer; its results are recorded in the same transaction
            ├─> refused    the API refused it: certainly nothing was done
            ├─> unsent     no byte was sent: certainly nothing was done
            └─> unclear    it may have been carried out, but no answer came
    (still "started" in a later process: the sender is dead, so it is unclear)

`create` makes a journal and `reader` reads it.
"""

import sqlite3
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from typing import Final

from telemetron_batch.domain.answers import Answer, CustomerHoldings
from telemetron_batch.domain.errors import LockedError
from telemetron_batch.journal.codec import Positions, answer_json, compress_answer, encode_devices, encode_positions
from telemetron_batch.journal.connection import connect, disk_errors, transaction, write_meta
from telemetron_batch.journal.reader import JournalReader, RecordedAnswer
from telemetron_batch.journal.schema import ATTEMPT_COLUMNS, END_COLUMNS, AttemptEnd, placeholders
from telemetron_batch.journal.writer import StatementValues, Writer
from telemetron_batch.storage.atomic_file import DiskReserve
from telemetron_batch.storage.clock import boot_number

# A failed query keeps the devices of an earlier successful one.
_UPSERT_LOOK: Final = """
INSERT INTO looks (customer, round, at, after_attempt, devices, why) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (customer) DO UPDATE SET
    round = excluded.round,
    at = CASE WHEN excluded.devices IS NULL THEN at ELSE excluded.at END,
    after_attempt = CASE WHEN excluded.devices IS NULL THEN after_attempt ELSE excluded.after_attempt END,
    devices = coalesce(excluded.devices, devices),
    why = excluded.why
"""
_INSERT_HOLDINGS: Final = "INSERT OR REPLACE INTO holdings (customer, is_known, devices) VALUES (?, ?, ?)"
_UPSERT_PREVIEW: Final = "INSERT OR REPLACE INTO previews (customer, at, is_known, devices, why) VALUES (?, ?, ?, ?, ?)"
_BOOT: Final = "NULL" if boot_number() is None else boot_number()
_INSERT_ATTEMPT: Final = (
    f"INSERT INTO attempts (id, call, positions, started, boot, uptime) VALUES (?, ?, ?, ?, {_BOOT}, ?)"  # noqa: S608 - a constant
)
_UPDATE_ENDED: Final = (
    f"UPDATE attempts SET (ended, {', '.join(END_COLUMNS)}) = (?, {placeholders(END_COLUMNS)}) WHERE id = ?"  # noqa: S608 - constants
)
_END_VALUES: Final = attrgetter(*END_COLUMNS)
_ATTEMPT_COLUMNS: Final = ", ".join(ATTEMPT_COLUMNS)
_INSERT_RESULT: Final = "INSERT INTO results (call, attempt, answer) VALUES (?, ?, ?)"
_INSERT_EVENT: Final = "INSERT INTO events (at, kind, text) VALUES (?, ?, ?)"
_COPY_STATEMENTS: Final = (
    (
        f"SELECT id + ?, {_ATTEMPT_COLUMNS} FROM attempts ORDER BY id",  # noqa: S608 - constants
        f"INSERT INTO attempts (id, {_ATTEMPT_COLUMNS}) VALUES (?, {placeholders(ATTEMPT_COLUMNS)})",  # noqa: S608 - constants
    ),
    ("SELECT call, attempt + ?, answer FROM results ORDER BY id", _INSERT_RESULT),
    ("SELECT customer, is_known, devices FROM holdings", _INSERT_HOLDINGS),
    ("SELECT at, kind, text FROM events ORDER BY id", _INSERT_EVENT),
)
"""Statements that read rows from one journal, with renumbered attempts, and insert them into another."""


class Journal(JournalReader):
    """The journal of one run, open for reading and, through a writer thread, for writing."""

    def __init__(self, path: Path, ensure_owner: Callable[[], None] | None = None) -> None:
        """`ensure_owner` raises LockedError if another process has taken over the journal."""
        super().__init__(path)
        self._ensure_owner = ensure_owner or (lambda: None)
        self._writer: Writer | None = None
        self._has_written = False
        self._reserve = DiskReserve(path.with_name("reserve"))
        with self._reading("SELECT EXISTS (SELECT 1 FROM attempts) OR EXISTS (SELECT 1 FROM results)") as cursor:
            self._was_begun = bool(cursor.fetchone()[0])
        self._settled_without_attempt: set[int] = set()
        self._last_attempt = 0
        """The number of the last recorded attempt, once there is a writer: no other process writes."""

    def close(self) -> None:
        """Close the journal; if this process wrote to it, move the write-ahead log into the file.

        A process that only read must not touch the log and the reserve, which may belong to an active run.
        A process that lost the run leaves the connection open: closing it may move the log into the file.
        """
        try:
            self._ensure_owner()
        except LockedError:
            self._abandon()
            return
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._has_written:
            self._reserve.release()  # also the reserve of a killed process
            with suppress(sqlite3.Error):  # on a full disk the log stays, and readers use it
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()
        self._witness.close()

    def _abandon(self) -> None:
        if self._writer is not None:
            self._writer.abandon()
        # A reference in a thread that never ends keeps the connection open until the process ends.
        threading.Thread(target=_keep_referenced, args=(self._connection,), name="abandoned", daemon=True).start()

    @property
    def is_short_of_disk(self) -> bool:
        """Whether the reserved disk space has been used; then only attempts in flight may still be recorded."""
        return self._writer is not None and self._reserve.used

    def may_have_history(self, call: int) -> bool:
        """Return whether a call may have attempts of former processes, or results without an answer.

        Most calls have none, and a query would cost as much as recording an attempt.
        """
        return self._was_begun or call in self._settled_without_attempt

    def set_facts(self, **facts: object) -> None:
        """Record facts about the run, replacing older values."""
        self._apply(lambda connection: write_meta(connection, facts))

    def conclude(self, **facts: object) -> None:
        """Record the final facts of the run, after freeing the reserve so that a kill cannot leave it behind."""
        self._reserve.release()
        self.set_facts(**facts)

    def delete_results(self, results: Sequence[int]) -> None:
        """Delete results by their numbers."""
        rows = [(number,) for number in results]
        self._apply(lambda connection: connection.executemany("DELETE FROM results WHERE id = ?", rows))

    def shorten(self, results: Mapping[int, Answer | None]) -> None:
        """Replace results, by their numbers, with these shorter answers; None deletes the result."""
        deleted = [(number,) for number, answer in results.items() if answer is None]
        changed = [
            (compress_answer(answer_json(answer)), number) for number, answer in results.items() if answer is not None
        ]

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM results WHERE id = ?", deleted)
            connection.executemany("UPDATE results SET answer = ? WHERE id = ?", changed)

        self._apply(write)

    def import_from(self, others: Iterable["Journal"], final_facts: Callable[[], Mapping[str, object]] = dict) -> None:
        """Replace attempts, results, holdings and events by those of other journals, in one transaction.

        No call may be in two of them. The journals are read one after another and need not be open at the same time.
        `final_facts` is called after all of them were read and returns facts to record in the same transaction.
        """

        def write(connection: sqlite3.Connection) -> None:
            count = "SELECT count(*) FROM attempts"
            before = connection.execute(count).fetchone()
            for table in ("results", "attempts", "holdings", "events"):
                connection.execute(f"DELETE FROM {table}")  # noqa: S608 - constants
            for other in others:
                other._copy_to(connection)
            if connection.execute(count).fetchone() != before:
                # Attempts have new numbers, and some may be later than the queries.
                connection.execute("UPDATE looks SET after_attempt = NULL")
            write_meta(connection, final_facts())

        self._apply(write)
        self._last_attempt = self._attempts_so_far()

    def _attempts_so_far(self) -> int:
        with self._reading("SELECT coalesce(max(id), 0) FROM attempts") as cursor:
            return int(cursor.fetchone()[0])

    def _copy_to(self, connection: sqlite3.Connection) -> None:
        """Append the rows to another journal, renumbering attempts."""
        last = connection.execute("SELECT coalesce(max(id), 0) FROM attempts").fetchone()
        for read, insert in _COPY_STATEMENTS:
            with self._reading(read, last if "?" in read else ()) as cursor:
                connection.executemany(insert, cursor)

    def record_event(self, at: float, kind: str, text: str) -> None:
        """Record an event without waiting for the disk."""
        row = (at, kind, text)
        self._writing().enqueue(lambda connection: connection.execute(_INSERT_EVENT, row))

    @property
    def last_attempt(self) -> int:
        """The number of the last recorded attempt; 0 without one."""
        return self._last_attempt if self._writer is not None else self._attempts_so_far()

    async def record_start(self, call: int, positions: Positions | None, at: float, uptime: float | None = None) -> int:
        """Record that an attempt is about to be sent. Return its number once the record is on disk.

        `at` is in seconds since the epoch, `uptime` in seconds since this machine's boot.
        """
        writer = self._writing()
        self._last_attempt = attempt = self._last_attempt + 1
        row = (attempt, call, encode_positions(positions), at, uptime)
        await writer.submit((StatementValues(_INSERT_ATTEMPT, row),))
        return attempt

    async def record_end(self, attempt: int, end: AttemptEnd, at: float, answer: RecordedAnswer | None = None) -> None:
        """Record the end of an attempt with the results it brought; on disk when this returns."""
        row = StatementValues(_UPDATE_ENDED, (at, *_END_VALUES(end), attempt))
        rows = (row,) if answer is None else (row, _result(answer, attempt if answer.came_from_attempt else None))
        await self._writing().submit(rows)

    async def record_holdings(self, customer: str, devices: Collection[str], *, is_known: bool = True) -> None:
        """Record a customer's devices before the run first writes to them; on disk when this returns."""
        row = (customer, is_known, encode_devices(devices))
        await self._writing().submit(lambda connection: connection.execute(_INSERT_HOLDINGS, row))

    async def record_query(self, holdings: CustomerHoldings, verification_number: int) -> None:
        """Record a query of a customer's devices after the run; on disk when this returns."""
        devices = None if holdings.devices is None else encode_devices(holdings.devices)
        row = (holdings.customer, verification_number, holdings.at, holdings.after_attempt, devices, holdings.error)
        await self._writing().submit(lambda connection: connection.execute(_UPSERT_LOOK, row))

    def clear_previews(self) -> None:
        """Forget what the customers held before the run, because they are queried again."""
        self._apply(lambda connection: connection.execute("DELETE FROM previews"))

    async def record_preview(self, holdings: CustomerHoldings) -> None:
        """Record a query of a customer's devices before the run; on disk when this returns."""
        devices = None if holdings.devices is None else encode_devices(holdings.devices)
        row = (holdings.customer, holdings.at, holdings.is_known, devices, holdings.error)
        await self._writing().submit(lambda connection: connection.execute(_UPSERT_PREVIEW, row))

    async def record_results(self, settlement: RecordedAnswer) -> None:
        """Record results without an answer; on disk when this returns."""
        self._settled_without_attempt.add(settlement.call)
        await self._writing().submit((_result(settlement, None),))

    def _apply(self, write: Callable[[sqlite3.Connection], object]) -> None:
        self._has_written = True
        if self._writer is not None:
            self._writer.write_and_wait(write)
        else:
            self._witness.open()
            self._ensure_owner()
            with disk_errors(self._path), transaction(self._connection):
                write(self._connection)
                self._witness.count(self._connection, None)
                self._ensure_owner()
            self._witness.write()

    def _writing(self) -> Writer:
        if self._writer is None:
            self._reserve.allocate()
            self._has_written = True
            self._witness.open()
            self._writer = Writer(lambda: connect(self._path), self._reserve.release, self._ensure_owner, self._witness)
            self._last_attempt = self._attempts_so_far()
        return self._writer


def _keep_referenced(_: sqlite3.Connection) -> None:
    threading.Event().wait()


def _result(settlement: RecordedAnswer, attempt: int | None) -> StatementValues:
    # Encoded in this thread, whose CPU cache holds the parts; only the compression runs in the writer thread.
    text = answer_json(settlement.answer)
    return StatementValues(_INSERT_RESULT, lambda: (settlement.call, attempt, compress_answer(text)))
