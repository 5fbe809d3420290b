"""Workbooks with their XML and their zip torn and bent: rows or one line come back, in little memory and time.

Each file is read in a process of its own.
`TESTS_FUZZ_SECONDS=600 pytest -m slow -s tests/input/test_fuzz_workbooks.py` goes on for longer.
`TESTS_SEED` names other files.
"""

import os
import random
import re
import shutil
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import openpyxl
import pytest
import xlsxwriter

from tests.input.test_zip_package import HOSTILE
from tests.support.nursery import READ, Nursery
from tests.support.sheets import HEAD, STRICT, book, device, packed, parts, row, sheet

# ruff: noqa: T201 - how far it came depends on the machine

pytestmark = pytest.mark.slow

SECONDS = float(os.environ.get("TESTS_FUZZ_SECONDS", "30"))
SEED = int(os.environ.get("TESTS_SEED", "1"))
LARGEST = 8 << 20
"""Bytes of a part that is made from a smaller one."""
SMALL = 1 << 17
"""Largest size of a part that is changed again."""

Parts = dict[str, bytes]


def _by_hand(namespace: str = "") -> Parts:
    rows = [
        row(2, "a@b.cc", "S1", "assign"),
        device(3, '<c s="1"><v>12342</v></c>'),
        device(4, '<c t="str"><f>A1</f><v>SN-7</v></c>'),
        device(5, '<c t="s"><v>1</v></c>', more=' hidden="1"'),
        device(6, '<c t="e"><v>#N/A</v></c>'),
        device(7, '<c s="2"><v>45351.5</v></c>'),
        device(8, '<c s="3"><v>1.25</v></c>', more=' ht="0" customHeight="1"'),
        device(9, '<c t="b"><v>1</v></c>'),
        device(10, '<c t="inlineStr"><is><r><t>S</t></r><r><rPr><b/></rPr><t>N</t></r><rPh><t>x</t></rPh></is></c>'),
        device(11, '<c><f t="shared" si="0" ref="B11:B12">C9</f></c>'),
        device(12, "<c><v>8944500102198304768</v></c>"),
        device(13, '<c t="d"><v>2024-02-29T00:00:00</v></c>'),
        row(15, "a@b.cc", "_x0041_1", "return", '<c r="XFD15"><v>1</v></c>'),
    ]
    strings = "<si><t>S1</t></si><si><r><t>S</t></r><r><t>2</t></r></si>"
    xml = sheet(*rows, namespace=namespace) if namespace else sheet(*rows)
    return {name: text.encode() for name, text in parts(xml, strings=strings).items()}


def _parts_of(path: Path) -> Parts:
    with zipfile.ZipFile(path) as package:
        return {name: package.read(name) for name in package.namelist()}


def _by_openpyxl(folder: Path) -> Parts:
    made = openpyxl.Workbook()
    page = made.active
    page.title = "Notes"
    page = made.create_sheet("Data")
    page.append(["Devices of the week"])
    page.append(HEAD)
    for at in range(30):
        page.append([f"user{at % 5}@example.com", 490154203237518 + at, ("assign", "return")[at % 2]])
    page["B7"].number_format = "000000000000000000"
    page["B8"] = "=B7+1"
    page.row_dimensions[9].hidden = True
    page.auto_filter.ref = "A2:C30"
    made.save(folder / "a.xlsx")
    return _parts_of(folder / "a.xlsx")


def _by_xlsxwriter(folder: Path) -> Parts:
    with xlsxwriter.Workbook(folder / "a.xlsx") as made:
        page = made.add_worksheet()
        page.write_row(0, 0, HEAD)
        dated = made.add_format({"num_format": "yyyy-mm-dd"})
        for at in range(1, 30):
            page.write_row(at, 0, ["a@b.cc", f"SN-{at:05}", "assign", "x" * at])
        page.write_number(30, 1, 45_000, dated)
        page.write_formula(31, 1, "=B3", None, "SN-00002")
        page.set_row(5, None, None, {"hidden": True})
    return _parts_of(folder / "a.xlsx")


def _seeds() -> list[Parts]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        return [_by_hand(), _by_hand(STRICT), _by_openpyxl(folder), _by_xlsxwriter(folder)]


# What is done to the XML of a part.

PIECES = [
    "<", ">", "/", "&", '"', "<c>", "</c>", "<row>", "</row>", "<c/>", "<f/>", "<v/>", "<is><t>x</t></is>",
    "</sheetData>", "<!--", "-->", "<![CDATA[", "]]>", "<?x?>", "&#0;", "&#xD800;", "&lt;", "&a;", "\0", "\ufeff",
    '<!DOCTYPE a [<!ENTITY a "b">]>', "<v>1E999</v>", "_x0000_", "_xD800_", "<mergeCell ref='A1:C9'/>",
    "<cols><col min='1' max='9' hidden='1'/></cols>",
]  # fmt: skip
VALUES = [
    "", "0", "-1", "1", "9" * 9, "9" * 400, "1048576", "1048577", "XFD1048576", "XFE1", "A0", "AAAA1", "1A", "a1",
    "s", "q", "str", "inlineStr", "b", "e", "d", "n", "true", "1e5", "1e309", "NaN", "Infinity", "-0", "0x10",
    "\u0661", "1_0", "../../../etc/passwd", "/xl/workbook.xml", "file:///etc/passwd", "rId1", "r1", "hidden",
    "veryHidden", "General", "yyyy" * 9, "0" * 999, "[" * 999, "*" * 999, "x" * 70_000, "1" * 70_000,
]  # fmt: skip
TAG = re.compile(rb"<[^<>]*>")
ATTRIBUTE = re.compile(rb'\b(\w+)="([^"]*)"')
TEXT = re.compile(rb">([^<>]+)<")
ELEMENT = re.compile(rb"<(\w+)[^<>]*>(?:(?!<\1).){0,500}?</\1>|<\w+[^<>]*/>", re.S)

