"""What is kept of runs whose folders were removed: `history.sqlite3` in the reports folder.

Each removed run has one line: the facts by which later runs compare themselves with it. Unless they were forgotten, its
sent rows follow: who was given or lost which device. The file is never changed in place. A changed copy replaces it, so
a reader sees all of it, needs no lock, and ignores files beside it that others may have placed there.
"""

import json
import os
import shlex
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from telemetron_batch.domain.errors import BatchError, JournalError, untrusted_path_errors
from telemetron_batch.journal.codec import decode_batch, encode_batch
from telemetron_batch.journal.connection import disk_errors, read_error
from telemetron_batch.journal.text_rewriter import TextRewriter, rewrite_batch, rewrite_json
from telemetron_batch.storage import file_system, trusted_folders
from telemetron_batch.storage.atomic_file import check_rename_allowed

HISTORY_NAME: Final = "history.sqlite3"
ROW_SCHEMA: Final = pa.schema(
    [
        pa.field("customerEmail", pa.string(), nullable=False),
        pa.field("deviceIdentifier", pa.string(), nullable=False),
        pa.field("action", pa.int8(), nullable=False),
        pa.field("word", pa.int8(), nullable=False),
        pa.field("took", pa.bool_(), nullable=False),
    ]
)
"""The sent rows of a removed run, in input order.

action   `Action.code`
word     the `OwnerWord` of the row
took     whether the run surely took the device from the customer
"""
_APPLICATION_ID: Final = 0x7E1E_BA7D
_SCHEMA_VERSION: Final = 1
_DAMAGE_CODES: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_FORMAT)
_TABLES: Final = """
CREATE TABLE runs (
    number INTEGER PRIMARY KEY, run TEXT NOT NULL, journal TEXT NOT NULL, facts TEXT NOT NULL, UNIQUE (run, journal)
);
CREATE TABLE rows (run INTEGER NOT NULL, part INTEGER NOT NULL, content BLOB NOT NULL, PRIMARY KEY (run, part));
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class RemovedRun:
    """The line of a run whose folder was removed. Times are in seconds since the epoch."""

    run_id: str
    journal_id: str
    """The identity of its journal, by which it is told from another run of the same id."""
    api: str
    """Identity of the API."""
    account_hash: str | None
    job_key: tuple[str, ...]
    is_sandbox: bool
    hashes: tuple[str, ...]
    """SHA-256 of its input files."""
    has_own_reports: bool
    as_of: str | None
    """The value of `--as-of`, as text in UTC."""
    written: float | None
    """Modification time of its newest input file."""
    has_sent: bool
    """Whether it has recorded an attempt."""
    first_attempt_at: float
    """When its first attempt left; when it started, if there was none."""
    last_attempt_at: float
    late_effect_s: float
    """How long after its end an unanswered attempt may still have been carried out."""
    acts_until: float | None
    """The last moment at which a call of it may have been carried out; None if it made none."""
    ended_at: float
    removed_at: float
    has_rows: bool
    """Whether its rows are kept; else nothing is known of its devices."""

    @classmethod
    def of_json(cls, text: str) -> "RemovedRun":
        """Return the line from its JSON. Raises ValueError, TypeError or LookupError for any other text."""
        fields = json.loads(text)
        return cls(**{**fields, "job_key": tuple(fields["job_key"]), "hashes": tuple(fields["hashes"])})


def read_removed_runs(reports_dir: Path) -> list[RemovedRun]:
    """Return the lines of all removed runs, in the order of removal; an empty list without any.

    Raises JournalError if the file cannot be read, UntrustedRunError if it is not ours.
    """
    with _reading(reports_dir) as connection:
        if connection is None:
            return []
        return [RemovedRun.of_json(facts) for (facts,) in connection.execute("SELECT facts FROM runs ORDER BY number")]


def read_removed_rows(reports_dir: Path, run: RemovedRun) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a removed run, as `ROW_SCHEMA` has them. Raises as `read_removed_runs`."""
    with _reading(reports_dir) as connection:
        if connection is not None:
            yield from _rows(connection, run)


class HistoryDraft:
    """A copy of the history that is being changed."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def runs(self) -> list[RemovedRun]:
        """Return the lines, in the order of removal."""
        lines = self._connection.execute("SELECT facts FROM runs ORDER BY number").fetchall()
        return [RemovedRun.of_json(facts) for (facts,) in lines]

    def rows(self, run: RemovedRun) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a run."""
        yield from _rows(self._connection, run)

    def put(self, run: RemovedRun, rows: Iterable[pa.RecordBatch]) -> None:
        """Add a run with its rows, or replace what an interrupted command has added."""
        self._connection.execute(
            "INSERT INTO runs (run, journal, facts) VALUES (?, ?, ?) "
            "ON CONFLICT (run, journal) DO UPDATE SET facts = excluded.facts",
            (run.run_id, run.journal_id, json.dumps(asdict(run))),
        )
        self.replace_rows(run, rows)

    def replace_rows(self, run: RemovedRun, rows: Iterable[pa.RecordBatch]) -> None:
        """Replace the rows of a run; empty batches are left out."""
        number = self._number(run)
        self._connection.execute("DELETE FROM rows WHERE run = ?", (number,))
        parts = ((number, part, encode_batch(batch)) for part, batch in enumerate(rows) if batch.num_rows)
        self._connection.executemany("INSERT INTO rows VALUES (?, ?, ?)", parts)

    def remove(self, run: RemovedRun) -> None:
        """Remove the line of a run and its rows."""
        number = self._number(run)
        self._connection.execute("DELETE FROM rows WHERE run = ?", (number,))
        self._connection.execute("DELETE FROM runs WHERE number = ?", (number,))

    def forget_all_rows(self) -> None:
        """Remove the rows of all runs, and note that they are not known any more."""
        for run in self.runs():
            facts = json.dumps({**asdict(run), "has_rows": False})
            self._connection.execute("UPDATE runs SET facts = ? WHERE number = ?", (facts, self._number(run)))
        self._connection.execute("DELETE FROM rows")

    def rewrite(self, rewriter: TextRewriter) -> None:
        """Rewrite all texts."""
        for number, run, facts in self._connection.execute("SELECT number, run, facts FROM runs").fetchall():
            line = (rewriter.text(run), rewrite_json(facts, rewriter), number)
            self._connection.execute("UPDATE runs SET run = ?, facts = ? WHERE number = ?", line)
        for run, part in self._connection.execute("SELECT run, part FROM rows").fetchall():
            (content,) = self._connection.execute(
                "SELECT content FROM rows WHERE run = ? AND part = ?", (run, part)
            ).fetchone()
            batch = decode_batch(content)
            if (rewritten := rewrite_batch(batch, rewriter)) is not batch:
                values = (encode_batch(rewritten), run, part)
                self._connection.execute("UPDATE rows SET content = ? WHERE run = ? AND part = ?", values)

    def _number(self, run: RemovedRun) -> int:
        key = (run.run_id, run.journal_id)
        found = self._connection.execute("SELECT number FROM runs WHERE run = ? AND journal = ?", key).fetchone()
        return int(found[0])


