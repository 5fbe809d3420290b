"""The functions as a program calls them: against the sandbox, which the run itself starts."""

import json
import logging
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import telemetron_batch as tb
from telemetron_batch.sandbox.server import serve_in_thread
from telemetron_batch.sandbox.state import SandboxState

A, B = "ann@example.com", "bob@example.com"
KEY = "key-of-the-tests-0123456789"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Iterator[SandboxState]:
    """An API that knows the devices A1 to A9, named by the environment."""
    monkeypatch.setenv("TELEMETRON_API_KEY", KEY)
    with SandboxState() as state, serve_in_thread(state, api_key=KEY) as base_url:
        state.seed((A, f"A{number}", "assign") for number in range(1, 10))
        monkeypatch.setenv("TELEMETRON_BASE_URL", base_url)
        yield state


def frame(*rows: tuple[Any, ...], columns: tuple[str, ...] = ("customerEmail", "deviceIdentifier", "action")) -> Any:
    return pd.DataFrame(list(rows), columns=list(columns))


GOOD = ((A, "0012", "assign"), (B, "NA", "unassign"))


# Sources


def test_a_run_of_a_frame_gives_one_outcome_for_every_row_in_its_order() -> None:
    result = tb.run(frame(*GOOD, (None, "x", "assign")), sandbox=True)
    table = result.reconciliation()
    assert table["line"].tolist() == ["1", "2", "3"]
    assert table["outcome"].tolist() == ["assigned", "unassigned", "invalid"]
    assert table["deviceIdentifier"].tolist() == ["0012", "NA", "x"]
    assert (result.exit_code, result.summary.rows, result.summary["attention"]) == (1, 3, 1)
    assert result.folder.parent == Path("reports").absolute()
    assert result.folder.name.startswith("frame-2")


def test_without_a_source_a_query_of_a_database_is_the_input(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "erp.db")) as database:
        database.execute("CREATE TABLE moved (mail, serial)")
        database.executemany("INSERT INTO moved VALUES (?, ?)", [(A, "0012"), (B, "NA")])
        database.commit()
    url = tmp_path / "url"
    url.touch(mode=0o600)
    url.write_text(f"sqlite:///{tmp_path / 'erp.db'}\n")
    sql = 'SELECT mail AS "customerEmail", serial AS "deviceIdentifier" FROM moved'
    result = tb.run(query=sql, source_url_file=url, action="assign", sandbox=True, run_id="q")
    assert result.reconciliation()["deviceIdentifier"].tolist() == ["0012", "NA"]
    with pytest.raises(tb.BatchError, match=r"query, source_url_file: .*DataFrame"):
        tb.run(frame(*GOOD), query=sql, source_url_file=url, sandbox=True)


def test_the_copy_of_a_frame_is_gone_before_anything_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    left: list[list[Path]] = []

    def look(_: tb.Progress) -> None:
        left.append([*(tmp_path / "temporary").rglob("*.csv")])

    tb.run(frame(*GOOD), sandbox=True, on_progress=look)
    assert left
    assert not any(left)
    assert [*(tmp_path / "temporary").iterdir()] == []


def test_what_a_killed_process_left_of_its_frame_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "telemetron-batch-frame-dead").mkdir(mode=0o700)
    (tmp_path / "telemetron-batch-frame-dead" / "frame.csv").write_text("ann@example.com")
    tb.plan(frame(*GOOD))
    assert [*tmp_path.glob("telemetron-batch-frame-*")] == []


def test_results_and_plans_can_be_used_after_the_program_has_changed_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = tb.run(frame(*GOOD), sandbox=True)
    plan = tb.plan(frame((A, "0013", "assign")), sandbox=True, save=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(result.reconciliation()) == len(GOOD)
    assert tb.report(result).exit_code == 0
    assert tb.resume(plan).exit_code == 0


def test_runs_that_threads_start_in_the_same_second_get_ids_of_their_own() -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda at: tb.run(frame((A, f"T{at}", "assign")), sandbox=True), range(8)))
    assert len({one.folder for one in made}) == 8