Change = Callable[[random.Random, bytes], bytes]


def _put(content: bytes, start: int, end: int, new: bytes) -> bytes:
    return content[:start] + new + content[end:]


def _one(chance: random.Random, pattern: re.Pattern[bytes], content: bytes) -> re.Match[bytes] | None:
    return chance.choice([*pattern.finditer(content)] or [None])


def bytes_changed(chance: random.Random, content: bytes) -> bytes:
    at = chance.randrange(len(content) + 1)
    return _put(content, at, at + chance.choice([0, 0, 1, 3, 30]), chance.randbytes(chance.choice([0, 1, 4])))


def piece_put_in(chance: random.Random, content: bytes) -> bytes:
    at = chance.randrange(len(content) + 1)
    return _put(content, at, at, chance.choice(PIECES).encode())


def _taking(pattern: re.Pattern[bytes]) -> Change:
    """Return a change that removes one match."""

    def taken(chance: random.Random, content: bytes) -> bytes:
        found = _one(chance, pattern, content)
        return content if found is None else _put(content, found.start(), found.end(), b"")

    return taken


def _changing(pattern: re.Pattern[bytes], group: int) -> Change:
    """Return a change that gives a group of one match another value."""

    def changed(chance: random.Random, content: bytes) -> bytes:
        found = _one(chance, pattern, content)
        if found is None:
            return content
        return _put(content, found.start(group), found.end(group), chance.choice(VALUES).encode())

    return changed


value_changed, text_changed = _changing(ATTRIBUTE, 2), _changing(TEXT, 1)
attribute_taken, tag_taken, element_taken = _taking(ATTRIBUTE), _taking(TAG), _taking(ELEMENT)


def element_moved(chance: random.Random, content: bytes) -> bytes:
    found = _one(chance, ELEMENT, content)
    if found is None:
        return content
    rest = _put(content, found.start(), found.end(), b"")
    tag = _one(chance, TAG, rest)
    at = len(rest) if tag is None else tag.end()
    return _put(rest, at, at, found.group())


