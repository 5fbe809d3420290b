"""A query's result becomes the input of a run, which then needs no database."""

import hashlib
import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

pytest.importorskip("sqlalchemy")

from telemetron_batch.config.config import RunConfig, resolve
from telemetron_batch.domain.errors import BatchError
from telemetron_batch.run import pipeline
from telemetron_batch.run.make_plan import make_plan
from telemetron_batch.run.query_snapshot import SNAPSHOT_NAME, with_query_result
from telemetron_batch.run.save_plan import save_plan
from tests.conftest import BASE_URL, KEY, Desk, Ran

SQL = "SELECT mail AS email, serial, move AS action, site FROM moved ORDER BY rowid"
ROWS = [("a@x.com", "0012", "assign", "7"), ("b@x.com", 13, "unassign", None)]


class Warehouse:
    """A database with moves of devices, and runs of its query."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.db, self.url_file = desk.folder / "erp.db", desk.folder / "url"
        self.url_file.write_text(f"sqlite:///{self.db}\n")
        self.url_file.chmod(0o600)
        self.execute("CREATE TABLE moved (mail, serial, move, site)")
        for row in ROWS:
            self.execute("INSERT INTO moved VALUES (?, ?, ?, ?)", row)
        desk.server.fleet.assign("b@x.com", ["13"], create=True)

    def execute(self, sql: str, values: tuple[Any, ...] = ()) -> None:
        with closing(sqlite3.connect(self.db)) as connection:
            connection.execute(sql, values)
            connection.commit()

    def config(self, sql: str = SQL, **flags: Any) -> RunConfig:
        options = {"query": sql, "source_url_file": str(self.url_file), "base_url": BASE_URL, "run_id": "r1"}
        options |= {"reports_dir": str(self.desk.folder / "reports")}
        return resolve([], {**options, **flags}, {"TELEMETRON_API_KEY": KEY})

    def run(self, sql: str = SQL, **flags: Any) -> Ran:
        desk = self.desk
        config = self.config(sql, **flags)
        summary = pipeline.run(config, observer=desk.face, transport=desk.server, clock=desk.clock)
        return Ran(summary, summary.folder, desk.server)

    def refused(self, act: Callable[[], object]) -> BatchError:
        with pytest.raises(BatchError) as refusal:
            act()
        return refusal.value

    @property
    def folders(self) -> list[str]:
        reports = self.desk.folder / "reports"
        return sorted(path.name for path in reports.iterdir()) if reports.exists() else []


@pytest.fixture
def warehouse(desk: Desk) -> Warehouse:
    return Warehouse(desk)


def test_the_rows_of_a_query_are_sent_and_accounted_for(warehouse: Warehouse) -> None:
    ran = warehouse.run()
    assert ran.outcomes == ["assigned", "unassigned"]
    assert [(row["line"], row["deviceIdentifier"], row["site"]) for row in ran.rows] == [
        ("1", "0012", "7"),
        ("2", "13", ""),
    ]
    (file,) = ran.json["inputs"]
    kept = (ran.folder / SNAPSHOT_NAME).read_bytes()
    assert (file["name"], file["path"], file["encoding"]) == ("query", "sqlite://", "sql")
    assert file["sha256"] == hashlib.sha256(kept).hexdigest()


def test_a_run_goes_on_without_its_database(warehouse: Warehouse) -> None:
    saved = save_plan(warehouse.config(), clock=warehouse.desk.clock)
    warehouse.db.unlink()
    warehouse.url_file.unlink()
    assert saved.summary.rows == 2
    assert warehouse.run().outcomes == ["assigned", "unassigned"]
    assert warehouse.run().summary.exit_code == 0


def test_another_query_under_the_same_run_id_is_refused(warehouse: Warehouse) -> None:
    warehouse.run()
    error = warehouse.refused(lambda: warehouse.run(SQL + " DESC"))
    assert (error.exit_code, "started with other options (--query)" in str(error)) == (2, True)


def test_a_repeated_result_is_recognised_as_processed(warehouse: Warehouse) -> None:
    warehouse.run()
    error = warehouse.refused(lambda: warehouse.run(run_id="r2"))
    assert "run r1 has already processed exactly this content" in str(error)
    assert warehouse.folders == ["r1"]


def test_a_plan_leaves_no_folder(warehouse: Warehouse) -> None:
    plan = make_plan(warehouse.config(run_id=None))
    assert (plan.rows, plan.calls, plan.files[0].path) == (2, 2, "sqlite://")
    assert warehouse.folders == []


def test_a_saved_plan_is_named_by_the_time_and_one_to_approve_by_the_user(warehouse: Warehouse) -> None:
    saved = save_plan(warehouse.config(run_id=None), clock=warehouse.desk.clock)
    assert saved.folder.name == "query-20260101T000000Z"
    error = warehouse.refused(lambda: save_plan(warehouse.config(run_id=None, approval="second")))
    assert "name the run with --run-id" in str(error)


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("SELECT mail, serial FROM moved", "query: no column for action"),
        ("SELECT 1.5 AS serial, 'a@x.com' AS email, 'assign' AS action", 'query: row 1 has 1.5 (float) in "serial"'),
        ("UPDATE moved SET mail = 'x'", "the database sqlite:// refused the query"),
        (f"SELECT * FROM ({SQL}) WHERE 0", "query has no data rows"),
    ],
)
def test_a_query_that_cannot_be_used_leaves_nothing(warehouse: Warehouse, sql: str, why: str) -> None:
    error = warehouse.refused(lambda: warehouse.run(sql))
    assert (error.exit_code, why in str(error)) == (2, True), str(error)
    assert warehouse.folders == []
    assert not warehouse.desk.server.seen


def test_brakes_hold_and_the_age_of_a_query_does_not_count(warehouse: Warehouse) -> None:
    error = warehouse.refused(lambda: warehouse.run(min_rows="3"))
    assert error.exit_code == 2
    assert warehouse.folders == []
    assert warehouse.run(max_age="1s", expect_rows="2").summary.exit_code == 0


def test_the_attention_file_can_be_fed_back(warehouse: Warehouse) -> None:
    warehouse.execute("UPDATE moved SET mail = 'ax.com' WHERE serial = '0012'")
    ran = warehouse.run()
    assert ran.outcomes == ["invalid", "unassigned"]
    attention = ran.folder / "attention.csv"
    attention.write_text(attention.read_text("utf-8-sig").replace("ax.com", "a@x.com"))
    assert warehouse.desk.run(str(attention), run_id="r2").outcomes == ["assigned"]


def test_the_url_is_kept_nowhere(warehouse: Warehouse) -> None:
    ran = warehouse.run()
    for path in ran.folder.iterdir():
        assert os.fsencode(warehouse.db) not in path.read_bytes(), path.name
    options = json.dumps(ran.json)
    assert "erp.db" not in options


def test_a_url_file_that_others_can_read_is_refused(warehouse: Warehouse) -> None:
    warehouse.url_file.chmod(0o644)
    error = warehouse.refused(warehouse.run)
    assert f"--source-url-file: others can read the URL in {warehouse.url_file}; run: chmod 600" in str(error)


def test_the_file_of_the_url_is_needed(warehouse: Warehouse) -> None:
    error = warehouse.refused(lambda: warehouse.run(source_url_file=None))
    assert (error.exit_code, "--query needs --source-url-file" in str(error)) == (2, True)
    assert warehouse.folders == []


class LaterClock:
    """A clock on which time passes between two looks at it."""

    def __init__(self, step_s: float) -> None:
        self.at, self.step_s = 0.0, step_s

    def uptime(self) -> float:
        self.at += self.step_s
        return self.at

    def wall(self) -> float:
        return self.at

    def sleep_blocking(self, seconds: float) -> None:
        raise NotImplementedError

    def run(self, main: Any) -> Any:
        raise NotImplementedError


def test_the_query_uses_up_the_deadline(warehouse: Warehouse) -> None:
    config = warehouse.config(deadline="1h")
    with with_query_result(config, warehouse.desk.folder, LaterClock(600)) as read:
        assert (config.sending.deadline, read.sending.deadline) == (3600, 3000)
    with with_query_result(warehouse.config(), warehouse.desk.folder, LaterClock(600)) as read:
        assert read.sending.deadline is None


ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT "


@pytest.mark.slow
@pytest.mark.parametrize("columns", ["max(x) AS serial", "'a@x.com' AS email, x AS serial, 'assign' AS action"])
def test_a_query_ends_at_the_deadline_and_leaves_nothing(warehouse: Warehouse, columns: str) -> None:
    error = warehouse.refused(lambda: warehouse.run(f"{ENDLESS}{columns} FROM n", deadline="1s"))
    assert (error.exit_code, "did not give all rows before the --deadline or --until" in str(error)) == (3, True)
    assert (warehouse.folders, [*warehouse.desk.folder.glob("**/*.parquet")]) == ([], [])


def test_two_queries_are_two_jobs(warehouse: Warehouse) -> None:
    warehouse.run(since_last=True)
    assert warehouse.run(run_id="r2", since_last=True).outcomes == ["unchanged", "unchanged"]
    other = warehouse.run(SQL.replace("rowid", "mail"), run_id="r3", since_last=True)
    assert "there is no finished run of query" in other.json["since"]["told"]
