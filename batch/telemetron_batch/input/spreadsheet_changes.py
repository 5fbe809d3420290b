"""Tells whether a cell is what a spreadsheet makes of another text: a number in another form, or a date.

A spreadsheet in any language: either of point and comma may be the decimal mark. Pure: texts in,
a verdict out. Whatever a spreadsheet would not make of the text is the work of a person.
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
    """What became of a text."""

    OTHER = "other"
    """Nothing, or a change that no spreadsheet makes by itself."""
    SAME_VALUE = "same value"
    """It is the same number or truth value in another form."""
    TAKEN_FOR_DATE = "taken for date"
    """It may be a date or number that a spreadsheet made of it, or the entry of a person."""


_LONGEST: Final = 128
_KEPT_DIGITS: Final = 15
_SHOWN_DIGITS: Final = 9
"""Significant digits that a spreadsheet shows of a fraction at least."""
_LARGEST: Final = Decimal(repr(sys.float_info.max))
_MOST_EXPONENT: Final = 99_999
_LAST_DAY: Final = 2_958_466
"""Dates are numbers of days below it."""
_NUMBER: Final = re.compile(
    r"([+-]?)([0-9][0-9.,'\u2019 \u00a0\u202f]*|[.,][0-9]+)(?:[eE]([+-]?)([0-9]+))?",
)
_BEYOND: Final = re.compile("[+-]?inf|#\\S+!|err:[0-9]+")
"""A number that is too large, as spreadsheets write it."""
_SIGNS: Final = re.compile("[$€£¥%]")
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
_BETWEEN: Final = frozenset("-/.,: \u00a0")
_JOINING: Final = re.compile("[-/.,:]")
_HALF_OF_DAY: Final = re.compile(r"(?<=[0-9])(?: ?[ap]\.?m\.?| [ap])$")
_MOST_PARTS: Final = 7
_MOST_DIGITS: Final = 4


@dataclass(frozen=True, slots=True)
class _Number:
    """A text read as a number."""

    value: Decimal
    digits: int
    """Those of the mantissa that count."""
    is_rounded: bool
    """Whether it may show fewer digits than there are."""


@lru_cache(maxsize=1 << 12)
def change_between(original: str, read: str) -> Change:
    """Return what made the text that is read of the original."""
    original, read = original.strip(), read.strip()
    if original == read or not original or not read or max(len(original), len(read)) > _LONGEST:
        return Change.OTHER
    if _is_same_number(original, read) or _is_same_truth(original, read):
        return Change.SAME_VALUE
    return Change.TAKEN_FOR_DATE if _may_be_its_date(original, read) else Change.OTHER


def _is_same_truth(original: str, read: str) -> bool:
    texts = {original.casefold(), read.casefold()}
    return texts <= _TRUE or texts <= _FALSE


def _is_same_number(original: str, read: str) -> bool:
    if original.isascii() and original.isdecimal() and original.lstrip("0") == read:
        return True  # by far the most frequent case
    if _BEYOND.fullmatch(read.casefold()):
        return any(abs(_stored(number.value)) == _LARGEST for number in _numbers(original))
    numbers = [*_numbers(read)]
    return bool(numbers) and any(_is_kept(number.value, kept) for number in _numbers(original) for kept in numbers)


def _is_kept(value: Decimal, kept: _Number) -> bool:
    """Whether a spreadsheet that is given a value shows this number."""
    stored = _stored(value)
    if kept.value in (value, stored):
        return True
    lengths = {_KEPT_DIGITS}
    if kept.is_rounded and kept.digits < _KEPT_DIGITS:
        lengths.add(max(2, kept.digits))
    return any(
        Context(length, how, MIN_EMIN, MAX_EMAX).plus(one) == kept.value
        for length in lengths
        for how in (ROUND_HALF_UP, ROUND_HALF_EVEN, ROUND_DOWN)
        for one in (value, stored)
    )


def _stored(value: Decimal) -> Decimal:
    """Return a value as a binary number of 64 bits holds it."""
    number = float(value)
    if number in (float("inf"), float("-inf")):
        return _LARGEST.copy_sign(value)
    return Decimal(number)


def _numbers(text: str) -> Iterator[_Number]:
    """Yield the numbers as which a spreadsheet may read a text; none where it is none."""
    in_brackets = text.startswith("(") and text.endswith(")")
    bare = _SIGNS.sub("", text[1:-1] if in_brackets else text).strip()
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
    exponent = min(int(digits), _MOST_EXPONENT)
    return -exponent if sign == "-" else exponent


def _mantissas(body: str) -> Iterator[tuple[str, str]]:
    """Yield the digits before and behind the decimal mark, with either mark."""
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
    """Whether a spreadsheet in some language may take a text for a date or a time."""
    text = text.casefold()
    bare = _HALF_OF_DAY.sub("", text)
    tokens = _TOKEN.findall(re.sub("(?<=[0-9])t(?=[0-9])", " ", bare))
    numbers = [token for token in tokens if token.isdecimal()]
    words = [token for token in tokens if token.isalpha()]
    marks = [token for token in tokens if not token.isalnum()]
    parts = len(numbers) + len(words) + (bare != text)
    return (
        1 < parts <= _MOST_PARTS
        and bool(_JOINING.search(bare) or words or bare != text)
        and bool(numbers)
        and all(len(number) <= _MOST_DIGITS for number in numbers)
        and all(word in _MONTHS for word in words)
        and all(set(mark) <= _BETWEEN for mark in marks)
    )


def _shape(text: str) -> str:
    return re.sub("[0-9]+", "0", text.casefold())


def _figures(text: str) -> list[int]:
    """Return the numbers in a text, those of years without the century."""
    return sorted(int(figures) % 100 for figures in re.findall("[0-9]+", text))
