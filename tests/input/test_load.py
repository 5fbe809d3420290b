"""Loading: which files are read as rows, which are refused, and that no row is lost."""

import codecs
import gzip
import hashlib
import io
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from telemetron_batch.domain.actions import Action
from telemetron_batch.domain.errors import BatchError, ConfigError, DiskError, InputError, UnbalancedError
from telemetron_batch.domain.model import InputFile, InputOptions, Problem
from telemetron_batch.input import record_source, source_file, text_reader
from telemetron_batch.input.load import Loaded, load
from telemetron_batch.rows.rows import KEY_SCHEMA, RowBlock
from tests.input.test_record_scanner import machine

PLAIN = InputOptions()
HEADER = "customerEmail,deviceIdentifier,action\n"
ROW = "a@b.cc,S1,assign\n"


class Reading:
    """One reading of some files, with the blocks that came out of it."""

    def __init__(self, folder: Path, *paths: Path | str, options: InputOptions = PLAIN) -> None:
        self.blocks: list[RowBlock] = []
        self.loaded: Loaded = load([str(path) for path in paths], options, spool=folder / "spool", sink=self.blocks)
        for block in self.blocks:
            block.keys.validate(full=True)
            block.cells.validate(full=True)
            assert block.keys.schema == KEY_SCHEMA
            assert block.keys.num_rows == block.cells.num_rows > 0
        assert sum(file.rows for file in self.loaded.files) == len(self.loaded.rows)
        assert sum(block.keys.num_rows for block in self.blocks) == len(self.loaded.rows)

    @property
    def file(self) -> InputFile:
        return self.loaded.files[0]

    def column(self, name: str) -> list[object]:
        return [cell for block in self.blocks for cell in block.keys[name].to_pylist()]

    @property
    def cells(self) -> list[list[str]]:
        return [
            [column[at].as_py() for column in block.cells.columns]
            for block in self.blocks
            for at in range(block.cells.num_rows)
        ]

    @property
    def devices(self) -> list[object]:
        return self.column("deviceIdentifier")

    @property
    def problems(self) -> list[object]:
        return self.column("problem")


def read(folder: Path, content: str | bytes, options: InputOptions = PLAIN, name: str = "erp.csv") -> Reading:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return Reading(folder, path, options=options)


def refusal(folder: Path, content: str | bytes, options: InputOptions = PLAIN, name: str = "erp.csv") -> str:
    with pytest.raises(InputError) as caught:
        read(folder, content, options, name)
    text = str(caught.value)
    assert "\n" not in text
    assert name in text
    return text


# What is read


def test_rows_come_with_lines_keys_and_all_cells_as_written(tmp_path: Path) -> None:
    text = "Note,Email,Serial No,Movement\nx ,A@B.cc, 0012 ,Return\n" + '"a, ""b""",d@e.ff,NA,assign'
    reading = read(tmp_path, text)
    assert reading.column("line") == [2, 3]
    assert reading.column("customerEmail") == ["a@b.cc", "d@e.ff"]
    assert reading.devices == ["0012", "NA"]
    assert reading.column("action") == [Action.UNASSIGN.code, Action.ASSIGN.code]
    assert reading.column("actionWord") == ["Return", "assign"]
    assert reading.cells == [["x ", "A@B.cc", " 0012 ", "Return"], ['a, "b"', "d@e.ff", "NA", "assign"]]


def test_a_file_is_described_by_name_hash_header_and_mapping(tmp_path: Path) -> None:
    content = b"Report\n\nE-Mail;Serial No;Action\na@b.cc;S1;assign\n"
    file = read(tmp_path, content).file
    assert (file.name, file.path) == ("erp.csv", str(tmp_path / "erp.csv"))
    assert file.sha256 == hashlib.sha256(content).hexdigest()
    assert (file.rows, file.header, file.header_line) == (1, ("E-Mail", "Serial No", "Action"), 3)
    assert (file.encoding, file.delimiter, file.warnings) == ("utf-8", ";", ())
    assert file.columns == {"customerEmail": "E-Mail", "deviceIdentifier": "Serial No", "action": "Action"}


