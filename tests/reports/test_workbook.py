"""The workbook of a run, read back with other libraries than the one that writes it."""

import csv
import gc
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import openpyxl
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from python_calamine import CalamineWorkbook

from telemetron_batch.domain.errors import DiskError
from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.reconciliation.remaining_devices import find_remaining_devices
from telemetron_batch.reports import workbook, write_all
from telemetron_batch.reports.csv_files import ReportInput, write_reconciliation
from telemetron_batch.reports.workbook import MAX_CELL_LENGTH, write_xlsx
from telemetron_batch.sharding.report import report_run
from tests.conftest import Desk
from tests.support.builders import KEYS, A, B, Row, block_of, file_of, keys_of, planned, report_of
from tests.support.scripted import Refuses

Grid = list[list[str]]
HOSTILE = st.text(
    alphabet=st.one_of(
        st.sampled_from("a1,;\"'\n\r\t =+-@|<&>_x0\\é\u2028😀\x00\x01\x1f\x7f"),
        st.characters(exclude_categories=["Cs"], exclude_characters="\ufffe\uffff"),
    ),
    max_size=12,
)


def fields_of(report: ReportInput, **changes: Any) -> dict[str, Any]:
    """Return the fields of summary.json that the workbook shows; `changes` replace some of them."""
    result = report.reconciliation
    return {
        "runId": "night-1",
        "state": "finished",
        "exitCode": 1,
        "stop": None,
        "startedAt": "2026-01-01T00:00:00.000Z",
        "endedAt": "2026-01-01T00:00:02.000Z",
        "baseUrl": "https://api.example.com/v1",
        "inputs": [file.as_json() for file in report.files],
        "options": {"rate": "5/s", "column": ["action=Move"], "yes": True},
        "rows": len(result.outcome),
        "counts": {str(outcome): count for outcome, count in result.counts().items()},
        "attention": int(result.attention().sum()),
        "attentionByOutcome": {str(outcome): count for outcome, count in result.attention_counts().items() if count},
        "unassignsWithoutEffect": int(result.without_effect().sum()),
        "customersWithoutDevices": find_remaining_devices(result, ()).without_devices,
        "customersStillHolding": find_remaining_devices(result, ()).still_holding,
        **changes,
    }


def report_on(rows: Sequence[Row], header: Sequence[str] = KEYS, outcomes: Sequence[Outcome] = ()) -> ReportInput:
    """Return the report of a run over one file."""
    return report_of(planned(rows), file_of(header, len(rows)), outcomes=outcomes)


def written(path: Path, rows: Sequence[Row], cells: Sequence[Sequence[str]], **how: Any) -> Path:
    """Write the workbook of one file with these rows and cells."""
    report = report_on(rows, **how)
    assert write_xlsx(path, report, fields_of(report), [block_of(keys_of(rows), cells)]) == len(rows)
    return path


def some(number: int) -> list[Row]:
    return [(A, f"SN-{at}", "assign") for at in range(number)]


def sheets(path: Path) -> dict[str, Grid]:
    book = CalamineWorkbook.from_path(path)
    return {name: book.get_sheet_by_name(name).to_python(skip_empty_area=False) for name in book.sheet_names}


def read(path: Path) -> Grid:
    with path.open(encoding="utf-8", newline="") as file:
        return [*csv.reader(file, strict=True)]


def part(path: Path, name: str = "xl/worksheets/sheet1.xml") -> str:
    with ZipFile(path) as archive:
        return archive.read(name).decode()


# The rows


