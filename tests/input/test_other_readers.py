"""Cells of valid workbooks, as openpyxl and calamine read them and as this program does.

Values are compared as this program writes them: dates as ISO 8601, whole numbers without `.0`. Two things differ:
numbers under a format of zeros are read as shown, and calamine gives nothing for an error value.
"""

import random
from datetime import date, datetime, time, timedelta
from pathlib import Path

import openpyxl
import pytest
import xlsxwriter
from python_calamine import CalamineWorkbook

from tests.input.test_workbook import read
from tests.support.sheets import HEAD, book, device, row

KINDS = ("text", "number", "whole", "date", "moment", "boolean", "empty", "formula", "error", "long text")
FORMATS = {"date": "dd.mm.yyyy", "moment": "yyyy-mm-dd hh:mm:ss"}
SIGNS = "abcXYZ 019-_.,;:/äßéΩЖ中😀<>&\"'\n\t=@+#"


def text_of(value: object) -> str:
    """Return a value of another library as a person sees it in a sheet."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).upper()
        case datetime():
            moment = value.replace(microsecond=0) + timedelta(seconds=round(value.microsecond / 1e6))
            return moment.isoformat(sep=" ") if moment.time() != time() else moment.date().isoformat()
        case date() | time():
            return value.isoformat()
        case float():
            return str(int(value)) if value.is_integer() else repr(value)
        case _:
            return str(value)


def made_cell(chance: random.Random, kind: str) -> object:
    match kind:
        case "text":
            return "".join(chance.choices(SIGNS, k=chance.randrange(1, 20)))
        case "long text":
            return "x" * chance.randrange(1000, 32_000)
        case "number":
            return round(chance.uniform(1e-3, 1e9), chance.randrange(1, 6))
        case "whole":
            return chance.randrange(10 ** chance.randrange(1, 16))
        case "date":
            return date(1990, 1, 1) + timedelta(days=chance.randrange(20_000))
        case "moment":
            return datetime(1990, 1, 1) + timedelta(seconds=chance.randrange(10**9))
        case "boolean":
            return chance.random() < 0.5
        case _:
            return None


def make(path: Path, chance: random.Random, rows: int = 12) -> None:
    """Write a workbook with xlsxwriter; each row has the keys and a cell of each kind, in any order."""
    with xlsxwriter.Workbook(path, {"in_memory": True}) as made:
        page = made.add_worksheet()
        formats = {kind: made.add_format({"num_format": code}) for kind, code in FORMATS.items()}
        page.write_row(0, 0, [*HEAD, *KINDS])
        for line in range(1, rows + 1):
            page.write_row(line, 0, ["a@b.cc", f"S{line}", "assign"])
            for column, kind in enumerate(chance.sample(KINDS, len(KINDS)), start=len(HEAD)):
                cell = made_cell(chance, kind)
                if kind in FORMATS:
                    page.write_datetime(line, column, cell, formats[kind])
                elif kind == "formula":
                    page.write_formula(line, column, "=B2", None, chance.choice(["SN-1", 12, 1.5, True]))
                elif kind == "error":
                    page.write_formula(line, column, "=1/0", None, "#DIV/0!")
                elif isinstance(cell, bool):
                    page.write_boolean(line, column, cell)
                elif isinstance(cell, str):
                    page.write_string(line, column, cell)
                elif cell is not None:
                    page.write_number(line, column, cell)


def by_openpyxl(path: Path) -> list[list[str]]:
    page = openpyxl.load_workbook(path, data_only=True).worksheets[0]
    return [[text_of(value) for value in row] for row in page.iter_rows(min_row=2, values_only=True)]


def by_calamine(path: Path) -> list[list[str]]:
    rows = CalamineWorkbook.from_path(path).get_sheet_by_index(0).to_python(skip_empty_area=False)
    return [[text_of(value) for value in row] for row in rows[1:]]


def by_us(path: Path) -> list[list[str]]:
    return read(path)[2]


def test_cells_are_read_as_other_libraries_read_them(tmp_path: Path) -> None:
    chance = random.Random(1)
    for _ in range(40):
        make(tmp_path / "a.xlsx", chance)
        ours = by_us(tmp_path / "a.xlsx")
        assert ours == by_openpyxl(tmp_path / "a.xlsx")
        without_errors = [["" if cell == "#DIV/0!" else cell for cell in row] for row in ours]
        assert without_errors == by_calamine(tmp_path / "a.xlsx")


@pytest.mark.parametrize(
    ("cell", "ours", "theirs"),
    [
        ('<c s="1"><v>12342</v></c>', "00012342", "12342"),
        ("<c><f>A2</f></c>", "", ""),
        ("<c><v>8944500102198304768</v></c>", "8944500102198304768", "8944500102198304768"),
        ('<c t="inlineStr"><is><t>a_x0041_</t></is></c>', "aA", "aA"),
        ('<c t="b"><v>1</v></c>', "TRUE", "TRUE"),
    ],
)
def test_only_numbers_that_are_shown_with_zeros_are_read_otherwise(
    tmp_path: Path, cell: str, ours: str, theirs: str
) -> None:
    path = book(tmp_path / "a.xlsx", device(2, cell), row(3, "a@b.cc", "S2", "assign"))
    assert [by_us(path)[0][1], by_calamine(path)[0][1]] == [ours, theirs]