def test_without_a_sink_only_the_rows_come_back(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(HEADER + ROW)
    assert len(load([str(tmp_path / "a.csv")], PLAIN, spool=tmp_path).rows) == 1


def test_several_files_make_one_list_of_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(HEADER + ROW * 2)
    (tmp_path / "b.txt").write_text("action\tMAC\tE-Mail\nreturn\tM1\tx@y.z\n")
    reading = Reading(tmp_path, tmp_path / "a.csv", tmp_path / "b.txt")
    everything = np.arange(3)
    assert reading.loaded.rows.files_of(everything).tolist() == [0, 0, 1]
    assert reading.loaded.rows.lines_of(everything).tolist() == [2, 3, 2]
    assert [file.delimiter for file in reading.loaded.files] == [",", "\t"]


@pytest.mark.parametrize(
    ("mark", "codec", "name"),
    [
        (codecs.BOM_UTF8, "utf-8", "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16-le", "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be", "utf-16-be"),
        (b"", "utf-16-le", "utf-16-le"),
        (b"", "utf-16-be", "utf-16-be"),
        (b"", "utf-8", "utf-8"),
    ],
)
def test_a_byte_order_mark_does_not_hide_the_first_column(tmp_path: Path, mark: bytes, codec: str, name: str) -> None:
    reading = read(tmp_path, mark + (HEADER + "a@b.cc,Ünï-1,assign\n").encode(codec))
    assert reading.file.encoding == name
    assert reading.file.header[0] == "customerEmail"
    assert (reading.devices, reading.problems) == (["Ünï-1"], [0])


def test_a_file_that_is_not_utf8_is_read_as_windows_1252_with_a_warning(tmp_path: Path) -> None:
    text = "Note,Email,Serial,action\nMüller,a@b.cc,S1,assign\nx,ü@b.cc,S2,assign\nx,a@b.cc,S3é,assign\n"
    reading = read(tmp_path, text.encode("cp1252"))
    assert reading.file.encoding == "windows-1252"
    assert "byte 26" in reading.file.warnings[0]
    assert reading.cells[0][0] == "Müller"
    assert reading.problems == [0, Problem.ENCODING, Problem.ENCODING]


def test_the_bytes_windows_1252_leaves_undefined_do_not_stop_the_file(tmp_path: Path) -> None:
    reading = read(tmp_path, b"Email,Serial,action,Note\na@b.cc,S1,assign,\x81\x8d\x8f\x90\x9d\x80\n")
    assert reading.cells[0][3] == "\x81\x8d\x8f\x90\x9d€"
    assert reading.problems == [0]


def test_a_letter_far_down_decides_the_encoding_of_the_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_file, "CHUNK_BYTES", 64)
    reading = read(tmp_path, (HEADER + ROW * 20 + "é@b.cc,S2,assign\n").encode("cp1252"))
    assert reading.file.encoding == "windows-1252"
    assert f"byte {len(HEADER + ROW * 20)}" in reading.file.warnings[0]


def test_a_requested_encoding_wins(tmp_path: Path) -> None:
    content = (HEADER + "ü@b.cc,S1,assign\n").encode("cp850")
    reading = read(tmp_path, content, InputOptions(encoding="cp850"))
    assert (reading.file.encoding, reading.file.warnings) == ("cp850", ())
    assert (reading.column("customerEmail"), reading.problems) == (["ü@b.cc"], [0])
    assert read(tmp_path, content, InputOptions(encoding="windows-1252")).problems == [Problem.CONTROL]


def test_a_requested_encoding_that_contradicts_the_byte_order_mark_gives_a_warning(tmp_path: Path) -> None:
    reading = read(tmp_path, codecs.BOM_UTF8 + b"x\n" + (HEADER + ROW).encode(), InputOptions(encoding="cp1252"))
    assert "first bytes say utf-8-sig" in reading.file.warnings[0]
    quiet = read(tmp_path, codecs.BOM_UTF16_LE + (HEADER + ROW).encode("utf-16-le"), InputOptions(encoding="utf-16"))
    assert quiet.file.warnings == ()


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "utf-16"])
def test_a_file_that_is_not_in_the_requested_encoding_is_refused(tmp_path: Path, encoding: str) -> None:
    content = (HEADER + "é@b.cc,S1,assign\n").encode("cp1252") + b"\n" * 2
    assert f"is not {encoding}" in refusal(tmp_path, content[:-1], InputOptions(encoding=encoding))


def test_a_file_with_a_wrong_byte_order_mark_is_refused(tmp_path: Path) -> None:
    assert "is not utf-8-sig (byte 4)" in refusal(tmp_path, codecs.BOM_UTF8 + b"x\xff\n")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
def test_all_line_ends_are_read_also_a_missing_last_one(tmp_path: Path, end: str, last: bool) -> None:
    text = (HEADER + ROW + '"x@y.zz","S2","return"').replace("\n", end) + (end if last else "")
    reading = read(tmp_path, text)
    assert reading.devices == ["S1", "S2"]
    assert reading.column("line") == [2, 3]


