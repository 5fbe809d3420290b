"""Keep what customers hold in a file, so that a command that was stopped queries no customer twice.

The answers of one API and account are in one SQLite file in `DIR/.answers/`: addresses, identifiers and times. Those
of a listing that is not complete are kept until a week after its last answer; those of a complete one for as long as
the command says. A run removes the answers of the customers that it writes to.
"""

import json
import os
import sqlite3
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from telemetron_batch.config.config import RunConfig
from telemetron_batch.domain.answers import CustomerHoldings
from telemetron_batch.domain.errors import BatchError, DiskError, UntrustedRunError, untrusted_path_errors
from telemetron_batch.journal.connection import disk_errors, transaction
from telemetron_batch.storage import trusted_folders
from telemetron_batch.storage.atomic_file import make_private_dir
from telemetron_batch.storage.log import LOGGER

ANSWERS_FOLDER: Final = ".answers"
_ABANDONED_AFTER_S: Final = 7 * 86_400.0
"""Seconds after its last answer from which a listing that is not complete counts as given up."""
_SAME_TIME: Final = 10_000
"""Customers that are looked up together."""
_TAILS: Final = ("", "-wal", "-shm", "-journal")
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS listing (
    number INTEGER PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    activeAt REAL NOT NULL,
    completeAt REAL,
    keepUntil REAL
);
CREATE TABLE IF NOT EXISTS answer (
    customer TEXT PRIMARY KEY,
    listing INTEGER NOT NULL,
    at REAL NOT NULL,
    devices TEXT
) WITHOUT ROWID;
CREATE TEMP TABLE usable (listing INTEGER PRIMARY KEY, since REAL NOT NULL);
CREATE TEMP VIEW known AS
SELECT customer, at, devices FROM answer JOIN usable USING (listing) WHERE at > since;
"""
"""`devices` is a JSON list, NULL for a customer that the API does not know. `usable` has the listings that count."""


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """What the API answered about a customer."""

    customer: str
    at: float
    """When the query was sent, in seconds since the epoch."""
    devices: Sequence[str] | None
    """Sorted identifiers as the API spells them; None if the API does not know the customer."""


class AnswerStore:
    """The kept answers of one API and account; one process at a time writes to them."""

    def __init__(self, path: Path, connection: sqlite3.Connection, wall: Callable[[], float]) -> None:
        self._path = path
        self._connection = connection
        self._wall = wall
        self._listing = 0

    def begin(self, fingerprint: str, keep_s: float) -> None:
        """Begin or continue the listing of these customers; remove expired answers.

        Answers of complete listings count for `keep_s` seconds, at most for as long as their command said. With 0 no
        earlier answer counts, so a listing that is not complete is begun anew.
        """
        now = self._wall()
        with disk_errors(self._path):
            _remove_expired(self._connection, now, () if keep_s > 0 else (fingerprint,))
            found = self._connection.execute(
                "SELECT number FROM listing WHERE fingerprint = ? AND completeAt IS NULL", (fingerprint,)
            ).fetchone()
            if found is None:
                insert = "INSERT INTO listing (fingerprint, activeAt) VALUES (?, ?)"
                self._listing = int(self._connection.execute(insert, (fingerprint, now)).lastrowid or 0)
            else:
                self._listing = int(found[0])
            usable = (
                "INSERT INTO usable SELECT number, CASE WHEN number = :own OR completeAt > :oldest THEN -1 "
                "ELSE :oldest END FROM listing WHERE number = :own OR completeAt IS NULL OR completeAt > :oldest"
            )
            self._connection.execute(usable, {"own": self._listing, "oldest": now - keep_s})

    def put(self, holdings: CustomerHoldings) -> None:
        """Keep the answer to a query that succeeded."""
        devices = json.dumps(sorted(holdings.devices or ())) if holdings.is_known else None
        with disk_errors(self._path), transaction(self._connection):
            self._connection.execute(
                "INSERT OR REPLACE INTO answer VALUES (?, ?, ?, ?)",
                (holdings.customer, self._listing, holdings.at, devices),
            )
            self._connection.execute("UPDATE listing SET activeAt = ? WHERE number = ?", (self._wall(), self._listing))

    def missing(self, customers: Sequence[str]) -> list[str]:
        """Return those of some customers that have no usable answer, in order."""
        known = {kept.customer for kept in self.read(customers)}
        return [customer for customer in customers if customer not in known]

    def read(self, customers: Sequence[str]) -> Iterator[KeptAnswer]:
        """Yield the usable answers about some customers."""
        for first in range(0, len(customers), _SAME_TIME):
            wanted = json.dumps(customers[first : first + _SAME_TIME])
            query = "SELECT customer, at, devices FROM known WHERE customer IN (SELECT value FROM json_each(?))"
            with disk_errors(self._path):
                rows = self._connection.execute(query, (wanted,)).fetchall()
            for customer, at, devices in rows:
                yield KeptAnswer(customer, at, None if devices is None else json.loads(devices))

    def complete(self, keep_s: float) -> None:
        """Note that all customers of the listing were asked; its answers are kept for so long from now on."""
        now = self._wall()
        with disk_errors(self._path):
            update = "UPDATE listing SET completeAt = ?, keepUntil = ? WHERE number = ?"
            self._connection.execute(update, (now, now + keep_s, self._listing))


@contextmanager
def open_answers(reports_dir: Path, name: str, wall: Callable[[], float]) -> Iterator[AnswerStore]:
    """Open the kept answers of an API and account; remove the file at the end if it keeps none.

    `name` identifies base URL and account without revealing them. Raises UntrustedRunError if the folder is not ours.
    """
    path = make_answers_folder(reports_dir) / f"{name}.sqlite3"
    with disk_errors(path):
        connection = _open(path)
    is_empty = False
    try:
        yield AnswerStore(path, connection, wall)
    finally:
        with closing(connection), suppress(sqlite3.Error):
            _remove_expired(connection, wall())
            is_empty = not connection.execute("SELECT count(*) FROM answer").fetchone()[0]
        if is_empty:
            _remove(path)


def make_answers_folder(reports_dir: Path) -> Path:
    """Return the folder of the kept answers, which only this user can enter. Raises UntrustedRunError."""
    try:
        folder = make_private_dir(reports_dir / ANSWERS_FOLDER)
    except UntrustedRunError as exc:
        raise UntrustedRunError(exc.reason, "remove it, or name another --reports-dir") from exc
    if stat.S_IMODE(folder.stat().st_mode) != stat.S_IRWXU:
        folder.chmod(stat.S_IRWXU)
    return folder


def forget_answers(config: RunConfig, customers: Callable[[], Iterable[str]], now: float) -> None:
    """Remove the kept answers about customers that a run is about to write to. Logs if that fails."""
    from telemetron_batch.api.target import ApiTarget  # the HTTP library, which removing old answers does not need

    path = config.reports_dir / ANSWERS_FOLDER / f"{ApiTarget.of(config, None).name}.sqlite3"
    if config.sandbox or not path.exists():
        return
    try:
        with disk_errors(path), closing(_open(path)) as connection:
            _remove_expired(connection, now)
            with transaction(connection):
                connection.executemany("DELETE FROM answer WHERE customer = ?", ((one,) for one in customers()))
    except BatchError as exc:
        LOGGER.warning("kept answers of holdings and compare stay as they are: %s", exc)


def remove_expired_answers(reports_dir: Path, now: float) -> None:
    """Remove the kept answers of all APIs and accounts whose time is over. Raises DiskError, UntrustedRunError."""
    for path in _answer_files(reports_dir):
        with disk_errors(path), closing(_open(path)) as connection:
            _remove_expired(connection, now)
            is_empty = not connection.execute("SELECT count(*) FROM answer").fetchone()[0]
        if is_empty:
            _remove(path)


def remove_answers_about(reports_dir: Path, is_wanted: Callable[[str], bool], *, dry_run: bool = False) -> int:
    """Remove the kept answers with a text for which `is_wanted` returns true, without a trace; return their number.

    The texts are customers and lists of devices. With `dry_run` nothing is removed. Raises as `remove_expired_answers`.
    """
    removed = 0
    for path in _answer_files(reports_dir):
        with disk_errors(path), closing(_open(path)) as connection:
            rows = connection.execute("SELECT customer, coalesce(devices, '') FROM answer").fetchall()
            found = [(customer,) for customer, devices in rows if is_wanted(customer) or is_wanted(devices)]
            removed += len(found)
            if found and not dry_run:
                with transaction(connection):
                    connection.executemany("DELETE FROM answer WHERE customer = ?", found)
                connection.execute("VACUUM")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return removed


def _answer_files(reports_dir: Path) -> list[Path]:
    folder = reports_dir / ANSWERS_FOLDER
    with untrusted_path_errors():
        names = trusted_folders.names_in(folder)
    return [folder / name for name in sorted(names) if name.endswith(".sqlite3")]


def _open(path: Path) -> sqlite3.Connection:
    """Return a connection to the file, which is begun anew if it is not one of these."""
    try:
        return _connect(path)
    except sqlite3.DatabaseError as exc:
        if isinstance(exc, sqlite3.OperationalError):  # the disk, or another process
            raise
    _remove(path)
    return _connect(path)


def _connect(path: Path) -> sqlite3.Connection:
    with untrusted_path_errors():
        trusted_folders.require_files(path.parent, (f"{path.name}{tail}" for tail in _TAILS))
        os.close(trusted_folders.open_file(path, os.O_RDWR | os.O_CREAT, 0o600))
    path.chmod(0o600)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
    try:
        # A commit survives the end of the process; after a loss of power some customers are asked again.
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "secure_delete=ON", "temp_store=MEMORY"):
            connection.execute(f"PRAGMA {pragma}")
        connection.executescript(_SCHEMA)
    except BaseException:
        connection.close()
        raise
    return connection


def _remove_expired(connection: sqlite3.Connection, now: float, given_up: Sequence[str] = ()) -> None:
    """Remove the listings whose time is over, and those with these fingerprints that are not complete."""
    with transaction(connection):
        for fingerprint in given_up:
            connection.execute("DELETE FROM listing WHERE fingerprint = ? AND completeAt IS NULL", (fingerprint,))
        connection.execute(
            "DELETE FROM listing WHERE keepUntil <= ? OR (completeAt IS NULL AND activeAt <= ?)",
            (now, now - _ABANDONED_AFTER_S),
        )
        connection.execute("DELETE FROM answer WHERE listing NOT IN (SELECT number FROM listing)")


def _remove(path: Path) -> None:
    for tail in _TAILS:
        try:
            path.with_name(path.name + tail).unlink(missing_ok=True)
        except OSError as exc:
            raise DiskError(f"cannot remove {path}{tail} ({exc.strerror})", "remove it") from exc
