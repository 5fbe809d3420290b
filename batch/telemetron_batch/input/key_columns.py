"""Key columns of a block: normalized cells, and the few cells of each column that may have a problem.

Patterns are slow on millions of cells, so only some cells are inspected: the distinct ones of a
column of few words, else those whose bytes look unusual.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from telemetron_batch.domain.arrays import Flags, Ints
from telemetron_batch.input.cell_bytes import CellBytes, byte_in
from telemetron_batch.input.emails import not_emails
from telemetron_batch.input.normalize import normalize_fast, to_lower
from telemetron_batch.input.serials import MONTHS, may_be_rounded
from telemetron_batch.input.suspect_identifiers import (
    may_have_misplaced_characters,
    may_have_several_identifiers,
    placeholders,
)

MAX_LENGTH: Final = 256

_MONTH_PREFIXES: Final = np.zeros(1 << 16, np.bool_)
"""Flags by the first two bytes of a cell: whether the name of a month begins so. Only ASCII, the rest is inspected."""
for _name in MONTHS.split("|"):
    for _first in {_name[0], _name[0].upper()}:
        for _second in {_name[1], _name[1].upper()}:
            if _first.isascii() and _second.isascii():
                _MONTH_PREFIXES[ord(_first) << 8 | ord(_second)] = True
_LONGEST_DATE: Final = 14
_LONGEST_TIME: Final = 9
_SAMPLE: Final = 1000
"""Number of addresses that show whether most addresses of a block are repeated."""
_FEW_DISTINCT: Final = 0.25
"""Fraction of distinct addresses up to which it is cheaper to inspect only these than to match all addresses."""


@dataclass(frozen=True, slots=True)
class KeyColumn:
    """One key column of a block.

    normalized             the normalized cell of every row
    inspected_as_written   the inspected cells, as written
    inspected              the inspected cells, normalized
    is_unusual             whether an inspected cell was written other than in printable ASCII without spaces
    rows                   returns the rows of the flagged inspected cells
    """

    name: str
    normalized: pa.Array
    inspected_as_written: pa.Array
    inspected: pa.Array
    is_unusual: Flags
    rows: Callable[[Flags], Ints]


def distinct_column(name: str, written: pa.Array, *, as_emails: bool = False) -> KeyColumn:
    """Return a column of few distinct cells, which are inspected once each."""
    encoded = written.dictionary_encode()
    inspected, is_unusual = normalize_fast(encoded.dictionary)
    inspected = to_lower(inspected) if as_emails else inspected
    codes = encoded.indices.to_numpy()
    normalized = written if inspected.equals(encoded.dictionary) else inspected.take(encoded.indices)
    return KeyColumn(
        name, normalized, encoded.dictionary, inspected, is_unusual, lambda flags: np.flatnonzero(flags[codes])
    )


def email_column(name: str, written: pa.Array) -> KeyColumn:
    """Return the column of the customers' email addresses."""
    if len(written.slice(0, _SAMPLE).unique()) <= _FEW_DISTINCT * min(len(written), _SAMPLE):
        return distinct_column(name, written, as_emails=True)
    normalized, is_unusual = normalize_fast(written)
    normalized = to_lower(normalized)
    return _suspicious_subset(name, written, normalized, is_unusual, is_unusual | not_emails(normalized))


def identifier_column(name: str, written: pa.Array, *, for_creation: bool = False) -> KeyColumn:
    """Return the column of the device identifiers; `for_creation` is whether unknown devices are created."""
    normalized, is_unusual = normalize_fast(written)
    octets = CellBytes(normalized)
    first, last, lengths = octets.first, octets.last, octets.lengths
    number = byte_in(first, b"+-0123456789") & (last >= ord("0")) & (last <= ord("9"))
    exponent = octets.cells_with((octets.data | 0x20) == ord("e")) if number.any() else number
    decimal = octets.from_end(2) == ord(".") if number.any() else number
    suspicious = is_unusual | byte_in(first, b"\0=@#") | (lengths > MAX_LENGTH)
    suspicious |= number & (exponent | decimal)
    suspicious |= (
        may_be_rounded(octets)
        | _may_be_dates(octets)
        | may_have_misplaced_characters(octets)
        | may_have_several_identifiers(octets)
    )
    if for_creation:
        suspicious |= placeholders(normalized)
    return _suspicious_subset(name, written, normalized, is_unusual, suspicious)


def _suspicious_subset(
    name: str, written: pa.Array, normalized: pa.Array, is_unusual: Flags, suspicious: Flags
) -> KeyColumn:
    """Return a column of mostly distinct cells, of which only the suspicious ones are inspected."""
    rows = np.flatnonzero(suspicious)
    mask = pa.array(suspicious)
    return KeyColumn(
        name, normalized, written.filter(mask), normalized.filter(mask), is_unusual[rows], lambda flags: rows[flags]
    )


def _may_be_dates(octets: CellBytes) -> Flags:
    """Return which cells may be dates, by their length, their first two bytes and their separators."""
    first, lengths = octets.first, octets.lengths
    named = _MONTH_PREFIXES[first.astype(np.uint16) << 8 | octets.second]
    numbered = (first >= ord("0")) & (first <= ord("9"))
    likely: Flags = (lengths >= 4) & (lengths <= _LONGEST_DATE + _LONGEST_TIME) & (named | numbered)
    if likely.any():
        likely &= octets.cells_with(byte_in(octets.data, b"./- "))
    timed = likely & (lengths > _LONGEST_DATE)
    if timed.any():
        likely &= ~timed | octets.cells_with(octets.data == ord(":"))
    return likely