def test_blank_records_and_a_final_ctrl_z_are_no_rows_but_count_as_lines(tmp_path: Path) -> None:
    text = HEADER + "\n" + ROW + ',,\n \t\n"","",""\n,,,,\n\u00a0,\u200b,\n' + ROW + "\r\n\x1a\x1a"
    reading = read(tmp_path, text)
    assert reading.column("line") == [3, 9]
    assert reading.problems == [0, 0]
    assert read(tmp_path, HEADER + ROW + "a@b.cc,S2,assign\x1a").devices == ["S1", "S2"]


def test_surplus_empty_cells_at_the_end_are_dropped(tmp_path: Path) -> None:
    reading = read(tmp_path, HEADER + "a@b.cc,S1,assign,\r\na@b.cc,S2,assign,,,\na@b.cc,S3,assign, ,\n")
    assert reading.devices == ["S1", "S2", "S3"]
    assert reading.problems == [0, 0, 0]


def test_a_record_of_the_wrong_width_is_invalid_in_its_place_and_never_shifted(tmp_path: Path) -> None:
    text = HEADER + ROW + "a@b.cc,S2\n" + 'a@b.cc,S3,assign,"extra, ""x""",y\n' + "\n" + "a@b.cc,S4,assign\n"
    reading = read(tmp_path, text)
    assert reading.column("line") == [2, 3, 4, 6]
    assert reading.devices == ["S1", "", "", "S4"]
    assert reading.problems == [0, Problem.CELL_COUNT, Problem.CELL_COUNT, 0]
    assert reading.cells[1] == ["a@b.cc", "S2", ""]
    details = reading.column("detail")
    assert str(details[1]).startswith("2 cells where the header has 3")
    assert str(details[2]).endswith('"a@b.cc,S3,assign,extra, "x",y"')


def test_a_row_may_end_before_columns_without_a_name(tmp_path: Path) -> None:
    reading = read(tmp_path, "Email;Serial;action;;\na@b.cc;S1;assign\na@b.cc;S2;assign;note;\na@b.cc;S3\n")
    assert reading.cells[:2] == [["a@b.cc", "S1", "assign", "", ""], ["a@b.cc", "S2", "assign", "note", ""]]
    assert reading.problems == [0, 0, Problem.CELL_COUNT]


@pytest.mark.parametrize("last", ["Total;2;", "T1;63", "Total;;;;10,700.74"])
def test_a_trailer_is_skipped(tmp_path: Path, last: str) -> None:
    reading = read(tmp_path, "Email;Serial;action\na@b.cc;S1;assign\n" + last + "\n;;\n\n")
    assert (reading.problems, reading.file.rows, reading.file.record_count) == ([0], 1, 1)
    text = " ".join(filter(None, last.split(";")))
    told = "1 line is no row and is passed over: a header again, a footer, a closing line or a page break"
    assert reading.file.warnings == (f'{told} (first on line 3; the last one is "{text}")',)


@pytest.mark.parametrize("name", ["Email", "E-MAIL (name@example.com) *", "Owner required"])
def test_a_header_further_down_is_skipped_and_bad_rows_beside_it_are_not(tmp_path: Path, name: str) -> None:
    bad = "a@b.cc;S1;move\n" * 3
    reading = read(tmp_path, f"{name};Serial;action\n{bad}{name};Serial;action\n{bad}")
    assert reading.problems == [Problem.ACTION] * 6
    assert reading.file.warnings[0].startswith("1 line is no row and is passed over")


def test_a_header_with_an_address_as_its_name_is_skipped_further_down(tmp_path: Path) -> None:
    options = InputOptions(columns={"customerEmail": "Me@b.cc"})
    header = "Me@b.cc;Serial;action\n"
    reading = read(tmp_path, f"{header}a@b.cc;S1;assign\n{header}a@b.cc;S2;move\n", options)
    assert reading.problems == [0, Problem.ACTION]


@pytest.mark.parametrize("last", ["Total;2;;;a@b.cc", "Total;2;x", "Total;2;\na@b.cc;S2;assign"])
def test_a_line_with_other_text_or_before_the_last_one_is_no_trailer(tmp_path: Path, last: str) -> None:
    reading = read(tmp_path, "Email;Serial;action\na@b.cc;S1;assign\n" + last + "\n")
    assert len(reading.problems) == 2 + last.count("\n")
    assert reading.problems[1] != 0


