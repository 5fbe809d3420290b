"""Each line of the table in docs/input-files.md is a test here, and each test a line there."""

import bz2
import codecs
import gzip
import io
import lzma
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from telemetron_batch.cli.commands import main
from telemetron_batch.config.config import resolve
from telemetron_batch.domain.errors import BatchError
from telemetron_batch.planning.plan_summary import PlanSummary
from telemetron_batch.run.make_plan import make_plan
from tests.input.test_unsupported_formats import compound_file
from tests.input.test_workbook import save
from tests.support.docs import INPUT_FILES, part
from tests.support.object_store import memory_store
from tests.support.sheets import book, device, packed, parts, row, sheet, text

H = "customerEmail,deviceIdentifier,action\n"
R = "a@b.cc,S1,assign\n"
ROWS = [["customerEmail", "deviceIdentifier", "action"], ["a@b.cc", "S1", "assign"]]


class Desk:
    """A folder with input files, and their plan."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, content: str | bytes, name: str = "erp.csv") -> str:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    def plan(self, content: str | bytes, name: str = "erp.csv", **flags: Any) -> PlanSummary:
        return make_plan(resolve([self.path(content, name)], flags, {}))

    def plan_of(self, path: Path, **flags: Any) -> PlanSummary:
        return make_plan(resolve([str(path)], flags, {}))

    def counts(self, content: str | bytes, **flags: Any) -> tuple[int, int]:
        """Return the number of rows, and of invalid rows."""
        plan = self.plan(content, **flags)
        return plan.rows, plan.invalid

    def warnings(self, content: str | bytes, **flags: Any) -> str:
        return "; ".join(self.plan(content, **flags).files[0].warnings)

    def refused(self, content: str | bytes, name: str = "erp.csv", **flags: Any) -> str:
        with pytest.raises(BatchError) as refusal:
            self.plan(content, name, **flags)
        assert refusal.value.exit_code == 2
        return str(refusal.value)


KINDS: dict[str, Callable[[Desk, pytest.MonkeyPatch], None]] = {}


def kind(name: str) -> Callable[[Callable[[Desk, pytest.MonkeyPatch], None]], None]:
    """Register a test for a line of the table."""

    def add(check: Callable[[Desk, pytest.MonkeyPatch], None]) -> None:
        assert name not in KINDS
        KINDS[name] = check

    return add


@kind("`.csv`, `.tsv`, `.txt`")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    for delimiter in (",", ";", "\t", "|"):
        for name in ("a.csv", "a.tsv", "a.txt"):
            assert desk.plan((H + R).replace(",", delimiter), name).calls == 1


@kind("the same as `.gz`")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    assert desk.plan(gzip.compress((H + R).encode()), "a.csv.gz").calls == 1
    assert "broken gzip" in desk.refused(gzip.compress((H + R).encode())[:-5], "a.csv.gz")


def zipped(**members: str) -> bytes:
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return package.getvalue()


@kind("a `.zip` with exactly one such file in it")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    one = zipped(**{"night.csv": H + R, "README.md": "x", "__MACOSX/._night.csv": "x"})
    assert desk.plan(one, "night.zip").calls == 1
    assert desk.plan(one, "night.csv").calls == 1
    assert "with 2 files in it; unzip it" in desk.refused(zipped(**{"a.csv": H, "b.txt": H}), "night.zip")
    assert "with no .csv" in desk.refused(zipped(**{"a.pdf": "x"}), "night.zip")
    assert "broken zip" in desk.refused(one.replace(b"a@b", b"a@c")[:-30], "night.zip")
    assert "broken zip" in desk.refused(one[:45] + b"\xff" * 9 + one[54:], "night.zip")
    assert "with no .csv" in desk.refused(zipped(), "night.zip")
    assert "is not a zip archive" in desk.refused(b"PK" + one, "night.zip")
    assert "is damaged; fetch or make" in desk.refused(one[:-6] + b"\xff\xff\xff\xff" + one[-2:], "night.zip")
    locked = bytearray(one)
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        locked[locked.find(mark) + flags] |= 1
    assert "with a password" in desk.refused(bytes(locked), "night.zip")


@kind("`.xlsx`")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    path = save(desk.folder / "a.xlsx", {"Notes": [["x"]], "Data": ROWS})
    (file,) = make_plan(resolve([str(path)], {}, {})).files
    assert file.warnings == ('only sheet "Data" is read, not "Notes"; name another with --sheet',)


@kind("`.parquet`")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    rows = pa.table({"Email": ["a@b.cc"], "Serial": pa.array([12], pa.int64()), "action": ["assign"], "x": [1.5]})
    pq.write_table(rows, desk.folder / "a.parquet")
    plan = desk.plan_of(desk.folder / "a.parquet", min_rows="1")
    assert (plan.calls, plan.files[0].encoding) == (1, "parquet")
    whole = (desk.folder / "a.parquet").read_bytes()
    assert "cut short" in desk.refused(whole[:-9], "b.parquet")
    assert "is a Parquet file that was compressed again" in desk.refused(gzip.compress(whole), "a.parquet.gz")


@kind("a Parquet column of customers, identifiers, actions or types that holds floats, dates, booleans, bytes or lists")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    pq.write_table(pa.table({"Email": ["a@b.cc"], "Serial": [12.0]}), desk.folder / "a.parquet")
    message = desk.refused((desk.folder / "a.parquet").read_bytes(), "a.parquet", action="assign")
    assert 'the column of "Serial" holds values of type double' in message


@kind("`.jsonl`, `.jsonl.gz`: one JSON object a line")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    line = '{"Email":"a@b.cc","Serial":"S1","action":"assign"}\n'
    assert desk.plan(line, "a.jsonl").calls == desk.plan(gzip.compress(line.encode()), "a.jsonl.gz").calls == 1
    assert desk.plan(line, "a.txt").files[0].encoding == "jsonl"
    assert desk.plan(line + '{"room":7,"Email":"b@b.cc"}\n', "a.jsonl").files[0].header[-1] == "room"


@kind("a line of such a file that is not one object, or has a key twice")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    line = '{"Email":"a@b.cc","Serial":"S1","action":"assign"}\n'
    plan = desk.plan(line + '{"Email":"a@b.cc","Serial":"S2"\n' + '{"Serial":"S1","Serial":"S2"}\n', "a.jsonl")
    assert [(one.title, one.rows) for one in plan.problems] == [("line that is not one JSON object", 2)]


@kind("a number with a fraction or an exponent, a boolean, a list or an object as an identifier in JSON")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    for value, sent in (("1E5", 1), ("1.5", 1), ("true", 1), ('["S1"]', 0), ("12", 1)):
        line = f'{{"Email":"a@b.cc","Serial":{value},"action":"assign"}}\n'
        assert desk.plan(line, "a.jsonl").invalid == int(value != "12")
        assert desk.plan(line, "a.jsonl", allow_suspect=True).devices == sent


@kind("a JSON array, JSON over several lines, an Arrow, Feather, ORC or Avro file, an SQLite database")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    assert "is a JSON array, not JSON lines; write one" in desk.refused('[\n{"Email":"a@b.cc"}]', "a.json")
    assert "is JSON over several lines" in desk.refused('{\n  "Email": "a@b.cc"\n}', "a.json")
    assert "is an Arrow or Feather file" in desk.refused(b"ARROW1\0\0\xff", "a.feather")
    assert "is an ORC file" in desk.refused(b"ORC\x11", "a.orc")
    assert "is an Avro file" in desk.refused(b"Obj\x01\x04", "a.avro")
    assert "read it with --query" in desk.refused(b"SQLite format 3\0\x10", "a.db")


@kind("a workbook's error values (`#N/A`)")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    path = save(desk.folder / "a.xlsx", {"Data": [*ROWS, ["a@b.cc", "#N/A", "assign"], ["#N/A", "#N/A", "#N/A"]]})
    assert [(one.title, one.rows) for one in make_plan(resolve([str(path)], {}, {})).problems] == [
        ("identifier damaged by a spreadsheet", 2)
    ]


@kind("a last line without a line end")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    cut = H + R + R[:-1]
    assert "the file may have been cut short" in desk.warnings(cut)
    assert "the file may have been cut short" in desk.refused(cut, last_line="refuse")
    assert desk.warnings(cut, last_line="refuse", expect_rows="2") == ""
    assert "cut short" not in desk.warnings(H + R + "T,1", trailer_count="T,([0-9]+)", last_line="refuse")
    for whole in (H + R, (H + R).replace("\n", "\r"), H + R + "\x1a", H):
        assert desk.warnings(whole, last_line="refuse", allow_empty=True) == ""


@kind("a workbook's numbers")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    rows = [device(2, "<c><v>12.0</v></c>"), device(3, "<c><v>12</v></c>"), device(4, "<c><v>8.9E+18</v></c>")]
    plan = desk.plan_of(book(desk.folder / "a.xlsx", *rows))
    assert (plan.devices, plan.duplicates, plan.invalid) == (1, 1, 1)
    assert plan.problems[0].title == "number of more than 15 digits"


@kind("a workbook's numbers under a format of zeros (`00000000`)")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    rows = [device(2, '<c s="1"><v>12</v></c>'), row(3, "a@b.cc", "00000012", "assign")]
    plan = desk.plan_of(book(desk.folder / "a.xlsx", *rows))
    assert (plan.devices, plan.duplicates) == (1, 1)
    assert "1 serial is shown with zeros in front" in plan.files[0].warnings[0]


@kind("a date, duration, boolean, fraction or negative number as a workbook's identifier")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    cells = ['<c s="2"><v>45351</v></c>', '<c s="3"><v>1</v></c>', '<c t="b"><v>1</v></c>', "<c><v>1.5</v></c>"]
    cells += ["<c><v>-5</v></c>", '<c s="4"><v>5</v></c>']
    path = book(desk.folder / "a.xlsx", *(device(at, cell) for at, cell in enumerate(cells, start=2)))
    assert [(one.title, one.rows) for one in desk.plan_of(path).problems] == [
        ("date, fraction or other value for an identifier", 6)
    ]
    assert desk.plan_of(path, allow_suspect=True).invalid == 0


@kind("a workbook's formulas")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    rows = [device(2, '<c t="str"><f>A9</f><v>S1</v></c>'), device(3, "<c><f>A9</f></c>")]
    plan = desk.plan_of(book(desk.folder / "a.xlsx", *rows))
    assert (plan.rows, plan.devices) == (2, 1)
    assert [(one.title, one.rows) for one in plan.problems] == [("formula without a stored value", 1)]


@kind("hidden or filtered rows of a workbook")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    rows = [row(2, "a@b.cc", "S1", "assign"), row(3, "a@b.cc", "S2", "assign", more=' hidden="1"')]
    path = book(desk.folder / "a.xlsx", *rows)
    assert "has 1 hidden row, first: 3" in desk.refused(path.read_bytes(), "a.xlsx")
    skipped = desk.plan_of(path, hidden="skip")
    assert (skipped.rows, skipped.as_json()["hiddenRows"]) == (1, 1)
    assert desk.plan_of(path, hidden="read").rows == 2


@kind("cells right of the last header of a workbook")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    path = book(desk.folder / "a.xlsx", row(2, "a@b.cc", "S1", "assign"), row(1_048_576, text("XFD1048576", "x")))
    plan = desk.plan_of(path)
    assert (plan.rows, plan.invalid) == (1, 0)
    assert plan.files[0].warnings == ("cells right of the last header are not read (first: XFD1048576)",)


@kind("a workbook that unpacks to far more than its size allows, or whose XML has a DTD")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    xml = sheet(row(2, "a@b.cc", "S1", "assign"))
    bomb = packed(desk.folder / "b.xlsx", parts(f"<!--{' ' * 100_000_000}-->{xml}"))
    assert "would unpack to 100,000," in desk.refused(bomb.read_bytes(), "a.xlsx")
    entity = packed(desk.folder / "b.xlsx", parts(f'<!DOCTYPE x [<!ENTITY e "x">]>{xml}'))
    assert "has a document type declaration" in desk.refused(entity.read_bytes(), "a.xlsx")


@kind("an encrypted, protected or labelled workbook, a web page, MHTML, XML spreadsheet of 2003 or PDF under any name")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    assert "is an encrypted workbook" in desk.refused(compound_file("EncryptedPackage"), "a.xlsx")
    assert "is a web page" in desk.refused("<html><table>", "a.xls")
    assert "is a web archive" in desk.refused("MIME-Version: 1.0\nContent-Type: multipart/related\n", "a.xls")
    assert "is an XML spreadsheet of 2003" in desk.refused('<?xml?><?mso-application progid="Excel.Sheet"?>', "a.xls")
    assert "is a PDF" in desk.refused("%PDF-1.7", "a.csv")


@kind("a tar archive, a file that is compressed twice, `.bz2`, `.xz`, `.zst`, `.7z`, `.rar`")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.add(desk.path(H + R, "night.csv"), "night.csv")
    assert "is a tar archive; unpack it" in desk.refused(packed.getvalue(), "night.tar.gz")
    twice = gzip.compress(gzip.compress((H + R).encode()))
    assert "is compressed twice; unpack it once" in desk.refused(twice, "night.csv.gz.gz")
    assert "is compressed with xz; " in desk.refused(lzma.compress((H + R).encode()), "night.csv.xz")
    assert "is compressed with bzip2; " in desk.refused(bz2.compress((H + R).encode()), "night.csv.bz2")
    assert "is compressed with Zstandard; " in desk.refused(b"\x28\xb5\x2f\xfd\x24\x38", "night.csv.zst")
    assert "is a 7-Zip archive; unpack it" in desk.refused(b"7z\xbc\xaf\x27\x1c\0\4", "night.7z")
    assert "is a RAR archive; unpack it" in desk.refused(b"Rar!\x1a\x07\x01\0", "night.rar")


@kind("`-`")
def _(_desk: Desk, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO((H + R).encode())))
    assert make_plan(resolve(["-"], {}, {})).files[0].name == "stdin"


@kind("`s3://bucket/key`, `gs://`, `az://`")
def _(_desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    store = memory_store()
    store.pipe_file("/bucket/a.csv.gz", gzip.compress((H + R).encode()))
    (file,) = make_plan(resolve(["gs://bucket/a.csv.gz"], {}, {})).files
    assert (file.name, file.rows) == ("gs://bucket/a.csv.gz", 1)
    store.rm("/bucket/a.csv.gz")


@kind("several files")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    paths = [
        desk.path(H + R, "north/a.csv"),
        desk.path((H + R).replace(",", ";"), "south/a.csv"),
        desk.path(H + R, "b.csv"),
    ]
    plan = make_plan(resolve(paths, {}, {}))
    assert (plan.rows, plan.duplicates) == (3, 2)
    assert [file.name for file in plan.files] == [*paths[:2], "b.csv"]


@kind("UTF-8, UTF-16")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    for mark, encoding in [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (b"", "utf-16-le"),
        (b"", "utf-16-be"),
    ]:
        assert desk.counts(mark + (H + "ä@b.cc,Ü1,assign\n").encode(encoding)) == (1, 0)


@kind("any other encoding")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    content = ("Ort," + H + "Köln," + R + "Köln,a@b.cc,Ü1,assign\n").encode("cp1252")
    assert desk.counts(content) == (2, 1)
    assert "read as Windows-1252 on a guess" in desk.warnings(content)
    assert desk.counts(content, encoding="cp1252") == (2, 0)


@kind("titles, blank lines and `sep=;` above the header")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    assert desk.counts("sep=;\nDevices, all of them;;\n\n" + (H + R).replace(",", ";")) == (1, 0)
    assert "first 50 lines" in desk.refused("title\n" * 50 + H + R)


@kind("two headers within three lines, with nothing between them that is a row")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    groups = "Customer,Device,Action,\nEmail,Model,Movement,Serial Number\na@b.cc,EX-200,assign,SN-1\n"
    plan = desk.plan(groups)
    assert (plan.files[0].header_line, plan.files[0].columns["deviceIdentifier"]) == (2, "Serial Number")
    merged = "Customer,,Device,,Action\nEmail,Name,Model,Serial Number,\na@b.cc,Ann,EX-200,SN-1,assign\n"
    assert desk.plan(merged).files[0].columns["deviceIdentifier"] == "Serial Number"
    assert desk.plan(merged).invalid == 0
    assert desk.counts(H + R + "action,deviceIdentifier,customerEmail\n".replace(",", ";")) == (2, 1)


@kind("marks after a header: `Email *`, `Serial No (required)`, `Action [text]`")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    for header in ("Email *,Serial No (required),Action [text]", "Email required,Serial No*,Action"):
        assert desk.counts(header + "\n" + R) == (1, 0)


@kind("the header again further down, the footer of a query tool (`(12 rows affected)`), a rule of dashes, `Page 2`")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    content = H + "-------------,----------------,------\n" + R + "Page 2\n" + H + R + "\n(2 rows affected)\n"
    assert desk.counts(content, expect_rows="2") == (2, 0)
    assert "4 lines are no rows and are passed over" in desk.warnings(content)
    assert "the header on line 3 has its columns in other places" in desk.refused(
        H + R + "deviceIdentifier,customerEmail,action\nS2,a@b.cc,assign\n"
    )


@kind("more than 16,384 columns")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    assert "16386 columns" in desk.refused(H[:-1] + ",x" * 16_383 + "\n" + R)


@kind("a column that is missing, or found twice")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    assert 'headers seen on line 1: "Email", "action" (delimiter ","' in desk.refused("Email,action\na@b.cc,assign\n")
    assert "found 2 times" in desk.refused("Email,Mail,Serial,Action\na@b.cc,a@b.cc,S1,assign\n")
    assert desk.counts("Email,Serial\n" + R[:-8] + "\n", action="assign") == (1, 0)


@kind("empty records, Ctrl-Z at the end")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    assert desk.counts(H + "\n,,\n" + R + ' , ,""\n\n\x1a') == (1, 0)


@kind('white space and invisible signs around a cell, `="0012"`')
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    assert desk.plan(H + R + ' A@b.cc ,"=""S1""",\u200bassign\u00a0\n').duplicates == 1


