"""Parse the XML of a sheet into rows of text, as a stream; and the shared strings that its cells refer to.

Keeps only the cells up to a given column, so that a cell far to the right costs nothing. Tells
for each row whether it is hidden, and for each cell what kind of value it has.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from telemetron_batch.domain.errors import InputError
from telemetron_batch.domain.printable import printable
from telemetron_batch.input.dialect import MAX_COLUMNS
from telemetron_batch.input.number_formats import GENERAL, CellKind, NumberFormat, format_number
from telemetron_batch.input.zip_package import SEPARATOR, End, Handler, Start

MAX_ROWS: Final = 1_048_576
_MAX_CELL_CHARACTERS: Final = 1 << 20
"""Far more than the 32,767 characters that spreadsheets allow."""
_MAX_ROW_CHARACTERS: Final = 16 << 20
_DIGITS: Final = "0123456789"
_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_EXACT_DIGITS: Final = 15
"""Number of digits that a spreadsheet keeps exactly."""
_ESCAPE: Final = re.compile("_x([0-9A-Fa-f]{4})_")
_NAMESPACES: Final = (
    "",
    f"http://schemas.openxmlformats.org/spreadsheetml/2006/main{SEPARATOR}",
    f"http://purl.oclc.org/ooxml/spreadsheetml/main{SEPARATOR}",
)
_TRUE: Final = ("1", "true")
_HandlerT = TypeVar("_HandlerT", bound=Callable[..., None])


class SheetRow(NamedTuple):
    """One row of a sheet: its number, its cells from column A on, and the kinds of the cells that are not plain."""

    line: int
    is_hidden: bool
    cells: list[str]
    kinds: Mapping[int, CellKind]


@dataclass(slots=True)
class CellContext:
    """What cells refer to, and how their numbers are shown.

    strings               shared strings by number
    formats               number formats by cell style
    calendar_offset_days  by how many days the calendar begins later than the usual one
    recalculates          whether a spreadsheet calculates the workbook on opening it, so that a stored
                          zero may stand for no value
    """

    strings: Sequence[str] = ()
    formats: Sequence[NumberFormat] = ()
    calendar_offset_days: int = 0
    recalculates: bool = False


class _TextHandler(Handler):
    """Collects the runs of one text at a time, without phonetic readings."""

    def __init__(self, starts: Mapping[str, Start], ends: Mapping[str, End]) -> None:
        super().__init__(
            _in_namespaces({"t": self._start_text, "rPh": self._start_phonetic, **starts}),
            _in_namespaces({"t": self._end_text, "rPh": self._end_phonetic, **ends}),
        )
        self._runs: list[str] = []
        self._is_phonetic = False

    def _start_text(self, _: dict[str, str]) -> None:
        self.texts.clear()

    def _end_text(self) -> None:
        if not self._is_phonetic:
            self._runs += self.texts

    def _start_phonetic(self, _: dict[str, str]) -> None:
        self._is_phonetic = True

    def _end_phonetic(self) -> None:
        self._is_phonetic = False


class SharedStrings(_TextHandler):
    """Collects the texts of the shared strings of a workbook, without phonetic readings."""

    def __init__(self) -> None:
        super().__init__({"si": self._start_string}, {"si": self._end_string})
        self.strings: list[str] = []

    def _start_string(self, _: dict[str, str]) -> None:
        self._runs.clear()

    def _end_string(self) -> None:
        self.strings.append(unescape(join_limited(self._runs)))


class SheetRows(_TextHandler):
    """Collects the rows of a sheet in `rows`, which the caller empties.

    width               number of columns that are read
    first_surplus_cell  the first cell to the right of them, such as `XFD1048576`, from row `first_line` on
    characters          number of characters read so far
    """

    def __init__(self, context: CellContext, width: int = MAX_COLUMNS, first_line: int = 1) -> None:
        starts = {
            "c": self._start_cell,
            "v": self._start_text,
            "f": self._start_formula,
            "row": self._start_row,
        }
        ends = {
            "c": self._end_cell,
            "v": self._end_value,
            "row": self._end_row,
            "sheetData": self._end_sheet,
        }
        super().__init__(starts, ends)
        self.rows: list[SheetRow] = []
        self.first_surplus_cell = ""
        self.characters = 0
        self.width = width
        self.first_line = first_line
        self._context = context
        self._columns: dict[str, int] = {}
        self._line = 0
        self._row: dict[str, str] = {}
        self._cells: list[str] = []
        self._kinds: dict[int, CellKind] = {}
        self._next = 0
        self._cell: dict[str, str] = {}
        self._is_formula = self._is_stored = False

    def _start_row(self, attributes: dict[str, str]) -> None:
        self._row = attributes
        self._cells, self._kinds = [], {}
        self._next = 0
        number = attributes.get("r")
        if number is not None:
            self._go_to(number)

    def _go_to(self, number: str) -> None:
        """Set the number of the row, which must be greater than those before."""
        line = int(number) if number.isdecimal() and len(number) < 9 else 0
        if not self._line < line <= MAX_ROWS:
            raise _malformed(f"row {number[:20]} follows row {self._line}")
        self._line = line

    def _end_row(self) -> None:
        if not self._next and "r" not in self._row:
            self._go_to(str(self._line + 1))
        length = sum(map(len, self._cells))
        if length > _MAX_ROW_CHARACTERS:
            raise _malformed(f"row {self._line} holds {length:,} characters")
        self.characters += length
        if self._cells:
            self.rows.append(SheetRow(self._line, _is_hidden(self._row), self._cells, self._kinds))
        self._cells = []

    def _end_sheet(self) -> None:
        self.is_done = True

    def _start_cell(self, attributes: dict[str, str]) -> None:
        self._cell = attributes
        self._runs = []
        self._is_formula = self._is_stored = False

    def _start_formula(self, _: dict[str, str]) -> None:
        self._is_formula = True

    def _end_value(self) -> None:
        self._runs = self.texts.copy()
        self._is_stored = True

    def _end_cell(self) -> None:
        reference = self._cell.get("r", "")
        column = -1
        if self._next and reference:
            column = self._columns.get(reference.rstrip(_DIGITS), -1)
        if column < 0:
            column = self._column(reference)
        self._next = column + 1
        if not self._runs and not self._is_formula:
            return
        if column >= self.width:
            self._note_surplus(column)
        else:
            self._put(column)

    def _put(self, column: int) -> None:
        """Add the cell to the row."""
        text, kind = self._cell_text()
        cells = self._cells
        if column != len(cells):
            if column < len(cells):
                raise _malformed(f"row {self._line} has its cells out of order")
            cells += [""] * (column - len(cells))
        cells.append(text)
        if kind:
            self._kinds[column] = kind

    def _cell_text(self) -> tuple[str, CellKind]:
        """Return the text that the cell shows, and its kind."""
        value, kind = join_limited(self._runs), self._cell.get("t", "n")
        if not self._is_formula:  # a shortcut for nearly all cells
            if kind == "s":
                return _shared_string(value, self._context.strings), CellKind.PLAIN
            if kind == "inlineStr":
                return unescape(value), CellKind.PLAIN
        cell = _Cell(value, kind, self._cell.get("s", ""), self._is_formula, self._is_stored)
        return _cell_text(cell, self._context)

    def _column(self, reference: str) -> int:
        """Return the column of a cell, from 0; without a reference, the one after the cell before."""
        if not self._next and "r" not in self._row:
            self._go_to(reference.lstrip(_LETTERS) or str(self._line + 1))
        letters = reference.rstrip(_DIGITS)
        column = column_number(letters) - 1 if reference else self._next
        if not 0 <= column < MAX_COLUMNS:
            raise _malformed(f"row {self._line} has a cell at {reference[:20] or 'no column'}")
        if reference:
            self._columns[letters] = column
        return column

    def _note_surplus(self, column: int) -> None:
        if not self.first_surplus_cell and self._line >= self.first_line and self._cell_text()[0].strip():
            self.first_surplus_cell = f"{column_letters(column)}{self._line}"


class _Cell(NamedTuple):
    """A cell as stored in the XML."""

    value: str
    type: str
    style: str
    is_formula: bool
    is_stored: bool
    """Whether there is an element for its value, even if it is empty."""


def _cell_text(cell: _Cell, context: CellContext) -> tuple[str, CellKind]:
    """Return the text that a cell shows, and its kind."""
    if cell.is_formula and _has_no_value(cell, context):
        return "", CellKind.NO_VALUE
    match cell.type:
        case "s":
            return _shared_string(cell.value, context.strings), CellKind.PLAIN
        case "inlineStr" | "str":
            return unescape(cell.value), CellKind.PLAIN
        case "e":
            return cell.value, CellKind.PLAIN
        case "b":
            return ("TRUE" if cell.value.strip() in _TRUE else "FALSE"), CellKind.BOOLEAN
        case "d":
            return cell.value.strip().replace("T", " "), CellKind.DATE
        case _:
            return _number_text(cell, context)


def _has_no_value(cell: _Cell, context: CellContext) -> bool:
    """Return whether a formula was never calculated; an empty text is a value, an empty number is none."""
    if not cell.value.strip():
        return cell.type != "str" or not cell.is_stored
    return context.recalculates and cell.type == "n" and cell.value.strip() == "0"


def _number_text(cell: _Cell, context: CellContext) -> tuple[str, CellKind]:
    value, style = cell.value, cell.style
    at = int(style) if style.isdecimal() and len(style) < 9 else 0
    number_format = context.formats[at] if at < len(context.formats) else GENERAL
    if (
        number_format is GENERAL
        and len(value) <= _EXACT_DIGITS
        and value.isascii()
        and value.isdecimal()
        and value[0] != "0"
    ):
        return value, CellKind.PLAIN
    if not value.strip():
        return "", CellKind.PLAIN
    return format_number(value, number_format, context.calendar_offset_days)


def _shared_string(value: str, strings: Sequence[str]) -> str:
    at = int(value) if value.isdecimal() and len(value) < 9 else -1
    if not 0 <= at < len(strings):
        raise _malformed(f"there is no shared string {value[:20]}")
    return strings[at]


def _is_hidden(row: Mapping[str, str]) -> bool:
    """Return whether a row is hidden: by hand, by a filter, or by a height of zero."""
    if row.get("hidden", "").lower() in _TRUE:
        return True
    height = row.get("ht", "")
    return bool(height) and not height.strip("0.")


def _in_namespaces(handlers: Mapping[str, _HandlerT]) -> dict[str, _HandlerT]:
    """Return the handlers by the qualified names of their elements, for each namespace of sheets."""
    return {space + name: handler for space in _NAMESPACES for name, handler in handlers.items()}


def join_limited(runs: Sequence[str]) -> str:
    """Return the text of a cell from its runs. Raises InputError if it is too long."""
    text = runs[0] if len(runs) == 1 else "".join(runs)
    if len(text) > _MAX_CELL_CHARACTERS:
        raise _malformed(f"a cell holds {len(text):,} characters")
    return text


def unescape(text: str) -> str:
    """Return a text with escapes such as `_x000D_` replaced by their characters."""
    return _ESCAPE.sub(lambda match: _character(match), text) if "_x" in text else text


def _character(match: re.Match[str]) -> str:
    code = int(match[1], 16)
    return match[0] if 0xD800 <= code <= 0xDFFF else chr(code)  # a lone surrogate is not valid text


def column_number(letters: str) -> int:
    """Return the number of a column from its letters, from 1; 0 if they name no column."""
    number = 0
    for letter in letters if len(letters) <= 3 else "?":
        if not "A" <= letter <= "Z":
            return 0
        number = 26 * number + ord(letter) - ord("A") + 1
    return number


def column_letters(column: int) -> str:
    """Return the letters of a column number from 0."""
    letters = ""
    column += 1
    while column:
        column, rest = divmod(column - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters


def _malformed(why: str) -> InputError:
    return InputError(
        f"cannot be read as a workbook ({printable(why)})", "open it in a spreadsheet and save it again as .xlsx"
    )
