"""Journals of every schema give the same results as when they were made: report, resume, runs and --since-last.

The expected files were written when the journals were made; see `tests/support/journal_fixtures.py`.
"""

import csv
import io
import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, get_args

import pytest

from telemetron_batch.api.classify import Verdict
from telemetron_batch.domain.errors import JournalError
from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.domain.reasons import OpenQuestion
from telemetron_batch.domain.stops import StopReason
from telemetron_batch.journal import connection as opening
from telemetron_batch.journal.connection import migrate
from telemetron_batch.journal.journal import Journal
from telemetron_batch.journal.layout import JOURNAL_NAME
from telemetron_batch.journal.schema import APPLICATION_ID, MIGRATIONS, SCHEMA_VERSION, EndState
from telemetron_batch.planning.delta import RowDeltaState, decode_column
from telemetron_batch.sending.call_executor import PersistentServerError
from telemetron_batch.sending.call_state import ANSWERED
from tests.support.journal_fixtures import (
    JOURNALS,
    Files,
    Fixture,
    fixtures,
    left_out_since,
    line_of_runs,
    report,
    resume,
    resume_finished,
)

FIXTURES = fixtures()
RESUMABLE = [fixture for fixture in FIXTURES if fixture.world["resumedBy"] is not None]
PACELESS = ("state", "exitCode", "counts", "attention", "customersCreated", "calls", "callsSettled", "stop")
"""Keys of a summary that do not depend on the speed of the run."""

every = pytest.mark.parametrize("fixture", FIXTURES, ids=lambda fixture: fixture.name)


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def summary_of(files: Files) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads(files["summary.json"])
    return summary


def timeless(reconciliation: bytes) -> list[dict[str, str]]:
    rows = csv.DictReader(io.StringIO(reconciliation.decode(), newline=""))
    return [{**row, "answeredAt": ""} for row in rows]


# The same files, rows and lines


@every
def test_report_writes_the_same_files(fixture: Fixture) -> None:
    expected = fixture.files("expected")
    assert report(fixture) == {
        name: expected[name] for name in expected if name not in ("runs.json", "since_last.json")
    }


@pytest.mark.parametrize("fixture", RESUMABLE, ids=lambda fixture: fixture.name)
def test_a_continued_run_ends_with_the_same_reconciliation(fixture: Fixture) -> None:
    expected, resumed = fixture.files("resumed"), resume(fixture)
    assert timeless(resumed["reconciliation.csv"]) == timeless(expected["reconciliation.csv"])
    assert {name: summary_of(resumed)[name] for name in PACELESS} == {
        name: summary_of(expected)[name] for name in PACELESS
    }
    for name in ("attention.csv", "undo.csv"):
        assert resumed[name] == expected[name]


@every
def test_a_later_run_leaves_out_the_same_rows(fixture: Fixture) -> None:
    assert left_out_since(fixture) == fixture.files("expected")["since_last.json"]


@every
def test_runs_lists_the_same_information(fixture: Fixture) -> None:
    assert line_of_runs(fixture) == fixture.files("expected")["runs.json"]


@pytest.mark.parametrize(
    "fixture",
    [one for one in FIXTURES if summary_of(one.files("expected"))["state"] == "finished" and "shards" not in one.name],
    ids=lambda fixture: fixture.name,
)
def test_a_finished_run_is_not_sent_again(fixture: Fixture) -> None:
    summary, server = resume_finished(fixture)
    assert (summary.exit_code, server.seen) == (summary_of(fixture.files("expected"))["exitCode"], [])


def test_a_run_whose_journal_lost_records_is_not_continued() -> None:
    for fixture in FIXTURES:
        if fixture.folder.name == "records-lost":
            with pytest.raises(JournalError, match="has lost at least"):
                resume_finished(fixture)


# Migrations

NEXT_SCHEMA = {**MIGRATIONS, SCHEMA_VERSION: "ALTER TABLE attempts ADD COLUMN bytes_sent INTEGER NOT NULL DEFAULT 0"}


