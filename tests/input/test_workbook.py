"""A workbook's rows are read as a person sees them."""

import zipfile
from contextlib import suppress
from datetime import date
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

from telemetron_batch.domain.errors import InputError
from telemetron_batch.domain.model import InputFile, InputOptions, Problem
from telemetron_batch.input import workbook
from telemetron_batch.input.load import load
from telemetron_batch.rows.rows import RowBlock

TYPES = (
    '<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Default Extension="xml" ContentType="application/xml"/></Types>'
)
RELATION = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"
STYLES = f'<styleSheet xmlns="{MAIN}"><cellXfs count="2"><xf numFmtId="0"/><xf numFmtId="14"/></cellXfs></styleSheet>'
HEADER = ["Email", "Serial No", "Action"]


def cell_xml(place: str, cell: object) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return f'<c r="{place}" t="b"><v>{int(cell)}</v></c>'
    if isinstance(cell, date):
        return f'<c r="{place}" s="1"><v>{(cell - date(1899, 12, 30)).days}</v></c>'
    if isinstance(cell, (int, float)):
        return f'<c r="{place}"><v>{cell!r}</v></c>'
    text = str(cell)
    if text.startswith("#"):
        return f'<c r="{place}" t="e"><v>{text}</v></c>'
    return f'<c r="{place}" t="inlineStr"><is><t xml:space="preserve">{escape(text)}</t></is></c>'


def save(path: Path, sheets: dict[str, list[list[object]]], hidden: tuple[str, ...] = ()) -> Path:
    with zipfile.ZipFile(path, "w") as package:
        package.writestr("[Content_Types].xml", TYPES)
        package.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{PACKAGE}"><Relationship Id="r1" Type="{RELATION}/officeDocument" '
            'Target="xl/workbook.xml"/></Relationships>',
        )
        listed = related = ""
        for number, (name, rows) in enumerate(sheets.items(), start=1):
            state = ' state="hidden"' if name in hidden else ""
            listed += f'<sheet name="{escape(name)}" sheetId="{number}" r:id="r{number}"{state}/>'
            related += (
                f'<Relationship Id="r{number}" Type="{RELATION}/worksheet" Target="worksheets/sheet{number}.xml"/>'
            )
            body = "".join(
                f'<row r="{row}">'
                + "".join(cell_xml(f"{chr(65 + at)}{row}", cell) for at, cell in enumerate(cells))
                + "</row>"
                for row, cells in enumerate(rows, start=1)
            )
            package.writestr(
                f"xl/worksheets/sheet{number}.xml",
                f'<worksheet xmlns="{MAIN}"><sheetData>{body}</sheetData></worksheet>',
            )
        related += f'<Relationship Id="s" Type="{RELATION}/styles" Target="styles.xml"/>'
        package.writestr("xl/styles.xml", STYLES)
        package.writestr("xl/_rels/workbook.xml.rels", f'<Relationships xmlns="{PACKAGE}">{related}</Relationships>')
        package.writestr(
            "xl/workbook.xml",
            f'<workbook xmlns="{MAIN}" xmlns:r="{RELATION}"><sheets>{listed}</sheets></workbook>',
        )
    return path


def read(path: Path, **options: object) -> tuple[InputFile, list[dict[str, object]], list[list[str]]]:
    blocks: list[RowBlock] = []
    loaded = load([str(path)], InputOptions(**options), spool=path.parent, sink=blocks)  # type: ignore[arg-type]
    keys = [row for block in blocks for row in block.keys.to_pylist()]
    cells = [list(row.values()) for block in blocks for row in block.cells.to_pylist()]
    assert loaded.files[0].rows == len(loaded.rows) == len(keys)
    return loaded.files[0], keys, cells


def test_a_sheet_is_read_with_its_own_row_numbers(tmp_path: Path) -> None:
    rows = [
        [],
        [None, "Returns"],
        [],
        [None, *HEADER, None, "x"],
        [None, "A@b.cc", 490154203237518, "return"],
        [],
        [None, None, "S2", "add"],
    ]
    file, keys, cells = read(save(tmp_path / "r.xlsx", {"Sheet1": rows}))
    assert (file.encoding, file.delimiter, file.header_line) == ("xlsx", "", 4)
    assert file.header == ("", *HEADER, "", "x")
    assert [row["line"] for row in keys] == [5, 7]
    assert [row["deviceIdentifier"] for row in keys] == ["490154203237518", "S2"]
    assert [row["problem"] for row in keys] == [0, Problem.EMPTY_KEY]
    assert cells[0] == ["", "A@b.cc", "490154203237518", "return", "", ""]