@kind("`'SN-1'`, `'0012`")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    assert (
        desk.plan(H + "'a@b.cc','SN-1',assign\na@b.cc,SN-1,assign\na@b.cc,'12,assign\na@b.cc,12,assign\n").devices == 2
    )


@kind("`0012`, `NA`, `1E5`, `TRUE`")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    plan = desk.plan(
        H + "".join(f"a@b.cc,{text},assign\n" for text in ("0012", "12", "NA", "1E5", "100000", "TRUE", ""))
    )
    assert (plan.devices, plan.invalid) == (6, 1)


@kind("a cell too many or too few")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    assert desk.counts(H + "Smith,a@b.cc,S1,assign\na@b.cc,S1\n" + R[:-1] + ",,\n") == (3, 2)


@kind("a quoted cell that spans lines")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    harmful = "note," + H + '"5 inch,' + R + "x," + R + '"7 inch,' + R
    assert desk.counts("note," + H + '"one\ntwo",' + R) == (1, 0)
    assert "has swallowed whole rows" in desk.refused(harmful)
    assert desk.counts(harmful, multiline_cells=True) == (1, 0)


@kind("an empty key cell, no email address, an unknown action word")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    assert desk.counts(H + R + "a@b.cc,,assign\njoe,S2,assign\na@b.cc,S3,scrap\n") == (4, 3)


