"""A query is run without changing anything, its rows come as they are, and no secret is told."""

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy")

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.errors import BatchError, ConfigError, InputError, SourceError
from telemetron_batch.domain.model import InputOptions, Secret
from telemetron_batch.input import database
from telemetron_batch.input.database import describe_database, open_query
from telemetron_batch.input.row_snapshot import value_text, write_snapshot
from tests.support.listening import free_port
from tests.support.postgres import PASSWORD, PROGRAMS, QUOTED_PASSWORD, PostgresServer, Relay, postgres


def read(sql: str, url: str) -> list[tuple[Any, ...]]:
    with open_query(sql, Secret(url)) as result:
        return [tuple(row) for batch in result.batches() for row in batch]


def refused(sql: str, url: str) -> BatchError:
    with pytest.raises(BatchError) as refusal:
        read(sql, url)
    assert "\n" not in str(refusal.value)
    return refusal.value


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    with closing(sqlite3.connect(tmp_path / "erp.db")) as connection:
        connection.execute("CREATE TABLE moved (email TEXT, serial, note)")
        rows = [("a@b.cc", "0012", None), ("b@b.cc", 12, "100%"), ("c@b.cc", 1.5, b"\x00")]
        connection.executemany("INSERT INTO moved VALUES (?, ?, ?)", rows)
        connection.commit()
    return f"sqlite:///{tmp_path}/erp.db"


def test_rows_of_sqlite_come_with_their_types(sqlite: str) -> None:
    assert read("SELECT * FROM moved", sqlite) == [
        ("a@b.cc", "0012", None),
        ("b@b.cc", 12, "100%"),
        ("c@b.cc", 1.5, b"\x00"),
    ]


def test_signs_of_parameters_have_no_meaning(sqlite: str) -> None:
    sql = "SELECT email, ':name %s ?' FROM moved WHERE note LIKE '%0\\%' ESCAPE '\\'"
    assert read(sql, sqlite) == [("b@b.cc", ":name %s ?")]


def test_the_columns_have_the_names_of_the_query(sqlite: str) -> None:
    with open_query('SELECT email AS "customer mail", serial, serial FROM moved', Secret(sqlite)) as result:
        assert [*result.names] == ["customer mail", "serial", "serial"]


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("UPDATE moved SET serial = 'x'", "refused the query"),
        ("DELETE FROM moved RETURNING email, serial", "refused the query"),
        ("CREATE TABLE other (x)", "refused the query"),
        ("PRAGMA user_version = 7", "refused the query"),
        ("BEGIN", "is no query; nothing was changed"),
        ("SELEC 1", "syntax error"),
        ("SELECT 1; DELETE FROM moved", "one statement at a time"),
        ("SELECT * FROM nowhere", "no such table"),
    ],
)
def test_sql_that_is_no_query_changes_nothing(sqlite: str, sql: str, why: str) -> None:
    before = read("SELECT * FROM moved", sqlite)
    error = refused(sql, sqlite)
    assert (error.exit_code, why in str(error)) == (2, True), str(error)
    assert read("SELECT * FROM moved", sqlite) == before


def test_a_database_that_is_locked_may_be_asked_again(sqlite: str) -> None:
    with closing(sqlite3.connect(sqlite.removeprefix("sqlite:///"))) as other:
        other.execute("BEGIN EXCLUSIVE")
        error = refused("SELECT * FROM moved", f"{sqlite}?timeout=0")
    assert (type(error), error.exit_code) == (SourceError, 3)
    assert "run the same command again" in str(error)


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    error = refused("SELECT 1", f"sqlite:///{tmp_path}/none.db")
    assert (type(error), "there is no file" in str(error)) == (ConfigError, True)
    assert list(tmp_path.iterdir()) == []


def test_a_url_that_is_none_and_a_driver_that_is_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "it holds no URL of a database; write it as postgresql" in str(refused("SELECT 1", "db.example.com"))
    assert "nonsense" in str(refused("SELECT 1", "nonsense://user:hush@host/x"))
    monkeypatch.setitem(sys.modules, "MySQLdb", None)
    error = refused("SELECT 1", "mysql://user:hush@host/x")
    assert "the driver MySQLdb of mysql is not installed; pip install MySQLdb, or name another" in str(error)