def test_a_file_of_a_trailer_alone_has_no_rows(tmp_path: Path) -> None:
    assert read(tmp_path, "Email;Serial;action\nTotal;0;\n").file.rows == 0


COUNTED = InputOptions(trailer_count="(?:T1,|Total;)([0-9.,' ]*)")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (HEADER + ROW * 2 + "T1,2\n", 4),
        (HEADER + ROW * 2 + "T1,2", 4),
        (HEADER + ROW * 2 + '"T1","2"\n\n,,\n\x1a', 4),
        (HEADER + ROW * 2 + "T1,2,,,,\n", 4),
        (HEADER + ROW * 2 + "T1,2,x,y,z\n", 4),
        (HEADER.replace(",", ";") + ROW.replace(",", ";") * 2 + "\nTotal;2;\n", 5),
    ],
)
def test_a_counted_trailer_is_no_row_and_its_number_is_kept(tmp_path: Path, content: str, line: int) -> None:
    reading = read(tmp_path, content, COUNTED)
    assert (reading.devices, reading.problems) == (["S1", "S1"], [0, 0])
    assert (reading.file.rows, reading.file.trailer_count) == (2, 2)
    assert f"on line {line} is taken as the trailer, no row; it says 2 rows" in reading.file.warnings[0]


@pytest.mark.parametrize("number", ["10.700", "10,700", "10'700", "10 700", "0010700"])
def test_the_number_of_a_trailer_may_be_grouped(tmp_path: Path, number: str) -> None:
    assert read(tmp_path, HEADER + ROW + f"T1,{number}\n", COUNTED).file.trailer_count == 10700


def test_a_trailer_alone_in_its_block_is_no_row_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_file, "CHUNK_BYTES", len(ROW))
    reading = read(tmp_path, HEADER + ROW * 3 + "T1,3\n" + "\n" * 40, COUNTED)
    assert (len(reading.loaded.rows), reading.file.trailer_count) == (3, 3)
    assert read(tmp_path, HEADER + "T1,0\n", COUNTED).file.rows == 0


@pytest.mark.parametrize("content", [HEADER + ROW, HEADER + "T1,1\n" + ROW, HEADER, ""])
def test_a_file_without_its_trailer_may_be_cut_short_and_is_refused(tmp_path: Path, content: str) -> None:
    assert "no trailer as --trailer-count describes it: the last line is" in refusal(tmp_path, content, COUNTED)


def test_a_trailer_without_a_number_is_refused(tmp_path: Path) -> None:
    assert 'has " " for the number of rows' in refusal(tmp_path, HEADER + ROW + "T1, \n", COUNTED)


def test_without_a_pattern_no_trailer_is_counted(tmp_path: Path) -> None:
    assert read(tmp_path, HEADER + ROW).file.trailer_count is None


def test_a_date_far_down_is_compared_with_the_first_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_file, "CHUNK_BYTES", 60)
    reading = read(tmp_path, HEADER + ROW * 9 + "a@b.cc,Mar-12,assign\n" * 9)
    assert reading.problems == [0] * 9 + [Problem.DAMAGED] * 9
    reading = read(tmp_path, HEADER + "a@b.cc,Mar-12,assign\n" * 9 + ROW * 20)
    assert reading.problems == [0] * 29


def test_serials_that_may_have_lost_zeros_are_sent_with_a_warning(tmp_path: Path) -> None:
    lines = "".join(f"a@b.cc,{serial},assign\n" for serial in (*range(100_000, 100_020), 777))
    reading = read(tmp_path, HEADER + lines + "Total,99,\n")
    assert reading.problems == [0] * 21
    assert reading.file.warnings[0].startswith("1 serial of digits is shorter than the usual 6 (first on line 22)")