@kind("an address whose domain ends in one letter, with dots side by side, or with anything before or behind it")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    addresses = ("a@b.c", "a..b@c.de", "a@b.de!", "mailto:a@b.de", "Ä.o'brien+x@Bücher.de", "x@corp.local")
    assert desk.counts(H + "".join(f"{address},S1,assign\n" for address in addresses)) == (6, 4)


@kind("text that was decoded twice: `mÃ¼ller`")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    assert desk.counts(H + "mÃ¼ller@b.de,S1,assign\na@b.de,GerÃ¤t-1,assign\nmüller@b.de,Gerät-1,assign\n") == (3, 2)


@kind("`1.23457E+11`, `12345678.0`, `#REF!`")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    content = H + "".join(f"a@b.cc,{text},assign\n" for text in ("1.23457E+11", "12345678.0", "#REF!"))
    assert desk.counts(content) == (3, 3)
    assert desk.counts(content, allow_suspect=True) == (3, 0)


@kind("more than 15 digits, all zeros from the 16th on, as in `8944500102198310000`")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    damaged = ("8944500102198310000", "123456789012345000")
    content = H + "".join(f"a@b.cc,{text},assign\n" for text in (*damaged, "000000000000100000"))
    assert desk.counts(content) == (3, 2)
    assert desk.counts(content, allow_suspect=True) == (3, 0)
    honest = H + "".join(f"a@b.cc,12345678901234{number},assign\n" for number in range(50, 70))
    assert desk.counts(honest) == (20, 0)
    assert "2 serials of more than 15 digits end in zeros" in desk.warnings(honest)


