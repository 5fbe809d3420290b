"""A workbook's sheet as rows of text: what a person sees in it, without colours and formulas.

Finds the sheet that has the required headers, unless it is named. The only module that
knows the workbook library.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Final, TypeAlias

from python_calamine import (
    CalamineError,
    CalamineSheet,
    CalamineWorkbook,
    SheetTypeEnum,
    SheetVisibleEnum,
)

from batch.errors import InputError
from batch.input.dialect import HEADER_LINES, Dialect, find_sheet_header
from batch.input.sheet_errors import Errors, error_cells
from batch.model import InputOptions

Cell: TypeAlias = str | int | float | bool | date | datetime | time | timedelta

ROWS_AT_A_TIME: Final = 50_000


@dataclass(frozen=True, slots=True)
class Sheet:
    """The sheet with the rows, and how to read it."""

    sheet: CalamineSheet
    dialect: Dialect
    warnings: tuple[str, ...]
    errors: Errors

    def rows(self) -> Iterator[list[list[str]]]:
        """What follows the header, some rows at a time, each with a cell for every header."""
        rows = islice(_rows(self.sheet, self.errors), self.dialect.first_line - 1, None)
        while some := list(islice(rows, ROWS_AT_A_TIME)):
            yield some


def find_sheet(path: Path, options: InputOptions) -> Sheet:
    """The sheet that was named, else the first visible one under which the headers are found.

    Raises InputError for what is no workbook, a sheet that is not there, or no header.
    """
    try:
        workbook = CalamineWorkbook.from_path(path)
        candidates = _candidates(workbook, options.sheet)
        found = _first_with_headers(workbook, candidates, options)
        return replace(found, errors=error_cells(path, found.sheet.name))
    except CalamineError as error:
        raise InputError(f"cannot be read as a workbook ({error})", "save it again as .xlsx, or as CSV") from error


def first_rows(path: Path, said: str | None, count: int) -> dict[str, list[list[str]]]:
    """The first rows of the sheet that was named, else of every visible sheet; raises as `find_sheet`."""
    try:
        workbook = CalamineWorkbook.from_path(path)
        names = _candidates(workbook, said)
        return {name: list(islice(_rows(workbook.get_sheet_by_name(name)), count)) for name in names}
    except CalamineError as error:
        raise InputError(f"cannot be read as a workbook ({error})", "save it again as .xlsx, or as CSV") from error


def as_text(cell: Cell) -> str:
    """A cell as the sheet shows it: whole numbers without `.0` or exponent, dates as ISO 8601."""
    match cell:
        case str():
            return cell
        case bool():
            return "TRUE" if cell else "FALSE"
        case float() if cell.is_integer():
            return str(int(cell))
        case float():
            return format(Decimal(repr(cell)), "f")
        case datetime():
            return cell.isoformat(sep=" ")
        case date() | time():
            return cell.isoformat()
        case _:
            return str(cell)


def _candidates(workbook: CalamineWorkbook, said: str | None) -> list[str]:
    if said is not None and said not in workbook.sheet_names:
        names = ", ".join(f'"{name}"' for name in workbook.sheet_names)
        raise InputError(f'has no sheet "{said}"', f"name one of {names} with --sheet")
    if said is not None:
        return [said]
    return [
        sheet.name
        for sheet in workbook.sheets_metadata
        if sheet.visible == SheetVisibleEnum.Visible and sheet.typ == SheetTypeEnum.WorkSheet
    ]


def _first_with_headers(workbook: CalamineWorkbook, names: list[str], options: InputOptions) -> Sheet:
    refusals: list[InputError] = []
    for at, name in enumerate(names):
        sheet = workbook.get_sheet_by_name(name)
        try:
            dialect = find_sheet_header(list(islice(_rows(sheet), HEADER_LINES)), options)
        except InputError as refusal:
            refusals.append(refusal)
            continue
        unread = ", ".join(f'"{other}"' for other in names[:at] + names[at + 1 :])
        note = (f'only sheet "{name}" is read, not {unread}; name another with --sheet',) if unread else ()
        return Sheet(sheet, dialect, (*dialect.warnings, *note), {})
    if refusals:
        raise refusals[0]
    raise InputError("has no visible sheet", "name one with --sheet")


def _rows(sheet: CalamineSheet, errors: Errors | None = None) -> Iterator[list[str]]:
    """The sheet's rows from its very first on, all equally wide and beginning with column A."""
    left = [""] * (sheet.start[1] if sheet.start else 0)  # the library begins with the first filled one
    for at, row in enumerate(sheet.iter_rows()):
        cells = [*left, *map(as_text, row)]
        for column, error in (errors or {}).get(at, {}).items():
            if column < len(cells) and not cells[column]:
                cells[column] = error
        yield cells
