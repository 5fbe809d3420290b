"""Kinds of values, formulas, hidden rows and cells far out in workbooks."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import openpyxl
import pytest
import xlsxwriter
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from telemetron_batch.cli.commands import main
from telemetron_batch.domain.errors import InputError
from telemetron_batch.domain.model import HiddenRowsPolicy, InputFile, InputOptions, Problem
from telemetron_batch.input import workbook
from tests.input.test_workbook import read
from tests.support.sheets import STRICT, book, device, packed, parts, row, sheet, text

HEAD = ["customerEmail", "deviceIdentifier", "action"]


def judged(path: Path, **options: Any) -> list[tuple[int, str, int]]:
    """Return line, identifier and problem of each row."""
    return [(key["line"], key["deviceIdentifier"], key["problem"]) for key in read(path, **options)[1]]  # type: ignore[misc]


def warnings(path: Path, **options: Any) -> str:
    return "; ".join(read(path, **options)[0].warnings)


@pytest.mark.parametrize(
    ("cell", "shown", "problem"),
    [
        ("<c><v>12345678</v></c>", "12345678", Problem.NONE),
        ("<c><v>12345678.0</v></c>", "12345678", Problem.NONE),
        ("<c><v>3.59881030314356E14</v></c>", "359881030314356", Problem.NONE),
        ("<c><v>8944500102198304768</v></c>", "8944500102198304768", Problem.LONG_NUMBER),
        ("<c><v>1.23456789012345696E+17</v></c>", "123456789012345696", Problem.LONG_NUMBER),
        ('<c s="1"><v>12342</v></c>', "00012342", Problem.NONE),
        ('<c s="2"><v>45351</v></c>', "2024-02-29", Problem.CELL_VALUE),
        ('<c s="3"><v>1.25</v></c>', "1 day, 6:00:00", Problem.CELL_VALUE),
        ('<c s="4"><v>12</v></c>', "12", Problem.CELL_VALUE),
        ('<c t="d"><v>2024-02-29T00:00:00</v></c>', "2024-02-29 00:00:00", Problem.CELL_VALUE),
        ('<c t="b"><v>1</v></c>', "TRUE", Problem.CELL_VALUE),
        ("<c><v>1.5</v></c>", "1.5", Problem.CELL_VALUE),
        ("<c><v>-12</v></c>", "-12", Problem.CELL_VALUE),
        ("<c><v>12a</v></c>", "12a", Problem.CELL_VALUE),
        ('<c t="e"><v>#N/A</v></c>', "#N/A", Problem.DAMAGED),
        ('<c t="str"><f>A2</f><v>SN-1</v></c>', "SN-1", Problem.NONE),
        ("<c><f>A2</f><v>1234</v></c>", "1234", Problem.NONE),
        ("<c><f>A2</f></c>", "", Problem.NO_VALUE),
        ("<c><f>A2</f><v/></c>", "", Problem.NO_VALUE),
        ('<c><f t="shared" si="0"/></c>', "", Problem.NO_VALUE),
        ('<c t="str"><f>IF(1,"")</f><v></v></c>', "", Problem.EMPTY_KEY),
        ('<c t="inlineStr"><is><r><t>S</t></r><r><rPr><b/></rPr><t>N</t></r><rPh><t>x</t></rPh></is></c>', "SN", 0),
        ('<c t="inlineStr"><is><t>S&amp;N</t></is></c>', "S&N", Problem.NONE),
        ('<c t="inlineStr"><is><t>a_x0041_</t></is></c>', "aA", Problem.NONE),
    ],
)
def test_an_identifier_is_known_by_the_kind_of_its_cell(tmp_path: Path, cell: str, shown: str, problem: int) -> None:
    assert judged(book(tmp_path / "a.xlsx", device(2, cell))) == [(2, shown, problem)]


def test_a_sheet_read_again_for_a_doubtful_serial_is_counted_once(tmp_path: Path) -> None:
    rows = [row(2, "a@b.cc", "8944500102198310000", "assign"), device(3, '<c s="1"><v>12</v></c>')]
    path = book(tmp_path / "a.xlsx", *rows, row(4, "a@b.cc", "S4", "assign", more=' hidden="1"'))
    assert judged(path, hidden=HiddenRowsPolicy.SKIP) == [
        (2, "8944500102198310000", Problem.DAMAGED),
        (3, "00000012", Problem.NONE),
    ]
    assert read(path, hidden=HiddenRowsPolicy.SKIP)[0].hidden_rows == 1
    assert "1 serial is shown with zeros in front" in warnings(path, hidden=HiddenRowsPolicy.SKIP)


def test_fill_down_takes_no_value_from_above_a_formula_without_a_value(tmp_path: Path) -> None:
    rows = [row(2, "a@b.cc", "S1", "assign"), row(3, '<c r="A3"><f>A9</f></c>', "S2", "assign")]
    path = book(tmp_path / "a.xlsx", *rows, row(4, "", "S3", "assign"), row(5, "c@d.ee", "S4", "assign"))
    problems = [problem for _, _, problem in judged(path, fill_down=("customerEmail",))]
    assert problems == [0, Problem.NO_VALUE, Problem.NO_VALUE, 0]


@pytest.mark.parametrize(
    ("cell", "allowed"),
    [
        ("<c><v>8944500102198304768</v></c>", False),
        ("<c><f>A2</f></c>", False),
        ('<c s="2"><v>45351</v></c>', True),
        ("<c><v>1.5</v></c>", True),
    ],
)
def test_a_lost_value_is_not_sent_with_allow_suspect_either(tmp_path: Path, cell: str, allowed: bool) -> None:
    ((_, _, problem),) = judged(book(tmp_path / "a.xlsx", device(2, cell)), allow_suspect=True)
    assert (problem == 0) is allowed


def test_rows_of_formulas_that_no_spreadsheet_has_calculated_are_rows(tmp_path: Path) -> None:
    made = openpyxl.Workbook()
    made.active.append(HEAD)
    made.active.append(["a@b.cc", "S1", "assign"])
    made.active.append(['="a@b.cc"', '="S2"', '="assign"'])
    made.active.append(["a@b.cc", "S3", '="assign"'])
    made.save(tmp_path / "a.xlsx")
    _, keys, _ = read(tmp_path / "a.xlsx")
    assert [row["problem"] for row in keys] == [0, Problem.NO_VALUE, Problem.NO_VALUE]
    assert keys[2]["detail"] == (
        "action is a formula without a stored value; open the file in a spreadsheet and save it"
    )


def test_formulas_without_a_value_do_not_propose_fill_down(tmp_path: Path) -> None:
    formulas = [device(line, "<c><f>C9</f></c>") for line in range(3, 6)]
    assert warnings(book(tmp_path / "a.xlsx", row(2, "a@b.cc", "S1", "assign"), *formulas)) == ""
    grouped = [row(line, "a@b.cc", "", "assign") for line in range(6, 11)]
    assert "--fill-down deviceIdentifier" in warnings(
        book(tmp_path / "b.xlsx", row(2, "a@b.cc", "S1", "assign"), *formulas, *grouped)
    )


def test_the_zero_that_a_library_stores_for_every_formula_is_no_value(tmp_path: Path) -> None:
    with xlsxwriter.Workbook(tmp_path / "a.xlsx") as made:
        page = made.add_worksheet()
        page.write_row(0, 0, HEAD)
        page.write_row(1, 0, ["a@b.cc", "=1+1", "assign"])
        page.write_row(2, 0, ["a@b.cc", 0, "assign"])
    assert judged(tmp_path / "a.xlsx") == [(2, "", Problem.NO_VALUE), (3, "0", 0)]


def test_serials_shown_with_leading_zeros_are_read_so_with_a_warning(tmp_path: Path) -> None:
    path = book(tmp_path / "a.xlsx", *(device(at, f'<c s="1"><v>{at}</v></c>') for at in range(2, 5)))
    assert [serial for _, serial, _ in judged(path)] == ["00000002", "00000003", "00000004"]
    assert "3 serials are shown with zeros in front that the cell does not hold" in warnings(path)
    assert "(first on line 2)" in warnings(path)


def test_dates_count_from_1904_where_the_workbook_says_so(tmp_path: Path) -> None:
    path = book(tmp_path / "a.xlsx", device(2, '<c s="2"><v>43889</v></c>'), settings='<workbookPr date1904="1"/>')
    assert judged(path) == [(2, "2024-02-29", Problem.CELL_VALUE)]


HIDDEN = [
    row(2, "a@b.cc", "S1", "assign"),
    row(4, "a@b.cc", "S2", "assign", more=' hidden="1"'),
    row(5, "a@b.cc", "S3", "assign", more=' hidden="true"'),
    row(6, "a@b.cc", "S4", "assign", more=' ht="0" customHeight="1"'),
    row(7, " ", "", "", more=' hidden="1"'),
    row(8, "a@b.cc", "S5", "assign", more=' ht="15" hidden="0"'),
]


def test_hidden_rows_are_refused_by_default(tmp_path: Path) -> None:
    path = book(tmp_path / "a.xlsx", *HIDDEN)
    with pytest.raises(InputError, match="has 3 hidden rows, first: 4; say --hidden skip or --hidden read"):
        read(path)


def test_hidden_rows_can_be_skipped_and_are_counted(tmp_path: Path) -> None:
    path = book(tmp_path / "a.xlsx", *HIDDEN)
    file, keys, _ = read(path, hidden=HiddenRowsPolicy.SKIP)
    assert [key["deviceIdentifier"] for key in keys] == ["S1", "S5"]
    assert (file.rows, file.hidden_rows) == (2, 3)
    assert file.warnings == ("3 hidden rows left out, first: 4",)


def test_hidden_rows_can_be_read(tmp_path: Path) -> None:
    path = book(tmp_path / "a.xlsx", *HIDDEN)
    file, keys, _ = read(path, hidden=HiddenRowsPolicy.READ)
    assert [key["deviceIdentifier"] for key in keys] == ["S1", "S2", "S3", "S4", "S5"]
    assert (file.rows, file.hidden_rows) == (5, 0)


def test_a_hidden_formula_without_a_value_is_a_hidden_row(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has 1 hidden row, first: 2"):
        read(book(tmp_path / "a.xlsx", row(2, '<c r="A2"><f>1</f></c>', more=' hidden="1"')))


def test_title_and_header_may_be_hidden(tmp_path: Path) -> None:
    made = openpyxl.Workbook()
    for cells in (["Returns"], HEAD, ["a@b.cc", "S1", "assign"]):
        made.active.append(cells)
    made.active.row_dimensions[1].hidden = made.active.row_dimensions[2].hidden = True
    made.save(tmp_path / "a.xlsx")
    assert judged(tmp_path / "a.xlsx") == [(3, "S1", 0)]


def test_a_run_counts_skipped_rows_and_keeps_the_option_on_resume(tmp_path: Path) -> None:
    path = book(tmp_path / "a.xlsx", *HIDDEN)

    def call(*arguments: str) -> Any:
        return CliRunner().invoke(main, [*arguments, str(path), "--json", "--reports-dir", str(tmp_path / "r")])

    assert call("plan").exit_code == 2
    planned = json.loads(call("plan", "--hidden", "skip").stdout)
    assert (planned["rows"], planned["hiddenRows"], planned["inputs"][0]["hiddenRows"]) == (2, 3, 3)
    run = ("run", "--sandbox", "--yes", "--run-id", "one", "--no-progress")
    ended = json.loads(call(*run, "--hidden", "skip").stdout.splitlines()[-1])
    assert (ended["rows"], ended["hiddenRows"], ended["options"]["hidden"]) == (2, 3, "skip")
    assert "3 hidden rows left out, first: 4" in (tmp_path / "r/one/report.html").read_text()
    other = call(*run, "--hidden", "read")
    assert other.exit_code == 2
    assert "was started with other options (--hidden)" in other.stdout + other.stderr


@pytest.mark.parametrize("place", ["XFD1048576", "XFD2", "D1048576", "CV20000"])
def test_a_cell_far_to_the_right_costs_nothing_and_is_named(tmp_path: Path, place: str) -> None:
    line = int(place.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
    stray = text(place, "x")
    rows = [row(2, "a@b.cc", "S1", "assign", *[stray] * (line == 2))] + [row(line, stray)] * (line > 2)
    path = book(tmp_path / "a.xlsx", *rows)
    assert judged(path) == [(2, "S1", 0)]
    assert f"cells right of the last header are not read (first: {place})" in warnings(path)


def test_a_stray_cell_far_right_of_the_header_is_no_header(tmp_path: Path) -> None:
    xml = sheet(row(2, "a@b.cc", "S1", "assign")).replace("</row>", text("XFD1", "x") + "</row>", 1)
    file, _, cells = read(packed(tmp_path / "a.xlsx", parts(xml)))
    assert (file.header, len(cells[0])) == (tuple(HEAD), 3)
    assert file.warnings == ("cells right of the last header are not read (first: XFD1)",)


def test_a_title_may_be_wider_than_the_table(tmp_path: Path) -> None:
    rows = [row(1, "Returns", "", "", "", "of May"), row(2, *HEAD), row(3, "a@b.cc", "S1", "assign")]
    path = packed(tmp_path / "a.xlsx", parts(f"<worksheet><sheetData>{''.join(rows)}</sheetData></worksheet>"))
    assert read(path)[0].warnings == ()


def test_a_row_far_down_keeps_its_number(tmp_path: Path) -> None:
    path = book(tmp_path / "a.xlsx", row(2, "a@b.cc", "S1", "assign"), row(1_048_576, "a@b.cc", "S2", "assign"))
    assert [line for line, _, _ in judged(path)] == [2, 1_048_576]


def test_rows_and_cells_without_references_follow_one_another(tmp_path: Path) -> None:
    cell = "<c t='inlineStr'><is><t>{}</t></is></c>"
    rows = "".join(
        f"<row>{''.join(cell.format(one) for one in cells)}</row>" for cells in (HEAD, ["a@b.cc", "S1", "assign"])
    )
    xml = f"<worksheet xmlns='{STRICT}'><sheetData>{rows}</sheetData></worksheet>"
    assert judged(packed(tmp_path / "a.xlsx", parts(xml))) == [(2, "S1", 0)]


@pytest.mark.parametrize(
    "rows",
    [
        [row(3, "a@b.cc", "S1", "assign"), row(2, "a@b.cc", "S2", "assign")],
        [row(2, "a@b.cc", "S1", "assign"), row(2, "a@b.cc", "S2", "assign")],
        [row(1_048_577, "a@b.cc", "S1", "assign")],
        [row(2, text("B2", "S1"), text("A2", "a@b.cc"))],
        [row(2, text("XFE2", "S1"))],
        [row(2, text("2", "S1"))],
        [device(2, '<c t="s"><v>7</v></c>')],
        [device(2, '<c t="s"><v>-1</v></c>')],
    ],
)
def test_a_sheet_that_no_spreadsheet_would_write_is_refused(tmp_path: Path, rows: list[str]) -> None:
    with pytest.raises(InputError, match=r"cannot be read as a workbook \(.*\); open it in a spreadsheet and save"):
        read(book(tmp_path / "a.xlsx", *rows))


def test_shared_strings_are_read_with_their_runs(tmp_path: Path) -> None:
    strings = "<si><t>S1</t></si><si><r><t>S</t></r><r><t>2</t></r><rPh><t>no</t></rPh></si><si/>"
    rows = [device(2 + at, f'<c t="s"><v>{at}</v></c>') for at in range(3)]
    path = book(tmp_path / "a.xlsx", *rows, strings=strings)
    assert judged(path) == [(2, "S1", 0), (3, "S2", 0), (4, "", Problem.EMPTY_KEY)]


def test_a_text_repeated_too_often_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbook, "_MAX_CHARACTERS", 0)
    strings = f"<si><t>{'x' * 30_000}</t></si>"
    rows = [device(at, '<c t="s"><v>0</v></c>') for at in range(2, 300)]
    with pytest.raises(InputError, match="far more cells or text than its size allows"):
        read(book(tmp_path / "a.xlsx", *rows, strings=strings))


def test_a_run_of_an_earlier_version_can_be_resumed(tmp_path: Path) -> None:
    path = book(tmp_path / "a.xlsx", row(2, "a@b.cc", "S1", "assign"))
    command = ["run", str(path), "--sandbox", "--yes", "--run-id", "one", "--reports-dir", str(tmp_path / "r")]
    assert CliRunner().invoke(main, command).exit_code == 0
    with closing(sqlite3.connect(tmp_path / "r/one/journal.sqlite3")) as journal, journal:
        ((shape,),) = journal.execute("SELECT value FROM meta WHERE name = 'shape'")
        without = {name: value for name, value in json.loads(shape).items() if name != "hidden"}
        journal.execute("UPDATE meta SET value = ? WHERE name = 'shape'", (json.dumps(without),))
    assert CliRunner().invoke(main, command).exit_code == 0
    assert CliRunner().invoke(main, [*command, "--sheet", "Data"]).exit_code == 2


# Other libraries write what this one reads.

SIGNS = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")
CELLS = st.text(SIGNS, max_size=20) | st.integers(0, 10**15 - 1) | st.floats(1e-4, 1e9).map(lambda one: round(one, 3))


def _expected(cell: object) -> str:
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=8), st.booleans())
def test_workbooks_of_other_libraries_are_read(
    tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[object, object]], by_openpyxl: bool
) -> None:
    path = tmp_path_factory.mktemp("book") / "a.xlsx"
    rows: list[list[object]] = [
        [*HEAD, "one", "two"],
        *(["a@b.cc", f"S{at}", "assign", *pair] for at, pair in enumerate(cells)),
    ]
    if by_openpyxl:
        made = openpyxl.Workbook()
        for at, values in enumerate(rows, start=1):
            for column, value in enumerate(values, start=1):
                made.active.cell(at, column).value = value
                if isinstance(value, str):
                    made.active.cell(at, column).data_type = "s"
        made.save(path)
    else:
        with xlsxwriter.Workbook(path) as made:
            page = made.add_worksheet()
            for at, values in enumerate(rows):
                for column, value in enumerate(values):
                    (page.write_string if isinstance(value, str) else page.write_number)(at, column, value)
    assert [tuple(one[3:]) for one in read(path)[2]] == [tuple(map(_expected, pair)) for pair in cells]


def test_stored_options_of_earlier_versions_have_no_hidden_rows() -> None:
    assert InputOptions().hidden is HiddenRowsPolicy.REFUSE
    told = {"name": "a", "path": "a", "sha256": "", "rows": 1, "header": (), "header_line": 1}
    assert InputFile(**told, encoding="xlsx", delimiter="", columns={}).hidden_rows == 0  # type: ignore[arg-type]
