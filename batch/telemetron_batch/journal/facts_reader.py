"""Read the facts of a journal, without its rows and answers: all that a list of runs shows.

Apart from `reader`, which loads pyarrow.
"""

import json
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from telemetron_batch.domain.errors import JournalError
from telemetron_batch.journal.connection import open_connection, open_immutable, read_error, require_ours
from telemetron_batch.journal.facts import Fact
from telemetron_batch.journal.witness import JOURNAL_ID, LOST, OTHER_COMMITS, ROWS, Extent, Witness

LOST_IN_SHARDS: Final = Fact.RECORDS_LOST_IN_SHARDS
"""The fact that counts the records lost in the journals of the run's shards."""
LOSS_ADVICE: Final = "report the run, correct by hand what it calls unconfirmed, and start again under another --run-id"


class FactsReader:
    """The facts of the journal of one run, open for reading."""

    def __init__(self, path: Path) -> None:
        self._path = path
        require_ours(path)
        self._witness = Witness(path)
        self._connection = open_connection(path)
        # Rows first: an active process may increase the notes in between, which is no loss.
        with self._reading(ROWS) as cursor:
            extent = Extent(self.fact(OTHER_COMMITS, 0), cursor.fetchone()[0])
        self._witness.compare(self.fact(JOURNAL_ID, ""), extent)

    @property
    def path(self) -> Path:
        """The path of the journal."""
        return self._path

    @property
    def records_lost(self) -> int:
        """The minimum number of lost records, here or in merged journals; their rows may have been sent."""
        return int(self._witness.missing + self.fact(LOST, 0) + self.fact(LOST_IN_SHARDS, 0))

    @property
    def loss(self) -> str:
        """A message about lost records; "" without any."""
        lost = self.records_lost
        records = f"{lost} record{'s' if lost > 1 else ''}"
        return f"the journal has lost at least {records}: rows may have been sent without a record" if lost else ""

    def require_complete(self) -> None:
        """Raise JournalError if records were lost, because it is unknown what has been sent."""
        if loss := self.loss:
            raise JournalError(f"{self._path}: {loss}", LOSS_ADVICE)

    def fact(self, name: str, default: Any = None) -> Any:
        """Return a fact about the run."""
        with self._reading("SELECT value FROM meta WHERE name = ?", (name,)) as cursor:
            row = cursor.fetchone()
            return default if row is None else json.loads(row[0])

    def has_attempts(self) -> bool:
        """Return whether any attempt is recorded."""
        with self._reading("SELECT EXISTS (SELECT 1 FROM attempts)") as cursor:
            return bool(cursor.fetchone()[0])

    @property
    def is_unsent_plan(self) -> bool:
        """Whether its plan was saved and nothing was sent; a process may be about to send it."""
        has_ended = self.fact(Fact.SUMMARY) is not None and self.fact(Fact.ENDED_AT) is not None
        return self.fact(Fact.SAVED_PLAN) is not None and not has_ended and not self.has_attempts()

    @property
    def is_in_shards(self) -> bool:
        """Whether the run is divided into shards."""
        return self.fact(Fact.SHARD_LAYOUT) is not None

    @property
    def base_url_flag(self) -> str | None:
        """The base URL that the command line gave; None if it gave none, or for the sandbox."""
        if self.fact(Fact.SANDBOX):
            return None
        # Journals of earlier versions do not record whether the URL was a flag.
        option = (self.fact(Fact.OPTIONS) or {}).get("base_url")
        url = self.fact(Fact.BASE_URL_FLAG, option)
        return None if url is None else str(url)

    def close(self) -> None:
        """Close the journal."""
        self._connection.close()

    @contextmanager
    def _reading(self, query: str, values: Sequence[object] | Mapping[str, object] = ()) -> Iterator[sqlite3.Cursor]:
        """Yield the cursor of a query. Translates errors of a damaged file."""
        try:
            cursor = self._connection.execute(query, values)
            try:
                yield cursor
            finally:
                # An abandoned iterator may be finalized after the journal was closed.
                with suppress(sqlite3.ProgrammingError):
                    cursor.close()
        except (sqlite3.DatabaseError, zlib.error, ValueError, OSError) as exc:
            raise read_error(self._path, exc) from exc


class ImmutableFacts(FactsReader):
    """The facts of a journal read without locks or changes: see `ImmutableJournal`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        require_ours(path)
        self._witness = Witness(path)  # not compared: records that are only in the log are not seen
        self._connection = open_immutable(path)
