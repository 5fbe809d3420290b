"""The journal of a run: its input, every attempt, every answer.

One file that says all there is to say, so that a report can be written from it alone.
An attempt is recorded before it leaves and ended when we know what became of it:

    started ──> answered   a usable answer; the results it settles come in the same transaction
            ├─> refused    the API said no to it: surely nothing was done
            ├─> unsent     no byte of it left: surely nothing was done
            └─> unclear    it may have acted without our hearing of it
    (found started by a later process: its owner is dead, so it is unclear)

`draft` makes it, `reader` tells what is in it. It knows no HTTP and no outcome rules.
"""

import sqlite3
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from telemetron_batch.domain.errors import LockedError
from telemetron_batch.domain.model import Answer, CustomerHoldings
from telemetron_batch.domain.reasons import Reason
from telemetron_batch.journal.codec import Positions, answer_text, devices_blob, positions_blob, text_blob
from telemetron_batch.journal.connection import connect, disk_errors, transaction, write_meta
from telemetron_batch.journal.reader import AttemptEnding, JournalReader, RecordedAnswer
from telemetron_batch.journal.writer import Row, Statement, Writer
from telemetron_batch.storage.atomic_file import DiskReserve
from telemetron_batch.storage.clock import boot_number

# What was learnt once stands until it is learnt anew.
_INSERT_LOOK: Final = """
INSERT INTO looks (customer, round, at, after_attempt, devices, why) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (customer) DO UPDATE SET
    round = excluded.round,
    at = CASE WHEN excluded.devices IS NULL THEN at ELSE excluded.at END,
    after_attempt = CASE WHEN excluded.devices IS NULL THEN after_attempt ELSE excluded.after_attempt END,
    devices = coalesce(excluded.devices, devices),
    why = excluded.why
"""
_INSERT_HELD: Final = "INSERT OR REPLACE INTO holdings (customer, is_known, devices) VALUES (?, ?, ?)"
_BOOT: Final = "NULL" if boot_number() is None else boot_number()
_STARTED: Final = Statement(
    "INSERT INTO attempts (id, call, positions, started, boot, uptime) VALUES", f"(?, ?, ?, ?, {_BOOT}, ?)"
)
_ANSWERED: Final = Statement(
    "WITH told (id, ended, status) AS (VALUES",
    "(?, ?, ?)",
    """) UPDATE attempts SET (ended, status, ending, verdict, may_act_later) =
    (SELECT ended, status, 'answered', 'answered', 0 FROM told WHERE told.id = attempts.id)
    WHERE id IN (SELECT id FROM told)""",
)
"""What `_ENDED` would write of a usable answer that leaves nothing out, as most are."""
_OF_ENDING: Final = "ended, ending, may_act_later, verdict, status, reason, text, omitted, foreign_count"
_ENDED: Final = Statement(
    f"WITH told (id, {_OF_ENDING}) AS (VALUES",
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    f""") UPDATE attempts SET ({_OF_ENDING}) =
    (SELECT {_OF_ENDING} FROM told WHERE told.id = attempts.id)
    WHERE id IN (SELECT id FROM told)""",  # noqa: S608 - constants
)
_OF_ATTEMPT: Final = f"call, positions, started, boot, uptime, {_OF_ENDING}"
_SETTLED: Final = Statement("INSERT INTO results (call, attempt, answer) VALUES", "(?, ?, ?)")
_INSERT_EVENT: Final = "INSERT INTO events (at, kind, text) VALUES (?, ?, ?)"
_COPIED: Final = (
    (
        f"SELECT id + ?, {_OF_ATTEMPT} FROM attempts ORDER BY id",  # noqa: S608 - constants
        f"INSERT INTO attempts (id, {_OF_ATTEMPT}) VALUES ({', '.join('?' * 15)})",  # noqa: S608 - constants
    ),
    (
        "SELECT call, attempt + ?, answer FROM results ORDER BY id",
        "INSERT INTO results (call, attempt, answer) VALUES (?, ?, ?)",
    ),
    ("SELECT customer, is_known, devices FROM holdings", _INSERT_HELD),
    ("SELECT at, kind, text FROM events ORDER BY id", _INSERT_EVENT),
)
"""How rows are read from one journal, with numbers beyond those of another, and put into that."""


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """How an attempt ended."""

    ending: AttemptEnding
    verdict: str
    """The code of the verdict."""
    status: int | None = None
    reason: Reason = Reason.NONE
    text: str = ""
    may_act_later: bool = False
    omitted: int = 0
    """Devices that were asked for and that the answer leaves out."""
    foreign: int = 0
    """Identifiers that the answer names and nobody asked for."""

    @property
    def is_plain(self) -> bool:
        """Is it a usable answer that leaves nothing out?"""
        return self.ending == self.verdict == AttemptEnding.ANSWERED and not (self.text or self.omitted or self.foreign)

    def values(self, attempt: int, at: float) -> tuple[object, ...]:
        """Return the row for the attempt, which ended at this moment."""
        return (
            attempt,
            at,
            self.ending,
            self.may_act_later,
            self.verdict,
            self.status,
            int(self.reason),
            self.text,
            self.omitted,
            self.foreign,
        )