@kind("`12.03.2025`, `Mar-12` where other serials are no dates")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    dates = "a@b.cc,12.03.2025,assign\na@b.cc,13.03.2025,assign\n"
    assert desk.counts(H + "a@b.cc,SN-1,assign\na@b.cc,SN-2,assign\n" + dates) == (4, 2)
    assert desk.counts(H + "a@b.cc,SN-1,assign\na@b.cc,SN-2,assign\n" + dates, allow_suspect=True) == (4, 0)
    assert desk.counts(H + dates) == (2, 0)


@kind("a few serials of digits shorter than all others")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    content = H + "".join(f"a@b.cc,{serial},assign\n" for serial in (*range(1000, 1010), 7))
    assert desk.counts(content) == (11, 0)
    assert "shorter than the usual 4 (first on line 12)" in desk.warnings(content)


@kind("a formula: `=A1`, `@x`")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    assert desk.counts(H + "a@b.cc,=A1,assign\na@b.cc,@x,assign\n") == (2, 2)
    assert desk.counts(H + "a@b.cc,=A1,assign\na@b.cc,@x,assign\n", allow_suspect=True) == (2, 0)


@kind("a control or invisible character inside, more than 256 characters")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    assert desk.counts(H + "a@b.cc,S\u061c1,assign\na@b.cc,S\u31641,assign\n", allow_suspect=True) == (2, 2)
    assert desk.counts(H + f"a@b.cc,S\x001,assign\na@b.cc,{'x' * 257},assign\n", allow_suspect=True) == (2, 2)