@given(st.lists(st.tuples(HOSTILE, HOSTILE), min_size=1, max_size=8))
@example([("0012", "1E5"), ("=1+1", "@a"), ("NA", "#N/A"), ("http://x.com", "2026-01-01"), ("TRUE", "1")])
@example([("_x0041_", "\x01_x0041"), ("\r", "\r\n"), (" a ", "\t"), ("&lt;", "]]>"), ("\x1f", "\x00")])
def test_the_rows_are_those_of_the_reconciliation_with_unchanged_texts(
    tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[str, str]]
) -> None:
    # The half of an escape right before a control character is what the library cannot spell.
    assume(not any(re.search("_x[0-9A-Fa-f]{4}[\x00-\x1f]", text) for pair in cells for text in pair))
    folder = tmp_path_factory.mktemp("xlsx")
    rows = some(len(cells))
    whole = [(*row, *pair) for row, pair in zip(rows, cells, strict=True)]
    report, block = report_on(rows, [*KEYS, "one", "two"]), block_of(keys_of(rows), whole)
    write_reconciliation(folder / "r.csv", report, [block])
    write_xlsx(folder / "r.xlsx", report, fields_of(report), [block])
    assert sheets(folder / "r.xlsx")["Reconciliation"] == read(folder / "r.csv")


def test_invalid_characters_are_escaped_and_the_file_opens(tmp_path: Path) -> None:
    rows = some(1)
    path = written(tmp_path / "r.xlsx", rows, [(*rows[0], "a\ufffeb\uffff")], header=[*KEYS, "note"])
    assert sheets(path)["Reconciliation"][1][-1] == "a_xFFFE_b_xFFFF_"
    assert openpyxl.load_workbook(path).worksheets[0]["Q2"].value == "a_xFFFE_b_xFFFF_"


def test_no_cell_is_anything_but_text(tmp_path: Path) -> None:
    path = written(tmp_path / "r.xlsx", some(1), [("=1+1", "0012", "http://x.com")])
    for name in ("xl/worksheets/sheet1.xml", "xl/worksheets/sheet2.xml"):
        xml = part(path, name)
        types = [re.search(r' t="(\w+)"', cell) for cell in re.findall(r"<c [^>]*>", xml)]
        assert types
        assert {found and found[1] for found in types} <= {"inlineStr", "s"}
        assert "<f>" not in xml
        assert "hyperlink" not in xml


def test_the_header_is_frozen_and_filters_all_rows(tmp_path: Path) -> None:
    sheet = openpyxl.load_workbook(written(tmp_path / "r.xlsx", some(3), some(3))).worksheets[0]
    assert sheet.freeze_panes == "A2"
    assert sheet.auto_filter.ref == "A1:P4"


GREEN, GREY, AMBER, RED = "DDF2E1", "E9EDF0", "FFEBC8", "FBDEDD"
COLOUR_OF_UNASSIGN = {
    "assigned": GREEN,
    "alreadyAssigned": GREEN,
    "unassigned": GREEN,
    "skipped": GREY,
    "duplicate": GREY,
    "unchanged": GREY,
    "invalid": RED,
    "failed": RED,
    "unconfirmed": AMBER,
    "held": AMBER,
    "notSent": AMBER,
}


@pytest.mark.parametrize("outcome", Outcome)
def test_an_outcome_has_its_colour(tmp_path: Path, outcome: Outcome) -> None:
    rows = [(A, "SN-1", "unassign")]
    path = written(tmp_path / "r.xlsx", rows, rows, outcomes=[outcome])
    cell = openpyxl.load_workbook(path).worksheets[0]["E2"]
    assert cell.value == outcome
    assert cell.fill.fgColor.rgb[2:] == COLOUR_OF_UNASSIGN[outcome]


def test_a_skipped_assign_stands_out_and_a_skipped_unassign_does_not(tmp_path: Path) -> None:
    rows = [(A, "SN-1", "unassign"), (A, "SN-2", "assign")]
    sheet = openpyxl.load_workbook(written(tmp_path / "r.xlsx", rows, rows, outcomes=[Outcome.SKIPPED] * 2)).worksheets[
        0
    ]
    assert [sheet[place].font.bold for place in ("E2", "E3")] == [False, True]


