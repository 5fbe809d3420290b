"""The CSV files of a run, read back with Python's own reader."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from telemetron_batch.domain.answers import Answer, DeviceResult
from telemetron_batch.domain.errors import ConfigError, DiskError
from telemetron_batch.domain.model import InputFile, InputOptions
from telemetron_batch.domain.outcomes import Outcome
from telemetron_batch.input.dialect import clean_header
from telemetron_batch.input.load import load
from telemetron_batch.input.normalize import normalize, unguarded
from telemetron_batch.input.own_reports import ATTENTION_HEADERS
from telemetron_batch.reconciliation.ledger import Ledger
from telemetron_batch.reports.csv_files import (
    ReportInput,
    extra_columns,
    write_attention,
    write_reconciliation,
    write_undo,
)
from telemetron_batch.rows.rows import RowBlock
from telemetron_batch.storage.atomic_file import atomic_write, make_private_dir
from tests.support.builders import KEYS, A, B, C, Row, block_of, file_of, keys_of, planned, report_of, settle

TOLD = ["outcome", "detail", "customerId", "deviceId", "customerWasCreated", "deviceWasCreated"]
OURS = ["line", *KEYS, *TOLD, "call", "attempts", "unclearAttempts", "httpStatus", "answeredAt", "devicesRemaining"]
HOSTILE = st.text(alphabet="ab1,;\"'\n\r\t =+-@|\\é\u2028😀", max_size=12)

OF_A_CELL = st.text(alphabet="'=+-@\t\n\u00a0\u061c\u200b\uff1d\uff20a1 \"", max_size=8) | HOSTILE


def read(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return [*csv.reader(file, strict=True)]


def records(path: Path) -> list[dict[str, str]]:
    header, *rows = read(path)
    assert len(set(header)) == len(header)
    return [dict(zip(header, row, strict=True)) for row in rows]


def written(
    folder: Path, header: Sequence[str], rows: Sequence[Row], cells: Sequence[Sequence[str]], **how: Any
) -> Path:
    """Write the reconciliation of one file with these rows and cells."""
    path = folder / "reconciliation.csv"
    one = report_of(planned(rows), file_of(header, len(rows)), **how)
    assert write_reconciliation(path, one, [block_of(keys_of(rows), cells)]) == len(rows)
    return path


# The reconciliation


def test_the_reconciliation_has_one_row_for_each_input_row_in_input_order(tmp_path: Path) -> None:
    rows = [(B, "SN-2", "unassign"), (A, "SN-1", "assign"), (A, "SN-1", "assign")]
    path = written(tmp_path, KEYS, rows, rows, outcomes=[Outcome.SKIPPED, Outcome.ASSIGNED])
    header, *lines = read(path)
    assert header == OURS
    assert [line[:6] for line in lines] == [
        ["2", B, "SN-2", "unassign", "skipped", ""],
        ["3", A, "SN-1", "assign", "assigned", ""],
        ["4", A, "SN-1", "assign", "duplicate", "same as line 3: assigned"],
    ]


def test_the_inputs_other_columns_follow_unchanged(tmp_path: Path) -> None:
    rows = [(A, "SN-1", "assign")]
    header = ["Note", "customerEmail", "deviceIdentifier", "action", "note"]
    path = written(tmp_path, header, rows, [("  two\nlines ", " A@X.com", '="SN-1"', "Issue", "0012")])
    (row,) = records(path)
    assert [*row] == [*OURS, "Note", "note"]
    assert (row["Note"], row["note"]) == ("  two\nlines ", "0012")
    assert (row["customerEmail"], row["deviceIdentifier"], row["action"]) == (A, "SN-1", "assign")


def test_an_unknown_action_word_is_reported_as_written(tmp_path: Path) -> None:
    rows = [(A, "SN-1", "Lend", "ACTION")]
    (row,) = records(written(tmp_path, KEYS, rows, [rows[0][:3]]))
    assert (row["action"], row["outcome"]) == ("Lend", "invalid")


def test_input_columns_named_like_ours_are_renamed(tmp_path: Path) -> None:
    rows = [(A, "SN-1", "assign")]
    header = [*KEYS, "outcome", "line", "deviceId", "file"]
    (row,) = records(written(tmp_path, header, rows, [(*rows[0], "failed", "9", "d-9", "old.csv")]))
    assert [*row][len(OURS) :] == ["outcome (input)", "line (input)", "deviceId (input)", "file (input)"]
    assert (row["outcome"], row["outcome (input)"]) == ("notSent", "failed")


def test_columns_with_the_same_header_are_all_kept(tmp_path: Path) -> None:
    rows = [(A, "SN-1", "assign")]
    header, line = read(written(tmp_path, ["note", *KEYS, "note"], rows, [("one", *rows[0], "two")]))
    assert (header[-2:], line[-2:]) == (["note", "note"], ["one", "two"])


def test_key_columns_are_not_repeated_under_their_own_headers(tmp_path: Path) -> None:
    rows = [(A, "SN-1", "assign", "K")]
    file = file_of(
        ["E-Mail", "Serial", "Move", "Kind"], customerEmail="E-Mail", deviceIdentifier="Serial", action="Move"
    )
    path = tmp_path / "reconciliation.csv"
    write_reconciliation(path, report_of(planned(rows), file), [block_of(keys_of(rows), [(A, "SN-1", "in", "K")])])
    assert read(path)[0] == [*OURS, "Kind"]


def test_an_empty_input_gives_only_a_header(tmp_path: Path) -> None:
    path = tmp_path / "reconciliation.csv"
    assert write_reconciliation(path, report_of(planned([]), file_of()), []) == 0
    assert read(path) == [OURS]


def test_blocks_are_written_one_after_another(tmp_path: Path) -> None:
    rows = [(A, f"SN-{at}", "assign") for at in range(5)]
    blocks = [block_of(keys_of(rows[:2]), rows[:2]), block_of(keys_of(rows[2:], 4), rows[2:])]
    path = tmp_path / "reconciliation.csv"
    assert write_reconciliation(path, report_of(planned(rows), file_of(), outcomes=[Outcome.FAILED] * 4), blocks) == 5
    assert [row["line"] for row in records(path)] == ["2", "3", "4", "5", "6"]
    assert [row["outcome"] for row in records(path)] == ["failed"] * 4 + ["notSent"]


# Cells come back exactly


@settings(deadline=None)  # a file is on disk before it has its name, and a disk may be slow
@given(st.lists(st.tuples(HOSTILE, HOSTILE), min_size=1, max_size=8))
@example([("", ""), ('"', "\r\n"), ("\r", ","), ("=1+1", "+1"), ("-1", "@a"), ("\tx", " "), ("'", "\\"), ("NULL", "é")])
def test_without_a_guard_every_cell_is_read_back_as_written(
    tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[str, str]]
) -> None:
    rows = [(A, f"SN-{at}", "assign") for at in range(len(cells))]
    whole = [(*row, *pair) for row, pair in zip(rows, cells, strict=True)]
    path = written(tmp_path_factory.mktemp("raw"), [*KEYS, "one", "two"], rows, whole)
    assert [(row["one"], row["two"]) for row in records(path)] == cells


@settings(deadline=None)
@given(HOSTILE.filter(lambda text: text not in OURS))
def test_without_a_guard_every_header_is_read_back_as_written(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    rows = [(A, "SN-1", "assign")]
    path = written(tmp_path_factory.mktemp("raw"), [*KEYS, text], rows, [(*rows[0], "cell")])
    assert read(path)[0] == [*OURS, text]


def test_a_file_is_utf8_without_byte_order_mark_and_with_lf(tmp_path: Path) -> None:
    rows = [("jürgen@x.com", "SN-1", "assign")]
    content = written(tmp_path, KEYS, rows, rows).read_bytes()
    assert content.startswith((b'"line"', b"line"))
    assert "jürgen".encode() in content
    assert b"\r" not in content
    assert content.endswith(b"\n")


RUNS = [
    " =1",
    "'=1",
    "\n=1",
    "\uff1d1",
    "\0x",
    "\u200b@x",
    "''-1",
    "=1+1",
    "+SUM(A1)",
    "-A1",
    "@x",
    "\tx",
    "\r=1",
    "=",
    "-",
    "+",
    "--1",
    "-1-1",
    "+1E",
    "-1,2,3",
    "-1\n",
    "=1",
]
HARMLESS = [
    "-12",
    "+3.5",
    "-0,5",
    "1E5",
    "-1E5",
    "+1.5e-10",
    "12",
    "0012",
    "a=b",
    "'x",
    "",
    "2-1",
    "x@y",
]


@pytest.mark.parametrize("cell", RUNS)
def test_a_cell_that_a_spreadsheet_would_run_gets_one_apostrophe(tmp_path: Path, cell: str) -> None:
    rows = [(A, "SN-1", "assign")]
    (row,) = records(written(tmp_path, [*KEYS, "note"], rows, [(*rows[0], cell)], raw=False))
    assert row["note"] == f"'{cell}"


@pytest.mark.parametrize("cell", HARMLESS)
def test_numbers_and_harmless_texts_are_not_guarded(tmp_path: Path, cell: str) -> None:
    rows = [(A, "SN-1", "assign")]
    (row,) = records(written(tmp_path, [*KEYS, "note"], rows, [(*rows[0], cell)], raw=False))
    assert row["note"] == cell


@settings(deadline=None)
@given(st.lists(OF_A_CELL, min_size=1, max_size=8))
@example(["'=1", "''=1", "'-SN2", "\u061c=1", "\ue000=1", "\U000e0041@x"])
def test_guarded_cells_run_no_formula_and_are_read_back_unchanged(
    tmp_path_factory: pytest.TempPathFactory, cells: list[str]
) -> None:
    rows = [(A, f"SN-{at}", "assign") for at in range(len(cells))]
    whole = [(*row, cell) for row, cell in zip(rows, cells, strict=True)]
    path = written(tmp_path_factory.mktemp("guarded"), [*KEYS, "note"], rows, whole, raw=False)
    notes = [row["note"] for row in records(path)]
    assert unguarded(pa.array(notes)).to_pylist() == cells
    assert not [note for note in notes if note.strip().startswith(("=", "@", "\uff1d", "\uff20"))]


def test_keys_and_headers_are_guarded_too(tmp_path: Path) -> None:
    rows = [("+a@x.com", "-SN", "assign")]
    path = written(tmp_path, [*KEYS, "=note"], rows, [(*rows[0], "")], raw=False)
    (row,) = records(path)
    assert (row["customerEmail"], row["deviceIdentifier"], row["'=note"]) == ("'+a@x.com", "'-SN", "")


def test_texts_from_the_api_are_guarded_too(tmp_path: Path) -> None:
    rows = [(A, "SN-1", "assign"), (A, "SN-2", "assign"), (A, "SN-2", "=HYPERLINK", "ACTION")]
    plan = planned(rows)
    ledger = Ledger(plan)
    results = {0: DeviceResult(Outcome.FAILED, "=dev", text="@no"), 1: DeviceResult(Outcome.FAILED)}
    settle(ledger, (1, Answer(results, "+cust", None, 200, 1, 0, 1e9)))
    one = ReportInput([file_of(KEYS, len(rows))], ledger.close("a signal came"))
    write_reconciliation(tmp_path / "r.csv", one, [block_of(keys_of(rows), [row[:3] for row in rows])])
    cells = [(row["action"], row["deviceId"], row["detail"], row["customerId"]) for row in records(tmp_path / "r.csv")]
    assert cells == [
        ("assign", "'=dev", "'@no", "'+cust"),
        ("assign", "", "", "'+cust"),
        ("'=HYPERLINK", "", "wrong: ACTION", ""),
    ]


@pytest.mark.parametrize("name", ["verified", "line", "httpStatus"])
def test_an_input_column_is_guarded_also_if_named_like_one_of_ours(tmp_path: Path, name: str) -> None:
    rows = [(A, "SN-1", "assign")]
    path = written(tmp_path, [*KEYS, name], rows, [(*rows[0], "=1+1")], raw=False)
    assert read(path)[1][-1] == "'=1+1"


@pytest.mark.parametrize("cells", [["", "=x"], ["=x", ""], ["", "", "=x", "", "x"], ["x", "", "=x"]])
def test_a_formula_among_empty_cells_is_found(tmp_path: Path, cells: list[str]) -> None:
    rows = [(A, f"SN-{at}", "assign") for at in range(len(cells))]
    whole = [(*row, cell) for row, cell in zip(rows, cells, strict=True)]
    path = written(tmp_path, [*KEYS, "note"], rows, whole, raw=False)
    assert [row["note"] for row in records(path)] == [cell.replace("=", "'=") for cell in cells]


def test_extra_columns_are_all_columns_but_the_keys() -> None:
    one = file_of(["Note", *KEYS, "note"])
    assert extra_columns([one]) == {0: [0, 4]}
    assert extra_columns([file_of(), file_of(["E-Mail", *KEYS[1:], "x"], customerEmail="E-Mail")]) == {0: [], 1: [3]}


# The attention file


TOLD = ["outcome", "detail", "sourceLine"]


def attention(folder: Path, file: InputFile, rows: Sequence[Row], cells: Sequence[Sequence[str]], **how: Any) -> Path:
    path = folder / "attention.csv"
    with path.open("wb") as out:
        write_attention(out, report_of(planned(rows), file, **how), [block_of(keys_of(rows), cells)])
    return path


def test_attention_has_only_rows_that_want_it_in_the_inputs_own_columns(tmp_path: Path) -> None:
    rows = [(A, "SN-1", "assign"), (A, "SN-2", "assign"), (A, "SN-3", "assign")]
    file = file_of(["Move", "E-Mail", "Serial"], customerEmail="E-Mail", deviceIdentifier="Serial", action="Move")
    cells = [("Issue", "A@X.COM ", f'="{device}"') for _, device, _ in rows]
    outcomes = [Outcome.ASSIGNED, Outcome.SKIPPED, Outcome.FAILED]
    assert read(attention(tmp_path, file, rows, cells, outcomes=outcomes)) == [
        ["Move", "E-Mail", "Serial", *TOLD],
        ["Issue", "A@X.COM ", '="SN-2"', "skipped", "", "3"],
        ["Issue", "A@X.COM ", '="SN-3"', "failed", "", "4"],
    ]


def test_outcome_and_detail_of_an_earlier_attention_file_are_replaced(tmp_path: Path) -> None:
    rows = [(A, "SN-1", "assign")]
    file = file_of([*KEYS, "outcome", "detail", "note"])
    path = attention(tmp_path, file, rows, [(*rows[0], "failed", "old", "mine")], outcomes=[Outcome.SKIPPED])
    assert read(path) == [[*KEYS, "note", *TOLD], [*rows[0], "mine", "skipped", "", "2"]]


def test_without_attention_rows_the_file_has_only_a_header(tmp_path: Path) -> None:
    rows = [(A, "SN-1", "assign")]
    assert read(attention(tmp_path, file_of(), rows, rows, outcomes=[Outcome.ASSIGNED])) == [[*KEYS, *TOLD]]


def test_a_row_of_the_wrong_width_has_blank_keys_in_the_attention_file(tmp_path: Path) -> None:
    rows = [(A, "SN-1", "assign", "CELL_COUNT")]
    (row,) = records(attention(tmp_path, file_of([*KEYS, "note"]), rows, [(*rows[0][:3], "mine")]))
    assert [row[key] for key in KEYS] == ["", "", ""]
    assert (row["note"], row["outcome"], row["detail"]) == ("mine", "invalid", "wrong: CELL_COUNT")


def read_back(path: Path) -> tuple[tuple[str, ...], list[RowBlock]]:
    """Return the header and the blocks of one of our files, as they are read back."""
    seen: list[RowBlock] = []
    options = InputOptions(allow_suspect=True, multiline_cells=True)
    (file,) = load([str(path)], options, spool=path.parent, sink=seen).files
    return file.header, seen


OF_A_HEADER = st.text(alphabet="'=+-@ \t\u200b\u061c\uff1d", max_size=6).map(lambda text: clean_header(f"{text}n"))


@pytest.mark.parametrize("raw", [False, True])
@settings(deadline=None)
@given(cells=st.lists(st.tuples(OF_A_CELL, OF_A_CELL), min_size=1, max_size=8), header=OF_A_HEADER)
@example(cells=[("'=1", "''=1"), ("'-SN2", "'''@x"), ("=1", "-5"), ("'-5", "' =x"), ("'", "''")], header="'=n")
def test_an_attention_file_is_read_back_with_every_cell_unchanged(
    tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[str, str]], header: str, *, raw: bool
) -> None:
    folder = tmp_path_factory.mktemp("fed")
    rows = [(A, f"SN-{at}", "assign") for at in range(len(cells))]
    whole = [(A, device, "assign", note) for device, note in cells]
    path = attention(folder, file_of([*KEYS, header]), rows, whole, outcomes=[Outcome.FAILED] * len(cells), raw=raw)
    names, blocks = read_back(path)
    assert names == (*KEYS, header, *ATTENTION_HEADERS)
    assert [pair for block in blocks for pair in zip(*block.cells.to_pydict().values(), strict=True)] == [
        (*row, "failed", "", str(line)) for line, row in enumerate(whole, start=2)
    ]


# The undo file


def test_undo_is_the_inverse_of_all_changes_the_last_first(tmp_path: Path) -> None:
    rows = [(A, "SN-1", "assign"), (A, "SN-2", "assign"), (A, "SN-3", "assign"), (B, "SN-4", "assign")]
    outcomes = [Outcome.ASSIGNED, Outcome.ALREADY_ASSIGNED, Outcome.ASSIGNED, Outcome.ASSIGNED]
    blocks = [block_of(keys_of(rows[2:]), rows[2:]), block_of(keys_of(rows[:2]), rows[:2])]
    path = tmp_path / "undo.csv"
    assert write_undo(path, report_of(planned(rows), file_of(), outcomes=outcomes), blocks) == 3
    assert read(path) == [[*KEYS], [B, "SN-4", "unassign"], [A, "SN-3", "unassign"], [A, "SN-1", "unassign"]]


def test_running_undo_restores_the_state_before_the_run(tmp_path: Path) -> None:
    rows = [(A, "SN-1", "unassign"), (B, "SN-1", "assign"), (B, "SN-1", "unassign"), (C, "SN-1", "assign")]
    outcomes = [Outcome.UNASSIGNED, Outcome.ASSIGNED, Outcome.UNASSIGNED, Outcome.ASSIGNED]
    path = tmp_path / "undo.csv"
    write_undo(path, report_of(planned(rows), file_of(), outcomes=outcomes), [block_of(keys_of(rows), rows)])
    back = planned([tuple(row) for row in read(path)[1:]])
    steps = [(back.call(number).customer, str(back.call(number).action)) for number in range(1, back.calls + 1)]
    assert steps == [(C, "unassign"), (B, "assign"), (B, "unassign"), (A, "assign")]


@pytest.mark.parametrize("raw", [False, True])
@settings(deadline=None)
@given(cells=st.lists(OF_A_CELL, min_size=1, max_size=8))
@example(cells=["'=1", "''x", "=A1", "-SN", "SN-1", '="\'-SN2"', "'" * 4 + "=1", "'" * 127 + "x" + "'" * 127])
def test_undo_is_read_back_with_the_same_devices_also_of_a_raw_report(
    tmp_path_factory: pytest.TempPathFactory, cells: list[str], *, raw: bool
) -> None:
    folder = tmp_path_factory.mktemp("undo")
    devices = normalize(pa.array([f"{cell}9" for cell in cells])).to_pylist()  # as they were sent
    rows = [(A, device, "assign") for device in dict.fromkeys(devices)]
    one = report_of(planned(rows), file_of(), raw=raw, outcomes=[Outcome.ASSIGNED] * len(rows))
    write_undo(folder / "undo.csv", one, [block_of(keys_of(rows), rows)])
    _, blocks = read_back(folder / "undo.csv")
    sent = [device for block in blocks for device in block.keys["deviceIdentifier"].to_pylist()]
    assert sent == [device for _, device, _ in reversed(rows)]


def test_without_sure_changes_undo_has_only_a_header(tmp_path: Path) -> None:
    rows = [(A, "SN-1", "assign"), (A, "SN-1", "assign"), ("?", "SN-2", "assign", "EMAIL")]
    path = tmp_path / "undo.csv"
    assert write_undo(path, report_of(planned(rows), file_of()), [block_of(keys_of(rows), rows)]) == 0
    assert read(path) == [[*KEYS]]


# Several files


@pytest.fixture
def two_files() -> tuple[ReportInput, list[RowBlock]]:
    """A file with our headers and a note, and one with other headers and a place."""
    first, second = [(A, "SN-1", "assign")], [(B, "SN-2", "unassign")]
    own = {"customerEmail": "Mail", "deviceIdentifier": "Serial", "action": "Move"}
    one = file_of([*KEYS, "note"], name="one.csv")
    two = file_of(["Place", "Serial", "Move", "Mail"], name="two.csv", **own)
    blocks = [
        block_of(keys_of(first), [(A, "SN-1", "assign", "mine")], 0),
        block_of(keys_of(second), [("Ulm", "SN-2", "return", "B@X.com")], 1),
    ]
    return report_of(planned(first, second), one, two), blocks


def test_the_reconciliation_of_several_files_names_the_file_and_joins_columns(
    tmp_path: Path, two_files: tuple[ReportInput, list[RowBlock]]
) -> None:
    path = tmp_path / "reconciliation.csv"
    write_reconciliation(path, *two_files)
    header, *rows = read(path)
    assert header == ["file", *OURS, "note", "Place"]
    assert [[*row[:4], *row[-2:]] for row in rows] == [
        ["one.csv", "2", A, "SN-1", "mine", ""],
        ["two.csv", "2", B, "SN-2", "", "Ulm"],
    ]


def test_the_attention_file_of_several_files_can_be_read_back(
    tmp_path: Path, two_files: tuple[ReportInput, list[RowBlock]]
) -> None:
    path = tmp_path / "attention.csv"
    with path.open("wb") as file:
        assert write_attention(file, *two_files) == 2
    header, one, two = read(path)
    assert header == [*KEYS, "note", "Place", *TOLD]
    assert (one[-1], two[-1]) == ("one.csv:2", "two.csv:2")
    assert (one[:5], two[:5]) == ([A, "SN-1", "assign", "mine", ""], ["B@X.com", "SN-2", "return", "", "Ulm"])


def test_undo_covers_several_files_the_last_first(tmp_path: Path) -> None:
    first, second = [(A, "SN-1", "assign")], [(B, "SN-2", "assign")]
    both = report_of(planned(first, second), file_of(), file_of(), outcomes=[Outcome.ASSIGNED] * 2)
    path = tmp_path / "undo.csv"
    write_undo(path, both, [block_of(keys_of(second), second, 1), block_of(keys_of(first), first, 0)])
    assert [row[0] for row in read(path)[1:]] == [B, A]


# Whole or not at all


def failing(block: RowBlock, error: Exception) -> Iterator[RowBlock]:
    yield block
    raise error


def test_a_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    rows = [(A, "SN-1", "assign")]
    assert written(tmp_path, KEYS, rows, rows).stat().st_mode & 0o777 == 0o600


def test_a_full_disk_leaves_only_the_old_file(tmp_path: Path) -> None:
    rows = [(A, "SN-1", "assign"), (A, "SN-2", "assign")]
    path = tmp_path / "reconciliation.csv"
    path.write_text("old")
    full = OSError(28, "No space left on device")
    with pytest.raises(DiskError, match=r"cannot write .*reconciliation\.csv \(No space left on device\); make room"):
        write_reconciliation(
            path, report_of(planned(rows), file_of()), failing(block_of(keys_of(rows[:1]), rows[:1]), full)
        )
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]


def test_a_bug_while_writing_leaves_the_old_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "undo.csv"
    path.write_text("old")
    rows = [(A, "SN-1", "assign")]
    with pytest.raises(ZeroDivisionError):
        write_undo(
            path, report_of(planned(rows), file_of()), failing(block_of(keys_of(rows), rows), ZeroDivisionError())
        )
    assert path.read_text() == "old"


def test_a_file_gets_its_name_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "new.csv"
    with atomic_write(path) as file:
        file.write(b"half")
        file.flush()
        assert not path.exists()
    assert path.read_bytes() == b"half"
    assert [*tmp_path.iterdir()] == [path]


def test_a_temporary_file_of_a_killed_process_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new.csv"
    (tmp_path / ".new.csv.new").write_bytes(b"of a process that died, and longer")
    with atomic_write(path) as file:
        file.write(b"whole")
    assert path.read_bytes() == b"whole"
    assert [*tmp_path.iterdir()] == [path]


def test_a_missing_folder_is_named_in_the_error(tmp_path: Path) -> None:
    with (
        pytest.raises(DiskError, match=r"cannot write .* \(No such file or directory\)"),
        atomic_write(tmp_path / "a" / "b"),
    ):
        pass


def test_a_private_folder_is_created_for_its_owner_and_may_exist(tmp_path: Path) -> None:
    folder = make_private_dir(tmp_path / "reports" / "r1")
    assert make_private_dir(folder) == folder
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_created_is_an_error_with_advice(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"name a folder that can be written to"):
        make_private_dir(tmp_path / "file" / "r1")
