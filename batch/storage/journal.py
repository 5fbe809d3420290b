"""The journal of a run: its input, every attempt, every answer; the only `sqlite3`.

One file that says all there is to say, so that a report can be written from it alone.
An attempt is recorded before it leaves and ended when we know what became of it:

    started ──> answered   a usable answer; the results it settles come in the same transaction
            ├─> refused    the API said no to it: surely nothing was done
            ├─> unsent     no byte of it left: surely nothing was done
            └─> unclear    it may have acted without our hearing of it
    (found started by a later process: its owner is dead, so it is unclear)

The file is made aside and renamed when the whole input is in it: a journal exists
whole or not at all. It knows no HTTP and no outcome rules.
"""

import json
import os
import sqlite3
import threading
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from batch.errors import BatchError, DiskError, JournalError, LockedError
from batch.model import OUTCOMES, Answer, DeviceResult, Look
from batch.rows import RowBlock
from batch.storage.whole import Reserve, confirm, sync_folder
from batch.storage.writer import Writer

SCHEMA_VERSION: Final = 1
APPLICATION_ID: Final = 0x7E1E_BA7C
"""In the file's header, so that a database of somebody else is told apart."""

_TABLES: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE blocks (
    number INTEGER PRIMARY KEY, file INTEGER NOT NULL, keys BLOB NOT NULL, cells BLOB NOT NULL
);
CREATE TABLE attempts (
    id INTEGER PRIMARY KEY,
    call INTEGER NOT NULL,
    positions BLOB,          -- of the call's devices; NULL: all of them
    started REAL NOT NULL,   -- seconds since the epoch
    ended REAL,
    ending TEXT CHECK (ending IN ('answered', 'refused', 'unsent', 'unclear')),
    verdict TEXT,            -- the verdict's name, for going on with a split call
    status INTEGER,
    text TEXT
);
CREATE INDEX attempts_of_call ON attempts (call);
CREATE TABLE results (
    id INTEGER PRIMARY KEY,
    call INTEGER NOT NULL,
    attempt INTEGER REFERENCES attempts (id),  -- NULL: settled without an answer of its own
    answer BLOB NOT NULL
);
CREATE INDEX results_of_call ON results (call);
CREATE TABLE holdings (customer TEXT PRIMARY KEY, devices BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE events (id INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL);
"""

_UNCLEAR: Final = "ending IS NULL OR ending = 'unclear' OR (ending = 'answered' AND text <> '')"
"""May have acted without our hearing of it: no answer, or one that left devices out."""
_LOOKS: Final = """
CREATE TABLE IF NOT EXISTS looks (
    customer TEXT PRIMARY KEY,
    round INTEGER NOT NULL,  -- the verify that asked last
    at REAL NOT NULL,        -- when the question left that brought these devices
    devices BLOB,            -- NULL: never learnt
    why TEXT NOT NULL        -- not learnt the last time, because ...
) WITHOUT ROWID
"""
"""Made by the first verify: journals written before there was one can be verified too."""
# What was learnt once stands until it is learnt anew.
_INSERT_LOOK: Final = """
INSERT INTO looks (customer, round, at, devices, why) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (customer) DO UPDATE SET
    round = excluded.round,
    at = CASE WHEN excluded.devices IS NULL THEN at ELSE excluded.at END,
    devices = coalesce(excluded.devices, devices),
    why = excluded.why
"""
_MAY_ACT_UNTIL: Final = """
SELECT call, max(CASE WHEN ending IN ('refused', 'unsent') OR (ending = 'answered' AND coalesce(text, '') = '')
                 THEN ended ELSE started + ? END) FROM attempts GROUP BY call
"""
_INSERT_HELD: Final = "INSERT OR IGNORE INTO holdings (customer, devices) VALUES (?, ?)"
_INSERT_EVENT: Final = "INSERT INTO events (at, kind, text) VALUES (?, ?, ?)"
_COPIED: Final = (
    (
        "SELECT id + ?, call, positions, started, ended, ending, verdict, status, text FROM attempts ORDER BY id",
        "INSERT INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    ),
    (
        "SELECT call, attempt + ?, answer FROM results ORDER BY id",
        "INSERT INTO results (call, attempt, answer) VALUES (?, ?, ?)",
    ),
    ("SELECT customer, devices FROM holdings", _INSERT_HELD),
    ("SELECT at, kind, text FROM events ORDER BY id", _INSERT_EVENT),
)
"""How rows are read from one journal, with numbers beyond those of another, and put into that."""
_BLOCKS: Final = "SELECT file, keys, cells FROM blocks ORDER BY number"
_BLOCKS_BACKWARDS: Final = f"{_BLOCKS} DESC"
_TIMELINE: Final = """
SELECT CAST((started - :start) / :seconds AS INTEGER) AS slice,
       CASE WHEN verdict = 'Throttled' THEN 'throttled' ELSE coalesce(ending, 'unclear') END AS what, count(*)
FROM attempts GROUP BY slice, what
UNION ALL
SELECT CAST((at - :start) / :seconds AS INTEGER) AS slice, kind AS what, count(*)
FROM events WHERE kind IN ('hold', 'down', 'up') GROUP BY slice, what
ORDER BY slice, what
"""

_ADVICE: Final = "name another --run-id, or move that file away"
_OF_THE_DISK: Final = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)

Positions = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a call, or at a part of it, as the journal has it."""

    number: int
    call: int
    positions: Positions | None
    """None: all devices of the call."""
    started: float
    ending: str | None
    """None: its process died before it ended."""
    verdict: str | None
    text: str

    @property
    def may_have_acted(self) -> bool:
        """Could the API have done what it asked for without our hearing of it?"""
        return self.ending in (None, "unclear")


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended."""

    ending: str
    verdict: str
    status: int | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Settlement:
    """An answer in the journal, and the call whose devices it settles."""

    call: int
    answer: Answer
    by_attempt: bool


@dataclass(frozen=True, slots=True)
class Blocks:
    """The input in the journal, which can be gone through as often as needed."""

    _read: Callable[[], Iterator[RowBlock]]

    def __iter__(self) -> Iterator[RowBlock]:
        return self._read()


class JournalDraft:
    """A journal in the making: takes the input block by block, then is published or thrown away."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._aside = path.with_name(path.name + ".new")
        with _disk_errors(path):
            self._aside.unlink(missing_ok=True)
            os.close(os.open(self._aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            self._connection = _connect(self._aside)
            # Nothing is at stake before the rename, which comes after one full sync.
            self._connection.executescript(f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; {_TABLES}")
            self._connection.execute("BEGIN")

    def add(self, block: RowBlock) -> None:
        """Append a block of the input."""
        row = (block.file, _packed(block.keys), _packed(block.cells))
        with _disk_errors(self._path):
            self._connection.execute("INSERT INTO blocks (file, keys, cells) VALUES (?, ?, ?)", row)

    def publish(self, meta: Mapping[str, object]) -> None:
        """Make it the run's journal, on disk to the last byte."""
        with _disk_errors(self._path):
            _write_meta(self._connection, meta)
            self._connection.execute("COMMIT")
            self._connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            self._connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            self._connection.close()
            with self._aside.open("rb") as file:
                os.fsync(file.fileno())
            confirm()
            self._aside.replace(self._path)
            sync_folder(self._path.parent)

    def discard(self) -> None:
        """Leave nothing behind."""
        self._connection.close()
        self._aside.unlink(missing_ok=True)


class Journal:
    """The journal of one run, open for reading and, through one thread, for writing."""

    def __init__(self, path: Path, confirm: Callable[[], None] | None = None) -> None:
        """`confirm` raises LockedError when the journal has come to belong to somebody else."""
        self._path = path
        self._confirm = confirm or (lambda: None)
        self._connection = _open(path)
        self._writer: Writer | None = None
        self._has_written = False
        self._reserve = Reserve(path.with_name("reserve"))
        with self._reading("SELECT EXISTS (SELECT 1 FROM attempts) OR EXISTS (SELECT 1 FROM results)") as cursor:
            self._was_begun = bool(cursor.fetchone()[0])
        self._settled_unasked: set[int] = set()

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
            self._reserve.give_back()  # also one that a killed process left
            with suppress(sqlite3.Error):  # a full disk: the log is read just as well
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()

    def _abandon(self) -> None:
        if self._writer is not None:
            self._writer.abandon()
        # What a thread that never ends holds is not closed when the process ends.
        threading.Thread(target=_hold, args=(self._connection,), name="abandoned", daemon=True).start()

    @property
    def path(self) -> Path:
        """Where it is."""
        return self._path

    @property
    def is_short_of_disk(self) -> bool:
        """Has the space that was put by been used? Then only what is under way may still be recorded."""
        return self._writer is not None and self._reserve.used

    # Reading

    def meta(self, name: str, default: Any = None) -> Any:
        """One of the facts about the run, as it was given to `publish` or `note`."""
        with self._reading("SELECT value FROM meta WHERE name = ?", (name,)) as cursor:
            row = cursor.fetchone()
            return default if row is None else json.loads(row[0])

    def key_columns(self) -> Iterator[tuple[int, pa.RecordBatch]]:
        """File number and key columns of each block of the input, in order."""
        with self._reading("SELECT file, keys FROM blocks ORDER BY number") as cursor:
            for file, keys in cursor:
                yield file, _unpacked(keys)

    def blocks(self, *, backwards: bool = False) -> "Blocks":
        """The input, block by block, in order or last to first."""
        return Blocks(partial(self._blocks, _BLOCKS_BACKWARDS if backwards else _BLOCKS))

    def may_know(self, call: int) -> bool:
        """Can there be attempts at a call by former processes, or results that no answer brought?

        Of most calls there cannot, and to ask costs as much as to record one.
        """
        return self._was_begun or call in self._settled_unasked

    def attempts_of(self, call: int) -> list[Attempt]:
        """The attempts at one call, oldest first."""
        return [*self._attempts("WHERE call = ?", (call,))]

    def unclear_attempts(self) -> Iterator[Attempt]:
        """All attempts that may have acted without our hearing of it, also where an answer left devices out."""
        return self._attempts(f"WHERE {_UNCLEAR}", ())

    def settlements(self) -> Iterator[Settlement]:
        """Every answer, in the order in which they were recorded."""
        query = "SELECT call, answer, attempt IS NOT NULL FROM results ORDER BY id"
        with self._reading(query) as cursor:
            for call, answer, by_attempt in cursor:
                yield Settlement(call, _answer(answer), bool(by_attempt))

    def unasked(self) -> Iterator[tuple[int, Settlement]]:
        """Results that no answer of their own brought, by the numbers under which `take_back` knows them."""
        with self._reading("SELECT id, call, answer FROM results WHERE attempt IS NULL ORDER BY id") as cursor:
            for number, call, answer in cursor:
                yield number, Settlement(call, _answer(answer), by_attempt=False)

    def settled_positions(self, call: int) -> list[tuple[int | None, Positions]]:
        """Attempt id (None: settled without an answer) and positions of each result of one call."""
        query = "SELECT attempt, answer FROM results WHERE call = ? ORDER BY id"
        with self._reading(query, (call,)) as cursor:
            return [(attempt, tuple(_answer(answer).results)) for attempt, answer in cursor]

    def holdings(self, customer: str) -> frozenset[str] | None:
        """What a customer held before the run first wrote to them; None if nobody looked."""
        query = "SELECT devices FROM holdings WHERE customer = ?"
        with self._reading(query, (customer,)) as cursor:
            row = cursor.fetchone()
            return None if row is None else _devices(row[0])

    def all_holdings(self) -> Iterator[tuple[str, frozenset[str]]]:
        """Each customer who was looked at before the run first wrote to them, and what they held."""
        with self._reading("SELECT customer, devices FROM holdings ORDER BY customer") as cursor:
            for customer, devices in cursor:
                yield customer, _devices(devices)

    def looks(self, round_number: int | None = None) -> Iterator[Look]:
        """What customers were seen to hold after the run, one look each; of one verify, or of all."""
        query = "SELECT customer, at, devices, why FROM looks WHERE round = coalesce(?, round) ORDER BY customer"
        with self._reading(query, (round_number,)) as cursor:
            for customer, at, devices, why in cursor:
                yield Look(customer, at, None if devices is None else _devices(devices), why)

    def looks_taken(self, round_number: int) -> tuple[int, int]:
        """Customers who were asked in one verify, and those of them of whom nothing could be learnt."""
        query = "SELECT count(*), coalesce(sum(why <> ''), 0) FROM looks WHERE round = ?"
        with self._reading(query, (round_number,)) as cursor:
            asked, missed = cursor.fetchone()
        return asked, missed

    def may_act_until(self) -> list[tuple[int, float]]:
        """Each call that was attempted, and the moment from which no attempt at it can act any more."""
        with self._reading(_MAY_ACT_UNTIL, (self.meta("quiet", 0.0),)) as cursor:
            return cursor.fetchall()

    def attempt_totals(self) -> tuple[int, int, int]:
        """Number of attempts, of those throttled, and of those that may have acted unheard."""
        query = """SELECT count(*), coalesce(sum(verdict = 'Throttled'), 0),
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
                    OR (started > :moment - :late AND ({_UNCLEAR})))"""  # noqa: S608 - a constant
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

    def _blocks(self, query: str) -> Iterator[RowBlock]:
        with self._reading(query) as cursor:
            for file, keys, cells in cursor:
                yield RowBlock(file, _unpacked(keys), _unpacked(cells))

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
            raise _unreadable(self._path, exc) from exc

    def _attempts(self, where: str, values: Sequence[object]) -> Iterator[Attempt]:
        columns = "id, call, positions, started, ending, verdict, coalesce(text, '')"
        query = f"SELECT {columns} FROM attempts {where} ORDER BY id"  # noqa: S608 - constants of this class
        with self._reading(query, values) as cursor:
            for number, call, positions, *rest in cursor:
                yield Attempt(number, call, _positions(positions), *rest)

    # Writing

    def note(self, **facts: object) -> None:
        """Record facts about the run; what was there under these names gives way."""
        self._apply(lambda connection: _write_meta(connection, facts))

    def conclude(self, **facts: object) -> None:
        """Note what the run came to. The reserve goes before: whoever is killed right after this leaves none behind."""
        self._reserve.give_back()
        self.note(**facts)

    def take_back(self, results: Sequence[int]) -> None:
        """Forget results of `unasked`, as if they had never been."""
        rows = [(number,) for number in results]
        self._apply(lambda connection: connection.executemany("DELETE FROM results WHERE id = ?", rows))

    def gather(self, others: Iterable["Journal"]) -> None:
        """Have what other journals say of calls in place of whatever is here: all of it or nothing.

        That is attempts, results, holdings and events. No call may be in two of them. They are
        read one after the other, and need not all be open at once.
        """

        def write(connection: sqlite3.Connection) -> None:
            for table in ("results", "attempts", "holdings", "events"):
                connection.execute(f"DELETE FROM {table}")  # noqa: S608 - constants
            for other in others:
                other._copy_to(connection)

        self._apply(write)

    def _copy_to(self, connection: sqlite3.Connection) -> None:
        """Append to another journal, under numbers that are free there."""
        last = connection.execute("SELECT coalesce(max(id), 0) FROM attempts").fetchone()
        for read, insert in _COPIED:
            with self._reading(read, last if "?" in read else ()) as cursor:
                connection.executemany(insert, cursor)

    def event(self, at: float, kind: str, text: str) -> None:
        """Record something worth telling, without waiting for the disk."""
        row = (at, kind, text)
        self._writing().post(lambda connection: connection.execute(_INSERT_EVENT, row))

    async def started(self, call: int, positions: Positions | None, at: float) -> int:
        """Record that an attempt is about to leave; on disk when this returns its id."""

        def write(connection: sqlite3.Connection) -> int:
            query = "INSERT INTO attempts (call, positions, started) VALUES (?, ?, ?)"
            return connection.execute(query, (call, _positions_blob(positions), at)).lastrowid or 0

        attempt: int = await self._writing().submit(write)
        return attempt

    async def ended(self, attempt: int, ending: Ending, at: float, settled: Settlement | None = None) -> None:
        """Record what became of an attempt together with all that it settles; on disk when this returns."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE attempts SET ended = ?, ending = ?, verdict = ?, status = ?, text = ? WHERE id = ?",
                (at, ending.ending, ending.verdict, ending.status, ending.text, attempt),
            )
            if settled is not None:
                _insert_result(connection, settled, attempt if settled.by_attempt else None)

        await self._writing().submit(write)

    async def held(self, customer: str, devices: Collection[str]) -> None:
        """Record what a customer holds before the run first writes to them; on disk when this returns."""
        row = (customer, _devices_blob(devices))
        await self._writing().submit(lambda connection: connection.execute(_INSERT_HELD, row))

    async def looked(self, look: Look, round_number: int) -> None:
        """Record what a customer was seen to hold after the run; on disk when this returns."""
        devices = None if look.devices is None else _devices_blob(look.devices)
        row = (look.customer, round_number, look.at, devices, look.why)
        await self._writing().submit(lambda connection: connection.execute(_INSERT_LOOK, row))

    def expect_looks(self) -> None:
        """Make room for looks, where there is none yet."""
        self._apply(lambda connection: connection.execute(_LOOKS))

    async def settled(self, settlement: Settlement) -> None:
        """Record results that no answer of their own brought; on disk when this returns."""
        self._settled_unasked.add(settlement.call)
        await self._writing().submit(lambda connection: _insert_result(connection, settlement, None))

    def _apply(self, write: Callable[[sqlite3.Connection], object]) -> None:
        self._has_written = True
        if self._writer is not None:
            self._writer.wait(write)
        else:
            self._confirm()
            with _disk_errors(self._path), _transaction(self._connection):
                write(self._connection)
                self._confirm()

    def _writing(self) -> Writer:
        if self._writer is None:
            self._reserve.put_by()
            self._has_written = True
            self._writer = Writer(lambda: _connect(self._path), self._reserve.give_back, self._confirm)
        return self._writer


def peek(path: Path, name: str) -> Any:
    """A fact that `publish` put down, from a journal that may be another host's: read without a trace. None without."""
    try:
        uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            row = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    except sqlite3.DatabaseError as exc:
        raise _unreadable(path, exc) from exc
    return None if row is None else json.loads(row[0])


def _hold(_: sqlite3.Connection) -> None:
    threading.Event().wait()


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
    connection.execute("PRAGMA synchronous=FULL")
    return connection


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of what is written within, or nothing of it."""
    connection.execute("BEGIN IMMEDIATE")
    with connection:  # which commits, or rolls back
        yield


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """What the disk refuses, said in words."""
    try:
        yield
    except (sqlite3.Error, OSError) as exc:
        raise DiskError(f"cannot write {path} ({exc})", "make room, then run the same command again") from exc


def _open(path: Path) -> sqlite3.Connection:
    """A connection to a journal of ours; whatever else it may be is refused, untouched."""
    advice = _ADVICE
    try:
        with path.open("rb") as file:
            head = file.read(72)
        # Read from the header, for to open a database may already change it.
        ours = head[:16] == b"SQLite format 3\0" and int.from_bytes(head[68:72], "big") == APPLICATION_ID
        if not ours:
            raise JournalError(f"{path} is not a journal of telemetron-batch", advice)
        version = int.from_bytes(head[60:64], "big")
        if version != SCHEMA_VERSION:
            raise JournalError(f"{path} was written by another version (schema {version})", advice)
        if _is_cut_short(path, head):
            raise JournalError(f"{path} is cut short", advice)
        connection = _connect(path)
        connection.execute("SELECT count(*) FROM results").fetchone()
        connection.execute("PRAGMA journal_mode=WAL")
    except sqlite3.DatabaseError as exc:
        raise _unreadable(path, exc) from exc
    except OSError as exc:
        raise JournalError(f"{path} cannot be read ({exc.strerror})", advice) from exc
    return connection


def _unreadable(path: Path, exc: Exception) -> BatchError:
    """The error for a journal that cannot be read: the disk's fault, for to read it takes room as well, or its own."""
    if getattr(exc, "sqlite_errorcode", 0) & 0xFF in _OF_THE_DISK:
        return DiskError(f"{path} cannot be opened ({exc})", "make room, then run the same command again")
    return JournalError(f"{path} is damaged ({exc})", _ADVICE)


def _is_cut_short(path: Path, head: bytes) -> bool:
    """Is the file shorter than its header says, with no write-ahead log that may hold the rest?"""
    log = path.with_name(path.name + "-wal")
    if log.exists() and log.stat().st_size:
        return False
    page = int.from_bytes(head[16:18], "big")
    return path.stat().st_size < int.from_bytes(head[28:32], "big") * (65536 if page == 1 else page)


def _write_meta(connection: sqlite3.Connection, facts: Mapping[str, object]) -> None:
    rows = [(name, json.dumps(value)) for name, value in facts.items()]
    connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)


def _insert_result(connection: sqlite3.Connection, settlement: Settlement, attempt: int | None) -> None:
    row = (settlement.call, attempt, _answer_blob(settlement.answer))
    connection.execute("INSERT INTO results (call, attempt, answer) VALUES (?, ?, ?)", row)


def _packed(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, batch.schema, options=options) as stream:
        stream.write_batch(batch)
    return bytes(sink.getvalue())


def _unpacked(blob: bytes) -> pa.RecordBatch:
    with pa.ipc.open_stream(blob) as stream:
        return stream.read_next_batch()


def _positions_blob(positions: Positions | None) -> bytes | None:
    return None if positions is None else json.dumps(positions).encode()


def _positions(blob: bytes | None) -> Positions | None:
    return None if blob is None else tuple(json.loads(blob))


def _devices_blob(devices: Collection[str]) -> bytes:
    return zlib.compress(json.dumps(sorted(devices)).encode(), 1)


def _devices(blob: bytes) -> frozenset[str]:
    return frozenset(json.loads(zlib.decompress(blob)))


def _answer_blob(answer: Answer) -> bytes:
    """Columns rather than records: half the size once compressed."""
    outcomes, device_ids, created, details = zip(*answer.results.values(), strict=True) if answer.results else [()] * 4
    fields = {
        "positions": [*answer.results],
        "outcomes": [outcome.code for outcome in outcomes],
        "deviceIds": device_ids,
        "created": created,
        "details": details,
        "customerId": answer.customer_id,
        "customerWasCreated": answer.customer_was_created,
        "httpStatus": answer.http_status,
        "attempts": answer.attempts,
        "unclearAttempts": answer.unclear_attempts,
        "answeredAt": answer.answered_at,
    }
    return zlib.compress(json.dumps(fields, separators=(",", ":")).encode(), 1)


def _answer(blob: bytes) -> Answer:
    fields = json.loads(zlib.decompress(blob))
    results = zip(fields["outcomes"], fields["deviceIds"], fields["created"], fields["details"], strict=True)
    return Answer(
        results={
            position: DeviceResult(OUTCOMES[code], *rest)
            for position, (code, *rest) in zip(fields["positions"], results, strict=True)
        },
        customer_id=fields["customerId"],
        customer_was_created=fields["customerWasCreated"],
        http_status=fields["httpStatus"],
        attempts=fields["attempts"],
        unclear_attempts=fields["unclearAttempts"],
        answered_at=fields["answeredAt"],
    )