def test_an_error_in_a_key_cell_is_never_sent(tmp_path: Path) -> None:
    rows = [
        [],
        [None, *HEADER],
        [None, "a@b.cc", "#N/A", "add"],
        [None, "a@b.cc", "S1", "#REF!"],
        [None, *["#N/A"] * 3],
    ]
    _, keys, cells = read(save(tmp_path / "r.xlsx", {"Other": [["x"]], "A & B": rows}))
    assert [row["line"] for row in keys] == [3, 4, 5]
    assert [row["problem"] for row in keys] == [Problem.DAMAGED, Problem.ACTION, Problem.DAMAGED]
    assert cells[2] == ["", "#N/A", "#N/A", "#N/A"]


def test_numbers_and_dates_become_text_as_the_sheet_shows_them(tmp_path: Path) -> None:
    rows = [[*HEADER, "x"]] + [["a@b.cc", cell, "add", 1.5] for cell in (12.0, 1e15, True, date(2024, 2, 29), "0012")]
    _, keys, cells = read(save(tmp_path / "r.xlsx", {"Sheet1": rows}))
    assert [row[1] for row in cells] == ["12", "1000000000000000", "TRUE", "2024-02-29", "0012"]
    assert [row["problem"] for row in keys] == [0, Problem.LONG_NUMBER, Problem.CELL_VALUE, Problem.CELL_VALUE, 0]
    assert cells[0][3] == "1.5"


def test_the_first_visible_sheet_with_the_headers_is_read_and_the_others_are_named(tmp_path: Path) -> None:
    good = [HEADER, ["a@b.cc", "S1", "add"]]
    path = save(tmp_path / "r.xlsx", {"Old": good, "Notes": [["x"]], "Data": good}, hidden=("Old",))
    file, keys, _ = read(path)
    assert file.warnings == ('only sheet "Data" is read, not "Notes"; name another with --sheet',)
    assert len(keys) == 1
    assert read(path, sheet="Old")[0].warnings == ()


def test_a_sheet_that_is_not_there_or_has_no_headers_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "r.xlsx", {"Data": [["x", "y"]], "Empty": []})
    with pytest.raises(InputError, match='has no sheet "data"; name one of "Data", "Empty"'):
        read(path, sheet="data")
    with pytest.raises(
        InputError,
        match=r'r\.xlsx: no header .* "x", "y"; say which .*; or run telemetron-batch init \S+, which asks$',
    ):
        read(path)
    with pytest.raises(InputError, match="no text"):
        read(path, sheet="Empty")
    with pytest.raises(InputError, match="no visible sheet"):
        read(save(tmp_path / "h.xlsx", {"Data": [HEADER]}, hidden=("Data",)))


def test_a_header_without_rows_has_no_rows(tmp_path: Path) -> None:
    assert read(save(tmp_path / "r.xlsx", {"Data": [HEADER, ["", " "]]}))[0].rows == 0


def test_a_sheet_may_close_with_a_counted_trailer(tmp_path: Path) -> None:
    rows = [HEADER, ["a@b.cc", "S1", "add"], [], ["Total", 1, None], ["", " ", None]]
    file, keys, _ = read(save(tmp_path / "r.xlsx", {"Data": rows}), trailer_count="Total;(.+)")
    assert (len(keys), file.trailer_count) == (1, 1)
    assert "line 4" in file.warnings[0]


def test_a_long_sheet_comes_in_several_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbook, "BLOCK_ROWS", 2)
    rows = [HEADER, *([f"a{at}@b.cc", at, "add"] for at in range(5)), ["Total", 5, None]]
    _, keys, _ = read(save(tmp_path / "r.xlsx", {"Data": rows}))
    assert [row["line"] for row in keys] == [2, 3, 4, 5, 6]


@pytest.mark.parametrize("at", [10, 200, 700, 1200, -200, -40])
def test_a_damaged_workbook_is_refused_or_read_as_if_undamaged(tmp_path: Path, at: int) -> None:
    path = save(tmp_path / "r.xlsx", {"Data": [HEADER, ["a@b.cc", "S1", "add"]]})
    file, keys, cells = read(path)
    content = bytearray(path.read_bytes())
    content[at : at + 30] = b"\xff" * 30
    path.write_bytes(content)
    with suppress(InputError):
        damaged_file, damaged_keys, damaged_cells = read(path)
        assert damaged_file.header == file.header
        assert (damaged_keys, damaged_cells) == (keys, cells)
