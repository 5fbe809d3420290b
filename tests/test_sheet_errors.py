"""Error values are found wherever in the sheet's XML they stand, and nothing else is taken for one."""

import zipfile
from pathlib import Path

import pytest

from batch.input import sheet_errors
from batch.input.sheet_errors import error_cells
from tests.test_workbook import save

ROWS = [["x", "#N/A"], [], ["#REF!", 3, "S1", *[""] * 23, "#DIV/0!"]]
FOUND = {0: {1: "#N/A"}, 2: {0: "#REF!", 26: "#DIV/0!"}}


def rewritten(path: Path, part: str, old: str, new: str) -> Path:
    """The workbook with a text in one of its parts replaced."""
    with zipfile.ZipFile(path) as package:
        parts = {name: package.read(name) for name in package.namelist()}
    assert old.encode() in parts[part]
    parts[part] = parts[part].replace(old.encode(), new.encode())
    with zipfile.ZipFile(path, "w") as package:
        for name, content in parts.items():
            package.writestr(name, content)
    return path


@pytest.fixture
def book(tmp_path: Path) -> Path:
    path = save(tmp_path / "r.xlsx", {"Other": [["#N/A"]], "Data": ROWS})
    return rewritten(path, "xl/worksheets/sheet2.xml", 'r="[3"', 'r="AA3"')  # `save` counts in single letters


def test_errors_are_found_by_row_and_column(book: Path) -> None:
    assert error_cells(book, "Data") == FOUND
    assert error_cells(book, "Other") == {0: {0: "#N/A"}}


@pytest.mark.parametrize("size", [1, 7, 64])
def test_how_the_sheet_comes_in_pieces_changes_nothing(book: Path, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheet_errors, "_PIECE", size)
    assert error_cells(book, "Data") == FOUND


def test_a_prefix_and_a_formula_are_no_trouble(book: Path) -> None:
    part = "xl/worksheets/sheet2.xml"
    rewritten(
        book, part, '<c r="B1" t="e"><v>#N/A</v></c>', '<x:c t="e" s="1" r="B1"><x:f>1/0</x:f><x:v>#N/A</x:v></x:c>'
    )
    assert error_cells(book, "Data") == FOUND


def test_a_target_may_be_absolute(book: Path) -> None:
    rewritten(book, "xl/_rels/workbook.xml.rels", 'Target="worksheets/', 'Target="/xl/worksheets/')
    assert error_cells(book, "Data") == FOUND


def test_a_sheet_without_errors_has_none(tmp_path: Path) -> None:
    assert error_cells(save(tmp_path / "r.xlsx", {"Data": [["x", 't="e"', "N/A"]]}), "Data") == {}


def test_what_cannot_be_read_is_left_to_others(book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert error_cells(book, "data") == {}
    (tmp_path / "x.xlsx").write_bytes(b"PK\x03\x04 something")
    assert error_cells(tmp_path / "x.xlsx", "Data") == {}
    assert error_cells(tmp_path / "none.xlsx", "Data") == {}
    rewritten(book, "xl/_rels/workbook.xml.rels", "sheet2.xml", "sheet9.xml")
    assert error_cells(book, "Data") == {}
    monkeypatch.setattr(sheet_errors, "_PIECE", 16)
    monkeypatch.setattr(sheet_errors, "_MOST", 32)
    assert error_cells(book, "Other") == {}
