"""A cell of an attention file that no person has changed is read as in the list, also after a spreadsheet saved it."""

import csv
import io
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path

import openpyxl
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from telemetron_batch.domain.errors import JournalError
from telemetron_batch.domain.model import InputOptions, Problem
from telemetron_batch.input.load import Loaded, load
from telemetron_batch.input.restored_cells import OriginalReader, OriginalRows
from telemetron_batch.journal.layout import JOURNAL_NAME
from telemetron_batch.rows.rows import RowBlock
from telemetron_batch.run import pipeline
from tests.conftest import Desk, Ran
from tests.run.test_feed_back import COLUMNS, configured, corrected
from tests.support.scripted import Says

A = "a@x.com"
HEADER = ["customerEmail", "deviceIdentifier", "action", "outcome", "detail", "sourceLine"]
SERIALS = [
    "0012",
    "00000000000000000000",
    "490154203237518",
    "4901542032375189",
    "8944500102198319876",
    "1E5",
    "12E3",
    "1E400",
    "SN-1",
    "1-2",
    "1/2",
    "01.02.2024",
    "2024-01-02",
    "Mar-12",
    "12:30",
    "00:11:22:33:44:55",
    "00112233445566",
    "0011E2334455",
    "+49170",
    "+",
    "'0012",
    "'SN",
    "O'Neil",
    "ÄÖ-ß",
    "007.10",
    "1,5",
    "12.000",
    "TRUE",
    "50%",
    " 12 ",
]


# What a spreadsheet does, apart from the program's own idea of it


def spreadsheet(text: str, style: str) -> str:
    """Return what a spreadsheet saves for a text; styles are long, short and fixed, with either decimal mark."""
    form, mark = style.split()
    stripped = text.strip()
    if stripped.lower() in ("true", "false"):
        return stripped.upper()
    if day := re.fullmatch("([0-9]{1,2})[-/]([0-9]{1,2})", stripped):
        return f"{day[1]:0>2}.{day[2]:0>2}.2026" if form == "long" else f"{day[1]:0>2}. Jan"
    bare = stripped if mark == "." else stripped.replace(",", ".") if "." not in stripped else stripped.replace(".", "")
    if not re.fullmatch(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,2})?", bare):
        return text
    number = float(bare)
    if form == "fixed":
        shown = f"{number:.2E}"
    elif form == "short" and number >= 1e11:
        mantissa, _, exponent = f"{number:.5E}".partition("E")
        shown = f"{mantissa.rstrip('0').rstrip('.')}E{exponent}"
    else:
        shown = f"{Decimal(f'{number:.14E}').normalize():f}"
    return shown.replace(".", mark)


STYLES = st.tuples(st.sampled_from(["long", "short", "fixed"]), st.sampled_from([".", ","])).map(" ".join)
CELLS = st.one_of(
    st.sampled_from(SERIALS),
    st.from_regex("0{0,4}[1-9][0-9]{0,18}", fullmatch=True),
    st.from_regex("[0-9]{1,4}[eE][0-9]{1,2}", fullmatch=True),
    st.from_regex("[0-9]{1,2}[-/.,][0-9]{1,3}", fullmatch=True),
    st.from_regex("[0-9A-F]{6,12}", fullmatch=True),
    st.text(alphabet="0123456789.,+-eEäS'/: ", min_size=1, max_size=9),
)


def saved(rows: Sequence[Sequence[str]]) -> bytes:
    out = io.StringIO()
    csv.writer(out, delimiter=";").writerows(rows)
    return out.getvalue().encode()


def fed(
    listed: Sequence[str], read: Sequence[str], read_original_input: OriginalReader | None = None
) -> tuple[Loaded, pa.RecordBatch]:
    """Return the rows read from an attention file whose list has the first identifiers and the file the second ones."""
    lines = pa.array([str(at) for at in range(2, 2 + len(listed))])
    rows = OriginalRows(lines, {"deviceIdentifier": pa.array(listed)})
    table = [HEADER, *([A, cell, "assign", "", "", line] for cell, line in zip(read, lines.to_pylist(), strict=True))]
    blocks = list[RowBlock]()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "attention.csv"
        path.write_bytes(saved(table))
        options = InputOptions(allow_suspect=True)
        loaded = load(
            [str(path)],
            options,
            spool=path.parent,
            sink=blocks,
            find_original_input=lambda _: read_original_input or (lambda: [rows]),
        )
    return loaded, blocks[0].keys


