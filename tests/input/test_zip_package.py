"""A workbook's package is read within limits, or refused in one line."""

import random
import resource
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from telemetron_batch.domain.errors import InputError
from telemetron_batch.domain.model import InputOptions
from telemetron_batch.input import zip_package
from telemetron_batch.input.workbook import find_sheet
from telemetron_batch.input.zip_package import Package
from tests.input.test_workbook import read
from tests.support.sheets import BOOK, HEAD, SHEET, STRINGS, STYLES, book, device, packed, parts, row, sheet

ROW = row(2, "a@b.cc", "S1", "assign")


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as refused:
        read(path)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("part", [SHEET, STRINGS, STYLES, BOOK, "_rels/.rels", "xl/_rels/workbook.xml.rels"])
def test_a_part_with_a_document_type_is_refused(tmp_path: Path, part: str) -> None:
    contents = parts(sheet(ROW))
    contents[part] = f'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/hostname">]>{contents[part]}'
    assert "its XML has a document type declaration" in refusal(packed(tmp_path / "a.xlsx", contents))


@pytest.mark.parametrize("part", [SHEET, STRINGS, STYLES, BOOK])
def test_a_part_that_unpacks_to_far_more_than_the_file_is_refused(tmp_path: Path, part: str) -> None:
    contents = parts(sheet(ROW))
    contents[part] += " " * (80 << 20)
    assert f"its part {part} would unpack to" in refusal(packed(tmp_path / "a.xlsx", contents))


@pytest.mark.parametrize(
    ("xml", "words"),
    [
        ("<!--" + "<c t='e'>" * 400_000 + "-->", "a tag or comment of more than a megabyte"),
        ("<d/>" * 400_000, "more XML elements than its size allows"),
        ("<a>" * 50_000 + "</a>" * 50_000, "its XML is not that of a workbook"),
        ("".join(f"<x{at}/>" for at in range(20_000)), "its XML is not that of a workbook"),
        ("<a " + " ".join(f'x{at}=""' for at in range(90_000)) + "/>", "its XML"),
    ],
)
def test_too_expensive_xml_is_refused(tmp_path: Path, xml: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_package, "_MAX_ELEMENTS", 100_000)
    assert words in refusal(book(tmp_path / "a.xlsx", xml, ROW))


def test_a_comment_is_not_a_cell(tmp_path: Path) -> None:
    _, keys, _ = read(book(tmp_path / "a.xlsx", "<!--" + '<c t="e">' * 100_000 + "-->", ROW))
    assert [key["deviceIdentifier"] for key in keys] == ["S1"]


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_package, "MAX_MEMBERS", 5)
    assert "6 files are packed in it, 5 at most are read" in refusal(book(tmp_path / "a.xlsx", ROW))


@pytest.mark.parametrize(
    ("member", "words"),
    [
        ("xl/workbook.bin", "is a binary workbook (.xlsb); save it as .xlsx"),
        ("content.xml", "is an OpenDocument file; save it as .xlsx"),
        ("word/document.xml", "is a Word document"),
    ],
)
def test_other_kinds_of_packages_are_named_in_the_error(tmp_path: Path, member: str, words: str) -> None:
    assert words in refusal(packed(tmp_path / "a.xlsx", {member: ""}))


def test_a_package_without_a_workbook_or_with_a_missing_sheet_is_refused(tmp_path: Path) -> None:
    assert "its part xl/workbook.xml is missing" in refusal(packed(tmp_path / "a.xlsx", {"a": ""}))
    contents = parts(sheet(ROW))
    del contents[SHEET]
    assert f"its part {SHEET} is missing" in refusal(packed(tmp_path / "a.xlsx", contents))


