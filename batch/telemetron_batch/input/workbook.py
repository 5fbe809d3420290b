"""A workbook's sheet as rows of text: what a person sees in it, without colours and formulas.

Finds the sheet that has the required headers, unless it is named. Reads as many columns
as the header has, counts hidden rows, and notes what kind of value each key cell holds.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TypeAlias

from telemetron_batch.domain.errors import InputError
from telemetron_batch.domain.model import HiddenRows, InputOptions
from telemetron_batch.input.dialect import HEADER_LINES, Dialect, find_sheet_header
from telemetron_batch.input.normalize import is_blank
from telemetron_batch.input.number_formats import CellKind, NumberFormat, cell_formats, days_late
from telemetron_batch.input.sheet_xml import CellContext, SharedStrings, SheetRow, SheetRows
from telemetron_batch.input.zip_package import Package

ROWS_AT_A_TIME: Final = 50_000
_CELLS_AT_A_TIME: Final = 2_000_000
_TEXT_AT_A_TIME: Final = 8 << 20
_MOST_TEXT: Final = 64 << 20
_TEXT_PER_BYTE: Final = 100
"""Characters that the cells of a sheet may have for each byte of the file: shared strings may be repeated."""
_MOST_CELLS: Final = 20_000_000
_CELLS_PER_BYTE: Final = 16
_MOST_HEADER_CELLS: Final = 50_000
"""Cells in which the headers are looked for."""
_WIDEST_GAP: Final = 256
"""Empty cells after which a cell of the header's row is a stray one."""
_TRUE: Final = ("1", "true")

