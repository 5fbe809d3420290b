"""Only what may pass is worth the same command again."""

import sqlite3

import pytest

from telemetron_batch.input.database_failures import is_passing


class OperationalError(Exception):
    """An error of a driver, as far as it is looked at."""

    def __init__(self, *args: object, sqlstate: str | None = None) -> None:
        super().__init__(*args)
        self.sqlstate = sqlstate


class ProgrammingError(OperationalError):
    pass


@pytest.mark.parametrize("state", ["08006", "40001", "40P01", "53300", "55P03", "57P01", "57P02", "57P03", "25P03"])
def test_states_of_lost_locked_and_overloaded_databases_may_pass(state: str) -> None:
    assert is_passing(OperationalError("x", sqlstate=state), "x", is_connected=True)


@pytest.mark.parametrize("state", ["28P01", "3D000", "42P01", "22012", "57014", "58030", "25006", "22021", "42501"])
def test_other_states_need_a_person(state: str) -> None:
    assert not is_passing(OperationalError("x", sqlstate=state), "connection refused", is_connected=True)


@pytest.mark.parametrize(
    "words",
    [
        'connection to server at "h", port 1 failed: Connection refused',
        'connection to server at "h", port 1 failed: No route to host',
        "failed to resolve host 'h': [Errno -2] Name or service not known",
        "connection timeout expired",
        "server closed the connection unexpectedly",
        "FATAL:  the database system is starting up",
        "FATAL:  the database system is shutting down",
        "FATAL:  sorry, too many clients already",
        "FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute",
        'connection to server on socket "/run/.s.PGSQL.1" failed: No such file or directory',
    ],
)
def test_a_server_that_cannot_be_reached_may_pass(words: str) -> None:
    assert is_passing(OperationalError(words), words, is_connected=False)


@pytest.mark.parametrize(
    "words",
    [
        'connection is bad: invalid sslmode value: "requird"',
        'FATAL:  password authentication failed for user "x"',
        'FATAL:  database "x" does not exist',
        "FATAL:  no pg_hba.conf entry for host",
        "fe_sendauth: no password supplied",
        "server does not support SSL, but SSL was required",
        "a sentence in another language",
    ],
)
def test_a_server_that_refuses_needs_a_person(words: str) -> None:
    assert not is_passing(OperationalError(words), words, is_connected=False)


@pytest.mark.parametrize(
    ("number", "expected"), [(2003, True), (2013, True), (1205, True), (1045, False), (1049, False), (1064, False)]
)
def test_mysql_is_understood_by_its_numbers(number: int, expected: bool) -> None:
    assert is_passing(OperationalError(number, "words"), "words", is_connected=True) is expected


@pytest.mark.parametrize(
    ("exc", "expected"),
    [
        (ConnectionResetError(104, "reset"), True),
        (TimeoutError(), True),
        (FileNotFoundError(2, "none"), False),
        (PermissionError(13, "no"), False),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), False),
        (TypeError("expected string"), False),
        (ProgrammingError("the connection option is unknown; connection refused"), False),
        (sqlite3.OperationalError("Could not decode to UTF-8 column"), False),
    ],
)
def test_other_failures_are_understood_by_their_kinds(exc: Exception, expected: bool) -> None:
    assert is_passing(exc, str(exc), is_connected=True) is expected