def test_only_scheme_and_host_of_a_url_are_told() -> None:
    url = Secret("postgresql+psycopg://clerk:hush@db.example.com:5433/erp?sslpassword=psst")
    assert describe_database(url) == "postgresql://db.example.com"


def test_a_database_that_cannot_be_reached_may_be_asked_again_and_no_secret_is_told() -> None:
    pytest.importorskip("psycopg")
    error = refused("SELECT 1", f"postgresql+psycopg://clerk:hu%2Fsh@127.0.0.1:{free_port()}/erp?sslpassword=psst")
    assert (type(error), error.exit_code) == (SourceError, 3)
    assert "the database postgresql://127.0.0.1 cannot be reached" in str(error)
    for secret in ("clerk", "hu/sh", "hu%2Fsh", "psst"):
        assert secret not in str(error)


@pytest.mark.parametrize("setting", ["sslmode=requird", "nonsense=1", "connect_timeout=abc"])
def test_a_setting_that_the_driver_refuses_needs_a_person(setting: str) -> None:
    pytest.importorskip("psycopg")
    error = refused("SELECT 1", f"postgresql+psycopg://clerk:hush@127.0.0.1:{free_port()}/erp?{setting}")
    assert (type(error), error.exit_code) == (InputError, 2)


def test_text_of_sqlite_that_is_not_utf_8_needs_a_person(sqlite: str) -> None:
    error = refused("SELECT CAST(x'ff' AS TEXT)", sqlite)
    assert (type(error), error.exit_code) == (InputError, 2)
    assert "Could not decode to UTF-8" in str(error)


@pytest.mark.parametrize("sql", ["ATTACH '{}' AS e", "VACUUM INTO '{}'", "PRAGMA journal_mode = WAL"])
def test_sqlite_makes_no_file(sqlite: str, tmp_path: Path, sql: str) -> None:
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert refused(sql.format(tmp_path / "new.db"), sqlite).exit_code == 2
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


# PostgreSQL

needs_postgres = pytest.mark.skipif(PROGRAMS is None, reason="needs PostgreSQL")


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    pytest.importorskip("psycopg")
    with postgres() as running:
        yield running


TYPES = {
    "'0012'::char(6)": "0012  ",
    "'0012'::varchar(6)": "0012",
    "NULL::text": "",
    "12345678901234567890::numeric": "12345678901234567890",
    "12.50::numeric(10,2)": "12.50",
    "1e-10::numeric": "0.0000000001",
    "7::smallint": "7",
    "9223372036854775807": "9223372036854775807",
    "0.1::real": "0.1",
    "0.1::float8": "0.1",
    "true": "true",
    "'12345678-1234-5678-1234-567812345678'::uuid": "12345678-1234-5678-1234-567812345678",
    "DATE '2026-05-31'": "2026-05-31",
    "TIME '02:00'": "02:00:00",
    "TIMESTAMP '2026-05-31 02:00:00.5'": "2026-05-31 02:00:00.5",
    "TIMESTAMPTZ '2026-05-31 02:00:00+02'": "2026-05-31 00:00:00+00",
    "INTERVAL '1 day 2 hours'": "1 day 02:00:00",
    "INTERVAL '1 month 1 day'": "1 mon 1 day",
    "'infinity'::date": "infinity",
    "'0044-03-15 BC'::date": "0044-03-15 BC",
    "DATE '20000-01-01'": "20000-01-01",
    "TIME '24:00'": "24:00:00",
    "TIMETZ '02:00+02'": "02:00:00+02",
    "'-infinity'::timestamptz": "-infinity",
    "ARRAY['infinity'::date, NULL]": '["infinity",null]',
    "daterange('2026-05-01', NULL)": "[2026-05-01,)",
    "datemultirange(daterange('2026-05-01', '2026-05-02'))": "{[2026-05-01,2026-05-02)}",
    r"'\x00ff'::bytea": "\\x00ff",
    "ARRAY['a', NULL, 'b']": '["a",null,"b"]',
    "ARRAY[[1,2],[3,4]]": "[[1,2],[3,4]]",
    """'{"a": 1.10, "b": [12345678901234567890]}'::json""": '{"a": 1.10, "b": [12345678901234567890]}',
    """'{"a": 1.10}'::jsonb""": '{"a": 1.10}',
    "'assign'::moves": "assign",
    "'192.168.0.1'::inet": "192.168.0.1",
    "'08:00:2b:01:02:03'::macaddr": "08:00:2b:01:02:03",
}


