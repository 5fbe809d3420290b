"""A sheet's XML as rows of text, as it streams by; and the shared strings that its cells refer to.

Takes the cells up to a given column only, so that a cell far out costs nothing, and says
of each row whether it is hidden and of each cell what kind of value it is.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from telemetron_batch.domain.errors import InputError
from telemetron_batch.domain.printable import printable
from telemetron_batch.input.number_formats import GENERAL, CellKind, NumberFormat, format_number
from telemetron_batch.input.zip_package import SEPARATOR, Handler

MOST_COLUMNS: Final = 16_384
MOST_ROWS: Final = 1_048_576
_MOST_TEXT: Final = 1 << 20
"""Characters in one cell; spreadsheets hold 32,767."""
_MOST_ROW_TEXT: Final = 16 << 20
_DIGITS: Final = "0123456789"
_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_SHORT: Final = 15
"""Digits that a number keeps exactly."""
_ESCAPE: Final = re.compile("_x([0-9A-Fa-f]{4})_")
_NAMESPACES: Final = (
    "",
    f"http://schemas.openxmlformats.org/spreadsheetml/2006/main{SEPARATOR}",
    f"http://purl.oclc.org/ooxml/spreadsheetml/main{SEPARATOR}",
)
_TRUE: Final = ("1", "true")
_Taker = TypeVar("_Taker", bound=Callable[..., None])


class SheetRow(NamedTuple):
    """One row of a sheet: its number, its cells from column A on, and their kinds where they are not plain."""

    line: int
    is_hidden: bool
    cells: list[str]
    kinds: Mapping[int, CellKind]


@dataclass(slots=True)
class CellContext:
    """What cells refer to, and how their numbers are shown.

    strings      shared strings by number
    formats      number formats by cell style
    days_from    what the calendar is late by
    recalculates the workbook is to be calculated when it is opened, so a zero may stand for no value
    """

    strings: Sequence[str] = ()
    formats: Sequence[NumberFormat] = ()
    days_from: int = 0
    recalculates: bool = False


class SharedStrings(Handler):
    """Collects the shared strings of a workbook: the text of each, without its phonetic reading."""

    def __init__(self) -> None:
        super().__init__(
            _in_namespaces({"si": self._start_string, "t": self._start_text, "rPh": self._start_phonetic}),
            _in_namespaces({"si": self._end_string, "t": self._end_text, "rPh": self._end_phonetic}),
        )
        self.strings: list[str] = []
        self._runs: list[str] = []
        self._is_phonetic = False

    def _start_string(self, _: dict[str, str]) -> None:
        self._runs.clear()

    def _end_string(self) -> None:
        self.strings.append(unescape(join_limited(self._runs)))

    def _start_text(self, _: dict[str, str]) -> None:
        self.texts.clear()

    def _end_text(self) -> None:
        if not self._is_phonetic:
            self._runs += self.texts

    def _start_phonetic(self, _: dict[str, str]) -> None:
        self._is_phonetic = True

    def _end_phonetic(self) -> None:
        self._is_phonetic = False


class SheetRows(Handler):
    """Collects the rows of a sheet; whoever takes them empties `rows`.

    width       columns that are read; what stands further right is only noticed
    surplus     the first cell that was left out for that, such as `XFD1048576`, from row `first_line` on
    characters  the length of all texts so far
    """

    def __init__(self, context: CellContext, width: int = MOST_COLUMNS, first_line: int = 1) -> None:
        starts = {
            "c": self._start_cell,
            "v": self._start_text,
            "t": self._start_text,
            "f": self._start_formula,
            "row": self._start_row,
            "rPh": self._start_phonetic,
        }
        ends = {
            "c": self._end_cell,
            "v": self._end_value,
            "t": self._end_text,
            "row": self._end_row,
            "rPh": self._end_phonetic,
            "sheetData": self._end_sheet,
        }
        super().__init__(_in_namespaces(starts), _in_namespaces(ends))
        self.rows: list[SheetRow] = []
        self.surplus = ""
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
        self._runs: list[str] = []
        self._is_formula = self._is_stored = self._is_phonetic = False

    def _start_row(self, attributes: dict[str, str]) -> None:
        self._row = attributes
        self._cells, self._kinds = [], {}
        self._next = 0
        number = attributes.get("r")
        if number is not None:
            self._go_to(number)

    def _go_to(self, number: str) -> None:
        """Take the number of a row; it must be greater than those before."""
        line = int(number) if number.isdecimal() and len(number) < 9 else 0
        if not self._line < line <= MOST_ROWS:
            raise _malformed(f"row {number[:20]} follows row {self._line}")
        self._line = line

    def _end_row(self) -> None:
        if not self._next and "r" not in self._row:
            self._go_to(str(self._line + 1))
        length = sum(map(len, self._cells))
        if length > _MOST_ROW_TEXT:
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

    def _start_text(self, _: dict[str, str]) -> None:
        self.texts.clear()

    def _start_formula(self, _: dict[str, str]) -> None:
        self._is_formula = True

    def _start_phonetic(self, _: dict[str, str]) -> None:
        self._is_phonetic = True

    def _end_phonetic(self) -> None:
        self._is_phonetic = False

    def _end_value(self) -> None:
        self._runs = self.texts.copy()
        self._is_stored = True

    def _end_text(self) -> None:
        if not self._is_phonetic:
            self._runs += self.texts

    def _end_cell(self) -> None:
        place = self._cell.get("r", "")
        column = self._columns.get(place.rstrip(_DIGITS), -1) if self._next and place else self._column(place)
        if column < 0:
            column = self._column(place)
        self._next = column + 1
        if not self._runs and not self._is_formula:
            return
        if column >= self.width:
            self._notice(column)
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
        if not self._is_formula:  # nearly all cells, so the shortest way
            if kind == "s":
                return _shared_string(value, self._context.strings), CellKind.PLAIN
            if kind == "inlineStr":
                return unescape(value), CellKind.PLAIN
        cell = _Cell(value, kind, self._cell.get("s", ""), self._is_formula, self._is_stored)
        return _cell_text(cell, self._context)

    def _column(self, place: str) -> int:
        """Return the column of a cell, from 0; without a place, the one after the cell before."""
        if not self._next and "r" not in self._row:
            self._go_to(place.lstrip(_LETTERS) or str(self._line + 1))
        letters = place.rstrip(_DIGITS)
        column = column_number(letters) - 1 if place else self._next
        if not 0 <= column < MOST_COLUMNS:
            raise _malformed(f"row {self._line} has a cell at {place[:20] or 'no column'}")
        if place:
            self._columns[letters] = column
        return column

    def _notice(self, column: int) -> None:
        if not self.surplus and self._line >= self.first_line and self._cell_text()[0].strip():
            self.surplus = f"{column_letters(column)}{self._line}"


class _Cell(NamedTuple):
    """A cell as it is stored."""

    value: str
    type: str
    style: str
    is_formula: bool
    is_stored: bool
    """Is there an element for its value, if an empty one?"""


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
    """Whether a formula was never calculated; an empty text is a value, an empty number is none."""
    if not cell.value.strip():
        return cell.type != "str" or not cell.is_stored
    return context.recalculates and cell.type == "n" and cell.value.strip() == "0"


def _number_text(cell: _Cell, context: CellContext) -> tuple[str, CellKind]:
    value, style = cell.value, cell.style
    at = int(style) if style.isdecimal() and len(style) < 9 else 0
    form = context.formats[at] if at < len(context.formats) else GENERAL
    if form is GENERAL and len(value) <= _SHORT and value.isascii() and value.isdecimal() and value[0] != "0":
        return value, CellKind.PLAIN
    return format_number(value, form, context.days_from) if value.strip() else ("", CellKind.PLAIN)


def _shared_string(value: str, strings: Sequence[str]) -> str:
    at = int(value) if value.isdecimal() and len(value) < 9 else -1
    if not 0 <= at < len(strings):
        raise _malformed(f"there is no shared string {value[:20]}")
    return strings[at]


def _is_hidden(row: Mapping[str, str]) -> bool:
    """Whether a row is hidden: by hand, by a filter, or by a height of nothing."""
    if row.get("hidden", "").lower() in _TRUE:
        return True
    height = row.get("ht", "")
    return bool(height) and not height.strip("0.")


def _in_namespaces(takers: Mapping[str, _Taker]) -> dict[str, _Taker]:
    """Return handlers by the names of elements in each namespace that sheets are written in."""
    return {space + name: taker for space in _NAMESPACES for name, taker in takers.items()}


def join_limited(runs: Sequence[str]) -> str:
    """Return the text of a cell from its pieces, unless no spreadsheet could hold it."""
    text = runs[0] if len(runs) == 1 else "".join(runs)
    if len(text) > _MOST_TEXT:
        raise _malformed(f"a cell holds {len(text):,} characters")
    return text


def unescape(text: str) -> str:
    """Return a text with signs in place of their escapes, such as `_x000D_`."""
    return _ESCAPE.sub(lambda match: _character(match), text) if "_x" in text else text


def _character(match: re.Match[str]) -> str:
    code = int(match[1], 16)
    return match[0] if 0xD800 <= code <= 0xDFFF else chr(code)  # half of a pair is no text


def column_number(letters: str) -> int:
    """Return the number of a column from its letters, from 1; 0 for what is none."""
    number = 0
    for letter in letters if len(letters) <= 3 else "?":
        if not "A" <= letter <= "Z":
            return 0
        number = 26 * number + ord(letter) - ord("A") + 1
    return number


def column_letters(column: int) -> str:
    """Return the letters of a column, counted from 0."""
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