class Journal(JournalReader):
    """The journal of one run, open for reading and, through one thread, for writing."""

    def __init__(self, path: Path, confirm: Callable[[], None] | None = None) -> None:
        """`confirm` raises LockedError when the journal has come to belong to somebody else."""
        super().__init__(path)
        self._confirm = confirm or (lambda: None)
        self._writer: Writer | None = None
        self._has_written = False
        self._reserve = DiskReserve(path.with_name("reserve"))
        with self._reading("SELECT EXISTS (SELECT 1 FROM attempts) OR EXISTS (SELECT 1 FROM results)") as cursor:
            self._was_begun = bool(cursor.fetchone()[0])
        self._settled_unasked: set[int] = set()
        self._last_attempt = 0
        """The number of the attempt recorded last, once there is a writer: only we write."""

    def close(self) -> None:
        """Let go of it; whoever has written to it folds the write-ahead log into the file.

        Who has only read may have done so beside a run under way, whose log and reserve are not theirs.
        Whoever lost the run leaves it open: to close it may move the log into the file.
        """
        try:
            self._confirm()
        except LockedError:
            self._abandon()
            return
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._has_written:
            self._reserve.release()  # also one that a killed process left
            with suppress(sqlite3.Error):  # a full disk: the log is read just as well
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()
        self._witness.close()

    def _abandon(self) -> None:
        if self._writer is not None:
            self._writer.abandon()
        # What a thread that never ends holds is not closed when the process ends.
        threading.Thread(target=_hold, args=(self._connection,), name="abandoned", daemon=True).start()

    @property
    def is_short_of_disk(self) -> bool:
        """Has the space that was put by been used? Then only what is under way may still be recorded."""
        return self._writer is not None and self._reserve.used

    def may_have_history(self, call: int) -> bool:
        """Can there be attempts at a call by former processes, or results that no answer brought?

        Of most calls there cannot, and to ask costs as much as to record one.
        """
        return self._was_begun or call in self._settled_unasked

    def set_facts(self, **facts: object) -> None:
        """Record facts about the run; what was there under these names gives way."""
        self._apply(lambda connection: write_meta(connection, facts))

    def conclude(self, **facts: object) -> None:
        """Note what the run came to. The reserve goes before: whoever is killed right after this leaves none behind."""
        self._reserve.release()
        self.set_facts(**facts)

    def delete_results(self, results: Sequence[int]) -> None:
        """Forget results by their numbers, as if they had never been."""
        rows = [(number,) for number in results]
        self._apply(lambda connection: connection.executemany("DELETE FROM results WHERE id = ?", rows))

    def shorten(self, results: Mapping[int, Answer | None]) -> None:
        """Leave of results, by their numbers, these answers only; where it is None, take them back."""
        forgotten = [(number,) for number, answer in results.items() if answer is None]
        left = [(text_blob(answer_text(answer)), number) for number, answer in results.items() if answer is not None]

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM results WHERE id = ?", forgotten)
            connection.executemany("UPDATE results SET answer = ? WHERE id = ?", left)

        self._apply(write)

    def import_from(self, others: Iterable["Journal"], learn: Callable[[], Mapping[str, object]] = dict) -> None:
        """Have what other journals say of calls in place of whatever is here: all of it or nothing.

        That is attempts, results, holdings and events. No call may be in two of them. They are
        read one after the other, and need not all be open at once. `learn` returns facts to note along with
        it, when all of them have been read.
        """

        def write(connection: sqlite3.Connection) -> None:
            count = "SELECT count(*) FROM attempts"
            before = connection.execute(count).fetchone()
            for table in ("results", "attempts", "holdings", "events"):
                connection.execute(f"DELETE FROM {table}")  # noqa: S608 - constants
            for other in others:
                other._copy_to(connection)
            if connection.execute(count).fetchone() != before:
                # Attempts have new numbers, and some may be later than the looks.
                connection.execute("UPDATE looks SET after_attempt = NULL")
            write_meta(connection, learn())

        self._apply(write)
        self._last_attempt = self._attempts_so_far()

    def _attempts_so_far(self) -> int:
        with self._reading("SELECT coalesce(max(id), 0) FROM attempts") as cursor:
            return int(cursor.fetchone()[0])

    def _copy_to(self, connection: sqlite3.Connection) -> None:
        """Append to another journal, under numbers that are free there."""
        last = connection.execute("SELECT coalesce(max(id), 0) FROM attempts").fetchone()
        for read, insert in _COPIED:
            with self._reading(read, last if "?" in read else ()) as cursor:
                connection.executemany(insert, cursor)

    def event(self, at: float, kind: str, text: str) -> None:
        """Record something worth telling, without waiting for the disk."""
        row = (at, kind, text)
        self._writing().enqueue(lambda connection: connection.execute(_INSERT_EVENT, row))

    @property
    def last_attempt(self) -> int:
        """The number of the attempt recorded last; 0 without one."""
        return self._last_attempt if self._writer is not None else self._attempts_so_far()

    async def started(self, call: int, positions: Positions | None, at: float, uptime: float | None = None) -> int:
        """Record that an attempt is about to leave; on disk when this returns its id.

        `at` in seconds since the epoch, `uptime` in seconds since this machine's boot.
        """

        writer = self._writing()
        self._last_attempt = attempt = self._last_attempt + 1
        row = (attempt, call, positions_blob(positions), at, uptime)
        await writer.submit((Row(_STARTED, row),))
        return attempt

    async def ended(self, attempt: int, ending: AttemptEnd, at: float, settled: RecordedAnswer | None = None) -> None:
        """Record what became of an attempt together with all that it settles; on disk when this returns."""
        row = (
            Row(_ANSWERED, (attempt, at, ending.status)) if ending.is_plain else Row(_ENDED, ending.values(attempt, at))
        )
        rows = (row,) if settled is None else (row, _result(settled, attempt if settled.by_attempt else None))
        await self._writing().submit(rows)

    async def held(self, customer: str, devices: Collection[str], *, is_known: bool = True) -> None:
        """Record what a customer holds before the run first writes to them; on disk when this returns."""
        row = (customer, is_known, devices_blob(devices))
        await self._writing().submit(lambda connection: connection.execute(_INSERT_HELD, row))

    async def looked(self, look: CustomerHoldings, round_number: int) -> None:
        """Record what a customer was seen to hold after the run; on disk when this returns."""
        devices = None if look.devices is None else devices_blob(look.devices)
        row = (look.customer, round_number, look.at, look.after_attempt, devices, look.error)
        await self._writing().submit(lambda connection: connection.execute(_INSERT_LOOK, row))

    async def settled(self, settlement: RecordedAnswer) -> None:
        """Record results that no answer of their own brought; on disk when this returns."""
        self._settled_unasked.add(settlement.call)
        await self._writing().submit((_result(settlement, None),))

    def _apply(self, write: Callable[[sqlite3.Connection], object]) -> None:
        self._has_written = True
        if self._writer is not None:
            self._writer.write_and_wait(write)
        else:
            self._witness.open()
            self._confirm()
            with disk_errors(self._path), transaction(self._connection):
                write(self._connection)
                self._witness.count(self._connection, None)
                self._confirm()
            self._witness.show()

    def _writing(self) -> Writer:
        if self._writer is None:
            self._reserve.allocate()
            self._has_written = True
            self._witness.open()
            self._writer = Writer(lambda: connect(self._path), self._reserve.release, self._confirm, self._witness)
            self._last_attempt = self._attempts_so_far()
        return self._writer


def _hold(_: sqlite3.Connection) -> None:
    threading.Event().wait()


def _result(settlement: RecordedAnswer, attempt: int | None) -> Row:
    # Made into text here, where its parts were just made: the other thread would have to fetch each of them.
    text = answer_text(settlement.answer)
    return Row(_SETTLED, lambda: (settlement.call, attempt, text_blob(text)))