@contextmanager
def history_draft(reports_dir: Path, workplace: Path) -> Iterator[HistoryDraft]:
    """Yield a copy of the history, which replaces it at the end of the block, unless that raises.

    `workplace` is a folder of ours on the same disk. The caller sees to it that no other process does the same.
    Raises JournalError, UntrustedRunError and DiskError.
    """
    target, draft = reports_dir / HISTORY_NAME, workplace / f"{HISTORY_NAME}.new"
    with disk_errors(target), _readable(target):
        _copy(target, draft)
        with closing(sqlite3.connect(draft, isolation_level=None)) as connection:
            _prepare(target, connection)
            connection.execute("BEGIN")
            yield HistoryDraft(connection)
            connection.execute("COMMIT")
            connection.execute("VACUUM")
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        check_rename_allowed()
        draft.replace(target)
        file_system.sync_folder(reports_dir)


def history_holds(reports_dir: Path, rewriter: TextRewriter) -> bool:
    """Return whether a rewriter would change anything in the history. Raises as `read_removed_runs`."""
    with _reading(reports_dir) as connection:
        if connection is None:
            return False
        lines = connection.execute("SELECT run, facts FROM runs").fetchall()
        if any(rewriter.text(run) != run or rewrite_json(facts, rewriter) != facts for run, facts in lines):
            return True
        batches = (decode_batch(content) for (content,) in connection.execute("SELECT content FROM rows"))
        return any(rewrite_batch(batch, rewriter) is not batch for batch in batches)


def _copy(target: Path, draft: Path) -> None:
    """Copy the history, or make an empty file; for its owner only."""
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as copy:
        file_system.set_mode(copy.fileno(), trusted_folders.file_mode())
        with untrusted_path_errors():
            trusted_folders.require_file(target)
        if target.exists():
            with target.open("rb") as source:
                shutil.copyfileobj(source, copy)


def _prepare(target: Path, connection: sqlite3.Connection) -> None:
    connection.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA secure_delete=ON")
    if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        _require_history(target, connection)
        return
    connection.executescript(_TABLES)
    connection.execute(f"PRAGMA application_id={_APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={_SCHEMA_VERSION}")


def _require_history(path: Path, connection: sqlite3.Connection) -> None:
    """Raise JournalError unless the file is a history, and of this version or an earlier one."""
    found = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
    if found[0] != _APPLICATION_ID:
        raise JournalError(f"{path} is not a history of telemetron-batch", _advice(path))
    if found[1] > _SCHEMA_VERSION:
        raise JournalError(f"{path} was written by a newer version of telemetron-batch", "use that version")


@contextmanager
def _reading(reports_dir: Path) -> Iterator[sqlite3.Connection | None]:
    """Open the history for reading; None without one. Translates errors of a damaged file."""
    path = reports_dir / HISTORY_NAME
    with untrusted_path_errors():
        trusted_folders.require_file(path)
    if not path.exists():
        yield None
        return
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
            _require_history(path, connection)
            yield connection
    except (sqlite3.DatabaseError, ValueError, TypeError, LookupError, OSError) as exc:
        raise _history_error(path, exc) from exc


def _history_error(path: Path, exc: Exception) -> BatchError:
    """Return the error for a history that cannot be read: DiskError for the disk, JournalError for a damaged file."""
    error = read_error(path, exc)
    return JournalError(error.reason, _advice(path)) if isinstance(error, JournalError) else error


def _advice(path: Path) -> str:
    """Return how to go on without a history."""
    name = shlex.quote(str(path))
    return f"restore it from a backup; or, and then no removed run is known any more: mv {name} {name}.damaged"


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Translate errors of a damaged history, also in its rows."""
    try:
        yield
    except (sqlite3.DatabaseError, pa.ArrowException, ValueError, TypeError, LookupError) as exc:
        if getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF not in _DAMAGE_CODES:
            raise
        raise _history_error(path, exc) from exc


def _rows(connection: sqlite3.Connection, run: RemovedRun) -> Iterator[pa.RecordBatch]:
    query = "SELECT content FROM rows JOIN runs ON number = rows.run WHERE runs.run = ? AND journal = ? ORDER BY part"
    contents: Sequence[Any] = connection.execute(query, (run.run_id, run.journal_id)).fetchall()
    for (content,) in contents:
        yield decode_batch(content)