@pytest.mark.parametrize("tone", [tone for tone in workbook._STYLES.values() if "bg_color" in tone])
def test_coloured_cells_have_enough_contrast(tone: dict[str, Any]) -> None:
    light, dark = sorted((luminance(tone["bg_color"]), luminance(tone["font_color"])), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 7


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


# Limits of a sheet


def test_rows_beyond_one_sheet_continue_on_further_sheets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbook, "_MAX_ROWS", 3)
    found = sheets(written(tmp_path / "r.xlsx", some(8), some(8)))
    assert [*found] == [*(f"Reconciliation {number} of 3" for number in (1, 2, 3)), "Summary"]
    *parts, summary = found.values()
    assert [row[2] for grid in parts for row in grid[1:]] == [f"SN-{at}" for at in range(8)]
    assert [grid[0][0] for grid in parts] == ["line"] * 3
    assert "on 3 sheets" in summary[1][0]


@pytest.mark.parametrize(
    ("text", "cut"), [("a" * MAX_CELL_LENGTH, False), ("a" * (MAX_CELL_LENGTH + 1), True), ("😀" * 20_000, True)]
)
def test_a_cell_too_long_is_cut_and_says_so(tmp_path: Path, text: str, cut: bool) -> None:
    rows = some(1)
    found = sheets(written(tmp_path / "r.xlsx", rows, [(*rows[0], text)], header=[*KEYS, "note"]))
    cell = found["Reconciliation"][1][-1]
    assert len(cell.encode("utf-16-le")) // 2 <= MAX_CELL_LENGTH
    assert (cell == text) is not cut
    assert cell.endswith(f" [cut: {len(text):,} characters, all of them in reconciliation.csv]") is cut
    assert any("are cut" in row[0] for row in found["Summary"]) is cut


def test_columns_beyond_the_maximum_are_left_out_with_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbook, "_MAX_COLUMNS", 17)
    rows = some(1)
    found = sheets(written(tmp_path / "r.xlsx", rows, [(*rows[0], "x", "y")], header=[*KEYS, "one", "two"]))
    assert found["Reconciliation"][0][-1] == "one"
    assert "A sheet has at most 17 columns" in found["Summary"][1][0]


def test_a_run_without_rows_gives_only_a_header(tmp_path: Path) -> None:
    report = report_on([])
    write_xlsx(tmp_path / "r.xlsx", report, fields_of(report), [])
    assert len(sheets(tmp_path / "r.xlsx")["Reconciliation"]) == 1


# The summary


def test_the_summary_names_the_run_its_input_and_its_options(tmp_path: Path) -> None:
    outcomes = [Outcome.ASSIGNED, Outcome.FAILED]
    grid = sheets(written(tmp_path / "r.xlsx", some(2), some(2), outcomes=outcomes))["Summary"]
    assert grid[0][0] == "1 of 2 rows is where it should be; 1 wants attention."
    assert ["failed", "1", "1"] in grid
    summary = {row[0]: row[1] for row in grid}
    assert summary["run id"] == "night-1"
    assert summary["SHA-256"] == "hash of rows.csv"
    assert summary["customerEmail is"] == "customerEmail"
    assert (summary["rate"], summary["column"], summary["yes"]) == ("5/s", "action=Move", "on")


def test_the_summary_of_a_stopped_run_gives_the_reason_and_the_next_step(tmp_path: Path) -> None:
    report = report_on(some(1))
    stop = {"reason": "a signal came", "advice": "run the same command again"}
    write_xlsx(tmp_path / "r.xlsx", report, fields_of(report, stop=stop), [block_of(keys_of(some(1)), some(1))])
    assert sheets(tmp_path / "r.xlsx")["Summary"][1][0] == "Stopped: a signal came; run the same command again."


# Whole or not at all


def test_the_same_run_gives_the_same_file(tmp_path: Path) -> None:
    first, again = (written(tmp_path / name, some(3), some(3)).read_bytes() for name in ("a", "b"))
    assert first == again


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ZeroDivisionError()])
@pytest.mark.parametrize("call", [1, 20])
def test_a_failure_while_writing_leaves_only_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, call: int
) -> None:
    path, left = tmp_path / "r.xlsx", iter([None] * (call - 1))
    path.write_text("old")

    def failing(text: str) -> str:
        if next(left, error) is error:
            raise error
        return text

    monkeypatch.setattr(workbook, "_truncate", failing)
    with pytest.raises(DiskError if isinstance(error, OSError) else ZeroDivisionError):
        written(path, some(1), some(1))
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_workbook_that_fails_at_its_end_raises_nothing_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def failing(*_: Any) -> None:
        raise error

    heard: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", heard.append)
    monkeypatch.setattr(ZipFile, "write", failing)
    with pytest.raises(DiskError if isinstance(error, OSError) else KeyboardInterrupt):
        written(tmp_path / "r.xlsx", some(1), some(1))
    error.__traceback__ = error.__context__ = None
    gc.collect()
    assert heard == []
    assert [*tmp_path.iterdir()] == []