@given(st.lists(CELLS, min_size=1, max_size=8), STYLES)
@example(SERIALS, "long .")
@example(SERIALS, "short ,")
@example(SERIALS, "fixed ,")
def test_a_row_is_as_in_the_list_or_invalid(cells: list[str], style: str) -> None:
    _, plain = fed(cells, cells)
    _, keys = fed(cells, [spreadsheet(cell, style) for cell in cells])
    for before, after in zip(plain.to_pylist(), keys.to_pylist(), strict=True):
        assert after["problem"] or after["deviceIdentifier"] == before["deviceIdentifier"]


def test_an_entry_of_a_person_is_read_unchanged() -> None:
    loaded, keys = fed(["0012", "1-2", "SN-1", "4901542032375189"], ["13", "1-3", "0012", "4901542032375170"])
    assert keys["deviceIdentifier"].to_pylist() == ["13", "1-3", "0012", "4901542032375170"]
    assert not any(keys["problem"].to_pylist())
    assert not any("as in the list" in warning for warning in loaded.files[0].warnings)


def test_one_warning_gives_the_number_of_cells_and_their_lines() -> None:
    loaded, _ = fed(["0012", "SN-1", "0013"], ["12", "SN-1", "13"])
    told = [warning for warning in loaded.files[0].warnings if "as in the list" in warning]
    assert len(told) == 1
    assert told[0].startswith("2 cells are read as in the list, because a spreadsheet has changed them")
    assert "first: lines 2, 4;" in told[0]


def test_a_possible_date_is_invalid_with_advice() -> None:
    _, keys = fed(["1-2"], ["02. Jan"])
    assert keys["problem"].to_pylist() == [Problem.TAKEN_FOR_DATE]
    assert keys["detail"][0].as_py() == (
        'deviceIdentifier "02. Jan" was "1-2" in the list, and a spreadsheet may have made a date or number of it; '
        "correct it in attention.xlsx (report RUN --xlsx writes it)"
    )


# Through the whole program


def first(desk: Desk, text: str = "Kunde;Nr\nniemand;0012\nniemand;1-2\n", **flags: object) -> Ran:
    return desk.run(text, **{"action": "assign", "column": COLUMNS, **flags})


def feed(desk: Desk, *paths: Path, run_id: str = "fed", **flags: object) -> Ran:
    summary = pipeline.run(configured(desk, *paths, run_id=run_id, **flags), transport=desk.server, clock=desk.clock)
    return Ran(summary, summary.folder, desk.server)


def sent(ran: Ran) -> list[tuple[str, str]]:
    return [(row["customerEmail"], row["deviceIdentifier"]) for row in ran.rows if row["outcome"] != "invalid"]


def rewritten(path: Path, change: Callable[[list[str]], list[str]]) -> Path:
    """Change the rows below the header."""
    text = path.read_text(encoding="utf-8-sig")
    header, *rows = csv.reader(io.StringIO(text, newline=""), delimiter=";")
    path.write_bytes(saved([header, *map(change, rows)]))
    return path


def zeros_lost(row: list[str]) -> list[str]:
    return [A, *(re.sub("^0+", "", cell) for cell in row[1:])]


def test_a_corrected_row_has_its_original_serial(desk: Desk) -> None:
    ran = first(desk)
    assert sent(feed(desk, rewritten(ran.folder / "attention.csv", zeros_lost))) == [(A, "0012"), (A, "1-2")]


def test_the_original_serial_is_restored_also_in_the_next_round(desk: Desk) -> None:
    ran = feed(desk, first(desk).folder / "attention.csv", run_id="second")
    assert sent(feed(desk, rewritten(ran.folder / "attention.csv", zeros_lost))) == [(A, "0012"), (A, "1-2")]


