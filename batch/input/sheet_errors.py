"""The error values of a workbook's sheet, such as `#N/A`, which the workbook library gives as empty cells.

Without them a row of nothing but errors would pass for an empty one. Looks for cells of
type "e" in the sheet's XML as it streams by; what it cannot read it leaves to the library
to refuse.
"""

import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final
from xml.sax.saxutils import unescape

Errors = dict[int, dict[int, str]]
"""Row and column, both from 0, to the error as the sheet shows it."""

_PIECE: Final = 1 << 20
_MOST: Final = 64 << 20
"""Bytes without the end of a row after which this is no sheet."""
_ROW: Final = b"row>"
_CELL: Final = re.compile(
    rb'<(?:\w+:)?c\s[^>]*\bt="e"[^>]*>(?:(?!</(?:\w+:)?c>).)*?<(?:\w+:)?v>(#[^<]{1,20})<', re.DOTALL
)
_PLACE: Final = re.compile(rb'\br="([A-Z]{1,3})([0-9]{1,7})"')
_SHEET: Final = re.compile(r"<(?:\w+:)?sheet\s[^>]*>")
_RELATION: Final = re.compile(r"<(?:\w+:)?Relationship\s[^>]*>")
_ENTITIES: Final = {"&quot;": '"', "&apos;": "'"}


def error_cells(path: Path, sheet: str) -> Errors:
    """Every error value of a sheet of the workbook; none where they cannot be found."""
    errors: Errors = {}
    try:
        with zipfile.ZipFile(path) as package, package.open(_part_of(package, sheet)) as part:
            for rows in _whole_rows(iter(lambda: part.read(_PIECE), b"")):
                for cell in _CELL.finditer(rows) if b't="e"' in rows else ():
                    place = _PLACE.search(cell[0])
                    if place is not None:
                        errors.setdefault(int(place[2]) - 1, {})[_column(place[1])] = cell[1].decode(errors="replace")
    except (OSError, ValueError, LookupError, RuntimeError, EOFError, zlib.error, zipfile.BadZipFile):
        return {}
    return errors


def _part_of(package: zipfile.ZipFile, sheet: str) -> str:
    """The name in the package under which a sheet is kept; LookupError without one."""
    listed = [_attributes(tag) for tag in _SHEET.findall(package.read("xl/workbook.xml").decode())]
    relations = {one["name"]: one["id"] for one in listed}
    related = _RELATION.findall(package.read("xl/_rels/workbook.xml.rels").decode())
    target = {one["Id"]: one["Target"] for one in map(_attributes, related)}[relations[sheet]]
    return target.removeprefix("/") if target.startswith("/") else str(PurePosixPath("xl") / target)


def _attributes(tag: str) -> dict[str, str]:
    """The attributes of a tag by their names without prefix."""
    return {name: unescape(text, _ENTITIES) for name, text in re.findall(r'(?:\w+:)?(\w+)="([^"]*)"', tag)}


def _whole_rows(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes, cut where a row begins or ends, so never inside a cell."""
    rest = b""
    for piece in pieces:
        rest += piece
        end = rest.rfind(_ROW) + len(_ROW)
        if end >= len(_ROW):
            yield rest[:end]
            rest = rest[end:]
        elif len(rest) > _MOST:
            return
    yield rest


def _column(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = 26 * number + letter - ord("A") + 1
    return number - 1
