"""What a workbook's number formats make of a number, and what kind of value a cell therefore is.

A number may be a date, a duration or digits with zeros in front; only its format tells.
Pure: numbers and texts in, texts and kinds out.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from enum import IntEnum
from typing import Final


class CellKind(IntEnum):
    """What a cell is besides its text; 0 is nothing that could harm an identifier."""

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

    @property
    def words(self) -> str:
        """The kind as a sentence names it."""
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
    """A number format: how it shows a number, and with how many digits at least."""

    kind: FormatKind = FormatKind.NUMBER
    digits: int = 0


GENERAL: Final = NumberFormat()
_DATE: Final = NumberFormat(FormatKind.DATE)
_DURATION: Final = NumberFormat(FormatKind.DURATION)
_DATE_IDS: Final = frozenset([*range(14, 23), *range(27, 37), 45, 47, *range(50, 59)])
_DURATION_ID: Final = 46
# What is quoted, escaped, padded or a colour or condition, is not part of the pattern itself.
_LITERAL: Final = re.compile(r'"[^"]*"?|\\.|_.|\*.')
_BRACKETED: Final = re.compile(r"\[[^\]]*\]")
_ELAPSED: Final = re.compile(r"\[(?:h+|m+|s+)\]", re.IGNORECASE)
_MASK: Final = re.compile(r"0[0 \-/():]*0|0")
_MOST_DIGITS: Final = 256
_LEAST_LONG: Final = 10**15
_DAY_ZERO: Final = datetime(1899, 12, 30)
_DAYS_TO_1904: Final = 1462
_LAST_DAY: Final = 2_958_465


def parse_format(code: str) -> NumberFormat:
    """Return what a format's code, such as `0000` or `dd.mm.yyyy`, shows."""
    section = code[:1000].partition(";")[0]
    bare = _LITERAL.sub("", section)
    if _ELAPSED.search(bare):
        return _DURATION
    bare = _BRACKETED.sub("", bare)
    if re.search("[dmyhs]", bare.replace("General", ""), re.IGNORECASE):
        return _DATE
    if re.fullmatch("0{2,}", section.strip()):
        return NumberFormat(FormatKind.ZEROS, min(len(section.strip()), _MOST_DIGITS))
    zeros = bare.count("0")
    if zeros > 1 and _MASK.fullmatch(bare.strip()) and section.strip() != "0" * zeros:
        return NumberFormat(FormatKind.MASK)
    return GENERAL


def cell_formats(format_ids: Iterable[str], codes: Mapping[str, str]) -> list[NumberFormat]:
    """Return the number formats of a workbook's cell styles, by the ids of their formats."""
    known = {number: parse_format(code) for number, code in codes.items()}
    return [known.get(number) or _built_in(number) for number in format_ids]


def _built_in(number: str) -> NumberFormat:
    at = int(number) if number.isdecimal() and len(number) < 6 else 0
    if at == _DURATION_ID:
        return _DURATION
    return _DATE if at in _DATE_IDS else GENERAL


def format_number(text: str, form: NumberFormat, days_from: int = 0) -> tuple[str, CellKind]:
    """Return a stored number as text and its kind: whole numbers without `.0` or exponent, dates as ISO 8601.

    `days_from` is what the workbook's calendar is late by, in days.
    """
    try:
        number = Decimal(text.strip()) if len(text) <= _MOST_DIGITS else Decimal("NaN")
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or not -_MOST_DIGITS < number.adjusted() < _MOST_DIGITS:
        return text.strip(), CellKind.NOT_A_NUMBER
    if form.kind in (FormatKind.DATE, FormatKind.DURATION) and 0 <= number < _LAST_DAY - days_from:
        return _format_time(float(number), form, days_from)
    return _format_digits(number, form)


def _format_digits(number: Decimal, form: NumberFormat) -> tuple[str, CellKind]:
    if number != number.to_integral_value():
        number = Decimal(repr(float(number)))  # stored with 17 digits: 1.1 as 1.1000000000000001
    if abs(number) >= _LEAST_LONG:
        return format(number, "f").removesuffix(".0"), CellKind.LONG_NUMBER
    if number != number.to_integral_value():
        return format(number, "f"), CellKind.FRACTION
    if number < 0:
        return str(int(number)), CellKind.NEGATIVE
    return _pad(str(int(number)), form)


def _pad(digits: str, form: NumberFormat) -> tuple[str, CellKind]:
    if form.kind is FormatKind.MASK:
        return digits, CellKind.MASKED
    if form.kind is FormatKind.ZEROS and len(digits) < form.digits:
        return digits.zfill(form.digits), CellKind.PADDED
    return digits, CellKind.PLAIN


def _format_time(days: float, form: NumberFormat, days_from: int) -> tuple[str, CellKind]:
    seconds = round(days * 86_400)
    if form.kind is FormatKind.DURATION:
        return str(timedelta(seconds=seconds)), CellKind.DURATION
    moment = _DAY_ZERO + timedelta(days=days_from, seconds=seconds)
    if days < 1:
        return moment.time().isoformat(), CellKind.DATE
    if seconds % 86_400 == 0:
        return moment.date().isoformat(), CellKind.DATE
    return moment.isoformat(sep=" "), CellKind.DATE


def days_late(*, is_1904: bool) -> int:
    """Return by how many days a workbook's calendar begins after the usual one."""
    return _DAYS_TO_1904 if is_1904 else 0