@pytest.mark.parametrize("line", ["", "77", "x", "02.01.2026"])
def test_a_row_that_names_no_line_of_the_list_is_read_unchanged(desk: Desk, line: str) -> None:
    path = rewritten(first(desk).folder / "attention.csv", lambda row: [*zeros_lost(row)[:-1], line])
    assert sent(feed(desk, path)) == [(A, "12"), (A, "1-2")]


def test_several_rows_of_one_line_are_found_among_the_parts_of_its_record(desk: Desk) -> None:
    ran = first(desk, "Kunde;Nr\nniemand;0012, 0034\n", split="deviceIdentifier")
    path = rewritten(ran.folder / "attention.csv", lambda row: [*zeros_lost(row)[:-1], row[-1].replace(".", ",")])
    assert sent(feed(desk, path)) == [(A, "0012"), (A, "0034")]


def test_the_first_part_is_not_confused_with_the_tenth(desk: Desk) -> None:
    parts = ", ".join(f"{'00' * (at == 1)}{at}0" for at in range(1, 11))
    ran = first(desk, f"Kunde;Nr\nniemand;{parts}\n", split="deviceIdentifier")

    def change(row: list[str]) -> list[str]:
        return [*zeros_lost(row)[:-1], row[-1].rstrip("0")]

    assert (A, "100") in sent(feed(desk, rewritten(ran.folder / "attention.csv", change)))


def test_a_line_is_searched_in_the_file_that_it_names(desk: Desk) -> None:
    text = "customerEmail;deviceIdentifier;action\nniemand;{};assign\n"
    paths = [desk.file(text.format(serial), f"{serial[-1]}.csv") for serial in ("0012", "00013")]
    path = feed(desk, *map(Path, paths), run_id="two").folder / "attention.csv"
    assert sent(feed(desk, rewritten(path, zeros_lost))) == [(A, "0012"), (A, "00013")]


def test_nothing_is_restored_outside_the_folder_of_the_run(desk: Desk) -> None:
    path = rewritten(first(desk).folder / "attention.csv", zeros_lost)
    moved = Path(shutil.copy(path, desk.folder / "attention.csv"))
    assert sent(feed(desk, moved, action="assign", column=COLUMNS)) == [(A, "12"), (A, "1-2")]


def test_nothing_is_restored_from_a_journal_that_cannot_be_read(desk: Desk) -> None:
    path = rewritten(first(desk).folder / "attention.csv", zeros_lost)
    (path.parent / JOURNAL_NAME).write_bytes(b"no journal")
    assert sent(feed(desk, path, action="assign", column=COLUMNS)) == [(A, "12"), (A, "1-2")]


def test_cells_of_the_own_workbook_are_not_restored(desk: Desk) -> None:
    path = corrected(first(desk, xlsx=True).folder / "attention.xlsx", ("niemand", A), ("0012", "12"), ("1-2", "1-3"))
    assert sent(feed(desk, path)) == [(A, "12"), (A, "1-3")]


def test_serials_are_restored_in_a_csv_saved_as_a_workbook(desk: Desk) -> None:
    path = first(desk).folder / "attention.csv"
    book = openpyxl.Workbook()
    for row in csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""), delimiter=";"):
        book.worksheets[0].append([A if cell == "niemand" else int(cell) if cell.isdecimal() else cell for cell in row])
    book.save(path.parent / "saved.xlsx")
    assert sent(feed(desk, path.parent / "saved.xlsx")) == [(A, "0012"), (A, "1-2")]


def test_nothing_is_restored_if_reading_the_list_fails() -> None:
    def listed() -> Iterator[OriginalRows]:
        yield OriginalRows(pa.array(["2"]), {"deviceIdentifier": pa.array(["0012"])})
        raise JournalError("damaged", "look at it")

    _, keys = fed(["0012"], ["12"], read_original_input=listed)
    assert keys["deviceIdentifier"].to_pylist() == ["12"]


def test_every_key_cell_is_restored(desk: Desk) -> None:
    text = "Kunde;Nr;Was;Art\nniemand;0012;01;007\n"
    column = [*COLUMNS, "action=Was", "deviceType=Art"]
    ran = desk.run(text, column=column, action_word=["01=assign"], auto_create_devices=True)
    fed_back = feed(desk, rewritten(ran.folder / "attention.csv", zeros_lost))
    assert [(row["deviceIdentifier"], row["action"]) for row in fed_back.rows] == [("0012", "assign")]
    assert any('"007"' in str(seen.body).replace("'", '"') for seen in desk.server.seen)


