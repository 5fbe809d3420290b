"""Run the query of `--query` in a database, and yield its rows as they come. The only module that knows SQLAlchemy.

The database is asked to change nothing, and whatever it did is rolled back at the end.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Timer
from typing import Any, Final

from sqlalchemy import Connection, CursorResult, Engine, create_engine
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import NullPool

from telemetron_batch.domain.errors import ConfigError, InputError, SourceError
from telemetron_batch.domain.model import Secret
from telemetron_batch.domain.printable import encodable, printable
from telemetron_batch.domain.stops import Advice
from telemetron_batch.input.database_failures import is_passing
from telemetron_batch.input.database_guard import authorize_sqlite
from telemetron_batch.input.database_types import (
    TypedText,
    is_postgres_key,
    keep_exact_texts,
    mysql_type_name,
    postgres_types_query,
    typed_text,
    with_types,
)
from telemetron_batch.input.database_url import require_clear_url, userinfo_secrets, without_secrets

BATCH_ROWS: Final = 5_000
_READ_ONLY: Final = {
    "postgresql": (
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SET TIME ZONE 'UTC'",
        "SET datestyle = 'ISO'",
        "SET intervalstyle = 'postgres'",
    ),
    "mysql": ("SET SESSION TRANSACTION READ ONLY", "SET time_zone = '+00:00'"),
    "mariadb": ("SET SESSION TRANSACTION READ ONLY", "SET time_zone = '+00:00'"),
    "oracle": ("SET TRANSACTION READ ONLY",),
    "sqlite": ("PRAGMA query_only = ON",),
}
"""Statements after which a database changes nothing, gives times with a zone in UTC, and dates as ISO has them."""
_LIBPQ_DRIVERS: Final = ("psycopg", "psycopg2")
_WITH_JSON: Final = ("postgresql", "mysql", "mariadb", "sqlite")
_SECRET_PARAMETER: Final = re.compile("pass|pwd|secret|token|key", re.IGNORECASE)
_MAX_REASON: Final = 300


@dataclass(slots=True)
class QueryResult:
    """The columns of a result, and its rows some at a time."""

    names: Sequence[str]
    _result: CursorResult[Any]
    _database: "_Database"
    _classes: Mapping[int, type[TypedText]]
    """How texts of columns that are no text in the database are marked."""
    rows_read: int = field(default=0, init=False)

    def close(self) -> None:
        """Close the cursor in the database; it ends with its connection anyway."""
        with suppress(Exception):
            self._result.close()

    def batches(self) -> Iterator[Sequence[Sequence[Any]]]:
        """Yield the rows as the database gives them. Raises SourceError if it stops in between, or InputError."""
        while True:
            try:
                rows = self._result.fetchmany(BATCH_ROWS)
                self._database.require_time()
            except Exception as exc:
                what = f"stopped after {self.rows_read:,} rows"
                raise self._database.error(exc, what, is_connected=True) from exc
            if not rows:
                return
            self.rows_read += len(rows)
            yield with_types(rows, self._classes)


@dataclass(frozen=True, slots=True)
class _Database:
    """One database, as messages name it, and the secrets of its URL."""

    url: URL
    text: Secret
    """The URL as it was written."""
    is_over: Event = field(default_factory=Event)
    """Set when the time for the query has passed."""

    @property
    def name(self) -> str:
        return redacted_url(self.url)

    def error(self, exc: Exception, what: str, *, is_connected: bool) -> InputError | SourceError:
        """Return the error for one of SQLAlchemy or of a driver, without any secret of the URL."""
        if self.is_over.is_set():
            what = f"the database {self.name} did not give all rows before the --deadline or --until; nothing was sent"
            return SourceError(what, Advice(repeat=True))
        original = getattr(exc, "orig", None) or exc
        why = self._reason(original)
        is_lost = isinstance(exc, DBAPIError) and exc.connection_invalidated and is_connected
        if is_lost or is_passing(original, str(original), is_connected=is_connected):
            return SourceError(f"the database {self.name} {what} ({why}); nothing was sent", Advice(repeat=True))
        return InputError(f"the database {self.name} {what} ({why})", "correct the query, or the URL of the database")

    def require_time(self) -> None:
        """Raise TimeoutError if the time for the query has passed; not every driver can cancel what it waits for."""
        if self.is_over.is_set():
            raise TimeoutError

    @contextmanager
    def cancelled_after(self, limit_s: float | None, connection: Connection) -> Iterator[None]:
        """Cancel what the connection does when the time has passed."""
        if limit_s is None:
            yield
            return
        timer = Timer(max(0.0, limit_s), self._cancel, (connection.connection.dbapi_connection,))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _cancel(self, raw: Any) -> None:
        self.is_over.set()
        with suppress(Exception):
            (getattr(raw, "interrupt", None) or raw.cancel)()

    def _reason(self, original: BaseException) -> str:
        lines = encodable(str(original)).strip().splitlines() or [type(original).__name__]
        text = without_secrets(" ".join(line.strip() for line in lines), self._secrets())
        return printable(text if len(text) <= _MAX_REASON else f"{text[:_MAX_REASON]}...")

    def _secrets(self) -> set[str]:
        values = {
            value
            for name, values in self.url.normalized_query.items()
            if _SECRET_PARAMETER.search(name)
            for value in values
        }
        return userinfo_secrets(self.text.reveal()) | values - {""}


def redacted_url(url: URL) -> str:
    """Return scheme and host of a URL, which are all that may be told of it."""
    return f"{url.get_backend_name()}://{url.host or ''}"


def describe_database(url: Secret) -> str:
    """Return scheme and host of the URL. Raises ConfigError if it is none."""
    return redacted_url(_parse(url))


@contextmanager
def open_query(sql: str, url: Secret, limit_s: float | None = None) -> Iterator[QueryResult]:
    """Run a query, and yield its result while the connection is open; at most `limit_s` seconds after it is.

    Raises ConfigError for a URL or a driver that cannot be used, InputError for SQL that is no query or that the
    database refuses, SourceError for a database that cannot be reached now.
    """
    database = _Database(_parse(url), url)
    engine = _engine(database)
    try:
        with (
            _connected(engine, database) as connection,
            database.cancelled_after(limit_s, connection),
        ):
            result = _execute(connection, sql, database)
            try:
                yield result
            finally:
                result.close()
    finally:
        engine.dispose()


def _parse(url: Secret) -> URL:
    text = url.reveal()
    try:
        parsed = make_url(text)
    except (ArgumentError, ValueError):  # whose words may hold a part of the password
        parsed = None
    if parsed is None:
        raise ConfigError(
            "--source-url-file: it holds no URL of a database",
            "write it as postgresql+psycopg://user@host/name, and a sign such as @ in the user or password as %40",
        )
    require_clear_url(text, parsed.host, parsed.username)
    return parsed


def _engine(database: _Database) -> Engine:
    backend = database.url.get_backend_name()
    file = database.url.database or ":memory:"
    if backend == "sqlite" and not file.startswith((":memory:", "file:")) and not Path(file).exists():
        raise ConfigError(f"--source-url-file: there is no file {file}", "correct the URL of the database")
    # A JSON column stays the text that the database has: parsed, its numbers would be floats.
    options: dict[str, Any] = {"json_deserializer": _as_text} if backend in _WITH_JSON else {}
    if _has_own_encoding(database.url):
        options["connect_args"] = {"client_encoding": "utf8"}
    try:
        return create_engine(database.url, poolclass=NullPool, hide_parameters=True, **options)
    except NoSuchModuleError as exc:
        raise ConfigError(f"--source-url-file: {exc}", "install what speaks to this database, or correct it") from exc
    except ImportError as exc:
        what = f"--source-url-file: the driver {exc.name} of {database.url.drivername} is not installed"
        raise ConfigError(what, f"pip install {exc.name}, or name another driver, as in {backend}+DRIVER://") from exc
    except Exception as exc:
        raise database.error(exc, "cannot be used", is_connected=False) from exc


def _has_own_encoding(url: URL) -> bool:
    """Return whether texts come in the encoding of the database, unless the connection asks for another."""
    if url.get_backend_name() != "postgresql" or url.get_driver_name() not in _LIBPQ_DRIVERS:
        return False
    return not any("client_encoding" in text for one in url.normalized_query.items() for text in (one[0], *one[1]))


def _as_text(document: Any) -> Any:
    return document.decode() if isinstance(document, bytes) else document


@contextmanager
def _connected(engine: Engine, database: _Database) -> Iterator[Connection]:
    """Yield a connection that may read only. Its transaction is rolled back."""
    try:
        connection = engine.connect()
    except Exception as exc:
        raise database.error(exc, "cannot be reached", is_connected=False) from exc
    try:
        try:
            _make_read_only(connection)
        except Exception as exc:
            raise database.error(exc, "does not let this client read only", is_connected=True) from exc
        yield connection
    finally:
        _close(connection)


def _make_read_only(connection: Connection) -> None:
    dialect = connection.dialect
    for statement in _READ_ONLY.get(dialect.name, ()):
        connection.exec_driver_sql(statement)
    if dialect.name != "oracle":  # there it holds for the transaction that it begins
        connection.commit()
    raw: Any = connection.connection.dbapi_connection
    if hasattr(raw, "set_authorizer"):  # SQLite
        raw.set_authorizer(authorize_sqlite)
    keep_exact_texts(dialect.driver, dialect.dbapi, raw)


def _close(connection: Connection) -> None:
    """Roll back and close; a connection that is gone needs neither."""
    try:
        connection.rollback()
        connection.close()
    except Exception:  # noqa: BLE001 - whatever the driver says, the result is complete or refused by now
        connection.invalidate()


def _execute(connection: Connection, sql: str, database: _Database) -> QueryResult:
    streamed = connection.execution_options(stream_results=True, max_row_buffer=BATCH_ROWS, no_parameters=True)
    try:
        result = streamed.exec_driver_sql(sql)
        names = [*result.keys()] if result.returns_rows else None
        classes = {} if names is None else _classes_of(connection, result)
    except Exception as exc:
        raise database.error(exc, "refused the query", is_connected=True) from exc
    if names is None:
        raise InputError("the SQL of --query gives no rows, so it is no query", "nothing was changed; give a SELECT")
    return QueryResult(names, result, database, classes)


def _classes_of(connection: Connection, result: CursorResult[Any]) -> dict[int, type[TypedText]]:
    """Return for each column whose type cannot be a key how its texts are marked."""
    codes: list[Any] = [column[1] for column in result.cursor.description or ()] if result.cursor is not None else []
    names: dict[Any, str | None] = {}
    if connection.dialect.name in ("mysql", "mariadb"):
        names = {code: mysql_type_name(code) for code in codes}
    elif connection.dialect.driver in _LIBPQ_DRIVERS:
        names = _postgres_names(connection, [code for code in codes if not is_postgres_key(code)])
    return {at: typed_text(name) for at, code in enumerate(codes) if (name := names.get(code)) is not None}


def _postgres_names(connection: Connection, oids: Sequence[int]) -> dict[Any, str | None]:
    """Return the names of types that cannot be keys."""
    if not oids:
        return {}
    plain = connection.execution_options(stream_results=False, no_parameters=True)
    rows = plain.exec_driver_sql(postgres_types_query(oids)).all()
    return {oid: None if is_key else name for oid, name, is_key in rows}
