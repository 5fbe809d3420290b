"""Recognise serials that a spreadsheet has damaged.

An exponent or an error value is always damage. A date may be the real form of a serial, so
it counts as damage only if the other serials of the file look different. Repairs nothing.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from telemetron_batch.domain.arrays import Flags, Ints
from telemetron_batch.input.cell_bytes import CellBytes
from telemetron_batch.input.flags import flags_of

_DAY: Final = "(?:0?[1-9]|[12][0-9]|3[01])"
_MONTH: Final = "(?:0?[1-9]|1[0-2])"
_YEAR: Final = "(?:19|20)[0-9]{2}"
# English and German short names in full, then those of French, Spanish, Italian and Dutch that differ.
MONTHS: Final = (
    "jan|feb|mar|mär|mrz|apr|may|mai|jun|jul|aug|sep|sept|oct|okt|nov|dec|dez"
    "|janv|févr|fev|mars|avr|juin|juil|août|déc|ene|abr|ago|dic|gen|mag|giu|lug|set|ott|mrt|mei"
)
"""Short names of months as spreadsheets write them, in lower case, as the alternatives of a pattern."""
_NAMES: Final = f"(?i:{MONTHS})"
_TIME: Final = "(?:[ T][0-9]{1,2}:[0-9]{2}(?::[0-9]{2})?)?"
_DATES: Final = (
    rf"{_DAY}\.{_MONTH}\.(?:{_YEAR}|[0-9]{{2}})",
    rf"{_DAY}-{_MONTH}-{_YEAR}",
    rf"(?:{_DAY}/{_MONTH}|{_MONTH}/{_DAY})/(?:{_YEAR}|[0-9]{{2}})",
    rf"{_YEAR}([-/.]){_MONTH}[-/.]{_DAY}",
    rf"{_NAMES}\.?[- ](?:{_YEAR}|[0-9]{{2}})",
    rf"{_DAY}(?:-|\. ?| ){_NAMES}\.?(?:[- ](?:{_YEAR}|[0-9]{{2}}))?",
)
DATE: Final = f"^(?:{'|'.join(_DATES)}){_TIME}$".replace("([-/.])", "[-/.]")
"""A serial that a spreadsheet may have turned into a date: `12.03.2025`, `2025-03-12`, `Mar-12` ..."""

DAMAGE_PATTERNS: Final[Mapping[str, str]] = {
    "exponent": "^[+-]?[0-9]+(?:[.,][0-9]+[eE][+-]?[0-9]+|[eE][+-][0-9]+)$",
    "decimal point of a number column": "^[0-9]+[.]0$",
    "error value": "^#(?:N/A|NV|[A-Z/0]+[!?]|#{2,})$",
}
"""Kinds of damage that show without the other serials, each with its pattern."""

_ROUNDED: Final = "^[1-9][0-9]{14}0+$"
"""A number whose digits are zero from the 16th on: a spreadsheet keeps only 15 digits."""
_KEPT_DIGITS: Final = 15
_MAX_CHANCE: Final = 1e-3
_SHAPES: Final = (("[0-9]+", "0"), (r"\p{Lu}+", "A"), (r"[^\P{L}A]+", "a"))
_LONGEST: Final = 64
_MIN_MAJORITY: Final = 0.8
_MIN_SAMPLE: Final = 10


def damage_kind(serial: str) -> str:
    """Return the kind of damage of a damaged serial; "date" if it has no other."""
    kinds = {**DAMAGE_PATTERNS, "digits replaced by zeros": _ROUNDED}
    return next((kind for kind, pattern in kinds.items() if re.search(pattern, serial)), "date")


class SerialStatistics:
    """What the serials of a file look like, by those of its first block.

    The shape of a serial has one character for each run of digits, capitals or small
    letters: `SN-00012` is `A-0`, `12.03.2025` is `0.0.0`. Everything is calculated on first use.
    """

    def __init__(self, serials: pa.Array) -> None:
        self._serials = serials
        self._shares: dict[str, float] = {}

    def unexpected_dates(self, serials: pa.Array) -> Flags:
        """Return which of these look like dates, although this form is unusual in the file.

        The form is usual if more than half of all serials have its shape, or if more serials of
        its shape are no dates than are dates.
        """
        if not len(serials):
            return np.zeros(0, np.bool_)
        dates = flags_of(pc.match_substring_regex(serials, DATE))
        if dates.any():
            dates &= ~flags_of(pc.is_in(shapes_of(serials), self._shapes_of_dates))
        return dates

    def fraction_matching(self, pattern: str) -> float:
        """Return the fraction of the serials that match a pattern; 0 if there are no serials."""
        if pattern not in self._shares:
            matching = pc.sum(pc.match_substring_regex(self._filled, pattern)).as_py() or 0
            self._shares[pattern] = matching / max(1, len(self._filled))
        return self._shares[pattern]

    @cached_property
    def shortest(self) -> pa.Table:
        """The shapes of the serials, and the length of the shortest serial of each shape."""
        # `Table.group_by` gives the same, but loads 20 ms of pyarrow for it.
        shapes = self._shapes.dictionary_encode()
        shortest = np.full(len(shapes.dictionary), np.iinfo(np.int32).max, np.int32)
        np.minimum.at(shortest, shapes.indices.to_numpy(zero_copy_only=False), pc.utf8_length(self._filled).to_numpy())
        return pa.table({"shape": shapes.dictionary, "length_min": shortest})

    @cached_property
    def example(self) -> str:
        """A serial of the most frequent shape among the undamaged serials; "" if there is none."""
        undamaged = self._serials.filter(pa.array(~self._damaged))
        if not len(undamaged):
            return ""
        shapes = shapes_of(undamaged)
        most_frequent = max(shapes.value_counts().to_pylist(), key=lambda one: one["counts"])["values"]
        return str(undamaged[pc.index(shapes, most_frequent).as_py()].as_py())

    @cached_property
    def _filled(self) -> pa.Array:
        return self._serials.filter(pc.not_equal(self._serials, ""))

    @cached_property
    def _shapes(self) -> pa.Array:
        """The shapes of the serials that are not empty."""
        return shapes_of(self._filled)

    @cached_property
    def _damaged(self) -> Flags:
        damaged = flags_of(pc.match_substring_regex(self._serials, "|".join(DAMAGE_PATTERNS.values())))
        return damaged | self.unexpected_dates(self._serials) | flags_of(pc.equal(self._serials, ""))

    @cached_property
    def _shapes_of_dates(self) -> pa.Array:
        """The shapes that look like dates, but are usual for serials of this file."""
        counts = _counts(self._shapes)
        date_counts = _counts(self._shapes.filter(pc.match_substring_regex(self._filled, DATE)))
        usual = [
            shape
            for shape, count in date_counts.items()
            if counts[shape] > len(self._filled) / 2 or counts[shape] - count > count
        ]
        return pa.array(usual, pa.string())


class RoundedSerialDetector:
    """Finds the serials of more than 15 digits that a spreadsheet has rounded.

    A serial may end in zeros by chance, so it counts as rounded only if the serials of its length end so more
    often than in one of a thousand files by chance. That is known only at the end of a file: the first reading
    counts all serials and finds none rounded; a file with rounded serials is read a second time.
    """

    def __init__(self, rounded_lengths: Iterable[int] | None = None) -> None:
        """`rounded_lengths` is the result of the first reading; None for the first reading."""
        self._known = None if rounded_lengths is None else pa.array(sorted(rounded_lengths), pa.int32())
        self._lock = Lock()
        self._numbers: Counter[int] = Counter()
        self._rounded: Counter[int] = Counter()

    @classmethod
    def of(cls, serials: pa.Array) -> "RoundedSerialDetector":
        """Return an instance for the second reading of a file with just these serials."""
        first = cls()
        first.count(serials)
        return cls(first.rounded_lengths())

    def count(self, serials: pa.Array) -> None:
        """Count the serials of a block, on the first reading."""
        if self._known is not None:
            return
        octets = CellBytes(serials)
        long = (octets.lengths > _KEPT_DIGITS) & (octets.first != ord("0"))
        if not long.any():
            return
        some = serials.filter(pa.array(long))
        some = some.filter(pc.ascii_is_decimal(some))
        ending = some.filter(pa.array(may_be_rounded(CellBytes(some))))
        ending = ending.filter(pc.match_substring_regex(ending, _ROUNDED))
        with self._lock:  # several threads validate blocks
            self._numbers.update(_lengths_of(some))
            self._rounded.update(_lengths_of(ending))

    def rounded_lengths(self) -> frozenset[int]:
        """Return the lengths whose counted numbers end in zeros more often than chance explains."""
        numbers = self._numbers
        return frozenset(
            length for length, count in self._rounded.items() if _is_unlikely(count, numbers[length], length)
        )

    def rounded(self, serials: pa.Array) -> Flags:
        """Return which of these serials a spreadsheet has rounded; none on the first reading."""
        if self._known is None or not len(self._known):
            return np.zeros(len(serials), np.bool_)
        rounded = flags_of(pc.match_substring_regex(serials, _ROUNDED))
        return rounded & flags_of(pc.is_in(pc.binary_length(serials), self._known))


@dataclass(slots=True)
class EndingInZeros:
    """Counts valid serials that end in zeros as if rounded, but rarely enough for chance."""

    _count: int = 0
    _first: int = 0

    def add(self, serials: pa.Array, lines: Ints, valid: Flags) -> None:
        """Count such serials among these, and remember the line of the first."""
        rows = np.flatnonzero(end_in_zeros(serials) & valid)
        if len(rows) and not self._count:
            self._first = int(lines[rows[0]])
        self._count += len(rows)

    def warning(self) -> str | None:
        """Return one sentence if there are any; else None."""
        if not self._count:
            return None
        serials = "serial of more than 15 digits ends" if self._count == 1 else "serials of more than 15 digits end"
        return (
            f"{self._count} {serials} in zeros from the 16th digit on (first on line {self._first}), as a spreadsheet "
            "that rounded them would leave them; so few may be chance: they are sent as written"
        )


def may_be_rounded(octets: CellBytes) -> Flags:
    """Return which serials may be rounded numbers, by their length, first byte and last two bytes."""
    first = octets.first
    likely: Flags = octets.lengths > _KEPT_DIGITS
    likely &= (first >= ord("1")) & (first <= ord("9")) & (octets.last == ord("0"))
    if likely.any():
        likely &= (octets.from_end(2) == ord("0")) | (octets.lengths == _KEPT_DIGITS + 1)
    return likely


def end_in_zeros(serials: pa.Array) -> Flags:
    """Return which serials are numbers whose digits are zero from the 16th on."""
    found = may_be_rounded(CellBytes(serials))
    if found.any():
        found[found] = flags_of(pc.match_substring_regex(serials.filter(pa.array(found)), _ROUNDED))
    return found


def _lengths_of(texts: pa.Array) -> dict[int, int]:
    return {one["values"]: one["counts"] for one in pc.binary_length(texts).value_counts().to_pylist()}


def _is_unlikely(count: int, numbers: int, length: int) -> bool:
    """Return whether `count` of `numbers` random numbers end in zeros in at most one of a thousand files."""
    share = 10.0 ** (_KEPT_DIGITS - length)
    if count <= numbers * share:
        return False
    ways = math.lgamma(numbers + 1) - math.lgamma(count + 1) - math.lgamma(numbers - count + 1)
    chance_log = count * (_KEPT_DIGITS - length) * math.log(10) + (numbers - count) * math.log1p(-share)
    term = math.exp(ways + chance_log)
    chance = 0.0
    for more in range(count, numbers + 1):
        chance += term
        if chance > _MAX_CHANCE * (1 + 1e-9) or term < chance * 1e-12:
            break
        term *= (numbers - more) / (more + 1) * share / (1 - share)
    return chance <= _MAX_CHANCE * (1 + 1e-9)


@dataclass(slots=True)
class LeadingZeroCheck:
    """Counts serials of digits by length, to find those that may have lost leading zeros."""

    _counts: Ints = field(default_factory=lambda: np.zeros(_LONGEST, np.int64))
    _padded: Ints = field(default_factory=lambda: np.zeros(_LONGEST, np.int64))
    _first: dict[int, int] = field(default_factory=dict)

    def add(self, serials: pa.Array, lines: Ints, valid: Flags) -> None:
        """Count the valid serials among these, and remember the first line of each length."""
        digits = np.flatnonzero(flags_of(pc.ascii_is_decimal(serials)) & valid)
        if not len(digits):
            return
        serials = serials.take(pa.array(digits))
        lengths = pc.binary_length(serials).to_numpy(zero_copy_only=False).clip(max=_LONGEST - 1)
        padded = flags_of(pc.starts_with(serials, "0"))
        self._counts += np.bincount(lengths, minlength=_LONGEST)
        self._padded += np.bincount(lengths[padded], minlength=_LONGEST)
        for length, at in zip(*np.unique(lengths, return_index=True), strict=True):
            self._first.setdefault(int(length), int(lines[digits[at]]))

    def warning(self) -> str | None:
        """Return one sentence if a few serials are shorter than nearly all others; else None.

        A short serial that begins with 0 has lost nothing, and so shows that its length is usual.
        """
        usual, total = int(self._counts.argmax()), int(self._counts.sum())
        short = [length for length in range(usual) if self._counts[length] and not self._padded[length]]
        if total < _MIN_SAMPLE or self._counts[usual] < _MIN_MAJORITY * total or not short:
            return None
        count = int(self._counts[short].sum())
        line = min(self._first[length] for length in short)
        serials = "serial of digits is" if count == 1 else "serials of digits are"
        return (
            f"{count} {serials} shorter than the usual {usual} (first on line {line}); if a spreadsheet took "
            "zeros off the front, restore them: they are sent as written"
        )


def _counts(texts: pa.Array) -> dict[str, int]:
    return {one["values"]: one["counts"] for one in texts.value_counts().to_pylist()}


def shapes_of(serials: pa.Array) -> pa.Array:
    """Return the shape of each serial: one character for each run of digits, capitals or small letters."""
    for pattern, character in _SHAPES:
        serials = pc.replace_substring_regex(serials, pattern, character)
    return serials