def test_a_path_several_paths_and_an_iterator_of_paths_are_read_like_the_command_reads_them(tmp_path: Path) -> None:
    for name, device in (("a.csv", "A1"), ("b.csv", "B1")):
        (tmp_path / name).write_text(f"customerEmail,deviceIdentifier,action\n{A},{device},assign\n")
    one = tb.run("a.csv", sandbox=True, run_id="one")
    two = tb.run([Path("a.csv"), "b.csv"], sandbox=True, run_id="two")
    three = tb.plan(sorted(tmp_path.glob("*.csv")), sandbox=True)
    assert one.reconciliation()["line"].tolist() == ["2"]
    assert two.reconciliation()["file"].tolist() == ["a.csv", "b.csv"]
    assert three.summary.rows == tb.plan(iter(["a.csv", "b.csv"])).summary.rows == 2


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (5, "of type int"),
        (None, "there is none"),
        (b"a.csv", "of type bytes"),
        ({"customerEmail": [A]}, "of type dict"),
        (pd.Series(["a.csv"]), "of type Series"),
        ([frame(*GOOD)], "of type DataFrame"),
        (["a.csv", 5], "of type int"),
        ([], "there is no path"),
        ("-", "only the command reads standard input"),
        (["-"], "only the command reads standard input"),
    ],
)
def test_a_source_that_is_none_is_refused_with_its_type(source: Any, problem: str) -> None:
    with pytest.raises(tb.BatchError, match=f"source: .*{problem}") as caught:
        tb.run(source, sandbox=True)
    assert caught.value.exit_code == 2
    assert not Path("reports").exists()


def test_the_identity_of_a_frame_is_the_hash_of_the_csv_that_it_makes() -> None:
    summary = tb.plan(frame(*GOOD)).summary
    text = f'"customerEmail","deviceIdentifier","action"\n"{A}","0012","assign"\n"{B}","NA","unassign"\n'
    (source,) = summary.inputs
    assert source["sha256"] == sha256(text.encode()).hexdigest()
    assert (source["name"], source["path"]) == ("frame", "frame")


def test_the_same_frame_is_processed_once_unless_again_is_given() -> None:
    with SandboxState() as state, serve_in_thread(state, api_key=KEY) as url:
        Path("key").write_text(KEY)
        Path("key").chmod(0o600)
        options: dict[str, Any] = {"base_url": url, "api_key_file": Path("key")}
        tb.run(frame(*GOOD), run_id="first", **options)
        with pytest.raises(tb.BatchError, match="run first has already processed exactly this content"):
            tb.run(frame(*GOOD), run_id="second", **options)
        assert tb.run(frame(*GOOD), run_id="second", again=True, **options).exit_code in (0, 1)


def test_the_index_and_the_types_of_other_columns_do_not_matter() -> None:
    rows = frame(*GOOD)
    rows.index = pd.MultiIndex.from_tuples([("x", 9), ("x", 9)])
    rows["price"] = [1.5, np.nan]
    rows["when"] = pd.to_datetime(["2026-05-31", None])
    rows["kind"] = pd.Categorical([None, "gate"])
    rows["ok"] = [True, False]
    table = tb.run(rows, sandbox=True).reconciliation()
    assert table.loc[:, ["price", "when", "kind", "ok"]].to_numpy().tolist() == [
        ["1.5", "2026-05-31 00:00:00", "", "True"],
        ["", "", "gate", "False"],
    ]
    assert table.index.tolist() == [0, 1]


def test_no_row_of_a_frame_is_taken_for_a_header_a_footer_or_a_total() -> None:
    rows = [
        ("customerEmail", "deviceIdentifier", "action"),
        (A, "A1\nA2", "assign"),
        ("(12 rows affected)", None, None),
        (A, "A3", "assign"),
        (None, None, None),
        (f"{A},A9,assign\n{B},B9,assign", "A4", "assign"),
        (A, "A5", "assign"),
        ("Summe", "6", None),
    ]
    table = tb.run(frame(*rows), sandbox=True).reconciliation()
    assert table["line"].tolist() == ["1", "2", "3", "4", "6", "7", "8"]  # a row without any value is no row
    assert table.loc[table["outcome"] == "assigned", "line"].tolist() == ["4", "7"]
    assert table["deviceIdentifier"].tolist()[3:] == ["A3", "A4", "A5", "6"]