def test_files_of_one_name_are_distinguished_by_their_paths(tmp_path: Path) -> None:
    paths = [tmp_path / place / "erp.csv" for place in ("north", "south")]
    for path in (*paths, tmp_path / "x.csv"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(HEADER + ROW)
    names = [file.name for file in Reading(tmp_path, *paths, tmp_path / "x.csv").loaded.files]
    assert names == [str(paths[0]), str(paths[1]), "x.csv"]


def test_a_trailer_above_the_last_line_is_an_invalid_row(tmp_path: Path) -> None:
    assert read(tmp_path, HEADER + "Total,2,\n" + ROW).problems == [Problem.EMPTY_KEY, 0]


def test_a_nul_byte_makes_only_its_own_row_invalid(tmp_path: Path) -> None:
    reading = read(tmp_path, HEADER + "a@b.cc,S\0 1,assign\n" + ROW)
    assert reading.problems == [Problem.CONTROL, 0]


def test_a_byte_order_mark_in_mid_file_stays_in_its_cell(tmp_path: Path) -> None:
    reading = read(tmp_path, HEADER + '\ufeff"a@b.cc",S1,assign\n' + "\ufeffa@b.cc,S2,assign\n")
    assert reading.cells[0][0] == '\ufeff"a@b.cc"'
    assert reading.problems == [Problem.EMAIL, 0]


def test_an_action_for_all_rows_and_device_types_reach_the_rows(tmp_path: Path) -> None:
    options = InputOptions(action=Action.ASSIGN, auto_create_devices=True)
    reading = read(tmp_path, "Email,Serial,Type,Movement\na@b.cc,S1,lock,return\na@b.cc,S2,,\n", options)
    assert reading.column("action") == [Action.ASSIGN.code] * 2
    assert reading.column("deviceType") == ["lock", ""]
    assert reading.problems == [0, Problem.DEVICE_TYPE]
    assert "Movement" in reading.file.warnings[0]


# Quotes


def test_a_quoted_cell_may_span_lines(tmp_path: Path) -> None:
    text = 'Email,Serial,action,Note\na@b.cc,S1,assign,"one\ntwo, with comma\r\nthree"\nx@y.z,S2,return,\n'
    reading = read(tmp_path, text)
    assert reading.column("line") == [2, 5]
    assert reading.cells[0][3] == "one\ntwo, with comma\r\nthree"


SWALLOWED = (
    'Email,Serial,action,Note\na@b.cc,S1,assign,"5 inch\nc@d.ee,S2,assign,x\n'
    'e@f.gg,S3,assign,"7 inch\ng@h.ii,S4,assign,y\n'
)


def test_a_quoted_cell_that_has_swallowed_rows_is_refused_with_its_line(tmp_path: Path) -> None:
    text = refusal(tmp_path, SWALLOWED)
    assert "the quote that opens on line 2 has swallowed" in text
    assert '"c@d.ee,S2,assign,x"' in text
    assert "--multiline-cells" in text


def test_a_swallowed_row_is_found_where_all_cells_are_quoted(tmp_path: Path) -> None:
    text = '"Email","Serial","action","Note"\n\n"a@b.cc","S1","assign","5 inch\n"c@d.ee","S2","assign","x"\n'
    assert "line 3 has swallowed" in refusal(tmp_path, text)


def test_a_known_action_alone_shows_a_swallowed_row(tmp_path: Path) -> None:
    text = "Email,Serial,action,Note\n" + 'a@b.cc,S1,assign,"x\nKUNDE 5,S2,return,\ny"\n'
    assert "has swallowed" in refusal(tmp_path, text)


def test_multiline_cells_allows_rows_inside_a_cell(tmp_path: Path) -> None:
    reading = read(tmp_path, SWALLOWED, InputOptions(multiline_cells=True))
    assert reading.devices == ["S1", "S4"]
    assert reading.cells[0][3].startswith("5 inch\nc@d.ee,S2")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (HEADER + ROW + 'a@b.cc,"S2,assign\n', 3),
        (HEADER + '"a\nb",S1,"assign\n', 3),
        (HEADER + 'a@b.cc,5" S,assign\n\na@b.cc,"S2,assign', 4),
        (HEADER + '"', 2),
    ],
)
@pytest.mark.parametrize("multiline", [True, False])
def test_a_quote_never_closed_is_refused_with_its_line(tmp_path: Path, text: str, line: int, multiline: bool) -> None:
    options = InputOptions(multiline_cells=multiline)
    assert f"the quote that opens on line {line} is never closed" in refusal(tmp_path, text, options)


def test_a_quote_that_swallows_a_large_file_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_file, "CHUNK_BYTES", 100)
    text = refusal(tmp_path, HEADER + ROW + 'a@b.cc,"S2,assign\n' + ROW * 50)
    assert "line 3 has swallowed" in text


def test_an_endless_record_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_file, "CHUNK_BYTES", 100)
    monkeypatch.setattr(text_reader, "MAX_RECORD_BYTES", 500)
    options = InputOptions(multiline_cells=True)
    assert "line 3 is never closed" in refusal(tmp_path, HEADER + ROW + 'a@b.cc,"' + "x" * 1000, options)
    assert "line 3 is longer than" in refusal(tmp_path, HEADER + ROW + "a@b.cc," + "x" * 1000, options)


