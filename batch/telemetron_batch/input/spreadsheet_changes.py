"""Decide whether a spreadsheet may have turned one text into another by itself: another form of a number, or a date.

Spreadsheets of all languages are considered, so both point and comma may be the decimal mark. Any other
change is the work of a person.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import MAX_EMAX, MIN_EMIN, ROUND_DOWN, ROUND_HALF_EVEN, ROUND_HALF_UP, Context, Decimal
from enum import Enum
from functools import lru_cache
from typing import Final

from telemetron_batch.input.serials import MONTHS


class Change(Enum):
    """What has changed between two texts."""

    NONE_OR_BY_PERSON = "other"
    """Nothing, or something that no spreadsheet changes by itself."""
    SAME_VALUE = "same value"
    """Only the form of a number or truth value."""
    TAKEN_FOR_DATE = "taken for date"
    """Either a spreadsheet turned the text into a date or number, or a person entered another text."""


_LONGEST: Final = 128
_KEPT_DIGITS: Final = 15
_SHOWN_DIGITS: Final = 9
"""Least number of significant digits that a spreadsheet shows of a fraction."""
_LARGEST: Final = Decimal(repr(sys.float_info.max))
_MAX_EXPONENT: Final = 99_999
_LAST_DAY: Final = 2_958_466
"""The number of a date is less than this."""
_NUMBER: Final = re.compile(
    r"([+-]?)([0-9][0-9.,'\u2019 \u00a0\u202f]*|[.,][0-9]+)(?:[eE]([+-]?)([0-9]+))?",
)
_BEYOND: Final = re.compile("[+-]?inf|#\\S+!|err:[0-9]+")
"""How spreadsheets show a number that is too large."""
_CURRENCY_AND_PERCENT: Final = re.compile("[$€£¥%]")
_TRUE: Final = frozenset(("true", "wahr", "vrai", "verdadero", "verdadeiro", "vero", "waar"))
_FALSE: Final = frozenset(("false", "falsch", "faux", "falso", "onwaar"))
_MONTHS: Final = frozenset(
    (
        *MONTHS.split("|"),
        *("january", "february", "march", "april", "june", "july", "august", "september", "october", "november"),
        *("december", "januar", "jänner", "februar", "märz", "juni", "juli", "oktober", "dezember"),
    )
)
_TOKEN: Final = re.compile(r"[0-9]+|[^\W\d_]+|[\W_]+")
_DATE_SEPARATORS: Final = frozenset("-/.,: \u00a0")
_DATE_JOINERS: Final = re.compile("[-/.,:]")
_HALF_OF_DAY: Final = re.compile(r"(?<=[0-9])(?: ?[ap]\.?m\.?| [ap])$")
_MOST_PARTS: Final = 7
_MOST_DIGITS: Final = 4


@dataclass(frozen=True, slots=True)
class _Number:
    """A text read as a number."""

    value: Decimal
    significant_digits: int
    """Number of significant digits of the mantissa."""
    is_rounded: bool
    """Whether the text may show fewer digits than the number has."""


@lru_cache(maxsize=1 << 12)
def change_between(original: str, read: str) -> Change:
    """Return what has changed from the original text to the text that was read."""
    original, read = original.strip(), read.strip()
    if original == read or not original or not read or max(len(original), len(read)) > _LONGEST:
        return Change.NONE_OR_BY_PERSON
    if _is_same_number(original, read) or _is_same_truth(original, read):
        return Change.SAME_VALUE
    return Change.TAKEN_FOR_DATE if _may_be_its_date(original, read) else Change.NONE_OR_BY_PERSON


def _is_same_truth(original: str, read: str) -> bool:
    texts = {original.casefold(), read.casefold()}
    return texts <= _TRUE or texts <= _FALSE


def _is_same_number(original: str, read: str) -> bool:
    if original.isascii() and original.isdecimal() and original.lstrip("0") == read:
        return True  # only leading zeros are lost: by far the most frequent case
    if _BEYOND.fullmatch(read.casefold()):
        return any(abs(_stored(number.value)) == _LARGEST for number in _numbers(original))
    numbers = [*_numbers(read)]
    return bool(numbers) and any(_may_show(number.value, shown) for number in _numbers(original) for shown in numbers)


def _may_show(value: Decimal, shown: _Number) -> bool:
    """Return whether a spreadsheet may show this number for a value."""
    stored = _stored(value)
    if shown.value in (value, stored):
        return True
    lengths = {_KEPT_DIGITS}
    if shown.is_rounded and shown.significant_digits < _KEPT_DIGITS:
        lengths.add(max(2, shown.significant_digits))
    return any(
        Context(length, rounding, MIN_EMIN, MAX_EMAX).plus(number) == shown.value
        for length in lengths
        for rounding in (ROUND_HALF_UP, ROUND_HALF_EVEN, ROUND_DOWN)
        for number in (value, stored)
    )


def _stored(value: Decimal) -> Decimal:
    """Return a value rounded to a 64-bit floating point number."""
    number = float(value)
    if number in (float("inf"), float("-inf")):
        return _LARGEST.copy_sign(value)
    return Decimal(number)


def _numbers(text: str) -> Iterator[_Number]:
    """Yield the numbers that a spreadsheet may read from a text; none if the text is no number."""
    in_brackets = text.startswith("(") and text.endswith(")")
    bare = _CURRENCY_AND_PERCENT.sub("", text[1:-1] if in_brackets else text).strip()
    match = _NUMBER.fullmatch(bare)
    if match is None:
        return
    sign, body, sign_of_exponent, exponent_text = match.groups()
    exponent = _exponent(sign_of_exponent, exponent_text) - (2 if "%" in text else 0)
    for whole, fraction in set(_mantissas(body)):
        value = Decimal(f"{sign}{whole}{fraction}").scaleb(exponent - len(fraction), _WIDE)
        digits = len(f"{whole}{fraction}".lstrip("0"))
        is_rounded = exponent_text is not None or (fraction != "" and digits >= _SHOWN_DIGITS)
        yield _Number(-value if in_brackets else value, digits, is_rounded)


_WIDE: Final = Context(2 * _LONGEST, ROUND_HALF_EVEN, MIN_EMIN, MAX_EMAX)


def _exponent(sign: str | None, digits: str | None) -> int:
    if digits is None:
        return 0
    exponent = min(int(digits), _MAX_EXPONENT)
    return -exponent if sign == "-" else exponent


def _mantissas(body: str) -> Iterator[tuple[str, str]]:
    """Yield the digits before and after the decimal mark, for point and for comma as the mark."""
    for mark, other in ((".", ","), (",", ".")):
        whole, _, fraction = body.partition(mark)
        groups = re.split(f"[{other}'\u2019 \u00a0\u202f]", whole) if whole else ["0"]
        are_thousands = all(len(group) == len("000") for group in groups[1:])
        if are_thousands and groups[0] and "".join((*groups, fraction)).isdecimal():
            yield "".join(groups), fraction


def _may_be_its_date(original: str, read: str) -> bool:
    if not _is_moment(original):
        return False
    if _is_moment(read):
        return _shape(original) != _shape(read) or _figures(original) == _figures(read)
    return any(0 <= abs(number.value) < _LAST_DAY for number in _numbers(read))


def _is_moment(text: str) -> bool:
    """Return whether a spreadsheet of any language may read a text as a date or a time."""
    text = text.casefold()
    bare = _HALF_OF_DAY.sub("", text)
    tokens = _TOKEN.findall(re.sub("(?<=[0-9])t(?=[0-9])", " ", bare))
    numbers = [token for token in tokens if token.isdecimal()]
    words = [token for token in tokens if token.isalpha()]
    marks = [token for token in tokens if not token.isalnum()]
    parts = len(numbers) + len(words) + (bare != text)
    return (
        1 < parts <= _MOST_PARTS
        and bool(_DATE_JOINERS.search(bare) or words or bare != text)
        and bool(numbers)
        and all(len(number) <= _MOST_DIGITS for number in numbers)
        and all(word in _MONTHS for word in words)
        and all(set(mark) <= _DATE_SEPARATORS for mark in marks)
    )


def _shape(text: str) -> str:
    return re.sub("[0-9]+", "0", text.casefold())


def _figures(text: str) -> list[int]:
    """Return the numbers in a text modulo 100, so that years lose their century."""
    return sorted(int(figures) % 100 for figures in re.findall("[0-9]+", text))