def test_options_of_a_profile_that_describe_a_file_do_not_apply_to_a_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELEMETRON_DELIMITER", ";")
    monkeypatch.setenv("TELEMETRON_ENCODING", "cp850")
    monkeypatch.setenv("TELEMETRON_SHEET", "Returns")
    monkeypatch.setenv("TELEMETRON_TRAILER_COUNT", "^T,([0-9]+)")
    monkeypatch.setenv("TELEMETRON_MAX_AGE", "1s")
    monkeypatch.setenv("TELEMETRON_SETTLED_FOR", "1d")
    monkeypatch.setenv("TELEMETRON_WAIT_FOR_FILE", "1d")
    result = tb.run(frame((A, "ä1", "assign")), sandbox=True, run_id="r")
    assert result.reconciliation()["deviceIdentifier"].tolist() == ["ä1"]
    assert tb.resume(result).summary == result.summary


@pytest.mark.parametrize(
    ("name", "value"), [("delimiter", ";"), ("encoding", "utf-8"), ("sheet", "x"), ("max_age", timedelta(1))]
)
def test_an_option_that_describes_a_file_is_refused_for_a_frame(name: str, value: Any) -> None:
    with pytest.raises(tb.BatchError, match=f"{name}: not for a source that is a DataFrame"):
        tb.plan(frame(*GOOD), **{name: value})


def test_columns_are_found_by_their_names_and_by_the_option_column() -> None:
    german = frame(*GOOD, columns=("Kunde", "Serial No.", "Bewegung"))
    summary = tb.plan(german, column={"customerEmail": "Kunde", "action": "Bewegung"}).summary
    assert summary.inputs[0]["columns"] == {
        "customerEmail": "Kunde",
        "deviceIdentifier": "Serial No.",
        "action": "Bewegung",
    }
    with pytest.raises(tb.BatchError, match="frame: no column for customerEmail and action; its columns are") as caught:
        tb.plan(german)
    assert 'column={"customerEmail": "...", "action": "..."}' in caught.value.advice


def test_levels_of_column_names_are_joined_and_repeated_names_are_kept() -> None:
    rows = frame(*GOOD)
    rows.columns = pd.MultiIndex.from_tuples([("customerEmail", ""), ("device", "serial"), ("action", "")])
    assert tb.plan(rows).summary.inputs[0]["header"] == ["customerEmail", "device serial", "action"]
    twice = pd.concat([frame(*GOOD), pd.DataFrame({"note": ["a", "b"]}), pd.DataFrame({"note": ["c", "d"]})], axis=1)
    table = tb.run(twice, sandbox=True).reconciliation()
    assert table.columns.tolist()[-2:] == ["note", "note"]
    assert table["note"].to_numpy().tolist() == [["a", "c"], ["b", "d"]]
    with pytest.raises(tb.BatchError, match="deviceIdentifier is found 2 times"):
        tb.plan(pd.concat([frame(*GOOD), frame(*GOOD)[["deviceIdentifier"]]], axis=1))


@pytest.mark.parametrize("column", ["customerEmail", "deviceIdentifier", "action"])
def test_floats_in_a_key_column_are_refused_as_damage(column: str) -> None:
    rows = frame(*GOOD)
    rows[column] = [np.nan, 12345.0]
    with pytest.raises(tb.BatchError, match=rf'frame: column "{column}" holds a float \(12345.0, line 2\)') as caught:
        tb.run(rows, sandbox=True)
    assert caught.value.exit_code == 2
    assert "dtype=str" in caught.value.advice
    assert not Path("reports").exists()


def test_a_column_that_is_not_used_as_a_key_may_hold_floats() -> None:
    rows = frame((A, "A1", 1.5), columns=("customerEmail", "deviceIdentifier", "action"))
    assert tb.plan(rows, action="assign").summary.devices == 1


