"""The rows of a query, through the hook of any database connection of Airflow."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, Final

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

from telemetron_batch.airflow_provider.row_files import Rows
from telemetron_batch.domain.errors import ConfigError

_BATCH: Final = 5_000
_CURSOR: Final = "telemetron_batch"


@contextmanager
def query_rows(conn_id: str, sql: str) -> Iterator[tuple[list[str], Iterator[Rows]]]:
    """Yield the names of the columns of a query, and its rows as they come; whatever the query did is rolled back."""
    hook = _hook(conn_id)
    with closing(hook.get_conn()) as connection:
        try:
            with closing(_cursor(connection)) as cursor:
                cursor.execute(sql)
                first = cursor.fetchmany(_BATCH)  # a cursor of the server knows its columns only now
                if cursor.description is None:
                    raise ConfigError("the SQL gives no rows, so it is no query", "nothing was sent; give a SELECT")
                yield [column[0] for column in cursor.description], _batches(cursor, first)
        finally:
            connection.rollback()


def _hook(conn_id: str) -> Any:
    """Return the database hook of a connection. Raises ConfigError."""
    try:
        hook = BaseHook.get_connection(conn_id).get_hook()
    except AirflowNotFoundException as exc:
        raise ConfigError(f"there is no connection {conn_id!r}", "create one of a type of database") from exc
    if not hasattr(hook, "get_sqlalchemy_engine"):  # every DbApiHook has it
        raise ConfigError(f"connection {conn_id} is of no database", "name one whose hook is a DbApiHook")
    return hook


def _cursor(connection: Any) -> Any:
    """Return a cursor that does not load the whole result at once, where the driver has such a one by name."""
    if type(connection).__module__.partition(".")[0] in ("psycopg", "psycopg2"):
        return connection.cursor(_CURSOR)
    return connection.cursor()


def _batches(cursor: Any, first: Any) -> Iterator[Rows]:
    rows = first
    while rows:
        yield rows
        rows = cursor.fetchmany(_BATCH)