# What is refused


@pytest.mark.parametrize("content", [b"", b"\n\r\n  \n", codecs.BOM_UTF8, codecs.BOM_UTF16_LE, b"\x1a"])
def test_an_empty_file_has_no_rows_and_no_header(tmp_path: Path, content: bytes) -> None:
    reading = read(tmp_path, content)
    assert (len(reading.loaded.rows), reading.file.header, reading.file.columns) == (0, (), {})
    assert reading.file.warnings == ("the file is empty",)


def test_a_header_without_rows_has_no_rows(tmp_path: Path) -> None:
    for text in (HEADER, HEADER[:-1], HEADER + "\n,,\n\x1a"):
        reading = read(tmp_path, text)
        assert (len(reading.loaded.rows), reading.file.header_line) == (0, 1)


def test_a_missing_file_a_folder_and_a_locked_file_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        Reading(tmp_path, tmp_path / "none.csv")
    with pytest.raises(InputError, match="is a folder"):
        Reading(tmp_path, tmp_path)

    def locked(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", locked)
    (tmp_path / "erp.csv").touch()
    with pytest.raises(InputError, match="cannot be read \\(Permission denied\\)"):
        Reading(tmp_path, tmp_path / "erp.csv")


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        (b"abc", "erp.csv.gz", "is not gzip"),
        (gzip.compress(HEADER.encode() * 9, mtime=0)[:-9], "erp.csv.gz", "broken gzip"),
        (b"\x1f\x8b\x08\0abcdefghijk", "erp.csv.gz", "broken gzip"),
        (b"\x1f\x8bxyz" + b"x" * 20, "erp.csv", "broken gzip"),
        (b"PK\x03\x04 something", "erp.csv", "cannot be read as a workbook"),
        (b"PK\x03\x04 something", "erp.xlsx", "cannot be read as a workbook"),
        (HEADER.encode(), "erp.xlsx", "is not a workbook"),
        (b"", "erp.xlsx", "is not a workbook"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "erp.xls", "old workbook"),
    ],
)
def test_a_file_that_is_not_what_it_seems_is_refused(tmp_path: Path, content: bytes, name: str, words: str) -> None:
    assert words in refusal(tmp_path, content, name=name)


def test_a_broken_end_of_a_gzip_file_is_refused_in_mid_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_file, "_first_bad_byte", lambda _: None)
    monkeypatch.setattr(record_source, "_HEADER_BYTES", 60)
    monkeypatch.setattr(source_file, "CHUNK_BYTES", 500)
    lines = "".join(f"a@b.cc,{os.urandom(8).hex()},assign\n" for _ in range(2000))
    assert "broken gzip" in refusal(tmp_path, gzip.compress((HEADER + lines).encode())[:-500], name="erp.csv.gz")


def test_an_error_in_the_header_names_the_file(tmp_path: Path) -> None:
    assert "erp.csv: no header with customerEmail" in refusal(tmp_path, "a,b,c\n")


def test_a_wrong_option_is_not_reported_as_an_error_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no encoding"):
        read(tmp_path, HEADER, InputOptions(encoding="klingon"))


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "erp.csv"
    path.write_text(HEADER + ROW)

    class Growing(list[RowBlock]):
        def append(self, _: RowBlock) -> None:
            with path.open("a") as file:
                file.write(ROW)

    with pytest.raises(InputError, match="changed while it was read"):
        load([str(path)], PLAIN, spool=tmp_path, sink=Growing())


def test_an_error_in_the_sink_is_not_reported_as_an_error_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "erp.csv").write_text(HEADER + ROW)

    class Full(list[RowBlock]):
        def append(self, _: RowBlock) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        load([str(tmp_path / "erp.csv")], PLAIN, spool=tmp_path, sink=Full())


def test_a_file_with_rounded_serials_is_read_twice_and_its_rows_are_kept_once(tmp_path: Path) -> None:
    rounded = "".join(f"a@x.com,8944500102198{number}0000,assign\n" for number in range(10, 30))
    (tmp_path / "damaged.csv").write_text(HEADER + rounded)
    (tmp_path / "good.csv").write_text(HEADER + ROW)
    blocks: list[RowBlock] = []
    paths = [str(tmp_path / name) for name in ("good.csv", "damaged.csv", "good.csv")]
    loaded = load(paths, PLAIN, spool=tmp_path, sink=blocks)
    assert [file.rows for file in loaded.files] == [1, 20, 1]
    assert [(block.file, block.keys.num_rows) for block in blocks] == [(0, 1), (1, 20), (2, 1)]
    assert np.count_nonzero(loaded.rows.problem) == 20