def of_serials(*serials: str) -> str:
    return H + "".join(f'a@b.cc,"{serial}",assign\n' for serial in serials)


@kind("a space inside an identifier that is no blank, such as a no-break space")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    assert desk.counts(of_serials("SN\u00a01", "SN\u202f1", "SN\u30001", "SN 1"), allow_suspect=True) == (4, 3)


@kind("`“SN-1”`, `]C1SN-1`, `S/N: SN-1`, `1,234,567` among plain numbers, a Cyrillic `\u0415` in `S\u0415-1`")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    content = of_serials("“SN-1”", "]C1SN-1", "S/N: SN-1", "1,234,567", "S\u0415-1", "1234567", "SN-2")
    assert desk.counts(content) == (7, 5)
    assert desk.counts(content, allow_suspect=True) == (7, 0)


@kind("a placeholder such as `Default string`, `N/A`, `0000000`")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    content = of_serials("Default string", "N/A", "0000000", "SN-1")
    create = {"auto_create_devices": True, "device_type": "x"}
    assert desk.counts(content) == (4, 0)
    assert "3 rows have a placeholder as identifier" in desk.warnings(content)
    assert desk.counts(content, **create) == (4, 3)
    assert desk.counts(content, **create, allow_suspect=True) == (4, 0)


@kind("several identifiers in one cell: `SR1; SR2`, `SR3 SR4`, `SR5/SR6`")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    content = of_serials("SR1; SR2", "SR3 SR4", "SR5/SR6", "SR7/B8", "SR9")
    assert desk.counts(content) == (5, 3)
    assert desk.counts(content, allow_suspect=True) == (5, 0)