@pytest.mark.slow
@needs_postgres
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_every_type_of_postgresql_has_its_text(server: PostgresServer, driver: str) -> None:
    pytest.importorskip(driver)
    server.execute("DROP TYPE IF EXISTS moves", "CREATE TYPE moves AS ENUM ('assign', 'unassign')")
    (row,) = read(f"SELECT {', '.join(TYPES)}", server.url(driver))
    assert {name: value_text(value) for name, value in zip(TYPES, row, strict=True)} == TYPES


@pytest.mark.slow
@needs_postgres
@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("to_jsonb(12.5::float8)", "jsonb"),
        ("'{}'::json", "json"),
        ("12::money", "money"),
        ("xmlelement(name a)", "xml"),
        ("B'01'", "bit"),
        ("point(1, 2)", "point"),
        ("DATE '2026-05-31'", "date"),
        ("'192.168.0.1'::inet", "inet"),
        ("ROW(1, 'a')::pair", "pair"),
    ],
)
def test_a_type_of_postgresql_that_is_no_text_is_no_key(
    server: PostgresServer, tmp_path: Path, key: str, kind: str
) -> None:
    server.execute("DROP TYPE IF EXISTS pair", "CREATE TYPE pair AS (n int, t text)")
    sql = f"SELECT 'a@b.cc' AS email, {key} AS serial"
    with (
        pytest.raises(InputError, match=rf'row 1 has .* \({kind}\) in "serial"') as refusal,
        open_query(sql, Secret(server.url())) as result,
    ):
        write_snapshot(result.names, result.batches(), tmp_path / "q", InputOptions(action=Action.ASSIGN))
    assert (refusal.value.exit_code, list(tmp_path.iterdir())) == (2, [])


@pytest.mark.slow
@needs_postgres
@pytest.mark.parametrize(
    "key", ["'S1'::text", "'S1'::char(5)", "'S1'::name", "7", "7::numeric", "'S1'::serials", "'S1'::kinds"]
)
def test_texts_whole_numbers_and_enums_of_postgresql_are_keys(server: PostgresServer, tmp_path: Path, key: str) -> None:
    server.execute("DROP DOMAIN IF EXISTS serials", "CREATE DOMAIN serials AS text")
    server.execute("DROP TYPE IF EXISTS kinds", "CREATE TYPE kinds AS ENUM ('S1')")
    with open_query(f"SELECT 'a@b.cc' AS email, {key} AS serial", Secret(server.url())) as result:
        options = InputOptions(action=Action.ASSIGN)
        assert write_snapshot(result.names, result.batches(), tmp_path / "q", options) == 1