# In a run


def test_a_run_writes_the_workbook_with_xlsx(desk: Desk) -> None:
    ran = desk.run([(A, "SN-1", "assign")], xlsx=True)
    path = ran.folder / "reconciliation.xlsx"
    assert sheets(path)["Reconciliation"] == read(ran.folder / "reconciliation.csv")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.name in ran.json["files"]
    assert 'href="reconciliation.xlsx"' in (ran.folder / "report.html").read_text()


def test_a_run_writes_no_workbook_without_xlsx(desk: Desk) -> None:
    ran = desk.run([(A, "SN-1", "assign")])
    assert not (ran.folder / "reconciliation.xlsx").exists()
    assert "reconciliation.xlsx" not in ran.json["files"]


def test_the_workbook_is_written_again_from_the_journal(desk: Desk) -> None:
    path = desk.run([(A, "SN-1", "assign")], xlsx=True).folder / "reconciliation.xlsx"
    was = path.read_bytes()
    path.unlink()
    report_run(path.parent)
    assert path.read_bytes() == was


def test_report_can_add_a_workbook_to_a_run_without_one(desk: Desk) -> None:
    folder = desk.run([(A, "SN-1", "assign")]).folder
    report_run(folder, xlsx=True)
    assert sheets(folder / "reconciliation.xlsx")["Reconciliation"] == read(folder / "reconciliation.csv")


def test_the_summary_lists_the_workbook_only_if_it_exists(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise DiskError("the disk is full")

    ran = desk.run([(A, "SN-1", "assign")])
    with monkeypatch.context() as patched:
        patched.setattr(write_all, "write_xlsx", full)
        assert report_run(ran.folder, xlsx=True).exit_code == 3
    assert ran.json["unwritten"] == ["the disk is full"]
    assert "reconciliation.xlsx" not in ran.json["files"]
    assert report_run(ran.folder, xlsx=True).fields == ran.json
    assert "reconciliation.xlsx" in ran.json["files"]


def test_an_existing_workbook_is_updated_when_a_run_continues(desk: Desk) -> None:
    rows = [(A, "SN-1", "assign"), (B, "SN-2", "assign")]
    desk.server.script = lambda seen: Refuses() if seen.customer == B else None
    stopped = desk.run(rows, give_up_after="1s", attempts="1", deadline="1s")
    report_run(stopped.folder, xlsx=True)
    desk.server.script = lambda _: None
    ran = desk.run(rows)
    assert sheets(ran.folder / "reconciliation.xlsx")["Reconciliation"] == read(ran.folder / "reconciliation.csv")


@pytest.mark.slow
def test_libreoffice_reads_the_same_cells(desk: Desk) -> None:
    office = shutil.which("soffice")
    if office is None:
        pytest.skip("there is no LibreOffice here")
    odd = ["=1+1", "0012", "1E5", "a\x01b", " a ", "é😀", "_x0041_", "2026-01-01"]
    lines = [f"a@x.com,SN-{at},assign,{cell}" for at, cell in enumerate(odd)]
    ran = desk.run("customerEmail,deviceIdentifier,action,note\n" + "\n".join(lines) + "\n", xlsx=True, raw_csv=True)
    home = f"-env:UserInstallation=file://{desk.folder}/office"
    to = ["--convert-to", "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,false", "--outdir", str(desk.folder)]
    subprocess.run(
        [office, home, "--headless", *to, str(ran.folder / "reconciliation.xlsx")],
        check=True,
        capture_output=True,
        timeout=300,
    )
    assert read(desk.folder / "reconciliation.csv") == read(ran.folder / "reconciliation.csv")