def test_whole_numbers_are_identifiers_and_spreadsheet_damage_is_found_as_in_files() -> None:
    rows = frame((A, 12, "assign"), (A, "1.23E+11", "assign"), (A, "#REF!", "assign"))
    table = tb.run(rows, sandbox=True).reconciliation()
    assert table["outcome"].tolist() == ["assigned", "invalid", "invalid"]


def test_a_frame_without_rows_or_columns_is_told_in_one_line() -> None:
    with pytest.raises(tb.BatchError, match="frame has no data rows"):
        tb.run(frame(*GOOD)[:0], sandbox=True)
    assert tb.run(frame(*GOOD)[:0], sandbox=True, allow_empty=True).summary.rows == 0
    assert tb.plan(frame(*GOOD)[:0], empty_exit_code=9).exit_code == 9
    with pytest.raises(tb.BatchError, match=r"no column for customerEmail, .*; it has no columns"):
        tb.plan(pd.DataFrame())


def test_split_and_fill_down_work_on_frames() -> None:
    rows = frame((A, "A1;A2", "assign"), (None, "A3", "assign"))
    table = tb.run(rows, sandbox=True, split="deviceIdentifier", fill_down="customerEmail").reconciliation()
    assert table["line"].tolist() == ["1.1", "1.2", "2"]
    assert table["outcome"].tolist() == ["assigned"] * 3


def test_the_copy_of_a_frame_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    tb.run(frame(*GOOD), sandbox=True)
    with pytest.raises(tb.BatchError):
        tb.run(frame((A, 1.0, "assign")), sandbox=True)
    assert [path.name for path in tmp_path.iterdir()] == ["reports"]


# Functions


def test_a_plan_shows_what_would_be_sent_and_leaves_no_file() -> None:
    plan = tb.plan(frame(*GOOD, (A, "", "assign"), (A, "N/A", "assign")), rate="2/s")
    assert (plan.rows, plan.calls, plan.devices, plan.summary.invalid, plan.summary.rate) == (4, 2, 3, 1, "2/s")
    assert [one["action"] for one in plan.stages] == ["unassign", "assign"]
    assert plan.problems == [{"problem": "empty key cell", "rows": 1, "firstLines": [3]}]
    assert any(text.startswith("frame: ") and "placeholder" in text for text in plan.warnings)
    assert (plan.exit_code, plan.folder, plan.run_id, plan.fingerprint) == (0, None, None, None)
    assert not Path("reports").exists()
    with pytest.raises(tb.BatchError, match="no preview"):
        plan.preview()


def test_a_saved_plan_is_sent_without_its_frame() -> None:
    plan = tb.plan(frame(*GOOD), sandbox=True, save=True)
    assert (plan.summary.state, plan.run_id) == ("planned", f"frame-{plan.summary.inputs[0]['sha256'][:8]}")
    result = tb.resume(plan)
    assert (result.folder, result.exit_code) == (plan.folder, 0)
    assert result.summary.fingerprint == plan.fingerprint


@pytest.mark.usefixtures("fleet")
def test_a_look_before_sending_gives_a_preview_of_each_row() -> None:
    plan = tb.plan(frame((A, "A1", "assign"), (B, "A2", "unassign")), online=True)
    assert plan.preview()["preview"].tolist() == ["customerUnknown", "customerUnknown"]
    assert plan.summary.customers_to_create == 1


@pytest.mark.usefixtures("fleet")
def test_the_same_call_continues_a_stopped_run_and_repeats_nothing_of_a_finished_one() -> None:
    rows = frame(*((A, f"A{number}", "assign") for number in range(1, 7)))
    with pytest.raises(ZeroDivisionError):
        tb.run(rows, run_id="r", chunk_size=2, on_progress=lambda _: 1 / 0)
    assert tb.report("r").summary.state == "stopped"
    result = tb.run(rows, run_id="r", chunk_size=2)
    assert (result.exit_code, result.summary.counts["assigned"]) == (0, 6)
    attempts = result.summary.attempts
    assert tb.run(rows, run_id="r", chunk_size=2).summary.attempts == attempts
    with pytest.raises(tb.BatchError, match="started with another input"):
        tb.run(rows[:3], run_id="r", chunk_size=2)