def test_different_counts_of_scanner_and_parser_are_an_unbalanced_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = pa.csv.read_csv
    monkeypatch.setattr(pa.csv, "read_csv", lambda *all_: truth(*all_).slice(1))
    with pytest.raises(UnbalancedError, match="the parser found 0 records, the scanner 1"):
        read(tmp_path, HEADER + ROW)

    def refuse(*_: object) -> None:
        raise pa.ArrowInvalid("Expected 3 columns")

    monkeypatch.setattr(pa.csv, "read_csv", refuse)
    with pytest.raises(UnbalancedError, match="refused what the scanner had counted"):
        read(tmp_path, HEADER + ROW)


# Where it comes from


@pytest.mark.parametrize("name", ["erp.csv.gz", "erp.txt.GZ", "erp.csv"])
def test_a_gzip_file_is_read_and_hashed_as_stored(tmp_path: Path, name: str) -> None:
    content = gzip.compress((HEADER + ROW).encode()) + gzip.compress(b"a@b.cc,S2,assign\n")
    reading = read(tmp_path, content, name=name)
    assert reading.devices == ["S1", "S2"]
    assert reading.file.sha256 == hashlib.sha256(content).hexdigest()


def stdin(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))


@pytest.mark.parametrize("packed", [True, False])
def test_standard_input_is_copied_to_the_spool_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    content = (HEADER + ROW).encode()
    stdin(monkeypatch, gzip.compress(content) if packed else content)
    reading = Reading(tmp_path, "-")
    assert (reading.file.name, reading.devices) == ("stdin", ["S1"])
    assert reading.file.path == str(tmp_path / "spool" / "stdin")
    assert Path(reading.file.path).stat().st_mode & 0o777 == 0o600
    assert replace(Reading(tmp_path, reading.file.path).file, written=None) == reading.file


def test_standard_input_is_named_in_errors_and_cannot_be_given_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin(monkeypatch, b"a,b\n")
    with pytest.raises(InputError, match=r"^standard input: no header"):
        Reading(tmp_path, "-")
    with pytest.raises(InputError, match="named twice"):
        Reading(tmp_path, "-", "-")


def test_a_spool_folder_that_cannot_be_written_is_a_disk_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, b"")
    (tmp_path / "spool").write_text("in the way")
    with pytest.raises(DiskError, match="cannot be kept"):
        Reading(tmp_path, "-")


def test_a_pipe_is_copied_like_standard_input(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(HEADER + ROW,))
    writer.start()
    reading = Reading(tmp_path, pipe)
    writer.join()
    assert (reading.file.name, reading.devices) == ("pipe", ["S1"])


# However it is cut


def test_a_record_larger_than_a_block_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_file, "CHUNK_BYTES", 1000)
    big = "x, \n" * 3000
    reading = read(tmp_path, "Note,Email,Serial,action\n" + f'"{big}",a@b.cc,S1,assign\ny,a@b.cc,S2,add\n')
    assert reading.devices == ["S1", "S2"]
    assert reading.column("line") == [2, 3003]


def test_a_very_wide_file_is_read(tmp_path: Path) -> None:
    names = [f"c{at}" for at in range(5000)]
    text = ",".join([*names, "Email", "Serial", "action"]) + "\n" + ",".join(names) + ",a@b.cc,S1,assign\n"
    assert read(tmp_path, text).cells[0][4999:] == ["c4999", "a@b.cc", "S1", "assign"]


ENDS = st.sampled_from(["\n", "\r\n", "\r"])
CELL = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\x1a"), max_size=6) | st.sampled_from(
    ["", " ", ",", ";", '"', '""', "\n", "\r", "a\tb", "5 inch", "=1", "NA", "0012", "é|ü", "a\r\nb"]
)
ROWS = st.lists(st.tuples(CELL, CELL, st.from_regex(r"S[0-9]{1,4}", fullmatch=True)), min_size=1, max_size=6)
DIALECTS = st.tuples(st.sampled_from([",", ";", "\t", "|"]), ENDS, st.booleans(), st.booleans())
ENCODINGS = st.sampled_from([("utf-8", b""), ("utf-8", codecs.BOM_UTF8), ("utf-16", b""), ("utf-16-le", b"")])