Kinds = dict[str, dict[int, CellKind]]
"""Field to the row's place to the kind of its cell, where that is not plain."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """One sheet as the workbook lists it."""

    name: str
    part: str
    is_shown: bool


@dataclass(frozen=True, slots=True)
class _Book:
    """A workbook: its package, its sheets, and what their cells refer to."""

    package: Package
    sheets: list[_Entry]
    context: CellContext

    def rows(self, part: str, collector: SheetRows) -> Iterator[SheetRow]:
        """Return the rows of a sheet that have any cell."""
        for _ in self.package.read(part, collector):
            yield from collector.rows
            collector.rows = []

    def first_rows(self, part: str, count: int) -> list[list[str]]:
        """Return the first rows of a sheet from row 1 on, each to its last filled cell."""
        rows: list[list[str]] = []
        for row in self.rows(part, SheetRows(self.context)):
            if row.line > count:
                break
            rows += [[] for _ in range(row.line - len(rows) - 1)]
            rows.append(_trim_row(row.cells))
        return rows


@dataclass(frozen=True, slots=True)
class SheetPiece:
    """Some rows of a sheet: their numbers, their cells, as many as the header has, and the kinds of the key cells."""

    lines: list[int] = field(default_factory=list)
    cells: list[list[str]] = field(default_factory=list)
    kinds: Kinds = field(default_factory=dict)


@dataclass(slots=True)
class Sheet:
    """The sheet with the rows, how to read it, and what is learnt on the way.

    hidden_rows   hidden rows with a filled key cell
    first_hidden  the first of them
    padded        serials read with zeros in front that the cell does not hold
    first_padded  the row of the first
    surplus       the first cell that stands right of the header
    """

    dialect: Dialect
    notes: tuple[str, ...]
    """Warnings about the choice of the sheet and its header."""
    hidden: HiddenRows
    book: _Book
    part: str
    hidden_rows: int = 0
    first_hidden: int = 0
    padded: int = 0
    first_padded: int = 0
    surplus: str = ""

    @property
    def left_out(self) -> int:
        """The number of hidden rows that were left out."""
        return self.hidden_rows if self.hidden is HiddenRows.SKIP else 0

    def warnings(self) -> Iterator[str]:
        """Return warnings about the rows, once they are read."""
        if self.hidden_rows:
            done = "left out" if self.hidden is HiddenRows.SKIP else "read like the others"
            yield f"{_count_hidden(self.hidden_rows)} {done}, first: {self.first_hidden}"
        if self.padded:
            serials = "1 serial is" if self.padded == 1 else f"{self.padded:,} serials are"
            yield (
                f"{serials} shown with zeros in front that the cell does not hold, and read as shown "
                f"(first on line {self.first_padded})"
            )
        if self.surplus:
            yield f"cells right of the last header are not read (first: {self.surplus})"

    def copied(self) -> "Sheet":
        """Return the same sheet for another reading, with limits and counts of its own."""
        return replace(self, book=replace(self.book, package=replace(self.book.package)))

    def pieces(self) -> Iterator[SheetPiece]:
        """Return what follows the header, some rows at a time.

        Raises InputError at the end if there are hidden rows on which nothing was decided.
        """
        width = len(self.dialect.header)
        collector = SheetRows(self.book.context, width, self.dialect.header_line)
        piece, most = SheetPiece(), min(ROWS_AT_A_TIME, max(1, _CELLS_AT_A_TIME // width))
        limits, begun = _Limits.of(self.book.package.path), 0
        for row in self.book.rows(self.part, collector):
            if row.line < self.dialect.first_line or not self._is_wanted(row):
                continue
            self._add(row, width, piece)
            if len(piece.lines) >= most or collector.characters - begun > _TEXT_AT_A_TIME:
                limits.take(len(piece.lines) * width, collector.characters)
                yield piece
                piece, begun = SheetPiece(), collector.characters
        limits.take(len(piece.lines) * width, collector.characters)
        self.surplus = collector.surplus
        if self.hidden is HiddenRows.REFUSE and self.hidden_rows:
            raise InputError(
                f"has {_count_hidden(self.hidden_rows)}, first: {self.first_hidden}",
                "say --hidden skip or --hidden read",
            )
        if piece.lines:
            yield piece

    def _is_wanted(self, row: SheetRow) -> bool:
        if row.is_hidden and any(self._is_filled(row, at) for at in self.dialect.columns.values()):
            self.hidden_rows += 1
            self.first_hidden = self.first_hidden or row.line
            return self.hidden is HiddenRows.READ
        return True

    def _is_filled(self, row: SheetRow, column: int) -> bool:
        return column < len(row.cells) and (column in row.kinds or not is_blank(row.cells[column]))

    def _add(self, row: SheetRow, width: int, piece: SheetPiece) -> None:
        """Put a row into a piece."""
        for name, column in self.dialect.columns.items() if row.kinds else ():
            kind = row.kinds.get(column)
            if kind is not None:
                piece.kinds.setdefault(name, {})[len(piece.lines)] = kind
            if kind is CellKind.PADDED and name == "deviceIdentifier":
                self.padded += 1
                self.first_padded = self.first_padded or row.line
        piece.lines.append(row.line)
        missing = width - len(row.cells)
        piece.cells.append(row.cells + [""] * missing if missing else row.cells)


@dataclass(slots=True)
class _Limits:
    """What the rows of a sheet may come to."""

    cells: int
    characters: int

    @classmethod
    def of(cls, path: Path) -> "_Limits":
        size = path.stat().st_size
        return cls(_MOST_CELLS + _CELLS_PER_BYTE * size, _MOST_TEXT + _TEXT_PER_BYTE * size)

    def take(self, cells: int, characters: int) -> None:
        """Take cells off what is left; `characters` are those of all rows so far. Raises InputError."""
        self.cells -= cells
        if self.cells < 0 or characters > self.characters:
            raise InputError(
                "unpacks to far more cells or text than its size allows", "delete what is beside the table, or use CSV"
            )


Adapt: TypeAlias = Callable[[list[list[str]]], InputOptions]
"""Returns the options that hold for a sheet with these first rows."""


def find_sheet(path: Path, options: InputOptions, adapt: Adapt | None = None) -> Sheet:
    """Return the sheet that was named, else the first visible one under which the headers are found.

    Raises InputError for what is no workbook, a sheet that is not there, or no header.
    """
    adapt = adapt or (lambda _: options)
    book = _open_book(path)
    entries = _candidates(book, _sheet_to_read(book, options.sheet, adapt))
    refusals: list[InputError] = []
    left = _MOST_HEADER_CELLS
    for at, entry in enumerate(entries):
        rows = _first_few(book.first_rows(entry.part, HEADER_LINES), left)
        left -= sum(map(len, rows))
        try:
            dialect = find_sheet_header(rows, adapt(rows))
        except InputError as refusal:
            refusals.append(refusal)
            continue
        unread = ", ".join(f'"{other.name}"' for other in entries[:at] + entries[at + 1 :])
        note = (f'only sheet "{entry.name}" is read, not {unread}; name another with --sheet',) if unread else ()
        return Sheet(dialect, (*dialect.warnings, *note), options.hidden, book, entry.part)
    if refusals:
        raise refusals[0]
    raise InputError("has no visible sheet", "name one with --sheet")


def _sheet_to_read(book: _Book, said: str | None, adapt: Adapt) -> str | None:
    """Return the name of the sheet that was asked for; None where it is absent and another needs not be named."""
    if said is None or any(entry.name == said for entry in book.sheets):
        return said
    others = (adapt(book.first_rows(entry.part, 1)) for entry in book.sheets if entry.is_shown)
    return None if any(options.sheet is None for options in others) else said


def first_rows(path: Path, said: str | None, count: int) -> dict[str, list[list[str]]]:
    """Return the first rows of the sheet that was named, else of every visible sheet, those of a sheet equally wide.

    Raises as `find_sheet`.
    """
    book = _open_book(path)
    sheets = {entry.name: book.first_rows(entry.part, count) for entry in _candidates(book, said)}
    return {name: _equally_wide(rows) for name, rows in sheets.items()}


def _equally_wide(rows: list[list[str]]) -> list[list[str]]:
    width = max(map(len, rows), default=0)
    return [row + [""] * (width - len(row)) for row in rows[: max(1, _CELLS_AT_A_TIME // max(1, width))]]


def _first_few(rows: list[list[str]], most_cells: int) -> list[list[str]]:
    """Return the first rows, as long as they have no more than so many cells together; the first in any case."""
    for count, row in enumerate(rows):
        most_cells -= len(row)
        if most_cells < 0:
            return rows[: max(1, count)]
    return rows


def _trim_row(cells: list[str]) -> list[str]:
    """Return the cells of one of the first rows without those behind a wide gap, which belong to no table."""
    end = 0
    for at, cell in enumerate(cells):
        if cell and not is_blank(cell):
            if end and at - end > _WIDEST_GAP:
                break
            end = at + 1
    return cells[:end]


def _count_hidden(rows: int) -> str:
    return "1 hidden row" if rows == 1 else f"{rows:,} hidden rows"


def _candidates(book: _Book, said: str | None) -> list[_Entry]:
    if said is None:
        return [entry for entry in book.sheets if entry.is_shown]
    found = [entry for entry in book.sheets if entry.name == said]
    if not found:
        names = ", ".join(f'"{entry.name}"' for entry in book.sheets)
        raise InputError(f'has no sheet "{said}"', f"name one of {names} with --sheet")
    return found[:1]


def _open_book(path: Path) -> _Book:
    """Read what a workbook says of itself. Raises InputError for what is none."""
    package = Package.of(path)
    main = next(
        (part for kind, part in package.relationships("").values() if kind == "officeDocument"), "xl/workbook.xml"
    )
    elements = package.read_elements(main)
    settings = {name: attributes for name, attributes in elements if name in ("workbookPr", "calcPr")}
    related = package.relationships(main)
    context = CellContext(
        strings=_strings(package, related),
        formats=_formats(package, related),
        days_from=days_late(is_1904=settings.get("workbookPr", {}).get("date1904") in _TRUE),
        recalculates=settings.get("calcPr", {}).get("fullCalcOnLoad") in _TRUE,
    )
    return _Book(package, [*_entries(elements, related)], context)


def _entries(elements: list[tuple[str, dict[str, str]]], related: Mapping[str, tuple[str, str]]) -> Iterator[_Entry]:
    """Return the sheets that hold cells; charts do not."""
    for name, attributes in elements:
        kind, part = related.get(attributes.get("id", ""), ("", ""))
        if name == "sheet" and kind == "worksheet":
            hidden = attributes.get("state") in ("hidden", "veryHidden")
            yield _Entry(attributes.get("name", ""), part, not hidden)


def _part(related: Mapping[str, tuple[str, str]], kind: str) -> str:
    return next((part for one, part in related.values() if one == kind), "")


def _strings(package: Package, related: Mapping[str, tuple[str, str]]) -> list[str]:
    shared, part = SharedStrings(), _part(related, "sharedStrings")
    for _ in package.read(part, shared) if part.lower() in package.parts else ():
        pass
    return shared.strings


def _formats(package: Package, related: Mapping[str, tuple[str, str]]) -> list[NumberFormat]:
    """Return the number formats of the workbook's cell styles."""
    part = _part(related, "styles")
    codes: dict[str, str] = {}
    ids: list[str] = []
    is_of_cells = False
    for name, attributes in package.read_elements(part) if part.lower() in package.parts else ():
        if name == "numFmt":
            codes.setdefault(attributes.get("numFmtId", ""), attributes.get("formatCode", ""))
        elif name in ("cellStyleXfs", "cellXfs", "cellStyles"):
            is_of_cells = name == "cellXfs"
        elif name == "xf" and is_of_cells:
            ids.append(attributes.get("numFmtId", "0"))
    return cell_formats(ids, codes)