@kind("the same with `--split deviceIdentifier`, or `--split deviceIdentifier=/space` for other signs")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    content = of_serials("SR1; SR2,SR3;", "SR4")
    plan = desk.plan(content, split="deviceIdentifier", expect_rows="2")
    assert (plan.rows, plan.devices, plan.invalid, plan.files[0].records) == (4, 4, 0, 2)
    assert desk.plan(of_serials("SR1/SR2 SR3"), split="deviceIdentifier=/space").devices == 3


@kind("a list by groups, the customer only on a group's first line")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    content = H + "a@b.cc,S1,assign\n,S2,\n,S3,\n"
    assert desk.counts(content) == (3, 2)
    assert "--fill-down customerEmail --fill-down action reads each" in desk.warnings(content)
    assert desk.counts(content, fill_down=["customerEmail", "action"]) == (3, 0)
    broken = H + "a@b.cc,S1,assign\nb@b.cc,S2\n,S3,assign\n"
    assert desk.counts(broken, fill_down=["customerEmail"]) == (3, 2)


@kind("`Total;2;`, `T1,63` on the last line")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    for trailer in ("Total,1,\n", "T1,63\n"):
        plan = desk.plan(H + R + trailer)
        assert (plan.rows, [*plan.problems]) == (1, [])
        assert "passed over" in plan.files[0].warnings[0]


