"""Columns are recognised by their headers, else by their cells; ambiguous ones are not proposed."""

from pathlib import Path

import pytest

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.errors import InputError
from telemetron_batch.domain.model import InputOptions
from telemetron_batch.init.column_inference import ColumnGuess, count_action_words, propose, survey_file, table_of
from tests.input.test_workbook import save

PLAIN = InputOptions()


def seen(*records: tuple[str, ...], options: InputOptions = PLAIN) -> ColumnGuess:
    table = table_of(records)
    assert table is not None
    return propose(table, options)


ROWS = [
    ("1", "a@b.de", "AB-00012", "Zugang", "12.03.2025", "Köln"),
    ("2", "c@b.de", "AB-00013", "Abgang", "13.03.2025", "Bonn"),
    ("3", "a@b.de", "AB-00014", "Zugang", "14.03.2025", "Köln"),
    ("4", "a@b.de", "AB-00015", "Zugang", "15.03.2025", "Köln"),
]
MEANT = {"customerEmail": "b", "deviceIdentifier": "c", "action": "d"}


def test_columns_with_unknown_headers_are_recognised_by_their_values() -> None:
    assert dict(seen(("a", "b", "c", "d", "e", "f"), *ROWS).columns) == MEANT


def test_known_headers_win_over_the_values_of_other_columns() -> None:
    survey = seen(("a", "Email", "Serial No", "Action", "e", "f"), *ROWS)
    assert dict(survey.columns) == {"customerEmail": "Email", "deviceIdentifier": "Serial No", "action": "Action"}


def test_a_known_header_without_addresses_yields_to_a_column_with_addresses() -> None:
    survey = seen(("Pos", "b", "c", "d", "e", "Customer"), *ROWS)
    assert survey.columns["customerEmail"] == "b"


def test_of_two_known_headers_the_one_with_addresses_is_chosen() -> None:
    survey = seen(("Pos", "Mail", "c", "d", "e", "E-Mail Address"), *ROWS)
    assert survey.columns["customerEmail"] == "Mail"


def test_requested_columns_are_kept() -> None:
    options = InputOptions(columns={"deviceIdentifier": "f", "action": "e"})
    assert dict(seen(("a", "b", "c", "d", "e", "f"), *ROWS, options=options).columns) == {
        "customerEmail": "b",
        "deviceIdentifier": "f",
        "action": "e",
    }


def test_the_users_action_words_show_the_action_column() -> None:
    rows = [(email, serial, word) for (_, email, serial, *_), word in zip(ROWS, "1221", strict=True)]
    assert "action" not in seen(("a", "b", "c"), *rows).columns
    options = InputOptions(action_words={"1": Action.ASSIGN})
    assert seen(("a", "b", "c"), *rows, options=options).columns["action"] == "c"
    assert "action" not in seen(("a", "b", "c"), *rows, options=InputOptions(action=Action.ASSIGN)).columns


def test_empty_columns_row_numbers_and_free_text_are_not_proposed() -> None:
    rows = [("", str(n), f"return note {n}", f"u{n}@b.de", f"S-{n}", "add") for n in range(20)]
    columns = seen(("Serial text", "No", "Note", "d", "e", "f"), *rows).columns
    assert dict(columns) == {"customerEmail": "d", "deviceIdentifier": "e", "action": "f"}


def test_a_file_with_an_oversized_cell_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("a,b\n" + "x" * 200_000 + ",y\n")
    with pytest.raises(InputError, match="no header"):
        survey_file(str(tmp_path / "r.csv"), PLAIN)


def test_two_equally_good_columns_are_ambiguous() -> None:
    rows = [(email, serial, serial.replace("AB", "XY")) for _, email, serial, *_ in ROWS]
    survey = seen(("a", "b", "c"), *rows)
    assert "deviceIdentifier" not in survey.columns
    assert survey.ambiguous["deviceIdentifier"] == ("b", "c")


@pytest.mark.parametrize(
    "records",
    [[], [("a", "b")], [("a@b.cc", "S1"), ("a@b.cc", "S2")], [("", ""), ("a", "b")]],
    ids=["nothing", "only a header", "no header", "a blank line and a header"],
)
def test_a_file_without_a_header_and_rows_is_no_table(records: list[tuple[str, ...]]) -> None:
    assert table_of(records) is None


def test_titles_and_filler_lines_are_no_header() -> None:
    table = table_of(
        [("Returns", "", "", ""), ("as of today",), ("", "", "", ""), ("a", "b", "c", ""), *[tuple("xyz")] * 3]
    )
    assert table is None or table.header != ("Returns", "", "", "")
    table = table_of([("Returns", "", ""), ("a", "b", "c"), ("x", "y", "z"), ("x", "y", "z")])
    assert table is not None
    assert table.header == ("a", "b", "c")


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252"])
def test_every_delimiter_and_encoding_is_tried(tmp_path: Path, delimiter: str, encoding: str) -> None:
    rows = [("a", "b", "c", "d", "e", "f"), *ROWS]
    (tmp_path / "r.txt").write_bytes("\n".join(map(delimiter.join, rows)).encode(encoding))
    assert dict(survey_file(str(tmp_path / "r.txt"), PLAIN).columns) == MEANT


def test_the_sheet_with_the_columns_is_named_where_there_are_several(tmp_path: Path) -> None:
    sheet = [["a", "b", "c", "d", "e", "f"], *map(list, ROWS)]
    survey = survey_file(str(save(tmp_path / "r.xlsx", {"Notes": [["x", "y"], ["1", "2"]], "Data": sheet})), PLAIN)
    assert (dict(survey.columns), survey.sheet) == (MEANT, "Data")
    assert survey_file(str(save(tmp_path / "one.xlsx", {"Data": sheet})), PLAIN).sheet is None


@pytest.mark.parametrize("content", [b"", b"x", b"\1\2", b"a,b\n"])
def test_a_file_that_is_no_table_is_refused_with_its_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "r.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"r\.csv: no header with rows below it"):
        survey_file(str(tmp_path / "r.csv"), PLAIN)


def test_the_words_of_all_rows_are_counted(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("Email,Serial,Action\n" + "a@b.cc,S1,Add\n" * 3 + "a@b.cc,S2,scrap\na@b.cc\n")
    words = count_action_words(str(tmp_path / "r.csv"), PLAIN)
    assert words.counts == {"Add": 3, "scrap": 1}
    assert len(words.loaded.rows) == 5
