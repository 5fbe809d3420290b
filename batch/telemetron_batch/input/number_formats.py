"""Show the numbers of a workbook as their number formats do, and find the kind of each cell.

A number may be a date, a duration or digits with leading zeros; only its format decides.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from enum import IntEnum
from typing import Final


class CellKind(IntEnum):
    """What kind of value a cell has; only an identifier of the first two kinds is intact."""

    PLAIN = 0
    PADDED = 1
    LONG_NUMBER = 2
    NO_VALUE = 3
    DATE = 4
    DURATION = 5
    BOOLEAN = 6
    FRACTION = 7
    NEGATIVE = 8
    MASKED = 9
    NOT_A_NUMBER = 10
    FLOAT = 11
    NESTED = 12

    @property
    def words(self) -> str:
        """The kind as text, for a message."""
        return _WORDS[self]


_WORDS: Final = {
    CellKind.PLAIN: "text or a whole number",
    CellKind.PADDED: "a number shown with zeros in front",
    CellKind.LONG_NUMBER: "a number of more than 15 digits",
    CellKind.NO_VALUE: "a formula without a stored value",
    CellKind.DATE: "a date or time",
    CellKind.DURATION: "a duration",
    CellKind.BOOLEAN: "a boolean",
    CellKind.FRACTION: "a fraction",
    CellKind.NEGATIVE: "a negative number",
    CellKind.MASKED: "a number shown with other signs",
    CellKind.FLOAT: "a number with a fraction or an exponent",
    CellKind.NESTED: "a list or an object",
    CellKind.NOT_A_NUMBER: "not a number, though its cell is one",
}


class FormatKind(IntEnum):
    """How a number format shows a number."""

    NUMBER = 0
    DATE = 1
    DURATION = 2
    ZEROS = 3
    MASK = 4


@dataclass(frozen=True, slots=True)
class NumberFormat:
    """A number format: how it shows a number, and with how many digits at least (`ZEROS` only)."""

    kind: FormatKind = FormatKind.NUMBER
    digits: int = 0


GENERAL: Final = NumberFormat()
_DATE: Final = NumberFormat(FormatKind.DATE)
_DURATION: Final = NumberFormat(FormatKind.DURATION)
_DATE_IDS: Final = frozenset([*range(14, 23), *range(27, 37), 45, 47, *range(50, 59)])
_DURATION_ID: Final = 46
# Quoted, escaped and padding characters, colours and conditions are not part of the pattern.
_LITERAL: Final = re.compile(r'"[^"]*"?|\\.|_.|\*.')
_BRACKETED: Final = re.compile(r"\[[^\]]*\]")
_ELAPSED: Final = re.compile(r"\[(?:h+|m+|s+)\]", re.IGNORECASE)
_MASK: Final = re.compile(r"0[0 \-/():]*0|0")
_MAX_DIGITS: Final = 256
_SMALLEST_LONG: Final = 10**15
_DAY_ZERO: Final = datetime(1899, 12, 30)
_DAYS_TO_1904: Final = 1462
_LAST_DAY: Final = 2_958_465


def parse_format(code: str) -> NumberFormat:
    """Parse a format code, such as `0000` or `dd.mm.yyyy`."""
    section = code[:1000].partition(";")[0]
    bare = _LITERAL.sub("", section)
    if _ELAPSED.search(bare):
        return _DURATION
    bare = _BRACKETED.sub("", bare)
    if re.search("[dmyhs]", bare.replace("General", ""), re.IGNORECASE):
        return _DATE
    if re.fullmatch("0{2,}", section.strip()):
        return NumberFormat(FormatKind.ZEROS, min(len(section.strip()), _MAX_DIGITS))
    zeros = bare.count("0")
    if zeros > 1 and _MASK.fullmatch(bare.strip()) and section.strip() != "0" * zeros:
        return NumberFormat(FormatKind.MASK)
    return GENERAL


def cell_formats(format_ids: Iterable[str], codes: Mapping[str, str]) -> list[NumberFormat]:
    """Return the number format for each format id; `codes` has the formats of the workbook, the others are built in."""
    known = {number: parse_format(code) for number, code in codes.items()}
    return [known.get(number) or _built_in(number) for number in format_ids]


def _built_in(number: str) -> NumberFormat:
    at = int(number) if number.isdecimal() and len(number) < 6 else 0
    if at == _DURATION_ID:
        return _DURATION
    return _DATE if at in _DATE_IDS else GENERAL


def format_number(text: str, number_format: NumberFormat, calendar_offset_days: int = 0) -> tuple[str, CellKind]:
    """Return a stored number as text and its kind: whole numbers without `.0` or exponent, dates as ISO 8601.

    `calendar_offset_days` is by how many days the workbook's calendar begins later than the usual one.
    """
    try:
        number = Decimal(text.strip()) if len(text) <= _MAX_DIGITS else Decimal("NaN")
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or not -_MAX_DIGITS < number.adjusted() < _MAX_DIGITS:
        return text.strip(), CellKind.NOT_A_NUMBER
    if number_format.kind in (FormatKind.DATE, FormatKind.DURATION) and 0 <= number < _LAST_DAY - calendar_offset_days:
        return _format_time(float(number), number_format, calendar_offset_days)
    return _format_digits(number, number_format)


def _format_digits(number: Decimal, number_format: NumberFormat) -> tuple[str, CellKind]:
    if number != number.to_integral_value():
        number = Decimal(repr(float(number)))  # stored with 17 digits: 1.1 as 1.1000000000000001
    if abs(number) >= _SMALLEST_LONG:
        return format(number, "f").removesuffix(".0"), CellKind.LONG_NUMBER
    if number != number.to_integral_value():
        return format(number, "f"), CellKind.FRACTION
    if number < 0:
        return str(int(number)), CellKind.NEGATIVE
    return _pad(str(int(number)), number_format)


def _pad(digits: str, number_format: NumberFormat) -> tuple[str, CellKind]:
    if number_format.kind is FormatKind.MASK:
        return digits, CellKind.MASKED
    if number_format.kind is FormatKind.ZEROS and len(digits) < number_format.digits:
        return digits.zfill(number_format.digits), CellKind.PADDED
    return digits, CellKind.PLAIN


def _format_time(days: float, number_format: NumberFormat, calendar_offset_days: int) -> tuple[str, CellKind]:
    seconds = round(days * 86_400)
    if number_format.kind is FormatKind.DURATION:
        return str(timedelta(seconds=seconds)), CellKind.DURATION
    moment = _DAY_ZERO + timedelta(days=calendar_offset_days, seconds=seconds)
    if days < 1:
        return moment.time().isoformat(), CellKind.DATE
    if seconds % 86_400 == 0:
        return moment.date().isoformat(), CellKind.DATE
    return moment.isoformat(sep=" "), CellKind.DATE


def calendar_offset(*, is_1904: bool) -> int:
    """Return by how many days a workbook's calendar begins later than the usual one."""
    return _DAYS_TO_1904 if is_1904 else 0
