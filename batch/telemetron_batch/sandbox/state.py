"""The state of the sandbox: which customers and devices exist, and which customer owns which device.

SQLite, in memory or in a file; every change is atomic. Emails and identifiers must be valid:
`endpoints` checks them.
"""

import os
import sqlite3
import threading
import weakref
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final, NamedTuple, Self

from telemetron_batch.domain.errors import ConfigError

FRACTIONS: Final = {
    "unknown_devices": 0.02,
    "unknown_customers": 0.01,
    "not_owned": 0.05,
    "already_owned": 0.08,
}
"""Fractions of the rows for which `seed` prepares other outcomes than a plain success.

unknown_devices    of all devices: Telemetron does not know them, so no customer owns them
unknown_customers  of the customers that have only unassign rows
not_owned          of the unassign pairs: the customer does not have the device
already_owned      of the assign pairs: the customer already has the device
"""

_APPLICATION_ID: Final = 0x7E1E5B0C
"""Marks a database as one of the sandbox, so that no other database is ever written to."""

# `device` holds only exceptions: whether another device is known follows from its identifier.
# `seeded` holds hashes, because a run may seed ten million pairs.
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS customer (
    number INTEGER PRIMARY KEY,
    email TEXT NOT NULL UNIQUE,
    createdAt TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);
