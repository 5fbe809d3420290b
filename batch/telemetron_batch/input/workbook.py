"""Read a sheet of a workbook as rows of text, as a person sees it.

Finds the sheet with the required headers, unless one is named. Reads only the columns of the
header, counts hidden rows, and records the kind of each key cell.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TypeAlias

from telemetron_batch.domain.errors import InputError
from telemetron_batch.domain.model import HiddenRowsPolicy, InputOptions
from telemetron_batch.input.dialect import HEADER_LINES, Dialect, find_sheet_header
from telemetron_batch.input.normalize import is_blank
from telemetron_batch.input.number_formats import CellKind, NumberFormat, calendar_offset, cell_formats
from telemetron_batch.input.sheet_xml import CellContext, SharedStrings, SheetRow, SheetRows
from telemetron_batch.input.zip_package import Package

BLOCK_ROWS: Final = 50_000
_BLOCK_CELLS: Final = 2_000_000
_BLOCK_CHARACTERS: Final = 8 << 20
_MAX_CHARACTERS: Final = 64 << 20
_CHARACTERS_PER_BYTE: Final = 100
"""Characters of text allowed for each byte of the file; shared strings may be used many times."""
_MAX_CELLS: Final = 20_000_000
_CELLS_PER_BYTE: Final = 16
_MAX_HEADER_CELLS: Final = 50_000
"""Number of cells in which the headers are searched, over all sheets."""
_WIDEST_GAP: Final = 256
"""Number of empty cells after which another cell in a row does not belong to the table."""
_TRUE: Final = ("1", "true")

Kinds = dict[str, dict[int, CellKind]]
"""Field to position of the row to the kind of its cell, for cells that are not plain."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """One sheet as the workbook lists it."""

    name: str
    part: str
    is_shown: bool


@dataclass(frozen=True, slots=True)
class _Book:
    """An open workbook: its package, its sheets, and the shared parts that cells refer to."""

    package: Package
    sheets: list[_Entry]
    context: CellContext

    def rows(self, part: str, collector: SheetRows) -> Iterator[SheetRow]:
        """Yield the rows of a sheet that have cells."""
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
class SheetBlock:
    """Some rows of a sheet: their numbers, their cells up to the width of the header, and the kinds of key cells."""

    lines: list[int] = field(default_factory=list)
    cells: list[list[str]] = field(default_factory=list)
    kinds: Kinds = field(default_factory=dict)


@dataclass(slots=True)
class Sheet:
    """The sheet with the rows, how to read it, and counts of what was read.

    hidden_rows         number of hidden rows with a filled key cell
    first_hidden        the first of these rows
    padded_serials      number of serials read with leading zeros that only the number format adds
    first_padded        the row of the first of these serials
    first_surplus_cell  the first cell to the right of the header
    """

    dialect: Dialect
    notes: tuple[str, ...]
    """Warnings about the choice of the sheet and its header."""
    hidden: HiddenRowsPolicy
    book: _Book
    part: str
    hidden_rows: int = 0
    first_hidden: int = 0
    padded_serials: int = 0
    first_padded: int = 0
    first_surplus_cell: str = ""

    @property
    def left_out(self) -> int:
        """Number of hidden rows that were not read."""
        return self.hidden_rows if self.hidden is HiddenRowsPolicy.SKIP else 0

    def warnings(self) -> Iterator[str]:
        """Yield warnings about the rows; call it after reading them."""
        if self.hidden_rows:
            done = "left out" if self.hidden is HiddenRowsPolicy.SKIP else "read like the others"
            yield f"{_count_hidden(self.hidden_rows)} {done}, first: {self.first_hidden}"
        if self.padded_serials:
            serials = "1 serial is" if self.padded_serials == 1 else f"{self.padded_serials:,} serials are"
            yield (
                f"{serials} shown with zeros in front that the cell does not hold, and read as shown "
                f"(first on line {self.first_padded})"
            )
        if self.first_surplus_cell:
            yield f"cells right of the last header are not read (first: {self.first_surplus_cell})"

    def copied(self) -> "Sheet":
        """Return a copy for another reading, with separate limits and counts."""
        return replace(self, book=replace(self.book, package=replace(self.book.package)))

    def blocks(self) -> Iterator[SheetBlock]:
        """Yield the rows after the header.

        Raises InputError at the end if there are hidden rows and `hidden` is REFUSE.
        """
        width = len(self.dialect.header)
        collector = SheetRows(self.book.context, width, self.dialect.header_line)
        block, max_rows = SheetBlock(), min(BLOCK_ROWS, max(1, _BLOCK_CELLS // width))
        limits, characters_before = _Limits.of(self.book.package.path), 0
        for row in self.book.rows(self.part, collector):
            if row.line < self.dialect.first_line or not self._is_wanted(row):
                continue
            self._add(row, width, block)
            if len(block.lines) >= max_rows or collector.characters - characters_before > _BLOCK_CHARACTERS:
                limits.take(len(block.lines) * width, collector.characters)
                yield block
                block, characters_before = SheetBlock(), collector.characters
        limits.take(len(block.lines) * width, collector.characters)
        self.first_surplus_cell = collector.first_surplus_cell
        if self.hidden is HiddenRowsPolicy.REFUSE and self.hidden_rows:
            raise InputError(
                f"has {_count_hidden(self.hidden_rows)}, first: {self.first_hidden}",
                "say --hidden skip or --hidden read",
            )
        if block.lines:
            yield block

    def _is_wanted(self, row: SheetRow) -> bool:
        if row.is_hidden and any(self._is_filled(row, at) for at in self.dialect.columns.values()):
            self.hidden_rows += 1
            self.first_hidden = self.first_hidden or row.line
            return self.hidden is HiddenRowsPolicy.READ
        return True

    def _is_filled(self, row: SheetRow, column: int) -> bool:
        return column < len(row.cells) and (column in row.kinds or not is_blank(row.cells[column]))

    def _add(self, row: SheetRow, width: int, block: SheetBlock) -> None:
        """Add a row to a block."""
        for name, column in self.dialect.columns.items() if row.kinds else ():
            kind = row.kinds.get(column)
            if kind is not None:
                block.kinds.setdefault(name, {})[len(block.lines)] = kind
            if kind is CellKind.PADDED and name == "deviceIdentifier":
                self.padded_serials += 1
                self.first_padded = self.first_padded or row.line
        block.lines.append(row.line)
        missing = width - len(row.cells)
        block.cells.append(row.cells + [""] * missing if missing else row.cells)


@dataclass(slots=True)
class _Limits:
    """Limits for the rows of a sheet, in proportion to the size of the file."""

    cells: int
    """Number of cells that may still be read."""
    characters: int

    @classmethod
    def of(cls, path: Path) -> "_Limits":
        size = path.stat().st_size
        return cls(_MAX_CELLS + _CELLS_PER_BYTE * size, _MAX_CHARACTERS + _CHARACTERS_PER_BYTE * size)

    def take(self, cells: int, characters: int) -> None:
        """Count cells; `characters` is the number in all rows so far. Raises InputError beyond a limit."""
        self.cells -= cells
        if self.cells < 0 or characters > self.characters:
            raise InputError(
                "unpacks to far more cells or text than its size allows", "delete what is beside the table, or use CSV"
            )


Adapt: TypeAlias = Callable[[list[list[str]]], InputOptions]
"""Returns the options for a sheet with these first rows."""


def find_sheet(path: Path, options: InputOptions, adapt: Adapt | None = None) -> Sheet:
    """Return the requested sheet, else the first visible sheet with the headers.

    Raises InputError if the file is no workbook, the sheet does not exist, or no header is found.
    """
    adapt = adapt or (lambda _: options)
    book = _open_book(path)
    entries = _candidates(book, _sheet_to_read(book, options.sheet, adapt))
    errors: list[InputError] = []
    cells_left = _MAX_HEADER_CELLS
    for at, entry in enumerate(entries):
        rows = _limit_cells(book.first_rows(entry.part, HEADER_LINES), cells_left)
        cells_left -= sum(map(len, rows))
        try:
            dialect = find_sheet_header(rows, adapt(rows))
        except InputError as error:
            errors.append(error)
            continue
        unread = ", ".join(f'"{other.name}"' for other in entries[:at] + entries[at + 1 :])
        note = (f'only sheet "{entry.name}" is read, not {unread}; name another with --sheet',) if unread else ()
        return Sheet(dialect, (*dialect.warnings, *note), options.hidden, book, entry.part)
    if errors:
        raise errors[0]
    raise InputError("has no visible sheet", "name one with --sheet")


def _sheet_to_read(book: _Book, requested: str | None, adapt: Adapt) -> str | None:
    """Return the requested sheet; None if it does not exist and `adapt` allows any sheet, as for own reports."""
    if requested is None or any(entry.name == requested for entry in book.sheets):
        return requested
    others = (adapt(book.first_rows(entry.part, 1)) for entry in book.sheets if entry.is_shown)
    return None if any(options.sheet is None for options in others) else requested


def first_rows(path: Path, requested: str | None, count: int) -> dict[str, list[list[str]]]:
    """Return the first rows of the requested sheet, else of every visible sheet; rows of a sheet are equally wide.

    Raises the errors of `find_sheet`.
    """
    book = _open_book(path)
    sheets = {entry.name: book.first_rows(entry.part, count) for entry in _candidates(book, requested)}
    return {name: _equally_wide(rows) for name, rows in sheets.items()}


def _equally_wide(rows: list[list[str]]) -> list[list[str]]:
    width = max(map(len, rows), default=0)
    return [row + [""] * (width - len(row)) for row in rows[: max(1, _BLOCK_CELLS // max(1, width))]]


def _limit_cells(rows: list[list[str]], max_cells: int) -> list[list[str]]:
    """Return the first rows that have at most `max_cells` cells together, but at least one row."""
    for count, row in enumerate(rows):
        max_cells -= len(row)
        if max_cells < 0:
            return rows[: max(1, count)]
    return rows


def _trim_row(cells: list[str]) -> list[str]:
    """Return the cells of a row without those after a wide gap, which do not belong to the table."""
    end = 0
    for at, cell in enumerate(cells):
        if cell and not is_blank(cell):
            if end and at - end > _WIDEST_GAP:
                break
            end = at + 1
    return cells[:end]


def _count_hidden(rows: int) -> str:
    return "1 hidden row" if rows == 1 else f"{rows:,} hidden rows"


def _candidates(book: _Book, requested: str | None) -> list[_Entry]:
    if requested is None:
        return [entry for entry in book.sheets if entry.is_shown]
    found = [entry for entry in book.sheets if entry.name == requested]
    if not found:
        names = ", ".join(f'"{entry.name}"' for entry in book.sheets)
        raise InputError(f'has no sheet "{requested}"', f"name one of {names} with --sheet")
    return found[:1]


def _open_book(path: Path) -> _Book:
    """Read the sheets, shared strings and number formats of a workbook. Raises InputError for other files."""
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
        calendar_offset_days=calendar_offset(is_1904=settings.get("workbookPr", {}).get("date1904") in _TRUE),
        recalculates=settings.get("calcPr", {}).get("fullCalcOnLoad") in _TRUE,
    )
    return _Book(package, [*_entries(elements, related)], context)


def _entries(elements: list[tuple[str, dict[str, str]]], related: Mapping[str, tuple[str, str]]) -> Iterator[_Entry]:
    """Yield the sheets that have cells; chart sheets have none."""
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
