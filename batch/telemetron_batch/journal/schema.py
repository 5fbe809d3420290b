"""The tables of the journal, their version, and the columns that other modules write and read as a whole.

A new column goes into `TABLES`; `SCHEMA_VERSION` and `MIGRATIONS` say how an older journal gets it.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Final

from telemetron_batch.domain.reasons import Reason

APPLICATION_ID: Final = 0x7E1E_BA7C
"""Identifies our database files in their header."""
SCHEMA_VERSION: Final = 3
"""Version of tables and stored values. To change either, add a migration and a fixture of the old version."""
_PREVIEWS: Final = """
CREATE TABLE previews (  -- before the run, to say what it will do
    customer TEXT PRIMARY KEY,
    at REAL NOT NULL,        -- when the query was sent
    is_known INTEGER NOT NULL,  -- 0: the API did not know the customer
    devices BLOB,            -- NULL: no query succeeded
    why TEXT NOT NULL        -- error of the last query, "" if it succeeded
) WITHOUT ROWID;
"""
MIGRATIONS: Final[Mapping[int, str]] = {2: _PREVIEWS}
"""Statements that migrate a journal from a version to the next, by the older version.

The first released version is 2. A journal is migrated in one transaction when it is opened.
"""
TABLES: Final = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE blocks (
    number INTEGER PRIMARY KEY, file INTEGER NOT NULL, keys BLOB NOT NULL, cells BLOB NOT NULL
);
CREATE TABLE attempts (
    id INTEGER PRIMARY KEY,
    call INTEGER NOT NULL,
    positions BLOB,          -- of the devices in the call; NULL: all of them
    started REAL NOT NULL,   -- seconds since the epoch, for people
    boot INTEGER,            -- which boot of which machine `uptime` counts from
    uptime REAL,             -- seconds since that boot when it left, on a clock that never jumps
    ended REAL,
    ending TEXT CHECK (ending IN ('answered', 'refused', 'unsent', 'unclear')),
    may_act_later INTEGER NOT NULL DEFAULT 1,  -- until its deadline and a margin have passed since it left
    verdict TEXT,            -- the verdict's code, for going on with a split call
    status INTEGER,
    reason INTEGER,          -- code of a Reason
    text TEXT,               -- what completes the reason's sentence
    omitted INTEGER NOT NULL DEFAULT 0,        -- devices that the answer left out
    foreign_count INTEGER NOT NULL DEFAULT 0   -- identifiers in the answer that were not requested
);
CREATE INDEX attempts_of_call ON attempts (call);
CREATE TABLE results (
    id INTEGER PRIMARY KEY,
    call INTEGER NOT NULL,
    attempt INTEGER REFERENCES attempts (id),  -- NULL: a result without an answer
    answer BLOB NOT NULL
);
CREATE INDEX results_of_call ON results (call);
CREATE TABLE holdings (  -- before the run first wrote to a customer
    customer TEXT PRIMARY KEY,
    is_known INTEGER NOT NULL,  -- 0: the API did not know the customer
    devices BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE looks (     -- after the run
    customer TEXT PRIMARY KEY,
    round INTEGER NOT NULL,  -- the last verify that queried the customer
    at REAL NOT NULL,        -- when the query was sent that returned these devices
    after_attempt INTEGER,   -- the last attempt then, if none before could act any more
    devices BLOB,            -- NULL: no query succeeded
    why TEXT NOT NULL        -- error of the last query, "" if it succeeded
) WITHOUT ROWID;
{_PREVIEWS}
CREATE TABLE events (id INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL);
"""


class EndState(StrEnum):
    """How an attempt ended. The values are stored."""

    ANSWERED = "answered"
    REFUSED = "refused"
    UNSENT = "unsent"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """How an attempt ended. The fields are columns of `attempts`."""

    ending: EndState
    verdict: str
    """Code of the verdict."""
    status: int | None = None
    reason: Reason = Reason.NONE
    text: str = ""
    may_act_later: bool = False
    omitted: int = 0
    """Number of requested devices that the answer does not contain."""
    foreign_count: int = 0
    """Number of identifiers in the answer that were not requested."""


END_COLUMNS: Final = tuple(field.name for field in fields(AttemptEnd))
ATTEMPT_COLUMNS: Final = ("call", "positions", "started", "boot", "uptime", "ended", *END_COLUMNS)
"""All columns of `attempts` but the number."""


def placeholders(columns: Collection[str]) -> str:
    """Return the placeholders for the values of these columns."""
    return ", ".join("?" * len(columns))