def test_parts_are_found_ignoring_case(tmp_path: Path) -> None:
    contents = {name.replace("/", "\\").upper(): content for name, content in parts(sheet(ROW)).items()}
    assert len(read(packed(tmp_path / "a.xlsx", contents))[1]) == 1
    contents = parts(sheet(ROW))
    contents["xl/_rels/workbook.xml.rels"] = contents["xl/_rels/workbook.xml.rels"].replace(
        "worksheets/sheet1.xml", "/xl/./charts/../worksheets/sheet1.xml"
    )
    assert len(read(packed(tmp_path / "a.xlsx", contents))[1]) == 1


def test_an_unusual_compression_method_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.xlsx", "w", zipfile.ZIP_LZMA) as archive:
        for name, content in parts(sheet(ROW)).items():
            archive.writestr(name, content)
    assert "encrypted or packed in an unusual way" in refusal(tmp_path / "a.xlsx")


def test_a_sheet_with_a_damaged_end_is_refused(tmp_path: Path) -> None:
    contents = parts(sheet(ROW) + "<!-- the end -->")
    path = tmp_path / "a.xlsx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    path.write_bytes(path.read_bytes().replace(b"the end", b"the and"))
    assert "Bad CRC-32" in refusal(path)


def test_bytes_read_are_counted_over_all_parts(tmp_path: Path) -> None:
    path = book(tmp_path / "a.xlsx", ROW)
    whole = Package.of(path)
    sheet_of = find_sheet(path, InputOptions())
    assert sheet_of.book.package.elements < whole.elements
    assert sheet_of.book.package.unpacked < whole.unpacked


# Any bytes give rows or a refusal, within bounded memory.

MEMORY = 2 << 30
"""Address space of the process; the libraries alone map most of a gigabyte."""
SEED = "".join(
    [
        ROW,
        device(3, '<c s="1"><v>12342</v></c>'),
        device(4, "<c><f>A1</f><v>7</v></c>"),
        device(5, '<c t="s"><v>1</v></c>', more=' hidden="1"'),
        device(6, '<c t="e"><v>#N/A</v></c>'),
        device(7, '<c s="2"><v>45351.5</v></c>'),
    ]
)
PIECES = [
    "<", ">", "/", "&", '"', "<c>", "</c>", "<row>", "</row>", 'r="XFD1048576"', 'r="A1"', 't="s"', 't="d"', 's="9"',
    "<v>1E999</v>", "<f/>", "<is><t>x</t></is>", "</sheetData>", "<!--", "-->", "<![CDATA[", "]]>", "<?x?>", "&#0;",
    'hidden="1"', "<!DOCTYPE a>", "\x00", "-1", "9" * 400, "_x0000_", "_xD800_",
]  # fmt: skip
CHANGES = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 30), st.sampled_from(PIECES)), max_size=6)