def element_repeated(chance: random.Random, content: bytes) -> bytes:
    found = _one(chance, ELEMENT, content)
    if found is None:
        return content
    times = min(chance.choice([2, 100, 20_000, 500_000]), LARGEST // len(found.group()))
    return _put(content, found.end(), found.end(), found.group() * times)


def text_repeated(chance: random.Random, content: bytes) -> bytes:
    found = _one(chance, TEXT, content)
    if found is None:
        return content
    times = min(chance.choice([2, 100, 40_000, 2_000_000]), LARGEST // len(found[1]))
    return _put(content, found.end(1), found.end(1), found[1] * times)


def nested(chance: random.Random, content: bytes) -> bytes:
    found = _one(chance, ELEMENT, content)
    if found is None:
        return content
    name, depth = chance.choice([b"c", b"row", b"is", b"si", b"r", b"x"]), chance.choice([2, 900, 50_000])
    return _put(content, found.start(), found.end(), b"<%s>" % name * depth + found.group() + b"</%s>" % name * depth)


def cut_short(chance: random.Random, content: bytes) -> bytes:
    return content[: chance.randrange(len(content) + 1)]


def in_another_encoding(chance: random.Random, content: bytes) -> bytes:
    encoding = chance.choice(["utf-16", "utf-16-le", "latin-1", "utf-8-sig", "utf-7", "cp037"])
    return content.decode("utf-8", "replace").encode(encoding, "replace")


def declared_otherwise(chance: random.Random, content: bytes) -> bytes:
    encoding = chance.choice([b"utf-16", b"latin-1", b"US-ASCII", b"x", b"UTF-7", b"cp1252"])
    return b'<?xml version="1.0" encoding="%s"?>' % encoding + re.sub(rb"^\s*<\?xml[^>]*\?>", b"", content)


XML: list[Change] = [
    bytes_changed, piece_put_in, piece_put_in, value_changed, value_changed, value_changed, attribute_taken,
    text_changed, text_changed, tag_taken, element_taken, element_moved, element_repeated, text_repeated, nested,
    cut_short, in_another_encoding, declared_otherwise,
]  # fmt: skip


# What is done to the package.


def _with_parts_changed(chance: random.Random, contents: Parts) -> Parts:
    contents, names = dict(contents), [*contents]
    one, other = chance.choice(names), chance.choice(names)
    match chance.randrange(5):
        case 0:
            del contents[one]
        case 1:
            contents[one], contents[other] = contents[other], contents[one]
        case 2:
            contents[chance.choice(["XL\\Workbook.xml", "../x", "/", "a" * 9000, "xl/workbook.bin", "\u00e9"])] = (
                b"<x/>"
            )
        case 3:
            contents[one] = b""
        case _:
            contents[one.upper()] = contents.pop(one)
    return contents


def _zipped(chance: random.Random, contents: Parts) -> bytes:
    content = BytesIO()
    unusual = chance.choice([*contents]) if contents and chance.random() < 0.03 else ""
    with zipfile.ZipFile(content, "w") as package:
        package.comment = chance.choice([b"", b"", b"x" * 999])
        for name, part in contents.items():
            methods = [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA] if name == unusual else [zipfile.ZIP_DEFLATED] * 9
            package.writestr(name, part, chance.choice([*methods, zipfile.ZIP_STORED]))
    return content.getvalue()


def _with_headers_changed(chance: random.Random, content: bytes) -> bytes:
    """Change, cut off or prepend bytes of the headers of the archive."""
    marks = [found.start() for found in re.finditer(rb"PK(?:\x01\x02|\x03\x04|\x05\x06)", content)]
    other = bytearray(content)
    for _ in range(chance.randrange(1, 4)):
        at = chance.choice(marks or [0]) + chance.randrange(46)
        other[at : at + 1] = chance.choice([b"\0", b"\xff", chance.randbytes(1), b"", b"\0\0\0\0", b"\xff\xff\xff\xff"])
    match chance.randrange(6):
        case 0:
            return bytes(other[: chance.randrange(len(other) + 1)])
        case 1:
            return chance.randbytes(40) + bytes(other)
        case 2:
            return bytes(other) + chance.randbytes(40)
        case _:
            return bytes(other)


def bent(chance: random.Random, contents: Parts) -> bytes:
    """Return a workbook with one to four random changes."""
    contents = dict(contents)
    for _ in range(chance.choice([1, 1, 1, 2, 3, 4])):
        if chance.random() < 0.1:
            contents = _with_parts_changed(chance, contents)
            continue
        sheets = [name for name in contents if "sheet" in name.lower()]
        part = chance.choice([*contents, *sheets, *sheets, *sheets])
        if len(contents[part]) <= SMALL:
            contents[part] = chance.choice(XML)(chance, contents[part])
    content = _zipped(chance, contents)
    return _with_headers_changed(chance, content) if chance.random() < 0.15 else content


OPTIONS: list[dict[str, object]] = [
    {}, {"hidden": "skip"}, {"hidden": "read"}, {"hidden": "skip", "allow_suspect": True}, {"sheet": "Data"},
    {"hidden": "skip", "auto_create_devices": True, "device_type": "x"},
    {"hidden": "read", "fill_down": ["customerEmail"]}, {"hidden": "skip", "trailer_count": "([0-9]+)"},
]  # fmt: skip


@dataclass
class _Worst:
    seconds: float = 0.0
    memory: int = 0


def test_any_workbook_gives_rows_or_a_message_of_one_line(tmp_path: Path) -> None:
    seeds, chance = _seeds(), random.Random(SEED)
    end, path, kept = time.monotonic() + SECONDS, tmp_path / "a.xlsx", tmp_path / "kept"
    kept.mkdir()
    endings: Counter[str] = Counter()
    worst, bad = _Worst(), []
    with Nursery() as nursery:
        while time.monotonic() < end:
            path.write_bytes(bent(chance, chance.choice(seeds)))
            options = chance.choice(OPTIONS)
            ending = nursery.read(path, **options)
            endings[ending.what] += 1
            worst = _Worst(max(worst.seconds, ending.seconds), max(worst.memory, ending.memory))
            if not ending.is_allowed:
                shutil.copy(path, kept / f"{len(bad)}.xlsx")
                bad.append((f"{kept / str(len(bad))}.xlsx", options, ending))
    told = ", ".join(f"{count:,} {what}" for what, count in endings.most_common())
    print(f"{endings.total():,} workbooks: {told}; at most {worst.seconds:.1f} s, {worst.memory >> 20} MiB")
    assert bad == []
    assert endings[READ] > 0


def test_unchanged_seeds_are_read_in_full(tmp_path: Path) -> None:
    with Nursery() as nursery:
        for contents in _seeds():
            path = packed(tmp_path / "a.xlsx", contents)
            assert nursery.read(path, hidden="read").what == READ


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_workbook_is_read_or_refused_in_time(tmp_path: Path, name: str) -> None:
    with Nursery() as nursery:
        ending = nursery.read(packed(tmp_path / "a.xlsx", HOSTILE[name]()), hidden="skip")
    assert ending.is_allowed, ending


def test_the_checks_of_these_tests_find_violations(tmp_path: Path) -> None:
    path = book(tmp_path / "a.xlsx", row(2, "a@b.cc", "S1", "assign"))
    with Nursery() as nursery:
        assert nursery.read(path, no_such_option=1).what == "raised"
        assert nursery.read(path).what == READ