@given(st.text(alphabet='a@.,"\r\n \u200b', max_size=80))
@settings(deadline=None)
def test_every_record_with_any_text_is_a_row(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("rows")
    records = machine((HEADER + text + "\n").encode())[1:]
    try:
        reading = read(folder, HEADER + text, InputOptions(multiline_cells=True))
    except InputError:  # a quote left open: then the machine, too, has not come to the end
        assert '"' in text
        return
    held = [
        (line + 1, cells) for _, line, cells in records if any(cell.decode().strip(" \r\n\u200b") for cell in cells)
    ]
    assert reading.column("line") == [line for line, _ in held]
    assert [row[:1] for row in reading.cells] == [[cells[0].decode()] for _, cells in held]


def written(rows: Sequence[Sequence[str]], delimiter: str, end: str, *, quote_all: bool) -> str:
    def cell(text: str) -> str:
        plain = not quote_all and not set(text) & {delimiter, '"', "\r", "\n"}
        return text if plain else '"' + text.replace('"', '""') + '"'

    return end.join(delimiter.join(map(cell, row)) for row in rows)


@given(ROWS, DIALECTS, ENCODINGS, st.integers(1, 40))
@settings(deadline=None)
def test_what_was_written_is_what_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str, str]],
    dialect: tuple[str, str, bool, bool],
    encoding: tuple[str, bytes],
    piece: int,
) -> None:
    delimiter, end, quote_all, final = dialect
    full = [("note", "x", "Serial", "Email", "Action"), *((a, b, s, "a@b.cc", "add") for a, b, s in rows)]
    text = written(full, delimiter, end, quote_all=quote_all) + (end if final else "")
    folder = tmp_path_factory.mktemp("written")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source_file, "CHUNK_BYTES", piece * 7)
        reading = read(folder, encoding[1] + text.encode(encoding[0]), InputOptions(multiline_cells=True))
    assert reading.cells == [list(row) for row in full[1:]]
    assert reading.devices == [row[2] for row in full[1:]]
    assert reading.file.delimiter == delimiter


JUNK = (
    st.binary(max_size=80)
    | st.text(alphabet='a@.,"\r\n\x1a\0 =', max_size=80).map(str.encode)
    | st.lists(st.sampled_from(["a@b.cc", ",", ",", '"', "\n", "\r", "S1", "assign", "\ufeff", "é"])).map(
        lambda parts: "".join(parts).encode()
    )
)


@given(JUNK, st.booleans(), st.booleans(), st.integers(1, 50))
@settings(deadline=None, max_examples=300)
@example(b'"\n', True, True, 1)
@example(b"\x1a\n\n", True, True, 1)
@example(b"a,b,c\x1a\n\x1ax,y,z", True, True, 1)
@example(b'x"\r"\r', True, True, 1)
def test_any_bytes_are_read_or_refused_and_chunk_size_makes_no_difference(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes, headed: bool, multiline: bool, piece: int
) -> None:
    folder = tmp_path_factory.mktemp("junk")
    content = HEADER.encode() + junk if headed else junk
    options = InputOptions(multiline_cells=multiline)
    results: list[object] = []
    for size in (piece, 1 << 20):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(source_file, "CHUNK_BYTES", size)
            try:
                reading = read(folder, content, options)
            except UnbalancedError:
                raise
            except BatchError as error:
                results.append(type(error))
            else:
                keys = pa.Table.from_batches([block.keys for block in reading.blocks], KEY_SCHEMA)
                results.append((reading.cells, keys.to_pylist()))
    assert results[0] == results[1]


@pytest.mark.parametrize(
    "text",
    [
        'email,device id,action,note\na@x.com,D1,assign,"oops\nb@x.com,D2,assign,x"\nc@x.com,D3,assign,y\n',
        'email,device id,action,note\na@x.com,D1,assign,"oops\nb@x.com,D2,assign,"\nc@x.com,D3,assign,y\n',
        'note,email,device id,action\n"oops,a@x.com,D1,assign\nbar",c@x.com,D3,assign\n',
    ],
)
def test_two_stray_quotes_that_join_two_rows_into_one_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="line 2 has swallowed whole rows"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        'note,email,device id,action\n"one\ntwo",c@x.com,D3,assign\n',
        'email,device id,action,note\na@x.com,D1,assign,"one\ntwo, three, four"\n',
        '"email","device id","action","note"\n"a@x.com","D1","assign","one\n\ntwo"\n',
    ],
)
def test_a_harmless_cell_of_several_lines_is_one_cell(tmp_path: Path, text: str) -> None:
    assert len(read(tmp_path, text).devices) == 1