@pytest.mark.usefixtures("fleet")
def test_a_stopped_run_of_a_frame_is_resumed_without_it() -> None:
    def interrupt(_: tb.Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        tb.run(frame((A, "A1", "assign")), run_id="r", on_progress=interrupt)
    assert "telemetron_batch has ended: " in caught.value.__notes__[0]
    result = tb.resume(Path("reports/r"))
    assert (result.exit_code, result.reconciliation()["outcome"].tolist()) == (0, ["assigned"])


@pytest.mark.usefixtures("fleet")
def test_verify_asks_what_customers_hold() -> None:
    result = tb.run(frame((A, "A1", "assign")), run_id="r")
    verified = tb.verify("r", reports_dir="reports")
    assert verified.summary.verify is not None
    assert verified.reconciliation()["verified"].tolist() == ["yes"]
    assert "verified" not in result.reconciliation() or result.folder == verified.folder


def test_report_writes_the_files_again() -> None:
    result = tb.run(frame(*GOOD), sandbox=True, run_id="r")
    (result.folder / "reconciliation.csv").unlink()
    with pytest.raises(tb.BatchError, match=r"cannot use .*reconciliation\.csv"):
        result.reconciliation()
    again = tb.report(result, xlsx=True)
    assert len(again.reconciliation()) == 2
    assert (result.folder / "reconciliation.xlsx").exists()


@pytest.mark.parametrize("function", [tb.resume, tb.verify, tb.report])
@pytest.mark.parametrize("run", ["no-such-run", Path("nowhere/r")])
def test_a_run_that_does_not_exist_is_named(function: Callable[..., tb.Result], run: Any) -> None:
    with pytest.raises(tb.BatchError, match="there is no run in ") as caught:
        function(run)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("run", [5, None, b"r", ""])
def test_a_value_that_names_no_run_is_refused(run: Any) -> None:
    with pytest.raises(tb.BatchError, match="run: takes the id or the folder of a run"):
        tb.resume(run)


def test_a_plan_that_was_not_saved_cannot_be_resumed() -> None:
    with pytest.raises(tb.BatchError, match="this plan was not saved"):
        tb.resume(tb.plan(frame(*GOOD)))


@pytest.mark.usefixtures("fleet")
def test_a_run_goes_only_to_the_api_that_the_caller_names() -> None:
    tb.plan(frame(*GOOD), run_id="r", save=True)
    with pytest.raises(tb.BatchError, match="was started with --base-url"):
        tb.resume("r", base_url="http://127.0.0.1:9/api/ext-v1")


# Options


def test_wrong_options_are_named_as_the_caller_wrote_them() -> None:
    with pytest.raises(tb.BatchError, match=r"rate: 'fast' is not a rate.*; max_failed: '5 %%' is neither"):
        tb.run(frame(*GOOD), sandbox=True, max_failed="5 %%", rate="fast")
    with pytest.raises(tb.BatchError, match="unknown option 'max_fail'; did you mean max_failed"):
        tb.run(frame(*GOOD), sandbox=True, max_fail=5)  # type: ignore[call-arg]
    with pytest.raises(tb.BatchError, match="approvals_dir: takes a path, not int"):
        tb.resume("r", approvals_dir=5)  # type: ignore[arg-type]
    with pytest.raises(tb.BatchError, match="organisation: is empty"):
        tb.resume("r", organisation=" ")
    with pytest.raises(tb.BatchError, match="on_progress: takes a callable, not int"):
        tb.run(frame(*GOOD), sandbox=True, on_progress=5)  # type: ignore[arg-type]


def test_option_beats_environment_beats_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("telemetron-batch.toml").write_text('[nightly]\nrate = "1/s"\nchunk-size = 3\nconcurrency = 2\n')
    monkeypatch.setenv("TELEMETRON_RATE", "2/s")
    monkeypatch.setenv("TELEMETRON_CHUNK_SIZE", "1")
    rows = frame((A, "A1", "assign"), (A, "A2", "assign"))
    plan = tb.plan(rows, profile="nightly", chunk_size=2)
    assert (plan.summary.rate, plan.summary.calls) == ("2/s", 1)


def test_a_brake_stops_before_sending_with_its_exit_code() -> None:
    with pytest.raises(tb.BatchError, match="fewer than") as caught:
        tb.run(frame(*GOOD), sandbox=True, min_rows=3)
    assert caught.value.exit_code == 2
    assert caught.value.advice


def test_a_plan_waits_for_its_input_no_longer_than_it_shall() -> None:
    with pytest.raises(tb.BatchError) as caught:
        tb.plan("nothing.csv", wait_for_file=0.001)
    assert caught.value.exit_code == 3


@pytest.mark.usefixtures("fleet")
def test_the_key_of_a_command_beats_the_environment_for_a_run_that_exists() -> None:
    tb.plan(frame((A, "A1", "assign")), run_id="r", save=True)
    script = Path("key.sh")
    script.write_text(f"#!/bin/sh\necho {KEY}\n")
    script.chmod(0o700)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TELEMETRON_API_KEY", "another-key")
        result = tb.resume("r", api_key_command=str(script.absolute()))
    assert result.exit_code == 0


def test_shards_are_refused_wherever_they_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(tb.BatchError, match="shard: is not an option in Python"):
        tb.run(frame(*GOOD), shard=1)  # type: ignore[call-arg]
    monkeypatch.setenv("TELEMETRON_SHARDS", "4")
    with pytest.raises(tb.BatchError, match="Python makes no shards of a run"):
        tb.plan(frame(*GOOD))


def test_an_attention_file_is_read_with_the_options_of_its_run() -> None:
    rows = frame((A, "A1"), (None, "A2"), columns=("Kunde", "deviceIdentifier"))
    first = tb.run(rows, sandbox=True, action="unassign", column={"customerEmail": "Kunde"})
    path = first.folder / "attention.csv"
    path.write_text(path.read_text().replace('"","A2"', f'"{A}","A2"'))
    again = tb.run(path, sandbox=True, run_id="again")
    assert again.reconciliation()["action"].tolist() == ["unassign"]


def test_rows_that_want_attention_are_corrected_as_a_frame_and_run_again() -> None:
    first = tb.run(frame((A, "A1", "assign"), (None, "'=x", "assign")), sandbox=True)
    wanting = first.attention()
    assert wanting["sourceLine"].tolist() == ["2"]
    wanting["customerEmail"], wanting["deviceIdentifier"] = B, "B1"
    again = tb.run(wanting, sandbox=True, run_id="again")
    assert again.reconciliation()[["customerEmail", "outcome"]].to_numpy().tolist() == [[B, "assigned"]]


@pytest.mark.usefixtures("fleet")
def test_undo_takes_back_what_was_done() -> None:
    first = tb.run(frame((A, "A1", "assign"), (A, "A2", "assign")), run_id="r")
    back = tb.run(first.undo(), run_id="back")
    assert back.reconciliation()["action"].tolist() == ["unassign", "unassign"]
    assert back.summary.counts["unassigned"] == 2


# Silence


def test_nothing_is_printed_and_warnings_go_to_the_logger(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    rows = frame((A, "To be filled by O.E.M.", "assign"), (B, "A1", "assign"), (A, "A1", "assign"))
    with caplog.at_level(logging.WARNING, "telemetron_batch"):
        tb.run(rows, sandbox=True, yes=True, json=True, verbose=True)
    assert capfd.readouterr() == ("", "")
    assert any("frame: " in record.message for record in caplog.records)
    assert {record.name for record in caplog.records} == {"telemetron_batch"}


@pytest.mark.usefixtures("fleet")
def test_the_key_is_in_no_file_and_no_result() -> None:
    result = tb.run(frame((A, "A1", "assign")), run_id="r")
    assert KEY not in repr(result) + json.dumps(result.summary) + result._repr_html_()
    assert [path for path in result.folder.iterdir() if KEY.encode() in path.read_bytes()] == []