@kind("the same with `--trailer-count`")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    pattern = "^T1,([0-9]+)"
    assert desk.counts(H + R + "T1,1\n", trailer_count=pattern) == (1, 0)
    assert "has 1 rows, its trailer says 63" in desk.refused(H + R + "T1,63\n", trailer_count=pattern)
    assert "no trailer" in desk.refused(H + R, trailer_count=pattern)


@kind("no rows at all")
def _(desk: Desk, _patch: pytest.MonkeyPatch) -> None:
    for content in ("", H):
        assert "has no data rows" in desk.refused(content)
        assert desk.counts(content, allow_empty=True) == (0, 0)


@kind("`.xls`, a folder, a file that changes while it is read")
def _(desk: Desk, patch: pytest.MonkeyPatch) -> None:
    assert "save it as .xlsx" in desk.refused(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a.xls")
    assert CliRunner().invoke(main, ["plan", str(desk.folder)]).exit_code == 2
    times = iter(range(9))
    patch.setattr("telemetron_batch.input.source_file.SourceFile.fingerprint", lambda _: (1, next(times)))
    assert "changed while it was read" in desk.refused(H + R)


@pytest.mark.parametrize("name", KINDS)
def test_an_input_is_treated_as_the_docs_say(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    KINDS[name](Desk(tmp_path), monkeypatch)


def test_the_docs_have_a_line_for_each_input_kind_and_no_other() -> None:
    lines = part(INPUT_FILES.read_text(), "input kinds").splitlines()[2:]
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines] == [*KINDS]