CREATE TABLE IF NOT EXISTS device (
    identifier TEXT PRIMARY KEY,
    known INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ownership (
    customer INTEGER NOT NULL REFERENCES customer (number),
    device TEXT NOT NULL,
    PRIMARY KEY (customer, device)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS ownership_by_device ON ownership (device);
CREATE TABLE IF NOT EXISTS seeded (pair INTEGER PRIMARY KEY);
"""

# To sort once at the end is faster than to keep ten million hashes unique during insertion.
_ROWS: Final = "CREATE TEMP TABLE row (hash INTEGER, email TEXT, device TEXT, unassign INTEGER)"
_SEED: Final = (
    """
CREATE TEMP TABLE pair AS SELECT hash, email, device, unassign, min(rowid) FROM row
WHERE hash NOT IN (SELECT pair FROM seeded) GROUP BY hash""",
    "DROP TABLE row",
    "INSERT INTO seeded SELECT hash FROM pair",
    """
INSERT OR IGNORE INTO device
SELECT DISTINCT device, 0 FROM pair
WHERE fraction(hash_of('device', device)) < :unknown_devices AND device NOT IN (SELECT device FROM ownership)""",
    """
INSERT OR IGNORE INTO customer (email)
SELECT email FROM pair GROUP BY email
HAVING max(unassign) AND NOT (min(unassign) AND fraction(hash_of('customer', email)) < :unknown_customers)""",
    """
DELETE FROM pair WHERE named_unknown(device)
OR device IN (SELECT identifier FROM device WHERE NOT known)
OR (NOT unassign AND fraction(hash) >= :already_owned)
OR (unassign AND (fraction(hash) < :not_owned OR email NOT IN (SELECT email FROM customer)))""",
    "INSERT OR IGNORE INTO customer (email) SELECT DISTINCT email FROM pair",
    "INSERT OR IGNORE INTO ownership SELECT number, device FROM pair JOIN customer USING (email)",
    "DROP TABLE pair",
)


_FIT: Final = (
    *_SEED[:3],
    "INSERT OR REPLACE INTO device SELECT DISTINCT device, 1 FROM pair WHERE named_unknown(device)",
    "INSERT OR IGNORE INTO customer (email) SELECT DISTINCT email FROM pair",
    "INSERT OR IGNORE INTO ownership SELECT number, device FROM pair JOIN customer USING (email) WHERE unassign",
    "DROP TABLE pair",
)


class Device(NamedTuple):
    """A device in the answer to an assign."""

    identifier: str
    device_id: str
    was_created: bool


class RequestLog(NamedTuple):
    """One request that reached the server, and the status of its answer."""

    at: float
    """Monotonic seconds."""
    path: str
    status: int


@dataclass(frozen=True, slots=True)
class Assigned:
    """The result of an assign; every device is in exactly one of the three tuples."""

    customer_id: str
    customer_was_created: bool
    assigned: tuple[Device, ...]
    already: tuple[Device, ...]
    skipped: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unassigned:
    """The result of an unassign; every device is in `unassigned` or in `skipped`."""

    customer_id: str
    unassigned: tuple[str, ...]
    skipped: tuple[str, ...]
    remaining: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Customer:
    """A customer and their devices, sorted by identifier."""

    customer_id: str
    email: str
    created_at: str
    devices: tuple[str, ...]


class SandboxState:
    """Customers, devices and ownership; thread-safe.

    A device is known unless its identifier starts with `UNKNOWN` (in any case) or `seed` made
    it unknown; an assign that may create devices makes it known.
    """

    def __init__(self, db: Path | str | None = None) -> None:
        """Open or make the file `db`; without it keep the state in memory.

        Raises ConfigError for a file that cannot be opened or was not made by a sandbox.
        """
        self.history: list[RequestLog] | None = None
        """If set to a list, the server appends every request to it."""
        self._lock = threading.Lock()
        self._db = _open_db(db)
        weakref.finalize(self, self._db.close)  # Python 3.13 warns of a connection that is collected open

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database; a state in memory is lost."""
        self._db.close()

    def assign(self, email: str, devices: Iterable[str], *, create: bool = False) -> Assigned | None:
        """Make `email` an owner of the distinct `devices`; create the customer if it does not exist.

        Unknown devices are created if `create`, else skipped. Returns None, and changes
        nothing, if all devices are unknown and none may be created.
        """
        with self._change() as db:
            known = {device: _is_known(db, device) for device in devices}
            valid = [device for device in known if known[device] or create]
            if not valid:
                return None
            created = ((device,) for device in valid if not known[device])
            db.executemany("INSERT INTO device VALUES (?, 1) ON CONFLICT DO UPDATE SET known = 1", created)
            was_created = _changes(db, "INSERT OR IGNORE INTO customer (email) VALUES (?)", email)
            number = _number(db, email)
            insert = "INSERT OR IGNORE INTO ownership VALUES (?, ?)"
            new = {device for device in valid if _changes(db, insert, number, device)}
        return Assigned(
            customer_id(email),
            was_created,
            tuple(Device(device, device_id(device), not known[device]) for device in valid if device in new),
            tuple(Device(device, device_id(device), False) for device in valid if device not in new),
            tuple(device for device in known if not known[device] and not create),
        )

    def unassign(self, email: str, devices: Iterable[str]) -> Unassigned | None:
        """Take the distinct `devices` from `email`. Returns None if there is no such customer."""
        with self._change() as db:
            number = _number(db, email)
            if number is None:
                return None
            delete = "DELETE FROM ownership WHERE customer = ? AND device = ?"
            was_owned = {device: _changes(db, delete, number, device) for device in devices}
            remaining = _devices(db, number)
        return Unassigned(
            customer_id(email),
            tuple(device for device, owned in was_owned.items() if owned),
            tuple(device for device, owned in was_owned.items() if not owned),
            remaining,
        )

    def customer(self, email: str) -> Customer | None:
        """Return the customer with this email, or None."""
        email = normal_email(email)
        with self._lock:
            query = "SELECT number, createdAt FROM customer WHERE email = ?"
            found = self._db.execute(query, (email,)).fetchone()
            if found is None:
                return None
            return Customer(customer_id(email), email, found[1], _devices(self._db, found[0]))

    def devices_of(self, email: str) -> list[str]:
        """Return the devices of a customer, sorted; none if there is no such customer."""
        customer = self.customer(email)
        return [] if customer is None else list(customer.devices)

    def owners(self, device: str) -> set[str]:
        """Return the emails of all owners of this device."""
        query = "SELECT email FROM customer JOIN ownership ON customer = number WHERE device = ?"
        with self._lock:
            return {email for (email,) in self._db.execute(query, (device.strip(),))}

    def seed(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """Prepare the state so that a run of these rows meets every kind of outcome.

        A row is (customerEmail, deviceIdentifier, "assign" or "unassign"). `FRACTIONS` are
        taken by hash, so the same rows always give the same state. If a pair has both actions,
        the first one counts. A pair is seeded only once, so to seed before every run keeps what
        earlier runs changed.
        """
        self._seed(rows, _SEED)

    def seed_to_fit(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """Prepare the state so that a run of these rows succeeds: customers and devices exist.

        The devices of unassign rows are with their customers. Rows are as for `seed`, and a pair is seeded only once.
        """
        self._seed(rows, _FIT)

    def _seed(self, rows: Iterable[tuple[str, str, str]], statements: Iterable[str]) -> None:
        with self._change() as db:
            db.execute(_ROWS)
            db.executemany("INSERT INTO row VALUES (?, ?, ?, ?)", _hashed(rows))
            for statement in statements:
                db.execute(statement, FRACTIONS if ":" in statement else ())

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            yield self._db


def normal_email(email: str) -> str:
    """Return the email as Telemetron stores and compares it."""
    return email.strip().lower()


def customer_id(email: str) -> str:
    """Return the id of the customer with this normal email; it depends on the email alone."""
    return f"cust_{_digest('customer', email).hex()}"


def device_id(identifier: str) -> str:
    """Return the id of the device; it depends on the identifier alone."""
    return f"dev_{_digest('device', identifier).hex()}"


def _open_db(path: Path | str | None) -> sqlite3.Connection:
    try:
        if path and str(path) != ":memory:":
            _make_file(Path(path))
        # The server's thread writes and the caller's thread reads: SandboxState._lock serialises them.
        db = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False)
        with ExitStack() as on_error:
            on_error.callback(db.close)
            _prepare(db)
            on_error.pop_all()
    except sqlite3.Error as exc:
        problem = f"cannot keep the sandbox in {path}: {exc}"
        raise ConfigError(problem, "name a new file, or one that a sandbox made") from exc
    return db


def _make_file(path: Path) -> None:
    """Make the file unless it exists, readable by its owner only: it may hold real customers."""
    with suppress(OSError):  # SQLite reports the error when it opens the file
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def _prepare(db: sqlite3.Connection) -> None:
    (application_id,) = db.execute("PRAGMA application_id").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application_id != _APPLICATION_ID and (application_id or tables):
        raise sqlite3.DatabaseError("it is the database of another program")
    # With a write-ahead log the data survive a killed process; they need not survive a power cut.
    db.execute("PRAGMA synchronous = OFF")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    db.executescript(_SCHEMA)
    db.create_function("hash_of", -1, _hash, deterministic=True)
    db.create_function("fraction", 1, _fraction, deterministic=True)
    db.create_function("named_unknown", 1, _named_unknown, deterministic=True)


def _is_known(db: sqlite3.Connection, device: str) -> bool:
    listed = db.execute("SELECT known FROM device WHERE identifier = ?", (device,)).fetchone()
    return not _named_unknown(device) if listed is None else bool(listed[0])


def _named_unknown(device: str) -> bool:
    return device[:7].upper() == "UNKNOWN"


def _number(db: sqlite3.Connection, email: str) -> int | None:
    found = db.execute("SELECT number FROM customer WHERE email = ?", (email,)).fetchone()
    return None if found is None else int(found[0])


def _devices(db: sqlite3.Connection, number: int) -> tuple[str, ...]:
    found = db.execute("SELECT device FROM ownership WHERE customer = ?", (number,))
    return tuple(device for (device,) in found)


def _changes(db: sqlite3.Connection, statement: str, *values: object) -> bool:
    return db.execute(statement, values).rowcount == 1


def _hashed(rows: Iterable[tuple[str, str, str]]) -> Iterator[tuple[int, str, str, bool]]:
    for email, device, action in rows:
        email, device = normal_email(email), device.strip()
        yield _hash("pair", email, device), email, device, action == "unassign"


def _digest(*words: str) -> bytes:
    return blake2b("\0".join(words).encode(), digest_size=6).digest()


def _hash(*words: str) -> int:
    return int.from_bytes(blake2b("\0".join(words).encode(), digest_size=8).digest(), signed=True)


def _fraction(number: int) -> float:
    return (number + 2**63) / 2**64