@pytest.mark.slow
@needs_postgres
def test_a_database_without_an_encoding_is_read_as_utf_8(server: PostgresServer) -> None:
    server.execute("DROP DATABASE IF EXISTS bytes")
    server.execute("CREATE DATABASE bytes ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    url = server.url().removesuffix("postgres") + "bytes"
    assert read("SELECT 'é'", url) == [("é",)]
    error = refused(r"SELECT convert_from('\xff'::bytea, 'SQL_ASCII')", url)
    assert (type(error), error.exit_code) == (InputError, 2)
    error = refused("SELECT 'é'", f"{url}?client_encoding=sql_ascii")  # a failure of the library itself
    assert (type(error), error.exit_code) == (InputError, 2)


@pytest.mark.slow
@needs_postgres
def test_a_query_that_is_cancelled_for_its_time_needs_a_person(server: PostgresServer) -> None:
    error = refused("SELECT pg_sleep(60)", f"{server.url()}?options=-c%20statement_timeout%3D50")
    assert (type(error), error.exit_code) == (InputError, 2)
    assert "statement timeout" in str(error)


@pytest.mark.slow
@needs_postgres
@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE moved SET serial = 'x'",
        "UPDATE moved SET serial = 'x' RETURNING *",
        "WITH gone AS (DELETE FROM moved RETURNING *) SELECT * FROM gone",
        "SELECT 1; COMMIT; DELETE FROM moved",
        "SELECT setval('counter', 7)",
        "DROP TABLE moved",
    ],
)
def test_postgresql_changes_nothing(server: PostgresServer, sql: str) -> None:
    server.execute("DROP TABLE IF EXISTS moved", "CREATE TABLE moved AS SELECT 'S1' AS serial")
    server.execute("DROP SEQUENCE IF EXISTS counter", "CREATE SEQUENCE counter")
    assert refused(sql, server.url()).exit_code == 2
    assert read("SELECT serial, last_value::int FROM moved, counter", server.url()) == [("S1", 1)]


@pytest.mark.slow
@needs_postgres
def test_signs_of_parameters_have_no_meaning_in_postgresql(server: PostgresServer) -> None:
    sql = "SELECT '%s %(x)s :name' || 1::text WHERE 'a%b' LIKE '%!%%' ESCAPE '!'"
    assert read(sql, server.url()) == [("%s %(x)s :name1",)]


@pytest.mark.slow
@needs_postgres
def test_a_password_that_is_refused_needs_a_person_and_is_not_told(server: PostgresServer) -> None:
    error = refused("SELECT 1", server.url(password="wrong-password"))
    assert (type(error), error.exit_code) == (InputError, 2)
    assert "authentication failed" in str(error)
    assert "wrong-password" not in str(error)
    assert refused("SELECT * FROM nowhere", server.url()).exit_code == 2
    assert refused("SELECT 1/0", server.url()).exit_code == 2


@pytest.mark.slow
@needs_postgres
def test_a_backend_that_is_ended_in_between_leaves_no_snapshot(server: PostgresServer, tmp_path: Path) -> None:
    sql = "SELECT 'a@b.cc' AS email, 'S' || n AS serial FROM generate_series(1, 1000000) AS n"
    with open_query(sql, Secret(server.url())) as result:

        def batches() -> Iterator[Any]:
            for number, batch in enumerate(result.batches()):
                if number == 3:
                    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                    server.execute(f"{ended} AND backend_type = 'client backend'")
                yield batch

        with pytest.raises(SourceError, match=r"stopped after [0-9]+,000 rows .*; nothing was sent") as stopped:
            write_snapshot(result.names, batches(), tmp_path / "q", InputOptions(action=Action.ASSIGN))
    assert stopped.value.exit_code == 3
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@needs_postgres
def test_a_connection_that_is_cut_leaves_no_snapshot(server: PostgresServer, tmp_path: Path) -> None:
    relay = Relay(server.port, max_bytes=1_000_000)
    sql = "SELECT 'a@b.cc' AS email, 'S' || n AS serial FROM generate_series(1, 1000000) AS n"
    with (
        pytest.raises(SourceError, match="nothing was sent") as stopped,
        open_query(sql, Secret(server.url(port=relay.port))) as result,
    ):
        write_snapshot(result.names, result.batches(), tmp_path / "q", InputOptions(action=Action.ASSIGN))
    relay.close()
    assert stopped.value.exit_code == 3
    assert PASSWORD not in str(stopped.value)
    assert QUOTED_PASSWORD not in str(stopped.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@needs_postgres
def test_only_some_rows_are_in_memory_at_a_time(server: PostgresServer) -> None:
    with open_query("SELECT n FROM generate_series(1, 3000000) AS n", Secret(server.url())) as result:
        batch = next(result.batches())
        assert [tuple(row) for row in batch] == [(n,) for n in range(1, database.BATCH_ROWS + 1)]
