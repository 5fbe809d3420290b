"""The attention files: a CSV in the dialect of the input and a workbook of texts; edited files are kept."""

import csv
import errno
from pathlib import Path

import openpyxl
import pytest

from telemetron_batch.reports import write_all
from telemetron_batch.sharding.report import report_run
from telemetron_batch.storage.trusted_folders import FolderHandle
from tests.conftest import Desk, Ran
from tests.support.scripted import Says
from tests.support.sheets import book, row

A = "a@x.com"
EXPORT = "Kunde;Serien-Nr;Vorgang;Notiz\nä@x.com;UNKNOWN-1;assign;=1+1\na@x.com;SN-2;assign;\nniemand;SN-3;assign;x\n"
COLUMNS = ["customerEmail=Kunde", "deviceIdentifier=Serien-Nr", "action=Vorgang"]
OURS = ["outcome", "detail", "sourceLine"]


def german(desk: Desk, **flags: object) -> Ran:
    path = desk.folder / "liste.csv"
    path.write_text(EXPORT, encoding="utf-8")
    return desk.run(str(path), column=COLUMNS, **flags)


def table(path: Path, delimiter: str) -> list[list[str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return [*csv.reader(file, delimiter=delimiter)]


def sheet(path: Path) -> list[list[object]]:
    (one,) = openpyxl.load_workbook(path).worksheets
    return [["" if cell.value is None else cell.value for cell in cells] for cells in one.iter_rows()]


def test_the_csv_has_a_byte_order_mark_and_the_delimiter_of_the_input(desk: Desk) -> None:
    path = german(desk).folder / "attention.csv"
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    header, unknown, nobody = table(path, ";")
    assert header == ["Kunde", "Serien-Nr", "Vorgang", "Notiz", *OURS]
    assert unknown == ["ä@x.com", "UNKNOWN-1", "assign", "'=1+1", "skipped", unknown[-2], "2"]
    assert (nobody[:4], nobody[-1]) == (["niemand", "SN-3", "assign", "x"], "4")


@pytest.mark.parametrize("delimiter", [";", "|", "\t", "~"])
def test_the_csv_has_the_delimiter_of_the_input_and_is_read_back(desk: Desk, delimiter: str) -> None:
    text = f"customerEmail,deviceIdentifier,action\n{A},UNKNOWN-1,assign\n".replace(",", delimiter)
    flags = {"delimiter": delimiter} if delimiter == "~" else {}
    ran = desk.run(text, **flags)
    assert table(ran.folder / "attention.csv", delimiter)[1][:2] == [A, "UNKNOWN-1"]
    fed = desk.run(str(ran.folder / "attention.csv"), run_id="fed", **flags)
    assert [row["deviceIdentifier"] for row in fed.rows] == ["UNKNOWN-1"]


def test_repeated_correction_keeps_the_original_line_and_one_set_of_our_columns(desk: Desk) -> None:
    ran = german(desk)
    for number in range(2):
        ran = desk.run(str(ran.folder / "attention.csv"), run_id=f"fed{number}", column=COLUMNS, again=True)
    header, *rows = table(ran.folder / "attention.csv", ";")
    assert header == ["Kunde", "Serien-Nr", "Vorgang", "Notiz", *OURS]
    assert [row[-1] for row in rows] == ["2", "4"]
    assert [row[3] for row in rows] == ["'=1+1", "x"]


def test_a_file_with_an_added_last_column_is_still_recognized(desk: Desk) -> None:
    ran = german(desk)
    path = ran.folder / "attention.csv"
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    path.write_text("\n".join(f"{line};{note}" for line, note in zip(lines, ("Wer", "ich", "du"), strict=True)))
    fed = desk.run(str(path), run_id="fed", column=COLUMNS)
    header, *rows = table(fed.folder / "attention.csv", ";")
    assert header == ["Kunde", "Serien-Nr", "Vorgang", "Notiz", "Wer", *OURS]
    assert [row[4] for row in rows] == ["ich", "du"]


# The workbook


def desk_book(desk: Desk) -> str:
    rows = [row(2, A, "UNKNOWN-1", "assign"), row(3, "niemand", "00123456789", "assign"), row(4, A, "SN-2", "assign")]
    return str(book(desk.folder / "list.xlsx", *rows))


def test_a_workbook_input_gets_a_text_workbook_with_our_columns_first(desk: Desk) -> None:
    ran = desk.run(desk_book(desk))
    header, *rows = sheet(ran.folder / "attention.xlsx")
    assert header == [*OURS, "customerEmail", "deviceIdentifier", "action"]
    assert rows[0][0] == "skipped"
    assert rows[0][2:] == ["2", A, "UNKNOWN-1", "assign"]
    assert rows[1][2:] == ["3", "niemand", "00123456789", "assign"]
    (one,) = openpyxl.load_workbook(ran.folder / "attention.xlsx").worksheets
    assert {cell.data_type for cells in one.iter_rows() for cell in cells if cell.value is not None} == {"s"}
    assert {cell.number_format for cells in one.iter_rows(min_row=2) for cell in cells} == {"@"}
    (choice,) = one.data_validations.dataValidation
    assert (choice.type, choice.formula1, str(choice.sqref)) == ("list", '"assign,unassign"', "F2:F1048576")
    assert ran.json["files"] == ["reconciliation.csv", "attention.csv", "attention.xlsx", "undo.csv", "report.html"]


def test_a_corrected_workbook_is_read_back_with_all_other_cells_unchanged(desk: Desk) -> None:
    ran = desk.run(desk_book(desk))
    path = ran.folder / "attention.xlsx"
    opened = openpyxl.load_workbook(path)
    opened.worksheets[0]["D3"].value = A
    opened.save(path)
    desk.server.fleet.assign("somebody@else.com", ["UNKNOWN-1"], create=True)
    fed = desk.run(str(path), run_id="fed")
    assert [(one["customerEmail"], one["deviceIdentifier"], one["outcome"]) for one in fed.rows] == [
        (A, "UNKNOWN-1", "assigned"),
        (A, "00123456789", "assigned"),
    ]


def saved_as_the_other(path: Path) -> Path:
    """Save the file in the other format, as a spreadsheet would: CSV as a workbook, a workbook as CSV."""
    if path.suffix == ".csv":
        opened = openpyxl.Workbook()
        with path.open(encoding="utf-8-sig", newline="") as file:
            for line, cells in enumerate(csv.reader(file), start=1):
                for column, cell in enumerate(cells, start=1):
                    at = opened.active.cell(line, column, cell)
                    at.data_type = "s"
        opened.save(path.with_name("saved.xlsx"))
        return path.with_name("saved.xlsx")
    with path.with_name("saved.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(sheet(path))
    return path.with_name("saved.csv")


@pytest.mark.parametrize("name", ["attention.csv", "attention.xlsx"])
@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("other", [False, True])
def test_cells_with_leading_apostrophes_are_read_back_unchanged(
    desk: Desk, name: str, *, raw: bool, other: bool
) -> None:
    cells = ["'=1", "''=1", "'-SN2", "=1", "-SN3", "''x", "'", '="\'-SN4"']
    path = desk.folder / "list.csv"
    rows = [["niemand", cell, "assign", cell] for cell in cells]
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["customerEmail", "deviceIdentifier", "action", "''=note"], *rows])
    ran = desk.run(str(path), run_id="r1", raw_csv=raw, xlsx=True, allow_suspect=True)
    attention = ran.folder / name
    if other:
        attention = saved_as_the_other(attention)
    fed = desk.run(str(attention), run_id="fed", raw_csv=raw, xlsx=True, allow_suspect=True)
    note = next(header for header in ran.rows[0] if header.endswith("=note"))
    columns = ("customerEmail", "deviceIdentifier", "action", note)
    assert [[row[column] for column in columns] for row in fed.rows] == [
        [row[column] for column in columns] for row in ran.rows
    ]
    assert len(fed.rows) == len(cells)


def test_the_sheet_of_a_profile_does_not_apply_to_our_workbook(desk: Desk) -> None:
    ran = desk.run(desk_book(desk), sheet="Data")
    assert len(desk.run(str(ran.folder / "attention.xlsx"), run_id="fed", sheet="Data").rows) == 2


@pytest.mark.parametrize("wanted", [False, True])
def test_a_text_input_gets_a_workbook_only_with_xlsx(desk: Desk, *, wanted: bool) -> None:
    ran = german(desk, xlsx=wanted)
    assert (ran.folder / "attention.xlsx").exists() is wanted
    assert ran.json["attentionFiles"] == ["attention.csv", *["attention.xlsx"] * wanted]


def test_a_file_without_an_action_column_offers_no_actions(desk: Desk) -> None:
    ran = desk.run(f"customerEmail,deviceIdentifier\n{A},UNKNOWN-1\n", action="assign", xlsx=True)
    (one,) = openpyxl.load_workbook(ran.folder / "attention.xlsx").worksheets
    assert list(one.data_validations.dataValidation) == []


# Edited files


def edit(path: Path) -> bytes:
    if path.suffix == ".xlsx":
        opened = openpyxl.load_workbook(path)
        opened.worksheets[0]["A2"].value = "mine"
        opened.save(path)
    else:
        path.write_bytes(path.read_bytes().replace(b"niemand", b"jemand@x.com"))
    return path.read_bytes()


def by_report(desk: Desk, ran: Ran) -> None:  # noqa: ARG001
    report_run(ran.folder)


def by_verify(desk: Desk, ran: Ran) -> None:
    desk.verify(ran)


@pytest.mark.parametrize("write_again", [by_report, by_verify])
@pytest.mark.parametrize("name", ["attention.csv", "attention.xlsx"])
def test_an_edited_file_is_kept_and_the_new_one_is_written_beside_it(
    desk: Desk, write_again: object, name: str
) -> None:
    assert callable(write_again)
    ran = german(desk, xlsx=True)
    mine = edit(ran.folder / name)
    new = ran.folder / name.replace(".", ".new.")
    for _ in range(2):
        write_again(desk, ran)
        assert (ran.folder / name).read_bytes() == mine
        assert new.exists()
    assert [*ran.folder.glob("attention.new2*")] == []
    assert new.name in ran.json["attentionFiles"]
    assert {name, new.name} <= {*ran.json["files"]}
    assert new.name in (ran.folder / "report.html").read_text()


def test_an_edit_of_the_new_file_is_kept_too(desk: Desk) -> None:
    ran = german(desk)
    kept = [edit(ran.folder / "attention.csv")]
    report_run(ran.folder)
    kept.append(edit(ran.folder / "attention.new.csv"))
    report_run(ran.folder)
    names = ("attention.csv", "attention.new.csv")
    assert [(ran.folder / name).read_bytes() for name in names] == kept
    assert b"niemand" in (ran.folder / "attention.new2.csv").read_bytes()


def test_an_unedited_file_is_overwritten(desk: Desk) -> None:
    ran = german(desk, xlsx=True)
    report_run(ran.folder)
    desk.verify(ran)
    names = sorted(path.name for path in ran.folder.glob("attention*"))
    assert names == ["attention.csv", "attention.xlsx"]


def test_after_the_edited_file_is_deleted_the_new_one_gets_its_name(desk: Desk) -> None:
    ran = german(desk)
    edit(ran.folder / "attention.csv")
    report_run(ran.folder)
    (ran.folder / "attention.csv").unlink()
    report_run(ran.folder)
    assert [path.name for path in ran.folder.glob("attention*")] == ["attention.csv"]


def test_a_continued_run_keeps_an_edited_file(desk: Desk) -> None:
    desk.server.script = lambda _: Says(401, {"error": "Unauthorized"})
    ran = desk.run([(A, f"SN-{number}", "assign") for number in range(3)])
    assert ran.summary.exit_code == 4
    path = ran.folder / "attention.csv"
    path.write_bytes(mine := path.read_bytes().replace(b"SN-1", b"SN-9"))
    desk.server.script = lambda _: None
    ran = desk.run([(A, f"SN-{number}", "assign") for number in range(3)])
    assert ran.outcomes == ["assigned"] * 3
    assert path.read_bytes() == mine
    assert len(table(ran.folder / "attention.new.csv", ",")) == 1


def test_a_file_left_by_a_killed_process_does_not_count_as_edited(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = german(desk)
    rename = FolderHandle.rename

    def fail(self: FolderHandle, name: str, new: str) -> None:
        if new == "attention.csv":
            raise OSError(errno.ENOSPC, "No space left on device")
        rename(self, name, new)

    for content in (b"one", b"two"):
        with monkeypatch.context() as patch:
            patch.setattr(write_all, "write_attention", lambda file, *_, content=content: file.write(content))
            patch.setattr(FolderHandle, "rename", fail)
            assert report_run(ran.folder).exit_code == 3
    report_run(ran.folder)
    assert [path.name for path in ran.folder.glob("attention*")] == ["attention.csv"]


def test_an_edited_file_is_not_published(desk: Desk) -> None:
    ran = german(desk, publish=str(desk.folder / "out"))
    edit(ran.folder / "attention.csv")
    (desk.folder / "out" / "r1" / "attention.csv").unlink()
    report_run(ran.folder)
    assert [path.name for path in (desk.folder / "out" / "r1").glob("attention*")] == ["attention.new.csv"]