# With a real spreadsheet

OFFICE = shutil.which("soffice") or shutil.which("libreoffice")


def convert(path: Path, to: str, folder: Path, opened_as: str = "") -> Path:
    """Open a file in a spreadsheet, and save it."""
    own = f"-env:UserInstallation={(folder / 'profile').as_uri()}"
    reading = [f"--infilter={opened_as}"] if opened_as else []
    target = folder / "saved"
    command = [str(OFFICE), "--headless", own, *reading, "--convert-to", to, "--outdir", str(target), str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return target / f"{path.stem}.{to.partition(':')[0]}"


def correct(path: Path, old: str, new: str) -> Path:
    book = openpyxl.load_workbook(path)
    for cell in (cell for cells in book.worksheets[0].iter_rows() for cell in cells):
        cell.value = new if cell.value == old else cell.value
    book.save(path)
    return path


def all_in_attention(desk: Desk, **flags: object) -> Ran:
    """Make a run whose rows all want attention."""
    rows = [f'c{at}@x.com;"{serial}";assign' for at, serial in enumerate(SERIALS)]
    text = "\n".join(["customerEmail;deviceIdentifier;action", *rows, "niemand;007;assign", ""])
    desk.server.script = lambda _: Says(400, {"error": "The customer is locked"})
    ran = desk.run(text, allow_suspect=True, **flags)
    desk.server.script = lambda _: None
    return ran


def meant(ran: Ran) -> list[tuple[str, str]]:
    """Return customers and serials of the list, with the one customer corrected."""
    return [
        (A if row["customerEmail"] == "niemand" else row["customerEmail"], row["deviceIdentifier"]) for row in ran.rows
    ]


@pytest.mark.slow
@pytest.mark.skipif(OFFICE is None, reason="LibreOffice is not installed")
@pytest.mark.parametrize("language", ["1031", "1033"], ids=["German", "English"])
@pytest.mark.parametrize("special", ["true", "false"], ids=["detecting dates", "not detecting dates"])
@pytest.mark.parametrize("between", ["xlsx", "ods"])
def test_changing_one_cell_in_a_spreadsheet_changes_no_other_cell(
    desk: Desk, language: str, special: str, between: str
) -> None:
    ran = all_in_attention(desk)
    path = ran.folder / "attention.csv"
    book = convert(path, between, desk.folder, f"CSV:59,34,76,1,,{language},false,{special}")
    if between == "ods":
        book = convert(book, "xlsx", desk.folder / "second")
    written = f"csv:Text - txt - csv (StarCalc):59,34,76,1,,{language},false,true"
    back = convert(correct(book, "niemand", A), written, desk.folder / "back")
    assert back.read_bytes() != path.read_bytes()
    path.write_bytes(back.read_bytes())
    fed_back = feed(desk, path, allow_suspect=True)
    is_dated = [row["outcome"] == "invalid" for row in fed_back.rows]
    pairs = [(row["customerEmail"], row["deviceIdentifier"]) for row in fed_back.rows]
    assert [pair for pair, dated in zip(pairs, is_dated, strict=True) if not dated] == [
        pair for pair, dated in zip(meant(ran), is_dated, strict=True) if not dated
    ]
    assert (A, "007") in sent(fed_back)
    assert sum(is_dated) <= len([serial for serial in SERIALS if re.match("[0-9]+[-/.:][0-9]|Mar", serial)])


@pytest.mark.slow
@pytest.mark.skipif(OFFICE is None, reason="LibreOffice is not installed")
def test_the_workbook_saved_by_a_spreadsheet_has_only_the_one_change(desk: Desk) -> None:
    ran = all_in_attention(desk, xlsx=True)
    path = ran.folder / "attention.xlsx"
    path.write_bytes(correct(convert(path, "xlsx", desk.folder), "niemand", A).read_bytes())
    fed_back = feed(desk, path, allow_suspect=True)
    assert sent(fed_back) == meant(ran)
