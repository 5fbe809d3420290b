"""Run `--query`, and keep its result as the input of the run: from then on no database is needed."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from telemetron_batch.config.config import RunConfig
from telemetron_batch.config.secret_file import read_secret_file
from telemetron_batch.domain.errors import ConfigError, InputError
from telemetron_batch.domain.model import InputFile, Secret, SqlQuery
from telemetron_batch.input.load import Loaded
from telemetron_batch.run.await_input import with_less_time
from telemetron_batch.storage.clock import Clock

SNAPSHOT_NAME: Final = "query.parquet"
"""The result of the query, in the run's folder."""
QUERY_NAME: Final = "query"
"""The input's name in reports and messages."""


@contextmanager
def with_query_result(config: RunConfig, folder: Path, clock: Clock) -> Iterator[RunConfig]:
    """Yield the configuration whose file is the result of its query, which is kept in `folder`.

    The query uses up the deadline. The result is removed if an error ends the context. A configuration without a query
    is yielded as it is.
    """
    if config.query is None:
        yield config
        return
    snapshot = folder / SNAPSHOT_NAME
    began = clock.uptime()
    try:
        place = _run_query(config.query, config, snapshot, _time_left(config, clock))
        sending = with_less_time(config.sending, clock.uptime() - began)
        yield replace(config, files=(str(snapshot),), query=replace(config.query, place=place), sending=sending)
    except BaseException:
        with suppress(OSError):
            snapshot.unlink(missing_ok=True)
        raise


def _time_left(config: RunConfig, clock: Clock) -> float | None:
    """Return the seconds until `--deadline` or `--until`, whichever is earlier; None for no limit."""
    sending = config.sending
    until = None if sending.until_at is None else sending.until_at - clock.wall()
    return min((limit for limit in (sending.deadline, until) if limit is not None), default=None)


def _run_query(query: SqlQuery, config: RunConfig, snapshot: Path, limit_s: float | None) -> str:
    """Write the result of a query, and return scheme and host of the database."""
    if find_spec("sqlalchemy") is None:
        raise ConfigError("--query needs telemetron-batch[sql]", "pip install 'telemetron-batch[sql]'")
    if query.url_file is None:
        raise ConfigError("--query needs --source-url-file", "name a file with the URL of the database")
    from telemetron_batch.input.database import describe_database, open_query
    from telemetron_batch.input.row_snapshot import write_snapshot

    url = Secret(read_secret_file(Path(query.url_file), "--source-url-file: ", "URL").splitlines()[0])
    place = describe_database(url)
    with named_as_query(replace(config, files=(str(snapshot),))), open_query(query.sql, url, limit_s) as result:
        write_snapshot(result.names, result.batches(), snapshot, config.input)
    return place


@contextmanager
def named_as_query(config: RunConfig) -> Iterator[None]:
    """Name the query, if there is one, in errors about the input, instead of the file that holds its result."""
    try:
        yield
    except InputError as exc:
        if config.query is None:
            raise
        reason = exc.reason.removeprefix(f"{config.files[0]}: ")
        prefix = "" if reason.startswith(("the database", "the SQL")) else f"{QUERY_NAME}: "
        raise InputError(f"{prefix}{reason}", exc.advice) from exc


def as_query(loaded: Loaded, query: SqlQuery | None) -> Loaded:
    """Return what was loaded with the query as its file: it has no age and no path."""
    if query is None or query.place is None:
        return loaded
    return replace(loaded, files=tuple(_as_query(file, query.place) for file in loaded.files))


def _as_query(file: InputFile, place: str) -> InputFile:
    return replace(file, name=QUERY_NAME, path=place, written=None, encoding="sql")