def run_limited(script: str, *arguments: str, seconds: int) -> subprocess.CompletedProcess[str]:
    """Run Python code with limits on memory and processor time."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))

    return subprocess.run(
        [sys.executable, "-c", script, *arguments], preexec_fn=limit, capture_output=True, text=True, check=False
    )


FUZZ = "import sys; from pathlib import Path; from tests.input import test_zip_package as t; t.{}(Path(sys.argv[1]))"
EXAMPLES = 1500


def read_or_refused(path: Path) -> None:
    refused = ""
    try:
        read(path)
    except InputError as error:
        refused = str(error)
    assert "\n" not in refused


def changed(content: bytes, changes: list[tuple[float, int, str]]) -> bytes:
    for share, gone, come in changes:
        at = int(share * len(content))
        content = content[:at] + come.encode() + content[at + gone :]
    return content


def fuzz_xml(folder: Path) -> None:
    contents = parts(sheet(SEED), strings="<si><t>S1</t></si><si><r><t>S2</t></r></si>")

    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=[*HealthCheck])
    @given(st.sampled_from([*contents, SHEET, SHEET]), CHANGES)
    def go(part: str, changes: list[tuple[float, int, str]]) -> None:
        read_or_refused(packed(folder / "a.xlsx", {**contents, part: changed(contents[part].encode(), changes)}))

    go()


def fuzz_zip(folder: Path) -> None:
    content = book(folder / "seed.xlsx", SEED).read_bytes()

    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=[*HealthCheck])
    @given(st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=4)), min_size=1, max_size=5))
    def go(changes: list[tuple[float, bytes]]) -> None:
        other = bytearray(content)
        for share, octets in changes:
            at = int(share * len(other))
            other[at : at + len(octets)] = octets
        (folder / "a.xlsx").write_bytes(other)
        read_or_refused(folder / "a.xlsx")

    go()


@pytest.mark.slow
@pytest.mark.parametrize("fuzz", ["fuzz_xml", "fuzz_zip"])
def test_fuzzed_workbooks_are_read_or_refused(tmp_path: Path, fuzz: str) -> None:
    ended = run_limited(FUZZ.format(fuzz), str(tmp_path), seconds=300)
    assert (ended.returncode, ended.stderr) == (0, "")


def _noise(count: int) -> str:
    """Return digits that compress badly."""
    return "".join(random.Random(1).choices("0123456789", k=count))


def _cells(line: int, columns: int) -> str:
    return f'<row r="{line}">' + "<c><v>1</v></c>" * columns + "</row>"


HOSTILE = {
    "empty cells": lambda: parts(sheet(*(f"<row>{'<c/>' * 16_000}</row>" for _ in range(1000)))),
    "filled cells": lambda: parts(sheet(*(_cells(at, 16_000) for at in range(2, 300)))),
    "wide header": lambda: parts(
        "<worksheet><sheetData>" + "".join(_cells(at, 16_384) for at in range(1, 51)) + "</sheetData></worksheet>"
    ),
    "one shared string": lambda: parts(
        sheet(*(device(at, '<c t="s"><v>0</v></c>') for at in range(2, 60_000))),
        strings=f"<si><t>{'x' * 30_000}</t></si>",
    ),
    "long texts": lambda: parts(
        sheet(*(device(at, '<c t="s"><v>0</v></c>') for at in range(2, 4_000))),
        strings=f"<si><t>{'x' * 30_000}</t></si>",
    ),
    "wide table": lambda: parts(
        f"<worksheet><sheetData>{row(1, *HEAD, *['<c><v>1</v></c>'] * 16_000)}"
        + "".join(device(at, "<c><v>1</v></c>") for at in range(2, 1_200))
        + "</sheetData></worksheet>"
    ),
    "long table": lambda: parts(sheet(*(device(at, f"<c><v>{at}</v></c>") for at in range(2, 30_000)))),
    "hidden far down": lambda: parts(
        sheet(*(device(at, "<c><f/></c>", more=' hidden="1"') for at in range(2, 50_000)))
    ),
    "many shared strings": lambda: parts(sheet(ROW), strings="<si><t>a</t></si>" * 3_000_000),
    "runs": lambda: parts(sheet(ROW), strings=f"<si>{'<r><t>a</t></r>' * 2_000_000}</si>"),
    "noise": lambda: parts(sheet(device(2, f"<c><v>{_noise(900_000)}</v></c>"))),
    "attributes": lambda: parts(sheet("<c " + " ".join(f'a{at}=""' for at in range(9_000)) + "/>")),
    "formats": lambda: (
        parts(sheet(ROW)) | {STYLES: f"<styleSheet><numFmts>{'<numFmt/>' * 900_000}</numFmts></styleSheet>"}
    ),
    "far cells": lambda: parts(sheet(*(row(at, f'<c r="XFD{at}"><v>1</v></c>') for at in range(2, 100_000)))),
}


def read_hostile(path: Path) -> None:
    read_or_refused(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_a_small_file_is_read_or_refused_within_bounded_memory(tmp_path: Path, name: str) -> None:
    path = packed(tmp_path / "a.xlsx", HOSTILE[name]())
    assert path.stat().st_size < 1 << 20
    ended = run_limited(FUZZ.format("read_hostile"), str(path), seconds=120)
    assert (ended.returncode, ended.stderr) == (0, "")
