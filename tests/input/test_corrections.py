"""Cells that a person has corrected before a run."""

from pathlib import Path

import pytest

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.model import Correction, InputOptions, Problem, Split
from telemetron_batch.input.load import load
from telemetron_batch.rows.rows import RowBlock
from tests.support.sheets import book, device


class _Rows:
    def __init__(self) -> None:
        self.blocks: list[RowBlock] = []

    def append(self, block: RowBlock) -> None:
        self.blocks.append(block)

    def clear(self) -> None:
        self.blocks.clear()


def read(path: Path, *corrections: Correction, **options: object) -> list[tuple[int, str, str, Problem]]:
    rows = _Rows()
    given = InputOptions(action=Action.ASSIGN, corrections=corrections, **options)  # type: ignore[arg-type]
    load([str(path)], given, spool=path.parent, sink=rows)
    keys = [key for block in rows.blocks for key in block.keys.to_pylist()]
    return [(one["line"], one["customerEmail"], one["deviceIdentifier"], Problem(one["problem"])) for one in keys]


def test_a_corrected_cell_is_judged_as_if_the_file_held_it(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("customerEmail,deviceIdentifier\na@example,A1\nb@example.com,B1\n")
    assert read(tmp_path / "a.csv")[0] == (2, "a@example", "A1", Problem.EMAIL)
    assert read(tmp_path / "a.csv", Correction("customerEmail", 2, "a@example.com")) == [
        (2, "a@example.com", "A1", Problem.NONE),
        (3, "b@example.com", "B1", Problem.NONE),
    ]


def test_a_correction_can_also_be_wrong(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("customerEmail,deviceIdentifier\na@example.com,A1\n")
    [(_, _, device, problem)] = read(tmp_path / "a.csv", Correction("deviceIdentifier", 2, "1.23E+11"))
    assert (device, problem) == ("1.23E+11", Problem.DAMAGED)


def test_the_line_that_counts_is_that_on_which_the_record_begins(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('Title\n\ncustomerEmail,deviceIdentifier,x\na@x.com,A1,"two\nlines"\nb,B1,y\n')
    assert read(tmp_path / "a.csv", Correction("customerEmail", 6, "b@x.com"))[1] == (6, "b@x.com", "B1", Problem.NONE)


def test_a_row_with_a_wrong_number_of_cells_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("customerEmail,deviceIdentifier\na@example.com,A1,more\n")
    [(_, _, _, problem)] = read(tmp_path / "a.csv", Correction("deviceIdentifier", 2, "A2"))
    assert problem is Problem.CELL_COUNT


def test_a_corrected_cell_of_a_workbook_is_no_date_or_long_number_any_more(tmp_path: Path) -> None:
    path = book(tmp_path / "a.xlsx", device(2, "<c><v>1234567890123456</v></c>"))
    [(line, customer, _, problem)] = read(path)
    assert problem is Problem.LONG_NUMBER
    corrected = read(path, Correction("deviceIdentifier", 2, "1234567890123457"))
    assert corrected == [(line, customer, "1234567890123457", Problem.NONE)]


def test_a_correction_comes_before_split_and_fill_down(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("customerEmail,deviceIdentifier\nwrong,A1\n,A2;A3\n")
    corrections = Correction("customerEmail", 2, "a@example.com"), Correction("deviceIdentifier", 3, "A2;A4")
    options = {"fill_down": ("customerEmail",), "split": Split("deviceIdentifier")}
    found = read(tmp_path / "a.csv", *corrections, **options)
    assert [(email, device) for _, email, device, _ in found] == [
        ("a@example.com", "A1"),
        ("a@example.com", "A2"),
        ("a@example.com", "A4"),
    ]


@pytest.mark.parametrize("line", [0, 1, 99])
def test_a_correction_of_a_line_without_a_row_changes_nothing(tmp_path: Path, line: int) -> None:
    (tmp_path / "a.csv").write_text("customerEmail,deviceIdentifier\na@example.com,A1\n")
    assert read(tmp_path / "a.csv", Correction("deviceIdentifier", line, "A2")) == read(tmp_path / "a.csv")
