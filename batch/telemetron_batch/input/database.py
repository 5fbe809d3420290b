"""Run the query of `--query` in a database, and yield its rows as they come. The only module that knows SQLAlchemy.

The database is asked to change nothing, and whatever it did is rolled back at the end.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, CursorResult, Engine, create_engine
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from telemetron_batch.domain.errors import ConfigError, InputError, SourceError
from telemetron_batch.domain.model import Secret
from telemetron_batch.domain.printable import encodable, printable
from telemetron_batch.domain.stops import Advice

BATCH_ROWS: Final = 5_000
_READ_ONLY: Final = {
    "postgresql": ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SET TIME ZONE 'UTC'"),
    "mysql": ("SET SESSION TRANSACTION READ ONLY", "SET time_zone = '+00:00'"),
    "mariadb": ("SET SESSION TRANSACTION READ ONLY", "SET time_zone = '+00:00'"),
    "oracle": ("SET TRANSACTION READ ONLY",),
    "sqlite": ("PRAGMA query_only = ON",),
}
"""Statements after which a database changes nothing, and gives times with a zone in UTC."""
_WITH_JSON: Final = ("postgresql", "mysql", "mariadb", "sqlite")
_PASSING_STATES: Final = re.compile("08|53|57|40|58")
"""Classes of SQLSTATE of a database that is overloaded, ends, or lost the connection: the same query may work later."""
_REFUSALS: Final = re.compile(
    r"authentication failed|access denied|no pg_hba|database .* does not exist|role .* does not exist|no password"
    r"|unknown database|unable to open database file|not a database",
    re.IGNORECASE,
)
"""What databases say to a client that they will refuse again; at sign-in most drivers give no SQLSTATE."""
_SQLITE_BUSY: Final = (5, 6)
_SECRET_PARAMETER: Final = re.compile("pass|pwd|secret|token|key", re.IGNORECASE)
_HIDDEN: Final = "***"
_MAX_REASON: Final = 300


@dataclass(slots=True)
class QueryResult:
    """The columns of a result, and its rows some at a time."""

    names: Sequence[str]
    _result: CursorResult[Any]
    _database: "_Database"
    rows_read: int = field(default=0, init=False)

    def close(self) -> None:
        """Close the cursor in the database; it ends with its connection anyway."""
        with suppress(SQLAlchemyError, OSError):
            self._result.close()

    def batches(self) -> Iterator[Sequence[Sequence[Any]]]:
        """Yield the rows as the database gives them. Raises SourceError if it stops in between."""
        while True:
            try:
                rows = self._result.fetchmany(BATCH_ROWS)
            except (SQLAlchemyError, OSError, UnicodeError) as exc:
                raise self._database.error(exc, f"stopped after {self.rows_read:,} rows") from exc
            if not rows:
                return
            self.rows_read += len(rows)
            yield rows


@dataclass(frozen=True, slots=True)
class _Database:
    """One database, as messages name it, and the secrets of its URL."""

    url: URL

    @property
    def name(self) -> str:
        return redacted_url(self.url)

    def error(self, exc: Exception, what: str) -> ConfigError | InputError | SourceError:
        """Return the error for one of SQLAlchemy or of a driver, without any secret of the URL."""
        why, original = self._reason(exc), getattr(exc, "orig", None)
        if _is_passing(exc, original, why):
            return SourceError(f"the database {self.name} {what} ({why}); nothing was sent", Advice(repeat=True))
        return InputError(f"the database {self.name} {what} ({why})", "correct the query, or the URL of the database")

    def _reason(self, exc: Exception) -> str:
        lines = encodable(str(getattr(exc, "orig", None) or exc)).strip().splitlines() or [type(exc).__name__]
        text = " ".join(line.strip() for line in lines)
        for secret in self._secrets():
            text = text.replace(secret, _HIDDEN)
        return printable(text if len(text) <= _MAX_REASON else f"{text[:_MAX_REASON]}...")

    def _secrets(self) -> Iterator[str]:
        if self.url.password:
            yield str(self.url.password)
        for name, values in self.url.normalized_query.items():
            if _SECRET_PARAMETER.search(name):
                yield from filter(None, values)


def redacted_url(url: URL) -> str:
    """Return scheme and host of a URL, which are all that may be told of it."""
    return f"{url.get_backend_name()}://{url.host or ''}"


def describe_database(url: Secret) -> str:
    """Return scheme and host of the URL. Raises ConfigError if it is none."""
    return redacted_url(_parse(url))


@contextmanager
def open_query(sql: str, url: Secret) -> Iterator[QueryResult]:
    """Run a query, and yield its result while the connection is open.

    Raises ConfigError for a URL or a driver that cannot be used, InputError for SQL that is no query or that the
    database refuses, SourceError for a database that cannot be reached now.
    """
    database = _Database(_parse(url))
    engine = _engine(database)
    try:
        with _connected(engine, database) as connection:
            result = _execute(connection, sql, database)
            try:
                yield result
            finally:
                result.close()
    finally:
        engine.dispose()


def _parse(url: Secret) -> URL:
    try:
        return make_url(url.reveal())
    except (ArgumentError, ValueError) as exc:
        raise ConfigError(
            "--source-url-file: it holds no URL of a database", "write it as postgresql+psycopg://user@host/name"
        ) from exc


def _engine(database: _Database) -> Engine:
    backend = database.url.get_backend_name()
    file = database.url.database or ":memory:"
    if backend == "sqlite" and not file.startswith((":memory:", "file:")) and not Path(file).exists():
        raise ConfigError(f"--source-url-file: there is no file {file}", "correct the URL of the database")
    # A JSON column stays the text that the database has: parsed, its numbers would be floats.
    options: dict[str, Any] = {"json_deserializer": _as_text} if backend in _WITH_JSON else {}
    try:
        return create_engine(database.url, poolclass=NullPool, hide_parameters=True, **options)
    except NoSuchModuleError as exc:
        raise ConfigError(f"--source-url-file: {exc}", "install what speaks to this database, or correct it") from exc
    except ImportError as exc:
        what = f"--source-url-file: the driver {exc.name} of {database.url.drivername} is not installed"
        raise ConfigError(what, f"pip install {exc.name}, or name another driver, as in {backend}+DRIVER://") from exc
    except (SQLAlchemyError, TypeError, ValueError) as exc:
        raise database.error(exc, "cannot be used") from exc


def _as_text(document: Any) -> Any:
    return document.decode() if isinstance(document, bytes) else document


@contextmanager
def _connected(engine: Engine, database: _Database) -> Iterator[Connection]:
    """Yield a connection that may read only. Its transaction is rolled back."""
    try:
        connection = engine.connect()
    except (SQLAlchemyError, OSError) as exc:
        raise database.error(exc, "cannot be reached") from exc
    try:
        try:
            for statement in _READ_ONLY.get(engine.dialect.name, ()):
                connection.exec_driver_sql(statement)
            if engine.dialect.name != "oracle":  # there it holds for the transaction that it begins
                connection.commit()
        except SQLAlchemyError as exc:
            raise database.error(exc, "does not let this client read only") from exc
        yield connection
    finally:
        _close(connection)


def _close(connection: Connection) -> None:
    """Roll back and close; a connection that is gone needs neither."""
    try:
        connection.rollback()
        connection.close()
    except (SQLAlchemyError, OSError):
        connection.invalidate()


def _execute(connection: Connection, sql: str, database: _Database) -> QueryResult:
    streamed = connection.execution_options(stream_results=True, max_row_buffer=BATCH_ROWS, no_parameters=True)
    try:
        result = streamed.exec_driver_sql(sql)
        names = [*result.keys()] if result.returns_rows else None
    except SQLAlchemyError as exc:
        raise database.error(exc, "refused the query") from exc
    if names is None:
        raise InputError("the SQL of --query gives no rows, so it is no query", "nothing was changed; give a SELECT")
    return QueryResult(names, result, database)


def _is_passing(exc: Exception, original: Any, why: str) -> bool:
    """Return whether the same query may work later."""
    state = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
    if state:
        return _PASSING_STATES.match(state) is not None
    sqlite_code = getattr(original, "sqlite_errorcode", None)
    if sqlite_code is not None:
        return sqlite_code & 0xFF in _SQLITE_BUSY
    if isinstance(exc, DBAPIError) and exc.connection_invalidated:
        return True
    is_operational = type(original).__name__ in ("OperationalError", "InterfaceError")
    return (is_operational or isinstance(exc, OSError)) and _REFUSALS.search(why) is None