@pytest.fixture
def next_schema(monkeypatch: pytest.MonkeyPatch) -> int:
    """Simulate a later version of the program with one more column."""
    monkeypatch.setattr(opening, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
    monkeypatch.setattr(migrate, "__defaults__", (NEXT_SCHEMA, SCHEMA_VERSION + 1))
    return SCHEMA_VERSION + 1


def columns_and_version(path: Path) -> tuple[list[str], int]:
    with closing(sqlite3.connect(path)) as connection:
        columns = [column[1] for column in connection.execute("PRAGMA table_info(attempts)")]
        return columns, connection.execute("PRAGMA user_version").fetchone()[0]


@every
def test_a_migrated_journal_gives_the_same_report(fixture: Fixture, next_schema: int) -> None:
    test_report_writes_the_same_files(fixture)
    paths = [*Path("reports", fixture.run_id).rglob(JOURNAL_NAME)]
    assert paths
    for path in paths:
        columns, version = columns_and_version(path)
        assert ("bytes_sent" in columns, version) == (True, next_schema)


@pytest.mark.parametrize("name", ["killed-with-attempts-in-flight", "shards-killed", "stopped-in-split-calls"])
@pytest.mark.usefixtures("next_schema")
def test_a_migrated_journal_is_continued_to_the_same_result(name: str) -> None:
    test_a_continued_run_ends_with_the_same_reconciliation(Fixture(JOURNALS / "schema-2" / name))


@pytest.mark.parametrize("name", ["nights-3", "stopped-by-deadline", "killed-with-attempts-in-flight"])
@pytest.mark.usefixtures("next_schema")
def test_a_later_run_leaves_out_the_same_rows_next_to_journals_of_an_older_schema(name: str) -> None:
    test_a_later_run_leaves_out_the_same_rows(Fixture(JOURNALS / "schema-2" / name))


# Every state has a fixture

NEVER_STORED = {
    StopReason.RUN_LOST: "the process may not write to the journal any more",
    StopReason.RECORDS_LOST: "found out from the witness whenever the journal is opened",
    StopReason.API_IN_TROUBLE: "said by `check` only, which has no journal",
    StopReason.SHARD_NOT_BEGUN: "becomes a part of the text of shardsOpen",
    StopReason.SHARD_ASSIGNS_OPEN: "becomes a part of the text of shardsOpen",
    StopReason.SHARD_HOLDS_ENDED: "becomes a part of the text of shardsOpen",
    StopReason.NOT_PUBLISHED: "said in the summary only, of a run that is finished",
}
WHAT_TO_DO = (
    "no journal in tests/journals/ holds {}: add a run that comes to it to tests/support/make_journal_fixtures.py "
    "and run `python -m tests.support.make_journal_fixtures`"
)


def current_journals() -> Iterator[Path]:
    """Yield copies of the journals of the current schema, because opening one may change it."""
    for fixture in FIXTURES:
        if fixture.folder.parent.name == f"schema-{SCHEMA_VERSION}":
            yield from fixture.place().rglob(JOURNAL_NAME)


def stored_in(query: str) -> set[Any]:
    """Return the values that the journals have in a column."""
    found = set[Any]()
    for path in current_journals():
        with closing(sqlite3.connect(path)) as connection:
            found |= {value for (value,) in connection.execute(query)}
    return found


def require_all(wanted: Iterable[Any], found: Iterable[Any]) -> None:
    missing = {*wanted} - {*found}
    assert not missing, WHAT_TO_DO.format(", ".join(sorted(map(str, missing))))


def test_there_are_fixtures_of_every_schema_that_was_released() -> None:
    folders = {path.name for path in JOURNALS.iterdir()}
    require_all({f"schema-{version}" for version in [*MIGRATIONS, SCHEMA_VERSION]}, folders)


def test_the_fixtures_have_the_schema_of_their_folder() -> None:
    paths = [*JOURNALS.glob("schema-*/**/journal.sqlite3")]
    assert paths
    for path in paths:
        head = path.read_bytes()[:72]
        version, application = (int.from_bytes(head[at : at + 4], "big") for at in (60, 68))
        assert (f"schema-{version}", application) == (path.relative_to(JOURNALS).parts[0], APPLICATION_ID)


def test_every_outcome_has_a_fixture() -> None:
    reports = (timeless(fixture.files("expected")["reconciliation.csv"]) for fixture in FIXTURES)
    require_all(Outcome, {row["outcome"] for rows in reports for row in rows})


def test_every_ending_of_an_attempt_has_a_fixture() -> None:
    require_all([*EndState, None], stored_in("SELECT ending FROM attempts"))


def test_every_verdict_has_a_fixture() -> None:
    codes = {ANSWERED, PersistentServerError.code, *(verdict.code for verdict in get_args(Verdict))}
    require_all(codes, stored_in("SELECT verdict FROM attempts"))


def test_every_stop_that_a_journal_can_hold_has_a_fixture() -> None:
    notes = stored_in("SELECT value FROM meta WHERE name IN ('stop', 'unassigning')")
    found = {note["reason"] for note in map(json.loads, notes) if note is not None}
    require_all({*StopReason} - {*NEVER_STORED}, found)  # one that no journal can hold goes into NEVER_STORED
    assert not found & {*NEVER_STORED}


def test_every_standing_of_a_row_has_a_fixture() -> None:
    texts = map(json.loads, stored_in("SELECT value FROM meta WHERE name = 'standing'"))
    require_all(RowDeltaState, {code for text in texts if text is not None for code in decode_column(text).tolist()})


def test_every_open_question_of_a_result_has_a_fixture() -> None:
    found = set[int]()
    for path in current_journals():
        with closing(Journal(path)) as journal:
            found |= {
                int(one.open_question) for each in journal.recorded_answers() for one in each.answer.results.values()
            }
    require_all(OpenQuestion, found)


def test_each_table_and_kind_of_file_has_a_fixture() -> None:
    for table in ("blocks", "attempts", "results", "holdings", "looks", "events"):
        assert stored_in(f"SELECT 1 FROM {table} LIMIT 1") == {1}, WHAT_TO_DO.format(f"a row in {table}")
    for name in (f"{JOURNAL_NAME}-wal", f"{JOURNAL_NAME}-witness", "shards/*/calls.arrow", "shards/*/left.arrow"):
        assert [*JOURNALS.glob(f"schema-{SCHEMA_VERSION}/*/{name}")], WHAT_TO_DO.format(name)
    assert not [*JOURNALS.rglob("*-shm")]
